//! What a data plane does beside its clients' requests (health checks, control planes, authorities,
//! traces, probes of its own ports), and its own life (reloads, endpoints that come and go, its end):
//! none of it is a finding.
use std::net::{SocketAddr, TcpStream};
use std::sync::Mutex;
use std::thread;

use anyhow::{Context, Result, ensure};
use tests::agent::VERDICT;
use tests::backends::Behavior as B;
use tests::bed::Host;
use tests::client::{self as plain, request};
use tests::edge::Edge;
use tests::planes::life::{Life, MARKER, all, ask, meanwhile, note, reload};
use tests::planes::own::{PORT, TLS_PORT, at};
use tests::planes::{Plane, checks};
use tests::{https, wait};

/// Waits until every check that reaches its backend has been made so often again.
fn checked(life: &mut Life, times: u64) -> Result<()> {
    if life.plane == Plane::Nginx {
        return Ok(());
    }
    for behavior in [B::ResetRequest, B::FinRequest, B::Hang, B::Stall] {
        let before = life.backends.requests(behavior)?;
        wait::holds("health checks", VERDICT * 6, || {
            life.backends
                .requests(behavior)
                .is_ok_and(|now| now >= before + times)
        })
        .map_err(|error| error.context(life.own.output()))?;
    }
    Ok(())
}

#[test]
fn what_is_not_an_upstream_is_never_told() -> Result<()> {
    all(true, |mut life, differences| {
        // Its traces are sent behind requests, Envoy's between a failure and its answer, too.
        for number in 0..60 {
            for other in 0..number % 5 {
                plain::get(&life.bed, at(PORT), &format!("/early-{number}-{other}"))?;
            }
            life.fails(&format!("{MARKER}-traced-{number}"))?;
        }
        // While nobody asks: a check is known by its beat, what comes at no beat (Caddy's traces) by
        // being alone. Before that, under constant traffic of TLS clients, they can be taken for theirs.
        checked(&mut life, 16)?;
        life.mark(&format!("{MARKER}-learnt"))?;
        // While clients go on, from the start of some checks to the end of others.
        let Life { bed, backends, .. } = &mut life;
        let fine = |client, number| ask(bed, &format!("/fine-{client}-{number}?ms={}", number % 5));
        meanwhile(3, fine, || {
            wait::holds("requests", VERDICT * 3, || {
                backends.requests(B::Ok).is_ok_and(|count| count > 1000)
            })
        })?;
        probes(&life)?;
        let own = life
            .agent
            .metrics()?
            .count("ingress_trace_own_failures_total", &[]);
        eprintln!("{:?}: {own} known by the cluster to be its own", life.plane);
        life.finish(differences)
    })
}

/// Asks a controller on a port of its own until it says that it is not ready.
fn probes(life: &Life) -> Result<()> {
    let to = at(checks::own_port(life.plane));
    let path = match life.plane {
        Plane::Envoy => {
            let mut admin = plain::Connection::open(&life.bed, to)?;
            let fail = request("POST", "/healthcheck/fail", "Content-Length: 0\r\n");
            admin.send(fail.as_bytes())?;
            ensure!(admin.answer()?.status == Some(200), "no admin");
            "/ready"
        }
        // It has no other than 200 before its end.
        Plane::Traefik => return Ok(()),
        _ => "/healthz",
    };
    for _ in 0..5 {
        let got = plain::get(&life.bed, to, path)?;
        ensure!(got.status == Some(503), "{path}: {got:?}");
    }
    Ok(())
}

#[test]
fn endpoints_that_come_and_go_properly_and_reloads() -> Result<()> {
    all(false, |mut life, differences| {
        let Life {
            own,
            backends,
            plane,
            bed,
            ..
        } = &mut life;
        let second = SocketAddr::new(Host::SecondProxy.v4(), 9700);
        let http = "server { listen 9700; location / { return 200 'second'; } }";
        let mut pod = Edge::start_on(bed, Host::SecondProxy, "", http)?;
        let seen = |pod: &Edge| pod.log().map_or(0, |log| log.len());
        let asks = |client, number| {
            let path = format!("/on-{client}-{number}");
            // A process on its way out closes connections that have just come.
            ask(bed, &path).or_else(|_| ask(bed, &path))
        };
        meanwhile(2, asks, || {
            for _ in 0..2 {
                let before = seen(&pod);
                reload(own, bed, *plane, &[B::Ok.endpoint(), second])?;
                // A check of Traefik or HAProxy is one of them.
                wait::holds("requests at the new endpoint", VERDICT, || {
                    seen(&pod) > before + 20
                })?;
                reload(own, bed, *plane, &[B::Ok.endpoint()])?;
                // All go to the first one, over and over.
                wait::holds("no request at the old endpoint", VERDICT, || {
                    let (there, here) = (seen(&pod), backends.requests(B::Ok).unwrap_or(0));
                    let more = wait::holds("requests", VERDICT, || {
                        backends.requests(B::Ok).is_ok_and(|now| now > here + 60)
                    });
                    more.is_ok() && seen(&pod) == there
                })?;
            }
            // It closes what is left of its connections.
            pod.signal(libc::SIGQUIT);
            Ok(())
        })?;
        life.finish(differences)
    })
}

/// Connections that clients hold without a request.
const IDLE: usize = 10_000;

/// The limit of open files of this process bounds how many of them there may be at a time.
static ONE: Mutex<()> = Mutex::new(());

#[test]
fn ten_thousand_idle_clients() -> Result<()> {
    all(false, |life, differences| {
        let one = ONE.lock().expect("no thread panics with it");
        let mut idle = Vec::new();
        life.bed.inside(Host::Client, || {
            for _ in 0..IDLE {
                idle.push(TcpStream::connect(at(PORT)).context("failed to connect")?);
            }
            Ok(())
        })?;
        for number in 0..50 {
            ask(&life.bed, &format!("/beside-{number}"))?;
        }
        drop(idle);
        for number in 0..10 {
            ask(&life.bed, &format!("/behind-{number}"))?;
        }
        drop(one);
        let page = life.agent.metrics()?;
        let aborts = page.count("ingress_trace_client_aborts_total", &[]);
        if aborts > 0 {
            note(differences, format!("{:?}: {aborts} aborts", life.plane));
        }
        life.finish(differences)
    })
}

/// Connections of each of the threads that ask.
const CHURN: usize = 500;

#[test]
fn thousands_of_connections_that_come_and_go() -> Result<()> {
    all(false, |life, differences| {
        let bed = &life.bed;
        let churn = |thread: usize| {
            for number in 0..CHURN {
                let path = format!("/churn-{thread}-{number}");
                let got = match thread {
                    0 => https::open(bed, at(TLS_PORT))?.get(&path)?,
                    _ => plain::get(bed, at(PORT), &path)?,
                };
                ensure!((got.status, got.complete) == (Some(200), true), "{got:?}");
            }
            Ok(())
        };
        thread::scope(|scope| {
            let threads = [0, 1, 2, 3].map(|number| scope.spawn(move || churn(number)));
            threads.into_iter().try_for_each(|thread| {
                thread
                    .join()
                    .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            })
        })?;
        life.finish(differences)
    })
}
