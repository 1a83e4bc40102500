//! In: looks at a backend's pod, taken while it failed. Out: what its own side says of a failure.
//! The look reads /proc and cgroups, as for a controller; what it means is worked out without.
use std::collections::BTreeSet;
use std::time::Duration;

use super::{Baseline, Memory, Pressure, ProcessUsage, Queue, cgroup, descriptors, diag, sockets};
use crate::cause::facts::Inside;
use crate::cluster::object::Name;
use crate::targets::{PROCESSES, Roots, Target, process};

/// One look at a pod.
#[derive(Clone, Debug, Default)]
pub struct Look {
    /// Its listeners, other containers' included; none where they could not be read.
    pub listeners: Option<Vec<Queue>>,
    /// The process closest to its descriptor limit.
    pub descriptors: Option<ProcessUsage>,
    /// Ports whose listeners are held by a frozen process.
    pub frozen: BTreeSet<u16>,
    /// Its counters.
    pub counters: Baseline,
}

impl Look {
    /// Costs a listing of the pod's descriptors: milliseconds with tens of thousands of them.
    /// In the node's own network (`host_network`) others listen, too.
    pub fn take(target: &Target, roots: &Roots, host_network: bool) -> Self {
        let descriptors = descriptors::worst(&roots.proc, &target.pids);
        let mut listeners = listeners(target, roots);
        if host_network {
            // Which are its own is not known where not all of its descriptors are read.
            let whole = descriptors.is_some() && target.pids.len() < PROCESSES;
            let known = listeners.filter(|_| whole);
            listeners = known.map(|all| held(&target.pids, roots, &all));
        }
        Self {
            frozen: frozen(target, roots, listeners.as_deref().unwrap_or_default()),
            descriptors,
            listeners: listeners.map(|all| all.into_iter().map(|(queue, _)| queue).collect()),
            counters: Baseline::take(target, roots),
        }
    }

    /// The fullest queue at this port.
    fn queue(&self, port: u16) -> Option<Queue> {
        let all = self.listeners.iter().flatten();
        all.filter(|queue| queue.local.port() == port)
            .max_by_key(|queue| queue.waiting)
            .copied()
    }
}

fn listeners(target: &Target, roots: &Roots) -> Option<Vec<(Queue, u64)>> {
    let namespaces = process::network_namespaces(&roots.proc, &target.pids).into_iter();
    let all = namespaces.filter_map(|namespace| {
        diag::listeners(&namespace)
            .ok()
            .or_else(|| sockets::listeners(&roots.proc, namespace.pid))
    });
    all.reduce(|mut all, more| {
        all.extend(more);
        all
    })
}

/// Descriptors are gone through for frozen processes only.
fn frozen(target: &Target, roots: &Roots, listeners: &[(Queue, u64)]) -> BTreeSet<u16> {
    let pids = cgroup::frozen(target, roots);
    let held = held(&pids, roots, listeners);
    held.iter().map(|(queue, _)| queue.local.port()).collect()
}

/// The listeners that these processes hold.
fn held(pids: &[u32], roots: &Roots, listeners: &[(Queue, u64)]) -> Vec<(Queue, u64)> {
    let inodes = process::socket_inodes(&roots.proc, pids);
    let own = |(_, inode): &&(Queue, u64)| inodes.binary_search(inode).is_ok();
    listeners.iter().filter(own).copied().collect()
}

/// Of which pod, at which port.
#[derive(Clone, Debug)]
pub struct Place {
    /// The pod.
    pub pod: Name,
    /// The port that failed.
    pub port: u16,
    /// It is in the node's own network: counters of that are not its own.
    pub host_network: bool,
}

/// Counters as of a time before.
#[derive(Clone, Copy, Debug)]
pub struct Before<'a> {
    /// The counters.
    pub counters: &'a Baseline,
    /// Between them and the newest look.
    pub span: Duration,
    /// The failure lies between: that nothing was counted means that nothing happened.
    pub covers: bool,
}

/// What looks say of a failure; they were taken near it, oldest first.
pub fn inside(place: &Place, looks: &[&Look], before: Option<Before<'_>>) -> Option<Inside> {
    let (first, last) = (looks.first()?, looks.last()?);
    let ratio = |usage: &ProcessUsage| usage.usage.ratio();
    let worst = looks.iter().filter_map(|look| look.descriptors);
    let queues = looks.iter().filter_map(|look| look.queue(place.port));
    let now = &last.counters;
    let covers = before.is_some_and(|before| before.covers);
    let since = before.map(|before| before.counters);
    let overflows = since.and_then(|since| now.listening_since(since));
    let throttling = since.and_then(|since| now.throttling_since(since));
    let memory = since.and_then(|since| now.memory_since(since));
    let pressure = since.and_then(|since| now.pressure_since(since));
    Some(Inside {
        pod: place.pod.clone(),
        // What listens by now may not have done so at the failure.
        listening: first.listeners.as_deref().map(ports),
        queue: queues.max_by_key(|queue| (queue.is_full(), queue.waiting)),
        overflows: overflows
            .filter(|_| !place.host_network)
            .map(|listening| listening.overflows)
            .filter(|overflows| covers || *overflows > 0),
        descriptors: worst.max_by(|a, b| ratio(a).total_cmp(&ratio(b))),
        throttling: throttling
            .map(|(_, throttling)| throttling)
            .filter(|some| covers || !some.is_none()),
        memory: memory.filter(|some| covers || *some != Memory::default()),
        pressure: pressure.filter(|some| covers || *some != Pressure::default()),
        frozen: looks.iter().any(|look| look.frozen.contains(&place.port)),
        span: before.map_or(Duration::ZERO, |before| before.span),
    })
}

/// Ports on which others than the pod itself can connect.
fn ports(listeners: &[Queue]) -> BTreeSet<u16> {
    let open = listeners
        .iter()
        .filter(|queue| !queue.local.ip().to_canonical().is_loopback());
    open.map(|queue| queue.local.port()).collect()
}

#[cfg(test)]
#[path = "inside_tests.rs"]
mod tests;
