//! The most frequent causes on each of the five data planes: each provoked for real (kernel, proxy, API
//! server), asked by each kind of client, and the cause, the status, the objects and the fix compared.
//! Goes out: docs/causes-by-controller.md.
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, Result};
use expect_test::expect_file;
use tests::agent::{Agent, Finding};
use tests::apiserver::ApiServer;
use tests::client::{Connection as Plain, request};
use tests::expect::{self, Differences};
use tests::node::Node;
use tests::planes::causes::{CLIENTS, Case, Scene, cases, empty, host, pods};
use tests::planes::client::{Client, Got};
use tests::planes::life::note;
use tests::planes::own::Own;
use tests::planes::upstreams::{Route, files, none};
use tests::planes::{Plane, each};
use tests::wait;

/// A request of a case, and what its client got.
struct Asked<'a> {
    case: &'a Case,
    client: Client,
    path: String,
    /// Its backend's.
    address: Option<IpAddr>,
    got: Got,
}

impl Asked<'_> {
    /// Whether the status that was told is what the client got; none where none was told, as only what
    /// cannot be read allows.
    fn told(&self, finding: &Finding) -> Option<bool> {
        let same = finding.status() == self.got.status;
        let unsure = self.client != Client::Plain && finding.status().is_none();
        (same || !unsure).then_some(same)
    }

    /// Whether anything of it can be read: of an error from nowhere under TLS nothing can.
    fn readable(&self) -> bool {
        self.client == Client::Plain || self.address.is_some()
    }
}

/// What is wrong with what was told of a request. What cannot be read has no path, its status is that
/// of the profile, and whether its client saw it may be unknown; all else is the same.
fn wrong(asked: &Asked, node: &Node, finding: &Finding) -> Option<String> {
    let Asked { case, got, .. } = asked;
    let text = |pointer| finding.text(pointer);
    let pod = match case.cause {
        "no_endpoints" => String::new(),
        // Whose it is by now.
        "stale_endpoint" => text("/backend/pod").to_owned(),
        _ => format!("{}-0", case.word),
    };
    let names = [
        text("/backend/namespace"),
        text("/backend/service"),
        text("/backend/pod"),
    ];
    let list = |name: &str| finding.0[name].to_string();
    let fix = case.fix.replace("$NS", &node.namespace);
    let (source, seen): (_, &[_]) = match asked.client {
        Client::Plain => ("observed", &["yes"]),
        Client::Tls | Client::H2 => ("inferred", &["yes", "unknown"]),
    };
    let wrong: Vec<&str> = [
        (text("/cause") == case.cause, "cause"),
        (asked.told(finding) != Some(false), "status"),
        (
            finding.status().is_none() || text("/status_source") == source,
            "source",
        ),
        (seen.contains(&text("/client_visible")), "visibility"),
        (names == [&node.namespace, case.word, &pod], "names"),
        (list("evidence").contains(case.evidence), "evidence"),
        (list("fix").contains(&fix), "fix"),
    ]
    .into_iter()
    .filter_map(|(right, what)| (!right).then_some(what))
    .collect();
    let what = &asked.path;
    (!wrong.is_empty()).then(|| format!("{wrong:?} of {what}, {got:?}: {:#}", finding.0))
}

/// What came of the cases on a data plane, by their words and clients.
type Cells = BTreeMap<(&'static str, Client), String>;

fn cell(asked: &Asked, told: Option<&Finding>) -> String {
    let status = asked.got.status;
    let status = status.map_or_else(|| "-".to_owned(), |status| status.to_string());
    match told.map(|finding| finding.text("/cause")) {
        Some(cause) if cause == asked.case.cause => {
            let unsure = told.is_some_and(|finding| asked.told(finding).is_none());
            status + if unsure { "*" } else { "" }
        }
        Some(cause) => format!("{status} ({cause})"),
        None => format!("{status} (not told)"),
    }
}

/// Takes the finding of a request: by its path, else the first of its backend's that has none, as
/// clients ask one after the other.
fn take(findings: &mut Vec<Finding>, asked: &Asked) -> Option<Finding> {
    let address = asked.address.map(|address| address.to_string());
    let own = |one: &Finding| one.path() == asked.path;
    let silent = |one: &Finding| {
        let same = Some(one.text("/backend/address")) == address.as_deref();
        asked.client != Client::Plain && one.path().is_empty() && same
    };
    let at = findings.iter().position(own);
    let at = at.or_else(|| findings.iter().position(silent))?;
    Some(findings.remove(at))
}

fn check(plane: Plane, server: &Arc<ApiServer>, differences: &Mutex<Differences>) -> Result<Cells> {
    let namespace = server.namespace(plane.word())?;
    let cases = cases();
    let node = Node::bare(server, namespace.name(), plane, 15)?;
    let routes: Vec<Route> = cases
        .iter()
        .enumerate()
        .map(|(number, case)| case.route(&node, number))
        .collect();
    let own = Own::start(&node.bed, plane, &files(plane, &routes)?)?;
    let nobody = empty(&node, plane)?;
    let pods = pods(&node, &cases)?;
    let agent = node.agent(&[])?;
    let scene = Scene { node: &node };
    let mut asked = Vec::new();
    let last = cases.len() - 1;
    for (number, (case, pod)) in cases.iter().zip(&pods).enumerate() {
        if number == last {
            // What is told of the others must not be of a node that is gone.
            told(&agent, asked.len());
            asked.extend(unserved(&scene, &nobody, plane)?);
        }
        let all = (case.provoke)(&scene, pod).with_context(|| case.word)?;
        let all = CLIENTS.into_iter().zip(all);
        asked.extend(all.map(|(client, got)| Asked {
            path: case.path(client),
            address: Some(pod.address()),
            case,
            client,
            got,
        }));
    }
    told(&agent, asked.iter().filter(|one| one.readable()).count());
    let (cells, wrong) = judge(&node, &asked, agent.stop()?);
    for wrong in wrong {
        note(differences, format!("{plane:?}: {wrong}"));
    }
    drop(own);
    Ok(cells)
}

/// What was told of each request, and what is wrong with that.
fn judge(node: &Node, asked: &[Asked], mut findings: Vec<Finding>) -> (Cells, Vec<String>) {
    findings.sort_by_key(|one| one.text("/time").to_owned());
    let (mut cells, mut all) = (Cells::new(), Vec::new());
    for asked in asked {
        let finding = take(&mut findings, asked);
        let key = (asked.case.word, asked.client);
        cells.insert(key, cell(asked, finding.as_ref()));
        match finding {
            Some(finding) => all.extend(wrong(asked, node, &finding)),
            None if asked.readable() => all.push(format!("nothing told of {}", asked.path)),
            None => {}
        }
    }
    all.extend(findings.iter().map(|one| format!("told: {:#}", one.0)));
    (cells, all)
}

/// Requests to the Service without pods.
fn unserved<'a>(scene: &Scene, nobody: &'a Case, plane: Plane) -> Result<Vec<Asked<'a>>> {
    let ask = |client: Client| {
        let path = format!("/{}/{}", none(plane), client.word());
        let got = if client == Client::Plain {
            let mut plain = Plain::open(&scene.node.bed, scene.node.at())?;
            let head = request("GET", &path, "Connection: close\r\n");
            plain.send(head.replace("shop.example", &host(plane)).as_bytes())?;
            plain.answer()?.into()
        } else {
            scene.get(client, &path)?
        };
        Ok(Asked {
            case: nobody,
            client,
            path,
            address: None,
            got,
        })
    };
    CLIENTS.into_iter().map(ask).collect()
}

/// How long a failure may wait for the answer that hides it, or not, and for the cluster's word.
const PATIENCE: Duration = Duration::from_secs(20);

/// Waits until so many findings are there.
fn told(agent: &Agent, wanted: usize) {
    let _ = wait::holds("all findings", PATIENCE, || {
        agent.findings().len() >= wanted
    });
}

const HEAD: &str = "\
# Causes by controller

Written by `tests/tests/causes_planes.rs` (`UPDATE_EXPECT=1`; see CONTRIBUTING.md): the most frequent
causes, each provoked on every data plane in a real cluster, and the status that the client got (`-`:
none). Each was asked for in plaintext, under TLS, and in HTTP/2 under TLS; where these differ, they
stand apart (`*`: that status was not told, as it cannot be known). Where something else was told than
the row's cause, it stands behind the status. One endpoint, kept connections, no retries but those that
cannot be turned off.

| cause | provoked by | nginx | HAProxy | Envoy | Traefik | Caddy |
|---|---|---|---|---|---|---|
";

/// What came of a case for all clients.
fn together(cells: &Cells, word: &'static str) -> String {
    let of = |client| cells.get(&(word, client)).map_or("", String::as_str);
    let (plain, tls, h2) = (of(Client::Plain), of(Client::Tls), of(Client::H2));
    match (tls == plain, h2 == plain) {
        (true, true) => plain.to_owned(),
        (false, true) => format!("{plain}; TLS: {tls}"),
        (true, false) => format!("{plain}; HTTP/2: {h2}"),
        (false, false) if tls == h2 => format!("{plain}; TLS, HTTP/2: {tls}"),
        (false, false) => format!("{plain}; TLS: {tls}; HTTP/2: {h2}"),
    }
}

fn document(planes: &[Cells]) -> Result<String> {
    let mut text = HEAD.to_owned();
    let cases = cases();
    let rows = cases.iter().map(|case| (case.word, case.cause, case.what));
    let nobody = ("nobody", "no_endpoints", "a Service without pods");
    for (word, cause, what) in rows.chain([nobody]) {
        let cells = planes.iter().map(|cells| together(cells, word));
        let cells = cells.collect::<Vec<_>>().join(" | ");
        writeln!(text, "| {cause} | {what} | {cells} |")?;
    }
    Ok(text)
}

#[test]
fn the_most_frequent_causes_are_told_on_every_data_plane() -> Result<()> {
    let server = ApiServer::shared()?;
    let differences = Mutex::new(Differences::default());
    let planes = each(|plane| check(plane, &server, &differences))?;
    let text = document(&planes)?;
    let text = expect::table(include_str!("../../docs/causes-by-controller.md"), text);
    differences
        .into_inner()
        .expect("no thread panics with it")
        .finish(&text);
    expect_file!["../../docs/causes-by-controller.md"].assert_eq(&text);
    Ok(())
}
