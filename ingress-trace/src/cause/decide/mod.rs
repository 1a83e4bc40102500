//! In: a flow, how it reads, and what is known of its controller, its backend and the cluster around it.
//! Out: its cause with the evidence for it. One ordered table; the first rule that the facts support
//! wins. Pure.
mod application;
mod backend;
mod cluster;
mod facts;
mod ingress;
mod network;
mod pod;
mod protocol;
mod seen;

use super::taxonomy::{Cause, Confidence};

pub use self::facts::Facts;
pub use self::ingress::exhausted;

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

/// Support for a rule's cause: how sure, and by what.
type Support = Option<(Confidence, Vec<String>)>;

struct Rule {
    cause: Cause,
    supports: fn(&Facts) -> Support,
}

const fn rule(cause: Cause, supports: fn(&Facts) -> Support) -> Rule {
    Rule { cause, supports }
}

/// The decision table.
const RULES: &[Rule] = &[
    // No packet left the ingress pod: nothing behind it can be the cause.
    rule(Cause::IngressPortsExhausted, ingress::no_port),
    // Without an endpoint every request fails, whatever else the controller is short of.
    rule(Cause::NoEndpoints, cluster::no_endpoints),
    rule(Cause::IngressFdsExhausted, ingress::no_descriptor),
    // Who answers at another's address says nothing about the backend: before all that is read off bytes.
    rule(Cause::StaleEndpoint, cluster::stale_endpoint),
    // What the bytes say by themselves: the backend was there and spoke.
    rule(Cause::ProtocolError, protocol::not_http),
    rule(Cause::UpstreamError, application::own_error),
    // Before what is said of backends: what has come and was not read is not theirs.
    rule(Cause::IngressOverloaded, ingress::overloaded),
    // A dead node takes all its pods along; minutes later they are terminating for that reason only.
    rule(Cause::NodeNotReady, cluster::node_not_ready),
    // The kernel's word on an end goes before the exit code that it left.
    rule(Cause::BackendOomKilled, pod::oom_killed),
    // What had ended before anybody asked for it was down already when the pod began to terminate;
    // what ended because it was told to (SIGTERM) is no crash: those rules leave it to the next.
    rule(Cause::BackendCrashed, pod::crashed),
    // A pod that goes is not Ready either, and closes its connections: both follow from this.
    rule(Cause::PodTerminating, pod::terminating),
    rule(Cause::BackendNotReady, pod::not_ready),
    // Of a pod that is Ready: what its own side says, before what only the packets say.
    rule(Cause::WrongPort, backend::wrong_port),
    rule(Cause::BackendOverloaded, backend::overloaded),
    rule(Cause::NetworkUnreachable, network::unreachable),
    // A race is told from an abort by what the backend's kernel had acknowledged.
    rule(Cause::KeepaliveRace, application::race),
    rule(Cause::BackendTimeout, application::too_late),
    // Nothing else explains it: the application did it.
    rule(Cause::BackendReset, application::reset),
    rule(Cause::PrematureClose, application::closed),
];

// Each cause but `unknown` has its row.
const _: () = assert!(RULES.len() + 1 == Cause::ALL.len());

/// Decides; [`Cause::Unknown`] with what was seen, and what is missing, when no rule is supported.
pub fn decide(facts: &Facts) -> Verdict {
    let supported = RULES.iter().find_map(|rule| {
        let (confidence, evidence) = (rule.supports)(facts)?;
        Some(Verdict {
            cause: rule.cause,
            confidence,
            evidence,
        })
    });
    let mut verdict = supported.unwrap_or_else(|| Verdict {
        cause: Cause::Unknown,
        confidence: Confidence::Low,
        evidence: seen::seen(facts),
    });
    verdict.confidence = verdict.confidence.max(facts.most(verdict.cause));
    let mut strain = ingress::strain(facts);
    strain.retain(|line| !verdict.evidence.contains(line));
    verdict.evidence.extend(strain);
    verdict.evidence.extend(backend::beside(facts));
    verdict
}

impl Verdict {
    /// Whether nothing that the cluster may still tell could change it: the rules above it look at
    /// what is known already.
    pub fn stands(&self) -> bool {
        let certain = self.confidence == Confidence::High;
        match self.cause {
            Cause::IngressPortsExhausted
            | Cause::NoEndpoints
            | Cause::IngressFdsExhausted
            | Cause::StaleEndpoint
            | Cause::ProtocolError
            | Cause::UpstreamError
            | Cause::BackendOomKilled
            | Cause::BackendCrashed => certain,
            // Of those that follow, a container's end may come that explains more.
            Cause::IngressOverloaded
            | Cause::NodeNotReady
            | Cause::PodTerminating
            | Cause::BackendNotReady
            | Cause::WrongPort
            | Cause::BackendOverloaded
            | Cause::NetworkUnreachable
            | Cause::KeepaliveRace
            | Cause::BackendTimeout
            | Cause::BackendReset
            | Cause::PrematureClose
            | Cause::Unknown => false,
        }
    }
}

#[expect(clippy::unnecessary_wraps, reason = "what a rule returns")]
fn high(evidence: Vec<String>) -> Support {
    Some((Confidence::High, evidence))
}

#[expect(clippy::unnecessary_wraps, reason = "what a rule returns")]
fn medium(evidence: Vec<String>) -> Support {
    Some((Confidence::Medium, evidence))
}

/// Certain where a condition holds, else likely.
fn high_if(certain: bool, evidence: Vec<String>) -> Support {
    if certain {
        high(evidence)
    } else {
        medium(evidence)
    }
}

#[cfg(test)]
mod cluster_tests;
#[cfg(test)]
mod strain_tests;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod truth_tests;
#[cfg(test)]
mod world;
