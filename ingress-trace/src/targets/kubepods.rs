//! In: the cgroup tree. Out: the folders that kubelets made for pods, by uid, of either cgroup
//! driver, any QoS class and at any depth; where they make none, those of containers, by id. Reads
//! folder names only, and no more than it must.
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::hierarchy::folders;

/// QoS classes that have a folder of their own; guaranteed pods have none.
const CLASSES: [&str; 2] = ["burstable", "besteffort"];

/// Length of a container's id, in hexadecimal digits.
const ID: usize = 64;

/// Where kubelets keep their pods; a nested node (kind, k3d) has its own.
#[derive(Clone, Debug, Default)]
pub(super) struct Kubepods {
    tops: Vec<PathBuf>,
    /// Where runtimes keep containers that are in no pod's folder.
    shelves: BTreeSet<Shelf>,
}

/// A folder of containers, and what stands around their ids in the names of theirs.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Shelf {
    folder: PathBuf,
    front: String,
    back: String,
}

impl Kubepods {
    /// Looks for kubelets anew: a walk over all cgroups but those of pods.
    pub(super) fn scan(&mut self, base: &Path) {
        self.tops.clear();
        self.shelves.clear();
        let mut open = vec![base.to_path_buf()];
        while let Some(folder) = open.pop() {
            if stem(&folder).is_some() {
                self.tops.push(folder);
            } else {
                self.shelves.extend(shelf(&folder));
                let below = folders(&folder).unwrap_or_default();
                open.extend(below.into_iter().map(|(_, path)| path));
            }
        }
        self.tops.sort();
    }

    /// The folder of a pod, if it is there: a few probes.
    pub(super) fn folder(&self, uid: &str) -> Option<PathBuf> {
        if uid.is_empty() || uid.contains('/') {
            return None;
        }
        let mut places = self.tops.iter().flat_map(|top| places(top, uid));
        places.find(|place| place.is_dir())
    }

    /// The folders of a pod: its own, else those of its containers (`--cgroups-per-qos=false`).
    pub(super) fn folders(&self, uid: &str, containers: &[Arc<str>]) -> Vec<PathBuf> {
        if let Some(folder) = self.folder(uid) {
            return vec![folder];
        }
        let containers = containers.iter();
        containers.filter_map(|id| self.container(id)).collect()
    }

    fn container(&self, id: &str) -> Option<PathBuf> {
        let place = |shelf: &Shelf| {
            let name = format!("{}{id}{}", shelf.front, shelf.back);
            shelf.folder.join(name)
        };
        self.shelves.iter().map(place).find(|place| place.is_dir())
    }
}

/// Where a container's folder lies; none of other folders.
fn shelf(folder: &Path) -> Option<Shelf> {
    let (front, _, back) = around(folder)?;
    Some(Shelf {
        folder: folder.parent()?.to_path_buf(),
        front: front.to_owned(),
        back: back.to_owned(),
    })
}

/// A container's id in the name of its folder, and what stands before and behind it. What CRI-O runs
/// beside a container has the same id.
fn around(folder: &Path) -> Option<(&str, &str, &str)> {
    let name = folder.file_name()?.to_str()?;
    let end = name.strip_suffix(".scope").unwrap_or(name).len();
    let start = end.checked_sub(ID)?;
    let (front, rest) = name.split_at_checked(start)?;
    let (id, back) = rest.split_at_checked(ID)?;
    let is_one = id.bytes().all(|byte| byte.is_ascii_hexdigit());
    (is_one && !front.ends_with("conmon-")).then_some((front, id, back))
}

/// The id in a `containerID` of a pod's status: what stands behind its scheme.
pub(super) fn container_id(status: &str) -> Option<&str> {
    let (_, id) = status.split_once("://")?;
    let is_one = id.len() == ID && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_one.then_some(id)
}

/// The id of the container that a cgroup lies in or is.
pub(super) fn container_of(cgroup: &Path) -> Option<&str> {
    cgroup
        .ancestors()
        .find_map(|folder| Some(around(folder)?.1))
}

/// Name of a kubelet's topmost cgroup without the driver's ending; `--cgroup-root` stands before
/// it, in systemd's names with a dash.
fn stem(folder: &Path) -> Option<&str> {
    let name = folder.file_name()?.to_str()?;
    match name.strip_suffix(".slice") {
        Some(stem) => (stem == "kubepods" || stem.ends_with("-kubepods")).then_some(stem),
        None => (name == "kubepods").then_some(name),
    }
}

/// Where a pod may be: guaranteed first.
fn places(top: &Path, uid: &str) -> Vec<PathBuf> {
    let systemd = top.extension().is_some_and(|end| end == "slice");
    let Some(stem) = stem(top) else {
        return Vec::new();
    };
    if systemd {
        let uid = uid.replace('-', "_");
        let guaranteed = top.join(format!("{stem}-pod{uid}.slice"));
        let classes = CLASSES.iter().map(|class| {
            top.join(format!("{stem}-{class}.slice"))
                .join(format!("{stem}-{class}-pod{uid}.slice"))
        });
        return std::iter::once(guaranteed).chain(classes).collect();
    }
    let pod = format!("pod{uid}");
    let classes = CLASSES.iter().map(|class| top.join(class).join(&pod));
    std::iter::once(top.join(&pod)).chain(classes).collect()
}

/// The pod that a cgroup lies in or is: its folder, and its uid as its node knows it.
pub(super) fn pod_of(cgroup: &Path) -> Option<(&Path, String)> {
    cgroup
        .ancestors()
        .find_map(|folder| Some((folder, uid(folder)?)))
}

/// The uid in the name of a pod's folder.
fn uid(folder: &Path) -> Option<String> {
    // A UUID, or the MD5 of a static pod.
    const SHORTEST: usize = 32;
    let name = folder.file_name()?.to_str()?;
    let uid = match name.strip_suffix(".slice") {
        Some(name) => name
            .rsplit_once("-pod")
            .filter(|(front, _)| front.contains("kubepods"))?
            .1
            .replace('_', "-"),
        None => name.strip_prefix("pod")?.to_owned(),
    };
    let spelled = uid.chars().all(|c| c.is_ascii_hexdigit() || c == '-');
    (spelled && uid.len() >= SHORTEST).then_some(uid)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::targets::fake::{LAYOUTS, Tree};

    const POD: &str = "0f6a1f60-93f7-4a0c-8d2c-3d6c1f2e4b5a";
    const OTHER: &str = "11111111-93f7-4a0c-8d2c-3d6c1f2e4b5a";
    /// A static pod has the hash of its manifest.
    const STATIC: &str = "a5363f4f31e043bdae3c93aca4991903";

    fn found(tree: &Tree, uid: &str) -> Option<PathBuf> {
        let mut kubepods = Kubepods::default();
        kubepods.scan(&tree.cgroup2());
        kubepods.folder(uid)
    }

    #[test]
    fn a_pod_is_found_in_every_layout_and_leads_back_to_its_uid() {
        for layout in LAYOUTS {
            for uid in [POD, STATIC] {
                let tree = Tree::new();
                for name in ["system.slice/a.service", "init.scope", "user.slice/b/c"] {
                    tree.cgroup(name, &[]);
                }
                tree.cgroup(&layout.container(OTHER, "c"), &[]);
                let container = tree.cgroup(&layout.container(uid, "c"), &[]);
                let pod = container.parent().expect("a pod's folder");
                assert_eq!(found(&tree, uid).as_deref(), Some(pod), "{layout:?}");
                let expected = (pod, uid.to_owned());
                for cgroup in [&container, &container.join("below"), pod] {
                    assert_eq!(pod_of(cgroup), Some(expected.clone()), "{layout:?}");
                }
                assert_eq!(pod_of(pod.parent().expect("a parent")), None, "{layout:?}");
            }
        }
    }

    #[test]
    fn a_pod_that_is_not_there_has_no_folder() {
        let tree = Tree::new();
        assert_eq!(found(&tree, POD), None);
        tree.cgroup(&format!("kubepods/burstable/pod{OTHER}"), &[]);
        assert_eq!(found(&tree, POD), None);
        assert_eq!(found(&tree, ""), None);
    }

    #[test]
    fn containers_that_are_in_no_pods_folder_are_found_by_their_ids() {
        let [first, second, other] = ["1a", "2b", "3c"].map(|word| word.repeat(32));
        for (front, back) in [
            ("k8s.io/", ""),
            ("system.slice/crio-", ".scope"),
            ("docker/4f/docker/", ""),
        ] {
            let tree = Tree::new();
            // The first that runs shows how they are named.
            tree.cgroup(&format!("{front}{other}{back}"), &[]);
            tree.cgroup(&format!("system.slice/crio-conmon-{first}.scope"), &[]);
            tree.cgroup("system.slice/a.service", &[]);
            let mut kubepods = Kubepods::default();
            kubepods.scan(&tree.cgroup2());
            let ids = [first.clone(), second.clone()].map(Arc::from);
            assert!(kubepods.folders(POD, &ids).is_empty());
            let folder = tree.cgroup(&format!("{front}{second}{back}"), &[]);
            assert_eq!(kubepods.folders(POD, &ids), std::slice::from_ref(&folder));
            assert_eq!(container_of(&folder.join("below")), Some(&*second));
            let pod = tree.cgroup(&format!("kubepods/pod{POD}"), &[]);
            kubepods.scan(&tree.cgroup2());
            assert_eq!(kubepods.folders(POD, &ids), [pod]);
        }
    }

    #[test]
    fn an_id_is_64_digits_behind_a_scheme() {
        let id = "5e".repeat(32);
        let of = |text: String| container_id(&text).map(str::to_owned);
        assert_eq!(of(format!("cri-o://{id}")), Some(id.clone()));
        for text in [
            String::new(),
            id.clone(),
            format!("docker://{id}0"),
            format!("docker://{}", &id[2..]),
            format!("docker://{}/..", &id[3..]),
        ] {
            assert_eq!(of(text.clone()), None, "{text}");
        }
    }

    #[test]
    fn no_uid_leads_out_of_the_tree() {
        let tree = Tree::new();
        tree.cgroup("kubepods/podx", &[]);
        tree.cgroup("system.slice", &[]);
        assert_eq!(found(&tree, "x/../../system.slice"), None);
    }

    #[test]
    fn other_cgroups_are_no_pods() {
        for name in [
            "system.slice/podman-0f6a1f6093f74a0c8d2c3d6c1f2e4b5a.scope",
            "machine.slice/libpod-0f6a1f6093f74a0c8d2c3d6c1f2e4b5a.scope",
            "kubepods.slice/kubepods-burstable.slice",
            "pods/podx",
        ] {
            assert_eq!(pod_of(Path::new(name)), None, "{name}");
        }
    }
}
