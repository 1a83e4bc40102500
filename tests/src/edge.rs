//! Edge cases: a second nginx in the ingress pod with a test's own configuration, and backends that
//! follow a script, as threads of the test in the backend's namespace.
use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::agent::Finding;
use crate::bed::{Bed, Host};
use crate::client::abort_on_close;
use crate::nginx::launch;
use crate::process::Process;
use crate::{log, tls};

/// A connection that a scripted backend has accepted.
pub struct Peer {
    stream: BufReader<TcpStream>,
    /// Its 1-based number on its port.
    pub number: u64,
}

impl Peer {
    /// Reads a request's head, with its empty line; none when the other side has closed.
    pub fn request(&mut self) -> io::Result<Option<String>> {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if self.stream.read_line(&mut head)? == 0 {
                return Ok(None);
            }
        }
        Ok(Some(head))
    }

    /// Reads exactly this many bytes.
    pub fn take(&mut self, count: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; count];
        self.stream.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    /// Sends bytes.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.stream.get_mut().write_all(bytes.as_ref())
    }

    /// Sends each part as a segment of its own.
    pub fn pieces<T: AsRef<[u8]>>(&mut self, parts: &[T]) -> io::Result<()> {
        for part in parts {
            self.send(part)?;
            pause(20);
        }
        Ok(())
    }

    /// Makes the close a RST.
    pub fn abort(&mut self) -> io::Result<()> {
        abort_on_close(self.stream.get_ref().as_raw_fd())
    }

    /// Reads until the other side closes.
    pub fn wait(&mut self) -> io::Result<()> {
        io::copy(&mut self.stream, &mut io::sink()).map(drop)
    }
}

/// A 200 head of about this many bytes, as cookies make them; its framing header lines come last.
pub fn head(size: usize, framing: &str) -> String {
    let mut text = "HTTP/1.1 200 OK\r\n".to_owned();
    for number in 0.. {
        if text.len() >= size {
            break;
        }
        text.extend([
            "Set-Cookie: ",
            &number.to_string(),
            "=",
            &"v".repeat(60),
            "\r\n",
        ]);
    }
    text + framing + "\r\n"
}

/// Ends a test with what was found although nothing had failed.
///
/// # Panics
/// If there is any finding but of slow exchanges, which are warnings by contract.
pub fn silent(found: &[Finding]) {
    let alarms: Vec<String> = found
        .iter()
        .filter(|one| one.text("/outcome") != "slow")
        .map(|one| one.0.to_string())
        .collect();
    assert!(
        alarms.is_empty(),
        "{} false alarms:\n{}",
        alarms.len(),
        alarms.join("\n")
    );
}

/// Sleeps this many milliseconds: what a slow application does.
pub fn pause(ms: u64) {
    thread::sleep(Duration::from_millis(ms));
}

/// Serves the port on the backend host: every connection follows the script and is closed after it.
pub fn serve(
    bed: &Bed,
    port: u16,
    script: impl Fn(&mut Peer) -> io::Result<()> + Send + Sync + 'static,
) -> Result<()> {
    let listener = bed.inside(Host::Backend, || {
        TcpListener::bind(("::", port)).with_context(|| format!("failed to listen on {port}"))
    })?;
    let (script, count) = (Arc::new(script), AtomicU64::new(0));
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let number = count.fetch_add(1, Ordering::SeqCst) + 1;
            let script = Arc::clone(&script);
            thread::spawn(move || {
                // An error is the other side's close: part of the game.
                let _ = stream.set_nodelay(true);
                let stream = BufReader::new(stream);
                let _ = script(&mut Peer { stream, number });
            });
        }
    });
    Ok(())
}

/// The second nginx. Its configuration may use `$BACKEND` for the backend's address.
pub struct Edge {
    process: Process,
    folder: PathBuf,
}

impl Drop for Edge {
    fn drop(&mut self) {
        // As for the first one: the master takes its workers with it.
        self.process.signal(libc::SIGTERM);
        let _ = self.process.wait(Duration::from_secs(5));
    }
}

impl Edge {
    /// Starts it with `main` (outside of `http`) and `http` (inside); returns once it listens.
    pub fn start(bed: &Bed, main: &str, http: &str) -> Result<Self> {
        Self::start_on(bed, Host::Proxy, main, http)
    }

    /// The same on any host: a real server as a backend.
    pub fn start_on(bed: &Bed, host: Host, main: &str, http: &str) -> Result<Self> {
        let folder = bed.folder().join(format!("nginx-edge-{}", host.v4()));
        fs::create_dir_all(&folder).context("failed to create nginx's folder")?;
        tls::certificate(&folder)?;
        fs::write(folder.join("nginx.conf"), config(main, http))
            .context("failed to write nginx.conf")?;
        let process = launch(bed, host, &folder)?;
        Ok(Self { process, folder })
    }

    /// Sends the master a signal.
    pub fn signal(&mut self, number: i32) {
        self.process.signal(number);
    }

    /// Process ids of its workers.
    pub fn workers(&self) -> Result<Vec<u32>> {
        let id = self.process.id();
        let text = fs::read_to_string(format!("/proc/{id}/task/{id}/children"))
            .context("failed to read nginx's children")?;
        Ok(text
            .split_whitespace()
            .filter_map(|word| word.parse().ok())
            .collect())
    }

    /// Where one of its servers listens.
    pub fn at(&self, port: u16) -> SocketAddr {
        SocketAddr::new(Host::Proxy.v4(), port)
    }

    /// The access log so far.
    pub fn log(&self) -> Result<Vec<log::Entry>> {
        log::read(&self.folder.join("access.log"))
    }

    /// Waits for the first entry with this URI.
    pub fn logged(&self, uri: &str) -> Result<log::Entry> {
        log::logged(&self.folder.join("access.log"), uri)
    }

    /// The error log so far.
    pub fn errors(&self) -> String {
        fs::read_to_string(self.folder.join("error.log")).unwrap_or_default()
    }

    /// Where its files are.
    pub fn folder(&self) -> &std::path::Path {
        &self.folder
    }
}

fn config(main: &str, http: &str) -> String {
    let http = http.replace("$BACKEND", &Host::Backend.v4().to_string());
    format!(
        "user root; daemon off; pid nginx.pid; worker_processes 1;\n{main}\n\
         events {{ worker_connections 1024; }}\n\
         http {{\n\
         log_format tests '{format}'; access_log access.log tests; error_log error.log info;\n\
         client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi;\n\
         uwsgi_temp_path uwsgi; scgi_temp_path scgi; client_max_body_size 200m;\n\
         keepalive_requests 1000000; proxy_http_version 1.1;\n\
         proxy_connect_timeout 400ms; proxy_read_timeout 5s; proxy_send_timeout 5s;\n\
         proxy_next_upstream off;\n{http}\n}}\n",
        format = log::FORMAT,
    )
}
