//! What is told where no rule is supported: what was seen, and what is missing for a verdict.
use super::Facts;
use crate::cause::evidence::{errno_name, span};
use crate::cause::reading::age;
use crate::cause::taxonomy::Outcome;
use crate::cluster::index::owned::Owned;

/// What was seen, where it does not tell the cause.
pub(super) fn seen(facts: &Facts) -> Vec<String> {
    let event = facts.event();
    let mut seen = match facts.reading.outcome {
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
            "the controller cut the client off {} after the newest response byte",
            span(age(event))
        )],
        Outcome::ConnectRefused
        | Outcome::ConnectTimeout
        | Outcome::ConnectUnreachable
        | Outcome::Reset
        | Outcome::ClosedEarly => facts.shown(),
        Outcome::ResponseTimeout
        | Outcome::BadResponse
        | Outcome::ErrorStatus
        | Outcome::Slow
        | Outcome::ClientAbort => vec![facts.reading.outcome.to_string()],
    };
    seen.extend(missing(facts));
    seen
}

/// What would have to be known.
fn missing(facts: &Facts) -> Option<String> {
    let connecting = matches!(
        facts.reading.outcome,
        Outcome::ConnectRefused | Outcome::ConnectTimeout
    );
    let Some(who) = facts.who else {
        let needed = "the cluster's state is needed to tell the cause";
        return connecting.then(|| needed.to_owned());
    };
    if facts.reading.outcome == Outcome::NoUpstream {
        return match (&who.route, facts.flow.request()) {
            (Some(_), _) => None,
            (None, Some(_)) => Some("no route is known that the request takes".to_owned()),
            (None, None) => Some("what was asked for could not be read".to_owned()),
        };
    }
    if !connecting {
        return None;
    }
    let ip = facts.event().remote.ip();
    if who.owned == Some(Owned::Outside) {
        return Some(format!(
            "{ip} belongs to nothing that is known of the cluster"
        ));
    }
    let Some(pod) = &who.pod else {
        return Some(format!("no pod is known to have {ip}"));
    };
    if facts.pod().is_none() {
        return Some(format!("the details of pod {} are not known", pod.name));
    }
    (facts.inside.is_none()).then(|| {
        let name = &pod.name;
        format!("what pod {name} itself does cannot be seen from this node")
    })
}
