//! What is measured on: a client, two proxies and a backend, all nginx with one worker and as little
//! of their own work as possible, and the release agent without JSON.
use std::fmt::Write as _;
use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use tests::agent::{fetch, free_address, program};
use tests::bed::{Bed, Host};
use tests::metrics::Page;
use tests::nginx::launch;
use tests::process::Process;
use tests::{wait, wrk};

use crate::{place, usage};

/// Connections of the load generator.
const CONNECTIONS: u32 = 32;
const PROXY: u16 = 8080;
const BACKEND: u16 = 9000;
/// First of the backend's many ports.
pub const FIRST_PORT: u16 = 20_000;
/// How many ports it has.
pub const PORTS: u16 = 1000;
/// How often the proxy tries to connect for a request of `/tries`, each time in vain.
pub const TRIES: u16 = 8;

const COMMON: &str = "user root;\ndaemon off;\npid nginx.pid;\nworker_processes 1;\n\
    worker_rlimit_nofile 65536;\nerror_log error.log crit;\n\
    events { worker_connections 16384; }\n\
    http {\naccess_log off;\nkeepalive_timeout 60s; keepalive_requests 100000000;\n\
    client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi;\n\
    uwsgi_temp_path uwsgi; scgi_temp_path scgi;\n";

/// The hosts and their processes.
pub struct Rig {
    _nginx: Vec<Process>,
    // Last: it is dropped after what lives in it.
    /// The hosts.
    pub bed: Bed,
}

/// What a run of the load generator was worth.
#[derive(Clone, Copy, Debug)]
pub struct Run {
    /// Requests per second.
    pub rate: f64,
    /// Requests.
    pub requests: u64,
    /// Requests that were answered with an error.
    pub failed: u64,
    /// Processor microseconds of the proxy per request.
    pub proxy: f64,
    /// Likewise of client, proxy and backend together: what the kernel does for the proxy's
    /// sockets on arrival is done on the sender's time.
    pub all: f64,
    /// Share of the machine that all others used meanwhile, the agent among them.
    pub others: f64,
}

impl Rig {
    /// Builds it.
    pub fn new() -> Result<Self> {
        let bed = Bed::new()?;
        for host in [Host::Proxy, Host::SecondProxy] {
            bed.sysctl(host, "ipv4/ip_local_port_range", "1024 65535")?;
        }
        let nginx = vec![
            nginx(&bed, Host::Backend, &backend())?,
            nginx(&bed, Host::Proxy, &proxy())?,
            nginx(&bed, Host::SecondProxy, &proxy())?,
        ];
        let rig = Self { _nginx: nginx, bed };
        // What the first second measures is caches.
        rig.load(Host::Proxy, "/keep", Duration::from_secs(1))?;
        Ok(rig)
    }

    /// Loads a path of a proxy.
    pub fn load(&self, proxy: Host, path: &str, time: Duration) -> Result<Run> {
        let used = || -> Result<(f64, f64, f64)> {
            let own = usage::cgroup_seconds(&self.bed.cgroup(proxy))?;
            let client = usage::cgroup_seconds(&self.bed.cgroup(Host::Client))?;
            let backend = usage::cgroup_seconds(&self.bed.cgroup(Host::Backend))?;
            Ok((own, own + client + backend, usage::machine_seconds()?))
        };
        let (start, before) = (Instant::now(), used()?);
        let load = place::on(Host::Client, || {
            wrk::run(&self.bed, address(proxy), path, CONNECTIONS, time)
        })?;
        let (took, after) = (start.elapsed().as_secs_f64(), used()?);
        let cores = std::thread::available_parallelism().context("failed to count processors")?;
        let others = (after.2 - before.2) - (after.1 - before.1);
        ensure!(load.requests > 0, "no request of {path} was answered");
        let requests = load.requests as f64;
        Ok(Run {
            rate: load.rate,
            requests: load.requests,
            failed: load.failed,
            proxy: (after.0 - before.0) * 1e6 / requests,
            all: (after.1 - before.1) * 1e6 / requests,
            others: others / took / cores.get() as f64,
        })
    }

    /// Starts the agent on the first proxy; returns once it is ready.
    pub fn agent(&self) -> Result<Agent> {
        self.agent_with(&[])
    }

    /// [`Rig::agent`] with more arguments.
    pub fn agent_with(&self, arguments: &[&str]) -> Result<Agent> {
        self.agent_in_cluster(&[&["--no-kube"], arguments].concat())
    }

    /// Starts it on the first proxy with these arguments, which say which API it asks.
    pub fn agent_in_cluster(&self, arguments: &[&str]) -> Result<Agent> {
        let cgroup = self.bed.cgroup(Host::Proxy).display().to_string();
        let target = ["--controller", "nginx", "--cgroup", &cgroup];
        self.agent_of(&[&target, arguments].concat())
    }

    /// Starts it with these arguments; returns once it is ready.
    pub fn agent_of(&self, arguments: &[&str]) -> Result<Agent> {
        let listen = free_address()?;
        let log = self.bed.folder().join("agent.log");
        let mut command = Command::new(program()?);
        command.arg("run").args(arguments);
        command.arg("--listen").arg(listen.to_string());
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&log).context("failed to create the agent's log")?);
        let mut agent = Agent {
            process: Process::start(&mut command)?,
            listen,
            log,
        };
        agent.ready()?;
        Ok(agent)
    }
}

/// A proxy's address.
pub fn address(proxy: Host) -> SocketAddr {
    SocketAddr::new(proxy.v4(), PROXY)
}

/// A running agent.
pub struct Agent {
    process: Process,
    listen: SocketAddr,
    log: PathBuf,
}

impl Agent {
    fn ready(&mut self) -> Result<()> {
        wait::until("the agent ready", Duration::from_secs(20), || {
            if let Ok(Some(status)) = self.process.child().try_wait() {
                let log = fs::read_to_string(&self.log).unwrap_or_default();
                return Some(Err(anyhow::anyhow!("the agent ended with {status}: {log}")));
            }
            self.get("/readyz").is_ok().then_some(Ok(()))
        })?
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// Scrapes its metrics.
    pub fn metrics(&self) -> Result<Page> {
        self.get("/metrics")
            .map(|text| Page::parse(&text))
            .context("failed to scrape")
    }

    /// Size of a scrape in bytes.
    pub fn scrape_bytes(&self) -> Result<usize> {
        self.get("/metrics")
            .map(|text| text.len())
            .context("failed to scrape")
    }

    /// Ends it.
    pub fn stop(mut self) -> Result<()> {
        self.process.signal(libc::SIGINT);
        let status = self.process.wait(Duration::from_secs(20))?;
        ensure!(status.success(), "failed to end the agent well: {status}");
        Ok(())
    }

    fn get(&self, path: &str) -> Result<String> {
        match fetch(self.listen, path)? {
            (200, text) => Ok(text),
            (status, text) => bail!("failed to get {path}: {status} {text}"),
        }
    }
}

fn nginx(bed: &Bed, host: Host, config: &str) -> Result<Process> {
    let folder = bed.folder().join(format!("bench-{}", host.v4()));
    fs::create_dir_all(&folder).context("failed to create nginx's folder")?;
    fs::write(folder.join("nginx.conf"), config).context("failed to write nginx.conf")?;
    fs::write(folder.join("large"), vec![b'x'; 64 << 10]).context("failed to write a body")?;
    place::on(host, || launch(bed, host, &folder))
}

fn backend() -> String {
    let mut text = format!("{COMMON}server {{\nlisten {BACKEND};\n");
    for port in FIRST_PORT..FIRST_PORT + PORTS {
        writeln!(text, "listen {port};").expect("writing to a string cannot fail");
    }
    text.push_str(
        "location / { return 200 'ok'; }\nlocation /sick { return 503; }\nlocation /large { root .; sendfile on; }\n}\n}\n",
    );
    text
}

fn proxy() -> String {
    let backend = Host::Backend.v4();
    let closed: Vec<_> = (1..=TRIES)
        .map(|port| format!("server {backend}:{port} max_fails=0;"))
        .collect();
    let closed = closed.join(" ");
    format!(
        "{COMMON}proxy_http_version 1.1; proxy_next_upstream off; proxy_buffers 8 32k;\n\
         upstream pool {{ server {backend}:{BACKEND} max_fails=0; keepalive 64; \
         keepalive_requests 100000000; }}\n\
         upstream closed {{ {closed} }}\n\
         server {{\nlisten {PROXY};\n\
         location /keep {{ proxy_set_header Connection ''; proxy_pass http://pool; }}\n\
         location /large {{ proxy_set_header Connection ''; proxy_pass http://pool; }}\n\
         location /sick {{ proxy_set_header Connection ''; proxy_pass http://pool; }}\n\
         location /new {{ proxy_pass http://{backend}:{BACKEND}; }}\n\
         location /refused {{ proxy_pass http://{backend}:1; }}\n\
         location /tries {{ proxy_next_upstream error; proxy_pass http://closed; }}\n\
         location ~ ^/port/([0-9]+)$ {{ proxy_pass http://{backend}:$1; }}\n}}\n}}\n"
    )
}
