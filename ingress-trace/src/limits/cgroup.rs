//! In: cpu.stat and memory.events. Out: throttling and memory pressure as counters.
//! Must not decide how much of it is too much.
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::targets::{Hierarchy, Roots, Target, hierarchy, process};

/// CPU time withheld by a quota.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Throttling {
    /// Periods in which the quota was used up.
    pub periods: u64,
    /// Nanoseconds for which threads had to wait, summed.
    pub nanos: u64,
}

/// What happened at a memory limit (cgroup v2 only).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// Times the limit was hit (`memory.max`).
    pub max: u64,
    /// Times nothing could be reclaimed.
    pub oom: u64,
    /// Processes killed for it.
    pub killed: u64,
}

/// Throttling of every cgroup at or above the target's processes: a quota of a pod, or of a slice,
/// holds its containers back without showing in theirs.
pub(super) fn throttling(target: &Target, roots: &Roots) -> BTreeMap<PathBuf, Throttling> {
    let mut found = BTreeMap::new();
    let mut add = |folder: &Path, within: &Hierarchy| {
        for level in folder
            .ancestors()
            .take_while(|level| level.starts_with(&within.dir))
        {
            if let Some(stat) = read(level, "cpu.stat").and_then(|text| parse_cpu(&text)) {
                found.insert(level.to_path_buf(), stat);
            }
        }
    };
    add(&target.cgroup, &roots.cgroup2);
    for pid in &target.pids {
        let Some(text) = process::cgroup(&roots.proc, *pid) else {
            continue;
        };
        for (tree, controller) in [
            (Some(&roots.cgroup2), None),
            (roots.cpu.as_ref(), Some("cpu")),
        ] {
            let folder = tree.zip(hierarchy::path(&text, controller));
            if let Some((tree, folder)) =
                folder.and_then(|(tree, path)| Some((tree, tree.folder(path)?)))
            {
                add(&folder, tree);
            }
        }
    }
    found
}

/// What the target's own limit did; counts everything below it too.
pub(super) fn memory(target: &Target) -> Option<Memory> {
    parse_memory(&read(&target.cgroup, "memory.events")?)
}

fn read(folder: &Path, file: &str) -> Option<String> {
    std::fs::read_to_string(folder.join(file)).ok()
}

/// cpu.stat of v2 (microseconds) or v1 (nanoseconds); None where there is no quota to count.
pub(super) fn parse_cpu(text: &str) -> Option<Throttling> {
    let micros = || value(text, "throttled_usec")?.checked_mul(1000);
    let nanos = value(text, "throttled_time").or_else(micros)?;
    Some(Throttling {
        periods: value(text, "nr_throttled")?,
        nanos,
    })
}

/// memory.events.
pub(super) fn parse_memory(text: &str) -> Option<Memory> {
    let at = |key| value(text, key);
    Some(Memory {
        max: at("max")?,
        oom: at("oom")?,
        killed: at("oom_kill").unwrap_or(0),
    })
}

fn value(text: &str, key: &str) -> Option<u64> {
    let mut lines = text.lines().filter_map(|line| line.split_once(' '));
    lines
        .find(|(found, _)| *found == key)?
        .1
        .trim()
        .parse()
        .ok()
}
