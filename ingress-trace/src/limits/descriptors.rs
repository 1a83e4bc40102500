//! In: /proc/PID/{fd,limits}. Out: open descriptors against the soft limit.
//! Must not open any of the descriptors.
use std::path::Path;

use super::{ProcessUsage, Usage};
use crate::targets::process;

/// The process closest to its limit.
pub(super) fn worst(proc: &Path, pids: &[u32]) -> Option<ProcessUsage> {
    let all = pids.iter().filter_map(|pid| {
        Some(ProcessUsage {
            pid: *pid,
            usage: usage(proc, *pid)?,
        })
    });
    closest(all)
}

/// Of several processes the one closest to its limit, the first of equals.
pub(super) fn closest(all: impl Iterator<Item = ProcessUsage>) -> Option<ProcessUsage> {
    all.reduce(|a, b| {
        if a.usage.worse(b.usage) == a.usage {
            a
        } else {
            b
        }
    })
}

fn usage(proc: &Path, pid: u32) -> Option<Usage> {
    let limit = soft_limit(&process::read(proc, pid, "limits")?)?;
    let entries = std::fs::read_dir(process::folder(proc, pid).join("fd")).ok()?;
    Some(Usage {
        used: entries.count() as u64,
        limit,
    })
}

/// The soft limit of open files in the text of /proc/PID/limits.
pub(super) fn soft_limit(limits: &str) -> Option<u64> {
    let line = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"))?;
    match line.split_whitespace().next()? {
        "unlimited" => Some(u64::MAX),
        number => number.parse().ok(),
    }
}
