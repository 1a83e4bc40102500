//! Every outcome on every data plane, for plaintext, TLS and HTTP/2 clients, without and with
//! retries: what the agent says of each request, compared with what its client really got. Goes
//! out: the differences, and docs/data-planes.md.
use std::collections::BTreeMap;
use std::sync::Mutex;

use anyhow::{Context, Result};
use expect_test::expect_file;
use jiff::Timestamp;
use serde_json::Value;
use tests::agent::{Finding, VERDICT};
use tests::backends::{Behavior as B, Seen};
use tests::expect::{self, Differences};
use tests::planes::cases::{Act, Case, cases};
use tests::planes::client::{Client, Connection, Got};
use tests::planes::{Plane, Way, World, each};
use tests::wait;

/// A request that was made, and what came of it.
struct Asked<'a> {
    case: &'a Case,
    client: Client,
    way: Way,
    path: String,
    from: Timestamp,
    got: Got,
}

impl Asked<'_> {
    fn failed(&self) -> bool {
        self.got.failed() || self.case.cut()
    }

    fn row(&self) -> (&'static str, &'static str) {
        (self.case.what, endpoints(self.way))
    }
}

/// What ends the path of the request that opens a connection.
const BEFORE: &str = "-before";

struct Run<'a> {
    world: World,
    plane: Plane,
    asked: Vec<Asked<'a>>,
    differences: &'a Mutex<Differences>,
}

impl<'a> Run<'a> {
    fn check(&self, holds: bool, text: impl FnOnce() -> String) {
        let differences = self.differences.lock();
        let mut differences = differences.expect("no thread panics with it");
        differences.check(holds, || format!("{:?}: {}", self.plane, text()));
    }

    /// Where endpoints take turns: the next request goes to the route's own one.
    fn align(&self, case: &Case, client: Client, way: Way) -> Result<()> {
        if way != Way::Retry || !self.plane.alternates() {
            return Ok(());
        }
        let path = format!("/{}/turn", case.word);
        wait::holds("the next turn", VERDICT, || {
            let got = self.world.ask(client, client.at(way), &path);
            got.is_ok_and(|got| !got.failed())
        })
    }

    fn ask(&mut self, case: &'a Case, client: Client, way: Way) -> Result<()> {
        let number = self.asked.len();
        let path = format!("/{}/{}-{way:?}-{number}", case.word, client.word());
        let mut asked = Asked {
            case,
            client,
            way,
            path: path.clone(),
            from: Timestamp::now(),
            got: Got::default(),
        };
        let before = self.seen(case)?;
        match case.act {
            Act::Get => {
                let uri = format!("{path}{}", case.query);
                asked.got = self.world.ask(client, client.at(way), &uri)?;
                self.logged(&asked)?;
            }
            Act::Race(method) => self.race(&mut asked, method)?,
            Act::Leave => self.leave(&asked)?,
        }
        let after = self.seen(case)?;
        if case.port >= B::Ok.port() && case.act == Act::Get {
            let connections = after.connections - before.connections;
            self.check(connections == 1, || {
                format!("{path}: the backend saw {connections} connections")
            });
        }
        if asked.failed() {
            self.align(case, client, way)?;
        }
        self.asked.push(asked);
        Ok(())
    }

    fn seen(&mut self, case: &Case) -> Result<Seen> {
        let all = self.world.backends.seen()?;
        Ok(all.get(&case.port).copied().unwrap_or_default())
    }

    /// What the proxy says of it must be what the client got, where it got all.
    fn logged(&self, asked: &Asked) -> Result<()> {
        // HAProxy logs nothing of some of the streams that it refuses.
        if asked.got.complete {
            let entry = self.world.proxy.logged(&asked.path)?;
            self.check(entry.status == asked.got.status, || {
                format!("{}: {:?}, but its log has {entry:?}", asked.path, asked.got)
            });
        }
        Ok(())
    }

    fn race(&mut self, asked: &mut Asked, method: &str) -> Result<()> {
        let listener = asked.client.at(asked.way);
        let mut connection = Connection::open(&self.world, asked.client, listener)?;
        let first = connection.request("GET", &format!("{}{BEFORE}", asked.path), "")?;
        self.check(first.status == Some(200), || {
            format!("{}: {first:?}", asked.path)
        });
        self.world.backends.closed(B::Race)?;
        let body = if method == "POST" { "x" } else { "" };
        asked.got = connection.request(method, &asked.path, body)?;
        Ok(())
    }

    fn arrived(&mut self, before: u64) -> Result<()> {
        let backends = &mut self.world.backends;
        wait::holds("the request at the backend", VERDICT, || {
            backends.requests(B::Ok).is_ok_and(|now| now > before)
        })
    }

    fn leave(&mut self, asked: &Asked) -> Result<()> {
        let before = self.world.backends.requests(B::Ok)?;
        let uri = format!("{}{}", asked.path, asked.case.query);
        let listener = asked.client.at(asked.way);
        if asked.client == Client::H2 {
            // The connection outlives its stream, and serves others.
            let to = listener.of(tests::bed::Host::Proxy);
            let connection = tests::h2::Connection::open(&self.world.bed, to)?;
            let stream = connection.ask("GET", &uri, b"")?;
            self.arrived(before)?;
            stream.cancel();
            let got = connection.get("/ok/after")?;
            self.check(got.status == Some(200), || {
                format!("after a cancel: {got:?}")
            });
        } else {
            let mut connection = Connection::open(&self.world, asked.client, listener)?;
            connection.begin(&uri)?;
            self.arrived(before)?;
        }
        Ok(())
    }
}

/// Whose request a finding is about: by its path, else by the time and the endpoint.
fn owner<'a>(asked: &'a [Asked<'a>], finding: &Finding) -> Option<&'a Asked<'a>> {
    if !finding.path().is_empty() {
        return asked.iter().find(|one| one.path == finding.path());
    }
    let time: Timestamp = finding.text("/time").parse().ok()?;
    let last = asked.iter().rev().find(|one| one.from <= time)?;
    let port = finding.number("/backend/port");
    (port == Some(last.case.port.into())).then_some(last)
}

/// What is wrong with the finding.
fn wrong(asked: &Asked, finding: &Finding) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut field = |pointer: &str, right: &dyn Fn(&Value) -> bool, expected: String| {
        let got = finding.0.pointer(pointer).unwrap_or(&Value::Null);
        if !right(got) {
            wrong.push(format!("{pointer} is {got}, not {expected}"));
        }
    };
    let Case { outcome, phase, .. } = asked.case;
    field("/outcome", &|got| got == outcome, (*outcome).to_owned());
    field(
        "/phase",
        &|got| got.as_str() == *phase,
        format!("{phase:?}"),
    );
    let visible = if asked.failed() { "yes" } else { "no" };
    // Without a readable client side it may be unknown, but not wrong.
    let unknown = |got: &Value| asked.client != Client::Plain && got == "unknown";
    let told = |got: &Value| got == visible || unknown(got);
    field("/client_visible", &told, visible.to_owned());
    let status = asked.got.status;
    let number = |got: &Value| got.as_u64() == status.map(u64::from);
    // Whether a retry hid it may be unknown: the status is then what it is without one.
    let unsure = unknown(&finding.0["client_visible"]);
    let absent = |got: &Value| asked.client != Client::Plain && (got.is_null() || unsure);
    field(
        "/status",
        &|got| absent(got) || number(got),
        format!("{status:?}"),
    );
    let source = match finding.status() {
        None => Value::Null,
        // What a retry got was seen on its own leg.
        Some(_) if asked.client == Client::Plain => "observed".into(),
        Some(_) if visible == "no" && !unsure => "observed".into(),
        Some(_) => "inferred".into(),
    };
    field("/status_source", &|got| *got == source, source.to_string());
    wrong
}

/// One cell of the table: the status that the client got, and whether it saw the failure.
fn cell(asked: &Asked) -> String {
    if !asked.case.told(asked.client) {
        return "none".to_owned();
    }
    let status = asked.got.status;
    let status = status.map_or_else(|| "-".to_owned(), |status| status.to_string());
    format!("{status} {}", if asked.failed() { "yes" } else { "no" })
}

/// What is to be said of each request, by case, way and client.
type Cells = BTreeMap<(&'static str, &'static str, Client), String>;

fn run<'a>(plane: Plane, cases: &'a [Case], differences: &'a Mutex<Differences>) -> Result<Cells> {
    let mut run = Run {
        world: World::new(plane)?,
        plane,
        asked: Vec::new(),
        differences,
    };
    let all = || {
        let possible = cases.iter().filter(move |case| case.possible(plane));
        let ways = possible.flat_map(|case| case.ways.iter().map(move |way| (case, *way)));
        ways.flat_map(|(case, way)| Client::ALL.map(|client| (case, way, client)))
    };
    for (case, way, client) in all() {
        run.align(case, client, way)?;
    }
    let agent = run.world.agent()?;
    for (case, way, client) in all() {
        run.ask(case, client, way)
            .with_context(|| format!("{} {way:?} {client:?}", case.what))?;
    }
    let slow = cases.iter().filter(|case| case.outcome == "slow").count() * Client::ALL.len();
    agent.metric("slow responses counted", |page| {
        page.count("ingress_trace_upstream_slow_total", &[]) == slow as u64
    })?;
    let findings = run.world.others(agent)?;
    for finding in &findings {
        // A connection that the last race left behind may fail under the request before the next.
        let before = finding.path().ends_with(BEFORE) && finding.text("/client_visible") == "no";
        let known = before || owner(&run.asked, finding).is_some();
        run.check(known, || format!("a finding of nothing: {}", finding.0));
    }
    let mut cells = Cells::new();
    for asked in &run.asked {
        let mine =
            |one: &&Finding| owner(&run.asked, one).is_some_and(|own| own.path == asked.path);
        let mine: Vec<_> = findings.iter().filter(mine).collect();
        let what = format!("{} {:?}", asked.path, asked.got);
        match mine.as_slice() {
            [one] if asked.case.told(asked.client) => {
                let wrong = wrong(asked, one);
                run.check(wrong.is_empty(), || {
                    format!("{what}: {}: {}", wrong.join("; "), one.0)
                });
            }
            [] => run.check(!asked.case.told(asked.client), || {
                format!("{what}: no finding")
            }),
            more => {
                let more: Vec<_> = more.iter().map(|one| one.0.to_string()).collect();
                run.check(false, || {
                    format!("{what}: {} findings: {more:#?}", more.len())
                });
            }
        }
        let (case, way) = asked.row();
        cells.insert((case, way, asked.client), cell(asked));
    }
    Ok(cells)
}

fn endpoints(way: Way) -> &'static str {
    match way {
        Way::Single => "one",
        Way::Pooled => "one, kept connections",
        Way::Retry => "two, retries",
    }
}

const HEAD: &str = "\
# What clients get, and what is told of it, by data plane

Written by `tests/tests/planes_outcomes.rs` (`UPDATE_EXPECT=1`; see CONTRIBUTING.md): real nginx,
HAProxy, Envoy, Traefik and Caddy before backends that fail on purpose; requests by plaintext, TLS 1.3
and HTTP/2 clients; the agent on the ingress pod's cgroup. The clients' side is measured in each run,
and the test holds every finding against it.

A cell is the status that the client got (`-`: none) and whether it saw the failure: the finding's
`status` and `client_visible`. In plaintext the status is `observed`. Under TLS and HTTP/2 it is
`inferred` or left out, never another one, and `client_visible` may be `unknown`; the status of a retry is `observed` on the retry's own leg. `none`
is no finding: an answer without an upstream cannot be read under TLS, a client that leaves first is no
failure, and what is slow is counted only (`ingress_trace_upstream_slow_total`).

| fault | endpoints | client | outcome | nginx | HAProxy | Envoy | Traefik | Caddy |
|---|---|---|---|---|---|---|---|---|
";

/// Clients of which the same is said share a row.
fn document(cases: &[Case], planes: &[Cells]) -> String {
    let mut text = HEAD.to_owned();
    for case in cases {
        for &way in case.ways {
            let mut rows: Vec<(Vec<&str>, String)> = Vec::new();
            for client in Client::ALL {
                let key = (case.what, endpoints(way), client);
                let cells = planes
                    .iter()
                    .map(|cells| cells.get(&key).map_or("", String::as_str));
                let cells = cells.collect::<Vec<_>>().join(" | ");
                match rows.iter_mut().find(|row| row.1 == cells) {
                    Some(row) => row.0.push(client.word()),
                    None => rows.push((vec![client.word()], cells)),
                }
            }
            for (clients, cells) in rows {
                let (what, ways, outcome) = (case.what, endpoints(way), case.outcome);
                let clients = clients.join(", ");
                text.extend([format!(
                    "| {what} | {ways} | {clients} | `{outcome}` | {cells} |\n"
                )]);
            }
        }
    }
    text
}

#[test]
fn every_outcome_is_told_as_it_was_on_every_data_plane() -> Result<()> {
    let cases = cases();
    let differences = Mutex::new(Differences::default());
    let planes = each(|plane| run(plane, &cases, &differences))?;
    // First: if clients got something else than ever, nothing else counts.
    let text = document(&cases, &planes);
    let asked = planes.iter().map(Cells::len).sum();
    let text = expect::table(include_str!("../../docs/data-planes.md"), text);
    expect_file!["../../docs/data-planes.md"].assert_eq(&text);
    differences
        .into_inner()
        .expect("no thread panics with it")
        .finish_all_but_one_of_a_hundred(asked, "");
    Ok(())
}
