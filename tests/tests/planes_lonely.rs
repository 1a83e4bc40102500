//! Clients under TLS, one at a time with nobody else around, while a backend is down: nothing of them
//! can be read, each failure is alone, the same over and over. Each must be told all the same.
use std::sync::Mutex;
use std::time::Duration;

use anyhow::{Result, ensure};
use tests::backends::Behavior as B;
use tests::client::request;
use tests::edge::pause;
use tests::expect::Differences;
use tests::nginx::Fault;
use tests::planes::client::{Client, Connection, Got};
use tests::planes::{Plane, Way, World, each};
use tests::{https, wait};

/// How a client asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Manner {
    /// On a connection of its own.
    Fresh(Client),
    /// On one that it keeps.
    Kept(Client),
    /// Its request takes a while to arrive: the attempt begins long after its first byte.
    Slow,
}

const MANNERS: [Manner; 5] = [
    Manner::Fresh(Client::Tls),
    Manner::Fresh(Client::H2),
    Manner::Kept(Client::Tls),
    Manner::Kept(Client::H2),
    Manner::Slow,
];

/// More often than what is learnt to be a controller's own.
const TIMES: usize = 4;

/// Longer than a failure waits for the end of its retry.
const PATIENCE: Duration = Duration::from_secs(20);

/// Longer than the agent needs to see that nobody else was around.
const APART: u64 = 600;

const BEHAVIORS: [B; 3] = [B::ResetRequest, B::FinRequest, B::FinHead];

/// Asks for the same several times; every request must fail.
fn ask(world: &World, manner: Manner, path: &str) -> Result<()> {
    let mut kept = match manner {
        Manner::Kept(client) => Some(Connection::open(world, client, client.at(Way::Single))?),
        Manner::Fresh(_) | Manner::Slow => None,
    };
    for _ in 0..TIMES {
        pause(APART);
        let failed = match (manner, &mut kept) {
            (Manner::Fresh(client), _) => world.ask(client, client.at(Way::Single), path)?.failed(),
            (Manner::Slow, _) => slowly(world, path)?,
            (Manner::Kept(client), Some(connection)) => {
                let got = connection.request("GET", path, "");
                // Ended behind this failure, or the one before: HAProxy answers nothing then.
                if got.as_ref().map_or(true, |got| got.status.is_none()) {
                    *connection = Connection::open(world, client, client.at(Way::Single))?;
                }
                got.map_or(true, Got::failed)
            }
            (Manner::Kept(_), None) => false,
        };
        ensure!(failed, "{manner:?} {path}");
    }
    Ok(())
}

fn slowly(world: &World, path: &str) -> Result<bool> {
    let to = world.at(Client::Tls.at(Way::Single));
    let mut connection = https::open(&world.bed, to)?;
    let head = request("GET", path, "Connection: close\r\n");
    let (begin, end) = head.split_at(20);
    connection.send(begin.as_bytes())?;
    pause(150);
    connection.send(end.as_bytes())?;
    let got = connection.answer()?;
    Ok(!got.complete || got.status >= Some(500))
}

fn lonely(plane: Plane, differences: &Mutex<Differences>) -> Result<()> {
    let mut world = World::new(plane)?;
    let agent = world.agent()?;
    let count = |port: u16| {
        let told = agent.findings();
        let fits = told.iter().filter(|one| {
            let seen = one.text("/client_visible") != "no";
            seen && one.number("/backend/port") == Some(port.into())
        });
        fits.count()
    };
    let faults = BEHAVIORS.map(|one| (one.word(), one.port(), Some(one)));
    let refused = ("refused", Fault::Refused.port(), None);
    for (word, port, behavior) in faults.into_iter().chain([refused]) {
        for manner in MANNERS {
            let before = count(port);
            let asked = |world: &mut World| behavior.map(|one| world.backends.requests(one));
            let earlier = asked(&mut world).transpose()?;
            ask(&world, manner, &format!("/{word}/lonely"))?;
            // What came upon a connection that had just ended is no attempt.
            let attempts = match (earlier, asked(&mut world).transpose()?) {
                (Some(earlier), Some(now)) => usize::try_from(now - earlier)?,
                _ => TIMES,
            };
            ensure!(attempts >= TIMES / 2, "{plane:?} {word} {manner:?}");
            // What no answer is joined to is told when no retry can end any more.
            let told = wait::holds("told", PATIENCE, || count(port) >= before + attempts);
            let got = count(port) - before;
            let mut differences = differences.lock().expect("no thread panics with it");
            differences.check(told.is_ok() && got == attempts, || {
                format!("{plane:?} {word} {manner:?}: {got} of {attempts} told")
            });
        }
    }
    agent.stop().map(drop)
}

#[test]
fn the_failures_of_lonely_clients_that_cannot_be_read_are_told() -> Result<()> {
    let differences = Mutex::new(Differences::default());
    each(|plane| lonely(plane, &differences))?;
    differences
        .into_inner()
        .expect("no thread panics with it")
        .finish("");
    Ok(())
}
