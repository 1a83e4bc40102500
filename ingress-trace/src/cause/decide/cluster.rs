//! Rules about the cluster around a backend: Services without endpoints, addresses that nobody has any
//! more, nodes that are down.
use super::{Facts, Support, high, high_if, medium};
use crate::cause::taxonomy::Outcome;
use crate::cluster::index::owned::Owned;
use crate::cluster::index::{ServiceThen, Standing};
use crate::identity::words::node_words;
use crate::identity::{Identity, State};

/// What a controller answers where nothing is behind a route; 500 is no such answer.
const ANSWERS: [u16; 3] = [502, 503, 504];

pub(super) fn no_endpoints(facts: &Facts) -> Support {
    let who = facts.who?;
    let then = who.then.as_ref().filter(|then| empty(then))?;
    let event = facts.event();
    match facts.reading.outcome {
        Outcome::NoUpstream => {
            let status = event.status.filter(|status| ANSWERS.contains(status))?;
            let routed = who.route.as_ref().is_some_and(|route| route.certain);
            let evidence = vec![format!(
                "the controller answered {status} without an upstream attempt"
            )];
            routed
                .then_some(())
                .and_then(|()| high_if(is_known(then), evidence))
        }
        // kube-proxy rejects what is sent to a Service's own address that nothing stands behind;
        // others drop it.
        Outcome::ConnectRefused | Outcome::ConnectUnreachable if at_front(who) => {
            high(facts.shown())
        }
        Outcome::ConnectTimeout if at_front(who) => medium(facts.shown()),
        _ => None,
    }
}

/// Whether a Service has no ready endpoint; one that stands for a name outside has none ever.
fn empty(then: &ServiceThen) -> bool {
    then.numbers.ready == 0 && !(then.exists() && then.external_name().is_some())
}

/// A Service that was heard of only afterwards may have had endpoints that were not heard of either.
fn is_known(then: &ServiceThen) -> bool {
    !matches!(then.standing, Some(Standing::Later(_)))
}

fn at_front(who: &Identity) -> bool {
    matches!(&who.owned, Some(Owned::Front(front)) if front.port.is_some())
}

pub(super) fn stale_endpoint(facts: &Facts) -> Support {
    let who = facts.who.filter(|_| facts.addressed())?;
    let state = who.state?;
    // A pod that still is there left the endpoints for another reason.
    let there = facts
        .pod()
        .is_some_and(|pod| pod.standing == Standing::Held);
    match state {
        // Whatever came from there came from another pod.
        State::Moved => high(facts.shown()),
        State::Gone if there => None,
        State::Gone if facts.ended() || facts.unanswered() => {
            // Where nothing says that the pod is gone, only its endpoint is.
            high_if(facts.pod().is_some() || is_pod(who), facts.shown())
        }
        State::Gone | State::Ready | State::NotReady | State::Terminating | State::Later => None,
    }
}

fn is_pod(who: &Identity) -> bool {
    matches!(&who.owned, Some(Owned::Pod { .. }))
}

pub(super) fn node_not_ready(facts: &Facts) -> Support {
    if !facts.unanswered() {
        return None;
    }
    let who = facts.who?;
    let host = who.host.as_ref().filter(|host| !host.ready)?;
    let mut evidence = facts.shown();
    let name = who.node.as_deref().unwrap_or_default();
    evidence.push(node_words(name, host, facts.at));
    high_if(!host.after, evidence)
}
