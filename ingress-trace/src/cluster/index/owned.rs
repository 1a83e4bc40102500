//! Answers of the index to the question whose an address was: plain values.
use std::sync::Arc;

use super::seats::Health;
use super::timeline::{Since, Standing};
use crate::cluster::object::Name;

/// Who owned an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Owned {
    /// An endpoint of a Service.
    Endpoint(Box<Tenancy>),
    /// A Service: its own address, or its port on a node.
    Front(Front),
    /// A pod that is no endpoint of any Service with this address.
    Pod {
        /// Its name.
        pod: Name,
        /// Whether it had the address then.
        standing: Standing,
    },
    /// A node, or a pod in its network.
    Node(Name),
    /// Nothing in the cluster.
    Outside,
}

impl Owned {
    /// The pod, where it is one's.
    pub fn into_pod(self) -> Option<Name> {
        match self {
            Self::Endpoint(tenancy) => tenancy.pod,
            Self::Pod { pod, .. } => Some(pod),
            Self::Front(_) | Self::Node(_) | Self::Outside => None,
        }
    }
}

/// An endpoint as it was at a time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tenancy {
    /// The Service; none where the slice belongs to none.
    pub service: Option<Name>,
    /// What the port is to it.
    pub port: PortOf,
    /// The pod; none where the endpoints were made by hand.
    pub pod: Option<Name>,
    /// Its node.
    pub node: Option<Arc<str>>,
    /// Its conditions: at that time, or the last ones before, or the first ones after.
    pub health: Health,
    /// Whether it was an endpoint then.
    pub standing: Standing,
    /// Since when its conditions were these.
    pub since: Since,
    /// What it became after that time.
    pub next: Option<Next>,
    /// The pod that had the address at that time, where this one had it no more.
    pub moved: Option<Name>,
    /// Why this one of several.
    pub picked: Picked,
    /// The other Services that have, or had, an endpoint with this address.
    pub others: Vec<Name>,
}

/// What a port is to a Service's endpoints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PortOf {
    /// Theirs, with the name of the Service's port (empty where it has none).
    Named(Arc<str>),
    /// All ports are theirs, or none is said.
    Any,
    /// It was theirs before.
    Former {
        /// Name of the Service's port.
        name: Arc<str>,
        /// Until then.
        until: Since,
    },
    /// It became theirs later.
    Coming {
        /// Name of the Service's port.
        name: Arc<str>,
        /// From then on.
        from: Since,
    },
    /// It is not theirs.
    Other,
}

impl PortOf {
    /// Name of the Service's port.
    pub fn name(&self) -> Option<&Arc<str>> {
        match self {
            Self::Named(name) | Self::Former { name, .. } | Self::Coming { name, .. } => Some(name),
            Self::Any | Self::Other => None,
        }
    }
}

/// What an endpoint became.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Next {
    /// When that was learned.
    pub at: Since,
    /// Its conditions then; none when it was removed.
    pub health: Option<Health>,
}

/// Why this Service of several.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Picked {
    /// It was the only one.
    Only,
    /// What was asked for leads to it.
    Asked,
    /// It alone names the port.
    Port,
    /// It alone had the address at that time.
    Standing,
    /// A route leads to it, and to no other.
    Routed,
    /// By its name only: it may be another.
    Guess,
}

/// A Service by an address of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Front {
    /// The Service.
    pub service: Name,
    /// Name and number of its port; none where it has no such port.
    pub port: Option<(Arc<str>, u16)>,
    /// By which address.
    pub via: Via,
    /// Whether it had it then.
    pub standing: Standing,
}

/// Which address of a Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Via {
    /// A cluster IP.
    ClusterIp,
    /// An external IP, or its load balancer's.
    ExternalIp,
    /// Its port on this node.
    NodePort(Name),
}

/// Labels of an address for metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Label<'a> {
    /// Namespace and name of the Service.
    pub service: &'a Name,
    /// Name of the Service's port; empty where it has none.
    pub port: &'a str,
}
