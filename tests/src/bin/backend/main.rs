//! The backend pod's program: listens on one port per behavior, tells its counts on stdout for
//! each line on stdin. Must not talk to anyone that did not ask.
use std::collections::BTreeMap;
use std::io::{self, BufRead, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use anyhow::{Context, Result};
use tests::backends::{Behavior, Seen};

mod answers;
mod request;

/// Live counts of one port.
#[derive(Default)]
struct Counts {
    connections: AtomicU64,
    requests: AtomicU64,
    closed: AtomicU64,
}

impl Counts {
    fn seen(&self) -> Seen {
        Seen {
            connections: self.connections.load(Ordering::SeqCst),
            requests: self.requests.load(Ordering::SeqCst),
            closed: self.closed.load(Ordering::SeqCst),
        }
    }
}

fn main() -> Result<()> {
    let mut ports = BTreeMap::new();
    for &behavior in Behavior::ALL {
        // The IPv6 wildcard takes IPv4 too (bindv6only is off in a new namespace).
        let listener = TcpListener::bind(("::", behavior.port())).context("failed to listen")?;
        let counts = Arc::new(Counts::default());
        ports.insert(behavior.port(), Arc::clone(&counts));
        thread::spawn(move || accept(behavior, &listener, &counts));
    }
    let mut out = io::stdout();
    for line in io::stdin().lock().lines() {
        line.context("failed to read control")?;
        let seen: BTreeMap<_, _> = ports
            .iter()
            .map(|(port, counts)| (port, counts.seen()))
            .collect();
        let text = serde_json::to_string(&seen).context("failed to write counts")?;
        writeln!(out, "{text}").context("failed to write counts")?;
    }
    Ok(())
}

fn accept(behavior: Behavior, listener: &TcpListener, counts: &Arc<Counts>) {
    for stream in listener.incoming().flatten() {
        counts.connections.fetch_add(1, Ordering::SeqCst);
        let counts = Arc::clone(counts);
        thread::spawn(move || {
            // An error is the other side's close: part of the game.
            let _ = serve(behavior, stream, &counts);
            counts.closed.fetch_add(1, Ordering::SeqCst);
        });
    }
}

fn serve(behavior: Behavior, stream: TcpStream, counts: &Counts) -> io::Result<()> {
    stream.set_nodelay(true)?;
    if behavior == Behavior::ResetUnread {
        return answers::reset_unread(stream);
    }
    let mut reader = io::BufReader::new(stream);
    let mut exchange = 0;
    while let Some(head) = request::head(&mut reader)? {
        exchange += 1;
        counts.requests.fetch_add(1, Ordering::SeqCst);
        if behavior != Behavior::EarlyAnswer {
            request::body(&mut reader, &head)?;
        }
        match answers::answer(behavior, &head, exchange, reader.get_mut())? {
            answers::Next::Keep => {}
            answers::Next::Close => break,
            answers::Next::Reset => return answers::reset(reader.get_ref()),
        }
    }
    Ok(())
}
