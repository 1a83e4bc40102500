//! In: one flow of each outcome. Out: proof that its finding is the contract's JSON, and that
//! facts which were not seen are absent from it.
use expect_test::{Expect, expect};
use ingress_trace_common::http::framing;

use super::super::taxonomy::Protocol;
use super::*;
use crate::cause::taxonomy::Phase;
use crate::event::example::{MS, down, refused, released, second, up, with};
use crate::event::{Flags, Kind, Strange};
use crate::limits::{Limits, ProcessUsage, Usage};

const AT: u64 = 100_000 * MS;
/// 2026-03-01T14:00:00Z at the events' zero.
const CLOCK: i128 = 1_772_373_600_000_000_000;

fn context(controller: Controller) -> Context {
    let ingress = Ingress {
        node: Some("node-1".into()),
        ..Ingress::default()
    };
    Context {
        controller,
        ingress,
        clock: CLOCK,
    }
}

fn found(failure: Event, ending: Ending, shortage: &Shortage) -> Option<Finding> {
    let (flow, mut timers) = (Flow { failure, ending }, Timers::default());
    let reading = reading(&flow, Controller::Nginx, &mut timers)?;
    let known = Known::alone(shortage);
    Some(finding(
        &flow,
        reading,
        &known,
        &timers,
        &context(Controller::Nginx),
    ))
}

fn check(failure: Event, ending: Ending, shortage: &Shortage, golden: &Expect) {
    let finding = found(failure, ending, shortage).expect("a finding");
    let json = serde_json::to_string(&finding).expect("JSON");
    golden.assert_eq(&json);
    let back: Finding = serde_json::from_str(&json).expect("a finding");
    assert_eq!(serde_json::to_string(&back).expect("JSON"), json);
}

fn answered(status: u16) -> Ending {
    Ending::Answered(Box::new(Event {
        status: Some(status),
        ..down(9, Kind::Response, AT + MS)
    }))
}

fn plain(failure: Event, ending: Ending, golden: &Expect) {
    check(failure, ending, &Shortage::default(), golden);
}

#[test]
fn a_refused_connect_is_told_as_in_the_contract() {
    plain(
        refused(1, AT),
        answered(502),
        &expect![[
            r#"{"time":"2026-03-01T14:01:40.000000Z","cause":"unknown","status":502,"status_source":"observed","client_visible":"yes","confidence":"low","outcome":"connect_refused","phase":"connect","errno":"ECONNREFUSED","controller":"nginx","ingress":{"node":"node-1","pid":70},"backend":{"address":"10.77.1.3","port":8080},"connect_seconds":0.005,"elapsed_seconds":0.005,"exchange":1,"bytes_sent":0,"bytes_received":0,"retransmits":0,"request":{"method":"GET","host":"shop.example","path":"/cart"},"evidence":["10.77.1.3:8080 answered the SYN with RST after 5.0 ms","the cluster's state is needed to tell the cause"]}"#
        ]],
    );
}

#[test]
fn a_connect_that_timed_out_is_told_as_in_the_contract() {
    let timed_out = Event {
        retransmits: 2,
        ..released(up(1, Kind::ConnectFailed, AT))
    };
    plain(
        timed_out,
        answered(504),
        &expect![[
            r#"{"time":"2026-03-01T14:01:40.000000Z","cause":"unknown","status":504,"status_source":"observed","client_visible":"yes","confidence":"low","outcome":"connect_timeout","phase":"connect","controller":"nginx","ingress":{"node":"node-1","pid":70},"backend":{"address":"10.77.1.3","port":8080},"connect_seconds":0.005,"elapsed_seconds":0.005,"exchange":1,"bytes_sent":0,"bytes_received":0,"retransmits":2,"request":{"method":"GET","host":"shop.example","path":"/cart"},"evidence":["10.77.1.3:8080 did not answer 3 SYN for 5.0 ms","the cluster's state is needed to tell the cause"]}"#
        ]],
    );
}

#[test]
fn an_unreachable_connect_is_told_as_in_the_contract() {
    let icmp = Event {
        errno: Some(errno::EHOSTUNREACH),
        ..up(1, Kind::ConnectFailed, AT)
    };
    plain(
        icmp,
        Ending::Unknown,
        &expect![[
            r#"{"time":"2026-03-01T14:01:40.000000Z","cause":"network_unreachable","status":502,"status_source":"inferred","client_visible":"unknown","confidence":"medium","outcome":"connect_unreachable","phase":"connect","errno":"EHOSTUNREACH","controller":"nginx","ingress":{"node":"node-1","pid":70},"backend":{"address":"10.77.1.3","port":8080},"connect_seconds":0.005,"elapsed_seconds":0.005,"exchange":1,"bytes_sent":0,"bytes_received":0,"retransmits":0,"evidence":["EHOSTUNREACH for 10.77.1.3:8080"]}"#
        ]],
    );
}

#[test]
fn a_connect_without_a_port_is_told_as_in_the_contract() {
    let local = Event {
        errno: Some(errno::EADDRNOTAVAIL),
        flags: Flags(0),
        ..up(1, Kind::ConnectLocal, AT)
    };
    let ports = Some(Usage {
        used: 28_232,
        limit: 28_232,
    });
    check(
        local,
        answered(502),
        &Shortage {
            ports,
            ..Shortage::default()
        },
        &expect![[
            r#"{"time":"2026-03-01T14:01:40.000000Z","cause":"ingress_ports_exhausted","status":502,"status_source":"observed","client_visible":"yes","confidence":"high","outcome":"connect_local","phase":"connect","errno":"EADDRNOTAVAIL","controller":"nginx","ingress":{"node":"node-1","pid":70},"backend":{"address":"10.77.1.3","port":8080},"connect_seconds":0.005,"elapsed_seconds":0.005,"exchange":1,"bytes_sent":0,"bytes_received":0,"retransmits":0,"request":{"method":"GET","host":"shop.example","path":"/cart"},"evidence":["connect to 10.77.1.3:8080 failed with EADDRNOTAVAIL before any packet","28232 of 28232 local ports in use towards 10.77.1.3:8080"],"fix":["keep connections to the backend open, so that fewer are made"]}"#
        ]],
    );
}

#[test]
fn a_reset_is_told_as_in_the_contract() {
    let raced = Event {
        exchange: second(1),
        idle: Some(5_000 * MS),
        acked: 0,
        errno: Some(errno::ECONNRESET),
        ..up(1, Kind::Reset, AT)
    };
    plain(
        raced,
        Ending::Retried(Some(200)),
        &expect![[
            r#"{"time":"2026-03-01T14:01:40.000000Z","cause":"keepalive_race","status":200,"status_source":"observed","client_visible":"no","confidence":"medium","outcome":"reset","phase":"request","errno":"ECONNRESET","controller":"nginx","ingress":{"node":"node-1","pid":70},"backend":{"address":"10.77.1.3","port":8080},"protocol":"http/1","connect_seconds":0.0,"elapsed_seconds":0.005,"exchange":2,"idle_seconds":5.0,"bytes_sent":80,"bytes_received":0,"retransmits":0,"request":{"method":"GET","host":"shop.example","path":"/cart"},"evidence":["exchange 2 of this connection, after 5.00 s idle","the backend acknowledged none of the request's 80 bytes"],"fix":["have the backend keep idle connections longer than the controller: it closed one after 5 s","or have the controller close them first: set `keepalive_timeout` of the upstream to 4s"]}"#
        ]],
    );
}

#[test]
fn a_response_that_was_cut_is_told_as_in_the_contract() {
    let cut = Event {
        phase: Phase::Response,
        framing: framing::LENGTH,
        status: Some(200),
        response_time: Some(AT - MS),
        response_bytes: 300,
        expected_bytes: 5000,
        ..up(1, Kind::Closed, AT)
    };
    let client = Event {
        status: Some(200),
        ..down(9, Kind::DownEnd, AT + MS)
    };
    plain(
        cut,
        Ending::Cut(Box::new(client)),
        &expect![[
            r#"{"time":"2026-03-01T14:01:40.000000Z","cause":"premature_close","status":200,"status_source":"observed","client_visible":"yes","confidence":"medium","outcome":"closed_early","phase":"response","controller":"nginx","ingress":{"node":"node-1","pid":70},"backend":{"address":"10.77.1.3","port":8080},"protocol":"http/1","connect_seconds":0.0,"first_byte_seconds":0.004,"elapsed_seconds":0.005,"exchange":1,"bytes_sent":80,"bytes_received":300,"retransmits":0,"request":{"method":"GET","host":"shop.example","path":"/cart"},"evidence":["the backend's FIN came 5.0 ms after the request, 80 of its 80 bytes acknowledged","300 of 5000 response bytes had come"]}"#
        ]],
    );
}

#[test]
fn a_response_that_never_came_is_told_as_in_the_contract() {
    let late = Event {
        protocol: Some(Protocol::Tls),
        request: None,
        request_time: Some(AT - 60_001 * MS),
        connect_time: Some(AT - 60_002 * MS),
        established_time: Some(AT - 60_001 * MS),
        ..released(up(1, Kind::GaveUp, AT))
    };
    plain(
        late,
        Ending::Unknown,
        &expect![[
            r#"{"time":"2026-03-01T14:01:40.000000Z","cause":"backend_timeout","status":504,"status_source":"inferred","client_visible":"unknown","confidence":"medium","outcome":"response_timeout","phase":"request","controller":"nginx","ingress":{"node":"node-1","pid":70},"backend":{"address":"10.77.1.3","port":8080},"protocol":"tls","connect_seconds":0.001,"elapsed_seconds":60.001,"exchange":1,"bytes_sent":80,"bytes_received":0,"retransmits":0,"evidence":["no response byte for 60.00 s, then the controller gave up","80 of 80 request bytes acknowledged"],"fix":["set `proxy_read_timeout` of the location to 120s"]}"#
        ]],
    );
}

#[test]
fn a_response_that_stalled_is_told_as_in_the_contract() {
    let stalled = Event {
        phase: Phase::Response,
        status: Some(200),
        response_time: Some(AT - 3_001 * MS),
        last_time: Some(AT - 3_000 * MS),
        request_time: Some(AT - 3_002 * MS),
        response_bytes: 500,
        ..released(up(1, Kind::GaveUp, AT))
    };
    let client = Event {
        status: Some(200),
        ..down(9, Kind::DownEnd, AT + MS)
    };
    plain(
        stalled,
        Ending::Cut(Box::new(client)),
        &expect![[
            r#"{"time":"2026-03-01T14:01:40.000000Z","cause":"unknown","status":200,"status_source":"observed","client_visible":"yes","confidence":"low","outcome":"response_stalled","phase":"response","controller":"nginx","ingress":{"node":"node-1","pid":70},"backend":{"address":"10.77.1.3","port":8080},"protocol":"http/1","connect_seconds":0.0,"first_byte_seconds":0.001,"elapsed_seconds":3.002,"exchange":1,"bytes_sent":80,"bytes_received":500,"retransmits":0,"request":{"method":"GET","host":"shop.example","path":"/cart"},"evidence":["the controller cut the client off 3.00 s after the newest response byte"]}"#
        ]],
    );
}

#[test]
fn a_response_that_is_no_http_is_told_as_in_the_contract() {
    let garbage = with(up(1, Kind::Response, AT), flag::NOT_HTTP);
    plain(
        Event {
            status: None,
            strange: Some(Strange::Unknown),
            ..garbage
        },
        Ending::Unknown,
        &expect![[
            r#"{"time":"2026-03-01T14:01:40.000000Z","cause":"protocol_error","client_visible":"yes","confidence":"high","outcome":"bad_response","phase":"response","controller":"nginx","ingress":{"node":"node-1","pid":70},"backend":{"address":"10.77.1.3","port":8080},"protocol":"http/1","connect_seconds":0.0,"first_byte_seconds":0.005,"elapsed_seconds":0.005,"exchange":1,"bytes_sent":80,"bytes_received":120,"retransmits":0,"request":{"method":"GET","host":"shop.example","path":"/cart"},"evidence":["the response does not begin with an HTTP status line"]}"#
        ]],
    );
}

#[test]
fn a_backends_own_error_is_told_as_in_the_contract() {
    let own = Event {
        status: Some(503),
        ..up(1, Kind::Response, AT)
    };
    plain(
        own,
        answered(503),
        &expect![[
            r#"{"time":"2026-03-01T14:01:40.000000Z","cause":"upstream_error","status":503,"status_source":"observed","client_visible":"yes","confidence":"high","outcome":"error_status","phase":"response","controller":"nginx","ingress":{"node":"node-1","pid":70},"backend":{"address":"10.77.1.3","port":8080},"protocol":"http/1","connect_seconds":0.0,"first_byte_seconds":0.005,"elapsed_seconds":0.005,"exchange":1,"bytes_sent":80,"bytes_received":120,"retransmits":0,"request":{"method":"GET","host":"shop.example","path":"/cart"},"evidence":["the backend itself answered 503"]}"#
        ]],
    );
}

#[test]
fn an_error_without_an_upstream_is_told_as_in_the_contract() {
    let lone = Event {
        status: Some(500),
        ..down(9, Kind::Response, AT)
    };
    let usage = Usage {
        used: 1024,
        limit: 1024,
    };
    let limits = Limits {
        descriptors: Some(ProcessUsage { pid: 70, usage }),
        ..Limits::default()
    };
    let ending = Ending::Answered(Box::new(lone.clone()));
    let shortage = Shortage {
        limits: Some(limits),
        ..Shortage::default()
    };
    check(
        lone,
        ending,
        &shortage,
        &expect![[
            r#"{"time":"2026-03-01T14:01:40.000000Z","cause":"ingress_fds_exhausted","status":500,"status_source":"observed","client_visible":"yes","confidence":"high","outcome":"no_upstream","controller":"nginx","ingress":{"node":"node-1","pid":70},"elapsed_seconds":0.005,"request":{"method":"GET","host":"shop.example","path":"/cart"},"evidence":["process 70 has 1024 of 1024 descriptors"],"fix":["raise the limit of open files that the node's container runtime gives (LimitNOFILE of its service), then restart the pod: Kubernetes has no field for it"]}"#
        ]],
    );
}

#[test]
fn the_words_of_the_client_go_before_those_of_the_controller() {
    let mut client = down(9, Kind::Response, AT + MS);
    client.request.as_mut().expect("a request").path = "/as/the/client/asked".into();
    let finding = found(
        up(1, Kind::Reset, AT),
        Ending::Answered(Box::new(client)),
        &Shortage::default(),
    );
    assert_eq!(
        finding.unwrap().request.unwrap().path,
        "/as/the/client/asked"
    );
    let mut unread = down(9, Kind::Response, AT + MS);
    unread.request = None;
    let finding = found(
        up(1, Kind::Reset, AT),
        Ending::Answered(Box::new(unread)),
        &Shortage::default(),
    );
    assert_eq!(finding.unwrap().request.unwrap().path, "/cart");
}

#[test]
fn what_was_not_seen_of_an_adopted_connection_is_absent() {
    let adopted = Event {
        pid: 0,
        request: None,
        ..with(up(1, Kind::Reset, AT), flag::ADOPTED)
    };
    let finding = found(adopted, Ending::Unknown, &Shortage::default()).unwrap();
    assert_eq!(finding.connect_seconds, None);
    assert_eq!((finding.ingress.pid, finding.request), (None, None));
}

#[test]
fn an_error_of_a_route_that_no_hook_sees_is_not_named() {
    let route = Event {
        errno: Some(errno::ENETUNREACH),
        flags: Flags(flag::PROCESS),
        ..up(1, Kind::ConnectLocal, AT)
    };
    let finding = found(route.clone(), Ending::Unknown, &Shortage::default()).unwrap();
    assert_eq!(
        (finding.errno, finding.cause.word()),
        (None, "network_unreachable")
    );
    let icmp = Event {
        kind: Kind::ConnectFailed,
        ..with(route, flag::SYN)
    };
    let finding = found(icmp, Ending::Unknown, &Shortage::default()).unwrap();
    assert_eq!(finding.errno.as_deref(), Some("ENETUNREACH"));
}

#[test]
fn a_timer_that_a_client_proved_is_known_from_then_on() {
    let mut timers = Timers::default();
    let late = Event {
        request_time: Some(AT - 700 * MS),
        ..released(up(1, Kind::GaveUp, AT))
    };
    let unproven = Flow {
        failure: late.clone(),
        ending: Ending::Unknown,
    };
    assert_eq!(reading(&unproven, Controller::Nginx, &mut timers), None);
    let refused = Flow {
        failure: late.clone(),
        ending: answered(502),
    };
    assert!(reading(&refused, Controller::Nginx, &mut timers).is_some());
    assert_eq!(
        reading(&unproven, Controller::Nginx, &mut timers),
        None,
        "a 502 proves no timer"
    );
    let proven = Flow {
        failure: late,
        ending: answered(504),
    };
    assert!(reading(&proven, Controller::Nginx, &mut timers).is_some());
    assert!(reading(&unproven, Controller::Nginx, &mut timers).is_some());
    assert_eq!(reading(&unproven, Controller::Envoy, &mut timers), None);
}
