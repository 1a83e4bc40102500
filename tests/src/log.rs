//! Nginx's own logs, the second truth: lines in, requests and their attempts out.
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::wait;

/// The `log_format` that [`parse`] reads.
pub const FORMAT: &str = "$status|$upstream_status|$upstream_addr|$request_method|$request_uri|$server_port|$request_time";

/// One request as nginx logged it.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// Status that it gave to the client (499: the client went first).
    pub status: u16,
    /// Attempts: endpoint and status (none for an attempt without a response).
    pub attempts: Vec<(String, Option<u16>)>,
    /// Method.
    pub method: String,
    /// Path with its query.
    pub uri: String,
    /// Listener.
    pub port: u16,
    /// Seconds from the request's first byte to the end.
    pub seconds: f64,
}

/// Reads a whole access log.
pub fn read(path: &Path) -> Result<Vec<Entry>> {
    let text = std::fs::read_to_string(path).context("failed to read access log")?;
    text.lines()
        .map(|line| parse(line).with_context(|| format!("failed to parse access log: {line}")))
        .collect()
}

/// Waits for the first entry with this URI: nginx writes one when it is done with the request, which
/// can be after the client is.
pub fn logged(path: &Path, uri: &str) -> Result<Entry> {
    let what = format!("{uri} in nginx's log");
    wait::until(&what, Duration::from_secs(10), || {
        read(path).ok()?.into_iter().find(|entry| entry.uri == uri)
    })
}

fn parse(line: &str) -> Option<Entry> {
    let mut fields = line.split('|');
    let status = fields.next()?.parse().ok()?;
    // An attempt without any status (the client left) is `-` here, and so is no attempt at all.
    let statuses = fields.next()?.split(", ");
    let peers = fields.next()?.split(", ").filter(|peer| *peer != "-");
    let attempts = peers.zip(statuses);
    Some(Entry {
        status,
        attempts: attempts
            .map(|(peer, status)| (peer.to_owned(), status.parse().ok()))
            .collect(),
        method: fields.next()?.to_owned(),
        uri: fields.next()?.to_owned(),
        port: fields.next()?.parse().ok()?,
        seconds: fields.next()?.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_retry_is_two_attempts() {
        let line = "200|502, 200|10.77.0.3:9, 10.77.0.3:9001|GET|/a/b?c|8083|0.004";
        let entry = parse(line).unwrap();
        assert_eq!(entry.attempts[0], ("10.77.0.3:9".to_owned(), Some(502)));
        assert_eq!(entry.attempts[1].1, Some(200));
        assert_eq!(parse("503|-|-|GET|/x|8080|0.000").unwrap().attempts, vec![]);
    }
}
