//! The first bytes of a connection: what it carries. TLS and HTTP/2 are told by records and frames
//! only; nothing is guessed from ciphertext.
use core::hint::cold_path;

use super::request::{NO_START, first};
use crate::{conn::Conn, payload::Packet};
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
        if conn.upstream() && !conn.has(flag::ADOPTED) {
            begin_handshake(conn, packet);
        }
    } else if bytes == *b"PRI " {
        conn.proto = proto::HTTP2;
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
        // ChangeCipherSpec, then Finished, then perhaps the request.
        0x14 => {
            let Some(next) = packet.bytes::<5>(skip + 6) else {
                return false;
            };
            let finished = u16::from_be_bytes([next[3], next[4]]) as u32;
            next[0] == 0x17 && packet.len - skip > 6 + 5 + finished + TLS_REQUEST
        }
        _ => false,
    }
}

/// A HEADERS frame among the first frames of the packet (RFC 9113 section 4.1).
#[inline(always)]
pub(super) fn http2_request(packet: &Packet, skip: u32) -> bool {
    let mut at = skip;
    if let Some(first) = packet.bytes::<4>(at)
        && first == *b"PRI "
    {
        at += 24;
    }
    has_frame(packet, at, 1)
}

/// Whether a frame of a type up to `most` (0 DATA, 1 HEADERS) is among the first of the packet.
#[inline(always)]
pub(super) fn has_frame(packet: &Packet, from: u32, most: u8) -> bool {
    let mut at = from;
    let mut i = 0;
    while i < 4 {
        let Some(frame) = packet.bytes::<9>(at) else {
            return false;
        };
        // A stream's number has no highest bit; connection-level frames have number 0.
        if frame[3] <= most && frame[5] & 0x80 == 0 {
            return true;
        }
        let len = u32::from_be_bytes([0, frame[0], frame[1], frame[2]]);
        if len > 16_384 {
            return false;
        }
        at += 9 + len;
        i += 1;
    }
    false
}
