//! Compiles the eBPF crate for bpfel-unknown-none; goes out: `OUT_DIR/ingress-trace.bpf.o`, for
//! `include_bytes_aligned!`. Must not install anything: what is missing is named, with the
//! command that installs it.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::{env, fs};

// The same rules as `cargo xtask setup`, so that the two cannot disagree.
#[path = "../xtask/src/bpf.rs"]
#[allow(dead_code, reason = "xtask uses the rest")]
mod bpf;

/// What the object is made of, relative to this crate; and how it is made.
const SOURCES: [&str; 8] = [
    "build.rs",
    "../xtask/src/bpf.rs",
    "../xtask/src/cache.rs",
    "../Cargo.toml",
    "../ingress-trace-ebpf/Cargo.toml",
    "../ingress-trace-ebpf/src",
    "../ingress-trace-common/Cargo.toml",
    "../ingress-trace-common/src",
];

fn main() -> ExitCode {
    for source in SOURCES {
        println!("cargo::rerun-if-changed={source}");
    }
    match build() {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            for line in message.lines() {
                println!("cargo::error={line}");
            }
            ExitCode::FAILURE
        }
    }
}

fn build() -> Result<(), String> {
    let compiler = bpf::Compiler::find().ok_or_else(bpf::compiler_missing)?;
    let linker = bpf::linker().ok_or_else(bpf::linker_missing)?;
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    let target = out.join("bpf");
    // Asked now, not when this was compiled: a copied target folder would build its old place.
    let manifest = env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets CARGO_MANIFEST_DIR");
    let workspace = Path::new(&manifest).join("..");

    let mut cargo = compiler.cargo_build(&linker);
    cargo
        .current_dir(workspace)
        .arg("--target-dir")
        .arg(&target);
    cargo.args([
        "--release",
        "--package",
        "ingress-trace-ebpf",
        "--color",
        "never",
    ]);
    let output = cargo
        .output()
        .map_err(|error| format!("failed to run {cargo:?}: {error}"))?;
    if !output.status.success() {
        // Only a failing build script's output is shown, and there it belongs in full.
        let log = String::from_utf8_lossy(&output.stderr);
        return Err(format!("failed to compile the eBPF programs\n{log}"));
    }

    let built = target.join("bpfel-unknown-none/release/ingress-trace");
    let object = out.join("ingress-trace.bpf.o");
    fs::copy(&built, &object)
        .map_err(|error| format!("failed to copy {}: {error}", built.display()))?;
    Ok(())
}
