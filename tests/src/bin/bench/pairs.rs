//! Runs with and without the agent, alternating, so that what else happens on the machine meets
//! both: medians and their ratios out.
use anyhow::Result;
use tests::bed::Host;

use crate::Size;
use crate::rig::{Rig, Run};
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

/// Measures and prints requests per second and processor time per request.
pub fn measure(rig: &Rig, size: Size) -> Result<()> {
    let mut rows = Vec::new();
    for (name, proxy, path) in LOADS {
        progress(&format!("with and without the agent: {name}"));
        let (without, with) = alternate(rig, size, proxy, path)?;
        rows.push(row(name, "requests/s", 0, &without, &with, |run| run.rate));
        rows.push(row(name, "proxy us/request", 2, &without, &with, |run| {
            run.proxy
        }));
        rows.push(row(name, "all us/request", 2, &without, &with, |run| {
            run.all
        }));
        let others = |run: &Run| run.others * 100.0;
        rows.push(row(name, "others' share, %", 0, &without, &with, others));
    }
    print(
        &format!(
            "With and without the agent (medians of {} alternating pairs)",
            size.pairs
        ),
        &[
            "load",
            "figure",
            "without",
            "with",
            "difference",
            "ratio (median of pairs)",
        ],
        &rows,
    );
    Ok(())
}

fn alternate(rig: &Rig, size: Size, proxy: Host, path: &str) -> Result<(Vec<Run>, Vec<Run>)> {
    let (mut without, mut with) = (Vec::new(), Vec::new());
    for pair in 0..size.pairs {
        for agent in [pair % 2 == 0, pair % 2 != 0] {
            if agent {
                let agent = rig.agent()?;
                with.push(rig.load(proxy, path, size.run)?);
                agent.stop()?;
            } else {
                without.push(rig.load(proxy, path, size.run)?);
            }
        }
    }
    Ok((without, with))
}

fn row(
    name: &str,
    figure: &str,
    digits: usize,
    without: &[Run],
    with: &[Run],
    of: impl Fn(&Run) -> f64,
) -> Vec<String> {
    let base = median(without.iter().map(&of));
    let mine = median(with.iter().map(&of));
    let ratio = median(
        without
            .iter()
            .zip(with)
            .map(|(base, mine)| of(mine) / of(base)),
    );
    vec![
        name.to_owned(),
        figure.to_owned(),
        format!("{base:.digits$}"),
        format!("{mine:.digits$}"),
        format!("{:+.digits$}", mine - base),
        format!("{ratio:.3}"),
    ]
}
