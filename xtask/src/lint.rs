//! Formatting and lints of every crate: comes in the tree, goes out nothing, or the first
//! complaint. Must not change a file.

use anyhow::{Result, bail};

use crate::bpf;
use crate::setup;
use crate::step::{cargo, run, step};

/// rustfmt, clippy with warnings denied, cargo-deny.
pub fn lint() -> Result<()> {
    setup::build_tools()?;
    require("cargo-fmt", "Debian's rustfmt-web has it, rustup too")?;
    require(
        "cargo-clippy",
        "it comes with rustup; Debian has no package of it",
    )?;
    step("checking the format", || {
        run(cargo().args(["fmt", "--all", "--check"]))
    })?;
    step("clippy", || {
        let mut clippy = cargo();
        clippy.args(["clippy", "--workspace", "--exclude", "ingress-trace-ebpf"]);
        clippy.args(["--features", "tests/bench"]);
        run(clippy.args(["--all-targets", "--", "--deny", "warnings"]))
    })?;
    step("clippy on the eBPF programs", || {
        let mut clippy = cargo();
        // Checked, not linked: the host's target will do, where clippy has a `core`. The crate
        // uses unstable features, and a panic handler without unwinding.
        clippy
            .env("RUSTC_BOOTSTRAP", "1")
            .env("CARGO_PROFILE_DEV_PANIC", "abort");
        clippy.args([
            "clippy",
            "--package",
            "ingress-trace-ebpf",
            "--",
            "--deny",
            "warnings",
        ]);
        run(&mut clippy)
    })?;
    if bpf::executable("cargo-deny").is_none() {
        eprintln!("==> cargo-deny: SKIPPED, not installed (cargo install --locked cargo-deny)");
        return Ok(());
    }
    step("cargo-deny", || {
        run(cargo().args(["deny", "--workspace", "check"]))
    })
}

fn require(tool: &str, source: &str) -> Result<()> {
    if bpf::executable(tool).is_none() {
        bail!("{tool} is missing: {source}");
    }
    Ok(())
}
