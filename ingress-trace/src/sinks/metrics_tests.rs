//! In: one of everything that is counted. Out: proof that each metric of the contract is told.
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

/// One of everything.
fn filled() -> Metrics {
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
    metrics.own(Controller::Envoy);
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
    metrics.dead_routes([Name::new("shop", "cart"), Name::new("shop", "cart")]);
    metrics
}

#[test]
fn every_metric_of_the_contract_is_told() {
    let metrics = filled();
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
        # HELP ingress_trace_own_failures_total Failed connections that were taken for the controller's own, by what the cluster says of where they went, and are told nowhere else
        # TYPE ingress_trace_own_failures_total counter
        ingress_trace_own_failures_total{controller="envoy"} 1
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
        # HELP ingress_trace_routes_without_endpoints Ingresses, HTTPRoutes and GRPCRoutes that lead to this Service, which has no ready endpoint or does not exist: each agent tells those of the whole cluster
        # TYPE ingress_trace_routes_without_endpoints gauge
        ingress_trace_routes_without_endpoints{backend_namespace="shop",backend_service="cart"} 2
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
