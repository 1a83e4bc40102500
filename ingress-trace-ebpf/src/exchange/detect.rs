//! The first bytes of a connection: what it carries. TLS and HTTP/2 are told by records and frames
//! only; nothing is guessed from ciphertext.
use core::hint::cold_path;

use super::request::{NO_START, first};
use crate::{conn::Conn, payload::Packet, unreadable};
use ingress_trace_common::{
    http::{REQUEST_KEPT, is_request, proxy_header},
    sample::{flag, phase, proto},
};

/// The first bytes of a connection tell what it carries.
#[inline(always)]
pub(super) fn detect(conn: &mut Conn, packet: &Packet, skip: u32) -> u32 {
    cold_path();
    let mut skip = skip;
    let mut kept = packet.copy::<REQUEST_KEPT>(skip, conn.request_head.as_mut_ptr());
    if kept < 4 {
        return NO_START;
    }
    // Each length that its loop can end with would be a path of its own through all that follows:
    // too many for the verifier of 6.1.
    let header = conn.forget(proxy_header(&conn.request_head, kept));
    if header != 0 {
        if header > 4096 {
            return NO_START;
        }
        conn.request_next = packet.seq.wrapping_add(skip).wrapping_add(header);
        skip += header;
        if skip >= packet.len {
            return NO_START;
        }
        kept = packet.copy::<REQUEST_KEPT>(skip, conn.request_head.as_mut_ptr());
    }
    let bytes = first(conn);
    if is_request(bytes) {
        conn.proto = proto::HTTP1;
        conn.request_kept = kept;
        return skip;
    }
    if (bytes[0] == 0x16 || (conn.has(flag::ADOPTED) && bytes[0] == 0x17)) && bytes[1] == 3 {
        conn.proto = proto::TLS;
        unreadable::sent(conn, packet);
        if conn.upstream() && !conn.has(flag::ADOPTED) {
            begin_handshake(conn, packet);
        }
    } else if bytes == *b"PRI " {
        conn.proto = proto::HTTP2;
        unreadable::sent(conn, packet);
        if http2_request(packet, skip) {
            return skip;
        }
    } else if !conn.has(flag::ADOPTED) {
        conn.proto = proto::OPAQUE;
    }
    NO_START
}

/// A TLS handshake is no exchange, but it can fail like one: until the first request it stands in
/// its place, as number 0.
#[inline(always)]
pub(super) fn begin_handshake(conn: &mut Conn, packet: &Packet) {
    conn.phase = phase::REQUEST;
    conn.request_time = packet.time();
    conn.request_bytes = conn.request_end.wrapping_sub(conn.request_start) as u64;
}

/// Smallest TLS record that can carry a request; alerts (close_notify) and frames of HTTP/2 that
/// open no stream are smaller.
pub(super) const TLS_REQUEST: u32 = 35;

/// Application data large enough to be a request, also behind the client's Finished (TLS 1.3).
#[inline(always)]
pub(super) fn tls_request(packet: &Packet, skip: u32) -> bool {
    let Some(record) = packet.bytes::<5>(skip) else {
        return false;
    };
    let len = u16::from_be_bytes([record[3], record[4]]) as u32;
    match record[0] {
        0x17 => len >= TLS_REQUEST,
        // ChangeCipherSpec, perhaps a certificate, Finished, then perhaps the request.
        0x14 => behind_finished(packet, skip + 6),
        _ => false,
    }
}

/// Finished in a record of TLS 1.3, with a hash of 32 or 48 bytes: RFC 8446 sections 4.4.4, 5.2.
const FINISHED: [u32; 2] = [4 + 32 + 17, 4 + 48 + 17];

/// Whether a request follows the client's Finished in the same packet.
#[inline(always)]
fn behind_finished(packet: &Packet, from: u32) -> bool {
    let mut at = from;
    let mut i = 0;
    // A certificate that was asked for, its proof, Finished.
    while i < 3 {
        let Some(record) = packet.bytes::<5>(at) else {
            return false;
        };
        let len = u16::from_be_bytes([record[3], record[4]]) as u32;
        at += 5 + len;
        if record[0] != 0x17 {
            return false;
        }
        if len == FINISHED[0] || len == FINISHED[1] {
            return packet.len > at + TLS_REQUEST;
        }
        i += 1;
    }
    false
}

/// A HEADERS frame among the first frames of the packet (RFC 9113 section 4.1).
#[inline(always)]
pub(super) fn http2_request(packet: &Packet, skip: u32) -> bool {
    stream(packet, skip, 1) != 0
}

/// The stream of the first HEADERS frame among the first frames of the packet, or of DATA where
/// `least` is 0 and not 1; 0 when there is none.
#[inline(always)]
pub(super) fn stream(packet: &Packet, from: u32, least: u8) -> u32 {
    let mut at = from;
    if let Some(first) = packet.bytes::<4>(at)
        && first == *b"PRI "
    {
        at += 24;
    }
    let mut i = 0;
    while i < 4 {
        let Some(frame) = packet.bytes::<9>(at) else {
            return 0;
        };
        // A stream's number has no highest bit; connection-level frames have number 0.
        let stream = u32::from_be_bytes([frame[5], frame[6], frame[7], frame[8]]);
        if frame[3] >= least && frame[3] <= 1 && stream >> 31 == 0 {
            return stream;
        }
        let len = u32::from_be_bytes([0, frame[0], frame[1], frame[2]]);
        if len > MOST_FRAME {
            return 0;
        }
        at += 9 + len;
        i += 1;
    }
    0
}

/// Largest frame that is looked behind: what servers may send unless told otherwise.
pub(super) const MOST_FRAME: u32 = 16_384;
