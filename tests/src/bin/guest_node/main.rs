//! The node of a guest that has cgroup v2 and nothing else: comes up with an ingress pod, backend pods with
//! limits and a stand-in API, and has pods fail, each in its own way. What clients got and what the agent
//! found goes to stdout, a line each; judges nothing.
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use tests::agent::Agent;
use tests::client::{Connection, PATIENCE};
use tests::container::{self, Container};
use tests::fake_api::FakeApi;
use tests::kubeconfig::User;
use tests::kubelet;
use tests::objects::{self, Endpoint};
use tests::process::Process;

mod ingress;

use ingress::Ingress;

const NAMESPACE: &str = "shop";
/// The port of all applications.
const PORT: u16 = 8000;
/// For so long all goes well: what comes next is compared with how it was.
const WELL: Duration = Duration::from_secs(4);

/// What waits for so long was held back: for periods of a quota, which are 100 ms.
const LATE: Duration = Duration::from_millis(400);

/// Address of a pod: loopback has the whole network.
fn address(last: u8) -> IpAddr {
    IpAddr::from([10, 77, 0, last])
}

/// A backend: pod `WORD-0` of Service `WORD`, behind path `/WORD/`.
struct Pod {
    word: &'static str,
    object: Value,
    container: Container,
    app: Process,
}

impl Pod {
    /// Starts it with these limits: milliseconds of CPU in each 100, and megabytes.
    fn start(
        api: &FakeApi,
        word: &'static str,
        last: u8,
        limits: [Option<u32>; 2],
    ) -> Result<Self> {
        let (at, name) = (SocketAddr::new(address(last), PORT), format!("{word}-0"));
        let mut object = objects::pod(NAMESPACE, &name, kubelet::NODE, &[at.ip()], &[PORT]);
        let container = contain(&mut object, last)?;
        if let Some(ms) = limits[0] {
            container.quota(ms)?;
        }
        if let Some(megabytes) = limits[1] {
            container.memory(megabytes)?;
        }
        let mut app = Process::start(&mut container.app(at, &[])?)?;
        container::listening(&mut app)?;
        let endpoint = Endpoint::ready(at.ip(), &name);
        api.apply_all([
            object.clone(),
            objects::service(NAMESPACE, word, Some(word), &[("http", 80, json!(PORT))]),
            objects::slice(NAMESPACE, word, &[("http", PORT)], &[endpoint]),
        ])?;
        Ok(Self {
            word,
            object,
            container,
            app,
        })
    }

    /// A path that leads to it, with these directives.
    fn route(&self, word: &str, more: &str) -> String {
        let at = self.object["status"]["podIP"].as_str().unwrap_or_default();
        format!("location /{word}/ {{ {more} proxy_pass http://{at}:{PORT}; }}\n")
    }

    /// Waits until its kernel has killed it; the runtime removes what is left of the container.
    fn killed(&mut self) -> Result<()> {
        self.app.wait(PATIENCE)?;
        let folder = self.container.folder()?;
        fs::remove_dir(&folder).context("failed to remove the container's cgroup")
    }
}

/// Gives a pod a uid and its container a cgroup.
fn contain(pod: &mut Value, number: u8) -> Result<Container> {
    let uid = format!("{number:08x}-1111-4222-8333-444444444444");
    pod["metadata"]["uid"] = json!(uid);
    Container::new(Path::new(""), &uid, &format!("{number:064x}"))
}

/// One request; says what became of it.
fn ask(path: &str) -> Result<u16> {
    let answer = Connection::here(ingress::at())?.get(path)?;
    let status = answer
        .status
        .with_context(|| format!("no answer to {path}"))?;
    Ok(status)
}

/// Requests to a pod that succeed, until the agent has read its counters.
fn well(word: &str) -> Result<()> {
    let until = Instant::now() + WELL;
    while Instant::now() < until {
        let status = ask(&format!("/{word}/well"))?;
        ensure!(status == 200, "{word}: {status}");
    }
    Ok(())
}

/// One request that fails, and is told.
fn fails(agent: &Agent, path: &str) -> Result<()> {
    let status = ask(path)?;
    let (bare, _) = path.split_once('?').unwrap_or((path, ""));
    println!("client {bare} {status}");
    agent
        .finding(path, |finding| finding.path() == bare)
        .map(drop)
}

/// Requests that the ingress refuses by itself, until one has to wait for that: it may have a moment of CPU
/// time left.
fn refused_late(agent: &Agent) -> Result<()> {
    for number in 0..50 {
        let (path, asked) = (format!("/shed/{number}"), Instant::now());
        let status = ask(&path)?;
        if asked.elapsed() >= LATE {
            println!("late {path}\nclient {path} {status}");
            return agent
                .finding(&path, |finding| finding.path() == path)
                .map(drop);
        }
    }
    bail!("nothing had to wait")
}

fn agent(api: &FakeApi) -> Result<Agent> {
    let folder = Path::new("/tmp");
    let config = api.kubeconfig(folder, &User::Nobody)?;
    let config = config.display().to_string();
    // Slow answers are not what this is about: the guest is slow itself.
    let arguments = [
        "--kubeconfig",
        &config,
        "--node",
        kubelet::NODE,
        "--slow",
        "1m",
    ];
    let agent = Agent::start_with(folder, &arguments)?;
    agent.metric("the ingress pod", |page| {
        page.sum("ingress_trace_ingress_pods", &[]) >= 1.0
    })?;
    agent.knows_the_cluster()?;
    Ok(agent)
}

fn main() -> Result<()> {
    let api = FakeApi::start()?;
    api.apply(objects::node(kubelet::NODE))?;
    let fine = Pod::start(&api, "fine", 10, [None, None])?;
    let quota = Pod::start(&api, "quota", 11, [None, None])?;
    let slow = Pod::start(&api, "slow", 12, [Some(50), Some(256)])?;
    let mut killed = Pod::start(&api, "killed", 13, [None, Some(48)])?;
    let mut told = Pod::start(&api, "told", 14, [None, Some(48)])?;
    let pods = [&fine, &quota, &slow, &killed, &told];
    let ingress = Ingress::start(&api, &pods)?;
    let agent = agent(&api)?;
    well("quota")?;
    quota.container.quota(2)?;
    fails(&agent, "/quota/late?ms=2000")?;
    well("slow")?;
    fails(&agent, "/slow/late?do=hang")?;
    well("killed")?;
    fails(&agent, "/killed/eat?mb=200")?;
    killed.killed()?;
    well("told")?;
    // The API has its word before the verdict.
    let status = ask("/told/eat?mb=200")?;
    println!("client /told/eat {status}");
    told.killed()?;
    let now = jiff::Timestamp::now().to_string();
    let mut object = told.object.clone();
    objects::set_ended(
        &mut object,
        &objects::ended("main", 1, "OOMKilled", &now),
        &now,
    );
    api.apply(object)?;
    agent.finding("the kill", |finding| finding.path() == "/told/eat")?;
    let first = ask("/shed/first")?;
    ensure!(first == 200, "nothing was let through: {first}");
    ingress.container.quota(2)?;
    ingress.strained("/fine/busy", || refused_late(&agent))?;
    let page = agent.http("/metrics")?.1;
    for line in page
        .lines()
        .filter(|line| line.starts_with("ingress_trace"))
    {
        println!("metric {line}");
    }
    for line in agent.errors().lines() {
        println!("log {line}");
    }
    for finding in agent.stop()? {
        println!("finding {}", finding.0);
    }
    Ok(())
}
