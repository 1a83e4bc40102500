//! Caddy: the common listeners and routes in, its configuration and command out; its log in, the
//! common entries out. Two threads.
use std::path::Path;
use std::process::Command;

use anyhow::Result;
use serde_json::{Map, Value, json};

use super::{ACCESS_LOG, Entry, Listener, NONE, Route, Way, program, routes, write};
use crate::tools::cache::CADDY;

/// Writes the configuration; gives the command.
pub(super) fn command(folder: &Path) -> Result<Command> {
    write(folder, "caddy.json", &config())?;
    let mut command = program(&CADDY)?;
    command.args(["run", "--config", "caddy.json"]);
    command.env("GOMAXPROCS", "2");
    // What it would keep in the user's home.
    command.envs(["XDG_DATA_HOME", "XDG_CONFIG_HOME"].map(|name| (name, folder)));
    Ok(command)
}

/// A line of its access log.
pub(super) fn entry(line: &str) -> Option<Entry> {
    let line: Value = serde_json::from_str(line).ok()?;
    let status = line["status"].as_u64()?;
    let text = |name: &str| line["request"][name].as_str();
    let (method, uri) = (text("method")?, text("uri")?);
    Some(Entry::new(method, uri, status.try_into().ok(), ""))
}

fn config() -> Value {
    let servers =
        Listener::ALL.map(|listener| (format!("on-{}", listener as u16), server(listener)));
    let pair = json!({"certificate": "cert.pem", "key": "key.pem"});
    json!({
        "admin": {"disabled": true, "config": {"persist": false}},
        "logging": {"logs": {"access": {
            "writer": {"output": "file", "filename": ACCESS_LOG, "roll": false},
            "include": ["http.log.access"],
        }}},
        "apps": {
            "http": {"servers": Map::from_iter(servers)},
            "tls": {"certificates": {"load_files": [pair]}},
        },
    })
}

fn server(listener: Listener) -> Value {
    let way = listener.way();
    let mut table: Vec<Value> = routes()
        .iter()
        .map(|one| matched(one.word, &handler(one, way)))
        .collect();
    table.push(matched(
        NONE,
        &json!({"handler": "reverse_proxy", "upstreams": []}),
    ));
    let mut server = json!({
        "listen": [format!(":{}", listener as u16)],
        "routes": table,
        "automatic_https": {"disable": true},
        "protocols": ["h1", "h2"],
        "logs": {},
    });
    if listener.tls() {
        server["tls_connection_policies"] = json!([{"protocol_min": "tls1.3"}]);
    }
    server
}

fn matched(word: &str, handler: &Value) -> Value {
    json!({"match": [{"path": [format!("/{word}/*")]}], "handle": [handler]})
}

fn handler(route: &Route, way: Way) -> Value {
    let mut transport = json!({
        "protocol": "http",
        "dial_timeout": format!("{}ms", route.connect),
        "response_header_timeout": format!("{}ms", route.read),
    });
    if way == Way::Single {
        transport["keep_alive"] = json!({"enabled": false});
    }
    // Its turns begin with the second one.
    let mut upstreams: Vec<Value> = route
        .endpoints(way)
        .iter()
        .map(|endpoint| json!({"dial": endpoint.to_string()}))
        .collect();
    upstreams.reverse();
    let mut handler = json!({
        "handler": "reverse_proxy", "transport": transport, "upstreams": upstreams,
    });
    if way == Way::Retry {
        handler["load_balancing"] = json!({
            "selection_policy": {"policy": "round_robin"}, "retries": 3,
        });
    }
    handler
}
