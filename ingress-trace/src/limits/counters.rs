//! In: counters that only ever grow. Out: their increase between two readings of one target.
//! What is newer than the first reading has no increase: its history is not known.
use std::collections::BTreeMap;
use std::path::PathBuf;

use super::cgroup::{self, Memory, Pressure, Throttling};
use crate::targets::{Roots, Target, process};

/// Accept queues that overflowed, over all listeners of a network namespace.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Listening {
    /// Connections dropped because the queue was full.
    pub overflows: u64,
    /// Connections dropped at a listener for any reason, the former included.
    pub drops: u64,
}

/// One reading.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Baseline {
    /// By network namespace.
    listening: BTreeMap<u64, Listening>,
    /// By cgroup folder.
    throttling: BTreeMap<PathBuf, Throttling>,
    /// By cgroup folder and its id: one that was made anew starts from zero.
    memory: BTreeMap<(PathBuf, u64), Memory>,
    /// By the id of the target's cgroup.
    pressure: BTreeMap<u64, Pressure>,
}

impl Baseline {
    /// Reads all counters; some small files per process.
    pub fn take(target: &Target, roots: &Roots) -> Self {
        let namespaces = process::network_namespaces(&roots.proc, &target.pids).into_iter();
        let listening = namespaces.filter_map(|namespace| {
            let text = process::read(&roots.proc, namespace.pid, "net/netstat")?;
            Some((namespace.inode, parse_netstat(&text)?))
        });
        Self {
            listening: listening.collect(),
            throttling: cgroup::throttling(target, roots),
            memory: cgroup::memory(target, roots),
            pressure: cgroup::pressure(target)
                .map(|pressure| (target.id, pressure))
                .into_iter()
                .collect(),
        }
    }

    /// Takes what is new since from a later reading, and leaves out what is gone.
    pub fn follow(&mut self, later: Self) {
        fn follow<K: Ord, V>(old: &mut BTreeMap<K, V>, later: BTreeMap<K, V>) {
            let kept = later.into_iter().map(|(key, new)| {
                let value = old.remove(&key).unwrap_or(new);
                (key, value)
            });
            *old = kept.collect::<Vec<_>>().into_iter().collect();
        }
        follow(&mut self.listening, later.listening);
        follow(&mut self.throttling, later.throttling);
        follow(&mut self.memory, later.memory);
        follow(&mut self.pressure, later.pressure);
    }

    /// Increase over all network namespaces that both readings have.
    pub(super) fn listening_since(&self, since: &Self) -> Option<Listening> {
        let both = self.listening.iter().filter_map(|(inode, now)| {
            let before = since.listening.get(inode)?;
            Some(Listening {
                overflows: now.overflows.checked_sub(before.overflows)?,
                drops: now.drops.checked_sub(before.drops)?,
            })
        });
        both.reduce(|a, b| Listening {
            overflows: a.overflows.saturating_add(b.overflows),
            drops: a.drops.saturating_add(b.drops),
        })
    }

    /// The cgroup whose threads waited longest.
    pub(super) fn throttling_since(&self, since: &Self) -> Option<(PathBuf, Throttling)> {
        let both = self.throttling.iter().filter_map(|(folder, now)| {
            let before = since.throttling.get(folder)?;
            let periods = now.periods.checked_sub(before.periods)?;
            let nanos = now.nanos.checked_sub(before.nanos)?;
            let grown = Throttling {
                periods,
                nanos,
                ..*now
            };
            Some((folder.clone(), grown))
        });
        both.max_by_key(|(_, throttling)| throttling.nanos)
    }

    /// Increase over all memory limits that both readings have.
    pub(super) fn memory_since(&self, since: &Self) -> Option<Memory> {
        let both = self.memory.iter().filter_map(|(place, now)| {
            let before = since.memory.get(place)?;
            Some(Memory {
                max: now.max.checked_sub(before.max)?,
                oom: now.oom.checked_sub(before.oom)?,
                killed: now.killed.checked_sub(before.killed)?,
            })
        });
        both.reduce(|a, b| Memory {
            max: a.max.saturating_add(b.max),
            oom: a.oom.saturating_add(b.oom),
            killed: a.killed.saturating_add(b.killed),
        })
    }

    /// Increase of what the target's cgroup waited for.
    pub(super) fn pressure_since(&self, since: &Self) -> Option<Pressure> {
        self.pressure.iter().find_map(|(id, now)| {
            let before = since.pressure.get(id)?;
            Some(Pressure {
                cpu: now.cpu.checked_sub(before.cpu)?,
                memory: now.memory.checked_sub(before.memory)?,
            })
        })
    }
}

/// /proc/PID/net/netstat: a line of names, then a line of values, per group.
pub(super) fn parse_netstat(text: &str) -> Option<Listening> {
    let mut lines = text.lines().filter_map(|line| line.strip_prefix("TcpExt:"));
    let names = lines.next()?.split_whitespace();
    let values = lines.next()?.split_whitespace();
    let pairs: Vec<_> = names.zip(values).collect();
    let value = |name| {
        pairs
            .iter()
            .find(|(found, _)| *found == name)?
            .1
            .parse()
            .ok()
    };
    Some(Listening {
        overflows: value("ListenOverflows")?,
        drops: value("ListenDrops")?,
    })
}
