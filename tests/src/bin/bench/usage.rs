//! Processor time and memory as the kernel accounts them: a cgroup or a process in, seconds or
//! bytes out. Reads only.
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

/// Processor seconds that all processes of a cgroup have used, those that ended included.
pub fn cgroup_seconds(cgroup: &Path) -> Result<f64> {
    let text = fs::read_to_string(cgroup.join("cpu.stat")).context("failed to read cpu.stat")?;
    let micros = text
        .lines()
        .find_map(|line| line.strip_prefix("usage_usec "));
    let micros: u64 = micros
        .context("failed to find usage_usec in cpu.stat")?
        .parse()
        .context("failed to parse cpu.stat")?;
    Ok(micros as f64 / 1e6)
}

/// Processor seconds that the whole machine has used, to a hundredth.
pub fn machine_seconds() -> Result<f64> {
    let text = fs::read_to_string("/proc/stat").context("failed to read /proc/stat")?;
    let line = text.lines().next().unwrap_or_default();
    let ticks: Vec<u64> = line
        .split_whitespace()
        .filter_map(|word| word.parse().ok())
        .collect();
    // The fourth and fifth are idle, the last two are contained in the first two.
    let busy: u64 = ticks.iter().take(8).sum::<u64>() - ticks.iter().skip(3).take(2).sum::<u64>();
    Ok(busy as f64 / 100.0)
}

/// Seconds that all threads of a process have spent on a processor, and waiting for one.
pub fn process_seconds(pid: u32) -> Result<(f64, f64)> {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).context("failed to list threads")?;
    let (mut used, mut waited) = (0.0, 0.0);
    // A thread that ends in between has no text.
    for text in threads
        .flatten()
        .filter_map(|one| fs::read_to_string(one.path().join("schedstat")).ok())
    {
        let mut nanos = text
            .split_whitespace()
            .filter_map(|word| word.parse::<u64>().ok());
        used += nanos.next().unwrap_or_default() as f64 / 1e9;
        waited += nanos.next().unwrap_or_default() as f64 / 1e9;
    }
    Ok((used, waited))
}

/// What a process holds, in MiB.
#[derive(Clone, Copy, Debug)]
pub struct Memory {
    /// Resident. The ring is mapped twice, one behind the other, and counts twice here.
    pub resident: f64,
    /// Resident and its own: heap and stacks.
    pub anonymous: f64,
    /// The most that was ever resident.
    pub peak: f64,
}

/// Memory of a process.
pub fn memory(pid: u32) -> Result<Memory> {
    let text =
        fs::read_to_string(format!("/proc/{pid}/status")).context("failed to read status")?;
    let mib = |name: &str| -> Result<f64> {
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        let kib = line.and_then(|line| line.split_whitespace().nth(1));
        let kib: f64 = kib
            .with_context(|| format!("failed to find {name}"))?
            .parse()
            .with_context(|| format!("failed to parse {name}"))?;
        Ok(kib / 1024.0)
    };
    Ok(Memory {
        resident: mib("VmRSS")?,
        anonymous: mib("RssAnon")?,
        peak: mib("VmHWM")?,
    })
}

/// Processor seconds of the calling thread.
pub fn thread_seconds() -> f64 {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: the pointer is to a local struct; this clock always exists.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}
