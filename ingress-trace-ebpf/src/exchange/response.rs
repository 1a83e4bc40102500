//! The response's direction: where a response begins, what status it has, how its end is told.
//! Interim, pipelined and reordered ones included.
use core::hint::cold_path;

use super::after;
use super::answer::{downstream_response, joined_write, upstream_response};
use super::aside::aside;
use super::detect::{MOST_FRAME, stream};
use super::head::scan;
use super::request::reset_response;
use crate::{conn::Conn, count::count, outcome, payload::Packet, sock::Tcp};
use ingress_trace_common::{
    aggregate::counted,
    http::{self, RESPONSE_KEPT, complete, fold_tail, framing, status},
    sample::{flag, phase, proto},
};

/// A data packet in the response's direction.
#[inline(always)]
pub fn response_data(conn: &mut Conn, packet: &Packet, tcp: Option<Tcp>) {
    if conn.released != 0 && conn.upstream() {
        return; // nobody waits for it any more, and its exchange was counted as given up
    }
    let old_end = conn.response_end;
    let fresh = after(packet.end(), old_end);
    if fresh {
        conn.response_end = packet.end();
        conn.response_bytes += packet.end().wrapping_sub(old_end) as u64;
    }
    let unread = conn.proto == proto::TLS || conn.proto == proto::HTTP2;
    if unread && fresh && conn.upstream() && aside(conn, packet) {
        return;
    }
    if conn.phase == phase::RESPONSE {
        if fresh {
            more_response(conn, packet, old_end, tcp);
        }
        return;
    }
    // What fills a hole is looked at only where it continues what is kept of the head.
    if !fresh && packet.seq != conn.response_start.wrapping_add(conn.response_kept) {
        return;
    }
    match conn.proto {
        proto::HTTP1 => first_response(conn, packet, tcp),
        proto::UNKNOWN if conn.has(flag::ADOPTED) => adopted_response(conn, packet, tcp),
        proto::TLS | proto::UNREAD => unread_response(conn, packet, tcp, false),
        proto::HTTP2 => unread_response(conn, packet, tcp, true),
        _ => {}
    }
}

/// A leg whose bytes tell nothing: the direction changed, that is the response.
#[inline(always)]
pub(super) fn unread_response(conn: &mut Conn, packet: &Packet, tcp: Option<Tcp>, frames: bool) {
    cold_path();
    if conn.phase != phase::REQUEST {
        if frames && other_protocol(conn, packet) {
            outcome::handshake_refused(conn, packet.time());
            // Whatever is still sent is no request of its own.
            conn.proto = proto::OPAQUE;
        }
        joined_write(conn, packet, tcp, 0);
        return;
    }
    // DATA and HEADERS answer a request; SETTINGS, PING and WINDOW_UPDATE do not.
    if frames && stream(packet, 0, 0) == 0 && !other_protocol(conn, packet) {
        return;
    }
    conn.response_time = packet.time();
    if conn.proto == proto::TLS && conn.exchange == 0 {
        handshake_answer(conn, packet);
        return;
    }
    begin_response(conn, packet, tcp);
}

/// The backend's part of the TLS handshake, unless it speaks something else.
#[inline(always)]
pub(super) fn handshake_answer(conn: &mut Conn, packet: &Packet) {
    conn.phase = phase::RESPONSE;
    conn.last_time = conn.response_time;
    // Alert, handshake or (behind a HelloRetryRequest) ChangeCipherSpec: RFC 8446 section 5.1.
    let Some(record) = packet.bytes::<3>(0) else {
        return;
    };
    if record[0] < 0x14 || record[0] > 0x16 || record[1] != 3 {
        conn.response_head[0] = record[0];
        conn.response_head[1] = record[1];
        outcome::handshake_refused(conn, conn.response_time);
    }
}

/// Whether the first bytes of a backend that was spoken HTTP/2 to are no frame.
#[inline(always)]
fn other_protocol(conn: &mut Conn, packet: &Packet) -> bool {
    let first = conn.exchange <= 1 && conn.response_bytes == packet.len as u64;
    if !first || !conn.upstream() || conn.has(flag::ADOPTED) {
        return false;
    }
    let Some(frame) = packet.bytes::<3>(0) else {
        return false;
    };
    if u32::from_be_bytes([0, frame[0], frame[1], frame[2]]) <= MOST_FRAME {
        return false;
    }
    conn.response_head[0] = frame[0];
    conn.response_head[1] = frame[1];
    conn.flags |= flag::NOT_HTTP;
    true
}

/// A connection whose request was not seen: only a status line tells what it is.
#[inline(always)]
pub(super) fn adopted_response(conn: &mut Conn, packet: &Packet, tcp: Option<Tcp>) {
    cold_path();
    let Some(line) = packet.bytes::<16>(0) else {
        return;
    };
    if status(&line) != 0 {
        conn.proto = proto::HTTP1;
        conn.response_start = packet.seq;
        first_response(conn, packet, tcp);
    }
}

/// The head of a response, perhaps behind interim ones (RFC 9110 section 15.2).
#[inline(always)]
pub(super) fn first_response(conn: &mut Conn, packet: &Packet, tcp: Option<Tcp>) {
    if conn.response_time == 0 {
        conn.response_time = packet.time();
    }
    let Some(mut skip) = keep_head(conn, packet) else {
        return;
    };
    let mut interim = 0;
    while interim < 3 {
        let kept = conn.response_kept;
        // Too little to tell HTTP from anything else, unless it already differs.
        if kept < 12 && (kept == 0 || conn.response_head[0] == b'H') {
            return;
        }
        conn.status = if kept < 12 {
            0
        } else {
            status(&conn.response_head)
        };
        if conn.status < 100 || conn.status > 199 || conn.status == 101 {
            break;
        }
        cold_path();
        scan(conn);
        conn.framing = framing::UNSCANNED;
        conn.status = 0;
        let end = conn.scan.end;
        if end == 0 || end as usize > RESPONSE_KEPT {
            return;
        }
        // The final head stands behind the interim one, in this packet or a later one.
        skip = conn
            .response_start
            .wrapping_add(end)
            .wrapping_sub(packet.seq);
        conn.response_start = conn.response_start.wrapping_add(end);
        conn.response_bytes = conn.response_end.wrapping_sub(conn.response_start) as u64;
        conn.response_kept = 0;
        if skip >= packet.len {
            conn.response_time = 0;
            return;
        }
        conn.response_kept = packet.copy::<RESPONSE_KEPT>(skip, conn.response_head.as_mut_ptr());
        interim += 1;
    }
    if skip >= packet.len {
        skip = 0;
    }
    if packet.len - skip > RESPONSE_KEPT as u32 {
        conn.tail = fold_tail(0, packet.last(), packet.len - skip);
    }
    if conn.status == 0 {
        conn.flags |= flag::NOT_HTTP;
    }
    begin_response(conn, packet, tcp);
}

/// Copies what this packet has of the response's head behind what was kept of it before; tells
/// where in the packet the response begins. `None` while a hole is before it.
#[inline(always)]
pub(super) fn keep_head(conn: &mut Conn, packet: &Packet) -> Option<u32> {
    let had = conn.response_kept;
    if had != 0 {
        if packet.seq == conn.response_start.wrapping_add(had) {
            append(conn, packet);
            return Some(0);
        }
        return None;
    }
    let skip = if after(conn.response_start, packet.seq) {
        conn.response_start.wrapping_sub(packet.seq)
    } else if packet.seq == conn.response_start {
        0
    } else {
        return None;
    };
    conn.response_kept = packet.copy::<RESPONSE_KEPT>(skip, conn.response_head.as_mut_ptr());
    Some(skip)
}

/// The response has begun: count it, and tell what is not an everyday success.
#[inline(always)]
pub(super) fn begin_response(conn: &mut Conn, packet: &Packet, tcp: Option<Tcp>) {
    let time = conn.response_time;
    let unseen = conn.phase != phase::REQUEST;
    if unseen {
        cold_path();
        // The request was not seen: it came with the handshake, or before the agent, or it was
        // pipelined behind another one.
        conn.exchange += 1;
        conn.request_bytes = 0;
        conn.request_kept = 0;
        conn.request_time = if conn.exchange == 1 && !conn.has(flag::ADOPTED) {
            conn.established_time
        } else {
            0
        };
    }
    conn.phase = phase::RESPONSE;
    conn.request_next = conn.request_end;
    conn.last_time = time;
    if conn.upstream() {
        let mut latency = 0;
        if conn.request_time != 0 && time > conn.request_time {
            latency = time - conn.request_time;
        }
        upstream_response(conn, time, latency);
    } else {
        count(conn, counted::RESPONSE, conn.status, 0);
        downstream_response(conn, packet, tcp, time);
    }
    if conn.status == 101 {
        conn.proto = proto::OPAQUE;
        conn.phase = phase::IDLE;
    }
}

/// Further segments of a response.
#[inline(always)]
pub(super) fn more_response(conn: &mut Conn, packet: &Packet, old_end: u32, tcp: Option<Tcp>) {
    let before = conn.last_time;
    conn.last_time = packet.time_coarse();
    if conn.proto == proto::HTTP1 {
        if pipelined(conn, packet, old_end) {
            next_response(conn, packet, tcp);
            return;
        }
        if conn.framing == framing::CHUNKED {
            let new = packet.end().wrapping_sub(old_end);
            conn.tail = fold_tail(conn.tail, packet.last(), new);
        }
    }
    joined_write(conn, packet, tcp, before);
}

/// Looks at the framing once a response has more than one segment; tells whether the segment
/// begins another response, behind a complete one.
#[inline(always)]
pub(super) fn pipelined(conn: &mut Conn, packet: &Packet, old_end: u32) -> bool {
    let contiguous = packet.seq == conn.response_start.wrapping_add(conn.response_kept);
    if conn.framing == framing::UNSCANNED {
        scan(conn);
    }
    if conn.scan.end == 0 && contiguous && (conn.response_kept as usize) < RESPONSE_KEPT {
        append(conn, packet);
        scan(conn);
        return false;
    }
    let before = conn.response_bytes - packet.end().wrapping_sub(old_end) as u64;
    let expected = http::expected(&conn.scan, conn.framing);
    let done = http::completeness(conn.framing, expected, before, conn.tail, false);
    if done != complete::YES || packet.seq != old_end {
        return false;
    }
    let Some(line) = packet.bytes::<16>(0) else {
        return false;
    };
    status(&line) != 0
}

/// Most of a response head that is taken from one later segment.
pub(super) const MORE: usize = 512;

#[inline(always)]
pub(super) fn append(conn: &mut Conn, packet: &Packet) {
    let kept = conn.response_kept;
    if (kept as usize) < RESPONSE_KEPT {
        let head = conn.response_head.as_mut_ptr();
        let more = packet.append::<MORE, RESPONSE_KEPT>(head, kept);
        // What hangs over is not looked at.
        conn.response_kept = (kept + more).min(RESPONSE_KEPT as u32);
    }
}

/// A response to a pipelined request.
#[inline(always)]
pub(super) fn next_response(conn: &mut Conn, packet: &Packet, tcp: Option<Tcp>) {
    cold_path();
    conn.phase = phase::IDLE;
    conn.flags &= !(flag::HEAD | flag::NOT_HTTP | flag::SLOW | flag::JOINED | flag::FAILED);
    conn.prev_cookie = 0;
    conn.response_end = packet.seq;
    reset_response(conn);
    conn.response_end = packet.end();
    conn.response_bytes = packet.len as u64;
    first_response(conn, packet, tcp);
}
