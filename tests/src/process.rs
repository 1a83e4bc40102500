//! Child processes that cannot outlive the test: a command in, a process that is killed and
//! waited for on drop out. Must not signal a process that it did not start.
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus};
use std::sync::OnceLock;
use std::sync::mpsc::{self, Sender};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::{netns, wait};

/// A child that is killed and reaped when it is dropped.
pub struct Process {
    child: Child,
}

impl Process {
    /// Starts the command; it is killed when the thread that called this ends.
    pub fn start(command: &mut Command) -> Result<Self> {
        // SAFETY: prctl with these arguments is async-signal-safe and touches no memory.
        unsafe { command.pre_exec(die_with_parent) };
        let child = command
            .spawn()
            .with_context(|| format!("failed to start {command:?}"))?;
        Ok(Self { child })
    }

    /// Starts the command; it is killed when this process ends, whichever thread called this.
    pub fn start_lasting(mut command: Command) -> Result<Self> {
        let (answer, started) = mpsc::channel();
        let job: Job = Box::new(move || {
            // The caller waits for it, below.
            let _ = answer.send(Self::start(&mut command));
        });
        let sent = lasting().send(job).ok();
        sent.context("failed to reach the thread that lasts")?;
        started.recv().context("failed to hear of the process")?
    }

    /// Starts the command inside a namespace and a cgroup, both entered before its exec.
    pub fn start_inside(command: &mut Command, namespace: File, mut cgroup: File) -> Result<Self> {
        // SAFETY: the closure makes two system calls on descriptors that it owns; no allocation.
        unsafe {
            command.pre_exec(move || {
                cgroup.write_all(b"0")?;
                netns::enter(&namespace)
            });
        }
        Self::start(command)
    }

    /// The child itself, for its pipes.
    pub fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal; quiet if the process is gone.
    pub fn signal(&mut self, number: i32) {
        if matches!(self.child.try_wait(), Ok(None)) {
            signal(self.child.id(), number);
        }
    }

    /// Waits for its end.
    pub fn wait(&mut self, limit: Duration) -> Result<ExitStatus> {
        wait::until("the process's end", limit, || {
            self.child.try_wait().ok().flatten()
        })
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Errors mean that it ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

type Job = Box<dyn FnOnce() + Send>;

/// A thread that lasts as long as this process: a child dies with the thread that started it.
fn lasting() -> &'static Sender<Job> {
    static JOBS: OnceLock<Sender<Job>> = OnceLock::new();
    JOBS.get_or_init(|| {
        let (jobs, work) = mpsc::channel::<Job>();
        thread::spawn(move || work.iter().for_each(|job| job()));
        jobs
    })
}

fn die_with_parent() -> io::Result<()> {
    // SAFETY: an integer-only prctl.
    match unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Signals a process by its id.
pub fn signal(pid: u32, number: i32) {
    // SAFETY: kill touches no memory of ours.
    unsafe { libc::kill(pid.cast_signed(), number) };
}

/// Whether a process with this id exists.
pub fn alive(pid: u32) -> bool {
    PathBuf::from(format!("/proc/{pid}")).exists()
}

/// A program of this workspace, built beside the running one.
pub fn sibling(name: &str) -> Result<PathBuf> {
    let own = std::env::current_exe().context("failed to find the running program")?;
    own.ancestors()
        .skip(1)
        .take(2)
        .map(|folder| folder.join(name))
        .find(|path| path.is_file())
        .with_context(|| format!("failed to find the program {name}: build the workspace first"))
}
