//! Causes as Kubernetes Events: real kernel, nginx and API server, and what `kubectl describe` shows of
//! them, with the rights of `deploy/` and without.
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::Result;
use serde_json::json;
use tests::apiserver::ApiServer;
use tests::client::PATIENCE;
use tests::node::{Node, Pod};
use tests::wait;

const PORT: u16 = 8000;
const ROUTES: &str = "location /cart/ { proxy_pass http://$POD:8000; }\n\
    location /wrong/ { proxy_pass http://$POD:8001; }";
const ERRORS: &str = "ingress_trace_kube_errors_total";

/// Pod `cart-0`, which listens on one of the two ports that the routes lead to.
fn with_cart(
    server: &std::sync::Arc<ApiServer>,
    test: impl FnOnce(&Node, &Pod<'_>) -> Result<()>,
) -> Result<()> {
    let namespace = server.namespace("events")?;
    let node = Node::new(server, namespace.name(), ROUTES)?;
    node.service("cart", "cart", json!(8001))?;
    let pod = node.pod("cart-0", PORT)?;
    node.await_endpoints("cart", &[(pod.address(), true, false)])?;
    pod.run(&[])?;
    test(&node, &pod)
}

/// The lines of Events that kubectl shows of an object, once there is this word among them.
fn described(node: &Node, kind: &str, name: &str, word: &str) -> Result<String> {
    let describe = ["-n", &node.namespace, "describe", kind, name];
    wait::until(word, 2 * PATIENCE, || {
        let text = node.server.kubectl(&describe).ok()?;
        let (_, events) = text.split_once("Events:")?;
        events.contains(word).then(|| events.to_owned())
    })
}

#[test]
fn kubectl_describe_shows_a_cause_at_its_service_or_pod_and_how_often_it_came() -> Result<()> {
    let server = std::sync::Arc::new(ApiServer::start()?);
    server.await_account("default")?;
    with_cart(&server, |node, pod| {
        server.allow_events()?;
        let agent = node.agent(&["--kube-events"])?;
        for number in 0..5 {
            node.ask(&format!("/wrong/{number}"), 502)?;
        }
        let events = described(node, "service", "cart", "WrongPort")?;
        for word in ["Warning", "ingress-trace", "listens on 8000, not on 8001"] {
            assert!(events.contains(word), "{word}: {events}");
        }
        assert_eq!(events.matches("WrongPort").count(), 1, "{events}");

        pod.signal(libc::SIGKILL);
        pod.ended()?;
        pod.tell_ended("Error")?;
        node.ask("/cart/down", 502)?;
        let events = described(node, "pod", "cart-0", "BackendCrashed")?;
        assert!(events.contains("ended with Error (1)"), "{events}");

        // Changed once a minute at most: the count of what has come meanwhile.
        sleep(Duration::from_secs(55));
        let events = described(node, "service", "cart", "(x5 over")?;
        assert_eq!(events.matches("WrongPort").count(), 1, "{events}");
        let page = agent.metrics()?;
        assert_eq!(page.count(ERRORS, &[("resource", "events")]), 0);
        agent.stop().map(drop)
    })
}

#[test]
fn what_still_waits_when_the_agent_ends_is_told_and_a_silent_api_does_not_hold_it_up() -> Result<()>
{
    let server = std::sync::Arc::new(ApiServer::start()?);
    server.await_account("default")?;
    with_cart(&server, |node, _| {
        server.allow_events()?;
        let agent = node.agent(&["--kube-events"])?;
        node.ask("/wrong/first", 502)?;
        described(node, "service", "cart", "WrongPort")?;
        for number in 0..3 {
            let path = format!("/wrong/{number}");
            node.ask(&path, 502)?;
            node.told(&agent, &path)?;
        }
        node.ask("/cart/now?do=busy", 503)?;
        let found = agent.stop_by(libc::SIGTERM)?;
        assert_eq!(found.len(), 5);
        let events = described(node, "service", "cart", "(x4 over")?;
        assert_eq!(events.matches("WrongPort").count(), 1, "{events}");
        described(node, "pod", "cart-0", "UpstreamError")?;

        let agent = node.agent(&["--kube-events"])?;
        server.silent(true);
        let asked = node.ask("/wrong/late", 502);
        let (log, began) = (agent.log(), Instant::now());
        let ended = agent.stop_by(libc::SIGTERM);
        let took = began.elapsed();
        server.silent(false);
        asked.and(ended)?;
        let log = std::fs::read_to_string(log)?;
        // One is left: it stands at the end of the line.
        let left =
            |line: &&str| line.contains("Kubernetes Events that wait") && line.ends_with('1');
        assert_eq!(log.lines().filter(left).count(), 1, "{log}");
        assert!(took < Duration::from_secs(5), "{took:?}");
        Ok(())
    })
}

#[test]
fn without_the_right_to_write_events_all_else_goes_on_and_the_remedy_is_told() -> Result<()> {
    let server = std::sync::Arc::new(ApiServer::start()?);
    server.await_account("default")?;
    with_cart(&server, |node, _| {
        let agent = node.agent(&["--kube-events"])?;
        node.ask("/wrong/forbidden", 502)?;
        let labels = [("resource", "events"), ("reason", "forbidden")];
        agent.metric("the refusal", |page| page.count(ERRORS, &labels) == 1)?;
        let log = agent.errors();
        assert!(log.contains("deploy/rbac-events.yaml"), "{log}");
        node.ask("/wrong/after", 502)?;
        let after = node.told(&agent, "/wrong/after")?;
        assert_eq!(after.text("/cause"), "wrong_port");
        agent.stop().map(drop)
    })
}

#[test]
fn nobody_who_did_not_ask_for_events_has_them_written() -> Result<()> {
    let server = ApiServer::shared()?;
    with_cart(&server, |node, _| {
        let agent = node.agent(&[])?;
        node.ask("/wrong/quiet", 502)?;
        node.told(&agent, "/wrong/quiet")?;
        let asked = agent.metrics()?;
        let requests = "ingress_trace_kube_requests_total";
        assert_eq!(asked.count(requests, &[("resource", "events")]), 0);
        agent.stop().map(drop)
    })
}
