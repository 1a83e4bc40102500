//! The ingress pod: a real nginx with one listener per way of balancing and one location per
//! behavior behind it. Its timers are short: connect 400 ms, read 600 ms.
use std::fmt::Write as _;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::backends::Behavior;
use crate::bed::{Bed, Host};
use crate::process::Process;
use crate::{log, tls, wait};

/// A port of the proxy: how it treats the endpoints behind its locations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listener {
    /// One endpoint, a connection per request, no retries.
    Plain = 8080,
    /// One endpoint, keepalive pool, no retries.
    Pooled = 8081,
    /// One endpoint, keepalive pool, default retries.
    PooledRetry = 8082,
    /// The endpoint first, then a healthy one: default retries.
    Retry = 8083,
    /// The endpoint first, then a closed port: default retries.
    Twice = 8084,
    /// [`Listener::Plain`] behind a PROXY protocol header.
    ProxyProtocol = 8085,
    /// [`Listener::Plain`] with the endpoint's IPv6 address.
    V6 = 8086,
    /// [`Listener::Plain`] under TLS 1.3.
    Tls = 8443,
    /// [`Listener::Retry`] under TLS 1.3.
    TlsRetry = 8444,
    /// [`Listener::Pooled`] under TLS 1.3.
    TlsPooled = 8445,
}

impl Listener {
    const ALL: [Self; 10] = [
        Self::Plain,
        Self::Pooled,
        Self::PooledRetry,
        Self::Retry,
        Self::Twice,
        Self::ProxyProtocol,
        Self::V6,
        Self::Tls,
        Self::TlsRetry,
        Self::TlsPooled,
    ];

    /// Its address on this proxy host.
    pub fn of(self, host: Host) -> SocketAddr {
        let address = if self == Self::V6 {
            host.v6()
        } else {
            host.v4()
        };
        SocketAddr::new(address, self as u16)
    }

    fn retries(self) -> bool {
        matches!(
            self,
            Self::PooledRetry | Self::Retry | Self::Twice | Self::TlsRetry
        )
    }

    fn pooled(self) -> bool {
        matches!(self, Self::Pooled | Self::PooledRetry | Self::TlsPooled)
    }

    fn tls(self) -> bool {
        matches!(self, Self::Tls | Self::TlsRetry | Self::TlsPooled)
    }
}

/// An endpoint that cannot be connected to, and why. Its word is its path at the proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing listens: RST.
    Refused,
    /// The SYN is dropped at the backend.
    Dropped,
    /// The backend's host answers the SYN with ICMP host unreachable.
    Rejected,
    /// Nobody has this address: neighbor discovery fails.
    Nobody,
    /// The proxy has no route to this address.
    NoRoute,
}

impl Fault {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Refused,
        Self::Dropped,
        Self::Rejected,
        Self::Nobody,
        Self::NoRoute,
    ];

    /// Its first path segment.
    pub fn word(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::Dropped => "dropped",
            Self::Rejected => "rejected",
            Self::Nobody => "nobody",
            Self::NoRoute => "no-route",
        }
    }

    /// The endpoint's port.
    pub const fn port(self) -> u16 {
        8901 + self as u16
    }

    /// The endpoint that a listener of this address family uses.
    pub fn address(self, v6: bool) -> &'static str {
        match (self, v6) {
            (Self::Refused | Self::Dropped | Self::Rejected, false) => "10.77.0.3",
            (Self::Refused | Self::Dropped | Self::Rejected, true) => "[fd77::3]",
            (Self::Nobody, false) => "10.77.0.250",
            (Self::Nobody, true) => "[fd77::250]",
            (Self::NoRoute, false) => "10.99.0.1",
            (Self::NoRoute, true) => "[fd99::1]",
        }
    }
}

/// First path segment of a location in front of [`Behavior::Ok`] with longer timers (4 s, 15 s).
pub const PATIENT: &str = "patient";

/// What of the configuration a test may change.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Worker processes.
    pub workers: u32,
    /// Connections per worker.
    pub connections: u32,
    /// Descriptors per worker.
    pub descriptors: u32,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            workers: 2,
            connections: 1024,
            descriptors: 4096,
        }
    }
}

/// A running nginx.
pub struct Nginx {
    process: Process,
    folder: PathBuf,
}

/// Runs nginx on a host with the `nginx.conf` of a folder; returns once it listens.
pub fn launch(bed: &Bed, host: Host, folder: &Path) -> Result<Process> {
    let mut command = Command::new("nginx");
    command
        .arg("-p")
        .arg(folder)
        .args(["-c", "nginx.conf", "-e", "error.log"]);
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let process = bed
        .start(host, &mut command)
        .context("failed to run nginx (package nginx-light)")?;
    // It writes its pid file after it listens.
    let pid = folder.join("nginx.pid");
    let up = || fs::read_to_string(&pid).is_ok_and(|text| text.ends_with('\n'));
    wait::holds("nginx listening", Duration::from_secs(10), up)
        .with_context(|| fs::read_to_string(folder.join("error.log")).unwrap_or_default())?;
    Ok(process)
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // The master takes its workers with it; killed outright, it would leave them behind. What
        // does not end is killed with the process, and by the bed.
        self.process.signal(libc::SIGTERM);
        let _ = self.process.wait(std::time::Duration::from_secs(5));
    }
}

impl Nginx {
    /// Starts it on this host; returns once it listens.
    pub fn start(bed: &Bed, host: Host, options: Options) -> Result<Self> {
        let folder = bed.folder().join(format!("nginx-{}", host.v4()));
        fs::create_dir_all(&folder).context("failed to create nginx's folder")?;
        tls::certificate(&folder)?;
        unreachable_endpoints(bed)?;
        fs::write(folder.join("nginx.conf"), config(options))
            .context("failed to write nginx.conf")?;
        let process = launch(bed, host, &folder)?;
        Ok(Self { process, folder })
    }

    /// The master's process id.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// The access log so far. nginx writes an entry when it is done with the request, which can
    /// be after the client is: [`Nginx::logged`] waits.
    pub fn log(&self) -> Result<Vec<log::Entry>> {
        log::read(&self.folder.join("access.log"))
    }

    /// Waits for the first entry with this URI.
    pub fn logged(&self, uri: &str) -> Result<log::Entry> {
        log::logged(&self.folder.join("access.log"), uri)
    }

    /// The error log so far.
    pub fn errors(&self) -> Result<String> {
        fs::read_to_string(self.folder.join("error.log")).context("failed to read error log")
    }

    /// Where its files are.
    pub fn folder(&self) -> &Path {
        &self.folder
    }
}

/// Packet filters of the backend host for the faults that need one.
pub fn unreachable_endpoints(bed: &Bed) -> Result<()> {
    let (dropped, rejected) = (Fault::Dropped.port(), Fault::Rejected.port());
    bed.nft(
        Host::Backend,
        &format!(
            "table inet faults\n\
             delete table inet faults\n\
             table inet faults {{ chain in {{\n\
               type filter hook input priority 0;\n\
               tcp dport {dropped} drop\n\
               meta nfproto ipv4 tcp dport {rejected} reject with icmp type host-unreachable\n\
               meta nfproto ipv6 tcp dport {rejected} reject with icmpv6 type addr-unreachable\n\
             }}\n}}\n"
        ),
    )
}

fn config(options: Options) -> String {
    let Options {
        workers,
        connections,
        descriptors,
    } = options;
    let mut text = format!(
        "user root;\n\
         daemon off;\n\
         pid nginx.pid;\n\
         worker_processes {workers};\n\
         worker_rlimit_nofile {descriptors};\n\
         events {{ worker_connections {connections}; }}\n\
         http {{\n\
         log_format tests '{format}';\n\
         access_log access.log tests;\n\
         error_log error.log info;\n\
         client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi;\n\
         uwsgi_temp_path uwsgi; scgi_temp_path scgi;\n\
         client_max_body_size 200m;\n\
         keepalive_timeout 60s; keepalive_requests 1000000;\n\
         proxy_connect_timeout 400ms; proxy_read_timeout 600ms; proxy_send_timeout 600ms;\n\
         proxy_http_version 1.1;\n\
         map $http_upgrade $switch {{ default upgrade; '' ''; }}\n\
         upstream none {{ server 10.77.0.3:1 down; }}\n",
        format = log::FORMAT,
    );
    for listener in Listener::ALL {
        server(&mut text, listener).expect("writing to a string cannot fail");
    }
    text.push_str("}\n");
    text
}

fn server(text: &mut String, listener: Listener) -> std::fmt::Result {
    let port = listener as u16;
    let v6 = listener == Listener::V6;
    let endpoints: Vec<(&str, String)> = Behavior::ALL
        .iter()
        .map(|one| {
            let host = if v6 { "[fd77::3]" } else { "10.77.0.3" };
            (one.word(), format!("{host}:{}", one.port()))
        })
        .chain(
            Fault::ALL
                .iter()
                .map(|one| (one.word(), format!("{}:{}", one.address(v6), one.port()))),
        )
        .collect();
    let patient = (PATIENT, endpoints[0].1.clone());
    let endpoints = [endpoints, vec![patient]].concat();
    for (word, endpoint) in &endpoints {
        upstream(text, listener, word, endpoint)?;
    }
    let kind = if listener.tls() { " ssl http2" } else { "" };
    let proxy = if listener == Listener::ProxyProtocol {
        " proxy_protocol"
    } else {
        ""
    };
    let retries = if listener.retries() {
        "error timeout"
    } else {
        "off"
    };
    writeln!(
        text,
        "server {{\nlisten {port}{kind}{proxy}; listen [::]:{port}{kind}{proxy};"
    )?;
    writeln!(text, "proxy_next_upstream {retries};")?;
    if listener.tls() {
        writeln!(
            text,
            "ssl_certificate cert.pem; ssl_certificate_key key.pem; ssl_protocols TLSv1.3;"
        )?;
    }
    if listener.pooled() {
        writeln!(text, "proxy_set_header Connection '';")?;
    }
    for (word, _) in &endpoints {
        writeln!(
            text,
            "location /{word}/ {{ {}proxy_pass http://{word}-{port}; }}",
            extra(word)
        )?;
    }
    // The controller's own answers: nothing behind the route, all endpoints marked down.
    writeln!(
        text,
        "location /none/ {{ return 503; }}\nlocation /down/ {{ proxy_pass http://none; }}\n}}"
    )
}

fn upstream(text: &mut String, listener: Listener, word: &str, endpoint: &str) -> std::fmt::Result {
    let ok = Behavior::Ok.endpoint();
    let refused = Fault::Refused;
    // A backup is tried only after the first: the order of attempts is certain.
    let second = match listener {
        Listener::Retry | Listener::TlsRetry => format!("server {ok} max_fails=0 backup; "),
        Listener::Twice => {
            format!(
                "server {}:{} max_fails=0 backup; ",
                refused.address(false),
                refused.port()
            )
        }
        _ => String::new(),
    };
    let pool = if listener.pooled() {
        "keepalive 32; "
    } else {
        ""
    };
    let port = listener as u16;
    writeln!(
        text,
        "upstream {word}-{port} {{ server {endpoint} max_fails=0; {second}{pool}}}"
    )
}

/// What single locations need beyond the listener's way.
fn extra(word: &str) -> &'static str {
    match word {
        // Longer than the kernel needs to learn it.
        PATIENT => "proxy_connect_timeout 4s; proxy_read_timeout 15s; ",
        "rejected" | "nobody" => "proxy_connect_timeout 4s; ",
        "websocket" | "websocket-close" => {
            "proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection $switch; "
        }
        _ => "",
    }
}
