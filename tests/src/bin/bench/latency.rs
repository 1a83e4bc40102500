//! From the client's error to the counter on /metrics: failures at an even pace, and a scraper that
//! never stops, because a counter tells in order how many have arrived.
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use tests::bed::Host;
use tests::client::Connection;

use crate::Size;
use crate::rig::{Agent, Rig, address};
use crate::storm::FAILURES;
use crate::table::{percentile, print, progress};

/// Not a divisor of the agent's own periods, so that every offset to them is met.
const PACE: Duration = Duration::from_micros(6100);
const LIMIT: Duration = Duration::from_secs(20);

/// Measures and prints.
pub fn measure(rig: &Rig, size: Size) -> Result<()> {
    progress("from failure to metric");
    let agent = rig.agent()?;
    let (answered, scraped) = thread::scope(|scope| {
        let sender = scope.spawn(|| fail(rig, size.failures));
        let scraped = scrape(&agent, size.failures);
        let answered = sender
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        Ok::<_, anyhow::Error>((answered?, scraped?))
    })?;
    let delays = || {
        answered
            .iter()
            .zip(&scraped)
            .map(|(from, to)| to.saturating_duration_since(*from).as_secs_f64() * 1e3)
    };
    let cell = |percent| format!("{:.0}", percentile(delays(), percent));
    print(
        &format!(
            "From the client's 502 to /metrics, {} failures, a scrape each millisecond at most",
            size.failures
        ),
        &["p50 ms", "p99 ms", "max ms"],
        &[vec![cell(50), cell(99), cell(100)]],
    );
    agent.stop()
}

/// Sends requests that fail; when each was answered.
fn fail(rig: &Rig, count: u32) -> Result<Vec<Instant>> {
    let mut connection = Connection::open(&rig.bed, address(Host::Proxy))?;
    let start = Instant::now();
    let mut answered = Vec::new();
    for number in 0..count {
        let due = start + PACE * number;
        thread::sleep(due.saturating_duration_since(Instant::now()));
        let answer = connection.get("/refused")?;
        ensure!(
            answer.status == Some(502),
            "a request that must fail: {answer:?}"
        );
        answered.push(Instant::now());
    }
    Ok(answered)
}

/// When each of so many failures was first on /metrics.
fn scrape(agent: &Agent, count: u32) -> Result<Vec<Instant>> {
    let end = Instant::now() + PACE * count + LIMIT;
    let mut seen = Vec::new();
    while seen.len() < count as usize {
        ensure!(
            Instant::now() < end,
            "only {} of {count} failures were counted",
            seen.len()
        );
        let total = usize::try_from(agent.metrics()?.count(FAILURES, &[]))?;
        let now = Instant::now();
        seen.resize(seen.len().max(total), now);
        thread::sleep(Duration::from_millis(1));
    }
    Ok(seen)
}
