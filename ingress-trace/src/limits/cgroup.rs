//! In: cpu.stat, memory.events, cgroup.events and what v1 has for them, *.pressure. Out: throttling, memory
//! limits and pressure as counters; which processes are frozen. Must not decide how much is too much.
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::targets::{Hierarchy, Roots, Target, cgroups_below, hierarchy, process};

/// CPU time withheld by a quota.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Throttling {
    /// Periods in which the quota was used up.
    pub periods: u64,
    /// Nanoseconds for which threads had to wait, summed.
    pub nanos: u64,
    /// How long a period is: nobody is held back for longer at once.
    pub period: Duration,
}

/// The period of a CPU quota where nothing else is set (`cpuCFSQuotaPeriod` of a kubelet).
pub const PERIOD: Duration = Duration::from_millis(100);

impl Default for Throttling {
    fn default() -> Self {
        Self {
            periods: 0,
            nanos: 0,
            period: PERIOD,
        }
    }
}

impl Throttling {
    /// Whether there was none.
    pub fn is_none(self) -> bool {
        (self.periods, self.nanos) == (0, 0)
    }

    /// How long it was held back at most. The kernel sums the times of all CPUs (`throttle_cfs_rq`), of which
    /// each may have been short.
    pub fn held(self) -> Duration {
        let periods = u32::try_from(self.periods).unwrap_or(u32::MAX);
        Duration::from_nanos(self.nanos).min(self.period.saturating_mul(periods))
    }
}

/// What happened at a memory limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// Times the limit was hit (v2 `memory.events`: `max`; v1 `memory.failcnt`).
    pub max: u64,
    /// Times nothing could be reclaimed; v1 counts kills only.
    pub oom: u64,
    /// Processes killed for it.
    pub killed: u64,
}

/// Time in which all of a cgroup that could have run waited for the same at once (`full` in the kernel's
/// pressure stall information), in nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pressure {
    /// For a CPU, whoever had them all (`cpu.pressure`; a quota counts as well).
    pub cpu: u64,
    /// For memory that was taken away and had to come back (`memory.pressure`).
    pub memory: u64,
}

/// Pressure on all below the target's cgroup; none where the kernel does not count it (5.15: `CONFIG_PSI`,
/// and without `psi=0`). A hybrid machine has it in its v2 tree, too. It can be short by 4.3 s at a time: a
/// CPU's share is kept in 32 bits (`psi_group_cpu`), and on 6.12 is not always taken in time where all waits.
pub(super) fn pressure(target: &Target) -> Option<Pressure> {
    let full = |file| parse_pressure(&read(&target.cgroup, file)?);
    Some(Pressure {
        cpu: full("cpu.pressure")?,
        memory: full("memory.pressure")?,
    })
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
            if let Some(mut stat) = read(level, "cpu.stat").and_then(|text| parse_cpu(&text)) {
                stat.period = period(level);
                found.insert(level.to_path_buf(), stat);
            }
        }
    };
    add(&target.cgroup, &roots.cgroup2);
    let trees = [
        (Some(&roots.cgroup2), None),
        (roots.cpu.as_ref(), Some("cpu")),
    ];
    for (tree, controller) in trees {
        for (_, folder) in homes(target, roots, tree, controller) {
            add(&folder, tree.unwrap_or(&roots.cgroup2));
        }
    }
    found
}

/// The folders of the target's processes in a hierarchy.
fn homes<'a>(
    target: &'a Target,
    roots: &'a Roots,
    tree: Option<&'a Hierarchy>,
    controller: Option<&'a str>,
) -> impl Iterator<Item = (u32, PathBuf)> + 'a {
    let pids = tree.into_iter().flat_map(|tree| {
        let pids = target.pids.iter();
        pids.map(move |pid| (tree, *pid))
    });
    pids.filter_map(move |(tree, pid)| {
        let text = process::cgroup(&roots.proc, pid)?;
        Some((pid, tree.folder(hierarchy::path(&text, controller)?)?))
    })
}

/// What the target's memory limits did, by folder and id. In v2 the target's own counts everything below it;
/// in v1 each counts for itself, and of a process that was killed only its folder is left: the one of
/// the same path as in v2, as container runtimes name them.
pub(super) fn memory(target: &Target, roots: &Roots) -> BTreeMap<(PathBuf, u64), Memory> {
    if let Some(text) = read(&target.cgroup, "memory.events") {
        let place = (target.cgroup.clone(), target.id);
        let own = parse_memory(&text).map(|memory| (place, memory));
        return own.into_iter().collect();
    }
    let tree = roots.memory.as_ref();
    let twin = tree.and_then(|tree| {
        let path = target.cgroup.strip_prefix(&roots.cgroup2.dir).ok()?;
        cgroups_below(&tree.dir.join(path)).ok()
    });
    let mut folders: Vec<PathBuf> = homes(target, roots, tree, Some("memory"))
        .map(|(_, folder)| folder)
        .chain(twin.into_iter().flatten().map(|(_, folder)| folder))
        .collect();
    folders.sort_unstable();
    folders.dedup();
    let read = |folder: PathBuf| {
        let count = read(&folder, "memory.failcnt")?;
        let memory = parse_old_memory(&count, &read(&folder, "memory.oom_control")?)?;
        let id = hierarchy::id(&folder).ok()?;
        Some(((folder, id), memory))
    };
    folders.into_iter().filter_map(read).collect()
}

/// Those of the target's processes that are frozen: they answer nothing, though their kernel goes on
/// to accept connections for them.
pub(super) fn frozen(target: &Target, roots: &Roots) -> Vec<u32> {
    let new = homes(target, roots, Some(&roots.cgroup2), None);
    let new = new.filter(|(_, folder)| {
        let events = read(folder, "cgroup.events");
        events.is_some_and(|text| value(&text, "frozen") == Some(1))
    });
    let old = homes(target, roots, roots.freezer.as_ref(), Some("freezer"));
    let old = old.filter(|(_, folder)| {
        let state = read(folder, "freezer.state");
        state.is_some_and(|text| text.trim() == "FROZEN")
    });
    new.chain(old).map(|(pid, _)| pid).collect()
}

fn read(folder: &Path, file: &str) -> Option<String> {
    std::fs::read_to_string(folder.join(file)).ok()
}

/// The period of a folder's CPU quota: behind the quota in v2, by itself in v1, microseconds in both.
fn period(folder: &Path) -> Duration {
    let new = || {
        let text = read(folder, "cpu.max")?;
        text.split_whitespace().nth(1)?.parse().ok()
    };
    let old = || read(folder, "cpu.cfs_period_us")?.trim().parse().ok();
    new().or_else(old).map_or(PERIOD, Duration::from_micros)
}

/// cpu.stat of v2 (microseconds) or v1 (nanoseconds); None where there is no quota to count.
pub(super) fn parse_cpu(text: &str) -> Option<Throttling> {
    let micros = || value(text, "throttled_usec")?.checked_mul(1000);
    let nanos = value(text, "throttled_time").or_else(micros)?;
    Some(Throttling {
        periods: value(text, "nr_throttled")?,
        nanos,
        ..Throttling::default()
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

/// `full` of a pressure file: microseconds there, nanoseconds here.
pub(super) fn parse_pressure(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("full "))?;
    let mut fields = line.split(' ');
    let total = fields.find_map(|field| field.strip_prefix("total="))?;
    total.trim().parse::<u64>().ok()?.checked_mul(1000)
}

/// memory.failcnt and memory.oom_control of v1.
pub(super) fn parse_old_memory(hits: &str, control: &str) -> Option<Memory> {
    let killed = value(control, "oom_kill")?;
    Some(Memory {
        max: hits.trim().parse().ok()?,
        oom: killed,
        killed,
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
