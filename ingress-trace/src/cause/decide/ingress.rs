//! Rules about the ingress pod's own side: ports, descriptors, connections, CPU, memory and accept queues.
use std::time::Duration;

use super::{Facts, Support, high, medium};
use crate::cause::evidence::{Shortage, span};
use crate::cause::reading::errno;
use crate::cause::taxonomy::Outcome;
use crate::limits::{Limits, PERIOD, ProcessUsage, Throttling};

pub(super) fn no_port(facts: &Facts) -> Support {
    let event = facts.event();
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

pub(super) fn no_descriptor(facts: &Facts) -> Support {
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

/// Whether a process has all that it may have.
pub(super) fn full(process: &ProcessUsage) -> bool {
    process.usage.is_full()
}

/// It let a request wait and answered it by itself, or let lie what had come, while it was held back for
/// much of the time.
pub(super) fn overloaded(facts: &Facts) -> Support {
    let (event, outcome) = (facts.event(), facts.reading.outcome);
    let waited = event.began().map(|began| event.time.saturating_sub(began));
    let waited = waited.map(Duration::from_nanos);
    // What it answers sooner, its configuration says: a policy, a limit.
    let waited = waited.filter(|waited| *waited >= PERIOD && outcome == Outcome::NoUpstream);
    let late = matches!(outcome, Outcome::ResponseTimeout | Outcome::ResponseStalled);
    let unread = Some(event.unread).filter(|bytes| *bytes > 0 && late);
    let lay =
        waited.map(|waited| format!("the request had waited {} for its answer", span(waited)));
    let lay = lay.or(unread.map(|bytes| format!("{bytes} bytes of the response were not read")))?;
    let limits = facts.shortage.limits.as_ref()?;
    let mut evidence = Vec::new();
    if let Some((_, throttled)) = &limits.throttling
        && held_back(*throttled, facts.shortage.span)
    {
        evidence.extend(throttling(limits, facts.shortage.span));
    }
    // Reclaiming at the limit is everyday life; a kill is not.
    if let Some(memory) = limits.memory.filter(|memory| memory.killed > 0) {
        evidence.push(format!(
            "{} processes of the controller were killed for want of memory in {}",
            memory.killed,
            span(facts.shortage.span)
        ));
    }
    if evidence.is_empty() {
        return None;
    }
    evidence.push(lay);
    medium(evidence)
}

/// Whether a quota took half of the time: a cgroup that is throttled now and then is everyday life.
fn held_back(throttled: Throttling, span: Duration) -> bool {
    !span.is_zero() && throttled.held() >= span / 2
}

fn throttling(limits: &Limits, during: Duration) -> Option<String> {
    let (cgroup, throttled) = limits.throttling.as_ref()?;
    (throttled.periods > 0).then(|| {
        format!(
            "the controller's CPU quota ({}) held it back in {} periods, {} in all, in {}",
            cgroup.display(),
            throttled.periods,
            span(Duration::from_nanos(throttled.nanos)),
            span(during)
        )
    })
}

/// What the controller itself was short of while it waited or answered by itself: no proof, but
/// what a person wants to know.
pub(super) fn strain(facts: &Facts) -> Vec<String> {
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
    let during = facts.shortage.span;
    let mut strain: Vec<String> = throttling(limits, during).into_iter().collect();
    if let Some(listening) = limits.listening
        && listening.overflows > 0
    {
        strain.push(format!(
            "accept queues of the controller's network namespace overflowed {} times in {}",
            listening.overflows,
            span(during)
        ));
    }
    if let Some(memory) = limits.memory
        && memory.max > 0
    {
        strain.push(format!(
            "the controller hit its memory limit {} times in {}",
            memory.max,
            span(during)
        ));
    }
    strain
}
