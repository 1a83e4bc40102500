//! In: counts and failures. Out: metric families with the names of the contract, and
//! `docs/metrics.md`. The one place where a metric's name, help and labels are written.
use ingress_trace_common::aggregate::BOUNDS;
use prometheus::proto::{self, LabelPair, MetricFamily, MetricType};

use super::metrics::{Failure, State};
use crate::cause::taxonomy::Controller;
use crate::cluster::object::Name;
use crate::cluster::stats::{self, Reason, Verb};
use crate::counts::{Histogram, Labels, Upstream};

/// What a metric is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Cumulative buckets, sum and count.
    Histogram,
}

impl Kind {
    /// Prometheus' word for it.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// A metric's public face.
#[derive(Debug)]
pub struct Metric {
    /// Its full name.
    pub name: &'static str,
    /// One sentence for `# HELP`, without a final period.
    pub help: &'static str,
    /// What it is.
    pub kind: Kind,
    /// Its labels, in the order of their values.
    pub labels: &'static [&'static str],
}

/// Labels of everything about a backend.
const BACKEND: &[&str] = &[
    "controller",
    "backend_namespace",
    "backend_service",
    "backend_port",
];

/// Upstream failures with their cause.
pub const FAILURES: Metric = Metric {
    name: "ingress_trace_upstream_failures_total",
    help: "Failed upstream exchanges and connection attempts, and errors that the controller \
           answered without any",
    kind: Kind::Counter,
    labels: &[
        "controller",
        "status",
        "cause",
        "client_visible",
        "backend_namespace",
        "backend_service",
        "backend_port",
    ],
};
/// The denominator.
pub const EXCHANGES: Metric = Metric {
    name: "ingress_trace_upstream_exchanges_total",
    help: "All upstream exchanges and all failed connection attempts",
    kind: Kind::Counter,
    labels: BACKEND,
};
/// Connect latency.
pub const CONNECT: Metric = Metric {
    name: "ingress_trace_upstream_connect_seconds",
    help: "Time that successful upstream connects took",
    kind: Kind::Histogram,
    labels: BACKEND,
};
/// First-byte latency.
pub const FIRST_BYTE: Metric = Metric {
    name: "ingress_trace_upstream_first_byte_seconds",
    help: "Time from the first byte of an upstream request to the first byte of its response",
    kind: Kind::Histogram,
    labels: BACKEND,
};
/// Late first bytes.
pub const SLOW: Metric = Metric {
    name: "ingress_trace_upstream_slow_total",
    help: "Upstream exchanges whose first response byte came later than --slow",
    kind: Kind::Counter,
    labels: BACKEND,
};
/// Client aborts.
pub const ABORTS: Metric = Metric {
    name: "ingress_trace_client_aborts_total",
    help: "Requests that the client left before they were answered",
    kind: Kind::Counter,
    labels: &["controller"],
};
/// What was no client's.
pub const OWN: Metric = Metric {
    name: "ingress_trace_own_failures_total",
    help: "Failed connections that were taken for the controller's own, by what the cluster says of \
           where they went, and are told nowhere else",
    kind: Kind::Counter,
    labels: &["controller"],
};
/// Downstream responses.
pub const RESPONSES: Metric = Metric {
    name: "ingress_trace_responses_total",
    help: "Responses to clients whose status was read on the wire",
    kind: Kind::Counter,
    labels: &["controller", "status"],
};
/// Losses.
pub const LOST: Metric = Metric {
    name: "ingress_trace_events_lost_total",
    help: "Events (stage aggregate: counts, stage storage: sockets) that were lost, by stage",
    kind: Kind::Counter,
    labels: &["stage"],
};
/// Version.
pub const BUILD: Metric = Metric {
    name: "ingress_trace_build_info",
    help: "Always 1; the version is in the label",
    kind: Kind::Gauge,
    labels: &["version"],
};
/// Hooks.
pub const HOOK: Metric = Metric {
    name: "ingress_trace_hook_attached",
    help: "Whether the kernel hook is attached (1) or could not be (0)",
    kind: Kind::Gauge,
    labels: &["hook"],
};
/// Pods.
pub const PODS: Metric = Metric {
    name: "ingress_trace_ingress_pods",
    help: "Ingress pods, or data planes outside of pods, that are watched",
    kind: Kind::Gauge,
    labels: &[],
};
/// Routes that lead nowhere.
pub const DEAD_ROUTES: Metric = Metric {
    name: "ingress_trace_routes_without_endpoints",
    help: "Ingresses, HTTPRoutes and GRPCRoutes that lead to this Service, which has no ready \
           endpoint or does not exist: each agent tells those of the whole cluster",
    kind: Kind::Gauge,
    labels: &["backend_namespace", "backend_service"],
};

/// What is known of the cluster.
pub const KUBE_SYNCED: Metric = Metric {
    name: "ingress_trace_kube_synced",
    help: "Whether what is known of a resource of the Kubernetes API is complete and current (1), \
           or is missing or getting old (0)",
    kind: Kind::Gauge,
    labels: RESOURCE,
};
/// Age of what is known.
pub const KUBE_HEARD: Metric = Metric {
    name: "ingress_trace_kube_last_event_timestamp_seconds",
    help: "When the Kubernetes API last told of a resource: a list, a change, or that there was none",
    kind: Kind::Gauge,
    labels: RESOURCE,
};
/// What the agent costs the API.
pub const KUBE_REQUESTS: Metric = Metric {
    name: "ingress_trace_kube_requests_total",
    help: "Requests to the Kubernetes API; the code is empty where no answer came",
    kind: Kind::Counter,
    labels: &["verb", "resource", "code"],
};
/// And in bytes.
pub const KUBE_RECEIVED: Metric = Metric {
    name: "ingress_trace_kube_received_bytes_total",
    help: "Bytes of the bodies that the Kubernetes API sent",
    kind: Kind::Counter,
    labels: RESOURCE,
};
/// What failed there.
pub const KUBE_ERRORS: Metric = Metric {
    name: "ingress_trace_kube_errors_total",
    help: "Requests to the Kubernetes API that failed, watches that broke, objects that could not be \
           read, and backend pods that were not looked at because too many failed at once (dropped)",
    kind: Kind::Counter,
    labels: &["resource", "reason"],
};

/// Label of what is known of the cluster.
const RESOURCE: &[&str] = &["resource"];

/// Those that [`FAMILIES`] makes.
pub const COUNTED: [&Metric; 13] = [
    &FAILURES,
    &EXCHANGES,
    &CONNECT,
    &FIRST_BYTE,
    &SLOW,
    &ABORTS,
    &RESPONSES,
    &DEAD_ROUTES,
    &KUBE_SYNCED,
    &KUBE_HEARD,
    &KUBE_REQUESTS,
    &KUBE_RECEIVED,
    &KUBE_ERRORS,
];

/// All metrics of the contract, in its order.
pub fn all() -> impl Iterator<Item = &'static Metric> {
    COUNTED
        .into_iter()
        .chain([&OWN, &LOST, &BUILD, &HOOK, &PODS])
}

/// What makes the family of a metric.
pub(super) type Make = fn(&State) -> MetricFamily;

/// One for each metric of [`COUNTED`]. Made one after the other: together they take megabytes.
pub(super) const FAMILIES: [Make; 13] = [
    |state| {
        let one = |(failure, count): (&Failure, &u64)| {
            counter(FAILURES.labels, failure_labels(failure), *count)
        };
        family(&FAILURES, state.failures.iter().map(one))
    },
    |state| {
        upstream(&EXCHANGES, state, |labels, all| {
            counter(BACKEND, labels, all.exchanges)
        })
    },
    |state| {
        upstream(&CONNECT, state, |labels, all| {
            histogram(labels, &all.connect)
        })
    },
    |state| {
        upstream(&FIRST_BYTE, state, |labels, all| {
            histogram(labels, &all.first_byte)
        })
    },
    |state| {
        upstream(&SLOW, state, |labels, all| {
            counter(BACKEND, labels, all.slow)
        })
    },
    |state| {
        let one = |(controller, count): (Controller, u64)| {
            counter(ABORTS.labels, vec![controller.to_string()], count)
        };
        family(&ABORTS, state.counts.aborts().map(one))
    },
    |state| {
        let one = |(controller, status, count): (Controller, u16, u64)| {
            let labels = vec![controller.to_string(), status.to_string()];
            counter(RESPONSES.labels, labels, count)
        };
        family(&RESPONSES, state.counts.responses().map(one))
    },
    |state| {
        let one = |(service, routes): (&Name, &u64)| {
            let labels = vec![service.namespace.to_string(), service.name.to_string()];
            gauge(DEAD_ROUTES.labels, labels, *routes as f64)
        };
        family(&DEAD_ROUTES, state.dead_routes.iter().map(one))
    },
    |state| {
        let one = |(resource, state): (&&str, &stats::State)| {
            gauge(RESOURCE, vec![(*resource).into()], state.synced.into())
        };
        family(&KUBE_SYNCED, state.kube.states.iter().map(one))
    },
    |state| {
        let one = |(resource, state): (&&str, &stats::State)| {
            let seconds = state.heard?.as_microsecond() as f64 / 1e6;
            Some(gauge(RESOURCE, vec![(*resource).into()], seconds))
        };
        family(&KUBE_HEARD, state.kube.states.iter().filter_map(one))
    },
    |state| {
        let requests = state.kube.requests.iter();
        let one = |((verb, resource, code), count): (&(Verb, &str, u16), &u64)| {
            let labels = [verb.word(), resource, &number(Some(*code))];
            counter(KUBE_REQUESTS.labels, labels.map(Into::into).into(), *count)
        };
        family(&KUBE_REQUESTS, requests.map(one))
    },
    |state| {
        let one =
            |(resource, bytes): (&&str, &u64)| counter(RESOURCE, vec![(*resource).into()], *bytes);
        family(&KUBE_RECEIVED, state.kube.received.iter().map(one))
    },
    |state| {
        let one = |((resource, reason), count): (&(&str, Reason), &u64)| {
            let labels = vec![(*resource).into(), reason.word().into()];
            counter(KUBE_ERRORS.labels, labels, *count)
        };
        family(&KUBE_ERRORS, state.kube.errors.iter().map(one))
    },
];

fn upstream(
    metric: &Metric,
    state: &State,
    make: fn(Vec<String>, &Upstream) -> proto::Metric,
) -> MetricFamily {
    let one = |(labels, all): (&Labels, &Upstream)| make(backend_labels(labels), all);
    family(metric, state.counts.upstream().map(one))
}

fn family(metric: &Metric, samples: impl Iterator<Item = proto::Metric>) -> MetricFamily {
    let mut family = MetricFamily::default();
    family.set_name(metric.name.into());
    family.set_help(metric.help.into());
    family.set_field_type(match metric.kind {
        Kind::Counter => MetricType::COUNTER,
        Kind::Gauge => MetricType::GAUGE,
        Kind::Histogram => MetricType::HISTOGRAM,
    });
    family.set_metric(samples.collect());
    family
}

fn backend_labels(labels: &Labels) -> Vec<String> {
    vec![
        labels.controller.to_string(),
        labels.namespace.clone(),
        labels.service.clone(),
        number(Some(labels.port)),
    ]
}

fn failure_labels(failure: &Failure) -> Vec<String> {
    let mut values = backend_labels(&failure.backend);
    let rest = [
        number(failure.status),
        failure.cause.to_string(),
        failure.visible.to_string(),
    ];
    values.splice(1..1, rest);
    values
}

/// Empty where it is not known (0 for a port).
fn number(number: Option<u16>) -> String {
    number
        .filter(|number| *number != 0)
        .map(|number| number.to_string())
        .unwrap_or_default()
}

fn sample(names: &[&str], values: Vec<String>) -> proto::Metric {
    debug_assert_eq!(names.len(), values.len());
    let pairs = names.iter().zip(values).map(|(name, value)| {
        let mut pair = LabelPair::default();
        pair.set_name((*name).into());
        pair.set_value(value);
        pair
    });
    proto::Metric::from_label(pairs.collect())
}

fn counter(names: &[&str], values: Vec<String>, count: u64) -> proto::Metric {
    let mut counter = proto::Counter::default();
    counter.set_value(count as f64);
    let mut sample = sample(names, values);
    sample.set_counter(counter);
    sample
}

fn gauge(names: &[&str], values: Vec<String>, value: f64) -> proto::Metric {
    let mut gauge = proto::Gauge::default();
    gauge.set_value(value);
    let mut sample = sample(names, values);
    sample.set_gauge(gauge);
    sample
}

fn histogram(values: Vec<String>, latencies: &Histogram) -> proto::Metric {
    let mut below = 0;
    let buckets = BOUNDS.iter().zip(latencies.buckets).map(|(bound, count)| {
        below += count;
        let mut bucket = proto::Bucket::default();
        bucket.set_upper_bound(seconds(*bound));
        bucket.set_cumulative_count(below);
        bucket
    });
    let mut histogram = proto::Histogram::default();
    histogram.set_bucket(buckets.collect());
    histogram.set_sample_count(latencies.count());
    histogram.set_sample_sum(seconds(latencies.sum));
    let mut sample = sample(BACKEND, values);
    sample.set_histogram(histogram);
    sample
}

fn seconds(nanos: u64) -> f64 {
    nanos as f64 / 1e9
}

/// The text of `docs/metrics.md`.
pub fn document() -> String {
    let mut text = String::from(
        "<!-- Written by a test from ingress-trace/src/sinks/series.rs; change it there and run \
         `UPDATE_EXPECT=1 cargo test`. -->\n# Metrics\n\n| metric | type | labels | meaning \
         |\n|---|---|---|---|\n",
    );
    for metric in all() {
        let labels: Vec<_> = metric
            .labels
            .iter()
            .map(|label| format!("`{label}`"))
            .collect();
        let labels = if labels.is_empty() {
            "-".into()
        } else {
            labels.join(", ")
        };
        let row = format!(
            "| `{}` | {} | {labels} | {} |\n",
            metric.name,
            metric.kind.word(),
            metric.help
        );
        text.push_str(&row);
    }
    let bounds: Vec<_> = BOUNDS
        .iter()
        .map(|bound| seconds(*bound).to_string())
        .collect();
    text.push_str("\nBuckets of the histograms, in seconds: ");
    text.push_str(&bounds.join(", "));
    text.push_str(
        ".\n\nA label is empty where its value is not known or does not apply; a backend outside \
         the cluster has an empty namespace and service. No label ever holds a pod, an address, a \
         client or a URL. `process_*` describe the agent itself.\n\nThe share of failed exchanges \
         that clients saw, by Service:\n\n```promql\nsum by (backend_namespace, backend_service) \
         (rate(ingress_trace_upstream_failures_total{client_visible=\"yes\"}[5m]))\n  / sum by \
         (backend_namespace, backend_service) \
         (rate(ingress_trace_upstream_exchanges_total[5m]))\n```\n",
    );
    text
}

#[cfg(test)]
mod tests {
    use expect_test::expect_file;

    use super::*;

    #[test]
    fn the_document_of_metrics_is_up_to_date() {
        expect_file!["../../../docs/metrics.md"].assert_eq(&document());
    }

    #[test]
    fn each_metric_has_a_family_of_its_own() {
        let state = State::default();
        let names = FAMILIES.map(|make| make(&state).name().to_owned());
        assert_eq!(names, COUNTED.map(|metric| metric.name));
    }
}
