//! In: who it was, and what is known of the ingress pod. Out: the names, ports and values that fixes are
//! made of, as texts.
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::SLEEP;
use crate::cause::evidence::Shortage;
use crate::cause::facts::Inside;
use crate::cause::taxonomy::Controller;
use crate::cluster::object::{Container, Kind, Name, Owner, Pod, PreStop};
use crate::event::{Event, Strange};
use crate::identity::Identity;
use crate::limits::{ProcessUsage, Throttling};
use crate::profiles;

/// Containers that admission webhooks put into pods (Istio, Linkerd, Kuma, Consul, Vault, Dapr): what
/// made the pod has none of that name, so that a patch which names them is refused.
const INJECTED: [&str; 6] = [
    "istio-proxy",
    "linkerd-proxy",
    "kuma-sidecar",
    "consul-dataplane",
    "vault-agent",
    "daprd",
];

/// An object of a kind, by the name that kubectl has for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Thing {
    /// `deployment`, `ingress`, ...
    pub kind: String,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

/// How late timers fire, at most, twice.
const LATE: Duration = Duration::from_millis(100);

/// A container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// Its name.
    pub name: String,
    /// Whether it has a readiness probe.
    pub probed: bool,
    /// Twice its CPU limit, where it has one.
    pub more_cpu: Option<String>,
    /// Twice its memory limit, where it has one.
    pub more_memory: Option<String>,
    /// What it does before it is told to end.
    pub pre_stop: Option<PreStop>,
}

/// What a pod was short of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Short {
    /// Its CPU quota held it back.
    Cpu,
    /// Others had the node's CPUs.
    Node,
    /// Processes were killed for want of memory.
    Memory,
    /// Room in its accept queue.
    Queue,
    /// File descriptors.
    Files,
}

/// A pod, what made it, and those of its containers that matter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Member {
    /// The pod.
    pub pod: Option<Thing>,
    /// What made it.
    pub owner: Option<Thing>,
    /// Its containers but for sidecars; of a backend those that have the port, where that is declared.
    pub parts: Vec<Part>,
    /// A grace period that leaves room for the sleeps of [`Part::sleep`].
    pub grace: Option<String>,
    /// What it was short of.
    pub short: Vec<Short>,
    /// Whether it is in its node's network.
    pub host_network: bool,
}

/// What a fix is about. What is not known is absent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Subject {
    /// The Service.
    pub service: Option<Thing>,
    /// Number of its port.
    pub service_port: Option<String>,
    /// The pods' port that was addressed.
    pub port: Option<String>,
    /// The only port on which the pod listens, or that it declares.
    pub right_port: Option<String>,
    /// The backend's pod.
    pub backend: Member,
    /// Its node.
    pub node: Option<String>,
    /// The Ingress or route.
    pub route: Option<Thing>,
    /// Place of the rule in its `spec.rules`, where that is certain.
    pub rule: Option<usize>,
    /// The ingress pod.
    pub ingress: Member,
    /// Where that has its settings.
    pub settings: Option<Thing>,
    /// How it is deployed, as in its profile.
    pub packaging: Option<&'static str>,
    /// The data plane.
    pub controller: Option<Controller>,
    /// Whether the backend speaks TLS where plaintext was spoken to it.
    pub tls: bool,
    /// Twice the time, in seconds, after which the controller gave up.
    pub longer: Option<u64>,
    /// A time, in seconds, shorter than the backend's patience with idle connections.
    pub shorter: Option<u64>,
    /// Twice the connections of a worker of the controller that had no more.
    pub connections: Option<String>,
    /// Twice the descriptors of a process of the controller that had no more.
    pub files: Option<String>,
    /// Whole seconds, at most, from the request to delete the pod to the failure.
    pub ending: Option<u64>,
    /// Whether a reader fills in what is not known.
    pub placeholders: bool,
}

impl Thing {
    /// An object.
    pub fn new(kind: &str, name: &Name) -> Self {
        Self {
            kind: kind.to_owned(),
            namespace: name.namespace.to_string(),
            name: name.name.to_string(),
        }
    }

    /// Its kind and name with the namespace, as a person writes it.
    pub fn words(&self) -> String {
        let Self {
            kind,
            namespace,
            name,
        } = self;
        if namespace.is_empty() {
            return format!("{kind} {name}");
        }
        format!("{kind} {namespace}/{name}")
    }
}

impl Part {
    fn of(container: &Container) -> Self {
        Self {
            name: container.name.to_string(),
            probed: container.probed,
            more_cpu: container.cpu.as_deref().and_then(twice),
            more_memory: container.memory.as_deref().and_then(twice),
            pre_stop: container.pre_stop,
        }
    }

    /// Seconds that it sleeps before it is told to end, and those that it should: longer than now. None
    /// where it does something else then.
    pub fn sleep(&self) -> Option<(u32, u32)> {
        match self.pre_stop {
            None => Some((0, SLEEP)),
            Some(PreStop::Sleep(now) | PreStop::Command(now)) => {
                Some((now, now.saturating_mul(2).max(SLEEP)))
            }
            Some(PreStop::Other) => None,
        }
    }
}

impl Member {
    /// Of a pod; only containers that have the port, where one declares it.
    pub fn of(pod: &Pod, port: Option<u16>) -> Self {
        // Sidecars end after the others, so that those decide; patches find them elsewhere.
        let mut own: Vec<&Container> = pod.containers.iter().filter(|one| !one.sidecar).collect();
        let injected = |one: &Container| INJECTED.contains(&&*one.name);
        // Where there is nothing else it is no guest: the pod is a gateway of that kind.
        if !own.iter().all(|one| injected(one)) {
            own.retain(|one| !injected(one));
        }
        let has = |ports: &[(Arc<str>, u16)]| ports.iter().any(|(_, one)| Some(*one) == port);
        let declared = own.iter().any(|one| has(&one.ports));
        let parts = own.iter().filter(|one| !declared || has(&one.ports));
        let parts: Vec<Part> = parts.map(|one| Part::of(one)).collect();
        let longer = |part: &Part| part.sleep().map_or(SLEEP, |(now, then)| then - now);
        let longest = parts.iter().map(longer).max().unwrap_or(SLEEP);
        // Kubernetes' default is 30 s; the sleep counts.
        let grace = pod.termination.unwrap_or(30).saturating_add(longest);
        Self {
            pod: Some(Thing::new("pod", &pod.name)),
            owner: pod
                .owner
                .as_ref()
                .and_then(|owner| made_by(owner, &pod.name)),
            parts,
            grace: Some(grace.to_string()),
            short: Vec::new(),
            host_network: pod.host_network,
        }
    }
}

/// What made a pod, where it is of a kind that kubectl can change.
fn made_by(owner: &Owner, pod: &Name) -> Option<Thing> {
    let kind = match &*owner.kind {
        "Deployment" => "deployment",
        "StatefulSet" => "statefulset",
        "DaemonSet" => "daemonset",
        "ReplicaSet" => "replicaset",
        _ => return None,
    };
    let name = Name {
        namespace: pod.namespace.clone(),
        name: owner.name.clone(),
    };
    Some(Thing::new(kind, &name))
}

/// Twice a quantity (k8s.io/apimachinery/pkg/api/resource): a number with a suffix.
fn twice(quantity: &str) -> Option<String> {
    let end = quantity.find(|char: char| !char.is_ascii_digit() && char != '.');
    let (number, suffix) = quantity.split_at(end.unwrap_or(quantity.len()));
    let known = ["", "m", "k", "M", "G", "T", "Ki", "Mi", "Gi", "Ti"].contains(&suffix);
    let number: f64 = number.parse().ok().filter(|number| *number > 0.0)?;
    known.then(|| format!("{}{suffix}", number * 2.0))
}

impl Subject {
    /// Of a failure at this time.
    pub fn new(
        event: &Event,
        who: Option<&Identity>,
        inside: Option<&Inside>,
        at: Timestamp,
    ) -> Self {
        let idle = event.idle.map(Duration::from_nanos);
        let seconds = idle
            .map(|idle| idle.as_secs())
            .filter(|seconds| *seconds > 1);
        let mut subject = Self {
            tls: matches!(event.strange, Some(Strange::Tls(_))),
            longer: longer(event),
            shorter: seconds.map(|seconds| seconds - 1),
            ..Self::default()
        };
        if let Some(who) = who {
            subject = subject.named(event, who, inside);
            subject.ending = ending(who, at);
        }
        subject.backend.short = inside.map_or_else(Vec::new, short);
        subject
    }

    fn named(self, event: &Event, who: &Identity, inside: Option<&Inside>) -> Self {
        let port = event.leads.unwrap_or(event.remote).port();
        let addressed = event.leg == crate::event::Leg::Upstream;
        let port = addressed.then_some(port);
        let pod = who.known.as_ref().map(|known| &known.newest);
        let mut backend = pod.map_or_else(Member::default, |pod| Member::of(pod, port));
        if backend.pod.is_none() {
            backend.pod = who.pod.as_ref().map(|pod| Thing::new("pod", pod));
        }
        let route = who.route.as_ref().filter(|route| route.certain);
        Self {
            service: who.service.as_ref().map(|name| Thing::new("service", name)),
            service_port: who.number.map(|number| number.to_string()),
            port: port.map(|port| port.to_string()),
            right_port: right_port(port, pod.map(|pod| &**pod), inside),
            backend,
            node: who.node.clone(),
            rule: route.and_then(|route| route.rule),
            route: route.map(|route| {
                let kind = match route.kind {
                    Kind::HttpRoute => "httproute",
                    Kind::GrpcRoute => "grpcroute",
                    _ => "ingress",
                };
                Thing::new(kind, &route.route)
            }),
            ..self
        }
    }

    /// With what is known of the ingress pod.
    #[must_use]
    pub fn behind(mut self, controller: Controller, pod: Option<&Pod>) -> Self {
        self.controller = Some(controller);
        if let Some(pod) = pod {
            self.ingress = Member::of(pod, None);
            let labels = profiles::labels(pod);
            self.packaging = profiles::deployed(pod, &labels, |told, _| told.packaging.name);
            self.settings = settings(pod);
        }
        self
    }

    /// With what the controller ran out of.
    #[must_use]
    pub fn short_of(mut self, shortage: &Shortage) -> Self {
        let twice = |process: ProcessUsage| {
            let usage = process.usage;
            let twice = || usage.limit.saturating_mul(2).to_string();
            usage.is_full().then(twice)
        };
        if let Some(limits) = &shortage.limits {
            self.connections = limits.connections.and_then(twice);
            self.files = limits.descriptors.and_then(twice);
            let throttling = limits
                .throttling
                .as_ref()
                .map(|(_, throttling)| *throttling);
            let cpu = throttling.is_some_and(|one| held_back(one, shortage.span));
            let memory = limits.memory.is_some_and(|memory| memory.killed > 0);
            let all = [(cpu, Short::Cpu), (memory, Short::Memory)];
            self.ingress.short = those(&all);
        }
        self
    }
}

/// What a backend was short of.
fn short(inside: &Inside) -> Vec<Short> {
    let cpu = inside
        .throttling
        .is_some_and(|one| held_back(one, inside.span));
    let waited = inside
        .pressure
        .map(|pressure| Duration::from_nanos(pressure.cpu));
    let node = waited.is_some_and(|waited| !waited.is_zero() && waited * 2 >= inside.span);
    let queue = inside.overflows.is_some_and(|count| count > 0)
        || inside.queue.is_some_and(|queue| queue.is_full());
    let files = inside
        .descriptors
        .is_some_and(|process| process.usage.is_full());
    those(&[
        (cpu, Short::Cpu),
        // Who is held back by a quota waits, too.
        (node && !cpu, Short::Node),
        (queue, Short::Queue),
        (files, Short::Files),
    ])
}

fn those(all: &[(bool, Short)]) -> Vec<Short> {
    let so = all.iter().filter(|(so, _)| *so);
    so.map(|(_, short)| *short).collect()
}

/// More than now and then.
fn held_back(throttling: Throttling, span: Duration) -> bool {
    !span.is_zero() && Duration::from_nanos(throttling.nanos) * 5 >= span
}

/// Seconds from the request to delete the pod to the failure, rounded up: the former is cut to its second.
fn ending(who: &Identity, at: Timestamp) -> Option<u64> {
    let since = who.known.as_ref()?.terminating?;
    let passed = at.duration_since(since.at);
    u64::try_from(passed.as_secs())
        .ok()
        .map(|seconds| seconds + 1)
}

/// The port that a Service should lead to, where there is only one candidate.
fn right_port(wrong: Option<u16>, pod: Option<&Pod>, inside: Option<&Inside>) -> Option<String> {
    let declared = pod.into_iter().flat_map(|pod| &pod.containers);
    let declared: Vec<u16> = declared
        .flat_map(|one| one.ports.iter().map(|(_, port)| *port))
        .filter(|port| Some(*port) != wrong)
        .collect();
    let listening = inside?.listening.as_ref()?;
    let open: Vec<u16> = listening
        .iter()
        .copied()
        .filter(|port| Some(*port) != wrong)
        .collect();
    let both: Vec<u16> = declared
        .into_iter()
        .filter(|port| open.contains(port))
        .collect();
    match (&*both, &*open) {
        ([only], _) | ([], [only]) => Some(only.to_string()),
        _ => None,
    }
}

/// Twice as long as was waited, in whole seconds; timers fire a little late.
fn longer(event: &Event) -> Option<u64> {
    let waited = crate::cause::reading::age(event);
    let twice = (waited * 2).saturating_sub(LATE);
    let begun = u64::from(twice.subsec_nanos() > 0);
    (!waited.is_zero()).then(|| (twice.as_secs() + begun).max(1))
}

/// The ConfigMap that an ingress pod was told to follow, by the flags of ingress-nginx, F5's and both
/// HAProxy controllers.
fn settings(pod: &Pod) -> Option<Thing> {
    let words = pod
        .containers
        .iter()
        .flat_map(|container| &container.command);
    let given = words.into_iter().find_map(|word| {
        let word = word.trim_start_matches('-');
        let flags = ["configmap=", "nginx-configmaps=", "config-map="];
        flags.iter().find_map(|flag| word.strip_prefix(flag))
    })?;
    let (namespace, name) = given.split_once('/')?;
    let namespace = match namespace {
        "$(POD_NAMESPACE)" => pod.name.namespace.to_string(),
        named => named.to_owned(),
    };
    Some(Thing {
        kind: "configmap".to_owned(),
        namespace,
        name: name.to_owned(),
    })
}

#[cfg(test)]
#[path = "subject_tests.rs"]
mod tests;
