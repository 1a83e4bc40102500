//! Failures behind TLS and HTTP/2: flows in, what is told of them out.
use ingress_trace_common::sample::flag;
use jiff::Timestamp;

use super::classify::{Context, Known, finding, reading};
use super::evidence::Shortage;
use super::taxonomy::{Cause, Controller, Outcome, Phase, Protocol, Visible};
use super::timers::Timers;
use crate::event::example::{MS, down, up};
use crate::event::{Event, Flags, Kind, Strange};
use crate::finding::{Finding, Ingress};
use crate::flow::{Ending, Flow};

const AT: u64 = 100_000 * MS;

fn told(controller: Controller, failure: Event, ending: Ending) -> Option<Finding> {
    let flow = Flow { failure, ending };
    let mut timers = Timers::default();
    let reading = reading(&flow, controller, &mut timers)?;
    let context = Context {
        controller,
        ingress: Ingress::default(),
        clock: i128::from(Timestamp::UNIX_EPOCH.as_second()),
    };
    let shortage = Shortage::default();
    Some(finding(
        &flow,
        reading,
        &Known::alone(&shortage),
        &timers,
        &context,
    ))
}

fn over(protocol: Protocol, kind: Kind) -> Event {
    Event {
        protocol: Some(protocol),
        request: None,
        ..up(1, kind, AT)
    }
}

fn with(event: Event, more: u16) -> Event {
    Event {
        flags: Flags(event.flags.0 | more),
        ..event
    }
}

/// A client under TLS, or one that can be read.
fn answered(status: Option<u16>) -> Ending {
    let protocol = if status.is_some() {
        Protocol::Http1
    } else {
        Protocol::Tls
    };
    Ending::Answered(Box::new(Event {
        status,
        protocol: Some(protocol),
        ..down(9, Kind::Response, AT + MS)
    }))
}

#[test]
fn a_refused_handshake_is_a_protocol_error_without_an_invented_status() {
    let alert = Event {
        status: None,
        strange: Some(Strange::Tls(Some(116))),
        handshake: true,
        phase: Phase::Response,
        ..with(over(Protocol::Tls, Kind::Response), flag::NOT_HTTP)
    };
    let found = told(Controller::Traefik, alert, answered(None)).expect("a finding");
    assert_eq!(
        (found.outcome, found.cause),
        (Outcome::BadResponse, Cause::ProtocolError)
    );
    assert_eq!((found.status, found.client_visible), (None, Visible::Yes));
    assert!(
        found.evidence[0].contains("certificate_required"),
        "{found:?}"
    );
}

#[test]
fn a_stream_that_its_client_cancelled_is_not_hidden_by_what_comes_next() {
    let cancelled = with(over(Protocol::Http2, Kind::GaveUp), flag::STREAM);
    let next = Ending::Retried(Some(200));
    assert_eq!(told(Controller::Traefik, cancelled.clone(), next), None);
    let failed = told(Controller::Traefik, cancelled, answered(Some(504)));
    assert_eq!(
        failed.map(|one| one.outcome),
        Some(Outcome::ResponseTimeout)
    );
}

#[test]
fn a_stream_that_was_reset_is_no_race_of_its_connection() {
    let stream = |kind| {
        let mut event = with(over(Protocol::Http2, kind), flag::STREAM);
        event.exchange.number = 7;
        event.acked = 0;
        event.idle = Some(5000 * MS);
        event
    };
    for (kind, outcome, cause, word) in [
        (
            Kind::Reset,
            Outcome::Reset,
            Cause::BackendReset,
            "RST_STREAM",
        ),
        (
            Kind::Closed,
            Outcome::ClosedEarly,
            Cause::PrematureClose,
            "GOAWAY",
        ),
    ] {
        for ending in [answered(None), answered(Some(502)), Ending::Unknown] {
            let found = told(Controller::Envoy, stream(kind), ending).expect("a finding");
            assert_eq!((found.outcome, found.cause), (outcome, cause));
            assert_eq!(found.phase, Some(Phase::Request));
            assert!(found.evidence[0].contains(word), "{found:?}");
        }
        assert!(told(Controller::Envoy, stream(kind), Ending::NoClient).is_none());
        assert!(told(Controller::Envoy, stream(kind), Ending::Aborted).is_none());
    }
}

#[test]
fn an_error_that_the_backend_may_have_given_itself_is_not_blamed_on_its_close() {
    let closed = || Event {
        phase: Phase::Response,
        response_bytes: 180,
        ..over(Protocol::Tls, Kind::Closed)
    };
    assert!(told(Controller::Nginx, closed(), answered(Some(503))).is_none());
    let own = told(Controller::Nginx, closed(), answered(Some(502))).expect("a finding");
    assert_eq!(own.cause, Cause::PrematureClose);
    let unsure = told(Controller::Envoy, closed(), answered(Some(503))).expect("a finding");
    assert_eq!(unsure.cause, Cause::Unknown);
    assert!(told(Controller::Envoy, closed(), answered(None)).is_none());
}

#[test]
fn letting_go_of_what_cannot_be_read_needs_an_error_of_the_controllers_own() {
    let let_go = |age: u64| Event {
        phase: Phase::Response,
        request_time: Some(AT - age),
        response_time: Some(AT - age),
        last_time: Some(AT - age),
        response_bytes: 180,
        ..over(Protocol::Tls, Kind::GaveUp)
    };
    let late = told(Controller::Envoy, let_go(15_001 * MS), answered(Some(504)));
    let late = late.expect("a finding");
    assert_eq!(
        (late.outcome, late.phase),
        (Outcome::ResponseTimeout, Some(Phase::Request))
    );
    for ending in [
        answered(None),
        Ending::Retried(None),
        Ending::Unknown,
        Ending::Aborted,
    ] {
        assert!(told(Controller::Envoy, let_go(15_001 * MS), ending).is_none());
    }
    let at_once = Event {
        phase: Phase::Request,
        ..let_go(MS)
    };
    let refused = told(Controller::Envoy, at_once, answered(Some(502))).expect("a finding");
    assert_eq!(refused.outcome, Outcome::BadResponse);
}

#[test]
fn only_a_read_timeout_has_a_status_where_nothing_can_be_read() {
    let reset = over(Protocol::Tls, Kind::Reset);
    let found = told(Controller::Nginx, reset, answered(None)).expect("a finding");
    assert_eq!((found.status, found.client_visible), (None, Visible::Yes));
    let late = Event {
        request_time: Some(AT - 60_001 * MS),
        connect_time: Some(AT - 60_001 * MS),
        ..over(Protocol::Tls, Kind::GaveUp)
    };
    let found = told(Controller::Nginx, late, answered(None)).expect("a finding");
    assert_eq!(found.status, Some(504));
}
