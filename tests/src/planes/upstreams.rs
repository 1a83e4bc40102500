//! Data planes with TLS and HTTP/2 towards the backends: routes in, files for [`super::own`] out; and a
//! bed with it all. Kept connections, no retries but those that cannot be turned off.
use std::fmt::Write as _;
use std::net::SocketAddr;

use anyhow::{Context, Result, ensure};
use serde_json::{Map, Value, json};
use tokio::runtime::Runtime;

use super::client::{Client, Connection};
use super::own::{Own, PORT, TLS_PORT, at};
use super::{Plane, envoy, traefik, watch};
use crate::agent::{Agent, Finding, VERDICT};
use crate::backends::{Backends, Behavior};
use crate::bed::Bed;
use crate::nginx::{Fault, unreachable_endpoints};
use crate::{client as plain, h2_backend, secure, wait};

/// What a route speaks to its backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Speaks {
    /// HTTP/1.1 in plaintext.
    Http,
    /// HTTP/1.1 over TLS.
    Https,
    /// HTTP/2 in cleartext.
    H2c,
    /// HTTP/2 over TLS.
    H2,
}

impl Speaks {
    fn tls(self) -> bool {
        matches!(self, Self::Https | Self::H2)
    }

    /// Whether it is HTTP/2.
    pub fn http2(self) -> bool {
        matches!(self, Self::H2c | Self::H2)
    }
}

/// What is behind a first path segment.
#[derive(Clone, Debug)]
pub struct Route {
    /// The segment.
    pub word: String,
    /// The backend.
    pub endpoint: SocketAddr,
    /// How it is spoken to.
    pub speaks: Speaks,
    /// Whether its timers are short: 0.4 s to connect, 0.6 s to read.
    pub hasty: bool,
}

impl Route {
    /// A route with short timers.
    pub fn new(word: impl Into<String>, endpoint: SocketAddr, speaks: Speaks) -> Self {
        Self {
            word: word.into(),
            endpoint,
            speaks,
            hasty: true,
        }
    }

    /// A route to an endpoint that cannot be connected to.
    ///
    /// # Panics
    /// Never: every fault has an IPv4 address.
    pub fn fault(word: &str, fault: Fault, speaks: Speaks) -> Self {
        let address = fault.address(false).parse().expect("an IPv4 address");
        Self::new(word, SocketAddr::new(address, fault.port()), speaks)
    }

    fn connect(&self) -> u32 {
        if self.hasty { 400 } else { 4000 }
    }

    fn read(&self) -> u32 {
        if self.hasty { 600 } else { 15_000 }
    }
}

/// Where the test's marker goes, in plaintext.
const MARKER: &str = "/refused/marker";

/// First path segment of a healthy backend in plaintext.
const FINE: &str = "fine";

/// First path segment of a route of this data plane that has no endpoints.
pub fn none(plane: Plane) -> String {
    format!("none-{}", plane.word())
}

fn always() -> [Route; 2] {
    [
        Route::fault("refused", Fault::Refused, Speaks::Http),
        Route::new(FINE, Behavior::Ok.endpoint(), Speaks::Http),
    ]
}

/// The plane's files for these routes, the marker's, [`FINE`] and [`none`].
pub fn files(plane: Plane, routes: &[Route]) -> Result<Vec<(&'static str, String)>> {
    let routes = [&always()[..], routes].concat();
    Ok(match plane {
        Plane::Nginx => vec![("main.conf", nginx(&routes)?)],
        Plane::Haproxy => vec![("main.conf", haproxy(&routes)?)],
        Plane::Envoy => vec![("main.json", envoy(&routes).to_string())],
        Plane::Traefik => vec![
            ("main.yml", traefik::main().to_string()),
            ("routes.yml", traefik(&routes).to_string()),
        ],
        Plane::Caddy => vec![("main.json", caddy(&routes).to_string())],
    })
}

fn nginx(routes: &[Route]) -> Result<String> {
    let mut text =
        "user root; daemon off; worker_processes 2; pid nginx.pid; error_log error.log info;\n\
         events { worker_connections 4000; }\n\
         http { access_log off; client_body_temp_path body; proxy_temp_path proxy;\n\
         fastcgi_temp_path f; uwsgi_temp_path u; scgi_temp_path s;\n\
         ssl_certificate cert.pem; ssl_certificate_key key.pem; ssl_protocols TLSv1.3;\n\
         proxy_http_version 1.1; proxy_set_header Connection ''; proxy_next_upstream off;\n\
         proxy_ssl_protocols TLSv1.2 TLSv1.3; proxy_ssl_server_name on;\n\
         proxy_ssl_name shop.example; grpc_next_upstream off;\n\
         grpc_ssl_protocols TLSv1.2 TLSv1.3; grpc_ssl_server_name on; grpc_ssl_name shop.example;\n"
            .to_owned();
    for Route { word, endpoint, .. } in routes {
        writeln!(
            text,
            "upstream {word} {{ server {endpoint}; keepalive 8; }}"
        )?;
    }
    writeln!(
        text,
        "server {{ listen {PORT}; listen {TLS_PORT} ssl http2;"
    )?;
    writeln!(text, "location /{}/ {{ return 503; }}", none(Plane::Nginx))?;
    for route in routes {
        let (word, connect, read) = (&route.word, route.connect(), route.read());
        let (what, scheme) = match route.speaks {
            Speaks::Http => ("proxy", "http"),
            Speaks::Https => ("proxy", "https"),
            Speaks::H2c => ("grpc", "grpc"),
            Speaks::H2 => ("grpc", "grpcs"),
        };
        writeln!(
            text,
            "location /{word}/ {{ {what}_pass {scheme}://{word};\n\
             {what}_connect_timeout {connect}ms; {what}_read_timeout {read}ms; }}"
        )?;
    }
    Ok(text + "} }\n")
}

fn haproxy(routes: &[Route]) -> Result<String> {
    let mut text = format!(
        "global\nnbthread 2\nssl-default-bind-options ssl-min-ver TLSv1.3\n\
         defaults\nmode http\ntimeout client 30s\nretries 0\n\
         frontend clients\nbind :{PORT}\nbind :{TLS_PORT} ssl crt both.pem alpn h2,http/1.1\n\
         use_backend %[path,field(2,/)]\nbackend {}\n",
        none(Plane::Haproxy)
    );
    for route in routes {
        let tls = "ssl verify none sni str(shop.example)";
        let options = match route.speaks {
            Speaks::Http => String::new(),
            Speaks::Https => tls.to_owned(),
            Speaks::H2c => "proto h2".to_owned(),
            Speaks::H2 => format!("{tls} alpn h2"),
        };
        writeln!(
            text,
            "backend {}\ntimeout connect {}\ntimeout server {}\nserver s {} {options}",
            route.word,
            route.connect(),
            route.read(),
            route.endpoint
        )?;
    }
    Ok(text)
}

const API: &str = "type.googleapis.com/envoy.";

fn seconds(milliseconds: u32) -> Value {
    json!(format!("{}s", f64::from(milliseconds) / 1000.0))
}

fn envoy(routes: &[Route]) -> Value {
    let empty = none(Plane::Envoy);
    let mut clusters: Vec<Value> = routes.iter().map(envoy_cluster).collect();
    clusters.push(envoy_empty(&empty));
    let row = |word: &str, read: u32| {
        json!({
            "match": {"prefix": format!("/{word}/")},
            "route": {"cluster": word, "timeout": seconds(read)},
        })
    };
    let routes = routes.iter();
    let mut table: Vec<Value> = routes.map(|one| row(&one.word, one.read())).collect();
    table.push(row(&empty, 600));
    let listener = |port: u16| {
        let manager = json!({
            "@type": format!("{API}extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"),
            "stat_prefix": "tests",
            "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": table}]},
            "http_filters": [{
                "name": "envoy.filters.http.router",
                "typed_config": {"@type": format!("{API}extensions.filters.http.router.v3.Router")},
            }],
        });
        let mut chain = json!({
            "filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}],
        });
        if port == TLS_PORT {
            chain["transport_socket"] = envoy::tls();
        }
        json!({
            "name": format!("on-{port}"),
            "address": {"socket_address": {"address": "0.0.0.0", "port_value": port}},
            "filter_chains": [chain],
        })
    };
    json!({"static_resources": {
        "listeners": [listener(PORT), listener(TLS_PORT)], "clusters": clusters,
    }})
}

fn envoy_empty(name: &str) -> Value {
    json!({"name": name, "type": "STATIC", "load_assignment": {"cluster_name": name}})
}

fn envoy_cluster(route: &Route) -> Value {
    let address = json!({
        "address": route.endpoint.ip().to_string(), "port_value": route.endpoint.port(),
    });
    let endpoint = json!({"endpoint": {"address": {"socket_address": address}}});
    let mut cluster = json!({
        "name": route.word, "type": "STATIC", "connect_timeout": seconds(route.connect()),
        "load_assignment": {"cluster_name": route.word, "endpoints": [{"lb_endpoints": [endpoint]}]},
    });
    if route.speaks.tls() {
        let alpn = if route.speaks.http2() {
            "h2"
        } else {
            "http/1.1"
        };
        cluster["transport_socket"] = json!({
            "name": "envoy.transport_sockets.tls",
            "typed_config": {
                "@type": format!("{API}extensions.transport_sockets.tls.v3.UpstreamTlsContext"),
                "sni": "shop.example",
                "common_tls_context": {
                    "alpn_protocols": [alpn],
                    "tls_params": {"tls_maximum_protocol_version": "TLSv1_3"},
                },
            },
        });
    }
    if route.speaks.http2() {
        cluster["typed_extension_protocol_options"] = json!({
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": format!("{API}extensions.upstreams.http.v3.HttpProtocolOptions"),
                "explicit_http_config": {"http2_protocol_options": {}},
            }
        });
    }
    cluster
}

fn traefik(routes: &[Route]) -> Value {
    let (mut rules, mut services, mut transports) = (Map::new(), Map::new(), Map::new());
    let empty = none(Plane::Traefik);
    for word in routes.iter().map(|route| &route.word).chain([&empty]) {
        let rule = format!("PathPrefix(`/{word}/`)");
        rules.insert(
            word.clone(),
            json!({"rule": rule, "entryPoints": ["clients"], "service": word}),
        );
        rules.insert(
            format!("{word}-tls"),
            json!({"rule": rule, "entryPoints": ["encrypted"], "service": word, "tls": {}}),
        );
    }
    for route in routes {
        let word = &route.word;
        let scheme = match route.speaks {
            Speaks::Http => "http",
            Speaks::Https | Speaks::H2 => "https",
            Speaks::H2c => "h2c",
        };
        let url = format!("{scheme}://{}", route.endpoint);
        services.insert(
            word.clone(),
            json!({"loadBalancer": {"serversTransport": word, "servers": [{"url": url}]}}),
        );
        transports.insert(
            word.clone(),
            json!({
                "insecureSkipVerify": true, "serverName": "shop.example",
                "forwardingTimeouts": {
                    "dialTimeout": format!("{}ms", route.connect()),
                    "responseHeaderTimeout": format!("{}ms", route.read()),
                },
            }),
        );
    }
    services.insert(empty, json!({"loadBalancer": {"servers": []}}));
    let pair = json!({"certFile": "cert.pem", "keyFile": "key.pem"});
    json!({
        "http": {"routers": rules, "services": services, "serversTransports": transports},
        "tls": {
            "stores": {"default": {"defaultCertificate": pair}},
            "options": {"default": {"minVersion": "VersionTLS13"}},
        },
    })
}

fn caddy(routes: &[Route]) -> Value {
    let mut table: Vec<Value> = routes
        .iter()
        .map(|route| {
            let mut transport = json!({
                "protocol": "http",
                "dial_timeout": format!("{}ms", route.connect()),
                "response_header_timeout": format!("{}ms", route.read()),
            });
            if route.speaks.tls() {
                transport["tls"] = json!({
                    "insecure_skip_verify": true, "server_name": "shop.example",
                    "handshake_timeout": format!("{}ms", route.connect()),
                });
            }
            match route.speaks {
                Speaks::H2c => transport["versions"] = json!(["h2c"]),
                Speaks::H2 => transport["versions"] = json!(["2"]),
                _ => {}
            }
            let handler = json!({
                "handler": "reverse_proxy", "transport": transport,
                "upstreams": [{"dial": route.endpoint.to_string()}],
            });
            json!({"match": [{"path": [format!("/{}/*", route.word)]}], "handle": [handler]})
        })
        .collect();
    let empty = format!("/{}/*", none(Plane::Caddy));
    let nobody = json!({"handler": "reverse_proxy", "upstreams": []});
    table.push(json!({"match": [{"path": [empty]}], "handle": [nobody]}));
    let server = |port: u16| {
        json!({
            "listen": [format!(":{port}")], "routes": table,
            "automatic_https": {"disable": true}, "protocols": ["h1", "h2"],
        })
    };
    let mut encrypted = server(TLS_PORT);
    encrypted["tls_connection_policies"] = json!([{"protocol_min": "tls1.3"}]);
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

/// A bed with a data plane before backends that speak TLS and HTTP/2.
pub struct World {
    own: Own,
    agent: Agent,
    _backends: Backends,
    _http2: Runtime,
    // Last: it is dropped after what lives in it.
    /// The hosts.
    pub bed: Bed,
}

impl World {
    /// Builds it, and starts an agent on it.
    pub fn new(plane: Plane, routes: &[Route]) -> Result<Self> {
        let bed = Bed::new()?;
        let backends = Backends::start(&bed)?;
        unreachable_endpoints(&bed)?;
        secure::serve(&bed)?;
        let http2 = h2_backend::serve(&bed)?;
        let own = Own::start(&bed, plane, &files(plane, routes)?)?;
        // It may listen before it has read its routes.
        wait::holds("requests relayed", VERDICT, || {
            let got = plain::get(&bed, at(PORT), &format!("/{FINE}/ready"));
            got.is_ok_and(|got| got.status == Some(200))
        })
        .with_context(|| own.output())?;
        let agent = watch(&bed, plane)?;
        Ok(Self {
            own,
            agent,
            _backends: backends,
            _http2: http2,
            bed,
        })
    }

    /// Opens a client's connection.
    pub fn open(&self, client: Client) -> Result<Connection> {
        let port = match client {
            Client::Plain => PORT,
            Client::Tls | Client::H2 => TLS_PORT,
        };
        Connection::to(&self.bed, client, at(port))
    }

    /// Ends the agent; all findings but the marker's.
    pub fn finish(self) -> Result<Vec<Finding>> {
        let got = plain::get(&self.bed, at(PORT), MARKER)?;
        ensure!(got.status >= Some(500), "{got:?}");
        self.agent
            .finding("the marker", |one| one.path() == MARKER)?;
        let mut found = self.agent.stop()?;
        found.retain(|one| one.path() != MARKER && one.text("/outcome") != "slow");
        drop(self.own);
        Ok(found)
    }
}
