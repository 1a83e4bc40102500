//! An ingress pod as its manifests have it, in the real cluster: a Deployment in, the pod that the cluster's
//! controllers make of it out, with the cgroup in which the node's proxy runs. The test is its kubelet.
use std::path::PathBuf;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::apiserver::FOLLOWS;
use crate::bed::Host;
use crate::kubelet::{Layout, Pod};
use crate::node::Node;
use crate::{cgroup, objects, wait};

/// Its Deployment.
pub struct Manifest {
    /// Its name, and that of its ConfigMap.
    pub name: &'static str,
    /// The image of its only container.
    pub image: &'static str,
    /// The arguments of that.
    pub arguments: &'static [&'static str],
}

/// deploy/static/provider/cloud/deploy.yaml of kubernetes/ingress-nginx.
pub const INGRESS_NGINX: Manifest = Manifest {
    name: "ingress-nginx-controller",
    image: "registry.k8s.io/ingress-nginx/controller:v1.13.0",
    arguments: &[
        "/nginx-ingress-controller",
        "--controller-class=k8s.io/ingress-nginx",
        "--ingress-class=nginx",
        "--configmap=$(POD_NAMESPACE)/ingress-nginx-controller",
    ],
};

/// deploy/haproxy-ingress.yaml of haproxytech/kubernetes-ingress.
pub const HAPROXY: Manifest = Manifest {
    name: "haproxy-kubernetes-ingress",
    image: "haproxytech/kubernetes-ingress:3.1",
    arguments: &["--configmap=$(POD_NAMESPACE)/haproxy-kubernetes-ingress"],
};

/// The CPU limit of the container, in milliseconds of each 100 ms.
pub const CPU: u32 = 2;

impl Manifest {
    fn deployment(&self, namespace: &str, node: &str) -> Value {
        let labels = json!({"app": self.name});
        let limits = json!({"cpu": format!("{}m", CPU * 10)});
        let container = json!({"name": "controller", "image": self.image, "args": self.arguments,
            "resources": {"limits": limits}});
        // There is no scheduler.
        let spec = json!({"nodeName": node, "containers": [container]});
        json!({"apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"namespace": namespace, "name": self.name},
            "spec": {"replicas": 1, "selector": {"matchLabels": labels},
                "template": {"metadata": {"labels": labels}, "spec": spec}}})
    }
}

/// The pod.
pub struct Ingress {
    /// Its name.
    pub pod: String,
    folder: PathBuf,
}

impl Ingress {
    /// Has it made; what the proxy's host starts from now on runs in it.
    pub fn new(node: &Node, manifest: &Manifest) -> Result<Self> {
        let Node {
            server, namespace, ..
        } = node;
        let settings = json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {},
            "metadata": {"namespace": namespace, "name": manifest.name}});
        server.apply_all(&[settings, manifest.deployment(namespace, &node.name)])?;
        let path = format!(
            "/api/v1/namespaces/{namespace}/pods?labelSelector=app%3D{}",
            manifest.name
        );
        let object = wait::until("the ingress pod", FOLLOWS, || {
            let mut list = server.admin().get(&path).ok()?.success().ok()?;
            Some(list["items"].get_mut(0)?.take())
        })?;
        let place = Pod::of(&node.bed, Host::Proxy, Layout::SYSTEMD, &object)?;
        place.create()?;
        place.container(&node.bed, "controller")?;
        let pod = object["metadata"]["name"].as_str().context("no name")?;
        let running = objects::pod(namespace, pod, &node.name, &[Host::Proxy.v4()], &[]);
        let mut status = json!({"apiVersion": "v1", "kind": "Pod",
            "metadata": {"namespace": namespace, "name": pod}});
        status["status"] = running["status"].clone();
        status["status"]["containerStatuses"] = json!([objects::running("controller", 0)]);
        server.apply(&status)?;
        Ok(Self {
            pod: pod.to_owned(),
            folder: node.bed.cgroup(Host::Proxy),
        })
    }

    /// Gives what runs in it so much CPU time in each 100 ms.
    pub fn throttle(&self, ms: u32) -> Result<()> {
        cgroup::throttle(&self.folder, ms)
    }
}
