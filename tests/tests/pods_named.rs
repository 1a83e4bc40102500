//! Ingress pods however they are run: cgroup drivers, runtimes, QoS classes and nested nodes as real
//! trees with real nginx in them, pods of a real API server. Each is found by itself, with its name,
//! and the application's nginx beside it is not.
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tests::agent::{Agent, program};
use tests::apiserver::{Access, ApiServer};
use tests::backends::Backends;
use tests::bed::{Bed, Host};
use tests::client;
use tests::expect::Differences;
use tests::kubelet::{Class, INGRESS, Layout, NODE, Pod, Runtime, WEB};
use tests::nginx::{Fault, Listener, Nginx, Options};
use tests::objects;
use tests::process::Process;

const EXCHANGES: &str = "ingress_trace_upstream_exchanges_total";
const PODS: &str = "ingress_trace_ingress_pods";

/// Requests that succeed, and then one that fails.
const FINE: u64 = 3;

/// From where the agent looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// The machine itself.
    Machine,
    /// A pod of a node that is a container.
    Node,
}

/// What the API tells a pod by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    /// An ingress by its image.
    Ingress,
    /// An ingress by its labels.
    Labeled,
    /// A web server of an application.
    Web,
    /// Something else.
    Other,
}

impl What {
    fn image(self) -> &'static str {
        match self {
            Self::Ingress => INGRESS,
            Self::Web => WEB,
            Self::Labeled | Self::Other => "registry.example/mirror/own:1",
        }
    }
}

const HOST: &str = "";
/// A node as Docker makes it with systemd's driver, with its own, and as Podman does.
const DOCKER: &str = "system.slice/docker-\
    4f2a915d0c4b8e6f1a7d3c9b5e0f2a846d1b7c3e9f5a0d8b2c6e4f1a7b3d9c5e.scope";
const DOCKER_PLAIN: &str =
    "docker/5e3b7c91d2f84a6b0c7e3d9f1a5b8c246e0d7f3b9a1c5e8d4f6b2a0c7e9d1f3b";
const PODMAN: &str = "machine.slice/libpod-\
    6d4c2b8a0f1e3d5c7b9a8f6e4d2c0b1a3f5e7d9c8b6a4f2e0d1c3b5a7f9e8d6c.scope/container";

const SYSTEMD: &str = "kubepods.slice";
const PLAIN: &str = "kubepods";
const KIND: &str = "kubelet.slice/kubelet-kubepods.slice";
const KIND_PLAIN: &str = "kubelet/kubepods";
const ROOTED: &str = "edge.slice/edge-a.slice/edge-a-kubepods.slice";

/// QoS classes; none where pods have no cgroups.
const G: Option<Class> = Some(Class::Guaranteed);
const B: Option<Class> = Some(Class::Burstable);
const E: Option<Class> = Some(Class::BestEffort);
const NONE: Option<Class> = None;

/// How a pod may be laid out, and from where it is seen.
const ROWS: [(Place, &str, &str, Option<Class>, Runtime); 19] = {
    use Place::{Machine, Node};
    use Runtime::{Containerd, Crio, Docker};
    [
        (Machine, HOST, SYSTEMD, G, Containerd),
        (Machine, HOST, SYSTEMD, B, Containerd),
        (Machine, HOST, SYSTEMD, E, Containerd),
        (Machine, HOST, SYSTEMD, G, Crio),
        (Machine, HOST, SYSTEMD, B, Crio),
        (Machine, HOST, SYSTEMD, E, Docker),
        (Machine, HOST, PLAIN, G, Containerd),
        (Machine, HOST, PLAIN, B, Crio),
        (Machine, HOST, PLAIN, E, Docker),
        (Machine, HOST, ROOTED, B, Crio),
        (Machine, DOCKER, KIND, G, Containerd),
        (Machine, DOCKER_PLAIN, KIND_PLAIN, E, Containerd),
        // k3d.
        (Machine, DOCKER_PLAIN, PLAIN, B, Containerd),
        (Machine, PODMAN, KIND, B, Containerd),
        (Node, DOCKER, KIND, B, Containerd),
        (Node, DOCKER_PLAIN, KIND_PLAIN, G, Containerd),
        // Kubelets that make no cgroups for pods: the runtime's own parent.
        (Machine, HOST, "k8s.io", NONE, Containerd),
        (Machine, HOST, "system.slice", NONE, Crio),
        (Node, DOCKER, "k8s.io", NONE, Containerd),
    ]
};

/// A node's hosts, and a cluster with a Service that refuses.
struct World<'a> {
    server: &'a ApiServer,
    space: &'a str,
    access: Access,
    _backends: Backends,
    // Last: it is dropped after what lives in it.
    bed: Bed,
}

impl<'a> World<'a> {
    fn new(server: &'a ApiServer, space: &'a str) -> Result<Self> {
        let bed = Bed::new()?;
        let backends = Backends::start(&bed)?;
        let (ip, port) = (Host::Backend.v4(), Fault::Refused.port());
        server.apply_all([
            &objects::node(NODE),
            &objects::node("node-2"),
            &objects::service(space, "cart", Some("cart"), &[("http", 80, json!(port))]),
            &objects::pod(space, "cart-0", "node-2", &[ip], &[port]),
        ])?;
        server.await_endpoints(space, "cart", &[(&ip.to_string(), true, false)])?;
        Ok(Self {
            access: server.agent_access(bed.folder())?,
            server,
            space,
            _backends: backends,
            bed,
        })
    }

    /// A pod as the API server has it, with its cgroups; what is started on the host from now on is in
    /// its container. What its runtime runs beside it.
    fn pod(&self, host: Host, layout: Layout, name: &str, kind: What) -> Result<Vec<Process>> {
        let mut object = objects::pod(self.space, name, NODE, &[host.v4()], &[8080]);
        object["spec"]["containers"][0]["image"] = json!(kind.image());
        if kind == What::Labeled {
            object["metadata"]["labels"] = json!({
                "app.kubernetes.io/name": "ingress-nginx",
                "app.kubernetes.io/component": "controller",
            });
        }
        if let Some(class) = layout.class {
            object["spec"]["containers"][0]["resources"] = class.resources();
        }
        self.server.apply(&object)?;
        let known = self.server.object("pods", self.space, name)?;
        let known = known.context("the pod is gone")?;
        let class = known["status"]["qosClass"].as_str();
        let wanted = layout.class.map(Class::word);
        ensure!(wanted.is_none() || class == wanted, "it is {class:?}");
        let pod = Pod::of(&self.bed, host, layout, &known)?;
        pod.create()?;
        let beside = pod.sandbox(&self.bed)?;
        pod.container(&self.bed, "main")?;
        object["status"]["containerStatuses"][0]["containerID"] = json!(pod.container_id("main"));
        self.server.apply(&object)?;
        Ok(beside)
    }

    fn agent(&self, from: Place, layout: Layout) -> Result<Agent> {
        let config = self.access.kubeconfig.display().to_string();
        let arguments = ["--kubeconfig", &config, "--node", NODE];
        let agent = match from {
            Place::Machine => Agent::start_with(self.bed.folder(), &arguments)?,
            Place::Node => {
                let command = self.inside(layout)?;
                Agent::start_by(command, self.bed.folder(), &arguments)?
            }
        };
        agent.knows_the_cluster()?;
        agent
            .metric("the pod watched", |page| page.count(PODS, &[]) == 1)
            .with_context(|| agent.errors())?;
        Ok(agent)
    }

    /// The agent as its pod in the node has it: the node's mount of cgroups is the only one, and the
    /// paths of processes begin at its own container.
    fn inside(&self, layout: Layout) -> Result<Command> {
        const ENTER: &str = r#"
            echo $$ > "$1/cgroup.procs"
            shift
            exec unshare --cgroup --mount sh -euc '
                umount -l /sys/fs/cgroup
                mount -t cgroup2 none /sys/fs/cgroup
                echo $$ > "/sys/fs/cgroup/$1/cgroup.procs"
                shift
                exec unshare --cgroup "$@"
            ' sh "$@"
        "#;
        let node = self.bed.root().join(layout.node);
        let own = self.bed.cgroup(Host::Client);
        let mut command = Command::new("sh");
        command.args(["-euc", ENTER, "sh"]).arg(&node);
        command.arg(own.strip_prefix(&node).context("it is in the node")?);
        command.arg(program()?);
        Ok(command)
    }

    /// Some requests that succeed, and one that does not.
    fn ask(&self, host: Host, path: &str) -> Result<()> {
        let get = |path: &str| client::get(&self.bed, Listener::Plain.of(host), path);
        for _ in 0..FINE {
            assert_eq!(get("/ok/")?.status, Some(200));
        }
        assert_eq!(get(path)?.status, Some(502), "{path}");
        Ok(())
    }

    fn expected(&self, pod: &str) -> Value {
        json!({
            "controller": "nginx",
            "outcome": "connect_refused",
            "status": 502,
            "ingress": {"namespace": self.space, "pod": pod, "node": NODE},
            "backend": {"namespace": self.space, "service": "cart", "pod": "cart-0"},
        })
    }
}

#[test]
fn an_ingress_pod_is_found_and_named_in_every_layout_and_its_neighbor_is_not() -> Result<()> {
    let server = ApiServer::shared()?;
    let namespace = server.namespace("named")?;
    let world = World::new(&server, namespace.name())?;
    let mut differences = Differences::default();
    for (number, (from, node, top, class, runtime)) in ROWS.into_iter().enumerate() {
        let layout = Layout {
            node,
            top,
            class,
            runtime,
        };
        row(&world, number, from, layout, &mut differences)
            .with_context(|| format!("{from:?} {layout:?}"))?;
    }
    differences.finish("");
    Ok(())
}

fn row(
    world: &World,
    number: usize,
    from: Place,
    layout: Layout,
    differences: &mut Differences,
) -> Result<()> {
    let [gateway, web, own] = ["gateway", "web", "agent"].map(|word| format!("{word}-{number}"));
    let ingress = [What::Ingress, What::Labeled][number % 2];
    let _pods = [
        world.pod(Host::Proxy, layout, &gateway, ingress)?,
        world.pod(Host::SecondProxy, layout, &web, What::Web)?,
        world.pod(Host::Client, layout, &own, What::Other)?,
    ];
    let start = |host| Nginx::start(&world.bed, host, Options::default());
    let proxies = [start(Host::Proxy)?, start(Host::SecondProxy)?];
    let agent = world.agent(from, layout)?;
    let paths = ["gateway", "web"].map(|word| format!("/refused/{word}-{number}"));
    world.ask(Host::SecondProxy, &paths[1])?;
    world.ask(Host::Proxy, &paths[0])?;
    let page = agent.metric("every exchange", |page| page.count(EXCHANGES, &[]) > FINE)?;
    let what = format!("{from:?} {layout:?}");
    let counted = page.count(EXCHANGES, &[("controller", "nginx")]);
    differences.check(counted == FINE + 1, || {
        format!("{what}: {counted} exchanges")
    });
    let found = agent.stop()?;
    differences.only(&what, &found, |_| true, &world.expected(&gateway));
    drop(proxies);
    for name in [&gateway, &web, &own] {
        world.server.end(world.space, name)?;
    }
    Ok(())
}
