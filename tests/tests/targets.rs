//! What the agent watches: a process, a cgroup, or whatever data plane it finds on the machine;
//! and the options that change what it reads and prints.
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};
use tests::agent::{Agent, VERDICT, program};
use tests::bed::Host;
use tests::client;
use tests::nginx::{Listener, Nginx, Options};
use tests::process::Process;
use tests::wait;
use tests::world::World;

/// Fails one request at this host and waits for its finding.
fn is_watched(world: &World, agent: &Agent, host: Host, path: &str) -> Result<()> {
    let answer = client::get(&world.bed, Listener::Plain.of(host), path)?;
    assert_eq!(answer.status, Some(502));
    agent
        .finding(path, |finding| finding.path() == path)
        .map(drop)
}

#[test]
fn a_process_names_its_pod() -> Result<()> {
    let world = World::new()?;
    let pid = world.nginx.id().to_string();
    let arguments = ["--no-kube", "--controller", "nginx", "--pid", &pid];
    let agent = Agent::start_with(world.bed.folder(), &arguments)?;
    is_watched(&world, &agent, Host::Proxy, "/refused/by-pid")?;
    agent.stop().map(drop)
}

#[test]
fn a_data_plane_is_found_and_recognised_without_being_named() -> Result<()> {
    let world = World::new()?;
    let agent = Agent::start_with(world.bed.folder(), &["--no-kube"])?;
    is_watched(&world, &agent, Host::Proxy, "/refused/found")?;
    let finding = agent.finding("its controller", |finding| {
        finding.path() == "/refused/found"
    })?;
    assert_eq!(finding.text("/controller"), "nginx");
    agent.stop().map(drop)
}

#[test]
fn a_data_plane_that_comes_later_is_followed() -> Result<()> {
    let world = World::new()?;
    let agent = Agent::start_with(world.bed.folder(), &["--no-kube"])?;
    is_watched(&world, &agent, Host::Proxy, "/refused/first")?;
    let before = pods(&agent)?;
    let second = Nginx::start(&world.bed, Host::SecondProxy, Options::default())?;
    agent.metric("one more pod", |page| {
        page.count("ingress_trace_ingress_pods", &[]) > before
    })?;
    is_watched(&world, &agent, Host::SecondProxy, "/refused/second")?;
    drop(second);
    agent.metric("one pod less", |page| {
        page.count("ingress_trace_ingress_pods", &[]) <= before
    })?;
    is_watched(&world, &agent, Host::Proxy, "/refused/third")?;
    agent.stop().map(drop)
}

fn pods(agent: &Agent) -> Result<u64> {
    Ok(agent.metrics()?.count("ingress_trace_ingress_pods", &[]))
}

#[test]
fn without_http_no_payload_is_read_and_connections_still_tell() -> Result<()> {
    let world = World::new()?;
    let cgroup = world.cgroup().display().to_string();
    let arguments = [
        "--no-kube",
        "--controller",
        "nginx",
        "--cgroup",
        &cgroup,
        "--no-http",
    ];
    let agent = Agent::start_with(world.bed.folder(), &arguments)?;
    assert_eq!(
        world.get(Listener::Plain, "/refused/secret")?.status,
        Some(502)
    );
    let finding = agent.finding("the refusal", |finding| {
        finding.text("/outcome") == "connect_refused"
    })?;
    assert_eq!(finding.0.get("request"), None);
    assert_ne!(finding.text("/status_source"), "observed");
    agent.stop().map(drop)
}

#[test]
fn no_query_ever_leaves_the_kernel_side() -> Result<()> {
    let world = World::new()?;
    let agent = world.agent()?;
    for path in [
        "/refused/?token=hunter2",
        "/reset-request/x?token=hunter2",
        "/none/?token=hunter2",
    ] {
        world.get(Listener::Plain, path)?;
    }
    let findings = world.others(agent)?;
    assert_eq!(findings.len(), 3, "{findings:#?}");
    assert!(
        findings
            .iter()
            .all(|finding| !finding.0.to_string().contains("hunter2"))
    );
    Ok(())
}

#[test]
fn watch_ends_by_itself_and_prints_a_line_a_person_can_read() -> Result<()> {
    let world = World::new()?;
    let mut command = Command::new(program()?);
    command.args([
        "watch",
        "--no-kube",
        "--controller",
        "nginx",
        "--duration",
        "3s",
        "--cgroup",
    ]);
    command
        .arg(world.cgroup())
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    let mut watch = Process::start(&mut command)?;
    let mut out = watch
        .child()
        .stdout
        .take()
        .context("failed to open its output")?;
    let reader = std::thread::spawn(move || {
        let mut text = String::new();
        std::io::Read::read_to_string(&mut out, &mut text).map(|_| text)
    });
    // Nothing tells when watch is attached: ask until it ends.
    let deadline = VERDICT + Duration::from_secs(3);
    wait::holds("watch's end", deadline, || {
        let asked = world.get(Listener::Plain, "/refused/cart").is_ok();
        !asked || matches!(watch.child().try_wait(), Ok(Some(_)))
    })?;
    assert!(watch.wait(VERDICT)?.success());
    let text = reader
        .join()
        .expect("the reader does not panic")
        .context("failed to read its output")?;
    for word in ["502", "/refused/cart", "10.77.0.3"] {
        assert!(text.contains(word), "no {word} in: {text}");
    }
    Ok(())
}

#[test]
fn the_http_pages_answer() -> Result<()> {
    let world = World::new()?;
    let agent = world.agent()?;
    world.mark(&agent)?;
    for path in ["/metrics", "/livez", "/readyz", "/findings?limit=1", "/"] {
        assert_eq!(agent.http(path)?.0, 200, "{path}");
    }
    let (_, text) = agent.http("/findings?limit=1")?;
    assert!(text.contains("connect_refused"), "{text}");
    assert_eq!(agent.http("/nothing")?.0, 404);
    agent.stop().map(drop)
}
