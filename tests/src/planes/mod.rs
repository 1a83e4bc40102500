//! The ingress pod with any of the five data planes: the same listeners on the same ports, the same
//! routes and timers, one way to start each and one type for their logs. What is particular to
//! one is in its file; must not know what the agent makes of it.
use std::fs::{self, File};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::backends::{Backends, Behavior};
use crate::bed::{Bed, Host};
use crate::nginx::{Fault, Nginx, Options, PATIENT, unreachable_endpoints};
use crate::process::Process;
use crate::{agent, client as plain, tls, wait};

mod caddy;
pub mod cases;
pub mod causes;
pub mod checks;
pub mod client;
mod envoy;
mod haproxy;
pub mod life;
pub mod limits;
mod nginx;
pub mod own;
pub mod quiet;
mod traefik;
pub mod upstream_cases;
pub mod upstreams;
mod watch;

use own::program;

pub use watch::{watch, watch_in};

/// A data plane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plane {
    /// nginx.
    Nginx,
    /// HAProxy.
    Haproxy,
    /// Envoy.
    Envoy,
    /// Traefik.
    Traefik,
    /// Caddy.
    Caddy,
}

impl Plane {
    /// All of them, in the contract's order.
    pub const ALL: [Self; 5] = [
        Self::Nginx,
        Self::Haproxy,
        Self::Envoy,
        Self::Traefik,
        Self::Caddy,
    ];

    /// Its word in the contract: the value of `--controller`.
    pub fn word(self) -> &'static str {
        match self {
            Self::Nginx => "nginx",
            Self::Haproxy => "haproxy",
            Self::Envoy => "envoy",
            Self::Traefik => "traefik",
            Self::Caddy => "caddy",
        }
    }

    /// Whether two endpoints take turns; otherwise the route's own comes first, always.
    pub fn alternates(self) -> bool {
        matches!(self, Self::Traefik | Self::Caddy)
    }
}

/// How a listener treats the endpoints behind its routes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// One endpoint, a connection per request, no retries.
    Single,
    /// One endpoint, kept connections, no retries but those that cannot be turned off.
    Pooled,
    /// The route's endpoint and a healthy one, with the retries that are usual there, and kept
    /// connections where they are the default.
    Retry,
}

impl Way {
    const ALL: [Self; 3] = [Self::Single, Self::Pooled, Self::Retry];

    fn word(self) -> &'static str {
        match self {
            Self::Single => "single",
            Self::Pooled => "pooled",
            Self::Retry => "retry",
        }
    }
}

/// A port of the proxy. TLS is 1.3, with HTTP/2 and HTTP/1.1 by ALPN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listener {
    /// One endpoint, a connection per request, no retries.
    Plain = 8080,
    /// One endpoint, kept connections, no retries but those that cannot be turned off.
    Pooled = 8081,
    /// The endpoint and a healthy one, the usual retries.
    Retry = 8083,
    /// [`Listener::Plain`] under TLS.
    Tls = 8443,
    /// [`Listener::Retry`] under TLS.
    TlsRetry = 8444,
    /// [`Listener::Pooled`] under TLS.
    TlsPooled = 8445,
}

impl Listener {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Plain,
        Self::Pooled,
        Self::Retry,
        Self::Tls,
        Self::TlsRetry,
        Self::TlsPooled,
    ];

    /// Its address on this proxy host.
    pub fn of(self, host: Host) -> SocketAddr {
        SocketAddr::new(host.v4(), self as u16)
    }

    fn way(self) -> Way {
        match self {
            Self::Plain | Self::Tls => Way::Single,
            Self::Pooled | Self::TlsPooled => Way::Pooled,
            Self::Retry | Self::TlsRetry => Way::Retry,
        }
    }

    fn tls(self) -> bool {
        matches!(self, Self::Tls | Self::TlsRetry | Self::TlsPooled)
    }
}

/// Does the work for every data plane at once, each on a thread and a bed of its own; what came of
/// it, in the order of [`Plane::ALL`].
///
/// # Panics
/// If any of the threads does, once all have ended.
pub fn each<T: Send>(work: impl Fn(Plane) -> Result<T> + Sync) -> Result<Vec<T>> {
    let work = &work;
    thread::scope(|scope| {
        let threads = Plane::ALL.map(|plane| scope.spawn(move || work(plane)));
        let ended = threads.map(thread::ScopedJoinHandle::join);
        let all = Plane::ALL.into_iter().zip(ended);
        all.map(|(plane, result)| {
            result
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
                .with_context(|| plane.word())
        })
        .collect()
    })
}

/// What is behind a first path segment.
struct Route {
    word: &'static str,
    endpoint: SocketAddr,
    /// Time to connect, in milliseconds.
    connect: u32,
    /// Time to the first byte, in milliseconds.
    read: u32,
}

/// First path segment of a route without endpoints.
pub const NONE: &str = "none";

/// All routes but [`NONE`], with the timers of the bed's nginx.
fn routes() -> Vec<Route> {
    let behaviors = Behavior::ALL.iter().map(|one| Route {
        word: one.word(),
        endpoint: one.endpoint(),
        connect: 400,
        read: 600,
    });
    let faults = Fault::ALL.iter().map(|one| {
        let address = one.address(false).parse().expect("an IPv4 address");
        Route {
            word: one.word(),
            endpoint: SocketAddr::new(address, one.port()),
            // Longer than the kernel needs to learn that there is no way.
            connect: if *one == Fault::Dropped || *one == Fault::Refused {
                400
            } else {
                4000
            },
            read: 600,
        }
    });
    let patient = Route {
        word: PATIENT,
        endpoint: Behavior::Ok.endpoint(),
        connect: 4000,
        read: 15000,
    };
    let six = SIX.map(|(word, port)| Route {
        word,
        endpoint: SocketAddr::new(Host::Backend.v6(), port),
        connect: 400,
        read: 600,
    });
    let all = behaviors.chain(faults).chain([patient]);
    all.chain(six).collect()
}

/// Routes whose endpoints are IPv6: a port that refuses, and one that resets. The bed's nginx has its
/// own listener for them.
const SIX: [(&str, u16); 2] = [
    ("refused-six", Fault::Refused.port()),
    ("reset-request-six", Behavior::ResetRequest.port()),
];

impl Plane {
    /// Where to ask for a fault at an IPv6 endpoint: the listener, and the first path segment.
    pub fn six(self, word: &str) -> (SocketAddr, String) {
        match self {
            Self::Nginx => (crate::nginx::Listener::V6.of(Host::Proxy), word.to_owned()),
            _ => (Listener::Plain.of(Host::Proxy), format!("{word}-six")),
        }
    }
}

impl Route {
    /// Its endpoints, in the order in which they should be tried.
    fn endpoints(&self, way: Way) -> Vec<SocketAddr> {
        match way {
            Way::Single | Way::Pooled => vec![self.endpoint],
            Way::Retry => vec![self.endpoint, Behavior::Ok.endpoint()],
        }
    }

    /// The name of its group of endpoints.
    fn group(&self, way: Way) -> String {
        format!("{}-{}", self.word, way.word())
    }
}

/// One request as the data plane logged it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Method.
    pub method: String,
    /// Path, without its query.
    pub path: String,
    /// Status that it gave to the client, as far as it knows of one.
    pub status: Option<u16>,
    /// What else it says: HAProxy's termination state, Envoy's response flags, the statuses of
    /// nginx's attempts; empty elsewhere.
    pub flags: String,
}

impl Entry {
    fn new(method: &str, uri: &str, status: Option<u16>, flags: impl Into<String>) -> Self {
        let path = uri.split('?').next().unwrap_or_default();
        Self {
            method: method.to_owned(),
            path: path.to_owned(),
            // HAProxy says -1, Envoy 0 where there was none.
            status: status.filter(|status| *status > 0),
            flags: flags.into(),
        }
    }

    /// A line of `method|uri|status|flags`.
    fn from_fields(line: &str) -> Option<Self> {
        let mut fields = line.split('|');
        let (method, uri) = (fields.next()?, fields.next()?);
        let status = fields.next()?.parse().ok();
        Some(Self::new(method, uri, status, fields.next()?))
    }
}

enum Running {
    Nginx(Nginx),
    Other(Process),
}

/// A running data plane. Its processes end with it.
pub struct Proxy {
    running: Running,
    plane: Plane,
    host: Host,
    folder: PathBuf,
}

impl Proxy {
    /// Starts it on this host with two workers; returns once it relays: the backends must run.
    pub fn start(plane: Plane, bed: &Bed, host: Host) -> Result<Self> {
        let folder = bed.folder().join(format!("{}-{}", plane.word(), host.v4()));
        let mut proxy = Self {
            running: run(plane, bed, host, &folder)?,
            plane,
            host,
            folder,
        };
        proxy.ready(bed).with_context(|| proxy.output())?;
        Ok(proxy)
    }

    fn ready(&mut self, bed: &Bed) -> Result<()> {
        let what = format!("{} ready", self.plane.word());
        wait::until(&what, Duration::from_secs(20), || {
            if let Running::Other(process) = &mut self.running
                && let Ok(Some(status)) = process.child().try_wait()
            {
                let ended =
                    anyhow::anyhow!("failed to keep {} running: {status}", self.plane.word());
                return Some(Err(ended));
            }
            // It may listen before it has read its routes.
            let plain = plain::get(bed, Listener::Plain.of(self.host), "/ok/ready");
            let relays = plain.is_ok_and(|answer| answer.status == Some(200));
            (relays && self.listens(bed)).then_some(Ok(()))
        })?
    }

    fn listens(&self, bed: &Bed) -> bool {
        let connect = || {
            Listener::ALL.iter().try_for_each(|listener| {
                TcpStream::connect(listener.of(self.host))
                    .map(drop)
                    .context("not yet")
            })
        };
        bed.inside(Host::Client, connect).is_ok()
    }

    /// Its process id: nginx's master, the only process elsewhere.
    pub fn id(&self) -> u32 {
        match &self.running {
            Running::Nginx(nginx) => nginx.id(),
            Running::Other(process) => process.id(),
        }
    }

    /// The access log so far. An entry comes when the proxy is done with the request, which can
    /// be after the client is: [`Proxy::logged`] waits.
    pub fn log(&self) -> Result<Vec<Entry>> {
        if let Running::Nginx(nginx) = &self.running {
            return Ok(nginx::entries(&nginx.log()?));
        }
        let text = fs::read_to_string(self.folder.join(ACCESS_LOG))
            .context("failed to read access log")?;
        // The last line may not be whole yet.
        let lines = text
            .split_inclusive('\n')
            .filter(|line| line.ends_with('\n'));
        lines
            .map(|line| {
                self.plane
                    .entry(line.trim_end())
                    .with_context(|| format!("failed to parse access log: {line}"))
            })
            .collect()
    }

    /// Waits for the first entry with this path.
    pub fn logged(&self, path: &str) -> Result<Entry> {
        let what = format!("{path} in the log of {}", self.plane.word());
        wait::until(&what, Duration::from_secs(10), || {
            self.log()
                .ok()?
                .into_iter()
                .find(|entry| entry.path == path)
        })
    }

    /// What it said about itself.
    pub fn output(&self) -> String {
        fs::read_to_string(self.folder.join(OUTPUT)).unwrap_or_default()
    }
}

const ACCESS_LOG: &str = "access.log";
const OUTPUT: &str = "output.log";

fn run(plane: Plane, bed: &Bed, host: Host, folder: &Path) -> Result<Running> {
    if plane == Plane::Nginx {
        return Ok(Running::Nginx(Nginx::start(bed, host, Options::default())?));
    }
    fs::create_dir_all(folder).context("failed to create the proxy's folder")?;
    tls::certificate(folder)?;
    unreachable_endpoints(bed)?;
    let mut command = plane.command(folder)?;
    let output = File::create(folder.join(OUTPUT)).context("failed to create its output")?;
    let errors = output.try_clone().context("failed to share its output")?;
    command.current_dir(folder);
    // HAProxy's access log is its stdout.
    let out = if plane == Plane::Haproxy {
        File::create(folder.join(ACCESS_LOG)).context("failed to create its log")?
    } else {
        output
    };
    command.stdin(Stdio::null()).stdout(out).stderr(errors);
    Ok(Running::Other(bed.start(host, &mut command)?))
}

impl Plane {
    /// Writes its configuration; gives the command that runs it in its folder.
    fn command(self, folder: &Path) -> Result<Command> {
        match self {
            Self::Nginx => bail!("nginx has its own way"),
            Self::Haproxy => haproxy::command(folder),
            Self::Envoy => envoy::command(folder),
            Self::Traefik => traefik::command(folder),
            Self::Caddy => caddy::command(folder),
        }
    }

    /// Reads a line of its access log.
    fn entry(self, line: &str) -> Option<Entry> {
        match self {
            Self::Nginx => None,
            Self::Haproxy | Self::Envoy => Entry::from_fields(line),
            Self::Traefik => traefik::entry(line),
            Self::Caddy => caddy::entry(line),
        }
    }
}

fn write(folder: &Path, name: &str, text: &impl ToString) -> Result<()> {
    fs::write(folder.join(name), text.to_string())
        .with_context(|| format!("failed to write {name}"))
}

/// A request for an endpoint that refuses.
const MARKER: &str = "/refused/marker";

/// A bed with this data plane as its ingress.
pub struct World {
    /// The backends' program.
    pub backends: Backends,
    /// The ingress.
    pub proxy: Proxy,
    // Last: it is dropped after what lives in it.
    /// The hosts.
    pub bed: Bed,
}

impl World {
    /// Builds it.
    pub fn new(plane: Plane) -> Result<Self> {
        let bed = Bed::new()?;
        let backends = Backends::start(&bed)?;
        let proxy = Proxy::start(plane, &bed, Host::Proxy)?;
        Ok(Self {
            backends,
            proxy,
            bed,
        })
    }

    /// Starts an agent on the ingress pod.
    pub fn agent(&self) -> Result<agent::Agent> {
        watch(&self.bed, self.proxy.plane)
    }

    /// Marks the traffic's end, ends the agent, and gives all findings but the marker's: whatever it
    /// made of the traffic so far.
    pub fn others(&self, agent: agent::Agent) -> Result<Vec<agent::Finding>> {
        self.mark(&agent)?;
        let mut all = agent.stop()?;
        all.retain(|finding| finding.path() != MARKER);
        Ok(all)
    }

    /// Sends a request that is known to fail, and waits for its finding: what was clear before it
    /// is told by then.
    pub fn mark(&self, agent: &agent::Agent) -> Result<()> {
        plain::get(&self.bed, self.at(Listener::Plain), MARKER)?;
        agent.finding("the marker's finding", |finding| finding.path() == MARKER)?;
        Ok(())
    }

    /// The address of a listener.
    pub fn at(&self, listener: Listener) -> SocketAddr {
        listener.of(Host::Proxy)
    }
}
