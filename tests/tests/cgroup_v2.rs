//! A node that has cgroup v2 and nothing else, in a guest: what its real files say of a pod that its CPU
//! quota holds back, or that its memory limit killed, and of an ingress pod that is held back itself; see
//! `guest_node`.
use std::collections::BTreeSet;

use anyhow::Result;
use serde_json::{Value, json};
use tests::agent::Finding;
use tests::expect::Differences;
use tests::guest::{self, Console, Scene};
use tests::metrics::Page;

const SCENE: Scene<'_> = Scene {
    script: include_str!("../guest/node"),
    routes: "",
    programs: &["guest_node", "app"],
};

/// A request that fails.
struct Row<'a> {
    path: &'a str,
    status: u16,
    facts: Value,
    /// In its evidence.
    words: &'static [&'static str],
    /// Not in it.
    never: &'static [&'static str],
}

/// What the finding says of a backend.
fn backend(word: &str, last: u8, cause: &str, outcome: &str) -> Value {
    json!({"cause": cause, "outcome": outcome, "backend": {"namespace": "shop", "service": word,
        "pod": format!("{word}-0"), "address": format!("10.77.0.{last}"), "port": 8000}})
}

/// What is asked; `late` is what the ingress refused when it had been held back.
fn rows(late: &str) -> [Row<'_>; 5] {
    [
        Row {
            path: "/quota/late",
            status: 504,
            facts: backend("quota", 11, "backend_overloaded", "response_timeout"),
            words: &["the CPU quota of pod quota-0 held it back in "],
            never: &["memory"],
        },
        Row {
            path: "/slow/late",
            status: 504,
            facts: backend("slow", 12, "backend_timeout", "response_timeout"),
            words: &["no response byte"],
            never: &["quota", "memory", "waited for a CPU"],
        },
        Row {
            path: "/killed/eat",
            status: 502,
            facts: backend("killed", 13, "backend_oom_killed", "closed_early"),
            words: &["1 processes of pod killed-0 were killed for want of memory"],
            never: &["quota", "OOMKilled"],
        },
        Row {
            path: "/told/eat",
            status: 502,
            facts: backend("told", 14, "backend_oom_killed", "closed_early"),
            words: &["container main of pod told-0 ended with OOMKilled (137)"],
            never: &["quota"],
        },
        Row {
            path: late,
            status: 503,
            facts: json!({"cause": "ingress_overloaded", "outcome": "no_upstream"}),
            words: &[
                "the controller's CPU quota (/sys/fs/cgroup/kubepods.slice/",
                "the request had waited ",
            ],
            never: &["memory"],
        },
    ]
}

impl Row<'_> {
    fn compare(&self, findings: &[Finding], differences: &mut Differences) {
        let mut facts = self.facts.clone();
        facts["status"] = json!(self.status);
        facts["client_visible"] = json!("yes");
        facts["controller"] = json!("nginx");
        facts["ingress"] = json!({"namespace": "edge", "pod": "web-0", "node": "node-1"});
        let fits = |finding: &Finding| finding.path() == self.path;
        differences.only(self.path, findings, fits, &facts);
        let finding = findings.iter().find(|finding| fits(finding));
        let evidence = finding.and_then(|one| one.0["evidence"].as_array());
        let lines: Vec<String> = evidence
            .into_iter()
            .flatten()
            .map(Value::to_string)
            .collect();
        let evidence = lines.concat();
        let distinct: BTreeSet<&String> = lines.iter().collect();
        differences.check(distinct.len() == lines.len(), || {
            format!("{}: the same twice: {evidence}", self.path)
        });
        for (words, wanted) in [(self.words, true), (self.never, false)] {
            for word in words {
                differences.check(evidence.contains(word) == wanted, || {
                    format!("{}: {word:?} in it is not {wanted}: {evidence}", self.path)
                });
            }
        }
    }
}

fn compare(console: &Console) -> Result<Differences> {
    let mut differences = Differences::default();
    let (mut findings, clients) = (console.findings("finding ")?, console.after("client "));
    let late = console.after("late ").concat();
    let rows = rows(&late);
    // What it refused at once is its configuration's.
    findings.retain(|one| one.path() == late || !one.path().starts_with("/shed/"));
    for row in &rows {
        let client = format!("{} {}", row.path, row.status);
        differences.check(clients.contains(&client.as_str()), || {
            format!("the client did not see {client}: {clients:?}")
        });
        row.compare(&findings, &mut differences);
    }
    differences.check(findings.len() == rows.len(), || {
        format!("{} findings, not {}", findings.len(), rows.len())
    });
    let page = Page::parse(&console.after("metric ").join("\n"));
    let lost = page.count("ingress_trace_events_lost_total", &[]);
    differences.check(lost == 0, || format!("{lost} events were lost"));
    Ok(differences)
}

fn on(series: &str) -> Result<()> {
    if let Some(console) = guest::play(series, &SCENE)? {
        compare(&console)?.finish(&console.text());
    }
    Ok(())
}

#[test]
fn a_6_12_node_of_cgroup_v2_only_tells_quotas_and_kills() -> Result<()> {
    on("6.12")
}

#[test]
fn a_6_1_node_of_cgroup_v2_only_tells_quotas_and_kills() -> Result<()> {
    on("6.1")
}
