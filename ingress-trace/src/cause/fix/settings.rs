//! In: how a data plane is deployed. Out: which of its settings bear on a cause, and where they are made.
//! Data from the documentation of each; nothing here decides.
use super::kubectl::Kubectl;
use super::subject::{Subject, Thing};
use crate::cause::taxonomy::Controller;

/// Where a setting is made.
pub(super) enum At {
    /// An annotation of the Ingress.
    Ingress,
    /// An annotation of the Service.
    Service,
    /// A key of the controller's ConfigMap.
    ConfigMap,
}

/// One setting: where, its name, and its value.
pub(super) struct Setting {
    at: At,
    key: &'static str,
    value: String,
}

impl Setting {
    /// The command that makes it, where its object is known.
    pub(super) fn command(&self, subject: &Subject) -> Option<String> {
        let Self { at, key, value } = self;
        match at {
            At::Ingress => {
                let route = subject
                    .route
                    .as_ref()
                    .filter(|route| route.kind == "ingress");
                Some(annotate(route?, key, value))
            }
            At::Service => Some(annotate(subject.service.as_ref()?, key, value)),
            At::ConfigMap => {
                let map = subject.settings.as_ref()?;
                let patch = format!(r#"{{"data":{{"{key}":"{value}"}}}}"#);
                let line = Kubectl::within(&map.namespace);
                Some(line.patch("configmap", &map.name, "merge", &patch))
            }
        }
    }
}

fn annotate(thing: &Thing, key: &str, value: &str) -> String {
    let line = Kubectl::within(&thing.namespace).word("annotate --overwrite");
    line.word(&thing.kind)
        .value(&thing.name)
        .pair(key, value)
        .line()
}

fn at(at: At, key: &'static str, value: String) -> Setting {
    Setting { at, key, value }
}

/// Time for a response.
pub(super) fn read_timeout(subject: &Subject) -> Option<Setting> {
    let seconds = subject.longer?;
    let suffixed = format!("{seconds}s");
    let (place, key, value) = match subject.packaging? {
        // kubernetes.github.io/ingress-nginx/user-guide/nginx-configuration/annotations: seconds.
        "ingress-nginx" => (
            At::Ingress,
            "nginx.ingress.kubernetes.io/proxy-read-timeout",
            seconds.to_string(),
        ),
        // docs.nginx.com/nginx-ingress-controller, advanced configuration with annotations.
        "NGINX Ingress Controller (F5)" => (At::Ingress, "nginx.org/proxy-read-timeout", suffixed),
        // developer.konghq.com, service annotations: milliseconds.
        "Kong" => (
            At::Service,
            "konghq.com/read-timeout",
            (seconds * 1000).to_string(),
        ),
        // apisix.apache.org/docs/ingress-controller/reference/apisix-ingress-controller/annotation.
        "APISIX" => (
            At::Ingress,
            "k8s.apisix.apache.org/upstream-read-timeout",
            suffixed,
        ),
        // haproxytech/kubernetes-ingress, documentation/annotations.md; since 1.11 (e2f797c).
        "HAProxy Kubernetes Ingress Controller" => {
            (At::Ingress, "haproxy.org/timeout-server", suffixed)
        }
        // haproxy-ingress.github.io/docs/configuration/keys, timeout.
        "HAProxy Ingress" => (
            At::Ingress,
            "haproxy-ingress.github.io/timeout-server",
            suffixed,
        ),
        // docs.openshift.com, route-specific annotations; copied from Ingresses to their Routes.
        "OpenShift router" => (At::Ingress, "haproxy.router.openshift.io/timeout", suffixed),
        // projectcontour.io/docs/1.30/config/annotations.
        "Contour" => (At::Ingress, "projectcontour.io/response-timeout", suffixed),
        _ => return None,
    };
    Some(at(place, key, value))
}

/// Where a longer time for a response is set when no annotation does it.
pub(super) fn read_timeout_words(subject: &Subject) -> Option<String> {
    let time = subject
        .longer
        .map_or("longer".to_owned(), |seconds| format!("{seconds}s"));
    let route = subject.route.as_ref();
    // Gateway API, HTTPRouteRule.timeouts (GEP-1742).
    if let Some(route) = route.filter(|route| route.kind == "httproute") {
        return Some(format!(
            "set timeouts.request of the rule of {} to {time}",
            route.words()
        ));
    }
    let packaging = subject.packaging.unwrap_or_default();
    let words = match (subject.controller?, packaging) {
        (_, "NGINX Gateway Fabric") => {
            "set proxy_read_timeout in a SnippetsFilter of the route to TIME"
        }
        (_, "Contour") => "set timeoutPolicy.response of the HTTPProxy's route to TIME",
        (_, "Envoy Gateway") => {
            "set timeout.http.requestTimeout of a BackendTrafficPolicy for the route to TIME"
        }
        (_, "Istio gateway") => "set http[].timeout of the VirtualService to TIME",
        (_, "Emissary") => "set timeout_ms of the Mapping (TIME)",
        (_, "Gloo") => "set options.timeout of the VirtualService's route to TIME",
        (Controller::Traefik, _) => {
            "set forwardingTimeouts.responseHeaderTimeout of the ServersTransport to TIME"
        }
        (Controller::Caddy, _) => {
            "set response_header_timeout of reverse_proxy's transport to TIME"
        }
        (Controller::Haproxy, "") => "set `timeout server` of the backend to TIME",
        (Controller::Nginx, "") => "set `proxy_read_timeout` of the location to TIME",
        (Controller::Envoy, "") => "set `timeout` of the route to TIME",
        _ => return None,
    };
    Some(words.replace("TIME", &time))
}

/// Shorter patience with idle connections than the backend has.
pub(super) fn idle_timeout(subject: &Subject) -> Option<Setting> {
    let seconds = subject.shorter?;
    // kubernetes.github.io/ingress-nginx/user-guide/nginx-configuration/configmap; default 60.
    (subject.packaging? == "ingress-nginx").then(|| {
        at(
            At::ConfigMap,
            "upstream-keepalive-timeout",
            seconds.to_string(),
        )
    })
}

/// Where that is set otherwise.
pub(super) fn idle_timeout_words(subject: &Subject) -> Option<&'static str> {
    Some(
        match (subject.controller?, subject.packaging.unwrap_or("")) {
            (_, "Kong") => "KONG_UPSTREAM_KEEPALIVE_IDLE_TIMEOUT of the proxy",
            (_, "APISIX") => "nginx_config.http.upstream.keepalive_timeout of config.yaml",
            (_, "Envoy Gateway") => "timeout.http.connectionIdleTimeout of a BackendTrafficPolicy",
            (_, "Istio gateway") => {
                "trafficPolicy.connectionPool.http.idleTimeout of a DestinationRule"
            }
            (Controller::Nginx, _) => "`keepalive_timeout` of the upstream",
            (Controller::Haproxy, _) => "`pool-purge-delay` of the server lines",
            (Controller::Envoy, _) => "common_http_protocol_options.idle_timeout of the cluster",
            (Controller::Traefik, _) => {
                "forwardingTimeouts.idleConnTimeout of the ServersTransport"
            }
            (Controller::Caddy, _) => "`keepalive` of reverse_proxy's transport",
            (Controller::Unknown, _) => return None,
        },
    )
}

/// More connections and descriptors for the controller's workers, where it ran out of them.
pub(super) fn connections(subject: &Subject) -> Vec<Setting> {
    let (connections, files) = match subject.packaging.unwrap_or_default() {
        // The same page of ingress-nginx; defaults 16384 and what the system gives.
        "ingress-nginx" => ("max-worker-connections", Some("max-worker-open-files")),
        // docs.nginx.com/nginx-ingress-controller, ConfigMap resources; default 1024.
        "NGINX Ingress Controller (F5)" => ("worker-connections", Some("worker-rlimit-nofile")),
        // haproxytech/kubernetes-ingress, documentation/README.md.
        "HAProxy Kubernetes Ingress Controller" => ("maxconn", None),
        // haproxy-ingress.github.io/docs/configuration/keys, connection.
        "HAProxy Ingress" => ("max-connections", None),
        _ => return Vec::new(),
    };
    let known = |key: Option<&'static str>, value: &Option<String>| Some((key?, value.clone()?));
    let connections = known(Some(connections), &subject.connections);
    let files = known(files, &subject.files);
    let both = connections.into_iter().chain(files);
    both.map(|(key, value)| at(At::ConfigMap, key, value))
        .collect()
}

/// That TLS is to be spoken to the backend.
pub(super) fn speak_tls(subject: &Subject) -> Option<Setting> {
    let (place, key, value) = match subject.packaging? {
        "ingress-nginx" => (
            At::Ingress,
            "nginx.ingress.kubernetes.io/backend-protocol",
            "HTTPS".to_owned(),
        ),
        "NGINX Ingress Controller (F5)" => (
            At::Ingress,
            "nginx.org/ssl-services",
            subject.service.as_ref()?.name.clone(),
        ),
        "Kong" => (At::Service, "konghq.com/protocol", "https".to_owned()),
        "APISIX" => (
            At::Ingress,
            "k8s.apisix.apache.org/upstream-scheme",
            "https".to_owned(),
        ),
        "HAProxy Kubernetes Ingress Controller" => {
            (At::Ingress, "haproxy.org/server-ssl", "true".to_owned())
        }
        "HAProxy Ingress" => (
            At::Ingress,
            "haproxy-ingress.github.io/backend-protocol",
            "h1-ssl".to_owned(),
        ),
        "Contour" => (
            At::Service,
            "projectcontour.io/upstream-protocol.tls",
            subject.service_port.clone()?,
        ),
        // doc.traefik.io/traefik/reference/routing-configuration/kubernetes/ingress.
        "Traefik" => (
            At::Service,
            "traefik.ingress.kubernetes.io/service.serversscheme",
            "https".to_owned(),
        ),
        _ => return None,
    };
    Some(at(place, key, value))
}
