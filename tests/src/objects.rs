//! Kubernetes objects as JSON, as a kubelet and the controllers would have them: names, addresses
//! and ports in, values for the real API server and for the stand-in out.
use std::net::IpAddr;

use serde_json::{Value, json};

/// When everything here began and became ready; a test that needs another time sets it.
const LONG_AGO: &str = "2026-01-01T00:00:00Z";

/// A Node that is ready.
pub fn node(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Node",
        "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}},
        "status": {"conditions": [condition("Ready", true)]}})
}

/// A pod that runs and is ready on the node, with one container `main` that has these ports.
/// Label `app` is the name up to the last dash, as a StatefulSet's pods would share it.
pub fn pod(namespace: &str, name: &str, node: &str, addresses: &[IpAddr], ports: &[u16]) -> Value {
    let app = name.rsplit_once('-').map_or(name, |(app, _)| app);
    let ports: Vec<Value> = ports
        .iter()
        .map(|port| json!({"containerPort": port, "protocol": "TCP"}))
        .collect();
    let ips: Vec<Value> = addresses.iter().map(|ip| json!({"ip": ip})).collect();
    json!({"apiVersion": "v1", "kind": "Pod",
        "metadata": {"namespace": namespace, "name": name, "labels": {"app": app}},
        "spec": {"nodeName": node, "containers": [
            {"name": "main", "image": "registry.example/app:1", "ports": ports}]},
        "status": {"phase": "Running", "podIP": addresses.first(), "podIPs": ips,
            "startTime": LONG_AGO,
            "conditions": [condition("Ready", true), condition("ContainersReady", true)],
            "containerStatuses": [running("main", 0)]}})
}

/// A StatefulSet of no pods: nobody but a test makes any.
pub fn stateful_set(namespace: &str, name: &str) -> Value {
    let labels = json!({"app": name});
    let container = json!({"name": "main", "image": "registry.example/app:1"});
    json!({"apiVersion": "apps/v1", "kind": "StatefulSet",
        "metadata": {"namespace": namespace, "name": name},
        "spec": {"replicas": 0, "serviceName": name, "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {"containers": [container]}}}})
}

/// A condition of a pod or a node.
pub fn condition(kind: &str, met: bool) -> Value {
    let status = if met { "True" } else { "False" };
    json!({"type": kind, "status": status, "lastTransitionTime": LONG_AGO})
}

/// The status of a container that runs, after this many restarts.
pub fn running(name: &str, restarts: u32) -> Value {
    json!({"name": name, "ready": true, "started": true, "restartCount": restarts,
        "image": "registry.example/app:1", "imageID": "registry.example/app@sha256:00",
        "containerID": format!("containerd://{name}-{restarts}"),
        "state": {"running": {"startedAt": LONG_AGO}}})
}

/// The status of a container that has ended and waits for its next start: `reason` is `OOMKilled`
/// (137), `Error` (1) or another word for how it ended.
pub fn ended(name: &str, restarts: u32, reason: &str, at: &str) -> Value {
    let code = if reason == "OOMKilled" { 137 } else { 1 };
    let end = json!({"exitCode": code, "reason": reason, "startedAt": LONG_AGO, "finishedAt": at});
    let mut status = running(name, restarts);
    status["ready"] = json!(false);
    status["started"] = json!(false);
    status["state"] = json!({"waiting": {"reason": "CrashLoopBackOff"}});
    status["lastState"] = json!({"terminated": end});
    status
}

/// The status of a container that was told to end (SIGTERM) and is not started again.
pub fn stopped(name: &str, at: &str) -> Value {
    let mut status = running(name, 0);
    status["ready"] = json!(false);
    status["started"] = json!(false);
    status["state"] = json!({"terminated": {"exitCode": 143, "reason": "Error",
        "startedAt": LONG_AGO, "finishedAt": at}});
    status
}

/// Changes a pod's condition `Ready`.
pub fn set_ready(pod: &mut Value, ready: bool) {
    pod["status"]["conditions"] = json!([
        condition("Ready", ready),
        condition("ContainersReady", ready)
    ]);
    pod["status"]["containerStatuses"][0]["ready"] = json!(ready);
}

/// The same, as of this time.
pub fn set_ready_at(pod: &mut Value, ready: bool, at: &str) {
    set_ready(pod, ready);
    let conditions = pod["status"]["conditions"].as_array_mut();
    for condition in conditions.into_iter().flatten() {
        condition["lastTransitionTime"] = json!(at);
    }
}

/// Changes a pod's only container to one that has ended, and is not ready for that, at this time; see
/// [`ended`] and [`stopped`].
pub fn set_ended(pod: &mut Value, status: &Value, at: &str) {
    set_ready_at(pod, false, at);
    pod["status"]["containerStatuses"] = json!([status]);
}

/// A port of a Service: its name, its number, and the pods' port by number or name.
pub type Port<'a> = (&'a str, u16, Value);

/// A Service that selects the pods with this label `app`, or none.
pub fn service(namespace: &str, name: &str, app: Option<&str>, ports: &[Port<'_>]) -> Value {
    let ports: Vec<Value> = ports
        .iter()
        .map(|(name, port, target)| {
            json!({"name": name, "port": port, "targetPort": target, "protocol": "TCP"})
        })
        .collect();
    let mut spec = json!({"ports": ports});
    if let Some(app) = app {
        spec["selector"] = json!({"app": app});
    }
    json!({"apiVersion": "v1", "kind": "Service",
        "metadata": {"namespace": namespace, "name": name}, "spec": spec})
}

/// An endpoint of a slice.
#[derive(Clone, Debug)]
pub struct Endpoint<'a> {
    /// Its address.
    pub address: IpAddr,
    /// Its pod.
    pub pod: Option<&'a str>,
    /// `conditions.ready`.
    pub ready: bool,
    /// `conditions.terminating`.
    pub terminating: bool,
}

impl<'a> Endpoint<'a> {
    /// Of a pod that is ready.
    pub fn ready(address: IpAddr, pod: &'a str) -> Self {
        Self {
            address,
            pod: Some(pod),
            ready: true,
            terminating: false,
        }
    }
}

/// An EndpointSlice as the controller makes it; all endpoints are of one address family.
pub fn slice(
    namespace: &str,
    service: &str,
    ports: &[(&str, u16)],
    endpoints: &[Endpoint<'_>],
) -> Value {
    let v6 = endpoints.first().is_some_and(|one| one.address.is_ipv6());
    let (family, suffix) = if v6 { ("IPv6", "v6") } else { ("IPv4", "v4") };
    let ports: Vec<Value> = ports
        .iter()
        .map(|(name, port)| json!({"name": name, "port": port, "protocol": "TCP"}))
        .collect();
    let endpoints: Vec<Value> = endpoints
        .iter()
        .map(|one| {
            let mut value = json!({"addresses": [one.address], "conditions": {"ready": one.ready,
                "serving": one.ready, "terminating": one.terminating}});
            if let Some(pod) = one.pod {
                value["targetRef"] = json!({"kind": "Pod", "namespace": namespace, "name": pod});
            }
            value
        })
        .collect();
    json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {"namespace": namespace, "name": format!("{service}-{suffix}"),
            "labels": {"kubernetes.io/service-name": service}},
        "addressType": family, "ports": ports, "endpoints": endpoints})
}

/// Where a path leads: path, Service and the Service's port.
pub type Path<'a> = (&'a str, &'a str, u16);

/// An Ingress with prefix paths of one host; an empty host stands for all.
pub fn ingress(namespace: &str, name: &str, class: &str, host: &str, paths: &[Path<'_>]) -> Value {
    let paths: Vec<Value> = paths
        .iter()
        .map(|(path, service, port)| {
            json!({"path": path, "pathType": "Prefix",
                "backend": {"service": {"name": service, "port": {"number": port}}}})
        })
        .collect();
    let mut rule = json!({"http": {"paths": paths}});
    if !host.is_empty() {
        rule["host"] = json!(host);
    }
    json!({"apiVersion": "networking.k8s.io/v1", "kind": "Ingress",
        "metadata": {"namespace": namespace, "name": name},
        "spec": {"ingressClassName": class, "rules": [rule]}})
}

/// An IngressClass that is this controller's.
pub fn ingress_class(name: &str, controller: &str) -> Value {
    json!({"apiVersion": "networking.k8s.io/v1", "kind": "IngressClass",
        "metadata": {"name": name}, "spec": {"controller": controller}})
}

/// An HTTPRoute with prefix paths of one host.
pub fn http_route(namespace: &str, name: &str, host: &str, paths: &[Path<'_>]) -> Value {
    let rules: Vec<Value> = paths
        .iter()
        .map(|(path, service, port)| {
            json!({"matches": [{"path": {"type": "PathPrefix", "value": path}}],
                "backendRefs": [{"name": service, "port": port}]})
        })
        .collect();
    gateway_route("HTTPRoute", namespace, name, host, &rules)
}

/// A GRPCRoute: gRPC service, Service and the Service's port.
pub fn grpc_route(namespace: &str, name: &str, host: &str, calls: &[Path<'_>]) -> Value {
    let rules: Vec<Value> = calls
        .iter()
        .map(|(call, service, port)| {
            json!({"matches": [{"method": {"type": "Exact", "service": call}}],
                "backendRefs": [{"name": service, "port": port}]})
        })
        .collect();
    gateway_route("GRPCRoute", namespace, name, host, &rules)
}

fn gateway_route(kind: &str, namespace: &str, name: &str, host: &str, rules: &[Value]) -> Value {
    json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": kind,
        "metadata": {"namespace": namespace, "name": name},
        "spec": {"parentRefs": [{"name": "gateway"}], "hostnames": [host], "rules": rules}})
}
