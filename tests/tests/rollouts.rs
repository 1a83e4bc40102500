//! Rollouts under constant traffic on each of the five data planes, in a real cluster: done right they
//! are silent, done wrong they are told as what they are and as nothing else.
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result, ensure};
use serde_json::json;
use tests::agent::{Agent, Finding};
use tests::apiserver::ApiServer;
use tests::client;
use tests::edge::pause;
use tests::expect::Differences;
use tests::node::{Node, Pod};
use tests::planes::life::{meanwhile, note, reload};
use tests::planes::own::Own;
use tests::planes::{Plane, checks, each};

const PORT: u16 = 8000;
const APP: &str = "cart";
/// Pods before it, and as many after it.
const PODS: usize = 2;
const CLIENTS: usize = 4;
/// Milliseconds between a client's requests.
const PACE: u64 = 10;
/// Milliseconds that a pod serves on after its deletion: Traefik takes two seconds to read its file.
const SLEEP: u64 = 4000;
/// Milliseconds that a controller leads to a pod that has ended: they gather changes.
const LAG: u64 = 1000;
/// A request that is known to fail.
const MARKER: &str = "/refused/marker";

/// When a pod is told to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// Once no proxy leads there any more.
    Drained,
    /// At once.
    AtOnce,
}

/// A pod as its Service has it: address, ready, terminating.
type Endpoint = (std::net::IpAddr, bool, bool);

/// A Deployment's pods, the old ones first, and the proxy before them.
struct Rollout<'a> {
    node: &'a Node,
    plane: Plane,
    own: Own,
    pods: Vec<Pod<'a>>,
    endpoints: Vec<Endpoint>,
}

impl<'a> Rollout<'a> {
    fn new(node: &'a Node, plane: Plane) -> Result<Self> {
        node.service(APP, APP, json!(PORT))?;
        let old = node.addresses.iter().take(PODS);
        let fine: Vec<_> = old.map(|ip| SocketAddr::new(*ip, PORT)).collect();
        let own = Own::start(&node.bed, plane, &checks::files(plane, &fine, false)?)?;
        let mut rollout = Self {
            node,
            plane,
            own,
            pods: Vec::new(),
            endpoints: Vec::new(),
        };
        for _ in 0..PODS {
            rollout.start()?;
        }
        Ok(rollout)
    }

    /// One more pod, which serves before it is ready.
    fn start(&mut self) -> Result<()> {
        let number = self.pods.len();
        let name = format!("{APP}-{number}");
        let pod = self.node.member(&name, self.node.addresses[number], PORT)?;
        pod.run(&[])?;
        self.endpoints.push((pod.address(), true, false));
        self.pods.push(pod);
        self.told()
    }

    /// Waits until the cluster says what is.
    fn told(&self) -> Result<()> {
        self.node.await_endpoints(APP, &self.endpoints)
    }

    /// Has the proxy lead to what is ready.
    fn follow(&mut self) -> Result<()> {
        let ready = self.endpoints.iter().filter(|(_, ready, _)| *ready);
        let fine: Vec<_> = ready.map(|(ip, ..)| SocketAddr::new(*ip, PORT)).collect();
        reload(&mut self.own, &self.node.bed, self.plane, &fine)
    }

    /// A pod's end, from its deletion on.
    fn end(&mut self, number: usize, how: End) -> Result<()> {
        let Node {
            server, namespace, ..
        } = self.node;
        server.delete_pod(namespace, self.pods[number].name(), 30)?;
        let leaving = self.pods[number].address();
        let place = self.endpoints.iter().position(|(ip, ..)| *ip == leaving);
        let place = place.context("it has no endpoint")?;
        self.endpoints[place] = (leaving, false, true);
        if how == End::Drained {
            self.told()?;
            self.follow()?;
            pause(SLEEP);
            self.stop(number)?;
        } else {
            self.stop(number)?;
            self.told()?;
            pause(LAG);
            self.follow()?;
            pause(SLEEP);
        }
        server.end(namespace, self.pods[number].name())?;
        self.endpoints.remove(place);
        self.told()
    }

    fn stop(&self, number: usize) -> Result<()> {
        let pod = &self.pods[number];
        pod.signal(libc::SIGTERM);
        pod.ended()?;
        pod.tell_stopped()
    }

    /// Each old pod after a new one is ready.
    fn run(&mut self, how: End) -> Result<()> {
        for number in 0..PODS {
            self.start()?;
            self.follow()?;
            self.end(number, how)?;
        }
        Ok(())
    }
}

/// What came of a rollout.
struct Told {
    requests: usize,
    /// Paths whose clients got an error of the proxy.
    failed: Vec<String>,
    findings: Vec<Finding>,
}

/// The status that a client got.
fn ask(node: &Node, path: &str) -> Result<u16> {
    let got = client::get(&node.bed, node.at(), path)?;
    got.status.with_context(|| format!("{path}: {got:?}"))
}

fn rollout(plane: Plane, server: &Arc<ApiServer>, how: End) -> Result<Told> {
    let namespace = server.namespace(plane.word())?;
    let node = Node::bare(server, namespace.name(), plane, 2 * PODS as u8)?;
    let mut rollout = Rollout::new(&node, plane)?;
    let agent = node.agent(&[])?;
    let (requests, failed) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let asks = |client: usize, number: usize| {
        pause(PACE);
        let path = format!("/{client}-{number}");
        // A process on its way out closes connections that have just come.
        let status = ask(&node, &path).or_else(|_| ask(&node, &path))?;
        requests.fetch_add(1, Ordering::Relaxed);
        if status >= 500 {
            failed.lock().expect("no thread panics with it").push(path);
        }
        Ok(())
    };
    meanwhile(CLIENTS, asks, || rollout.run(how))?;
    Ok(Told {
        requests: requests.into_inner(),
        failed: failed.into_inner().expect("no thread panics with it"),
        findings: finish(&node, agent)?,
    })
}

/// All findings but the marker's, and those of slow exchanges, which are warnings.
fn finish(node: &Node, agent: Agent) -> Result<Vec<Finding>> {
    let got = client::get(&node.bed, node.at(), MARKER)?;
    ensure!(got.status >= Some(500), "{got:?}");
    agent.finding("the marker", |one| one.path() == MARKER)?;
    let mut found = agent.stop()?;
    found.retain(|one| one.path() != MARKER && one.text("/outcome") != "slow");
    Ok(found)
}

/// One rollout on every data plane; what is wrong with any, all at once.
fn on_all(how: End, check: fn(&Told) -> Vec<String>) -> Result<()> {
    static ONE: Mutex<()> = Mutex::new(());
    let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    let server = ApiServer::shared()?;
    let differences = Mutex::new(Differences::default());
    each(|plane| {
        let told = rollout(plane, &server, how)?;
        let (count, all, failed) = (told.findings.len(), told.requests, told.failed.len());
        println!("{plane:?} {how:?}: {count} findings, {failed} of {all} requests failed");
        if all <= 200 {
            note(&differences, format!("{plane:?}: only {all} requests"));
        }
        for wrong in check(&told) {
            note(&differences, format!("{plane:?}: {wrong}"));
        }
        Ok(())
    })?;
    let differences = differences.into_inner();
    differences.expect("no thread panics with it").finish("");
    Ok(())
}

#[test]
fn a_rollout_that_drains_before_it_ends_is_silent() -> Result<()> {
    on_all(End::Drained, |told| {
        let mut wrong: Vec<String> = told.findings.iter().map(|one| one.0.to_string()).collect();
        wrong.extend(told.failed.iter().map(|path| format!("{path} failed")));
        wrong
    })
}

#[test]
fn a_rollout_that_ends_pods_at_once_is_told_as_that_and_as_nothing_else() -> Result<()> {
    on_all(End::AtOnce, |told| {
        let right = |one: &&Finding| {
            one.text("/cause") == "pod_terminating"
                && one.text("/backend/service") == APP
                && matches!(one.text("/backend/pod"), "cart-0" | "cart-1")
                && one.0["fix"].to_string().contains("patch statefulset cart")
        };
        let others = told.findings.iter().filter(|one| !right(one));
        let mut wrong: Vec<String> = others.map(|one| one.0.to_string()).collect();
        if told.findings.is_empty() {
            wrong.push("nothing was told".to_owned());
        }
        let unseen = |path: &&String| {
            let visible =
                |one: &Finding| one.path() == **path && one.text("/client_visible") == "yes";
            !told.findings.iter().any(visible)
        };
        let unseen = told.failed.iter().filter(unseen);
        wrong.extend(unseen.map(|path| format!("{path} failed and was not told")));
        wrong
    })
}
