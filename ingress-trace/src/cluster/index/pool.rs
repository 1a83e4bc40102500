//! In: objects as they arrive. Out: the same with their texts shared and their lists trimmed, as
//! thousands of objects repeat the same names. Drops what nothing uses any more.
use std::collections::HashSet;
use std::sync::Arc;

use crate::cluster::object::{
    BackendRef, Condition, Container, Name, Node, Object, PathMatch, Pod, PortRef, Route, Service,
    Slice, State,
};

/// Texts in use.
#[derive(Debug, Default)]
pub struct Pool {
    texts: HashSet<Arc<str>>,
    /// How many were in use when the others were dropped last.
    used: usize,
}

impl Pool {
    /// Drops what is not used any more, when there may be much of it.
    pub fn sweep(&mut self) {
        if self.texts.len() > self.used + self.used / 4 + 256 {
            self.texts.retain(|text| Arc::strong_count(text) > 1);
            self.texts.shrink_to_fit();
            self.used = self.texts.len();
        }
    }

    /// Shares all texts of an object.
    pub fn share(&mut self, object: &mut Object) {
        match object {
            Object::Pod(pod) => self.pod(pod),
            Object::Slice(slice) => self.slice(slice),
            Object::Service(service) => self.service(service),
            Object::Route(route) => self.route(route),
            Object::Class(class) => {
                self.name(&mut class.name);
                self.text(&mut class.controller);
            }
            Object::Node(node) => self.node(node),
        }
    }

    fn text(&mut self, text: &mut Arc<str>) {
        if let Some(known) = self.texts.get(text) {
            *text = known.clone();
        } else {
            self.texts.insert(text.clone());
        }
    }

    fn texts<'a>(&mut self, texts: impl IntoIterator<Item = &'a mut Arc<str>>) {
        texts.into_iter().for_each(|text| self.text(text));
    }

    fn name(&mut self, name: &mut Name) {
        self.text(&mut name.namespace);
        self.text(&mut name.name);
    }

    fn pod(&mut self, pod: &mut Pod) {
        self.name(&mut pod.name);
        self.texts([&mut pod.uid, &mut pod.phase]);
        self.texts(pod.node.iter_mut().chain(&mut pod.hash));
        if let Some(owner) = &mut pod.owner {
            self.texts([&mut owner.kind, &mut owner.name]);
        }
        self.condition(&mut pod.ready);
        for (key, value) in &mut pod.labels {
            self.texts([key, value]);
        }
        pod.labels.shrink_to_fit();
        pod.addresses.shrink_to_fit();
        for container in &mut pod.containers {
            self.container(container);
        }
        pod.containers.shrink_to_fit();
    }

    fn condition(&mut self, condition: &mut Option<Condition>) {
        if let Some(reason) = condition.as_mut().and_then(|known| known.reason.as_mut()) {
            self.text(reason);
        }
    }

    fn container(&mut self, container: &mut Container) {
        self.texts([&mut container.name, &mut container.image]);
        self.texts(container.id.iter_mut().chain(&mut container.command));
        container.command.shrink_to_fit();
        self.texts(container.ports.iter_mut().map(|(name, _)| name));
        container.ports.shrink_to_fit();
        for state in [&mut container.state, &mut container.last] {
            match state {
                State::None | State::Running(_) => {}
                State::Waiting(reason) | State::Terminated { reason, .. } => self.text(reason),
            }
        }
    }

    fn slice(&mut self, slice: &mut Slice) {
        self.name(&mut slice.name);
        self.texts(&mut slice.service);
        self.texts(slice.ports.iter_mut().map(|port| &mut port.name));
        slice.ports.shrink_to_fit();
        for endpoint in &mut slice.endpoints {
            self.texts(&mut endpoint.pod);
            self.texts(&mut endpoint.node);
        }
    }

    fn service(&mut self, service: &mut Service) {
        self.name(&mut service.name);
        self.texts(&mut service.external_name);
        for port in &mut service.ports {
            self.text(&mut port.name);
            self.port(&mut port.target);
        }
        service.ports.shrink_to_fit();
        service.cluster_ips.shrink_to_fit();
        service.external_ips.shrink_to_fit();
    }

    fn port(&mut self, port: &mut PortRef) {
        match port {
            PortRef::Number(_) => {}
            PortRef::Name(name) => self.text(name),
        }
    }

    fn route(&mut self, route: &mut Route) {
        self.name(&mut route.name);
        self.texts(route.class.iter_mut().chain(&mut route.annotation));
        for parent in &mut route.parents {
            parent.gateway.iter_mut().for_each(|name| self.name(name));
            self.texts(&mut parent.section);
        }
        route.parents.shrink_to_fit();
        for rule in &mut route.rules {
            self.texts(&mut rule.hosts);
            rule.hosts.shrink_to_fit();
            match &mut rule.path {
                PathMatch::Exact(path)
                | PathMatch::Prefix(path)
                | PathMatch::Regex(path)
                | PathMatch::Specific(path) => self.text(path),
            }
            self.texts(&mut rule.method);
            self.backends(&mut rule.backends);
            rule.backends.shrink_to_fit();
        }
        route.rules.shrink_to_fit();
        self.backends(&mut route.default_backend);
    }

    fn backends<'a>(&mut self, backends: impl IntoIterator<Item = &'a mut BackendRef>) {
        for backend in backends {
            self.name(&mut backend.service);
            backend.port.iter_mut().for_each(|port| self.port(port));
        }
    }

    fn node(&mut self, node: &mut Node) {
        self.name(&mut node.name);
        node.addresses.shrink_to_fit();
        self.condition(&mut node.ready);
    }
}
