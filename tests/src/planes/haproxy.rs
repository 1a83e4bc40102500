//! HAProxy: the common listeners and routes in, its configuration and command out. Two threads.
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use super::{Listener, NONE, Route, Way, routes, write};

/// Writes the configuration; gives the command.
pub(super) fn command(folder: &Path) -> Result<Command> {
    let pem = |name| fs::read_to_string(folder.join(name)).context("failed to read certificate");
    write(folder, "both.pem", &(pem("cert.pem")? + &pem("key.pem")?))?;
    write(folder, "haproxy.cfg", &config()?)?;
    let mut command = Command::new("haproxy");
    command.args(["-db", "-f", "haproxy.cfg"]);
    Ok(command)
}

fn config() -> Result<String> {
    // Termination states as in its manual; the path is the same for HTTP/1 and HTTP/2.
    let mut text = "global\n\
         nbthread 2\n\
         log stdout format raw local0\n\
         ssl-default-bind-options ssl-min-ver TLSv1.3\n\
         defaults\n\
         mode http\n\
         log global\n\
         log-format \"%HM|%HPO|%ST|%tsc\"\n\
         option dontlognull\n\
         timeout client 30s\n"
        .to_owned();
    for listener in Listener::ALL {
        let (port, way) = (listener as u16, listener.way().word());
        let tls = if listener.tls() {
            " ssl crt both.pem alpn h2,http/1.1"
        } else {
            ""
        };
        writeln!(
            text,
            "frontend {port}\nbind :::{port} v4v6{tls}\nuse_backend %[path,field(2,/)]-{way}"
        )?;
    }
    for way in Way::ALL {
        writeln!(text, "backend {NONE}-{}", way.word())?;
        for route in routes() {
            backend(&mut text, &route, way)?;
        }
    }
    Ok(text)
}

fn backend(text: &mut String, route: &Route, way: Way) -> Result<()> {
    let Route { connect, read, .. } = route;
    writeln!(
        text,
        "backend {}\ntimeout connect {connect}\ntimeout server {read}",
        route.group(way)
    )?;
    text.push_str(match way {
        Way::Single => "retries 0\noption http-server-close\nhttp-reuse never\n",
        Way::Pooled => "retries 0\n",
        // Its default of retries, then the other server, as the ingress controllers have it. The
        // order of servers is certain with `first`.
        Way::Retry => "retries 3\noption redispatch\nbalance first\n",
    });
    for (number, endpoint) in route.endpoints(way).iter().enumerate() {
        writeln!(text, "server s{number} {endpoint}")?;
    }
    Ok(())
}
