//! In: the text of /proc/PID/net/{tcp,tcp6}. Out: listeners' queues and local ports in use.
//! The files show the network namespace of the process, so no namespace is entered.
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::path::Path;

use crate::targets::process;

/// `TCP_LISTEN` in these files.
const LISTEN: u8 = 0x0a;

/// A listener, and the connections that wait to be accepted there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Queue {
    /// Where it listens.
    pub local: SocketAddr,
    /// Connections that wait (`sk_ack_backlog`).
    pub waiting: u32,
    /// How many may (`sk_max_ack_backlog`); one more than that is accepted before it is full. /proc
    /// does not show it: none where the kernel was not asked otherwise.
    pub limit: Option<u32>,
}

impl Queue {
    /// Whether the next connection is dropped, as far as is known.
    pub fn is_full(&self) -> bool {
        self.limit.is_some_and(|limit| self.waiting > limit)
    }
}

/// One line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Socket {
    pub(super) local: SocketAddr,
    pub(super) remote: SocketAddr,
    state: u8,
    receive_queue: u32,
    inode: u64,
}

/// Listeners held by these processes on which connections wait, longest queue first. None when
/// nothing could be read.
pub(super) fn queues(proc: &Path, pids: &[u32]) -> Option<Vec<Queue>> {
    let held = process::socket_inodes(proc, pids);
    let mut found = None;
    for namespace in process::network_namespaces(proc, pids) {
        let Some(sockets) = read(proc, namespace.pid) else {
            continue;
        };
        found
            .get_or_insert_with(Vec::new)
            .extend(waiting(&sockets, &held));
    }
    if let Some(queues) = &mut found {
        queues.sort_by_key(|queue: &Queue| std::cmp::Reverse(queue.waiting));
    }
    found
}

fn waiting(sockets: &[Socket], held: &[u64]) -> Vec<Queue> {
    let all = sockets.iter().filter_map(Socket::listener);
    all.filter(|(queue, inode)| queue.waiting > 0 && held.binary_search(inode).is_ok())
        .map(|(queue, _)| queue)
        .collect()
}

/// All listeners of a process's network namespace, with the inodes of their sockets.
pub(super) fn listeners(proc: &Path, pid: u32) -> Option<Vec<(Queue, u64)>> {
    let sockets = read(proc, pid)?;
    Some(sockets.iter().filter_map(Socket::listener).collect())
}

impl Socket {
    fn listener(&self) -> Option<(Queue, u64)> {
        let queue = Queue {
            local: self.local,
            waiting: self.receive_queue,
            limit: None,
        };
        (self.state == LISTEN).then_some((queue, self.inode))
    }
}

/// All TCP sockets of a process's network namespace.
pub(super) fn read(proc: &Path, pid: u32) -> Option<Vec<Socket>> {
    let v4 = process::read(proc, pid, "net/tcp")?;
    // Absent where IPv6 is off.
    let v6 = process::read(proc, pid, "net/tcp6").unwrap_or_default();
    Some(v4.lines().chain(v6.lines()).filter_map(parse).collect())
}

/// The local ports of connections towards one address and port, in any state.
pub(super) fn local_ports(sockets: &[Socket], address: IpAddr, port: u16) -> BTreeSet<u16> {
    let remote = SocketAddr::new(address.to_canonical(), port);
    let towards = sockets
        .iter()
        .filter(|s| s.state != LISTEN && s.remote == remote);
    towards.map(|socket| socket.local.port()).collect()
}

/// One line; the heading and anything else is None.
pub(super) fn parse(line: &str) -> Option<Socket> {
    let mut fields = line.split_whitespace().skip(1);
    let local = endpoint(fields.next()?)?;
    let remote = endpoint(fields.next()?)?;
    let state = u8::from_str_radix(fields.next()?, 16).ok()?;
    let (_, receive) = fields.next()?.split_once(':')?;
    let receive_queue = u32::from_str_radix(receive, 16).ok()?;
    // tr:tm->when, retrnsmt, uid and timeout lie between.
    let inode = fields.nth(4)?.parse().ok()?;
    Some(Socket {
        local,
        remote,
        state,
        receive_queue,
        inode,
    })
}

/// `0100007F:1F90`: each word of the address is printed as a native integer.
fn endpoint(text: &str) -> Option<SocketAddr> {
    let (address, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let word = |at: usize| {
        let digits = address.get(at..at + 8)?;
        Some(u32::from_str_radix(digits, 16).ok()?.to_ne_bytes())
    };
    let address = match address.len() {
        8 => IpAddr::from(word(0)?),
        32 => {
            let mut bytes = [0; 16];
            for (index, part) in bytes.chunks_exact_mut(4).enumerate() {
                part.copy_from_slice(&word(8 * index)?);
            }
            IpAddr::from(Ipv6Addr::from(bytes)).to_canonical()
        }
        _ => return None,
    };
    Some(SocketAddr::new(address, port))
}
