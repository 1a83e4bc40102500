//! In: a word of the taxonomy. Out: what it means to a person, in one sentence, its number in the guide,
//! what to look for and what to do, in short. Decides nothing.
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

    /// What to do about it, in a few words; none where nothing is known to help.
    pub const fn advice(self) -> Option<&'static str> {
        Some(match self {
            Self::NoEndpoints => "have a Ready pod behind the Service",
            Self::BackendNotReady => "add or mend the readiness probe",
            Self::BackendCrashed => "read the container's previous logs",
            Self::BackendTimeout => "make it faster, or the controller more patient",
            Self::PodTerminating => "add a preStop sleep, or a longer one",
            Self::StaleEndpoint => "restart the controller, add a preStop sleep",
            Self::WrongPort => "mend the Service's targetPort",
            Self::BackendOomKilled => "raise the memory limit",
            Self::BackendOverloaded => "more replicas, or larger limits",
            Self::IngressPortsExhausted => "keep connections open, widen the port range",
            Self::IngressFdsExhausted => "more connections per worker, more replicas",
            Self::IngressOverloaded => "more replicas, or larger limits, for the controller",
            Self::KeepaliveRace => "longer keepalive in the backend than in the controller",
            Self::BackendReset | Self::PrematureClose => "read the application's logs",
            Self::ProtocolError => "make both speak the same protocol",
            Self::NetworkUnreachable => "look at network policies and routes",
            Self::NodeNotReady => "look at the node",
            Self::UpstreamError => "read the application's logs: it answered so",
            Self::Unknown => return None,
        })
    }

    /// What speaks for it.
    pub const fn look_for(self) -> &'static [&'static str] {
        match self {
            Self::NoEndpoints => &[
                "the controller answers by itself, without an upstream attempt",
                "the Service of the request's route has no ready endpoint at that time",
                "or: the Service's own address rejects connections",
            ],
            Self::BackendNotReady => &[
                "the pod's condition Ready is False, or its endpoint is not ready, since before",
                "or: a container started less than 10 s before the connect was refused",
            ],
            Self::BackendCrashed => &[
                "a container ended before the connect was refused, or just as the connection broke",
                "or: it is in CrashLoopBackOff",
                "no deletion of the pod had been asked for before",
            ],
            Self::BackendTimeout => &[
                "the request was acknowledged, and no byte came until the controller's timer",
                "the pod is Ready",
            ],
            Self::PodTerminating => &[
                "the pod's deletion was asked for before, or its endpoint was terminating",
                "the connect was refused or not answered, or the connection ended",
            ],
            Self::StaleEndpoint => {
                &["the address had been an endpoint's, and belonged to nobody, or to another pod"]
            }
            Self::WrongPort => &[
                "the connect was refused by a pod that is Ready and has run for long",
                "the pod listens on other ports, or the port is none of its endpoints'",
                "or: no container declares it, or it never accepted while it was watched",
            ],
            Self::BackendOomKilled => &[
                "a container ended with OOMKilled before the connect was refused, or as the \
                 connection broke",
                "or: its cgroup counts a process that was killed for want of memory",
            ],
            Self::BackendOverloaded => &[
                "accept queues of the pod overflowed while SYNs stayed unanswered",
                "or: its CPU quota held it back for half of the wait, or others had the CPUs \
                 (pressure), or it was out of descriptors",
            ],
            Self::IngressPortsExhausted => &[
                "connect() failed with EADDRNOTAVAIL",
                "local ports in use towards the backend, against the range",
            ],
            Self::IngressFdsExhausted => &[
                "the controller answered by itself while a process had no descriptor, or a worker \
                 no connection left",
            ],
            Self::IngressOverloaded => &[
                "the controller let the request wait and answered it by itself, or let lie what had \
                 come, while its CPU quota held it back for half of the time or its processes were \
                 killed for memory",
            ],
            Self::KeepaliveRace => &[
                "the connection had been used before and was idle",
                "the backend's FIN came before the request was sent, or nothing of it was \
                 acknowledged",
                "the pod is well",
            ],
            Self::BackendReset => &[
                "a RST came with an exchange open",
                "nothing of pod, node and network explains it",
            ],
            Self::PrematureClose => &[
                "a FIN came before the response was complete",
                "nothing of pod, node and network explains it",
            ],
            Self::ProtocolError => &[
                "the first bytes are no HTTP response",
                "or: the controller refused a response that had come, or a TLS handshake failed",
            ],
            Self::NetworkUnreachable => &[
                "no route, or an ICMP error",
                "or: SYNs or data stayed unanswered while pod and node were Ready",
                "or: a RST came although the pod listens on the port",
            ],
            Self::NodeNotReady => &[
                "SYNs or data stayed unanswered",
                "the node's condition Ready is not True",
            ],
            Self::UpstreamError => &["the response with that status came from the backend"],
            Self::Unknown => &["what was seen, and what is missing for a verdict"],
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

#[cfg(test)]
mod tests {
    use super::*;

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
