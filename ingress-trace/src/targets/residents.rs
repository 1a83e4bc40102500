//! In: a pod of this node by its uid, and the cgroup tree. Out: its cgroup and processes, as those of a
//! target, so that what it is short of is read in the same way. Watches nothing.
use std::time::{Duration, Instant};

use super::hierarchy::id;
use super::inside::inhabitants;
use super::kubepods::Kubepods;
use super::{Roots, Target};
use crate::cause::taxonomy::Controller;
use crate::cluster::object::Name;

/// How often kubelets are looked for anew at most: a walk over all cgroups but those of pods.
const SCAN: Duration = Duration::from_secs(10);
/// Most processes of a pod that are looked at.
pub const PROCESSES: usize = 256;

/// Finds pods of this node.
#[derive(Debug, Default)]
pub struct Residents {
    kubepods: Kubepods,
    scanned: Option<Instant>,
}

impl Residents {
    /// The pod with this uid (as its kubelet has it), if it has a cgroup here.
    pub fn find(&mut self, pod: &Name, uid: &str, roots: &Roots) -> Option<Target> {
        let mut folder = self.kubepods.folder(uid);
        if folder.is_none() && self.scanned.is_none_or(|at| at.elapsed() >= SCAN) {
            self.scanned = Some(Instant::now());
            self.kubepods.scan(&roots.cgroup2.dir);
            folder = self.kubepods.folder(uid);
        }
        let cgroup = folder?;
        let members = inhabitants(&cgroup, roots);
        let pids = members.iter().take(PROCESSES).map(|one| one.pid);
        Some(Target {
            controller: Controller::Unknown,
            id: id(&cgroup).ok()?,
            pids: pids.collect(),
            names: Vec::new(),
            pod: Some(pod.clone()),
            serves: None,
            foreign: Vec::new(),
            cgroup,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::targets::fake::{LAYOUTS, Tree};

    const POD: &str = "0f6a1f60-93f7-4a0c-8d2c-3d6c1f2e4b5a";

    #[test]
    fn a_pod_is_found_with_the_processes_of_all_its_containers() {
        for layout in LAYOUTS {
            let tree = Tree::new();
            let pod = Name::new("shop", "cart-0");
            let mut residents = Residents::default();
            tree.process(7, "other", "system.slice/a.service");
            for (pid, container) in [(11, "main"), (12, "main"), (9, "sidecar")] {
                tree.process(pid, "app", &layout.container(POD, container));
            }
            let found = residents.find(&pod, POD, &tree.roots());
            let found = found.expect("its folder is there");
            assert_eq!(found.pids, [9, 11, 12], "{layout:?}");
            assert_eq!(found.pod, Some(pod.clone()));
            let another = POD.replace('0', "1");
            assert_eq!(residents.find(&pod, &another, &tree.roots()), None);
        }
    }
}
