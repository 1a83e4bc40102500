//! In: flows and profiles. Out: proof of what the client got, and of where that is known from.
use super::*;
use crate::cause::taxonomy::Controller;
use crate::event::Kind;
use crate::event::example::{MS, down, get, refused, released, second, up};
use crate::finding::Request;
use crate::profiles;

const AT: u64 = 100_000 * MS;

fn got(failure: Event, ending: Ending, outcome: Outcome, phase: Phase, of: Controller) -> String {
    let reading = Reading {
        outcome,
        phase: Some(phase),
    };
    let answer = answer(&Flow { failure, ending }, reading, profiles::of(of));
    let status = answer
        .status
        .map_or("-".to_owned(), |status| status.to_string());
    let source = answer.source.map_or("-", StatusSource::word);
    format!("{status} {source} {}", answer.visible)
}

fn refusal(ending: Ending, of: Controller) -> String {
    got(
        refused(1, AT),
        ending,
        Outcome::ConnectRefused,
        Phase::Connect,
        of,
    )
}

fn client(status: Option<u16>) -> Box<Event> {
    Box::new(Event {
        status,
        ..down(9, Kind::Response, AT + MS)
    })
}

#[test]
fn a_status_seen_on_the_wire_is_what_the_client_got() {
    let ending = Ending::Answered(client(Some(503)));
    assert_eq!(refusal(ending, Controller::Nginx), "503 observed yes");
}

#[test]
fn an_answer_that_cannot_be_read_has_the_status_that_its_controller_gives() {
    let ending = Ending::Answered(client(None));
    assert_eq!(
        refusal(ending.clone(), Controller::Nginx),
        "502 inferred yes"
    );
    assert_eq!(
        refusal(ending.clone(), Controller::Envoy),
        "503 inferred yes"
    );
    assert_eq!(refusal(ending, Controller::Unknown), "- - yes");
}

#[test]
fn an_answer_that_is_no_error_hid_the_failure() {
    assert_eq!(
        refusal(Ending::Answered(client(Some(200))), Controller::Nginx),
        "200 observed no"
    );
    assert_eq!(
        refusal(Ending::Retried(Some(200)), Controller::Nginx),
        "200 observed no"
    );
}

#[test]
fn a_failure_without_a_trace_of_its_client_may_have_been_seen() {
    assert_eq!(
        refusal(Ending::Unknown, Controller::Nginx),
        "502 inferred unknown"
    );
}

#[test]
fn a_client_that_went_away_saw_nothing() {
    assert!(refusal(Ending::Aborted, Controller::Nginx).ends_with(" no"));
}

#[test]
fn a_response_that_was_cut_keeps_the_status_that_had_been_relayed() {
    let reset = Event {
        phase: Phase::Response,
        ..up(1, Kind::Reset, AT)
    };
    let cut = |status| {
        let ending = Ending::Cut(client(status));
        got(
            reset.clone(),
            ending,
            Outcome::Reset,
            Phase::Response,
            Controller::Nginx,
        )
    };
    assert_eq!(cut(Some(200)), "200 observed yes");
    assert_eq!(cut(None), "- - yes");
}

#[test]
fn what_was_relayed_stands_and_a_head_that_was_cut_is_the_controllers_to_answer() {
    let inside = |status, of| {
        let event = Event {
            phase: Phase::Response,
            status,
            ..up(1, Kind::Reset, AT)
        };
        got(event, Ending::Unknown, Outcome::Reset, Phase::Response, of)
    };
    assert_eq!(inside(Some(200), Controller::Nginx), "200 inferred yes");
    assert_eq!(inside(Some(200), Controller::Traefik), "- - yes");
    assert_eq!(inside(None, Controller::Nginx), "502 inferred unknown");
    assert_eq!(inside(None, Controller::Traefik), "500 inferred unknown");
}

#[test]
fn a_reused_connection_that_broke_is_answered_by_the_method() {
    let broke = |method: &str, of| {
        let event = Event {
            exchange: second(1),
            request: Some(Request {
                method: method.into(),
                ..get()
            }),
            ..up(1, Kind::Reset, AT)
        };
        got(event, Ending::Unknown, Outcome::Reset, Phase::Request, of)
    };
    assert_eq!(broke("GET", Controller::Caddy), "200 inferred unknown");
    assert_eq!(broke("POST", Controller::Caddy), "502 inferred unknown");
    assert_eq!(broke("GET", Controller::Haproxy), "- - unknown");
}

#[test]
fn a_timeout_is_answered_as_the_controller_does() {
    let late = released(up(1, Kind::GaveUp, AT));
    let of = |of| {
        got(
            late.clone(),
            Ending::Unknown,
            Outcome::ResponseTimeout,
            Phase::Request,
            of,
        )
    };
    assert_eq!(of(Controller::Nginx), "504 inferred unknown");
    assert_eq!(of(Controller::Unknown), "- - unknown");
}

#[test]
fn a_status_and_its_source_come_together_always() {
    let endings = [
        Ending::Answered(client(None)),
        Ending::Answered(client(Some(502))),
        Ending::Cut(client(None)),
        Ending::Aborted,
        Ending::Retried(None),
        Ending::Unknown,
    ];
    for controller in Controller::ALL {
        for outcome in Outcome::ALL {
            for phase in Phase::ALL.iter().copied().map(Some).chain([None]) {
                for ending in endings.clone() {
                    let flow = Flow {
                        failure: refused(1, AT),
                        ending,
                    };
                    let reading = Reading {
                        outcome: *outcome,
                        phase,
                    };
                    let answer = answer(&flow, reading, profiles::of(*controller));
                    assert_eq!(answer.status.is_some(), answer.source.is_some());
                }
            }
        }
    }
}
