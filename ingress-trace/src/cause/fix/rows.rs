//! Which settings of which data plane bear on a cause, where they are made, and how they write their value.
//! Data from the documentation of each, named beside it and read in November 2026; decides nothing.

/// Where a setting is made.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum At {
    /// An annotation of the Ingress: it holds for all Services that this leads to.
    Ingress,
    /// An annotation of the Service.
    Service,
    /// A key of the controller's ConfigMap.
    ConfigMap,
}

/// How a setting writes a time, or what else it is set to.
#[derive(Clone, Copy)]
pub(super) enum Value {
    /// Seconds, a bare number.
    Seconds,
    /// Seconds with their unit: `120s`.
    Suffixed,
    /// Milliseconds, a bare number.
    Millis,
    /// This word.
    Word(&'static str),
    /// A list with the Service's name: what is there already is not overwritten.
    ServiceName,
    /// A list with the Service's port, likewise.
    ServicePort,
}

/// A data plane, and where which of its settings is made, and to what.
pub(super) type Row = (&'static str, At, &'static str, Value);

/// Time for a response.
pub(super) const READ_TIMEOUT: [Row; 9] = [
    // kubernetes.github.io/ingress-nginx/user-guide/nginx-configuration/annotations, "Custom timeouts".
    (
        "ingress-nginx",
        At::Ingress,
        "nginx.ingress.kubernetes.io/proxy-read-timeout",
        Value::Seconds,
    ),
    // docs.nginx.com/nginx-ingress-controller, advanced configuration with annotations.
    (
        "NGINX Ingress Controller (F5)",
        At::Ingress,
        "nginx.org/proxy-read-timeout",
        Value::Suffixed,
    ),
    // Kong/kubernetes-ingress-controller, internal/annotations/annotations.go.
    (
        "Kong",
        At::Service,
        "konghq.com/read-timeout",
        Value::Millis,
    ),
    // apache/apisix-ingress-controller, #1876 (1.8) and #2614: 2.0.0 has none (upgrade guide).
    (
        "APISIX",
        At::Ingress,
        "k8s.apisix.apache.org/upstream-read-timeout",
        Value::Suffixed,
    ),
    // haproxytech/kubernetes-ingress, documentation/annotations.md; since 1.11 (e2f797c).
    (
        "HAProxy Kubernetes Ingress Controller",
        At::Service,
        "haproxy.org/timeout-server",
        Value::Suffixed,
    ),
    // jcmoraisjr/haproxy-ingress, configuration/keys.md and gateway-api.md: scope Backend.
    (
        "HAProxy Ingress",
        At::Service,
        "haproxy-ingress.github.io/timeout-server",
        Value::Suffixed,
    ),
    // openshift-docs, modules/nw-route-specific-annotations.adoc; route-controller-manager,
    // newRouteForIngress copies an Ingress' annotations.
    (
        "OpenShift router",
        At::Ingress,
        "haproxy.router.openshift.io/timeout",
        Value::Suffixed,
    ),
    // projectcontour.io/docs/1.30/config/annotations.
    (
        "Contour",
        At::Ingress,
        "projectcontour.io/response-timeout",
        Value::Suffixed,
    ),
    // cilium/cilium, operator/pkg/ingress/annotations: a Go duration; 1.16 has it.
    (
        "Cilium",
        At::Ingress,
        "ingress.cilium.io/request-timeout",
        Value::Suffixed,
    ),
];

/// Those that heed `timeouts` of an HTTPRoute: HTTPRouteRequestTimeout in their conformance reports
/// (kubernetes-sigs/gateway-api, conformance/reports; kgateway since 2.1). NGINX Gateway Fabric, Kong,
/// Traefik and HAProxy Ingress do not.
pub(super) const HEED_TIMEOUTS: [&str; 5] = [
    "Cilium",
    "Contour",
    "Envoy Gateway",
    "Istio gateway",
    "kgateway",
];

/// TLS to the backend.
pub(super) const SPEAK_TLS: [Row; 9] = [
    // The same pages, unless another is named.
    (
        "ingress-nginx",
        At::Ingress,
        "nginx.ingress.kubernetes.io/backend-protocol",
        Value::Word("HTTPS"),
    ),
    (
        "NGINX Ingress Controller (F5)",
        At::Ingress,
        "nginx.org/ssl-services",
        Value::ServiceName,
    ),
    (
        "Kong",
        At::Service,
        "konghq.com/protocol",
        Value::Word("https"),
    ),
    (
        "APISIX",
        At::Ingress,
        "k8s.apisix.apache.org/upstream-scheme",
        Value::Word("https"),
    ),
    (
        "HAProxy Kubernetes Ingress Controller",
        At::Service,
        "haproxy.org/server-ssl",
        Value::Word("true"),
    ),
    (
        "HAProxy Ingress",
        At::Service,
        "haproxy-ingress.github.io/backend-protocol",
        Value::Word("h1-ssl"),
    ),
    (
        "Contour",
        At::Service,
        "projectcontour.io/upstream-protocol.tls",
        Value::ServicePort,
    ),
    // doc.traefik.io/traefik/reference/routing-configuration/kubernetes/ingress, "On Service".
    (
        "Traefik",
        At::Service,
        "traefik.ingress.kubernetes.io/service.serversscheme",
        Value::Word("https"),
    ),
    // caddyserver/ingress, internal/caddy/ingress/reverseproxy.go.
    (
        "Caddy Ingress Controller",
        At::Ingress,
        "caddy.ingress.kubernetes.io/backend-protocol",
        Value::Word("https"),
    ),
];

/// Shorter patience with idle connections than the backend has.
pub(super) const IDLE_TIMEOUT: [Row; 2] = [
    // kubernetes.github.io/ingress-nginx/user-guide/nginx-configuration/configmap; default 60.
    (
        "ingress-nginx",
        At::ConfigMap,
        "upstream-keepalive-timeout",
        Value::Seconds,
    ),
    // documentation/annotations.md: no connection to a backend is kept; HAProxy has no timer for them
    // (pool-purge-delay closes half of those that are spare).
    (
        "HAProxy Kubernetes Ingress Controller",
        At::ConfigMap,
        "http-connection-mode",
        Value::Word("http-server-close"),
    ),
];

/// More connections of a worker, and descriptors: keys of the ConfigMap.
pub(super) const CONNECTIONS: [(&str, [&str; 2]); 2] = [
    // The same page of ingress-nginx; defaults 16384 and what the system gives.
    (
        "ingress-nginx",
        ["max-worker-connections", "max-worker-open-files"],
    ),
    // docs.nginx.com/nginx-ingress-controller, ConfigMap resources; default 1024.
    (
        "NGINX Ingress Controller (F5)",
        ["worker-connections", "worker-rlimit-nofile"],
    ),
];
