//! In: objects of the cluster as they come and go, with the time at which that was learned. Out: who
//! an address was, where a request led to, what a Service or a pod was, by now or at a time some
//! minutes ago. Plain state: no client, no clock, no I/O. Everything is bounded, and counted beyond.
pub mod owned;
mod paths;
mod pods;
mod pool;
mod ports;
mod routes;
mod seats;
mod services;
mod store;
mod timeline;
mod ways;
mod whose;

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use jiff::Timestamp;

use self::pool::Pool;
use self::routes::Compiled;
use self::seats::Seats;
use self::store::Store;
use self::timeline::Version;
use crate::cluster::object::{Class, Kind, Name, Node, Object, Pod, Service};

pub use self::pods::{Ended, PodThen};
pub use self::routes::{Asked, Routed};
pub use self::seats::Health;
pub use self::services::{DeadRoute, Numbers, PortThen, ServiceThen};
pub use self::store::MOST_PAST;
pub use self::timeline::{MOST_VERSIONS, Since, Standing};
pub use self::ways::Way;

/// Most pods of other nodes that are kept; beyond it those leave that were fetched first.
pub const MOST_FETCHED: usize = 2_048;

/// The cluster's state with its recent past.
#[derive(Debug)]
pub struct Index {
    /// This node: its pods are watched, others only fetched now and then.
    node: Arc<str>,
    seats: Seats,
    services: Store<Service>,
    /// Ingresses, HTTPRoutes, GRPCRoutes.
    routes: [Store<Compiled>; 3],
    pods: Store<Pod>,
    nodes: Store<Node>,
    classes: Store<Class>,
    /// Services that routes lead to, and by how many rules.
    led: HashMap<Name, u32>,
    /// When pods of other nodes were fetched last.
    fetched: HashMap<Name, Timestamp>,
    pool: Pool,
    /// Fetched pods that had to leave for others.
    crowded: u64,
}

impl Index {
    /// An empty index of the agent on this node.
    pub fn new(node: &str) -> Self {
        Self {
            node: node.into(),
            seats: Seats::default(),
            services: Store::default(),
            routes: Default::default(),
            pods: Store::default(),
            nodes: Store::default(),
            classes: Store::default(),
            led: HashMap::new(),
            fetched: HashMap::new(),
            pool: Pool::default(),
            crowded: 0,
        }
    }

    /// An object was added or changed, or a pod was fetched.
    pub fn apply(&mut self, object: Object, at: Timestamp) {
        self.take(object, at, false);
    }

    /// An object was deleted.
    pub fn delete(&mut self, kind: Kind, name: &Name, at: Timestamp) {
        self.drop(kind, name, at, false);
    }

    /// All objects of a kind were listed (of pods: this node's); what is absent was deleted.
    pub fn replace(
        &mut self,
        kind: Kind,
        objects: impl IntoIterator<Item = Object>,
        at: Timestamp,
    ) {
        let mut listed = HashSet::new();
        for object in objects {
            listed.insert(object.name().clone());
            self.take(object, at, true);
        }
        let gone: Vec<Name> = self
            .names(kind)
            .into_iter()
            .filter(|name| !listed.contains(name))
            .collect();
        for name in gone {
            self.drop(kind, &name, at, true);
        }
    }

    /// Drops what ended before a time, and fetched pods that were not asked for since.
    pub fn forget(&mut self, before: Timestamp) {
        self.seats.forget(before);
        self.services.forget(before);
        self.routes
            .iter_mut()
            .for_each(|routes| routes.forget(before));
        self.pods.forget(before);
        self.nodes.forget(before);
        self.classes.forget(before);
        let old = self.fetched.extract_if(|_, at| *at <= before);
        for (name, _) in old {
            self.pods.remove(&name);
        }
        self.pool.sweep();
    }

    /// Changes and fetched pods that were forgotten before their time, as there were too many.
    pub fn evicted(&self) -> u64 {
        self.seats.evicted()
            + self.services.evicted()
            + self.routes.iter().map(Store::evicted).sum::<u64>()
            + self.pods.evicted()
            + self.nodes.evicted()
            + self.classes.evicted()
            + self.crowded
    }

    /// How many objects, changes and links are kept; 0 when nothing is.
    pub fn kept(&self) -> usize {
        let routes = self.routes.iter().map(Store::kept).sum::<usize>();
        let stores = self.services.kept() + self.pods.kept() + self.nodes.kept();
        let stores = stores + self.classes.kept();
        self.seats.kept() + stores + routes + self.led.len() + self.fetched.len()
    }

    /// A node as it was at a time, or the first word of it.
    pub fn node(&self, name: &str, at: Timestamp) -> Option<&Node> {
        let timeline = self.nodes.get(&Name::new("", name))?;
        timeline.at(at).map(|(node, _)| &**node)
    }

    fn take(&mut self, mut object: Object, at: Timestamp, listed: bool) {
        self.pool.share(&mut object);
        match object {
            Object::Pod(pod) => self.take_pod(pod, at, listed),
            Object::Slice(slice) => self.seats.apply(&slice, at, listed),
            Object::Service(service) => {
                let name = service.name.clone();
                self.services.set(&name, version(service, at, listed));
            }
            Object::Route(route) => {
                let (kind, name) = (route.kind, route.name.clone());
                let compiled = version(Compiled::from(route), at, listed);
                self.set_route(kind, &name, compiled);
            }
            Object::Class(class) => {
                let name = class.name.clone();
                self.classes.set(&name, version(class, at, listed));
            }
            Object::Node(node) => {
                let name = node.name.clone();
                self.nodes.set(&name, version(node, at, listed));
            }
        }
    }

    fn drop(&mut self, kind: Kind, name: &Name, at: Timestamp, listed: bool) {
        match kind {
            Kind::Pod => {
                self.pods.set(name, gone(at, listed));
                self.fetched.remove(name);
            }
            Kind::Slice => self.seats.delete(name, at, listed),
            Kind::Service => {
                self.services.set(name, gone(at, listed));
            }
            Kind::Ingress | Kind::HttpRoute | Kind::GrpcRoute => {
                self.set_route(kind, name, gone(at, listed));
            }
            Kind::Class => {
                self.classes.set(name, gone(at, listed));
            }
            Kind::Node => {
                self.nodes.set(name, gone(at, listed));
            }
        }
    }

    fn take_pod(&mut self, pod: Pod, at: Timestamp, listed: bool) {
        let name = pod.name.clone();
        if pod.node.as_ref() == Some(&self.node) {
            self.fetched.remove(&name);
        } else {
            self.fetched.insert(name.clone(), at);
            self.crowd_out();
        }
        self.pods.set(&name, version(pod, at, listed));
    }

    /// Makes room for fetched pods.
    fn crowd_out(&mut self) {
        if self.fetched.len() <= MOST_FETCHED {
            return;
        }
        let oldest = self.fetched.iter().min_by_key(|(name, at)| (**at, *name));
        if let Some(name) = oldest.map(|(name, _)| name.clone()) {
            self.fetched.remove(&name);
            self.pods.remove(&name);
            self.crowded += 1;
        }
    }

    fn set_route(&mut self, kind: Kind, name: &Name, version: Version<Arc<Compiled>>) {
        let routes = &mut self.routes[place(kind)];
        let old = routes.get(name).and_then(|known| known.now().cloned());
        let new = version.value.clone();
        if !routes.set(name, version) {
            return;
        }
        for backend in old.iter().flat_map(|old| old.backends()) {
            if let Entry::Occupied(mut led) = self.led.entry(backend.service.clone()) {
                *led.get_mut() -= 1;
                if *led.get() == 0 {
                    led.remove();
                }
            }
        }
        for backend in new.iter().flat_map(|new| new.backends()) {
            *self.led.entry(backend.service.clone()).or_default() += 1;
        }
    }

    /// What is there of a kind; of pods, this node's.
    fn names(&self, kind: Kind) -> Vec<Name> {
        match kind {
            Kind::Pod => {
                let own = |pod: &Pod| pod.node.as_ref() == Some(&self.node);
                let pods = self.pods.present().filter(|(_, pod)| own(pod));
                pods.map(|(name, _)| name.clone()).collect()
            }
            Kind::Slice => self.seats.names().cloned().collect(),
            Kind::Service => self.services.names(),
            Kind::Ingress | Kind::HttpRoute | Kind::GrpcRoute => self.routes[place(kind)].names(),
            Kind::Class => self.classes.names(),
            Kind::Node => self.nodes.names(),
        }
    }
}

/// Where the routes of a kind are kept.
fn place(kind: Kind) -> usize {
    match kind {
        Kind::HttpRoute => 1,
        Kind::GrpcRoute => 2,
        _ => 0,
    }
}

fn version<T>(value: T, at: Timestamp, listed: bool) -> Version<Arc<T>> {
    Version {
        from: at,
        listed,
        value: Some(Arc::new(value)),
    }
}

fn gone<T>(at: Timestamp, listed: bool) -> Version<T> {
    Version {
        from: at,
        listed,
        value: None,
    }
}

#[cfg(test)]
pub(crate) mod example;
#[cfg(test)]
mod model;
#[cfg(test)]
mod model_tests;
