//! Every request fails: how many failures a second the whole line takes, what that costs, and
//! whether one is lost.
use std::time::{Duration, Instant};

use anyhow::Result;
use tests::bed::Host;
use tests::metrics::Page;
use tests::wait;

use crate::Size;
use crate::rig::{Rig, TRIES};
use crate::table::{print, progress};
use crate::usage;

/// Failures as the agent counts them.
pub const FAILURES: &str = "ingress_trace_upstream_failures_total";
const LOST: &str = "ingress_trace_events_lost_total";

/// Measures and prints.
pub fn measure(rig: &Rig, size: Size) -> Result<()> {
    storm(rig, size, "refused connects", "/refused", 1)?;
    storm(rig, size, "503s of the backend itself", "/sick", 1)?;
    let name = format!("refused connects, {TRIES} for each request");
    storm(rig, size, &name, "/tries", TRIES.into())
}

/// `each`: failures that a request is worth.
fn storm(rig: &Rig, size: Size, name: &str, path: &str, each: u64) -> Result<()> {
    progress(&format!("a storm of {name}"));
    let base = rig.load(Host::Proxy, path, size.run)?;
    let agent = rig.agent()?;
    let idle = share(agent.id(), || {
        std::thread::sleep(size.run);
        Ok(())
    })?;
    let memory = usage::memory(agent.id())?.resident;
    let mut run = None;
    let busy = share(agent.id(), || {
        run = Some(rig.load(Host::Proxy, path, size.storm)?);
        Ok(())
    })?;
    let run = run.unwrap_or(base);
    let failed = run.failed * each;
    let ended = Instant::now();
    let all = || {
        agent
            .metrics()
            .is_ok_and(|page| page.count(FAILURES, &[]) >= failed)
    };
    // A figure, not an error: what is missing shows in the table.
    let caught_up = wait::holds("all failures counted", Duration::from_secs(5), all).is_ok();
    let behind = ended.elapsed();
    let page = agent.metrics()?;
    let after = usage::memory(agent.id())?.resident;
    let row = |what: &str, without: String, with: String| vec![what.to_owned(), without, with];
    let none = || "-".to_owned();
    print(
        &format!("A storm of {name}, {} s", size.storm.as_secs()),
        &["figure", "without, or idle", "with, in the storm"],
        &[
            row(
                "failures/s",
                format!("{:.0}", base.rate * each as f64),
                format!("{:.0}", run.rate * each as f64),
            ),
            row(
                "proxy us/failure",
                format!("{:.2}", base.proxy / each as f64),
                format!("{:.2}", run.proxy / each as f64),
            ),
            row(
                "all us/failure",
                format!("{:.2}", base.all / each as f64),
                format!("{:.2}", run.all / each as f64),
            ),
            row("failures", none(), failed.to_string()),
            row(
                "failures counted",
                none(),
                page.count(FAILURES, &[]).to_string(),
            ),
            row("events lost", none(), lost(&page)),
            row(
                "counted after the end, s",
                none(),
                if caught_up {
                    format!("{:.2}", behind.as_secs_f64())
                } else {
                    "never".into()
                },
            ),
            row("agent, on a processor", percent(idle.0), percent(busy.0)),
            row("agent, waiting for one", percent(idle.1), percent(busy.1)),
            row(
                "agent us/failure",
                none(),
                format!(
                    "{:.2}",
                    busy.0 * size.storm.as_secs_f64() * 1e6 / failed as f64
                ),
            ),
            row(
                "agent, resident MiB",
                format!("{memory:.1}"),
                format!("{after:.1}"),
            ),
        ],
    );
    agent.stop()
}

/// How many events were lost, by the stage that lost them.
fn lost(page: &Page) -> String {
    let stages = page
        .series
        .iter()
        .filter(|series| series.name == LOST && series.value > 0.0);
    let stages: Vec<String> = stages
        .map(|series| {
            let stage = series.labels.get("stage").map_or("", String::as_str);
            format!("{:.0} ({stage})", series.value)
        })
        .collect();
    if stages.is_empty() {
        "0".to_owned()
    } else {
        stages.join(", ")
    }
}

/// How a process spends the time while `work` runs, as shares of it: on a processor, and waiting
/// for one.
fn share(pid: u32, work: impl FnOnce() -> Result<()>) -> Result<(f64, f64)> {
    let (start, before) = (Instant::now(), usage::process_seconds(pid)?);
    work()?;
    let (took, after) = (start.elapsed().as_secs_f64(), usage::process_seconds(pid)?);
    Ok(((after.0 - before.0) / took, (after.1 - before.1) / took))
}

fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}
