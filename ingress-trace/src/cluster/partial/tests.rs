//! JSON as the API server writes it, and as it may: what is kept of it.
use std::net::IpAddr;

use serde_json::{Value, json};

use super::*;
use crate::cluster::object::{
    Endpoint, Name, Node, Owner, Pod, PortRef, PreStop, Service, ServicePort, Slice, SlicePort,
    State,
};

fn read(kind: Kind, json: &Value) -> Object {
    let read = object(kind, json.to_string().as_bytes());
    read.expect("a readable object").object
}

fn pod(json: &Value) -> Pod {
    match read(Kind::Pod, json) {
        Object::Pod(pod) => pod,
        other => panic!("{other:?}"),
    }
}

fn slice(json: &Value) -> Slice {
    match read(Kind::Slice, json) {
        Object::Slice(slice) => slice,
        other => panic!("{other:?}"),
    }
}

fn service(json: &Value) -> Service {
    match read(Kind::Service, json) {
        Object::Service(service) => service,
        other => panic!("{other:?}"),
    }
}

fn node(json: &Value) -> Node {
    match read(Kind::Node, json) {
        Object::Node(node) => node,
        other => panic!("{other:?}"),
    }
}

fn ips(texts: &[&str]) -> Vec<IpAddr> {
    let parse = |text: &&str| text.parse().expect("an address");
    texts.iter().map(parse).collect()
}

#[test]
fn a_pod_keeps_what_identity_and_causes_need() {
    let pod = pod(&json!({
        "kind": "Pod", "apiVersion": "v1",
        "metadata": {
            "name": "cart-7d9f-x2x", "namespace": "shop", "uid": "u-1", "resourceVersion": "77",
            "creationTimestamp": "2026-01-01T00:00:00Z",
            "deletionTimestamp": "2026-01-01T00:01:30Z", "deletionGracePeriodSeconds": 30,
            "labels": {"app": "cart", "pod-template-hash": "7d9f"},
            "annotations": {"kubectl.kubernetes.io/last-applied-configuration": "{}"},
            "managedFields": [{"manager": "kubelet", "fieldsV1": {"f:status": {}}}],
            "ownerReferences": [
                {"apiVersion": "v1", "kind": "Other", "name": "x", "uid": "1"},
                {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "cart-7d9f", "uid": "2",
                 "controller": true, "blockOwnerDeletion": true}]
        },
        "spec": {
            "nodeName": "node-1", "hostNetwork": true,
            "initContainers": [
                {"name": "migrate", "image": "m"},
                {"name": "proxy", "image": "p", "restartPolicy": "Always",
                 "ports": [{"containerPort": 15001}]}],
            "containers": [{
                "name": "app", "image": "shop/cart:1", "command": ["/cart"], "args": ["-v"],
                "env": [{"name": "PASSWORD", "value": "x"}, {"name": "CONTROLLER_INGRESS_CLASS", "value": "edge"}],
                "ports": [{"name": "http", "containerPort": 8080, "protocol": "TCP"},
                          {"name": "dns", "containerPort": 53, "protocol": "UDP"}]}]
        },
        "status": {
            "phase": "Running", "podIP": "10.77.1.3",
            "podIPs": [{"ip": "10.77.1.3"}, {"ip": "fd00::3"}],
            "conditions": [
                {"type": "Initialized", "status": "True"},
                {"type": "Ready", "status": "False", "reason": "ContainersNotReady",
                 "lastTransitionTime": "2026-01-01T00:00:50Z"}],
            "containerStatuses": [{
                "name": "app", "ready": false, "restartCount": 3, "image": "i", "imageID": "i",
                "containerID": "containerd://abc",
                "state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off"}},
                "lastState": {"terminated": {"exitCode": 137, "reason": "OOMKilled",
                    "startedAt": "2026-01-01T00:00:10Z", "finishedAt": "2026-01-01T00:00:49Z"}}}],
            "initContainerStatuses": [{
                "name": "proxy", "ready": true, "restartCount": 0,
                "state": {"running": {"startedAt": "2026-01-01T00:00:05Z"}}}]
        }
    }));
    assert_eq!(pod.name, Name::new("shop", "cart-7d9f-x2x"));
    let owner = Owner {
        kind: "Deployment".into(),
        name: "cart".into(),
    };
    assert_eq!(pod.owner, Some(owner));
    let deleted = pod.deleted_at().expect("a deletion").to_string();
    assert_eq!(deleted, "2026-01-01T00:01:00Z");
    assert_eq!(pod.node.as_deref(), Some("node-1"));
    assert!(pod.host_network);
    assert_eq!(pod.addresses, ips(&["10.77.1.3", "fd00::3"]));
    assert_eq!(pod.labels.len(), 2);
    let ready = pod.ready.expect("a condition");
    assert!(!ready.met);
    assert_eq!(ready.reason.as_deref(), Some("ContainersNotReady"));
    let [app, proxy] = &pod.containers[..] else {
        panic!("{:?}", pod.containers);
    };
    let words: Vec<&str> = app.command.iter().map(|word| &**word).collect();
    assert_eq!(words, ["/cart", "-v", "CONTROLLER_INGRESS_CLASS=edge"]);
    assert_eq!(app.ports, [("http".into(), 8080)]);
    assert_eq!((app.restarts, app.ready), (3, false));
    assert_eq!(app.id.as_deref(), Some("containerd://abc"));
    assert_eq!(app.state, State::Waiting("CrashLoopBackOff".into()));
    let State::Terminated { reason, code, .. } = &app.last else {
        panic!("{:?}", app.last);
    };
    assert_eq!((&**reason, *code), ("OOMKilled", 137));
    assert_eq!(proxy.name, "proxy".into());
    assert_eq!((app.sidecar, proxy.sidecar), (false, true));
    assert!(matches!(proxy.state, State::Running(Some(_))));
}

#[test]
fn a_pod_that_has_just_been_made_has_nothing_but_a_name() {
    let bare = pod(&json!({"metadata": {"name": "a", "namespace": "b", "uid": "c"}}));
    assert_eq!(bare.node, None);
    assert_eq!(bare.phase, "".into());
    let nulls = pod(&json!({
        "metadata": {"name": "a", "namespace": "b", "uid": "c", "creationTimestamp": null,
                     "labels": null, "annotations": null, "ownerReferences": null},
        "spec": {"containers": null, "nodeName": "", "hostNetwork": null},
        "status": {"conditions": null, "podIPs": null, "podIP": "", "containerStatuses": null}
    }));
    assert_eq!(nulls, bare);
    let empty = json!({"name": "app", "state": {}, "lastState": {}, "containerID": ""});
    let state = pod(&json!({
        "metadata": {"name": "a"}, "spec": {"containers": [{"name": "app"}]},
        "status": {"containerStatuses": [empty], "podIP": "10.0.0.1"}
    }));
    assert_eq!(state.containers[0].state, State::None);
    assert_eq!(state.containers[0].id, None);
    assert_eq!(state.addresses, ips(&["10.0.0.1"]));
}

#[test]
fn a_hook_before_the_end_is_known_where_it_only_sleeps() {
    let hook = |lifecycle: Value| {
        let app = json!({"name": "app", "lifecycle": lifecycle});
        let pod = pod(&json!({"metadata": {"name": "a"}, "spec": {"containers": [app]}}));
        pod.containers[0].pre_stop
    };
    let command = |words: &[&str]| hook(json!({"preStop": {"exec": {"command": words}}}));
    for (words, slept) in [
        (&["sleep", "5"][..], PreStop::Command(5)),
        (&["/bin/sleep", "5s"], PreStop::Command(5)),
        (&["/bin/sh", "-c", " sleep 20 "], PreStop::Command(20)),
        (&["sh", "-c", "sleep 5; nginx -s quit"], PreStop::Other),
        (&["sleep"], PreStop::Other),
        (&["sleep", "$WAIT"], PreStop::Other),
        (&["wait", "5"], PreStop::Other),
        (&[], PreStop::Other),
    ] {
        assert_eq!(command(words), Some(slept), "{words:?}");
    }
    let sleep = |seconds| hook(json!({"preStop": {"sleep": {"seconds": seconds}}}));
    assert_eq!(sleep(7), Some(PreStop::Sleep(7)));
    assert_eq!(sleep(-1), Some(PreStop::Other));
    let get = json!({"preStop": {"httpGet": {"path": "/drain", "port": 8080}}});
    assert_eq!(hook(get), Some(PreStop::Other));
    for none in [
        json!(null),
        json!({}),
        json!({"preStop": null}),
        json!({"postStart": {"exec": {"command": ["sleep", "5"]}}}),
    ] {
        assert_eq!(hook(none.clone()), None, "{none}");
    }
}

#[test]
fn a_static_pod_keeps_the_hash_that_names_its_cgroup() {
    let pod = pod(
        &json!({"metadata": {"name": "haproxy-node-1", "uid": "mirror",
        "annotations": {"kubernetes.io/config.hash": "0123abcd", "other": "x"}}}),
    );
    assert_eq!(&**pod.local_uid(), "0123abcd");
}

#[test]
fn only_a_replica_set_of_a_template_is_its_deployments() {
    let owned = |labels: Value, kind: &str, name: &str| {
        let owner = json!([{"kind": kind, "name": name, "controller": true}]);
        let meta = json!({"name": "p", "labels": labels, "ownerReferences": owner});
        let owner = pod(&json!({"metadata": meta})).owner.expect("an owner");
        format!("{} {}", owner.kind, owner.name)
    };
    let hash = json!({"pod-template-hash": "7d9f"});
    assert_eq!(
        owned(hash.clone(), "ReplicaSet", "a-b-7d9f"),
        "Deployment a-b"
    );
    assert_eq!(
        owned(hash.clone(), "ReplicaSet", "a-8888"),
        "ReplicaSet a-8888"
    );
    assert_eq!(
        owned(hash.clone(), "ReplicaSet", "a7d9f"),
        "ReplicaSet a7d9f"
    );
    assert_eq!(owned(hash, "StatefulSet", "a-7d9f"), "StatefulSet a-7d9f");
    assert_eq!(
        owned(json!({}), "ReplicaSet", "a-7d9f"),
        "ReplicaSet a-7d9f"
    );
    let rollout = json!({"rollouts-pod-template-hash": "7d9f"});
    assert_eq!(owned(rollout, "ReplicaSet", "a-7d9f"), "Rollout a");
}

#[test]
fn a_slice_says_of_each_endpoint_what_it_is_ready_for() {
    let slice = slice(&json!({
        "addressType": "IPv6",
        "metadata": {"name": "cart-x", "namespace": "shop",
                     "labels": {"kubernetes.io/service-name": "cart"}},
        "ports": [{"name": "http", "port": 8080, "protocol": "TCP"},
                  {"name": "all", "port": null}, {"port": 53, "protocol": "UDP"},
                  {"name": null, "port": 9090, "protocol": null}],
        "endpoints": [
            {"addresses": ["fd00::1"], "conditions": {}, "nodeName": "n",
             "targetRef": {"kind": "Pod", "namespace": "shop", "name": "cart-1", "uid": "1"}},
            {"addresses": ["fd00::2"], "conditions": null},
            {"addresses": ["fd00::3"],
             "conditions": {"ready": false, "serving": true, "terminating": true},
             "targetRef": {"kind": "Node", "name": "n"}},
            {"addresses": ["fd00::4"], "conditions": {"ready": false, "serving": null}},
            {"addresses": ["example.com"]}, {"addresses": null}]
    }));
    assert_eq!(slice.service.as_deref(), Some("cart"));
    let port = |name: &str, port| SlicePort {
        name: name.into(),
        port,
    };
    assert_eq!(
        slice.ports,
        [
            port("http", Some(8080)),
            port("all", None),
            port("", Some(9090))
        ]
    );
    let endpoint = |address: &str, ready, serving, terminating| Endpoint {
        addresses: ips(&[address]),
        ready,
        serving,
        terminating,
        pod: None,
        node: None,
    };
    let first = Endpoint {
        pod: Some("cart-1".into()),
        node: Some("n".into()),
        ..endpoint("fd00::1", true, true, false)
    };
    assert_eq!(
        slice.endpoints,
        [
            first,
            endpoint("fd00::2", true, true, false),
            endpoint("fd00::3", false, true, true),
            endpoint("fd00::4", false, false, false),
        ]
    );
}

#[test]
fn an_empty_slice_and_one_of_names_have_no_endpoints() {
    let empty = json!({"metadata": {"name": "a"}, "endpoints": null, "ports": null});
    assert_eq!(slice(&empty).endpoints, []);
    let names = json!({"metadata": {"name": "a"}, "addressType": "FQDN",
                       "endpoints": [{"addresses": ["a.example.com"]}]});
    assert_eq!(slice(&names).endpoints, []);
    assert_eq!(slice(&names).service, None);
}

#[test]
fn a_service_keeps_its_addresses_and_tcp_ports() {
    let service = service(&json!({
        "metadata": {"name": "cart", "namespace": "shop"},
        "spec": {
            "type": "LoadBalancer", "selector": {"app": "cart"},
            "clusterIP": "10.96.0.9", "clusterIPs": ["10.96.0.9", "fd01::9"],
            "externalIPs": ["192.0.2.1"],
            "ports": [
                {"name": "http", "port": 80, "protocol": "TCP", "targetPort": "web",
                 "nodePort": 30080},
                {"port": 81, "targetPort": 8081}, {"port": 82}, {"port": 83, "targetPort": 0},
                {"name": "dns", "port": 53, "protocol": "UDP", "targetPort": 53}]
        },
        "status": {"loadBalancer": {"ingress": [{"ip": "203.0.113.5"}, {"hostname": "lb.example"}]}}
    }));
    assert!(service.selects);
    assert_eq!(service.cluster_ips, ips(&["10.96.0.9", "fd01::9"]));
    assert_eq!(service.external_ips, ips(&["192.0.2.1", "203.0.113.5"]));
    let port = |name: &str, port, target, node_port| ServicePort {
        name: name.into(),
        port,
        target,
        node_port,
    };
    assert_eq!(
        service.ports,
        [
            port("http", 80, PortRef::Name("web".into()), Some(30080)),
            port("", 81, PortRef::Number(8081), None),
            port("", 82, PortRef::Number(82), None),
            port("", 83, PortRef::Number(83), None),
        ]
    );
}

#[test]
fn services_without_address_or_selector_are_told_apart() {
    let headless = service(&json!({"metadata": {"name": "a"},
        "spec": {"clusterIP": "None", "clusterIPs": ["None"], "selector": {"a": "b"}}}));
    assert_eq!(headless.cluster_ips, ips(&[]));
    assert!(headless.selects);
    let old = service(&json!({"metadata": {"name": "a"}, "spec": {"clusterIP": "10.96.0.1"}}));
    assert_eq!(old.cluster_ips, ips(&["10.96.0.1"]));
    assert!(!old.selects);
    let external = service(&json!({"metadata": {"name": "a"},
        "spec": {"type": "ExternalName", "externalName": "db.example.com"}}));
    assert_eq!(external.external_name.as_deref(), Some("db.example.com"));
    assert_eq!(external.ports, []);
    let bare = service(&json!({"metadata": {"name": "a"}, "spec": {}, "status": {}}));
    assert!(!bare.selects && bare.external_name.is_none());
}

#[test]
fn a_node_keeps_its_addresses_but_no_names() {
    let node = node(&json!({
        "metadata": {"name": "node-1"},
        "status": {
            "addresses": [{"type": "InternalIP", "address": "192.168.0.1"},
                          {"type": "InternalIP", "address": "fd00::1"},
                          {"type": "Hostname", "address": "node-1"}],
            "conditions": [{"type": "Ready", "status": "Unknown", "reason": "NodeStatusUnknown",
                            "lastTransitionTime": "2026-01-01T00:00:00Z"}]
        }
    }));
    assert_eq!(node.name, Name::new("", "node-1"));
    assert_eq!(node.addresses, ips(&["192.168.0.1", "fd00::1"]));
    assert!(!node.ready.expect("a condition").met);
}

#[test]
fn an_object_that_is_not_as_expected_does_not_spoil_the_page() {
    let good = json!({"metadata": {"name": "a", "namespace": "b"}});
    let bad = json!({"metadata": {"name": 7}, "spec": []});
    let list = json!({"kind": "PodList", "metadata": {"resourceVersion": "9", "continue": "x/y"},
                      "items": [good, bad, good]});
    let read = page(Kind::Pod, list.to_string().as_bytes()).expect("a page");
    assert_eq!((read.objects.len(), read.unreadable), (2, 1));
    assert_eq!((&*read.version, read.next.as_deref()), ("9", Some("x/y")));
    let empty = json!({"metadata": {"resourceVersion": "9", "continue": ""}, "items": null});
    let read = page(Kind::Pod, empty.to_string().as_bytes()).expect("a page");
    assert!(read.objects.is_empty() && read.next.is_none());
    assert!(page(Kind::Pod, b"{\"items\": [").is_err());
    assert!(page(Kind::Pod, b"<html>").is_err());
}

#[test]
fn a_watch_tells_changes_bookmarks_and_errors_apart() {
    let line = |kind: &str, object: Value| {
        let line = json!({"type": kind, "object": object}).to_string();
        change(Kind::Service, line.as_bytes())
    };
    let cart = json!({"metadata": {"name": "cart", "namespace": "shop", "resourceVersion": "5"}});
    for kind in ["ADDED", "MODIFIED"] {
        let read = line(kind, cart.clone()).expect("a line");
        assert!(matches!(read, Change::Applied(read) if read.version == "5"));
    }
    let gone = line("DELETED", cart).expect("a line");
    assert!(matches!(gone, Change::Deleted(read) if read.object.name().to_string() == "shop/cart"));
    let mark = json!({"kind": "Service", "metadata": {"resourceVersion": "8"}});
    let mark = line("BOOKMARK", mark).expect("a line");
    assert!(matches!(mark, Change::Bookmark(version) if version == "8"));
    let gone = json!({"kind": "Status", "code": 410, "reason": "Expired", "message": "too old"});
    let error = line("ERROR", gone).expect("a line");
    assert!(matches!(error, Change::Error(status) if status.code == 410));
    let odd = line("ADDED", json!({"metadata": {"name": {}}})).expect("a line");
    assert!(matches!(odd, Change::Unreadable(_)));
    assert!(line("OTHER", json!({})).is_err());
    assert!(change(Kind::Service, b"garbage").is_err());
}
