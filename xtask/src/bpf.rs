//! Finds what compiles the eBPF programs: a compiler with `core` for bpfel-unknown-none, and
//! bpf-linker. Comes in: this machine; goes out: paths, or the command that installs the missing
//! piece. Shared by `ingress-trace/build.rs` and xtask (std only); must not install anything.

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

#[path = "cache.rs"]
pub mod cache;

/// The bpf-linker that setup builds.
pub const LINKER_VERSION: &str = "0.13.0";
/// LLVM that bpf-linker is built against; not older than the compiler's own.
pub const LLVM: &str = "22";
/// Debian's packages with a compiler and the prebuilt `core`.
pub const DEBIAN_PACKAGES: [&str; 3] = ["rustc-web", "cargo-web", "libstd-rust-web-dev-bpf"];

const TARGET: &str = "bpfel-unknown-none";

/// A way to compile for bpfel-unknown-none.
#[derive(Debug, PartialEq, Eq)]
pub enum Compiler {
    /// Debian's rustc-web with its prebuilt `core`.
    Debian,
    /// A nightly toolchain with rust-src, run by the `rustup` at this path.
    Nightly(PathBuf),
}

impl Compiler {
    /// Debian's where its bpf `core` is installed, else rustup's nightly with rust-src.
    pub fn find() -> Option<Self> {
        let core = Path::new("/usr/lib/rustlib").join(TARGET).join("lib");
        let debian = ["/usr/bin/rustc", "/usr/bin/cargo"];
        if core.is_dir() && debian.iter().all(|tool| Path::new(tool).exists()) {
            return Some(Self::Debian);
        }
        let rustup = executable("rustup")?;
        nightly_has_core(&rustup).then_some(Self::Nightly(rustup))
    }

    /// `cargo build` for bpfel-unknown-none, free of the environment of the cargo that calls us.
    pub fn cargo_build(&self, linker: &Path) -> Command {
        let mut cargo = match self {
            Self::Debian => {
                let mut cargo = Command::new("/usr/bin/cargo");
                clear_cargo_environment(&mut cargo);
                // `core` is prebuilt, but the target is still an unstable one.
                cargo
                    .env("RUSTC", "/usr/bin/rustc")
                    .env("RUSTC_BOOTSTRAP", "1");
                cargo.args(["build", "--target", TARGET]);
                cargo
            }
            Self::Nightly(rustup) => {
                let mut cargo = Command::new(rustup);
                clear_cargo_environment(&mut cargo);
                cargo.args(["run", "nightly", "cargo", "build", "--target", TARGET]);
                cargo.args(["-Z", "build-std=core"]);
                cargo
            }
        };
        let flags = [
            format!("-Clinker={}", linker.display()),
            "-Cdebuginfo=2".to_owned(),
            "-Clink-arg=--btf".to_owned(),
        ];
        cargo.env("CARGO_ENCODED_RUSTFLAGS", flags.join("\u{1f}"));
        cargo
    }
}

/// What to say when [`Compiler::find`] finds nothing.
pub fn compiler_missing() -> String {
    format!(
        "no compiler for {TARGET}; install one of\n  \
         apt-get install {}\n  \
         rustup toolchain install nightly --component rust-src",
        DEBIAN_PACKAGES.join(" ")
    )
}

/// bpf-linker on PATH, in cargo's bin folder, or where setup has put it; one that starts.
pub fn linker() -> Option<PathBuf> {
    let tools = cache::folder().map(|dir| dir.join("bin/bpf-linker"));
    let found = executables("bpf-linker").chain(tools.filter(|path| path.is_file()));
    // It is linked to a shared LLVM that may have been removed since.
    found
        .into_iter()
        .find(|path| quiet(Command::new(path).arg("--version")))
}

/// What to say when [`linker`] finds nothing.
pub fn linker_missing() -> String {
    format!(
        "bpf-linker is missing; `./dev setup` builds it, or by hand:\n  \
         apt-get install llvm-{LLVM}-dev g++\n  \
         PATH=/usr/lib/llvm-{LLVM}/bin:$PATH cargo install --locked bpf-linker \
         --version {LINKER_VERSION} --no-default-features --features llvm-{LLVM}"
    )
}

/// The first file called `name` on PATH, in cargo's bin folder or in the sbin folders.
pub fn executable(name: &str) -> Option<PathBuf> {
    executables(name).next()
}

fn executables(name: &str) -> impl Iterator<Item = PathBuf> + use<> {
    let path = env::var_os("PATH").unwrap_or_default();
    let cargo = env::var_os("CARGO_HOME").map(PathBuf::from);
    let cargo = cargo.or_else(|| Some(cache::home()?.join(".cargo")));
    let mut folders: Vec<PathBuf> = env::split_paths(&path).collect();
    folders.extend(cargo.map(|dir| dir.join("bin")));
    // A login without them on PATH is common, and root's tools are there.
    folders.extend(["/usr/sbin", "/sbin"].map(PathBuf::from));
    let name = name.to_owned();
    folders
        .into_iter()
        .map(move |dir| dir.join(&name))
        .filter(|path| path.is_file())
}

fn nightly_has_core(rustup: &Path) -> bool {
    let mut rustc = Command::new(rustup);
    clear_cargo_environment(&mut rustc);
    let output = rustc
        .args(["run", "nightly", "rustc", "--print", "sysroot"])
        .output();
    let Ok(output) = output else { return false };
    let sysroot = String::from_utf8_lossy(&output.stdout);
    let source = "lib/rustlib/src/rust/library/core/Cargo.toml";
    output.status.success() && Path::new(sysroot.trim()).join(source).is_file()
}

/// Takes away what the calling cargo or rustup says to its children: it is meant for the host's
/// toolchain and would, for example, run clippy's wrapper or the wrong target folder here.
fn clear_cargo_environment(command: &mut Command) {
    const KEPT: [&str; 6] = [
        "CARGO_HOME",
        "CARGO_HTTP_",
        "CARGO_NET_",
        "CARGO_BUILD_JOBS",
        "CARGO_REGISTRIES_",
        "CARGO_TERM_",
    ];
    const RUST: [&str; 6] = [
        "RUSTC",
        "RUSTDOC",
        "RUSTFLAGS",
        "RUSTC_WRAPPER",
        "RUSTC_WORKSPACE_WRAPPER",
        "RUSTUP_TOOLCHAIN",
    ];
    for (name, _) in env::vars_os() {
        let Some(name) = name.to_str() else { continue };
        let cargo = name == "CARGO" || name.starts_with("CARGO_");
        let kept = KEPT.iter().any(|kept| name.starts_with(kept));
        if (cargo && !kept) || RUST.contains(&name) {
            command.env_remove(name);
        }
    }
}

fn quiet(command: &mut Command) -> bool {
    let status = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    status.is_ok_and(|status| status.success())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_compiler_is_told_to_emit_btf_through_the_given_linker() {
        let cargo = Compiler::Debian.cargo_build(Path::new("/x/bpf-linker"));
        let flags = cargo
            .get_envs()
            .find(|(name, _)| *name == "CARGO_ENCODED_RUSTFLAGS");
        let flags = flags
            .and_then(|(_, value)| value)
            .unwrap()
            .to_str()
            .unwrap();
        assert_eq!(
            flags.split('\u{1f}').collect::<Vec<_>>(),
            [
                "-Clinker=/x/bpf-linker",
                "-Cdebuginfo=2",
                "-Clink-arg=--btf"
            ]
        );
    }

    #[test]
    fn the_environment_of_the_calling_cargo_does_not_leak_in() {
        // Cargo sets these for every test it runs.
        assert!(env::var_os("CARGO_MANIFEST_DIR").is_some());
        let mut command = Command::new("true");
        clear_cargo_environment(&mut command);
        let removed = |name: &str| command.get_envs().any(|(k, v)| k == name && v.is_none());
        assert!(removed("CARGO_MANIFEST_DIR"));
        assert!(removed("CARGO"));
        assert!(!removed("CARGO_HOME"));
    }

    #[test]
    fn what_is_missing_is_named_with_the_command_that_installs_it() {
        assert!(compiler_missing().contains("apt-get install rustc-web cargo-web"));
        assert!(compiler_missing().contains("--component rust-src"));
        assert!(linker_missing().contains("cargo install --locked bpf-linker --version 0.13.0"));
    }
}
