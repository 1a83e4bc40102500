//! A response has begun: what of it is counted, and what is told. Joins the client's leg to the
//! attempt that its thread has just released.
use core::hint::cold_path;

use super::{PING, UNREAD_REQUEST};
use crate::{
    conn::Conn,
    count::count,
    emit::{Moment, emit},
    link,
    maps::config,
    payload::Packet,
    sock::Tcp,
};
use ingress_trace_common::{
    aggregate::counted,
    sample::{flag, kind, phase, proto},
};

#[inline(always)]
pub(super) fn upstream_response(conn: &mut Conn, time: u64, latency: u64) {
    count(conn, counted::EXCHANGE, conn.status, latency);
    let slow = config!(slow);
    if slow != 0 && latency > slow {
        conn.flags |= flag::SLOW;
        count(conn, counted::SLOW, 0, latency);
    }
    let error = conn.status == 502 || conn.status == 503 || conn.status == 504;
    if error || conn.has(flag::NOT_HTTP) {
        conn.flags |= flag::FAILED;
        link::failed(time);
    }
    if error || conn.has(flag::NOT_HTTP | flag::SLOW) || conn.prev_cookie != 0 {
        cold_path();
        emit(conn, kind::RESPONSE, &Moment::at(time, false));
    }
}

#[inline(always)]
pub(super) fn downstream_response(conn: &mut Conn, packet: &Packet, tcp: Option<Tcp>, time: u64) {
    if no_answer(conn, packet) {
        return;
    }
    let process = packet.egress && tcp.is_some_and(Tcp::owned);
    let mut joined = false;
    if process && link::pending(time) {
        joined = join(conn, time);
    }
    let error = conn.status >= 502 && conn.status <= 504 || conn.status == 500;
    if error && process && !joined && refused(conn, time) {
        return;
    }
    let unread = conn.proto != proto::HTTP1;
    let awaited =
        process && (link::waited(conn, time) || unread && link::patient(conn.request_time, time));
    if joined || error || awaited {
        cold_path();
        emit(conn, kind::RESPONSE, &Moment::at(time, process));
    }
}

/// An error of the controller's own, although a complete response had come for this request.
#[inline(always)]
pub(super) fn refused(conn: &mut Conn, time: u64) -> bool {
    cold_path();
    if conn.request_time == 0 {
        return false;
    }
    let Some(finished) = link::finished_since(conn.request_time, time) else {
        return false;
    };
    // The same status was relayed as it was; another request is a subrequest's (authentication).
    if finished.status == conn.status || same_request(conn, finished) == 0 {
        return false;
    }
    let client = (conn.remote, conn.remote_port);
    conn.remote = finished.remote;
    conn.remote_port = finished.remote_port;
    emit(conn, kind::REFUSED, &Moment::at(time, true));
    (conn.remote, conn.remote_port) = client;
    true
}

/// Whether method and path of both requests are the same (1) or not (0). A global function: verified
/// once, by itself.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn same_request(conn: *const Conn, finished: *const link::Finished) -> u32 {
    // SAFETY: null or whole values, as the verifier makes sure at every call.
    let (Some(conn), Some(finished)) = (unsafe { (conn.as_ref(), finished.as_ref()) }) else {
        return 0;
    };
    let mut spaces = 0;
    let mut i = 0;
    while i < link::REQUEST_LINE {
        let byte = conn.request_head[i];
        if byte != finished.request[i] {
            return 0;
        }
        if byte == b'?' {
            return 1;
        }
        spaces += (byte == b' ') as u32;
        if spaces == 2 {
            return 1;
        }
        i += 1;
    }
    1
}

/// Takes what this thread released, if anything, as the reason of what it now does downstream.
#[inline(always)]
pub(super) fn join(conn: &mut Conn, time: u64) -> bool {
    cold_path();
    let Some(released) = link::take(time, link::greets(conn)) else {
        return false;
    };
    conn.prev_cookie = released.cookie;
    conn.prev_exchange = released.exchange;
    conn.flags |= flag::JOINED;
    true
}

/// More of a response, or a write that opens none: does it follow a failed attempt?
#[inline(always)]
pub(super) fn joined_write(conn: &mut Conn, packet: &Packet, tcp: Option<Tcp>, before: u64) {
    if conn.upstream() || !packet.egress {
        return;
    }
    // Where a response can be read, its beginning was told.
    let unread = conn.proto != proto::HTTP1;
    if unread && packet.len < RST_STREAM || no_answer(conn, packet) {
        return;
    }
    // Exact: in the order of time it must stand behind the release.
    let time = packet.time();
    if !tcp.is_some_and(Tcp::owned) {
        return;
    }
    // A frame that opens nothing is no answer.
    let opens = !unread || packet.len >= UNREAD_REQUEST;
    let mut tell = opens && link::pending(time) && join(conn, time);
    if unread && conn.phase == phase::RESPONSE {
        // What came at once may have been session tickets.
        let tickets = conn.response_bytes < TICKETS;
        tell = tell || link::waited(conn, time) || tickets && link::patient(before, time);
    }
    if tell {
        let last = conn.last_time;
        if before != 0 {
            conn.last_time = before;
        }
        emit(conn, kind::DOWN_WRITE, &Moment::at(time, true));
        conn.last_time = last;
    }
}

/// Whether this is no answer for certain: an alert (close_notify), or what HTTP/2 says of the connection.
#[inline(always)]
fn no_answer(conn: &Conn, packet: &Packet) -> bool {
    let replies = packet.len == PING && conn.has(flag::EARLY);
    conn.proto == proto::TLS && (packet.len < HEADERS || replies)
}

/// The smallest HEADERS of a response (RFC 9113 section 4.1, one byte of RFC 7541) in a TLS record; an
/// alert and an acknowledgement of SETTINGS are smaller.
const HEADERS: u32 = 32;
/// Most bytes of a TLS handshake's end with session tickets.
const TICKETS: u64 = 4096;
/// RST_STREAM (RFC 9113 section 6.4) in a TLS record.
const RST_STREAM: u32 = 35;
