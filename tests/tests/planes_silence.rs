//! Healthy traffic of every kind on every data plane, for plaintext, TLS and HTTP/2 clients: no
//! finding, no client counted as gone that was not.
use std::io::{Read, Write};
use std::sync::LazyLock;
use std::thread;

use anyhow::{Result, ensure};
use tests::backends::{Behavior as B, FRAMINGS};
use tests::bed::Host;
use tests::client::{self as plain, Leave, request};
use tests::planes::client::{Client, Connection};
use tests::planes::quiet::{WAYS, all, fetch};
use tests::planes::{Plane, Way, World};
use tests::{h2, https, wait};

/// Slow, but within the timers.
const SLOW: &[(&str, u16)] = &[
    ("/ok/slow?ms=400", 200),
    ("/ok/slower?ms=520", 200),
    ("/patient/slow?ms=1100", 200),
];

/// nginx 1.22 takes the interim answer for the final one: on its kept connections it waits for more,
/// and HTTP/2 clients do not get it.
const INTERIM: &[(&str, u16)] = &[("/interim-100/", 200), ("/interim-103/", 200)];

fn framings(world: &World, client: Client, plane: Plane) -> Result<()> {
    for way in WAYS {
        for (path, status) in FRAMINGS.iter().chain(SLOW) {
            fetch(world, client, way, path, *status)?;
        }
        if plane != Plane::Nginx || (way == Way::Single && client != Client::H2) {
            for (path, status) in INTERIM {
                fetch(world, client, way, path, *status)?;
            }
        }
    }
    Ok(())
}

fn kept(world: &World, client: Client) -> Result<()> {
    for way in WAYS {
        let mut connection = Connection::open(world, client, client.at(way))?;
        for number in 0..60 {
            let got =
                connection.request("GET", &format!("/ok/{number}?size={}", number * 137), "")?;
            ensure!(
                got.status == Some(200) && got.complete,
                "{way:?} {number}: {got:?}"
            );
        }
        let got = connection.request("POST", "/ok/post", "some body")?;
        ensure!(got.status == Some(200), "{got:?}");
    }
    Ok(())
}

fn idle_closes(world: &mut World, client: Client) -> Result<()> {
    let mut connection = Connection::open(world, client, client.at(Way::Pooled))?;
    for _ in 0..3 {
        let got = connection.request("GET", "/idle-close/", "")?;
        ensure!(got.status == Some(200), "{got:?}");
        world.backends.closed(B::IdleClose)?;
    }
    Ok(())
}

fn heads(world: &World, client: Client) -> Result<()> {
    for way in WAYS {
        let to = world.at(client.at(way));
        match client {
            Client::Plain => head(plain::Connection::open(&world.bed, to)?)?,
            Client::Tls => head(https::open(&world.bed, to)?)?,
            Client::H2 => {
                let connection = h2::Connection::open(&world.bed, to)?;
                let got = connection
                    .ask("HEAD", "/ok/head?size=5000", b"")?
                    .answer()?;
                ensure!(got.status == Some(200), "{way:?}: {got:?}");
            }
        }
    }
    Ok(())
}

fn head<S: Read + Write>(mut connection: plain::Connection<S>) -> Result<()> {
    for path in ["/ok/head?size=5000", "/ok/head"] {
        connection.send(request("HEAD", path, "").as_bytes())?;
        ensure!(connection.answer_to_head()?.status == Some(200), "HEAD");
        ensure!(connection.get(path)?.status == Some(200), "after HEAD");
    }
    Ok(())
}

fn large(world: &World, client: Client) -> Result<()> {
    static BODY: LazyLock<String> = LazyLock::new(|| "x".repeat(3_000_000));
    for way in WAYS {
        let mut connection = Connection::open(world, client, client.at(way))?;
        let got = connection.request("POST", "/patient/upload", &BODY)?;
        ensure!(
            got.status == Some(200) && got.complete,
            "{way:?} upload: {got:?}"
        );
        fetch(world, client, way, "/patient/download?size=8000000", 200)?;
    }
    Ok(())
}

/// What only HTTP/1.1 in plaintext has.
fn old_ways(world: &World, plane: Plane) -> Result<()> {
    for way in WAYS {
        let to = world.at(Client::Plain.at(way));
        let mut client = plain::Connection::open(&world.bed, to)?;
        let headers = "Content-Length: 5\r\nExpect: 100-continue\r\n";
        client.send(request("POST", "/ok/expect", headers).as_bytes())?;
        client.send(b"12345")?;
        ensure!(client.answer()?.status == Some(200), "{way:?} 100-continue");
        let many: String = (0..10)
            .map(|number| request("GET", &format!("/ok/{number}?size=2000"), ""))
            .collect();
        let mut client = plain::Connection::open(&world.bed, to)?;
        client.send(many.as_bytes())?;
        for _ in 0..10 {
            ensure!(client.answer()?.bytes == 2000, "{way:?} pipelining");
        }
        // Envoy answers 426 to HTTP/1.0 unless it is told otherwise.
        let status = if plane == Plane::Envoy { 426 } else { 200 };
        let mut old = plain::Connection::open(&world.bed, to)?;
        old.send(b"GET /chunked/ HTTP/1.0\r\nHost: shop.example\r\n\r\n")?;
        let got = old.answer()?;
        ensure!(got.status == Some(status), "{way:?} HTTP/1.0: {got:?}");
    }
    Ok(())
}

fn websockets(world: &World, client: Client, plane: Plane) -> Result<()> {
    for way in WAYS {
        // The other one of two endpoints that take turns knows nothing of it.
        if way == Way::Retry && plane.alternates() {
            continue;
        }
        let to = world.at(client.at(way));
        for by_client in [true, false] {
            if client == Client::Tls {
                websocket(https::open(&world.bed, to)?, by_client)?;
            } else {
                websocket(plain::Connection::open(&world.bed, to)?, by_client)?;
            }
        }
    }
    Ok(())
}

fn websocket<S: Read + Write>(mut connection: plain::Connection<S>, by_client: bool) -> Result<()> {
    let headers = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                   Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    let path = if by_client {
        "/websocket/"
    } else {
        "/websocket-close/"
    };
    connection.send(request("GET", path, headers).as_bytes())?;
    let got = connection.answer()?;
    ensure!(got.status == Some(101), "{path}: {got:?}");
    if by_client {
        connection.send(b"GET / HTTP/1.1 is only payload here")?;
        connection.bytes(35)?;
    } else {
        connection.bytes(9)?;
    }
    connection.leave(Leave::Fin)
}

fn churn(world: &World, client: Client) -> Result<()> {
    let count = if client == Client::Plain { 250 } else { 50 };
    // Several at once: threads serve more than one.
    thread::scope(|scope| {
        let threads: Vec<_> = (0..4)
            .map(|thread| {
                scope.spawn(move || {
                    (0..count).try_for_each(|number| {
                        let path = format!("/ok/churn-{thread}-{number}");
                        fetch(world, client, Way::Single, &path, 200)
                    })
                })
            })
            .collect();
        threads.into_iter().try_for_each(wait::joined)
    })
}

#[test]
fn healthy_traffic_is_silent() -> Result<()> {
    all(|mut run, differences| {
        let plane = run.plane;
        run.step("framings", &Client::ALL, |world, client| {
            framings(world, client, plane)
        });
        run.step("kept connections", &Client::ALL, |world, client| {
            kept(world, client)
        });
        run.step("idle closes", &Client::ALL, idle_closes);
        run.step("HEAD", &Client::ALL, |world, client| heads(world, client));
        run.step("large bodies", &Client::ALL, |world, client| {
            large(world, client)
        });
        run.step("old ways", &[Client::Plain], |world, _| {
            old_ways(world, plane)
        });
        run.step(
            "WebSocket",
            &[Client::Plain, Client::Tls],
            |world, client| websockets(world, client, plane),
        );
        run.step("churn", &Client::ALL, |world, client| churn(world, client));
        let aborts = run.aborts()?;
        if aborts > 0 {
            run.odd.push(format!("{aborts} client aborts counted"));
        }
        run.finish(differences)
    })
}

/// The first SYN to the backend is lost; the second one gets through.
fn lost_syn(world: &World, client: Client) -> Result<()> {
    let port = B::Ok.port();
    // The limit lets one packet through to the drop, and no second one within the hour.
    let rule = format!(
        "table inet syn {{ chain in {{ type filter hook input priority -10;\n\
         tcp dport {port} tcp flags & (syn | ack) == syn limit rate 1/hour burst 1 packets drop\n\
         }}\n}}\n"
    );
    world.bed.nft(Host::Backend, &rule)?;
    fetch(world, client, Way::Single, "/patient/syn", 200)?;
    world.bed.nft(Host::Backend, "delete table inet syn\n")
}

fn lossy(world: &World, client: Client) -> Result<()> {
    let lossy = "table inet loss { chain in { type filter hook input priority -10;\n\
                 meta l4proto tcp numgen random mod 100 < 2 drop\n}\n}\n";
    world.bed.nft(Host::Proxy, lossy)?;
    for way in WAYS {
        let mut connection = Connection::open(world, client, client.at(way))?;
        for number in 0..30 {
            let path = format!("/patient/{number}?size=65536");
            let got = connection.request("GET", &path, "")?;
            ensure!(
                got.status == Some(200) && got.complete,
                "{way:?} {path}: {got:?}"
            );
        }
    }
    world.bed.nft(Host::Proxy, "delete table inet loss\n")
}

#[test]
fn lost_packets_are_no_failures() -> Result<()> {
    all(|mut run, differences| {
        run.step("a lost SYN", &Client::ALL, |world, client| {
            lost_syn(world, client)
        });
        run.step("packet loss", &Client::ALL, |world, client| {
            lossy(world, client)
        });
        let aborts = run.aborts()?;
        if aborts > 0 {
            run.odd.push(format!("{aborts} client aborts counted"));
        }
        run.finish(differences)
    })
}
