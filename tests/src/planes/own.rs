//! A data plane with a configuration of the test's own, as one process of the ingress pod: files in,
//! a process that can be told to reload or to end out. It listens on [`PORT`] at least.
use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};

use super::Plane;
use crate::bed::{Bed, Host};
use crate::process::Process;
use crate::tools::cache::{CADDY, ENVOY, Program, TRAEFIK};
use crate::{tls, wait};

/// Where it serves clients in plaintext.
pub const PORT: u16 = 8090;
/// The same under TLS.
pub const TLS_PORT: u16 = 8493;

/// The running data plane. Its processes end with it.
pub struct Own {
    /// The process that was started last.
    pub process: Process,
    plane: Plane,
    folder: PathBuf,
}

impl Own {
    /// Starts it with these files; returns once it listens on both ports.
    pub fn start(bed: &Bed, plane: Plane, files: &[(&str, String)]) -> Result<Self> {
        Self::start_with(bed, plane, files, &[])
    }

    /// The same with arguments of its own.
    pub fn start_with(
        bed: &Bed,
        plane: Plane,
        files: &[(&str, String)],
        arguments: &[&str],
    ) -> Result<Self> {
        let folder = bed.folder().join(format!("own-{}", plane.word()));
        fs::create_dir_all(&folder).context("failed to create the proxy's folder")?;
        tls::certificate(&folder)?;
        let pem = |name| fs::read_to_string(folder.join(name));
        let both = pem("cert.pem").and_then(|cert| Ok(cert + &pem("key.pem")?));
        let both = both.context("failed to read certificate")?;
        fs::write(folder.join("both.pem"), both).context("failed to write certificate")?;
        write(&folder, files)?;
        let process = run(bed, plane, &folder, arguments)?;
        let own = Self {
            process,
            plane,
            folder,
        };
        for port in [PORT, TLS_PORT] {
            own.listens(bed, port)?;
        }
        Ok(own)
    }

    /// Waits until it listens there.
    pub fn listens(&self, bed: &Bed, port: u16) -> Result<()> {
        let what = format!("{} at {port}", self.plane.word());
        wait::holds(&what, Duration::from_secs(20), || {
            let connect = || TcpStream::connect(at(port)).map(drop).context("not yet");
            bed.inside(Host::Client, connect).is_ok()
        })
        .with_context(|| self.output())
    }

    /// Replaces files, each at once.
    pub fn write(&self, files: &[(&str, String)]) -> Result<()> {
        write(&self.folder, files)
    }

    /// Starts the process that takes over; gives the one before.
    pub fn succeed(&mut self, bed: &Bed, arguments: &[&str]) -> Result<Process> {
        let next = run(bed, self.plane, &self.folder, arguments)?;
        Ok(std::mem::replace(&mut self.process, next))
    }

    /// What it said about itself.
    pub fn output(&self) -> String {
        fs::read_to_string(self.folder.join("output.log")).unwrap_or_default()
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        // nginx's master takes its workers with it.
        self.process.signal(libc::SIGTERM);
        let _ = self.process.wait(Duration::from_secs(2));
    }
}

/// One of its listeners.
pub fn at(port: u16) -> SocketAddr {
    SocketAddr::new(Host::Proxy.v4(), port)
}

fn write(folder: &Path, files: &[(&str, String)]) -> Result<()> {
    for (name, text) in files {
        // Envoy sees a file that was moved into its place, and no other change.
        let fresh = folder.join(format!("{name}.new"));
        fs::write(&fresh, text)
            .and_then(|()| fs::rename(&fresh, folder.join(name)))
            .with_context(|| format!("failed to write {name}"))?;
    }
    Ok(())
}

fn run(bed: &Bed, plane: Plane, folder: &Path, arguments: &[&str]) -> Result<Process> {
    let mut command = match plane {
        Plane::Nginx => {
            let mut command = with("nginx", &["-p", ".", "-e", "error.log", "-c"]);
            // As in a pod: who looks for its settings finds them.
            command.arg(folder.join("main.conf"));
            command
        }
        Plane::Haproxy => with("haproxy", &["-db", "-f", "main.conf"]),
        Plane::Envoy => {
            let mut command = program(&ENVOY)?;
            command.args([
                "-c",
                "main.json",
                "--concurrency",
                "2",
                "--log-level",
                "warn",
            ]);
            // Another Envoy on this machine is none of its business, but for one that it succeeds.
            if !arguments.contains(&"--restart-epoch") {
                command.arg("--disable-hot-restart");
            }
            command
        }
        Plane::Traefik => {
            let mut command = program(&TRAEFIK)?;
            command.arg("--configFile=main.yml").env("GOMAXPROCS", "2");
            command
        }
        Plane::Caddy => {
            let mut command = program(&CADDY)?;
            command.args(["run", "--config", "main.json"]);
            command.env("GOMAXPROCS", "2");
            // What it would keep in the user's home.
            command.envs(["XDG_DATA_HOME", "XDG_CONFIG_HOME"].map(|name| (name, folder)));
            command
        }
    };
    let log = || {
        let file = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(folder.join("output.log"));
        file.context("failed to create its output")
    };
    command.args(arguments).current_dir(folder);
    command.stdin(Stdio::null()).stdout(log()?).stderr(log()?);
    bed.start(Host::Proxy, &mut command)
}

/// The program of a package from PyPI.
pub(super) fn program(program: &Program) -> Result<Command> {
    let path = program.find();
    let path =
        path.with_context(|| format!("failed to find {}: run ./dev setup", program.package))?;
    Ok(Command::new(path))
}

fn with(name: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(name);
    command.args(arguments);
    command
}
