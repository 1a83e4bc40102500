//! In: Services, slices and routes. Out: proof of how many endpoints a Service had in which condition,
//! and which routes are dead.
use super::super::example::{
    at, backend, index, not_ready, prefix, ready, route, rule, service, shop, slice, terminating,
};
use super::*;
use crate::cluster::object::{Object, Route};

#[test]
fn numbers_count_each_pod_once_by_its_newest_word() {
    let mut index = index();
    index.apply(Object::Service(service("cart", "10.96.0.1")), at(0));
    let four = [ready("10.1.0.3", "a"), not_ready("10.1.0.4", "b")];
    index.apply(slice("cart-4", "cart", 8080, &four), at(1000));
    let six = [ready("fd00::3", "a"), terminating("fd00::5", "c")];
    index.apply(slice("cart-6", "cart", 8080, &six), at(1500));
    let at_port = |ms| index.service(&shop("cart"), Some(&PortRef::Number(80)), at(ms));
    let numbers = Numbers {
        ready: 1,
        serving: 2,
        terminating: 1,
        not_ready: 1,
    };
    assert_eq!(
        (at_port(2000).numbers, at_port(2000).emptied),
        (numbers, None)
    );
    assert_eq!(at_port(2000).port, PortThen::Has("http".into(), 80));
    let missing = index.service(&shop("cart"), Some(&PortRef::Number(81)), at(2000));
    assert_eq!(
        (missing.port, missing.numbers.ready),
        (PortThen::Missing, 0)
    );
    index.apply(
        slice("cart-4", "cart", 8080, &[terminating("10.1.0.3", "a")]),
        at(3000),
    );
    index.apply(
        slice("cart-6", "cart", 8080, &[terminating("fd00::3", "a")]),
        at(3500),
    );
    let empty = index.service(&shop("cart"), None, at(4000));
    assert_eq!((empty.numbers.ready, empty.numbers.terminating), (0, 1));
    assert_eq!(
        empty.emptied,
        Some(Since {
            at: at(3500),
            exact: true
        })
    );
    let unknown = index.service(&shop("nothing"), None, at(4000));
    assert_eq!((unknown.standing, unknown.exists()), (None, false));
}

#[test]
fn routes_to_services_without_a_ready_endpoint_are_dead() {
    let mut index = index();
    for (name, ip) in [
        ("full", "10.96.0.1"),
        ("empty", "10.96.0.2"),
        ("ports", "10.96.0.3"),
    ] {
        index.apply(Object::Service(service(name, ip)), at(0));
    }
    let outside = Service {
        external_name: Some("example.org".into()),
        ..service("outside", "10.96.0.4")
    };
    index.apply(Object::Service(outside), at(0));
    index.apply(
        slice("full-1", "full", 8080, &[ready("10.1.0.3", "a")]),
        at(0),
    );
    index.apply(
        slice("empty-1", "empty", 8080, &[not_ready("10.1.0.4", "b")]),
        at(0),
    );
    let names = ["full", "empty", "outside", "missing", "empty"];
    let rules = names.iter().map(|name| rule("a.b", prefix("/"), name));
    index.apply(
        Object::Route(route(Kind::Ingress, "r", rules.collect())),
        at(0),
    );
    let only = Route {
        default_backend: Some(backend("ports")),
        ..route(Kind::Ingress, "s", Vec::new())
    };
    index.apply(Object::Route(only), at(0));
    let dead: Vec<String> = index
        .dead_routes()
        .into_iter()
        .map(|dead| format!("{} {}", dead.route.name, dead.service.name))
        .collect();
    assert_eq!(dead, ["r empty", "r missing", "s ports"]);
}
