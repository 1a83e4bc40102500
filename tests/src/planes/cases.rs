//! What can go wrong behind a data plane, and the kernel's facts of it, which no data plane changes.
//! Data only: what clients get of it differs, and is measured.
use super::client::Client;
use super::{NONE, Plane, Way};
use crate::backends::Behavior as B;
use crate::nginx::{Fault, PATIENT};

const BOTH: &[Way] = &[Way::Single, Way::Retry];
const SINGLE: &[Way] = &[Way::Single];
const POOLED: &[Way] = &[Way::Pooled];

/// What the client does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// GET.
    Get,
    /// GET, then this method on the connection that the backend has closed.
    Race(&'static str),
    /// GET, and away before the answer.
    Leave,
}

/// A fault and the kernel's facts of it, which no data plane changes.
pub struct Case {
    /// What went wrong, in words.
    pub what: &'static str,
    /// First path segment.
    pub word: &'static str,
    /// What follows the path.
    pub query: &'static str,
    /// The endpoint's port.
    pub port: u16,
    /// The outcome, by the contract.
    pub outcome: &'static str,
    /// Where the exchange was.
    pub phase: Option<&'static str>,
    /// How the endpoints may be balanced.
    pub ways: &'static [Way],
    /// What the client does.
    pub act: Act,
}

impl Case {
    fn get(
        what: &'static str,
        (word, port): (&'static str, u16),
        (outcome, phase): (&'static str, &'static str),
    ) -> Self {
        Self {
            what,
            word,
            query: "",
            port,
            outcome,
            phase: Some(phase),
            ways: BOTH,
            act: Act::Get,
        }
    }

    fn fault(what: &'static str, fault: Fault, outcome: &'static str) -> Self {
        Self::get(what, (fault.word(), fault.port()), (outcome, "connect"))
    }

    fn behavior(what: &'static str, one: B, facts: (&'static str, &'static str)) -> Self {
        Self::get(what, (one.word(), one.port()), facts)
    }

    fn only(mut self, ways: &'static [Way], query: &'static str) -> Self {
        (self.ways, self.query) = (ways, query);
        self
    }

    fn doing(mut self, act: Act) -> Self {
        self.act = act;
        self
    }

    /// Whether the body was cut: the client lost something even if its protocol hides that.
    pub fn cut(&self) -> bool {
        matches!(
            self.word,
            "reset-body" | "fin-body" | "fin-chunked" | "stall"
        )
    }

    /// Traefik and Caddy wait forever for the rest of a body.
    pub fn possible(&self, plane: Plane) -> bool {
        self.word != "stall" || !plane.alternates()
    }

    /// Whether there is something to find: no answer of a controller is read under TLS, and a
    /// client that leaves is no failure; what is slow is counted.
    pub fn told(&self, client: Client) -> bool {
        match self.outcome {
            "no_upstream" => client == Client::Plain,
            "client_abort" | "slow" => false,
            _ => true,
        }
    }
}

/// All of them.
pub fn cases() -> Vec<Case> {
    let refused = Case::fault("refused", Fault::Refused, "connect_refused");
    let none = Case {
        what: "no endpoints",
        word: NONE,
        outcome: "no_upstream",
        phase: None,
        ways: SINGLE,
        ..Case::fault("", Fault::Refused, "")
    };
    let own = ("error_status", "response");
    let slow = Case {
        word: PATIENT,
        ..Case::behavior("slow first byte", B::Ok, ("slow", "response"))
    };
    let race = ("reset", "request");
    let left = ("client_abort", "request");
    vec![
        refused,
        Case::fault("SYN dropped", Fault::Dropped, "connect_timeout"),
        Case::fault(
            "ICMP host unreachable",
            Fault::Rejected,
            "connect_unreachable",
        ),
        Case::fault("no neighbor", Fault::Nobody, "connect_unreachable"),
        Case::fault("no route", Fault::NoRoute, "connect_unreachable"),
        Case::behavior("RST, request read", B::ResetRequest, ("reset", "request")),
        Case::behavior("RST, request unread", B::ResetUnread, ("reset", "request")),
        Case::behavior(
            "FIN, request read",
            B::FinRequest,
            ("closed_early", "request"),
        ),
        Case::behavior("RST inside the head", B::ResetHead, ("reset", "response")),
        Case::behavior(
            "FIN inside the head",
            B::FinHead,
            ("closed_early", "response"),
        ),
        Case::behavior("RST inside the body", B::ResetBody, ("reset", "response")),
        Case::behavior(
            "FIN inside the body",
            B::FinBody,
            ("closed_early", "response"),
        ),
        Case::behavior(
            "FIN inside a chunked body",
            B::FinChunked,
            ("closed_early", "response"),
        ),
        Case::behavior("no answer", B::Hang, ("response_timeout", "request")),
        Case::behavior(
            "no end of the body",
            B::Stall,
            ("response_stalled", "response"),
        ),
        Case::behavior("not HTTP", B::Garbage, ("bad_response", "response")),
        Case::behavior("TLS alert", B::TlsAlert, ("bad_response", "response")),
        Case::behavior("the backend's 502", B::Ok, own).only(SINGLE, "?status=502"),
        Case::behavior("the backend's 503", B::Ok, own).only(SINGLE, "?status=503"),
        Case::behavior("the backend's 504", B::Ok, own).only(SINGLE, "?status=504"),
        slow.only(SINGLE, "?ms=1100"),
        Case::behavior("kept connection closed, GET", B::Race, race)
            .only(POOLED, "")
            .doing(Act::Race("GET")),
        Case::behavior("kept connection closed, POST", B::Race, race)
            .only(POOLED, "")
            .doing(Act::Race("POST")),
        Case::behavior("client leaves first", B::Ok, left)
            .only(SINGLE, "?ms=400")
            .doing(Act::Leave),
        none,
    ]
}
