//! In: what controllers send to backends on legs that cannot be read (TLS, HTTP/2), and when such a leg
//! fails. Out: when that was last, per cgroup: an error that a client gets is no such backend's where there was nothing of the kind
//! since it had asked. Two cgroups that share a slot only have less told of them.
use ingress_trace_common::sample::{flag, proto};

use crate::{conn::Conn, maps::UNREADABLE, payload::Packet};

/// Slots of [`UNREADABLE`]: a cgroup has the one of its id's lowest bits.
pub const SLOTS: u32 = 4096;

/// Smallest data that is noted: alerts (close_notify) are no requests.
const LEAST: u32 = 35;

/// Notes what is sent on an upstream leg, where it cannot be read.
#[inline(always)]
pub fn sent(conn: &Conn, packet: &Packet) {
    let unread = match conn.proto {
        proto::TLS => packet.len >= LEAST,
        proto::HTTP2 => true,
        // Nothing was seen of how it began.
        proto::UNKNOWN => conn.has(flag::ADOPTED),
        _ => false,
    };
    if unread && conn.upstream() {
        note(conn, packet.time());
    }
}

/// Notes that such a leg failed: who waited for it may have asked behind what was sent.
#[inline(always)]
pub fn failed(conn: &Conn, time: u64) {
    if (conn.proto == proto::TLS || conn.proto == proto::HTTP2) && conn.upstream() {
        note(conn, time);
    }
}

#[inline(always)]
fn note(conn: &Conn, time: u64) {
    if let Some(slot) = UNREADABLE.get_ptr_mut(conn.cgroup as u32 & (SLOTS - 1)) {
        // SAFETY: a live map value; a lost race between CPUs leaves a time that is as good.
        unsafe { core::ptr::write_volatile(slot, time) };
    }
}

/// When either was last for the cgroup of a connection; 0 when never.
#[inline(always)]
pub fn last(conn: &Conn) -> u64 {
    match UNREADABLE.get_ptr(conn.cgroup as u32 & (SLOTS - 1)) {
        // SAFETY: a live map value.
        Some(slot) => unsafe { core::ptr::read_volatile(slot) },
        None => 0,
    }
}
