//! In: a cgroup. Out: the processes in it and below, and which data plane each is. Reads /proc and
//! cgroup.procs; must tolerate that all of it goes away meanwhile.
use std::path::Path;

use super::hierarchy::cgroups_below;
use super::{Roots, process};
use crate::cause::taxonomy::Controller;
use crate::profiles;

/// A process in a cgroup.
#[derive(Clone, Debug)]
pub(super) struct Inhabitant {
    pub(super) pid: u32,
    /// Name of its main thread.
    pub(super) name: String,
    /// Id of the cgroup that it is in itself.
    pub(super) cgroup: u64,
    /// Which data plane it is, if it is a known one.
    pub(super) kind: Option<Controller>,
}

/// All processes in a cgroup and below, in order.
pub(super) fn inhabitants(cgroup: &Path, roots: &Roots) -> Vec<Inhabitant> {
    let mut found = Vec::new();
    for (cgroup, folder) in cgroups_below(cgroup).unwrap_or_default() {
        let text = std::fs::read_to_string(folder.join("cgroup.procs")).unwrap_or_default();
        let pids = text.lines().filter_map(|line| line.parse().ok());
        found.extend(pids.filter_map(|pid| {
            let name = process::comm(&roots.proc, pid)?;
            let kind = kind(pid, &name, roots);
            Some(Inhabitant {
                pid,
                name,
                cgroup,
                kind,
            })
        }));
    }
    found.sort_by_key(|one| one.pid);
    found
}

/// Which data plane a process is.
pub(super) fn kind(pid: u32, name: &str, roots: &Roots) -> Option<Controller> {
    if !profiles::is_name(name) {
        return None;
    }
    let title = process::title(&roots.proc, pid).unwrap_or_default();
    Some(profiles::recognize(name, &title)?.controller)
}

/// Ids of the cgroups that hold data planes of other kinds only, a mesh's sidecar: what they do is
/// not this controller's.
pub(super) fn foreign(all: &[Inhabitant], controller: Controller) -> Vec<u64> {
    let is_own = |one: &&Inhabitant| one.kind == Some(controller);
    let own: Vec<u64> = all.iter().filter(is_own).map(|one| one.cgroup).collect();
    let mut others: Vec<u64> = all
        .iter()
        .filter(|one| one.kind.is_some() && !own.contains(&one.cgroup))
        .map(|one| one.cgroup)
        .collect();
    others.sort_unstable();
    others.dedup();
    others
}
