//! In: a network namespace. Out: what some work on a thread of its own inside it gives. Must not
//! change the namespace of any other thread.
use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::Path;

use anyhow::{Context, Result};

/// Runs `work` inside the namespace; sockets that it makes stay there.
pub fn inside<T: Send>(namespace: &Path, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    let file =
        File::open(namespace).with_context(|| format!("failed to open {}", namespace.display()))?;
    std::thread::scope(|scope| {
        let worker = scope.spawn(move || {
            enter(&file)?;
            work()
        });
        worker
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

fn enter(namespace: &File) -> Result<()> {
    // SAFETY: a system call on a descriptor that lives until it returns; it changes this thread only.
    let failed = unsafe { libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWNET) };
    if failed != 0 {
        return Err(std::io::Error::last_os_error())
            .context("failed to enter a network namespace (needs CAP_SYS_ADMIN)");
    }
    Ok(())
}
