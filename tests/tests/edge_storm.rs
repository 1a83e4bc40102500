//! Many clients at once, each request with its own path: every failure is told once, for the right
//! request and with the status that this client got, and nothing else is told.
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::thread;

use anyhow::Result;
use tests::client::{Connection, Leave, request};
use tests::edge::pause;
use tests::expect::Differences;
use tests::nginx::Listener;
use tests::world::World;

/// Path, whether the client leaves at once, and the outcome to find (none for what is fine).
const KINDS: &[(&str, &str, bool, Option<&str>)] = &[
    ("ok", "", false, None),
    ("ok", "?size=200000", false, None),
    ("ok", "?ms=20", false, None),
    ("ok", "?status=404", false, None),
    ("ok", "?status=503", false, Some("error_status")),
    ("ok", "?status=502&ms=15", false, Some("error_status")),
    ("refused", "", false, Some("connect_refused")),
    ("reset-request", "", false, Some("reset")),
    ("fin-request", "", false, Some("closed_early")),
    ("fin-body", "", false, Some("closed_early")),
    ("close-delimited", "", false, None),
    ("chunked", "", false, None),
    ("stall", "", true, None),
    ("hang", "", true, None),
];

struct Asked {
    status: Option<u16>,
    outcome: Option<&'static str>,
}

/// What one client does: each kind in an order of its own, on connections that stay.
fn client(world: &World, number: usize, truth: &Mutex<BTreeMap<String, Asked>>) -> Result<()> {
    let listener = [Listener::Plain, Listener::Pooled][number % 2];
    let mut connection = Connection::open(&world.bed, world.at(listener))?;
    for step in 0..2 * KINDS.len() {
        let (kind, query, leaves, outcome) = KINDS[(step * 5 + number * 3) % KINDS.len()];
        let path = format!("/{kind}/{number}-{step}");
        let status = if leaves {
            let mut other = Connection::open(&world.bed, world.at(listener))?;
            other.send(request("GET", &path, "").as_bytes())?;
            pause(30);
            other.leave(if step % 2 == 0 {
                Leave::Fin
            } else {
                Leave::Reset
            })?;
            None
        } else {
            let answer = connection.get(&format!("{path}{query}"))?;
            if !answer.complete || kind == "fin-body" {
                connection = Connection::open(&world.bed, world.at(listener))?;
            }
            answer.status
        };
        truth
            .lock()
            .expect("no client panics")
            .insert(path, Asked { status, outcome });
    }
    Ok(())
}

#[test]
fn a_storm_of_failures_and_successes() -> Result<()> {
    let world = World::new()?;
    let agent = world.agent()?;
    let asked = Mutex::new(BTreeMap::new());
    let results: Vec<Result<()>> = thread::scope(|scope| {
        let clients: Vec<_> = (0..24)
            .map(|number| {
                let (world, asked) = (&world, &asked);
                scope.spawn(move || client(world, number, asked))
            })
            .collect();
        clients
            .into_iter()
            .map(|one| one.join().expect("no client panics"))
            .collect()
    });
    results.into_iter().collect::<Result<Vec<_>>>()?;
    let found = world.others(agent)?;
    let mut differences = Differences::default();
    for (path, Asked { status, outcome }) in asked.into_inner().expect("no client panics") {
        let told: Vec<_> = found.iter().filter(|one| one.path() == path).collect();
        match (outcome, told.as_slice()) {
            (None, []) => {}
            (Some(outcome), [one]) => {
                let right = one.text("/outcome") == outcome
                    && one.status() == status
                    && one.text("/client_visible") == "yes"
                    && one.text("/status_source") == "observed";
                differences.check(right, || format!("{path} {status:?}: {}", one.0));
            }
            _ => differences.note(format!("{path} {status:?} {outcome:?}: {told:?}")),
        }
    }
    let unknown = found.iter().filter(|one| one.path().is_empty()).count();
    differences.check(unknown == 0, || {
        format!("{unknown} findings without a request")
    });
    differences.finish("");
    Ok(())
}
