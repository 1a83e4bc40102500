//! Bad input: one clear line on stderr that names the remedy, the right exit code, nothing on
//! stdout, nothing left in the kernel.
use std::net::TcpListener;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};
use tests::agent::program;
use tests::bed::{Bed, Host};
use tests::kernel::Loaded;
use tests::wait;

fn run(arguments: &[&str]) -> Result<Output> {
    let mut command = Command::new(program()?);
    command.args(arguments).stdin(Stdio::null());
    command.output().context("failed to run the agent")
}

/// Runs it and wants this exit code, `says` on stderr, and nothing of it in the kernel.
fn refuses(arguments: &[&str], code: i32, says: &[&str]) -> Result<()> {
    let before = Loaded::now()?;
    let output = run(arguments)?;
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {told}");
    assert!(output.stdout.is_empty(), "{arguments:?} wrote to stdout");
    for word in says {
        assert!(
            told.contains(word),
            "{arguments:?} does not say {word}: {told}"
        );
    }
    if code == 1 {
        assert_eq!(
            told.trim().lines().count(),
            1,
            "{arguments:?}: one line, not: {told}"
        );
    }
    assert!(!told.contains("panicked"), "{told}");
    // The kernel frees programs a grace period after their last reference.
    wait::holds("nothing left loaded", Duration::from_secs(10), || {
        Loaded::now().is_ok_and(|now| now.adds_nothing_to(&before))
    })
}

#[test]
fn a_wrong_command_line_exits_with_2() -> Result<()> {
    refuses(&["run", "--no-such-flag"], 2, &["--no-such-flag"])?;
    refuses(
        &["run", "--no-kube", "--controller", "apache", "--pid", "1"],
        2,
        &["apache", "nginx"],
    )?;
    refuses(&["run", "--no-kube", "--pid", "many"], 2, &["many"])?;
    refuses(
        &["run", "--no-kube", "--listen", "nowhere"],
        2,
        &["nowhere"],
    )?;
    refuses(&["run", "--no-kube", "--duration", "soon"], 2, &["soon"])?;
    refuses(&["dance"], 2, &["dance"])
}

#[test]
fn a_process_that_is_gone_is_named() -> Result<()> {
    let mut child = Command::new("true").spawn().context("failed to run true")?;
    let pid = child.id().to_string();
    child.wait().context("failed to wait")?;
    refuses(&["run", "--no-kube", "--pid", &pid], 1, &[&pid])
}

#[test]
fn a_path_that_is_no_cgroup_is_named() -> Result<()> {
    refuses(
        &["run", "--no-kube", "--cgroup", "/no/such/cgroup"],
        1,
        &["/no/such/cgroup"],
    )?;
    refuses(&["run", "--no-kube", "--cgroup", "/tmp"], 1, &["/tmp"])
}

#[test]
fn an_address_in_use_is_named() -> Result<()> {
    let bed = Bed::new()?;
    let listener = TcpListener::bind("127.0.0.1:0").context("failed to listen")?;
    let taken = listener
        .local_addr()
        .context("failed to listen")?
        .to_string();
    let cgroup = bed.cgroup(Host::Proxy).display().to_string();
    let arguments = [
        "run",
        "--no-kube",
        "--cgroup",
        &cgroup,
        "--controller",
        "nginx",
        "--listen",
        &taken,
    ];
    refuses(&arguments, 1, &[&taken])
}

/// Runs the agent through util-linux' setpriv, which exists on every Debian.
fn refuses_with(privileges: &[&str], says: &[&str]) -> Result<()> {
    let bed = Bed::new()?;
    // The program's folder may be closed to others: run a copy from the bed's own.
    let copy = bed.folder().join("ingress-trace");
    std::fs::copy(program()?, &copy).context("failed to copy the agent")?;
    let cgroup = bed.cgroup(Host::Proxy).display().to_string();
    let mut command = Command::new("setpriv");
    command.args(privileges).arg(copy);
    command.args([
        "run",
        "--no-kube",
        "--controller",
        "nginx",
        "--cgroup",
        &cgroup,
    ]);
    let output = command.output().context("failed to run setpriv")?;
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert_eq!(told.trim().lines().count(), 1, "one line, not: {told}");
    for word in says {
        assert!(told.contains(word), "does not say {word}: {told}");
    }
    Ok(())
}

#[test]
fn a_user_without_rights_is_told_so() -> Result<()> {
    refuses_with(
        &["--reuid=65534", "--regid=65534", "--clear-groups"],
        &["root"],
    )
}

#[test]
fn a_missing_capability_is_named() -> Result<()> {
    refuses_with(&["--bounding-set=-bpf,-sys_admin"], &["CAP_"])
}

/// Runs the agent in a mount namespace of its own, changed by this shell line.
fn refuses_after(change: &str, says: &[&str]) -> Result<()> {
    let bed = Bed::new()?;
    let cgroup = bed.cgroup(Host::Proxy).display().to_string();
    let pid = std::process::id().to_string();
    // Whichever of the two is still there to be named.
    let target = if change.contains("btf") {
        ["--cgroup", &cgroup]
    } else {
        ["--pid", &pid]
    };
    let mut command = Command::new("unshare");
    command.args([
        "--mount",
        "sh",
        "-c",
        &format!("{change} && exec \"$0\" \"$@\""),
    ]);
    command
        .arg(program()?)
        .args(["run", "--no-kube", "--controller", "nginx"])
        .args(target);
    let output = command.output().context("failed to run unshare")?;
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert_eq!(told.trim().lines().count(), 1, "one line, not: {told}");
    for word in says {
        assert!(told.contains(word), "does not say {word}: {told}");
    }
    Ok(())
}

#[test]
fn a_kernel_without_btf_is_told_so() -> Result<()> {
    refuses_after("mount -t tmpfs none /sys/kernel/btf", &["BTF"])
}

#[test]
fn a_machine_without_cgroup_v2_is_told_so() -> Result<()> {
    let mount = tests::cgroup::mount()?;
    refuses_after(&format!("umount -l {}", mount.display()), &["cgroup v2"])
}
