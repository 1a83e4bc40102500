//! In: a flow, its controller and what is known beside it. Out: a finding. Pure but for the clock's
//! offset and the names that the caller gives.
use ingress_trace_common::sample::flag;
use jiff::Timestamp;

use super::answer::{Answer, answer};
use super::decide::{Facts, Verdict, decide};
use super::evidence::{Shortage, errno_name};
use super::facts::{Inside, Past};
use super::fix::{Subject, fixes};
use super::reading::{Reading, age, errno, read, timed};
use super::taxonomy::{Controller, Outcome};
use super::timers::{Timer, Timers};
use crate::cluster::object::Pod;
use crate::event::{Event, Kind, Leg};
use crate::finding::{Backend, Finding, Ingress};
use crate::flow::{Ending, Flow};
use crate::identity::Identity;
use crate::profiles;

/// Who it was, and when: what the caller knows beside the flow.
#[derive(Clone, Debug)]
pub struct Context {
    /// Data plane of the pod.
    pub controller: Controller,
    /// The pod.
    pub ingress: Ingress,
    /// Wall clock minus monotonic clock, nanoseconds.
    pub clock: i128,
}

/// How a flow reads, before anything is read from the system for its verdict.
pub fn reading(flow: &Flow, controller: Controller, timers: &mut Timers) -> Option<Reading> {
    let reading = read(flow, controller, timers)?;
    let timer = match reading.outcome {
        Outcome::ConnectTimeout if flow.failure.errno.is_none() => Some(Timer::Connect),
        Outcome::ResponseTimeout => Some(Timer::Read),
        _ => None,
    };
    // Learnt only where the client's leg proves that it was a timer.
    if let (Some(timer), Ending::Answered(down)) = (timer, &flow.ending)
        && down.status == Some(504)
    {
        timers.learn(controller, timer, age(&flow.failure));
    }
    Some(reading)
}

/// What is known beside the flow itself.
#[derive(Clone, Copy, Debug)]
pub struct Known<'a> {
    /// What the controller is short of.
    pub shortage: &'a Shortage,
    /// Who the backend was; none without an API.
    pub who: Option<&'a Identity>,
    /// What its own side says; none where its pod does not run here.
    pub inside: Option<&'a Inside>,
    /// What was seen of it before.
    pub past: Option<&'a Past>,
    /// The ingress pod.
    pub ingress: Option<&'a Pod>,
}

impl<'a> Known<'a> {
    /// Where nothing but the ingress pod's own side is known.
    pub fn alone(shortage: &'a Shortage) -> Self {
        Self {
            shortage,
            who: None,
            inside: None,
            past: None,
            ingress: None,
        }
    }
}

/// Why a flow that reads as a failure failed, by what is known so far.
pub fn verdict(
    flow: &Flow,
    reading: Reading,
    known: &Known,
    timers: &Timers,
    context: &Context,
) -> Verdict {
    decide(&Facts {
        flow,
        reading,
        at: wall(flow.failure.time, context.clock),
        shortage: known.shortage,
        timer: timed(&flow.failure, context.controller, timers),
        who: known.who,
        inside: known.inside,
        past: known.past,
    })
}

/// The finding of a flow that reads as a failure.
pub fn finding(
    flow: &Flow,
    reading: Reading,
    known: &Known,
    timers: &Timers,
    context: &Context,
) -> Finding {
    let verdict = verdict(flow, reading, known, timers, context);
    let answer = answer(flow, reading, profiles::of(context.controller));
    let mut finding = base(flow, reading, verdict, answer, context);
    if let Some(who) = known.who {
        who.fill(&mut finding);
    }
    if finding.outcome.is_failure() {
        let at = wall(flow.failure.time, context.clock);
        let subject = Subject::new(&flow.failure, known.who, known.inside, at)
            .behind(context.controller, known.ingress)
            .short_of(known.shortage);
        finding.fix = fixes(finding.cause, &subject);
    }
    finding
}

fn base(
    flow: &Flow,
    reading: Reading,
    verdict: Verdict,
    answer: Answer,
    context: &Context,
) -> Finding {
    let event = &flow.failure;
    let upstream = event.leg == Leg::Upstream;
    let addressed = upstream || event.kind == Kind::Refused;
    let adopted = event.flags.any(flag::ADOPTED);
    let connected = event.established_time.unwrap_or(event.time);
    let took = |from: Option<u64>, to: u64| Some(seconds(to.checked_sub(from?)?));
    Finding {
        time: wall(event.time, context.clock),
        cause: verdict.cause,
        status: answer.status,
        status_source: answer.source,
        client_visible: answer.visible,
        confidence: verdict.confidence,
        outcome: reading.outcome,
        phase: reading.phase,
        errno: errno_of(event).map(errno_name),
        controller: context.controller,
        ingress: Ingress {
            pid: (event.pid != 0).then_some(event.pid),
            ..context.ingress.clone()
        },
        backend: addressed.then(|| Backend {
            address: Some(event.remote.ip()),
            port: Some(event.remote.port()),
            ..Backend::default()
        }),
        protocol: event.protocol.filter(|_| upstream),
        connect_seconds: took(event.connect_time, connected).filter(|_| upstream && !adopted),
        first_byte_seconds: event
            .response_time
            .and_then(|time| took(event.request_time, time))
            .filter(|_| upstream),
        elapsed_seconds: took(event.began(), event.time),
        exchange: upstream.then_some(event.exchange.number),
        idle_seconds: event.idle.filter(|_| upstream).map(seconds),
        bytes_sent: upstream.then_some(event.request_bytes),
        bytes_received: upstream.then_some(event.response_bytes),
        retransmits: upstream.then_some(event.retransmits),
        request: flow.request().cloned(),
        evidence: verdict.evidence,
        fix: Vec::new(),
    }
}

/// The socket's error; a route failure has one that no hook sees, so none is named.
fn errno_of(event: &Event) -> Option<u32> {
    let guessed = event.errno == Some(errno::ENETUNREACH) && !event.flags.any(flag::SYN);
    event.errno.filter(|_| !guessed)
}

fn seconds(nanos: u64) -> f64 {
    // Microseconds are what the clocks are good for; more digits would only be noise in JSON.
    (nanos / 1000) as f64 / 1e6
}

/// The wall clock at a monotonic time.
pub fn wall(time: u64, clock: i128) -> Timestamp {
    Timestamp::from_nanosecond(i128::from(time) + clock).unwrap_or(Timestamp::UNIX_EPOCH)
}

#[cfg(test)]
#[path = "classify_tests.rs"]
mod tests;
