//! Kubernetes objects, trimmed on arrival to what identity and causes need: plain values that the
//! index keeps and a recording stores. Knows no client, no clock and no I/O.
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// Namespace and name; the namespace of a Node is empty. Texts are shared, as thousands of objects
/// repeat them.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Name {
    /// `metadata.namespace`.
    pub namespace: Arc<str>,
    /// `metadata.name`.
    pub name: Arc<str>,
}

impl Name {
    /// From its two parts.
    pub fn new(namespace: &str, name: &str) -> Self {
        Self {
            namespace: namespace.into(),
            name: name.into(),
        }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.namespace.is_empty() {
            return f.write_str(&self.name);
        }
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// What is watched or fetched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// `v1` Pod: those of this node, and backends whose connections failed.
    Pod,
    /// `discovery.k8s.io/v1` EndpointSlice.
    Slice,
    /// `v1` Service.
    Service,
    /// `networking.k8s.io/v1` Ingress.
    Ingress,
    /// `gateway.networking.k8s.io/v1` HTTPRoute.
    HttpRoute,
    /// `gateway.networking.k8s.io/v1` GRPCRoute.
    GrpcRoute,
    /// `networking.k8s.io/v1` IngressClass.
    Class,
    /// `v1` Node.
    Node,
}

/// One object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Object {
    /// A pod.
    Pod(Pod),
    /// Endpoints of a Service.
    Slice(Slice),
    /// A Service.
    Service(Service),
    /// An Ingress, an HTTPRoute or a GRPCRoute.
    Route(Route),
    /// An IngressClass.
    Class(Class),
    /// A node.
    Node(Node),
}

impl Object {
    /// Its kind.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Pod(_) => Kind::Pod,
            Self::Slice(_) => Kind::Slice,
            Self::Service(_) => Kind::Service,
            Self::Route(route) => route.kind,
            Self::Class(_) => Kind::Class,
            Self::Node(_) => Kind::Node,
        }
    }

    /// Its name.
    pub fn name(&self) -> &Name {
        match self {
            Self::Pod(pod) => &pod.name,
            Self::Slice(slice) => &slice.name,
            Self::Service(service) => &service.name,
            Self::Route(route) => &route.name,
            Self::Class(class) => &class.name,
            Self::Node(node) => &node.name,
        }
    }
}

/// A pod.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pod {
    /// Namespace and name.
    pub name: Name,
    /// `metadata.uid`: tells a pod from the next one of the same name.
    pub uid: Arc<str>,
    /// Annotation `kubernetes.io/config.hash` of a static pod: its kubelet has another `uid` for it.
    pub hash: Option<Arc<str>>,
    /// `metadata.creationTimestamp`.
    pub created: Option<Timestamp>,
    /// `metadata.deletionTimestamp`: when its grace period ends.
    pub deletion: Option<Timestamp>,
    /// `metadata.deletionGracePeriodSeconds`.
    pub grace: Option<u32>,
    /// `spec.terminationGracePeriodSeconds`.
    pub termination: Option<u32>,
    /// The controlling owner in `metadata.ownerReferences`.
    pub owner: Option<Owner>,
    /// `spec.nodeName`.
    pub node: Option<Arc<str>>,
    /// `spec.hostNetwork`.
    pub host_network: bool,
    /// `status.podIPs`.
    pub addresses: Vec<IpAddr>,
    /// `status.phase`: Pending, Running, Succeeded, Failed.
    pub phase: Arc<str>,
    /// Condition `Ready` of `status.conditions`.
    pub ready: Option<Condition>,
    /// Labels; only of this node's pods and where a selector needs them.
    pub labels: Vec<(Arc<str>, Arc<str>)>,
    /// Containers and restartable init containers (sidecars).
    pub containers: Vec<Container>,
}

impl Pod {
    /// When its deletion was asked for: `deletionTimestamp` less the grace period.
    pub fn deleted_at(&self) -> Option<Timestamp> {
        let grace = jiff::SignedDuration::from_secs(i64::from(self.grace.unwrap_or(0)));
        self.deletion?.checked_sub(grace).ok()
    }

    /// What its node calls it: of a static pod the API has only a mirror, with a `uid` of its own.
    pub fn local_uid(&self) -> &Arc<str> {
        self.hash.as_ref().unwrap_or(&self.uid)
    }
}

/// `metadata.ownerReferences` where `controller` is true.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Owner {
    /// ReplicaSet, StatefulSet, DaemonSet, Job, ...
    pub kind: Arc<str>,
    /// Its name, in the same namespace.
    pub name: Arc<str>,
}

/// A condition's status and since when.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Condition {
    /// `status` is `True`.
    pub met: bool,
    /// `lastTransitionTime`, seconds.
    pub since: Option<Timestamp>,
    /// `reason`.
    pub reason: Option<Arc<str>>,
}

/// A container of a pod: `spec.containers[]` with its `status.containerStatuses[]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Container {
    /// Its name.
    pub name: Arc<str>,
    /// `image` of the spec.
    pub image: Arc<str>,
    /// `command` and `args` of the spec, and `NAME=value` of the variables of its environment that
    /// profiles know.
    pub command: Vec<Arc<str>>,
    /// TCP ports it declares: name (may be empty) and number.
    pub ports: Vec<(Arc<str>, u16)>,
    /// Whether it is an init container that runs beside the others: `restartPolicy` Always.
    #[serde(default)]
    pub sidecar: bool,
    /// Whether it has a `readinessProbe`.
    pub probed: bool,
    /// `lifecycle.preStop`.
    #[serde(default)]
    pub pre_stop: Option<PreStop>,
    /// `resources.limits.cpu`, as it was written.
    pub cpu: Option<Arc<str>>,
    /// `resources.limits.memory`, as it was written.
    pub memory: Option<Arc<str>>,
    /// `ready` of the status.
    pub ready: bool,
    /// `restartCount`.
    pub restarts: u32,
    /// `containerID` with its scheme, such as `containerd://...`.
    pub id: Option<Arc<str>>,
    /// `state`.
    pub state: State,
    /// `lastState`: how it ended before its last restart.
    pub last: State,
}

/// What a container does before it is told to end: `lifecycle.preStop`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PreStop {
    /// `sleep.seconds`.
    Sleep(u32),
    /// An `exec.command` that sleeps so many seconds and does nothing else.
    Command(u32),
    /// Anything else.
    Other,
}

/// State of a container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Nothing is known of it.
    #[default]
    None,
    /// It waits, with the reason: ContainerCreating, CrashLoopBackOff, ImagePullBackOff, ...
    Waiting(Arc<str>),
    /// It runs since then.
    Running(Option<Timestamp>),
    /// It ended.
    Terminated {
        /// OOMKilled, Error, Completed, ...
        reason: Arc<str>,
        /// Exit code.
        code: i32,
        /// `startedAt`.
        started: Option<Timestamp>,
        /// `finishedAt`.
        finished: Option<Timestamp>,
    },
}

/// An EndpointSlice of a Service; ports other than TCP's are left out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Slice {
    /// Namespace and name.
    pub name: Name,
    /// Label `kubernetes.io/service-name`.
    pub service: Option<Arc<str>>,
    /// Ports that all its endpoints have.
    pub ports: Vec<SlicePort>,
    /// Endpoints with addresses (`addressType` IPv4 or IPv6; FQDN has none).
    pub endpoints: Vec<Endpoint>,
}

/// A port of a slice.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlicePort {
    /// Name of the Service's port, empty where it has none.
    pub name: Arc<str>,
    /// The pods' port; `None` means all ports.
    pub port: Option<u16>,
}

/// An endpoint of a slice.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    /// Its addresses; the first is the one that is used.
    pub addresses: Vec<IpAddr>,
    /// `conditions.ready`; absent means yes.
    pub ready: bool,
    /// `conditions.serving`; absent means what `ready` says.
    pub serving: bool,
    /// `conditions.terminating`.
    pub terminating: bool,
    /// `targetRef` where it is a pod: its name, in the slice's namespace.
    pub pod: Option<Arc<str>>,
    /// `nodeName`.
    pub node: Option<Arc<str>>,
}

/// A Service; ports other than TCP's are left out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Service {
    /// Namespace and name.
    pub name: Name,
    /// `metadata.uid`: Events name it.
    #[serde(default)]
    pub uid: Arc<str>,
    /// `spec.type` ExternalName: the name it stands for.
    pub external_name: Option<Arc<str>>,
    /// Whether it has a selector: else its endpoints are made by hand.
    pub selects: bool,
    /// `spec.clusterIPs`; empty for a headless one.
    pub cluster_ips: Vec<IpAddr>,
    /// `spec.externalIPs` and `status.loadBalancer.ingress[].ip`.
    pub external_ips: Vec<IpAddr>,
    /// Its ports.
    pub ports: Vec<ServicePort>,
}

/// A port of a Service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServicePort {
    /// Its name, empty where it has none.
    pub name: Arc<str>,
    /// The Service's port.
    pub port: u16,
    /// `targetPort`.
    pub target: PortRef,
    /// `nodePort`.
    pub node_port: Option<u16>,
}

/// A port by number or by name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(untagged)]
pub enum PortRef {
    /// By number.
    Number(u16),
    /// By the name of a Service's or a container's port.
    Name(Arc<str>),
}

/// An Ingress, an HTTPRoute or a GRPCRoute: which requests lead to which Services.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// `Ingress`, `HttpRoute` or `GrpcRoute`.
    pub kind: Kind,
    /// Namespace and name.
    pub name: Name,
    /// `spec.ingressClassName` of an Ingress.
    pub class: Option<Arc<str>>,
    /// Annotation `kubernetes.io/ingress.class` of an Ingress.
    pub annotation: Option<Arc<str>>,
    /// `spec.parentRefs` of an HTTPRoute or a GRPCRoute that lead in from outside.
    pub parents: Vec<Parent>,
    /// `metadata.creationTimestamp`: of equal matches the oldest wins (Gateway API, ingress-nginx).
    pub created: Option<Timestamp>,
    /// Rules in their order.
    pub rules: Vec<Rule>,
    /// `spec.defaultBackend` of an Ingress.
    pub default_backend: Option<BackendRef>,
}

impl Route {
    /// Whether a rule of a listener leads to no Service: it redirects to another listener.
    pub fn redirects(&self, rule: &Rule) -> bool {
        let listener = self.parents.iter().any(|parent| parent.section.is_some());
        listener && rule.backends.is_empty()
    }
}

/// What a route of the Gateway API is attached to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Parent {
    /// A Gateway; none for a set of listeners (XListenerSet), whose Gateway is not known here.
    pub gateway: Option<Name>,
    /// `sectionName`: this listener only.
    pub section: Option<Arc<str>>,
}

/// An IngressClass: which controller serves the Ingresses that name it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Class {
    /// Its name; no namespace.
    pub name: Name,
    /// `spec.controller`.
    pub controller: Arc<str>,
}

/// Hosts and a path that lead to Services.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rule {
    /// Exact hosts or wildcards (`*.example.com`), lower case; empty means all.
    pub hosts: Vec<Arc<str>>,
    /// Which paths.
    pub path: PathMatch,
    /// Method, where the rule asks for one.
    pub method: Option<Arc<str>>,
    /// Whether it asks for more (headers, query) that is not known of a request here.
    pub conditional: bool,
    /// Its place in `spec.rules`: a rule with several matches, or paths, is several here.
    #[serde(default)]
    pub index: usize,
    /// Where it leads to, those of weight 0 left out. May be empty: a redirect, a resource.
    pub backends: Vec<BackendRef>,
}

/// Which paths a rule takes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PathMatch {
    /// The whole path.
    Exact(Arc<str>),
    /// Whole segments from the start: `/a` takes `/a` and `/a/b`, not `/ab`.
    Prefix(Arc<str>),
    /// A regular expression, from the start.
    Regex(Arc<str>),
    /// `ImplementationSpecific`: what the controller makes of it, mostly a prefix.
    Specific(Arc<str>),
}

/// A Service that a rule leads to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct BackendRef {
    /// The Service; its namespace may be another than the route's (ReferenceGrant).
    pub service: Name,
    /// Its port.
    pub port: Option<PortRef>,
}

/// A node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    /// Its name; no namespace.
    pub name: Name,
    /// `status.addresses` that are addresses (InternalIP, ExternalIP).
    pub addresses: Vec<IpAddr>,
    /// Condition `Ready`: `met` is false for `False` and `Unknown`.
    pub ready: Option<Condition>,
}
