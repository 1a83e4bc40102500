//! `cgroup/sock_release` (Linux 5.9): the application lets go of a socket, in process context,
//! before TCP closes it. Once per connection.
use aya_ebpf::{
    bindings::{BPF_TCP_CLOSE, BPF_TCP_FIN_WAIT1, BPF_TCP_FIN_WAIT2},
    macros::cgroup_sock,
    programs::SockContext,
};
use aya_log_ebpf::debug;
use ingress_trace_common::sample::{flag, kind, role};

use crate::{
    conn::Conn,
    emit::Moment,
    outcome,
    sock::{Task, now},
};

const ENETUNREACH: u32 = 101;

/// Always lets it pass.
#[cgroup_sock(sock_release)]
pub fn release(context: SockContext) -> i32 {
    let sk = context.sock;
    // SAFETY: the context is the socket; storage knows only sockets that we made it for.
    let Some(conn) = (unsafe { Conn::of(sk.cast()) }) else {
        return 1;
    };
    conn.released = 1;
    if Task::current().exiting() {
        // The process dies and drops all it had: nothing of that is an upstream's fault.
        conn.flags |= flag::FAILED;
        return 1;
    }
    // SAFETY: the context's own field.
    let state = unsafe { (*sk).state };
    let time = now();
    if conn.role == role::DOWNSTREAM {
        outcome::downstream_released(conn, time);
        return 1;
    }
    let failed_before = conn.has(flag::FAILED);
    let mut moment = Moment::at(time, true);
    if conn.shut != 0 {
        // TCP cannot be asked here; what came since is missing.
        moment.unacknowledged = conn.reset_ack;
        moment.acked = 1;
    }
    if state == BPF_TCP_CLOSE && !conn.has(flag::SYN | flag::ADOPTED) {
        // connect() failed before a SYN was built. Entered SYN_SENT: no port was left, and that was
        // told at the state change. Else routing had failed; its errno is not visible here.
        let no_route = Moment {
            errno: ENETUNREACH,
            ..moment
        };
        outcome::connect_failed(conn, kind::CONNECT_LOCAL, &no_route);
    } else if state == BPF_TCP_FIN_WAIT1 || state == BPF_TCP_FIN_WAIT2 {
        // Shut down before (HAProxy): no state change follows that could tell.
        outcome::given_up(conn, &moment);
    }
    debug!(&context, "release in state {}, flags {}", state, conn.flags);
    if failed_before {
        outcome::released_later(conn, time);
    } else if conn.has(flag::FAILED) {
        outcome::released(conn, time);
    }
    1
}
