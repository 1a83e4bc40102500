//! The stand-in API itself: each scripted fault is what the client gets, and all is counted.
use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use anyhow::Result;
use serde_json::{Value, json};
use tests::backends::Behavior;
use tests::fake_api::{FOREVER, FakeApi, Fault, Order, Verb};
use tests::kube_client::{KubeClient, Next};
use tests::{objects, shop};

const PODS: &str = "/api/v1/pods";
const SOON: Duration = Duration::from_millis(300);

fn address(last: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(10, 1, 0, last))
}

fn pod(name: &str) -> Value {
    objects::pod("shop", name, "n1", &[address(5)], &[8080])
}

fn bed(pods: &[&str]) -> Result<(FakeApi, KubeClient)> {
    let fake = FakeApi::start()?;
    fake.apply_all(pods.iter().map(|name| pod(name)))?;
    let client = KubeClient::new(fake.address(), None, "")?;
    Ok((fake, client))
}

fn revision(list: &Value) -> &str {
    list["metadata"]["resourceVersion"]
        .as_str()
        .unwrap_or_default()
}

fn names(list: &Value) -> Vec<&str> {
    let items = list["items"].as_array().map(Vec::as_slice);
    let items = items.unwrap_or_default().iter();
    items
        .filter_map(|item| item["metadata"]["name"].as_str())
        .collect()
}

#[test]
fn lists_and_objects_are_as_of_a_real_server() -> Result<()> {
    let (fake, client) = bed(&["cart-0", "cart-1"])?;
    let list = client.get(PODS)?.success()?;
    assert_eq!(
        (list["kind"].as_str(), names(&list)),
        (Some("PodList"), vec!["cart-0", "cart-1"])
    );
    assert_eq!(list["items"][0].get("kind"), None);
    let one = client
        .get("/api/v1/namespaces/shop/pods/cart-1")?
        .success()?;
    assert_eq!(
        (one["kind"].as_str(), one["metadata"]["name"].as_str()),
        (Some("Pod"), Some("cart-1"))
    );
    assert!(one["metadata"]["uid"].is_string());
    let missing = client.get("/api/v1/namespaces/shop/pods/gone")?;
    assert_eq!(
        (missing.status, missing.json()?["reason"].as_str()),
        (404, Some("NotFound"))
    );
    let routes = "/apis/gateway.networking.k8s.io/v1/httproutes";
    assert_eq!(client.get(routes)?.status, 404);
    fake.install_gateway_api();
    fake.apply(objects::http_route(
        "shop",
        "web",
        "shop.example",
        &[("/", "cart", 80)],
    ))?;
    assert_eq!(names(&client.get(routes)?.success()?), ["web"]);
    let groups = client.get("/apis")?.success()?;
    assert!(
        groups.to_string().contains("gateway.networking.k8s.io/v1"),
        "{groups}"
    );
    Ok(())
}

#[test]
fn a_watch_tells_changes_as_they_come_and_ends_in_time() -> Result<()> {
    let (fake, client) = bed(&["cart-0"])?;
    let list = client.get(PODS)?.success()?;
    let from = revision(&list);
    let path = format!("{PODS}?watch=true&allowWatchBookmarks=true&resourceVersion={from}");
    let mut watch = client.watch(&path)?;
    fake.apply(pod("cart-1"))?;
    assert_eq!(watch.brief(), "ADDED cart-1");
    fake.apply(pod("cart-1"))?;
    fake.delete("pods", "shop", "cart-0")?;
    assert_eq!(watch.brief(), "MODIFIED cart-1");
    assert_eq!(watch.brief(), "DELETED cart-0");
    fake.bookmark("pods");
    assert_eq!(watch.brief(), "BOOKMARK");
    assert_eq!(watch.next(SOON), Next::Nothing);
    fake.end_watches("pods");
    assert_eq!(watch.next(SOON), Next::End);
    let start = Instant::now();
    let mut short = client.watch(&format!("{path}&timeoutSeconds=1"))?;
    assert_eq!(short.brief(), "ADDED cart-1");
    assert_eq!(short.brief(), "MODIFIED cart-1");
    assert_eq!(short.brief(), "DELETED cart-0");
    assert_eq!(short.next(Duration::from_secs(5)), Next::End);
    assert!(start.elapsed() > Duration::from_millis(900));
    Ok(())
}

#[test]
fn what_is_too_old_is_gone_in_the_stream_and_in_pages() -> Result<()> {
    let (fake, client) = bed(&["a", "b", "c"])?;
    let first = client.get(&format!("{PODS}?limit=2"))?.success()?;
    assert_eq!(names(&first), ["a", "b"]);
    let token = first["metadata"]["continue"].as_str().unwrap_or_default();
    let next = format!("{PODS}?limit=2&continue={token}");
    assert_eq!(names(&client.get(&next)?.success()?), ["c"]);
    let path = format!("{PODS}?watch=true&resourceVersion={}", revision(&first));
    let mut open = client.watch(&path)?;
    fake.compact();
    let gone = client.get(&next)?;
    assert_eq!(
        (gone.status, gone.json()?["reason"].as_str()),
        (410, Some("Expired"))
    );
    let mut late = client.watch(&path)?;
    assert_eq!(late.brief(), "ERROR 410");
    assert_eq!(late.next(SOON), Next::End);
    fake.apply(pod("d"))?;
    assert_eq!(open.brief(), "ADDED d", "a compaction ends no open watch");
    fake.expire("pods");
    assert_eq!(open.brief(), "ERROR 410");
    assert_eq!(open.next(SOON), Next::End);
    Ok(())
}

#[test]
fn scripted_answers_come_as_often_as_asked_and_for_their_resource_only() -> Result<()> {
    let (fake, client) = bed(&["a"])?;
    fake.fail("pods", Verb::List, 2, Fault::Status(429, Some(7)));
    for _ in 0..2 {
        let answer = client.get(PODS)?;
        assert_eq!(
            (answer.status, answer.header("retry-after")),
            (429, Some("7"))
        );
    }
    assert_eq!(client.get(PODS)?.status, 200);
    fake.fail("services", Verb::List, FOREVER, Fault::Status(403, None));
    for _ in 0..3 {
        let refused = client.get("/api/v1/services")?;
        assert_eq!(
            (refused.status, refused.json()?["reason"].as_str()),
            (403, Some("Forbidden"))
        );
    }
    assert_eq!(client.get(PODS)?.status, 200);
    fake.heal("services");
    assert_eq!(client.get("/api/v1/services")?.status, 200);
    fake.fail(
        "pods",
        Verb::List,
        1,
        Fault::Garbage(b"\xff{not json".to_vec()),
    );
    assert_eq!(client.get(PODS)?.body, b"\xff{not json");
    fake.fail("pods", Verb::List, 1, Fault::Cut);
    assert!(client.get(PODS).is_err());
    fake.fail("pods", Verb::List, 1, Fault::Close);
    assert!(client.get(PODS).is_err());
    let start = Instant::now();
    fake.fail("pods", Verb::List, 1, Fault::Slow(SOON));
    assert_eq!(client.get(PODS)?.status, 200);
    assert!(start.elapsed() >= SOON);
    Ok(())
}

#[test]
fn broken_watches_are_broken_as_scripted() -> Result<()> {
    let (fake, client) = bed(&["a"])?;
    let path = format!("{PODS}?watch=true&resourceVersion=100");
    fake.fail("pods", Verb::Watch, 1, Fault::ExpiredInStream);
    let mut watch = client.watch(&path)?;
    assert_eq!(watch.brief(), "ERROR 410");
    assert_eq!(watch.next(SOON), Next::End);
    fake.fail("pods", Verb::Watch, 1, Fault::EndAtOnce);
    assert_eq!(client.watch(&path)?.next(SOON), Next::End);
    fake.fail("pods", Verb::Watch, 1, Fault::Silent);
    let mut silent = client.watch(&path)?;
    let mut good = client.watch(&path)?;
    let mut next = pod("b");
    fake.hold("pods");
    fake.apply(next.clone())?;
    objects::set_ready(&mut next, false);
    fake.apply(next)?;
    assert_eq!(good.next(SOON), Next::Nothing);
    fake.release("pods", Order::Reversed);
    // Their revisions are below the one that the watch began at: the stand-in counts from 1.
    assert_eq!(silent.next(SOON), Next::Nothing);
    fake.send("pods", "{\"type\":\"MODIFIED\",\"obj\n");
    assert_eq!(
        good.next(SOON),
        Next::Garbage("{\"type\":\"MODIFIED\",\"obj\n".to_owned())
    );
    fake.cut_watches("pods");
    assert_eq!(good.next(SOON), Next::Broken);
    assert_eq!(silent.next(SOON), Next::Nothing);
    Ok(())
}

#[test]
fn delayed_events_can_come_in_the_wrong_order() -> Result<()> {
    let (fake, client) = bed(&["a"])?;
    let list = client.get(PODS)?.success()?;
    let from = revision(&list);
    let mut watch = client.watch(&format!("{PODS}?watch=true&resourceVersion={from}"))?;
    fake.hold("pods");
    fake.apply(pod("b"))?;
    fake.delete("pods", "shop", "b")?;
    assert_eq!(watch.next(SOON), Next::Nothing);
    fake.release("pods", Order::Reversed);
    assert_eq!(watch.brief(), "DELETED b");
    assert_eq!(watch.brief(), "ADDED b");
    Ok(())
}

#[test]
fn a_server_that_goes_down_takes_all_connections_with_it_and_keeps_what_it_knows() -> Result<()> {
    let (mut fake, client) = bed(&["a"])?;
    let mut watch = client.watch(&format!("{PODS}?watch=true&resourceVersion=2"))?;
    fake.fail("services", Verb::List, 1, Fault::Stall);
    let stalled = std::thread::spawn({
        let client = client.clone();
        move || client.get("/api/v1/services").is_err()
    });
    tests::wait::holds("the stalled request", SOON * 10, || {
        fake.requests("services", Verb::List) == 1
    })?;
    fake.down();
    assert!(matches!(watch.next(SOON), Next::Broken));
    assert!(stalled.join().is_ok_and(|failed| failed));
    assert!(client.get(PODS).is_err());
    fake.up()?;
    assert_eq!(names(&client.get(PODS)?.success()?), ["a"]);
    Ok(())
}

#[test]
fn only_good_tokens_are_let_in_and_every_request_is_on_record() -> Result<()> {
    let (fake, client) = bed(&["a"])?;
    fake.accept_only(&["new"]);
    let old = client.with_token("old").get(PODS)?;
    assert_eq!(
        (old.status, old.json()?["reason"].as_str()),
        (401, Some("Unauthorized"))
    );
    let path = format!("{PODS}?fieldSelector=spec.nodeName%3Dn2");
    assert!(names(&client.with_token("new").get(&path)?.success()?).is_empty());
    let asked = fake.asked();
    let tokens = asked.iter().map(|one| (one.token.as_str(), one.status));
    assert_eq!(tokens.collect::<Vec<_>>(), [("old", 401), ("new", 200)]);
    assert_eq!(
        asked[1].query.get("fieldSelector").map(String::as_str),
        Some("spec.nodeName=n2")
    );
    assert_eq!(fake.requests("pods", Verb::List), 2);
    assert_eq!(
        fake.bytes("pods", Verb::List),
        asked.iter().map(|one| one.bytes).sum::<u64>()
    );
    assert!(asked[1].bytes > json!({}).to_string().len() as u64);
    Ok(())
}

#[test]
fn the_shop_has_a_service_for_every_backend_of_the_bed() -> Result<()> {
    let fake = shop::api()?;
    let client = KubeClient::new(fake.address(), None, "")?;
    let slices = client
        .get("/apis/discovery.k8s.io/v1/namespaces/shop/endpointslices")?
        .success()?;
    let ingress = "/apis/networking.k8s.io/v1/namespaces/shop/ingresses/shop";
    let ingress = client.get(ingress)?.success()?;
    let paths = &ingress["spec"]["rules"][0]["http"]["paths"];
    for behavior in Behavior::ALL {
        let endpoint = behavior.endpoint();
        let items = slices["items"].as_array().into_iter().flatten();
        let owners = items.filter(|slice| {
            slice["endpoints"][0]["addresses"][0] == endpoint.ip().to_string()
                && slice["ports"][0]["port"] == endpoint.port()
        });
        let owners = owners.map(|slice| &slice["metadata"]["labels"]["kubernetes.io/service-name"]);
        assert_eq!(owners.collect::<Vec<_>>(), [behavior.word()]);
        let path = format!("/{}", behavior.word());
        let mut routes = paths.as_array().into_iter().flatten();
        let route = routes.find(|route| route["path"] == path);
        let service = route.map(|route| &route["backend"]["service"]["name"]);
        assert_eq!(service, Some(&json!(behavior.word())));
        let service = format!("/api/v1/namespaces/shop/services/{}", behavior.word());
        assert_eq!(client.get(&service)?.status, 200);
    }
    Ok(())
}
