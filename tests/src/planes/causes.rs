//! The most frequent causes, and how a pod of a [`Node`] comes to each: kernel, application and API
//! server in, what each kind of client got out. What is told of it is the test's business.
use std::net::SocketAddr;

use anyhow::{Result, ensure};
use serde_json::json;

use super::Plane;
use super::client::{Client, Connection, Got};
use super::own::{PORT as CLEAR_PORT, TLS_PORT, at};
use super::upstreams::{Route, Speaks, none};
use crate::agent::VERDICT;
use crate::bed::Host;
use crate::client::{self, request};
use crate::edge::pause;
use crate::node::{Node, Pod};
use crate::{h2, https, objects, tls, wait};

const PORT: u16 = 8000;
/// Who asks.
pub const CLIENTS: [Client; 3] = Client::ALL;

/// A cause, and how a pod of its own comes to it.
pub struct Case {
    /// By the contract.
    pub cause: &'static str,
    /// What is done, in words.
    pub what: &'static str,
    /// Its Service, which is its first path segment too; its pod is number 0 of that.
    pub word: &'static str,
    /// Arguments of the pod's application; none: nothing runs in it.
    runs: Option<&'static [&'static str]>,
    /// Where the Service leads to.
    target: u16,
    /// Words of the evidence.
    pub evidence: &'static str,
    /// Words of the fix, with `$NS` for the namespace.
    pub fix: &'static str,
    /// Has its pod come to it, and each kind of client ask.
    pub provoke: Provoke,
}

/// What each kind of client got, in the order of [`CLIENTS`].
pub type All = Vec<Got>;
type Provoke = fn(&Scene, &Pod) -> Result<All>;

impl Case {
    const fn new(
        cause: &'static str,
        what: &'static str,
        word: &'static str,
        evidence: &'static str,
        fix: &'static str,
        provoke: Provoke,
    ) -> Self {
        Self {
            cause,
            what,
            word,
            runs: Some(&[]),
            target: PORT,
            evidence,
            fix,
            provoke,
        }
    }

    /// What a client asks for.
    pub fn path(&self, client: Client) -> String {
        path(self.word, client)
    }

    /// The route to its pod, which is the one of this number.
    pub fn route(&self, node: &Node, number: usize) -> Route {
        let endpoint = SocketAddr::new(node.addresses[number], self.target);
        Route {
            // All others are answered before, however busy the machine is.
            hasty: matches!(self.word, "late" | "dropped" | "stranded"),
            ..Route::new(self.word, endpoint, Speaks::Http)
        }
    }
}

/// In this order: the last one takes the node of all others.
pub fn cases() -> Vec<Case> {
    [ended(), misled(), answered(), network()]
        .into_iter()
        .flatten()
        .collect()
}

fn ended() -> Vec<Case> {
    vec![
        Case::new(
            "pod_terminating",
            "SIGTERM while the route still leads there",
            "leaving",
            "leaving-0",
            "kubectl -n $NS patch statefulset leaving",
            terminate,
        ),
        Case::new(
            "backend_crashed",
            "SIGKILL with a request in flight",
            "crashing",
            "ended with Error (1)",
            "kubectl -n $NS logs crashing-0",
            crash,
        ),
        Case::new(
            "backend_oom_killed",
            "killed by its memory limit",
            "hungry",
            "ended with OOMKilled (137)",
            "hungry-0",
            starve,
        ),
    ]
}

fn misled() -> Vec<Case> {
    vec![
        Case {
            target: PORT + 1,
            ..Case::new(
                "wrong_port",
                "a target port on which nothing listens",
                "mistaken",
                "listens on 8000, not on 8001",
                "kubectl -n $NS patch service mistaken",
                ask_only,
            )
        },
        Case {
            runs: None,
            ..Case::new(
                "backend_not_ready",
                "asked before it listens",
                "early",
                "pod early-0 was not Ready",
                "early-0",
                unready,
            )
        },
        Case {
            runs: None,
            ..Case::new(
                "stale_endpoint",
                "its address belongs to another pod",
                "moved",
                "now to pod other-0",
                "kubectl -n $NS patch statefulset moved",
                stale,
            )
        },
    ]
}

fn answered() -> Vec<Case> {
    vec![
        Case::new(
            "backend_timeout",
            "no answer within the read timeout",
            "late",
            "no response byte",
            "late-0",
            |scene, pod| scene.does(pod, "hang"),
        ),
        Case::new(
            "backend_reset",
            "RST once the request was read",
            "rude",
            "RST",
            "kubectl -n $NS logs rude-0",
            |scene, pod| scene.does(pod, "reset"),
        ),
        Case::new(
            "premature_close",
            "FIN once the request was read",
            "brief",
            "FIN",
            "kubectl -n $NS logs brief-0",
            |scene, pod| scene.does(pod, "close"),
        ),
        Case {
            runs: Some(&["--once"]),
            ..Case::new(
                "keepalive_race",
                "POST on a connection whose FIN was lost",
                "racing",
                "exchange 2",
                "keep idle connections longer",
                race,
            )
        },
        Case {
            runs: Some(&["--tls", "."]),
            ..Case::new(
                "protocol_error",
                "TLS behind a plaintext route",
                "secret",
                "a port that speaks TLS",
                "kubectl -n $NS logs secret-0",
                ask_only,
            )
        },
        Case::new(
            "upstream_error",
            "its own 503",
            "busy",
            "answered 503",
            "kubectl -n $NS logs busy-0",
            |scene, pod| scene.does(pod, "busy"),
        ),
    ]
}

fn network() -> Vec<Case> {
    vec![
        Case::new(
            "network_unreachable",
            "a firewall drops",
            "dropped",
            "SYN",
            "kubectl -n $NS get networkpolicies",
            |scene, pod| fenced(scene, pod, "drop"),
        ),
        Case::new(
            "network_unreachable",
            "a firewall rejects",
            "rejected",
            "pod rejected-0 was Ready",
            "kubectl -n $NS get networkpolicies",
            |scene, pod| fenced(scene, pod, "reject with icmp type admin-prohibited"),
        ),
        Case::new(
            "node_not_ready",
            "its node is gone",
            "stranded",
            "is not ready",
            "kubectl describe node node-of-$NS",
            |scene, pod| {
                fence(scene, pod, "drop")?;
                scene.node.tell_ready(false)?;
                pause(500);
                scene.ask(pod)
            },
        ),
    ]
}

/// What a provocation may use.
pub struct Scene<'a> {
    /// Where it happens.
    pub node: &'a Node,
}

impl Scene<'_> {
    fn ask(&self, pod: &Pod) -> Result<All> {
        each(|client| self.get(client, &path(service(pod), client)))
    }

    fn does(&self, pod: &Pod, what: &str) -> Result<All> {
        each(|client| {
            let path = path(service(pod), client);
            self.get(client, &format!("{path}?do={what}"))
        })
    }

    fn open(&self, client: Client) -> Result<Connection> {
        let port = match client {
            Client::Plain => CLEAR_PORT,
            Client::Tls | Client::H2 => TLS_PORT,
        };
        Connection::to(&self.node.bed, client, at(port))
    }

    /// One GET on a connection of its own.
    pub fn get(&self, client: Client, path: &str) -> Result<Got> {
        let mut connection = self.open(client)?;
        connection.send("GET", path, "Connection: close\r\n", "")
    }

    fn endpoints(&self, pod: &Pod, ready: bool, terminating: bool) -> Result<()> {
        let wanted = [(pod.address(), ready, terminating)];
        self.node.await_endpoints(service(pod), &wanted)
    }
}

/// Each kind of client in turn.
fn each(ask: impl FnMut(Client) -> Result<Got>) -> Result<All> {
    CLIENTS.into_iter().map(ask).collect()
}

/// What a client asks a Service for.
fn path(word: &str, client: Client) -> String {
    format!("/{word}/{}", client.word())
}

fn service<'a>(pod: &'a Pod) -> &'a str {
    pod.name().trim_end_matches("-0")
}

fn ask_only(scene: &Scene, pod: &Pod) -> Result<All> {
    scene.ask(pod)
}

fn terminate(scene: &Scene, pod: &Pod) -> Result<All> {
    let node = scene.node;
    node.server.delete_pod(&node.namespace, pod.name(), 30)?;
    scene.endpoints(pod, false, true)?;
    pod.signal(libc::SIGTERM);
    pod.ended()?;
    scene.ask(pod)
}

fn crash(scene: &Scene, pod: &Pod) -> Result<All> {
    let answers = caught(scene, pod, "do=hang", || pod.signal(libc::SIGKILL))?;
    pod.tell_ended("Error")?;
    Ok(answers)
}

fn starve(scene: &Scene, pod: &Pod) -> Result<All> {
    let answers = caught(scene, pod, "mb=200", || ())?;
    pod.tell_ended("OOMKilled")?;
    Ok(answers)
}

/// A request of each kind of client in flight as the pod ends, of which this may be the reason.
fn caught(scene: &Scene, pod: &Pod, last: &str, end: impl FnOnce()) -> Result<All> {
    let (bed, word) = (&scene.node.bed, service(pod));
    let path = |client, query: &str| format!("{}?{query}", path(word, client));
    let mut encrypted = https::open(bed, at(TLS_PORT))?;
    encrypted.send(request("GET", &path(Client::Tls, "do=hang"), "").as_bytes())?;
    pause(200);
    let modern = h2::Connection::open(bed, at(TLS_PORT))?;
    let stream = modern.ask("GET", &path(Client::H2, "do=hang"), b"")?;
    pause(200);
    let mut clear = client::Connection::open(bed, at(CLEAR_PORT))?;
    clear.send(request("GET", &path(Client::Plain, last), "").as_bytes())?;
    pause(200);
    end();
    pod.ended()?;
    let (clear, encrypted) = (clear.answer()?, encrypted.answer()?);
    Ok(vec![
        clear.into(),
        encrypted.into(),
        stream.answer()?.into(),
    ])
}

fn unready(scene: &Scene, pod: &Pod) -> Result<All> {
    pod.tell_ready(false)?;
    scene.endpoints(pod, false, false)?;
    // What is told of the same second only afterwards may not have been so yet.
    pause(1200);
    scene.ask(pod)
}

fn stale(scene: &Scene, pod: &Pod) -> Result<All> {
    let node = scene.node;
    node.server.end(&node.namespace, pod.name())?;
    node.await_endpoints(service(pod), &[])?;
    node.service("other", "other", json!(9000))?;
    let other = node.member("other-0", pod.address(), 9000)?;
    scene.endpoints(&other, true, false)?;
    scene.ask(pod)
}

fn race(scene: &Scene, pod: &Pod) -> Result<All> {
    let (node, word) = (scene.node, service(pod));
    // Its FIN is lost: to the proxy the connection is as good as new.
    let rules = format!(
        "table inet {word} {{ chain out {{ type filter hook output priority 0;\n\
         ip saddr {} tcp sport {PORT} tcp flags & fin == fin drop\n}}\n}}\n",
        pod.address()
    );
    node.bed.nft(Host::Backend, &rules)?;
    each(|client| {
        let mut connection = scene.open(client)?;
        let first = connection.request("GET", &format!("/{word}/first"), "")?;
        ensure!(first.status == Some(200), "{first:?}");
        pause(100);
        // A GET would be sent again by some.
        connection.request("POST", &path(word, client), "hi")
    })
}

fn fence(scene: &Scene, pod: &Pod, verdict: &str) -> Result<()> {
    let rules = format!(
        "table inet {} {{ chain in {{ type filter hook input priority 0;\n\
         ip daddr {} tcp dport {PORT} {verdict}\n}}\n}}\n",
        service(pod),
        pod.address()
    );
    scene.node.bed.nft(Host::Backend, &rules)
}

fn fenced(scene: &Scene, pod: &Pod, verdict: &str) -> Result<All> {
    fence(scene, pod, verdict)?;
    scene.ask(pod)
}

/// The host of a data plane's Ingress: its pod is not known, nor are the other classes' rules its own.
pub fn host(plane: Plane) -> String {
    format!("{}.example", plane.word())
}

/// The Service without pods, and the Ingress that leads to it.
pub fn empty(node: &Node, plane: Plane) -> Result<Case> {
    let word = "nobody";
    node.service(word, word, json!(PORT))?;
    let path = format!("/{}", none(plane));
    let paths = [(&*path, word, 80)];
    let class = plane.word();
    let ingress = objects::ingress(&node.namespace, "web", class, &host(plane), &paths);
    node.server.apply(&ingress)?;
    Ok(Case::new(
        "no_endpoints",
        "a Service without pods",
        word,
        "no ready endpoint",
        "kubernetes.io/service-name=nobody",
        ask_only,
    ))
}

/// Each case's Service and pod, whose application runs.
pub fn pods<'a>(node: &'a Node, cases: &[Case]) -> Result<Vec<Pod<'a>>> {
    tls::certificate(node.bed.folder())?;
    let folder = node.bed.folder().display().to_string();
    let mut pods = Vec::new();
    for (number, case) in cases.iter().enumerate() {
        node.service(case.word, case.word, json!(case.target))?;
        let name = format!("{}-0", case.word);
        let pod = node.member(&name, node.addresses[number], PORT)?;
        if case.cause == "backend_oom_killed" {
            pod.container().memory(48)?;
        }
        if let Some(arguments) = case.runs {
            let arguments: Vec<&str> = arguments
                .iter()
                .map(|word| if *word == "." { &*folder } else { *word })
                .collect();
            pod.run(&arguments)?;
        }
        pods.push(pod);
    }
    for (case, pod) in cases.iter().zip(&pods) {
        node.await_endpoints(case.word, &[(pod.address(), true, false)])?;
    }
    // It may listen before it has read its routes.
    wait::holds("requests relayed", VERDICT, || {
        // A connection that is kept there is nobody's trouble.
        let got = client::get(&node.bed, node.at(), "/busy/ready");
        got.is_ok_and(|got| got.status == Some(200))
    })?;
    Ok(pods)
}
