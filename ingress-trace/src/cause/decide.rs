//! In: a flow, how it reads, and what the controller is short of. Out: its cause with the evidence
//! for it. One ordered table; the first rule that the facts support wins. Pure.
use std::time::Duration;

use ingress_trace_common::sample::flag;

use super::evidence::{Shortage, errno_name, span};
use super::reading::{Reading, age, errno, unread};
use super::strange::meets;
use super::taxonomy::{Cause, Confidence, Outcome, Phase};
use crate::event::{Event, Kind};
use crate::flow::{Ending, Flow};
use crate::limits::ProcessUsage;

/// A decided cause.
#[derive(Clone, Debug, PartialEq)]
pub struct Verdict {
    /// Why.
    pub cause: Cause,
    /// How sure.
    pub confidence: Confidence,
    /// What supports it.
    pub evidence: Vec<String>,
}

/// What the rules look at.
pub struct Facts<'a> {
    /// The failure and its ending.
    pub flow: &'a Flow,
    /// How it reads.
    pub reading: Reading,
    /// What the controller is short of.
    pub shortage: &'a Shortage,
    /// Whether the age is one of the controller's timers.
    pub timer: bool,
}

/// Support for a rule's cause: how sure, and by what.
type Support = Option<(Confidence, Vec<String>)>;

struct Rule {
    cause: Cause,
    supports: fn(&Facts) -> Support,
}

/// The decision table.
const RULES: &[Rule] = &[
    // The ingress pod's own shortages come first: no backend was asked.
    Rule {
        cause: Cause::IngressPortsExhausted,
        supports: no_port,
    },
    Rule {
        cause: Cause::IngressFdsExhausted,
        supports: no_descriptor,
    },
    // What the bytes say by themselves.
    Rule {
        cause: Cause::ProtocolError,
        supports: not_http,
    },
    Rule {
        cause: Cause::UpstreamError,
        supports: own_error,
    },
    Rule {
        cause: Cause::NetworkUnreachable,
        supports: unreachable,
    },
    // A race is told from an abort by what the backend's kernel had acknowledged.
    Rule {
        cause: Cause::KeepaliveRace,
        supports: race,
    },
    Rule {
        cause: Cause::BackendTimeout,
        supports: too_late,
    },
    // Nothing else explains it: the application did it.
    Rule {
        cause: Cause::BackendReset,
        supports: reset,
    },
    Rule {
        cause: Cause::PrematureClose,
        supports: closed,
    },
];

/// Decides; [`Cause::Unknown`] with what was seen when no rule is supported.
pub fn decide(facts: &Facts) -> Verdict {
    let mut verdict = RULES
        .iter()
        .find_map(|rule| {
            let (confidence, evidence) = (rule.supports)(facts)?;
            Some(Verdict {
                cause: rule.cause,
                confidence,
                evidence,
            })
        })
        .unwrap_or_else(|| Verdict {
            cause: Cause::Unknown,
            confidence: Confidence::Low,
            evidence: seen(facts),
        });
    verdict.evidence.extend(strain(facts));
    verdict
}

/// What the controller itself was short of while it waited or answered by itself: no proof, but
/// what a person wants to know.
fn strain(facts: &Facts) -> Vec<String> {
    let waited = matches!(
        facts.reading.outcome,
        Outcome::NoUpstream
            | Outcome::ConnectTimeout
            | Outcome::ResponseTimeout
            | Outcome::ResponseStalled
    );
    let Some(limits) = facts.shortage.limits.as_ref().filter(|_| waited) else {
        return Vec::new();
    };
    let mut strain = Vec::new();
    if let Some((cgroup, throttled)) = &limits.throttling
        && throttled.periods > 0
    {
        strain.push(format!(
            "the controller's CPU quota ({}) held it back in {} periods since it is watched",
            cgroup.display(),
            throttled.periods
        ));
    }
    if let Some(listening) = limits.listening
        && listening.overflows > 0
    {
        strain.push(format!(
            "accept queues of the controller's network namespace overflowed {} times since it is \
             watched",
            listening.overflows
        ));
    }
    if let Some(memory) = limits.memory
        && memory.max > 0
    {
        strain.push(format!(
            "the controller hit its memory limit {} times since it is watched",
            memory.max
        ));
    }
    strain
}

fn event<'a>(facts: &'a Facts) -> &'a Event {
    &facts.flow.failure
}

#[expect(clippy::unnecessary_wraps, reason = "what a rule returns")]
fn high(evidence: Vec<String>) -> Support {
    Some((Confidence::High, evidence))
}

#[expect(clippy::unnecessary_wraps, reason = "what a rule returns")]
fn medium(evidence: Vec<String>) -> Support {
    Some((Confidence::Medium, evidence))
}

fn no_port(facts: &Facts) -> Support {
    let event = event(facts);
    if facts.reading.outcome != Outcome::ConnectLocal || event.errno != Some(errno::EADDRNOTAVAIL) {
        return None;
    }
    let mut evidence = vec![format!(
        "connect to {} failed with EADDRNOTAVAIL before any packet",
        event.remote
    )];
    if let Some(ports) = facts.shortage.ports {
        let (used, limit) = (ports.used, ports.limit);
        evidence.push(format!(
            "{used} of {limit} local ports in use towards {}",
            event.remote
        ));
    }
    high(evidence)
}

fn no_descriptor(facts: &Facts) -> Support {
    if facts.reading.outcome != Outcome::NoUpstream {
        return None;
    }
    let evidence = exhaustion(facts.shortage);
    if evidence.is_empty() {
        None
    } else {
        high(evidence)
    }
}

/// Whether the controller was out of descriptors or connections.
pub fn exhausted(shortage: &Shortage) -> bool {
    !exhaustion(shortage).is_empty()
}

fn exhaustion(shortage: &Shortage) -> Vec<String> {
    let Some(limits) = &shortage.limits else {
        return Vec::new();
    };
    // One below the limit is full, too: what was refused is not open.
    let full = |process: &ProcessUsage| process.usage.used + 1 >= process.usage.limit;
    let mut evidence = Vec::new();
    if let Some(ProcessUsage { pid, usage }) = limits.descriptors.filter(full) {
        evidence.push(format!(
            "process {pid} has {} of {} descriptors",
            usage.used, usage.limit
        ));
    }
    if let Some(ProcessUsage { pid, usage }) = limits.connections.filter(full) {
        let (used, limit) = (usage.used, usage.limit);
        evidence.push(format!(
            "worker {pid} uses {used} of {limit} worker_connections"
        ));
    }
    evidence
}

fn not_http(facts: &Facts) -> Support {
    if facts.reading.outcome != Outcome::BadResponse {
        return None;
    }
    let event = event(facts);
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

fn own_error(facts: &Facts) -> Support {
    let status = event(facts).status?;
    (facts.reading.outcome == Outcome::ErrorStatus).then(|| {
        (
            Confidence::High,
            vec![format!("the backend itself answered {status}")],
        )
    })
}

fn unreachable(facts: &Facts) -> Support {
    let event = event(facts);
    match facts.reading.outcome {
        Outcome::ConnectUnreachable => high(vec![match event.errno {
            Some(errno::ENETUNREACH) if !event.flags.any(flag::SYN) => {
                format!(
                    "no route to {}: the connect failed before any packet",
                    event.remote.ip()
                )
            }
            number => format!("{} for {}", errno_name(number.unwrap_or(0)), event.remote),
        }]),
        Outcome::ResponseTimeout | Outcome::ResponseStalled => unacknowledged(facts),
        _ => None,
    }
}

/// The request (or what followed) was sent again and again, and nothing acknowledged it.
fn unacknowledged(facts: &Facts) -> Support {
    let event = event(facts);
    let missing = event.request_bytes.saturating_sub(u64::from(event.acked));
    let broken = matches!(event.errno, Some(errno::ETIMEDOUT | errno::EHOSTUNREACH));
    if !broken && (missing == 0 || event.retransmits == 0) {
        return None;
    }
    let mut evidence = vec![format!(
        "{} of {} request bytes acknowledged, {} retransmissions",
        event.acked, event.request_bytes, event.retransmits
    )];
    evidence.extend(
        event
            .errno
            .map(|number| format!("the kernel gave up: {}", errno_name(number))),
    );
    high(evidence)
}

/// Longest time between a request and the end of a connection that was closing already: a round
/// trip and a busy event loop.
const RACE: Duration = Duration::from_millis(5);
/// Shortest idle time after which servers close; below it an abort is likelier.
const IDLE: Duration = Duration::from_secs(1);

fn race(facts: &Facts) -> Support {
    let event = event(facts);
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
    if event.flags.any(flag::FIN_BEFORE) {
        evidence.push("the backend's FIN had come before the request was sent".to_owned());
        return high(evidence);
    }
    if event.acked == 0 && !event.flags.any(flag::RST_ACK) {
        evidence.push(format!(
            "the backend acknowledged none of the request's {} bytes",
            event.request_bytes
        ));
        let by_fin = facts.reading.outcome == Outcome::ClosedEarly;
        return if by_fin {
            high(evidence)
        } else {
            medium(evidence)
        };
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

fn too_late(facts: &Facts) -> Support {
    let event = event(facts);
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
    if (proven || facts.timer) && delivered {
        high(evidence)
    } else {
        medium(evidence)
    }
}

fn reset(facts: &Facts) -> Support {
    if facts.reading.outcome != Outcome::Reset {
        return None;
    }
    medium(ended_by(event(facts), "RST"))
}

fn closed(facts: &Facts) -> Support {
    if facts.reading.outcome != Outcome::ClosedEarly || may_have_answered(facts) {
        return None;
    }
    medium(ended_by(event(facts), "FIN"))
}

/// Whether what came on a leg that cannot be read may be the error that the client got.
fn may_have_answered(facts: &Facts) -> bool {
    let event = event(facts);
    let same = matches!(&facts.flow.ending, Ending::Answered(down) if matches!(down.status, Some(503 | 504)));
    unread(event) && event.phase == Phase::Response && !event.handshake && same
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
        let what = if unread(event) {
            "bytes had come: whether of a response cannot be read"
        } else {
            "response bytes had come"
        };
        evidence.push(format!("{}{of} {what}", event.response_bytes));
    }
    evidence
}

/// What was seen, where it does not tell the cause.
fn seen(facts: &Facts) -> Vec<String> {
    let event = event(facts);
    let missing = "the cluster's state is needed to tell the cause".to_owned();
    let took = span(age(event));
    match facts.reading.outcome {
        Outcome::ConnectRefused => {
            vec![
                format!("{} answered the SYN with RST after {took}", event.remote),
                missing,
            ]
        }
        Outcome::ConnectTimeout => vec![
            format!(
                "{} did not answer {} SYN for {took}",
                event.remote,
                u64::from(event.retransmits) + 1
            ),
            missing,
        ],
        Outcome::NoUpstream => vec![format!(
            "the controller answered {} without an upstream attempt",
            event.status.unwrap_or(0)
        )],
        Outcome::ConnectLocal => vec![format!(
            "connect to {} failed with {}",
            event.remote,
            errno_name(event.errno.unwrap_or(0))
        )],
        Outcome::ResponseStalled => vec![format!(
            "the controller cut the client off {took} after the newest response byte"
        )],
        Outcome::ClosedEarly => ended_by(event, "FIN"),
        outcome => vec![format!("{outcome}")],
    }
}

#[cfg(test)]
#[path = "decide_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "strain_tests.rs"]
mod strain_tests;
