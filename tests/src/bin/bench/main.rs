//! The benchmark: what the agent costs a proxy, where its time goes, and what it can take. Comes in
//! a size, goes out a markdown table on stdout; every figure stands beside its baseline of the same
//! run. No figure fails it, only errors do; all traffic stays in its own namespaces.
use std::time::Duration;

use anyhow::Result;
use clap::{Parser, ValueEnum};

mod cluster;
mod empty;
mod index;
mod latency;
mod line;
mod memory;
mod pairs;
mod place;
mod programs;
mod rig;
mod storm;
mod syscall;
mod table;
mod usage;

use rig::Rig;

/// What the agent costs, measured against the same machine without it.
#[derive(Parser)]
#[command(name = "bench")]
struct Cli {
    /// Under two minutes instead of under ten: shorter runs, fewer pairs
    #[arg(long)]
    quick: bool,
    /// Alternating pairs of runs with and without the agent
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pairs: Option<u32>,
    /// Only this part; may be given more than once
    #[arg(long, value_name = "PART")]
    only: Vec<Part>,
}

/// What can be measured by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Requests per second and processor time, with and without the agent
    Pairs,
    /// Kernel time of each program
    Programs,
    /// Failures at full speed
    Storm,
    /// From the client's error to the metric
    Latency,
    /// The agent's pure part
    Line,
    /// What the agent knows of a large cluster
    Index,
    /// Memory of the agent
    Memory,
    /// The agent in a large cluster, and on a node of it without an ingress pod
    Cluster,
}

impl Part {
    fn measure(self, rig: &Rig, size: Size) -> Result<()> {
        match self {
            Self::Pairs => pairs::measure(rig, size),
            Self::Programs => programs::measure(rig, size),
            Self::Storm => storm::measure(rig, size),
            Self::Latency => latency::measure(rig, size),
            Self::Line => line::measure(size),
            Self::Index => index::measure(),
            Self::Memory => memory::measure(rig),
            Self::Cluster => cluster::measure(rig, size),
        }
    }
}

/// How much of everything.
#[derive(Clone, Copy, Debug)]
struct Size {
    /// Alternating pairs.
    pairs: u32,
    /// One run of the load generator; whole seconds.
    run: Duration,
    /// The storm of failures.
    storm: Duration,
    /// Failures whose way to the metric is timed.
    failures: u32,
    /// Simulated time of the pure line.
    line: Duration,
}

impl Size {
    fn of(cli: &Cli) -> Self {
        let (pairs, run, storm, failures, line) = if cli.quick {
            (5, 1, 3, 200, 3)
        } else {
            (10, 3, 20, 1000, 20)
        };
        Self {
            pairs: cli.pairs.unwrap_or(pairs),
            run: Duration::from_secs(run),
            storm: Duration::from_secs(storm),
            failures,
            line: Duration::from_secs(line),
        }
    }
}

fn main() -> Result<()> {
    let cli = Cli::parse();
    let size = Size::of(&cli);
    println!("{}", table::machine()?);
    println!("{size:?}\n");
    let rig = Rig::new()?;
    Part::value_variants()
        .iter()
        .filter(|part| cli.only.is_empty() || cli.only.contains(part))
        .try_for_each(|part| part.measure(&rig, size))
}
