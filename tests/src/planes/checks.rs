//! Configurations with all that a data plane does beside its clients' requests: active health checks
//! of backends that fail, a control plane, a certificate authority and a collector of traces that
//! are not there, and ports of its own that answer 503. Endpoints in, files for [`super::own`] out.
use std::fmt::Write as _;
use std::net::SocketAddr;

use anyhow::Result;
use serde_json::{Value, json};

use super::own::{PORT, TLS_PORT};
use super::{Plane, envoy};
use crate::backends::Behavior as B;
use crate::bed::Host;
use crate::nginx::Fault;

/// Where the data plane answers 503 itself: not ready, or no longer.
pub fn own_port(plane: Plane) -> u16 {
    match plane {
        Plane::Nginx => 10246,
        Plane::Haproxy => 1042,
        Plane::Envoy => 9901,
        Plane::Traefik => 9000,
        Plane::Caddy => 9765,
    }
}

/// Nobody listens there: control plane, authority and collector.
pub fn gone() -> SocketAddr {
    SocketAddr::new(Host::Backend.v4(), 8977)
}

/// Where requests below `/refused/` go, unchecked.
fn refused() -> SocketAddr {
    address(Fault::Refused)
}

fn address(fault: Fault) -> SocketAddr {
    let address = fault.address(false).parse().expect("an IPv4 address");
    SocketAddr::new(address, fault.port())
}

/// Backends whose checks fail, each in its own way.
fn checked(busy: bool) -> Vec<(&'static str, SocketAddr)> {
    if !busy {
        return Vec::new();
    }
    let behaviors = [B::ResetRequest, B::FinRequest, B::Hang, B::Stall, B::Ok];
    let faults = [Fault::Dropped, Fault::Rejected];
    let behaviors = behaviors.map(|one| (one.word(), one.endpoint()));
    let faults = faults.map(|one| (one.word(), address(one)));
    let closed = SocketAddr::new(Host::Backend.v4(), 8978);
    behaviors
        .into_iter()
        .chain(faults)
        .chain([("closed", closed)])
        .collect()
}

/// Where the checks ask: 503 from the backend in good order.
const CHECK: &str = "/healthz?status=503";

/// Its files, with these endpoints for all that clients ask for; `busy`: with checks, control plane,
/// authority and traces.
pub fn files(plane: Plane, fine: &[SocketAddr], busy: bool) -> Result<Vec<(&'static str, String)>> {
    Ok(match plane {
        Plane::Nginx => vec![("main.conf", nginx(fine)?)],
        Plane::Haproxy => vec![("main.conf", haproxy(fine, busy)?)],
        Plane::Envoy => vec![
            ("main.json", envoy_main(busy).to_string()),
            ("cds.json", envoy_clusters(fine).to_string()),
        ],
        Plane::Traefik => vec![
            ("main.yml", traefik_main(busy).to_string()),
            ("routes.yml", traefik_routes(fine, busy).to_string()),
        ],
        Plane::Caddy => vec![("main.json", caddy(fine, busy).to_string())],
    })
}

fn nginx(fine: &[SocketAddr]) -> Result<String> {
    let mut servers = String::new();
    for endpoint in fine {
        write!(servers, "server {endpoint}; ")?;
    }
    let own = own_port(Plane::Nginx);
    let refused = refused();
    Ok(format!(
        "user root; daemon off; worker_processes 2; pid nginx.pid;\n\
         events {{ worker_connections 15000; }}\n\
         http {{ access_log off; client_body_temp_path body; proxy_temp_path proxy;\n\
         fastcgi_temp_path f; uwsgi_temp_path u; scgi_temp_path s;\n\
         ssl_certificate cert.pem; ssl_certificate_key key.pem; ssl_protocols TLSv1.3;\n\
         keepalive_timeout 300s; client_header_timeout 300s; proxy_http_version 1.1; proxy_set_header Connection '';\n\
         upstream fine {{ {servers} keepalive 16; }}\n\
         server {{ listen {PORT}; listen {TLS_PORT} ssl http2;\n\
         location / {{ proxy_pass http://fine; }}\n\
         location /refused/ {{ proxy_pass http://{refused}; }} }}\n\
         server {{ listen {own}; return 503; }} }}\n"
    ))
}

fn haproxy(fine: &[SocketAddr], busy: bool) -> Result<String> {
    let own = own_port(Plane::Haproxy);
    let mut text = format!(
        "global\nnbthread 2\nno strict-limits\nmaxconn 10500\nssl-default-bind-options ssl-min-ver TLSv1.3\n\
         defaults\nmode http\nmaxconn 10500\ntimeout client 300s\ntimeout connect 1s\ntimeout server 5s\n\
         timeout check 300ms\nretries 0\n\
         frontend clients\nbind :{PORT}\nbind :{TLS_PORT} ssl crt both.pem alpn h2,http/1.1\n\
         use_backend refused if {{ path_beg /refused/ }}\ndefault_backend fine\n\
         frontend own\nbind :{own}\nmonitor-uri /healthz\nmonitor fail if TRUE\n\
         backend refused\nserver s {}\nbackend fine\n",
        refused()
    );
    for (number, endpoint) in fine.iter().enumerate() {
        let check = if busy { "check inter 200ms" } else { "" };
        writeln!(text, "server s{number} {endpoint} {check}")?;
    }
    for (word, endpoint) in checked(busy) {
        writeln!(
            text,
            "backend tcp-{word}\nserver s {endpoint} check inter 1s"
        )?;
        writeln!(
            text,
            "backend http-{word}\noption httpchk GET {CHECK}\nserver s {endpoint} check inter 1s"
        )?;
    }
    Ok(text)
}

const API: &str = "type.googleapis.com/envoy.";

fn envoy_main(busy: bool) -> Value {
    let mut clusters = vec![
        envoy_cluster("refused", &[refused()]),
        envoy_cluster("traces", &[gone()]),
    ];
    let mut control = envoy_cluster("control", &[gone()]);
    control["typed_extension_protocol_options"] = json!({
        "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
            "@type": format!("{API}extensions.upstreams.http.v3.HttpProtocolOptions"),
            "explicit_http_config": {"http2_protocol_options": {}},
        }
    });
    clusters.push(control);
    let timing = json!({
        "timeout": "0.3s", "interval": "1s", "no_traffic_interval": "1s",
        "unhealthy_threshold": 1, "healthy_threshold": 1,
    });
    for (word, endpoint) in checked(busy) {
        for (kind, check) in [("tcp", json!({})), ("http", json!({"path": CHECK}))] {
            let mut cluster = envoy_cluster(&format!("{kind}-{word}"), &[endpoint]);
            let mut health = timing.clone();
            health[format!("{kind}_health_check")] = check;
            cluster["health_checks"] = json!([health]);
            clusters.push(cluster);
        }
    }
    let source = json!({
        "initial_fetch_timeout": "0.1s", "resource_api_version": "V3",
        "api_config_source": {
            "api_type": "GRPC", "transport_api_version": "V3",
            "grpc_services": [{"envoy_grpc": {"cluster_name": "control"}}],
        },
    });
    let own = own_port(Plane::Envoy);
    let mut main = json!({
        "node": {"id": "tests", "cluster": "tests"},
        "admin": {"address": {"socket_address": {"address": "0.0.0.0", "port_value": own}}},
        "dynamic_resources": {
            "cds_config": {"resource_api_version": "V3", "path_config_source": {"path": "./cds.json"}},
        },
        "static_resources": {
            "listeners": [envoy_listener(PORT, false, busy), envoy_listener(TLS_PORT, true, busy)],
            "clusters": clusters,
        },
    });
    if busy {
        main["dynamic_resources"]["lds_config"] = source;
    }
    main
}

pub(super) fn envoy_cluster(name: &str, endpoints: &[SocketAddr]) -> Value {
    let endpoints: Vec<Value> = endpoints
        .iter()
        .map(|one| {
            let address = json!({"address": one.ip().to_string(), "port_value": one.port()});
            json!({"endpoint": {"address": {"socket_address": address}}})
        })
        .collect();
    json!({
        "name": name, "type": "STATIC", "connect_timeout": "1s",
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": endpoints}]},
    })
}

pub(super) fn envoy_clusters(fine: &[SocketAddr]) -> Value {
    let mut cluster = envoy_cluster("fine", fine);
    cluster["@type"] = json!(format!("{API}config.cluster.v3.Cluster"));
    json!({"resources": [cluster]})
}

fn envoy_listener(port: u16, encrypted: bool, busy: bool) -> Value {
    let mut manager = json!({
        "@type": format!("{API}extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"),
        "stat_prefix": "tests",
        "route_config": {"validate_clusters": false, "virtual_hosts": [{
            "name": "all", "domains": ["*"], "routes": [
                {"match": {"prefix": "/refused/"}, "route": {"cluster": "refused"}},
                {"match": {"prefix": "/"}, "route": {"cluster": "fine"}},
            ],
        }]},
        "http_filters": [{
            "name": "envoy.filters.http.router",
            "typed_config": {"@type": format!("{API}extensions.filters.http.router.v3.Router")},
        }],
    });
    if busy {
        manager["tracing"] = json!({"provider": {"name": "envoy.tracers.zipkin", "typed_config": {
            "@type": format!("{API}config.trace.v3.ZipkinConfig"),
            "collector_cluster": "traces", "collector_endpoint": "/api/v2/spans",
            "collector_endpoint_version": "HTTP_JSON",
        }}});
    }
    envoy::listen(port, &manager, encrypted)
}

fn traefik_main(busy: bool) -> Value {
    let own = own_port(Plane::Traefik);
    let mut main = json!({
        "entryPoints": {
            "clients": {
                "address": format!(":{PORT}"),
                // On its way out it still takes requests, and says that it is.
                "transport": {"lifeCycle": {"requestAcceptGraceTimeout": "1s"}},
            },
            "encrypted": {"address": format!(":{TLS_PORT}")},
            "own": {"address": format!(":{own}")},
        },
        "ping": {"entryPoint": "own"},
        "providers": {
            "file": {"filename": "routes.yml", "watch": true},
        },
        "global": {"checkNewVersion": false, "sendAnonymousUsage": false},
    });
    if busy {
        main["providers"]["http"] =
            json!({"endpoint": format!("http://{}/routes", gone()), "pollInterval": "1s"});
        main["certificatesResolvers"] = json!({"authority": {"acme": {
            "email": "a@shop.example", "storage": "acme.json",
            "caServer": format!("http://{}/directory", gone()), "tlsChallenge": {},
        }}});
        main["tracing"] =
            json!({"otlp": {"http": {"endpoint": format!("http://{}/v1/traces", gone())}}});
    }
    main
}

fn traefik_routes(fine: &[SocketAddr], busy: bool) -> Value {
    let service = |endpoints: &[SocketAddr]| {
        let servers: Vec<Value> = endpoints
            .iter()
            .map(|one| json!({"url": format!("http://{one}")}))
            .collect();
        json!({"loadBalancer": {"servers": servers}})
    };
    let mut services = json!({"fine": service(fine), "refused": service(&[refused()])});
    let mut routers = json!({
        "fine": {"rule": "PathPrefix(`/`)", "entryPoints": ["clients"], "service": "fine"},
        "tls": {"rule": "PathPrefix(`/`)", "entryPoints": ["encrypted"], "service": "fine", "tls": {}},
        "refused": {"rule": "PathPrefix(`/refused/`)", "entryPoints": ["clients"], "service": "refused"},
    });
    if busy {
        routers["acme"] = json!({
            "rule": "Host(`new.example`)", "entryPoints": ["encrypted"], "service": "fine",
            "tls": {"certResolver": "authority"},
        });
    }
    for (word, endpoint) in checked(busy) {
        let mut one = service(&[endpoint]);
        one["loadBalancer"]["healthCheck"] =
            json!({"path": CHECK, "interval": "1s", "timeout": "300ms"});
        services[word] = one;
        // Only what a router uses is checked.
        routers[word] = json!({
            "rule": format!("PathPrefix(`/{word}/`)"), "entryPoints": ["clients"], "service": word,
        });
    }
    let pair = json!({"certFile": "cert.pem", "keyFile": "key.pem"});
    json!({
        "http": {"routers": routers, "services": services},
        "tls": {"stores": {"default": {"defaultCertificate": pair}}},
    })
}

fn caddy(fine: &[SocketAddr], busy: bool) -> Value {
    let own = own_port(Plane::Caddy);
    let proxy = |endpoints: &[SocketAddr]| {
        let upstreams: Vec<Value> = endpoints
            .iter()
            .map(|one| json!({"dial": one.to_string()}))
            .collect();
        json!({"handler": "reverse_proxy", "upstreams": upstreams})
    };
    let matched = |word: &str, handler: Value| json!({"match": [{"path": [format!("/{word}/*")]}], "handle": [handler]});
    let mut routes = vec![matched("refused", proxy(&[refused()]))];
    for (word, endpoint) in checked(busy) {
        let mut one = proxy(&[endpoint]);
        one["health_checks"] = json!({"active": {"uri": CHECK, "interval": "1s", "timeout": "300ms", "expect_status": 200}});
        routes.push(matched(word, one));
    }
    let mut handlers = vec![proxy(fine)];
    if busy {
        handlers.insert(0, json!({"handler": "tracing", "span": "tests"}));
    }
    routes.push(json!({"handle": handlers}));
    let server = |port: u16| json!({"listen": [format!(":{port}")], "routes": routes, "automatic_https": {"disable": true}, "protocols": ["h1", "h2"]});
    let mut encrypted = server(TLS_PORT);
    encrypted["tls_connection_policies"] = json!([{}]);
    let pair = json!({"certificate": "cert.pem", "key": "key.pem"});
    let new: &[&str] = if busy { &["new.example"] } else { &[] };
    let authority = json!({"module": "acme", "ca": format!("http://{}/directory", gone()), "email": "a@shop.example"});
    json!({
        "admin": {"listen": ":2019", "origins": [format!("{}:2019", Host::Proxy.v4())], "config": {"persist": false}},
        "logging": {"logs": {"default": {"level": "ERROR"}}},
        "apps": {
            "http": {"servers": {
                "clients": server(PORT), "encrypted": encrypted,
                "own": {"listen": [format!(":{own}")], "routes": [
                    {"handle": [{"handler": "static_response", "status_code": 503}]},
                ]},
            }},
            "tls": {
                "certificates": {"load_files": [pair], "automate": new},
                "automation": {"policies": [{"subjects": ["new.example"], "issuers": [authority]}]},
            },
        },
    })
}
