//! Memory of the agent: at rest, and after it has seen a thousand backends.
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use tests::bed::Host;
use tests::client::Connection;
use tests::wait;

use crate::rig::{FIRST_PORT, PORTS, Rig, address};
use crate::table::{print, progress};
use crate::usage;

const EXCHANGES: &str = "ingress_trace_upstream_exchanges_total";

/// Measures and prints.
pub fn measure(rig: &Rig) -> Result<()> {
    progress("memory");
    let agent = rig.agent()?;
    let idle = (usage::memory(agent.id())?, agent.scrape_bytes()?);
    let mut connection = Connection::open(&rig.bed, address(Host::Proxy))?;
    for port in FIRST_PORT..FIRST_PORT + PORTS {
        let answer = connection.get(&format!("/port/{port}"))?;
        ensure!(answer.status == Some(200), "backend {port}: {answer:?}");
    }
    let all = u64::from(PORTS);
    let counted = || {
        agent
            .metrics()
            .is_ok_and(|page| page.count(EXCHANGES, &[]) >= all)
    };
    wait::holds("every backend counted", Duration::from_secs(10), counted)?;
    let start = Instant::now();
    let bytes = agent.scrape_bytes()?;
    let took = start.elapsed().as_secs_f64() * 1e3;
    let many = usage::memory(agent.id())?;
    let row = |what: &str, of: fn(&usage::Memory) -> f64| {
        let cell = |memory| format!("{:.1}", of(memory));
        vec![what.to_owned(), cell(&idle.0), cell(&many)]
    };
    print(
        "Memory",
        &["figure", "idle", "after 1,000 backends"],
        &[
            row("resident MiB", |memory| memory.resident),
            row("of it anonymous, MiB", |memory| memory.anonymous),
            row("resident at most, MiB", |memory| memory.peak),
            vec!["scrape, kB".into(), kilo(idle.1), kilo(bytes)],
            vec!["scrape, ms".into(), "-".into(), format!("{took:.1}")],
        ],
    );
    agent.stop()
}

fn kilo(bytes: usize) -> String {
    format!("{:.0}", bytes as f64 / 1e3)
}
