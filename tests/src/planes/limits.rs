//! Configurations whose data planes answer 502, 503 or 429 without asking any backend: all endpoints
//! down, a queue or a circuit breaker that is full, a policy. Nothing in, files for [`super::own`] and
//! the words of their paths out.
use std::net::SocketAddr;

use serde_json::{Value, json};

use super::checks::{envoy_cluster, gone};
use super::own::{PORT, TLS_PORT};
use super::{Plane, envoy, traefik};
use crate::backends::Behavior as B;
use crate::bed::Host;
use crate::secure::Secure;

/// Endpoints that active checks (nginx: failures) have taken out.
pub const DOWN: &str = "down";
/// No more than one request at a time; the endpoint never answers.
pub const FULL: &str = "full";
/// Refused by the configuration itself.
pub const POLICY: &str = "policy";
/// A limit of another kind than [`FULL`]'s: HAProxy's `maxqueue`, Envoy's `max_requests`, Traefik's
/// circuit breaker in front of an endpoint that refuses.
pub const MOST: &str = "most";
/// A healthy endpoint that is spoken to over TLS.
pub const SECURE: &str = "secure";
/// A healthy endpoint that was not asked before.
pub const FRESH: &str = "fresh";

/// An endpoint that a test has its own script for.
pub const SCRIPT: &str = "script";
/// Its port on the backend host.
pub const SCRIPT_PORT: u16 = 9620;

/// Nobody listens there: what opens Traefik's circuit breaker.
pub fn broken() -> SocketAddr {
    SocketAddr::new(Host::Backend.v4(), 8979)
}

fn script() -> SocketAddr {
    SocketAddr::new(Host::Backend.v4(), SCRIPT_PORT)
}

/// What a client gets below a path; none where this data plane has nothing of the kind.
pub fn status(plane: Plane, word: &str) -> Option<u16> {
    match (plane, word) {
        // It answers as if it had asked them.
        (Plane::Nginx, DOWN) => Some(502),
        // No failure by the contract.
        (Plane::Traefik, FULL) => Some(429),
        // Neither has one that answers 503.
        (Plane::Traefik, POLICY) | (Plane::Nginx | Plane::Caddy, MOST) => None,
        _ => Some(503),
    }
}

/// What a client gets when no descriptor is left for the connection to a backend.
pub fn without_descriptor(plane: Plane) -> u16 {
    match plane {
        Plane::Nginx => 500,
        Plane::Haproxy | Plane::Envoy => 503,
        Plane::Traefik | Plane::Caddy => 502,
    }
}

/// Checked and not healthy: one is closed, the other says so.
fn down() -> [SocketAddr; 2] {
    [gone(), B::Ok.endpoint()]
}

/// Where the checks ask.
const CHECK: &str = "/healthz?status=503";

/// A time as Envoy, Traefik and Caddy read it.
fn milliseconds(count: u32) -> String {
    format!("{}.{:03}s", count / 1000, count % 1000)
}

/// Its files; `often`: endpoints are checked all the time, else once.
pub fn files(plane: Plane, often: bool) -> Vec<(&'static str, String)> {
    let every = if often { 1000 } else { 3_600_000 };
    match plane {
        Plane::Nginx => vec![("main.conf", nginx())],
        Plane::Haproxy => vec![("main.conf", haproxy(every))],
        Plane::Envoy => vec![("main.json", envoy_main(every).to_string())],
        Plane::Traefik => vec![
            ("main.yml", traefik::main().to_string()),
            ("routes.yml", traefik_routes(every).to_string()),
        ],
        Plane::Caddy => vec![("main.json", caddy(every).to_string())],
    }
}

fn nginx() -> String {
    let (ok, fresh, held) = (
        B::Ok.endpoint(),
        B::CloseHeader.endpoint(),
        B::Hang.endpoint(),
    );
    let (script, secure) = (script(), Secure::Ok.endpoint());
    // A single server is never taken out.
    let (one, two) = (gone(), B::ResetRequest.endpoint());
    format!(
        "user root; daemon off; worker_processes 1; pid nginx.pid;\n\
         events {{ worker_connections 1000; }}\n\
         http {{ access_log off; client_body_temp_path body; proxy_temp_path proxy;\n\
         fastcgi_temp_path f; uwsgi_temp_path u; scgi_temp_path s;\n\
         ssl_certificate cert.pem; ssl_certificate_key key.pem; ssl_protocols TLSv1.3;\n\
         proxy_http_version 1.1; proxy_set_header Connection '';\n\
         limit_conn_zone $binary_remote_addr zone=all:1m;\n\
         upstream down {{ zone down 64k; server {one} max_fails=1 fail_timeout=600s;\n\
         server {two} max_fails=1 fail_timeout=600s; }}\n\
         upstream {SECURE} {{ server {secure}; keepalive 8; }}\n\
         server {{ listen {PORT}; listen {TLS_PORT} ssl http2;\n\
         location / {{ proxy_pass http://{ok}; }}\n\
         location /{DOWN}/ {{ proxy_pass http://down; }}\n\
         location /{FULL}/ {{ limit_conn all 1; proxy_pass http://{held}; }}\n\
         location /{FRESH}/ {{ proxy_pass http://{fresh}; }}\n\
         location /{SECURE}/ {{ proxy_pass https://{SECURE}; proxy_ssl_server_name on;\n\
         proxy_ssl_name shop.example; proxy_ssl_protocols TLSv1.2 TLSv1.3; }}\n\
         location /{SCRIPT}/ {{ proxy_pass http://{script}; proxy_set_header Upgrade $http_upgrade;\n\
         proxy_set_header Connection upgrade; }}\n\
         location /{POLICY}/ {{ return 503; }} }} }}\n"
    )
}

fn haproxy(every: u32) -> String {
    let (ok, fresh, held) = (
        B::Ok.endpoint(),
        B::CloseHeader.endpoint(),
        B::Hang.endpoint(),
    );
    let ([closed, unwell], script, secure) = (down(), script(), Secure::Ok.endpoint());
    format!(
        "global\nnbthread 2\nmaxconn 500\nssl-default-bind-options ssl-min-ver TLSv1.3\n\
         defaults\nmode http\ntimeout client 30s\ntimeout connect 1s\ntimeout server 10s\n\
         timeout queue 400ms\ntimeout check 300ms\nretries 0\n\
         frontend clients\nbind :{PORT}\nbind :{TLS_PORT} ssl crt both.pem alpn h2,http/1.1\n\
         http-request deny deny_status 503 if {{ path_beg /{POLICY}/ }}\n\
         use_backend %[path,field(2,/)] if {{ path_beg /{DOWN}/ /{FULL}/ /{MOST}/ /{SECURE}/ /{FRESH}/ /{SCRIPT}/ }}\n\
         default_backend fine\n\
         backend fine\nserver s {ok}\n\
         backend {FRESH}\nserver s {fresh}\n\
         backend {SCRIPT}\nserver s {script}\n\
         backend {FULL}\nserver s {held} maxconn 1\n\
         backend {MOST}\ntimeout queue 30s\nuse-server s if TRUE\n\
         server s {held} maxconn 1 maxqueue 1\n\
         backend {SECURE}\nserver s {secure} ssl verify none sni str(shop.example)\n\
         backend {DOWN}\noption httpchk GET {CHECK}\ndefault-server check inter {every}ms fall 1\n\
         server s0 {closed}\nserver s1 {unwell}\n"
    )
}

const API: &str = "type.googleapis.com/envoy.";

fn envoy_main(every: u32) -> Value {
    let mut full = envoy_cluster(FULL, &[B::Hang.endpoint()]);
    full["circuit_breakers"] = json!({"thresholds": [
        {"max_connections": 1, "max_pending_requests": 0},
    ]});
    let mut most = envoy_cluster(MOST, &[B::Hang.endpoint()]);
    most["circuit_breakers"] = json!({"thresholds": [{"max_requests": 1}]});
    let mut secure = envoy_cluster(SECURE, &[Secure::Ok.endpoint()]);
    secure["transport_socket"] = json!({
        "name": "envoy.transport_sockets.tls",
        "typed_config": {
            "@type": format!("{API}extensions.transport_sockets.tls.v3.UpstreamTlsContext"),
            "sni": "shop.example",
            "common_tls_context": {"tls_params": {"tls_maximum_protocol_version": "TLSv1_3"}},
        },
    });
    let mut down = envoy_cluster(DOWN, &down());
    down["common_lb_config"] = json!({"healthy_panic_threshold": {"value": 0}});
    down["health_checks"] = json!([{
        "timeout": "0.3s", "interval": milliseconds(every), "no_traffic_interval": milliseconds(every),
        "unhealthy_threshold": 1, "healthy_threshold": 1,
        "http_health_check": {"path": CHECK},
    }]);
    let clusters = [
        envoy_cluster("fine", &[B::Ok.endpoint()]),
        envoy_cluster(FRESH, &[B::CloseHeader.endpoint()]),
        envoy_cluster(SCRIPT, &[script()]),
        full,
        most,
        secure,
        down,
    ];
    json!({
        "static_resources": {
            "listeners": [listener(PORT, false), listener(TLS_PORT, true)],
            "clusters": clusters,
        },
    })
}

fn listener(port: u16, encrypted: bool) -> Value {
    let to = |prefix: &str, cluster: &str| json!({"match": {"prefix": prefix}, "route": {"cluster": cluster, "timeout": "60s"}});
    let table = [
        to("/down/", DOWN),
        to("/full/", FULL),
        to("/most/", MOST),
        to("/secure/", SECURE),
        to("/fresh/", FRESH),
        to("/script/", SCRIPT),
        // A cluster that is not there.
        to("/policy/", "forgotten"),
        to("/", "fine"),
    ];
    let manager = json!({
        "@type": format!("{API}extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"),
        "stat_prefix": "tests",
        "upgrade_configs": [{"upgrade_type": "websocket"}],
        "route_config": {"validate_clusters": false, "virtual_hosts": [
            {"name": "all", "domains": ["*"], "routes": table},
        ]},
        "http_filters": [{
            "name": "envoy.filters.http.router",
            "typed_config": {"@type": format!("{API}extensions.filters.http.router.v3.Router")},
        }],
    });
    envoy::listen(port, &manager, encrypted)
}

fn traefik_routes(every: u32) -> Value {
    let service = |endpoints: &[SocketAddr]| {
        let servers: Vec<Value> = endpoints
            .iter()
            .map(|one| json!({"url": format!("http://{one}")}))
            .collect();
        json!({"loadBalancer": {"servers": servers}})
    };
    let mut down = service(&down());
    down["loadBalancer"]["healthCheck"] =
        json!({"path": CHECK, "interval": milliseconds(every), "timeout": "300ms"});
    let mut routers = json!({});
    for (word, service) in [
        ("", "fine"),
        ("down/", DOWN),
        ("full/", FULL),
        ("most/", MOST),
        ("secure/", SECURE),
        ("fresh/", FRESH),
        ("script/", SCRIPT),
    ] {
        let mut router = json!({
            "rule": format!("PathPrefix(`/{word}`)"), "entryPoints": ["clients"], "service": service,
        });
        if service == FULL || service == MOST {
            router["middlewares"] = json!([service]);
        }
        routers[service] = router.clone();
        router["entryPoints"] = json!(["encrypted"]);
        router["tls"] = json!({});
        routers[format!("{service}-tls")] = router;
    }
    let secure = json!({"loadBalancer": {
        "serversTransport": SECURE,
        "servers": [{"url": format!("https://{}", Secure::Ok.endpoint())}],
    }});
    let pair = json!({"certFile": "cert.pem", "keyFile": "key.pem"});
    json!({
        "http": {
            "routers": routers,
            "services": {
                "fine": service(&[B::Ok.endpoint()]), FULL: service(&[B::Hang.endpoint()]),
                FRESH: service(&[B::CloseHeader.endpoint()]), DOWN: down, SCRIPT: service(&[script()]),
                MOST: service(&[broken()]), SECURE: secure,
            },
            "serversTransports": {SECURE: {"insecureSkipVerify": true, "serverName": "shop.example"}},
            "middlewares": {
                FULL: {"inFlightReq": {"amount": 1, "sourceCriterion": {"requestHost": true}}},
                MOST: {"circuitBreaker": {
                    "expression": "NetworkErrorRatio() > 0.5", "checkPeriod": "100ms",
                    "fallbackDuration": "60s", "recoveryDuration": "60s",
                }},
            },
        },
        "tls": {"stores": {"default": {"defaultCertificate": pair}}},
    })
}

fn caddy(every: u32) -> Value {
    let proxy = |upstreams: Value| json!({"handler": "reverse_proxy", "upstreams": upstreams});
    let dial = |one: SocketAddr| json!({"dial": one.to_string()});
    let matched = |word: &str, handler: Value| json!({"match": [{"path": [format!("/{word}/*")]}], "handle": [handler]});
    let mut unwell = proxy(json!(down().map(dial)));
    unwell["health_checks"] = json!({"active": {
        "uri": CHECK, "interval": milliseconds(every), "timeout": "300ms", "expect_status": 200,
    }});
    let mut secure = proxy(json!([dial(Secure::Ok.endpoint())]));
    secure["transport"] = json!({
        "protocol": "http", "tls": {"insecure_skip_verify": true, "server_name": "shop.example"},
    });
    let one = json!([{"dial": B::Hang.endpoint().to_string(), "max_requests": 1}]);
    let routes = [
        matched(DOWN, unwell),
        matched(FULL, proxy(one)),
        matched(SECURE, secure),
        matched(FRESH, proxy(json!([dial(B::CloseHeader.endpoint())]))),
        matched(SCRIPT, proxy(json!([dial(script())]))),
        matched(
            POLICY,
            json!({"handler": "static_response", "status_code": 503}),
        ),
        json!({"handle": [proxy(json!([dial(B::Ok.endpoint())]))]}),
    ];
    let server = |port: u16| json!({"listen": [format!(":{port}")], "routes": routes, "automatic_https": {"disable": true}, "protocols": ["h1", "h2"]});
    let mut encrypted = server(TLS_PORT);
    encrypted["tls_connection_policies"] = json!([{}]);
    let pair = json!({"certificate": "cert.pem", "key": "key.pem"});
    json!({
        "admin": {"disabled": true, "config": {"persist": false}},
        "logging": {"logs": {"default": {"level": "ERROR"}}},
        "apps": {
            "http": {"servers": {"clients": server(PORT), "encrypted": encrypted}},
            "tls": {"certificates": {"load_files": [pair]}},
        },
    })
}
