//! The link against the stand-in API on a bad day: what is still known, and how it recovers.
use std::fs;
use std::time::{Duration, Instant};

use ingress_trace::cluster::object::{Kind, Name};
use ingress_trace::cluster::stats::Reason;
use tests::fake_api::{FOREVER, Fault, Order, Verb};
use tests::kubeconfig::User;
use tests::objects;

use crate::stand_in::{add, pod, service, started, watched};
use crate::view::{LITTLE, MUCH, NODE, View};

#[tokio::test]
async fn history_that_is_gone_is_made_up_for_by_a_new_list() {
    let api = started();
    for name in ["a", "b"] {
        add(&api, service(name));
    }
    let mut view = View::wide(&api, MUCH);
    view.names(Kind::Service, &["a", "b"]).await;
    // What happens meanwhile is told by the list only.
    api.hold("services");
    api.delete("services", "shop", "a").expect("deleted");
    add(&api, service("c"));
    api.fail("services", Verb::Watch, 1, Fault::ExpiredInStream);
    api.cut_watches("services");
    api.release("services", Order::Same);
    view.names(Kind::Service, &["b", "c"]).await;
    // The same by HTTP's status, which kube-runtime would ask for ever.
    api.fail("services", Verb::Watch, 1, Fault::Status(410, None));
    api.end_watches("services");
    let lists = api.requests("services", Verb::List);
    view.until("a new list", |_| {
        api.requests("services", Verb::List) > lists
    })
    .await;
    add(&api, service("d"));
    view.names(Kind::Service, &["b", "c", "d"]).await;
    assert!(view.errors("services", Reason::Expired) >= 1);
}

#[tokio::test]
async fn a_list_whose_rest_has_expired_starts_anew() {
    let api = started();
    api.apply_all((0..700).map(|at| service(&format!("s{at}"))))
        .expect("Services");
    api.fail(
        "services",
        Verb::List,
        1,
        Fault::Slow(Duration::from_millis(1)),
    );
    api.fail("services", Verb::List, 1, Fault::Status(410, None));
    let mut view = View::wide(&api, MUCH);
    view.until("all", |view| view.of_kind(Kind::Service).len() == 700)
        .await;
    let asked = api.asked();
    let lists: Vec<_> = asked
        .iter()
        .filter(|one| one.resource == "services" && one.verb == Verb::List)
        .map(|one| (one.status, one.query.contains_key("continue")))
        .collect();
    assert_eq!(
        lists,
        [(200, false), (410, true), (200, false), (200, true)]
    );
}

#[tokio::test]
async fn a_server_that_asks_for_time_gets_it() {
    let api = started();
    add(&api, service("a"));
    api.fail("services", Verb::List, 1, Fault::Status(429, Some(3)));
    let start = Instant::now();
    let mut view = View::wide(&api, MUCH);
    view.until("throttled", |view| {
        view.errors("services", Reason::Throttled) == 1
    })
    .await;
    assert_eq!(view.state("services").failing, Some(Reason::Throttled));
    view.names(Kind::Service, &["a"]).await;
    assert!(
        start.elapsed() >= Duration::from_secs(3),
        "{:?}",
        start.elapsed()
    );
    view.synced("services").await;
}

#[tokio::test]
async fn backend_pods_wait_as_long_as_the_server_asks_for_too() {
    let api = started();
    api.fail("pods", Verb::Get, 1, Fault::Status(429, Some(3)));
    add(&api, pod("cart-1", "node-2"));
    let mut view = View::of(&api, MUCH);
    view.synced("pods").await;
    let start = Instant::now();
    view.link.look_at(Name::new("shop", "gone-1"));
    view.until("a refusal", |view| {
        view.errors("pods", Reason::Throttled) == 1
    })
    .await;
    view.link.look_at(Name::new("shop", "cart-1"));
    view.names(Kind::Pod, &["cart-1"]).await;
    assert!(start.elapsed() >= Duration::from_secs(3));
}

#[tokio::test]
async fn a_right_that_is_missing_for_one_resource_leaves_the_others() {
    let api = started();
    add(&api, service("a"));
    add(&api, objects::node(NODE));
    api.fail("services", Verb::List, FOREVER, Fault::Status(403, None));
    let mut view = View::wide(&api, MUCH);
    view.names(Kind::Node, &[NODE]).await;
    view.until("refused", |view| {
        view.errors("services", Reason::Forbidden) >= 2
    })
    .await;
    assert_eq!(view.state("services").failing, Some(Reason::Forbidden));
    assert!(view.state("nodes").synced && view.report().stale_since() == Some(None));
    api.heal("services");
    view.names(Kind::Service, &["a"]).await;
    view.until("all is well", |view| view.report().stale_since().is_none())
        .await;
}

#[tokio::test]
async fn without_the_right_to_watch_lists_are_taken() {
    let api = started();
    api.fail("services", Verb::Watch, FOREVER, Fault::Status(403, None));
    let mut view = View::wide(&api, MUCH);
    view.until("refused", |view| {
        view.errors("services", Reason::Forbidden) >= 1
    })
    .await;
    add(&api, service("a"));
    view.names(Kind::Service, &["a"]).await;
    assert!(!view.state("services").synced || api.requests("services", Verb::List) > 1);
}

#[tokio::test]
async fn lists_that_stall_break_or_are_garbage_are_tried_again() {
    let faults = [
        (Fault::Stall, Reason::Timeout),
        (Fault::Cut, Reason::Unreachable),
        (Fault::Close, Reason::Unreachable),
        (Fault::Garbage(b"<html>".to_vec()), Reason::Unreadable),
        (Fault::Garbage(b"{}".to_vec()), Reason::Unreadable),
        (Fault::Status(500, None), Reason::Refused),
    ];
    for (fault, reason) in faults {
        let api = started();
        add(&api, service("a"));
        api.fail("services", Verb::List, 1, fault.clone());
        let mut view = View::wide(&api, MUCH);
        view.names(Kind::Service, &["a"]).await;
        assert_eq!(
            view.errors("services", reason),
            1,
            "{fault:?}: {:?}",
            view.report()
        );
    }
}

#[tokio::test]
async fn watches_that_break_go_on_from_where_they_were() {
    let faults = [
        Fault::Cut,
        Fault::Close,
        Fault::Stall,
        Fault::Garbage(b"garbage\n".to_vec()),
        Fault::Garbage(b"{\"type\":\"ADDED\",\"obj".to_vec()),
        Fault::Status(503, None),
    ];
    for fault in faults {
        let api = started();
        add(&api, service("a"));
        let mut view = View::wide(&api, MUCH);
        view.names(Kind::Service, &["a"]).await;
        api.fail("services", Verb::Watch, 1, fault.clone());
        api.end_watches("services");
        add(&api, service("b"));
        view.names(Kind::Service, &["a", "b"]).await;
        view.synced("services").await;
        assert_eq!(api.requests("services", Verb::List), 1, "{fault:?}");
    }
}

#[tokio::test]
async fn a_watch_that_says_nothing_is_renewed() {
    let api = started();
    add(&api, service("a"));
    api.fail("services", Verb::Watch, 1, Fault::Silent);
    let mut view = View::wide(&api, LITTLE);
    view.names(Kind::Service, &["a"]).await;
    add(&api, service("b"));
    view.names(Kind::Service, &["a", "b"]).await;
    assert!(view.errors("services", Reason::Timeout) >= 1);
    assert_eq!(api.requests("services", Verb::List), 1);
    // Silence alone says nothing against what is known.
    assert!(view.state("services").synced);
}

#[tokio::test]
async fn watches_that_end_at_once_are_no_storm() {
    let api = started();
    api.fail("services", Verb::Watch, FOREVER, Fault::EndAtOnce);
    let mut view = View::wide(&api, MUCH);
    view.synced("services").await;
    let start = Instant::now();
    view.until("four watches", |_| {
        api.requests("services", Verb::Watch) == 4
    })
    .await;
    // At least 250, 500 and 1,000 ms lie between them.
    assert!(
        start.elapsed() >= Duration::from_millis(1_500),
        "{:?}",
        start.elapsed()
    );
    api.heal("services");
    add(&api, service("a"));
    view.names(Kind::Service, &["a"]).await;
}

#[tokio::test]
async fn a_server_that_comes_late_goes_and_comes_back_is_followed() {
    let mut api = started();
    add(&api, service("a"));
    api.down();
    let mut view = View::wide(&api, MUCH);
    view.until("absence", |view| {
        view.errors("services", Reason::Unreachable) > 0
    })
    .await;
    assert_eq!(view.state("services").failing, Some(Reason::Unreachable));
    api.up().expect("up");
    view.names(Kind::Service, &["a"]).await;
    view.until("all is well", |view| view.report().stale_since().is_none())
        .await;
    let errors = view.errors("services", Reason::Unreachable);
    api.down();
    view.until("another absence", |view| {
        view.errors("services", Reason::Unreachable) > errors
    })
    .await;
    assert!(
        view.report()
            .stale_since()
            .is_some_and(|heard| heard.is_some())
    );
    add(&api, service("b"));
    api.up().expect("up");
    view.names(Kind::Service, &["a", "b"]).await;
    view.synced("services").await;
}

#[tokio::test]
async fn a_renewed_token_is_taken_when_the_old_one_is_refused() {
    let api = started();
    api.accept_only(&["old"]);
    add(&api, service("a"));
    let mut view = View::with(&api, MUCH, |path| {
        fs::write(path, "old").expect("a token");
        User::TokenFile(path)
    });
    view.link.want(true, Instant::now());
    view.names(Kind::Service, &["a"]).await;
    api.accept_only(&["new"]);
    api.end_watches("services");
    view.until("a refusal", |view| {
        view.errors("services", Reason::Unauthorized) > 0
    })
    .await;
    fs::write(view.folder.join("token"), "new").expect("a token");
    add(&api, service("b"));
    view.names(Kind::Service, &["a", "b"]).await;
    assert_eq!(api.asked().last().expect("a request").token, "new");
}

#[tokio::test]
async fn a_configuration_that_is_mended_is_used() {
    let api = started();
    add(&api, pod("here", NODE));
    let mut view = View::with(&api, MUCH, |path| User::TokenFile(path));
    let lacks = |view: &View| view.errors("pods", Reason::Credentials) > 0;
    view.until("the lack of a token", lacks).await;
    fs::write(view.folder.join("token"), "late").expect("a token");
    view.names(Kind::Pod, &["here"]).await;
}

#[tokio::test]
async fn an_object_that_cannot_be_read_spoils_nothing() {
    let api = started();
    add(&api, service("a"));
    let mut view = View::wide(&api, MUCH);
    view.names(Kind::Service, &["a"]).await;
    view.until("an open watch", |_| watched(&api)).await;
    api.send(
        "services",
        "{\"type\":\"ADDED\",\"object\":{\"metadata\":{\"name\":7}}}\n",
    );
    add(&api, service("b"));
    view.names(Kind::Service, &["a", "b"]).await;
    assert_eq!(view.errors("services", Reason::Unreadable), 1);
    assert_eq!(api.requests("services", Verb::Watch), 1);
}
