//! JSON of routes as the API server writes it: what is kept of it.
use serde_json::{Value, json};

use crate::cluster::object::{
    BackendRef, Kind, Name, Object, Parent, PathMatch, PortRef, Route, Rule,
};
use crate::cluster::partial::object;

fn route(kind: Kind, json: &Value) -> Route {
    let read = object(kind, json.to_string().as_bytes());
    match read.expect("a readable object").object {
        Object::Route(route) => route,
        other => panic!("{other:?}"),
    }
}

fn backend(namespace: &str, name: &str, port: Option<PortRef>) -> BackendRef {
    BackendRef {
        service: Name::new(namespace, name),
        port,
    }
}

#[test]
fn an_ingress_gives_one_rule_per_host_and_path() {
    let ingress = route(
        Kind::Ingress,
        &json!({
            "metadata": {"name": "shop", "namespace": "web",
                         "creationTimestamp": "2026-01-01T00:00:00Z"},
            "spec": {
                "ingressClassName": "nginx",
                "defaultBackend": {"service": {"name": "home", "port": {"name": "http"}}},
                "rules": [
                    {"host": "Shop.Example", "http": {"paths": [
                        {"path": "/cart", "pathType": "Prefix",
                         "backend": {"service": {"name": "cart", "port": {"number": 80}}}},
                        {"path": "/x", "pathType": "Exact",
                         "backend": {"resource": {"kind": "Bucket", "name": "b"}}},
                        {"path": "/y.*", "pathType": "ImplementationSpecific",
                         "backend": {"service": {"name": "y", "port": {"number": 0}}}}]}},
                    {"http": {"paths": [{"pathType": "Prefix",
                         "backend": {"service": {"name": "any"}}}]}},
                    {"host": "empty.example"}]
            }
        }),
    );
    assert_eq!(ingress.class.as_deref(), Some("nginx"));
    let home = backend("web", "home", Some(PortRef::Name("http".into())));
    assert_eq!(ingress.default_backend, Some(home));
    let rule = |index, hosts: &[&str], path, backends| Rule {
        hosts: hosts.iter().map(|host| (*host).into()).collect(),
        path,
        method: None,
        conditional: false,
        index,
        backends,
    };
    let shop = &["shop.example"];
    let cart = backend("web", "cart", Some(PortRef::Number(80)));
    assert_eq!(
        ingress.rules,
        [
            rule(0, shop, PathMatch::Prefix("/cart".into()), vec![cart]),
            rule(0, shop, PathMatch::Exact("/x".into()), vec![]),
            rule(
                0,
                shop,
                PathMatch::Specific("/y.*".into()),
                vec![backend("web", "y", None)]
            ),
            rule(
                1,
                &[],
                PathMatch::Prefix("/".into()),
                vec![backend("web", "any", None)]
            ),
        ]
    );
}

#[test]
fn annotations_of_ingress_nginx_change_what_a_path_means() {
    let with = |annotations: Value| {
        let path = json!({"path": "/a", "pathType": "Prefix",
                          "backend": {"service": {"name": "a", "port": {"number": 1}}}});
        let rules = json!([{"http": {"paths": [path]}}]);
        let meta = json!({"name": "a", "namespace": "b", "annotations": annotations});
        let ingress = json!({"metadata": meta, "spec": {"rules": rules}});
        route(Kind::Ingress, &ingress)
    };
    let regex = with(json!({"nginx.ingress.kubernetes.io/use-regex": "true"}));
    assert_eq!(regex.rules[0].path, PathMatch::Regex("/a".into()));
    let rewrite = with(json!({"nginx.ingress.kubernetes.io/rewrite-target": "/$1"}));
    assert_eq!(rewrite.rules[0].path, PathMatch::Regex("/a".into()));
    let canary = with(json!({"nginx.ingress.kubernetes.io/canary": "true"}));
    assert!(canary.rules[0].conditional);
    let class = with(json!({"kubernetes.io/ingress.class": "old"}));
    assert_eq!(class.annotation.as_deref(), Some("old"));
    assert_eq!(class.rules[0].path, PathMatch::Prefix("/a".into()));
}

#[test]
fn an_http_route_gives_one_rule_per_match() {
    let http = route(
        Kind::HttpRoute,
        &json!({
            "metadata": {"name": "shop", "namespace": "web"},
            "spec": {
                "hostnames": ["Shop.example", "*.shop.example"],
                "rules": [
                    {"matches": [
                        {"path": {"type": "PathPrefix", "value": "/cart"}, "method": "POST"},
                        {"path": {"type": "RegularExpression", "value": "/c[0-9]+"},
                         "headers": [{"name": "x", "value": "1"}]},
                        {"path": {"type": "Exact", "value": "/c"}, "queryParams": [{"name": "q"}]}],
                     "backendRefs": [
                        {"name": "cart", "port": 80, "weight": 1, "group": "", "kind": "Service"},
                        {"name": "old", "port": 80, "weight": 0},
                        {"name": "other", "namespace": "db", "port": 81},
                        {"name": "bucket", "group": "storage.example", "kind": "Bucket"}]},
                    {"filters": [{"type": "RequestRedirect"}]},
                    {"matches": [{}], "backendRefs": null}]
            }
        }),
    );
    let both = ["shop.example".into(), "*.shop.example".into()];
    assert!(http.rules.iter().all(|rule| rule.hosts == both));
    let paths: Vec<_> = http.rules.iter().map(|rule| rule.path.clone()).collect();
    assert_eq!(
        paths,
        [
            PathMatch::Prefix("/cart".into()),
            PathMatch::Regex("/c[0-9]+".into()),
            PathMatch::Exact("/c".into()),
            PathMatch::Prefix("/".into()),
            PathMatch::Prefix("/".into()),
        ]
    );
    let conditional: Vec<_> = http.rules.iter().map(|rule| rule.conditional).collect();
    assert_eq!(conditional, [false, true, true, false, false]);
    let places: Vec<_> = http.rules.iter().map(|rule| rule.index).collect();
    assert_eq!(places, [0, 0, 0, 1, 2]);
    assert_eq!(http.rules[0].method.as_deref(), Some("POST"));
    let cart = backend("web", "cart", Some(PortRef::Number(80)));
    let other = backend("db", "other", Some(PortRef::Number(81)));
    assert_eq!(http.rules[0].backends, [cart, other]);
    assert_eq!(http.rules[3].backends, []);
}

#[test]
fn a_grpc_route_asks_for_paths_of_services_and_methods() {
    let path = |method: Value| {
        let matches = json!([{"method": method}]);
        let spec = json!({"rules": [{"matches": matches, "backendRefs": [{"name": "a"}]}]});
        let grpc = json!({"metadata": {"name": "a", "namespace": "b"}, "spec": spec});
        route(Kind::GrpcRoute, &grpc).rules[0].path.clone()
    };
    let text = |path: PathMatch| format!("{path:?}");
    assert_eq!(
        text(path(json!({"service": "shop.Cart", "method": "Add"}))),
        r#"Exact("/shop.Cart/Add")"#
    );
    assert_eq!(
        text(path(json!({"service": "shop.Cart"}))),
        r#"Prefix("/shop.Cart")"#
    );
    assert_eq!(
        text(path(json!({"method": "Add"}))),
        r#"Regex("/[^/]+/Add$")"#
    );
    assert_eq!(
        text(path(
            json!({"type": "RegularExpression", "service": "shop[.].*", "method": "A.*"})
        )),
        r#"Regex("/shop[.].*/A.*$")"#
    );
    assert_eq!(text(path(json!(null))), r#"Prefix("/")"#);
}

#[test]
fn parents_of_a_route_are_gateways_and_what_may_be_one() {
    let parents = json!([
        {"name": "edge"},
        {"name": "edge", "namespace": "infra", "sectionName": "https", "kind": "Gateway"},
        {"name": "more", "kind": "XListenerSet"},
        {"name": "cart", "kind": "Service", "group": ""},
    ]);
    let spec = json!({"parentRefs": parents});
    let object = json!({"metadata": {"name": "a", "namespace": "b"}, "spec": spec});
    let parent = |gateway: Option<Name>, section: Option<&str>| Parent {
        gateway,
        section: section.map(Into::into),
    };
    assert_eq!(
        route(Kind::HttpRoute, &object).parents,
        [
            parent(Some(Name::new("b", "edge")), None),
            parent(Some(Name::new("infra", "edge")), Some("https")),
            parent(None, None),
        ]
    );
}

#[test]
fn a_class_is_its_name_and_its_controller() {
    let class =
        json!({"metadata": {"name": "edge"}, "spec": {"controller": "k8s.io/ingress-nginx"}});
    let read = object(Kind::Class, class.to_string().as_bytes()).expect("a class");
    let Object::Class(class) = read.object else {
        panic!("it is no class");
    };
    assert_eq!(class.name, Name::new("", "edge"));
    assert_eq!(&*class.controller, "k8s.io/ingress-nginx");
}
