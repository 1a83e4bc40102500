//! IPv4 through IPv6 sockets, on both legs: told as the IPv4 addresses that they are; and version 2
//! of the PROXY protocol in front of the request.
use anyhow::Result;
use serde_json::json;
use tests::bed::Host;
use tests::client::{self, Connection, request};
use tests::edge::{Edge, serve};
use tests::expect::Differences;
use tests::world::World;

const PORT: u16 = 8090;
const RESETS: u16 = 9620;

#[test]
fn ipv4_mapped_connections_are_told_as_ipv4() -> Result<()> {
    let world = World::new()?;
    let backend = Host::Backend.v4();
    let edge = Edge::start(
        &world.bed,
        "",
        &format!(
            "server {{ listen [::]:{PORT} ipv6only=off;\n\
             location /reset {{ proxy_pass http://[::ffff:{backend}]:{RESETS}; }}\n\
             location /refused {{ proxy_pass http://[::ffff:{backend}]:8901; }} }}\n"
        ),
    )?;
    serve(&world.bed, RESETS, |peer| {
        peer.request()?;
        peer.abort()
    })?;
    let agent = world.agent()?;
    let mut differences = Differences::default();
    for path in ["/reset", "/refused"] {
        let answer = client::get(&world.bed, edge.at(PORT), path)?;
        differences.check(answer.status == Some(502), || format!("{path}: {answer:?}"));
    }
    let findings = world.others(agent)?;
    for (path, outcome, port) in [
        ("/reset", "reset", RESETS),
        ("/refused", "connect_refused", 8901),
    ] {
        let expected = json!({"outcome": outcome, "status": 502, "status_source": "observed",
            "client_visible": "yes", "backend": {"address": backend.to_string(), "port": port}});
        differences.only(path, &findings, |finding| finding.path() == path, &expected);
    }
    differences.finish("");
    Ok(())
}

#[test]
fn a_request_is_read_behind_version_2_of_the_proxy_protocol() -> Result<()> {
    let world = World::new()?;
    let edge = Edge::start(
        &world.bed,
        "",
        &format!("server {{ listen {PORT} proxy_protocol; location / {{ return 503; }} }}\n"),
    )?;
    let agent = world.agent()?;
    // PROXY, TCP over IPv4, twelve bytes: both addresses, both ports.
    let mut bytes = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c".to_vec();
    bytes.extend([192, 0, 2, 7, 192, 0, 2, 8, 0x30, 0x39, 0, 80]);
    bytes.extend(request("GET", "/behind", "").as_bytes());
    let mut client = Connection::open(&world.bed, edge.at(PORT))?;
    client.send(&bytes)?;
    assert_eq!(client.answer()?.status, Some(503));
    let findings = world.others(agent)?;
    let mut differences = Differences::default();
    let expected = json!({"outcome": "no_upstream", "status": 503, "status_source": "observed",
        "request": {"method": "GET", "host": "shop.example"}});
    differences.only(
        "behind",
        &findings,
        |finding| finding.path() == "/behind",
        &expected,
    );
    differences.finish("");
    Ok(())
}
