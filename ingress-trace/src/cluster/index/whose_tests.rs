//! In: objects as they come and go. Out: proof of whose an address was at each time, as of that time.
use super::super::Health;
use super::super::example::{
    HERE, at, exact, get, index, node, not_ready, pod, prefix, ready, route, rule, service, shop,
    slice, terminating, to,
};
use super::*;
use crate::cluster::object::{Endpoint, Kind, Object, Pod, ServicePort, Slice, SlicePort};

fn endpoint(index: &Index, address: &str, ms: i64) -> Tenancy {
    match index.whose(to(address), at(ms), None) {
        Owned::Endpoint(tenancy) => *tenancy,
        other => panic!("{other:?}"),
    }
}

fn since(ms: i64) -> Since {
    Since {
        at: at(ms),
        exact: true,
    }
}

#[test]
fn an_endpoint_is_told_as_it_was_at_that_time() {
    let mut index = index();
    let cart = |endpoints: &[Endpoint]| slice("cart-1", "cart", 8080, endpoints);
    index.apply(cart(&[not_ready("10.1.0.3", "cart-x")]), at(1000));
    index.apply(cart(&[ready("10.1.0.3", "cart-x")]), at(2000));
    index.apply(
        cart(&[ready("10.1.0.3", "cart-x"), ready("10.1.0.4", "cart-y")]),
        at(3000),
    );
    index.apply(cart(&[terminating("10.1.0.3", "cart-x")]), at(4000));
    index.apply(cart(&[]), at(5000));

    let then = endpoint(&index, "10.1.0.3:8080", 3500);
    assert_eq!(then.service, Some(shop("cart")));
    assert_eq!(then.pod, Some(shop("cart-x")));
    assert_eq!(then.port, PortOf::Named("http".into()));
    assert_eq!((then.standing, then.since), (Standing::Held, since(2000)));
    assert!(then.health.ready && !then.health.terminating);
    let next = then.next.expect("a change");
    assert_eq!(next.at, since(4000));
    assert!(next.health.expect("an endpoint").terminating);

    let end = endpoint(&index, "10.1.0.3:8080", 4999);
    assert!(end.health.terminating && end.health.serving);
    let removed = Next {
        at: since(5000),
        health: None,
    };
    assert_eq!((end.since, end.next), (since(4000), Some(removed)));

    let gone = endpoint(&index, "10.1.0.3:8080", 6000);
    assert_eq!(gone.standing, Standing::Gone(since(5000)));
    assert_eq!((gone.pod, gone.moved), (Some(shop("cart-x")), None));
    let before = endpoint(&index, "10.1.0.3:8080", 500);
    assert_eq!(before.standing, Standing::Later(since(1000)));
    assert_eq!(
        index.whose(to("10.1.0.9:8080"), at(6000), None),
        Owned::Outside
    );
}

#[test]
fn an_address_that_moved_to_another_pod_is_told_with_both() {
    let mut index = index();
    index.apply(
        slice("cart-1", "cart", 8080, &[ready("10.1.0.3", "a")]),
        at(1000),
    );
    index.apply(slice("cart-1", "cart", 8080, &[]), at(2000));
    index.apply(
        slice("mail-1", "mail", 25, &[ready("10.1.0.3", "b")]),
        at(3000),
    );
    let then = endpoint(&index, "10.1.0.3:8080", 4000);
    assert_eq!(then.service, Some(shop("cart")));
    assert_eq!(then.standing, Standing::Gone(since(2000)));
    assert_eq!((then.pod, then.moved), (Some(shop("a")), Some(shop("b"))));
    assert_eq!(
        (then.picked, then.others),
        (Picked::Port, vec![shop("mail")])
    );
    // A pod that was fetched says so too.
    index.apply(slice("mail-1", "mail", 25, &[]), at(5000));
    index.apply(Object::Pod(pod("c", "u-c", "10.1.0.3", at(5000))), at(6000));
    let then = endpoint(&index, "10.1.0.3:8080", 5500);
    assert_eq!(then.moved, Some(shop("c")));
}

#[test]
fn of_those_who_had_an_address_and_port_before_the_last_one_is_told() {
    let mut index = index();
    let names = ["a-first", "c-second", "b-third"];
    let times = [20_000, 40_000, 60_000];
    for (start, name) in times.into_iter().zip(names) {
        let own = slice(name, name, 8080, &[ready("10.1.0.3", name)]);
        index.apply(own, at(start));
        index.delete(Kind::Slice, &shop(name), at(start + 500));
    }
    let other = slice("mail", "mail", 25, &[ready("10.1.0.3", "mail")]);
    index.apply(other, at(80_000));
    for (start, expected) in times.into_iter().zip(names) {
        let time = start + 1000;
        let told = endpoint(&index, "10.1.0.3:8080", time);
        assert_eq!(told.service, Some(shop(expected)), "{time}");
        assert_ne!(told.picked, Picked::Guess, "{time}");
    }
}

#[test]
fn who_gets_an_address_soon_is_told_only_where_nobody_was_nearer() {
    let with = |port| slice("old", "old", port, &[ready("10.1.0.3", "a")]);
    let new = || slice("new", "new", 8080, &[ready("10.1.0.3", "b")]);
    let told = |index: &Index, time| endpoint(index, "10.1.0.3:8080", time).service;
    let mut moved = index();
    moved.apply(with(8080), at(1000));
    moved.apply(with(9), at(5000));
    moved.apply(new(), at(8000));
    assert_eq!(told(&moved, 7900), Some(shop("old")), "it has the address");
    let mut gone = index();
    gone.apply(with(8080), at(1000));
    gone.delete(Kind::Slice, &shop("old"), at(5000));
    gone.apply(new(), at(8000));
    assert_eq!(told(&gone, 6000), Some(shop("old")));
    assert_eq!(told(&gone, 7900), Some(shop("new")), "it was learned late");
}

#[test]
fn within_a_service_the_newest_pod_of_an_address_counts() {
    let mut index = index();
    index.apply(
        slice("cart-1", "cart", 8080, &[ready("10.1.0.3", "a")]),
        at(1000),
    );
    index.apply(
        slice("cart-1", "cart", 8080, &[ready("10.1.0.3", "b")]),
        at(2000),
    );
    let then = endpoint(&index, "10.1.0.3:8080", 1500);
    assert_eq!(then.pod, Some(shop("a")));
    let next = Next {
        at: since(2000),
        health: None,
    };
    assert_eq!(then.next, Some(next));
    assert_eq!(endpoint(&index, "10.1.0.3:8080", 2500).pod, Some(shop("b")));
}

#[test]
fn an_endpoint_that_moves_between_slices_never_leaves() {
    let mut index = index();
    index.apply(
        slice("cart-1", "cart", 8080, &[ready("10.1.0.3", "a")]),
        at(1000),
    );
    index.apply(
        slice("cart-2", "cart", 8080, &[terminating("10.1.0.3", "a")]),
        at(2000),
    );
    index.apply(slice("cart-1", "cart", 8080, &[]), at(3000));
    assert!(endpoint(&index, "10.1.0.3:8080", 1500).health.ready);
    for ms in [2500, 3500] {
        let then = endpoint(&index, "10.1.0.3:8080", ms);
        assert!(then.health.terminating, "{ms}");
        assert_eq!((then.standing, then.next), (Standing::Held, None), "{ms}");
    }
}

#[test]
fn a_port_that_is_not_the_endpoints_is_told_so() {
    let mut index = index();
    index.apply(
        slice("cart-1", "cart", 8080, &[ready("10.1.0.3", "a")]),
        at(1000),
    );
    let wrong = endpoint(&index, "10.1.0.3:9999", 1500);
    assert_eq!(
        (wrong.service, wrong.port),
        (Some(shop("cart")), PortOf::Other)
    );
    // The controller of slices makes a new one when the port changes.
    index.apply(
        slice("cart-2", "cart", 9090, &[ready("10.1.0.3", "a")]),
        at(2000),
    );
    index.delete(Kind::Slice, &shop("cart-1"), at(2000));
    let old = endpoint(&index, "10.1.0.3:8080", 3000);
    let former = PortOf::Former {
        name: "http".into(),
        until: since(2000),
    };
    assert_eq!((old.standing, old.port), (Standing::Held, former));
    let coming = PortOf::Coming {
        name: "http".into(),
        from: since(2000),
    };
    assert_eq!(endpoint(&index, "10.1.0.3:9090", 1900).port, coming);
    index.apply(
        slice("cart-2", "cart", 0, &[ready("10.1.0.3", "a")]),
        at(4000),
    );
    assert_eq!(endpoint(&index, "10.1.0.3:9999", 4000).port, PortOf::Any);
}

#[test]
fn of_several_services_the_one_is_told_that_was_asked_for() {
    let mut index = index();
    for name in ["all", "cart", "canary"] {
        let name_of_slice = format!("{name}-1");
        index.apply(
            slice(&name_of_slice, name, 8080, &[ready("10.1.0.3", "a")]),
            at(1000),
        );
    }
    let guess = endpoint(&index, "10.1.0.3:8080", 1500);
    assert_eq!(
        (guess.service, guess.picked),
        (Some(shop("all")), Picked::Guess)
    );
    assert_eq!(guess.others, vec![shop("canary"), shop("cart")]);
    let rules = vec![rule("a.b", prefix("/"), "cart")];
    index.apply(Object::Route(route(Kind::Ingress, "r", rules)), at(2000));
    let routed = endpoint(&index, "10.1.0.3:8080", 2500);
    assert_eq!(
        (routed.service, routed.picked),
        (Some(shop("cart")), Picked::Routed)
    );
    let rules = vec![rule("a.b", exact("/new"), "canary")];
    index.apply(Object::Route(route(Kind::Ingress, "s", rules)), at(3000));
    let asked = |path| index.whose(to("10.1.0.3:8080"), at(3500), Some(&get("a.b", path)));
    for (path, service) in [("/new", "canary"), ("/", "cart")] {
        let Owned::Endpoint(then) = asked(path) else {
            panic!("no endpoint");
        };
        assert_eq!(
            (then.service, then.picked),
            (Some(shop(service)), Picked::Asked)
        );
    }
    index.apply(
        slice("admin-1", "admin", 9000, &[ready("10.1.0.3", "a")]),
        at(4000),
    );
    let port = endpoint(&index, "10.1.0.3:9000", 4500);
    assert_eq!(
        (port.service, port.picked),
        (Some(shop("admin")), Picked::Port)
    );
}

#[test]
fn pods_in_a_nodes_network_are_told_apart_by_port() {
    let mut index = index();
    index.apply(node("node-2", "192.168.0.2"), at(0));
    index.apply(
        slice("a-1", "a", 9100, &[ready("192.168.0.2", "a-x")]),
        at(1000),
    );
    index.apply(
        slice("b-1", "b", 9200, &[ready("192.168.0.2", "b-x")]),
        at(1000),
    );
    // Of a headless Service without ports: it says nothing of any port.
    let all = slice("c-1", "c", 0, &[ready("192.168.0.2", "c-x")]);
    index.apply(all, at(1000));
    assert_eq!(
        endpoint(&index, "192.168.0.2:9100", 2000).pod,
        Some(shop("a-x"))
    );
    assert_eq!(
        endpoint(&index, "192.168.0.2:9200", 2000).pod,
        Some(shop("b-x"))
    );
    let other = index.whose(to("192.168.0.2:10250"), at(2000), None);
    assert_eq!(other, Owned::Node(Name::new("", "node-2")));
    assert_eq!(index.labels(to("192.168.0.2:10250")), None);
}

#[test]
fn a_pod_in_its_nodes_network_says_that_the_address_is_shared_where_nodes_are_not_known() {
    let mut index = index();
    let address = "192.168.0.2";
    let hosted = Pod {
        host_network: true,
        ..pod("a-x", "1", address, at(0))
    };
    index.apply(Object::Pod(hosted), at(500));
    index.apply(slice("a-1", "a", 9100, &[ready(address, "a-x")]), at(1000));
    let named = endpoint(&index, "192.168.0.2:9100", 2000).pod;
    assert_eq!(named, Some(shop("a-x")));
    let other = index.whose(to("192.168.0.2:10250"), at(2000), None);
    assert_eq!(other, Owned::Node(Name::new("", "node-2")));
    assert_eq!(index.labels(to("192.168.0.2:10250")), None);
}

#[test]
fn services_are_told_by_their_own_addresses_and_by_their_ports_on_nodes() {
    let mut index = index();
    let mut cart = service("cart", "10.96.0.1");
    cart.external_ips = vec!["192.168.0.100".parse().expect("an address")];
    cart.ports[0].node_port = Some(30080);
    index.apply(Object::Service(cart), at(1000));
    index.apply(node("node-2", "192.168.0.2"), at(1000));
    let front = |address: &str, ms| match index.whose(to(address), at(ms), None) {
        Owned::Front(front) => Some((front.port.map(|port| port.1), front.via)),
        _ => None,
    };
    assert_eq!(
        front("10.96.0.1:80", 2000),
        Some((Some(80), Via::ClusterIp))
    );
    assert_eq!(front("10.96.0.1:81", 2000), Some((None, Via::ClusterIp)));
    assert_eq!(
        front("192.168.0.100:80", 2000),
        Some((Some(80), Via::ExternalIp))
    );
    let on_node = Via::NodePort(Name::new("", "node-2"));
    assert_eq!(front("192.168.0.2:30080", 2000), Some((Some(80), on_node)));
    assert_eq!(front("192.168.0.3:30080", 2000), None);
    assert!(!index.may_lead_on(to("192.168.0.3:30080").ip()));
    for address in ["10.96.0.1:80", "192.168.0.100:80", "192.168.0.2:30080"] {
        let label = index.labels(to(address)).expect("a label");
        assert_eq!((label.service, label.port), (&shop("cart"), "http"));
        assert!(index.may_lead_on(to(address).ip()), "{address}");
    }
    assert_eq!(index.labels(to("192.168.0.3:30080")), None);
}

#[test]
fn both_families_and_mapped_addresses_lead_to_the_same_pod() {
    let mut index = index();
    index.apply(
        slice("cart-4", "cart", 8080, &[ready("10.1.0.3", "a")]),
        at(1000),
    );
    index.apply(
        slice("cart-6", "cart", 8080, &[ready("fd00::3", "a")]),
        at(1000),
    );
    for address in ["10.1.0.3:8080", "[fd00::3]:8080", "[::ffff:10.1.0.3]:8080"] {
        assert_eq!(
            endpoint(&index, address, 2000).pod,
            Some(shop("a")),
            "{address}"
        );
    }
}

#[test]
fn endpoints_made_by_hand_have_no_pod_and_slices_without_service_no_service() {
    let mut index = index();
    index.apply(
        slice("db-1", "db", 5432, &[ready("172.16.0.9", "")]),
        at(1000),
    );
    let hand = endpoint(&index, "172.16.0.9:5432", 2000);
    assert_eq!((hand.service, hand.pod), (Some(shop("db")), None));
    let orphan = Slice {
        name: shop("orphan"),
        ports: vec![SlicePort {
            name: "".into(),
            port: Some(1),
        }],
        endpoints: vec![ready("172.16.0.10", "p")],
        ..Slice::default()
    };
    index.apply(Object::Slice(orphan), at(1000));
    let none = endpoint(&index, "172.16.0.10:1", 2000);
    assert_eq!((none.service, none.pod), (None, Some(shop("p"))));
    assert_eq!(index.labels(to("172.16.0.10:1")), None);
}

#[test]
fn a_pod_without_a_service_is_told_by_its_name() {
    let mut index = index();
    let own = Pod {
        node: Some(HERE.into()),
        ..pod("own", "u", "10.1.0.7", at(0))
    };
    index.replace(Kind::Pod, [Object::Pod(own)], at(1000));
    index.apply(Object::Pod(pod("far", "v", "10.1.0.8", at(0))), at(1000));
    let held = |name| Owned::Pod {
        pod: shop(name),
        standing: Standing::Held,
    };
    assert_eq!(index.whose(to("10.1.0.7:1"), at(2000), None), held("own"));
    assert_eq!(index.whose(to("10.1.0.8:1"), at(2000), None), held("far"));
    // Lists are of this node's pods only.
    index.replace(Kind::Pod, [], at(3000));
    assert_eq!(index.whose(to("10.1.0.8:1"), at(4000), None), held("far"));
    let gone = Owned::Pod {
        pod: shop("own"),
        standing: Standing::Gone(Since {
            at: at(3000),
            exact: false,
        }),
    };
    assert_eq!(index.whose(to("10.1.0.7:1"), at(4000), None), gone);
    index.forget(at(5000));
    for address in ["10.1.0.7:1", "10.1.0.8:1"] {
        assert_eq!(index.whose(to(address), at(6000), None), Owned::Outside);
    }
}

#[test]
fn labels_follow_the_services_and_say_when_they_are_gone() {
    let mut index = index();
    index.apply(Object::Service(service("cart", "10.96.0.1")), at(1000));
    index.apply(
        slice("cart-1", "cart", 8080, &[ready("10.1.0.3", "a")]),
        at(1000),
    );
    let label = index.labels(to("10.1.0.3:8080")).expect("a label");
    assert_eq!((label.service, label.port), (&shop("cart"), "http"));
    assert_eq!(index.labels(to("10.1.0.3:81")).expect("a label").port, "");
    index.delete(Kind::Service, &shop("cart"), at(2000));
    index.delete(Kind::Slice, &shop("cart-1"), at(2000));
    // What was counted until now is still its own.
    assert_eq!(
        index.labels(to("10.1.0.3:8080")).expect("a label").service,
        &shop("cart")
    );
    assert!(index.lives(&shop("cart")));
    index.forget(at(2000));
    assert_eq!(index.labels(to("10.1.0.3:8080")), None);
    assert!(!index.lives(&shop("cart")));
}

#[test]
fn what_was_found_in_a_list_is_told_as_older() {
    let mut index = index();
    let first = slice("cart-1", "cart", 8080, &[ready("10.1.0.3", "a")]);
    index.replace(Kind::Slice, [first.clone()], at(1000));
    let listed = |ms| Since {
        at: at(ms),
        exact: false,
    };
    assert_eq!(endpoint(&index, "10.1.0.3:8080", 2000).since, listed(1000));
    // The same list again is no news, nor is the same word.
    index.replace(Kind::Slice, [first.clone()], at(3000));
    index.apply(first, at(4000));
    assert_eq!(endpoint(&index, "10.1.0.3:8080", 5000).since, listed(1000));
    index.replace(Kind::Slice, [], at(6000));
    let gone = endpoint(&index, "10.1.0.3:8080", 7000);
    assert_eq!(gone.standing, Standing::Gone(listed(6000)));
    assert_eq!(
        gone.health,
        Health {
            ready: true,
            serving: true,
            terminating: false
        }
    );
}

#[test]
fn a_shared_address_of_load_balancers_is_told_by_port() {
    let mut index = index();
    for (name, ip, port) in [("a", "10.96.0.1", 80), ("b", "10.96.0.2", 443)] {
        let mut shared = service(name, ip);
        shared.external_ips = vec!["192.168.0.100".parse().expect("an address")];
        shared.ports = vec![ServicePort {
            port,
            ..shared.ports[0].clone()
        }];
        index.apply(Object::Service(shared), at(0));
    }
    for (address, name) in [("192.168.0.100:80", "a"), ("192.168.0.100:443", "b")] {
        let Owned::Front(front) = index.whose(to(address), at(1), None) else {
            panic!("no Service");
        };
        assert_eq!(front.service, shop(name));
    }
}
