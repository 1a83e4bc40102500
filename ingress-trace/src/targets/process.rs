//! In: /proc. Out: single facts about processes. Must tolerate that a process is gone at any
//! moment: what cannot be read is absent, never an error.
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// A network namespace of some process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetworkNamespace {
    /// Its inode number, as in `net:[N]`.
    pub inode: u64,
    /// A process in it.
    pub pid: u32,
    /// The file to open for `setns`.
    pub path: PathBuf,
}

/// All processes, in order.
pub fn pids(proc: &Path) -> std::io::Result<Vec<u32>> {
    let names = std::fs::read_dir(proc)?
        .filter_map(Result::ok)
        .map(|entry| entry.file_name());
    let mut pids: Vec<u32> = names
        .filter_map(|name| name.to_str()?.parse().ok())
        .collect();
    pids.sort_unstable();
    Ok(pids)
}

/// Name of the main thread.
pub fn comm(proc: &Path, pid: u32) -> Option<String> {
    let text = read(proc, pid, "comm")?;
    Some(text.strip_suffix('\n').unwrap_or(&text).to_owned())
}

/// Command line, its words joined by blanks; None for zombies and kernel threads, which have none.
pub fn title(proc: &Path, pid: u32) -> Option<String> {
    let text = read(proc, pid, "cmdline")?.replace('\0', " ");
    let text = text.trim_end();
    (!text.is_empty()).then(|| text.to_owned())
}

/// The process that started it, or that has it since that one ended.
pub fn parent(proc: &Path, pid: u32) -> Option<u32> {
    let text = read(proc, pid, "status")?;
    let line = text.lines().find_map(|line| line.strip_prefix("PPid:"))?;
    line.trim().parse().ok()
}

/// The text of /proc/PID/cgroup.
pub fn cgroup(proc: &Path, pid: u32) -> Option<String> {
    read(proc, pid, "cgroup")
}

/// A text file of a process.
pub fn read(proc: &Path, pid: u32, file: &str) -> Option<String> {
    let bytes = std::fs::read(folder(proc, pid).join(file)).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// The folder of a process.
pub fn folder(proc: &Path, pid: u32) -> PathBuf {
    proc.join(pid.to_string())
}

/// Inode numbers of the sockets that these processes hold, sorted, each once.
pub fn socket_inodes(proc: &Path, pids: &[u32]) -> Vec<u64> {
    let mut inodes: Vec<u64> = pids.iter().flat_map(|pid| sockets(proc, *pid)).collect();
    inodes.sort_unstable();
    inodes.dedup();
    inodes
}

/// Inode numbers of one process's sockets, one per descriptor.
pub fn sockets(proc: &Path, pid: u32) -> Vec<u64> {
    let entries = std::fs::read_dir(folder(proc, pid).join("fd"));
    let links = entries.into_iter().flatten().filter_map(|entry| {
        let to = std::fs::read_link(entry.ok()?.path()).ok()?;
        numbered(to.to_str()?, "socket")
    });
    links.collect()
}

/// The network namespaces of these processes, each once.
pub fn network_namespaces(proc: &Path, pids: &[u32]) -> Vec<NetworkNamespace> {
    let mut found = BTreeMap::new();
    for pid in pids {
        let path = folder(proc, *pid).join("ns/net");
        let inode = std::fs::read_link(&path)
            .ok()
            .and_then(|to| numbered(to.to_str()?, "net"));
        if let Some(inode) = inode {
            found.entry(inode).or_insert(NetworkNamespace {
                inode,
                pid: *pid,
                path,
            });
        }
    }
    found.into_values().collect()
}

/// The number in `kind:[N]`.
fn numbered(link: &str, kind: &str) -> Option<u64> {
    link.strip_prefix(kind)?
        .strip_prefix(":[")?
        .strip_suffix(']')?
        .parse()
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::targets::fake::Tree;

    #[test]
    fn sockets_are_told_from_other_descriptors_and_listed_once() {
        let tree = Tree::new();
        for (fd, to) in [
            (0, "/dev/null"),
            (3, "socket:[22]"),
            (4, "anon_inode:[eventpoll]"),
        ] {
            tree.link(&format!("proc/5/fd/{fd}"), to);
        }
        tree.link("proc/6/fd/3", "socket:[22]");
        tree.link("proc/6/fd/9", "socket:[7]");
        assert_eq!(socket_inodes(&tree.proc(), &[5, 6, 404]), [7, 22]);
        assert_eq!(sockets(&tree.proc(), 5), [22]);
    }

    #[test]
    fn processes_of_one_network_namespace_name_it_once() {
        let tree = Tree::new();
        for (pid, net) in [
            (5, "net:[100]"),
            (6, "net:[100]"),
            (7, "net:[99]"),
            (8, "odd"),
        ] {
            tree.link(&format!("proc/{pid}/ns/net"), net);
        }
        let found = network_namespaces(&tree.proc(), &[5, 6, 7, 8, 404]);
        let short: Vec<_> = found.iter().map(|ns| (ns.inode, ns.pid)).collect();
        assert_eq!(short, [(99, 7), (100, 5)]);
        assert_eq!(found[1].path, tree.proc().join("5/ns/net"));
    }

    #[test]
    fn a_process_without_a_command_line_has_no_title() {
        let tree = Tree::new();
        tree.process(5, "nginx", "a");
        assert_eq!(
            title(&tree.proc(), 5).as_deref(),
            Some("nginx -g daemon off;")
        );
        tree.write("proc/5/cmdline", "");
        assert_eq!(title(&tree.proc(), 5), None);
        assert_eq!(comm(&tree.proc(), 5).as_deref(), Some("nginx"));
        assert_eq!(comm(&tree.proc(), 404), None);
    }
}
