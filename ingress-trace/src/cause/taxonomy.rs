//! The fixed vocabulary: outcomes, causes, controllers, and the words they have in JSON, metrics
//! and documents. Data only; what follows from it is decided in `decide.rs`.
use serde::{Deserialize, Serialize};

/// Declares an enum whose variants have one public word each, used everywhere alike.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $word:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        pub enum $name { $($(#[$vdoc])* #[serde(rename = $word)] $variant,)+ }

        impl $name {
            /// All of them, in the order of the contract.
            pub const ALL: &[Self] = &[$(Self::$variant,)+];

            /// The word in JSON, labels and documents.
            pub const fn word(self) -> &'static str {
                match self { $(Self::$variant => $word,)+ }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.word())
            }
        }
    };
}

words! {
    /// What the kernel saw, before any interpretation.
    Outcome {
        /// RST answered our SYN (ECONNREFUSED).
        ConnectRefused = "connect_refused",
        /// SYN unanswered: ETIMEDOUT, or the controller's own timer closed the socket.
        ConnectTimeout = "connect_timeout",
        /// EHOSTUNREACH or ENETUNREACH, from routing or ICMP.
        ConnectUnreachable = "connect_unreachable",
        /// The connect failed before any packet (EADDRNOTAVAIL, EPERM, ...).
        ConnectLocal = "connect_local",
        /// The peer's RST on an established connection.
        Reset = "reset",
        /// The peer's FIN with an exchange open.
        ClosedEarly = "closed_early",
        /// The controller gave up while no response byte had come.
        ResponseTimeout = "response_timeout",
        /// The controller gave up in the middle of a response.
        ResponseStalled = "response_stalled",
        /// The response is not HTTP that the controller accepts.
        BadResponse = "bad_response",
        /// The backend itself answered 502, 503 or 504.
        ErrorStatus = "error_status",
        /// The controller answered an error without any upstream attempt.
        NoUpstream = "no_upstream",
        /// First byte later than the threshold (a warning, never a failure).
        Slow = "slow",
        /// The client went away first (counted apart, never a failure).
        ClientAbort = "client_abort",
    }
}

words! {
    /// Where the exchange was when it failed.
    Phase {
        /// The connection was not established.
        Connect = "connect",
        /// No exchange was open.
        Idle = "idle",
        /// Request sent, no response byte.
        Request = "request",
        /// Response begun.
        Response = "response",
    }
}

words! {
    /// Why it happened.
    Cause {
        /// The Service has no ready endpoint.
        NoEndpoints = "no_endpoints",
        /// The pod runs but is not Ready.
        BackendNotReady = "backend_not_ready",
        /// A container of the pod terminated or restarted.
        BackendCrashed = "backend_crashed",
        /// Delivered, and no response within the controller's read timeout.
        BackendTimeout = "backend_timeout",
        /// The pod was being deleted.
        PodTerminating = "pod_terminating",
        /// The address belongs to no live pod any more.
        StaleEndpoint = "stale_endpoint",
        /// Nothing listens on that port.
        WrongPort = "wrong_port",
        /// A container of the pod was OOM-killed.
        BackendOomKilled = "backend_oom_killed",
        /// Accept queue, CPU or descriptors of the backend are exhausted.
        BackendOverloaded = "backend_overloaded",
        /// No local port left towards this backend (EADDRNOTAVAIL).
        IngressPortsExhausted = "ingress_ports_exhausted",
        /// The controller is at its descriptor or connection limit.
        IngressFdsExhausted = "ingress_fds_exhausted",
        /// The controller's accept queue overflows, or its cgroup is throttled.
        IngressOverloaded = "ingress_overloaded",
        /// A reused idle connection was closed by the backend as the request was being sent.
        KeepaliveRace = "keepalive_race",
        /// RST with an exchange open, unexplained by the cluster: the application aborts.
        BackendReset = "backend_reset",
        /// FIN with an exchange open, likewise.
        PrematureClose = "premature_close",
        /// The response is not HTTP.
        ProtocolError = "protocol_error",
        /// No route, ICMP unreachable, or packets that nothing answers.
        NetworkUnreachable = "network_unreachable",
        /// The backend's node is NotReady.
        NodeNotReady = "node_not_ready",
        /// The application itself answered 502, 503 or 504.
        UpstreamError = "upstream_error",
        /// None of the above is supported by evidence.
        Unknown = "unknown",
    }
}

words! {
    /// The data plane in an ingress pod.
    Controller {
        /// ingress-nginx, F5, OpenResty and relatives.
        Nginx = "nginx",
        /// HAProxy.
        Haproxy = "haproxy",
        /// Envoy and the gateways built on it.
        Envoy = "envoy",
        /// Traefik.
        Traefik = "traefik",
        /// Caddy.
        Caddy = "caddy",
        /// Named by the user, but none of the above.
        Unknown = "unknown",
    }
}

words! {
    /// How sure a verdict is.
    Confidence {
        /// The facts leave no other reading.
        High = "high",
        /// Another reading is possible and less likely.
        Medium = "medium",
        /// The facts only lean this way.
        Low = "low",
    }
}

words! {
    /// Whether the client got to see it.
    Visible {
        /// The client's answer was an error or was cut.
        Yes = "yes",
        /// A retry hid it.
        No = "no",
        /// It could not be told.
        Unknown = "unknown",
    }
}

words! {
    /// Where a finding's status comes from.
    StatusSource {
        /// Read on the client's leg.
        Observed = "observed",
        /// What this controller answers to this outcome.
        Inferred = "inferred",
    }
}

words! {
    /// What the bytes of a leg are.
    Protocol {
        /// HTTP/1.x in plaintext.
        Http1 = "http/1",
        /// TLS: connection-level facts only.
        Tls = "tls",
        /// HTTP/2 in plaintext: connection-level facts only.
        Http2 = "http/2",
        /// Not HTTP, or not read.
        Opaque = "opaque",
    }
}
