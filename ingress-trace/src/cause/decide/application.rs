//! Rules about what the backend's application does: it answers an error, closes too early, aborts, or
//! takes too long.
use std::time::Duration;

use ingress_trace_common::sample::flag;

use super::{Facts, Support, high, high_if, medium};
use crate::cause::evidence::span;
use crate::cause::reading::{age, unread};
use crate::cause::taxonomy::{Outcome, Phase};
use crate::flow::Ending;

pub(super) fn own_error(facts: &Facts) -> Support {
    let status = facts.event().status?;
    if facts.reading.outcome != Outcome::ErrorStatus {
        return None;
    }
    high(vec![format!("the backend itself answered {status}")])
}

/// Longest time between a request and the end of a connection that was closing already: a round
/// trip and a busy event loop.
const RACE: Duration = Duration::from_millis(5);
/// Shortest idle time after which servers close; below it an abort is likelier.
const IDLE: Duration = Duration::from_secs(1);

pub(super) fn race(facts: &Facts) -> Support {
    let event = facts.event();
    let ended = matches!(facts.reading.outcome, Outcome::Reset | Outcome::ClosedEarly);
    if event.flags.any(flag::STREAM) {
        return None; // the connection lives on, or was closed in good order
    }
    if !ended || !event.reused() || facts.reading.phase != Some(Phase::Request) {
        return None;
    }
    let idle = event.idle.map(Duration::from_nanos);
    let mut evidence = vec![format!(
        "exchange {} of this connection{}",
        event.exchange.number,
        idle.map(|idle| format!(", after {} idle", span(idle)))
            .unwrap_or_default()
    )];
    // A backend that is on its way out closes its idle connections just so.
    if event.flags.any(flag::FIN_BEFORE) {
        evidence.push("the backend's FIN had come before the request was sent".to_owned());
        return high_if(facts.healthy(), evidence);
    }
    if event.acked == 0 && !event.flags.any(flag::RST_ACK) {
        evidence.push(format!(
            "the backend acknowledged none of the request's {} bytes",
            event.request_bytes
        ));
        let by_fin = facts.reading.outcome == Outcome::ClosedEarly;
        return high_if(by_fin && facts.healthy(), evidence);
    }
    if idle.is_some_and(|idle| idle >= IDLE) && age(event) < RACE {
        evidence.push(format!(
            "closed {} after the request was sent",
            span(age(event))
        ));
        return medium(evidence);
    }
    None
}

pub(super) fn too_late(facts: &Facts) -> Support {
    let event = facts.event();
    let what = match facts.reading.outcome {
        Outcome::ResponseTimeout => "no response byte",
        Outcome::ResponseStalled => "no further response byte",
        _ => return None,
    };
    // A cut that is nobody's timer may be the controller's own end, or a client that is too slow.
    if matches!(&facts.flow.ending, Ending::Cut(_)) && !facts.timer {
        return None;
    }
    let waited = span(age(event));
    let mut evidence = vec![format!("{what} for {waited}, then the controller gave up")];
    if event.handshake {
        evidence.push("the TLS handshake with the backend was not over".to_owned());
    }
    if event.flags.any(flag::STREAM) {
        // How much of the connection's bytes was this stream's is not known.
        evidence.push("it reset the stream (RST_STREAM)".to_owned());
    } else {
        evidence.push(format!(
            "{} of {} request bytes acknowledged",
            event.acked, event.request_bytes
        ));
    }
    let proven = matches!(&facts.flow.ending, Ending::Answered(down) if down.status == Some(504));
    let delivered = u64::from(event.acked) >= event.request_bytes;
    // What has come and was not read is not missing.
    let certain = (proven || facts.timer) && delivered && event.unread == 0;
    high_if(certain && facts.healthy(), evidence)
}

pub(super) fn reset(facts: &Facts) -> Support {
    // No application has seen what was not sent.
    if facts.reading.outcome != Outcome::Reset || facts.event().unsent() {
        return None;
    }
    medium(facts.shown())
}

pub(super) fn closed(facts: &Facts) -> Support {
    if facts.reading.outcome != Outcome::ClosedEarly || may_have_answered(facts) {
        return None;
    }
    medium(facts.shown())
}

/// Whether what came on a leg that cannot be read may be the error that the client got.
fn may_have_answered(facts: &Facts) -> bool {
    let event = facts.event();
    let same = matches!(&facts.flow.ending, Ending::Answered(down) if matches!(down.status, Some(503 | 504)));
    unread(event) && event.phase == Phase::Response && !event.handshake && same
}
