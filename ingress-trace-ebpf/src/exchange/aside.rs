//! What is said beside requests and responses on an upstream leg that cannot be read: alerts of
//! TLS, RST_STREAM and GOAWAY of HTTP/2. Sizes and types only.
use core::hint::cold_path;

use super::detect::stream;
use crate::{conn::Conn, emit::Moment, outcome, payload::Packet, sock::Tcp};
use ingress_trace_common::sample::{kind, phase, proto};

/// Data of a backend that is no response: true when there is nothing more to it.
#[inline(always)]
pub(super) fn aside(conn: &mut Conn, packet: &Packet) -> bool {
    cold_path();
    if conn.proto == proto::TLS {
        let alert = alert(conn, packet);
        conn.tail = alert as u64;
        if alert {
            conn.response_bytes -= packet.len as u64;
        }
        return alert;
    }
    if goaway(packet) {
        outcome::stream_failed(conn, kind::CLOSED, &Moment::at(packet.time(), false));
        return false;
    }
    match last_reset(packet) {
        Some((_, 0)) | None => false,
        Some((stream, _)) => {
            let moment = Moment::at(packet.time(), false);
            outcome::stream_failed(conn, kind::RESET, &moment);
            if stream as u64 == conn.tail {
                end_stream(conn);
            }
            packet.len == RST_STREAM
        }
    }
}

/// The controller lets go of a stream, and keeps the connection.
#[inline(always)]
pub(super) fn gives_stream_up(conn: &mut Conn, packet: &Packet, tcp: Option<Tcp>) {
    // Go sends a PING behind it; of many in one packet the first and the last tell.
    let (first, last) = (reset_at(packet, 0), last_reset(packet));
    let (Some((first, _)), Some((last, _))) = (first.or(last), last.or(first)) else {
        return;
    };
    if conn.tail >= first.min(last) as u64 && conn.tail <= first.max(last) as u64 {
        cold_path();
        let process = tcp.is_some_and(Tcp::owned);
        outcome::stream_failed(conn, kind::GAVE_UP, &Moment::at(packet.time(), process));
        end_stream(conn);
    }
}

/// Nothing is open any more on a connection whose stream has ended without a response.
#[inline(always)]
fn end_stream(conn: &mut Conn) {
    if conn.phase == phase::REQUEST {
        conn.phase = phase::IDLE;
    }
}

/// A request begins on a leg whose responses cannot be read: the stream that it is, is kept.
#[inline(always)]
pub(super) fn unread_request(conn: &mut Conn, packet: &Packet, skip: u32) {
    if conn.proto == proto::HTTP2 {
        conn.tail = stream(packet, skip, 1) as u64;
    }
}

/// A record of this size holds nothing but an alert: two bytes, with what the cipher adds (RFC 8446
/// section 5.2; TLS 1.2 up to 48 with CBC).
const ALERT_TLS13: u32 = 19;
const ALERT_MOST: u32 = 64;

/// Whether the packet is an alert, and nothing else.
#[inline(always)]
fn alert(conn: &mut Conn, packet: &Packet) -> bool {
    if packet.len > ALERT_MOST {
        return false;
    }
    let Some(record) = packet.bytes::<7>(0) else {
        return false;
    };
    let len = u16::from_be_bytes([record[3], record[4]]) as u32;
    if packet.len != 5 + len || record[1] != 3 {
        return false;
    }
    if conn.exchange == 0 && record[0] == ALERT && len == 2 && record[5] == FATAL {
        conn.response_head[0] = ALERT;
        conn.response_head[1] = record[6];
        outcome::handshake_refused(conn, packet.time());
    }
    record[0] == ALERT || (record[0] == 0x17 && len == ALERT_TLS13)
}

const ALERT: u8 = 0x15;
const FATAL: u8 = 2;

/// Bytes of a RST_STREAM frame, of a GOAWAY frame without debug data (RFC 9113 section 6).
const RST_STREAM: u32 = 13;
const GOAWAY: u32 = 17;

/// The RST_STREAM that a packet ends with: its stream, its error.
#[inline(always)]
fn last_reset(packet: &Packet) -> Option<(u32, u32)> {
    if packet.len < RST_STREAM {
        return None;
    }
    reset_at(packet, packet.len - RST_STREAM)
}

#[inline(always)]
fn reset_at(packet: &Packet, at: u32) -> Option<(u32, u32)> {
    let frame = packet.bytes::<13>(at)?;
    let stream = u32::from_be_bytes([frame[5], frame[6], frame[7], frame[8]]);
    let error = u32::from_be_bytes([frame[9], frame[10], frame[11], frame[12]]);
    let fits = frame[..5] == [0, 0, 4, 3, 0] && stream != 0 && stream >> 31 == 0;
    if fits { Some((stream, error)) } else { None }
}

/// Whether a packet begins or ends with a GOAWAY that names an error.
#[inline(always)]
fn goaway(packet: &Packet) -> bool {
    if packet.len < GOAWAY {
        return false;
    }
    is_goaway(packet, 0) || is_goaway(packet, packet.len - GOAWAY)
}

#[inline(always)]
fn is_goaway(packet: &Packet, at: u32) -> bool {
    let Some(frame) = packet.bytes::<17>(at) else {
        return false;
    };
    let error = u32::from_be_bytes([frame[13], frame[14], frame[15], frame[16]]);
    frame[0] == 0 && frame[3..9] == [7, 0, 0, 0, 0, 0] && error != 0 && error <= MOST_ERROR
}

/// The highest error code (RFC 9113 section 7).
const MOST_ERROR: u32 = 13;
