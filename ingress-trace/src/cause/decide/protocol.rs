//! The rule about bytes that are no response that the controller accepts.
use super::{Facts, Support, high, medium};
use crate::cause::evidence::span;
use crate::cause::reading::{age, unread};
use crate::cause::strange::meets;
use crate::cause::taxonomy::Outcome;
use crate::event::Kind;

pub(super) fn not_http(facts: &Facts) -> Support {
    if facts.reading.outcome != Outcome::BadResponse {
        return None;
    }
    let event = facts.event();
    if let Some(strange) = event.strange {
        return high(vec![meets(event.protocol, strange)]);
    }
    if event.kind == Kind::Refused {
        return medium(vec![format!(
            "a complete response had come from {}, and the controller answered {} all the same",
            event.remote,
            event.status.unwrap_or(0)
        )]);
    }
    if event.handshake {
        return medium(vec![
            "the TLS handshake with the backend did not succeed".to_owned(),
        ]);
    }
    if unread(event) {
        return medium(vec![format!(
            "the controller closed {} after the backend's newest bytes, without a response",
            span(age(event))
        )]);
    }
    medium(vec![format!(
        "the controller closed {} after the response's head had come ({}) and answered with an \
         error of its own",
        span(age(event)),
        event.status.unwrap_or(0),
    )])
}
