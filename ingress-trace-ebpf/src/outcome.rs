//! How connections end: refused, reset, closed by the peer, given up by the application.
//! Called at state changes, when TCP has accepted what the packets said.
use ingress_trace_common::{
    aggregate::counted,
    http::complete,
    sample::{flag, kind, phase, proto},
};

use crate::{
    conn::Conn,
    count::count,
    emit::{Moment, emit},
    link,
    sock::Task,
    unreadable,
};

/// Marks the exchange as failed, counts it if no response was, and sends the sample.
#[inline(always)]
fn fail(conn: &mut Conn, what: u8, moment: &Moment) {
    conn.flags |= flag::FAILED;
    link::failed(moment.time);
    unreadable::failed(conn, moment.time);
    if conn.established_time == 0 || conn.phase != phase::RESPONSE {
        count(conn, counted::FAILURE, 0, 0);
    }
    emit(conn, what, moment);
}

/// A connect that ended in nothing.
#[inline(always)]
pub fn connect_failed(conn: &mut Conn, what: u8, moment: &Moment) {
    if !conn.has(flag::FAILED) {
        fail(conn, what, moment);
    }
}

/// The peer ended an established connection by FIN (`fin`) or RST, or the kernel broke it.
#[inline(always)]
pub fn ended_by_peer(conn: &mut Conn, what: u8, fin: bool, moment: &Moment) {
    if !conn.upstream() || conn.has(flag::FAILED) {
        return;
    }
    if conn.phase == phase::REQUEST || conn.phase == phase::IDLE {
        fail(conn, what, moment);
    } else if conn.phase == phase::RESPONSE {
        if conn.proto != proto::HTTP1 {
            // Whether a response was complete cannot be read: the client's leg must tell. A FIN is
            // the everyday end, so only a RST is worth asking.
            // A RST behind the peer's own FIN answers our farewell (close_notify).
            let reset = !fin && conn.fin_in == 0;
            let may_be_cut = handshake(conn) || tickets(conn) || unannounced(conn);
            if reset || (fin && may_be_cut) {
                fail(conn, what, moment);
            }
            return;
        }
        let done = conn.complete(fin);
        // An answer before the request's end, then RST: only the client's leg tells whether the
        // answer got through.
        if done != complete::YES || (!fin && conn.has(flag::EARLY)) {
            fail(conn, what, moment);
        }
    }
}

/// Most bytes of TLS session tickets: what came may be these, and no response.
const TICKETS: u64 = 4096;

/// Whether what looks like the first response of a TLS connection may be session tickets.
#[inline(always)]
fn tickets(conn: &Conn) -> bool {
    conn.proto == proto::TLS && conn.exchange == 1 && conn.response_bytes < TICKETS
}

/// Whether the backend's newest bytes were an alert of TLS: `close_notify`, or a refusal.
#[inline(always)]
fn goodbye(conn: &Conn) -> bool {
    conn.proto == proto::TLS && conn.tail != 0
}

/// Whether an end now was not announced: TLS has `close_notify`; of HTTP/2 nothing is known.
#[inline(always)]
fn unannounced(conn: &Conn) -> bool {
    conn.proto == proto::HTTP2 || (conn.proto == proto::TLS && conn.tail == 0)
}

/// Shortest wait of a controller's timer, in nanoseconds.
const PATIENCE: u64 = 100_000_000;

/// Whether session tickets may be all that came before the controller gave up.
#[inline(always)]
fn only_tickets(conn: &Conn, time: u64) -> bool {
    tickets(conn) && (goodbye(conn) || time.wrapping_sub(conn.last_time) >= PATIENCE)
}

/// The TLS handshake met an alert or something else than TLS: `response_head` begins with it.
#[inline(always)]
pub fn handshake_refused(conn: &mut Conn, time: u64) {
    if conn.has(flag::FAILED) {
        return;
    }
    conn.phase = phase::RESPONSE;
    conn.response_time = time;
    conn.last_time = time;
    conn.flags |= flag::NOT_HTTP | flag::FAILED;
    link::failed(time);
    unreadable::failed(conn, time);
    count(conn, counted::FAILURE, 0, 0);
    emit(conn, kind::RESPONSE, &Moment::at(time, false));
}

/// A stream of HTTP/2 ended before its response did; the connection may stay.
#[inline(always)]
pub fn stream_failed(conn: &mut Conn, what: u8, moment: &Moment) {
    let open = conn.phase == phase::REQUEST || conn.phase == phase::RESPONSE;
    if open && !conn.has(flag::FAILED) {
        conn.flags |= flag::STREAM;
        fail(conn, what, moment);
    }
}

/// Whether the connection is still in its TLS handshake.
#[inline(always)]
fn handshake(conn: &Conn) -> bool {
    conn.proto == proto::TLS && conn.exchange == 0 && conn.phase == phase::RESPONSE
}

/// The application closed its side.
#[inline(always)]
pub fn given_up(conn: &mut Conn, moment: &Moment) {
    if conn.has(flag::FAILED) {
        return;
    }
    let fin = conn.fin_in != 0 || goodbye(conn);
    if conn.switched() && !fin && conn.rst_in == 0 {
        // An upgrade that nobody used: the controller did not like the 101, or its client left.
        conn.phase = phase::RESPONSE;
        conn.proto = proto::HTTP1;
        fail(conn, kind::GAVE_UP, moment);
        return;
    }
    let open = conn.phase == phase::REQUEST
        || handshake(conn)
        || only_tickets(conn, moment.time)
        || (conn.phase == phase::RESPONSE
            && conn.proto == proto::HTTP1
            && conn.complete(fin) != complete::YES);
    if open {
        // The peer's FIN came while the request was on its way, and was noticed only now; behind the
        // application's own it is an answer to that.
        let closed = goodbye(conn) || (fin && conn.shut == 0);
        let what = if closed { kind::CLOSED } else { kind::GAVE_UP };
        fail(conn, what, moment);
    } else if conn.proto == proto::HTTP1 && conn.phase == phase::RESPONSE {
        link::finish(conn, moment.time);
    }
}

/// The application lets go of an upstream connection whose exchange has failed: what its thread
/// does next belongs to the same request.
#[inline(always)]
pub fn released(conn: &mut Conn, time: u64) {
    let (tid, _) = Task::current().ids();
    link::put(conn, tid, time);
}

/// The same, some time after the failure: tells the thread, which was not known then.
#[inline(always)]
pub fn released_later(conn: &mut Conn, time: u64) {
    released(conn, time);
    emit(conn, kind::RELEASED, &Moment::at(time, true));
}

/// Two WINDOW_UPDATEs of HTTP/2 in a record of TLS (RFC 9113 section 6.9, RFC 8446 section 5.2), and
/// `close_notify` behind them.
const FRAMES: u64 = 5 + 2 * 13 + 17 + 5 + 19;

/// Whether what looks like a client's request may be frames that belong to the response before it:
/// where they were lost, they come once more when the response is over.
#[inline(always)]
fn frames(conn: &Conn) -> bool {
    conn.proto == proto::TLS && conn.exchange > 1 && conn.request_bytes <= FRAMES
}

/// The application lets go of a client's connection.
#[inline(always)]
pub fn downstream_released(conn: &mut Conn, time: u64) {
    let mut open = conn.phase == phase::REQUEST;
    let mut unsure = false;
    if conn.phase == phase::RESPONSE && conn.proto == proto::HTTP1 {
        let done = conn.complete(true);
        open = done == complete::NO;
        unsure = done == complete::UNSURE;
        if done == complete::YES {
            conn.flags |= flag::COMPLETE;
        }
    }
    let gone = (conn.fin_in | conn.rst_in) != 0;
    // Traefik and Caddy write a 499 that nobody reads.
    if (open && !frames(conn) || conn.status == 499) && gone {
        count(conn, counted::ABORT, 0, 0);
    }
    let mut tell = (open || unsure) && conn.has(flag::JOINED);
    if open && !gone && conn.phase == phase::RESPONSE && link::wanted() != 0 {
        tell = true; // cut by the controller: HAProxy does so before it gives its backend up
    }
    // What ends in the middle cannot be told on a leg that cannot be read.
    let unread = conn.phase == phase::RESPONSE && conn.proto != proto::HTTP1;
    let within = open || unsure || unread;
    if within && link::waited(conn, time) {
        tell = true;
    }
    // A thread that serves many closes others' connections in between.
    if link::pending(time)
        && (within || link::wanted() == 0)
        && let Some(released) = link::take(time, false)
    {
        conn.prev_cookie = released.cookie;
        conn.prev_exchange = released.exchange;
        tell = true;
    }
    if tell {
        emit(conn, kind::DOWN_END, &Moment::at(time, true));
    }
}
