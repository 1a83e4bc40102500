//! `cgroup/connect4` and `connect6` (Linux 4.17): every `connect()` of the pod before routing, in
//! process context. Once per new upstream connection.
use aya_ebpf::{
    helpers::bpf_get_socket_cookie, macros::cgroup_sock_addr, programs::SockAddrContext,
};
use aya_log_ebpf::debug;
use ingress_trace_common::sample::{flag, proto, role};

use crate::{
    conn::Conn,
    exchange, link,
    maps::config,
    sock::{Task, mapped, now},
};

const SOCK_STREAM: u32 = 1;
const IPPROTO_TCP: u32 = 6;
/// Port of DNS (RFC 7766).
const DNS: u16 = 53;

/// IPv4. Always lets it pass.
#[cgroup_sock_addr(connect4)]
pub fn connect4(context: SockAddrContext) -> i32 {
    // SAFETY: the context's own field.
    let address = unsafe { (*context.sock_addr).user_ip4 };
    connect(&context, mapped(address));
    1
}

/// IPv6, and IPv4 through an IPv6 socket. Always lets it pass.
#[cgroup_sock_addr(connect6)]
pub fn connect6(context: SockAddrContext) -> i32 {
    let from = context.sock_addr;
    // SAFETY: the context's own fields, each read at its own fixed offset.
    let address = unsafe {
        [
            core::ptr::read_volatile(&raw const (*from).user_ip6[0]),
            core::ptr::read_volatile(&raw const (*from).user_ip6[1]),
            core::ptr::read_volatile(&raw const (*from).user_ip6[2]),
            core::ptr::read_volatile(&raw const (*from).user_ip6[3]),
        ]
    };
    connect(&context, address);
    1
}

#[inline(always)]
fn connect(context: &SockAddrContext, remote: [u32; 4]) {
    let from = context.sock_addr;
    // SAFETY: the context's own fields.
    let (kind, protocol, port, sk) = unsafe {
        (
            (*from).type_,
            (*from).protocol,
            (*from).user_port,
            (*from).__bindgen_anon_1.sk,
        )
    };
    if kind != SOCK_STREAM || protocol != IPPROTO_TCP || sk.is_null() {
        return;
    }
    // A data plane resolves names itself, over TCP where answers are long: no backend listens there.
    if u16::from_be(port as u16) == DNS {
        return;
    }
    let task = Task::current();
    if !task.is_data_plane() || task.administers() {
        return;
    }
    // SAFETY: the socket of the context, not null.
    let Some(conn) = (unsafe { Conn::create(sk.cast()) }) else {
        return;
    };
    if conn.has(flag::FAILED) {
        return; // the same socket tries again (HAProxy): its failure is told already
    }
    let time = now();
    if conn.cookie == 0 {
        // SAFETY: the context of this program.
        conn.cookie = unsafe { bpf_get_socket_cookie(from.cast()) };
    }
    conn.connect_time = time;
    conn.role = role::UPSTREAM;
    conn.remote = remote;
    conn.remote_port = u16::from_be(port as u16);
    conn.proto = if config!(http) == 0 {
        proto::UNREAD
    } else {
        proto::UNKNOWN
    };
    (conn.tid, conn.tgid) = task.ids();
    // SAFETY: the socket of the context, not null.
    if let Some(tcp) = unsafe { crate::sock::Tcp::of(sk.cast()) } {
        conn.cgroup = tcp.cgroup();
    }
    debug!(
        context,
        "watching connect of thread {} to port {}", conn.tid, conn.remote_port
    );
    if link::pending(time) {
        exchange::follow(conn, time);
    }
}
