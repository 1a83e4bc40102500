//! Load from `wrk` on the client host: a URL in, its own count of requests out.
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::bed::{Bed, Host};

/// What wrk says of its run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Load {
    /// Responses that it read to their end.
    pub requests: u64,
    /// Of these, the ones that were not 2xx or 3xx.
    pub failed: u64,
    /// Responses per second of its own time, which is up to a twentieth longer than it was told.
    pub rate: f64,
}

/// Runs wrk with so many connections for so long.
pub fn run(
    bed: &Bed,
    to: SocketAddr,
    path: &str,
    connections: u32,
    time: Duration,
) -> Result<Load> {
    let mut command = Command::new("wrk");
    command.args(["-t", "1", "-c", &connections.to_string()]);
    command.args([
        "-d",
        &format!("{}s", time.as_secs()),
        &format!("http://{to}{path}"),
    ]);
    command.stdout(Stdio::piped());
    let mut process = bed
        .start(Host::Client, &mut command)
        .context("failed to run wrk (package wrk)")?;
    process.wait(time + Duration::from_secs(20))?;
    let mut text = String::new();
    let out = process
        .child()
        .stdout
        .take()
        .context("failed to open wrk's output")?;
    std::io::Read::read_to_string(&mut { out }, &mut text)
        .context("failed to read wrk's output")?;
    parse(&text).with_context(|| format!("failed to parse wrk's output: {text}"))
}

fn parse(text: &str) -> Option<Load> {
    let word = |marker: &str, place: usize| {
        let line = text.lines().find(|line| line.contains(marker))?;
        line.split_whitespace().nth(place)
    };
    let failed = word("Non-2xx or 3xx responses:", 4).and_then(|word| word.parse().ok());
    Some(Load {
        requests: word(" requests in ", 0)?.parse().ok()?,
        failed: failed.unwrap_or(0),
        rate: word("Requests/sec:", 1)?.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrk_tells_requests_and_failures() {
        let text = "  1000 requests in 2.00s, 1.43MB read\n  Non-2xx or 3xx responses: 12\n\
            Requests/sec:    499.50\nTransfer/sec:    0.72MB\n";
        assert_eq!(
            parse(text),
            Some(Load {
                requests: 1000,
                failed: 12,
                rate: 499.5
            })
        );
    }
}
