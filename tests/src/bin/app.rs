//! The application of a pod: `app ADDRESS:PORT [--backlog N] [--deaf] [--once] [--descriptors N]`. Serves HTTP/1.1 with
//! keepalive; `/spin?ms=N` burns CPU time first, `/eat?mb=N` takes memory for good. With `--deaf` it
//! never accepts; with `--once` it closes a connection after an answer; `--descriptors` lowers its own limit. Says `listening` when all that is done.
use std::ffi::OsString;
use std::io::{self, BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::sync::Mutex;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

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
                thread::spawn(move || serve(stream, once));
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

/// An error is the other side's close.
fn serve(stream: TcpStream, once: bool) -> io::Result<()> {
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
        let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
        reader.get_mut().write_all(answer)?;
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
