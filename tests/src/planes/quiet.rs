//! Runs of traffic that must leave no finding, on every data plane at once: what was done when, and
//! what the agent told although nothing had failed. A marker that is known to fail ends each run, so
//! that silence is a fact and not a matter of patience.
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result, ensure};
use jiff::Timestamp;

use super::client::Client;
use super::{Plane, Way, World, each};
use crate::agent::{Agent, Finding};
use crate::expect::Differences;

/// All ways of balancing.
pub const WAYS: [Way; 3] = [Way::Single, Way::Pooled, Way::Retry];

/// One data plane, its agent, and what was done when.
pub struct Run {
    /// The bed.
    pub world: World,
    /// The agent on it.
    pub agent: Agent,
    /// Which one.
    pub plane: Plane,
    steps: Vec<(String, Timestamp)>,
    /// What is not as it should be.
    pub odd: Vec<String>,
}

impl Run {
    /// Starts both.
    pub fn new(plane: Plane) -> Result<Self> {
        let world = World::new(plane)?;
        let agent = world.agent()?;
        Ok(Self {
            world,
            agent,
            plane,
            steps: Vec::new(),
            odd: Vec::new(),
        })
    }

    /// Does one kind of healthy traffic with each of these clients.
    pub fn step(
        &mut self,
        what: &str,
        clients: &[Client],
        work: impl Fn(&mut World, Client) -> Result<()>,
    ) {
        for client in clients {
            let name = format!("{what}, {}", client.word());
            self.steps.push((name.clone(), Timestamp::now()));
            if let Err(error) = work(&mut self.world, *client) {
                self.odd.push(format!("{name}: the bed: {error:#}"));
            }
        }
    }

    /// How many clients were counted as gone, once all is counted.
    pub fn aborts(&self) -> Result<u64> {
        // The kernel's counts are read every second: the marker's failure is in, and all before it.
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let marker = format!("/refused/marker-{count}");
        let failures = "ingress_trace_upstream_failures_total";
        let before = self.agent.metrics()?.count(failures, &[]);
        self.world
            .ask(Client::Plain, Client::Plain.at(Way::Single), &marker)?;
        self.agent
            .finding("the marker", |one| one.path() == marker)?;
        let page = self.agent.metric("the marker counted", |page| {
            page.count(failures, &[]) > before
        })?;
        Ok(page.count("ingress_trace_client_aborts_total", &[]))
    }

    /// Ends the agent: whatever it told beside the markers is a false alarm.
    pub fn finish(self, differences: &Mutex<Differences>) -> Result<()> {
        self.finish_but(differences, |_| false)
    }

    /// The same, with failures that are meant.
    pub fn finish_but(
        self,
        differences: &Mutex<Differences>,
        meant: impl Fn(&Finding) -> bool,
    ) -> Result<()> {
        let Self {
            world,
            agent,
            plane,
            steps,
            mut odd,
        } = self;
        let others = world.others(agent)?;
        let (told, alarms): (Vec<_>, Vec<_>) = others.iter().partition(|one| meant(one));
        // Where threads serve several requests, one of a hundred hidden failures may be taken for
        // another request's (ARCHITECTURE.md, known limits).
        let mut strays = if plane == Plane::Nginx {
            0
        } else {
            told.len().div_ceil(100)
        };
        for alarm in alarms.into_iter().filter(|one| alarming(one)) {
            let stray = !told.is_empty() && alarm.text("/client_visible") == "no" && strays > 0;
            if stray {
                strays -= 1;
                println!("{plane:?}: taken for another request's: {}", alarm.0);
                continue;
            }
            let time: Timestamp = alarm.text("/time").parse().context("failed to read time")?;
            let step = steps.iter().rev().find(|(_, from)| *from <= time);
            let step = step.map_or("before all", |(what, _)| what);
            odd.push(format!("{step}: {}", alarm.0));
        }
        for one in odd {
            let mut differences = differences.lock().unwrap_or_else(PoisonError::into_inner);
            differences.note(format!("{plane:?}: {one}"));
        }
        Ok(())
    }
}

/// A slow exchange is a warning by contract, never a failure.
fn alarming(finding: &Finding) -> bool {
    // A backend that closes an idle connection just as it is used again is a race, healthy or not;
    // what it hides is told as that.
    let race = finding.text("/cause") == "keepalive_race";
    let hidden = race && finding.text("/client_visible") == "no";
    !hidden && !finding.path().contains("/marker") && finding.text("/outcome") != "slow"
}

/// The work on every data plane; all differences at once.
///
/// # Panics
/// If there is any.
pub fn all(work: impl Fn(Run, &Mutex<Differences>) -> Result<()> + Sync) -> Result<()> {
    let differences = Mutex::new(Differences::default());
    each(|plane| work(Run::new(plane)?, &differences))?;
    differences
        .into_inner()
        .expect("no thread panics with it")
        .finish("");
    Ok(())
}

/// GET on a connection of its own; it must be answered in full with this status.
pub fn fetch(world: &World, client: Client, way: Way, path: &str, status: u16) -> Result<()> {
    let got = world.ask(client, client.at(way), path)?;
    ensure!(
        (got.status, got.complete) == (Some(status), true),
        "{way:?} {path}: {got:?}"
    );
    Ok(())
}
