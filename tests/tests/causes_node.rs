//! Causes that lie in the backend's own side, or in its cluster, on this very node: each provoked for
//! real (kernel, nginx, API server), and the finding's cause, objects, status and evidence compared.
use std::net::SocketAddr;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde_json::json;
use tests::agent::{Agent, Finding};
use tests::apiserver::ApiServer;
use tests::bed::Host;
use tests::client::{Connection, request};
use tests::node::{Node, Pod};
use tests::objects;

const PORT: u16 = 8000;
/// `/cart/` leads to the port on which the pod listens, `/wrong/` to one on which it does not.
const ROUTES: &str = "proxy_read_timeout 1500ms;\n\
    location /cart/ { proxy_pass http://$POD:8000; }\n\
    location /wrong/ { proxy_pass http://$POD:8001; }\n\
    location /pool/ { proxy_pass http://pool; proxy_set_header Connection ''; }\n\
    location /both/ { proxy_pass http://both; }\n\
    location /empty/ { return 503; }";

/// What the finding says, all at once.
fn expect(finding: &Finding, cause: &str, status: u16, words: &[&str]) -> Result<()> {
    let evidence = finding.0["evidence"].to_string();
    let mut missing = words.iter().filter(|word| !evidence.contains(**word));
    ensure!(
        finding.text("/cause") == cause
            && finding.status() == Some(status)
            && finding.text("/client_visible") == "yes"
            && missing.next().is_none(),
        "wanted {cause} {status} {words:?}, got {:#}",
        finding.0
    );
    Ok(())
}

fn names(finding: &Finding, node: &Node) -> Result<()> {
    let name = |name: &str| finding.text(&format!("/backend/{name}")).to_owned();
    let names = [name("namespace"), name("service"), name("pod")];
    let wanted = [
        node.namespace.clone(),
        "cart".to_owned(),
        "cart-0".to_owned(),
    ];
    ensure!(names == wanted, "{names:?} instead of {wanted:?}");
    Ok(())
}

/// A node with pod `cart-0`, ready, behind Service `cart` with this target port, and an agent.
fn with_cart(
    word: &str,
    target: u16,
    test: impl FnOnce(&Node, &Pod<'_>, &Agent) -> Result<()>,
) -> Result<()> {
    let server = ApiServer::shared()?;
    let namespace = server.namespace(word)?;
    let node = Node::new(&server, namespace.name(), ROUTES)?;
    node.service("cart", "cart", json!(target))?;
    let pod = node.pod("cart-0", PORT)?;
    node.await_endpoints("cart", &[(pod.address(), true, false)])?;
    let agent = node.agent(&[])?;
    test(&node, &pod, &agent)?;
    agent.stop().map(drop)
}

/// One request fails in this way.
fn fails(
    node: &Node,
    agent: &Agent,
    path: &str,
    status: u16,
    cause: &str,
    words: &[&str],
) -> Result<()> {
    node.ask(path, status)?;
    let finding = node.told(agent, path)?;
    names(&finding, node)?;
    expect(&finding, cause, status, words)
}

/// Requests succeed for some seconds: long enough for the agent to read the pod's counters.
fn works(node: &Node, seconds: u64) -> Result<()> {
    let until = Instant::now() + Duration::from_secs(seconds);
    while Instant::now() < until {
        node.ask("/cart/fine", 200)?;
        sleep(Duration::from_millis(100));
    }
    Ok(())
}

/// Opens as many connections to the pod, past the ingress.
fn hold(node: &Node, pod: &Pod<'_>, count: usize) -> Result<Vec<Connection>> {
    let at = SocketAddr::new(pod.address(), PORT);
    (0..count)
        .map(|_| Connection::open(&node.bed, at))
        .collect()
}

#[test]
fn an_accept_queue_that_nobody_empties_is_the_backends_overload() -> Result<()> {
    with_cart("deaf", PORT, |node, pod, agent| {
        pod.run(&["--deaf", "--backlog", "0"])?;
        let _held = hold(node, pod, 1)?;
        node.ask("/cart/first", 504)?;
        // The first look is what the second failure is compared with.
        sleep(Duration::from_millis(300));
        let words = ["1 connections wait to be accepted on 8000"];
        fails(node, agent, "/cart/deaf", 504, "backend_overloaded", &words)
    })
}

#[test]
fn a_backend_without_descriptors_is_overloaded() -> Result<()> {
    with_cart("descriptors", PORT, |node, pod, agent| {
        pod.run(&["--descriptors", "10"])?;
        let _held = hold(node, pod, 8)?;
        let words = ["of 10 descriptors"];
        fails(node, agent, "/cart/full", 504, "backend_overloaded", &words)
    })
}

#[test]
fn a_backend_that_its_cpu_quota_holds_back_is_overloaded() -> Result<()> {
    with_cart("quota", PORT, |node, pod, agent| {
        pod.run(&[])?;
        works(node, 3)?;
        pod.container().quota(2)?;
        let (path, words) = ("/cart/slow?ms=200", ["CPU quota of pod cart-0"]);
        node.ask(path, 504)?;
        let finding = node.told(agent, "/cart/slow")?;
        names(&finding, node)?;
        expect(&finding, "backend_overloaded", 504, &words)
    })
}

#[test]
fn a_backend_that_is_only_slow_is_late_and_nothing_else() -> Result<()> {
    with_cart("slow", PORT, |node, pod, agent| {
        pod.run(&[])?;
        works(node, 3)?;
        node.ask("/cart/slow?ms=3000", 504)?;
        let finding = node.told(agent, "/cart/slow")?;
        names(&finding, node)?;
        expect(&finding, "backend_timeout", 504, &["no response byte"])
    })
}

#[test]
fn a_frozen_backend_is_late_and_said_to_be_frozen() -> Result<()> {
    with_cart("frozen", PORT, |node, pod, agent| {
        pod.run(&[])?;
        works(node, 1)?;
        pod.container().freeze(true)?;
        let result = fails(
            node,
            agent,
            "/cart/ice",
            504,
            "backend_timeout",
            &["is frozen"],
        );
        pod.container().freeze(false)?;
        result
    })
}

#[test]
fn a_process_that_its_memory_limit_killed_is_seen_without_a_word_of_the_api() -> Result<()> {
    with_cart("oom", PORT, |node, pod, agent| {
        pod.container().memory(48)?;
        pod.run(&[])?;
        works(node, 3)?;
        node.ask("/cart/eat?mb=200", 502)?;
        pod.ended()?;
        let finding = node.told(agent, "/cart/eat")?;
        names(&finding, node)?;
        let words = ["killed for want of memory"];
        expect(&finding, "backend_oom_killed", 502, &words)
    })
}

#[test]
fn a_container_that_the_api_tells_to_be_killed_for_memory_is_named() -> Result<()> {
    with_cart("told", PORT, |node, pod, agent| {
        pod.container().memory(48)?;
        pod.run(&[])?;
        node.ask("/cart/eat?mb=200", 502)?;
        pod.ended()?;
        pod.tell_ended("OOMKilled")?;
        let finding = node.told(agent, "/cart/eat")?;
        names(&finding, node)?;
        let words = ["container main of pod cart-0 ended with OOMKilled (137)"];
        expect(&finding, "backend_oom_killed", 502, &words)
    })
}

#[test]
fn a_container_that_ended_by_itself_has_crashed_also_for_those_who_come_later() -> Result<()> {
    with_cart("crash", PORT, |node, pod, agent| {
        pod.run(&[])?;
        let mut client = Connection::open(&node.bed, node.at())?;
        client.send(request("GET", "/cart/busy?ms=1200", "").as_bytes())?;
        sleep(Duration::from_millis(300));
        pod.signal(libc::SIGKILL);
        pod.ended()?;
        ensure!(client.answer()?.status == Some(502), "the request survived");
        pod.tell_ended("Error")?;
        let words = ["container main of pod cart-0 ended with Error (1)"];
        let finding = node.told(agent, "/cart/busy")?;
        names(&finding, node)?;
        expect(&finding, "backend_crashed", 502, &words)?;
        fails(node, agent, "/cart/down", 502, "backend_crashed", &words)
    })
}

#[test]
fn what_was_seen_of_a_backend_before_and_of_its_sibling_is_said() -> Result<()> {
    with_cart("siblings", PORT, |node, pod, agent| {
        pod.run(&[])?;
        let other = node.sibling("cart-1", PORT)?;
        let both = [(pod.address(), true, false), (other.address(), true, false)];
        node.await_endpoints("cart", &both)?;
        other.run(&[])?;
        let until = Instant::now() + Duration::from_secs(3);
        while Instant::now() < until {
            node.ask("/both/fine", 200)?;
        }
        pod.signal(libc::SIGKILL);
        pod.ended()?;
        pod.tell_ended("Error")?;
        let statuses = [node.get("/both/one")?.status, node.get("/both/two")?.status];
        ensure!(statuses.contains(&Some(502)) && statuses.contains(&Some(200)));
        let fails = |one: &Finding| one.path().starts_with("/both/") && one.path() != "/both/fine";
        let finding = agent.finding("the pod's end", fails)?;
        names(&finding, node)?;
        let words = [
            "this address had last succeeded within the",
            "other pods of the Service within 10 s: 1 answered, 0 failed in the same way",
        ];
        expect(&finding, "backend_crashed", 502, &words)
    })
}

#[test]
fn a_pooled_connection_that_the_backend_had_closed_is_a_race() -> Result<()> {
    with_cart("race", PORT, |node, pod, agent| {
        // Its FIN is lost: to nginx the connection is as good as new.
        let rules = format!(
            "table inet fence {{ chain out {{ type filter hook output priority 0;\n\
             ip saddr {} tcp sport {PORT} tcp flags & fin == fin drop\n}}\n}}\n",
            pod.address()
        );
        node.bed.nft(Host::Backend, &rules)?;
        pod.run(&["--once"])?;
        node.ask("/pool/first", 200)?;
        sleep(Duration::from_millis(100));
        fails(
            node,
            agent,
            "/pool/second",
            502,
            "keepalive_race",
            &["exchange 2"],
        )
    })
}

#[test]
fn an_ingress_without_local_ports_blames_nobody_else() -> Result<()> {
    with_cart("ports", PORT, |node, pod, agent| {
        pod.run(&[])?;
        let range = "ipv4/ip_local_port_range";
        node.bed.sysctl(Host::Proxy, range, "40000 40000")?;
        let mut holder = Connection::open(&node.bed, node.at())?;
        holder.send(request("GET", "/cart/busy?ms=400", "").as_bytes())?;
        sleep(Duration::from_millis(100));
        let words = ["EADDRNOTAVAIL", "1 of 1 local ports"];
        fails(
            node,
            agent,
            "/cart/third",
            502,
            "ingress_ports_exhausted",
            &words,
        )?;
        ensure!(holder.answer()?.status == Some(200));
        Ok(())
    })
}

#[test]
fn a_target_port_on_which_nothing_listens_is_the_wrong_one() -> Result<()> {
    with_cart("port", 8001, |node, pod, agent| {
        pod.run(&[])?;
        let words = ["pod cart-0 listens on 8000, not on 8001"];
        fails(node, agent, "/wrong/here", 502, "wrong_port", &words)
    })
}

#[test]
fn a_pod_that_ends_when_it_is_told_to_is_terminating() -> Result<()> {
    with_cart("drain", PORT, |node, pod, agent| {
        pod.run(&[])?;
        works(node, 1)?;
        node.server.delete_pod(&node.namespace, "cart-0", 30)?;
        node.await_endpoints("cart", &[(pod.address(), false, true)])?;
        pod.signal(libc::SIGTERM);
        pod.ended()?;
        fails(
            node,
            agent,
            "/cart/gone",
            502,
            "pod_terminating",
            &["cart-0"],
        )
    })
}

#[test]
fn a_pod_that_is_not_ready_is_no_crash() -> Result<()> {
    with_cart("unready", PORT, |node, pod, agent| {
        pod.tell_ready(false)?;
        node.await_endpoints("cart", &[(pod.address(), false, false)])?;
        let words = ["pod cart-0 was not Ready"];
        fails(node, agent, "/cart/early", 502, "backend_not_ready", &words)
    })
}

#[test]
fn packets_that_a_firewall_drops_are_the_networks_fault() -> Result<()> {
    with_cart("drop", PORT, |node, pod, agent| {
        pod.run(&[])?;
        works(node, 3)?;
        filter(node, "drop")?;
        let words = ["its accept queues did not overflow"];
        fails(
            node,
            agent,
            "/cart/dropped",
            504,
            "network_unreachable",
            &words,
        )
    })
}

#[test]
fn a_firewall_that_answers_for_an_open_port_is_the_networks_fault() -> Result<()> {
    with_cart("reject", PORT, |node, pod, agent| {
        pod.run(&[])?;
        works(node, 1)?;
        filter(node, "reject with tcp reset")?;
        let words = ["the pod listens on 8000"];
        fails(
            node,
            agent,
            "/cart/rejected",
            502,
            "network_unreachable",
            &words,
        )
    })
}

fn filter(node: &Node, verdict: &str) -> Result<()> {
    let rules = format!(
        "table inet fence {{ chain in {{ type filter hook input priority 0;\n\
         ip daddr {} tcp dport {PORT} {verdict}\n}}\n}}\n",
        node.addresses[0]
    );
    node.bed.nft(Host::Backend, &rules)
}

#[test]
fn an_unanswered_connect_to_a_node_that_is_not_ready_is_the_nodes_fault() -> Result<()> {
    with_cart("node", PORT, |node, pod, agent| {
        pod.run(&[])?;
        filter(node, "drop")?;
        node.tell_ready(false)?;
        sleep(Duration::from_millis(500));
        fails(
            node,
            agent,
            "/cart/dead",
            504,
            "node_not_ready",
            &["is not ready"],
        )
    })
}

#[test]
fn an_address_that_another_pod_has_by_now_is_stale() -> Result<()> {
    with_cart("reused", PORT, |node, pod, agent| {
        pod.run(&[])?;
        works(node, 1)?;
        pod.signal(libc::SIGKILL);
        pod.ended()?;
        node.server.end(&node.namespace, "cart-0")?;
        node.await_endpoints("cart", &[])?;
        node.service("other", "other", json!(9000))?;
        let other = node.pod("other-0", 9000)?;
        node.await_endpoints("other", &[(other.address(), true, false)])?;
        fails(
            node,
            agent,
            "/cart/moved",
            502,
            "stale_endpoint",
            &["now to pod"],
        )
    })
}

#[test]
fn a_route_whose_service_has_no_ready_endpoint_is_told_before_and_when_it_fails() -> Result<()> {
    const DEAD: &str = "ingress_trace_routes_without_endpoints";
    let server = ApiServer::shared()?;
    let namespace = server.namespace("empty")?;
    let space = namespace.name();
    let node = Node::new(&server, space, ROUTES)?;
    node.service("cart", "cart", json!(PORT))?;
    let paths = [("/empty", "cart", 80)];
    server.apply(&objects::ingress(space, "web", "nginx", "", &paths))?;
    let agent = node.agent(&[])?;
    let labels = [("backend_namespace", space), ("backend_service", "cart")];
    agent.metric("the dead route", |page| page.count(DEAD, &labels) == 1)?;
    node.ask("/empty/here", 503)?;
    let finding = node.told(&agent, "/empty/here")?;
    expect(&finding, "no_endpoints", 503, &["no ready endpoint"])?;
    let pod = node.pod("cart-0", PORT)?;
    node.await_endpoints("cart", &[(pod.address(), true, false)])?;
    agent.metric("no dead route", |page| page.sum(DEAD, &labels) == 0.0)?;
    agent.stop().map(drop)
}
