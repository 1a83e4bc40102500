//! Runs with and without the agent, and with empty programs, alternating, so that what else happens on
//! the machine meets all: medians and their ratios out.
use anyhow::Result;
use tests::bed::Host;

use crate::Size;
use crate::empty::Empty;
use crate::rig::{Rig, Run};
use crate::syscall::{EGRESS, INGRESS};
use crate::table::{median, print, progress};

/// What the proxy does for a request: a name, the proxy under load, its path.
const LOADS: [(&str, Host, &str); 4] = [
    ("keepalive, small response", Host::Proxy, "/keep"),
    ("new upstream connection per request", Host::Proxy, "/new"),
    ("keepalive, 64 kB response", Host::Proxy, "/large"),
    (
        "another pod (bystander), keepalive",
        Host::SecondProxy,
        "/keep",
    ),
];

/// What is on the proxy while it runs.
#[derive(Clone, Copy)]
enum Beside {
    Nothing,
    /// Two programs that do nothing, for packets in and out: what it costs that there are any.
    Empty,
    Agent,
}

/// Runs of each kind, in the order of [`TURN`].
type Runs = [Vec<Run>; 3];

const TURN: [Beside; 3] = [Beside::Nothing, Beside::Empty, Beside::Agent];

/// Measures and prints requests per second and processor time per request.
pub fn measure(rig: &Rig, size: Size) -> Result<()> {
    let mut rows = Vec::new();
    for (name, proxy, path) in LOADS {
        progress(&format!("with and without the agent: {name}"));
        let runs = alternate(rig, size, proxy, path)?;
        rows.push(row(name, "requests/s", 0, &runs, |run| run.rate));
        rows.push(row(name, "proxy us/request", 2, &runs, |run| run.proxy));
        rows.push(row(name, "all us/request", 2, &runs, |run| run.all));
        let others = |run: &Run| run.others * 100.0;
        rows.push(row(name, "others' share, %", 0, &runs, others));
    }
    print(
        &format!(
            "Without, with empty programs, with the agent (medians of {} alternating runs)",
            size.pairs
        ),
        &[
            "load",
            "figure",
            "without",
            "empty",
            "with",
            "empty / without (median of pairs)",
            "with / without (median of pairs)",
        ],
        &rows,
    );
    Ok(())
}

fn alternate(rig: &Rig, size: Size, proxy: Host, path: &str) -> Result<Runs> {
    let mut runs = Runs::default();
    for pair in 0..size.pairs as usize {
        let mut order = [0, 1, 2];
        order.rotate_left(pair % 3);
        if pair % 2 != 0 {
            order.reverse();
        }
        for place in order {
            runs[place].push(run(rig, TURN[place], || rig.load(proxy, path, size.run))?);
        }
    }
    Ok(runs)
}

fn run(rig: &Rig, beside: Beside, load: impl FnOnce() -> Result<Run>) -> Result<Run> {
    let cgroup = rig.bed.cgroup(Host::Proxy);
    match beside {
        Beside::Nothing => load(),
        Beside::Empty => {
            let _in = Empty::attach(&cgroup, INGRESS)?;
            let _out = Empty::attach(&cgroup, EGRESS)?;
            load()
        }
        Beside::Agent => {
            let agent = rig.agent()?;
            let run = load()?;
            agent.stop()?;
            Ok(run)
        }
    }
}

fn row(
    name: &str,
    figure: &str,
    digits: usize,
    runs: &Runs,
    of: impl Fn(&Run) -> f64,
) -> Vec<String> {
    let medians = runs.each_ref().map(|runs| median(runs.iter().map(&of)));
    let [base, empty, with] = runs;
    let ratio = |runs: &[Run]| median(base.iter().zip(runs).map(|(base, run)| of(run) / of(base)));
    let cells = medians.map(|value| format!("{value:.digits$}"));
    let ratios = [empty, with].map(|runs| format!("{:.3}", ratio(runs)));
    let names = [name.to_owned(), figure.to_owned()];
    names.into_iter().chain(cells).chain(ratios).collect()
}
