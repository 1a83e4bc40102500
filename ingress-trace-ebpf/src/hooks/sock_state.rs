//! `tp_btf/inet_sock_set_state` (Linux 4.16, BTF 5.5): every TCP state change of the node; sockets
//! that are not watched leave after one look-up. Some three to six times per connection.
use core::ffi::c_void;

use aya_ebpf::{
    bindings::{
        BPF_TCP_CLOSE, BPF_TCP_CLOSE_WAIT, BPF_TCP_ESTABLISHED, BPF_TCP_FIN_WAIT1,
        BPF_TCP_SYN_RECV, BPF_TCP_SYN_SENT,
    },
    macros::btf_tracepoint,
    programs::BtfTracePointContext,
};
use ingress_trace_common::sample::{flag, kind, phase};

use crate::{
    conn::Conn,
    emit::Moment,
    outcome,
    sock::{Tcp, now},
};

const EADDRNOTAVAIL: u32 = 99;
/// How long a connection counts as made for a request that was not sent yet, in nanoseconds: it is sent as
/// soon as the application is told of the handshake.
const FRESH: u64 = 1_000_000_000;

/// The return value is not used by the kernel.
#[btf_tracepoint(function = "inet_sock_set_state")]
pub fn state(context: BtfTracePointContext) -> i32 {
    let sk: *mut c_void = context.arg(0);
    let (old, new): (i32, i32) = (context.arg(1), context.arg(2));
    // Before the look-up: on the way to these nothing can have failed.
    if new as u32 == BPF_TCP_ESTABLISHED || new as u32 == BPF_TCP_SYN_RECV {
        return 0;
    }
    // SAFETY: the tracepoint's first argument is a full socket (`struct sock *`).
    let Some(conn) = (unsafe { Conn::of(sk) }) else {
        return 0;
    };
    changed(conn, sk, old as u32, new as u32);
    0
}

#[inline(always)]
fn changed(conn: &mut Conn, sk: *mut c_void, old: u32, new: u32) {
    if new == BPF_TCP_SYN_SENT {
        conn.syn_sent = 1;
        return;
    }
    // Without an exchange only a connect can fail, and what it was made for.
    let idle = conn.phase == phase::IDLE && old != BPF_TCP_SYN_SENT && !conn.switched();
    let unused = new == BPF_TCP_CLOSE && conn.exchange == 0 && conn.rst_in != 0;
    if !conn.upstream() || (idle && !unused) || conn.ended != 0 {
        return;
    }
    // SAFETY: as in `state`.
    let Some(tcp) = (unsafe { Tcp::of(sk) }) else {
        return;
    };
    let released = conn.released != 0;
    let fin = old == BPF_TCP_CLOSE_WAIT || new == BPF_TCP_CLOSE_WAIT;
    conn.correct_response_bytes(tcp.receive_next().wrapping_sub(fin as u32));
    if conn.has(flag::FAILED) {
        return; // told before
    }
    if new == BPF_TCP_CLOSE_WAIT && !released {
        // TCP has read the clock when this FIN came.
        let moment = Moment::with(tcp.clock(), false, tcp);
        outcome::ended_by_peer(conn, kind::CLOSED, true, &moment);
        return;
    }
    let mut moment = Moment::with(now(), released, tcp);
    if new == BPF_TCP_FIN_WAIT1 && !released && conn.switched() {
        // HAProxy shuts down first; by the time of its close the peer's own FIN may have come.
        moment.process = 1;
        outcome::given_up(conn, &moment);
        return;
    }
    if old == BPF_TCP_SYN_SENT {
        if new == BPF_TCP_CLOSE {
            // Without an error it is the application's own timer (its thread is the current one).
            moment.process |= (moment.errno == 0) as u32;
            let mut what = kind::CONNECT_FAILED;
            if !conn.has(flag::SYN) {
                what = kind::CONNECT_LOCAL;
                moment.errno = EADDRNOTAVAIL;
            } else if moment.errno == 0 {
                moment.errno = tcp.soft_error();
            }
            connect_ended(conn, what, &moment, released);
        }
        return;
    }
    if released {
        // The application closed: told here and not at the release, where TCP's own figures cannot
        // be read; once, for the process closes only once.
        conn.ended = 1;
        outcome::given_up(conn, &moment);
        if conn.has(flag::FAILED) {
            outcome::released(conn, moment.time);
        }
        return;
    }
    if new == BPF_TCP_FIN_WAIT1 {
        conn.shut = (conn.fin_in == 0) as u8;
        conn.reset_ack = tcp.unacknowledged();
        return;
    }
    if new == BPF_TCP_CLOSE && conn.shut != 0 {
        // The application's end went first; at its release nothing would be left of it.
        outcome::given_up(conn, &moment);
        return;
    }
    let late = moment.time.wrapping_sub(conn.established_time) > FRESH;
    if idle && (late || conn.has(flag::ADOPTED)) {
        return;
    }
    if new == BPF_TCP_CLOSE && moment.errno != 0 {
        let what = if conn.rst_in != 0 {
            kind::RESET
        } else {
            kind::BROKEN
        };
        outcome::ended_by_peer(conn, what, false, &moment);
    }
}

#[inline(always)]
fn connect_ended(conn: &mut Conn, what: u8, moment: &Moment, released: bool) {
    outcome::connect_failed(conn, what, moment);
    if released {
        outcome::released(conn, moment.time);
    }
}
