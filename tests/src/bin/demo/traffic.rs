//! The demo's requests: mostly healthy ones, and each way to fail in turn. In: whether to go on.
//! Out: what the clients really got.
use std::collections::BTreeMap;
use std::thread::sleep;
use std::time::Duration;

use anyhow::Result;
use tests::client::{Connection, Leave, request};
use tests::nginx::Listener;
use tests::tls;
use tests::world::World;

/// Statuses that clients got, and how often; 0 is no status at all.
#[derive(Default)]
pub struct Sent(pub BTreeMap<u16, u64>);

impl Sent {
    /// Adds another client's.
    pub fn add(&mut self, other: &Self) {
        for (status, count) in &other.0 {
            *self.0.entry(*status).or_default() += count;
        }
    }

    fn note(&mut self, status: Option<u16>) {
        *self.0.entry(status.unwrap_or(0)).or_default() += 1;
    }
}

/// How to fail, one after the other.
const FAILING: &[(Listener, &str)] = &[
    (Listener::Plain, "/refused/cart"),
    (Listener::Plain, "/reset-request/checkout"),
    (Listener::Retry, "/refused/hidden-by-a-retry"),
    (Listener::Plain, "/hang/report"),
    (Listener::Plain, "/fin-body/image"),
    (Listener::Tls, "/fin-request/login"),
    (Listener::Plain, "/ok/search?status=503"),
    (Listener::Plain, "/dropped/policy"),
    (Listener::Plain, "/tls-alert/plaintext-to-a-tls-port"),
    (Listener::Plain, "/no-route/elsewhere"),
    (Listener::Plain, "/stall/download"),
    (Listener::Plain, "/none/no-endpoints"),
];

/// Healthy requests on one connection, which is opened again when it breaks.
pub fn healthy(world: &World, go: impl Fn() -> bool) -> Sent {
    let mut sent = Sent::default();
    while go() {
        // A broken connection is the demo's end, or the next loop's new one.
        let _ = steadily(world, &go, &mut sent);
        sleep(Duration::from_millis(20));
    }
    sent
}

fn steadily(world: &World, go: &impl Fn() -> bool, sent: &mut Sent) -> Result<()> {
    let mut client = Connection::open(&world.bed, world.at(Listener::Pooled))?;
    while go() {
        sent.note(client.get("/ok/home?size=2000&ms=3")?.status);
        sleep(Duration::from_millis(20));
    }
    client.leave(Leave::Fin)
}

/// One failure after the other, a few per second, with a race and an impatient client now and
/// then.
pub fn failing(world: &World, go: impl Fn() -> bool) -> Sent {
    let mut sent = Sent::default();
    for (number, (listener, path)) in FAILING.iter().cycle().enumerate() {
        if !go() {
            break;
        }
        // A client that gets nothing at all is part of it.
        let _ = fail(world, *listener, path, &mut sent);
        if number % 4 == 3 {
            let _ = race(world, &mut sent);
            let _ = impatient(world);
        }
        sleep(Duration::from_millis(200));
    }
    sent
}

fn fail(world: &World, listener: Listener, path: &str, sent: &mut Sent) -> Result<()> {
    let answer = match listener {
        Listener::Tls => tls::get(&world.bed, world.at(listener), path)?,
        _ => world.get(listener, path)?,
    };
    sent.note(answer.status);
    Ok(())
}

/// The second request meets a pooled connection that the backend has closed.
fn race(world: &World, sent: &mut Sent) -> Result<()> {
    let mut client = Connection::open(&world.bed, world.at(Listener::Pooled))?;
    for _ in 0..2 {
        sent.note(client.get("/race/basket")?.status);
    }
    Ok(())
}

/// A client that leaves before the answer: no failure.
fn impatient(world: &World) -> Result<()> {
    let mut client = Connection::open(&world.bed, world.at(Listener::Plain))?;
    client.send(request("GET", "/hang/impatient", "").as_bytes())?;
    sleep(Duration::from_millis(100));
    client.leave(Leave::Reset)
}
