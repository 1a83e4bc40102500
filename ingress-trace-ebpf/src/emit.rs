//! The only writer of the ring buffer: a connection's state becomes a sample.
use ingress_trace_common::{
    aggregate::loss,
    http,
    sample::{Sample, flag, kind, phase, proto, role},
};

use crate::{
    conn::Conn,
    count::lost,
    maps::SAMPLES,
    payload::opaque,
    sock::{Task, Tcp},
    unreadable,
};

/// The agent polls: a wake-up per sample would cost more than the sample.
const BPF_RB_NO_WAKEUP: u64 = 1;

/// What is known at the moment of the sample, beside the connection's state.
#[derive(Clone, Copy)]
pub struct Moment {
    /// When it happened.
    pub time: u64,
    /// Positive errno, 0 when none.
    pub errno: u32,
    /// Segments retransmitted so far.
    pub retransmits: u32,
    /// Lowest unacknowledged sequence number, valid with `acked`.
    pub unacknowledged: u32,
    /// Bytes that the application has not read.
    pub unread: u32,
    /// Whether `unacknowledged` is known (1) or not (0).
    pub acked: u32,
    /// Whether the current task is the one that acts (1) or not (0).
    pub process: u32,
    /// Zero: no byte of what crosses a function may be undefined.
    #[expect(dead_code, reason = "written only")]
    pub reserved: u32,
}

impl Moment {
    /// Without TCP facts.
    #[inline(always)]
    pub fn at(time: u64, process: bool) -> Self {
        // A zero that the compiler does not know: known ones would become a loop of single bytes.
        let zero = opaque(0) as u32;
        Self {
            time,
            errno: zero,
            retransmits: zero,
            unacknowledged: zero,
            unread: zero,
            reserved: zero,
            acked: zero,
            process: process as u32,
        }
    }

    /// With what the socket knows.
    #[inline(always)]
    pub fn with(time: u64, process: bool, tcp: Tcp) -> Self {
        Self {
            time,
            errno: tcp.error(),
            retransmits: tcp.retransmits(),
            unacknowledged: tcp.unacknowledged(),
            unread: tcp.unread(),
            reserved: 0,
            acked: 1,
            process: process as u32,
        }
    }
}

/// Sends one sample, or counts it as lost.
#[inline(always)]
pub fn emit(conn: &Conn, what: u8, moment: &Moment) {
    emit_sample(conn, what as u32, moment);
}

/// A global function: verified once, by itself.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn emit_sample(conn: *const Conn, what: u32, moment: *const Moment) -> u32 {
    // SAFETY: null or whole values, as the verifier makes sure at every call.
    let (Some(conn), Some(moment)) = (unsafe { (conn.as_ref(), moment.as_ref()) }) else {
        return 0;
    };
    send(conn, what as u8, moment);
    0
}

#[inline(always)]
fn send(conn: &Conn, what: u8, moment: &Moment) {
    let Some(mut entry) = SAMPLES.reserve::<Sample>(0) else {
        lost(loss::RING);
        return;
    };
    // SAFETY: reserved memory of the right size; every field but the strings is written here, and
    // the strings are valid up to their lengths.
    let sample = unsafe { &mut *entry.as_mut_ptr() };
    let mut flags = conn.all_flags();
    sample.tid = conn.tid;
    sample.tgid = conn.tgid;
    if moment.process != 0 {
        (sample.tid, sample.tgid) = Task::current().ids();
        flags |= flag::PROCESS;
    }
    sample.time = moment.time;
    sample.errno = moment.errno;
    sample.retransmits = moment.retransmits;
    sample.unread = moment.unread;
    sample.acked = 0;
    if moment.acked != 0 {
        let acked = conn.acknowledged(moment.unacknowledged);
        sample.acked = acked;
    }
    sample.flags = flags;
    sample.kind = what;
    timeline(conn, sample);
    identity(conn, sample);
    sample.method_len = 0;
    sample.host_len = 0;
    sample.path_len = 0;
    if conn.proto == proto::HTTP1 && conn.request_kept != 0 && what != kind::RELEASED {
        request(conn, sample);
    }
    entry.submit(BPF_RB_NO_WAKEUP);
}

#[inline(always)]
fn timeline(conn: &Conn, sample: &mut Sample) {
    sample.connect_time = conn.connect_time;
    sample.established_time = conn.established_time;
    sample.request_time = conn.request_time;
    sample.response_time = conn.response_time;
    sample.last_time = conn.last_time;
    sample.unreadable_time = 0;
    if conn.role == role::DOWNSTREAM {
        sample.unreadable_time = unreadable::last(conn);
    }
    sample.idle = conn.idle;
    sample.request_bytes = conn.request_bytes;
    sample.response_bytes = conn.response_bytes;
    sample.expected_bytes = http::expected(&conn.scan, conn.framing);
    sample.exchange = conn.exchange;
    sample.status = conn.status;
    if conn.has(flag::NOT_HTTP) {
        let head = &conn.response_head;
        sample.status = u16::from_be_bytes([head[0], head[1]]);
    }
    sample.phase = if conn.established_time == 0 {
        phase::CONNECT
    } else {
        conn.phase
    };
    sample.framing = conn.framing;
}

#[inline(always)]
fn identity(conn: &Conn, sample: &mut Sample) {
    sample.cookie = conn.cookie;
    sample.cgroup = conn.cgroup;
    sample.prev_cookie = conn.prev_cookie;
    sample.prev_exchange = conn.prev_exchange;
    sample.local_port = conn.local_port;
    sample.remote_port = conn.remote_port;
    sample.role = conn.role;
    sample.proto = conn.proto;
    sample.remote_address = conn.remote_bytes();
    sample.local_address = conn.local_bytes();
}

#[inline(always)]
fn request(conn: &Conn, sample: &mut Sample) {
    http::request(
        &conn.request_head,
        conn.request_kept,
        |x| conn.forget(x),
        sample,
    );
}
