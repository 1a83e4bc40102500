//! In: flows that support one rule each, and their nearest neighbors that do not, without an API. Out:
//! proof that every row of the decision table that needs none fires on its evidence and on nothing less.
use ingress_trace_common::http::framing;

use ingress_trace_common::sample::flag;
use jiff::Timestamp;

use super::*;
use crate::cause::evidence::Shortage;
use crate::cause::reading::{Reading, errno, read};
use crate::cause::taxonomy::{Controller, Outcome, Phase, Protocol};
use crate::cause::timers::Timers;
use crate::event::example::{MS, down, refused, released, second, up, with};
use crate::event::{Event, Flags, Kind, Strange};
use crate::flow::{Ending, Flow};
use crate::limits::{Limits, ProcessUsage, Usage};

const AT: u64 = 100_000 * MS;

fn flow(failure: Event, ending: Ending) -> Flow {
    Flow { failure, ending }
}

fn answered(status: u16) -> Ending {
    Ending::Answered(Box::new(Event {
        status: Some(status),
        ..down(9, Kind::Response, AT + MS)
    }))
}

fn decided_with(flow: &Flow, shortage: &Shortage, timer: bool) -> Verdict {
    let reading = read(flow, Controller::Nginx, &Timers::default()).expect("a failure");
    decide(&alone(flow, reading, shortage, timer))
}

fn alone<'a>(flow: &'a Flow, reading: Reading, shortage: &'a Shortage, timer: bool) -> Facts<'a> {
    Facts {
        flow,
        reading,
        shortage,
        timer,
        at: Timestamp::UNIX_EPOCH,
        who: None,
        inside: None,
        past: None,
    }
}

fn decided(failure: Event, ending: Ending) -> Verdict {
    decided_with(&flow(failure, ending), &Shortage::default(), false)
}

fn is(verdict: &Verdict, cause: Cause, confidence: Confidence) {
    assert_eq!((verdict.cause, verdict.confidence), (cause, confidence));
    assert!(!verdict.evidence.is_empty());
}

/// The second request on a connection that had been idle for five seconds.
fn reused(kind: Kind) -> Event {
    Event {
        exchange: second(1),
        idle: Some(5000 * MS),
        request_time: Some(AT - MS),
        ..up(1, kind, AT)
    }
}

fn usage(used: u64, limit: u64) -> ProcessUsage {
    ProcessUsage {
        pid: 70,
        usage: Usage { used, limit },
    }
}

fn short(descriptors: Option<ProcessUsage>, connections: Option<ProcessUsage>) -> Shortage {
    let mut limits = Limits::default();
    (limits.descriptors, limits.connections) = (descriptors, connections);
    Shortage {
        limits: Some(limits),
        ..Shortage::default()
    }
}

fn local(errno: u32) -> Event {
    Event {
        errno: Some(errno),
        flags: Flags(0),
        ..up(1, Kind::ConnectLocal, AT)
    }
}

#[test]
fn a_connect_without_a_local_port_is_ports_exhausted() {
    let verdict = decided(local(errno::EADDRNOTAVAIL), Ending::Unknown);
    is(&verdict, Cause::IngressPortsExhausted, Confidence::High);
    let shortage = Shortage {
        ports: Some(usage(28_000, 28_232).usage),
        ..Shortage::default()
    };
    let flow = flow(local(errno::EADDRNOTAVAIL), Ending::Unknown);
    let verdict = decided_with(&flow, &shortage, false);
    assert_eq!(
        verdict.evidence,
        [
            "connect to 10.77.1.3:8080 failed with EADDRNOTAVAIL before any packet",
            "28000 of 28232 local ports in use towards 10.77.1.3:8080",
        ]
    );
}

#[test]
fn a_connect_that_failed_locally_otherwise_stays_unknown() {
    let verdict = decided(local(1), Ending::Unknown);
    is(&verdict, Cause::Unknown, Confidence::Low);
    assert_eq!(
        verdict.evidence,
        ["connect to 10.77.1.3:8080 failed with EPERM"]
    );
}

#[test]
fn an_error_without_an_upstream_at_the_descriptor_limit_is_fds_exhausted() {
    let lone = flow(down(9, Kind::Response, AT), answered(500));
    let verdict = decided_with(&lone, &short(Some(usage(1023, 1024)), None), false);
    is(&verdict, Cause::IngressFdsExhausted, Confidence::High);
    assert_eq!(
        verdict.evidence,
        ["process 70 has 1023 of 1024 descriptors"]
    );
    let verdict = decided_with(&lone, &short(None, Some(usage(512, 512))), false);
    is(&verdict, Cause::IngressFdsExhausted, Confidence::High);
    assert_eq!(
        verdict.evidence,
        ["worker 70 uses 512 of 512 worker_connections"]
    );
}

#[test]
fn an_error_without_an_upstream_below_all_limits_stays_unknown() {
    let lone = flow(
        Event {
            status: Some(503),
            ..down(9, Kind::Response, AT)
        },
        answered(503),
    );
    for shortage in [
        Shortage::default(),
        short(Some(usage(1000, 1024)), Some(usage(100, 512))),
    ] {
        let verdict = decided_with(&lone, &shortage, false);
        is(&verdict, Cause::Unknown, Confidence::Low);
        assert_eq!(
            verdict.evidence,
            ["the controller answered 503 without an upstream attempt"]
        );
    }
}

#[test]
fn a_limit_does_not_explain_a_failure_of_a_backend() {
    let flow = flow(refused(1, AT), answered(502));
    let shortage = short(Some(usage(1024, 1024)), None);
    is(
        &decided_with(&flow, &shortage, false),
        Cause::Unknown,
        Confidence::Low,
    );
}

#[test]
fn a_response_that_is_no_http_is_a_protocol_error() {
    let mut garbage = with(up(1, Kind::Response, AT), flag::NOT_HTTP);
    garbage.strange = Some(Strange::Unknown);
    let verdict = decided(garbage, Ending::Unknown);
    is(&verdict, Cause::ProtocolError, Confidence::High);
}

#[test]
fn a_head_that_the_controller_refused_is_probably_a_protocol_error() {
    let failure = Event {
        phase: Phase::Response,
        status: Some(200),
        response_bytes: 90_000,
        last_time: Some(AT - MS),
        ..released(up(1, Kind::GaveUp, AT))
    };
    is(
        &decided(failure, answered(502)),
        Cause::ProtocolError,
        Confidence::Medium,
    );
}

#[test]
fn a_complete_response_that_the_controller_refused_is_probably_a_protocol_error() {
    let verdict = decided(down(9, Kind::Refused, AT), answered(502));
    is(&verdict, Cause::ProtocolError, Confidence::Medium);
    assert_eq!(
        verdict.evidence,
        [
            "a complete response had come from 10.77.9.9:51000, and the controller answered 502 all \
          the same"
        ]
    );
}

#[test]
fn a_tls_handshake_that_did_not_succeed_is_probably_a_protocol_error() {
    let mut failure = released(up(1, Kind::GaveUp, AT));
    (failure.phase, failure.handshake) = (Phase::Response, true);
    failure.protocol = Some(Protocol::Tls);
    let verdict = decided(failure, answered(502));
    is(&verdict, Cause::ProtocolError, Confidence::Medium);
    assert_eq!(
        verdict.evidence,
        ["the TLS handshake with the backend did not succeed"]
    );
}

#[test]
fn the_backends_own_error_is_an_upstream_error() {
    for status in 502..=504 {
        let failure = Event {
            status: Some(status),
            ..up(1, Kind::Response, AT)
        };
        let verdict = decided(failure, answered(status));
        is(&verdict, Cause::UpstreamError, Confidence::High);
        assert_eq!(
            verdict.evidence,
            [format!("the backend itself answered {status}")]
        );
    }
}

#[test]
fn a_connect_that_the_network_rejects_is_network_unreachable() {
    let icmp = Event {
        errno: Some(errno::EHOSTUNREACH),
        ..up(1, Kind::ConnectFailed, AT)
    };
    let verdict = decided(icmp, answered(502));
    is(&verdict, Cause::NetworkUnreachable, Confidence::Medium);
    assert_eq!(verdict.evidence, ["EHOSTUNREACH for 10.77.1.3:8080"]);
    let verdict = decided(local(errno::ENETUNREACH), answered(502));
    is(&verdict, Cause::NetworkUnreachable, Confidence::High);
    assert_eq!(
        verdict.evidence,
        ["no route to 10.77.1.3: the connect failed before any packet"]
    );
}

#[test]
fn a_request_that_nothing_acknowledged_is_network_unreachable() {
    let gave_up = Event {
        acked: 0,
        retransmits: 6,
        ..released(up(1, Kind::GaveUp, AT))
    };
    is(
        &decided(gave_up, answered(504)),
        Cause::NetworkUnreachable,
        Confidence::Medium,
    );
    let broken = Event {
        errno: Some(errno::ETIMEDOUT),
        ..up(1, Kind::Broken, AT)
    };
    is(
        &decided(broken, Ending::Unknown),
        Cause::NetworkUnreachable,
        Confidence::Medium,
    );
}

#[test]
fn an_exchange_on_a_connection_that_had_been_closed_is_a_race() {
    let verdict = decided(
        with(reused(Kind::Closed), flag::FIN_BEFORE),
        Ending::Unknown,
    );
    is(&verdict, Cause::KeepaliveRace, Confidence::Medium);
}

#[test]
fn a_reused_connection_that_ends_with_nothing_acknowledged_is_a_race() {
    let fin = Event {
        acked: 0,
        ..reused(Kind::Closed)
    };
    is(
        &decided(fin, Ending::Unknown),
        Cause::KeepaliveRace,
        Confidence::Medium,
    );
    let rst = Event {
        acked: 0,
        ..reused(Kind::Reset)
    };
    is(
        &decided(rst, Ending::Unknown),
        Cause::KeepaliveRace,
        Confidence::Medium,
    );
}

#[test]
fn a_reused_connection_that_ends_at_once_after_long_idling_is_probably_a_race() {
    is(
        &decided(reused(Kind::Closed), Ending::Unknown),
        Cause::KeepaliveRace,
        Confidence::Medium,
    );
    let busy = Event {
        idle: Some(10 * MS),
        ..reused(Kind::Closed)
    };
    is(
        &decided(busy, Ending::Unknown),
        Cause::PrematureClose,
        Confidence::Medium,
    );
    let slow = Event {
        request_time: Some(AT - 20 * MS),
        ..reused(Kind::Closed)
    };
    is(
        &decided(slow, Ending::Unknown),
        Cause::PrematureClose,
        Confidence::Medium,
    );
}

#[test]
fn a_race_needs_a_connection_that_was_used_before_and_no_response_byte() {
    let fresh = Event {
        acked: 0,
        ..up(1, Kind::Reset, AT)
    };
    is(
        &decided(fresh.clone(), Ending::Unknown),
        Cause::BackendReset,
        Confidence::Medium,
    );
    let adopted = with(fresh, flag::ADOPTED);
    is(
        &decided(adopted, Ending::Unknown),
        Cause::KeepaliveRace,
        Confidence::Medium,
    );
    let begun = Event {
        phase: Phase::Response,
        response_bytes: 7,
        ..reused(Kind::Reset)
    };
    is(
        &decided(begun, Ending::Unknown),
        Cause::BackendReset,
        Confidence::Medium,
    );
}

#[test]
fn a_live_socket_that_aborts_is_no_race() {
    let aborted = Event {
        acked: 0,
        idle: Some(MS),
        ..with(reused(Kind::Reset), flag::RST_ACK)
    };
    is(
        &decided(aborted, Ending::Unknown),
        Cause::BackendReset,
        Confidence::Medium,
    );
}

#[test]
fn a_response_that_came_too_late_is_a_backend_timeout() {
    let gave_up = released(up(1, Kind::GaveUp, AT));
    is(
        &decided(gave_up.clone(), answered(504)),
        Cause::BackendTimeout,
        Confidence::Medium,
    );
    let timer = flow(gave_up.clone(), answered(502));
    let verdict = decided_with(&timer, &Shortage::default(), true);
    is(&verdict, Cause::BackendTimeout, Confidence::Medium);
    is(
        &decided(gave_up.clone(), answered(502)),
        Cause::BackendTimeout,
        Confidence::Medium,
    );
    // Not all of the request had been delivered: the backend may not be to blame.
    let partly = Event {
        acked: 10,
        ..gave_up
    };
    is(
        &decided(partly, answered(504)),
        Cause::BackendTimeout,
        Confidence::Medium,
    );
}

#[test]
fn a_response_that_stopped_coming_is_a_backend_timeout() {
    let stalled = Event {
        phase: Phase::Response,
        status: Some(200),
        response_bytes: 500,
        last_time: Some(AT - 3000 * MS),
        ..released(up(1, Kind::GaveUp, AT))
    };
    let cut = Ending::Cut(Box::new(down(9, Kind::DownEnd, AT + MS)));
    let flow = flow(stalled, cut);
    let verdict = decided_with(&flow, &Shortage::default(), true);
    assert_eq!(verdict.cause, Cause::BackendTimeout);
    assert_eq!(
        verdict.evidence[0],
        "no further response byte for 3.00 s, then the controller gave up"
    );
    // Nobody's timer: the controller may have been told to end, or the client have been too slow.
    let verdict = decided_with(&flow, &Shortage::default(), false);
    is(&verdict, Cause::Unknown, Confidence::Low);
}

#[test]
fn a_reset_that_nothing_explains_is_the_backends_own() {
    let verdict = decided(up(1, Kind::Reset, AT), answered(502));
    is(&verdict, Cause::BackendReset, Confidence::Medium);
    let cut = Event {
        phase: Phase::Response,
        framing: framing::LENGTH,
        response_bytes: 300,
        expected_bytes: 5000,
        ..up(1, Kind::Reset, AT)
    };
    let verdict = decided(cut, Ending::Unknown);
    is(&verdict, Cause::BackendReset, Confidence::Medium);
    assert_eq!(verdict.evidence[1], "300 of 5000 response bytes had come");
}

#[test]
fn a_close_that_nothing_explains_is_premature() {
    let verdict = decided(up(1, Kind::Closed, AT), answered(502));
    is(&verdict, Cause::PrematureClose, Confidence::Medium);
}

#[test]
fn connects_that_only_the_cluster_explains_stay_unknown() {
    let verdict = decided(refused(1, AT), answered(502));
    is(&verdict, Cause::Unknown, Confidence::Low);
    assert!(verdict.evidence[0].contains("answered the SYN with RST"));
    let silent = Event {
        retransmits: 2,
        ..released(up(1, Kind::ConnectFailed, AT))
    };
    let verdict = decided(silent, answered(504));
    is(&verdict, Cause::Unknown, Confidence::Low);
    assert_eq!(
        verdict.evidence[0],
        "10.77.1.3:8080 did not answer 3 SYN for 5.0 ms"
    );
}

#[test]
fn no_rule_fires_on_an_outcome_alone() {
    // Bare: no shortage, no bytes, no times but the event's own.
    for outcome in Outcome::ALL {
        for phase in Phase::ALL {
            let bare = Event {
                request_bytes: 0,
                acked: 0,
                request_time: None,
                connect_time: None,
                request: None,
                protocol: Some(Protocol::Opaque),
                flags: Flags(0),
                ..up(1, Kind::GaveUp, AT)
            };
            let flow = flow(bare, Ending::Unknown);
            let reading = Reading {
                outcome: *outcome,
                phase: Some(*phase),
            };
            let shortage = Shortage::default();
            let verdict = decide(&alone(&flow, reading, &shortage, false));
            assert!(!verdict.evidence.is_empty(), "{outcome} {phase}");
            assert!(verdict.evidence.iter().all(|line| !line.is_empty()));
            // Only what the outcome itself says may be certain.
            let certain = *outcome == Outcome::ConnectUnreachable;
            assert!(certain || verdict.confidence != Confidence::High);
        }
    }
}
