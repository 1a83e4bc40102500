//! Traefik: the common listeners and routes in, its configuration and command out; its log in, the
//! common entries out. Two threads.
use std::path::Path;
use std::process::Command;

use anyhow::Result;
use serde_json::{Map, Value, json};

use super::own::{PORT, TLS_PORT};
use super::{ACCESS_LOG, Entry, Listener, NONE, Route, Way, program, routes, write};
use crate::tools::cache::TRAEFIK;

/// Writes the configuration; gives the command.
pub(super) fn command(folder: &Path) -> Result<Command> {
    // JSON is YAML.
    write(folder, "traefik.yml", &config())?;
    write(folder, "routes.yml", &dynamic())?;
    let mut command = program(&TRAEFIK)?;
    command
        .arg("--configFile=traefik.yml")
        .env("GOMAXPROCS", "2");
    Ok(command)
}

/// A line of its access log.
pub(super) fn entry(line: &str) -> Option<Entry> {
    let line: Value = serde_json::from_str(line).ok()?;
    let status = line["DownstreamStatus"].as_u64()?;
    let text = |name: &str| line[name].as_str();
    let (method, path) = (text("RequestMethod")?, text("RequestPath")?);
    Some(Entry::new(method, path, status.try_into().ok(), ""))
}

/// The main file of one with the two entry points of [`super::own`].
pub(super) fn main() -> Value {
    json!({
        "entryPoints": {
            "clients": {"address": format!(":{PORT}")},
            "encrypted": {"address": format!(":{TLS_PORT}")},
        },
        "providers": {"file": {"filename": "routes.yml"}},
        "global": {"checkNewVersion": false, "sendAnonymousUsage": false},
    })
}

fn config() -> Value {
    let points = Listener::ALL.map(|listener| {
        let port = listener as u16;
        (port.to_string(), json!({"address": format!(":{port}")}))
    });
    json!({
        "entryPoints": Map::from_iter(points),
        "providers": {"file": {"filename": "routes.yml"}},
        "accessLog": {"filePath": ACCESS_LOG, "format": "json"},
        "global": {"checkNewVersion": false, "sendAnonymousUsage": false},
    })
}

fn dynamic() -> Value {
    let mut routers = Map::new();
    let mut services = Map::new();
    let mut transports = Map::new();
    for listener in Listener::ALL {
        let port = listener as u16;
        // Turns are counted per service: each listener has its own.
        for route in routes() {
            let name = format!("{}-{port}", route.word);
            routers.insert(name.clone(), router(listener, route.word));
            services.insert(name.clone(), service(&route, listener.way(), &name));
            transports.insert(name, transport(&route, listener.way()));
        }
        let name = format!("{NONE}-{port}");
        routers.insert(name.clone(), router(listener, NONE));
        services.insert(name, json!({"loadBalancer": {"servers": []}}));
    }
    let pair = json!({"certFile": "cert.pem", "keyFile": "key.pem"});
    json!({
        "http": {
            "routers": routers, "services": services, "serversTransports": transports,
            "middlewares": {"again": {"retry": {"attempts": 3}}},
        },
        "tls": {
            "stores": {"default": {"defaultCertificate": pair}},
            "options": {"default": {"minVersion": "VersionTLS13"}},
        },
    })
}

fn router(listener: Listener, word: &str) -> Value {
    let port = listener as u16;
    let mut router = json!({
        "rule": format!("PathPrefix(`/{word}/`)"),
        "entryPoints": [port.to_string()],
        "service": format!("{word}-{port}"),
    });
    if listener.tls() {
        router["tls"] = json!({});
    }
    if listener.way() == Way::Retry {
        router["middlewares"] = json!(["again"]);
    }
    router
}

fn service(route: &Route, way: Way, transport: &str) -> Value {
    let endpoints = route.endpoints(way).into_iter();
    let servers: Vec<Value> = endpoints
        .map(|endpoint| json!({"url": format!("http://{endpoint}")}))
        .collect();
    json!({"loadBalancer": {"serversTransport": transport, "servers": servers}})
}

fn transport(route: &Route, way: Way) -> Value {
    let mut transport = json!({"forwardingTimeouts": {
        "dialTimeout": format!("{}ms", route.connect),
        "responseHeaderTimeout": format!("{}ms", route.read),
    }});
    if way == Way::Single {
        transport["maxIdleConnsPerHost"] = json!(-1);
    }
    transport
}
