//! In: a word of the taxonomy. Out: what it means to a person, in one sentence, and its number in
//! the guide; `docs/causes.md` is written from here. Decides nothing.
use super::taxonomy::{Cause, Outcome};

/// The guide's causes by number, starting with 1.
pub const GUIDE: [&str; 6] = [
    "Backend pods are not ready or not running",
    "Backend response timeout",
    "Pod is terminating but still receiving traffic",
    "Incorrect backend port configuration",
    "Resource exhaustion on backend pods",
    "Ingress controller resource limits",
];

impl Cause {
    /// What it means, in one sentence.
    pub const fn meaning(self) -> &'static str {
        match self {
            Self::NoEndpoints => "The Service behind the route had no ready endpoint.",
            Self::BackendNotReady => {
                "The pod was running but not Ready, or its container had only just started."
            }
            Self::BackendCrashed => {
                "A container of the pod terminated or restarted at that time, or is in \
                 CrashLoopBackOff."
            }
            Self::BackendTimeout => {
                "The request was delivered, and no response came within the controller's read \
                 timeout."
            }
            Self::PodTerminating => {
                "The pod was being deleted, or its endpoint was terminating, and still got traffic."
            }
            Self::StaleEndpoint => {
                "The address belongs to no live pod any more: the controller's configuration is \
                 behind."
            }
            Self::WrongPort => "Nothing in the Ready pod listens on the port that was addressed.",
            Self::BackendOomKilled => {
                "A container of the pod was killed at that time because it was out of memory."
            }
            Self::BackendOverloaded => {
                "The backend was Ready but out of accept queue, CPU or file descriptors."
            }
            Self::IngressPortsExhausted => {
                "The ingress pod had no local port left for a connection to this backend."
            }
            Self::IngressFdsExhausted => {
                "The controller was at its limit of file descriptors or connections."
            }
            Self::IngressOverloaded => {
                "The controller's own accept queue overflowed, or its cgroup was throttled or at \
                 its memory limit."
            }
            Self::KeepaliveRace => {
                "A reused idle connection was closed by the backend just as the request was sent \
                 on it."
            }
            Self::BackendReset => {
                "The backend reset the connection with an exchange open, and nothing else explains \
                 it: the application aborts."
            }
            Self::PrematureClose => {
                "The backend closed the connection before its response was complete, and nothing \
                 else explains it."
            }
            Self::ProtocolError => {
                "The response is not HTTP: TLS on a plaintext port, another protocol, or garbage."
            }
            Self::NetworkUnreachable => {
                "The backend could not be reached: no route, an ICMP error, or packets that \
                 nothing answered."
            }
            Self::NodeNotReady => "The node of the backend was NotReady.",
            Self::UpstreamError => "The application itself answered 502, 503 or 504.",
            Self::Unknown => "No cause is supported by the evidence.",
        }
    }

    /// Number of the guide's cause that this one refines.
    pub const fn guide(self) -> Option<u8> {
        match self {
            Self::NoEndpoints | Self::BackendNotReady | Self::BackendCrashed => Some(1),
            Self::BackendTimeout => Some(2),
            Self::PodTerminating | Self::StaleEndpoint => Some(3),
            Self::WrongPort => Some(4),
            Self::BackendOomKilled | Self::BackendOverloaded => Some(5),
            Self::IngressPortsExhausted | Self::IngressFdsExhausted | Self::IngressOverloaded => {
                Some(6)
            }
            Self::KeepaliveRace
            | Self::BackendReset
            | Self::PrematureClose
            | Self::ProtocolError
            | Self::NetworkUnreachable
            | Self::NodeNotReady
            | Self::UpstreamError
            | Self::Unknown => None,
        }
    }
}

impl Outcome {
    /// What the kernel saw, in one sentence.
    pub const fn meaning(self) -> &'static str {
        match self {
            Self::ConnectRefused => "A RST answered the SYN (`ECONNREFUSED`).",
            Self::ConnectTimeout => {
                "The SYN stayed unanswered until the kernel (`ETIMEDOUT`) or the controller's own \
                 timer (no errno) gave up."
            }
            Self::ConnectUnreachable => {
                "Routing or ICMP said that there is no way (`EHOSTUNREACH`, `ENETUNREACH`)."
            }
            Self::ConnectLocal => {
                "The connect failed inside the ingress pod before any packet (`EADDRNOTAVAIL`, \
                 `EPERM`, ...)."
            }
            Self::Reset => "The backend sent a RST on an established connection.",
            Self::ClosedEarly => "The backend sent a FIN with an exchange open.",
            Self::ResponseTimeout => "The controller gave up before any response byte came.",
            Self::ResponseStalled => "The controller gave up in the middle of a response.",
            Self::BadResponse => "The first response bytes are not HTTP.",
            Self::ErrorStatus => "The backend itself answered 502, 503 or 504.",
            Self::NoUpstream => "The controller answered an error without any upstream attempt.",
            Self::Slow => {
                "The first byte came later than the threshold (a warning, never a failure)."
            }
            Self::ClientAbort => "The client went away first (counted apart, never a failure).",
        }
    }

    /// Whether it is a failure of the upstream; the others are shown and never counted as one.
    pub const fn is_failure(self) -> bool {
        match self {
            Self::Slow | Self::ClientAbort => false,
            Self::ConnectRefused
            | Self::ConnectTimeout
            | Self::ConnectUnreachable
            | Self::ConnectLocal
            | Self::Reset
            | Self::ClosedEarly
            | Self::ResponseTimeout
            | Self::ResponseStalled
            | Self::BadResponse
            | Self::ErrorStatus
            | Self::NoUpstream => true,
        }
    }
}

/// The text of `docs/causes.md`.
pub fn document() -> String {
    let mut text = String::from(
        "<!-- Written by a test from ingress-trace/src/cause/meaning.rs; change it there and run \
         `UPDATE_EXPECT=1 cargo test`. -->\n# Causes and outcomes\n\nA *cause* says why an \
         exchange failed. One is named only when evidence supports it; otherwise it is \
         `unknown`. The number points to the cause of the 502/503/504 guide that it refines.\n\n\
         | cause | guide | meaning |\n|---|---|---|\n",
    );
    text.extend(Cause::ALL.iter().map(|cause| {
        let guide = cause
            .guide()
            .map_or_else(|| "-".into(), |number| number.to_string());
        format!("| `{cause}` | {guide} | {} |\n", cause.meaning())
    }));
    text += "\n## The guide\n\n";
    text.extend(
        (1..)
            .zip(GUIDE)
            .map(|(number, title)| format!("{number}. {title}\n")),
    );
    text += "\n## Outcomes\n\nAn *outcome* is what the kernel saw, before any interpretation; it \
             does not depend on the controller.\n\n| outcome | a failure | meaning |\n|---|---|---|\n";
    text.extend(Outcome::ALL.iter().map(|outcome| {
        let failure = if outcome.is_failure() { "yes" } else { "no" };
        format!("| `{outcome}` | {failure} | {} |\n", outcome.meaning())
    }));
    text
}

#[cfg(test)]
mod tests {
    use expect_test::expect_file;

    use super::*;

    #[test]
    fn the_document_of_causes_is_up_to_date() {
        expect_file!["../../../docs/causes.md"].assert_eq(&document());
    }

    #[test]
    fn every_meaning_is_one_sentence_that_fits_into_a_table() {
        let causes = Cause::ALL.iter().map(|cause| cause.meaning());
        for meaning in causes.chain(Outcome::ALL.iter().map(|outcome| outcome.meaning())) {
            assert!(
                meaning.ends_with(['.', ')']) && !meaning.contains(['|', '\n']),
                "{meaning}"
            );
        }
    }

    #[test]
    fn every_cause_of_the_guide_has_one_of_ours() {
        for number in (1..).take(GUIDE.len()) {
            assert!(Cause::ALL.iter().any(|cause| cause.guide() == Some(number)));
        }
    }
}
