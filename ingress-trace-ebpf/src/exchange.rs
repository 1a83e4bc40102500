//! Data packets -> exchanges: where a request starts, where its response begins, what status it
//! has, how its end is told. Retransmitted, reordered and coalesced segments must not fool it.
use ingress_trace_common::{
    aggregate::counted,
    http::{
        self, Mark, REQUEST_KEPT, RESPONSE_KEPT, WINDOW, complete, fold_tail, framing, is_request,
        proxy_header, status,
    },
    sample::{flag, kind, phase, proto},
};

use crate::{
    conn::Conn,
    count::count,
    emit::{Moment, emit},
    link,
    maps::config,
    payload::Packet,
    sock::{Tcp, now, now_coarse},
};

/// Smallest TLS record that can carry a request; alerts (close_notify) and frames of HTTP/2 that
/// open no stream are smaller.
const TLS_REQUEST: u32 = 35;
/// Smallest data that opens an exchange while payload is not read, for the same reason.
const UNREAD_REQUEST: u32 = 40;
/// Most of a request head that is taken from one later segment.
const APPENDED: usize = 256;
/// Most of a response head that is taken from one later segment.
const MORE: usize = 512;

#[inline(always)]
fn after(a: u32, b: u32) -> bool {
    (a.wrapping_sub(b) as i32) > 0
}

/// A data packet in the request's direction.
#[inline(always)]
pub fn request_data(conn: &mut Conn, packet: &Packet) {
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
    if conn.phase == phase::REQUEST && !(conn.proto == proto::TLS && conn.exchange == 0) {
        conn.request_bytes += packet.end().wrapping_sub(old_end) as u64;
        more_head(conn, packet);
        return;
    }
    let start = starts_request(conn, packet, skip);
    if start == NO_START {
        if conn.phase == phase::RESPONSE && fresh {
            conn.request_bytes += packet.end().wrapping_sub(old_end) as u64;
            conn.flags |= flag::EARLY;
        }
        return;
    }
    begin_request(conn, packet.seq.wrapping_add(start));
}

/// The rest of a request head that was sent in pieces.
#[inline(always)]
fn more_head(conn: &mut Conn, packet: &Packet) {
    const ROOM: usize = REQUEST_KEPT - APPENDED;
    let kept = conn.request_kept;
    let contiguous = packet.seq == conn.request_start.wrapping_add(kept);
    if kept != 0 && (kept as usize) < ROOM && contiguous {
        let head = conn.request_head.as_mut_ptr();
        conn.request_kept += packet.append::<APPENDED, ROOM>(head, kept);
    }
}

const NO_START: u32 = u32::MAX;

/// Offset in the packet at which a request starts.
#[inline(always)]
fn starts_request(conn: &mut Conn, packet: &Packet, skip: u32) -> u32 {
    match conn.proto {
        proto::HTTP1 => http1_request(conn, packet, skip),
        proto::UNKNOWN => detect(conn, packet, skip),
        proto::TLS => {
            if tls_request(packet, skip) { skip } else { NO_START }
        }
        proto::HTTP2 => {
            if http2_request(packet, skip) { skip } else { NO_START }
        }
        proto::UNREAD if packet.len - skip >= UNREAD_REQUEST => skip,
        _ => NO_START,
    }
}

#[inline(always)]
fn http1_request(conn: &mut Conn, packet: &Packet, skip: u32) -> u32 {
    let kept = packet.copy::<REQUEST_KEPT>(skip, conn.request_head.as_mut_ptr());
    conn.request_kept = 0;
    if kept < 4 || !is_request(first(conn)) {
        return NO_START;
    }
    conn.request_kept = kept;
    skip
}

#[inline(always)]
fn first(conn: &Conn) -> [u8; 4] {
    let head = &conn.request_head;
    [head[0], head[1], head[2], head[3]]
}

/// The first bytes of a connection tell what it carries.
#[inline(always)]
fn detect(conn: &mut Conn, packet: &Packet, skip: u32) -> u32 {
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
            begin_handshake(conn);
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
fn begin_handshake(conn: &mut Conn) {
    conn.phase = phase::REQUEST;
    conn.request_time = now();
    conn.request_bytes = conn.request_end.wrapping_sub(conn.request_start) as u64;
}

/// Application data large enough to be a request, also behind the client's Finished (TLS 1.3).
#[inline(always)]
fn tls_request(packet: &Packet, skip: u32) -> bool {
    let Some(record) = packet.bytes::<5>(skip) else { return false };
    let len = u16::from_be_bytes([record[3], record[4]]) as u32;
    match record[0] {
        0x17 => len >= TLS_REQUEST,
        // ChangeCipherSpec, then Finished, then perhaps the request.
        0x14 => {
            let Some(next) = packet.bytes::<5>(skip + 6) else { return false };
            let finished = u16::from_be_bytes([next[3], next[4]]) as u32;
            next[0] == 0x17 && packet.len - skip > 6 + 5 + finished + TLS_REQUEST
        }
        _ => false,
    }
}

/// A HEADERS frame among the first frames of the packet (RFC 9113 section 4.1).
#[inline(always)]
fn http2_request(packet: &Packet, skip: u32) -> bool {
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
fn has_frame(packet: &Packet, from: u32, most: u8) -> bool {
    let mut at = from;
    let mut i = 0;
    while i < 4 {
        let Some(frame) = packet.bytes::<9>(at) else { return false };
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

#[inline(always)]
fn begin_request(conn: &mut Conn, start: u32) {
    let time = now();
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
fn reset_response(conn: &mut Conn) {
    conn.response_bytes = 0;
    conn.response_start = conn.response_end;
    conn.response_time = 0;
    conn.response_kept = 0;
    conn.status = 0;
    conn.framing = framing::UNSCANNED;
    conn.tail = 0;
    conn.scan = http::Scan::default();
}

/// This attempt follows the one that its thread has just released: says so.
#[inline(always)]
pub fn follow(conn: &mut Conn, time: u64) {
    if let Some(released) = link::take(time) {
        conn.prev_cookie = released.cookie;
        conn.prev_exchange = released.exchange;
        emit(conn, kind::RETRY, &Moment::at(time, true));
    }
}

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
fn unread_response(conn: &mut Conn, packet: &Packet, tcp: Option<Tcp>, frames: bool) {
    if conn.phase != phase::REQUEST {
        joined_write(conn, packet, tcp);
        return;
    }
    // DATA and HEADERS answer a request; SETTINGS, PING and WINDOW_UPDATE do not.
    if frames && !has_frame(packet, 0, 1) {
        return;
    }
    conn.response_time = now();
    if conn.proto == proto::TLS && conn.exchange == 0 {
        handshake_answer(conn, packet);
        return;
    }
    begin_response(conn, packet, tcp);
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

/// The backend's part of the TLS handshake, unless it speaks something else.
#[inline(always)]
fn handshake_answer(conn: &mut Conn, packet: &Packet) {
    conn.phase = phase::RESPONSE;
    conn.last_time = conn.response_time;
    // Alert, handshake or (behind a HelloRetryRequest) ChangeCipherSpec: RFC 8446 section 5.1.
    let Some(record) = packet.bytes::<3>(0) else { return };
    if record[0] < 0x14 || record[0] > 0x16 || record[1] != 3 {
        conn.flags |= flag::NOT_HTTP | flag::FAILED;
        emit(conn, kind::RESPONSE, &Moment::at(conn.response_time, false));
    }
}

/// A connection whose request was not seen: only a status line tells what it is.
#[inline(always)]
fn adopted_response(conn: &mut Conn, packet: &Packet, tcp: Option<Tcp>) {
    let Some(line) = packet.bytes::<16>(0) else { return };
    if status(&line) != 0 {
        conn.proto = proto::HTTP1;
        conn.response_start = packet.seq;
        first_response(conn, packet, tcp);
    }
}

/// The head of a response, perhaps behind interim ones (RFC 9110 section 15.2).
#[inline(always)]
fn first_response(conn: &mut Conn, packet: &Packet, tcp: Option<Tcp>) {
    if conn.response_time == 0 {
        conn.response_time = now();
    }
    let Some(mut skip) = keep_head(conn, packet) else { return };
    let mut interim = 0;
    while interim < 3 {
        let kept = conn.response_kept;
        // Too little to tell HTTP from anything else, unless it already differs.
        if kept < 12 && (kept == 0 || conn.response_head[0] == b'H') {
            return;
        }
        conn.status = if kept < 12 { 0 } else { status(&line(conn)) };
        if conn.status < 100 || conn.status > 199 || conn.status == 101 {
            break;
        }
        scan(conn);
        conn.framing = framing::UNSCANNED;
        conn.status = 0;
        let end = conn.scan.end;
        if end == 0 || end as usize > RESPONSE_KEPT {
            return;
        }
        // The final head stands behind the interim one, in this packet or a later one.
        skip = conn.response_start.wrapping_add(end).wrapping_sub(packet.seq);
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
fn keep_head(conn: &mut Conn, packet: &Packet) -> Option<u32> {
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

#[inline(always)]
fn line(conn: &Conn) -> [u8; 16] {
    let head = &conn.response_head;
    let mut line = [0; 16];
    let mut i = 0;
    while i < 12 {
        line[i] = head[i];
        i += 1;
    }
    line
}

/// The response has begun: count it, and tell what is not an everyday success.
#[inline(always)]
fn begin_response(conn: &mut Conn, packet: &Packet, tcp: Option<Tcp>) {
    let time = conn.response_time;
    let unseen = conn.phase != phase::REQUEST;
    if unseen {
        // The request was not seen: it came with the handshake, or before the agent, or it was
        // pipelined behind another one.
        conn.exchange += 1;
        conn.request_bytes = 0;
        conn.request_kept = 0;
        conn.request_time =
            if conn.exchange == 1 && !conn.has(flag::ADOPTED) { conn.established_time } else { 0 };
    }
    conn.phase = phase::RESPONSE;
    conn.request_next = conn.request_end;
    conn.last_time = time;
    let mut latency = 0;
    if conn.request_time != 0 && time > conn.request_time {
        latency = time - conn.request_time;
    }
    if conn.upstream() {
        upstream_response(conn, time, latency);
    } else {
        count(conn, counted::RESPONSE, conn.status, latency);
        downstream_response(conn, packet, tcp, time);
    }
    if conn.status == 101 {
        conn.proto = proto::OPAQUE;
        conn.phase = phase::IDLE;
    }
}

#[inline(always)]
fn upstream_response(conn: &mut Conn, time: u64, latency: u64) {
    count(conn, counted::EXCHANGE, conn.status, latency);
    let slow = config!(slow);
    if slow != 0 && latency > slow {
        conn.flags |= flag::SLOW;
        count(conn, counted::SLOW, 0, latency);
    }
    let error = conn.status == 502 || conn.status == 503 || conn.status == 504;
    if error || conn.has(flag::NOT_HTTP) {
        conn.flags |= flag::FAILED;
    }
    if error || conn.has(flag::NOT_HTTP | flag::SLOW) || conn.prev_cookie != 0 {
        emit(conn, kind::RESPONSE, &Moment::at(time, false));
    }
}

#[inline(always)]
fn downstream_response(conn: &mut Conn, packet: &Packet, tcp: Option<Tcp>, time: u64) {
    let process = packet.egress && tcp.is_some_and(Tcp::owned);
    let mut joined = false;
    if process && link::pending(time) {
        joined = join(conn, time);
    }
    let error = conn.status >= 502 && conn.status <= 504 || conn.status == 500;
    if error && process && !joined && refused(conn, time) {
        return;
    }
    if joined || error {
        emit(conn, kind::RESPONSE, &Moment::at(time, process));
    }
}

/// An error of the controller's own, although a complete response had come for this request.
#[inline(always)]
fn refused(conn: &mut Conn, time: u64) -> bool {
    if conn.request_time == 0 {
        return false;
    }
    let Some(finished) = link::finished_since(conn.request_time, time) else { return false };
    // The same status was relayed as it was; another request is a subrequest's (authentication).
    if finished.status == conn.status as u32 || same_request(conn, finished) == 0 {
        return false;
    }
    let client = (conn.remote, conn.remote_port);
    conn.remote = finished.remote;
    conn.remote_port = finished.remote_port as u16;
    emit(conn, kind::REFUSED, &Moment::at(time, true));
    (conn.remote, conn.remote_port) = client;
    true
}

/// Takes what this thread released, if anything, as the reason of what it now does downstream.
#[inline(always)]
fn join(conn: &mut Conn, time: u64) -> bool {
    let Some(released) = link::take(time) else { return false };
    conn.prev_cookie = released.cookie;
    conn.prev_exchange = released.exchange;
    conn.flags |= flag::JOINED;
    true
}

/// More of a response, or a write that opens none: does it follow a failed attempt?
#[inline(always)]
fn joined_write(conn: &mut Conn, packet: &Packet, tcp: Option<Tcp>) {
    if conn.upstream() || !packet.egress {
        return;
    }
    // An alert (close_notify) or a frame of HTTP/2 that opens nothing is no answer.
    if conn.proto != proto::HTTP1 && packet.len < UNREAD_REQUEST {
        return;
    }
    if link::pending(now_coarse()) && tcp.is_some_and(Tcp::owned) {
        // Exact: in the order of time it must stand behind the release.
        let time = now();
        if join(conn, time) {
            emit(conn, kind::DOWN_WRITE, &Moment::at(time, true));
        }
    }
}

/// Further segments of a response.
#[inline(always)]
fn more_response(conn: &mut Conn, packet: &Packet, old_end: u32, tcp: Option<Tcp>) {
    conn.last_time = now_coarse();
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
    joined_write(conn, packet, tcp);
}

/// Looks at the framing once a response has more than one segment; tells whether the segment
/// begins another response, behind a complete one.
#[inline(always)]
fn pipelined(conn: &mut Conn, packet: &Packet, old_end: u32) -> bool {
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
    let Some(line) = packet.bytes::<16>(0) else { return false };
    status(&line) != 0
}

#[inline(always)]
fn append(conn: &mut Conn, packet: &Packet) {
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
fn next_response(conn: &mut Conn, packet: &Packet, tcp: Option<Tcp>) {
    conn.phase = phase::IDLE;
    conn.flags &= !(flag::HEAD | flag::NOT_HTTP | flag::SLOW | flag::JOINED | flag::FAILED);
    conn.prev_cookie = 0;
    conn.response_end = packet.seq;
    reset_response(conn);
    conn.response_end = packet.end();
    conn.response_bytes = packet.len as u64;
    first_response(conn, packet, tcp);
}

/// Looks through the kept head (rare: once per connection, or per large response).
#[inline(always)]
pub fn scan(conn: &mut Conn) {
    conn.scan = http::Scan::default();
    scan_front(conn);
    if conn.scan.end == 0 && conn.response_kept as usize > WINDOW {
        scan_back(conn);
    }
    framing_of_head(conn);
}

// Global functions, which verifiers check once and by themselves: their loops would otherwise
// multiply with everything that leads to them.

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn scan_front(conn: *mut Conn) -> u32 {
    // SAFETY: null or a whole `Conn`, as the verifier makes sure at every call.
    if let Some(conn) = unsafe { conn.as_mut() } {
        look::<0>(conn);
    }
    0
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn scan_back(conn: *mut Conn) -> u32 {
    // SAFETY: as above.
    if let Some(conn) = unsafe { conn.as_mut() } {
        look::<WINDOW>(conn);
    }
    0
}

#[inline(always)]
fn look<const FROM: usize>(conn: &mut Conn) {
    let found = &raw mut conn.scan;
    // Through memory, volatile: what is kept in registers would be one more state per byte.
    let mark = |mark: Mark, at: u32| {
        // SAFETY: fields of the live `conn`.
        unsafe {
            match mark {
                Mark::End => core::ptr::write_volatile(&raw mut (*found).end, at),
                Mark::Length => core::ptr::write_volatile(&raw mut (*found).length_at, at),
                Mark::Encoding => core::ptr::write_volatile(&raw mut (*found).encoding_at, at),
            }
        }
    };
    http::scan::<FROM>(&conn.response_head, conn.response_kept, mark);
}

/// Works out the framing from what the looks have found.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn framing_of_head(conn: *mut Conn) -> u32 {
    // SAFETY: as above.
    let Some(conn) = (unsafe { conn.as_mut() }) else { return 0 };
    let mut scan = conn.scan;
    if scan.length_at != 0 {
        scan.length = http::length(&conn.response_head, scan.length_at);
        conn.scan.length = scan.length;
    }
    let (kept, bytes) = (conn.response_kept, conn.response_bytes);
    conn.framing = http::framing_of(&scan, conn.status, conn.has(flag::HEAD), kept, bytes);
    if conn.framing == framing::CHUNKED && conn.tail == 0 {
        // A mask, not a comparison: verifiers follow it whatever the compiler makes of it.
        let at = kept.wrapping_sub(8) as usize & (RESPONSE_KEPT - 1);
        let mut tail = 0u64;
        let mut i = 0;
        while i < 8 {
            tail = tail << 8 | conn.response_head[at + i] as u64;
            i += 1;
        }
        conn.tail = tail;
    }
    0
}
