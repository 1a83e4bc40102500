//! Where findings and counts go: metrics, JSON lines, a terminal, a page. Each takes a finding as
//! it is and decides nothing about it.
pub mod breakdown;
mod html;
pub mod json;
pub mod metrics;
pub mod page;
pub mod series;
pub mod terminal;

use std::io::{ErrorKind, Result as IoResult};

use anyhow::{Context, Result};

/// Whether somebody still reads what a sink writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Reader {
    /// Yes.
    Present,
    /// The pipe is closed: time to end quietly, as after `| head`.
    Gone,
}

impl Reader {
    /// Reads it off a write to `stdout`.
    fn after(written: IoResult<()>) -> Result<Self> {
        match written {
            Ok(()) => Ok(Self::Present),
            Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(Self::Gone),
            Err(error) => Err(error).context("failed to write to stdout"),
        }
    }
}

/// A finding as it comes from nginx, for the tests of the sinks.
#[cfg(test)]
pub(crate) fn example() -> crate::finding::Finding {
    use crate::cause::taxonomy as words;
    use crate::finding::{Backend, Finding, Ingress, Request};

    Finding {
        time: "2026-03-01T14:02:11.123456Z".parse().expect("a timestamp"),
        cause: words::Cause::KeepaliveRace,
        status: Some(502),
        status_source: Some(words::StatusSource::Observed),
        client_visible: words::Visible::Yes,
        confidence: words::Confidence::High,
        outcome: words::Outcome::Reset,
        phase: Some(words::Phase::Request),
        errno: Some("ECONNRESET".into()),
        controller: words::Controller::Nginx,
        ingress: Ingress {
            node: Some("node-1".into()),
            pid: Some(4711),
            ..Ingress::default()
        },
        backend: Some(Backend {
            address: "10.77.1.3".parse().ok(),
            port: Some(8080),
            ..Backend::default()
        }),
        protocol: Some(words::Protocol::Http1),
        connect_seconds: Some(0.0002),
        first_byte_seconds: None,
        elapsed_seconds: Some(0.0002),
        exchange: Some(2),
        idle_seconds: Some(5.0),
        bytes_sent: Some(80),
        bytes_received: Some(0),
        retransmits: Some(0),
        request: Some(Request {
            method: "GET".into(),
            host: Some("shop.example".into()),
            path: "/cart".into(),
        }),
        evidence: vec!["the connection had been idle for 5.0 s".into()],
        fix: vec!["keep idle connections in the backend longer than in nginx".into()],
    }
}
