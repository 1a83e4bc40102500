//! The demo: a real nginx before real backends that fail in different ways, a small Kubernetes API
//! that has names for them, the agent's `watch` on it, at the end the breakdown by cause and the metrics. Ends by itself (`demo [SECONDS]`) or
//! with Ctrl-C; all traffic stays in its own namespaces, and it removes all it made.
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tests::agent::{Agent, program};
use tests::kubeconfig::User;
use tests::process::Process;
use tests::shop;
use tests::world::World;

mod report;
mod traffic;

static STOP: AtomicBool = AtomicBool::new(false);

extern "C" fn stop(_: libc::c_int) {
    STOP.store(true, Ordering::Relaxed);
}

fn main() -> Result<()> {
    let time = match std::env::args().nth(1).map(|word| word.parse()) {
        None => 20,
        Some(Ok(seconds)) => seconds,
        Some(Err(_)) => bail!("failed to read SECONDS: usage: demo [SECONDS]"),
    };
    for signal in [libc::SIGINT, libc::SIGTERM] {
        let handler: extern "C" fn(libc::c_int) = stop;
        // SAFETY: the handler only stores to an atomic, which is async-signal-safe.
        unsafe { libc::signal(signal, handler as libc::sighandler_t) };
    }
    run(Duration::from_secs(time))
}

fn run(time: Duration) -> Result<()> {
    println!("building: a client, an nginx and its backends, each in a namespace and a cgroup");
    let world = World::new()?;
    let api = shop::api().context("failed to start the API")?;
    let config = api.kubeconfig(world.bed.folder(), &User::Nobody)?;
    let (config, cgroup) = (
        config.display().to_string(),
        world.cgroup().display().to_string(),
    );
    let kube = ["--kubeconfig", &config, "--node", shop::NODE];
    let target = ["--controller", "nginx", "--cgroup", &cgroup];
    let arguments = [kube, target].concat();
    let agent = Agent::start_with(world.bed.folder(), &arguments);
    let agent = agent.context("failed to start the agent")?;
    let mut watch = watch(&arguments)?;
    println!(
        "{} s of traffic; findings as they come (Ctrl-C ends it):\n",
        time.as_secs()
    );
    let sent = drive(&world, time);
    // Its open verdicts come first; a person has seen all that the report counts.
    watch.signal(libc::SIGINT);
    watch
        .wait(Duration::from_secs(10))
        .context("failed to end watch")?;
    report::print(&world, &agent, &sent)?;
    agent.stop().map(drop)
}

/// `ingress-trace watch` on this terminal.
fn watch(arguments: &[&str]) -> Result<Process> {
    let mut command = Command::new(program()?);
    command.arg("watch").args(arguments).stdin(Stdio::null());
    Process::start(&mut command).context("failed to start watch")
}

/// Both kinds of traffic beside each other until the time is over.
fn drive(world: &World, time: Duration) -> traffic::Sent {
    let deadline = Instant::now() + time;
    let go = || !STOP.load(Ordering::Relaxed) && Instant::now() < deadline;
    thread::scope(|scope| {
        let healthy = scope.spawn(|| traffic::healthy(world, go));
        let mut sent = traffic::failing(world, go);
        if let Ok(more) = healthy.join() {
            sent.add(&more);
        }
        sent
    })
}
