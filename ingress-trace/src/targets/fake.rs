//! In: what a test says about processes and cgroups. Out: a fake /proc and cgroup v2 tree in a
//! temporary folder that is removed at the end. Tests only.
#![allow(clippy::unwrap_used, reason = "only tests build fake trees")]

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use super::{Hierarchy, Roots};

/// How a kubelet and a container runtime name the cgroups of pods.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Layout {
    /// The kubelet's topmost cgroup; ends in `.slice` under the systemd driver.
    top: &'static str,
    /// QoS class; none for guaranteed pods.
    class: &'static str,
    /// Name of a container's folder, around its id.
    runtime: (&'static str, &'static str),
}

/// All drivers x QoS classes x runtimes, and nested nodes.
pub(crate) const LAYOUTS: [Layout; 14] = {
    const CONTAINERD: (&str, &str) = ("cri-containerd-", ".scope");
    const CRIO: (&str, &str) = ("crio-", ".scope");
    const DOCKER: (&str, &str) = ("docker-", ".scope");
    const PLAIN: (&str, &str) = ("", "");
    const KIND: &str = "system.slice/docker-4f.scope/kubelet.slice/kubelet-kubepods.slice";
    const fn of(
        top: &'static str,
        class: &'static str,
        runtime: (&'static str, &'static str),
    ) -> Layout {
        Layout {
            top,
            class,
            runtime,
        }
    }
    [
        of("kubepods.slice", "", CONTAINERD),
        of("kubepods.slice", "burstable", CONTAINERD),
        of("kubepods.slice", "besteffort", CONTAINERD),
        of("kubepods.slice", "", CRIO),
        of("kubepods.slice", "burstable", CRIO),
        of("kubepods.slice", "besteffort", DOCKER),
        of("kubepods", "", PLAIN),
        of("kubepods", "burstable", PLAIN),
        of("kubepods", "besteffort", PLAIN),
        of("kubepods", "burstable", ("crio-", "")),
        of(KIND, "", CONTAINERD),
        of(KIND, "burstable", CONTAINERD),
        of("docker/4f/kubelet/kubepods", "besteffort", PLAIN),
        of("a.slice/a-b.slice/a-b-kubepods.slice", "burstable", CRIO),
    ]
};

impl Layout {
    /// The folder of a pod.
    pub(crate) fn pod(&self, uid: &str) -> String {
        let Self { top, class, .. } = self;
        let dash = if class.is_empty() { "" } else { "-" };
        let Some(slice) = top.strip_suffix(".slice") else {
            return format!("{top}/{class}/pod{uid}").replace("//", "/");
        };
        let stem = slice.rsplit('/').next().unwrap();
        let uid = uid.replace('-', "_");
        let pod = format!("{stem}{dash}{class}-pod{uid}.slice");
        if class.is_empty() {
            format!("{top}/{pod}")
        } else {
            format!("{top}/{stem}-{class}.slice/{pod}")
        }
    }

    /// The folder of a container in it.
    pub(crate) fn container(&self, uid: &str, id: &str) -> String {
        let (front, back) = self.runtime;
        format!("{}/{front}{id}{back}", self.pod(uid))
    }
}

/// The fake tree.
pub(crate) struct Tree {
    dir: PathBuf,
}

impl Tree {
    /// An empty /proc and an empty root cgroup.
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("ingress-trace-tree-{}-{number}", std::process::id());
        let tree = Self {
            dir: std::env::temp_dir().join(name),
        };
        std::fs::create_dir_all(tree.proc()).unwrap();
        tree.cgroup("", &[]);
        tree
    }

    /// The fake /proc.
    pub(crate) fn proc(&self) -> PathBuf {
        self.dir.join("proc")
    }

    /// The fake mount of cgroup v2.
    pub(crate) fn cgroup2(&self) -> PathBuf {
        self.dir.join("cgroup")
    }

    /// Roots as on a host.
    pub(crate) fn roots(&self) -> Roots {
        let cgroup2 = Hierarchy::whole(self.cgroup2());
        Roots {
            proc: self.proc(),
            cgroup2,
            cpu: None,
            memory: None,
            freezer: None,
        }
    }

    /// Makes a cgroup that holds these processes.
    pub(crate) fn cgroup(&self, name: &str, pids: &[u32]) -> PathBuf {
        let folder = if name.is_empty() {
            self.cgroup2()
        } else {
            self.cgroup2().join(name)
        };
        std::fs::create_dir_all(&folder).unwrap();
        for up in folder
            .ancestors()
            .take_while(|up| up.starts_with(self.cgroup2()))
        {
            for file in ["cgroup.procs", "cgroup.controllers", "cgroup.type"] {
                if !up.join(file).exists() && (file != "cgroup.type" || up != self.cgroup2()) {
                    std::fs::write(up.join(file), "").unwrap();
                }
            }
        }
        let file = folder.join("cgroup.procs");
        let mut procs = std::fs::OpenOptions::new().append(true).open(file).unwrap();
        for pid in pids {
            writeln!(procs, "{pid}").unwrap();
        }
        folder
    }

    /// Starts a process in a cgroup (by its name below the root).
    pub(crate) fn process(&self, pid: u32, comm: &str, cgroup: &str) {
        self.write(&format!("proc/{pid}/comm"), &format!("{comm}\n"));
        self.write(
            &format!("proc/{pid}/cmdline"),
            &format!("{comm}\0-g\0daemon off;\0"),
        );
        self.write(
            &format!("proc/{pid}/cgroup"),
            &format!("1:name=systemd:/x\n0::/{cgroup}\n"),
        );
        self.cgroup(cgroup, &[pid]);
    }

    /// Ends a process.
    pub(crate) fn end(&self, pid: u32, cgroup: &str) {
        std::fs::remove_dir_all(self.proc().join(pid.to_string())).unwrap();
        let file = self.cgroup2().join(cgroup).join("cgroup.procs");
        let text = std::fs::read_to_string(&file).unwrap();
        let left: Vec<_> = text
            .lines()
            .filter(|line| *line != pid.to_string())
            .collect();
        std::fs::write(&file, left.join("\n") + "\n").unwrap();
    }

    /// Writes a file of the tree.
    pub(crate) fn write(&self, path: &str, text: &str) {
        let path = self.dir.join(path);
        std::fs::create_dir_all(path.parent().unwrap_or(Path::new("/"))).unwrap();
        std::fs::write(path, text).unwrap();
    }

    /// Makes a link, as /proc has them for descriptors and namespaces.
    pub(crate) fn link(&self, path: &str, to: &str) {
        let path = self.dir.join(path);
        std::fs::create_dir_all(path.parent().unwrap_or(Path::new("/"))).unwrap();
        std::os::unix::fs::symlink(to, path).unwrap();
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}
