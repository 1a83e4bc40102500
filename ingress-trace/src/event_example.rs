//! In: little. Out: events as nginx causes them, for the tests of the stages that take events.
//! Nothing here is meant to be likely beyond what a test says about it.
use ingress_trace_common::http::framing;
use ingress_trace_common::sample::flag;

use super::{Event, ExchangeId, Flags, Kind, Leg};
use crate::cause::taxonomy::{Phase, Protocol};
use crate::finding::Request;

/// A millisecond of the events' clock.
pub const MS: u64 = 1_000_000;
/// The thread that acts unless a test says otherwise.
pub const THREAD: u32 = 71;

/// The first exchange of a connection.
pub fn first(cookie: u64) -> ExchangeId {
    ExchangeId { cookie, number: 1 }
}

/// The second one, on a connection that is used again.
pub fn second(cookie: u64) -> ExchangeId {
    ExchangeId { cookie, number: 2 }
}

/// The request of all examples.
pub fn get() -> Request {
    Request {
        method: "GET".into(),
        host: Some("shop.example".into()),
        path: "/cart".into(),
    }
}

/// An event on the connection `cookie` to a backend, in the phase that its kind usually has.
pub fn up(cookie: u64, kind: Kind, time: u64) -> Event {
    let connect = matches!(kind, Kind::ConnectFailed | Kind::ConnectLocal | Kind::Retry);
    let began = time.saturating_sub(5 * MS).max(1);
    let status = (kind == Kind::Response).then_some(200);
    Event {
        time,
        kind,
        leg: Leg::Upstream,
        exchange: first(cookie),
        prev: None,
        cgroup: 4242,
        tid: Some(THREAD),
        pid: 70,
        phase: match kind {
            _ if connect => Phase::Connect,
            Kind::Response => Phase::Response,
            _ => Phase::Request,
        },
        protocol: (!connect).then_some(Protocol::Http1),
        flags: Flags(flag::SYN | flag::PROCESS),
        framing: framing::UNSCANNED,
        connect_time: Some(began),
        established_time: (!connect).then_some(began),
        request_time: (!connect).then_some(began),
        response_time: status.map(|_| time),
        last_time: status.map(|_| time),
        unreadable_time: None,
        idle: None,
        request_bytes: if connect { 0 } else { 80 },
        response_bytes: if status.is_some() { 120 } else { 0 },
        expected_bytes: 0,
        errno: None,
        retransmits: 0,
        unread: 0,
        handshake: false,
        acked: if connect { 0 } else { 80 },
        status,
        strange: None,
        local: "10.77.0.2:40000".parse().expect("an address"),
        remote: "10.77.1.3:8080".parse().expect("an address"),
        leads: None,
        unrouted: false,
        request: (!connect).then(get),
    }
}

/// An event on the connection `cookie` of a client.
pub fn down(cookie: u64, kind: Kind, time: u64) -> Event {
    Event {
        leg: Leg::Downstream,
        status: matches!(kind, Kind::Response | Kind::Refused).then_some(502),
        phase: if kind == Kind::DownEnd {
            Phase::Request
        } else {
            Phase::Response
        },
        protocol: Some(Protocol::Http1),
        flags: Flags(flag::PROCESS),
        local: "10.77.0.2:80".parse().expect("an address"),
        remote: "10.77.9.9:51000".parse().expect("an address"),
        request: Some(get()),
        ..up(cookie, kind, time)
    }
}

/// A connect that was refused, its socket released at once as nginx does.
pub fn refused(cookie: u64, time: u64) -> Event {
    Event {
        errno: Some(111),
        ..released(up(cookie, Kind::ConnectFailed, time))
    }
}

/// The same failure, told when the application had let go of the connection.
pub fn released(event: Event) -> Event {
    with(event, flag::RELEASED)
}

/// The same event with more facts.
pub fn with(event: Event, bits: u16) -> Event {
    Event {
        flags: Flags(event.flags.0 | bits),
        ..event
    }
}

/// The same event, following on its thread on the release of `cookie`'s first exchange.
pub fn after(cookie: u64, event: Event) -> Event {
    Event {
        prev: Some(first(cookie)),
        ..event
    }
}
