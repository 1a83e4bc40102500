//! build, run, demo, test and bench: comes in a task, goes out what cargo, the agent or the tests
//! make of it. Must not know what is built, tested or measured.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

use crate::setup;
use crate::step::{cargo, run as run_command, step, target_dir};

/// Where tests and demo find the agent.
const AGENT: &str = "INGRESS_TRACE_BIN";

/// Builds the agent for release.
pub fn build() -> Result<()> {
    step("building ingress-trace", || {
        run_command(cargo().args(["build", "--release", "--package", "ingress-trace"]))
    })
}

/// Builds the agent and becomes it.
pub fn run(args: &[OsString]) -> Result<()> {
    setup::build_tools()?;
    build()?;
    become_command(Command::new(agent()?).args(args))
}

/// Sets up, builds, and becomes the demo.
pub fn demo() -> Result<()> {
    setup::tools()?;
    build()?;
    step("building the demo", || {
        // All of them: the demo starts others of its crate.
        run_command(cargo().args(["build", "--package", "tests", "--bins"]))
    })?;
    let mut demo = Command::new(target_dir()?.join("debug/demo"));
    become_command(demo.env(AGENT, agent()?))
}

/// Sets up, builds, and becomes the benchmark.
pub fn bench(quick: bool, pairs: Option<u32>, only: &[String]) -> Result<()> {
    setup::tools()?;
    build()?;
    step("building the benchmark", || {
        let mut build = cargo();
        build.args(["build", "--release", "--package", "tests"]);
        run_command(build.args(["--features", "bench", "--bin", "bench"]))
    })?;
    let mut bench = Command::new(target_dir()?.join("release/bench"));
    if quick {
        bench.arg("--quick");
    }
    if let Some(pairs) = pairs {
        bench.arg("--pairs").arg(pairs.to_string());
    }
    for part in only {
        bench.arg("--only").arg(part);
    }
    become_command(bench.env(AGENT, agent()?))
}

/// The tests that need neither root nor a kernel.
pub fn test_quick() -> Result<()> {
    setup::build_tools()?;
    step("testing without a kernel", || {
        let mut test = cargo();
        test.args(["test", "--lib", "--bins", "--test", "purity"]);
        test.args(["--package", "ingress-trace-common"]);
        run_command(test.args(["--package", "ingress-trace", "--package", "xtask"]))
    })
}

/// All tests.
pub fn test() -> Result<()> {
    setup::everything()?;
    build()?;
    test_quick()?;
    step("testing with an API server", || {
        let mut test = cargo();
        test.args(["test", "--package", "ingress-trace"]);
        run_command(test.args(["--test", "cluster", "--test", "fixes"]))
    })?;
    step("testing on this kernel", || {
        let mut test = cargo();
        test.args(["test", "--no-fail-fast", "--package", "tests"]);
        test.args(["--features", "bench"]);
        // One at a time: each has its own namespaces and cgroups, but all share the processors.
        test.args(["--", "--test-threads=1"]);
        run_command(test.env(AGENT, agent()?))
    })
}

fn agent() -> Result<PathBuf> {
    Ok(target_dir()?.join("release/ingress-trace"))
}

/// Replaces this process, so that signals and the exit code are the command's own.
fn become_command(command: &mut Command) -> Result<()> {
    let error = command.exec();
    Err(error).with_context(|| format!("failed to start {}", command.get_program().display()))
}
