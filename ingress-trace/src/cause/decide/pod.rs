//! Rules about what became of a backend's pod: killed, crashed, deleted, not ready.
use ingress_trace_common::sample::flag;
use jiff::{SignedDuration, Timestamp};

use super::facts::STARTING;
use super::{Facts, Support, high, high_if, medium};
use crate::cause::evidence::span;
use crate::cause::taxonomy::Outcome;
use crate::cluster::index::{Ended, PodThen};
use crate::cluster::object::{Container, State as Run};
use crate::identity::State;
use crate::identity::words::{deletion_words, end_words, when};

/// Times of ends are whole seconds, cut, by another node's clock.
const SECOND: SignedDuration = SignedDuration::from_secs(1);
/// An end that breaks a connection is told as from this long before it to so long after: what ends
/// may still have to write its core.
const BROKE: [SignedDuration; 2] = [SignedDuration::from_secs(2), SignedDuration::from_secs(3)];
/// How long after a failure the API may show that the pod had been deleted before.
const LAG: SignedDuration = SignedDuration::from_secs(1);
const OOM: &str = "OOMKilled";

/// A container's end that explains a failure.
struct End<'a> {
    pod: &'a PodThen,
    of: &'a Ended,
    /// The pod's deletion had been asked for before: it ended because it was told to.
    told: bool,
}

impl End<'_> {
    fn is_oom(&self) -> bool {
        &*self.of.reason == OOM
    }

    fn evidence(&self, facts: &Facts) -> Vec<String> {
        let mut evidence = facts.shown();
        evidence.push(end_words(&self.pod.pod.name.name, self.of, facts.at));
        evidence
    }
}

pub(super) fn oom_killed(facts: &Facts) -> Support {
    let broke = matches!(facts.reading.outcome, Outcome::Reset | Outcome::ClosedEarly);
    let killed = end(facts).filter(|end| end.is_oom() && (broke || !end.told));
    if let Some(end) = killed {
        return high(end.evidence(facts));
    }
    // A process that is not its container's first is killed without a trace in the API.
    let late = matches!(
        facts.reading.outcome,
        Outcome::ResponseTimeout | Outcome::ResponseStalled
    );
    let inside = facts
        .inside
        .filter(|_| facts.ended() || late && !facts.unacknowledged())?;
    let memory = inside.memory.filter(|memory| memory.killed > 0)?;
    let mut evidence = facts.shown();
    evidence.push(format!(
        "{} processes of pod {} were killed for want of memory within {}",
        memory.killed,
        inside.pod.name,
        span(inside.span)
    ));
    medium(evidence)
}

pub(super) fn crashed(facts: &Facts) -> Support {
    if let Some(end) = end(facts).filter(|end| !end.is_oom() && !end.told) {
        let mut evidence = end.evidence(facts);
        evidence.extend(looping(facts));
        return high(evidence);
    }
    if facts.reading.outcome != Outcome::ConnectRefused {
        return None;
    }
    let mut evidence = facts.shown();
    evidence.push(looping(facts)?);
    high(evidence)
}

/// That a container is held back after too many ends.
fn looping(facts: &Facts) -> Option<String> {
    let pod = facts.pod()?;
    let container = concerned(facts, pod).find(|container| {
        matches!(&container.state, Run::Waiting(reason) if &**reason == "CrashLoopBackOff")
    })?;
    Some(format!(
        "container {} is in CrashLoopBackOff after {} restarts",
        container.name, container.restarts
    ))
}

/// The end of a container because of which a connection was refused, or broke.
fn end<'a>(facts: &Facts<'a>) -> Option<End<'a>> {
    let pod = facts.pod()?;
    let explains: fn(&Facts, &PodThen, &Ended) -> bool = match facts.reading.outcome {
        Outcome::ConnectRefused => down,
        // What lives on, or says good-bye, was not killed.
        Outcome::Reset | Outcome::ClosedEarly if !facts.event().flags.any(flag::STREAM) => broke,
        _ => return None,
    };
    let ends = pod.ended.iter().rev();
    let mut ours = ends.filter(|end| {
        let mut containers = concerned(facts, pod);
        containers.any(|container| container.name == end.container)
    });
    let end = ours.find(|end| explains(facts, pod, end))?;
    let finished = end.finished.unwrap_or(facts.at);
    let told = pod
        .terminating
        .is_some_and(|since| since.at <= shifted(finished, SECOND));
    Some(End { pod, of: end, told })
}

/// Containers that may have answered on the port: where one declares it, only that one.
fn concerned<'a>(facts: &Facts, pod: &'a PodThen) -> impl Iterator<Item = &'a Container> {
    let port = facts.port();
    let has = move |container: &Container| container.ports.iter().any(|(_, one)| *one == port);
    let declared = pod.newest.containers.iter().any(has);
    let containers = pod.newest.containers.iter();
    containers.filter(move |container| !declared || has(container))
}

/// Whether the container had ended before, and was not up again for long.
fn down(facts: &Facts, pod: &PodThen, end: &Ended) -> bool {
    let Some(finished) = end.finished else {
        return false;
    };
    finished <= shifted(facts.at, SECOND)
        && next_start(pod, end, finished).is_none_or(|start| shifted(start, STARTING) >= facts.at)
}

/// When the container was started after an end.
fn next_start(pod: &PodThen, end: &Ended, finished: Timestamp) -> Option<Timestamp> {
    let later = pod
        .ended
        .iter()
        .filter(|other| other.container == end.container);
    let starts = later.filter_map(|other| other.started);
    let running = pod.newest.containers.iter().find_map(|container| {
        let same = container.name == end.container;
        match &container.state {
            Run::Running(start) if same => *start,
            _ => None,
        }
    });
    let next = starts.chain(running).filter(|start| *start >= finished);
    next.filter(|start| end.started != Some(*start)).min()
}

/// Whether a container ended just as the connection did.
fn broke(facts: &Facts, _: &PodThen, end: &Ended) -> bool {
    end.finished.is_some_and(|finished| {
        let from = facts.at.checked_sub(BROKE[0]).unwrap_or(facts.at);
        finished >= from && finished <= shifted(facts.at, BROKE[1])
    })
}

fn shifted(time: Timestamp, by: SignedDuration) -> Timestamp {
    time.checked_add(by).unwrap_or(time)
}

pub(super) fn terminating(facts: &Facts) -> Support {
    let who = facts.who?;
    if !facts.ended() && !facts.unanswered() {
        return None;
    }
    // Pods of a node that is gone are deleted minutes later.
    let alive = facts.ended() || facts.node_ready();
    let mut evidence = facts.shown();
    if let Some((pod, since)) = facts.pod().and_then(|pod| Some((pod, pod.terminating?))) {
        evidence.push(deletion_words(&pod.pod.name.name, since, facts.at));
        return high_if(since.exact && alive, evidence);
    }
    if who.state == Some(State::Terminating) {
        return high_if(alive, evidence);
    }
    // The word of it came a moment too late, and of the pod itself there is none.
    let next = facts.tenancy()?.next.as_ref()?;
    let soon = next.at.at <= shifted(facts.at, LAG);
    let terminating = next.health.is_some_and(|health| health.terminating);
    let gone = next.health.is_none() && facts.pod().is_none();
    if soon && (terminating || gone) {
        return medium(evidence);
    }
    None
}

pub(super) fn not_ready(facts: &Facts) -> Support {
    let connecting = facts.reading.phase == Some(crate::cause::taxonomy::Phase::Connect);
    let late = matches!(
        facts.reading.outcome,
        Outcome::ResponseTimeout | Outcome::ResponseStalled
    );
    if !facts.ended() && !facts.unanswered() && !late {
        return None;
    }
    let name = &facts.who?.pod.as_ref()?.name;
    let refused = facts.reading.outcome == Outcome::ConnectRefused;
    let mut evidence = facts.shown();
    if facts.ready() == Some(false) {
        let since = not_ready_since(facts);
        // What it stopped to be while it was waited for is a consequence.
        if !connecting && since.is_some_and(|since| shifted(since, SECOND) > facts.began()) {
            return None;
        }
        let since = since.map_or(String::new(), |since| {
            format!(", last changed {}", when(since, facts.at))
        });
        evidence.push(format!("pod {name} was not Ready{since}"));
        return high_if(refused, evidence);
    }
    let start = started(facts).filter(|_| refused)?;
    let after = start > facts.at;
    if shifted(start, STARTING) < facts.at {
        return None;
    }
    evidence.push(format!(
        "a container of pod {name} started {}",
        when(start, facts.at)
    ));
    high_if(after, evidence)
}

fn not_ready_since(facts: &Facts) -> Option<Timestamp> {
    let by_pod = facts.pod().filter(|pod| pod.ready == Some(false));
    match by_pod {
        Some(pod) => pod.ready_since,
        None => Some(facts.tenancy()?.since.at),
    }
}

/// When the newest of the containers that are concerned was started.
pub(super) fn started(facts: &Facts) -> Option<Timestamp> {
    let starts = concerned(facts, facts.pod()?).filter_map(|container| match &container.state {
        Run::Running(start) => *start,
        Run::None | Run::Waiting(_) | Run::Terminated { .. } => None,
    });
    starts.max()
}
