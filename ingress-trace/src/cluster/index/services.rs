//! In: a Service and a time. Out: whether it was there, its port, and how many endpoints it had in
//! which condition; and the routes that lead to Services without a ready one.
use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use jiff::Timestamp;

use super::Index;
use super::seats::{Health, Tenant};
use super::store::{Linked, Store};
use super::timeline::{Since, Standing, Timeline};
use crate::cluster::object::{BackendRef, Class, Kind, Name, Node, Pod, PortRef, Service};

/// An address or a port by which a Service is found.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Spot {
    /// A cluster IP or an external one.
    Address(IpAddr),
    /// A port on all nodes.
    NodePort(u16),
}

impl Linked for Service {
    type Link = Spot;

    fn links(&self) -> Vec<Spot> {
        let addresses = self.cluster_ips.iter().chain(&self.external_ips);
        let ports = self.ports.iter().filter_map(|port| port.node_port);
        addresses
            .map(|ip| Spot::Address(*ip))
            .chain(ports.map(Spot::NodePort))
            .collect()
    }
}

impl Linked for Pod {
    type Link = IpAddr;

    fn links(&self) -> Vec<IpAddr> {
        self.addresses.clone()
    }
}

impl Linked for Class {
    type Link = ();

    fn links(&self) -> Vec<()> {
        Vec::new()
    }
}

impl Linked for Node {
    type Link = IpAddr;

    fn links(&self) -> Vec<IpAddr> {
        self.addresses.clone()
    }
}

/// How many endpoints are in which condition; the same pod in several slices counts once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Numbers {
    /// Ready.
    pub ready: usize,
    /// Serving: ready ones, and terminating ones that still answer.
    pub serving: usize,
    /// Terminating, serving or not.
    pub terminating: usize,
    /// Neither ready nor terminating.
    pub not_ready: usize,
}

impl Numbers {
    fn add(&mut self, health: Health) {
        self.ready += usize::from(health.ready);
        self.serving += usize::from(health.serving);
        self.terminating += usize::from(health.terminating);
        self.not_ready += usize::from(!health.ready && !health.terminating);
    }

    /// Endpoints of any condition.
    pub fn all(&self) -> usize {
        self.ready
            .max(self.ready + self.not_ready + self.terminating)
    }
}

/// What the port that is asked for is to a Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PortThen {
    /// None was asked for.
    Whole,
    /// It has it, with this name and number.
    Has(Arc<str>, u16),
    /// It has no such port.
    Missing,
}

/// A Service as it was at a time.
#[derive(Clone, Debug, PartialEq)]
pub struct ServiceThen {
    /// Whether it was there; none where it has never been heard of.
    pub standing: Option<Standing>,
    /// The Service: as it was then, or the last one before, or the first one after.
    pub service: Option<Arc<Service>>,
    /// The port that was asked for.
    pub port: PortThen,
    /// Its endpoints (of that port) at that time.
    pub numbers: Numbers,
    /// When the last ready endpoint stopped to be ready, where there is none.
    pub emptied: Option<Since>,
}

impl ServiceThen {
    /// The name outside that it stands for.
    pub fn external_name(&self) -> Option<&Arc<str>> {
        self.service.as_ref()?.external_name.as_ref()
    }

    /// Whether it was there.
    pub fn exists(&self) -> bool {
        self.standing == Some(Standing::Held)
    }
}

/// A route to a Service that has no ready endpoint, or does not exist.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DeadRoute {
    /// Ingress, HTTPRoute or GRPCRoute.
    pub kind: Kind,
    /// The route.
    pub route: Name,
    /// The Service.
    pub service: Name,
}

impl Index {
    /// A Service, or one port of it, at a time.
    pub fn service(&self, name: &Name, port: Option<&PortRef>, at: Timestamp) -> ServiceThen {
        let known = self.services.get(name).and_then(|timeline| timeline.at(at));
        let service = known.map(|(service, _)| service.clone());
        let port = port_then(service.as_deref(), port);
        let only = match &port {
            PortThen::Has(name, _) => Some(&**name),
            PortThen::Whole | PortThen::Missing => None,
        };
        let numbers = match port {
            PortThen::Missing => Numbers::default(),
            PortThen::Whole | PortThen::Has(..) => self.numbers(name, only, at),
        };
        let emptied = (numbers.ready == 0).then(|| self.emptied(name, only, at));
        ServiceThen {
            standing: known.map(|(_, standing)| standing),
            service,
            port,
            numbers,
            emptied: emptied.flatten(),
        }
    }

    /// The number of a Service's port with this name, at a time.
    pub fn port(&self, service: &Name, port: &str, at: Timestamp) -> Option<u16> {
        let (service, _) = self.services.get(service)?.at(at)?;
        let named = service.ports.iter().find(|known| *known.name == *port);
        named.map(|known| known.port)
    }

    /// Whether a Service is there, or was until a time that has not been forgotten yet: its series
    /// stay as long.
    pub fn lives(&self, service: &Name) -> bool {
        self.services.get(service).is_some()
    }

    /// Routes that lead to Services without a ready endpoint by now; each Service of each route once.
    pub fn dead_routes(&self) -> Vec<DeadRoute> {
        let mut known: HashMap<&BackendRef, bool> = HashMap::new();
        let mut is_dead = |to| {
            *known.entry(to).or_insert_with(|| {
                let then = self.service(&to.service, to.port.as_ref(), Timestamp::MAX);
                then.numbers.ready == 0 && !(then.exists() && then.external_name().is_some())
            })
        };
        let mut dead: Vec<DeadRoute> = self
            .routes
            .iter()
            .flat_map(Store::present)
            .flat_map(|(_, compiled)| compiled.backends().map(move |to| (&compiled.route, to)))
            .filter(|(_, to)| is_dead(to))
            .map(|(route, to)| DeadRoute {
                kind: route.kind,
                route: route.name.clone(),
                service: to.service.clone(),
            })
            .collect();
        dead.sort_unstable();
        dead.dedup();
        dead
    }

    fn numbers(&self, service: &Name, port: Option<&str>, at: Timestamp) -> Numbers {
        let mut pods: BTreeMap<Seat, (Timestamp, Health)> = BTreeMap::new();
        for (address, timeline) in self.seats.of_service(service) {
            let Some(version) = timeline.stood(at) else {
                continue;
            };
            let Some(tenant) = version.value.as_ref().filter(|it| of(it, service, port)) else {
                continue;
            };
            let seat = tenant
                .pod
                .as_deref()
                .map_or(Seat::Address(address), Seat::Pod);
            let new = (version.from, tenant.health);
            // An endpoint that moves between slices is twice in between: the newer word counts.
            let known = pods.entry(seat).or_insert(new);
            *known = (*known).max(new);
        }
        let mut numbers = Numbers::default();
        for (_, health) in pods.into_values() {
            numbers.add(health);
        }
        numbers
    }

    /// When the last of the endpoints stopped to be ready.
    fn emptied(&self, service: &Name, port: Option<&str>, at: Timestamp) -> Option<Since> {
        let ready = |tenant: &Tenant| tenant.health.ready && of(tenant, service, port);
        let ends = self.seats.of_service(service);
        ends.filter_map(|(_, timeline)| ended(timeline, at, ready))
            .max_by_key(|since| since.at)
    }
}

/// What an endpoint is counted by.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Seat<'a> {
    Pod(&'a str),
    Address(IpAddr),
}

/// Whether an endpoint is one of a Service, and has a port of this name.
fn of(tenant: &Tenant, service: &Name, port: Option<&str>) -> bool {
    let mut ports = tenant.head.ports.iter();
    tenant.head.service.as_ref() == Some(service)
        && port.is_none_or(|name| ports.any(|port| *port.name == *name))
}

/// When something last stopped to be so, before a time.
fn ended<T: PartialEq>(
    timeline: &Timeline<T>,
    at: Timestamp,
    so: impl Fn(&T) -> bool,
) -> Option<Since> {
    let holds = |value: &Option<T>| value.as_ref().is_some_and(&so);
    let past = timeline.versions().filter(|version| version.from <= at);
    let mut found = None;
    let mut held = false;
    for version in past {
        let holds = holds(&version.value);
        if held && !holds {
            found = Some(version.since());
        }
        held = holds;
    }
    found
}

fn port_then(service: Option<&Service>, port: Option<&PortRef>) -> PortThen {
    let (Some(service), Some(asked)) = (service, port) else {
        return PortThen::Whole;
    };
    let found = service.ports.iter().find(|port| match asked {
        PortRef::Number(number) => port.port == *number,
        PortRef::Name(name) => port.name == *name,
    });
    found.map_or(PortThen::Missing, |port| {
        PortThen::Has(port.name.clone(), port.port)
    })
}

#[cfg(test)]
#[path = "services_tests.rs"]
mod tests;
