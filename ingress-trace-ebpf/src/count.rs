//! The only writer of aggregates and loss counters.
use core::hint::cold_path;

use ingress_trace_common::aggregate::{Key, Value, bucket, counted, loss};

use crate::{
    conn::Conn,
    maps::{AGGREGATES, LOSSES, ZERO},
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
    let mut key = Key {
        cgroup: conn.cgroup,
        address: [0; 16],
        port: conn.local_port,
        status,
        counted,
        reserved: [0; 3],
    };
    if upstream {
        key.address = conn.remote_bytes();
        key.port = conn.remote_port;
    }
    let mut value = AGGREGATES.get_ptr_mut(key);
    if value.is_none() {
        cold_path();
        let Some(zero) = ZERO.get(0) else { return };
        // Full, or raced by another CPU: the look-up below tells which.
        let _ = AGGREGATES.insert(key, zero, NOEXIST);
        value = AGGREGATES.get_ptr_mut(key);
    }
    if value.is_none() {
        lost(loss::AGGREGATE);
        let rest = Key {
            cgroup: 0,
            address: [0; 16],
            port: 0,
            status: 0,
            counted,
            reserved: [0; 3],
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
