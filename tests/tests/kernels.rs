//! The agent on other kernels than this one: the same failures, the same findings. Each guest has
//! its own nginx, backends and pod-like cgroup, on loopback; see `guest/kernels`.
use anyhow::{Context, Result};
use serde_json::{Value, json};
use tests::agent::Finding;
use tests::expect::Differences;
use tests::guest::{self, Console, Scene};
use tests::metrics::Page;

const SCENE: Scene<'_> = Scene {
    script: include_str!("../guest/kernels"),
    routes: include_str!("../guest/kernels.conf"),
    programs: &["backend", "get"],
};

/// The path at the proxy, the port of the endpoint that fails, the client's status and the facts.
fn rows() -> Vec<(&'static str, u16, u16, Value)> {
    let refused = json!({"outcome": "connect_refused", "phase": "connect", "errno": "ECONNREFUSED",
        "client_visible": "yes"});
    let no_route = json!({"outcome": "connect_unreachable", "phase": "connect",
        "cause": "network_unreachable", "client_visible": "yes"});
    let cut = |outcome, phase, cause| json!({"outcome": outcome, "phase": phase, "cause": cause, "client_visible": "yes"});
    let silent = |mut facts: Value| {
        facts["bytes_received"] = json!(0);
        facts
    };
    vec![
        ("refused", 8901, 502, refused.clone()),
        ("refused-v6", 8902, 502, refused),
        ("no-route", 8903, 502, no_route.clone()),
        ("no-route-v6", 8904, 502, no_route),
        (
            "reset-request",
            9009,
            502,
            silent(cut("reset", "request", "backend_reset")),
        ),
        (
            "fin-request",
            9011,
            502,
            cut("closed_early", "request", "premature_close"),
        ),
        (
            "fin-body",
            9015,
            200,
            cut("closed_early", "response", "premature_close"),
        ),
        (
            "hang",
            9017,
            504,
            silent(cut("response_timeout", "request", "backend_timeout")),
        ),
        (
            "retry",
            8905,
            200,
            json!({"outcome": "connect_refused", "client_visible": "no"}),
        ),
    ]
}

/// Connections and requests of the healthy backend, at the moment of this name.
fn healthy(console: &Console, moment: &str) -> Result<(u64, u64)> {
    let counts = console.after(&format!("{moment} seen "));
    let counts = counts
        .first()
        .with_context(|| format!("no counts {moment}"))?;
    let counts: Value = serde_json::from_str(counts).context("failed to parse counts")?;
    let of = |what| {
        counts["9001"][what]
            .as_u64()
            .with_context(|| format!("no {what}"))
    };
    Ok((of("connections")?, of("requests")?))
}

/// One run of the agent in the guest: what it found and counted.
fn compare(console: &Console, run: &str, differences: &mut Differences) -> Result<()> {
    let findings = console.findings(&format!("{run} finding "))?;
    let clients = console.after(&format!("{run} client "));
    let rows = rows();
    for (path, port, status, facts) in &rows {
        let client = format!("/{path}/{run} {status}");
        differences.check(clients.contains(&client.as_str()), || {
            format!("{run}: the client did not see {client}: {clients:?}")
        });
        let mut facts = facts.clone();
        facts["status"] = json!(status);
        facts["controller"] = json!("nginx");
        let fits = |finding: &Finding| finding.0["backend"]["port"] == json!(port);
        differences.only(&format!("{run} {path}"), &findings, fits, &facts);
    }
    differences.check(findings.len() == rows.len(), || {
        format!("{run}: {} findings, not {}", findings.len(), rows.len())
    });
    differences.check(console.after(&format!("{run} exit ")) == ["0"], || {
        format!("{run}: the agent did not end well")
    });
    count(console, run, differences);
    Ok(())
}

fn count(console: &Console, run: &str, differences: &mut Differences) {
    let page = Page::parse(&console.after(&format!("{run} metric ")).join("\n"));
    let mut expect = |name: &str, labels: &[(&str, &str)], expected: u64| {
        let got = page.count(&format!("ingress_trace_{name}"), labels);
        differences.check(got == expected, || {
            format!("{run}: {name} {labels:?} is {got}, not {expected}")
        });
    };
    expect("upstream_exchanges_total", &[("backend_port", "9001")], 3);
    expect("upstream_exchanges_total", &[("backend_port", "9002")], 1);
    expect("upstream_exchanges_total", &[], 3 + 1 + 9);
    expect("upstream_failures_total", &[], 9);
    expect("responses_total", &[("status", "200")], 3 + 2);
    expect("events_lost_total", &[], 0);
    expect("ingress_pods", &[], 1);
}

fn on(series: &str) -> Result<()> {
    let Some(console) = guest::play(series, &SCENE)? else {
        return Ok(());
    };
    let text = console.text();
    let mut differences = Differences::default();
    // One pooled connection, opened before the first agent, that each agent has to adopt.
    for (moment, seen) in [("before", (1, 1)), ("named", (1, 4)), ("found", (1, 7))] {
        let got = healthy(&console, moment).with_context(|| text.clone())?;
        differences.check(got == seen, || {
            format!("{moment}: {got:?} at 9001, not {seen:?}")
        });
    }
    compare(&console, "named", &mut differences)?;
    compare(&console, "found", &mut differences)?;
    differences.finish(&text);
    Ok(())
}

#[test]
fn a_6_1_kernel_gives_the_same_findings() -> Result<()> {
    on("6.1")
}

#[test]
fn a_6_12_kernel_gives_the_same_findings() -> Result<()> {
    on("6.12")
}
