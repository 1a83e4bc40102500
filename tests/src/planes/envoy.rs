//! Envoy: the common listeners and routes in, its configuration and command out. Two workers.
use std::path::Path;
use std::process::Command;

use anyhow::Result;
use serde_json::{Value, json};

use super::{ACCESS_LOG, Listener, NONE, Route, Way, program, routes, write};
use crate::tools::cache::ENVOY;

const API: &str = "type.googleapis.com/envoy.";

/// Writes the configuration; gives the command.
pub(super) fn command(folder: &Path) -> Result<Command> {
    write(folder, "envoy.json", &config())?;
    let mut command = program(&ENVOY)?;
    command.args([
        "-c",
        "envoy.json",
        "--concurrency",
        "2",
        "--log-level",
        "warn",
    ]);
    // Another Envoy on this machine is none of its business.
    command.args(["--disable-hot-restart", "--file-flush-interval-msec", "50"]);
    Ok(command)
}

fn config() -> Value {
    let ways = Way::ALL.into_iter();
    let clusters: Vec<Value> = ways
        .flat_map(|way| routes().into_iter().map(move |route| cluster(&route, way)))
        .chain([endpoints(NONE, &[])])
        .collect();
    let listeners = Listener::ALL.map(listener);
    json!({"static_resources": {"listeners": listeners, "clusters": clusters}})
}

fn endpoints(name: &str, groups: &[Value]) -> Value {
    json!({
        "name": name, "type": "STATIC",
        "load_assignment": {"cluster_name": name, "endpoints": groups},
    })
}

fn cluster(route: &Route, way: Way) -> Value {
    // A priority each: the healthy endpoint is tried after the route's own.
    let groups = route
        .endpoints(way)
        .into_iter()
        .enumerate()
        .map(|(priority, endpoint)| {
            let address =
                json!({"address": endpoint.ip().to_string(), "port_value": endpoint.port()});
            let endpoint = json!({"endpoint": {"address": {"socket_address": address}}});
            json!({"priority": priority, "lb_endpoints": [endpoint]})
        });
    let mut cluster = endpoints(&route.group(way), &groups.collect::<Vec<_>>());
    cluster["connect_timeout"] = seconds(route.connect);
    let most = json!({"max_connections": 10000, "max_pending_requests": 10000, "max_requests": 10000, "max_retries": 10000});
    cluster["circuit_breakers"] = json!({"thresholds": [most]});
    if way == Way::Single {
        cluster["typed_extension_protocol_options"] = json!({
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": format!("{API}extensions.upstreams.http.v3.HttpProtocolOptions"),
                "common_http_protocol_options": {"max_requests_per_connection": 1},
                "explicit_http_config": {"http_protocol_options": {}},
            }
        });
    }
    cluster
}

fn seconds(milliseconds: u32) -> Value {
    json!(format!("{}s", f64::from(milliseconds) / 1000.0))
}

fn listener(listener: Listener) -> Value {
    let port = listener as u16;
    let way = listener.way();
    let mut table: Vec<Value> = routes().iter().map(|one| route(one, way)).collect();
    table.push(json!({"match": {"prefix": format!("/{NONE}/")}, "route": {"cluster": NONE}}));
    let log = json!({
        "name": "envoy.access_loggers.file",
        "typed_config": {
            "@type": format!("{API}extensions.access_loggers.file.v3.FileAccessLog"),
            "path": ACCESS_LOG,
            "log_format": {"text_format_source": {"inline_string":
                "%REQ(:METHOD)%|%REQ(:PATH)%|%RESPONSE_CODE%|%RESPONSE_FLAGS%\n"}},
        },
    });
    let router = json!({
        "name": "envoy.filters.http.router",
        "typed_config": {"@type": format!("{API}extensions.filters.http.router.v3.Router")},
    });
    let manager = json!({
        "@type": format!("{API}extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"),
        "stat_prefix": "tests",
        "access_log": [log],
        "upgrade_configs": [{"upgrade_type": "websocket"}],
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": table}]},
        "http_filters": [router],
    });
    listen(port, &manager, listener.tls())
}

fn route(route: &Route, way: Way) -> Value {
    let mut action = json!({"cluster": route.group(way), "timeout": seconds(route.read)});
    if way == Way::Retry {
        // Istio's default, and its choice of an endpoint that was not tried yet.
        action["retry_policy"] = json!({
            "retry_on": "connect-failure,refused-stream,unavailable,cancelled",
            "num_retries": 2,
            "retry_priority": {
                "name": "envoy.retry_priorities.previous_priorities",
                "typed_config": {
                    "@type": format!("{API}extensions.retry.priority.previous_priorities.v3.PreviousPrioritiesConfig"),
                    "update_frequency": 1,
                },
            },
        });
    }
    json!({"match": {"prefix": format!("/{}/", route.word)}, "route": action})
}

/// A listener whose requests this connection manager takes.
pub(super) fn listen(port: u16, manager: &Value, encrypted: bool) -> Value {
    let mut chain = json!({
        "filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}],
    });
    if encrypted {
        chain["transport_socket"] = tls();
    }
    json!({
        "name": format!("on-{port}"),
        "address": {"socket_address": {"address": "0.0.0.0", "port_value": port}},
        "filter_chains": [chain],
    })
}

pub(super) fn tls() -> Value {
    let pair = json!({
        "certificate_chain": {"filename": "cert.pem"}, "private_key": {"filename": "key.pem"},
    });
    json!({
        "name": "envoy.transport_sockets.tls",
        "typed_config": {
            "@type": format!("{API}extensions.transport_sockets.tls.v3.DownstreamTlsContext"),
            "common_tls_context": {
                "tls_params": {"tls_minimum_protocol_version": "TLSv1_3"},
                "alpn_protocols": ["h2", "http/1.1"],
                "tls_certificates": [pair],
            },
        },
    })
}
