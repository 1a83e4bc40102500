//! The controller's own limits: ports, descriptors and connections that run out inside the
//! ingress pod, which no backend is to blame for.
use anyhow::Result;
use serde_json::json;
use tests::agent::Finding;
use tests::backends::Behavior as B;
use tests::bed::Host;
use tests::client::{self, Connection, request};
use tests::expect::Differences;
use tests::nginx::{Listener, Options};
use tests::wait;
use tests::world::World;

#[test]
fn no_local_port_left_is_the_ingress_pods_own_failure() -> Result<()> {
    let mut world = World::new()?;
    let agent = world.agent()?;
    world
        .bed
        .sysctl(Host::Proxy, "ipv4/ip_local_port_range", "40000 40001")?;
    let mut holders = Vec::new();
    for number in 0..2 {
        let mut holder = Connection::open(&world.bed, world.at(Listener::Plain))?;
        holder.send(request("GET", &format!("/hang/{number}"), "").as_bytes())?;
        holders.push(holder);
    }
    wait::holds("both ports taken", client::PATIENCE, || {
        world
            .backends
            .requests(B::Hang)
            .is_ok_and(|count| count == 2)
    })?;
    let answer = world.get(Listener::Plain, "/hang/third")?;
    assert_eq!(answer.status, Some(502));
    assert!(
        world.nginx.errors()?.contains("(99: Cannot assign"),
        "nginx failed otherwise"
    );
    for holder in &mut holders {
        assert_eq!(holder.answer()?.status, Some(504));
    }
    let findings = world.others(agent)?;
    let mut differences = Differences::default();
    let expected = json!({"outcome": "connect_local", "phase": "connect", "errno": "EADDRNOTAVAIL",
        "cause": "ingress_ports_exhausted", "status": 502, "status_source": "observed",
        "client_visible": "yes", "backend": {"address": "10.77.0.3", "port": B::Hang.port()}});
    let fits = |finding: &Finding| finding.path() == "/hang/third";
    differences.only("third", &findings, fits, &expected);
    differences.check(findings.len() == 3, || format!("number: {findings:#?}"));
    differences.finish("");
    Ok(())
}

/// Fills nginx's one worker until it has nothing left for an upstream socket: its answer is 500.
fn fill(options: Options, said: &str, causes: &[&str]) -> Result<()> {
    let world = World::with(options)?;
    let agent = world.agent()?;
    let (held, path) = client::exhaust(&world.bed, world.at(Listener::Plain), "ok")?;
    assert!(
        world.nginx.errors()?.contains(said),
        "nginx failed otherwise"
    );
    // Still full while the agent looks at the limits.
    let finding = agent.finding("the exhausted worker", |finding| finding.path() == path)?;
    drop(held);
    let mut differences = Differences::default();
    let expected = json!({"outcome": "no_upstream", "status": 500,
        "status_source": "observed", "client_visible": "yes", "backend": null});
    differences.compare("exhausted", &finding, &expected);
    let cause = finding.text("/cause");
    differences.check(causes.contains(&cause), || {
        format!("cause {cause}: {}", finding.0)
    });
    differences.finish(&world.nginx.errors()?);
    agent.stop().map(drop)
}

#[test]
fn no_descriptor_left_is_the_ingress_pods_own_failure() -> Result<()> {
    let options = Options {
        workers: 1,
        descriptors: 80,
        ..Options::default()
    };
    fill(
        options,
        "(24: Too many open files)",
        &["ingress_fds_exhausted"],
    )
}

#[test]
fn no_worker_connection_left_is_the_ingress_pods_own_failure() -> Result<()> {
    let options = Options {
        workers: 1,
        connections: 60,
        ..Options::default()
    };
    // Its limit stands in its configuration only: not to know is allowed, to be wrong is not.
    fill(
        options,
        "worker_connections are not enough",
        &["ingress_fds_exhausted", "unknown"],
    )
}
