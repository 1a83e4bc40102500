//! The agent under test: starts `ingress-trace run`, collects its findings as they come, scrapes
//! its metrics, ends it. Knows the public contract only.
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{ChildStdout, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::metrics::Page;
use crate::process::{Process, sibling};
use crate::{response, wait};

/// How long a verdict may take from the failure on.
pub const VERDICT: Duration = Duration::from_secs(10);

/// How long it may take to be ready: in a guest its programs are verified by an emulated processor.
const READY: Duration = Duration::from_mins(1);

/// A finding as the contract's JSON.
#[derive(Clone, Debug, PartialEq)]
pub struct Finding(pub Value);

impl Finding {
    /// A text field by its JSON pointer, empty if it is absent.
    pub fn text(&self, pointer: &str) -> &str {
        self.0
            .pointer(pointer)
            .and_then(Value::as_str)
            .unwrap_or_default()
    }

    /// A number by its JSON pointer.
    pub fn number(&self, pointer: &str) -> Option<f64> {
        self.0.pointer(pointer).and_then(Value::as_f64)
    }

    /// The status, if one is given.
    pub fn status(&self) -> Option<u16> {
        self.0.get("status")?.as_u64()?.try_into().ok()
    }

    /// The request's path.
    pub fn path(&self) -> &str {
        self.text("/request/path")
    }
}

/// The program: `$INGRESS_TRACE_BIN`, else the one built beside the tests.
pub fn program() -> Result<PathBuf> {
    std::env::var_os("INGRESS_TRACE_BIN")
        .map_or_else(|| sibling("ingress-trace"), |path| Ok(path.into()))
}

/// GET from an agent's HTTP server: status and body.
pub fn fetch(address: SocketAddr, path: &str) -> Result<(u16, String)> {
    let limit = Duration::from_secs(5);
    let mut stream = TcpStream::connect_timeout(&address, limit).context("failed to connect")?;
    stream
        .set_read_timeout(Some(limit))
        .context("failed to set timeout")?;
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: agent\r\nConnection: close\r\n\r\n"
    )
    .context("failed to ask")?;
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).context("failed to read")?;
    let answer = response::read(&mut bytes.as_slice(), false).context("failed to parse")?;
    ensure!(answer.complete, "failed to read the whole answer to {path}");
    let body = bytes.len() - usize::try_from(answer.bytes).context("failed to measure body")?;
    let text = String::from_utf8_lossy(&bytes[body..]).into_owned();
    Ok((answer.status.unwrap_or(0), text))
}

/// A running agent.
pub struct Agent {
    process: Process,
    listen: SocketAddr,
    findings: Arc<Mutex<Vec<Finding>>>,
    reader: Option<JoinHandle<Result<()>>>,
    errors: PathBuf,
}

impl Agent {
    /// Starts it on this cgroup; returns once it is ready.
    pub fn start(folder: &Path, cgroup: &Path) -> Result<Self> {
        let target = cgroup.display().to_string();
        Self::start_with(
            folder,
            &["--no-kube", "--controller", "nginx", "--cgroup", &target],
        )
    }

    /// Starts it with these arguments; returns once it is ready.
    pub fn start_with(folder: &Path, arguments: &[&str]) -> Result<Self> {
        Self::start_by(Command::new(program()?), folder, arguments)
    }

    /// The same by a command that becomes the agent.
    pub fn start_by(mut command: Command, folder: &Path, arguments: &[&str]) -> Result<Self> {
        let listen = free_address()?;
        let errors = folder.join(format!("agent-{}.log", listen.port()));
        let log = File::create(&errors).context("failed to create the agent's log")?;
        command
            .arg("run")
            .args(arguments)
            .args(["-o", "json", "--listen", &listen.to_string()]);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log);
        let mut process = Process::start(&mut command)?;
        let out = process
            .child()
            .stdout
            .take()
            .context("failed to open the agent's stdout")?;
        let findings = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&findings);
        let reader = Some(thread::spawn(move || collect(out, &kept)));
        let mut agent = Self {
            process,
            listen,
            findings,
            reader,
            errors,
        };
        agent.ready().with_context(|| agent.errors())?;
        Ok(agent)
    }

    fn ready(&mut self) -> Result<()> {
        wait::until("the agent ready", READY, || {
            if let Ok(Some(status)) = self.process.child().try_wait() {
                return Some(Err(anyhow::anyhow!(
                    "failed to keep the agent running: {status}"
                )));
            }
            self.http("/readyz")
                .is_ok_and(|(status, _)| status == 200)
                .then_some(Ok(()))
        })?
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// Where its HTTP server is.
    pub fn address(&self) -> SocketAddr {
        self.listen
    }

    /// The file of what it writes to stderr.
    pub fn log(&self) -> PathBuf {
        self.errors.clone()
    }

    /// What it has written to stderr.
    pub fn errors(&self) -> String {
        fs::read_to_string(&self.errors).unwrap_or_default()
    }

    /// The findings so far.
    pub fn findings(&self) -> Vec<Finding> {
        self.findings
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Runs `work` while nobody reads the agent's stdout.
    pub fn unread<T>(&self, work: impl FnOnce() -> T) -> T {
        let _held = self.findings.lock().unwrap_or_else(PoisonError::into_inner);
        work()
    }

    /// Waits for the first finding that fits.
    pub fn finding(&self, what: &str, fits: impl Fn(&Finding) -> bool) -> Result<Finding> {
        wait::until(what, VERDICT, || self.findings().into_iter().find(&fits))
            .with_context(|| format!("findings: {:#?}\nlog: {}", self.findings(), self.errors()))
    }

    /// GET from its HTTP server: status and body.
    pub fn http(&self, path: &str) -> Result<(u16, String)> {
        fetch(self.listen, path)
    }

    /// Scrapes its metrics.
    pub fn metrics(&self) -> Result<Page> {
        let (status, text) = self.http("/metrics").context("failed to scrape")?;
        ensure!(status == 200, "failed to scrape: status {status}");
        Ok(Page::parse(&text))
    }

    /// Waits until it knows the cluster: all that an agent beside an ingress pod follows, current.
    pub fn knows_the_cluster(&self) -> Result<()> {
        // Pods, slices, services, nodes, classes, and three kinds of routes: those that the API does
        // not have are known to be absent.
        const FOLLOWED: u64 = 8;
        let synced = |page: &Page| page.count("ingress_trace_kube_synced", &[]) == FOLLOWED;
        self.metric("the cluster known", synced).map(drop)
    }

    /// Waits until a metric fits.
    pub fn metric(&self, what: &str, fits: impl Fn(&Page) -> bool) -> Result<Page> {
        wait::until(what, VERDICT, || self.metrics().ok().filter(&fits)).with_context(|| {
            let text = self
                .http("/metrics")
                .map(|(_, text)| text)
                .unwrap_or_default();
            text.lines()
                .filter(|line| line.starts_with("ingress_trace"))
                .collect::<Vec<_>>()
                .join("\n")
        })
    }

    /// Ends it with this signal; all its findings, and it must have ended well.
    pub fn stop_by(mut self, signal: i32) -> Result<Vec<Finding>> {
        self.process.signal(signal);
        let status = self.process.wait(Duration::from_secs(10))?;
        ensure!(
            status.success(),
            "failed to end the agent well: {status}: {}",
            self.errors()
        );
        if let Some(reader) = self.reader.take() {
            reader
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        }
        Ok(self.findings())
    }

    /// Ends it by SIGINT.
    pub fn stop(self) -> Result<Vec<Finding>> {
        self.stop_by(libc::SIGINT)
    }

    /// Kills it.
    pub fn kill(mut self) -> Result<()> {
        self.process.signal(libc::SIGKILL);
        self.process.wait(Duration::from_secs(10)).map(drop)
    }
}

fn collect(out: ChildStdout, into: &Mutex<Vec<Finding>>) -> Result<()> {
    for line in BufReader::new(out).lines() {
        let line = line.context("failed to read the agent's stdout")?;
        let value = serde_json::from_str(&line)
            .with_context(|| format!("failed to parse as JSON: {line}"))?;
        into.lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(Finding(value));
    }
    Ok(())
}

/// A free port of the host's loopback. Another process could take it first; then the agent says so.
pub fn free_address() -> Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("failed to find a port")?;
    listener.local_addr().context("failed to find a port")
}
