//! How data planes end: gently or at once, with requests in flight and idle clients; and how Envoy
//! succeeds itself. None of it is a finding, though what is dropped looks like a failure.
use std::fs;
use std::sync::Mutex;

use anyhow::{Context, Result, ensure};
use tests::agent::VERDICT;
use tests::backends::Behavior as B;
use tests::client::{self as plain, request};
use tests::expect::Differences;
use tests::planes::life::{Life, all, ask};
use tests::planes::own::{PORT, TLS_PORT, at};
use tests::planes::{Plane, checks};
use tests::{h2, https, wait};

/// Clients of each kind that have asked once and keep their connections.
const IDLE: usize = 8;
/// How long an answer takes that the end comes between.
const SLOW: &str = "/slow?ms=1500";

/// How the process is told to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// It finishes what it has.
    Gentle,
    /// It drops what it has.
    AtOnce,
    /// It is killed.
    Killed,
}

fn tell(life: &mut Life, end: End) -> Result<()> {
    let signal = match (end, life.plane) {
        (End::Killed, _) => libc::SIGKILL,
        (End::Gentle, Plane::Nginx) | (End::AtOnce, Plane::Caddy) => libc::SIGQUIT,
        (End::Gentle, Plane::Haproxy) => libc::SIGUSR1,
        (End::Gentle, Plane::Envoy) => {
            admin(life, "/healthcheck/fail")?;
            return admin(life, "/drain_listeners?graceful");
        }
        (End::Gentle, Plane::Traefik | Plane::Caddy) | (End::AtOnce, _) => libc::SIGTERM,
    };
    life.own.process.signal(signal);
    Ok(())
}

fn admin(life: &Life, path: &str) -> Result<()> {
    let mut admin = plain::Connection::open(&life.bed, at(checks::own_port(Plane::Envoy)))?;
    admin.send(request("POST", path, "Content-Length: 0\r\n").as_bytes())?;
    let got = admin.answer()?;
    ensure!(got.status == Some(200), "{path}: {got:?}");
    Ok(())
}

/// Requests in flight and idle clients while `work` is done; whether all of the former were answered.
fn held(life: &mut Life, work: impl FnOnce(&mut Life) -> Result<()>) -> Result<bool> {
    let mut plain = Vec::new();
    let mut encrypted = Vec::new();
    let mut streams = Vec::new();
    for _ in 0..IDLE {
        let mut clear = plain::Connection::open(&life.bed, at(PORT))?;
        let mut tls = https::open(&life.bed, at(TLS_PORT))?;
        let http2 = h2::Connection::open(&life.bed, at(TLS_PORT))?;
        for status in [
            clear.get("/first")?.status,
            tls.get("/first")?.status,
            http2.get("/first")?.status,
        ] {
            ensure!(status == Some(200), "{status:?}");
        }
        plain.push(clear);
        encrypted.push(tls);
        streams.push(http2);
    }
    let before = life.backends.requests(B::Ok)?;
    let ask = request("GET", SLOW, "");
    plain[0].send(ask.as_bytes())?;
    encrypted[0].send(ask.as_bytes())?;
    let stream = streams[0].ask("GET", SLOW, b"")?;
    wait::holds("requests in flight", VERDICT, || {
        let now = life.backends.requests(B::Ok);
        now.is_ok_and(|now| now >= before + 3)
    })?;
    work(life)?;
    let answers = [
        plain[0].answer().map(|got| (got.status, got.complete)),
        encrypted[0].answer().map(|got| (got.status, got.complete)),
        stream.answer().map(|got| (got.status, got.complete)),
    ];
    Ok(answers
        .into_iter()
        .all(|got| got.is_ok_and(|got| got == (Some(200), true))))
}

/// Starts the next process, as a container that is started again.
fn again(life: &mut Life, arguments: &[&str]) -> Result<()> {
    life.own.succeed(&life.bed, arguments)?.wait(VERDICT)?;
    relays(life)
}

fn relays(life: &Life) -> Result<()> {
    wait::holds("requests relayed", VERDICT, || {
        ask(&life.bed, "/ready").is_ok()
    })
    .with_context(|| life.own.output())
}

fn ends(end: End, mut life: Life, differences: &Mutex<Differences>) -> Result<()> {
    let plane = life.plane;
    for _ in 0..2 {
        let answered = held(&mut life, |life| tell(life, end))?;
        let finishes = end == End::Gentle;
        ensure!(!finishes || answered, "{plane:?}: a request was dropped");
        if end == End::Gentle && plane == Plane::Envoy {
            admin(&life, "/quitquitquit")?;
        }
        life.own.process.wait(VERDICT)?;
        again(&mut life, &[])?;
    }
    life.finish(differences)
}

#[test]
fn a_gentle_end_with_requests_in_flight() -> Result<()> {
    all(false, |life, differences| {
        ends(End::Gentle, life, differences)
    })
}

#[test]
fn an_end_at_once_with_requests_in_flight() -> Result<()> {
    all(false, |life, differences| {
        ends(End::AtOnce, life, differences)
    })
}

#[test]
fn a_data_plane_that_is_killed() -> Result<()> {
    all(false, |life, differences| {
        ends(End::Killed, life, differences)
    })
}

/// Files of a hot restart that stay in shared memory.
struct Shared(u32);

impl Shared {
    /// Numbers of other runs on this machine are other ones.
    fn new() -> Self {
        Self(std::process::id() % 30_000)
    }

    fn arguments(&self, epoch: u32) -> [String; 8] {
        let (base, epoch) = (self.0.to_string(), epoch.to_string());
        let words = ["--restart-epoch", &epoch, "--base-id", &base];
        let times = ["--drain-time-s", "2", "--parent-shutdown-time-s", "4"];
        [words, times].concat().try_into().map_or_else(
            |_| unreachable!("four and four words"),
            |words: [&str; 8]| words.map(str::to_owned),
        )
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        let names = ["envoy_shared_memory_", "envoy_shared_region_"];
        for name in names {
            let _ = fs::remove_file(format!("/dev/shm/{name}{}0", self.0));
        }
    }
}

#[test]
fn envoy_hands_over_to_its_next_epoch() -> Result<()> {
    let shared = Shared::new();
    let differences = Mutex::new(Differences::default());
    let epoch = |number| shared.arguments(number);
    let words = epoch(0);
    let words = words.each_ref().map(String::as_str);
    let mut life = Life::with(Plane::Envoy, false, &words)?;
    for number in 1..=2 {
        let answered = held(&mut life, |life| {
            let words = epoch(number);
            let words = words.each_ref().map(String::as_str);
            let mut before = life.own.succeed(&life.bed, &words)?;
            // It tells the old one to drain, and later to end.
            before.wait(VERDICT)?;
            Ok(())
        })?;
        ensure!(answered, "a request was dropped");
        relays(&life)?;
    }
    life.finish(&differences)?;
    differences
        .into_inner()
        .expect("no thread panics with it")
        .finish("");
    Ok(())
}
