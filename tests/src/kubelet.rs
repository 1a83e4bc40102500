//! Pods as a kubelet and its runtime have them: cgroups in their layouts, with what runs beside a
//! container; containers that come and go in them, and the pod as the API tells it. Must not touch a
//! cgroup outside of the bed's.
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::bed::{Bed, Host};
use crate::process::Process;
use crate::{cgroup, objects};

/// The node that the pods are on.
pub const NODE: &str = "node-1";
/// The image of an ingress controller, as its manifests have it.
pub const INGRESS: &str = "registry.k8s.io/ingress-nginx/controller:v1.13.0";
/// The image of a web server, which is no ingress.
pub const WEB: &str = "docker.io/library/nginx:1.29";

/// What runs containers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Runtime {
    /// containerd.
    Containerd,
    /// CRI-O, with crun: a process that watches beside each container.
    Crio,
    /// Docker, by cri-dockerd.
    Docker,
}

impl Runtime {
    /// What stands before an id in `containerID`.
    fn scheme(self) -> &'static str {
        match self {
            Self::Containerd => "containerd",
            Self::Crio => "cri-o",
            Self::Docker => "docker",
        }
    }

    /// The folder of a container, below its parent.
    fn container(self, id: &str, systemd: bool) -> String {
        match (self, systemd) {
            (Self::Containerd, true) => format!("cri-containerd-{id}.scope"),
            // crun has systemd leave the scope alone and works in a folder of its own.
            (Self::Crio, true) => format!("crio-{id}.scope/container"),
            (Self::Docker, true) => format!("docker-{id}.scope"),
            (Self::Crio, false) => format!("crio-{id}"),
            (Self::Containerd | Self::Docker, false) => id.to_owned(),
        }
    }

    /// Where CRI-O's conmon is.
    fn conmon(id: &str, systemd: bool) -> String {
        let end = if systemd { ".scope" } else { "" };
        format!("crio-conmon-{id}{end}")
    }
}

/// A QoS class; the API server tells a pod's by its resources.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Limits for all.
    Guaranteed,
    /// Some requests.
    Burstable,
    /// None.
    BestEffort,
}

impl Class {
    /// As in `status.qosClass`.
    pub fn word(self) -> &'static str {
        match self {
            Self::Guaranteed => "Guaranteed",
            Self::Burstable => "Burstable",
            Self::BestEffort => "BestEffort",
        }
    }

    /// `resources` of a container of such a pod.
    pub fn resources(self) -> Value {
        match self {
            Self::Guaranteed => json!({"limits": {"cpu": "1", "memory": "128Mi"}}),
            Self::Burstable => json!({"requests": {"cpu": "100m"}}),
            Self::BestEffort => json!({}),
        }
    }
}

/// How cgroups are named.
#[derive(Clone, Copy, Debug)]
pub struct Layout {
    /// The node's own cgroup, where the node is a container itself.
    pub node: &'static str,
    /// The kubelet's topmost cgroup, which ends in `.slice` with systemd's driver; where pods have no
    /// cgroups (`--cgroups-per-qos=false`), the one of all containers.
    pub top: &'static str,
    /// None: pods have no cgroups.
    pub class: Option<Class>,
    /// Who names the containers'.
    pub runtime: Runtime,
}

impl Layout {
    /// systemd's driver, containerd, a burstable pod.
    pub const SYSTEMD: Self = Self {
        node: "",
        top: "kubepods.slice",
        class: Some(Class::Burstable),
        runtime: Runtime::Containerd,
    };
    /// The cgroupfs driver, plain names, a guaranteed pod.
    pub const CGROUPFS: Self = Self {
        node: "",
        top: "kubepods",
        class: Some(Class::Guaranteed),
        runtime: Runtime::Containerd,
    };
    /// systemd's driver in a node that is a container itself, a best-effort pod.
    pub const KIND: Self = Self {
        node: "system.slice/docker-4f2a.scope",
        top: "kubelet.slice/kubelet-kubepods.slice",
        class: Some(Class::BestEffort),
        runtime: Runtime::Containerd,
    };
    /// All of them.
    pub const ALL: [Self; 3] = [Self::SYSTEMD, Self::CGROUPFS, Self::KIND];

    /// The cgroup of a container, below a hierarchy's root.
    pub fn path(self, uid: &str, id: &str) -> PathBuf {
        let container = self.runtime.container(id, self.systemd());
        self.pod(uid).join(container)
    }

    fn systemd(self) -> bool {
        self.top.strip_suffix(".slice").is_some()
    }

    /// The folder of a pod, or of all containers.
    fn pod(self, uid: &str) -> PathBuf {
        let below = match (self.class, self.top.strip_suffix(".slice")) {
            (None, _) => String::new(),
            (Some(class), Some(slice)) => {
                let stem = slice.rsplit('/').next().unwrap_or(slice);
                let uid = uid.replace('-', "_");
                match class {
                    Class::Guaranteed => format!("{stem}-pod{uid}.slice"),
                    other => {
                        let class = other.word().to_lowercase();
                        format!("{stem}-{class}.slice/{stem}-{class}-pod{uid}.slice")
                    }
                }
            }
            (Some(Class::Guaranteed), None) => format!("pod{uid}"),
            (Some(class), None) => format!("{}/pod{uid}", class.word().to_lowercase()),
        };
        [self.node, self.top, &below].iter().collect()
    }
}

/// A pod on a host of the bed.
pub struct Pod {
    layout: Layout,
    host: Host,
    name: String,
    image: String,
    uid: String,
    folder: PathBuf,
}

impl Pod {
    /// Names it; nothing is there yet. Its uid is the only one of the machine.
    pub fn new(bed: &Bed, host: Host, layout: Layout, name: &str, image: &str) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let uid = format!("{:08x}-0000-4000-8000-{number:012x}", std::process::id());
        Self {
            layout,
            host,
            name: name.to_owned(),
            image: image.to_owned(),
            folder: bed.root().join(layout.pod(&uid)),
            uid,
        }
    }

    /// That of a pod as the API server has it: a static pod has its manifest's hash for a uid.
    pub fn of(bed: &Bed, host: Host, layout: Layout, object: &Value) -> Result<Self> {
        let text = |pointer| object.pointer(pointer).and_then(Value::as_str);
        let uid = text("/metadata/annotations/kubernetes.io~1config.hash");
        let uid = uid
            .or(text("/metadata/uid"))
            .context("the pod has no uid")?;
        Ok(Self {
            layout,
            host,
            name: text("/metadata/name").unwrap_or_default().to_owned(),
            image: text("/spec/containers/0/image")
                .unwrap_or_default()
                .to_owned(),
            folder: bed.root().join(layout.pod(uid)),
            uid: uid.to_owned(),
        })
    }

    /// Makes its cgroup, as a kubelet does before anything runs in it.
    pub fn create(&self) -> Result<()> {
        cgroup::create(&self.folder)
    }

    /// Starts what a runtime runs beside the containers: the pause container, and its watcher.
    pub fn sandbox(&self, bed: &Bed) -> Result<Vec<Process>> {
        let id = self.id("sandbox");
        let Layout { runtime, .. } = self.layout;
        let systemd = self.layout.systemd();
        let mut folders = vec![runtime.container(&id, systemd)];
        if runtime == Runtime::Crio {
            folders.push(Runtime::conmon(&id, systemd));
        }
        let started = folders.into_iter().map(|folder| {
            self.enter(bed, &folder)?;
            bed.start(self.host, Command::new("sleep").arg("infinity"))
        });
        started.collect()
    }

    /// Makes a container's cgroup in it: what is started on the host from now on runs there.
    pub fn container(&self, bed: &Bed, word: &str) -> Result<()> {
        self.enter(bed, &self.container_folder(word))
    }

    fn enter(&self, bed: &Bed, folder: &str) -> Result<()> {
        let folder = self.folder.join(folder);
        cgroup::create(&folder)?;
        bed.settle(self.host, folder);
        Ok(())
    }

    fn container_folder(&self, word: &str) -> String {
        let Layout { runtime, .. } = self.layout;
        runtime.container(&self.id(word), self.layout.systemd())
    }

    /// Removes the cgroup of a container that has ended.
    pub fn ended(&self, word: &str) -> Result<()> {
        let folder = self.container_folder(word);
        let outermost = folder.split('/').next().unwrap_or(&folder);
        cgroup::remove(&self.folder.join(outermost))
    }

    /// An id as runtimes give them, other than those of all other containers.
    fn id(&self, word: &str) -> String {
        let own = self.uid.replace('-', "");
        let word = word.bytes().map(|byte| format!("{byte:02x}"));
        format!("{:0<64.64}", own + &word.collect::<String>())
    }

    /// `containerID` of a container in the pod's status.
    pub fn container_id(&self, word: &str) -> String {
        format!("{}://{}", self.layout.runtime.scheme(), self.id(word))
    }

    /// As the API tells it.
    pub fn object(&self) -> Value {
        let mut pod = objects::pod("edge", &self.name, NODE, &[self.host.v4()], &[8080]);
        pod["metadata"]["uid"] = json!(self.uid);
        pod["spec"]["containers"][0]["image"] = json!(self.image);
        pod
    }
}
