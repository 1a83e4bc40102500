//! In: one process or cgroup that the user named. Out: the cgroup that is watched for it, now and
//! after restarts. Wrong names are errors with their remedy; what vanishes later is not.
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

use super::hierarchy::{cgroups_below, id};
use super::inside::{inhabitants, kind};
use super::kubepods::pod_of;
use super::{Reason, Roots, Target, discover, process};
use crate::cause::taxonomy::Controller;
use crate::profiles;

const NAME_KIND: &str =
    "say which it is with --controller (nginx, haproxy, envoy, traefik, caddy or unknown)";

/// A cgroup that the user named, itself or by a process in it.
#[derive(Clone, Debug)]
pub(super) struct Pin {
    pub(super) cgroup: PathBuf,
    pub(super) controller: Controller,
    /// Names of the processes that count; empty: all of them.
    pub(super) names: Vec<String>,
}

impl Pin {
    /// The cgroup of a process.
    pub(super) fn process(pid: u32, controller: Option<Controller>, roots: &Roots) -> Result<Self> {
        let found = process::comm(&roots.proc, pid)
            .and_then(|name| Some((name, discover::place(roots, pid)?)));
        let Some((name, place)) = found else {
            bail!(
                "no process has pid {pid}: name a running one, or name none and the data planes \
                 of this machine are found by themselves"
            );
        };
        let cgroup = match place {
            Ok(cgroup) => cgroup,
            Err(reason) => bail!("pid {pid} ({name}) cannot be watched: {reason}"),
        };
        ensure_cgroup2(&cgroup, roots)?;
        let profile = kind(pid, &name, roots).map(profiles::of);
        let controller = controller.or(profile.map(|profile| profile.controller));
        let controller = controller.with_context(|| {
            format!("pid {pid} ({name}) is none of the known data planes: {NAME_KIND}")
        })?;
        let names = profile.map_or_else(|| vec![name], |profile| owned(profile.names));
        Ok(Self {
            cgroup,
            controller,
            names,
        })
    }

    /// A cgroup by its folder.
    pub(super) fn cgroup(
        path: &Path,
        controller: Option<Controller>,
        roots: &Roots,
    ) -> Result<Self> {
        let cgroup = resolve(path, roots)?;
        ensure_cgroup2(&cgroup, roots)?;
        ensure!(
            !roots.cgroup2.is_root(&cgroup),
            "{} is the root cgroup, where watching would take in the whole machine: name a cgroup \
             below it",
            cgroup.display()
        );
        let found = inhabitants(&cgroup, roots);
        let profile = match controller {
            Some(controller) => Some(profiles::of(controller)),
            None => found.iter().find_map(|one| one.kind).map(profiles::of),
        };
        let profile = profile.with_context(|| {
            format!(
                "no known data plane runs in {}: {NAME_KIND}",
                cgroup.display()
            )
        })?;
        let known = found
            .iter()
            .any(|one| profile.names.contains(&one.name.as_str()));
        let names = if known || controller.is_none() {
            owned(profile.names)
        } else {
            Vec::new()
        };
        Ok(Self {
            cgroup,
            controller: profile.controller,
            names,
        })
    }

    /// What is there now, or None while the cgroup is gone.
    pub(super) fn target(&mut self, roots: &Roots) -> Result<Target, Reason> {
        let gone = |pin: &Self| Reason::Gone(pin.cgroup.clone());
        if !self.cgroup.exists() {
            self.cgroup = self.restarted(roots).ok_or_else(|| gone(self))?;
        }
        let id = id(&self.cgroup).map_err(|_| gone(self))?;
        let members = self.members(&self.cgroup, roots);
        let pids = members.iter().map(|(pid, _)| *pid).collect();
        let mut names: Vec<_> = members.into_iter().map(|(_, name)| name).collect();
        names.sort_unstable();
        names.dedup();
        Ok(Target {
            controller: self.controller,
            cgroup: self.cgroup.clone(),
            id,
            pids,
            names,
            pod: None,
            serves: None,
            foreign: Vec::new(),
        })
    }

    fn members(&self, cgroup: &Path, roots: &Roots) -> Vec<(u32, String)> {
        inhabitants(cgroup, roots)
            .into_iter()
            .map(|one| (one.pid, one.name))
            .filter(|(_, name)| self.names.is_empty() || self.names.contains(name))
            .collect()
    }

    /// A container that restarts gets a new cgroup beside the old one, in the folder of its pod.
    fn restarted(&self, roots: &Roots) -> Option<PathBuf> {
        let (pod, _) = pod_of(self.cgroup.parent()?)?;
        if self.names.is_empty() {
            return None;
        }
        let below = cgroups_below(pod)
            .ok()?
            .into_iter()
            .skip(1)
            .map(|(_, path)| path);
        below
            .into_iter()
            .find(|path| !self.members(path, roots).is_empty())
    }
}

fn owned(names: &[&str]) -> Vec<String> {
    names.iter().map(ToString::to_string).collect()
}

/// The folder itself, or a path as /proc/PID/cgroup shows it.
fn resolve(path: &Path, roots: &Roots) -> Result<PathBuf> {
    if let Ok(folder) = path.canonicalize() {
        return Ok(folder);
    }
    path.to_str()
        .and_then(|path| roots.cgroup2.folder(path))
        .filter(|folder| folder.is_dir())
        .with_context(|| {
            format!(
                "no cgroup at {}: name a folder below {}",
                path.display(),
                roots.cgroup2.dir.display()
            )
        })
}

fn ensure_cgroup2(folder: &Path, roots: &Roots) -> Result<()> {
    let has = |file: &str| folder.join(file).exists();
    let below = roots.cgroup2.dir.display();
    let path = folder.display();
    if has("cgroup.procs") && has("cgroup.controllers") {
        return Ok(());
    }
    ensure!(
        !has("cgroup.procs"),
        "{path} is a cgroup v1 folder: name its v2 folder below {below}"
    );
    bail!("{path} is no cgroup: name a folder below {below}")
}
