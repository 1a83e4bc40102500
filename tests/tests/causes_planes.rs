//! The most frequent causes on each of the five data planes: each provoked for real (kernel, proxy, API
//! server), and the cause, the client's status, the objects and the fix compared. Goes out:
//! docs/causes-by-controller.md.
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex};

use anyhow::{Context, Result};
use expect_test::expect_file;
use tests::agent::{Agent, Finding};
use tests::apiserver::ApiServer;
use tests::client::{Connection, request};
use tests::expect::{self, Differences};
use tests::node::Node;
use tests::planes::causes::{Case, Scene, cases, empty, host, pods};
use tests::planes::life::note;
use tests::planes::own::Own;
use tests::planes::upstreams::{Route, files, none};
use tests::planes::{Plane, each};
use tests::response::Answer;

/// What is wrong with what was told of a request.
fn wrong(case: &Case, node: &Node, answer: &Answer, finding: &Finding) -> Option<String> {
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
    let wrong: Vec<&str> = [
        (text("/cause") == case.cause, "cause"),
        (finding.status() == answer.status, "status"),
        (text("/client_visible") == "yes", "visibility"),
        (names == [&node.namespace, case.word, &pod], "names"),
        (list("evidence").contains(case.evidence), "evidence"),
        (list("fix").contains(&fix), "fix"),
    ]
    .into_iter()
    .filter_map(|(right, what)| (!right).then_some(what))
    .collect();
    (!wrong.is_empty()).then(|| format!("{wrong:?} of {}, {answer:?}: {:#}", case.word, finding.0))
}

/// What came of the cases on a data plane, by their words.
type Cells = BTreeMap<&'static str, String>;

fn cell(case: &Case, answer: &Answer, told: &str) -> String {
    let status = answer.status;
    let status = status.map_or_else(|| "-".to_owned(), |status| status.to_string());
    if told == case.cause {
        return status;
    }
    format!("{status} ({told})")
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
    let mut cells = Cells::new();
    let mut told = |case: &Case, path: &str, answer: &Answer| -> Result<()> {
        let finding = agent.finding(path, |one| one.path() == path);
        let finding = finding.with_context(|| format!("{answer:?}"))?;
        cells.insert(case.word, cell(case, answer, finding.text("/cause")));
        if let Some(wrong) = wrong(case, &node, answer, &finding) {
            note(differences, format!("{plane:?}: {wrong}"));
        }
        Ok(())
    };
    let mut got = Vec::new();
    let last = cases.len() - 1;
    for (case, pod) in cases.iter().zip(&pods).take(last) {
        let answer = (case.provoke)(&scene, pod).with_context(|| case.word)?;
        got.push((case, answer));
    }
    for (case, answer) in &got {
        told(case, &case.path(), answer)?;
    }
    let path = format!("/{}/here", none(plane));
    let mut client = Connection::open(&node.bed, node.at())?;
    let head = request("GET", &path, "Connection: close\r\n");
    client.send(head.replace("shop.example", &host(plane)).as_bytes())?;
    told(&nobody, &path, &client.answer()?)?;
    let answer = (cases[last].provoke)(&scene, &pods[last])?;
    told(&cases[last], &cases[last].path(), &answer)?;
    for one in once(agent, cases.len() + 1)? {
        note(differences, format!("{plane:?}: {one}"));
    }
    drop(own);
    Ok(cells)
}

/// Findings that no request of the test explains.
fn once(agent: Agent, wanted: usize) -> Result<Vec<String>> {
    let found = agent.stop()?;
    if found.len() == wanted {
        return Ok(Vec::new());
    }
    let lines = found.iter().map(|one| {
        format!(
            "{} {} {}",
            one.path(),
            one.text("/cause"),
            one.text("/outcome")
        )
    });
    Ok(vec![format!(
        "{} findings instead of {wanted}: {:#?}",
        found.len(),
        lines.collect::<Vec<_>>()
    )])
}

const HEAD: &str = "\
# Causes by controller

Written by `tests/tests/causes_planes.rs` (`UPDATE_EXPECT=1`; see CONTRIBUTING.md): the most frequent
causes, each provoked on every data plane in a real cluster, and the status that the client got (`-`:
none). Where something else was told than the row's cause, it stands behind the status. One endpoint,
kept connections, no retries but those that cannot be turned off.

| cause | provoked by | nginx | HAProxy | Envoy | Traefik | Caddy |
|---|---|---|---|---|---|---|
";

fn document(planes: &[Cells]) -> Result<String> {
    let mut text = HEAD.to_owned();
    let cases = cases();
    let rows = cases.iter().map(|case| (case.word, case.cause, case.what));
    let nobody = ("nobody", "no_endpoints", "a Service without pods");
    for (word, cause, what) in rows.chain([nobody]) {
        let cells = planes
            .iter()
            .map(|cells| cells.get(word).map_or("", String::as_str));
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
