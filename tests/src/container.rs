//! A pod's container as kubelet and runtime make it: its cgroup in every hierarchy that the machine has,
//! limits in, what they did out. Must not touch a cgroup that is not its own.
use std::ffi::OsStr;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use crate::cgroup;
use crate::kubelet::Layout;
use crate::process::{Process, sibling};

/// The container.
pub struct Container {
    /// Its cgroup, below the mount of any hierarchy.
    path: PathBuf,
}

impl Container {
    /// Makes its cgroup, of a pod with this uid, below this folder of a hierarchy.
    pub fn new(below: &Path, uid: &str, id: &str) -> Result<Self> {
        let path = below.join(Layout::SYSTEMD.path(uid, id));
        let container = Self { path };
        cgroup::create(&container.folder()?)?;
        Ok(container)
    }

    /// Its cgroup of v2.
    pub fn folder(&self) -> Result<PathBuf> {
        Ok(cgroup::mount()?.join(&self.path))
    }

    /// The folder in which this controller's files are: v1's hierarchy, else v2's.
    fn controls(&self, controller: &str) -> Result<PathBuf> {
        let Some(mount) = cgroup::old(controller) else {
            cgroup::enable(&cgroup::mount()?, &self.path, controller)?;
            return self.folder();
        };
        let folder = mount.join(&self.path);
        cgroup::create(&folder)?;
        Ok(folder)
    }

    /// A command that becomes this program in it.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Result<Command> {
        // By itself: a process that is moved later leaves its memory behind.
        const ENTER: &str = "for _ in 1 2 3; do echo $$ > $1; shift; done; exec \"$@\"";
        let mut command = Command::new("sh");
        command.args(["-eu", "-c", ENTER, "sh"]);
        let folders = [
            self.folder()?,
            self.controls("cpu")?,
            self.controls("memory")?,
        ];
        command.args(folders.map(|folder| folder.join("cgroup.procs")));
        command.arg(program);
        Ok(command)
    }

    /// A command that becomes the application (`app`) in it, for [`listening`].
    pub fn app(&self, at: SocketAddr, arguments: &[&str]) -> Result<Command> {
        let mut command = self.command(sibling("app")?)?;
        command.arg(at.to_string()).args(arguments);
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        Ok(command)
    }

    /// Gives it so much CPU time in each 100 ms.
    pub fn quota(&self, ms: u32) -> Result<()> {
        cgroup::throttle(&self.folder()?, ms)
    }

    /// Gives it so much memory.
    pub fn memory(&self, megabytes: u32) -> Result<()> {
        let (bytes, folder) = (u64::from(megabytes) << 20, self.controls("memory")?);
        let file = match cgroup::old("memory") {
            Some(_) => "memory.limit_in_bytes",
            None => "memory.max",
        };
        cgroup::write(&folder, file, &bytes.to_string())
    }

    /// Freezes it, or lets it go on.
    pub fn freeze(&self, frozen: bool) -> Result<()> {
        cgroup::freeze(&self.folder()?, frozen)
    }
}

/// Waits until an application says that it listens.
pub fn listening(app: &mut Process) -> Result<()> {
    let out = app.child().stdout.take().context("no stdout")?;
    let mut line = String::new();
    BufReader::new(out).read_line(&mut line)?;
    ensure!(line == "listening\n", "failed to run the application");
    Ok(())
}
