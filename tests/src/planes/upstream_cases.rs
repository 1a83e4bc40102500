//! What can go wrong behind TLS and HTTP/2, and what is to be told of it. Data only.
use super::Plane;
use super::client::Client;
use super::upstreams::{Route, Speaks};
use crate::h2_backend::H2;
use crate::nginx::Fault;
use crate::secure::Secure;

/// What goes wrong, and what is to be said of it.
pub struct Case {
    /// In words.
    pub what: &'static str,
    /// Where it is asked for.
    pub route: Route,
    /// By the contract; one of these.
    pub outcome: &'static str,
    /// Where; `None`: it depends on how far the bytes tell.
    pub phase: Option<&'static str>,
    /// By the contract; one of these.
    pub cause: &'static str,
    /// Words of the evidence.
    pub evidence: &'static str,
    /// Who must be told of: where neither leg can be read, bytes may not tell.
    pub clients: &'static [Client],
}

impl Case {
    /// HAProxy answers for an HTTP/2 connect that timed out, and goes on connecting until its other
    /// timer ends that: its answer seems to have had no upstream. See the known limits.
    pub fn known(&self, plane: Plane) -> bool {
        plane != Plane::Haproxy || self.route.word != "h-dropped"
    }
}

/// Every client.
pub const ALL: &[Client] = &Client::ALL;
const READ: &[Client] = &[Client::Plain];

/// A route to one of these.
pub fn https(one: Secure) -> Route {
    Route::new(
        format!("s-{one:?}").to_lowercase(),
        one.endpoint(),
        Speaks::Https,
    )
}

/// A route to one of these.
pub fn http2(one: H2) -> Route {
    let speaks = if one.encrypted() {
        Speaks::H2
    } else {
        Speaks::H2c
    };
    Route::new(format!("h-{one:?}").to_lowercase(), one.endpoint(), speaks)
}

type Facts = (
    &'static str,
    Option<&'static str>,
    &'static str,
    &'static str,
);

const REFUSED: Facts = ("connect_refused", Some("connect"), "unknown", "RST");
const DROPPED: Facts = ("connect_timeout", Some("connect"), "unknown", "SYN");
const RESET: Facts = ("reset", Some("request"), "backend_reset", "RST");
const CLOSED: Facts = ("closed_early", Some("request"), "premature_close", "FIN");
/// Where a controller says of it what a backend may say itself.
const UNSURE: Facts = (
    "closed_early",
    Some("request"),
    "premature_close|unknown",
    "FIN",
);
const TIMEOUT: Facts = (
    "response_timeout",
    Some("request"),
    "backend_timeout",
    "gave up",
);
const HELLO_RESET: Facts = ("reset", Some("request"), "backend_reset", "ClientHello");
const HELLO_CLOSED: Facts = (
    "closed_early",
    Some("request"),
    "premature_close",
    "ClientHello",
);
const HELLO_TIMEOUT: Facts = (
    "response_timeout",
    Some("request"),
    "backend_timeout",
    "handshake",
);
const ALERT: Facts = (
    "bad_response",
    Some("response"),
    "protocol_error",
    "refused the TLS handshake: alert",
);
const NOT_TLS: Facts = (
    "bad_response",
    Some("response"),
    "protocol_error",
    "HTTP in plaintext",
);
const IS_TLS: Facts = (
    "bad_response",
    Some("response"),
    "protocol_error",
    "speaks TLS",
);
const HTTP1: Facts = (
    "bad_response",
    Some("response"),
    "protocol_error",
    "with HTTP/1",
);
const STREAM: Facts = ("reset", Some("request"), "backend_reset", "RST_STREAM");
/// What the request meets depends on who is faster.
const ENDED: Facts = (
    "closed_early|reset",
    None,
    "premature_close|backend_reset",
    "",
);
const CUT_RESET: Facts = ("reset", Some("response"), "backend_reset", "RST");
const CUT_STREAM: Facts = ("reset", Some("response"), "backend_reset", "RST_STREAM");
const CUT_CLOSED: Facts = ("closed_early", Some("response"), "premature_close", "FIN");
const GOAWAY: Facts = ("closed_early", Some("request"), "premature_close", "GOAWAY");

type Row = (&'static str, Route, Facts, &'static [Client]);

/// Endpoints that cannot be connected to, by the first segments of their paths.
fn unreachable([refused, dropped]: [&str; 2], speaks: Speaks) -> Vec<Row> {
    let to = |word, fault| Route::fault(word, fault, speaks);
    vec![
        ("refused", to(refused, Fault::Refused), REFUSED, ALL),
        ("SYN dropped", to(dropped, Fault::Dropped), DROPPED, ALL),
    ]
}

fn https_rows() -> Vec<Row> {
    vec![
        (
            "RST to the ClientHello",
            https(Secure::HelloReset),
            HELLO_RESET,
            ALL,
        ),
        (
            "FIN to the ClientHello",
            https(Secure::HelloFin),
            HELLO_CLOSED,
            ALL,
        ),
        (
            "no answer to the ClientHello",
            https(Secure::HelloSilent),
            HELLO_TIMEOUT,
            ALL,
        ),
        (
            "alert: no certificate for the name",
            https(Secure::Refuse),
            ALERT,
            ALL,
        ),
        (
            "alert: wants the client's certificate, TLS 1.2",
            https(Secure::MutualOld),
            ALERT,
            ALL,
        ),
        ("the same, TLS 1.3", https(Secure::Mutual), ENDED, READ),
        (
            "speaks plaintext, answers 400",
            https(Secure::Plain),
            NOT_TLS,
            ALL,
        ),
        (
            "speaks plaintext, closes",
            https(Secure::PlainMute),
            HELLO_CLOSED,
            ALL,
        ),
        ("RST, request read", https(Secure::Reset), RESET, ALL),
        ("FIN, request read", https(Secure::Fin), CLOSED, ALL),
        (
            "`close_notify` and FIN, request read",
            https(Secure::Notify),
            ENDED,
            ALL,
        ),
        (
            "FIN behind session tickets",
            https(Secure::FinTickets),
            UNSURE,
            READ,
        ),
        ("no answer", https(Secure::Silent), TIMEOUT, ALL),
        (
            "no answer but session tickets",
            https(Secure::SilentTickets),
            TIMEOUT,
            READ,
        ),
        (
            "RST inside the body",
            https(Secure::ResetBody),
            CUT_RESET,
            READ,
        ),
        (
            "FIN inside the body",
            https(Secure::FinBody),
            CUT_CLOSED,
            READ,
        ),
        (
            "asked in plaintext, speaks TLS",
            Route::new("tls-in-plaintext", Secure::Ok.endpoint(), Speaks::Http),
            IS_TLS,
            ALL,
        ),
    ]
}

fn http2_rows() -> Vec<Row> {
    vec![
        ("RST, request read", http2(H2::Reset), RESET, ALL),
        ("FIN, request read", http2(H2::Fin), CLOSED, ALL),
        (
            "GOAWAY with an error, then FIN",
            http2(H2::Refuse),
            GOAWAY,
            ALL,
        ),
        ("RST_STREAM", http2(H2::ResetStream), STREAM, ALL),
        ("no answer", http2(H2::Silent), TIMEOUT, ALL),
        (
            "RST_STREAM inside the body",
            http2(H2::CutStream),
            CUT_STREAM,
            READ,
        ),
        ("RST inside the body", http2(H2::ResetBody), CUT_RESET, READ),
        ("FIN inside the body", http2(H2::FinBody), CUT_CLOSED, READ),
        ("speaks HTTP/1.1", http2(H2::Old), HTTP1, ALL),
        (
            "speaks TLS",
            Route::new("tls-in-h2c", Secure::Ok.endpoint(), Speaks::H2c),
            IS_TLS,
            ALL,
        ),
        ("RST, request read", http2(H2::SecureReset), RESET, READ),
    ]
}

/// All of them.
pub fn cases() -> Vec<Case> {
    let rows = [
        unreachable(["s-refused", "s-dropped"], Speaks::Https),
        https_rows(),
        unreachable(["h-refused", "h-dropped"], Speaks::H2c),
        http2_rows(),
    ];
    rows.into_iter()
        .flatten()
        .map(
            |(what, route, (outcome, phase, cause, evidence), clients)| Case {
                what,
                route,
                outcome,
                phase,
                cause,
                evidence,
                clients,
            },
        )
        .collect()
}
