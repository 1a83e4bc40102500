//! In: pods as the controllers' own manifests make them, and their siblings. Out: proof of which are
//! data planes, and of the rule that told it.
use super::*;
use Controller::{Caddy, Envoy, Haproxy, Nginx, Traefik};

/// Labels in the words of a selector.
fn labels(selector: &str) -> BTreeMap<String, String> {
    let pairs = selector.split(',').filter_map(|pair| pair.split_once('='));
    pairs
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect()
}

/// Containers as `name image command...`, one a line; which packaging they and the labels tell.
fn told(selector: &str, lines: &str) -> Option<(Controller, &'static str)> {
    let rows: Vec<(&str, &str, Vec<String>)> = lines
        .lines()
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            let (name, image) = (words.next()?, words.next()?);
            Some((name, image, words.map(str::to_owned).collect()))
        })
        .collect();
    let containers: Vec<_> = rows
        .iter()
        .map(|(name, image, command)| Container {
            name,
            image,
            command,
        })
        .collect();
    pod(&labels(selector), &containers).map(|told| (told.controller, told.packaging.name))
}

/// Labels, containers, and what they tell.
const PODS: &[(&str, &str, Controller, &str)] = &[
    (
        "app.kubernetes.io/name=ingress-nginx,app.kubernetes.io/component=controller",
        "controller registry.k8s.io/ingress-nginx/controller:v1.5.2@sha256:3870 /nginx-ingress-controller",
        Nginx,
        "ingress-nginx",
    ),
    (
        "app.kubernetes.io/name=ingress-nginx,app.kubernetes.io/component=controller",
        "controller registry.corp:5000/x:1",
        Nginx,
        "ingress-nginx",
    ),
    (
        "app.kubernetes.io/name=rke2-ingress-nginx",
        "rke2-ingress-nginx-controller rancher/nginx-ingress-controller:v1.14.5-hardened2",
        Nginx,
        "ingress-nginx",
    ),
    (
        "app=nginx-ingress",
        "nginx-ingress nginx/nginx-ingress:5.2",
        Nginx,
        "NGINX Ingress Controller (F5)",
    ),
    (
        "app=my-gateway",
        "ic private-registry.nginx.com/nginx-ic/nginx-plus-ingress:3.1.1",
        Nginx,
        "NGINX Ingress Controller (F5)",
    ),
    (
        "gateway.networking.k8s.io/gateway-name=web",
        "nginx ghcr.io/nginx/nginx-gateway-fabric/nginx:2.4.0",
        Nginx,
        "NGINX Gateway Fabric",
    ),
    ("app=proxy-kong", "proxy kong:3.2", Nginx, "Kong"),
    ("app=x", "proxy kong/kong-gateway:3.13", Nginx, "Kong"),
    (
        "app.kubernetes.io/name=apisix",
        "apisix apache/apisix:3.8.0-debian",
        Nginx,
        "APISIX",
    ),
    (
        "run=haproxy-ingress",
        "haproxy-ingress haproxytech/kubernetes-ingress --configmap=a/b",
        Haproxy,
        "HAProxy Kubernetes Ingress Controller",
    ),
    (
        "app.kubernetes.io/name=haproxy-ingress",
        "haproxy-ingress quay.io/jcmoraisjr/haproxy-ingress:v0.14.5\nhaproxy haproxy:2.8 -W",
        Haproxy,
        "HAProxy Ingress",
    ),
    (
        "ingresscontroller.operator.openshift.io/deployment-ingresscontroller=default",
        "router quay.io/openshift-release-dev/ocp-v4.0-art-dev@sha256:12",
        Haproxy,
        "OpenShift router",
    ),
    (
        "app=envoy",
        "shutdown-manager ghcr.io/projectcontour/contour:v1.33 /bin/contour envoy shutdown-manager\n\
             envoy docker.io/envoyproxy/envoy:distroless-v1.35.8 envoy -c /config/envoy.json",
        Envoy,
        "Contour",
    ),
    (
        "app.kubernetes.io/managed-by=envoy-gateway,app.kubernetes.io/component=proxy",
        "envoy docker.io/envoyproxy/envoy:distroless-v1.34.1 envoy --service-cluster default",
        Envoy,
        "Envoy Gateway",
    ),
    (
        "app=edge,istio=edge",
        "istio-proxy docker.io/istio/proxyv2:1.24.0-distroless proxy router --domain x",
        Envoy,
        "Istio gateway",
    ),
    (
        "app.kubernetes.io/name=emissary-ingress,profile=main",
        "emissary-ingress docker.io/emissaryingress/emissary:3.9.1",
        Envoy,
        "Emissary",
    ),
    (
        "gloo=gateway-proxy",
        "gateway-proxy quay.io/solo-io/gloo-envoy-wrapper:1.17.0 --disable-hot-restart",
        Envoy,
        "Gloo",
    ),
    (
        "kgateway=kube-gateway",
        "kgateway cr.kgateway.dev/kgateway-dev/envoy-wrapper:v2.1.1 --disable-hot-restart\n\
             istio-proxy docker.io/istio/proxyv2:1.24 proxy sidecar",
        Envoy,
        "kgateway",
    ),
    (
        "k8s-app=cilium-envoy",
        "cilium-envoy quay.io/cilium/cilium-envoy:v1.34@sha256:ab /usr/bin/cilium-envoy",
        Envoy,
        "Cilium",
    ),
    (
        "app.kubernetes.io/name=traefik",
        "traefik docker.io/traefik:v3.3 --ping=true",
        Traefik,
        "Traefik",
    ),
    (
        "a=b",
        "traefik rancher/mirrored-library-traefik:3.7.4",
        Traefik,
        "Traefik",
    ),
    (
        "app.kubernetes.io/name=caddy-ingress-controller",
        "caddy-ingress-controller caddy/ingress:v0.2.1",
        Caddy,
        "Caddy Ingress Controller",
    ),
];

#[test]
fn pods_of_every_packaging_are_told() {
    for (selector, containers, controller, name) in PODS {
        assert_eq!(
            told(selector, containers),
            Some((*controller, *name)),
            "{containers}"
        );
    }
    // No packaging without a proof above.
    let proven = |name| PODS.iter().any(|(_, _, _, told)| *told == name);
    for (_, packaging) in packagings() {
        assert!(proven(packaging.name), "{}", packaging.name);
    }
}

/// Labels and containers of pods that are no data planes.
const OTHERS: &[(&str, &str)] = &[
    (
        "app.kubernetes.io/name=ingress-nginx,app.kubernetes.io/component=admission-webhook",
        "create registry.k8s.io/ingress-nginx/kube-webhook-certgen:v1 create",
    ),
    (
        "app.kubernetes.io/name=ingress-nginx,app.kubernetes.io/component=default-backend",
        "default registry.k8s.io/defaultbackend-amd64:1.5",
    ),
    ("app=nginx", "nginx nginx:1.27"),
    ("app=shop", "web openresty/openresty:1.25 openresty"),
    ("app=shop", "web caddy:2.8 caddy run"),
    ("app=shop", "web haproxy:2.8"),
    (
        "app=shop",
        "web shop:1\nistio-proxy docker.io/istio/proxyv2:1.24.0 proxy sidecar --domain x",
    ),
    (
        "gateway.istio.io/managed=istio.io-mesh-controller",
        "istio-proxy docker.io/istio/proxyv2:1.24.0 proxy waypoint",
    ),
    (
        "app=istio-egressgateway,istio=egressgateway",
        "istio-proxy docker.io/istio/proxyv2:1.24.0 proxy router",
    ),
    (
        "app=istiod,istio=pilot",
        "discovery docker.io/istio/pilot:1.24.0 discovery",
    ),
    (
        "app.kubernetes.io/name=nginx-gateway",
        "nginx-gateway ghcr.io/nginx/nginx-gateway-fabric:2.4.0 controller",
    ),
    (
        "app=ingress-kong",
        "ingress-controller kong/kubernetes-ingress-controller:2.9.3",
    ),
    (
        "job-name=kong-migrations",
        "migrations kong:3.2 /bin/sh -c kong migrations bootstrap",
    ),
    ("app.kubernetes.io/name=etcd", "etcd bitnami/etcd:3.5"),
    (
        "a=b",
        "apisix-ingress-controller apache/apisix-ingress-controller:2.0",
    ),
    (
        "a=b",
        "crdjob haproxytech/kubernetes-ingress:3.1 --job-check-crd",
    ),
    (
        "run=ingress-default-backend",
        "default gcr.io/google_containers/defaultbackend:1.0",
    ),
    (
        "app=contour",
        "contour ghcr.io/projectcontour/contour:v1.33 contour serve",
    ),
    (
        "app.kubernetes.io/name=gateway-helm,control-plane=envoy-gateway",
        "envoy-gateway docker.io/envoyproxy/gateway:v1.4 server",
    ),
    (
        "app.kubernetes.io/managed-by=envoy-gateway,app.kubernetes.io/component=ratelimit",
        "envoy-ratelimit docker.io/envoyproxy/ratelimit:master",
    ),
    (
        "app.kubernetes.io/name=emissary-apiext",
        "emissary-apiext docker.io/emissaryingress/emissary:3.9.1 apiext emissary-apiext",
    ),
    (
        "gloo=gloo",
        "gloo quay.io/solo-io/gloo:1.17\nenvoy-sidecar quay.io/solo-io/gloo-envoy-wrapper:1.17",
    ),
    (
        "k8s-app=cilium",
        "cilium-agent quay.io/cilium/cilium:v1.16 cilium-agent",
    ),
    ("app=svclb-traefik", "lb-tcp-80 rancher/klipper-lb:v0.4.9"),
    (
        "job-name=helm-install-traefik",
        "helm rancher/klipper-helm:v0.9.3 install",
    ),
    ("app=whoami", "whoami traefik/whoami:v1.10"),
    ("app=x", "exporter my-traefik:1"),
];

#[test]
fn siblings_sidecars_and_web_servers_are_none() {
    for (selector, containers) in OTHERS {
        assert_eq!(told(selector, containers), None, "{selector} {containers}");
    }
}

#[test]
fn the_rule_that_told_it_is_named_and_an_image_goes_before_labels() {
    let command = Vec::new();
    let traefik = Container {
        name: "edge",
        image: "traefik:v3",
        command: &command,
    };
    let both = labels("gloo=gateway-proxy");
    let told = pod(&both, &[traefik]).expect("a data plane");
    assert_eq!(
        (told.controller, told.by),
        (Controller::Traefik, By::Container("edge"))
    );
    let told = pod(&both, &[]).expect("a data plane");
    assert_eq!(told.by, By::Labels(&[("gloo", "gateway-proxy")]));
    assert_eq!(told.packaging.name, "Gloo");
}

#[test]
fn classes_are_told_with_and_without_an_instance() {
    for (name, packaging) in [
        ("k8s.io/ingress-nginx", "ingress-nginx"),
        (
            "haproxy.org/ingress-controller/edge",
            "HAProxy Kubernetes Ingress Controller",
        ),
        ("projectcontour.io/ingress/contour-contour", "Contour"),
        ("istio.io/gateway-controller", "Istio gateway"),
        ("traefik.io/ingress-controller", "Traefik"),
        ("k8s.io/ingress-nginx-internal", ""),
        ("istio.io/mesh-controller", ""),
        ("ingress.k8s.aws/alb", ""),
        ("", ""),
    ] {
        let told = of_class(name).map_or("", |packaging| packaging.name);
        assert_eq!(told, packaging, "{name}");
    }
}

#[test]
fn an_image_is_its_repository_whatever_registry_tag_and_digest() {
    for image in ["a/b", "a/b:1.2", "a/b@sha256:12", "a/b:1.2@sha256:12"] {
        assert_eq!(repository(image), "a/b");
    }
    assert_eq!(repository("reg:5000/a/b"), "reg:5000/a/b");
    assert!(ends_in("reg:5000/a/b", "a/b") && ends_in("a/b", "a/b"));
    assert!(!ends_in("xa/b", "a/b") && !ends_in("a/b/c", "a/b"));
}
