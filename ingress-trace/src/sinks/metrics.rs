//! In: findings, the kernel's counts and the agent's own state. Out: Prometheus text.
//! No label ever holds a pod, an address, a client or a URL.
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use ingress_trace_common::aggregate::loss;
use prometheus::core::Collector;
use prometheus::process_collector::ProcessCollector;
use prometheus::{IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, TextEncoder};

use super::series::{self, Metric};
use crate::cause::taxonomy::{Cause, Controller, Visible};
use crate::cluster::object::Name;
use crate::cluster::stats::Report;
use crate::counts::{self, Counts, Labels};
use crate::finding::Finding;

/// Where an event or a count was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// The ring buffer was full.
    Ring,
    /// The aggregate map was full: the count has no backend.
    Aggregate,
    /// No state could be attached to a socket.
    Storage,
    /// A retry may not have been recognized.
    Link,
    /// A sample could not be decoded.
    Decode,
    /// The settle buffer was full.
    Settle,
    /// The cluster changed faster than its past can be kept.
    History,
    /// Too many pods failed at once: of one its own side was not read.
    Neighbor,
    /// Stdout was read too slowly.
    Output,
}

impl Stage {
    /// All of them, in the order of the pipeline.
    pub const ALL: [Self; 9] = [
        Self::Ring,
        Self::Aggregate,
        Self::Storage,
        Self::Link,
        Self::Decode,
        Self::Settle,
        Self::History,
        Self::Neighbor,
        Self::Output,
    ];

    /// The label's value.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Ring => "ring",
            Self::Aggregate => "aggregate",
            Self::Storage => "storage",
            Self::Link => "link",
            Self::Decode => "decode",
            Self::Settle => "settle",
            Self::History => "history",
            Self::Neighbor => "neighbor",
            Self::Output => "output",
        }
    }

    /// The stage of an index into the kernel's loss map; `None` for one that is not known.
    pub const fn of_loss(index: u32) -> Option<Self> {
        match index {
            loss::RING => Some(Self::Ring),
            loss::AGGREGATE => Some(Self::Aggregate),
            loss::STORAGE => Some(Self::Storage),
            loss::LINK => Some(Self::Link),
            _ => None,
        }
    }
}

/// Labels of a failure; `backend` says which exchanges it is a part of.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Failure {
    pub(super) backend: Labels,
    pub(super) status: Option<u16>,
    pub(super) cause: Cause,
    pub(super) visible: Visible,
}

impl Failure {
    fn of(finding: &Finding) -> Self {
        let backend = finding.backend.as_ref();
        let word = |word: Option<&String>| word.cloned().unwrap_or_default();
        Self {
            backend: Labels {
                controller: finding.controller,
                namespace: word(backend.and_then(|backend| backend.namespace.as_ref())),
                service: word(backend.and_then(|backend| backend.service.as_ref())),
                port: backend.and_then(|backend| backend.port).unwrap_or(0),
            },
            status: finding.status,
            cause: finding.cause,
            visible: finding.client_visible,
        }
    }
}

/// Most series of failures: a backend fails in a few ways at most.
const MOST: usize = 4 * counts::MOST;

/// What is counted here and read at a scrape.
#[derive(Default)]
pub(super) struct State {
    pub(super) counts: Counts,
    pub(super) failures: BTreeMap<Failure, u64>,
    pub(super) kube: Report,
    pub(super) dead_routes: BTreeMap<Name, u64>,
}

/// Everything that `/metrics` tells; shared between the agent and the page.
pub struct Metrics {
    registry: Registry,
    state: Mutex<State>,
    lost: IntCounterVec,
    own: IntCounterVec,
    hooks: IntGaugeVec,
    pods: IntGauge,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// A registry with every metric; the losses start with a zero each, so that alerts see growth.
    ///
    /// # Panics
    /// When a definition in `series.rs` is wrong; the tests use each one.
    pub fn new() -> Self {
        let metrics = Self {
            registry: Registry::new(),
            state: Mutex::default(),
            lost: IntCounterVec::new(opts(&series::LOST), series::LOST.labels).expect(VALID),
            own: IntCounterVec::new(opts(&series::OWN), series::OWN.labels).expect(VALID),
            hooks: IntGaugeVec::new(opts(&series::HOOK), series::HOOK.labels).expect(VALID),
            pods: IntGauge::with_opts(opts(&series::PODS)).expect(VALID),
        };
        let build = IntGaugeVec::new(opts(&series::BUILD), series::BUILD.labels).expect(VALID);
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        for stage in Stage::ALL {
            metrics.lost.with_label_values(&[stage.word()]);
        }
        metrics.register(build);
        metrics.register(metrics.lost.clone());
        metrics.register(metrics.own.clone());
        metrics.register(metrics.hooks.clone());
        metrics.register(metrics.pods.clone());
        metrics.register(ProcessCollector::for_self());
        metrics
    }

    /// Counts a failure; a warning (slow, client abort) is none.
    pub fn failure(&self, finding: &Finding) {
        if finding.outcome.is_failure() {
            let (mut state, mut failure) = (self.state(), Failure::of(finding));
            if state.failures.len() >= MOST && !state.failures.contains_key(&failure) {
                failure.backend = failure.backend.nameless();
            }
            *state.failures.entry(failure).or_default() += 1;
        }
    }

    /// Counts a failure that is taken for the controller's own.
    pub fn own(&self, controller: Controller) {
        self.own.with_label_values(&[controller.word()]).inc();
    }

    /// Adds `more` losses.
    pub fn lost(&self, stage: Stage, more: u64) {
        self.lost.with_label_values(&[stage.word()]).inc_by(more);
    }

    /// Takes a total that is kept elsewhere, as in the kernel's loss map; never decreases.
    pub fn lost_total(&self, stage: Stage, total: u64) {
        let counter = self.lost.with_label_values(&[stage.word()]);
        counter.inc_by(total.saturating_sub(counter.get()));
    }

    /// Says whether a kernel hook is attached.
    pub fn hook(&self, name: &str, attached: bool) {
        self.hooks.with_label_values(&[name]).set(attached.into());
    }

    /// Says how many ingress pods (or data planes outside of pods) are watched.
    pub fn pods(&self, many: usize) {
        self.pods.set(i64::try_from(many).unwrap_or(i64::MAX));
    }

    /// Lets the caller feed the counts.
    pub fn with_counts<T>(&self, with: impl FnOnce(&mut Counts) -> T) -> T {
        with(&mut self.state().counts)
    }

    /// Says how things stand with the Kubernetes API.
    pub fn kube(&self, report: Report) {
        self.state().kube = report;
    }

    /// Says which Services without a ready endpoint routes lead to, one per route; what is beyond
    /// the most series is counted with an empty name.
    pub fn dead_routes(&self, services: impl IntoIterator<Item = Name>) {
        let mut routes: BTreeMap<Name, u64> = BTreeMap::new();
        for service in services {
            let room = routes.len() < counts::MOST || routes.contains_key(&service);
            *routes
                .entry(if room { service } else { Name::default() })
                .or_default() += 1;
        }
        self.state().dead_routes = routes;
    }

    /// Keeps the series of backends for which `live` holds; those of Services that are gone go.
    pub fn retain(&self, live: impl Fn(&Labels) -> bool) {
        let mut state = self.state();
        state.counts.retain(&live);
        state.failures.retain(|failure, _| live(&failure.backend));
    }

    /// The text that Prometheus scrapes.
    ///
    /// # Panics
    /// As [`Metrics::new`].
    pub fn encode(&self) -> String {
        let encoder = TextEncoder::new();
        let mut text = String::new();
        let mut add = |families: &[_]| encoder.encode_utf8(families, &mut text).expect(VALID);
        add(&self.registry.gather());
        for make in series::FAMILIES {
            // The agent goes on counting while the text is made.
            let family = make(&self.state());
            if !family.get_metric().is_empty() {
                add(&[family]);
            }
        }
        text
    }

    fn register(&self, collector: impl Collector + 'static) {
        self.registry.register(Box::new(collector)).expect(VALID);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Counting goes on after a panic elsewhere: each count stands for itself.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The tests register and encode every metric, and none depends on what the agent sees.
const VALID: &str = "names and labels of our metrics are valid";

fn opts(metric: &Metric) -> Opts {
    Opts::new(metric.name, metric.help)
}

#[cfg(test)]
#[path = "metrics_tests.rs"]
mod tests;
