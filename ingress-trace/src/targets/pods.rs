//! In: the pods of this node as the API tells them, and the cgroup tree. Out: the cgroups of those
//! that are ingress controllers. Follows what it was told last; must not ask the API.
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use super::hierarchy::id;
use super::inside::{foreign, inhabitants};
use super::kubepods::{Kubepods, container_id, container_of, pod_of};
use super::{Found, Reason, Roots, Selection, Selector, Skipped, Target};
use crate::cause::taxonomy::Controller;
use crate::cluster::object::{Name, Pod};
use crate::profiles::{self, Serves};

/// Looks in vain after which the absence of a pod's cgroup is told: a kubelet makes it at once.
const PATIENCE: u32 = 10;

/// A pod that the user named: `NAMESPACE/NAME`, or `NAME` in any namespace.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PodName {
    namespace: Option<String>,
    name: String,
}

impl PodName {
    fn is(&self, name: &Name) -> bool {
        let namespace = self.namespace.as_deref();
        namespace.is_none_or(|namespace| namespace == &*name.namespace) && self.name == *name.name
    }
}

impl FromStr for PodName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (namespace, name) = match text.split_once('/') {
            Some((namespace, name)) => (Some(namespace), name),
            None => (None, text),
        };
        if name.is_empty() || name.contains('/') || namespace == Some("") {
            return Err("a pod is named as NAME or NAMESPACE/NAME".to_owned());
        }
        Ok(Self {
            namespace: namespace.map(str::to_owned),
            name: name.to_owned(),
        })
    }
}

impl std::fmt::Display for PodName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let Some(namespace) = &self.namespace {
            write!(f, "{namespace}/")?;
        }
        f.write_str(&self.name)
    }
}

/// Which pods are watched.
#[derive(Clone, Debug, Default)]
pub(super) struct Rules {
    /// These; empty: what the profiles and the selectors say.
    named: Vec<PodName>,
    selectors: Vec<Selector>,
    /// Of profiles' pods only this kind, and of the others this one without a guess.
    controller: Option<Controller>,
    /// Processes or cgroups are named: no pod is watched unless it is named too.
    closed: bool,
}

impl Rules {
    pub(super) fn new(selection: &Selection) -> Self {
        Self {
            named: selection.pods.clone(),
            selectors: selection.selectors.clone(),
            controller: selection.controller,
            closed: !selection.pids.is_empty() || !selection.cgroups.is_empty(),
        }
    }

    /// What a pod is to be watched as, if at all.
    fn choose(&self, pod: &Pod) -> Option<(Kind, Option<Serves>)> {
        if matches!(&*pod.phase, "Succeeded" | "Failed") {
            return None;
        }
        let labels = profiles::labels(pod);
        let known = known(pod, &labels);
        let kind = self.kind(
            pod,
            &labels,
            known.as_ref().map(|(controller, _)| *controller),
        )?;
        let fits =
            |known: &Controller| kind == Kind::Given(*known) || matches!(kind, Kind::Guessed(_));
        let known = known.filter(|(known, _)| fits(known));
        Some((kind, known.map(|(_, serves)| serves)))
    }

    fn kind(
        &self,
        pod: &Pod,
        labels: &BTreeMap<String, String>,
        known: Option<Controller>,
    ) -> Option<Kind> {
        let given = self.controller.map_or(Kind::Guessed(known), Kind::Given);
        if !self.named.is_empty() || self.closed {
            let named = self.named.iter().any(|named| named.is(&pod.name));
            return named.then_some(given);
        }
        if self.selectors.iter().any(|one| one.matches(labels)) {
            return Some(given);
        }
        let wanted = known.is_some() && self.controller.is_none_or(|only| known == Some(only));
        wanted.then_some(given)
    }
}

/// The data plane that the profiles know this pod as, and what it serves.
fn known(pod: &Pod, labels: &BTreeMap<String, String>) -> Option<(Controller, Serves)> {
    profiles::deployed(pod, labels, |told, containers| {
        let namespace = &pod.name.namespace;
        let serves = told.packaging.serves(labels, namespace, containers);
        (told.controller, serves)
    })
}

/// Which data plane a pod is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// The user says so.
    Given(Controller),
    /// The API's object says so, or nothing does.
    Guessed(Option<Controller>),
}

/// A pod of this node.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Noted {
    /// As the kubelet has it.
    uid: Arc<str>,
    /// Ids of its containers, where the status has told them.
    containers: Vec<Arc<str>>,
    /// None: no ingress.
    kind: Option<Kind>,
    /// Which routes it serves, where the profiles know it.
    serves: Option<Arc<Serves>>,
}

/// The pods of this node, and which of them are ingresses.
#[derive(Clone, Debug, Default)]
pub(super) struct Pods {
    rules: Rules,
    node: String,
    noted: BTreeMap<Name, Noted>,
    kubepods: Kubepods,
    /// How often in a row an ingress' cgroup was not there, by uid.
    missing: HashMap<Arc<str>, u32>,
}

impl Pods {
    pub(super) fn new(rules: Rules) -> Self {
        Self {
            rules,
            ..Self::default()
        }
    }

    /// Pods of other nodes are nothing to us.
    pub(super) fn of_node(&mut self, node: &str) {
        node.clone_into(&mut self.node);
    }

    /// Takes all pods of this node; whether other cgroups are to be watched than before. So do the
    /// two below.
    pub(super) fn replace<'a>(&mut self, pods: impl IntoIterator<Item = &'a Pod>) -> bool {
        let before = std::mem::take(&mut self.noted);
        for pod in pods {
            self.apply(pod);
        }
        let ingresses = |pods: &BTreeMap<Name, Noted>| -> Vec<_> {
            let all = pods.values().filter(|pod| pod.kind.is_some());
            all.cloned().collect()
        };
        ingresses(&before) != ingresses(&self.noted)
    }

    /// Takes a pod that is new or has changed.
    pub(super) fn apply(&mut self, pod: &Pod) -> bool {
        if pod.node.as_deref() != Some(&self.node) {
            return false;
        }
        let (kind, serves) = self.rules.choose(pod).unzip();
        let noted = Noted {
            uid: Arc::clone(pod.local_uid()),
            containers: containers(pod),
            kind,
            serves: serves.flatten().map(Arc::new),
        };
        let ingress = noted.kind.is_some();
        match self.noted.insert(pod.name.clone(), noted.clone()) {
            Some(before) => before != noted && (ingress || before.kind.is_some()),
            None => ingress,
        }
    }

    /// Forgets a pod.
    pub(super) fn delete(&mut self, name: &Name) -> bool {
        let gone = self.noted.remove(name);
        gone.is_some_and(|pod| pod.kind.is_some())
    }

    /// Whether there is an ingress pod.
    pub(super) fn any(&self) -> bool {
        self.noted.values().any(|pod| pod.kind.is_some())
    }

    /// Whether the cgroup of a pod is there that was not when [`Pods::find`] looked last.
    pub(super) fn arrived(&self) -> bool {
        let mut missing = self.noted.values();
        !self.missing.is_empty()
            && missing
                .any(|pod| self.missing.contains_key(&pod.uid) && !self.folders(pod).is_empty())
    }

    fn folders(&self, pod: &Noted) -> Vec<PathBuf> {
        self.kubepods.folders(&pod.uid, &pod.containers)
    }

    /// The name of the pod that a cgroup lies in, and what it serves.
    pub(super) fn of_cgroup(&self, cgroup: &Path) -> Option<(Name, Option<Arc<Serves>>)> {
        let uid = pod_of(cgroup).map(|(_, uid)| uid);
        let id = container_of(cgroup).filter(|_| uid.is_none());
        let is_it = |pod: &Noted| match &uid {
            Some(uid) => *pod.uid == **uid,
            None => pod.containers.iter().any(|one| Some(&**one) == id),
        };
        let mut pods = self.noted.iter();
        let (name, pod) = pods.find(|(_, pod)| is_it(pod))?;
        Some((name.clone(), pod.serves.clone()))
    }

    /// The cgroups of the ingress pods as of now.
    pub(super) fn find(&mut self, roots: &Roots) -> Found {
        let mut found = Found::default();
        found.skipped.extend(self.absent());
        let before = std::mem::take(&mut self.missing);
        for (name, pod) in &self.noted {
            let Some(kind) = pod.kind else { continue };
            let misses = before.get(&pod.uid).map_or(1, |misses| misses + 1);
            // A kubelet, or a nested node, that has only just begun; seldom, the longer it lasts.
            let mut folders = self.folders(pod);
            if folders.is_empty() && misses.is_power_of_two() {
                self.kubepods.scan(&roots.cgroup2.dir);
                folders = self.folders(pod);
            }
            let targets = targets(name, kind, folders, roots);
            if !targets.is_empty() {
                found
                    .targets
                    .extend(targets.into_iter().map(|target| Target {
                        serves: pod.serves.clone(),
                        ..target
                    }));
                continue;
            }
            self.missing.insert(Arc::clone(&pod.uid), misses);
            if misses > PATIENCE {
                let controller = kind.settle(&[]);
                let reason = Reason::NoCgroup(name.clone());
                found.skipped.push(skipped(controller, reason));
            }
        }
        found
    }

    /// What the user named and this node does not have.
    fn absent(&self) -> impl Iterator<Item = Skipped> {
        let named = self.rules.named.iter();
        named
            .filter(|named| !self.noted.keys().any(|name| named.is(name)))
            .map(|named| skipped(Controller::Unknown, Reason::NoPod(named.clone())))
    }
}

fn skipped(controller: Controller, reason: Reason) -> Skipped {
    Skipped {
        controller,
        pids: Vec::new(),
        reason,
    }
}

impl Kind {
    /// Which data plane it is, given the kinds of its processes. Envoy beside another, or in place
    /// of what the API's object says, is a mesh's sidecar.
    fn settle(self, running: &[Controller]) -> Controller {
        let guess = match self {
            Self::Given(controller) => return controller,
            Self::Guessed(guess) => guess,
        };
        let main = running.iter().find(|kind| **kind != Controller::Envoy);
        match guess {
            Some(guess) if main.is_none() || running.contains(&guess) => guess,
            _ => *main.or(running.first()).unwrap_or(&Controller::Unknown),
        }
    }
}

/// Ids of a pod's containers.
fn containers(pod: &Pod) -> Vec<Arc<str>> {
    let ids = pod.containers.iter().filter_map(|one| one.id.as_deref());
    ids.filter_map(container_id).map(Arc::from).collect()
}

/// Those of several cgroups of a pod in which the data plane runs; all, as long as it does in none.
fn targets(pod: &Name, kind: Kind, folders: Vec<PathBuf>, roots: &Roots) -> Vec<Target> {
    let folders = folders.into_iter();
    let all = folders.filter_map(|folder| target(pod, kind, folder, roots));
    let runs = |target: &Target| {
        let names = profiles::of(target.controller).names;
        target.names.iter().any(|name| names.contains(&&**name))
    };
    let (running, others): (Vec<_>, Vec<_>) = all.partition(runs);
    if running.is_empty() { others } else { running }
}

/// None when the cgroup has gone meanwhile.
fn target(pod: &Name, kind: Kind, cgroup: PathBuf, roots: &Roots) -> Option<Target> {
    let mut members = inhabitants(&cgroup, roots);
    let running: Vec<_> = members.iter().filter_map(|one| one.kind).collect();
    let controller = kind.settle(&running);
    let there = running.contains(&controller);
    // Where none is of the kind that the user says, all may be.
    let foreign = match kind {
        Kind::Given(_) if !there => Vec::new(),
        _ => foreign(&members, controller),
    };
    if there || !foreign.is_empty() {
        members.retain(|one| one.kind == Some(controller));
    }
    let pids = members.iter().map(|one| one.pid).collect();
    let mut names: Vec<_> = members.into_iter().map(|one| one.name).collect();
    names.sort_unstable();
    names.dedup();
    Some(Target {
        controller,
        id: id(&cgroup).ok()?,
        cgroup,
        pids,
        names,
        pod: Some(pod.clone()),
        serves: None,
        foreign,
    })
}

#[cfg(test)]
#[path = "pods_tests.rs"]
mod tests;
