//! In: /proc. Out: every known data plane of the machine and the topmost cgroups that hold them.
//! One pass, cheap enough for every second; must keep no state.
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::hierarchy::{self, id};
use super::inside::{foreign, inhabitants};
use super::kubepods::pod_of;
use super::{Found, Reason, Roots, Skipped, Target, process};
use crate::cause::taxonomy::Controller;
use crate::profiles::{self, Profile};

/// A process of a known data plane.
struct Member {
    pid: u32,
    name: String,
    profile: &'static Profile,
}

/// Looks at all processes; with `only`, at those of one kind.
pub(super) fn discover(roots: &Roots, only: Option<Controller>) -> std::io::Result<Found> {
    let mut groups: BTreeMap<PathBuf, Vec<Member>> = BTreeMap::new();
    let mut skipped = BTreeMap::new();
    for pid in process::pids(&roots.proc)? {
        let Some(member) = recognize(roots, pid) else {
            continue;
        };
        if only.is_some_and(|only| only != member.profile.controller) {
            continue;
        }
        match place(roots, pid) {
            Some(Ok(folder)) => groups.entry(folder).or_default().push(member),
            Some(Err(reason)) => {
                let key = (member.profile.controller, reason);
                skipped.entry(key).or_insert_with(Vec::new).push(pid);
            }
            None => {}
        }
    }
    let targets = topmost(by_pod(groups))
        .into_iter()
        .filter_map(|(cgroup, members)| target(cgroup, members, roots));
    let skipped = skipped
        .into_iter()
        .map(|((controller, reason), pids)| Skipped {
            controller,
            pids,
            reason,
        });
    Ok(Found {
        targets: targets.collect(),
        skipped: skipped.collect(),
    })
}

fn recognize(roots: &Roots, pid: u32) -> Option<Member> {
    let name = process::comm(&roots.proc, pid)?;
    if !profiles::is_name(&name) {
        return None;
    }
    // Zombies have no command line any more, and no sockets.
    let title = process::title(&roots.proc, pid)?;
    let profile = profiles::recognize(&name, &title)?;
    (!is_sidecar(roots, pid, &title, profile)).then_some(Member { pid, name, profile })
}

fn is_sidecar(roots: &Roots, pid: u32, title: &str, profile: &Profile) -> bool {
    let parent = || process::title(&roots.proc, process::parent(&roots.proc, pid)?);
    !profile.sidecars.is_empty()
        && (profile.is_sidecar(title) || parent().is_some_and(|title| profile.is_sidecar(&title)))
}

/// The cgroup folder of a process, or why it cannot be watched; None when the process is gone.
pub(super) fn place(roots: &Roots, pid: u32) -> Option<Result<PathBuf, Reason>> {
    let cgroup = process::cgroup(&roots.proc, pid)?;
    let path = hierarchy::path(&cgroup, None)?;
    let Some(folder) = roots.cgroup2.folder(path) else {
        return Some(Err(Reason::NotMounted));
    };
    if roots.cgroup2.is_root(&folder) {
        return Some(Err(Reason::RootCgroup));
    }
    Some(Ok(folder))
}

/// A pod outlives its containers: where it holds one kind of data plane, it is watched as a whole.
fn by_pod(groups: BTreeMap<PathBuf, Vec<Member>>) -> BTreeMap<PathBuf, Vec<Member>> {
    let mut kinds: BTreeMap<PathBuf, BTreeSet<Controller>> = BTreeMap::new();
    for (cgroup, members) in &groups {
        if let Some((pod, _)) = pod_of(cgroup) {
            let kinds = kinds.entry(pod.to_path_buf()).or_default();
            kinds.extend(members.iter().map(|member| member.profile.controller));
        }
    }
    let mut merged: BTreeMap<PathBuf, Vec<Member>> = BTreeMap::new();
    for (cgroup, members) in groups {
        let pod = pod_of(&cgroup).map(|(pod, _)| pod);
        let pod = pod.filter(|pod| kinds.get(*pod).is_some_and(|kinds| kinds.len() == 1));
        let place = pod.map_or_else(|| cgroup.clone(), Path::to_path_buf);
        merged.entry(place).or_default().extend(members);
    }
    merged
}

/// Merges what lies below another group into it: programs on both would count twice.
fn topmost(groups: BTreeMap<PathBuf, Vec<Member>>) -> Vec<(PathBuf, Vec<Member>)> {
    let mut merged: Vec<(PathBuf, Vec<Member>)> = Vec::new();
    // Paths sort by component: what lies below a folder follows it at once.
    for (cgroup, members) in groups {
        match merged.last_mut() {
            Some((top, all)) if cgroup.starts_with(&*top) => all.extend(members),
            _ => merged.push((cgroup, members)),
        }
    }
    merged
}

/// None when the cgroup has gone meanwhile.
fn target(cgroup: PathBuf, mut members: Vec<Member>, roots: &Roots) -> Option<Target> {
    let controller = members.first()?.profile.controller;
    members.sort_by_key(|member| member.pid);
    let pids = members.iter().map(|member| member.pid).collect();
    let mut names: Vec<_> = members.into_iter().map(|member| member.name).collect();
    names.sort_unstable();
    names.dedup();
    Some(Target {
        controller,
        id: id(&cgroup).ok()?,
        // Elsewhere the members are all that is known in it.
        foreign: if pod_of(&cgroup).is_some() {
            foreign(&inhabitants(&cgroup, roots), controller)
        } else {
            Vec::new()
        },
        cgroup,
        pids,
        names,
        pod: None,
        serves: None,
    })
}
