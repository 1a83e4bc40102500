//! In: a failure at a time, and the index. Out: who it was: Service, pod, node and route, each as of
//! that time, with what speaks for it in words. Decides no cause; pure.
use std::net::SocketAddr;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::cause::evidence::span;
use crate::cluster::index::owned::{Front, Owned, Tenancy, Via};
use crate::cluster::index::{Asked, Index, PodThen, PortThen, Routed, ServiceThen, Standing};
use crate::cluster::object::{Kind, Name, PortRef};
use crate::event::{self, Event, Leg};
use crate::finding::{Backend, Finding, Request};
use crate::profiles::Serves;

pub mod words;

use self::words::{deletion_words, end_words, endpoint_words, node_words, service_words};

/// Ends of containers this long before a failure, or after, are told with it.
const NEAR: [SignedDuration; 2] = [SignedDuration::from_secs(60), SignedDuration::from_secs(5)];

/// A failure whose backend is to be named.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// What failed.
    pub event: &'a Event,
    /// What the client had asked for, where it was read.
    pub request: Option<&'a Request>,
    /// What the controller serves, where its pod is known.
    pub serves: Option<&'a Serves>,
    /// When it failed, by the wall clock.
    pub at: Timestamp,
    /// How old the cluster's state is, where it is not up to date.
    pub stale: Option<Duration>,
}

/// In which state a backend was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// A ready endpoint.
    Ready,
    /// An endpoint that was not ready.
    NotReady,
    /// An endpoint, or a pod, that was terminating.
    Terminating,
    /// It had been an endpoint before; nobody had its address now.
    Gone,
    /// It had been an endpoint before; another pod had its address now.
    Moved,
    /// It became an endpoint only afterwards.
    Later,
}

/// A node around the time of a failure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeThen {
    /// Whether it was Ready.
    pub ready: bool,
    /// Since when, by the condition's own time.
    pub since: Option<Timestamp>,
    /// That it was not ready was told only afterwards: a node that is silent is noticed late.
    pub after: bool,
}

/// Who it was.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Identity {
    /// The Service.
    pub service: Option<Name>,
    /// Name of its port; empty where it has none.
    pub port: Option<String>,
    /// Number of its port, the Service's own.
    pub number: Option<u16>,
    /// The pod.
    pub pod: Option<Name>,
    /// The node of the pod, or the one whose address it is.
    pub node: Option<String>,
    /// State of the endpoint or pod.
    pub state: Option<State>,
    /// How the address was known; none where nothing was addressed.
    pub owned: Option<Owned>,
    /// What is known of the pod, once it was fetched.
    pub known: Option<PodThen>,
    /// The route that the request took, where it reached no upstream.
    pub route: Option<Routed>,
    /// What the Service was.
    pub then: Option<ServiceThen>,
    /// What its node was, where that is known.
    pub host: Option<NodeThen>,
    /// How old the cluster's state is, where it is not up to date.
    pub stale: Option<Duration>,
    /// All this in words.
    pub evidence: Vec<String>,
}

/// The pod behind a failure, and whether the cluster may know more of it: [`identify`] without words.
pub fn whom(question: &Question, index: &Index) -> (Option<Name>, bool) {
    if !question.addressed() {
        return (None, true);
    }
    let asked = question
        .request
        .map(|request| asked(request, question.serves));
    let at = |address| index.whose(address, question.at, asked.as_ref());
    let (first, leads) = (at(question.event.remote), question.event.leads);
    let outside = first == Owned::Outside;
    let pod = match (first, leads.filter(|real| *real != question.event.remote)) {
        (Owned::Front(_), Some(real)) => at(real).into_pod(),
        (first, _) => first.into_pod(),
    };
    (pod, !outside)
}

/// Whether what was asked leads by the routes to another Service than where it went, for certain: then
/// whoever asked did not wait for that.
pub fn asks_another(question: &Question, who: &Identity, index: &Index) -> bool {
    let (Some(service), Some(request)) = (&who.service, question.request) else {
        return false;
    };
    let routed = index.route(&asked(request, question.serves), question.at);
    routed.is_some_and(|routed| {
        let to = routed.backend().map(|backend| &backend.service);
        routed.certain && to.is_some_and(|to| to != service)
    })
}

impl Question<'_> {
    /// Whether an address was connected to.
    fn addressed(&self) -> bool {
        self.event.kind == event::Kind::Refused || self.event.leg == Leg::Upstream
    }
}

/// Names the backend of a failure.
pub fn identify(question: &Question, index: &Index) -> Identity {
    let mut identity = if question.addressed() {
        of_address(question, question.event.remote, index)
    } else {
        of_route(question, index)
    };
    identity.node_is_ready(index, question.at);
    identity.of_its_route(question, index);
    let port = (identity.service.as_ref()).zip(identity.port.as_deref());
    identity.number = port.and_then(|(service, port)| index.port(service, port, question.at));
    if let Some(age) = question.stale {
        let words = format!("the cluster's state is {} old", span(age));
        identity.evidence.push(words);
        identity.stale = Some(age);
    }
    identity
}

impl Identity {
    /// Whether a name is known, or will never be.
    pub fn is_named(&self) -> bool {
        self.service.is_some() || self.pod.is_some() || self.owned == Some(Owned::Outside)
    }

    /// Puts the names and what speaks for them into a finding.
    pub fn fill(&self, finding: &mut Finding) {
        for words in &self.evidence {
            if !finding.evidence.contains(words) {
                finding.evidence.push(words.clone());
            }
        }
        let Some(name) = self.service.as_ref().or(self.pod.as_ref()) else {
            return;
        };
        let backend = finding.backend.get_or_insert_with(|| Backend {
            port: self.number(),
            ..Backend::default()
        });
        backend.namespace = Some(name.namespace.to_string());
        backend.service = self.service.as_ref().map(|name| name.name.to_string());
        backend.pod = self.pod.as_ref().map(|name| name.name.to_string());
    }

    /// The pods' port of the Service that a route leads to, by its number, else the Service's own.
    fn number(&self) -> Option<u16> {
        let then = self.then.as_ref()?;
        let PortThen::Has(name, number) = &then.port else {
            return None;
        };
        let ports = then.service.iter().flat_map(|service| &service.ports);
        let target = ports
            .filter(|port| port.name == *name)
            .find_map(|port| match port.target {
                PortRef::Number(number) => Some(number),
                PortRef::Name(_) => None,
            });
        Some(target.unwrap_or(*number))
    }

    fn says(&mut self, words: String) {
        self.evidence.push(words);
    }

    fn of_service(
        mut self,
        name: &Name,
        port: Option<&PortRef>,
        index: &Index,
        at: Timestamp,
    ) -> Self {
        let then = index.service(name, port, at);
        self.service = Some(name.clone());
        if let PortThen::Has(name, _) = &then.port {
            self.port = Some(name.to_string());
        }
        self.says(service_words(name, port, &then, at));
        self.then = Some(then);
        self
    }

    /// What is known of the pod itself goes beyond what the endpoints say.
    fn of_pod(mut self, index: &Index, at: Timestamp) -> Self {
        let Some(known) = self.pod.as_ref().and_then(|pod| index.pod(pod, at)) else {
            return self;
        };
        let name = known.pod.name.name.clone();
        if let Some(since) = known.terminating {
            self.says(deletion_words(&name, since, at));
            self.state = self.state.map(|state| match state {
                State::Ready | State::NotReady => State::Terminating,
                other => other,
            });
        }
        let near = |end: &Timestamp| {
            let after = end.duration_since(at);
            after <= NEAR[1] && -after <= NEAR[0]
        };
        for end in &known.ended {
            if end.finished.is_some_and(|finished| near(&finished)) {
                self.says(end_words(&name, end, at));
            }
        }
        self.node = self
            .node
            .or_else(|| known.pod.node.as_ref().map(ToString::to_string));
        self.known = Some(known);
        self
    }

    fn node_is_ready(&mut self, index: &Index, at: Timestamp) {
        let Some(name) = self.node.clone() else {
            return;
        };
        let ready = |at| index.node(&name, at)?.ready.clone();
        let Some(then) = ready(at) else { return };
        // A node that has gone silent is told to be NotReady some 40 s later.
        let now = ready(Timestamp::MAX).filter(|now| then.met && !now.met);
        let after = now.is_some();
        let known = now.unwrap_or(then);
        let host = NodeThen {
            ready: known.met,
            since: known.since,
            after,
        };
        if !host.ready {
            self.says(node_words(&name, &host, at));
        }
        self.host = Some(host);
    }

    /// The route that leads to the backend, so that its settings can be named.
    fn of_its_route(&mut self, question: &Question, index: &Index) {
        let (None, Some(service), Some(request)) = (&self.route, &self.service, question.request)
        else {
            return;
        };
        let routed = index.route(&asked(request, question.serves), question.at);
        let leads = |routed: &Routed| {
            let to = routed.backend().map(|backend| &backend.service);
            routed.certain && to == Some(service)
        };
        self.route = routed.filter(leads);
    }
}

fn of_address(question: &Question, address: SocketAddr, index: &Index) -> Identity {
    let at = question.at;
    let asked = question
        .request
        .map(|request| asked(request, question.serves));
    let owned = index.whose(address, at, asked.as_ref());
    let identity = Identity {
        owned: Some(owned.clone()),
        ..Identity::default()
    };
    match owned {
        Owned::Endpoint(tenancy) => of_endpoint(identity, &tenancy, address, at).of_pod(index, at),
        Owned::Front(front) => of_front(identity, &front, address, question, index),
        Owned::Pod { pod, standing } => Identity {
            state: match standing {
                Standing::Held => None,
                Standing::Gone(_) => Some(State::Gone),
                Standing::Later(_) => Some(State::Later),
            },
            pod: Some(pod),
            ..identity
        }
        .of_pod(index, at),
        Owned::Node(node) => {
            let mut identity = identity;
            identity.says(format!("{} is node {node}", address.ip()));
            identity.node = Some(node.name.to_string());
            identity
        }
        Owned::Outside => identity,
    }
}

fn of_endpoint(
    identity: Identity,
    tenancy: &Tenancy,
    address: SocketAddr,
    at: Timestamp,
) -> Identity {
    Identity {
        service: tenancy.service.clone(),
        port: tenancy.port.name().map(ToString::to_string),
        pod: tenancy.pod.clone(),
        node: tenancy.node.as_ref().map(ToString::to_string),
        state: Some(state(tenancy)),
        evidence: endpoint_words(tenancy, address, at),
        ..identity
    }
}

fn of_front(
    mut identity: Identity,
    front: &Front,
    address: SocketAddr,
    question: &Question,
    index: &Index,
) -> Identity {
    let kind = match &front.via {
        Via::ClusterIp => "the cluster IP",
        Via::ExternalIp => "an external IP",
        Via::NodePort(_) => "a node port",
    };
    identity.says(format!("{address} is {kind} of {}", front.service));
    let number = front
        .port
        .as_ref()
        .map_or(address.port(), |(_, number)| *number);
    let port = PortRef::Number(number);
    let mut identity = identity.of_service(&front.service, Some(&port), index, question.at);
    let Some(real) = question.event.leads.filter(|real| *real != address) else {
        return identity;
    };
    identity.says(format!(
        "{address} led to {real} by the node's connection tracking"
    ));
    let behind = of_address(question, real, index);
    identity.evidence.extend(behind.evidence);
    Identity {
        pod: behind.pod,
        node: behind.node,
        state: behind.state,
        known: behind.known,
        ..identity
    }
}

fn of_route(question: &Question, index: &Index) -> Identity {
    let mut identity = Identity::default();
    let Some(request) = question.request else {
        return identity;
    };
    let Some(routed) = index.route(&asked(request, question.serves), question.at) else {
        return identity;
    };
    let kind = match routed.kind {
        Kind::HttpRoute => "HTTPRoute",
        Kind::GrpcRoute => "GRPCRoute",
        _ => "Ingress",
    };
    let leads = if routed.certain { "leads" } else { "may lead" };
    let what = if routed.default {
        "the default backend of "
    } else {
        ""
    };
    if let Some(backend) = routed.backend() {
        let to = &backend.service;
        identity.says(format!("{what}{kind} {} {leads} to {to}", routed.route));
        identity = if routed.certain {
            identity.of_service(to, backend.port.as_ref(), index, question.at)
        } else {
            // A guess gives no names.
            identity
        };
    }
    identity.route = Some(routed);
    identity
}

fn asked<'a>(request: &'a Request, serves: Option<&'a Serves>) -> Asked<'a> {
    Asked {
        host: request.host.as_deref(),
        path: &request.path,
        method: Some(&request.method)
            .filter(|method| !method.is_empty())
            .map(String::as_str),
        serves,
    }
}

fn state(tenancy: &Tenancy) -> State {
    match tenancy.standing {
        Standing::Later(_) => State::Later,
        Standing::Gone(_) if tenancy.moved.is_some() => State::Moved,
        Standing::Gone(_) => State::Gone,
        Standing::Held if tenancy.health.terminating => State::Terminating,
        Standing::Held if tenancy.health.ready => State::Ready,
        Standing::Held => State::NotReady,
    }
}

#[cfg(test)]
#[path = "identity_tests.rs"]
mod tests;
