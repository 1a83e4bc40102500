//! The backend pod: the table of what it can do wrong (one port each), and the running program's
//! handle. What each behavior does on the wire is in `bin/backend`.
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::process::{ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

use crate::bed::{Bed, Host};
use crate::process::{Process, sibling};

/// Declares the behaviors with the word that is their path at the proxy.
macro_rules! behaviors {
    ($($(#[$doc:meta])* $variant:ident = $word:literal,)+) => {
        /// What a backend port does.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Behavior { $($(#[$doc])* $variant,)+ }

        impl Behavior {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$variant,)+];

            /// Its first path segment at the proxy.
            pub const fn word(self) -> &'static str {
                match self { $(Self::$variant => $word,)+ }
            }
        }
    };
}

behaviors! {
    /// 200, Content-Length, keepalive. Query: `ms` (delay), `size` (of the body), `status`.
    Ok = "ok",
    /// `Connection: close` after a complete response.
    CloseHeader = "close-header",
    /// A body that ends with the connection.
    CloseDelimited = "close-delimited",
    /// A chunked body in several writes.
    Chunked = "chunked",
    /// Keepalive, closed by the backend after 100 ms of idling.
    IdleClose = "idle-close",
    /// 100 (Continue), then 200.
    Interim100 = "interim-100",
    /// 103 (Early Hints), then 200.
    Interim103 = "interim-103",
    /// Answers 413 with the request's body unread, closes 200 ms later.
    EarlyAnswer = "early-answer",
    /// Reads the request, then RST.
    ResetRequest = "reset-request",
    /// RST with the request unread.
    ResetUnread = "reset-unread",
    /// Reads the request, then FIN.
    FinRequest = "fin-request",
    /// RST inside the response's head.
    ResetHead = "reset-head",
    /// FIN inside the response's head.
    FinHead = "fin-head",
    /// RST inside a body with Content-Length.
    ResetBody = "reset-body",
    /// FIN inside a body with Content-Length.
    FinBody = "fin-body",
    /// FIN inside a chunked body.
    FinChunked = "fin-chunked",
    /// Reads the request, never answers.
    Hang = "hang",
    /// Stops in the middle of the body.
    Stall = "stall",
    /// Answers with bytes that are not HTTP.
    Garbage = "garbage",
    /// Answers with a TLS alert, as a TLS server does to plaintext.
    TlsAlert = "tls-alert",
    /// Answers once, closes; its FIN is lost, so that the next request meets a closed socket.
    Race = "race",
    /// Answers the first request of a connection, resets on the second after reading it.
    ResetSecond = "reset-second",
    /// Answers the first request of a connection, closes on the second after reading it.
    FinSecond = "fin-second",
    /// 101, then echoes bytes until the other side closes.
    WebSocket = "websocket",
    /// 101, then one message and FIN by the backend.
    WebSocketClose = "websocket-close",
}

impl Behavior {
    /// The port it listens on, IPv4 and IPv6.
    pub const fn port(self) -> u16 {
        9001 + self as u16
    }

    /// Its IPv4 endpoint.
    pub fn endpoint(self) -> SocketAddr {
        SocketAddr::new(Host::Backend.v4(), self.port())
    }
}

/// Ways in which a response says where it ends: paths at the proxy, and the client's status.
pub const FRAMINGS: &[(&str, u16)] = &[
    ("/ok/plain", 200),
    ("/ok/empty?size=0", 200),
    ("/ok/created?status=201", 201),
    ("/ok/no-content?status=204", 204),
    ("/ok/not-modified?status=304", 304),
    ("/ok/missing?status=404", 404),
    ("/ok/broken?status=500", 500),
    ("/close-header/", 200),
    ("/close-delimited/", 200),
    ("/chunked/", 200),
    ("/idle-close/", 200),
];

/// What a port has seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// Connections accepted.
    pub connections: u64,
    /// Requests whose head was read.
    pub requests: u64,
    /// Connections that it is done with.
    pub closed: u64,
}

/// The running backend program. Its control is its stdin and stdout: no traffic of its own.
pub struct Backends {
    // Dropped with the struct: ends the program.
    _process: Process,
    ask: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Backends {
    /// Starts every behavior on the backend host; returns once all of them listen.
    pub fn start(bed: &Bed) -> Result<Self> {
        let port = Behavior::Race.port();
        // Conntrack is not needed: the rule looks at flags only.
        bed.nft(
            Host::Backend,
            &format!(
                "add table inet race\n\
                 add chain inet race out {{ type filter hook output priority 0; }}\n\
                 add rule inet race out tcp sport {port} tcp flags & fin == fin drop\n"
            ),
        )?;
        let mut command = Command::new(sibling("backend")?);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = bed.start(Host::Backend, &mut command)?;
        let ask = process
            .child()
            .stdin
            .take()
            .context("failed to open backend's stdin")?;
        let out = process
            .child()
            .stdout
            .take()
            .context("failed to open backend's stdout")?;
        let mut backends = Self {
            _process: process,
            ask,
            answers: BufReader::new(out),
        };
        // The first answer comes only when every port listens.
        backends.seen()?;
        Ok(backends)
    }

    /// Counts per port, as they are now.
    pub fn seen(&mut self) -> Result<BTreeMap<u16, Seen>> {
        writeln!(self.ask, "seen").context("failed to ask backend")?;
        let mut line = String::new();
        self.answers
            .read_line(&mut line)
            .context("failed to read backend's answer")?;
        ensure!(
            !line.is_empty(),
            "failed to read backend's answer: it ended"
        );
        serde_json::from_str(&line).context("failed to parse backend's answer")
    }

    /// Waits until a behavior is done with all its connections.
    pub fn closed(&mut self, behavior: Behavior) -> Result<()> {
        crate::wait::until("the backend's close", Duration::from_secs(5), || {
            let seen = match self.seen() {
                Ok(seen) => seen.get(&behavior.port()).copied().unwrap_or_default(),
                Err(error) => return Some(Err(error)),
            };
            (seen.connections > 0 && seen.connections == seen.closed).then_some(Ok(()))
        })?
    }

    /// Requests that a behavior has read so far.
    pub fn requests(&mut self, behavior: Behavior) -> Result<u64> {
        Ok(self
            .seen()?
            .get(&behavior.port())
            .map_or(0, |seen| seen.requests))
    }
}
