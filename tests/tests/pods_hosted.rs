//! Pods in their node's network: an ingress, an application's web server and backends that share one
//! address. The ingress is told from its neighbors by its cgroup, the backends by their ports, and what
//! listens there by who holds it.
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tests::agent::{Agent, Finding};
use tests::apiserver::ApiServer;
use tests::backends::{Backends, Behavior};
use tests::bed::{Bed, Host};
use tests::client;
use tests::edge::Edge;
use tests::expect::Differences;
use tests::kubelet::{INGRESS, Layout, NODE, Pod, WEB};
use tests::nginx::{Fault, Listener, Nginx, Options};
use tests::objects;
use tests::process::{Process, sibling};

const OTHER: &str = "node-2";
const PORT: u16 = 8090;
const EXCHANGES: &str = "ingress_trace_upstream_exchanges_total";

/// On the ingress' own node: the port of a pod that listens on another one, which that is, the port of
/// a pod that listens on none, and one of nobody.
const CART: u16 = 9101;
const ELSEWHERE: u16 = 9105;
const DISK: u16 = 9102;
const STRAY: u16 = 9109;

/// Two nodes, and the cluster that they are in.
struct World<'a> {
    server: &'a ApiServer,
    space: &'a str,
    bed: Bed,
}

impl World<'_> {
    fn node(&self, name: &str, address: Host) -> Result<()> {
        let mut node = objects::node(name);
        let address = json!({"type": "InternalIP", "address": address.v4()});
        node["status"]["addresses"] = json!([address]);
        self.server.apply(&node)
    }

    /// A pod in the network of a node, as the API has it.
    fn object(&self, name: &str, node: &str, host: Host, port: u16) -> Result<Value> {
        let mut pod = objects::pod(self.space, name, node, &[host.v4()], &[port]);
        pod["spec"]["hostNetwork"] = json!(true);
        pod["spec"]["containers"][0]["ports"][0]["hostPort"] = json!(port);
        pod["spec"]["containers"][0]["resources"] = json!({"requests": {"cpu": "10m"}});
        pod["spec"]["containers"][0]["image"] = json!(match name {
            "gateway-1" => INGRESS,
            "web-1" => WEB,
            _ => "registry.example/app:1",
        });
        pod["status"]["hostIP"] = json!(host.v4());
        pod["status"]["hostIPs"] = json!([{"ip": host.v4()}]);
        self.server.apply(&pod)?;
        let known = self.server.object("pods", self.space, name)?;
        known.context("the pod is gone")
    }

    /// A pod on the ingress' node: what is started there from now on is in its container. What runs
    /// beside that.
    fn pod(&self, name: &str, port: u16) -> Result<Vec<Process>> {
        let known = self.object(name, NODE, Host::Proxy, port)?;
        let pod = Pod::of(&self.bed, Host::Proxy, Layout::SYSTEMD, &known)?;
        pod.create()?;
        let beside = pod.sandbox(&self.bed)?;
        pod.container(&self.bed, "main")?;
        Ok(beside)
    }

    /// A Service of the pods with this label, of which there is one at this address.
    fn service(&self, name: &str, port: u16, host: Host) -> Result<()> {
        let ports = [("http", 80, json!(port))];
        let service = objects::service(self.space, name, Some(name), &ports);
        self.server.apply(&service)?;
        let wanted = [(&*host.v4().to_string(), true, false)];
        self.server.await_endpoints(self.space, name, &wanted)
    }

    /// One without ports, as StatefulSets have it: it says nothing of any port.
    fn headless(&self, name: &str, app: &str, host: Host) -> Result<()> {
        let mut service = objects::service(self.space, name, Some(app), &[]);
        service["spec"]["clusterIP"] = json!("None");
        self.server.apply(&service)?;
        let wanted = [(&*host.v4().to_string(), true, false)];
        self.server.await_endpoints(self.space, name, &wanted)
    }

    /// An application on the ingress' node that listens there.
    fn app(&self, port: u16) -> Result<Process> {
        let mut command = Command::new(sibling("app")?);
        command.arg(format!("0.0.0.0:{port}"));
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        let mut process = self.bed.start(Host::Proxy, &mut command)?;
        let out = process.child().stdout.take().context("no stdout")?;
        let mut line = String::new();
        BufReader::new(out).read_line(&mut line)?;
        ensure!(line == "listening\n", "failed to run the application");
        Ok(process)
    }

    fn agent(&self) -> Result<Agent> {
        let access = self.server.agent_access(self.bed.folder())?;
        let config = access.kubeconfig.display().to_string();
        let arguments = ["--kubeconfig", &config, "--node", NODE];
        let agent = Agent::start_with(self.bed.folder(), &arguments)?;
        agent.knows_the_cluster()?;
        agent.metric("the ingress alone watched", |page| {
            page.count("ingress_trace_ingress_pods", &[]) == 1
        })?;
        Ok(agent)
    }
}

/// The ingress: a location for each backend, and one with a pool of connections.
fn edge(bed: &Bed) -> Result<Edge> {
    let (own, other) = (Host::Proxy.v4(), Host::Backend.v4());
    let reset = Behavior::ResetRequest.port();
    let locations = [
        ("cart", own, CART),
        ("disk", own, DISK),
        ("stray", own, STRAY),
        ("mail", other, Fault::Refused.port()),
        ("bill", other, reset),
    ];
    let locations = locations.map(|(word, ip, port)| {
        format!("location /{word}/ {{ proxy_pass http://{ip}:{port}; }}\n")
    });
    let ok = Behavior::Ok.endpoint();
    let http = format!(
        "upstream pool {{ server {ok}; keepalive 4; }}\n\
         server {{ listen {PORT}; proxy_set_header Connection '';\n\
         location /pool/ {{ proxy_pass http://pool; }}\n{}}}\n",
        locations.concat()
    );
    Edge::start(bed, "", &http)
}

#[test]
fn pods_that_share_their_nodes_address_are_told_apart() -> Result<()> {
    let server = ApiServer::shared()?;
    let namespace = server.namespace("hosted")?;
    let world = World {
        server: &server,
        space: namespace.name(),
        bed: Bed::new()?,
    };
    let _backends = Backends::start(&world.bed)?;
    world.node(NODE, Host::Proxy)?;
    world.node(OTHER, Host::Backend)?;
    let mut beside = world.pod("cart-0", CART)?;
    let _app = world.app(ELSEWHERE)?;
    beside.extend(world.pod("disk-0", DISK)?);
    let (refused, reset) = (Fault::Refused.port(), Behavior::ResetRequest.port());
    world.object("mail-0", OTHER, Host::Backend, refused)?;
    world.object("bill-0", OTHER, Host::Backend, reset)?;
    for (name, port, host) in [
        ("cart", CART, Host::Proxy),
        ("disk", DISK, Host::Proxy),
        ("mail", refused, Host::Backend),
        ("bill", reset, Host::Backend),
    ] {
        world.service(name, port, host)?;
    }
    world.headless("all", "disk", Host::Proxy)?;
    beside.extend(world.pod("web-1", 8080)?);
    let _web = Nginx::start(&world.bed, Host::Proxy, Options::default())?;
    beside.extend(world.pod("gateway-1", PORT)?);
    let edge = edge(&world.bed)?;
    check(&world, &edge)
}

fn check(world: &World, edge: &Edge) -> Result<()> {
    let get = |to, path: &str| client::get(&world.bed, to, path);
    let (own, web) = (edge.at(PORT), Listener::Pooled.of(Host::Proxy));
    // Both have a connection to a backend from before.
    assert_eq!(get(own, "/pool/")?.status, Some(200));
    assert_eq!(get(web, "/ok/")?.status, Some(200));
    let agent = world.agent()?;
    assert_eq!(get(web, "/ok/")?.status, Some(200));
    assert_eq!(get(web, "/refused/")?.status, Some(502));
    assert_eq!(get(own, "/pool/")?.status, Some(200));
    let words = ["cart", "disk", "stray", "mail", "bill"];
    for word in words {
        assert_eq!(get(own, &format!("/{word}/"))?.status, Some(502), "{word}");
    }
    let asked = words.len() as u64 + 1;
    let page = agent.metric("every exchange", |page| page.count(EXCHANGES, &[]) >= asked)?;
    assert_eq!(page.count(EXCHANGES, &[]), asked);
    // Those of pods of this node are looked at before the verdict.
    for word in words {
        let path = format!("/{word}/");
        agent.finding(word, |finding| finding.path() == path)?;
    }
    let found = agent.stop()?;
    let mut differences = Differences::default();
    let (here, there) = (Host::Proxy.v4(), Host::Backend.v4());
    for (word, pod, address, outcome) in [
        ("cart", Some("cart-0"), here, "connect_refused"),
        ("disk", Some("disk-0"), here, "connect_refused"),
        ("stray", None, here, "connect_refused"),
        ("mail", Some("mail-0"), there, "connect_refused"),
        ("bill", Some("bill-0"), there, "reset"),
    ] {
        let service = pod.map(|_| word);
        let expected = json!({
            "controller": "nginx", "outcome": outcome, "status": 502,
            "ingress": {"namespace": world.space, "pod": "gateway-1", "node": NODE},
            "backend": {"namespace": pod.map(|_| world.space), "service": service,
                "pod": pod, "address": address},
        });
        let path = format!("/{word}/");
        differences.only(word, &found, |one| one.path() == path, &expected);
    }
    let all = words.len();
    differences.check(found.len() == all, || format!("{} findings", found.len()));
    says(&mut differences, &found);
    differences.finish(&format!("{found:#?}"));
    Ok(())
}

/// Only what a pod itself listens on is its own, and what is nobody's is the node's.
fn says(differences: &mut Differences, found: &[Finding]) {
    let of = |word: &str| {
        let path = format!("/{word}/");
        let finding = found.iter().find(|one| one.path() == path);
        finding.map_or_else(Value::default, |one| one.0.clone())
    };
    for (word, cause, said, wanted) in [
        (
            "cart",
            "wrong_port",
            format!("pod cart-0 listens on {ELSEWHERE}, not on {CART}"),
            true,
        ),
        ("disk", "unknown", "listens on".to_owned(), false),
        ("stray", "unknown", format!("is node {NODE}"), true),
    ] {
        let finding = of(word);
        let evidence = finding["evidence"].to_string();
        differences.check(
            evidence.contains(&said) == wanted && finding["cause"] == cause,
            || format!("{word}: {said:?} {wanted}: {finding}"),
        );
    }
}
