//! In: findings, the kernel's counts and the agent's own state. Out: Prometheus text.
//! No label ever holds a pod, an address, a client or a URL.
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use ingress_trace_common::aggregate::loss;
use prometheus::core::Collector;
use prometheus::process_collector::ProcessCollector;
use prometheus::{IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, TextEncoder};

use super::series::{self, Metric};
use crate::cause::taxonomy::{Cause, Visible};
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
}

/// Everything that `/metrics` tells; shared between the agent and the page.
pub struct Metrics {
    registry: Registry,
    state: Mutex<State>,
    lost: IntCounterVec,
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
mod tests {
    use expect_test::expect;
    use ingress_trace_common::aggregate::{Key, Value, counted};

    use super::*;
    use crate::cause::taxonomy::{Controller, Outcome};
    use crate::cluster::stats::{self, Reason, Verb};
    use crate::sinks::example;

    #[expect(clippy::unnecessary_wraps, reason = "the signature of a resolver")]
    fn labels(_: &Key) -> Option<Labels> {
        let (namespace, service) = ("shop".into(), "cart".into());
        Some(Labels {
            controller: Controller::Nginx,
            namespace,
            service,
            port: 8080,
        })
    }

    fn entry(counted: u8, status: u16, count: u64) -> (Key, Value) {
        let key = Key {
            cgroup: 1,
            address: [0; 16],
            port: 8080,
            status,
            counted,
            reserved: [0; 3],
        };
        let mut value = Value {
            count,
            sum: count * 3_000_000,
            ..Value::default()
        };
        value.buckets[3] = count as u32;
        (key, value)
    }

    fn report() -> Report {
        let state = stats::State {
            synced: true,
            heard: Some("2026-01-01T00:00:00.25Z".parse().expect("a time")),
            failing: None,
        };
        Report {
            states: [("nodes", stats::State::default()), ("pods", state)].into(),
            requests: [((Verb::Get, "pods", 0), 1), ((Verb::List, "pods", 200), 2)].into(),
            received: [("pods", 4096)].into(),
            errors: [(("pods", Reason::Unreachable), 1)].into(),
        }
    }

    /// All that is ours and does not change with the version or the process, with the buckets
    /// around 3 ms only.
    fn text(metrics: &Metrics) -> String {
        let near = ["le=\"0.0025\"", "le=\"0.005\"", "le=\"+Inf\""];
        let wanted = |line: &&str| {
            !line.contains("process_")
                && !line.contains("build_info")
                && (!line.contains("_bucket") || near.iter().any(|le| line.contains(le)))
        };
        metrics
            .encode()
            .lines()
            .filter(wanted)
            .fold(String::new(), |all, line| all + line + "\n")
    }

    #[test]
    fn every_metric_of_the_contract_is_told() {
        let metrics = Metrics::new();
        metrics.failure(&example());
        metrics.failure(&Finding {
            backend: None,
            status: None,
            ..example()
        });
        metrics.hook("cgroup_skb", true);
        metrics.hook("inet_sock_set_state", false);
        metrics.pods(2);
        metrics.lost(Stage::Decode, 3);
        metrics.with_counts(|counts| {
            let entries = [
                entry(counted::EXCHANGE, 200, 4),
                entry(counted::FAILURE, 0, 1),
                entry(counted::CONNECT, 0, 2),
                entry(counted::SLOW, 0, 1),
                entry(counted::RESPONSE, 502, 1),
                entry(counted::ABORT, 0, 1),
            ];
            counts.observe(entries, labels);
        });
        metrics.kube(report());
        expect![[r##"
            # HELP ingress_trace_events_lost_total Events (stage aggregate: counts, stage storage: sockets) that were lost, by stage
            # TYPE ingress_trace_events_lost_total counter
            ingress_trace_events_lost_total{stage="aggregate"} 0
            ingress_trace_events_lost_total{stage="decode"} 3
            ingress_trace_events_lost_total{stage="history"} 0
            ingress_trace_events_lost_total{stage="link"} 0
            ingress_trace_events_lost_total{stage="neighbor"} 0
            ingress_trace_events_lost_total{stage="output"} 0
            ingress_trace_events_lost_total{stage="ring"} 0
            ingress_trace_events_lost_total{stage="settle"} 0
            ingress_trace_events_lost_total{stage="storage"} 0
            # HELP ingress_trace_hook_attached Whether the kernel hook is attached (1) or could not be (0)
            # TYPE ingress_trace_hook_attached gauge
            ingress_trace_hook_attached{hook="cgroup_skb"} 1
            ingress_trace_hook_attached{hook="inet_sock_set_state"} 0
            # HELP ingress_trace_ingress_pods Ingress pods, or data planes outside of pods, that are watched
            # TYPE ingress_trace_ingress_pods gauge
            ingress_trace_ingress_pods 2
            # HELP ingress_trace_upstream_failures_total Failed upstream exchanges and connection attempts, and errors that the controller answered without any
            # TYPE ingress_trace_upstream_failures_total counter
            ingress_trace_upstream_failures_total{controller="nginx",status="",cause="keepalive_race",client_visible="yes",backend_namespace="",backend_service="",backend_port=""} 1
            ingress_trace_upstream_failures_total{controller="nginx",status="502",cause="keepalive_race",client_visible="yes",backend_namespace="",backend_service="",backend_port="8080"} 1
            # HELP ingress_trace_upstream_exchanges_total All upstream exchanges and all failed connection attempts
            # TYPE ingress_trace_upstream_exchanges_total counter
            ingress_trace_upstream_exchanges_total{controller="nginx",backend_namespace="shop",backend_service="cart",backend_port="8080"} 5
            # HELP ingress_trace_upstream_connect_seconds Time that successful upstream connects took
            # TYPE ingress_trace_upstream_connect_seconds histogram
            ingress_trace_upstream_connect_seconds_bucket{controller="nginx",backend_namespace="shop",backend_service="cart",backend_port="8080",le="0.0025"} 0
            ingress_trace_upstream_connect_seconds_bucket{controller="nginx",backend_namespace="shop",backend_service="cart",backend_port="8080",le="0.005"} 2
            ingress_trace_upstream_connect_seconds_bucket{controller="nginx",backend_namespace="shop",backend_service="cart",backend_port="8080",le="+Inf"} 2
            ingress_trace_upstream_connect_seconds_sum{controller="nginx",backend_namespace="shop",backend_service="cart",backend_port="8080"} 0.006
            ingress_trace_upstream_connect_seconds_count{controller="nginx",backend_namespace="shop",backend_service="cart",backend_port="8080"} 2
            # HELP ingress_trace_upstream_first_byte_seconds Time from the first byte of an upstream request to the first byte of its response
            # TYPE ingress_trace_upstream_first_byte_seconds histogram
            ingress_trace_upstream_first_byte_seconds_bucket{controller="nginx",backend_namespace="shop",backend_service="cart",backend_port="8080",le="0.0025"} 0
            ingress_trace_upstream_first_byte_seconds_bucket{controller="nginx",backend_namespace="shop",backend_service="cart",backend_port="8080",le="0.005"} 4
            ingress_trace_upstream_first_byte_seconds_bucket{controller="nginx",backend_namespace="shop",backend_service="cart",backend_port="8080",le="+Inf"} 4
            ingress_trace_upstream_first_byte_seconds_sum{controller="nginx",backend_namespace="shop",backend_service="cart",backend_port="8080"} 0.012
            ingress_trace_upstream_first_byte_seconds_count{controller="nginx",backend_namespace="shop",backend_service="cart",backend_port="8080"} 4
            # HELP ingress_trace_upstream_slow_total Upstream exchanges whose first response byte came later than --slow
            # TYPE ingress_trace_upstream_slow_total counter
            ingress_trace_upstream_slow_total{controller="nginx",backend_namespace="shop",backend_service="cart",backend_port="8080"} 1
            # HELP ingress_trace_client_aborts_total Requests that the client left before they were answered
            # TYPE ingress_trace_client_aborts_total counter
            ingress_trace_client_aborts_total{controller="nginx"} 1
            # HELP ingress_trace_responses_total Responses to clients whose status was read on the wire
            # TYPE ingress_trace_responses_total counter
            ingress_trace_responses_total{controller="nginx",status="502"} 1
            # HELP ingress_trace_kube_synced Whether what is known of a resource of the Kubernetes API is complete and current (1), or is missing or getting old (0)
            # TYPE ingress_trace_kube_synced gauge
            ingress_trace_kube_synced{resource="nodes"} 0
            ingress_trace_kube_synced{resource="pods"} 1
            # HELP ingress_trace_kube_last_event_timestamp_seconds When the Kubernetes API last told of a resource: a list, a change, or that there was none
            # TYPE ingress_trace_kube_last_event_timestamp_seconds gauge
            ingress_trace_kube_last_event_timestamp_seconds{resource="pods"} 1767225600.25
            # HELP ingress_trace_kube_requests_total Requests to the Kubernetes API; the code is empty where no answer came
            # TYPE ingress_trace_kube_requests_total counter
            ingress_trace_kube_requests_total{verb="get",resource="pods",code=""} 1
            ingress_trace_kube_requests_total{verb="list",resource="pods",code="200"} 2
            # HELP ingress_trace_kube_received_bytes_total Bytes of the bodies that the Kubernetes API sent
            # TYPE ingress_trace_kube_received_bytes_total counter
            ingress_trace_kube_received_bytes_total{resource="pods"} 4096
            # HELP ingress_trace_kube_errors_total Requests to the Kubernetes API that failed, watches that broke, objects that could not be read, and backend pods that were not looked at because too many failed at once (dropped)
            # TYPE ingress_trace_kube_errors_total counter
            ingress_trace_kube_errors_total{resource="pods",reason="unreachable"} 1
        "##]].assert_eq(&text(&metrics));
        for metric in series::all() {
            let head = format!("# TYPE {} {}\n", metric.name, metric.kind.word());
            assert!(metrics.encode().contains(&head), "{head}");
        }
        assert!(
            metrics
                .encode()
                .contains("\nprocess_resident_memory_bytes ")
        );
    }

    #[test]
    fn a_warning_is_not_counted_as_a_failure() {
        let metrics = Metrics::new();
        metrics.failure(&Finding {
            outcome: Outcome::Slow,
            ..example()
        });
        metrics.failure(&Finding {
            outcome: Outcome::ClientAbort,
            ..example()
        });
        assert!(!metrics.encode().contains("failures_total"));
    }

    #[test]
    fn failures_beyond_the_most_are_counted_without_a_name() {
        let metrics = Metrics::new();
        let mut finding = example();
        for port in 1..=MOST as u16 + 3 {
            finding.backend.as_mut().expect("a backend").port = Some(port);
            metrics.failure(&finding);
        }
        let state = metrics.state();
        assert_eq!(state.failures.len(), MOST + 1);
        let nameless = |failure: &&Failure| failure.backend.port == 0;
        let nameless: Vec<_> = state.failures.keys().filter(nameless).collect();
        assert_eq!(state.failures[nameless[0]], 3);
    }

    #[test]
    fn losses_kept_in_the_kernel_are_taken_as_totals() {
        let metrics = Metrics::new();
        for total in [3, 5, 5, 2] {
            metrics.lost_total(Stage::Ring, total);
        }
        assert!(
            metrics
                .encode()
                .contains("events_lost_total{stage=\"ring\"} 5\n")
        );
    }

    #[test]
    fn every_loss_of_the_kernel_has_a_stage() {
        let stages: Vec<_> = (0..loss::COUNT).filter_map(Stage::of_loss).collect();
        assert_eq!(stages, Stage::ALL[..loss::COUNT as usize]);
        assert_eq!(Stage::of_loss(loss::COUNT), None);
    }

    #[test]
    fn series_of_services_that_are_gone_disappear() {
        let metrics = Metrics::new();
        metrics.failure(&example());
        metrics.with_counts(|counts| counts.observe([entry(counted::EXCHANGE, 200, 4)], labels));
        metrics.retain(|_| false);
        assert!(!metrics.encode().contains("upstream_"));
    }

    #[test]
    fn label_values_are_escaped() {
        let metrics = Metrics::new();
        let mut finding = example();
        finding.backend.as_mut().expect("a backend").service = Some("a\"b\n".into());
        metrics.failure(&finding);
        assert!(metrics.encode().contains(r#"backend_service="a\"b\n""#));
    }
}
