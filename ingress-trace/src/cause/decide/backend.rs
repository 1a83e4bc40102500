//! Rules about a backend that is Ready: a port on which nothing listens, and what it is short of.
use std::time::Duration;

use super::facts::STARTING;
use super::ingress::full;
use super::pod::started;
use super::{Facts, Support, high, high_if, medium};
use crate::cause::evidence::span;
use crate::cause::facts::Inside;
use crate::cause::reading::age;
use crate::cause::taxonomy::Outcome;
use crate::cluster::index::owned::{Picked, PortOf};

/// Shortest time of watching after which it means something that a port never accepted.
const WATCHED: Duration = Duration::from_secs(10);

pub(super) fn wrong_port(facts: &Facts) -> Support {
    let may = facts.reading.outcome == Outcome::ConnectRefused && facts.ready() == Some(true);
    if !may || accepted(facts) || just_started(facts) {
        return None;
    }
    let mut evidence = facts.shown();
    if let Some(words) = listens_elsewhere(facts) {
        evidence.push(words);
        return high(evidence);
    }
    // Where the port is open, something else refused.
    if facts
        .inside
        .is_some_and(|inside| inside.listening.is_some())
    {
        return None;
    }
    let (never, undeclared) = (never_accepted(facts), undeclared(facts));
    if let Some(words) = not_its_port(facts) {
        let guess = facts
            .tenancy()
            .is_some_and(|tenancy| tenancy.picked == Picked::Guess);
        evidence.push(words);
        evidence.extend(undeclared);
        return high_if(!guess && facts.healthy(), evidence);
    }
    let both = never.is_some() && undeclared.is_some();
    let found: Vec<String> = never.into_iter().chain(undeclared).collect();
    // Without the pod itself, an end that is not known may explain it.
    if found.is_empty() || facts.pod().is_none() {
        return None;
    }
    evidence.extend(found);
    high_if(both && facts.healthy(), evidence)
}

/// Whether this port, of this pod or of another one of its Service, was open lately.
fn accepted(facts: &Facts) -> bool {
    facts
        .past
        .is_some_and(|past| past.last_success.is_some() || past.siblings_fine > 0)
}

fn just_started(facts: &Facts) -> bool {
    let start = started(facts).and_then(|start| start.checked_add(STARTING).ok());
    start.is_some_and(|ready| ready > facts.at)
}

fn listens_elsewhere(facts: &Facts) -> Option<String> {
    let inside = facts.inside?;
    let ports = inside.listening.as_ref()?;
    if ports.is_empty() || ports.contains(&facts.port()) {
        return None;
    }
    let ports: Vec<String> = ports.iter().map(ToString::to_string).collect();
    Some(format!(
        "pod {} listens on {}, not on {}",
        inside.pod.name,
        ports.join(", "),
        facts.port()
    ))
}

fn not_its_port(facts: &Facts) -> Option<String> {
    let tenancy = facts.tenancy()?;
    let service = tenancy.service.as_ref()?;
    match tenancy.port {
        PortOf::Other | PortOf::Former { .. } => Some(format!(
            "{} is not the port of the endpoints of {service}",
            facts.port()
        )),
        PortOf::Named(_) | PortOf::Any | PortOf::Coming { .. } => None,
    }
}

fn undeclared(facts: &Facts) -> Option<String> {
    let pod = facts.pod()?;
    let all = pod.newest.containers.iter().flat_map(|one| &one.ports);
    let mut ports: Vec<u16> = all.map(|(_, port)| *port).collect();
    if ports.is_empty() || ports.contains(&facts.port()) {
        return None;
    }
    ports.sort_unstable();
    let ports: Vec<String> = ports.iter().map(ToString::to_string).collect();
    let (name, port) = (&pod.pod.name.name, facts.port());
    Some(format!(
        "the containers of pod {name} declare {}, not {port}",
        ports.join(", ")
    ))
}

fn never_accepted(facts: &Facts) -> Option<String> {
    let past = facts.past.filter(|past| past.watched >= WATCHED)?;
    past.last_success.is_none().then(|| {
        format!(
            "port {} accepted nothing in the {} that it is watched",
            facts.port(),
            span(past.watched)
        )
    })
}

pub(super) fn overloaded(facts: &Facts) -> Support {
    let inside = facts.inside?;
    if facts.ready() == Some(false) {
        return None;
    }
    match facts.reading.outcome {
        Outcome::ConnectTimeout => queue(facts, inside),
        Outcome::ResponseTimeout | Outcome::ResponseStalled if facts.unacknowledged() => {
            queue(facts, inside)
        }
        Outcome::ResponseTimeout | Outcome::ResponseStalled => {
            let held = || throttled(facts, inside).or_else(|| starved(facts, inside));
            descriptors(facts, inside).or_else(held)
        }
        Outcome::Reset | Outcome::ClosedEarly => descriptors(facts, inside),
        _ => None,
    }
}

/// A full queue makes its kernel drop SYNs, and what follows on a handshake.
fn queue(facts: &Facts, inside: &Inside) -> Support {
    let overflows = inside.overflows.filter(|overflows| *overflows > 0);
    let ours = inside.queue.filter(|queue| queue.waiting > 0);
    let full = ours.is_some_and(|queue| queue.is_full());
    if overflows.is_none() && !full {
        return None;
    }
    let mut evidence = facts.shown();
    evidence.extend(overflows.map(|overflows| {
        format!(
            "accept queues of pod {} overflowed {overflows} times within {}",
            inside.pod.name,
            span(inside.span)
        )
    }));
    evidence.extend(ours.map(|queue| {
        let (waiting, port) = (queue.waiting, queue.local.port());
        let limit = queue
            .limit
            .map_or(String::new(), |limit| format!(", its limit is {limit}"));
        format!("{waiting} connections wait to be accepted on {port}{limit}")
    }));
    // Without an overflow that was counted, it may have filled only afterwards.
    high_if(overflows.is_some() && ours.is_some(), evidence)
}

fn descriptors(facts: &Facts, inside: &Inside) -> Support {
    let process = inside.descriptors.filter(full)?;
    let mut evidence = facts.shown();
    evidence.push(format!(
        "process {} of pod {} has {} of {} descriptors",
        process.pid, inside.pod.name, process.usage.used, process.usage.limit
    ));
    let late = !facts.ended();
    high_if(late && facts.event().exchange.number == 1, evidence)
}

fn throttled(facts: &Facts, inside: &Inside) -> Support {
    // The readings lie around the wait, or a long wait around them: half of it counts.
    let least = age(facts.event()) / 2;
    lacked(facts, inside.throttling?.held(), least, quota(inside)?)
}

/// Others had the CPUs: the same without a quota. What only waits for something else (a database) could not
/// have run, and does not count.
fn starved(facts: &Facts, inside: &Inside) -> Support {
    // On a busy CPU some waiting is everyday life: it had none for half of the wait even if it had none
    // in all the time that the readings have beside it.
    let wait = age(facts.event());
    let least = inside.span.saturating_sub(wait) + wait / 2;
    let waited = Duration::from_nanos(inside.pressure?.cpu);
    lacked(facts, waited, least, crowded(inside)?)
}

fn lacked(facts: &Facts, lack: Duration, least: Duration, words: String) -> Support {
    if lack < least {
        return None;
    }
    let mut evidence = facts.shown();
    evidence.push(words);
    medium(evidence)
}

/// That there was no CPU for it, for half of the time between the readings.
fn crowded(inside: &Inside) -> Option<String> {
    let waited = waited(inside.pressure?.cpu, 2, inside)?;
    let name = &inside.pod.name;
    Some(format!("all of pod {name} waited for a CPU {waited}"))
}

/// That it was busy with memory that had been taken away, more than now and then between the readings.
fn thrashing(inside: &Inside) -> Option<String> {
    let waited = waited(inside.pressure?.memory, 5, inside)?;
    let name = &inside.pod.name;
    Some(format!("all of pod {name} waited for memory {waited}"))
}

/// How long it waited, where that is this part of the time.
fn waited(nanos: u64, part: u32, inside: &Inside) -> Option<String> {
    let waited = Duration::from_nanos(nanos);
    let often = !waited.is_zero() && waited * part >= inside.span;
    often.then(|| format!("for {} in {}", span(waited), span(inside.span)))
}

/// What a CPU quota did, where it was more than now and then between the readings.
fn quota(inside: &Inside) -> Option<String> {
    let throttling = inside.throttling?;
    let held = throttling.held();
    if held.is_zero() || held * 5 < inside.span {
        return None;
    }
    Some(format!(
        "the CPU quota of pod {} held it back in {} periods, {} in all, in {}",
        inside.pod.name,
        throttling.periods,
        span(Duration::from_nanos(throttling.nanos)),
        span(inside.span)
    ))
}

/// What else was seen of the backend, whatever the cause: a person compares.
pub(super) fn beside(facts: &Facts) -> Vec<String> {
    let mut words = Vec::new();
    if !facts.addressed() || !facts.reading.outcome.is_failure() {
        return words;
    }
    if let Some(inside) = facts.inside.filter(|inside| inside.frozen) {
        let name = &inside.pod.name;
        words.push(format!(
            "the cgroup of pod {name} is frozen: nothing in it runs"
        ));
    }
    if let Some(inside) = facts.inside
        && overloaded(facts).is_none()
    {
        words.extend(quota(inside).or_else(|| crowded(inside)));
    }
    words.extend(facts.inside.and_then(thrashing));
    let Some(past) = facts.past else { return words };
    if let Some(last) = past.last_success {
        let last = span(last);
        words.push(format!(
            "this address had last succeeded within the {last} before"
        ));
    }
    if past.siblings_fine + past.siblings_failed > 0 {
        words.push(format!(
            "other pods of the Service within 10 s: {} answered, {} failed in the same way",
            past.siblings_fine, past.siblings_failed
        ));
    }
    words
}
