//! In: what is done to the index. Out: a naive model that keeps everything and answers slowly, for the
//! tests of the index. Shares no code with it.
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use jiff::Timestamp;

use super::Numbers;
use super::example::{ip, shop};
use crate::cluster::object::{Endpoint, Kind, Name, Object, PathMatch, Slice};

/// Addresses that occur.
pub const ADDRESSES: [&str; 3] = ["10.1.0.1", "10.1.0.2", "10.1.0.3"];

/// What is done to the index.
#[derive(Clone, Debug)]
pub enum Step {
    Apply(Box<Object>),
    Delete(Kind, Name),
    Replace(Kind, Vec<Object>),
}

/// What something was, from each time on.
type Values<T> = Vec<(Timestamp, Option<T>)>;

/// Everything that was ever done: for each object its values in the order of time.
#[derive(Default)]
pub struct Model {
    log: BTreeMap<(Kind, Name), Values<Object>>,
}

impl Model {
    /// Notes what is done.
    pub fn take(&mut self, step: &Step, at: Timestamp) {
        match step {
            Step::Apply(object) => self.note(object.kind(), object.name(), Some(object), at),
            Step::Delete(kind, name) => self.note(*kind, name, None, at),
            Step::Replace(kind, objects) => {
                let known: Vec<Name> = self.log.keys().map(|(_, name)| name.clone()).collect();
                for name in known {
                    // Lists of pods are of this node's, and none here is.
                    if *kind != Kind::Pod && !objects.iter().any(|object| *object.name() == name) {
                        self.note(*kind, &name, None, at);
                    }
                }
                for object in objects {
                    self.note(*kind, object.name(), Some(object), at);
                }
            }
        }
    }

    fn note(&mut self, kind: Kind, name: &Name, object: Option<&Object>, at: Timestamp) {
        let values = self.log.entry((kind, name.clone())).or_default();
        values.push((at, object.cloned()));
    }

    /// All objects of a kind as they were at a time.
    pub fn snapshot(&self, kind: Kind, at: Timestamp) -> Vec<&Object> {
        let of_kind = self.log.iter().filter(|((known, _), _)| *known == kind);
        let last = of_kind.filter_map(|(_, values)| {
            let before = values.iter().rev().find(|(from, _)| *from <= at);
            before.and_then(|(_, object)| object.as_ref())
        });
        last.collect()
    }

    /// The times at which the value of a slice for an address changed, with the value from then on.
    fn seat(&self, slice: &Name, address: IpAddr) -> Values<(u16, Endpoint)> {
        let mut values: Values<(u16, Endpoint)> = Vec::new();
        let log = self.log.get(&(Kind::Slice, slice.clone()));
        for (from, object) in log.into_iter().flatten() {
            let value = object.as_ref().and_then(|object| of(object, address));
            let last = values.last().and_then(|(_, last)| last.clone());
            if last != value {
                values.push((*from, value));
            }
        }
        values
    }

    /// The endpoints with an address at a time, by Service; of one that is in two slices the newer.
    pub fn held(&self, address: IpAddr, port: u16, at: Timestamp) -> BTreeMap<Name, Held> {
        let mut found: BTreeMap<Name, Held> = BTreeMap::new();
        for object in self.snapshot(Kind::Slice, at) {
            let Some((number, endpoint)) = of(object, address) else {
                continue;
            };
            let values = self.seat(object.name(), address);
            let since = values.iter().rev().find(|(from, _)| *from <= at);
            let held = Held {
                // What has the port goes first.
                named: number == port,
                all: number == 0,
                from: since.expect("a value that is there began").0,
                endpoint,
            };
            let service = service_of(object);
            let known = found.get(&service);
            if known.is_none_or(|known| known.key() < held.key()) {
                found.insert(service, held);
            }
        }
        found
    }

    /// The endpoints of a Service at a time.
    pub fn numbers(&self, service: &Name, at: Timestamp) -> Numbers {
        let mut pods: BTreeMap<String, Vec<(Timestamp, bool, bool, bool)>> = BTreeMap::new();
        for object in self.snapshot(Kind::Slice, at) {
            for address in ADDRESSES.map(ip) {
                let Some((_, it)) = of(object, address).filter(|_| service_of(object) == *service)
                else {
                    continue;
                };
                let values = self.seat(object.name(), address);
                let from = values.iter().rev().find(|(from, _)| *from <= at);
                let from = from.expect("a value that is there began").0;
                let key = it
                    .pod
                    .map_or(address.to_string(), |pod| format!("pod {pod}"));
                let word = (from, it.ready, it.serving, it.terminating);
                pods.entry(key).or_default().push(word);
            }
        }
        let mut numbers = Numbers::default();
        for words in pods.values() {
            let (_, ready, serving, terminating) = words.iter().max().expect("a word");
            numbers.ready += usize::from(*ready);
            numbers.serving += usize::from(*serving);
            numbers.terminating += usize::from(*terminating);
            numbers.not_ready += usize::from(!ready && !terminating);
        }
        numbers
    }

    /// The Service that the routes lead to, by the rules of the Ingress.
    pub fn led(&self, host: &str, path: &str, at: Timestamp) -> Option<Name> {
        let mut best: Option<((usize, usize), Name)> = None;
        for object in self.snapshot(Kind::Ingress, at) {
            let Object::Route(route) = object else {
                continue;
            };
            for rule in &route.rules {
                let wanted = rule.hosts.first().map_or("", |host| &**host);
                let exactness = match wanted {
                    "" => 0,
                    wild if wild.starts_with('*') => 1,
                    _ => 2,
                };
                let fits = match exactness {
                    0 => true,
                    1 => host
                        .split_once('.')
                        .is_some_and(|(_, rest)| *rest == wanted[2..]),
                    _ => wanted == host,
                };
                let PathMatch::Prefix(prefix) = &rule.path else {
                    continue;
                };
                let asked: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
                let parts: Vec<&str> = prefix.split('/').filter(|part| !part.is_empty()).collect();
                if !fits || !asked.starts_with(&parts) {
                    continue;
                }
                let key = (exactness, parts.len());
                // Routes come in the order of their names, rules in theirs: of equals the first.
                if best.as_ref().is_none_or(|(known, _)| *known < key) {
                    best = Some((key, rule.backends[0].service.clone()));
                }
            }
        }
        best.map(|(_, service)| service)
    }

    /// Services that any route leads to by now.
    pub fn routed(&self) -> BTreeSet<Name> {
        let routes = self.snapshot(Kind::Ingress, Timestamp::MAX);
        let routes = routes.into_iter().filter_map(|object| match object {
            Object::Route(route) => Some(&route.rules),
            _ => None,
        });
        let backends = routes.flatten().flat_map(|rule| &rule.backends);
        backends.map(|backend| backend.service.clone()).collect()
    }
}

/// An endpoint as the model finds it.
pub struct Held {
    /// Its slice names the port.
    pub named: bool,
    /// Its slice has all ports.
    all: bool,
    /// Since when.
    pub from: Timestamp,
    /// It.
    pub endpoint: Endpoint,
}

impl Held {
    /// What is greater counts.
    fn key(&self) -> impl Ord {
        let it = &self.endpoint;
        let health = (it.ready, it.serving, it.terminating);
        let pod = std::cmp::Reverse(it.pod.clone());
        (self.named, self.all, self.from, health, pod)
    }
}

fn of(object: &Object, address: IpAddr) -> Option<(u16, Endpoint)> {
    let Object::Slice(Slice {
        ports, endpoints, ..
    }) = object
    else {
        return None;
    };
    let endpoint = endpoints
        .iter()
        .find(|it| it.addresses.contains(&address))?;
    Some((ports[0].port.unwrap_or(0), endpoint.clone()))
}

fn service_of(object: &Object) -> Name {
    match object {
        Object::Slice(slice) => shop(slice.service.as_deref().expect("a Service")),
        other => panic!("{other:?} is no slice"),
    }
}
