//! The ingress' own life under load: reloads, graceful and fast stops and killed workers are no
//! failures of a backend; HTTP/2 on either leg is not guessed at.
use std::io;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::json;
use tests::agent::{Finding, VERDICT};
use tests::bed::Host;
use tests::client::{Connection, request};
use tests::edge::{Edge, Peer, pause, serve, silent};
use tests::fake_api::FakeApi;
use tests::objects::{self, Endpoint};
use tests::planes::{Plane, watch_in};
use tests::world::World;
use tests::{h2, https, process, shop, wait};

const PORT: u16 = 8090;

/// What the ingress cut off itself may be told, but not as a backend that was too slow.
fn unblamed(found: &[Finding]) {
    let blamed: Vec<_> = found
        .iter()
        .filter(|one| one.text("/cause") != "unknown")
        .collect();
    assert!(
        blamed.is_empty(),
        "{} findings blame the backend: {blamed:#?}",
        blamed.len()
    );
}

fn hang(peer: &mut Peer) -> io::Result<()> {
    peer.request()?;
    if peer.number.is_multiple_of(2) {
        peer.send("HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\nbegun")?;
    }
    peer.wait()
}

/// Requests in flight (without a response, and in the middle of one) while `event` happens.
fn in_flight(main: &str, event: fn(&mut Edge) -> Result<()>) -> Result<Vec<Finding>> {
    let world = World::new()?;
    let http =
        format!("server {{ listen {PORT}; location / {{ proxy_pass http://$BACKEND:9611; }} }}");
    let mut edge = Edge::start(&world.bed, main, &http)?;
    serve(&world.bed, 9611, hang)?;
    let agent = world.agent()?;
    let mut clients = Vec::new();
    for number in 0..6 {
        let mut client = Connection::open(&world.bed, edge.at(PORT))?;
        client.send(request("GET", &format!("/{number}"), "").as_bytes())?;
        clients.push(client);
        pause(20);
    }
    event(&mut edge)?;
    pause(1200);
    world.others(agent)
}

#[test]
fn a_fast_stop() -> Result<()> {
    silent(&in_flight("", |edge| {
        edge.signal(libc::SIGTERM);
        Ok(())
    })?);
    Ok(())
}

#[test]
fn a_worker_that_is_killed() -> Result<()> {
    silent(&in_flight("", |edge| {
        edge.workers()?
            .into_iter()
            .for_each(|pid| process::signal(pid, libc::SIGKILL));
        Ok(())
    })?);
    Ok(())
}

#[test]
fn a_reload_that_does_not_wait_for_requests() -> Result<()> {
    unblamed(&in_flight("worker_shutdown_timeout 300ms;", |edge| {
        edge.signal(libc::SIGHUP);
        Ok(())
    })?);
    Ok(())
}

#[test]
fn a_graceful_stop_that_does_not_wait_for_requests() -> Result<()> {
    unblamed(&in_flight("worker_shutdown_timeout 300ms;", |edge| {
        edge.signal(libc::SIGQUIT);
        Ok(())
    })?);
    Ok(())
}

/// An HTTP/2 frame (RFC 9113 section 4.1).
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len())
        .expect("frames here are small")
        .to_be_bytes();
    let mut bytes = vec![length[1], length[2], length[3], kind, flags];
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const END_HEADERS: u8 = 4;
const END_STREAM: u8 = 1;

/// GET or POST with literal headers that are not indexed (RFC 7541 section 6.2.2).
fn headers(stream: u32, post: bool, path: &str) -> Vec<u8> {
    let mut block = vec![if post { 0x83 } else { 0x82 }, 0x86, 0x04];
    block.push(u8::try_from(path.len()).expect("paths here are short"));
    block.extend(path.bytes());
    block.extend(b"\x01\x04shop");
    let flags = END_HEADERS | if post { 0 } else { END_STREAM };
    frame(1, flags, stream, &block)
}

struct Client(TcpStream);

impl Client {
    fn open(world: &World, edge: &Edge, port: u16) -> Result<Self> {
        let to = edge.at(port);
        let stream = world.bed.inside(Host::Client, || {
            TcpStream::connect(to).context("failed to connect")
        })?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        let mut client = Self(stream);
        client.send(&[PREFACE.to_vec(), frame(4, 0, 0, &[])].concat())?;
        Ok(client)
    }

    fn send(&mut self, bytes: &[u8]) -> Result<()> {
        self.0.write_all(bytes).context("failed to send")
    }

    /// Reads frames until one of this kind of this stream.
    fn until(&mut self, kind: u8, stream: u32) -> Result<Vec<u8>> {
        loop {
            let mut head = [0; 9];
            self.0
                .read_exact(&mut head)
                .context("failed to read a frame")?;
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
            let mut payload = vec![0; length as usize];
            self.0
                .read_exact(&mut payload)
                .context("failed to read a frame")?;
            let of = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
            if head[3] == kind && of == stream {
                return Ok(payload);
            }
        }
    }
}

#[test]
fn streams_that_an_http2_client_cancels() -> Result<()> {
    let world = World::new()?;
    let http = format!(
        "server {{ listen {PORT} http2; proxy_buffering off; location / {{ proxy_pass http://$BACKEND:9611; }} \
         location /slow {{ proxy_pass http://$BACKEND:9612; }} }}"
    );
    let edge = Edge::start(&world.bed, "", &http)?;
    serve(&world.bed, 9611, hang)?;
    serve(&world.bed, 9612, |peer| {
        peer.request()?;
        peer.send("HTTP/1.1 200 OK\r\nContent-Length: 200\r\n\r\n")?;
        for _ in 0..20 {
            pause(10);
            peer.send("0123456789")?;
        }
        peer.wait()
    })?;
    let agent = world.agent()?;
    let mut client = Client::open(&world, &edge, PORT)?;
    for round in 0..5u32 {
        let first = round * 4 + 1;
        client.send(&headers(first, false, "/slow"))?;
        client.until(0, first)?;
        client.send(&headers(first + 2, false, "/hang"))?;
        pause(40);
        // RST_STREAM, CANCEL: what a browser does when the user goes on.
        client.send(&frame(3, 0, first + 2, &8u32.to_be_bytes()))?;
        pause(250);
    }
    silent(&world.others(agent)?);
    Ok(())
}

/// A gRPC server in good order that sends all it has in one segment, as they do.
fn grpc(peer: &mut Peer) -> io::Result<()> {
    peer.take(24)?;
    let mut got = Vec::new();
    // Until the request's end (a DATA or HEADERS frame with END_STREAM).
    loop {
        let head = peer.take(9)?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        peer.take(length as usize)?;
        got.push(head[3]);
        if head[3] <= 1 && head[4] & END_STREAM != 0 {
            break;
        }
    }
    // :status 200, content-type by literal.
    let mut block = vec![0x88, 0x0f, 0x10, 16];
    block.extend(b"application/grpc");
    let trailers = b"\x00\x0bgrpc-status\x010";
    peer.send(
        [
            frame(4, 0, 0, &[]),
            frame(4, 1, 0, &[]),
            frame(1, END_HEADERS, 1, &block),
            frame(0, 0, 1, &[0; 5]),
            frame(1, END_HEADERS | END_STREAM, 1, trailers),
        ]
        .concat(),
    )?;
    pause(20);
    Ok(())
}

#[test]
fn grpc_in_good_order() -> Result<()> {
    let world = World::new()?;
    let http = format!(
        "server {{ listen {PORT} http2; location / {{ grpc_pass grpc://$BACKEND:9611; }} }}\n\
         upstream pool {{ server $BACKEND:9612; keepalive 4; }}\n\
         server {{ listen 8091 http2; location / {{ grpc_pass grpc://pool; }} }}"
    );
    let edge = Edge::start(&world.bed, "", &http)?;
    serve(&world.bed, 9611, grpc)?;
    serve(&world.bed, 9612, grpc)?;
    let agent = world.agent()?;
    for port in [PORT, 8091] {
        for _ in 0..3 {
            let mut client = Client::open(&world, &edge, port)?;
            client.send(&headers(1, true, "/grpc"))?;
            client.send(&frame(0, END_STREAM, 1, &[0; 5]))?;
            let answer = client.until(1, 1).with_context(|| edge.errors())?;
            assert_eq!(answer[0], 0x88, "{answer:?} {}", edge.errors());
            pause(100);
        }
    }
    silent(&world.others(agent)?);
    Ok(())
}

/// OCSP responders that reset, never answer, and answer 503.
const RESPONDERS: [&str; 3] = ["9621", "9622", "9623"];

fn stapling(endpoint: &str, port: usize) -> String {
    format!(
        "server {{ listen {port} ssl http2; ssl_certificate cert.pem; ssl_certificate_key key.pem;\n\
         ssl_protocols TLSv1.3; ssl_stapling on; ssl_trusted_certificate cert.pem;\n\
         ssl_stapling_responder http://$BACKEND:{endpoint}/ocsp;\n\
         location / {{ proxy_pass http://$BACKEND:9611; }} }}"
    )
}

#[test]
fn responders_of_an_authority_that_fail_are_no_upstreams() -> Result<()> {
    let world = World::new()?;
    let servers: Vec<String> = (PORT as usize..)
        .zip(RESPONDERS)
        .map(|(port, endpoint)| stapling(endpoint, port))
        .collect();
    let mut edge = Edge::start(&world.bed, "", &servers.join("\n"))?;
    let asked = Arc::new(AtomicUsize::new(0));
    let ask = |endpoint: u16, answer: fn(&mut Peer) -> io::Result<()>| {
        let asked = Arc::clone(&asked);
        serve(&world.bed, endpoint, move |peer| {
            peer.request()?;
            asked.fetch_add(1, Ordering::SeqCst);
            answer(peer)
        })
    };
    ask(9621, Peer::abort)?;
    ask(9622, Peer::wait)?;
    ask(9623, |peer| {
        peer.send("HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n")
    })?;
    serve(&world.bed, 9611, |peer| {
        while peer.request()?.is_some() {
            pause(3);
            peer.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")?;
        }
        Ok(())
    })?;
    let agent = world.agent()?;
    // nginx asks when a client connects, and again as soon as it may.
    for _ in 0..3 {
        for port in (PORT..).take(RESPONDERS.len()) {
            for number in 0..4 {
                let path = format!("/stapled-{port}-{number}");
                // A worker that is about to end may take a connection and close it unused.
                wait::holds("an answer", VERDICT, || {
                    let client = https::open(&world.bed, edge.at(port));
                    let answer = client.and_then(|mut client| client.get(&path));
                    answer.is_ok_and(|answer| answer.status == Some(200))
                })?;
                let client = h2::Connection::open(&world.bed, edge.at(port))?;
                assert_eq!(client.get(&path)?.status, Some(200));
            }
        }
        edge.signal(libc::SIGHUP);
        let before = edge.workers()?;
        wait::holds("the next workers", VERDICT, || {
            edge.workers().is_ok_and(|now| now != before)
        })?;
    }
    wait::holds("responders asked", VERDICT, || {
        asked.load(Ordering::SeqCst) >= 3
    })?;
    silent(&world.others(agent)?);
    Ok(())
}

/// A cluster whose one route leads to the backend at this port.
fn cluster(port: u16) -> Result<FakeApi> {
    let (api, address) = (FakeApi::start()?, Host::Backend.v4());
    let (name, ports) = (shop::NAME, [("http", 80, json!(port))]);
    let endpoint = Endpoint::ready(address, "cart-0");
    api.apply_all([
        objects::node(shop::NODE),
        objects::ingress(name, "all", "nginx", "", &[("/", "cart", 80)]),
        objects::service(name, "cart", Some("cart"), &ports),
        objects::slice(name, "cart", &[("http", port)], &[endpoint]),
        objects::pod(name, "cart-0", shop::NODE, &[address], &[port]),
    ])?;
    Ok(api)
}

#[test]
fn a_responder_that_cannot_be_connected_to_is_no_upstream_where_the_cluster_is_known() -> Result<()>
{
    const OWN: &str = "ingress_trace_own_failures_total";
    let world = World::new()?;
    // Far from all pods, as the responders of authorities are.
    let server = stapling("9624", PORT.into()).replace("$BACKEND:9624", "[fd77::3]:9624");
    let mut edge = Edge::start(&world.bed, "", &server)?;
    serve(&world.bed, 9611, |peer| {
        while peer.request()?.is_some() {
            peer.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")?;
        }
        Ok(())
    })?;
    let api = cluster(9611)?;
    let agent = watch_in(&world.bed, Plane::Nginx, &api)?;
    let at = edge.at(PORT);
    let ask = |path: &str| {
        wait::holds("an answer", VERDICT, || {
            let client = https::open(&world.bed, at);
            let answer = client.and_then(|mut client| client.get(path));
            answer.is_ok_and(|answer| answer.status == Some(200))
        })
    };
    ask("/first")?;
    agent.metric("a backend that has answered", |page| {
        page.count(
            "ingress_trace_upstream_exchanges_total",
            &[("backend_service", "cart")],
        ) > 0
    })?;
    for number in 0..4 {
        edge.signal(libc::SIGHUP);
        pause(300);
        for client in 0..6 {
            ask(&format!("/stapled-{number}-{client}"))?;
        }
    }
    agent.metric("responders asked in vain", |page| page.count(OWN, &[]) >= 4)?;
    silent(&world.others(agent)?);
    Ok(())
}
