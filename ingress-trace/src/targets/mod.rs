//! In: what the user named (or nothing), /proc and the cgroup tree. Out: the cgroups to watch.
//! Must not touch the kernel beyond reading those files, and must tolerate that all of it changes.
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};

use crate::cause::taxonomy::Controller;
use crate::cluster::object::Name;
use crate::profiles::Serves;

mod discover;
#[cfg(test)]
pub(crate) mod fake;
mod finder;
pub mod hierarchy;
mod inside;
mod kubepods;
mod pin;
mod pods;
pub mod process;
mod residents;
mod selector;

pub use finder::{Finder, find};
pub use hierarchy::{Hierarchy, cgroups_below};
pub use pods::PodName;
pub use process::{NetworkNamespace, network_namespaces, socket_inodes};
pub use residents::{PROCESSES, Residents};
pub use selector::Selector;

/// What the user named; without processes, cgroups and pods, all data planes of the machine: as its
/// pods where the API tells them, else as its processes.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    /// Processes whose cgroups are watched.
    pub pids: Vec<u32>,
    /// Folders of cgroup v2, or their paths as /proc/PID/cgroup shows them.
    pub cgroups: Vec<PathBuf>,
    /// Pods of this node, known once the API has told them.
    pub pods: Vec<PodName>,
    /// Further pods that are ingress controllers, beside those that the profiles know.
    pub selectors: Vec<Selector>,
    /// Overrides the guess; when nothing else is named, only this kind is looked for.
    pub controller: Option<Controller>,
}

/// Where the trees are; tests use fake ones.
#[derive(Clone, Debug)]
pub struct Roots {
    /// The proc file system.
    pub proc: PathBuf,
    /// cgroup v2, pure or beside v1.
    pub cgroup2: Hierarchy,
    /// The v1 hierarchy with the `cpu` controller, where v2 does not have it.
    pub cpu: Option<Hierarchy>,
    /// The same with `memory`.
    pub memory: Option<Hierarchy>,
    /// The same with `freezer`.
    pub freezer: Option<Hierarchy>,
}

impl Roots {
    /// Finds the hierarchies in the mounts of this process, as `proc` shows them.
    pub fn detect(proc: &Path) -> Result<Self> {
        let read = |file: &str| {
            let path = proc.join("self").join(file);
            std::fs::read_to_string(&path)
                .with_context(|| format!("failed to read {}", path.display()))
        };
        let mounts = hierarchy::mounts(&read("mountinfo")?);
        let own = read("cgroup")?;
        let place = |mount, controller| {
            Hierarchy::new(mount, std::process::id(), hierarchy::path(&own, controller))
        };
        let cgroup2 = hierarchy::highest(&mounts, |mount| mount.kind == "cgroup2")
            .context("no cgroup v2 hierarchy is mounted: mount -t cgroup2 none /sys/fs/cgroup")?;
        let old = |controller: &'static str| {
            let mount = hierarchy::highest(&mounts, |mount| {
                let mut options = mount.options.split(',');
                mount.kind == "cgroup" && options.any(|option| option == controller)
            })?;
            Some(place(mount, Some(controller)))
        };
        Ok(Self {
            proc: proc.to_path_buf(),
            cgroup2: place(cgroup2, None),
            cpu: old("cpu"),
            memory: old("memory"),
            freezer: old("freezer"),
        })
    }
}

/// One cgroup to watch, with everything below it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Which data plane.
    pub controller: Controller,
    /// Absolute path of its cgroup v2 folder.
    pub cgroup: PathBuf,
    /// Inode number of that folder: the cgroup's id.
    pub id: u64,
    /// Processes of the data plane in it and below, in order; empty while it restarts.
    pub pids: Vec<u32>,
    /// Their names (comm), each once.
    pub names: Vec<String>,
    /// The pod it is, or lies in, where the API has told.
    pub pod: Option<Name>,
    /// Which routes that pod serves.
    pub serves: Option<Arc<Serves>>,
    /// Ids of cgroups below that hold another data plane only: a mesh's sidecar.
    pub foreign: Vec<u64>,
}

/// The state at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// What to watch, by path.
    pub targets: Vec<Target>,
    /// What cannot be watched.
    pub skipped: Vec<Skipped>,
}

/// Processes of a data plane, or a named cgroup, that cannot be watched now.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Skipped {
    /// Which data plane.
    pub controller: Controller,
    /// Its processes, in order.
    pub pids: Vec<u32>,
    /// Why not.
    pub reason: Reason,
}

/// Why something cannot be watched.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// It runs in the root cgroup: watching that would take in the whole machine.
    RootCgroup,
    /// Its cgroup lies outside what is mounted here.
    NotMounted,
    /// The named cgroup has gone; it is watched again when it comes back.
    Gone(PathBuf),
    /// The named pod is none of this node's.
    NoPod(PodName),
    /// The pod has no cgroup here.
    NoCgroup(Name),
}

impl std::fmt::Display for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::RootCgroup => f.write_str(
                "it is in the root cgroup, where watching would take in the whole machine: start \
                 it as a service, in a container, or from a shell in a cgroup of its own (mkdir \
                 CGROUP && echo $$ > CGROUP/cgroup.procs)",
            ),
            Self::NotMounted => f.write_str(
                "its cgroup lies outside the hierarchy that is mounted here: mount the host's \
                 /sys/fs/cgroup and use the host's PID namespace",
            ),
            Self::Gone(cgroup) => write!(f, "its cgroup {} has gone", cgroup.display()),
            Self::NoPod(pod) => write!(
                f,
                "no pod {pod} is on this node: it is watched as soon as it comes"
            ),
            Self::NoCgroup(pod) => write!(
                f,
                "no cgroup of pod {pod} is mounted here: mount the host's /sys/fs/cgroup, and see \
                 that --node names this node"
            ),
        }
    }
}
