//! In: what was read of a backend's own side, and what was seen of it before. Out: plain values for the
//! decision. Whoever fills them does the I/O; nothing here decides.
use std::collections::BTreeSet;
use std::time::Duration;

use crate::cluster::object::Name;
use crate::limits::{Memory, Pressure, ProcessUsage, Queue, Throttling};

/// What the backend's own side says, where its pod runs on this node. Read at the failure and again
/// before the verdict.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Inside {
    /// The pod.
    pub pod: Name,
    /// TCP ports on which something listens in the pod's network namespace; None: could not be read.
    pub listening: Option<BTreeSet<u16>>,
    /// Accept queue of the failed port's listener.
    pub queue: Option<Queue>,
    /// Connections its listeners dropped because their queue was full, between the readings.
    pub overflows: Option<u64>,
    /// The process nearest to its descriptor limit.
    pub descriptors: Option<ProcessUsage>,
    /// Increase between the readings.
    pub throttling: Option<Throttling>,
    /// What its memory limit did between the readings.
    pub memory: Option<Memory>,
    /// For how long all of it that could run had to wait, between the readings.
    pub pressure: Option<Pressure>,
    /// Whether the cgroup is frozen.
    pub frozen: bool,
    /// Between the readings.
    pub span: Duration,
}

/// What this agent saw of a backend before and beside the failure.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Past {
    /// How long before the failure, at most, an exchange (or connect) with this address and port last
    /// succeeded; None: never while watched.
    pub last_success: Option<Duration>,
    /// How long this address and port are known.
    pub watched: Duration,
    /// Other pods of the same Service within the last 10 s that succeeded.
    pub siblings_fine: u32,
    /// The same, that failed in the same way.
    pub siblings_failed: u32,
}
