//! In: how a data plane is deployed, and how long it waited. Out: what gives a response more time, and what
//! gives idle connections less.
use super::kubectl::Kubectl;
use super::rows::{HEED_TIMEOUTS, IDLE_TIMEOUT, READ_TIMEOUT};
use super::settings::Setting;
use super::subject::Subject;
use crate::cause::taxonomy::Controller;

/// What gives a response more time.
pub(super) fn read_timeout(subject: &Subject) -> Option<String> {
    let setting = Setting::of(&READ_TIMEOUT, subject.longer, subject);
    let setting = setting.as_ref();
    setting
        .and_then(|one| one.command(subject))
        .or_else(|| route_timeout(subject))
        .or_else(|| read_timeout_words(subject))
        .or_else(|| setting?.advice(subject))
}

/// Gateway API, HTTPRouteRule.timeouts (GEP-1742), a duration of GEP-2257. Both of its timers: the
/// other one may be no longer.
fn route_timeout(subject: &Subject) -> Option<String> {
    let heeded = HEED_TIMEOUTS.contains(&subject.packaging?);
    let route = subject.route.as_ref();
    let route = route.filter(|route| heeded && route.kind == "httproute")?;
    let seconds = subject.longer?;
    let Some(rule) = subject.rule else {
        let words = route.words();
        return Some(format!(
            "set timeouts.request of the rule of {words} to {seconds}s"
        ));
    };
    let patch = format!(
        r#"[{{"op":"add","path":"/spec/rules/{rule}/timeouts","value":{{"request":"{seconds}s"}}}}]"#
    );
    let line = Kubectl::within(&route.namespace);
    Some(line.patch(&route.kind, &route.name, "json", &patch))
}

/// Where a longer time for a response is set when no annotation does it.
fn read_timeout_words(subject: &Subject) -> Option<String> {
    let time = subject
        .longer
        .map_or("longer".to_owned(), |seconds| format!("{seconds}s"));
    let packaging = subject.packaging.unwrap_or_default();
    let words = match (subject.controller?, packaging) {
        // docs.nginx.com/nginx-gateway-fabric: `timeouts` of routes are ignored; snippets.
        (_, "NGINX Gateway Fabric") => {
            "set proxy_read_timeout in a SnippetsFilter of the route to {time}"
        }
        // projectcontour.io/docs/1.30/config/request-routing, "Response Timeouts".
        (_, "Contour") if subject.route.is_none() => {
            "set timeoutPolicy.response of the HTTPProxy's route to {time}"
        }
        // gateway.envoyproxy.io, API reference: HTTPTimeout.
        (_, "Envoy Gateway") => {
            "set timeout.http.requestTimeout of a BackendTrafficPolicy for the route to {time}"
        }
        // istio.io/latest/docs/reference/config/networking/virtual-service: HTTPRoute.
        (_, "Istio gateway") => "set http[].timeout of the VirtualService to {time}",
        // kubernetes-sigs/gateway-api, as above.
        (_, "kgateway") => "set timeouts.request of the HTTPRoute's rule to {time}",
        // emissary-ingress/emissary, python/ambassador/ir/irhttpmapping.py: milliseconds.
        (_, "Emissary") => "set timeout_ms of the Mapping ({time})",
        // solo-io/gloo, reference/api, options.proto: RouteOptions.
        (_, "Gloo") => "set options.timeout of the VirtualService's route to {time}",
        // doc.traefik.io, ServersTransport; of no Ingress' own, the static configuration's.
        (Controller::Traefik, _) => {
            "set forwardingTimeouts.responseHeaderTimeout of the ServersTransport to {time}"
        }
        // caddyserver.com/docs/caddyfile/directives/reverse_proxy; caddyserver/ingress has no such setting.
        (Controller::Caddy, "") => {
            "set response_header_timeout of reverse_proxy's transport to {time}"
        }
        (Controller::Haproxy, "") => "set `timeout server` of the backend to {time}",
        (Controller::Nginx, "") => "set `proxy_read_timeout` of the location to {time}",
        (Controller::Envoy, "") => "set `timeout` of the route to {time}",
        _ => return None,
    };
    Some(words.replace("{time}", &time))
}

/// What has the controller close idle connections before the backend does.
pub(super) fn idle_timeout(subject: &Subject) -> Vec<String> {
    let setting = Setting::of(&IDLE_TIMEOUT, subject.shorter, subject);
    let command = setting.as_ref().and_then(|one| one.command(subject));
    if let Some(command) = command {
        let closes = command.contains("http-server-close");
        let note = "with it no connection to any backend stays open between requests";
        let note = closes.then(|| note.to_owned());
        return std::iter::once(command).chain(note).collect();
    }
    let time = subject.shorter.map(|seconds| format!("{seconds}s"));
    let time = time.as_deref().unwrap_or("less than the backend has");
    let words = idle_timeout_words(subject).map(|words| words.replace("{time}", time));
    let set = words.or_else(|| setting?.advice(subject));
    let first = |set| format!("or have the controller close them first: {set}");
    set.map(first).into_iter().collect()
}

/// Where that is set otherwise.
fn idle_timeout_words(subject: &Subject) -> Option<&'static str> {
    let packaging = subject.packaging.unwrap_or_default();
    let words = match (subject.controller?, packaging) {
        // developer.konghq.com/gateway/configuration: seconds.
        (_, "Kong") => "set KONG_UPSTREAM_KEEPALIVE_IDLE_TIMEOUT of the proxy ({time})",
        // apache/apisix, conf/config.yaml.example.
        (_, "APISIX") => {
            "set nginx_config.http.upstream.keepalive_timeout of config.yaml to {time}"
        }
        // docs.nginx.com/nginx-gateway-fabric/traffic-management/upstream-settings.
        (_, "NGINX Gateway Fabric") => {
            "set keepAlive.timeout of an UpstreamSettingsPolicy for the Service to {time}"
        }
        // projectcontour.io/docs/1.30/config/request-routing; Ingresses have none.
        (_, "Contour") => "set timeoutPolicy.idleConnection of the HTTPProxy's route to {time}",
        (_, "Envoy Gateway") => {
            "set timeout.http.connectionIdleTimeout of a BackendTrafficPolicy to {time}"
        }
        // istio.io, destination-rule: ConnectionPoolSettings.HTTPSettings.
        (_, "Istio gateway") => {
            "set trafficPolicy.connectionPool.http.idleTimeout of a DestinationRule to {time}"
        }
        // emissary-ingress/emissary, python/ambassador/ir/ircluster.py: milliseconds.
        (_, "Emissary") => "set cluster_idle_timeout_ms of the Mapping ({time})",
        // solo-io/gloo, reference/api, connection.proto.
        (_, "Gloo") => {
            "set connectionConfig.commonHttpProtocolOptions.idleTimeout of the Upstream to {time}"
        }
        // kgateway-dev/kgateway, BackendConfigPolicy.
        (_, "kgateway") => {
            "set commonHttpProtocolOptions.idleTimeout of a BackendConfigPolicy to {time}"
        }
        // cilium/cilium, cmdref: --proxy-idle-timeout-seconds, default 60.
        (_, "Cilium") => "set proxy-idle-timeout-seconds of the ConfigMap cilium-config ({time})",
        (Controller::Nginx, "") => "set `keepalive_timeout` of the upstream to {time}",
        // docs.haproxy.org: no timer of its own closes them in time; after each response it is no race.
        (Controller::Haproxy, "" | "HAProxy Ingress") => {
            "`option http-server-close`, after each response"
        }
        (Controller::Envoy, "") => {
            "set common_http_protocol_options.idle_timeout of the cluster to {time}"
        }
        (Controller::Traefik, _) => {
            "set forwardingTimeouts.idleConnTimeout of the ServersTransport to {time}"
        }
        // caddyserver.com/docs/caddyfile/directives/reverse_proxy, "The http transport".
        (Controller::Caddy, "") => "set `keepalive` of reverse_proxy's transport to {time}",
        _ => return None,
    };
    Some(words)
}
