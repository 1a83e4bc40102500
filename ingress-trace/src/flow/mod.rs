//! In: events in the order of time. Out: flows, each a failure with what became of its request.
//! Pure: time is the events' own; nothing here knows causes, clusters or sinks.
//!
//! [`Joiner`] follows data planes whose thread goes on with a failed request at once; [`Matcher`]
//! those that serve others in between.
mod beat;
mod checks;
mod failures;
mod fit;
mod greeting;
mod joiner;
mod matcher;
mod open;
mod times;

pub use joiner::Joiner;
pub use matcher::Matcher;

use ingress_trace_common::sample::flag;

use crate::cause::taxonomy::Protocol;
use crate::event::{Event, Leg};
use crate::finding::Request;
use crate::profiles::Chain;

/// What became of the client's request after an attempt had failed.
#[derive(Clone, Debug, PartialEq)]
pub enum Ending {
    /// The controller answered the client; the answer's event tells the status where it is readable.
    Answered(Box<Event>),
    /// The client's connection ended in the middle of a response, or without one, by the controller.
    Cut(Box<Event>),
    /// The client had gone away.
    Aborted,
    /// A later attempt got a response that is no failure, with this status.
    Retried(Option<u16>),
    /// No client waited for it: a health check, or other traffic of the controller's own.
    NoClient,
    /// Nothing on the client's leg could be joined to it.
    Unknown,
}

/// A failure and its ending. `failure` is an upstream event, or the downstream answer of a request
/// that reached no upstream.
#[derive(Clone, Debug, PartialEq)]
pub struct Flow {
    /// What failed.
    pub failure: Event,
    /// What the client got of it.
    pub ending: Ending,
}

impl Flow {
    /// What was asked for: the client's own words go first, as controllers rewrite host and path.
    pub fn request(&self) -> Option<&Request> {
        let client = match &self.ending {
            Ending::Answered(down) | Ending::Cut(down) => down.request.as_ref(),
            _ => None,
        };
        client.or(self.failure.request.as_ref())
    }

    /// Whether a client was seen to wait for it: it got an error or was cut and that could be read, or
    /// had asked before and was the very next that its thread turned to. Else only times speak for it.
    pub fn proven(&self, chain: Chain) -> bool {
        if self.failure.leg == Leg::Downstream {
            return true;
        }
        let (Ending::Answered(client) | Ending::Cut(client)) = &self.ending else {
            return false;
        };
        let readable = client.protocol == Some(Protocol::Http1);
        let failed = matches!(self.ending, Ending::Cut(_)) || client.status >= Some(500);
        // A handshake asks for nothing.
        let asked = client.request_time.is_some() && client.request_time < self.failure.began();
        let next = asked || client.flags.any(flag::ADOPTED);
        readable && failed || chain == Chain::Adjacent && !readable && next
    }
}

/// How long things may take, in nanoseconds.
#[derive(Clone, Copy, Debug)]
pub struct Waits {
    /// From the release of a failed attempt (or an answer) to what belongs to it.
    pub settle: u64,
    /// From a failure to its release, when the application is slow to notice.
    pub release: u64,
    /// From a backend's own error to its relay, when the controller waits for the body.
    pub relay: u64,
    /// From a failure to the end of a retry.
    pub retry: u64,
}

/// Most failures that may be open at once; beyond it the oldest are told as they are.
pub const MOST_OPEN: usize = 65_536;

/// Whether an upstream response is a failure by itself.
fn is_failure(event: &Event) -> bool {
    event.flags.any(flag::NOT_HTTP) || matches!(event.status, Some(502..=504))
}

/// A flow for a test: which connection failed and what the client got.
#[cfg(test)]
fn in_words(flow: &Flow) -> String {
    let status = |event: &Event| {
        event
            .status
            .map_or("-".to_owned(), |status| status.to_string())
    };
    let ending = match &flow.ending {
        Ending::Answered(down) => format!("answered {}", status(down)),
        Ending::Cut(down) => format!("cut {}", status(down)),
        Ending::Aborted => "aborted".to_owned(),
        Ending::Retried(code) => format!("retried {}", code.unwrap_or(0)),
        Ending::NoClient => "nobody".to_owned(),
        Ending::Unknown => "unknown".to_owned(),
    };
    format!("{}: {ending}", flow.failure.exchange.cookie)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::example::{MS, down, refused};
    use crate::event::{Flags, Kind};

    /// A failed connect of 100 ms, and bytes for a client that had asked then.
    fn bytes(request_time: Option<u64>, flags: u16) -> Flow {
        let client = Event {
            protocol: Some(Protocol::Tls),
            status: None,
            request_time,
            flags: Flags(flags),
            ..down(9, Kind::DownWrite, 101 * MS)
        };
        Flow {
            failure: refused(1, 100 * MS),
            ending: Ending::Answered(Box::new(client)),
        }
    }

    #[test]
    fn only_a_client_that_had_asked_before_proves_what_a_thread_does_next() {
        let proven = |request_time, flags| bytes(request_time, flags).proven(Chain::Adjacent);
        assert!(proven(Some(MS), 0) && proven(None, flag::ADOPTED));
        assert!(!proven(Some(101 * MS), 0), "it asked later");
        assert!(!proven(None, 0), "it has not asked");
        assert!(
            !bytes(Some(MS), 0).proven(Chain::Pool),
            "others are served in between"
        );
    }

    #[test]
    fn an_error_that_was_read_proves_a_client_and_a_success_does_not() {
        let proven = |ending| {
            let failure = refused(1, 100 * MS);
            Flow { failure, ending }.proven(Chain::Process)
        };
        let answer = |status| {
            let answer = down(9, Kind::Response, 101 * MS);
            let status = Some(status);
            Ending::Answered(Box::new(Event { status, ..answer }))
        };
        assert!(proven(answer(502)) && !proven(answer(200)));
        assert!(!proven(Ending::Unknown) && !proven(Ending::Retried(Some(200))));
    }
}
