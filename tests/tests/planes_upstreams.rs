//! TLS and HTTP/2 towards the backends, on every data plane: what goes wrong there is told as what it
//! was, with no status that the client did not get. Goes out: the differences, and docs/upstreams.md.
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Mutex;

use anyhow::{Context, Result};
use expect_test::expect_file;
use jiff::Timestamp;
use tests::agent::Finding;
use tests::edge::pause;
use tests::expect::{self, Differences};
use tests::planes::client::{Client, Got};
use tests::planes::upstream_cases::{ALL, Case, cases};
use tests::planes::upstreams::{Route, Speaks, World};
use tests::planes::{Plane, each};

/// A request that was made, and what came of it.
struct Asked<'a> {
    case: &'a Case,
    client: Client,
    path: String,
    from: Timestamp,
    got: Got,
}

/// What is wrong with what was told of a request.
fn wrong(asked: &Asked, found: &[&Finding]) -> Option<String> {
    let one = match found {
        [] if !asked.case.clients.contains(&asked.client) => return None,
        [one] => one,
        _ => return Some(format!("{} findings: {found:?}", found.len())),
    };
    let case = asked.case;
    let evidence = one.0["evidence"].to_string();
    let phase = case.phase.is_none_or(|phase| one.text("/phase") == phase);
    let told = |words: &str, pointer| words.split('|').any(|word| word == one.text(pointer));
    let what = told(case.outcome, "/outcome") && told(case.cause, "/cause") && phase;
    let status = one.status().is_none() || one.status() == asked.got.status;
    let visible = match one.text("/client_visible") {
        "yes" => true,
        "unknown" => asked.client != Client::Plain,
        _ => false,
    };
    let right = what && status && visible && evidence.contains(case.evidence);
    (!right).then(|| one.0.to_string())
}

/// Whose request a finding is about: by its path, else by the time and the endpoint.
fn owner<'a, 'b>(asked: &'b [Asked<'a>], finding: &Finding) -> Option<&'b Asked<'a>> {
    if !finding.path().is_empty() {
        return asked.iter().find(|one| one.path == finding.path());
    }
    let time: Timestamp = finding.text("/time").parse().ok()?;
    let last = asked.iter().rev().find(|one| one.from <= time)?;
    let port = f64::from(last.case.route.endpoint.port());
    (finding.number("/backend/port") == Some(port)).then_some(last)
}

/// What plaintext clients got, by route.
type Cells = BTreeMap<String, String>;

/// One cell of the table.
fn cell(plane: Plane, asked: &Asked) -> String {
    match asked.got.status {
        // By chance: its HTTP/2 client tells the ways in which a connection ends apart.
        Some(500 | 502) if plane == Plane::Traefik && asked.case.route.speaks.http2() => {
            "500, 502".to_owned()
        }
        Some(status) => status.to_string(),
        None => "-".to_owned(),
    }
}

fn faults(plane: Plane, cases: &[Case], differences: &Mutex<Differences>) -> Result<Cells> {
    let routes: Vec<Route> = cases.iter().map(|case| case.route.clone()).collect();
    let world = World::new(plane, &routes)?;
    let mut asked = Vec::new();
    for case in cases.iter().filter(|case| case.known(plane)) {
        for client in Client::ALL {
            let path = format!("/{}/{}", case.route.word, client.word());
            let from = Timestamp::now();
            let got = world
                .open(client)?
                .send("GET", &path, "Connection: close\r\n", "")
                .with_context(|| path.clone())?;
            asked.push(Asked {
                case,
                client,
                path,
                from,
                got,
            });
            // What a data plane does behind its answer belongs to this request.
            pause(30);
        }
    }
    let found = world.finish()?;
    let note = |text: String| {
        let mut differences = differences.lock().expect("no thread panics with it");
        differences.note(format!("{plane:?}: {text}"));
    };
    for one in &found {
        if owner(&asked, one).is_none() {
            note(format!("a finding of nothing: {}", one.0));
        }
    }
    for one in &asked {
        let mine =
            |finding: &&Finding| owner(&asked, finding).is_some_and(|owner| owner.path == one.path);
        let mine: Vec<_> = found.iter().filter(mine).collect();
        if !one.got.failed() {
            note(format!("{}: did not fail: {:?}", one.path, one.got));
        }
        if let Some(wrong) = wrong(one, &mine) {
            note(format!("{} {:?}: {wrong}", one.path, one.got));
        }
    }
    let plain = asked.iter().filter(|one| one.client == Client::Plain);
    Ok(plain
        .map(|one| (one.case.route.word.clone(), cell(plane, one)))
        .collect())
}

const HEAD: &str = "\
# TLS and HTTP/2 towards the backends

Written by `tests/tests/planes_upstreams.rs` (`UPDATE_EXPECT=1`; see CONTRIBUTING.md): what is told of
each fault, on every data plane, and what plaintext clients got of it (`-`: no status). One endpoint,
kept connections. `https` is HTTP/1.1 over TLS, `h2c` HTTP/2 in cleartext, `h2` HTTP/2 over TLS.

`all`: told whatever the client speaks. `plaintext`: only where the client's own leg shows that
something was missing; what came over TLS may have been session tickets, a cut body looks like a whole
one. No status is inferred here but the 504 of a read timeout. Behind `h2`, streams that fail without
the connection are not seen. Healthy traffic of all kinds is silent.

| backend | fault | outcome | cause | told | nginx | HAProxy | Envoy | Traefik | Caddy |
|---|---|---|---|---|---|---|---|---|---|
";

fn document(cases: &[Case], planes: &[Cells]) -> Result<String> {
    let mut text = HEAD.to_owned();
    for case in cases {
        let speaks = match case.route.speaks {
            Speaks::Http => "http",
            Speaks::Https => "https",
            Speaks::H2c => "h2c",
            Speaks::H2 => "h2",
        };
        let told = if case.clients == ALL {
            "all"
        } else {
            "plaintext"
        };
        let cells = planes
            .iter()
            .map(|cells| cells.get(&case.route.word).map_or("", String::as_str));
        let cells = cells.collect::<Vec<_>>().join(" | ");
        let [outcome, cause] = [case.outcome, case.cause].map(|words| words.replace('|', ", "));
        let what = case.what;
        writeln!(
            text,
            "| {speaks} | {what} | {outcome} | {cause} | {told} | {cells} |"
        )?;
    }
    Ok(text)
}

#[test]
fn what_fails_behind_tls_and_http2_is_told_as_what_it_was() -> Result<()> {
    let cases = cases();
    let differences = Mutex::new(Differences::default());
    let planes = each(|plane| faults(plane, &cases, &differences))?;
    let text = document(&cases, &planes)?;
    let text = expect::table(include_str!("../../docs/upstreams.md"), text);
    expect_file!["../../docs/upstreams.md"].assert_eq(&text);
    let asked = planes.iter().map(Cells::len).sum::<usize>() * Client::ALL.len();
    differences
        .into_inner()
        .expect("no thread panics with it")
        .finish_all_but_one_of_a_hundred(asked, "");
    Ok(())
}
