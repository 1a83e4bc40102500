//! In: mountinfo and the paths of /proc/PID/cgroup. Out: folders below a mounted cgroup hierarchy.
//! Must not guess: a path that the mount does not show has no folder.
use std::ffi::OsStr;
use std::io;
use std::os::unix::fs::DirEntryExt;
use std::path::{Path, PathBuf};

/// One line of mountinfo, as far as it matters here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// The part of the file system that is mounted, seen from our cgroup namespace.
    pub root: String,
    /// Where it is mounted.
    pub point: PathBuf,
    /// File system type.
    pub kind: String,
    /// Options of the file system; v1 names its controllers here.
    pub options: String,
}

/// Parses /proc/PID/mountinfo; lines that make no sense are left out.
pub fn mounts(mountinfo: &str) -> Vec<Mount> {
    mountinfo.lines().filter_map(mount).collect()
}

fn mount(line: &str) -> Option<Mount> {
    let (left, right) = line.split_once(" - ")?;
    let mut left = left.split(' ').skip(3);
    let mut right = right.split(' ');
    Some(Mount {
        root: unescape(left.next()?),
        point: PathBuf::from(unescape(left.next()?)),
        kind: right.next()?.to_owned(),
        options: right.nth(1).unwrap_or_default().to_owned(),
    })
}

/// Undoes the kernel's `\040` for blanks and the like.
fn unescape(field: &str) -> String {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        let octal = (*first == b'\\').then(|| tail.get(..3)).flatten();
        let code = octal
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 8).ok());
        bytes.push(code.unwrap_or(*first));
        rest = if code.is_some() { &tail[3..] } else { tail };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The mount that shows most: of those that `wanted` names, the one whose root is highest.
pub fn highest(mounts: &[Mount], wanted: impl Fn(&Mount) -> bool) -> Option<&Mount> {
    let rank = |mount: &&Mount| {
        let Steps { up, down } = steps(&mount.root);
        (std::cmp::Reverse(up), down.len())
    };
    mounts.iter().filter(|mount| wanted(mount)).min_by_key(rank)
}

/// A path of /proc/PID/cgroup: so many folders up from our namespace's root, then down.
struct Steps<'a> {
    up: usize,
    down: Vec<&'a str>,
}

fn steps(path: &str) -> Steps<'_> {
    let mut parts = path.split('/').filter(|part| !part.is_empty()).peekable();
    let mut up = 0;
    while parts.next_if_eq(&"..").is_some() {
        up += 1;
    }
    Steps {
        up,
        down: parts.collect(),
    }
}

/// A mounted cgroup hierarchy and where our cgroup namespace's root lies in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hierarchy {
    /// Mount point.
    pub dir: PathBuf,
    /// How many folders the mount's root lies above our namespace's root, ...
    up: usize,
    /// ... and the names from there down to it (a mount of a part of the hierarchy).
    hidden: Vec<String>,
    /// The names from the mount's root down to our namespace's root; empty when not known.
    origin: Vec<String>,
}

impl Hierarchy {
    /// A hierarchy that is mounted whole and seen from its own root, as on any host.
    pub fn whole(dir: impl Into<PathBuf>) -> Self {
        Self {
            dir: dir.into(),
            up: 0,
            hidden: Vec::new(),
            origin: Vec::new(),
        }
    }

    /// Places our namespace in `mount`. In a container that sees the host's mount this looks for
    /// the folder of `own`, our process (`pid`, and its path in /proc/self/cgroup): once, at start.
    pub fn new(mount: &Mount, pid: u32, own: Option<&str>) -> Self {
        let root = steps(&mount.root);
        let mut hierarchy = Self::whole(&mount.point);
        hierarchy.up = root.up;
        hierarchy.hidden = root.down.iter().map(ToString::to_string).collect();
        if root.up > 0 && root.down.is_empty() {
            let below = steps(own.unwrap_or("/")).down.len();
            let home = home(&mount.point, pid).unwrap_or_default();
            let names = home.strip_prefix(&mount.point).unwrap_or(Path::new(""));
            let names = names.iter().map(|name| name.to_string_lossy().into_owned());
            hierarchy.origin = names.collect();
            let depth = hierarchy.origin.len().saturating_sub(below);
            hierarchy.origin.truncate(depth);
        }
        hierarchy
    }

    /// The folder of a path as in /proc/PID/cgroup, or None when the mount does not show it.
    pub fn folder(&self, path: &str) -> Option<PathBuf> {
        let Steps { up, down } = steps(path);
        if up == self.up {
            let mut down = down.into_iter();
            let shown = self.hidden.iter().all(|name| down.next() == Some(name));
            return shown.then(|| self.dir.iter().chain(down.map(OsStr::new)).collect());
        }
        if !self.hidden.is_empty() || self.origin.len() != self.up {
            return None;
        }
        let kept = self.up.checked_sub(up)?;
        let mut folder = self.dir.clone();
        folder.extend(&self.origin[..kept]);
        folder.extend(down);
        Some(folder)
    }

    /// Whether `folder` is the root cgroup of the machine. The root that a container sees is a
    /// cgroup like any other: only the true root has no type.
    pub fn is_root(&self, folder: &Path) -> bool {
        folder == self.dir && !folder.join("cgroup.type").exists()
    }
}

/// The folder below `dir` whose `cgroup.procs` names `pid`.
fn home(dir: &Path, pid: u32) -> Option<PathBuf> {
    let mut open = vec![dir.to_path_buf()];
    while let Some(folder) = open.pop() {
        let procs = std::fs::read_to_string(folder.join("cgroup.procs")).unwrap_or_default();
        if procs.lines().any(|line| line.parse() == Ok(pid)) {
            return Some(folder);
        }
        open.extend(folders(&folder).ok()?.into_iter().map(|(_, path)| path));
    }
    None
}

/// The ids (inode numbers) and paths of a cgroup and of all below it, parents first and sorted.
/// Folders that vanish meanwhile are left out; only `cgroup` itself must exist.
pub fn cgroups_below(cgroup: &Path) -> io::Result<Vec<(u64, PathBuf)>> {
    let mut found = vec![(id(cgroup)?, cgroup.to_path_buf())];
    let mut next = 0;
    while let Some((_, folder)) = found.get(next) {
        let mut below = folders(folder).unwrap_or_default();
        below.sort_by(|a, b| a.1.cmp(&b.1));
        found.extend(below);
        next += 1;
    }
    Ok(found)
}

/// The id of a cgroup: the inode number of its folder.
pub fn id(cgroup: &Path) -> io::Result<u64> {
    Ok(std::os::unix::fs::MetadataExt::ino(&std::fs::metadata(
        cgroup,
    )?))
}

/// Ids and paths of the cgroups right below.
pub(super) fn folders(folder: &Path) -> io::Result<Vec<(u64, PathBuf)>> {
    let entries = std::fs::read_dir(folder)?.filter_map(Result::ok);
    Ok(entries
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| (entry.ino(), entry.path()))
        .collect())
}

/// The path in /proc/PID/cgroup for cgroup v2 (`controller` None) or for a v1 controller.
pub fn path<'a>(cgroup: &'a str, controller: Option<&str>) -> Option<&'a str> {
    cgroup.lines().find_map(|line| {
        let (number, rest) = line.split_once(':')?;
        let (controllers, path) = rest.split_once(':')?;
        let is_it = match controller {
            None => number == "0" && controllers.is_empty(),
            Some(name) => controllers.split(',').any(|found| found == name),
        };
        // A process outlives its cgroup only as a zombie.
        (is_it && !path.ends_with(" (deleted)")).then_some(path)
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::targets::fake::Tree;

    fn mount_of(root: &str, point: &Path) -> Mount {
        Mount {
            root: root.to_owned(),
            point: point.to_path_buf(),
            kind: "cgroup2".to_owned(),
            options: "rw".to_owned(),
        }
    }

    #[test]
    fn a_line_with_optional_fields_and_escaped_blanks_is_read() {
        let line = r"41 31 0:38 /../.. /host\040sys/cgroup rw shared:9 master:1 - cgroup2 none rw,nsdelegate";
        let expected = Mount {
            options: "rw,nsdelegate".to_owned(),
            ..mount_of("/../..", Path::new("/host sys/cgroup"))
        };
        assert_eq!(mounts(line), [expected]);
    }

    #[test]
    fn the_hosts_mount_is_preferred_to_the_containers_own() {
        let text = "1 1 0:1 / /sys/fs/cgroup rw - cgroup2 c rw\n\
                    2 1 0:1 /../../.. /host/cgroup rw - cgroup2 c rw\n";
        let all = mounts(text);
        let found = highest(&all, |mount| mount.kind == "cgroup2").expect("two are there");
        assert_eq!(found.point, Path::new("/host/cgroup"));
    }

    #[test]
    fn on_a_host_paths_are_taken_as_they_are() {
        let whole = Hierarchy::whole("/sys/fs/cgroup");
        let folder = whole
            .folder("/system.slice/nginx.service")
            .expect("below the root");
        assert_eq!(
            folder,
            Path::new("/sys/fs/cgroup/system.slice/nginx.service")
        );
        assert!(whole.is_root(&whole.folder("/").expect("the root")));
        assert_eq!(whole.folder("/../other"), None);
    }

    #[test]
    fn in_a_container_with_the_hosts_mount_paths_are_placed_from_our_own_folder() {
        let tree = Tree::new();
        tree.cgroup("kubepods/pod-us/container", &[77]);
        let mount = mount_of("/../../..", &tree.cgroup2());
        let hierarchy = Hierarchy::new(&mount, 77, Some("/"));
        let folder = |path: &str| hierarchy.folder(path);
        assert_eq!(
            folder("/../../pod-x/c"),
            Some(tree.cgroup2().join("kubepods/pod-x/c"))
        );
        assert_eq!(
            folder("/../../../init.scope"),
            Some(tree.cgroup2().join("init.scope"))
        );
        assert_eq!(folder("/../../../../beyond"), None);
    }

    #[test]
    fn a_mount_of_a_part_shows_only_that_part() {
        let hierarchy = Hierarchy::new(&mount_of("/docker/us", Path::new("/cg")), 1, Some("/"));
        assert_eq!(
            hierarchy.folder("/docker/us/a"),
            Some(PathBuf::from("/cg/a"))
        );
        assert_eq!(hierarchy.folder("/docker/other"), None);
        assert_eq!(hierarchy.folder("/../docker/us"), None);
    }

    #[test]
    fn the_path_of_each_hierarchy_is_told_apart() {
        let text = "9:name=systemd:/s\n4:cpu,cpuacct:/c\n0::/v2:odd\n";
        assert_eq!(path(text, None), Some("/v2:odd"));
        assert_eq!(path(text, Some("cpu")), Some("/c"));
        assert_eq!(path(text, Some("memory")), None);
        assert_eq!(path("0::/gone (deleted)\n", None), None);
    }

    #[test]
    fn all_cgroups_below_are_listed_parents_first() {
        let tree = Tree::new();
        let top = tree.cgroup("a", &[]);
        let names = ["a/b", "a/b/d", "a/c"];
        let below: Vec<_> = names.iter().map(|name| tree.cgroup(name, &[])).collect();
        let found = cgroups_below(&top).expect("the folder exists");
        let paths: Vec<_> = found.iter().map(|(_, path)| path.clone()).collect();
        assert_eq!(
            paths,
            [&top, &below[0], &below[2], &below[1]].map(Clone::clone)
        );
        assert_eq!(found[0].0, id(&top).expect("the folder exists"));
        cgroups_below(&top.join("gone")).expect_err("no such folder");
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parsers_panic(text in ".{0,200}", root in r"(/|\.\.|a|\\[0-9]{0,3}){0,12}") {
            let _ = mounts(&text);
            for mut mount in mounts(&format!("1 1 0:1 {root} {root} rw - c c rw")) {
                mount.point = PathBuf::from("/nonexistent");
                let _ = Hierarchy::new(&mount, 0, None).folder(&text);
            }
            let _ = (path(&text, None), path(&text, Some("cpu")));
        }
    }
}
