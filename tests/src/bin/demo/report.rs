//! The demo's last page: the agent's metrics in, a breakdown by cause beside the clients' own
//! count out.
use std::collections::BTreeMap;

use anyhow::{Context, Result};
use tests::agent::Agent;
use tests::metrics::Page;
use tests::world::World;

use crate::traffic::Sent;

const FAILURES: &str = "ingress_trace_upstream_failures_total";

/// Prints it.
pub fn print(world: &World, agent: &Agent, sent: &Sent) -> Result<()> {
    let (_, text) = agent
        .http("/metrics")
        .context("failed to read the metrics")?;
    let page = Page::parse(&text);
    println!("\nfailures by cause (all, hidden from the client by a retry):");
    for (cause, (all, hidden)) in causes(&page) {
        println!("  {cause:<26} {all:>5} {hidden:>5}");
    }
    let exchanges = page.count("ingress_trace_upstream_exchanges_total", &[]);
    let aborts = page.count("ingress_trace_client_aborts_total", &[]);
    println!(
        "of {exchanges} exchanges and attempts; {aborts} client aborts, which are no failures"
    );
    println!("\nwhat the clients really got:");
    for (status, count) in &sent.0 {
        let name = if *status == 0 {
            "no status".to_owned()
        } else {
            status.to_string()
        };
        println!("  {name:<26} {count:>5}");
    }
    println!(
        "\nsome of http://{}/metrics, which ends with this demo:",
        agent.address()
    );
    for line in text
        .lines()
        .filter(|line| line.starts_with(FAILURES))
        .take(5)
    {
        println!("  {line}");
    }
    println!("\non a machine of yours: ingress-trace run --listen 127.0.0.1:9477");
    println!(
        "removed now: namespaces, cgroups, {}",
        world.bed.folder().display()
    );
    Ok(())
}

fn causes(page: &Page) -> BTreeMap<String, (u64, u64)> {
    let causes = page.series.iter().filter(|series| series.name == FAILURES);
    let causes = causes.filter_map(|series| series.labels.get("cause"));
    causes
        .map(|cause| {
            let count = |labels: &[(&str, &str)]| page.count(FAILURES, labels);
            let hidden = count(&[("cause", cause), ("client_visible", "no")]);
            (cause.clone(), (count(&[("cause", cause)]), hidden))
        })
        .collect()
}
