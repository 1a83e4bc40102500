//! Rules about the way to a backend: no route, an error on the way, or packets that nothing answers.
use super::{Facts, Support, high, high_if, medium};
use crate::cause::reading::errno;
use crate::cause::taxonomy::Outcome;

pub(super) fn unreachable(facts: &Facts) -> Support {
    let event = facts.event();
    match facts.reading.outcome {
        // This node has no route: nothing about the backend can explain that.
        Outcome::ConnectUnreachable if event.errno == Some(errno::ENETUNREACH) => {
            high(facts.shown())
        }
        // Of a pod that has gone the same is heard: certain only where it is there.
        Outcome::ConnectUnreachable => high_if(well(facts), there(facts)),
        Outcome::ResponseTimeout | Outcome::ResponseStalled if facts.unacknowledged() => {
            high_if(well(facts) && was_open(facts), there(facts))
        }
        Outcome::ConnectTimeout => unanswered(facts),
        Outcome::ConnectRefused => rejected(facts),
        _ => None,
    }
}

/// Whether pod and node are known to be well.
fn well(facts: &Facts) -> bool {
    facts.healthy() && facts.node_ready()
}

/// Whether the backend had taken the connection for sure: of one that is full, its kernel answers the
/// SYN and drops what follows.
fn was_open(facts: &Facts) -> bool {
    let event = facts.event();
    event.acked > 0 || event.reused()
}

/// A full accept queue looks the same from outside: likely at most, unless its own side says no.
fn unanswered(facts: &Facts) -> Support {
    if facts.ready() != Some(true) || !facts.node_ready() {
        return None;
    }
    let listens = facts.inside.is_some_and(|inside| {
        let ports = inside.listening.as_ref();
        inside.overflows == Some(0) && ports.is_some_and(|ports| ports.contains(&facts.port()))
    });
    let mut evidence = there(facts);
    if listens {
        evidence.push(format!(
            "the pod listens on {}, and its accept queues did not overflow",
            facts.port()
        ));
    }
    high_if(listens && well(facts), evidence)
}

/// The port is open inside the pod, and still a RST came: something on the way sent it.
fn rejected(facts: &Facts) -> Support {
    let ports = facts.inside?.listening.as_ref()?;
    if !ports.contains(&facts.port()) || facts.ready() != Some(true) {
        return None;
    }
    let mut evidence = facts.shown();
    evidence.push(format!(
        "the pod listens on {}: a firewall or network policy may have sent the RST",
        facts.port()
    ));
    medium(evidence)
}

/// What was seen, and that pod and node were there.
fn there(facts: &Facts) -> Vec<String> {
    let mut evidence = facts.shown();
    let who = facts.who;
    if let Some(pod) = who.and_then(|who| who.pod.as_ref())
        && facts.ready() == Some(true)
    {
        let node = who.and_then(|who| who.node.as_deref());
        let node = node.filter(|_| facts.node_ready());
        let node = node.map_or(String::new(), |node| format!(", and so was node {node}"));
        evidence.push(format!("pod {} was Ready{node}", pod.name));
    }
    evidence
}
