//! In: a cluster that changes and a failure. Out: proof of whom the failure is told of, in names and
//! in words.
use super::*;
use crate::cluster::index::example::{
    at, condition, index, not_ready, pod, prefix, ready, route, rule, service, shop, slice,
    terminating,
};
use crate::cluster::object::{Container, Node, Object, Pod, State as Run};
use crate::event::Kind as Happened;
use crate::event::example::{MS, down, get, refused};

fn told(index: &Index, ms: i64) -> Identity {
    let event = refused(1, 1_000 * MS);
    ask(index, &event, ms)
}

fn ask(index: &Index, event: &Event, ms: i64) -> Identity {
    let request = get();
    let question = Question {
        event,
        request: Some(&request),
        serves: None,
        at: at(ms),
        stale: None,
    };
    let who = identify(&question, index);
    let known = who.owned != Some(Owned::Outside);
    assert_eq!(whom(&question, index), (who.pod.clone(), known));
    who
}

#[test]
fn a_ready_endpoint_is_named_without_further_words() {
    let mut index = index();
    index.apply(
        slice("cart-1", "cart", 8080, &[ready("10.77.1.3", "cart-x")]),
        at(0),
    );
    let who = told(&index, 1000);
    assert_eq!(
        (who.service, who.pod),
        (Some(shop("cart")), Some(shop("cart-x")))
    );
    assert_eq!(
        (who.port.as_deref(), who.node.as_deref()),
        (Some("http"), Some("node-2"))
    );
    assert_eq!((who.state, who.evidence), (Some(State::Ready), Vec::new()));
}

#[test]
fn a_terminating_pod_is_told_with_its_times() {
    let mut index = index();
    index.apply(
        slice("cart-1", "cart", 8080, &[ready("10.77.1.3", "cart-x")]),
        at(0),
    );
    index.apply(
        slice(
            "cart-1",
            "cart",
            8080,
            &[terminating("10.77.1.3", "cart-x")],
        ),
        at(5_500),
    );
    let deleted = Pod {
        deletion: Some(at(35_000)),
        grace: Some(30),
        ..pod("cart-x", "u", "10.77.1.3", at(-1000))
    };
    index.apply(Object::Pod(deleted), at(8_000));
    let who = told(&index, 6_700);
    assert_eq!(who.state, Some(State::Terminating));
    assert_eq!(
        who.evidence,
        [
            "pod cart-x is terminating since 1.20 s",
            "deletion of pod cart-x was asked for 1.70 s before"
        ]
    );
    // Before the slice knew, the pod's own time tells.
    let early = told(&index, 5_300);
    assert_eq!(early.state, Some(State::Terminating));
    assert_eq!(
        early.evidence,
        [
            "pod cart-x was told to be terminating 200.0 ms after",
            "deletion of pod cart-x was asked for about 300.0 ms before"
        ]
    );
}

#[test]
fn an_address_that_moved_is_told_with_both_pods() {
    let mut index = index();
    index.apply(
        slice("cart-1", "cart", 8080, &[ready("10.77.1.3", "a")]),
        at(0),
    );
    index.apply(slice("cart-1", "cart", 8080, &[]), at(1_000));
    let gone = told(&index, 2_000);
    assert_eq!(gone.state, Some(State::Gone));
    assert_eq!(
        gone.evidence,
        ["10.77.1.3 belonged to pod a until 1.00 s before, now to nobody"]
    );
    index.apply(
        slice("mail-1", "mail", 25, &[ready("10.77.1.3", "b")]),
        at(3_000),
    );
    let moved = told(&index, 4_100);
    assert_eq!(
        (moved.state, moved.pod),
        (Some(State::Moved), Some(shop("a")))
    );
    assert_eq!(
        moved.evidence,
        ["10.77.1.3 belonged to pod a until 3.10 s before, now to pod b"]
    );
}

#[test]
fn a_port_that_is_not_the_endpoints_is_told() {
    let mut index = index();
    index.apply(
        slice("cart-1", "cart", 9090, &[ready("10.77.1.3", "a")]),
        at(0),
    );
    let who = told(&index, 1_000);
    assert_eq!((who.service, who.port), (Some(shop("cart")), None));
    assert_eq!(
        who.evidence,
        ["8080 is no port of the endpoints of shop/cart"]
    );
}

#[test]
fn ends_of_containers_and_nodes_that_are_not_ready_are_told() {
    let mut index = index();
    index.apply(
        slice("cart-1", "cart", 8080, &[not_ready("10.77.1.3", "a")]),
        at(0),
    );
    let end = |finished| Run::Terminated {
        reason: "OOMKilled".into(),
        code: 137,
        started: None,
        finished: Some(finished),
    };
    let crashed = Pod {
        containers: vec![Container {
            name: "app".into(),
            state: end(at(9_000)),
            last: end(at(-600_000)),
            ..Container::default()
        }],
        ..pod("a", "u", "10.77.1.3", at(-900_000))
    };
    index.apply(Object::Pod(crashed), at(12_000));
    let node = Node {
        name: Name::new("", "node-2"),
        addresses: Vec::new(),
        ready: Some(condition(false, at(4_000))),
    };
    index.apply(Object::Node(node), at(5_000));
    let who = told(&index, 10_000);
    assert_eq!(who.state, Some(State::NotReady));
    assert_eq!(
        who.evidence,
        [
            "pod a is not ready since 10.00 s",
            "container app of pod a ended with OOMKilled (137) about 1.00 s before",
            "node node-2 is not ready since 6.00 s"
        ]
    );
}

#[test]
fn a_request_without_upstream_is_told_by_its_route() {
    let mut index = index();
    let rules = vec![rule("shop.example", prefix("/cart"), "cart")];
    index.apply(Object::Route(route(Kind::Ingress, "web", rules)), at(0));
    index.apply(Object::Service(service("cart", "10.96.0.1")), at(0));
    index.apply(
        slice("cart-1", "cart", 8080, &[ready("10.77.1.3", "a")]),
        at(0),
    );
    index.apply(
        slice("cart-1", "cart", 8080, &[not_ready("10.77.1.3", "a")]),
        at(1_000),
    );
    let event = down(1, Happened::Response, 1_000 * MS);
    let who = ask(&index, &event, 3_000);
    assert_eq!(
        (who.service, who.owned, who.pod),
        (Some(shop("cart")), None, None)
    );
    assert_eq!(who.port.as_deref(), Some("http"));
    assert_eq!(
        who.evidence,
        [
            "Ingress shop/web leads to shop/cart",
            "Service shop/cart has no ready endpoint since 2.00 s, 1 not ready"
        ]
    );
    // What is not certain gives no name.
    let rules = vec![rule("shop.example", prefix("/cart"), "other")];
    index.apply(Object::Route(route(Kind::Ingress, "twin", rules)), at(0));
    let who = ask(&index, &event, 3_000);
    assert_eq!(who.service, None);
    assert_eq!(who.evidence, ["Ingress shop/twin may lead to shop/other"]);
}

#[test]
fn a_service_that_is_addressed_itself_is_named_with_its_endpoints() {
    let mut index = index();
    let mut cart = service("cart", "10.77.1.3");
    cart.ports[0].port = 8080;
    index.apply(Object::Service(cart), at(0));
    index.apply(
        slice("cart-1", "cart", 9090, &[ready("10.1.0.3", "a")]),
        at(0),
    );
    let who = told(&index, 1_000);
    assert_eq!((who.service, who.pod), (Some(shop("cart")), None));
    assert_eq!(
        who.evidence,
        [
            "10.77.1.3:8080 is the cluster IP of shop/cart",
            "Service shop/cart has 1 ready endpoint"
        ]
    );
}

#[test]
fn what_is_outside_has_no_name_and_old_state_says_so() {
    let index = index();
    let (event, request) = (refused(1, 1_000 * MS), get());
    let question = Question {
        event: &event,
        request: Some(&request),
        serves: None,
        at: at(0),
        stale: Some(Duration::from_secs(12)),
    };
    let who = identify(&question, &index);
    assert_eq!(whom(&question, &index), (None, false));
    assert_eq!(
        (who.service, who.pod, who.owned),
        (None, None, Some(Owned::Outside))
    );
    assert_eq!(who.evidence, ["the cluster's state is 12.00 s old"]);
}

#[test]
fn who_asked_for_a_service_did_not_wait_for_another_one() {
    let mut index = index();
    let rules = |path| vec![rule("shop.example", prefix(path), "cart")];
    index.apply(
        Object::Route(route(Kind::Ingress, "web", rules("/cart"))),
        at(0),
    );
    let request = get();
    let event = refused(1, 1_000 * MS);
    let another = |index: &Index, service: &str| {
        let question = Question {
            event: &event,
            request: Some(&request),
            serves: None,
            at: at(1_000),
            stale: None,
        };
        let who = Identity {
            service: Some(shop(service)),
            ..Identity::default()
        };
        asks_another(&question, &who, index)
    };
    assert!(another(&index, "traces") && !another(&index, "cart"));
    // Where nothing that is seen leads, it may have been meant.
    index.apply(
        Object::Route(route(Kind::Ingress, "web", rules("/other"))),
        at(500),
    );
    assert!(!another(&index, "traces"));
}
