//! Counts against independent counts: the load generator's, the backend's and nginx's own logs.
use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Result;
use tests::backends::Behavior as B;
use tests::client::{self, Connection, Leave};
use tests::log::Entry;
use tests::metrics::Page;
use tests::nginx::{Fault, Listener};
use tests::world::World;
use tests::{wait, wrk};

const EXCHANGES: &str = "ingress_trace_upstream_exchanges_total";
const FAILURES: &str = "ingress_trace_upstream_failures_total";
const RESPONSES: &str = "ingress_trace_responses_total";

/// The label that carries a backend's port.
fn at(behavior: B) -> String {
    behavior.port().to_string()
}

#[test]
fn a_known_number_of_exchanges_is_counted_exactly() -> Result<()> {
    let mut world = World::new()?;
    let agent = world.agent()?;
    let mut sent = 0;
    for listener in [
        Listener::Plain,
        Listener::Pooled,
        Listener::V6,
        Listener::Tls,
    ] {
        for _ in 0..4 {
            if listener == Listener::Tls {
                tests::tls::get(&world.bed, world.at(listener), "/ok/")?;
                sent += 1;
                continue;
            }
            let mut client = Connection::open(&world.bed, world.at(listener))?;
            for _ in 0..50 {
                assert_eq!(client.get("/ok/")?.status, Some(200));
                sent += 1;
            }
            client.leave(Leave::Fin)?;
        }
    }
    assert_eq!(world.backends.requests(B::Ok)?, sent);
    let port = at(B::Ok);
    let page = agent.metric("every exchange counted", |page| {
        page.count(EXCHANGES, &[("backend_port", &port)]) >= sent
    })?;
    assert_eq!(page.count(EXCHANGES, &[("backend_port", &port)]), sent);
    // The TLS side's statuses are not on the wire.
    let plain = sent - 4;
    let seen = page.count(RESPONSES, &[("controller", "nginx"), ("status", "200")]);
    assert_eq!(seen, plain);
    for name in ["connect_seconds", "first_byte_seconds"] {
        let name = format!("ingress_trace_upstream_{name}_count");
        assert!(
            page.count(&name, &[("backend_port", &port)]) > 0,
            "{name} is empty"
        );
    }
    assert_eq!(agent.stop()?, vec![]);
    Ok(())
}

#[test]
fn exchanges_under_load_are_the_load_generators() -> Result<()> {
    for (listener, path) in [
        (Listener::Plain, "/ok/"),
        (Listener::Pooled, "/ok/?size=20000"),
    ] {
        counts_a_load(listener, path)?;
    }
    Ok(())
}

/// A world of its own: requests that wrk cut at its end would be counted with the next load.
fn counts_a_load(listener: Listener, path: &str) -> Result<()> {
    let mut world = World::new()?;
    let agent = world.agent()?;
    let port = at(B::Ok);
    let connections = 16;
    let load = wrk::run(
        &world.bed,
        world.at(listener),
        path,
        connections,
        Duration::from_secs(2),
    )?;
    assert!(load.requests > 100, "too little load: {load:?}");
    assert_eq!(load.failed, 0);
    let read = world.backends.requests(B::Ok)?;
    let page = agent.metric(
        "as many exchanges as the backend has read requests",
        |page| page.count(EXCHANGES, &[("backend_port", &port)]) >= read,
    )?;
    let counted = page.count(EXCHANGES, &[("backend_port", &port)]);
    // What wrk cut at its end may or may not have become an exchange.
    let most = load.requests + u64::from(connections);
    assert!(
        (load.requests..=most).contains(&counted),
        "counted {counted}, {load:?}, read {read}"
    );
    assert_eq!(page.count("ingress_trace_events_lost_total", &[]), 0);
    assert_eq!(page.count(FAILURES, &[]), 0, "{:#?}", agent.findings());
    assert_eq!(agent.stop()?, vec![]);
    Ok(())
}

/// Endpoint port -> failed attempts by nginx's log: an attempt that nginx gave up on is logged as
/// 502 or 504; what the application answers so itself has another path here.
fn failed_attempts(log: &[Entry]) -> BTreeMap<String, u64> {
    let mut failed = BTreeMap::new();
    for (peer, status) in log.iter().flat_map(|entry| &entry.attempts) {
        if matches!(status, Some(502 | 504)) {
            let port = peer.rsplit(':').next().unwrap_or_default();
            *failed.entry(port.to_owned()).or_default() += 1;
        }
    }
    failed
}

fn failures(page: &Page, port: &str) -> u64 {
    page.count(FAILURES, &[("backend_port", port)])
}

#[test]
fn failures_and_statuses_are_those_of_nginxs_own_log() -> Result<()> {
    let world = World::new()?;
    let agent = world.agent()?;
    let mut statuses = BTreeMap::<u16, u64>::new();
    let mut requests = 0;
    for round in 0..40 {
        for (listener, path) in [
            (Listener::Plain, "/ok/"),
            (Listener::Plain, "/refused/"),
            (Listener::Plain, "/reset-request/"),
            (Listener::Retry, "/refused/"),
            (Listener::Retry, "/fin-request/"),
            (Listener::Twice, "/reset-head/"),
            (Listener::Pooled, "/ok/"),
        ] {
            let answer = client::get(&world.bed, world.at(listener), &format!("{path}{round}"))?;
            *statuses.entry(answer.status.unwrap_or(0)).or_default() += 1;
            requests += 1;
        }
    }
    wait::holds("nginx's log", client::PATIENCE, || {
        world.nginx.log().is_ok_and(|log| log.len() == requests)
    })?;
    let log = world.nginx.log()?;
    let attempts: usize = log.iter().map(|entry| entry.attempts.len()).sum();
    let expected = failed_attempts(&log);
    let all: u64 = expected.values().sum();
    let page = agent.metric("every failure counted", |page| {
        page.count(FAILURES, &[]) >= all
    })?;
    for (port, count) in &expected {
        assert_eq!(failures(&page, port), *count, "failures on port {port}");
    }
    assert_eq!(page.count(FAILURES, &[]), all);
    let refused = Fault::Refused.port().to_string();
    let hidden = page.count(
        FAILURES,
        &[("backend_port", &refused), ("client_visible", "no")],
    );
    assert_eq!(hidden, 40, "hidden failures");
    assert_eq!(page.count(EXCHANGES, &[]), attempts as u64, "attempts");
    for (status, count) in statuses {
        let seen = page.count(RESPONSES, &[("status", &status.to_string())]);
        assert_eq!(seen, count, "responses with status {status}");
    }
    assert_eq!(
        agent.stop()?.len() as u64,
        all,
        "one finding per failed attempt"
    );
    Ok(())
}

#[test]
fn findings_are_complete_under_a_storm_of_failures() -> Result<()> {
    let mut world = World::new()?;
    let agent = world.agent()?;
    let load = wrk::run(
        &world.bed,
        world.at(Listener::Plain),
        "/reset-request/",
        16,
        Duration::from_secs(2),
    )?;
    assert_eq!(load.failed, load.requests);
    let read = world.backends.requests(B::ResetRequest)?;
    let port = at(B::ResetRequest);
    let page = agent.metric("the storm counted", |page| {
        let lost = page.count("ingress_trace_events_lost_total", &[]);
        failures(page, &port) + lost >= load.requests
    })?;
    let lost = page.count("ingress_trace_events_lost_total", &[]);
    let counted = failures(&page, &port) + lost;
    // An attempt whose client was cut at the end is a client abort.
    assert!(
        (load.requests..=read).contains(&counted),
        "{counted} with {lost} lost, {load:?}, {read}"
    );
    agent.stop().map(drop)
}
