//! In: flows. Out: proof of which outcome each is, and of which are dismissed: what only looks like
//! a failure must not become one.
use proptest::prelude::*;

use super::*;
use crate::event::Flags;
use crate::event::example::{MS, down, refused, released, up, with};

#[path = "reading_connect_tests.rs"]
mod connects;

const AT: u64 = 100_000 * MS;

fn read_as(failure: Event, ending: Ending) -> Option<(Outcome, Option<Phase>)> {
    let flow = Flow { failure, ending };
    read(&flow, Controller::Nginx, &Timers::default())
        .map(|reading| (reading.outcome, reading.phase))
}

fn outcome(failure: Event, ending: Ending) -> Option<Outcome> {
    read_as(failure, ending).map(|(outcome, _)| outcome)
}

fn answered(status: Option<u16>) -> Ending {
    Ending::Answered(Box::new(Event {
        status,
        ..down(9, Kind::Response, AT + MS)
    }))
}

fn cut() -> Ending {
    Ending::Cut(Box::new(down(9, Kind::DownEnd, AT + MS)))
}

fn connect(errno: Option<u32>) -> Event {
    Event {
        errno,
        ..released(up(1, Kind::ConnectFailed, AT))
    }
}

/// The controller closed `ms` after the last that it had seen.
fn gave_up(ms: u64) -> Event {
    Event {
        request_time: Some(AT - ms * MS),
        ..released(up(1, Kind::GaveUp, AT))
    }
}

/// The same in the middle of a response.
fn stalled(ms: u64) -> Event {
    Event {
        phase: Phase::Response,
        status: Some(200),
        response_bytes: 500,
        last_time: Some(AT - ms * MS),
        ..gave_up(ms)
    }
}

#[test]
fn an_end_before_any_response_byte_is_certain_where_the_request_was_read() {
    let at = |outcome| Some((outcome, Some(Phase::Request)));
    for (kind, right) in ENDS {
        assert_eq!(read_as(up(1, kind, AT), Ending::Unknown), at(right));
    }
}

const ENDS: [(Kind, Outcome); 3] = [
    (Kind::Reset, Outcome::Reset),
    (Kind::Closed, Outcome::ClosedEarly),
    (Kind::Broken, Outcome::ResponseTimeout),
];

#[test]
fn an_end_of_a_leg_that_cannot_be_read_needs_an_answer_or_a_retry() {
    for protocol in [
        None,
        Some(Protocol::Tls),
        Some(Protocol::Http2),
        Some(Protocol::Opaque),
    ] {
        for (kind, right) in ENDS {
            let waiting = || Event {
                protocol,
                ..up(1, kind, AT)
            };
            assert_eq!(outcome(waiting(), answered(None)), Some(right));
            assert_eq!(outcome(waiting(), answered(Some(502))), Some(right));
            assert_eq!(outcome(waiting(), Ending::Retried(None)), Some(right));
            for ending in [answered(Some(200)), Ending::Aborted] {
                assert_eq!(outcome(waiting(), ending), None);
            }
            // Nothing can have come before that makes these bytes a message of a WebSocket.
            let first = unread(&waiting()).then_some(right);
            assert_eq!(outcome(waiting(), Ending::Unknown), first);
            // A client that can be read, and was cut, shows it: but for what may be a WebSocket.
            let shown = unread(&waiting()).then_some(right);
            assert_eq!(outcome(waiting(), cut()), shown);
            let begun = || Event {
                phase: Phase::Response,
                ..waiting()
            };
            assert!(outcome(begun(), answered(Some(502))).is_some());
            assert_eq!(
                outcome(begun(), answered(Some(504))),
                None,
                "the backend's own"
            );
            assert_eq!(outcome(begun(), cut()).is_some(), shown.is_some());
            for ending in [answered(None), Ending::Retried(None), Ending::Unknown] {
                assert_eq!(outcome(begun(), ending), None);
            }
        }
    }
}

#[test]
fn a_handshake_that_the_controller_gave_up_is_a_bad_response() {
    let handshake = Event {
        handshake: true,
        protocol: Some(Protocol::Tls),
        ..stalled(1)
    };
    assert_eq!(
        outcome(handshake.clone(), answered(Some(502))),
        Some(Outcome::BadResponse)
    );
    // Go lets go of a connection whose handshake is over and that nobody needs any more.
    assert_eq!(outcome(handshake.clone(), answered(None)), None);
    assert_eq!(outcome(handshake.clone(), answered(Some(404))), None);
    // Nor is one that the backend closes for that.
    let closed = Event {
        kind: Kind::Closed,
        ..handshake
    };
    assert_eq!(outcome(closed, Ending::Retried(None)), None);
}

#[test]
fn a_reset_before_the_request_was_sent_needs_a_client_that_was_told_or_a_retry() {
    let unsent = Event {
        phase: Phase::Idle,
        protocol: None,
        ..up(1, Kind::Reset, 10 * MS)
    };
    let told = Some((Outcome::Reset, Some(Phase::Idle)));
    assert_eq!(read_as(unsent.clone(), answered(Some(502))), told);
    assert_eq!(read_as(unsent.clone(), Ending::Retried(Some(200))), told);
    for ending in [Ending::Unknown, Ending::NoClient, Ending::Aborted] {
        assert_eq!(read_as(unsent.clone(), ending), None);
    }
}

#[test]
fn a_response_that_the_controller_had_not_read_did_not_stall() {
    let slow_client = Event {
        unread: 9000,
        ..stalled(60_001)
    };
    assert_eq!(outcome(slow_client.clone(), cut()), None);
    assert_eq!(outcome(slow_client.clone(), Ending::Unknown), None);
    assert_eq!(
        outcome(slow_client, answered(Some(504))),
        Some(Outcome::ResponseStalled)
    );
}

#[test]
fn an_end_inside_a_response_is_certain_where_its_end_can_be_read() {
    let inside = |kind| Event {
        response_bytes: 300,
        phase: Phase::Response,
        ..up(1, kind, AT)
    };
    let at = |outcome| Some((outcome, Some(Phase::Response)));
    assert_eq!(
        read_as(inside(Kind::Reset), Ending::Unknown),
        at(Outcome::Reset)
    );
    assert_eq!(
        read_as(inside(Kind::Closed), Ending::Unknown),
        at(Outcome::ClosedEarly)
    );
    assert_eq!(
        read_as(inside(Kind::Broken), Ending::Unknown),
        at(Outcome::ResponseStalled)
    );
}

#[test]
fn an_end_inside_a_response_whose_end_is_not_told_needs_a_client_that_saw_it() {
    let inside = Event {
        response_bytes: 300,
        phase: Phase::Response,
        ..up(1, Kind::Reset, AT)
    };
    let unreadable = [
        Event {
            framing: framing::UNKNOWN,
            ..inside.clone()
        },
        with(inside, flag::EARLY),
    ];
    for event in unreadable {
        assert_eq!(outcome(event.clone(), Ending::Unknown), None);
        assert_eq!(outcome(event.clone(), Ending::Aborted), None);
        assert_eq!(outcome(event.clone(), answered(Some(200))), None);
        assert_eq!(
            outcome(event.clone(), answered(Some(502))),
            Some(Outcome::Reset)
        );
        assert_eq!(outcome(event, cut()), Some(Outcome::Reset));
    }
}

#[test]
fn a_first_byte_makes_it_a_response_though_its_head_be_incomplete() {
    let begun = Event {
        response_bytes: 3,
        ..up(1, Kind::Reset, AT)
    };
    assert_eq!(
        read_as(begun, Ending::Unknown),
        Some((Outcome::Reset, Some(Phase::Response)))
    );
}

#[test]
fn a_controller_that_gave_up_waiting_is_a_timeout_only_with_a_sign_of_it() {
    let late = Some(Outcome::ResponseTimeout);
    assert_eq!(outcome(gave_up(700), answered(Some(504))), late);
    assert_eq!(outcome(gave_up(700), answered(None)), late);
    assert_eq!(outcome(gave_up(700), Ending::Retried(None)), late);
    assert_eq!(outcome(gave_up(60_003), Ending::Unknown), late);
    assert_eq!(outcome(gave_up(60_003), cut()), late);
    // The client left, the answer was about its own request, or nothing tells.
    assert_eq!(outcome(gave_up(60_003), Ending::Aborted), None);
    assert_eq!(outcome(gave_up(700), answered(Some(413))), None);
    assert_eq!(outcome(gave_up(700), Ending::Unknown), None);
    assert_eq!(outcome(gave_up(700), cut()), None);
}

#[test]
fn a_controller_that_gave_up_at_once_on_legs_that_cannot_be_read_had_its_answer() {
    let tls = |ms| Event {
        protocol: Some(Protocol::Tls),
        ..gave_up(ms)
    };
    assert_eq!(outcome(tls(1), answered(None)), None);
    // A stream that its client cancels looks the same while others are answered.
    assert_eq!(outcome(tls(700), answered(None)), None);
    assert_eq!(
        outcome(tls(60_003), answered(None)),
        Some(Outcome::ResponseTimeout)
    );
    assert_eq!(
        outcome(tls(1), answered(Some(504))),
        Some(Outcome::ResponseTimeout)
    );
}

#[test]
fn a_controller_that_gave_up_inside_a_response_stalled_refused_or_was_left() {
    assert_eq!(
        outcome(stalled(3000), cut()),
        Some(Outcome::ResponseStalled)
    );
    assert_eq!(
        outcome(stalled(60_001), Ending::Unknown),
        Some(Outcome::ResponseStalled)
    );
    assert_eq!(
        outcome(stalled(60_001), answered(Some(504))),
        Some(Outcome::ResponseStalled)
    );
    assert_eq!(
        outcome(stalled(1), answered(Some(504))),
        Some(Outcome::ResponseStalled)
    );
    assert_eq!(
        outcome(stalled(1), answered(Some(502))),
        Some(Outcome::BadResponse)
    );
    assert_eq!(outcome(stalled(1), cut()), Some(Outcome::BadResponse));
    assert_eq!(
        outcome(stalled(1), Ending::Retried(Some(200))),
        None,
        "an internal redirect"
    );
    let late = Ending::Retried(Some(200));
    assert_eq!(
        outcome(stalled(60_001), late),
        Some(Outcome::ResponseStalled)
    );
    assert_eq!(outcome(stalled(1), answered(None)), None);
    assert_eq!(
        outcome(stalled(60_001), answered(None)),
        Some(Outcome::ResponseStalled)
    );
    let headless = Event {
        status: None,
        ..stalled(1)
    };
    assert_eq!(
        outcome(headless.clone(), answered(Some(502))),
        Some(Outcome::ResponseStalled)
    );
    assert_eq!(
        outcome(headless, Ending::Retried(None)),
        Some(Outcome::ResponseStalled)
    );
    let headless = Event {
        framing: framing::HEAD_CUT,
        ..stalled(1)
    };
    assert_eq!(
        outcome(headless, answered(Some(502))),
        Some(Outcome::ResponseStalled)
    );
    let unsure = Event {
        framing: framing::UNKNOWN,
        ..stalled(60_001)
    };
    assert_eq!(outcome(unsure.clone(), Ending::Unknown), None);
    assert_eq!(outcome(unsure, cut()), Some(Outcome::ResponseStalled));
    assert_eq!(outcome(stalled(3000), Ending::Aborted), None);
    assert_eq!(outcome(stalled(3000), Ending::Unknown), None);
    assert_eq!(outcome(stalled(3000), answered(Some(200))), None);
}

#[test]
fn what_a_backend_answered_is_its_own_error_or_no_http() {
    let own = Event {
        status: Some(503),
        ..up(1, Kind::Response, AT)
    };
    assert_eq!(
        outcome(own, answered(Some(503))),
        Some(Outcome::ErrorStatus)
    );
    let garbage = with(up(1, Kind::Response, AT), flag::NOT_HTTP);
    assert_eq!(
        outcome(garbage, Ending::Unknown),
        Some(Outcome::BadResponse)
    );
}

#[test]
fn an_error_of_the_client_leg_reached_no_upstream_and_has_no_phase() {
    let lone = down(9, Kind::Response, AT);
    assert_eq!(
        read_as(lone, answered(Some(503))),
        Some((Outcome::NoUpstream, None))
    );
}

#[test]
fn an_error_in_spite_of_a_complete_response_is_a_bad_response() {
    let refused = down(9, Kind::Refused, AT);
    let right = Some((Outcome::BadResponse, Some(Phase::Response)));
    assert_eq!(read_as(refused, answered(Some(502))), right);
}

#[test]
fn what_only_links_events_is_no_failure() {
    for kind in [Kind::Released, Kind::Retry, Kind::DownWrite, Kind::DownEnd] {
        assert_eq!(outcome(up(1, kind, AT), cut()), None);
    }
}

#[test]
fn an_age_counts_from_the_newest_byte_the_request_or_the_connect() {
    let ms = Duration::from_millis;
    assert_eq!(age(&stalled(3)), ms(3));
    assert_eq!(age(&gave_up(700)), ms(700));
    let silent = Event {
        last_time: Some(AT - MS),
        response_bytes: 0,
        ..gave_up(700)
    };
    assert_eq!(age(&silent), ms(700));
    assert_eq!(age(&refused(1, AT)), ms(5));
    let timeless = Event {
        request_time: None,
        connect_time: None,
        ..gave_up(700)
    };
    assert_eq!(age(&timeless), ms(0));
}

fn ending() -> impl Strategy<Value = Ending> {
    prop_oneof![
        prop::option::of(100u16..600).prop_map(answered),
        Just(cut()),
        prop::option::of(200u16..500).prop_map(Ending::Retried),
        Just(Ending::Unknown),
    ]
}

proptest! {
    #[test]
    fn a_client_that_left_is_never_the_victim_of_a_timer(
        response in any::<bool>(), ms in 0u64..100_000, status in prop::option::of(200u16..500),
    ) {
        let event = if response { stalled(ms) } else { gave_up(ms) };
        prop_assert_eq!(outcome(Event { status, ..event }, Ending::Aborted), None);
        let connect = Event { connect_time: Some(AT - ms * MS), ..connect(None) };
        prop_assert_eq!(outcome(connect, Ending::Aborted), None);
    }

    #[test]
    fn slow_and_aborted_exchanges_are_never_read_as_failures(
        ending in ending(), bits in any::<u16>(), framing in 0u8..=6, bytes in 0u64..9,
        kind in prop::sample::select(vec![
            Kind::ConnectFailed, Kind::ConnectLocal, Kind::Reset, Kind::Closed, Kind::GaveUp,
            Kind::Broken, Kind::Response,
        ]),
    ) {
        let event = Event {
            flags: Flags(bits), framing, response_bytes: bytes, ..up(1, kind, AT)
        };
        let connect = matches!(kind, Kind::ConnectFailed | Kind::ConnectLocal);
        if let Some((outcome, phase)) = read_as(event, ending) {
            prop_assert!(!matches!(outcome, Outcome::Slow | Outcome::ClientAbort));
            prop_assert_eq!(phase == Some(Phase::Connect), connect);
        }
    }
}

#[test]
fn what_a_controller_answers_on_ports_of_its_own_is_no_clients() {
    let at = |port: u16| Event {
        local: format!("10.77.0.2:{port}").parse().unwrap(),
        ..down(1, Kind::Response, AT)
    };
    let probe = Ending::Answered(Box::new(at(10254)));
    assert_eq!(outcome(at(10254), probe.clone()), None);
    // What failed upstream failed, whatever port it was asked on.
    assert_eq!(outcome(up(1, Kind::Reset, AT), probe), Some(Outcome::Reset));
    let client = Ending::Answered(Box::new(at(80)));
    assert_eq!(outcome(at(80), client), Some(Outcome::NoUpstream));
}

#[test]
fn an_upgrade_that_nobody_used_fails_only_where_a_client_was_told() {
    let switched = || Event {
        status: Some(SWITCHING),
        phase: Phase::Response,
        ..gave_up(1)
    };
    let refused = Some((Outcome::BadResponse, Some(Phase::Response)));
    assert_eq!(read_as(switched(), answered(Some(502))), refused);
    let told = [answered(Some(101)), answered(None), cut()];
    let untold = [Ending::Aborted, Ending::NoClient, Ending::Unknown];
    for ending in told.into_iter().chain(untold) {
        assert_eq!(read_as(switched(), ending), None);
    }
    assert_eq!(read_as(switched(), Ending::Retried(Some(101))), None);
}
