//! Clients of every data plane that leave first, and requests that fail beside others that do not:
//! neither may make a healthy request, or one that nobody waits for, look failed.
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use anyhow::{Result, ensure};
use tests::agent::{Finding, VERDICT};
use tests::backends::Behavior as B;
use tests::client::{self as plain, Leave, request};
use tests::nginx::Fault;
use tests::planes::client::{Client, Connection};
use tests::planes::quiet::{WAYS, all, fetch};
use tests::planes::{Plane, Way, World};
use tests::{h2, https, wait};

/// Clients that go away in this way, before the answer and in the middle of it.
fn leave(world: &mut World, client: Client, how: Leave) -> Result<()> {
    // HAProxy goes on without its client: what it waits for must come in the end.
    for (path, behavior) in [("/ok/left?ms=300", B::Ok), ("/patient/left?ms=300", B::Ok)] {
        for way in WAYS {
            let before = world.backends.requests(behavior)?;
            let to = world.at(client.at(way));
            let head = request("GET", path, "");
            match client {
                Client::Plain => {
                    let mut connection = plain::Connection::open(&world.bed, to)?;
                    connection.send(head.as_bytes())?;
                    arrived(world, behavior, before)?;
                    connection.leave(how)?;
                }
                Client::Tls => {
                    let mut connection = https::open(&world.bed, to)?;
                    connection.send(head.as_bytes())?;
                    arrived(world, behavior, before)?;
                    connection.leave(how)?;
                }
                Client::H2 => {
                    let connection = h2::Connection::open(&world.bed, to)?;
                    let stream = connection.ask("GET", path, b"")?;
                    arrived(world, behavior, before)?;
                    stream.cancel();
                    for number in 0..5 {
                        let got = connection.get(&format!("/ok/after-{number}"))?;
                        ensure!(got.status == Some(200), "after a cancel: {got:?}");
                    }
                }
            }
            // Others go on meanwhile, and after it.
            for number in 0..3 {
                fetch(world, client, way, &format!("/ok/other-{number}"), 200)?;
            }
        }
    }
    Ok(())
}

fn arrived(world: &mut World, behavior: B, before: u64) -> Result<()> {
    wait::holds("the request at the backend", VERDICT, || {
        world
            .backends
            .requests(behavior)
            .is_ok_and(|now| now > before)
    })
}

/// The same in the middle of a body.
fn leave_midway(world: &World, client: Client, how: Leave) -> Result<()> {
    for way in WAYS {
        let to = world.at(client.at(way));
        let head = request("GET", "/patient/midway?size=30000000", "");
        match client {
            Client::Plain => {
                let mut connection = plain::Connection::open(&world.bed, to)?;
                connection.send(head.as_bytes())?;
                connection.bytes(100_000)?;
                connection.leave(how)?;
            }
            Client::Tls => {
                let mut connection = https::open(&world.bed, to)?;
                connection.send(head.as_bytes())?;
                connection.bytes(100_000)?;
                connection.leave(how)?;
            }
            Client::H2 => {
                let connection = h2::Connection::open(&world.bed, to)?;
                connection
                    .ask("GET", "/patient/midway?size=30000000", b"")?
                    .begun()?
                    .cancel();
                let got = connection.get("/ok/after")?;
                ensure!(got.status == Some(200), "after a cancel: {got:?}");
            }
        }
        fetch(world, client, way, "/ok/other", 200)?;
    }
    Ok(())
}

#[test]
fn clients_that_leave_first_are_no_failures() -> Result<()> {
    all(|mut run, differences| {
        for how in [Leave::Fin, Leave::Reset] {
            let step = format!("gone before the answer, {how:?}");
            run.step(&step, &Client::ALL, |world, client| {
                leave(world, client, how)
            });
            let step = format!("gone in the middle, {how:?}");
            run.step(&step, &Client::ALL, |world, client| {
                leave_midway(world, client, how)
            });
        }
        let aborts = run.aborts()?;
        // HAProxy goes on as if they were there.
        if aborts == 0 && run.plane != Plane::Haproxy {
            run.odd.push("no client abort counted".to_owned());
        }
        run.finish(differences)
    })
}

const FAILING: &[(&str, u16)] = &[
    ("refused", 0),
    ("reset-request", 0),
    ("fin-request", 0),
    ("reset-body", 0),
    ("ok", 503),
    ("garbage", 0),
    ("hang", 0),
    ("none", 0),
];

/// Requests that fail while others do not: only those may be told.
fn beside_failures(world: &World, healthy: Client) -> Result<()> {
    let done = &AtomicBool::new(false);
    thread::scope(|scope| {
        let failing: Vec<_> = Client::ALL
            .into_iter()
            .map(|client| {
                scope.spawn(move || -> Result<()> {
                    for number in 0.. {
                        if done.load(Ordering::Relaxed) {
                            break;
                        }
                        let (fault, status) = FAILING[number % FAILING.len()];
                        let query = if status > 0 {
                            format!("?status={status}")
                        } else {
                            String::new()
                        };
                        let way = WAYS[number % 2];
                        let path = format!("/{fault}/bad-{number}{query}");
                        let got = world.ask(client, client.at(way), &path)?;
                        ensure!(got.failed(), "{path}: {got:?}");
                    }
                    Ok(())
                })
            })
            .collect();
        let fine: Vec<_> = (0..3)
            .map(|thread| {
                scope.spawn(move || -> Result<()> {
                    let mut kept = Connection::open(world, healthy, healthy.at(Way::Pooled))?;
                    for number in 0..50 {
                        let path = format!("/ok/fine-{thread}-{number}?ms={}", number % 7);
                        let got = kept.request("GET", &path, "")?;
                        ensure!(got.status == Some(200) && got.complete, "{path}: {got:?}");
                        let way = WAYS[number % WAYS.len()];
                        fetch(
                            world,
                            healthy,
                            way,
                            &format!("/patient/fine-{thread}-{number}?ms=3"),
                            200,
                        )?;
                        fetch(
                            world,
                            healthy,
                            way,
                            &format!("/chunked/fine-{thread}-{number}"),
                            200,
                        )?;
                    }
                    Ok(())
                })
            })
            .collect();
        let fine = fine.into_iter().try_for_each(wait::joined);
        done.store(true, Ordering::Relaxed);
        let failing = failing.into_iter().try_for_each(wait::joined);
        fine.and(failing)
    })
}

/// Whether a finding is about one of [`FAILING`].
fn meant(finding: &Finding) -> bool {
    if !finding.path().is_empty() {
        return finding.path().contains("/bad-");
    }
    // Under TLS only the backend tells; the one in good order answers 503 too, in plaintext.
    let port = finding.number("/backend/port");
    let bad = [
        B::ResetRequest,
        B::FinRequest,
        B::ResetBody,
        B::Garbage,
        B::Hang,
    ];
    let bad = bad.iter().any(|one| port == Some(one.port().into()));
    bad || port == Some(Fault::Refused.port().into())
}

#[test]
fn failures_of_others_leave_healthy_requests_alone() -> Result<()> {
    all(|mut run, differences| {
        run.step("beside failures", &Client::ALL, |world, client| {
            beside_failures(world, client)
        });
        run.finish_but(differences, meant)
    })
}
