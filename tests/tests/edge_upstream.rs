//! TLS towards the backends, pools, and backends that come and go: silent in good order, and what
//! fails is told with the backend it failed at.
use std::io::{Read, Write};
use std::net::TcpStream;
use std::thread;

use anyhow::{Context, Result};
use serde_json::json;
use tests::agent::Agent;
use tests::backends::{Backends, Behavior};
use tests::bed::{Bed, Host};
use tests::client::{self, Connection, Leave, request};
use tests::edge::{Edge, pause, serve, silent};
use tests::expect::Differences;
use tests::nginx::{Listener, Nginx, Options};
use tests::tls::TlsConnection;
use tests::wait;
use tests::world::World;

const PORT: u16 = 8090;

/// A TLS server behind the ingress, and the ingress before it with and without a pool.
fn https(world: &World, version: &str) -> Result<(Edge, Edge)> {
    let tls =
        "ssl_certificate cert.pem; ssl_certificate_key key.pem; ssl_protocols TLSv1.2 TLSv1.3;";
    let backend = Edge::start_on(
        &world.bed,
        Host::Backend,
        "",
        &format!(
            "server {{ listen 9643 ssl; {tls}\n\
             location / {{ return 200 fine; }} location /busy {{ return 503 busy; }}\n\
             location /silent {{ return 444; }}\n\
             location /large {{ root .; }} }}\n"
        ),
    )?;
    std::fs::write(backend.folder().join("large"), vec![b'x'; 3_000_000])?;
    let edge = Edge::start(
        &world.bed,
        "",
        &format!(
            "upstream pool {{ server $BACKEND:9643; keepalive 8; }}\n\
             proxy_set_header Connection ''; proxy_ssl_protocols {version};\n\
             server {{ listen {PORT}; listen 8091 ssl; {tls}\n\
             location / {{ proxy_pass https://$BACKEND:9643; proxy_set_header Connection close; }}\n\
             location /pool/ {{ proxy_pass https://pool/; }}\n\
             location /hang/ {{ proxy_pass https://$BACKEND:9644/; }} }}\n"
        ),
    )?;
    Ok((backend, edge))
}

#[test]
fn https_backends_in_good_order() -> Result<()> {
    for (version, arguments) in [
        ("TLSv1.2", &[][..]),
        ("TLSv1.3", &[]),
        ("TLSv1.2", &["--no-http"]),
        ("TLSv1.3", &["--no-http"]),
    ] {
        let world = World::new()?;
        let (_backend, edge) = https(&world, version)?;
        let target = world.cgroup().display().to_string();
        let base = ["--no-kube", "--controller", "nginx", "--cgroup", &target];
        let agent = Agent::start_with(world.bed.folder(), &[&base[..], arguments].concat())?;
        let mut plain = Connection::open(&world.bed, edge.at(PORT))?;
        let mut secret = TlsConnection::open(&world.bed, edge.at(8091))?;
        for _ in 0..10 {
            for path in ["/a", "/pool/a", "/large", "/pool/large"] {
                assert_eq!(plain.get(path)?.status, Some(200), "{}", edge.errors());
                assert_eq!(secret.get(path)?.status, Some(200), "{}", edge.errors());
            }
        }
        let mut left = Connection::open(&world.bed, edge.at(PORT))?;
        left.send(request("GET", "/pool/large", "").as_bytes())?;
        left.leave(Leave::Reset)?;
        pause(200);
        world.get(Listener::Plain, "/refused/marker")?;
        agent.finding("the marker", |one| {
            one.text("/outcome") == "connect_refused"
        })?;
        let mut found = agent.stop()?;
        found.retain(|one| one.text("/outcome") != "connect_refused");
        silent(&found);
    }
    Ok(())
}

#[test]
fn errors_of_https_backends_are_not_the_ingress_own() -> Result<()> {
    for version in ["TLSv1.2", "TLSv1.3"] {
        let world = World::new()?;
        let (_backend, edge) = https(&world, version)?;
        let agent = world.agent()?;
        let mut client = Connection::open(&world.bed, edge.at(PORT))?;
        for path in ["/busy", "/pool/busy", "/pool/busy"] {
            assert_eq!(client.get(path)?.status, Some(503));
        }
        let found = world.others(agent)?;
        let wrong: Vec<_> = found
            .iter()
            .filter(|one| one.text("/outcome") == "no_upstream")
            .collect();
        assert!(wrong.is_empty(), "{wrong:#?}");
    }
    Ok(())
}

#[test]
fn https_backends_that_close_without_an_answer() -> Result<()> {
    for version in ["TLSv1.2", "TLSv1.3"] {
        let world = World::new()?;
        let (_backend, edge) = https(&world, version)?;
        let agent = world.agent()?;
        let mut differences = Differences::default();
        for path in ["/silent", "/pool/silent"] {
            let answer = Connection::open(&world.bed, edge.at(PORT))?.get(path)?;
            differences.check(answer.status == Some(502), || format!("{path}: {answer:?}"));
            pause(50);
        }
        let found = world.others(agent)?;
        for path in ["/silent", "/pool/silent"] {
            let expected = json!({"outcome": "closed_early", "status": 502, "client_visible": "yes", "cause": "premature_close"});
            differences.only(path, &found, |one| one.path() == path, &expected);
        }
        differences.finish(&format!("{found:#?}"));
    }
    Ok(())
}

#[test]
fn a_backend_that_is_restarted_leaves_its_idle_pool_in_silence() -> Result<()> {
    let world = World::new()?;
    let (backend, edge) = https(&world, "TLSv1.3")?;
    let agent = world.agent()?;
    let mut client = Connection::open(&world.bed, edge.at(PORT))?;
    assert_eq!(client.get("/pool/a")?.status, Some(200));
    drop(backend);
    pause(200);
    silent(&world.others(agent)?);
    Ok(())
}

#[test]
fn a_reset_after_more_than_four_gigabytes() -> Result<()> {
    const SIZE: u64 = 4_400_000_000;
    let world = World::new()?;
    let http = format!(
        "server {{ listen {PORT}; proxy_buffering off; proxy_buffer_size 256k; proxy_buffers 4 256k;\n\
         location / {{ proxy_pass http://$BACKEND:9611; }} }}"
    );
    let edge = Edge::start(&world.bed, "", &http)?;
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", SIZE + 1);
    let length = head.len() as u64;
    serve(&world.bed, 9611, move |peer| {
        peer.request()?;
        peer.send(&head)?;
        let chunk = vec![b'x'; 1_000_000];
        for _ in 0..SIZE / 1_000_000 {
            peer.send(&chunk)?;
        }
        pause(300);
        peer.abort()
    })?;
    let agent = world.agent()?;
    assert!(read_all(&world, &edge, "/cut")? >= SIZE);
    let found = world.others(agent)?;
    let mut differences = Differences::default();
    let expected =
        json!({"outcome": "reset", "phase": "response", "bytes_received": SIZE + length});
    differences.only("cut", &found, |_| true, &expected);
    differences.finish("");
    Ok(())
}

/// Reads to the connection's end as fast as it comes; gives the number of bytes.
fn read_all(world: &World, edge: &Edge, path: &str) -> Result<u64> {
    let to = edge.at(PORT);
    let mut stream = world.bed.inside(Host::Client, || {
        TcpStream::connect(to).context("failed to connect")
    })?;
    stream.write_all(request("GET", path, "Connection: close\r\n").as_bytes())?;
    let (mut bytes, mut total) = (vec![0; 1 << 20], 0);
    loop {
        match stream.read(&mut bytes) {
            Ok(0) | Err(_) => return Ok(total),
            Ok(count) => total += count as u64,
        }
    }
}

#[test]
fn without_http_failures_of_connections_are_still_told() -> Result<()> {
    let world = World::new()?;
    let target = world.cgroup().display().to_string();
    let agent = Agent::start_with(
        world.bed.folder(),
        &[
            "--no-kube",
            "--controller",
            "nginx",
            "--cgroup",
            &target,
            "--no-http",
        ],
    )?;
    let rows = [
        ("/ok/", None),
        ("/close-delimited/", None),
        ("/chunked/", None),
        ("/ok/?size=3000000", None),
        ("/refused/", Some("connect_refused")),
        ("/no-route/", Some("connect_unreachable")),
        ("/reset-request/", Some("reset")),
        ("/fin-request/", Some("closed_early")),
    ];
    for listener in [Listener::Plain, Listener::Pooled] {
        for (path, _) in rows {
            world.get(listener, path)?;
        }
        let mut left = Connection::open(&world.bed, world.at(listener))?;
        left.send(request("GET", "/hang/", "").as_bytes())?;
        pause(50);
        left.leave(Leave::Fin)?;
    }
    pause(300);
    let found = agent.stop()?;
    let mut outcomes: Vec<_> = found.iter().map(|one| one.text("/outcome")).collect();
    outcomes.sort_unstable();
    let mut expected: Vec<_> = rows.iter().filter_map(|(_, outcome)| *outcome).collect();
    expected.extend_from_slice(&expected.clone());
    expected.sort_unstable();
    assert_eq!(outcomes, expected, "{found:#?}");
    let leaked: Vec<_> = found
        .iter()
        .filter(|one| one.0.get("request").is_some())
        .collect();
    assert!(leaked.is_empty(), "request heads were read: {leaked:#?}");
    Ok(())
}

#[test]
fn a_backend_that_is_killed_fails_what_was_open_and_nothing_else() -> Result<()> {
    let bed = Bed::new()?;
    let mut backends = Backends::start(&bed)?;
    let _nginx = Nginx::start(&bed, Host::Proxy, Options::default())?;
    let agent = Agent::start(bed.folder(), &bed.cgroup(Host::Proxy))?;
    let to = Listener::Pooled.of(Host::Proxy);
    let mut idle = Connection::open(&bed, to)?;
    assert_eq!(idle.get("/ok/")?.status, Some(200));
    let mut open = Connection::open(&bed, to)?;
    open.send(request("GET", "/hang/", "").as_bytes())?;
    wait::holds("the request at the backend", client::PATIENCE, || {
        backends
            .requests(Behavior::Hang)
            .is_ok_and(|count| count > 0)
    })?;
    // Its owner kills it: SIGKILL.
    drop(backends);
    assert_eq!(open.answer()?.status, Some(502));
    agent.finding("the open request's end", |one| one.path() == "/hang/")?;
    let found = agent.stop()?;
    let mut differences = Differences::default();
    let expected = json!({"phase": "request", "status": 502, "client_visible": "yes", "request": {"path": "/hang/"}});
    differences.only("killed", &found, |_| true, &expected);
    differences.finish("");
    Ok(())
}

#[test]
fn three_percent_loss_on_every_leg() -> Result<()> {
    let world = World::new()?;
    let http = format!(
        "upstream pool {{ server $BACKEND:9001; keepalive 16; }}\n\
         server {{ listen {PORT}; proxy_set_header Connection '';\n\
         proxy_read_timeout 20s; proxy_connect_timeout 20s; proxy_send_timeout 20s;\n\
         location /ok/ {{ proxy_pass http://pool; }}\n\
         location /chunked/ {{ proxy_pass http://$BACKEND:{chunked}; }}\n\
         location /close/ {{ proxy_pass http://$BACKEND:{close}; }} }}",
        chunked = Behavior::Chunked.port(),
        close = Behavior::CloseDelimited.port(),
    );
    let edge = Edge::start(&world.bed, "", &http)?;
    let agent = world.agent()?;
    let lossy = "table inet loss { chain in { type filter hook input priority -10;\n\
                 meta l4proto tcp numgen random mod 100 < 3 drop\n}\n}\n";
    for host in [Host::Proxy, Host::Backend] {
        world.bed.nft(host, lossy)?;
    }
    let results: Vec<Result<()>> = thread::scope(|scope| {
        let clients: Vec<_> = (0..8)
            .map(|_| scope.spawn(|| lossy_client(&world, &edge)))
            .collect();
        clients
            .into_iter()
            .map(|one| one.join().expect("no client panics"))
            .collect()
    });
    for host in [Host::Proxy, Host::Backend] {
        world.bed.nft(host, "delete table inet loss\n")?;
    }
    results.into_iter().collect::<Result<Vec<_>>>()?;
    world.mark(&agent)?;
    pause(1500);
    let page = agent.metric("the marker's exchange", |page| {
        page.sum("ingress_trace_upstream_failures_total", &[]) >= 1.0
    })?;
    let port = |port: u16| {
        page.count(
            "ingress_trace_upstream_exchanges_total",
            &[("backend_port", &port.to_string())],
        )
    };
    let counted =
        [Behavior::Ok, Behavior::Chunked, Behavior::CloseDelimited].map(|one| port(one.port()));
    assert_eq!(counted, [160, 80, 80]);
    let mut found = world.others(agent)?;
    found.retain(|one| one.text("/outcome") != "slow" && !one.path().contains("marker"));
    silent(&found);
    Ok(())
}

fn lossy_client(world: &World, edge: &Edge) -> Result<()> {
    let mut client = Connection::open(&world.bed, edge.at(PORT))?;
    for _ in 0..10 {
        for path in ["/ok/?size=65536", "/chunked/", "/close/"] {
            assert_eq!(client.get(path)?.status, Some(200));
        }
        let answer = client::post(&world.bed, edge.at(PORT), "/ok/upload", 100_000)?;
        assert_eq!(answer.status, Some(200));
    }
    Ok(())
}
