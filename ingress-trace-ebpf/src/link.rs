//! What a thread does next after it released a failed attempt belongs to the same request: it opens
//! the retry or answers the client. Kept per thread, looked up only while something fails.
//! A slot that another thread still needs is taken all the same, and that is counted.
use core::mem::offset_of;

use ingress_trace_common::{aggregate::loss, sample::proto};

use crate::{
    conn::Conn,
    count::lost,
    maps::{FAILING, FINISHED, RELEASED, RELEASED_UNTIL, THREADS},
    sock::Task,
};

/// A failed attempt that was released.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Released {
    /// Cookie of its connection.
    pub cookie: u64,
    /// When it was released.
    pub time: u64,
    /// Its exchange number.
    pub exchange: u32,
    /// Whose slot this is; 0 when it is empty.
    pub tid: u32,
}

/// A complete exchange whose connection was released: if its thread then answers a client with an
/// error, it did not like the response.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Finished {
    /// When its request was sent.
    pub request_time: u64,
    /// The backend.
    pub remote: [u32; 4],
    /// Its port.
    pub remote_port: u16,
    /// Its status.
    pub status: u16,
    /// Whose slot this is.
    pub tid: u32,
    /// When its connection was released.
    pub time: u64,
    /// The beginning of its request.
    pub request: [u8; REQUEST_LINE],
}

/// The newest failure. One per machine: who waited for what is worked out by the agent.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Failing {
    /// When it was.
    pub time: u64,
    /// How many there were.
    pub number: u32,
    /// Whether a data plane is watched that needs it (set by the agent): 0 none, 1 one that moves
    /// requests between threads, 2 one that keeps them on theirs.
    pub wanted: u32,
}

/// Bytes of a request that are compared.
pub const REQUEST_LINE: usize = 64;
/// They as words: bytes would be copied one by one.
type Words = [u64; REQUEST_LINE / 8];
const _: () = assert!(offset_of!(Finished, request) % 8 == 0);
const _: () = assert!(offset_of!(Conn, request_head) % 8 == 0);

/// Longest time between the release and the answer to the client: they are one piece of work.
const AT_ONCE: u64 = 1_000_000;

/// Remembers that the current thread released a complete exchange.
#[inline(always)]
pub fn finish(conn: &Conn, time: u64) {
    let (tid, _) = Task::current().ids();
    let Some(slot) = FINISHED.get_ptr_mut(tid & (THREADS - 1)) else {
        return;
    };
    // SAFETY: a live map value, of integers. Two threads would mix theirs only if their ids had the
    // same lowest bits and they wrote within the same nanoseconds.
    let slot = unsafe { &mut *slot };
    if slot.tid != tid && time.wrapping_sub(slot.time) < AT_ONCE {
        lost(loss::LINK);
    }
    slot.tid = tid;
    slot.time = time;
    slot.request_time = conn.request_time;
    slot.remote = conn.remote;
    slot.remote_port = conn.remote_port;
    slot.status = conn.status;
    let from = (&raw const conn.request_head).cast::<Words>();
    // SAFETY: both are that long, and aligned as asserted above.
    unsafe { *(&raw mut slot.request).cast::<Words>() = *from };
}

/// The complete exchange that the current thread has just released, if it began after
/// `request_time`.
#[inline(always)]
pub fn finished_since(request_time: u64, now: u64) -> Option<&'static Finished> {
    let (tid, _) = Task::current().ids();
    let finished = FINISHED.get(tid & (THREADS - 1))?;
    if finished.tid != tid {
        return None;
    }
    let at_once = now.wrapping_sub(finished.time) < AT_ONCE;
    if at_once && finished.request_time >= request_time {
        Some(finished)
    } else {
        None
    }
}

/// How long a released attempt waits for what its thread does next, in nanoseconds.
const WAIT: u64 = 1_000_000_000;

/// Remembers that `tid` released the failed exchange of `conn`.
#[inline(always)]
pub fn put(conn: &Conn, tid: u32, time: u64) {
    let Some(slot) = RELEASED.get_ptr_mut(tid & (THREADS - 1)) else {
        return;
    };
    // SAFETY: a live map value, as in `finish`.
    let slot = unsafe { &mut *slot };
    if slot.tid != tid && slot.tid != 0 && slot.time + WAIT > time {
        lost(loss::LINK);
    }
    *slot = Released {
        cookie: conn.cookie,
        time,
        exchange: conn.exchange,
        tid,
    };
    if let Some(until) = RELEASED_UNTIL.get_ptr_mut(0) {
        // SAFETY: a live map value; a lost race between CPUs leaves a value that is as good.
        unsafe { core::ptr::write_volatile(until, time + WAIT) };
    }
}

/// Whether any thread may have a released attempt at `time`.
#[inline(always)]
pub fn pending(time: u64) -> bool {
    match RELEASED_UNTIL.get_ptr(0) {
        // SAFETY: a live map value.
        Some(until) => time < unsafe { core::ptr::read_volatile(until) },
        None => false,
    }
}

/// The failed attempt that the current thread released, taken out unless it is to be kept: what comes
/// first is what follows.
#[inline(always)]
pub fn take(time: u64, keep: bool) -> Option<Released> {
    let (tid, _) = Task::current().ids();
    let slot = RELEASED.get_ptr_mut(tid & (THREADS - 1))?;
    // SAFETY: a live map value, as in `finish`.
    let slot = unsafe { &mut *slot };
    if slot.tid != tid {
        return None;
    }
    let released = *slot;
    if !keep {
        slot.tid = 0;
    }
    if released.time + WAIT > time {
        Some(released)
    } else {
        None
    }
}

/// Most bytes of session tickets and a server's first frames of HTTP/2.
const GREETING: u64 = 1024;

/// How long the answers to clients that waited while something failed are told, in nanoseconds: as
/// long as retries are followed.
const STRADDLE: u64 = 15_000_000_000;

/// Notes that an attempt has failed: whoever waits for an answer now may be its client.
#[inline(always)]
pub fn failed(time: u64) {
    if let Some(failing) = FAILING.get_ptr_mut(0) {
        // SAFETY: a live map value; a lost race between CPUs leaves one of two failures of the same
        // moment.
        unsafe {
            core::ptr::write_volatile(&raw mut (*failing).time, time);
            let number = core::ptr::read_volatile(&raw const (*failing).number);
            core::ptr::write_volatile(&raw mut (*failing).number, number.wrapping_add(1));
        }
    }
}

/// Shortest wait after which the beginning of an answer that cannot be read is told: timers of
/// controllers are longer, and HAProxy answers before it gives its backend up.
const PATIENCE: u64 = 100_000_000;

/// Whether a client's answer came so late after what was before that it may be a timer's.
#[inline(always)]
pub fn patient(before: u64, time: u64) -> bool {
    before != 0 && time.wrapping_sub(before) >= PATIENCE && wanted() != 0
}

/// See [`Failing::wanted`].
#[inline(always)]
pub fn wanted() -> u32 {
    match FAILING.get_ptr(0) {
        // SAFETY: a live map value.
        Some(failing) => unsafe { core::ptr::read_volatile(&raw const (*failing).wanted) },
        None => 0,
    }
}

/// Whether this client's request was there already when an attempt failed that it may be about, and
/// was not told since; where threads alone do not join attempts to clients, the agent compares
/// times.
#[inline(always)]
pub fn waited(conn: &mut Conn, time: u64) -> bool {
    let Some(failing) = FAILING.get_ptr(0) else {
        return false;
    };
    // SAFETY: a live map value of plain integers.
    let (wanted, failed, number) = unsafe {
        (
            core::ptr::read_volatile(&raw const (*failing).wanted),
            core::ptr::read_volatile(&raw const (*failing).time),
            core::ptr::read_volatile(&raw const (*failing).number),
        )
    };
    if wanted == 0 || failed == 0 || conn.told == number || conn.request_time > failed {
        return false;
    }
    if time.wrapping_sub(failed) > STRADDLE {
        return false;
    }
    if !greets(conn) {
        conn.told = number;
    }
    true
}

/// Whether what is written now may be no more than session tickets and SETTINGS, which Envoy sends
/// behind whatever the first requests have led to: it takes no note, and what follows is told, too.
#[inline(always)]
pub fn greets(conn: &Conn) -> bool {
    conn.proto != proto::HTTP1
        && conn.exchange <= 2
        && conn.response_bytes < GREETING
        && wanted() == 2
}
