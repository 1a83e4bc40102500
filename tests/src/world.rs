//! Everything together: bed, backends, nginx and the agent on it, as most tests want it; and the
//! marker by which a test knows that all verdicts before it have been given.
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Result, ensure};

use crate::agent::{Agent, Finding};
use crate::backends::Backends;
use crate::bed::{Bed, Host};
use crate::client;
use crate::nginx::{Fault, Listener, Nginx, Options};
use crate::response::Answer;

/// A bed with an ingress and its backends.
pub struct World {
    /// The backends' program.
    pub backends: Backends,
    /// The ingress.
    pub nginx: Nginx,
    // Last: it is dropped after what lives in it.
    /// The hosts.
    pub bed: Bed,
}

impl World {
    /// Builds it with the default nginx.
    pub fn new() -> Result<Self> {
        Self::with(Options::default())
    }

    /// Builds it.
    pub fn with(options: Options) -> Result<Self> {
        let bed = Bed::new()?;
        let backends = Backends::start(&bed)?;
        let nginx = Nginx::start(&bed, Host::Proxy, options)?;
        Ok(Self {
            backends,
            nginx,
            bed,
        })
    }

    /// The ingress pod's cgroup.
    pub fn cgroup(&self) -> PathBuf {
        self.bed.cgroup(Host::Proxy)
    }

    /// Starts an agent on the ingress pod.
    pub fn agent(&self) -> Result<Agent> {
        Agent::start(self.bed.folder(), &self.cgroup())
    }

    /// The address of a listener.
    pub fn at(&self, listener: Listener) -> SocketAddr {
        listener.of(Host::Proxy)
    }

    /// One GET on a connection of its own.
    pub fn get(&self, listener: Listener, path: &str) -> Result<Answer> {
        client::get(&self.bed, self.at(listener), path)
    }

    /// Sends a request that is known to fail, waits for its finding, ends the agent, and gives all
    /// other findings: whatever the agent made of the traffic so far.
    pub fn others(&self, agent: Agent) -> Result<Vec<Finding>> {
        let marker = self.mark(&agent)?;
        let mut all = agent.stop()?;
        all.retain(|finding| finding.path() != marker);
        Ok(all)
    }

    /// Sends the marker and waits for its finding; gives its path.
    pub fn mark(&self, agent: &Agent) -> Result<String> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let word = Fault::Refused.word();
        let marker = format!("/{word}/marker-{}", COUNT.fetch_add(1, Ordering::Relaxed));
        let answer = self.get(Listener::Plain, &marker)?;
        ensure!(
            answer.status == Some(502),
            "failed to place a marker: {answer:?}"
        );
        agent.finding("the marker's finding", |finding| finding.path() == marker)?;
        Ok(marker)
    }
}
