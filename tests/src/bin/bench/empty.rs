//! A program that does nothing, on the same cgroup: what the kernel's statistics add to every run, and
//! what it costs that there is any.
use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::Path;

use anyhow::{Context, Result};

use crate::syscall::{self, Statistics};

/// `r0 = 1; exit`: let the packet pass. The opcode is the lowest byte, the immediate the upper half.
const PASS: [u64; 2] = [0xb7 | 1 << 32, 0x95];

/// It, attached until it is dropped.
pub struct Empty {
    _link: OwnedFd,
    program: OwnedFd,
}

impl Empty {
    /// Attaches it to what the cgroup receives or sends, by [`syscall::INGRESS`] or [`syscall::EGRESS`].
    pub fn attach(cgroup: &Path, direction: u32) -> Result<Self> {
        let folder = File::open(cgroup).context("failed to open cgroup")?;
        let program = syscall::load(&PASS).context("failed to load an empty program")?;
        let link = syscall::link(&program, &folder, direction)
            .context("failed to attach an empty program")?;
        Ok(Self {
            _link: link,
            program,
        })
    }

    /// What it has done.
    pub fn statistics(&self) -> Result<Statistics> {
        let id = syscall::id(&self.program).context("failed to find the empty program")?;
        syscall::statistics(id).context("failed to read the empty program's statistics")
    }
}
