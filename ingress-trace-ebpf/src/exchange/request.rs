//! The request's direction: where a request starts, and what it follows. A new request ends whatever
//! was known of the response before it.
use core::hint::cold_path;

use super::aside::{gives_stream_up, unread_request};
use super::detect::{detect, http2_request, tls_request};
use super::{APPENDED, PING, UNREAD_REQUEST, after};
use crate::{
    conn::Conn,
    emit::{Moment, emit},
    link,
    payload::Packet,
    sock::Tcp,
    unreadable,
};
use ingress_trace_common::{
    http::{REQUEST_KEPT, framing, is_request},
    sample::{flag, kind, phase, proto},
};

/// A data packet in the request's direction.
#[inline(always)]
pub fn request_data(conn: &mut Conn, packet: &Packet, tcp: Option<Tcp>) {
    unreadable::sent(conn, packet);
    let fresh = after(packet.end(), conn.request_end);
    let old_end = conn.request_end;
    // The head of a request may come late, when segments were reordered.
    let late = !fresh && conn.phase != phase::REQUEST && packet.seq == conn.request_next;
    if !fresh && !late {
        return;
    }
    let mut skip = 0;
    if fresh {
        conn.request_end = packet.end();
        if after(old_end, packet.seq) {
            skip = old_end.wrapping_sub(packet.seq);
        }
    }
    if conn.proto == proto::HTTP2 && fresh && conn.upstream() {
        gives_stream_up(conn, packet, tcp);
    }
    if conn.phase == phase::REQUEST && !(conn.proto == proto::TLS && conn.exchange == 0) {
        conn.request_bytes += packet.end().wrapping_sub(old_end) as u64;
        if conn.proto == proto::TLS && !conn.upstream() && packet.len >= PING {
            conn.flags |= flag::EARLY;
        }
        more_head(conn, packet);
        return;
    }
    let start = starts_request(conn, packet, skip);
    if start == NO_START {
        cold_path();
        if conn.phase == phase::RESPONSE && fresh {
            conn.request_bytes += packet.end().wrapping_sub(old_end) as u64;
            conn.flags |= flag::EARLY;
        }
        return;
    }
    let alerted = conn.tail;
    begin_request(conn, packet.seq.wrapping_add(start), packet.time());
    let unread = conn.proto == proto::TLS || conn.proto == proto::HTTP2;
    if unread && conn.upstream() {
        // An alert may overtake the request that it is about.
        conn.tail = alerted;
        unread_request(conn, packet, start);
    }
}

/// The rest of a request head that was sent in pieces.
#[inline(always)]
pub(super) fn more_head(conn: &mut Conn, packet: &Packet) {
    const ROOM: usize = REQUEST_KEPT - APPENDED;
    cold_path();
    let kept = conn.request_kept;
    let contiguous = packet.seq == conn.request_start.wrapping_add(kept);
    if kept != 0 && (kept as usize) < ROOM && contiguous {
        let head = conn.request_head.as_mut_ptr();
        conn.request_kept += packet.append::<APPENDED, ROOM>(head, kept);
    }
}

pub(super) const NO_START: u32 = u32::MAX;

/// Offset in the packet at which a request starts.
#[inline(always)]
pub(super) fn starts_request(conn: &mut Conn, packet: &Packet, skip: u32) -> u32 {
    match conn.proto {
        proto::HTTP1 => http1_request(conn, packet, skip),
        proto::UNKNOWN => detect(conn, packet, skip),
        proto::TLS => {
            if tls_request(packet, skip) {
                skip
            } else {
                NO_START
            }
        }
        proto::HTTP2 => {
            if http2_request(packet, skip) {
                skip
            } else {
                NO_START
            }
        }
        proto::UNREAD if packet.len - skip >= UNREAD_REQUEST => skip,
        _ => NO_START,
    }
}

#[inline(always)]
pub(super) fn http1_request(conn: &mut Conn, packet: &Packet, skip: u32) -> u32 {
    let kept = packet.copy::<REQUEST_KEPT>(skip, conn.request_head.as_mut_ptr());
    conn.request_kept = 0;
    if kept < 4 || !is_request(first(conn)) {
        return NO_START;
    }
    conn.request_kept = kept;
    skip
}

#[inline(always)]
pub(super) fn first(conn: &Conn) -> [u8; 4] {
    let head = &conn.request_head;
    [head[0], head[1], head[2], head[3]]
}

#[inline(always)]
pub(super) fn begin_request(conn: &mut Conn, start: u32, time: u64) {
    conn.idle = 0;
    if conn.last_time != 0 && time > conn.last_time {
        conn.idle = time - conn.last_time;
    }
    conn.phase = phase::REQUEST;
    conn.exchange += 1;
    conn.request_time = time;
    conn.request_start = start;
    conn.request_bytes = conn.request_end.wrapping_sub(start) as u64;
    let mut flags = conn.flags & (flag::SYN | flag::ADOPTED);
    if conn.fin_in != 0 {
        flags |= flag::FIN_BEFORE;
    }
    if conn.request_kept != 0 && first(conn) == *b"HEAD" {
        flags |= flag::HEAD;
    }
    conn.flags = flags;
    reset_response(conn);
    let first_attempt = conn.prev_cookie != 0 && conn.exchange == 1;
    if !first_attempt {
        conn.prev_cookie = 0;
    }
    if conn.upstream() && !first_attempt && link::pending(time) {
        follow(conn, time);
    }
}

#[inline(always)]
pub(super) fn reset_response(conn: &mut Conn) {
    conn.response_bytes = 0;
    conn.response_start = conn.response_end;
    conn.response_time = 0;
    conn.response_kept = 0;
    conn.status = 0;
    conn.framing = framing::UNSCANNED;
    conn.tail = 0;
}

/// This attempt follows the one that its thread has just released: says so.
#[inline(always)]
pub fn follow(conn: &mut Conn, time: u64) {
    cold_path();
    if let Some(released) = link::take(time, false) {
        conn.prev_cookie = released.cookie;
        conn.prev_exchange = released.exchange;
        emit(conn, kind::RETRY, &Moment::at(time, true));
    }
}
