//! The only writer of aggregates and loss counters.
use core::hint::cold_path;

use ingress_trace_common::aggregate::{Key, Value, bucket, counted, loss};

use crate::{
    conn::{Conn, bytes},
    maps::{AGGREGATES, LOSSES, ZERO},
    payload::opaque,
};

/// `BPF_NOEXIST`.
const NOEXIST: u64 = 1;

/// Counts one thing of this connection, with a latency in nanoseconds where it has one.
#[inline(always)]
pub fn count(conn: &Conn, counted: u8, status: u16, latency: u64) {
    count_one(conn, counted as u32, status as u32, latency);
}

/// A global function: verified once, by itself.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn count_one(conn: *const Conn, counted: u32, status: u32, latency: u64) -> u32 {
    // SAFETY: null or a whole `Conn`, as the verifier makes sure at every call.
    if let Some(conn) = unsafe { conn.as_ref() } {
        add(conn, counted as u8, status as u16, latency);
    }
    0
}

#[inline(always)]
fn add(conn: &Conn, counted: u8, status: u16, latency: u64) {
    let upstream = counted <= counted::SLOW;
    // Zeroes that the compiler does not know: known ones would become a loop of single bytes.
    let zero = opaque(0);
    let mask = opaque(if upstream { u64::MAX } else { 0 }) as u32;
    let [counted, reserved @ ..] = (counted as u32).to_le_bytes();
    let key = Key {
        cgroup: conn.cgroup,
        address: bytes(conn.remote.map(|word| word & mask)),
        port: if upstream {
            conn.remote_port
        } else {
            conn.local_port
        },
        status,
        counted,
        reserved,
    };
    let mut value = AGGREGATES.get_ptr_mut(key);
    if value.is_none() {
        cold_path();
        let Some(zero) = ZERO.get(0) else { return };
        // Full, or raced by another CPU: the look-up below tells which.
        let _ = AGGREGATES.insert(key, zero, NOEXIST);
        value = AGGREGATES.get_ptr_mut(key);
    }
    if value.is_none() {
        cold_path();
        lost(loss::AGGREGATE);
        let rest = Key {
            cgroup: zero,
            address: bytes([zero as u32; 4]),
            port: 0,
            status: 0,
            counted,
            reserved,
        };
        value = AGGREGATES.get_ptr_mut(rest);
    }
    let Some(value) = value else { return };
    // SAFETY: a live per-CPU map value; programs of one CPU do not run inside each other here.
    let value: &mut Value = unsafe { &mut *value };
    value.count += 1;
    if latency != 0 {
        value.sum = value.sum.wrapping_add(latency);
        value.buckets[bucket(latency)] += 1;
    }
}

/// Counts something that could not be done.
#[inline(always)]
pub fn lost(what: u32) {
    if let Some(counter) = LOSSES.get_ptr_mut(what) {
        // SAFETY: a live per-CPU map value.
        unsafe { *counter += 1 };
    }
}
