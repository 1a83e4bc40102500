//! In: a flow. Out: which outcome it is, or none: what a client's leaving explains, and what only
//! looks like a failure, is dismissed here. Pure.
use std::time::Duration;

use ingress_trace_common::http::framing;
use ingress_trace_common::sample::flag;

use super::taxonomy::{Controller, Outcome, Phase, Protocol};
use super::timers::{Timer, Timers};
use crate::event::{Event, Kind, Leg};
use crate::flow::{Ending, Flow};
use crate::profiles;

/// `include/uapi/asm-generic/errno.h`.
pub mod errno {
    /// No local address or port.
    pub const EADDRNOTAVAIL: u32 = 99;
    /// No route.
    pub const ENETUNREACH: u32 = 101;
    /// RST.
    pub const ECONNRESET: u32 = 104;
    /// Unanswered.
    pub const ETIMEDOUT: u32 = 110;
    /// RST to a SYN.
    pub const ECONNREFUSED: u32 = 111;
    /// ICMP host unreachable, or no neighbor.
    pub const EHOSTUNREACH: u32 = 113;
}

/// What a flow was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading {
    /// What the kernel saw.
    pub outcome: Outcome,
    /// Where; `None` when no upstream was involved.
    pub phase: Option<Phase>,
}

/// Reads a flow; `None` when it is no failure of an upstream (or not certainly one).
pub fn read(flow: &Flow, controller: Controller, timers: &Timers) -> Option<Reading> {
    let event = &flow.failure;
    if flow.ending == Ending::NoClient || asked_of_itself(&flow.failure, controller) {
        return None;
    }
    if event.kind == Kind::Refused {
        return Some(Reading {
            outcome: Outcome::BadResponse,
            phase: Some(Phase::Response),
        });
    }
    if event.leg == Leg::Downstream {
        return Some(Reading {
            outcome: Outcome::NoUpstream,
            phase: None,
        });
    }
    let at = |outcome, phase| {
        Some(Reading {
            outcome,
            phase: Some(phase),
        })
    };
    match event.kind {
        Kind::ConnectFailed => at(connect_outcome(flow, controller, timers)?, Phase::Connect),
        Kind::ConnectLocal if event.errno == Some(errno::ENETUNREACH) => {
            at(Outcome::ConnectUnreachable, Phase::Connect)
        }
        Kind::ConnectLocal => at(Outcome::ConnectLocal, Phase::Connect),
        Kind::Reset if certain(flow, controller) => at(Outcome::Reset, ended_in(flow)),
        Kind::Closed if certain(flow, controller) => at(Outcome::ClosedEarly, ended_in(flow)),
        Kind::Broken if certain(flow, controller) => at(timeout(event), phase(event)),
        Kind::GaveUp => gave_up_in(flow, controller, timers),
        Kind::Response if event.flags.any(flag::NOT_HTTP) => {
            at(Outcome::BadResponse, Phase::Response)
        }
        Kind::Response => at(Outcome::ErrorStatus, Phase::Response),
        Kind::Reset | Kind::Closed | Kind::Broken => None,
        Kind::Released | Kind::Retry | Kind::DownWrite | Kind::DownEnd | Kind::Refused => None,
    }
}

/// Whether it is what a controller answered for itself: to a probe or a scrape, told that it is not
/// ready.
pub fn asked_of_itself(event: &Event, controller: Controller) -> bool {
    let path = event.request.as_ref().map(|request| request.path.as_str());
    let own = profiles::of(controller).is_own(event.local.port(), path);
    event.leg == Leg::Downstream && own
}

/// Where a leg ended whose bytes may not tell: what came over TLS may be session tickets. A
/// controller that answers with an error of its own has not seen the head of a response.
fn ended_in(flow: &Flow) -> Phase {
    let event = &flow.failure;
    let own_error = matches!(&flow.ending, Ending::Answered(down) if down.status >= Some(500));
    if event.protocol == Some(Protocol::Tls) && own_error && !event.handshake {
        return Phase::Request;
    }
    phase(event)
}

/// Where the exchange was: a response has begun with its first byte, though its head be incomplete.
/// What cannot be read may say other things first (SETTINGS, alerts).
fn phase(event: &Event) -> Phase {
    let readable = !unread(event);
    if event.phase == Phase::Request && event.response_bytes > 0 && readable {
        Phase::Response
    } else {
        event.phase
    }
}

fn connect_outcome(flow: &Flow, controller: Controller, timers: &Timers) -> Option<Outcome> {
    let event = &flow.failure;
    match event.errno {
        None => {
            let by_timer = match flow.ending {
                Ending::Aborted | Ending::NoClient => false,
                _ if too_young(flow) => timers.agrees(controller, Timer::Connect, age(event)),
                Ending::Answered(_) | Ending::Cut(_) | Ending::Retried(_) => true,
                Ending::Unknown => timers.agrees(controller, Timer::Connect, age(event)),
            };
            by_timer.then_some(Outcome::ConnectTimeout)
        }
        Some(errno::ECONNREFUSED | errno::ECONNRESET) => Some(Outcome::ConnectRefused),
        Some(errno::ETIMEDOUT) => Some(Outcome::ConnectTimeout),
        Some(errno::EHOSTUNREACH | errno::ENETUNREACH) => Some(Outcome::ConnectUnreachable),
        Some(_) => Some(Outcome::ConnectLocal),
    }
}

/// Whether the leg is TLS or HTTP/2.
pub fn unread(event: &Event) -> bool {
    matches!(event.protocol, Some(Protocol::Tls | Protocol::Http2))
}

/// Whether the bytes alone prove that an exchange was cut; else the client's leg must show it.
fn certain(flow: &Flow, controller: Controller) -> bool {
    let event = &flow.failure;
    if event.protocol != Some(Protocol::Http1) {
        return unreadable(flow, controller);
    }
    let readable = event.framing != framing::UNKNOWN && !event.flags.any(flag::EARLY);
    event.phase == Phase::Request || readable || client_saw(&flow.ending)
}

/// On a leg that cannot be read, what looks like an open request may be a message of a WebSocket,
/// and its end an orderly one: only an answer to the client, or a retry, tells.
fn unreadable(flow: &Flow, controller: Controller) -> bool {
    let event = &flow.failure;
    let waiting = event.phase == Phase::Request || event.unsent();
    match &flow.ending {
        // Where something had come, an error may be the backend's own answer, of a connection that
        // it closed behind it: only one that this controller gives by itself is about the end.
        Ending::Answered(down) => down.status.map_or(waiting, |status| {
            status >= 500 && (waiting || event.handshake || says(controller, status))
        }),
        // Go makes connections that nobody needs any more once the handshake has begun.
        Ending::Retried(_) => waiting || event.handshake && event.kind == Kind::Reset,
        Ending::Cut(_) => unread(event) && client_saw(&flow.ending),
        Ending::Unknown => waiting && unanswered(event),
        Ending::Aborted | Ending::NoClient => false,
    }
}

/// Whether something certainly had no answer: a handshake, a stream whose frames show it, or what
/// was sent first on a connection, where no WebSocket can be yet.
fn unanswered(event: &Event) -> bool {
    let first = event.exchange.number == 1 && event.response_bytes == 0;
    event.handshake
        || event.protocol == Some(Protocol::Http2)
        || event.protocol == Some(Protocol::Tls) && first
}

/// Whether this controller answers so when a backend does not.
fn says(controller: Controller, status: u16) -> bool {
    let statuses = &profiles::of(controller).statuses;
    controller == Controller::Unknown
        || [statuses.no_answer, statuses.cut_head].contains(&Some(status))
}

/// Whether the client's leg shows a failure.
fn client_saw(ending: &Ending) -> bool {
    match ending {
        Ending::Answered(down) => down.status.is_some_and(|status| status >= 500),
        Ending::Cut(down) => {
            let http = down.protocol == Some(Protocol::Http1);
            http && (down.framing != framing::UNKNOWN || down.phase == Phase::Request)
        }
        Ending::Aborted | Ending::NoClient | Ending::Retried(_) | Ending::Unknown => false,
    }
}

fn timeout(event: &Event) -> Outcome {
    if phase(event) == Phase::Response {
        Outcome::ResponseStalled
    } else {
        Outcome::ResponseTimeout
    }
}

/// Shortest time that a controller waits for a backend before it gives up: timers are longer.
const PATIENCE: Duration = Duration::from_millis(100);

/// Whether it gave up before any timer that a controller has, without telling so in an answer that
/// can be read: its client has left, whoever got the bytes that came next.
fn too_young(flow: &Flow) -> bool {
    let told = matches!(&flow.ending, Ending::Answered(down) if down.status >= Some(500));
    !told && age(&flow.failure) < PATIENCE
}

/// 101 (RFC 9110 section 15.2.2): what follows is not HTTP.
pub const SWITCHING: u16 = 101;

/// As [`gave_up`], and where. On a leg that cannot be read, what has come may have been session
/// tickets, and closing is the everyday end: only an error of the controller's own tells.
fn gave_up_in(flow: &Flow, controller: Controller, timers: &Timers) -> Option<Reading> {
    let event = &flow.failure;
    let at = |outcome, phase| Reading {
        outcome,
        phase: Some(phase),
    };
    // Go lets go of handshakes that nobody needs any more, and goes on elsewhere.
    let begun = event.handshake && event.phase == Phase::Response;
    if begun && matches!(&flow.ending, Ending::Retried(_)) {
        return None;
    }
    if !unread(event) || event.handshake || event.flags.any(flag::STREAM) {
        let outcome = gave_up(flow, controller, timers)?;
        // A stream that is given up while bytes come is the client's doing, or a limit of its time.
        let stalled = age(event) >= PATIENCE || !event.flags.any(flag::STREAM);
        let certain = stalled || phase(event) == Phase::Request;
        return certain.then(|| at(outcome, phase(event)));
    }
    let own_error = matches!(&flow.ending, Ending::Answered(down) if down.status >= Some(500));
    let too_late = matches!(&flow.ending, Ending::Answered(down) if down.status == Some(504));
    let at_once = own_error && !too_late && age(event) < PATIENCE;
    if event.phase == Phase::Response {
        return (own_error && !at_once).then(|| at(Outcome::ResponseTimeout, Phase::Request));
    }
    if at_once && !timed(event, controller, timers) {
        return Some(at(Outcome::BadResponse, Phase::Request));
    }
    let outcome = gave_up(flow, controller, timers)?;
    Some(at(outcome, Phase::Request))
}

/// The controller closed its side: a timer, a response it does not accept, or a client that left.
fn gave_up(flow: &Flow, controller: Controller, timers: &Timers) -> Option<Outcome> {
    let event = &flow.failure;
    if event.status == Some(SWITCHING) {
        // Whatever else: the client left, or no failure.
        let refused = client_saw(&flow.ending) && matches!(&flow.ending, Ending::Answered(_));
        return refused.then_some(Outcome::BadResponse);
    }
    let timer = || timed(event, controller, timers);
    let readable = event.protocol == Some(Protocol::Http1);
    if phase(event) == Phase::Request {
        let failed = match &flow.ending {
            Ending::Aborted | Ending::NoClient => false,
            _ if too_young(flow) => timer(),
            // An answer below 500 is about the client's own request (a body too large, ...). Where
            // neither leg can be read, a controller that gives up at once has had its answer.
            Ending::Answered(down) => match down.status {
                Some(status) => status >= 500,
                // A stream that its client cancels looks the same while others are answered.
                None => readable || timer() || event.handshake && age(event) >= PATIENCE,
            },
            // What follows a request that its client had cancelled may look like its retry.
            Ending::Retried(_) => !unread(event) || event.handshake || timer(),
            // Cut without an answer: its own timer, or one for a client that sends too slowly.
            Ending::Cut(_) | Ending::Unknown => timer(),
        };
        return failed.then_some(Outcome::ResponseTimeout);
    }
    let head_complete = event.status.is_some() && event.framing != framing::HEAD_CUT;
    if event.framing == framing::UNKNOWN && !client_saw(&flow.ending) {
        return None;
    }
    // What came was not read: the client was too slow for it, not the backend.
    if event.unread > 0 && !matches!(&flow.ending, Ending::Answered(_)) {
        return None;
    }
    match &flow.ending {
        Ending::Aborted | Ending::NoClient => None,
        Ending::Answered(down) if event.handshake => down
            .status
            .is_some_and(|status| status >= 500)
            .then_some(Outcome::BadResponse),
        Ending::Answered(down) if down.status.is_some_and(|status| status >= 500) => {
            // It had a head and still answered with an error of its own: it refused that head
            // (too large, invalid), unless it waited for the rest until its timer fired.
            let waited = down.status == Some(504) || timer();
            let refused = head_complete && !waited;
            Some(if refused {
                Outcome::BadResponse
            } else {
                Outcome::ResponseStalled
            })
        }
        // The answer cannot be read: only a timer tells a stalled response from one that was not
        // wanted any more.
        Ending::Answered(down) if down.status.is_none() => {
            timer().then_some(Outcome::ResponseStalled)
        }
        // It answered otherwise: by what the response told it to (X-Accel-Redirect, an error page).
        Ending::Answered(_) => None,
        // Cut at once: not for want of bytes, but for what they are (a chunk without a size).
        Ending::Cut(down) if age(event) < PATIENCE && !timer() => {
            // Without the end of the client's connection it may be the client that left.
            (down.kind == Kind::DownEnd).then_some(Outcome::BadResponse)
        }
        Ending::Cut(_) => Some(Outcome::ResponseStalled),
        // What looks like a retry may be where the response sent it (X-Accel-Redirect, an error
        // page on another upstream).
        Ending::Retried(_) if head_complete => timer().then_some(Outcome::ResponseStalled),
        Ending::Retried(_) => Some(Outcome::ResponseStalled),
        Ending::Unknown => timer().then_some(Outcome::ResponseStalled),
    }
}

/// Whether the controller gave up when its read timer fired. nginx leaves a timer alone that was
/// set less than 300 ms ago: it may count from the first byte instead of the newest.
pub fn timed(event: &Event, controller: Controller, timers: &Timers) -> bool {
    let since_first = event
        .response_time
        .map(|first| event.time.saturating_sub(first));
    std::iter::once(age(event))
        .chain(since_first.map(Duration::from_nanos))
        .any(|age| timers.agrees(controller, Timer::Read, age))
}

/// How long the controller had waited when it gave up: since the response's newest byte, the
/// request, or the connect.
pub fn age(event: &Event) -> Duration {
    let since = event.last_time.or(event.response_time);
    let since = since.filter(|_| event.response_bytes > 0).or(event.began());
    Duration::from_nanos(event.time.saturating_sub(since.unwrap_or(event.time)))
}

#[cfg(test)]
#[path = "reading_tests.rs"]
mod tests;
