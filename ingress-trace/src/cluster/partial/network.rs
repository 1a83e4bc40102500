//! In: Services and EndpointSlices as the API writes them. Out: the trimmed ones; ports other than
//! TCP's are left out.
use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Deserialize;

use super::Partial;
use super::meta::{Meta, addresses, is_tcp};
use crate::cluster::object::{self, Object, PortRef, ServicePort, SlicePort};

#[derive(Deserialize)]
pub(super) struct Service {
    metadata: Meta,
    #[serde(default)]
    spec: ServiceSpec,
    #[serde(default)]
    status: ServiceStatus,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct ServiceSpec {
    r#type: Option<String>,
    external_name: Option<Arc<str>>,
    selector: Option<BTreeMap<String, String>>,
    #[serde(rename = "clusterIP")]
    cluster_ip: Option<String>,
    #[serde(rename = "clusterIPs")]
    cluster_ips: Option<Vec<String>>,
    #[serde(rename = "externalIPs")]
    external_ips: Option<Vec<String>>,
    ports: Option<Vec<Port>>,
}

#[derive(Deserialize)]
struct Port {
    name: Option<Arc<str>>,
    #[serde(rename = "port")]
    number: u16,
    protocol: Option<String>,
    #[serde(rename = "targetPort")]
    target: Option<PortRef>,
    #[serde(rename = "nodePort")]
    on_nodes: Option<u16>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct ServiceStatus {
    load_balancer: Option<LoadBalancer>,
}

#[derive(Deserialize)]
struct LoadBalancer {
    ingress: Option<Vec<Entry>>,
}

#[derive(Deserialize)]
struct Entry {
    ip: Option<String>,
}

impl Partial for Service {
    fn meta(&self) -> &Meta {
        &self.metadata
    }

    fn trim(self) -> Object {
        let spec = self.spec;
        let external = spec.r#type.as_deref() == Some("ExternalName");
        // A headless one has `None` there, which is no address.
        let mut cluster_ips = addresses(spec.cluster_ips.into_iter().flatten());
        if cluster_ips.is_empty() {
            cluster_ips = addresses(spec.cluster_ip);
        }
        let balancer = self.status.load_balancer.and_then(|status| status.ingress);
        let balancer = balancer.into_iter().flatten().filter_map(|entry| entry.ip);
        let external_ips = spec.external_ips.into_iter().flatten();
        Object::Service(object::Service {
            name: self.metadata.name(),
            uid: Arc::clone(&self.metadata.uid),
            external_name: spec.external_name.filter(|_| external),
            selects: !external && spec.selector.is_some_and(|labels| !labels.is_empty()),
            cluster_ips,
            external_ips: addresses(external_ips.chain(balancer)),
            ports: spec
                .ports
                .into_iter()
                .flatten()
                .filter(|port| is_tcp(port.protocol.as_deref()))
                .map(service_port)
                .collect(),
        })
    }
}

fn service_port(port: Port) -> ServicePort {
    ServicePort {
        name: port.name.unwrap_or_default(),
        port: port.number,
        target: match port.target {
            // Left out, or written as 0: the Service's own.
            None | Some(PortRef::Number(0)) => PortRef::Number(port.number),
            Some(target) => target,
        },
        node_port: port.on_nodes.filter(|port| *port != 0),
    }
}

#[derive(Deserialize)]
pub(super) struct Slice {
    metadata: Meta,
    endpoints: Option<Vec<Endpoint>>,
    ports: Option<Vec<EndpointPort>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Endpoint {
    addresses: Option<Vec<String>>,
    conditions: Option<Conditions>,
    target_ref: Option<Target>,
    node_name: Option<Arc<str>>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Conditions {
    ready: Option<bool>,
    serving: Option<bool>,
    terminating: Option<bool>,
}

#[derive(Deserialize)]
struct Target {
    kind: Option<String>,
    name: Option<Arc<str>>,
}

#[derive(Deserialize)]
struct EndpointPort {
    name: Option<Arc<str>>,
    port: Option<u16>,
    protocol: Option<String>,
}

impl Partial for Slice {
    fn meta(&self) -> &Meta {
        &self.metadata
    }

    fn trim(self) -> Object {
        let service = self.metadata.label("kubernetes.io/service-name").cloned();
        let ports = self.ports.into_iter().flatten();
        Object::Slice(object::Slice {
            name: self.metadata.name(),
            service: service.filter(|name| !name.is_empty()),
            ports: ports
                .filter(|port| is_tcp(port.protocol.as_deref()))
                .map(|port| SlicePort {
                    name: port.name.unwrap_or_default(),
                    port: port.port,
                })
                .collect(),
            endpoints: self
                .endpoints
                .into_iter()
                .flatten()
                .filter_map(endpoint)
                .collect(),
        })
    }
}

/// `None` for one without an address, as in slices of type FQDN.
fn endpoint(endpoint: Endpoint) -> Option<object::Endpoint> {
    let addresses = addresses(endpoint.addresses.into_iter().flatten());
    if addresses.is_empty() {
        return None;
    }
    let conditions = endpoint.conditions.unwrap_or_default();
    let ready = conditions.ready.unwrap_or(true);
    let pod = endpoint.target_ref;
    let pod = pod.filter(|target| target.kind.as_deref() == Some("Pod"));
    Some(object::Endpoint {
        addresses,
        ready,
        serving: conditions.serving.unwrap_or(ready),
        terminating: conditions.terminating.unwrap_or(false),
        pod: pod.and_then(|target| target.name),
        node: endpoint.node_name,
    })
}
