//! Names in findings and metrics, as of the moment of the failure: real kernel, real nginx, and a real
//! API server with its EndpointSlice controller, asked with the rights that `deploy/` gives.
use std::io::{BufRead, BufReader};
use std::net::{IpAddr, SocketAddr};
use std::process::{Command, Stdio};
use std::sync::Arc;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use tests::agent::{self, Agent, Finding};
use tests::apiserver::{Access, ApiServer};
use tests::backends::{Backends, Behavior};
use tests::bed::{Bed, Host};
use tests::client::{self, PATIENCE};
use tests::edge::Edge;
use tests::fake_api::{FakeApi, Verb};
use tests::kubeconfig::User;
use tests::nginx::{Fault, Listener, Nginx, Options};
use tests::objects::{self, Endpoint};
use tests::process::Process;
use tests::{netns, shop, wait};

const NODE: &str = "n1";
const SYNCED: &str = "ingress_trace_kube_synced";
const FAILURES: &str = "ingress_trace_upstream_failures_total";
const EXCHANGES: &str = "ingress_trace_upstream_exchanges_total";

/// An ingress, its backends, and the cluster that they are in.
struct World {
    server: Arc<ApiServer>,
    access: Access,
    namespace: String,
    _nginx: Nginx,
    _backends: Backends,
    // Last: it is dropped after what lives in it.
    bed: Bed,
}

impl World {
    fn new(server: Arc<ApiServer>, namespace: &str) -> Result<Self> {
        let bed = Bed::new()?;
        let backends = Backends::start(&bed)?;
        let nginx = Nginx::start(&bed, Host::Proxy, Options::default())?;
        let access = server.agent_access(bed.folder())?;
        server.apply(&objects::node(NODE))?;
        Ok(Self {
            access,
            server,
            namespace: namespace.to_owned(),
            _nginx: nginx,
            _backends: backends,
            bed,
        })
    }

    fn agent(&self) -> Result<Agent> {
        let config = self.access.kubeconfig.display().to_string();
        let cgroup = self.bed.cgroup(Host::Proxy).display().to_string();
        let agent = Agent::start_with(
            self.bed.folder(),
            &[
                "--kubeconfig",
                &config,
                "--node",
                NODE,
                "--controller",
                "nginx",
                "--cgroup",
                &cgroup,
            ],
        )?;
        agent.knows_the_cluster()?;
        Ok(agent)
    }

    /// A pod behind the ingress that is ready, and part of this Service.
    fn pod(&self, service: &str, name: &str) -> Result<()> {
        let pod = self.pod_object(name);
        self.server.apply(&pod)?;
        let ip = backend();
        self.server
            .await_endpoints(&self.namespace, service, &[(&ip, true, false)])
    }

    fn pod_object(&self, name: &str) -> Value {
        let address = Host::Backend.v4();
        objects::pod(
            &self.namespace,
            name,
            NODE,
            &[address],
            &[Fault::Refused.port()],
        )
    }

    fn service(&self, name: &str, app: &str, port: u16) -> Result<()> {
        let ports = [("http", 80, json!(port))];
        let service = objects::service(&self.namespace, name, Some(app), &ports);
        self.server.apply(&service)
    }

    fn ask(&self, path: &str, status: u16) -> Result<()> {
        let answer = client::get(&self.bed, Listener::Plain.of(Host::Proxy), path)?;
        assert_eq!(answer.status, Some(status), "{path}");
        Ok(())
    }
}

fn backend() -> String {
    Host::Backend.v4().to_string()
}

fn told(agent: &Agent, path: &str) -> Result<Finding> {
    agent.finding(path, |finding| finding.path() == path)
}

fn names(finding: &Finding) -> [&str; 3] {
    ["namespace", "service", "pod"].map(|name| match name {
        "namespace" => finding.text("/backend/namespace"),
        "service" => finding.text("/backend/service"),
        _ => finding.text("/backend/pod"),
    })
}

fn says(finding: &Finding, words: &str) {
    let evidence = finding.0["evidence"].to_string();
    assert!(evidence.contains(words), "{words}: {evidence}");
}

#[test]
fn names_are_those_of_the_moment_while_pods_services_and_ports_change() -> Result<()> {
    let server = ApiServer::shared()?;
    let namespace = server.namespace("moment")?;
    let space = namespace.name();
    let world = World::new(Arc::clone(&server), space)?;
    world.service("cart", "cart", Fault::Refused.port())?;
    world.pod("cart", "cart-0")?;
    let agent = world.agent()?;

    world.ask("/refused/first", 502)?;
    let first = told(&agent, "/refused/first")?;
    assert_eq!(names(&first), [space, "cart", "cart-0"]);
    assert_eq!(first.text("/backend/address"), backend());
    let labels = [("backend_namespace", space), ("backend_service", "cart")];
    agent.metric("a failure of cart", |page| {
        page.count(FAILURES, &labels) == 1
    })?;
    agent.metric("an exchange of cart", |page| {
        page.count(EXCHANGES, &labels) == 1
    })?;

    // It fails, and at once another pod takes its place and its address.
    world.ask("/refused/replaced", 502)?;
    server.end(space, "cart-0")?;
    world.pod("cart", "cart-1")?;
    assert_eq!(names(&told(&agent, "/refused/replaced")?)[2], "cart-0");
    world.ask("/refused/second", 502)?;
    assert_eq!(names(&told(&agent, "/refused/second")?)[2], "cart-1");

    // Deleted, and still there: its kubelet has not ended it.
    server.delete_pod(space, "cart-1", 30)?;
    let ip = backend();
    server.await_endpoints(space, "cart", &[(&ip, false, true)])?;
    world.ask("/refused/terminating", 502)?;
    let terminating = told(&agent, "/refused/terminating")?;
    assert_eq!(names(&terminating), [space, "cart", "cart-1"]);
    says(&terminating, "terminating");

    // Another Service takes over: the old one goes, and its series with it, later.
    server.end(space, "cart-1")?;
    server.delete("services", space, "cart")?;
    world.service("basket", "basket", Fault::Refused.port())?;
    world.pod("basket", "basket-0")?;
    world.ask("/refused/renamed", 502)?;
    assert_eq!(
        names(&told(&agent, "/refused/renamed")?),
        [space, "basket", "basket-0"]
    );

    // Its port moves away from where the ingress still connects to.
    world.service("basket", "basket", 9)?;
    wait::holds("the port's change", PATIENCE, || {
        let path = format!("/refused/port-{}", agent.findings().len());
        world.ask(&path, 502).is_ok()
            && told(&agent, &path).is_ok_and(|one| one.0["evidence"].to_string().contains("port"))
    })?;
    agent.stop().map(drop)
}

#[test]
fn a_request_that_reached_no_upstream_is_named_by_its_route() -> Result<()> {
    let server = ApiServer::shared()?;
    let namespace = server.namespace("route")?;
    let space = namespace.name();
    let world = World::new(Arc::clone(&server), space)?;
    world.service("empty", "empty", 8080)?;
    let paths = [("/none", "empty", 80)];
    server.apply(&objects::ingress(space, "web", "nginx", "", &paths))?;
    let agent = world.agent()?;
    world.ask("/none/here", 503)?;
    let finding = told(&agent, "/none/here")?;
    assert_eq!(finding.text("/outcome"), "no_upstream");
    assert_eq!(names(&finding), [space, "empty", ""]);
    assert_eq!(finding.number("/backend/port"), Some(8080.0));
    assert!(finding.0["backend"].get("address").is_none());
    says(&finding, "leads to");
    let labels = [("backend_namespace", space), ("backend_service", "empty")];
    agent.metric("a failure of empty", |page| {
        page.count(FAILURES, &labels) == 1
    })?;
    agent.stop().map(drop)
}

#[test]
fn findings_go_on_without_the_api_and_say_how_old_its_word_is() -> Result<()> {
    let server = Arc::new(ApiServer::start()?);
    let world = World::new(Arc::clone(&server), "default")?;
    server.await_account("default")?;
    world.service("cart", "cart", Fault::Refused.port())?;
    world.pod("cart", "cart-0")?;
    let agent = world.agent()?;
    server.stop();
    let slices = [("resource", "endpointslices")];
    agent.metric("the API missed", |page| page.count(SYNCED, &slices) == 0)?;
    world.ask("/refused/away", 502)?;
    let away = told(&agent, "/refused/away")?;
    assert_eq!(names(&away), ["default", "cart", "cart-0"]);
    says(&away, "old");
    server.resume()?;
    agent.knows_the_cluster()?;
    world.ask("/refused/back", 502)?;
    let back = told(&agent, "/refused/back")?;
    assert!(!back.0["evidence"].to_string().contains(" old"), "{back:?}");
    agent.stop().map(drop)
}

#[test]
fn behind_a_services_own_address_the_real_pod_is_named() -> Result<()> {
    translated("10.96.0.10:80".parse()?, objects::node(NODE), |spec, ip| {
        spec["clusterIP"] = json!(ip);
        spec["clusterIPs"] = json!([ip]);
    })
}

#[test]
fn behind_a_nodes_port_the_real_pod_is_named() -> Result<()> {
    let node: SocketAddr = "10.98.0.7:30080".parse()?;
    let mut known = objects::node(NODE);
    known["status"]["addresses"] = json!([{"type": "InternalIP", "address": node.ip()}]);
    translated(node, known, |spec, _| {
        spec["type"] = json!("NodePort");
        spec["clusterIP"] = json!("10.96.0.10");
        spec["clusterIPs"] = json!(["10.96.0.10"]);
        spec["ports"][0]["nodePort"] = json!(node.port());
    })
}

/// A backend whose destination the node translates: `place` has the Service own it.
/// The agent's network is the node's, as in its DaemonSet: here the ingress pod's.
fn translated(
    service: SocketAddr,
    node: Value,
    place: impl Fn(&mut Value, IpAddr) + Sync + Send,
) -> Result<()> {
    let bed = Bed::new()?;
    let _backends = Backends::start(&bed)?;
    let http = format!("server {{ listen 8090; location / {{ proxy_pass http://{service}; }} }}\n");
    let edge = Edge::start(&bed, "", &http)?;
    let (ip, port) = (Host::Backend.v4(), Behavior::ResetRequest.port());
    let dnat = format!(
        "table ip nat {{\n chain out {{\n type nat hook output priority -100;\n\
         ip daddr {} tcp dport {} dnat to {ip}:{port}\n }}\n}}\n",
        service.ip(),
        service.port()
    );
    bed.nft(Host::Proxy, &dnat)?;
    let route = format!("route add {} via {ip}\n", service.ip());
    netns::ip(Some(&bed.namespace(Host::Proxy)), &route)?;
    let api = bed.inside(Host::Proxy, || {
        let api = FakeApi::start()?;
        let mut front = objects::service(
            shop::NAME,
            "cart",
            Some("cart"),
            &[("http", 80, json!(port))],
        );
        place(&mut front["spec"], service.ip());
        api.apply_all([
            node,
            front,
            objects::pod(shop::NAME, "cart-0", NODE, &[ip], &[port]),
            objects::slice(
                shop::NAME,
                "cart",
                &[("http", port)],
                &[Endpoint::ready(ip, "cart-0")],
            ),
        ])?;
        Ok(api)
    })?;
    let config = api.kubeconfig(bed.folder(), &User::Nobody)?;
    // Not `ip netns exec`, which hides the cgroups.
    let mut command = Command::new("nsenter");
    command.arg(format!("--net=/run/netns/{}", bed.namespace(Host::Proxy)));
    command.arg(agent::program()?).args([
        "watch",
        "-o",
        "json",
        "--duration",
        "30s",
        "--node",
        NODE,
        "--controller",
        "nginx",
    ]);
    command.arg("--cgroup").arg(bed.cgroup(Host::Proxy));
    command.arg("--kubeconfig").arg(&config);
    command.stdout(Stdio::piped()).stderr(Stdio::inherit());
    let mut running = Process::start(&mut command)?;
    // It follows the cluster: all that it needs has been listed.
    wait::holds("the agent following", PATIENCE, || {
        api.requests("endpointslices", Verb::Watch) > 0 && api.requests("services", Verb::Watch) > 0
    })?;
    client::get(&bed, edge.at(8090), "/translated")?;
    let out = running.child().stdout.take().context("its output")?;
    let mut line = String::new();
    BufReader::new(out).read_line(&mut line)?;
    let finding = Finding(serde_json::from_str(&line).context("no finding came")?);
    assert_eq!(finding.text("/backend/address"), service.ip().to_string());
    assert_eq!(
        names(&finding),
        [shop::NAME, "cart", "cart-0"],
        "{finding:?}"
    );
    says(&finding, &format!("{ip}:{port}"));
    Ok(())
}
