//! The agent's life: connections older than it, restarts, two pods, and that nothing of it stays
//! in the kernel however it ends.
use std::time::Duration;

use anyhow::Result;
use serde_json::json;
use tests::agent::Agent;
use tests::bed::Host;
use tests::client::{self, Connection};
use tests::expect::Differences;
use tests::kernel::Loaded;
use tests::nginx::{Listener, Nginx, Options};
use tests::wait;
use tests::world::World;

#[test]
fn keepalive_connections_older_than_the_agent_are_adopted() -> Result<()> {
    let world = World::new()?;
    let mut pooled = Connection::open(&world.bed, world.at(Listener::Pooled))?;
    // Both legs are warm: one pooled connection to each backend port.
    for path in ["/ok/old", "/reset-second/old", "/race/old"] {
        assert_eq!(pooled.get(path)?.status, Some(200));
    }
    let agent = world.agent()?;
    assert_eq!(pooled.get("/ok/adopted")?.status, Some(200));
    assert_eq!(pooled.get("/reset-second/adopted")?.status, Some(502));
    assert_eq!(pooled.get("/race/adopted")?.status, Some(502));
    let findings = world.others(agent)?;
    let mut differences = Differences::default();
    let expected = json!({"outcome": "reset", "phase": "request", "status": 502, "status_source": "observed",
        "client_visible": "yes"});
    for path in ["/reset-second/adopted", "/race/adopted"] {
        differences.only(path, &findings, |finding| finding.path() == path, &expected);
    }
    differences.check(findings.len() == 2, || format!("number: {findings:#?}"));
    differences.finish("");
    Ok(())
}

#[test]
fn an_exchange_that_was_open_when_the_agent_came_is_no_false_alarm() -> Result<()> {
    let world = World::new()?;
    let mut open = Connection::open(&world.bed, world.at(Listener::Plain))?;
    open.send(client::request("GET", "/ok/open?ms=550", "").as_bytes())?;
    let agent = world.agent()?;
    assert_eq!(open.answer()?.status, Some(200));
    assert_eq!(world.others(agent)?, vec![]);
    Ok(())
}

#[test]
fn a_restarted_agent_goes_on_where_the_first_left() -> Result<()> {
    let world = World::new()?;
    let mut pooled = Connection::open(&world.bed, world.at(Listener::Pooled))?;
    for round in 0..3 {
        let agent = world.agent()?;
        assert_eq!(pooled.get("/ok/")?.status, Some(200));
        let path = format!("/reset-request/{round}");
        assert_eq!(pooled.get(&path)?.status, Some(502));
        agent.finding("the failure", |finding| finding.path() == path)?;
        if round == 1 {
            agent.kill()?;
        } else {
            assert_eq!(agent.stop()?.len(), 1);
        }
    }
    Ok(())
}

#[test]
fn two_pods_are_told_apart() -> Result<()> {
    let world = World::new()?;
    let second = Nginx::start(&world.bed, Host::SecondProxy, Options::default())?;
    let cgroups = [world.cgroup(), world.bed.cgroup(Host::SecondProxy)];
    let [first_cgroup, second_cgroup] = cgroups.each_ref().map(|path| path.display().to_string());
    let arguments = [
        "--no-kube",
        "--controller",
        "nginx",
        "--cgroup",
        &first_cgroup,
        "--cgroup",
        &second_cgroup,
    ];
    let both = Agent::start_with(world.bed.folder(), &arguments)?;
    let only_second = Agent::start(world.bed.folder(), &cgroups[1])?;
    for (host, path) in [
        (Host::Proxy, "/refused/first"),
        (Host::SecondProxy, "/refused/second"),
    ] {
        let answer = client::get(&world.bed, Listener::Plain.of(host), path)?;
        assert_eq!(answer.status, Some(502));
        both.finding(path, |finding| finding.path() == path)?;
    }
    only_second.finding("second", |finding| finding.path() == "/refused/second")?;
    assert_eq!(both.stop()?.len(), 2);
    assert_eq!(only_second.stop()?.len(), 1);
    drop(second);
    Ok(())
}

#[test]
fn nothing_stays_in_the_kernel_however_the_agent_ends() -> Result<()> {
    let world = World::new()?;
    for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGKILL] {
        let agent = world.agent()?;
        let held = Loaded::of(agent.id())?;
        assert!(
            !held.programs.is_empty() && !held.links.is_empty(),
            "{held:?} is not all"
        );
        world.mark(&agent)?;
        if signal == libc::SIGKILL {
            agent.kill()?;
        } else {
            agent.stop_by(signal)?;
        }
        // The kernel frees programs a grace period after their last reference.
        wait::holds(
            "its programs, maps and links gone",
            Duration::from_secs(10),
            || held.is_gone().is_ok_and(|gone| gone),
        )?;
    }
    Ok(())
}

#[test]
fn verdicts_that_are_open_at_the_end_are_given_first() -> Result<()> {
    let world = World::new()?;
    let agent = world.agent()?;
    assert_eq!(
        world.get(Listener::Plain, "/refused/last")?.status,
        Some(502)
    );
    let findings = agent.stop()?;
    assert_eq!(findings.len(), 1, "{findings:#?}");
    assert_eq!(findings[0].path(), "/refused/last");
    Ok(())
}

#[test]
fn a_pod_that_goes_away_does_not_end_the_agent() -> Result<()> {
    let world = World::new()?;
    let agent = world.agent()?;
    world.mark(&agent)?;
    tests::process::signal(world.nginx.id(), libc::SIGTERM);
    wait::holds("nginx gone", Duration::from_secs(10), || {
        tests::cgroup::processes(&world.cgroup()).is_empty()
    })?;
    assert_eq!(agent.http("/livez")?.0, 200);
    let again = Nginx::start(&world.bed, Host::Proxy, Options::default())?;
    world.mark(&agent)?;
    agent.stop()?;
    drop(again);
    Ok(())
}
