//! What a thread does next after it released a failed attempt belongs to the same request: it opens
//! the retry or answers the client. Kept per thread, looked up only while something fails.
use crate::{
    conn::Conn,
    maps::{RELEASED, RELEASED_UNTIL},
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
    /// Zero.
    pub reserved: u32,
}

/// How long a released attempt waits for what its thread does next, in nanoseconds.
const WAIT: u64 = 1_000_000_000;

/// Remembers that `tid` released the failed exchange of `conn`.
#[inline(always)]
pub fn put(conn: &Conn, tid: u32, time: u64) {
    let released =
        Released { cookie: conn.cookie, time, exchange: conn.exchange, reserved: 0 };
    if RELEASED.insert(tid, released, 0).is_err() {
        crate::count::lost(ingress_trace_common::aggregate::loss::LINK);
    }
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

/// The failed attempt that the current thread released, taken out: what comes first is what follows.
#[inline(always)]
pub fn take(time: u64) -> Option<Released> {
    let (tid, _) = Task::current().ids();
    // SAFETY: copied at once; only this thread writes under its own id.
    let released = unsafe { RELEASED.get(tid) }.copied()?;
    let _ = RELEASED.remove(tid);
    if released.time + WAIT > time { Some(released) } else { None }
}
