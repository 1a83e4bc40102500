//! In: all that a decision may look at. Out: the questions that several rules ask of it. Decides nothing.
use std::time::Duration;

use ingress_trace_common::sample::flag;
use jiff::{SignedDuration, Timestamp};

use crate::cause::evidence::{Shortage, errno_name, span};
use crate::cause::facts::{Inside, Past};
use crate::cause::reading::{Reading, age, errno};
use crate::cause::taxonomy::{Cause, Confidence, Outcome};
use crate::cluster::index::PodThen;
use crate::cluster::index::owned::{Owned, Tenancy};
use crate::event::{Event, Leg};
use crate::flow::Flow;
use crate::identity::{Identity, State};

/// How long after its start a container may still not listen.
pub(super) const STARTING: SignedDuration = SignedDuration::from_secs(10);

/// What the rules look at.
#[derive(Clone, Copy)]
pub struct Facts<'a> {
    /// The failure and its ending.
    pub flow: &'a Flow,
    /// How it reads.
    pub reading: Reading,
    /// When it failed, by the wall clock.
    pub at: Timestamp,
    /// What the controller is short of.
    pub shortage: &'a Shortage,
    /// Whether the age is one of the controller's timers.
    pub timer: bool,
    /// Who it was; none without an API.
    pub who: Option<&'a Identity>,
    /// What the backend's own side says; none where its pod does not run here.
    pub inside: Option<&'a Inside>,
    /// What was seen of this backend before.
    pub past: Option<&'a Past>,
}

impl<'a> Facts<'a> {
    pub(super) fn event(&self) -> &'a Event {
        &self.flow.failure
    }

    /// How sure a cause can be at most: what is read off a cluster's state that is not up to date is
    /// never certain.
    pub(super) fn most(&self, cause: Cause) -> Confidence {
        let stale = self.who.is_some_and(|who| who.stale.is_some());
        if stale && !by_kernel(cause) {
            Confidence::Medium
        } else {
            Confidence::High
        }
    }

    /// What is known of the pod.
    pub(super) fn pod(&self) -> Option<&'a PodThen> {
        self.who?.known.as_ref()
    }

    /// The endpoint that was addressed.
    pub(super) fn tenancy(&self) -> Option<&'a Tenancy> {
        match self.who?.owned.as_ref()? {
            Owned::Endpoint(tenancy) => Some(tenancy),
            Owned::Front(_) | Owned::Pod { .. } | Owned::Node(_) | Owned::Outside => None,
        }
    }

    /// The pod's port, where the destination was translated too.
    pub(super) fn port(&self) -> u16 {
        let event = self.event();
        event.leads.unwrap_or(event.remote).port()
    }

    /// When the exchange, or the connect, began.
    pub(super) fn began(&self) -> Timestamp {
        let event = self.event();
        let since = event.began().unwrap_or(event.time);
        let took = Duration::from_nanos(event.time.saturating_sub(since));
        self.at.checked_sub(took).unwrap_or(self.at)
    }

    /// Whether the backend was Ready, by its pod, else by its endpoint.
    pub(super) fn ready(&self) -> Option<bool> {
        let by_pod = self.pod().and_then(|pod| pod.ready);
        let by_endpoint = self.who?.state.and_then(|state| match state {
            State::Ready => Some(true),
            State::NotReady | State::Terminating => Some(false),
            State::Gone | State::Moved | State::Later => None,
        });
        by_pod.or(by_endpoint)
    }

    /// Whether all that could explain a failure otherwise was looked at, at or after it, and is well.
    pub(super) fn healthy(&self) -> bool {
        let fresh = |pod: &PodThen| pod.looked.is_none_or(|looked| looked >= self.at);
        let alive = |pod: &PodThen| pod.terminating.is_none() && pod.newest.deletion.is_none();
        let stale = self.who.is_some_and(|who| who.stale.is_some());
        !stale
            && self.ready() == Some(true)
            && self.pod().is_some_and(|pod| fresh(pod) && alive(pod))
    }

    /// Whether the node was Ready for all that is known.
    pub(super) fn node_ready(&self) -> bool {
        let host = self.who.and_then(|who| who.host.as_ref());
        host.is_some_and(|host| host.ready)
    }

    /// Whether it is about a connection to a backend.
    pub(super) fn addressed(&self) -> bool {
        self.event().leg == Leg::Upstream
    }

    /// Whether nothing came back from where it was sent to: no SYN-ACK, or no acknowledgment.
    pub(super) fn unanswered(&self) -> bool {
        match self.reading.outcome {
            Outcome::ConnectTimeout => true,
            Outcome::ConnectUnreachable => self.event().errno != Some(errno::ENETUNREACH),
            Outcome::ResponseTimeout | Outcome::ResponseStalled => self.unacknowledged(),
            _ => false,
        }
    }

    /// Whether the request (or what followed) was sent again and again, and nothing acknowledged it.
    pub(super) fn unacknowledged(&self) -> bool {
        let event = self.event();
        let missing = event.request_bytes.saturating_sub(u64::from(event.acked));
        let broken = matches!(event.errno, Some(errno::ETIMEDOUT | errno::EHOSTUNREACH));
        broken || missing > 0 && event.retransmits > 0
    }

    /// Whether the peer's kernel ended the connection, or refused it.
    pub(super) fn ended(&self) -> bool {
        matches!(
            self.reading.outcome,
            Outcome::ConnectRefused | Outcome::Reset | Outcome::ClosedEarly
        )
    }

    /// What the packets showed of a connection that was refused, ended or not answered.
    pub(super) fn shown(&self) -> Vec<String> {
        let event = self.event();
        match self.reading.outcome {
            Outcome::ConnectRefused => vec![refused(event)],
            Outcome::ConnectTimeout => vec![silent(event)],
            Outcome::ConnectUnreachable => vec![unreachable(event)],
            Outcome::Reset => ended_by(event, "RST"),
            Outcome::ClosedEarly => ended_by(event, "FIN"),
            Outcome::ResponseTimeout | Outcome::ResponseStalled if self.unacknowledged() => {
                unacknowledged(event)
            }
            outcome => vec![format!("{outcome} after {}", span(age(event)))],
        }
    }
}

/// Causes that no word of the cluster is needed for.
fn by_kernel(cause: Cause) -> bool {
    match cause {
        Cause::IngressPortsExhausted
        | Cause::IngressFdsExhausted
        | Cause::IngressOverloaded
        | Cause::ProtocolError
        | Cause::UpstreamError
        | Cause::NetworkUnreachable
        | Cause::Unknown => true,
        Cause::NoEndpoints
        | Cause::BackendNotReady
        | Cause::BackendCrashed
        | Cause::BackendTimeout
        | Cause::PodTerminating
        | Cause::StaleEndpoint
        | Cause::WrongPort
        | Cause::BackendOomKilled
        | Cause::BackendOverloaded
        | Cause::KeepaliveRace
        | Cause::BackendReset
        | Cause::PrematureClose
        | Cause::NodeNotReady => false,
    }
}

fn refused(event: &Event) -> String {
    let took = span(age(event));
    format!("{} answered the SYN with RST after {took}", event.remote)
}

fn silent(event: &Event) -> String {
    let sent = u64::from(event.retransmits) + 1;
    let took = span(age(event));
    format!("{} did not answer {sent} SYN for {took}", event.remote)
}

fn unreachable(event: &Event) -> String {
    match event.errno {
        Some(errno::ENETUNREACH) if !event.flags.any(flag::SYN) => {
            let ip = event.remote.ip();
            format!("no route to {ip}: the connect failed before any packet")
        }
        number => format!("{} for {}", errno_name(number.unwrap_or(0)), event.remote),
    }
}

fn unacknowledged(event: &Event) -> Vec<String> {
    let mut evidence = vec![format!(
        "{} of {} request bytes acknowledged, {} retransmissions",
        event.acked, event.request_bytes, event.retransmits
    )];
    evidence.extend(
        event
            .errno
            .map(|number| format!("the kernel gave up: {}", errno_name(number))),
    );
    evidence
}

fn ended_by(event: &Event, how: &str) -> Vec<String> {
    let since = event.began().unwrap_or(event.time);
    let after = span(Duration::from_nanos(event.time.saturating_sub(since)));
    if event.flags.any(flag::STREAM) {
        let how = if how == "RST" { "RST_STREAM" } else { "GOAWAY" };
        return vec![format!(
            "the backend's {how} came {after} after the request"
        )];
    }
    if event.unsent() {
        return vec![format!(
            "the backend's RST came {after} after the connect began, before the request was sent"
        )];
    }
    let asked = if event.handshake {
        "the ClientHello"
    } else {
        "the request"
    };
    let mut evidence = vec![format!(
        "the backend's {how} came {after} after {asked}, {} of its {} bytes acknowledged",
        event.acked, event.request_bytes
    )];
    if event.response_bytes > 0 {
        let of = match event.expected_bytes {
            0 => String::new(),
            expected => format!(" of {expected}"),
        };
        let what = if crate::cause::reading::unread(event) {
            "bytes had come: whether of a response cannot be read"
        } else {
            "response bytes had come"
        };
        evidence.push(format!("{}{of} {what}", event.response_bytes));
    }
    evidence
}
