//! In: a process. Out: the local ports that its network namespace may hand out, and those in use
//! towards one backend. Must leave the namespaces of all other threads as they are.
use std::fs::File;
use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd};
use std::path::Path;

use super::Usage;
use super::sockets;
use crate::targets::process::{self, NetworkNamespace};

/// The network namespace of these processes that has the fewest ports left towards `address`.
pub(super) fn worst(proc: &Path, pids: &[u32], address: IpAddr, port: u16) -> Option<Usage> {
    let namespaces = process::network_namespaces(proc, pids).into_iter();
    let all = namespaces.filter_map(|namespace| {
        let range = range(&namespace)?;
        let sockets = sockets::read(proc, namespace.pid)?;
        let used = sockets::local_ports(&sockets, address, port);
        let used = used
            .into_iter()
            .filter(|port| range.contains(*port))
            .count() as u64;
        Some(Usage {
            used,
            limit: range.size(),
        })
    });
    all.reduce(Usage::worse)
}

/// What `ip_local_port_range` allows, without what `ip_local_reserved_ports` keeps back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Range {
    first: u16,
    last: u16,
    reserved: Vec<(u16, u16)>,
}

impl Range {
    /// Parses the two settings; None when the first makes no sense.
    pub(super) fn parse(range: &str, reserved: &str) -> Option<Self> {
        let mut ends = range.split_whitespace();
        let first = ends.next()?.parse().ok()?;
        let last = ends.next()?.parse().ok()?;
        let reserved = reserved.trim().split(',').filter_map(|part| {
            let (from, to) = part.split_once('-').unwrap_or((part, part));
            Some((from.parse().ok()?, to.parse().ok()?))
        });
        (first <= last).then(|| Self {
            first,
            last,
            reserved: reserved.collect(),
        })
    }

    /// Whether the kernel may choose this port by itself.
    pub(super) fn contains(&self, port: u16) -> bool {
        (self.first..=self.last).contains(&port)
            && !self
                .reserved
                .iter()
                .any(|(from, to)| (from..=to).contains(&&port))
    }

    /// How many ports that is.
    pub(super) fn size(&self) -> u64 {
        (self.first..=self.last)
            .filter(|port| self.contains(*port))
            .count() as u64
    }
}

/// /proc/sys/net shows the namespace of the thread that opens it, whatever path leads there: a
/// thread of its own enters the namespace, reads, and ends.
fn range(namespace: &NetworkNamespace) -> Option<Range> {
    let file = File::open(&namespace.path).ok()?;
    let reader = std::thread::Builder::new()
        .name("port-range".to_owned())
        .spawn(move || {
            enter(&file).ok()?;
            let read = |name: &str| std::fs::read_to_string(format!("/proc/sys/net/ipv4/{name}"));
            let reserved = read("ip_local_reserved_ports").unwrap_or_default();
            Range::parse(&read("ip_local_port_range").ok()?, &reserved)
        });
    reader.ok()?.join().ok()?
}

fn enter(namespace: &impl AsFd) -> std::io::Result<()> {
    let fd = namespace.as_fd();
    // SAFETY: setns takes no pointers; the borrow keeps the descriptor open during the call, and
    // only the calling thread, which ends after its reading, changes its namespace.
    let result = unsafe { libc::setns(fd.as_raw_fd(), libc::CLONE_NEWNET) };
    if result == 0 {
        Ok(())
    } else {
        Err(std::io::Error::last_os_error())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_own_namespaces_range_is_read_where_it_may_be_entered() {
        let proc = Path::new("/proc");
        let namespaces = process::network_namespaces(proc, &[std::process::id()]);
        // Without CAP_SYS_ADMIN there is nothing to compare.
        let Some(found) = range(&namespaces[0]) else {
            return;
        };
        let read = |name: &str| std::fs::read_to_string(format!("/proc/sys/net/ipv4/{name}"));
        let reserved = read("ip_local_reserved_ports").unwrap_or_default();
        let own = read("ip_local_port_range")
            .ok()
            .and_then(|text| Range::parse(&text, &reserved));
        assert_eq!(Some(found), own);
    }
}
