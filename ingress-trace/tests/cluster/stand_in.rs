//! The link against the stand-in API on a good day: what is asked, and what is known after it.
use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use ingress_trace::cluster::link::LINGER;
use ingress_trace::cluster::object::{Kind, Name, Object};
use ingress_trace::cluster::stats::{self, Reason};
use serde_json::Value;
use tests::fake_api::{Asked, FakeApi, Verb};
use tests::objects;

use crate::view::{MUCH, NODE, View};

fn address(last: u8) -> IpAddr {
    Ipv4Addr::new(10, 77, 1, last).into()
}

pub fn pod(name: &str, node: &str) -> Value {
    objects::pod("shop", name, node, &[address(1)], &[8080])
}

pub fn service(name: &str) -> Value {
    objects::service("shop", name, Some(name), &[("http", 80, 8080.into())])
}

pub fn started() -> FakeApi {
    FakeApi::start().expect("the stand-in")
}

pub fn add(api: &FakeApi, object: Value) {
    api.apply(object).expect("an object");
}

/// Whether a watch of Services is open.
pub fn watched(api: &FakeApi) -> bool {
    let open =
        |one: &Asked| one.resource == "services" && one.verb == Verb::Watch && one.status == 200;
    api.asked().iter().any(open)
}

#[tokio::test]
async fn a_node_without_an_ingress_pod_holds_one_narrow_watch() {
    let api = started();
    add(&api, pod("here-1", NODE));
    add(&api, pod("there-1", "node-2"));
    add(&api, service("cart"));
    let mut view = View::of(&api, MUCH);
    view.names(Kind::Pod, &["here-1"]).await;
    add(&api, pod("here-2", NODE));
    add(&api, pod("there-2", "node-2"));
    view.names(Kind::Pod, &["here-1", "here-2"]).await;
    let asked = api.asked();
    assert_eq!(asked.len(), 2, "{asked:#?}");
    for one in &asked {
        assert_eq!(one.path, "/api/v1/pods");
        assert_eq!(one.query["fieldSelector"], "spec.nodeName=node-1");
        assert!(one.agent.starts_with("ingress-trace/"), "{}", one.agent);
    }
    assert_eq!(asked[0].query["resourceVersion"], "0");
    assert_eq!(asked[1].query["allowWatchBookmarks"], "true");
}

#[tokio::test]
async fn the_cluster_is_followed_while_there_is_an_ingress_pod_and_a_minute_longer() {
    let api = started();
    api.install_gateway_api();
    add(&api, service("cart"));
    add(&api, objects::node(NODE));
    let endpoint = objects::Endpoint::ready(address(1), "cart-1");
    add(
        &api,
        objects::slice("shop", "cart", &[("http", 8080)], &[endpoint]),
    );
    let paths = &[("/cart", "cart", 80)];
    add(
        &api,
        objects::ingress("shop", "web", "nginx", "a.example", paths),
    );
    add(
        &api,
        objects::http_route("shop", "http", "b.example", paths),
    );
    add(
        &api,
        objects::grpc_route("shop", "grpc", "c.example", &[("shop.Cart", "cart", 80)]),
    );
    let mut view = View::wide(&api, MUCH);
    view.until("all kinds", |view| view.known.len() == 6).await;
    let now = Instant::now();
    view.link.want(false, now);
    view.link.want(true, now + LINGER);
    view.link.want(false, now + LINGER);
    add(&api, service("late"));
    view.names(Kind::Service, &["cart", "late"]).await;
    view.link.want(false, now + LINGER * 2);
    view.names(Kind::Service, &[]).await;
    assert!(view.known.is_empty(), "{:?}", view.known);
    assert_eq!(
        view.report().states.keys().copied().collect::<Vec<_>>(),
        ["pods"]
    );
    view.link.want(true, now + LINGER * 3);
    view.until("all kinds again", |view| view.known.len() == 7)
        .await;
}

#[tokio::test]
async fn large_lists_come_in_pages_and_then_nothing_but_changes() {
    let api = started();
    api.apply_all((0..1_201).map(|at| service(&format!("s{at}"))))
        .expect("Services");
    let mut view = View::wide(&api, MUCH);
    view.until("all", |view| view.of_kind(Kind::Service).len() == 1_201)
        .await;
    assert_eq!(api.requests("services", Verb::List), 3);
    add(&api, service("new"));
    api.delete("services", "shop", "s7").expect("deleted");
    view.until("the changes", |view| {
        let names = view.of_kind(Kind::Service);
        names.contains(&"new") && !names.contains(&"s7")
    })
    .await;
    assert_eq!(api.requests("services", Verb::List), 3);
    let report = view.report();
    assert_eq!(report.requests[&(stats::Verb::List, "services", 200)], 3);
    assert!(report.received["services"] > 100_000, "{report:?}");
}

#[tokio::test]
async fn bookmarks_are_words_too_and_move_the_place_to_go_on_from() {
    let api = started();
    add(&api, service("a"));
    let mut view = View::wide(&api, MUCH);
    view.synced("services").await;
    view.until("an open watch", |_| watched(&api)).await;
    let before = view.state("services").heard;
    // Revisions go on elsewhere.
    add(&api, objects::node(NODE));
    api.bookmark("services");
    view.until("a word", |view| view.state("services").heard > before)
        .await;
    api.end_watches("services");
    let again = |_: &View| api.requests("services", Verb::Watch) == 2;
    view.until("a second watch", again).await;
    let asked = api.asked();
    let from: Vec<u64> = asked
        .iter()
        .filter(|one| one.resource == "services" && one.verb == Verb::Watch)
        .map(|one| one.query["resourceVersion"].parse().expect("a number"))
        .collect();
    assert!(from[1] > from[0], "{from:?}");
}

#[tokio::test]
async fn routes_of_the_gateway_api_are_found_when_they_are_installed_later() {
    let api = started();
    let mut view = View::wide(&api, MUCH);
    view.synced("httproutes").await;
    let absent = view.report();
    assert!(absent.errors.is_empty(), "{absent:?}");
    assert!(
        absent
            .requests
            .contains_key(&(stats::Verb::List, "httproutes", 404))
    );
    api.install_gateway_api();
    add(
        &api,
        objects::http_route("shop", "web", "a.example", &[("/", "cart", 80)]),
    );
    view.names(Kind::HttpRoute, &["web"]).await;
    add(
        &api,
        objects::http_route("shop", "web-2", "b.example", &[("/", "cart", 80)]),
    );
    view.names(Kind::HttpRoute, &["web", "web-2"]).await;
}

#[tokio::test]
async fn a_failed_backend_is_looked_at_now_and_a_little_later() {
    let api = started();
    let mut cart = pod("cart-1", "node-2");
    add(&api, cart.clone());
    let mut view = View::of(&api, MUCH);
    // The list of this node's pods replaces all that the test knows.
    view.synced("pods").await;
    let name = Name::new("shop", "cart-1");
    let start = Instant::now();
    for _ in 0..100 {
        view.link.look_at(name.clone());
    }
    view.names(Kind::Pod, &["cart-1"]).await;
    assert!(
        start.elapsed() < Duration::from_secs(2),
        "{:?}",
        start.elapsed()
    );
    objects::set_ready(&mut cart, false);
    add(&api, cart);
    view.until("the second look", |view| {
        view.known.values().any(
            |object| matches!(object, Object::Pod(pod) if pod.ready.as_ref().is_some_and(|ready| !ready.met)),
        )
    })
    .await;
    assert_eq!(api.requests("pods", Verb::Get), 2);
    api.delete("pods", "shop", "cart-1").expect("deleted");
    view.link.look_at(name);
    view.names(Kind::Pod, &[]).await;
}

#[tokio::test]
async fn many_failed_backends_are_looked_at_a_few_a_second() {
    let api = started();
    let mut view = View::of(&api, MUCH);
    view.synced("pods").await;
    let start = Instant::now();
    for at in 0..1_000 {
        view.link.look_at(Name::new("shop", &format!("cart-{at}")));
    }
    view.until("20 requests", |_| api.requests("pods", Verb::Get) >= 20)
        .await;
    // A burst of ten, then five a second.
    assert!(
        start.elapsed() >= Duration::from_millis(1_800),
        "{:?}",
        start.elapsed()
    );
    assert!(
        view.errors("pods", Reason::Dropped) >= 700,
        "{:?}",
        view.report()
    );
}
