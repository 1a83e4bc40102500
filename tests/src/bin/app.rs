//! The application of a pod: `app ADDRESS:PORT [--backlog N] [--deaf] [--once] [--descriptors N] [--tls FOLDER]`.
//! Serves HTTP/1.1 with keepalive, with `--tls` by the certificate in that folder; `/spin?ms=N` burns CPU
//! time first, `/eat?mb=N` takes memory for good, `?do=` says how it fails: `hang`, `reset`, `close`,
//! `busy` (503). With `--deaf` it never accepts; with `--once` it closes a connection after an answer;
//! `--descriptors` lowers its own limit. Says `listening` when all that is done.
use std::ffi::OsString;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsRawFd, RawFd};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tests::client::abort_on_close;
use tests::secure::pair;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::{ServerConfig, ServerConnection, StreamOwned};

/// What was eaten.
static EATEN: Mutex<Vec<Vec<u8>>> = Mutex::new(Vec::new());

fn main() -> Result<()> {
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    let word = |at: usize| arguments.get(at).and_then(|word| word.to_str());
    let option = |name: &str| {
        let at = arguments.iter().position(|word| word == name)?;
        word(at + 1)?.parse::<u32>().ok()
    };
    let at = word(0).context("no ADDRESS:PORT")?;
    let listener = TcpListener::bind(at).context("failed to listen")?;
    if let Some(backlog) = option("--backlog") {
        listen_again(&listener, backlog)?;
    }
    if let Some(most) = option("--descriptors") {
        lower(most)?;
    }
    let folder = arguments.iter().position(|word| word == "--tls");
    let folder = folder.and_then(|at| arguments.get(at + 1));
    let tls = folder.map(|folder| config(folder.as_ref())).transpose()?;
    println!("listening");
    if arguments.iter().any(|word| word == "--deaf") {
        loop {
            thread::park();
        }
    }
    let once = arguments.iter().any(|word| word == "--once");
    loop {
        match listener.accept() {
            Ok((stream, _)) => {
                let tls = tls.clone();
                thread::spawn(move || accepted(stream, once, tls));
            }
            // Out of descriptors: as servers do, it tries again.
            Err(_) => thread::sleep(Duration::from_millis(20)),
        }
    }
}

/// The standard library asks for a queue of its own choice.
fn listen_again(listener: &TcpListener, backlog: u32) -> Result<()> {
    let backlog = i32::try_from(backlog).context("too large a backlog")?;
    // SAFETY: a system call on a descriptor that lives until it returns.
    let failed = unsafe { libc::listen(listener.as_raw_fd(), backlog) };
    ensure!(failed == 0, "failed to listen again");
    Ok(())
}

fn lower(most: u32) -> Result<()> {
    let limit = libc::rlimit {
        rlim_cur: most.into(),
        rlim_max: most.into(),
    };
    // SAFETY: the pointer is to a local struct that outlives the call.
    let failed = unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) };
    ensure!(failed == 0, "failed to lower the limit");
    Ok(())
}

fn config(folder: &Path) -> Result<Arc<ServerConfig>> {
    let (certificate, key) = pair(folder)?;
    let provider = Arc::new(ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .context("failed to choose a version of TLS")?
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key);
    config.map(Arc::new).context("failed to use a certificate")
}

/// An error is the other side's close.
fn accepted(stream: TcpStream, once: bool, tls: Option<Arc<ServerConfig>>) -> io::Result<()> {
    let socket = stream.as_raw_fd();
    let Some(config) = tls else {
        return serve(stream, socket, once);
    };
    let connection = ServerConnection::new(config).map_err(io::Error::other)?;
    serve(StreamOwned::new(connection, stream), socket, once)
}

fn serve(stream: impl Read + Write, socket: RawFd, once: bool) -> io::Result<()> {
    let mut reader = BufReader::new(stream);
    loop {
        let mut first = String::new();
        if reader.read_line(&mut first)? == 0 {
            return Ok(());
        }
        let mut line = String::new();
        while line != "\r\n" {
            line.clear();
            if reader.read_line(&mut line)? == 0 {
                return Ok(());
            }
        }
        let target = first.split(' ').nth(1).unwrap_or_default();
        work(target);
        let status = match target.split_once("?do=").map(|(_, how)| how) {
            Some("hang") => return io::copy(&mut reader, &mut io::sink()).map(drop),
            Some("reset") => return abort_on_close(socket),
            Some("close") => return Ok(()),
            Some("busy") => "503 Service Unavailable",
            _ => "200 OK",
        };
        // In one piece: else the rest waits for the other side's acknowledgment.
        let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 2\r\n\r\nok");
        reader.get_mut().write_all(answer.as_bytes())?;
        if once {
            return Ok(());
        }
    }
}

fn work(target: &str) {
    let number = |key: &str| {
        let (_, query) = target.split_once('?')?;
        query.strip_prefix(key)?.strip_prefix('=')?.parse().ok()
    };
    if let Some(ms) = number("ms") {
        spin(Duration::from_millis(ms));
    }
    if let Some(megabytes) = number("mb")
        && let Ok(mut eaten) = EATEN.lock()
    {
        // Written to: else the kernel would only promise it.
        let size = usize::try_from(megabytes).unwrap_or(0) << 20;
        eaten.push(vec![1; size]);
    }
}

/// CPU time, not time: a thread that is held back needs longer.
fn spin(least: Duration) {
    let used = || {
        let mut time = libc::timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        // SAFETY: the pointer is to a local struct that outlives the call.
        unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
        Duration::new(
            time.tv_sec.unsigned_abs(),
            u32::try_from(time.tv_nsec).unwrap_or(0),
        )
    };
    let until = used() + least;
    while used() < until {
        std::hint::spin_loop();
    }
}
