//! Every outcome, provoked for real: what the client got, compared with what the agent says.
//! One client request is one finding, with the status that was on the client's wire.
use anyhow::Result;
use serde_json::{Value, json};
use tests::agent::Finding;
use tests::backends::Behavior as B;
use tests::client::Connection;
use tests::expect::{Differences, within};
use tests::nginx::{Fault, Listener};
use tests::world::World;

/// The first path segment, the endpoint's port, the client's status and the facts to find.
type Row = (&'static str, u16, Option<u16>, Value);

fn rows() -> Vec<Row> {
    [connects(), requests(), responses()].concat()
}

fn connects() -> Vec<Row> {
    vec![
        (
            "refused",
            Fault::Refused.port(),
            Some(502),
            json!({"outcome": "connect_refused", "phase": "connect", "errno": "ECONNREFUSED", "cause": "unknown"}),
        ),
        (
            "dropped",
            Fault::Dropped.port(),
            Some(504),
            json!({"outcome": "connect_timeout", "phase": "connect", "errno": null}),
        ),
        (
            "rejected",
            Fault::Rejected.port(),
            Some(502),
            json!({"outcome": "connect_unreachable", "phase": "connect", "errno": "EHOSTUNREACH", "cause": "network_unreachable"}),
        ),
        (
            "nobody",
            Fault::Nobody.port(),
            Some(502),
            json!({"outcome": "connect_unreachable", "phase": "connect", "errno": "EHOSTUNREACH"}),
        ),
        (
            "no-route",
            Fault::NoRoute.port(),
            Some(502),
            json!({"outcome": "connect_unreachable", "phase": "connect", "cause": "network_unreachable"}),
        ),
    ]
}

fn requests() -> Vec<Row> {
    let port = |behavior: B| behavior.port();
    vec![
        (
            "reset-request",
            port(B::ResetRequest),
            Some(502),
            json!({"outcome": "reset", "phase": "request", "errno": "ECONNRESET", "cause": "backend_reset", "exchange": 1, "bytes_received": 0}),
        ),
        (
            "reset-unread",
            port(B::ResetUnread),
            Some(502),
            json!({"outcome": "reset", "phase": "request", "cause": "backend_reset"}),
        ),
        (
            "fin-request",
            port(B::FinRequest),
            Some(502),
            json!({"outcome": "closed_early", "phase": "request", "cause": "premature_close"}),
        ),
    ]
}

fn responses() -> Vec<Row> {
    let port = |behavior: B| behavior.port();
    vec![
        (
            "reset-head",
            port(B::ResetHead),
            Some(502),
            json!({"outcome": "reset", "phase": "response", "cause": "backend_reset"}),
        ),
        (
            "fin-head",
            port(B::FinHead),
            Some(502),
            json!({"outcome": "closed_early", "phase": "response", "cause": "premature_close"}),
        ),
        (
            "reset-body",
            port(B::ResetBody),
            Some(200),
            json!({"outcome": "reset", "phase": "response", "cause": "backend_reset"}),
        ),
        (
            "fin-body",
            port(B::FinBody),
            Some(200),
            json!({"outcome": "closed_early", "phase": "response", "cause": "premature_close"}),
        ),
        (
            "fin-chunked",
            port(B::FinChunked),
            Some(200),
            json!({"outcome": "closed_early", "phase": "response", "cause": "premature_close"}),
        ),
        (
            "hang",
            port(B::Hang),
            Some(504),
            json!({"outcome": "response_timeout", "phase": "request", "cause": "backend_timeout", "bytes_received": 0}),
        ),
        (
            "stall",
            port(B::Stall),
            Some(200),
            json!({"outcome": "response_stalled", "phase": "response"}),
        ),
        (
            "garbage",
            port(B::Garbage),
            None,
            json!({"outcome": "bad_response", "cause": "protocol_error"}),
        ),
        (
            "tls-alert",
            port(B::TlsAlert),
            None,
            json!({"outcome": "bad_response", "cause": "protocol_error"}),
        ),
    ]
}

/// Sends each row's request once and compares the one finding that must come of it.
fn provoke(listener: Listener, address: impl Fn(&str) -> String, rows: &[Row]) -> Result<()> {
    let world = World::new()?;
    let agent = world.agent()?;
    let mut differences = Differences::default();
    for (word, _, status, _) in rows {
        let answer = world.get(listener, &format!("/{word}/{listener:?}?secret=1"))?;
        differences.check(answer.status == *status, || {
            format!("{word}: client got {answer:?}")
        });
    }
    let findings = world.others(agent)?;
    for (word, port, status, facts) in rows {
        let path = format!("/{word}/{listener:?}");
        let mut expected = json!({
            "controller": "nginx",
            "client_visible": "yes",
            "backend": {"address": address(word), "port": port},
            "request": {"method": "GET", "host": "shop.example", "path": path},
        });
        merge(&mut expected, facts);
        if let Some(status) = status {
            merge(
                &mut expected,
                &json!({"status": status, "status_source": "observed"}),
            );
        }
        differences.only(word, &findings, |finding| finding.path() == path, &expected);
    }
    let paths: Vec<_> = rows
        .iter()
        .map(|row| format!("/{}/{listener:?}", row.0))
        .collect();
    for finding in &findings {
        let known = paths.iter().any(|path| path == finding.path());
        differences.check(known, || format!("a finding of nothing: {}", finding.0));
    }
    times(&findings, &mut differences);
    differences.finish("");
    Ok(())
}

fn merge(into: &mut Value, from: &Value) {
    if let (Value::Object(into), Value::Object(from)) = (into, from) {
        into.extend(from.clone());
    }
}

/// The bed's timers: 400 ms to connect, 600 ms to read.
fn times(findings: &[Finding], differences: &mut Differences) {
    for finding in findings {
        let elapsed = finding.number("/elapsed_seconds");
        let (least, most) = match finding.text("/outcome") {
            "connect_timeout" => (0.38, 1.0),
            "response_timeout" => (0.58, 1.2),
            "response_stalled" => (0.58, 1.5),
            _ => (0.0, 5.0),
        };
        differences.check(within(elapsed, least, most), || {
            format!("elapsed: {}", finding.0)
        });
        let time = finding.text("/time").parse::<jiff::Timestamp>();
        let recent =
            time.is_ok_and(|time| jiff::Timestamp::now().duration_since(time).as_secs() < 120);
        differences.check(recent, || format!("time: {}", finding.0));
    }
}

#[test]
fn every_failure_of_a_single_endpoint_is_named_and_its_status_is_the_clients() -> Result<()> {
    let address = |word: &str| {
        match word {
            "nobody" => "10.77.0.250",
            "no-route" => "10.99.0.1",
            _ => "10.77.0.3",
        }
        .to_owned()
    };
    provoke(Listener::Plain, address, &rows())
}

#[test]
fn ipv6_backends_fail_the_same_way() -> Result<()> {
    let address = |word: &str| {
        match word {
            "nobody" => "fd77::250",
            "no-route" => "fd99::1",
            _ => "fd77::3",
        }
        .to_owned()
    };
    provoke(Listener::V6, address, &rows())
}

#[test]
fn failures_are_read_behind_a_proxy_protocol_header() -> Result<()> {
    let world = World::new()?;
    let agent = world.agent()?;
    let v2 = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x0c\xc0\0\x02\x01\xc0\0\x02\x02\x03\xe8\0\x50";
    let headers: [(&str, &[u8]); 2] = [
        ("v1", b"PROXY TCP4 192.0.2.1 192.0.2.2 1000 80\r\n"),
        ("v2", v2),
    ];
    let mut differences = Differences::default();
    for (version, header) in headers {
        let mut client = Connection::open(&world.bed, world.at(Listener::ProxyProtocol))?;
        client.send(header)?;
        let answer = client.get(&format!("/refused/{version}"))?;
        differences.check(answer.status == Some(502), || {
            format!("{version}: {answer:?}")
        });
    }
    let findings = world.others(agent)?;
    for (version, _) in headers {
        let path = format!("/refused/{version}");
        let expected = json!({"outcome": "connect_refused", "status": 502, "status_source": "observed", "client_visible": "yes"});
        differences.only(
            version,
            &findings,
            |finding| finding.path() == path,
            &expected,
        );
    }
    differences.finish("");
    Ok(())
}

#[test]
fn the_applications_own_errors_are_told_from_the_controllers() -> Result<()> {
    let world = World::new()?;
    let agent = world.agent()?;
    let mut differences = Differences::default();
    for status in [500, 502, 503, 504] {
        let answer = world.get(Listener::Plain, &format!("/ok/{status}?status={status}"))?;
        differences.check(answer.status == Some(status), || {
            format!("{status}: {answer:?}")
        });
    }
    for (path, status) in [("/none/x", 503), ("/down/x", 502)] {
        let answer = world.get(Listener::Plain, path)?;
        differences.check(answer.status == Some(status), || {
            format!("{path}: {answer:?}")
        });
    }
    let findings = world.others(agent)?;
    for status in [502, 503, 504] {
        let path = format!("/ok/{status}");
        let expected = json!({"outcome": "error_status", "cause": "upstream_error", "status": status,
            "status_source": "observed", "client_visible": "yes",
            "backend": {"address": "10.77.0.3", "port": B::Ok.port()}});
        differences.only(
            &path,
            &findings,
            |finding| finding.path() == path,
            &expected,
        );
    }
    for (path, status) in [("/none/x", 503), ("/down/x", 502)] {
        let expected = json!({"outcome": "no_upstream", "status": status, "status_source": "observed",
            "client_visible": "yes", "backend": null});
        differences.only(path, &findings, |finding| finding.path() == path, &expected);
    }
    differences.check(findings.len() == 5, || {
        format!("too many findings: {findings:#?}")
    });
    differences.finish("");
    Ok(())
}

#[test]
fn a_reused_connection_tells_the_race_from_the_abort() -> Result<()> {
    let mut world = World::new()?;
    let agent = world.agent()?;
    let mut differences = Differences::default();
    for word in ["race", "reset-second", "fin-second"] {
        let mut client = Connection::open(&world.bed, world.at(Listener::Pooled))?;
        for (number, status) in [(1, 200), (2, 502)] {
            let answer = client.get(&format!("/{word}/{number}"))?;
            differences.check(answer.status == Some(status), || {
                format!("{word}: {answer:?}")
            });
            if (word, number) == ("race", 1) {
                world.backends.closed(B::Race)?;
            }
        }
    }
    let findings = world.others(agent)?;
    let common = json!({"phase": "request", "exchange": 2, "status": 502, "status_source": "observed", "client_visible": "yes", "bytes_received": 0});
    for (word, facts) in [
        (
            "race",
            json!({"outcome": "reset", "cause": "keepalive_race"}),
        ),
        ("reset-second", json!({"outcome": "reset"})),
        (
            "fin-second",
            json!({"outcome": "closed_early", "cause": "premature_close"}),
        ),
    ] {
        let mut expected = common.clone();
        merge(&mut expected, &facts);
        let path = format!("/{word}/2");
        differences.only(word, &findings, |finding| finding.path() == path, &expected);
    }
    let idle = findings
        .iter()
        .all(|finding| within(finding.number("/idle_seconds"), 0.0, 5.0));
    differences.check(idle && findings.len() == 3, || {
        format!("idle or number: {findings:#?}")
    });
    differences.finish("");
    Ok(())
}
