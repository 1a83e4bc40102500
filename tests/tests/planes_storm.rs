//! Many clients at once on every data plane, each request with its own path: nearly every failure
//! is told once, for the right request and as its client got it, and nothing is told of what was
//! fine. Under TLS and HTTP/2, where nobody's answer can be read, the failures are counted.
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::thread;

use anyhow::{Context, Result};
use tests::agent::{Agent, Finding};
use tests::expect::Differences;
use tests::metrics::Page;
use tests::planes::client::{Client, Connection, Got};
use tests::planes::{NONE, Plane, Way, World, each};

/// Clients at once.
const CLIENTS: usize = 4;
/// How often each of them does each kind.
const ROUNDS: usize = 16;

/// Most attempts of Traefik and Caddy, as the bed configures them.
const ATTEMPTS: usize = 4;

/// What a client asks for, and what is to be told of it.
struct Kind {
    word: &'static str,
    query: &'static str,
    way: Way,
    told: Told,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    /// It is fine.
    Nothing,
    /// The client leaves before the answer.
    Left,
    /// A failure with this outcome.
    Once(&'static str),
    /// A failure that a retry hides. Where endpoints take turns, a request may meet the healthy one
    /// first, or the failing one again and again while others take the healthy one's turns.
    Hidden(&'static str),
}

const fn kind(word: &'static str, query: &'static str, way: Way, told: Told) -> Kind {
    Kind {
        word,
        query,
        way,
        told,
    }
}

/// Their number has no divisor but one in common with the steps of [`client`].
const KINDS: [Kind; 17] = [
    kind("ok", "", Way::Single, Told::Nothing),
    kind("ok", "", Way::Pooled, Told::Nothing),
    kind("ok", "?size=100000", Way::Pooled, Told::Nothing),
    kind("ok", "?ms=20", Way::Pooled, Told::Nothing),
    kind("ok", "?status=404", Way::Pooled, Told::Nothing),
    kind("chunked", "", Way::Pooled, Told::Nothing),
    kind("ok", "?ms=300", Way::Single, Told::Left),
    kind("ok", "?status=503", Way::Pooled, Told::Once("error_status")),
    kind(
        "ok",
        "?status=502&ms=15",
        Way::Single,
        Told::Once("error_status"),
    ),
    kind("refused", "", Way::Single, Told::Once("connect_refused")),
    kind("refused", "", Way::Pooled, Told::Once("connect_refused")),
    kind("refused", "", Way::Retry, Told::Hidden("connect_refused")),
    kind("reset-request", "", Way::Pooled, Told::Once("reset")),
    kind("fin-request", "", Way::Single, Told::Once("closed_early")),
    kind("fin-body", "", Way::Pooled, Told::Once("closed_early")),
    kind("hang", "", Way::Pooled, Told::Once("response_timeout")),
    kind(NONE, "", Way::Single, Told::Once("no_upstream")),
];

/// A request that was made.
struct Asked {
    kind: &'static Kind,
    got: Got,
}

type Truth = BTreeMap<String, Asked>;

/// What one client does: each kind in an order of its own, on connections that stay while all is
/// well.
fn client(world: &World, client: Client, number: usize, truth: &Mutex<Truth>) -> Result<()> {
    let mut kept: BTreeMap<u16, Connection> = BTreeMap::new();
    for step in 0..ROUNDS * KINDS.len() {
        let kind = &KINDS[(step * 5 + number * 3) % KINDS.len()];
        let listener = client.at(kind.way);
        let path = format!("/{}/{number}-{step}", kind.word);
        let uri = format!("{path}{}", kind.query);
        let open = || Connection::open(world, client, listener);
        let got = if kind.told == Told::Left {
            // The request is on its way, its answer is not; people leave when they like, no timer.
            open()?.abandon(&uri, 20 + (number * 37 + step * 53) as u64 % 200)?;
            Got::default()
        } else {
            let connection = kept.remove(&(listener as u16));
            let mut connection = connection.map_or_else(open, Ok)?;
            let got = connection
                .request("GET", &uri, "")
                .with_context(|| path.clone())?;
            if !got.failed() {
                kept.insert(listener as u16, connection);
            }
            got
        };
        let asked = Asked { kind, got };
        truth.lock().expect("no client panics").insert(path, asked);
    }
    Ok(())
}

/// Sends it; the truth, and how many exchanges there were but for failed connects.
fn storm(world: &mut World, kind: Client) -> Result<(Truth, u64)> {
    let before = read(world)?;
    let truth = clients(world, kind)?;
    Ok((truth, read(world)? - before))
}

/// Requests that the backends have read.
fn read(world: &mut World) -> Result<u64> {
    let seen = world.backends.seen()?;
    Ok(seen.values().map(|seen| seen.requests).sum())
}

fn clients(world: &World, kind: Client) -> Result<Truth> {
    let truth = Mutex::new(Truth::new());
    let results: Vec<Result<()>> = thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|number| {
                scope.spawn({
                    let truth = &truth;
                    move || client(world, kind, number, truth)
                })
            })
            .collect();
        let ended = clients.into_iter().map(thread::ScopedJoinHandle::join);
        ended.map(|one| one.expect("no client panics")).collect()
    });
    results.into_iter().collect::<Result<Vec<_>>>()?;
    Ok(truth.into_inner().expect("no client panics"))
}

fn note(differences: &Mutex<Differences>, holds: bool, text: impl FnOnce() -> String) {
    let mut differences = differences.lock().expect("no thread panics with it");
    differences.check(holds, text);
}

/// Every exchange and every failed connect must be counted, whatever is told of it.
fn counted(
    agent: &Agent,
    plane: Plane,
    truth: &Truth,
    exchanges: u64,
    differences: &Mutex<Differences>,
) -> Result<()> {
    let (mut least, most) = expected(plane, truth)["connect_refused"];
    if plane == Plane::Envoy {
        // One refused connect fails all requests that wait for any connection to that endpoint.
        least -= least / 20;
    }
    let range = exchanges + least as u64..=exchanges + most as u64;
    let count = |page: &Page| page.count("ingress_trace_upstream_exchanges_total", &[]);
    let page = agent.metric("all exchanges", |page| count(page) >= *range.start())?;
    note(differences, range.contains(&count(&page)), || {
        format!("{plane:?}: {} exchanges, not {range:?}", count(&page))
    });
    Ok(())
}

/// What was said of the requests.
#[derive(Debug, Default)]
struct Tally {
    failing: usize,
    right: usize,
    /// Told once and with the right outcome, but not what the client got of it.
    unsure: usize,
    /// How often what was said of which kind instead.
    wrong: BTreeMap<String, usize>,
    /// What was said of requests that were fine.
    alarms: BTreeMap<String, usize>,
    /// Findings of no request that was made.
    astray: usize,
    /// Hidden failures that nothing was said of under their own path.
    hidden: usize,
}

/// What is wrong with what was said of a failing request.
fn wrong(asked: &Asked, told: &[&Finding], outcome: &str, attempts: usize) -> Option<String> {
    if told.is_empty() || told.len() > attempts {
        let outcomes: Vec<_> = told.iter().map(|one| one.text("/outcome")).collect();
        return Some(format!("told {} times {outcomes:?}", told.len()));
    }
    let visible = if asked.got.failed() { "yes" } else { "no" };
    let right = (outcome, asked.got.status, visible);
    told.iter().find_map(|one| {
        let observed = one.status().is_none() || one.text("/status_source") == "observed";
        let told = (
            one.text("/outcome"),
            one.status(),
            one.text("/client_visible"),
        );
        (told != right || !observed).then(|| format!("{told:?} observed {observed}, not {right:?}"))
    })
}

fn judge(plane: Plane, truth: &Truth, findings: &[Finding]) -> Tally {
    let mut tally = Tally::default();
    let mut by_path: BTreeMap<&str, Vec<&Finding>> = BTreeMap::new();
    for finding in findings {
        by_path.entry(finding.path()).or_default().push(finding);
    }
    for (path, asked) in truth {
        let kind = asked.kind;
        let told = by_path.remove(path.as_str()).unwrap_or_default();
        let name = format!("{}{} {:?}", kind.word, kind.query, kind.way);
        let (outcome, attempts) = match kind.told {
            Told::Nothing | Told::Left => {
                for one in told {
                    let alarm = format!("{name} {:?}: {}", kind.told, one.text("/outcome"));
                    *tally.alarms.entry(alarm).or_default() += 1;
                }
                continue;
            }
            Told::Hidden(_) if plane.alternates() && told.is_empty() => {
                tally.hidden += 1;
                continue;
            }
            Told::Hidden(outcome) if plane.alternates() => (outcome, ATTEMPTS),
            Told::Once(outcome) | Told::Hidden(outcome) => (outcome, 1),
        };
        tally.failing += 1;
        if let [one] = told.as_slice()
            && one.text("/outcome") == outcome
            && one.text("/client_visible") == "unknown"
        {
            tally.unsure += 1;
            continue;
        }
        match wrong(asked, &told, outcome, attempts) {
            None => tally.right += 1,
            Some(wrong) => *tally.wrong.entry(format!("{name}: {wrong}")).or_default() += 1,
        }
    }
    tally.astray = by_path.into_values().map(|rest| rest.len()).sum();
    tally
}

#[test]
fn a_storm_of_plaintext_clients_is_told_request_by_request() -> Result<()> {
    let differences = Mutex::new(Differences::default());
    let tallies = each(|plane| {
        let mut world = World::new(plane)?;
        let agent = world.agent()?;
        let (truth, exchanges) = storm(&mut world, Client::Plain)?;
        counted(&agent, plane, &truth, exchanges, &differences)?;
        world.mark(&agent)?;
        let page = agent.metrics()?;
        let left = truth
            .values()
            .filter(|one| one.kind.told == Told::Left)
            .count() as u64;
        let aborts = page.count("ingress_trace_client_aborts_total", &[]);
        // HAProxy finishes the exchange. A request that had not gone upstream yet aborts nothing.
        let holds = aborts <= left && aborts * 10 >= left * 9;
        let holds = plane == Plane::Haproxy || holds;
        note(&differences, holds, || {
            format!("{plane:?}: {aborts} aborts of {left}")
        });
        let findings = world.others(agent)?;
        println!(
            "{plane:?}: {} requests, {} findings",
            truth.len(),
            findings.len()
        );
        Ok((plane, judge(plane, &truth, &findings)))
    })?;
    let mut differences = differences.into_inner().expect("no thread panics with it");
    for (plane, tally) in tallies {
        println!("{plane:?}: {tally:#?}");
        let alarms: usize = tally.alarms.values().sum();
        // A connect that failed says nothing of its request: a hidden one may be told as another's.
        differences.check(alarms <= 1, || format!("{plane:?}: {alarms} false alarms"));
        differences.check(tally.right * 100 >= tally.failing * 99, || {
            format!("{plane:?}: {} of {} right", tally.right, tally.failing)
        });
        // A connect says nothing of its request: hidden where any thread may go on with it, it
        // stays without one.
        let nameless = if plane.alternates() { tally.hidden } else { 0 };
        differences.check(
            (tally.astray - nameless.min(tally.astray)) * 100 <= tally.failing,
            || format!("{plane:?}: {} findings of no request", tally.astray),
        );
    }
    differences.finish("");
    Ok(())
}

/// Fewest and most findings that there may be, by outcome. The controller's own answers cannot be
/// seen under TLS, and where endpoints take turns a request may not meet the failing one.
fn expected(plane: Plane, truth: &Truth) -> BTreeMap<&'static str, (usize, usize)> {
    let mut counts = BTreeMap::new();
    for asked in truth.values() {
        let (outcome, least, most) = match asked.kind.told {
            Told::Once("no_upstream") | Told::Nothing | Told::Left => continue,
            Told::Hidden(outcome) if plane.alternates() => (outcome, 0, ATTEMPTS),
            Told::Once(outcome) | Told::Hidden(outcome) => (outcome, 1, 1),
        };
        let count: &mut (usize, usize) = counts.entry(outcome).or_default();
        *count = (count.0 + least, count.1 + most);
    }
    counts
}

/// Whether this failure was told as hidden although its client got it.
fn unseen(truth: &Truth, finding: &Finding) -> bool {
    let asked = truth.get(finding.path());
    let got = asked.is_some_and(|one| matches!(one.kind.told, Told::Once(_)) && one.got.failed());
    got && finding.text("/client_visible") == "no"
}

#[test]
fn a_storm_of_tls_clients_is_counted() -> Result<()> {
    unread(Client::Tls)
}

#[test]
fn a_storm_of_http2_clients_is_counted() -> Result<()> {
    unread(Client::H2)
}

/// A storm of clients of whom nothing can be read.
fn unread(client: Client) -> Result<()> {
    let differences = Mutex::new(Differences::default());
    let told = each(|plane| {
        let mut world = World::new(plane)?;
        let agent = world.agent()?;
        let (truth, exchanges) = storm(&mut world, client)?;
        counted(&agent, plane, &truth, exchanges, &differences)?;
        Ok((plane, truth, world.others(agent)?))
    })?;
    let mut differences = differences.into_inner().expect("no thread panics with it");
    for (plane, truth, findings) in told {
        let expected = expected(plane, &truth);
        let mut found: BTreeMap<&str, usize> = BTreeMap::new();
        for finding in &findings {
            *found.entry(finding.text("/outcome")).or_default() += 1;
        }
        println!(
            "{plane:?}: {} requests, failed {expected:?}, told {found:?}",
            truth.len()
        );
        let (mut failed, mut astray) = (0, 0);
        for (outcome, (least, most)) in &expected {
            let told = found.remove(outcome).unwrap_or_default();
            let off = least.saturating_sub(told) + told.saturating_sub(*most);
            (failed, astray) = (failed + least, astray + off);
            // Where one of a hundred may be wrong, no kind may be so as a rule.
            differences.check(off * 10 <= *least, || {
                format!("{plane:?}: {outcome} told {told} times, not {least} to {most}")
            });
        }
        differences.check(astray * 100 <= failed, || {
            format!("{plane:?}: {astray} of {failed} missing or too much")
        });
        differences.check(found.is_empty(), || {
            format!("{plane:?}: also told {found:?}")
        });
        let fine = |one: &&Finding| {
            let asked = truth.get(one.path());
            asked.is_some_and(|one| matches!(one.kind.told, Told::Nothing | Told::Left))
        };
        // A connect that failed says nothing of its request: a hidden one may be told as another's, where
        // a thread serves many streams at once.
        let hidden = |one: &&Finding| {
            one.text("/outcome") == "connect_refused" && one.text("/client_visible") == "no"
        };
        let (strays, alarms): (Vec<_>, Vec<_>) = findings.iter().filter(fine).partition(hidden);
        let few = if client == Client::H2 {
            failed / 100
        } else {
            0
        };
        differences.check(alarms.is_empty(), || {
            format!("{plane:?}: false alarms {alarms:?}")
        });
        differences.check(strays.len() <= few, || {
            format!("{plane:?}: told as another's {strays:?}")
        });
        let unseen = findings.iter().filter(|one| unseen(&truth, one)).count();
        differences.check(unseen * 100 <= failed, || {
            format!("{plane:?}: {unseen} of {failed} told as hidden")
        });
    }
    differences.finish("");
    Ok(())
}
