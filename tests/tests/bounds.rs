//! Bounds, driven to with real means: what does not fit is counted and visible, no request notices,
//! nothing wrong is told, and the agent goes on.
use std::collections::BTreeSet;
use std::fs;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Result, ensure};
use tests::agent::{Agent, Finding};
use tests::bed::{Bed, Host};
use tests::client::{self, Connection};
use tests::edge::Edge;
use tests::metrics::Page;
use tests::nginx::{Fault, Listener};
use tests::process::signal;
use tests::wait;
use tests::world::World;

const EXCHANGES: &str = "ingress_trace_upstream_exchanges_total";
const FAILURES: &str = "ingress_trace_upstream_failures_total";
/// What a refused connect sends: it, its release, the client's 502.
const SAMPLES: u64 = 3;
/// Refused connects whose samples are half as many again as the ring holds.
const STORM: u64 = 5_500;
/// Findings beyond those that wait for stdout, and its pipe.
const UNREAD: u64 = 11_000;

fn lost(page: &Page, stage: &str) -> u64 {
    page.count("ingress_trace_events_lost_total", &[("stage", stage)])
}

/// Refused connects as the agent counts them, as exchanges and as failures.
fn refused(page: &Page) -> (u64, u64) {
    let port = Fault::Refused.port().to_string();
    let labels = [("backend_port", port.as_str())];
    (
        page.count(EXCHANGES, &labels),
        page.count(FAILURES, &labels),
    )
}

/// The client's part of a refused connect.
fn refuse(client: &mut Connection, number: u64) -> Result<()> {
    let answer = client.get(&format!("/refused/{number}"))?;
    assert_eq!(answer.status, Some(502), "request {number}");
    Ok(())
}

/// Each finding is a refused connect that a client of ours saw, and none is told twice.
fn right(found: &[Finding]) {
    let mut paths = BTreeSet::new();
    for one in found {
        let outcome = one.text("/outcome") == "connect_refused" && one.status() == Some(502);
        assert!(outcome && one.text("/client_visible") != "no", "{}", one.0);
        // The one whose answer did not fit has no request.
        let path = one.path();
        let many = path.is_empty() || path == "/refused/after";
        assert!(many || paths.insert(path.to_owned()), "twice: {}", one.0);
    }
}

/// Sends further failures until one is told: then there is room again all the way.
fn recover(world: &World, agent: &Agent) -> Result<()> {
    wait::until("a finding after the storm", client::PATIENCE, || {
        let sent = world.get(Listener::Plain, "/refused/after");
        let told = |one: &Finding| one.path() == "/refused/after";
        let found = agent.findings().iter().any(told);
        (sent.is_err() || found).then_some(sent)
    })??;
    Ok(())
}

#[test]
fn a_ring_that_overflows_loses_as_much_as_it_says_and_no_counts() -> Result<()> {
    let world = World::new()?;
    let agent = world.agent()?;
    signal(agent.id(), libc::SIGSTOP);
    let mut client = Connection::open(&world.bed, world.at(Listener::Plain))?;
    for number in 0..STORM {
        refuse(&mut client, number)?;
    }
    signal(agent.id(), libc::SIGCONT);
    // The ring took whole requests in order, but for the last one that it took.
    let exact = |page: &Page| {
        let lost = lost(page, "ring");
        lost > 0 && refused(page) == (STORM, STORM - lost / SAMPLES)
    };
    agent.metric("all exchanges, and failures short by the loss", exact)?;
    let found = world.others(agent)?;
    right(&found);
    let unclear = |one: &&Finding| one.text("/client_visible") == "unknown";
    assert!(found.iter().filter(unclear).count() <= 1, "{found:#?}");
    Ok(())
}

/// Samples that are lost here and there, while the ring is emptied under load.
#[test]
fn what_is_lost_in_between_makes_nothing_wrong_of_the_rest() -> Result<()> {
    let world = World::new()?;
    let agent = world.agent()?;
    let (sent, end) = (AtomicU64::new(0), AtomicBool::new(false));
    let reached = |many| {
        let enough = || sent.load(Ordering::Relaxed) >= many;
        wait::holds("a storm", client::PATIENCE, enough)
    };
    thread::scope(|scope| {
        let clients: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    let mut client = Connection::open(&world.bed, world.at(Listener::Plain))?;
                    while !end.load(Ordering::Relaxed) {
                        refuse(&mut client, sent.fetch_add(1, Ordering::Relaxed))?;
                    }
                    Ok::<(), anyhow::Error>(())
                })
            })
            .collect();
        signal(agent.id(), libc::SIGSTOP);
        let stormed = reached(STORM);
        signal(agent.id(), libc::SIGCONT);
        // So many again while the agent catches up.
        let stormed = stormed.and_then(|()| reached(2 * STORM));
        end.store(true, Ordering::Relaxed);
        stormed?;
        clients
            .into_iter()
            .try_for_each(|one| one.join().expect("no client panics"))
    })?;
    let sent = sent.into_inner();
    let page = agent.metric("all exchanges", |page| refused(page).0 >= sent)?;
    assert_eq!(refused(&page).0, sent);
    assert!(lost(&page, "ring") > 0, "the ring did not overflow");
    recover(&world, &agent)?;
    right(&world.others(agent)?);
    Ok(())
}

#[test]
fn sockets_without_room_for_state_are_counted_and_carry_on() -> Result<()> {
    let world = World::new()?;
    let agent = world.agent()?;
    world.bed.sysctl(Host::Proxy, "core/optmem_max", "2048")?;
    for _ in 0..50 {
        assert_eq!(world.get(Listener::Plain, "/ok/")?.status, Some(200));
        assert_eq!(world.get(Listener::Plain, "/refused/")?.status, Some(502));
    }
    // Each request has a socket on either side.
    let page = agent.metric("the sockets", |page| lost(page, "storage") >= 200)?;
    assert_eq!(lost(&page, "storage"), 200);
    assert_eq!(page.count(EXCHANGES, &[]), 0);
    world.bed.sysctl(Host::Proxy, "core/optmem_max", "131072")?;
    assert_eq!(world.others(agent)?, vec![]);
    Ok(())
}

/// More backends than the kernel side has room for: a loopback network has as many as one likes.
#[test]
fn backends_without_room_are_counted_without_a_name() -> Result<()> {
    const BACKENDS: u64 = 17_000;
    const PLACES: u64 = 16_384;
    // Other counts need some of them, too.
    const MOST: u64 = PLACES - 100;
    let bed = Bed::new()?;
    let edge = Edge::start(
        &bed,
        "",
        "server { listen 8200;\n\
         location ~ ^/(\\d+)/(\\d+)$ { proxy_pass http://127.1.$1.$2:1; } }",
    )?;
    let agent = Agent::start(bed.folder(), &bed.cgroup(Host::Proxy))?;
    let mut client = Connection::open(&bed, edge.at(8200))?;
    // On a busy machine the kernel has no memory at hand for so many new ones at once; in the end those
    // that have a place are known, and none gets a new one.
    let (mut passes, mut before) = (0, 0);
    let (page, named) = wait::until("a full map", Duration::from_mins(1), || {
        let mut pass = || {
            for number in 0..BACKENDS {
                let path = format!("/{}/{}", number / 256, number % 256);
                let got = client.get(&path)?;
                ensure!(got.status == Some(502), "{path}: {got:?}");
            }
            passes += 1;
            let page = agent.metric("all exchanges", |page| {
                page.count(EXCHANGES, &[]) >= passes * BACKENDS
            })?;
            let named = page.count(EXCHANGES, &[("backend_port", "1")]);
            let new = named - std::mem::replace(&mut before, named);
            Ok((new >= MOST).then_some((page, named)))
        };
        pass().transpose()
    })??;
    let nameless = page.count(EXCHANGES, &[("controller", "unknown")]);
    assert_eq!(named + nameless, passes * BACKENDS);
    assert_eq!(lost(&page, "aggregate"), nameless);
    assert!(nameless >= BACKENDS - PLACES, "the map did not fill up");
    agent.stop().map(drop)
}

/// More ports than there are series for: what is told of all of them stays exact.
#[test]
fn backends_without_a_series_are_counted_without_a_name() -> Result<()> {
    const PORTS: u64 = 4300;
    const SERIES: u64 = 4096;
    let bed = Bed::new()?;
    let edge = Edge::start(
        &bed,
        "",
        "server { listen 8200; location ~ ^/(\\d+)$ { proxy_pass http://127.0.0.1:$1; } }",
    )?;
    let agent = Agent::start(bed.folder(), &bed.cgroup(Host::Proxy))?;
    let mut client = Connection::open(&bed, edge.at(8200))?;
    for port in 10_000..10_000 + PORTS {
        assert_eq!(client.get(&format!("/{port}"))?.status, Some(502), "{port}");
    }
    let page = agent.metric("all failures", |page| {
        page.count(FAILURES, &[]) + lost(page, "ring") >= PORTS
    })?;
    assert_eq!(page.count(EXCHANGES, &[]), PORTS);
    // So many new backends at once are more than the kernel has memory at hand for on a busy machine:
    // those are counted without a backend there.
    let nameless = page.count(EXCHANGES, &[("backend_port", "")]);
    let most = PORTS - SERIES + lost(&page, "aggregate");
    assert!((PORTS - SERIES..=most).contains(&nameless), "{nameless}");
    assert_eq!(page.count(FAILURES, &[("backend_port", "10000")]), 1);
    agent.stop().map(drop)
}

#[test]
fn findings_that_nobody_reads_are_missing_on_stdout_only() -> Result<()> {
    let world = World::new()?;
    let agent = world.agent()?;
    let page = agent.unread(|| {
        let mut client = Connection::open(&world.bed, world.at(Listener::Plain))?;
        for number in 0..UNREAD {
            refuse(&mut client, number)?;
        }
        agent.metric("every failure", |page| refused(page).1 >= UNREAD)
    })?;
    assert_eq!(refused(&page), (UNREAD, UNREAD));
    // Losses reach the metrics a second later.
    let told = || agent.findings().len() as u64;
    let page = agent.metric("all that waited", |page| {
        told() == UNREAD - lost(page, "output")
    })?;
    let dropped = lost(&page, "output");
    assert!(dropped > 0, "stdout took everything");
    let found = world.others(agent)?;
    right(&found);
    assert_eq!(found.len() as u64, UNREAD - dropped);
    Ok(())
}

#[test]
fn a_pod_with_too_many_cgroups_is_watched_from_now_on() -> Result<()> {
    let world = World::new()?;
    for number in 0..4200 {
        fs::create_dir(world.cgroup().join(format!("part-{number}")))?;
    }
    let agent = world.agent()?;
    let told = agent.errors();
    assert!(
        told.contains("failed to adopt existing connections"),
        "{told}"
    );
    assert_eq!(world.get(Listener::Plain, "/ok/")?.status, Some(200));
    assert_eq!(world.others(agent)?, vec![]);
    Ok(())
}
