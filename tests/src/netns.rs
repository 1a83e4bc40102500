//! Named network namespaces: makes, enters and deletes them with iproute2. Must not change the
//! namespace of any thread it did not start.
use std::fs::File;
use std::io::Write;
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::{io, thread};

use anyhow::{Context, Result, bail, ensure};

/// Opens the namespace, for `setns`.
pub fn open(name: &str) -> Result<File> {
    let path = PathBuf::from("/run/netns").join(name);
    File::open(&path).with_context(|| format!("failed to open namespace {}", path.display()))
}

/// Moves the calling thread into the namespace. Async-signal-safe: `pre_exec` uses it.
pub fn enter(namespace: &File) -> io::Result<()> {
    // SAFETY: the descriptor is open for as long as the borrow lasts; setns touches no memory.
    match unsafe { libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWNET) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Runs `work` on a thread of its own inside the namespace. Sockets it returns stay there.
pub fn inside<T: Send>(name: &str, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    let namespace = open(name)?;
    thread::scope(|scope| {
        let worker = scope.spawn(move || {
            enter(&namespace).context("failed to enter namespace")?;
            work()
        });
        worker
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// Runs a batch of `ip` commands, in the namespace if one is named.
pub fn ip(namespace: Option<&str>, batch: &str) -> Result<()> {
    let mut command = Command::new("ip");
    if let Some(name) = namespace {
        command.args(["-n", name]);
    }
    feed(command.args(["-batch", "-"]), batch).context("failed to run ip (package iproute2)")
}

/// Loads nftables rules in the namespace.
pub fn nft(name: &str, rules: &str) -> Result<()> {
    inside(name, || feed(Command::new("nft").args(["-f", "-"]), rules))
        .context("failed to run nft (package nftables)")
}

/// Sets a `net.*` sysctl in the namespace, by its path below /proc/sys/net.
pub fn sysctl(name: &str, key: &str, value: &str) -> Result<()> {
    inside(name, || {
        std::fs::write(format!("/proc/sys/net/{key}"), value)
            .with_context(|| format!("failed to set {key}"))
    })
}

/// Names of the namespaces that start with `prefix`.
pub fn list(prefix: &str) -> Vec<String> {
    let entries = std::fs::read_dir("/run/netns")
        .into_iter()
        .flatten()
        .flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    names.filter(|name| name.starts_with(prefix)).collect()
}

/// Deletes the namespace. Its devices go with it.
pub fn delete(name: &str) -> Result<()> {
    ip(None, &format!("netns delete {name}\n"))
}

fn feed(command: &mut Command, input: &str) -> Result<()> {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("failed to start {command:?}"))?;
    let mut stdin = child.stdin.take().context("failed to open its input")?;
    if let Err(error) = stdin.write_all(input.as_bytes()) {
        bail!("failed to write its input: {error}");
    }
    drop(stdin);
    let output = child.wait_with_output().context("failed to wait for it")?;
    let told = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success(),
        "{command:?}: {}: {}",
        output.status,
        told.trim()
    );
    Ok(())
}
