//! Pods as a kubelet and its runtime have them: cgroups in their layouts, containers that come and
//! go in them, and the pod as the API tells it. Must not touch a cgroup outside of the bed's.
use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::bed::{Bed, Host};
use crate::{cgroup, objects};

/// The node that the pods are on.
pub const NODE: &str = "node-1";
/// The image of an ingress controller, as its manifests have it.
pub const INGRESS: &str = "registry.k8s.io/ingress-nginx/controller:v1.13.0";
/// The image of a web server, which is no ingress.
pub const WEB: &str = "docker.io/library/nginx:1.29";

/// How cgroups are named.
#[derive(Clone, Copy, Debug)]
pub enum Layout {
    /// systemd's driver, containerd, a burstable pod.
    Systemd,
    /// The cgroupfs driver, plain names, a guaranteed pod.
    Cgroupfs,
    /// systemd's driver in a node that is a container itself, a best-effort pod.
    Kind,
}

impl Layout {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Systemd, Self::Cgroupfs, Self::Kind];

    fn pod(self, uid: &str) -> String {
        let low = uid.replace('-', "_");
        match self {
            Self::Systemd => {
                format!("kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{low}.slice")
            }
            Self::Cgroupfs => format!("kubepods/pod{uid}"),
            Self::Kind => format!(
                "system.slice/docker-4f2a.scope/kubelet.slice/kubelet-kubepods.slice/\
                 kubelet-kubepods-besteffort.slice/kubelet-kubepods-besteffort-pod{low}.slice"
            ),
        }
    }

    fn container(self, id: &str) -> String {
        match self {
            Self::Systemd | Self::Kind => format!("cri-containerd-{id}.scope"),
            Self::Cgroupfs => id.to_owned(),
        }
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

    /// Makes a container's cgroup in it: what is started on the host from now on runs there.
    pub fn container(&self, bed: &Bed, id: &str) -> Result<()> {
        let folder = self.folder.join(self.layout.container(id));
        cgroup::create(&folder)?;
        bed.settle(self.host, folder);
        Ok(())
    }

    /// Removes the cgroup of a container that has ended.
    pub fn ended(&self, id: &str) -> Result<()> {
        let folder = self.folder.join(self.layout.container(id));
        fs::remove_dir(&folder).context("failed to remove the container's cgroup")
    }

    /// As the API tells it.
    pub fn object(&self) -> Value {
        let mut pod = objects::pod("edge", &self.name, NODE, &[self.host.v4()], &[8080]);
        pod["metadata"]["uid"] = json!(self.uid);
        pod["spec"]["containers"][0]["image"] = json!(self.image);
        pod
    }
}
