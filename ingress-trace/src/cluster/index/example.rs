//! In: little. Out: objects and times for the tests of the index. Nothing here is meant to be likely
//! beyond what a test says about it.
use std::net::{IpAddr, SocketAddr};

use jiff::Timestamp;

use super::{Asked, Index};
use crate::cluster::object::{
    BackendRef, Condition, Endpoint, Kind, Name, Node, Object, PathMatch, Pod, PortRef, Route,
    Rule, Service, ServicePort, Slice, SlicePort,
};

/// The node of the agent.
pub const HERE: &str = "node-1";

/// So many milliseconds after the beginning.
pub fn at(ms: i64) -> Timestamp {
    Timestamp::from_millisecond(1_772_373_600_000 + ms).expect("a time")
}

/// An index of the agent on [`HERE`].
pub fn index() -> Index {
    Index::new(HERE)
}

/// A name in the namespace `shop`.
pub fn shop(name: &str) -> Name {
    Name::new("shop", name)
}

/// An address.
pub fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

/// An address with a port.
pub fn to(text: &str) -> SocketAddr {
    text.parse().expect("an address with a port")
}

/// A ready endpoint; no pod where its name is empty.
pub fn ready(address: &str, pod: &str) -> Endpoint {
    Endpoint {
        addresses: vec![ip(address)],
        ready: true,
        serving: true,
        terminating: false,
        pod: (!pod.is_empty()).then(|| pod.into()),
        node: Some("node-2".into()),
    }
}

/// One that is not ready.
pub fn not_ready(address: &str, pod: &str) -> Endpoint {
    Endpoint {
        ready: false,
        serving: false,
        ..ready(address, pod)
    }
}

/// One that is terminating and still serves.
pub fn terminating(address: &str, pod: &str) -> Endpoint {
    Endpoint {
        ready: false,
        terminating: true,
        ..ready(address, pod)
    }
}

/// A slice of a Service in `shop`, its port named `http`; all ports where it is 0.
pub fn slice(name: &str, service: &str, port: u16, endpoints: &[Endpoint]) -> Object {
    Object::Slice(Slice {
        name: shop(name),
        service: Some(service.into()),
        ports: vec![SlicePort {
            name: "http".into(),
            port: (port != 0).then_some(port),
        }],
        endpoints: endpoints.to_vec(),
    })
}

/// A Service in `shop` with port `http` 80 and a cluster IP.
pub fn service(name: &str, cluster_ip: &str) -> Service {
    Service {
        name: shop(name),
        selects: true,
        cluster_ips: vec![ip(cluster_ip)],
        ports: vec![ServicePort {
            name: "http".into(),
            port: 80,
            target: PortRef::Number(8080),
            node_port: None,
        }],
        ..Service::default()
    }
}

/// A running pod in `shop` on another node, created and Ready at a time.
pub fn pod(name: &str, uid: &str, address: &str, created: Timestamp) -> Pod {
    Pod {
        name: shop(name),
        uid: uid.into(),
        created: Some(created),
        node: Some("node-2".into()),
        addresses: vec![ip(address)],
        phase: "Running".into(),
        ready: Some(condition(true, created)),
        ..Pod::default()
    }
}

/// A condition.
pub fn condition(met: bool, since: Timestamp) -> Condition {
    Condition {
        met,
        since: Some(since),
        reason: None,
    }
}

/// A node with an address.
pub fn node(name: &str, address: &str) -> Object {
    Object::Node(Node {
        name: Name::new("", name),
        addresses: vec![ip(address)],
        ready: Some(condition(true, at(0))),
    })
}

/// A rule of hosts (separated by blanks) and a path for a Service in `shop`.
pub fn rule(hosts: &str, path: PathMatch, service: &str) -> Rule {
    Rule {
        hosts: hosts.split_whitespace().map(Into::into).collect(),
        path,
        method: None,
        conditional: false,
        index: 0,
        backends: vec![backend(service)],
    }
}

/// A Service in `shop`, its port 80.
pub fn backend(service: &str) -> BackendRef {
    BackendRef {
        service: shop(service),
        port: Some(PortRef::Number(80)),
    }
}

/// A path by its whole segments.
pub fn prefix(path: &str) -> PathMatch {
    PathMatch::Prefix(path.into())
}

/// A whole path.
pub fn exact(path: &str) -> PathMatch {
    PathMatch::Exact(path.into())
}

/// A route in `shop`, created at the beginning.
pub fn route(kind: Kind, name: &str, rules: Vec<Rule>) -> Route {
    Route {
        kind,
        name: shop(name),
        class: None,
        annotation: None,
        parents: Vec::new(),
        created: Some(at(0)),
        rules,
        default_backend: None,
    }
}

/// A GET.
pub fn get<'a>(host: &'a str, path: &'a str) -> Asked<'a> {
    Asked {
        host: Some(host),
        path,
        method: Some("GET"),
        serves: None,
    }
}
