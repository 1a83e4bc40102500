//! Where the kernel's time goes: run time of each of the agent's programs per request, from the
//! kernel's own statistics, less what an empty program shows in the same run.
use std::collections::BTreeMap;

use anyhow::{Context, Result};
use tests::bed::Host;
use tests::kernel::Loaded;

use crate::Size;
use crate::empty::Empty;
use crate::rig::{Agent, Rig};
use crate::syscall::{self, Statistics};
use crate::table::{print, progress};

/// What is measured: a name, what the agent is told, the path under load.
const LOADS: [(&str, &[&str], &str); 5] = [
    ("keepalive, small response", &[], "/keep"),
    ("the same with --no-http", &["--no-http"], "/keep"),
    ("keepalive, 64 kB response", &[], "/large"),
    ("new upstream connection per request", &[], "/new"),
    ("refused connects", &[], "/refused"),
];

/// Measures and prints a table per load.
pub fn measure(rig: &Rig, size: Size) -> Result<()> {
    let _on = syscall::enable_statistics().context("failed to turn BPF statistics on")?;
    for (name, arguments, path) in LOADS {
        progress(&format!("kernel time: {name}"));
        let agent = rig.agent_with(arguments)?;
        let empty = Empty::attach(&rig.bed.cgroup(Host::Proxy), syscall::INGRESS)?;
        let (base, before) = (empty.statistics()?, programs(&agent)?);
        let run = rig.load(Host::Proxy, path, size.run)?;
        let nothing = since(&base, &empty.statistics()?).per_run();
        let after = programs(&agent)?;
        agent.stop()?;
        let ran = after
            .iter()
            .filter_map(|(id, now)| Some(since(before.get(id)?, now)));
        let mut ran: Vec<Statistics> = ran.filter(|one| one.runs > 0).collect();
        ran.sort_by_key(|one| std::cmp::Reverse(one.time));
        let title = format!(
            "Kernel time, {name} ({} requests, an empty program {nothing:.0} ns/run)",
            run.requests
        );
        print(
            &title,
            &[
                "program",
                "ns/run",
                "net ns/run",
                "runs/request",
                "ns/request",
                "net ns/request",
            ],
            &rows(&ran, nothing, run.requests as f64),
        );
    }
    Ok(())
}

fn rows(ran: &[Statistics], nothing: f64, requests: f64) -> Vec<Vec<String>> {
    let (mut gross, mut net) = (0.0, 0.0);
    let mut rows = Vec::new();
    for one in ran {
        let (each, runs) = (one.per_run(), one.runs as f64 / requests);
        gross += each * runs;
        net += (each - nothing) * runs;
        rows.push(vec![
            one.name.clone(),
            format!("{each:.0}"),
            format!("{:.0}", each - nothing),
            format!("{runs:.3}"),
            format!("{:.0}", each * runs),
            format!("{:.0}", (each - nothing) * runs),
        ]);
    }
    let blank = String::new;
    let (gross, net) = (format!("**{gross:.0}**"), format!("**{net:.0}**"));
    rows.push(vec![
        "**all**".to_owned(),
        blank(),
        blank(),
        blank(),
        gross,
        net,
    ]);
    rows
}

/// Statistics of the programs that the agent holds, by id.
fn programs(agent: &Agent) -> Result<BTreeMap<u32, Statistics>> {
    let ids = Loaded::of(agent.id())?.programs;
    ids.into_iter()
        .map(|id| {
            Ok((
                id,
                syscall::statistics(id).context("failed to read statistics")?,
            ))
        })
        .collect()
}

fn since(before: &Statistics, now: &Statistics) -> Statistics {
    Statistics {
        name: now.name.clone(),
        time: now.time - before.time,
        runs: now.runs - before.runs,
    }
}

impl Statistics {
    fn per_run(&self) -> f64 {
        self.time as f64 / (self.runs as f64).max(1.0)
    }
}
