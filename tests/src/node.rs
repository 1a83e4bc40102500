//! A node: an ingress, backend pods as a kubelet runs them, each in a cgroup of its uid in all
//! hierarchies, and the real cluster that tells of them. For tests of causes.
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::agent::{Agent, Finding};
use crate::apiserver::{Access, ApiServer};
use crate::bed::{Bed, Host};
use crate::client;
use crate::container::{self, Container};
use crate::edge::Edge;
use crate::planes::{Plane, own};
use crate::process::Process;
use crate::response::Answer;
use crate::{netns, objects};

/// Where the ingress listens.
pub const INGRESS: u16 = own::PORT;

/// The node and its cluster.
pub struct Node {
    /// The cluster.
    pub server: Arc<ApiServer>,
    /// The namespace of all pods and Services.
    pub namespace: String,
    /// The name of the node: its state is no other test's.
    pub name: String,
    /// The addresses of its pods: no other test's, as all share one cluster.
    pub addresses: Vec<IpAddr>,
    plane: Plane,
    edge: Option<Edge>,
    access: Access,
    /// Its hosts. Dropped after what lives in them.
    pub bed: Bed,
}

impl Node {
    /// A node whose ingress has these server directives on port [`INGRESS`], with `$POD` for the
    /// address of its pod; upstream `both` has that one's and its sibling's, port 8000,
    /// `pool` keeps connections to its own.
    pub fn new(server: &Arc<ApiServer>, namespace: &str, directives: &str) -> Result<Self> {
        let mut node = Self::bare(server, namespace, Plane::Nginx, 2)?;
        let (own, sibling) = (node.addresses[0], node.addresses[1]);
        let directives = directives.replace("$POD", &own.to_string());
        let http = format!(
            "upstream both {{ server {own}:8000 max_fails=0; server {sibling}:8000 max_fails=0; }}\n\
             upstream pool {{ server {own}:8000 max_fails=0; keepalive 8; }}\n\
             server {{ listen {INGRESS};\n{directives}\n}}\n"
        );
        node.edge = Some(Edge::start(&node.bed, "", &http)?);
        Ok(node)
    }

    /// A node with so many addresses for pods, whose ingress the test starts itself: this data plane,
    /// on port [`INGRESS`].
    pub fn bare(
        server: &Arc<ApiServer>,
        namespace: &str,
        plane: Plane,
        addresses: u8,
    ) -> Result<Self> {
        static COUNT: AtomicU8 = AtomicU8::new(100);
        // kubectl looks first and creates then.
        static RIGHTS: Mutex<()> = Mutex::new(());
        let bed = Bed::new()?;
        let first = COUNT.fetch_add(addresses, Ordering::Relaxed);
        let addresses: Vec<IpAddr> = (first..first + addresses)
            .map(|last| IpAddr::from([10, 77, 0, last]))
            .collect();
        let batch = addresses.iter();
        let batch: Vec<String> = batch
            .map(|address| format!("addr add {address}/24 dev eth0\n"))
            .collect();
        netns::ip(Some(&bed.namespace(Host::Backend)), &batch.concat())?;
        let access = {
            let _one = RIGHTS.lock().unwrap_or_else(PoisonError::into_inner);
            server.agent_access(bed.folder())?
        };
        let name = format!("node-of-{namespace}");
        server.apply(&objects::node(&name))?;
        Ok(Self {
            server: Arc::clone(server),
            namespace: namespace.to_owned(),
            name,
            addresses,
            plane,
            edge: None,
            access,
            bed,
        })
    }

    /// An agent on the ingress, which knows the cluster.
    pub fn agent(&self, more: &[&str]) -> Result<Agent> {
        let cgroup = self.bed.cgroup(Host::Proxy).display().to_string();
        let on = ["--controller", self.plane.word(), "--cgroup", &cgroup];
        self.start(&[&on[..], more].concat())
    }

    /// One that finds the ingress pod by itself, and has.
    pub fn finder(&self) -> Result<Agent> {
        let agent = self.start(&[])?;
        agent.metric("the ingress pod", |page| {
            page.count("ingress_trace_ingress_pods", &[]) == 1
        })?;
        Ok(agent)
    }

    fn start(&self, more: &[&str]) -> Result<Agent> {
        let config = self.access.kubeconfig.display().to_string();
        let cluster = ["--kubeconfig", &config, "--node", &self.name];
        let agent = Agent::start_with(self.bed.folder(), &[&cluster[..], more].concat())?;
        agent.knows_the_cluster()?;
        Ok(agent)
    }

    /// Says that the node is ready, or not.
    pub fn tell_ready(&self, ready: bool) -> Result<()> {
        let mut node = objects::node(&self.name);
        node["status"]["conditions"] = json!([objects::condition("Ready", ready)]);
        self.server.apply(&node)
    }

    /// A Service of port 80 for the pods with this label `app`.
    pub fn service(&self, name: &str, app: &str, target: Value) -> Result<()> {
        let ports = [("http", 80, target)];
        let service = objects::service(&self.namespace, name, Some(app), &ports);
        self.server.apply(&service)
    }

    /// A pod that is ready, of this container port; nothing runs in it yet.
    pub fn pod(&self, name: &str, port: u16) -> Result<Pod<'_>> {
        Pod::new(self, name, self.addresses[0], port, None)
    }

    /// Another one beside it.
    pub fn sibling(&self, name: &str, port: u16) -> Result<Pod<'_>> {
        Pod::new(self, name, self.addresses[1], port, None)
    }

    /// One at this address, made by the StatefulSet that its name says.
    pub fn member(&self, name: &str, address: IpAddr, port: u16) -> Result<Pod<'_>> {
        let (set, _) = name.rsplit_once('-').context("no member's name")?;
        self.server
            .apply(&objects::stateful_set(&self.namespace, set))?;
        let known = self.server.object("statefulsets", &self.namespace, set)?;
        let known = known.context("the set is gone")?;
        let owner = json!([{"apiVersion": "apps/v1", "kind": "StatefulSet", "name": set,
            "uid": known["metadata"]["uid"], "controller": true}]);
        Pod::new(self, name, address, port, Some(owner))
    }

    /// Where its ingress listens.
    pub fn at(&self) -> SocketAddr {
        own::at(INGRESS)
    }

    /// One GET by the client.
    pub fn get(&self, path: &str) -> Result<Answer> {
        client::get(&self.bed, self.at(), path)
    }

    /// One GET, which has this status.
    pub fn ask(&self, path: &str, status: u16) -> Result<()> {
        let answer = self.get(path)?;
        ensure!(answer.status == Some(status), "{path}: {answer:?}");
        Ok(())
    }

    /// The finding of a request.
    pub fn told(&self, agent: &Agent, path: &str) -> Result<Finding> {
        agent.finding(path, |finding| finding.path() == path)
    }

    /// Waits until the Service's endpoints are these: address, ready, terminating.
    pub fn await_endpoints(&self, service: &str, wanted: &[(IpAddr, bool, bool)]) -> Result<()> {
        let texts: Vec<(String, bool, bool)> = wanted
            .iter()
            .map(|(ip, ready, end)| (ip.to_string(), *ready, *end))
            .collect();
        let wanted: Vec<(&str, bool, bool)> = texts
            .iter()
            .map(|(ip, ready, end)| (ip.as_str(), *ready, *end))
            .collect();
        self.server
            .await_endpoints(&self.namespace, service, &wanted)
    }
}

/// A pod with one container `main`.
pub struct Pod<'a> {
    node: &'a Node,
    name: String,
    address: IpAddr,
    port: u16,
    owner: Option<Value>,
    container: Container,
    running: Mutex<Option<Process>>,
}

impl<'a> Pod<'a> {
    fn new(
        node: &'a Node,
        name: &str,
        address: IpAddr,
        port: u16,
        owner: Option<Value>,
    ) -> Result<Self> {
        let object = object(node, name, address, port, owner.as_ref());
        node.server.apply(&object)?;
        let known = node.server.object("pods", &node.namespace, name)?;
        let known = known.context("the pod is gone")?;
        let uid = known["metadata"]["uid"].as_str().context("it has no uid")?;
        let tag = node.bed.root().file_name().context("the bed has a name")?;
        Ok(Self {
            node,
            name: name.to_owned(),
            address,
            port,
            owner,
            container: Container::new(Path::new(tag), uid, name)?,
            running: Mutex::default(),
        })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its address.
    pub fn address(&self) -> IpAddr {
        self.address
    }

    /// Starts the application (`app`) in it with its port and these arguments; returns once it
    /// listens.
    pub fn run(&self, arguments: &[&str]) -> Result<()> {
        // Its own address only: its sibling has the same port.
        let at = SocketAddr::new(self.address, self.port);
        let mut app = self.container.app(at, arguments)?;
        let bed = &self.node.bed;
        bed.settle(Host::Backend, self.container.folder()?);
        let mut process = bed.start(Host::Backend, &mut app)?;
        container::listening(&mut process)?;
        *self.running() = Some(process);
        Ok(())
    }

    /// Process id of the application.
    pub fn id(&self) -> Option<u32> {
        self.running().as_ref().map(Process::id)
    }

    /// Sends the application a signal.
    pub fn signal(&self, number: i32) {
        if let Some(process) = self.running().as_mut() {
            process.signal(number);
        }
    }

    /// Waits for the application's end.
    pub fn ended(&self) -> Result<()> {
        let mut running = self.running();
        let process = running.as_mut().context("nothing runs")?;
        process.wait(Duration::from_secs(10)).map(drop)
    }

    fn running(&self) -> std::sync::MutexGuard<'_, Option<Process>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What it runs in, to limit it.
    pub fn container(&self) -> &Container {
        &self.container
    }

    /// Says that its container has ended in this way, as a kubelet does; see [`objects::ended`].
    pub fn tell_ended(&self, reason: &str) -> Result<()> {
        self.tell_end(|now| objects::ended("main", 1, reason, now))
    }

    /// Says that its container has ended as it was told to.
    pub fn tell_stopped(&self) -> Result<()> {
        self.tell_end(|now| objects::stopped("main", now))
    }

    fn tell_end(&self, status: impl FnOnce(&str) -> Value) -> Result<()> {
        let mut pod = self.object();
        let now = jiff::Timestamp::now().to_string();
        objects::set_ended(&mut pod, &status(&now), &now);
        self.node.server.apply(&pod)
    }

    /// Says that it is ready, or not.
    pub fn tell_ready(&self, ready: bool) -> Result<()> {
        let mut pod = self.object();
        objects::set_ready_at(&mut pod, ready, &jiff::Timestamp::now().to_string());
        self.node.server.apply(&pod)
    }

    fn object(&self) -> Value {
        let owner = self.owner.as_ref();
        object(self.node, &self.name, self.address, self.port, owner)
    }
}

fn object(node: &Node, name: &str, address: IpAddr, port: u16, owner: Option<&Value>) -> Value {
    let mut pod = objects::pod(&node.namespace, name, &node.name, &[address], &[port]);
    if let Some(owner) = owner {
        pod["metadata"]["ownerReferences"] = owner.clone();
    }
    pod
}
