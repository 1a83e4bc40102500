//! In: a target, /proc and its cgroups, and an earlier reading. Out: what the controller itself is
//! short of. Read only when a verdict needs it; what cannot be read is absent, never guessed.
use std::net::IpAddr;
use std::path::PathBuf;

use crate::cause::taxonomy::Controller;
use crate::targets::{Roots, Target};

mod cgroup;
mod counters;
mod descriptors;
mod diag;
mod inside;
mod nginx;
mod ports;
mod sockets;

pub use cgroup::{Memory, PERIOD, Pressure, Throttling};
pub use counters::{Baseline, Listening};
pub use inside::{Before, Look, Place, inside};
pub use sockets::Queue;

/// How much of a limited thing is in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// In use now.
    pub used: u64,
    /// All there is.
    pub limit: u64,
}

impl Usage {
    /// Share in use; above 1 when the limit was lowered. 1 when there is nothing at all.
    pub fn ratio(self) -> f64 {
        if self.limit == 0 {
            1.0
        } else {
            self.used as f64 / self.limit as f64
        }
    }

    /// One below the limit is full, too: what was refused is not open.
    pub fn is_full(self) -> bool {
        self.used + 1 >= self.limit
    }

    /// The one closer to its limit.
    fn worse(self, other: Self) -> Self {
        if other.ratio() > self.ratio() {
            other
        } else {
            self
        }
    }
}

/// A usage and the process it belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProcessUsage {
    /// The process closest to its limit.
    pub pid: u32,
    /// How close.
    pub usage: Usage,
}

/// What the controller is short of. Counters are increases since the baseline, absent without one
/// or when the process, cgroup or namespace is newer than it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Limits {
    /// Open descriptors against the soft limit.
    pub descriptors: Option<ProcessUsage>,
    /// nginx only: sockets of a worker against `worker_connections`.
    pub connections: Option<ProcessUsage>,
    /// Accept queues that overflowed, in the target's network namespaces as a whole.
    pub listening: Option<Listening>,
    /// Listeners of the target with connections that wait to be accepted, longest first.
    pub queues: Option<Vec<Queue>>,
    /// The most throttled cgroup above or at the target's processes.
    pub throttling: Option<(PathBuf, Throttling)>,
    /// The target's memory limit.
    pub memory: Option<Memory>,
}

/// Reads all but the ports (see [`ports`]). Costs a pass over the target's descriptors and its
/// namespaces' socket lists: milliseconds, tens of them with 100,000 sockets.
pub fn read(target: &Target, roots: &Roots, since: Option<&Baseline>) -> Limits {
    let now = since.map(|_| Baseline::take(target, roots));
    let counters = since.zip(now.as_ref());
    Limits {
        descriptors: descriptors::worst(&roots.proc, &target.pids),
        connections: (target.controller == Controller::Nginx)
            .then(|| nginx::worst(&roots.proc, &target.pids))
            .flatten(),
        listening: counters.and_then(|(since, now)| now.listening_since(since)),
        queues: sockets::queues(&roots.proc, &target.pids),
        throttling: counters.and_then(|(since, now)| now.throttling_since(since)),
        memory: counters.and_then(|(since, now)| now.memory_since(since)),
    }
}

/// Local ports in use from the target towards one address and port, against the range that its
/// network namespace allows. Entering another namespace takes CAP_SYS_ADMIN. A controller that
/// binds its upstream sockets itself, or widens the range by `IP_LOCAL_PORT_RANGE`, has other
/// limits; sockets in TIME_WAIT count as in use, though the kernel may reuse them after a second.
pub fn ports(target: &Target, roots: &Roots, address: IpAddr, port: u16) -> Option<Usage> {
    ports::worst(&roots.proc, &target.pids, address, port)
}

#[cfg(test)]
mod tests;
