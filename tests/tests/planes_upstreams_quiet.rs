//! Healthy TLS and HTTP/2 towards the backends, on every data plane: kept and closed connections, idle
//! ones, GOAWAY, many streams, cancelled ones: no finding; and a backend's own error is no one else's.
use std::thread;

use anyhow::{Context, Result, ensure};
use tests::agent::Finding;
use tests::edge::{pause, silent};
use tests::h2;
use tests::h2_backend::H2;
use tests::planes::client::{Client, Got};
use tests::planes::own::{TLS_PORT, at};
use tests::planes::upstream_cases::{http2, https};
use tests::planes::upstreams::{Route, World};
use tests::planes::{Plane, each};
use tests::secure::Secure;

/// Backends in good order: they answer, and end their connections as servers do.
fn healthy() -> Vec<Route> {
    let secures = [
        Secure::Ok,
        Secure::Old,
        Secure::Idle,
        Secure::IdleBare,
        Secure::CloseDelimited,
    ];
    let http2s = [H2::Ok, H2::Secure, H2::Goaway, H2::SecureGoaway];
    let secure = secures.into_iter().map(https);
    let mut routes: Vec<Route> = secure.chain(http2s.into_iter().map(http2)).collect();
    for route in &mut routes {
        route.hasty = false;
    }
    routes
}

/// One client's healthy traffic with a backend.
fn traffic(world: &World, client: Client, segment: &str) -> Result<()> {
    let mut connection = world.open(client)?;
    let fine = |got: Got| {
        ensure!(got.status == Some(200) && got.complete, "{got:?}");
        Ok(())
    };
    for size in [0, 5, 700, 9000, 300_000] {
        // HAProxy closes its client's connection behind some responses that end with the backend's.
        if segment.contains("delimited") {
            connection = world.open(client)?;
        }
        fine(connection.request("GET", &format!("/{segment}/?size={size}"), "")?)?;
    }
    let mut connection = world.open(client)?;
    fine(connection.request("POST", &format!("/{segment}/"), "some body")?)?;
    // The backend closes what was idle.
    pause(700);
    for _ in 0..3 {
        if segment.contains("delimited") {
            connection = world.open(client)?;
        }
        fine(connection.request("GET", &format!("/{segment}/"), "")?)?;
        pause(20);
    }
    if client == Client::H2 {
        return streams(world, segment);
    }
    // Away while the answer comes.
    let mut left = world.open(client)?;
    left.begin(&format!("/{segment}/?size=3000000&ms=300"))?;
    pause(50);
    Ok(())
}

/// Many streams at once, some of which are cancelled.
fn streams(world: &World, segment: &str) -> Result<()> {
    let connection = h2::Connection::open(&world.bed, at(TLS_PORT))?;
    let path = format!("/{segment}/?size=3000&ms=250");
    let mut open = Vec::new();
    for _ in 0..12 {
        open.push(connection.ask("GET", &path, b"")?);
    }
    pause(120);
    for stream in open.drain(6..) {
        stream.cancel();
    }
    for stream in open {
        let got = stream.answer()?;
        ensure!(got.status == Some(200) && got.complete, "{got:?}");
    }
    let got = connection.get(&format!("/{segment}/"))?;
    ensure!(got.status == Some(200), "{got:?}");
    Ok(())
}

/// One client's healthy traffic with these backends.
fn all(world: &World, client: Client, routes: &[Route]) -> Result<()> {
    routes.iter().try_for_each(|route| {
        let segment = &route.word;
        traffic(world, client, segment).with_context(|| format!("{segment} {client:?}"))
    })
}

#[test]
fn tls_and_http2_backends_in_good_order_are_silent() -> Result<()> {
    let routes = healthy();
    // What closes idle connections is used by one client at a time: another one would meet the close.
    let (closing, open): (Vec<Route>, Vec<Route>) = routes
        .iter()
        .cloned()
        .partition(|route| route.word.contains("idle") || route.word.contains("goaway"));
    let found = each(|plane| {
        let world = World::new(plane, &routes)?;
        for _ in 0..2 {
            thread::scope(|scope| {
                let (world, open) = (&world, &open);
                let clients =
                    Client::ALL.map(|client| scope.spawn(move || all(world, client, open)));
                clients
                    .into_iter()
                    .try_for_each(|one| one.join().expect("no client panics"))
            })?;
            for client in Client::ALL {
                all(&world, client, &closing)?;
            }
        }
        world.finish()
    })?;
    silent(&found.concat());
    Ok(())
}

#[test]
fn errors_of_tls_and_http2_backends_are_not_the_ingress_own() -> Result<()> {
    let routes = [
        https(Secure::Busy),
        https(Secure::BusyClose),
        http2(H2::Busy),
    ];
    let found = each(|plane| {
        let world = World::new(plane, &routes)?;
        for client in Client::ALL {
            for route in &routes {
                let mut connection = world.open(client)?;
                for _ in 0..3 {
                    let got = connection.request("GET", &format!("/{}/", route.word), "")?;
                    ensure!(got.status == Some(503), "{}: {got:?}", route.word);
                }
            }
        }
        let found = world.finish()?;
        // Envoy says the same of a connection that ends without an answer: no cause is named.
        let wrong = |one: &&Finding| plane != Plane::Envoy || one.text("/cause") != "unknown";
        Ok(found.iter().filter(wrong).cloned().collect::<Vec<_>>())
    })?;
    silent(&found.concat());
    Ok(())
}
