//! In: a flow and the controller's profile. Out: what the client got: status, its source, and
//! whether the failure was visible. Pure.
use ingress_trace_common::sample::flag;

use super::reading::{Reading, unread};
use super::taxonomy::{Outcome, Phase, Protocol, StatusSource, Visible};
use crate::event::Event;
use crate::flow::{Ending, Flow};
use crate::profiles::Profile;

/// What the client got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// HTTP status.
    pub status: Option<u16>,
    /// Where it comes from; present with `status`.
    pub source: Option<StatusSource>,
    /// Whether the client saw the failure.
    pub visible: Visible,
}

/// What the client got of a failure.
pub fn answer(flow: &Flow, reading: Reading, profile: &Profile) -> Answer {
    let inferred = inferred(&flow.failure, reading, profile);
    match &flow.ending {
        Ending::Answered(down) => {
            let seen = down.status.is_none_or(|status| status >= 400);
            of(
                down.status,
                inferred,
                if seen { Visible::Yes } else { Visible::No },
            )
        }
        Ending::Cut(down) => {
            // What had been relayed stands; without a byte there is no status at all.
            let source = down.status.map(|_| StatusSource::Observed);
            Answer {
                status: down.status,
                source,
                visible: Visible::Yes,
            }
        }
        // The retry's answer was seen, and is what the controller relays.
        Ending::Retried(status) => of(*status, None, Visible::No),
        // What was relayed of a response cannot be taken back: the client saw it cut, and leaves.
        Ending::Aborted | Ending::Unknown if cut(flow, reading, profile) => {
            of(None, inferred, Visible::Yes)
        }
        Ending::Aborted | Ending::NoClient => of(None, inferred, Visible::No),
        Ending::Unknown => of(None, inferred, Visible::Unknown),
    }
}

/// Whether a response was cut whose beginning the client had got.
fn cut(flow: &Flow, reading: Reading, profile: &Profile) -> bool {
    let relays_anything = profile.statuses.bad_response.is_none();
    match reading.outcome {
        Outcome::Reset | Outcome::ClosedEarly => {
            let readable = flow.failure.protocol == Some(Protocol::Http1);
            readable && flow.failure.head_complete()
        }
        Outcome::BadResponse => relays_anything && flow.failure.flags.any(flag::NOT_HTTP),
        _ => false,
    }
}

fn of(observed: Option<u16>, inferred: Option<u16>, visible: Visible) -> Answer {
    let source = match (observed, inferred) {
        (Some(_), _) => Some(StatusSource::Observed),
        (None, Some(_)) => Some(StatusSource::Inferred),
        (None, None) => None,
    };
    Answer {
        status: observed.or(inferred),
        source,
        visible,
    }
}

/// What this controller answers to this outcome when nothing hides it.
fn inferred(event: &Event, reading: Reading, profile: &Profile) -> Option<u16> {
    // What a controller makes of TLS and HTTP/2 that fails differs by version and by chance; a read
    // timeout is one everywhere.
    let timeout = reading.outcome == Outcome::ResponseTimeout && !event.handshake;
    if unread(event) && !timeout {
        return None;
    }
    let broke = matches!(reading.outcome, Outcome::Reset | Outcome::ClosedEarly);
    let cut = broke && event.head_complete();
    let refused = !event.head_complete() && (broke || reading.outcome == Outcome::ConnectTimeout);
    if (refused && profile.unread.refuses_streams) || (cut && profile.unread.holds_bodies) {
        return None;
    }
    match reading.phase {
        Some(Phase::Response) if reading.outcome != Outcome::BadResponse => {
            if event.head_complete() {
                event.status // relayed as far as it had come
            } else {
                profile.statuses.cut_head
            }
        }
        Some(Phase::Request) if broke && event.reused() => {
            let safe = event.request.as_ref().is_none_or(|request| {
                matches!(request.method.as_str(), "GET" | "HEAD" | "OPTIONS")
            });
            profile.reused(safe)
        }
        phase => profile.status(reading.outcome, phase),
    }
}

#[cfg(test)]
#[path = "answer_tests.rs"]
mod tests;
