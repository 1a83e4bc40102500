//! `sock_ops` (Linux 4.13): the SYN is built, the handshake ends. Three calls that matter per
//! connection; changes no option and answers no query.
use aya_ebpf::{
    bindings::{
        BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB, BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB,
        BPF_SOCK_OPS_TCP_CONNECT_CB, bpf_sock_ops,
    },
    helpers::bpf_get_socket_cookie,
    macros::sock_ops,
    programs::SockOpsContext,
};
use aya_log_ebpf::debug;
use ingress_trace_common::{
    aggregate::counted,
    sample::{flag, proto, role},
};

use crate::{
    conn::Conn,
    count::count,
    maps::config,
    sock::{Tcp, ends, now},
};

/// Always 1: "no objection".
#[sock_ops]
pub fn established(context: SockOpsContext) -> u32 {
    let ops = context.ops;
    // SAFETY: the context's own fields.
    let (op, sk) = unsafe { ((*ops).op, (*ops).__bindgen_anon_2.sk) };
    if sk.is_null() {
        return 1;
    }
    match op {
        BPF_SOCK_OPS_TCP_CONNECT_CB => {
            // SAFETY: the socket of the context, not null.
            if let Some(conn) = unsafe { Conn::of(sk.cast()) } {
                conn.flags |= flag::SYN;
                // SAFETY: as above. Now rewritten by others' connect hooks, if at all.
                conn.set_ends(&unsafe { ends(sk) });
            }
        }
        BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB => {
            // SAFETY: as above.
            if let Some(conn) = unsafe { Conn::of(sk.cast()) } {
                begin(conn, ops);
                let took = conn.established_time.saturating_sub(conn.connect_time);
                count(conn, counted::CONNECT, 0, took);
            }
        }
        BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB => {
            // SAFETY: as above.
            if let Some(conn) = unsafe { Conn::create(sk.cast()) } {
                // SAFETY: the context of this program.
                conn.cookie = unsafe { bpf_get_socket_cookie(ops.cast()) };
                conn.role = role::DOWNSTREAM;
                conn.proto = if config!(http) == 0 {
                    proto::UNREAD
                } else {
                    proto::UNKNOWN
                };
                // SAFETY: the socket of the context, not null.
                conn.set_ends(&unsafe { ends(sk) });
                // SAFETY: as above.
                if let Some(tcp) = unsafe { Tcp::of(sk.cast()) } {
                    conn.cgroup = tcp.cgroup();
                }
                debug!(&context, "watching accept on port {}", conn.local_port);
                begin(conn, ops);
                conn.connect_time = conn.established_time;
            }
        }
        _ => {}
    }
    1
}

/// Notes where both byte streams start.
#[inline(always)]
fn begin(conn: &mut Conn, ops: *mut bpf_sock_ops) {
    // SAFETY: the context's own fields.
    let (sent, received) = unsafe { ((*ops).snd_nxt, (*ops).rcv_nxt) };
    conn.established_time = now();
    conn.set_streams(sent, received);
}
