//! In: routes and requests, as the specifications of the Ingress and of the Gateway API show them.
//! Out: proof of which Service each leads to, and that it is not called certain where it is not.
use super::super::example::{at, backend, exact, get, index, prefix, route, rule, shop};
use super::*;
use crate::cluster::object::{Class, Object, PathMatch, PortRef};
use crate::profiles::serves::{By, Gateways, Ingresses, Told};

const INGRESS: Kind = Kind::Ingress;
const GATEWAY: Kind = Kind::HttpRoute;

/// Service that the rules lead to, with `?` where it is not certain; `-` where no rule takes it.
fn lead(routes: &[Route], asked: &Asked) -> String {
    let mut index = index();
    for route in routes {
        index.apply(Object::Route(route.clone()), at(1));
    }
    let Some(found) = index.route(asked, at(2)) else {
        return "-".into();
    };
    let mut services: Vec<&str> = found.backends.iter().map(|to| &*to.service.name).collect();
    services.dedup();
    let sure = if found.certain { "" } else { "?" };
    format!("{}{sure}", services.join("+"))
}

/// Which of the paths of one host takes a path; each leads to the Service of its place, `0` first.
fn path(kind: Kind, paths: &[PathMatch], asked: &str) -> String {
    let rules = paths.iter().enumerate();
    let rules = rules.map(|(place, path)| rule("a.b", path.clone(), &place.to_string()));
    lead(&[route(kind, "r", rules.collect())], &get("a.b", asked))
}

#[test]
fn paths_are_taken_as_the_table_of_the_ingress_specification_says() {
    let taken: &[(PathMatch, &str, bool)] = &[
        (prefix("/"), "/any/path", true),
        (exact("/foo"), "/foo", true),
        (exact("/foo"), "/bar", false),
        (exact("/foo"), "/foo/", false),
        (exact("/foo/"), "/foo", false),
        (prefix("/foo"), "/foo", true),
        (prefix("/foo"), "/foo/", true),
        (prefix("/foo/"), "/foo", true),
        (prefix("/foo/"), "/foo/", true),
        (prefix("/aaa/bb"), "/aaa/bbb", false),
        (prefix("/aaa/bbb"), "/aaa/bbb", true),
        (prefix("/aaa/bbb/"), "/aaa/bbb", true),
        (prefix("/aaa/bbb"), "/aaa/bbb/", true),
        (prefix("/aaa/bbb"), "/aaa/bbb/ccc", true),
        (prefix("/aaa/bbb"), "/aaa/bbbxyz", false),
        (prefix("/foo"), "/Foo", false),
    ];
    for (rule, asked, expected) in taken {
        for kind in [INGRESS, GATEWAY] {
            let found = path(kind, std::slice::from_ref(rule), asked);
            let expected = if *expected { "0" } else { "-" };
            assert_eq!(found, expected, "{kind:?}: {rule:?} and {asked}");
        }
    }
}

#[test]
fn the_longest_path_goes_first_and_an_exact_one_before_all() {
    let paths = [
        prefix("/"),
        prefix("/aaa"),
        prefix("/aaa/bbb"),
        exact("/aaa/bbb"),
    ];
    for kind in [INGRESS, GATEWAY] {
        for (asked, expected) in [
            ("/ccc", "0"),
            ("/aaa/ccc", "1"),
            ("/aaa/bbb/ccc", "2"),
            ("/aaa/bbb", "3"),
        ] {
            assert_eq!(path(kind, &paths, asked), expected, "{kind:?} {asked}");
        }
    }
    // A slash at the end of a prefix makes it no longer than the exact path.
    assert_eq!(
        path(INGRESS, &[prefix("/foo/"), exact("/foo")], "/foo"),
        "1"
    );
}

#[test]
fn implementation_specific_paths_are_prefixes_of_characters_or_expressions() {
    let specific = |text: &str| [PathMatch::Specific(text.into())];
    assert_eq!(path(INGRESS, &specific("/foo"), "/foobar"), "0");
    assert_eq!(path(INGRESS, &specific("/foo"), "/fo"), "-");
    assert_eq!(path(INGRESS, &specific("/api(/|$)(.*)"), "/api/x"), "0");
    assert_eq!(path(INGRESS, &specific("/api(/|$)(.*)"), "/apix"), "-");
    assert_eq!(path(INGRESS, &specific("/API(/|$)"), "/api"), "0");
}

#[test]
fn expressions_hold_from_the_start_and_unreadable_ones_leave_doubt() {
    let regex = |text: &str| PathMatch::Regex(text.into());
    assert_eq!(path(INGRESS, &[regex("/v[0-9]+/x")], "/v12/x"), "0");
    assert_eq!(path(INGRESS, &[regex("/v[0-9]+/x")], "/a/v12/x"), "-");
    assert_eq!(path(INGRESS, &[regex("/a|/b")], "/b"), "0");
    let ahead = regex("/a(?!b)");
    assert_eq!(path(INGRESS, std::slice::from_ref(&ahead), "/ac"), "-");
    assert_eq!(path(INGRESS, &[ahead, prefix("/")], "/ac"), "1?");
    // Gateways differ in what goes first, an expression or a prefix.
    assert_eq!(path(GATEWAY, &[regex("/a.*"), prefix("/a")], "/a"), "1?");
    assert_eq!(path(GATEWAY, &[regex("/a.*")], "/a"), "0?");
}

#[test]
fn hosts_are_exact_then_wild_then_any() {
    let rules = |names: &[&str]| {
        let rules = names.iter().map(|host| rule(host, prefix("/"), host));
        rules.collect::<Vec<_>>()
    };
    let all = rules(&["a.foo.com", "*.foo.com", ""]);
    for kind in [INGRESS, GATEWAY] {
        let routes = [route(kind, "r", all.clone())];
        for (host, expected) in [
            ("a.foo.com", "a.foo.com"),
            ("A.Foo.com:8443", "a.foo.com"),
            ("a.foo.com.", "a.foo.com"),
            ("b.foo.com", "*.foo.com"),
            ("foo.com", ""),
            ("other.org", ""),
            ("[::1]:80", ""),
        ] {
            assert_eq!(lead(&routes, &get(host, "/")), expected, "{kind:?} {host}");
        }
    }
    let wild = rules(&["*.foo.com"]);
    let deep = get("a.b.foo.com", "/");
    let unknown = lead(&[route(INGRESS, "r", wild.clone())], &deep);
    assert_eq!(unknown, "*.foo.com?", "controllers differ");
    assert_eq!(lead(&[route(GATEWAY, "r", wild)], &deep), "*.foo.com");
    let longer = rules(&["*.foo.com", "*.b.foo.com"]);
    assert_eq!(lead(&[route(GATEWAY, "r", longer)], &deep), "*.b.foo.com");
    let none = Asked {
        host: None,
        ..get("", "/")
    };
    assert_eq!(lead(&[route(INGRESS, "r", all)], &none), "");
}

#[test]
fn a_less_exact_host_is_no_certain_answer_for_a_path_that_the_exact_one_lacks() {
    let rules = vec![
        rule("a.foo.com", prefix("/one"), "one"),
        rule("*.foo.com", prefix("/"), "wild"),
    ];
    let routes = [route(INGRESS, "r", rules)];
    assert_eq!(lead(&routes, &get("a.foo.com", "/two")), "wild?");
    assert_eq!(lead(&routes, &get("b.foo.com", "/two")), "wild");
}

#[test]
fn the_default_backend_takes_what_no_rule_takes() {
    let only = Route {
        default_backend: Some(backend("fallback")),
        ..route(INGRESS, "only", Vec::new())
    };
    let own = Route {
        default_backend: Some(backend("own")),
        ..route(INGRESS, "own", vec![rule("a.b", prefix("/x"), "x")])
    };
    assert_eq!(
        lead(std::slice::from_ref(&only), &get("any", "/")),
        "fallback"
    );
    assert_eq!(lead(std::slice::from_ref(&own), &get("a.b", "/x")), "x");
    assert_eq!(lead(std::slice::from_ref(&own), &get("a.b", "/y")), "own");
    assert_eq!(lead(&[own, only], &get("a.b", "/y")), "own");
}

#[test]
fn methods_headers_and_age_decide_between_equal_paths() {
    let with = |method: Option<&str>, conditional, service: &str| Rule {
        method: method.map(Into::into),
        conditional,
        ..rule("a.b", prefix("/"), service)
    };
    let rules = vec![with(None, false, "all"), with(Some("POST"), false, "post")];
    let routes = [route(GATEWAY, "r", rules)];
    let post = Asked {
        method: Some("POST"),
        ..get("a.b", "/")
    };
    let unknown = Asked {
        method: None,
        ..get("a.b", "/")
    };
    assert_eq!(lead(&routes, &get("a.b", "/")), "all");
    assert_eq!(lead(&routes, &post), "post");
    assert_eq!(lead(&routes, &unknown), "all?");
    let canary = vec![with(None, true, "canary"), with(None, false, "all")];
    assert_eq!(
        lead(&[route(GATEWAY, "r", canary)], &get("a.b", "/")),
        "all?"
    );
    let same = vec![with(None, true, "all"), with(None, false, "all")];
    assert_eq!(lead(&[route(GATEWAY, "r", same)], &get("a.b", "/")), "all");
    let only = vec![with(None, true, "canary")];
    assert_eq!(
        lead(&[route(GATEWAY, "r", only)], &get("a.b", "/")),
        "canary?"
    );
    let aged = |name: &str, created| Route {
        created,
        ..route(INGRESS, name, vec![rule("a.b", prefix("/"), name)])
    };
    let (old, new) = (aged("old", Some(at(0))), aged("new", Some(at(9000))));
    assert_eq!(lead(&[new.clone(), old.clone()], &get("a.b", "/")), "old");
    let twin = aged("a-twin", Some(at(0)));
    assert_eq!(lead(&[twin, old], &get("a.b", "/")), "a-twin?");
    assert_eq!(lead(&[aged("b", None), new], &get("a.b", "/")), "new");
}

#[test]
fn ingresses_of_another_class_are_not_asked() {
    let of = |class: &str, path, service: &str| Route {
        class: Some(class.into()),
        ..route(INGRESS, service, vec![rule("a.b", path, service)])
    };
    let routes = [
        of("nginx", prefix("/"), "one"),
        of("haproxy", prefix("/x"), "two"),
    ];
    let named = |name: &str| {
        let told = Told {
            name: Some(name.to_owned()),
            by: By::Name,
            ..Told::default()
        };
        serves(Ingresses::Told(told), Gateways::Any)
    };
    let lead = |name| {
        let serves = named(name);
        lead(&routes, &of_pod(&serves, "/x"))
    };
    assert_eq!(lead("nginx"), "one");
    assert_eq!(lead("haproxy"), "two");
    let unknown = super::tests::lead(&routes, &get("a.b", "/x"));
    assert_eq!(unknown, "two?");
}

fn serves(ingresses: Ingresses, gateways: Gateways) -> Serves {
    Serves {
        packaging: "ingress-nginx",
        ingresses,
        gateways,
        deep: None,
    }
}

fn of_pod<'a>(serves: &'a Serves, path: &'a str) -> Asked<'a> {
    Asked {
        serves: Some(serves),
        ..get("a.b", path)
    }
}

#[test]
fn a_class_is_the_controllers_that_it_named_at_that_time() {
    let both = [("one", "edge"), ("two", "other")].map(|(service, class)| Route {
        class: Some(class.into()),
        ..route(INGRESS, service, vec![rule("a.b", prefix("/"), service)])
    });
    let class = |name: &str, controller: &str| {
        Object::Class(Class {
            name: Name::new("", name),
            controller: controller.into(),
        })
    };
    let mut index = index();
    for ingress in both {
        index.apply(Object::Route(ingress), at(0));
    }
    index.apply(class("edge", "k8s.io/ingress-nginx"), at(1000));
    index.apply(class("other", "k8s.io/internal"), at(1000));
    index.apply(class("edge", "k8s.io/internal"), at(2000));
    index.apply(class("other", "k8s.io/ingress-nginx"), at(2000));
    index.delete(Kind::Class, &Name::new("", "edge"), at(3000));
    let told = Told {
        controller: Some("k8s.io/ingress-nginx".to_owned()),
        ..Told::default()
    };
    let serves = serves(Ingresses::Told(told), Gateways::Any);
    let led = |ms| {
        let routed = index.route(&of_pod(&serves, "/"), at(ms)).expect("a route");
        let backend = routed.backend().expect("a Service");
        (backend.service.name.to_string(), routed.certain)
    };
    assert!(!led(500).1, "no class is known");
    assert_eq!(led(1500), ("one".into(), true));
    assert_eq!(led(2500), ("two".into(), true));
    assert!(!led(3500).1, "a class that is gone may be anybody's");
}

#[test]
fn routes_of_other_gateways_and_of_other_listeners_are_told_apart() {
    let of = |service: &str, gateway: &str, section: Option<&str>| Route {
        parents: vec![Parent {
            gateway: Some(shop(gateway)),
            section: section.map(Into::into),
        }],
        ..route(GATEWAY, service, vec![rule("a.b", prefix("/"), service)])
    };
    let own = serves(Ingresses::None, Gateways::One(shop("edge")));
    let any = serves(Ingresses::None, Gateways::Any);
    let none = serves(Ingresses::Any, Gateways::None);
    let two = [of("one", "edge", None), of("two", "other", None)];
    assert_eq!(lead(&two, &of_pod(&own, "/")), "one");
    assert_eq!(lead(&two, &of_pod(&any, "/")), "one?");
    assert_eq!(lead(&two, &of_pod(&none, "/")), "-");
    assert_eq!(lead(&two, &get("a.b", "/")), "one?");
    let same = [of("one", "edge", None), of("two", "edge", None)];
    assert_eq!(lead(&same, &of_pod(&own, "/")), "one", "the first by name");
    let listeners = [
        of("one", "edge", Some("http")),
        of("two", "edge", Some("https")),
    ];
    assert_eq!(lead(&listeners, &of_pod(&own, "/")), "one?");
    let mut redirect = of("a", "edge", Some("http"));
    redirect.rules[0].backends.clear();
    let redirected = [redirect, of("two", "edge", Some("https"))];
    assert_eq!(lead(&redirected, &of_pod(&own, "/")), "two");
    let ingress = route(INGRESS, "i", vec![rule("a.b", prefix("/x"), "three")]);
    let both = [ingress, of("one", "edge", None)];
    assert_eq!(lead(&both, &of_pod(&own, "/x")), "one");
}

#[test]
fn a_wildcard_of_an_ingress_takes_as_many_labels_as_its_controller_lets_it() {
    let routes = [route(
        INGRESS,
        "r",
        vec![
            rule("*.b", prefix("/"), "wild"),
            rule("", prefix("/"), "all"),
        ],
    )];
    let lead = |deep, host| {
        let serves = Serves {
            deep,
            ..serves(Ingresses::Any, Gateways::None)
        };
        let asked = Asked {
            serves: Some(&serves),
            ..get(host, "/")
        };
        lead(&routes, &asked)
    };
    for (deep, expected) in [(Some(true), "wild"), (Some(false), "all"), (None, "all?")] {
        assert_eq!(lead(deep, "x.b"), "wild");
        assert_eq!(lead(deep, "y.x.b"), expected);
    }
}

#[test]
fn what_leads_to_several_services_or_was_cut_is_not_certain() {
    let split = Rule {
        backends: vec![backend("a"), backend("b")],
        ..rule("a.b", prefix("/"), "a")
    };
    assert_eq!(
        lead(&[route(GATEWAY, "r", vec![split])], &get("a.b", "/")),
        "a+b?"
    );
    let ports = Rule {
        backends: vec![
            backend("a"),
            BackendRef {
                port: Some(PortRef::Number(81)),
                ..backend("a")
            },
        ],
        ..rule("a.b", prefix("/"), "a")
    };
    assert_eq!(
        lead(&[route(GATEWAY, "r", vec![ports])], &get("a.b", "/")),
        "a"
    );
    let redirect = Rule {
        backends: Vec::new(),
        ..rule("a.b", prefix("/"), "a")
    };
    assert_eq!(
        lead(&[route(GATEWAY, "r", vec![redirect])], &get("a.b", "/")),
        ""
    );
    let long = format!("/{}", "x".repeat(127));
    let any = [route(INGRESS, "r", vec![rule("a.b", prefix("/"), "a")])];
    assert_eq!(lead(&any, &get("a.b", &long)), "a?");
}

#[test]
fn the_rule_is_named_only_where_no_other_one_can_be_meant() {
    let at_place = |index, rule| Rule { index, ..rule };
    let led = |rules: Vec<Rule>, asked: &Asked| {
        let mut index = index();
        index.apply(Object::Route(route(GATEWAY, "r", rules)), at(1));
        let routed = index.route(asked, at(2)).expect("a route");
        (routed.certain, routed.rule)
    };
    let rules = || {
        vec![
            at_place(0, rule("a.b", prefix("/"), "a")),
            at_place(1, rule("a.b", prefix("/x"), "a")),
            at_place(1, rule("a.b", prefix("/y"), "a")),
        ]
    };
    assert_eq!(led(rules(), &get("a.b", "/")), (true, Some(0)));
    assert_eq!(led(rules(), &get("a.b", "/y/z")), (true, Some(1)));
    // A header that is not known decides: the Service is the same, the rule is not.
    let headers = Rule {
        conditional: true,
        ..at_place(2, rule("a.b", prefix("/x"), "a"))
    };
    let doubtful = rules().into_iter().chain([headers]).collect();
    assert_eq!(led(doubtful, &get("a.b", "/x")), (true, None));
}

#[test]
fn a_route_leads_where_it_led_at_that_time() {
    let to = |service| Object::Route(route(INGRESS, "r", vec![rule("a.b", prefix("/"), service)]));
    let mut index = index();
    index.apply(to("one"), at(1000));
    index.apply(to("two"), at(2000));
    index.delete(INGRESS, &shop("r"), at(3000));
    let led = |ms| {
        let routed = index.route(&get("a.b", "/"), at(ms))?;
        let service = routed.backend()?.service.name.to_string();
        Some((service, routed.certain))
    };
    assert_eq!(led(0), Some(("one".into(), false)));
    assert_eq!(led(1500), Some(("one".into(), true)));
    assert_eq!(led(2000), Some(("two".into(), true)));
    assert_eq!(led(3500), None);
    // Its name may be an HTTPRoute's too.
    index.apply(
        Object::Route(route(GATEWAY, "r", vec![rule("a.b", prefix("/"), "three")])),
        at(4000),
    );
    index.delete(INGRESS, &shop("r"), at(5000));
    let routed = index.route(&get("a.b", "/"), at(5500)).expect("a route");
    assert_eq!(
        (routed.kind, &*routed.backends[0].service.name),
        (GATEWAY, "three")
    );
}
