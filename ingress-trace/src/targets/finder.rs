//! In: a selection, and the pods of this node where there is an API. Out: what to watch, asked again
//! every second. Names that are wrong at the start are errors; later only `Found` changes.
use anyhow::{Context, Result, ensure};

use super::pin::Pin;
use super::pods::{Pods, Rules};
use super::{Found, Roots, Selection, Skipped, Target, discover};
use crate::cause::taxonomy::Controller;
use crate::cluster::Update;
use crate::cluster::object::{Kind, Name, Object, Pod};

/// What is known of the API's pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cluster {
    /// There is none, or it does not answer: processes are looked for.
    Absent,
    /// It has not answered yet.
    Awaited,
    /// It has told the pods of this node.
    Known,
}

/// Follows a selection over time.
#[derive(Debug)]
pub struct Finder {
    roots: Roots,
    only: Option<Controller>,
    /// What the user named, outermost cgroups only; empty: discovery.
    pins: Vec<Pin>,
    discovers: bool,
    cluster: Cluster,
    pods: Pods,
}

/// What a selection names at this moment.
pub fn find(selection: &Selection, roots: &Roots) -> Result<Found> {
    Finder::new(selection, roots.clone())?.find()
}

impl Finder {
    /// Resolves what was named. Processes are followed by their cgroup from here on.
    pub fn new(selection: &Selection, roots: Roots) -> Result<Self> {
        let controller = selection.controller;
        let discovers =
            selection.pids.is_empty() && selection.cgroups.is_empty() && selection.pods.is_empty();
        ensure!(
            !discovers
                || !selection.selectors.is_empty()
                || controller != Some(Controller::Unknown),
            "an unknown controller cannot be found by itself: name it with --pid or --cgroup"
        );
        let mut pins = Vec::new();
        for pid in &selection.pids {
            pins.push(Pin::process(*pid, controller, &roots)?);
        }
        for path in &selection.cgroups {
            pins.push(Pin::cgroup(path, controller, &roots)?);
        }
        Ok(Self {
            roots,
            only: controller,
            pins: outermost(pins),
            discovers,
            cluster: Cluster::Absent,
            pods: Pods::new(Rules::new(selection)),
        })
    }

    /// There is an API: until it has told this node's pods, or [`Finder::fall_back`], no processes
    /// are looked for.
    pub fn await_pods(&mut self, node: &str) {
        self.cluster = Cluster::Awaited;
        self.pods.of_node(node);
    }

    /// The API has not answered: processes are looked for until it does.
    pub fn fall_back(&mut self) {
        if self.cluster == Cluster::Awaited {
            self.cluster = Cluster::Absent;
        }
    }

    /// Takes all pods of this node, those of others aside; from now on the API is believed. Whether
    /// there is something else to watch than before; so do the two below.
    pub fn replace_pods<'a>(&mut self, pods: impl IntoIterator<Item = &'a Pod>) -> bool {
        let first = self.cluster != Cluster::Known;
        self.cluster = Cluster::Known;
        self.pods.replace(pods) || first
    }

    /// Takes a pod that is new or has changed.
    pub fn apply_pod(&mut self, pod: &Pod) -> bool {
        self.pods.apply(pod)
    }

    /// Forgets a pod.
    pub fn delete_pod(&mut self, name: &Name) -> bool {
        self.pods.delete(name)
    }

    /// Whether the API has yet to tell this node's pods.
    pub fn awaits(&self) -> bool {
        self.cluster == Cluster::Awaited
    }

    /// Takes what the API told, as far as it is of pods.
    pub fn learn(&mut self, update: &Update) -> bool {
        fn pod(object: &Object) -> Option<&Pod> {
            match object {
                Object::Pod(pod) => Some(pod),
                _ => None,
            }
        }
        match update {
            Update::Apply(object) => pod(object).is_some_and(|pod| self.apply_pod(pod)),
            Update::Delete(Kind::Pod, name) => self.delete_pod(name),
            Update::Replace(Kind::Pod, objects) => {
                self.replace_pods(objects.iter().filter_map(pod))
            }
            Update::Delete(..) | Update::Replace(..) => false,
        }
    }

    /// Whether something is watched for whose sake the API is to be asked for more: an ingress pod
    /// on this node, or what the user named.
    pub fn has_ingress(&self) -> bool {
        self.pods.any() || !self.pins.is_empty()
    }

    /// Whether there is more to find since it was looked last: a pod whose cgroup has come. Cheap
    /// enough for ten times a second, so that a pod is watched before its first request.
    pub fn arrived(&self) -> bool {
        self.pods.arrived()
    }

    /// What is there now. Fails only when /proc itself cannot be read.
    pub fn find(&mut self) -> Result<Found> {
        let mut found = Found::default();
        if self.discovers && self.cluster == Cluster::Absent {
            found = discover::discover(&self.roots, self.only)
                .with_context(|| format!("failed to list {}", self.roots.proc.display()))?;
        }
        for pin in &mut self.pins {
            match pin.target(&self.roots) {
                Ok(target) => found.targets.push(target),
                Err(reason) => {
                    let controller = pin.controller;
                    found.skipped.push(Skipped {
                        controller,
                        pids: Vec::new(),
                        reason,
                    });
                }
            }
        }
        if self.cluster == Cluster::Known {
            let pods = self.pods.find(&self.roots);
            found.targets.extend(pods.targets);
            found.skipped.extend(pods.skipped);
        }
        found.targets = disjoint(found.targets);
        for target in found.targets.iter_mut().filter(|one| one.pod.is_none()) {
            let (pod, serves) = self.pods.of_cgroup(&target.cgroup).unzip();
            target.pod = pod;
            target.serves = serves.flatten();
        }
        Ok(found)
    }
}

/// Leaves out what lies in another target: programs on both would count twice.
fn disjoint(mut targets: Vec<Target>) -> Vec<Target> {
    // Paths sort by component: what lies below a folder follows it at once.
    targets.sort_by(|a, b| a.cgroup.cmp(&b.cgroup));
    targets.dedup_by(|lower, upper| lower.cgroup.starts_with(&upper.cgroup));
    targets
}

/// Merges what lies below another named cgroup into it: programs on both would count twice.
fn outermost(mut pins: Vec<Pin>) -> Vec<Pin> {
    pins.sort_by(|a, b| a.cgroup.cmp(&b.cgroup));
    let mut merged: Vec<Pin> = Vec::new();
    for pin in pins {
        match merged.last_mut() {
            Some(top) if pin.cgroup.starts_with(&top.cgroup) => {
                if pin.names.is_empty() || top.names.is_empty() {
                    top.names.clear();
                } else {
                    top.names.extend(pin.names);
                }
            }
            _ => merged.push(pin),
        }
    }
    merged
}

#[cfg(test)]
#[path = "finder_tests.rs"]
mod tests;
