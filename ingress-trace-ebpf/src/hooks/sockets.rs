//! `iter/tcp` (Linux 5.8): run once by the agent in a pod's network namespace, after the other
//! hooks are attached, to adopt the connections that existed before. Listeners come first.
use aya_ebpf::{
    bindings::seq_file,
    helpers::{bpf_get_socket_cookie, bpf_seq_write, bpf_skc_to_tcp_sock},
};
use ingress_trace_common::sample::{flag, proto, role};

use crate::{
    conn::Conn,
    maps::{ADOPT_CGROUPS, ADOPT_INODES, LISTENING, config},
    sock::{Ends, Tcp, now},
};

const TCP_ESTABLISHED: u8 = 1;
const TCP_CLOSE_WAIT: u8 = 8;
const TCP_LISTEN: u8 = 10;

/// Writes one byte per adopted connection, so that the reader can count them.
#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/tcp")]
pub fn sockets(context: *const u64) -> i32 {
    // SAFETY: `struct bpf_iter__tcp`: the meta data, then the socket.
    let (meta, sk) = unsafe {
        (
            *context as *const u64,
            *context.add(1) as *mut core::ffi::c_void,
        )
    };
    if sk.is_null() {
        return 0;
    }
    // SAFETY: the iterator's socket; null for request and time-wait sockets.
    let tcp = unsafe { bpf_skc_to_tcp_sock(sk) };
    if tcp.is_null() {
        return 0;
    }
    if adopt(tcp.cast()) {
        // SAFETY: the first word of `struct bpf_iter_meta` is the seq_file.
        unsafe { bpf_seq_write(*meta as *mut seq_file, [1u8].as_ptr().cast_mut().cast(), 1) };
    }
    0
}

#[inline(always)]
fn adopt(sk: *mut core::ffi::c_void) -> bool {
    // SAFETY: a `struct tcp_sock` that the caller checked.
    let Some(tcp) = (unsafe { Tcp::of(sk) }) else {
        return false;
    };
    let (port, state, cgroup) = (tcp.local_port(), tcp.state(), tcp.cgroup());
    if state == TCP_LISTEN {
        let _ = LISTENING.insert(port, 1, 0);
        return false;
    }
    // SAFETY: map look-ups that copy nothing.
    let known =
        unsafe { ADOPT_CGROUPS.get(cgroup).is_some() && ADOPT_INODES.get(tcp.inode()).is_some() };
    if !known || (state != TCP_ESTABLISHED && state != TCP_CLOSE_WAIT) {
        return false;
    }
    // SAFETY: as above.
    let Some(conn) = (unsafe { Conn::create(sk) }) else {
        return false;
    };
    if conn.cookie != 0 {
        return false; // born while we attached: the other hooks have it
    }
    conn.cgroup = cgroup;
    // SAFETY: as above; the helper takes a socket in tracing programs.
    conn.cookie = unsafe { bpf_get_socket_cookie(sk) };
    // SAFETY: a map look-up that copies nothing.
    let accepted = unsafe { LISTENING.get(port) }.is_some();
    conn.role = if accepted {
        role::DOWNSTREAM
    } else {
        role::UPSTREAM
    };
    resume(conn, tcp, state);
    true
}

#[inline(always)]
fn resume(conn: &mut Conn, tcp: Tcp, state: u8) {
    conn.flags = flag::ADOPTED | flag::SYN;
    if state == TCP_CLOSE_WAIT {
        conn.fin_in = 1;
    }
    conn.proto = if config!(http) == 0 {
        proto::UNREAD
    } else {
        proto::UNKNOWN
    };
    let ends: Ends = tcp.ends();
    conn.set_ends(&ends);
    conn.connect_time = now();
    conn.established_time = conn.connect_time;
    conn.set_streams(tcp.send_next(), tcp.receive_next());
}
