//! What reached the client: retries that hide a failure, retries that do not, and a TLS client
//! side, where the status can only be inferred.
use anyhow::Result;
use serde_json::json;
use tests::agent::Finding;
use tests::backends::Behavior as B;
use tests::client::Connection;
use tests::expect::Differences;
use tests::nginx::{Fault, Listener};
use tests::tls::{self, TlsConnection};
use tests::world::World;

/// What nginx retries on the next endpoint, the endpoint's port and the outcome.
fn retried() -> [(&'static str, u16, &'static str); 8] {
    [
        ("refused", Fault::Refused.port(), "connect_refused"),
        ("dropped", Fault::Dropped.port(), "connect_timeout"),
        ("no-route", Fault::NoRoute.port(), "connect_unreachable"),
        ("reset-request", B::ResetRequest.port(), "reset"),
        ("fin-request", B::FinRequest.port(), "closed_early"),
        ("reset-head", B::ResetHead.port(), "reset"),
        ("fin-head", B::FinHead.port(), "closed_early"),
        ("hang", B::Hang.port(), "response_timeout"),
    ]
}

#[test]
fn a_retry_with_success_hides_the_failure() -> Result<()> {
    let world = World::new()?;
    let agent = world.agent()?;
    let mut differences = Differences::default();
    for (word, ..) in retried() {
        let answer = world.get(Listener::Retry, &format!("/{word}/hidden"))?;
        differences.check(answer.status == Some(200), || format!("{word}: {answer:?}"));
    }
    let findings = world.others(agent)?;
    for (word, port, outcome) in retried() {
        let expected = json!({"outcome": outcome, "client_visible": "no", "status": 200, "status_source": "observed"});
        let fits = |finding: &Finding| finding.number("/backend/port") == Some(port.into());
        differences.only(word, &findings, fits, &expected);
    }
    differences.check(findings.len() == retried().len(), || {
        format!("number: {findings:#?}")
    });
    differences.finish("");
    Ok(())
}

#[test]
fn a_retry_that_fails_too_leaves_the_failure_visible() -> Result<()> {
    let world = World::new()?;
    let agent = world.agent()?;
    let mut differences = Differences::default();
    let answer = world.get(Listener::Twice, "/reset-request/twice")?;
    differences.check(answer.status == Some(502), || format!("{answer:?}"));
    let findings = world.others(agent)?;
    for (port, outcome) in [
        (B::ResetRequest.port(), "reset"),
        (Fault::Refused.port(), "connect_refused"),
    ] {
        let expected = json!({"outcome": outcome, "client_visible": "yes", "status": 502});
        let fits = |finding: &Finding| finding.number("/backend/port") == Some(port.into());
        differences.only(outcome, &findings, fits, &expected);
    }
    differences.finish("");
    Ok(())
}

#[test]
fn a_race_on_a_pooled_connection_is_hidden_by_nginxs_own_retry() -> Result<()> {
    let mut world = World::new()?;
    let agent = world.agent()?;
    let mut client = Connection::open(&world.bed, world.at(Listener::PooledRetry))?;
    assert_eq!(client.get("/race/1")?.status, Some(200));
    world.backends.closed(B::Race)?;
    assert_eq!(client.get("/race/2")?.status, Some(200));
    let findings = world.others(agent)?;
    let mut differences = Differences::default();
    let expected = json!({"outcome": "reset", "cause": "keepalive_race", "client_visible": "no"});
    differences.only("race", &findings, |_| true, &expected);
    differences.finish("");
    Ok(())
}

#[test]
fn under_tls_the_failure_is_visible_and_its_status_inferred() -> Result<()> {
    let world = World::new()?;
    let agent = world.agent()?;
    let mut differences = Differences::default();
    let rows = [
        ("refused", Fault::Refused.port(), "connect_refused", 502),
        ("dropped", Fault::Dropped.port(), "connect_timeout", 504),
        ("reset-request", B::ResetRequest.port(), "reset", 502),
        ("fin-request", B::FinRequest.port(), "closed_early", 502),
        ("hang", B::Hang.port(), "response_timeout", 504),
    ];
    for (word, _, _, status) in rows {
        let answer = tls::get(&world.bed, world.at(Listener::Tls), &format!("/{word}/tls"))?;
        differences.check(answer.status == Some(status), || {
            format!("{word}: {answer:?}")
        });
    }
    // The marker is refused too: told apart by its path.
    let findings = world.others(agent)?;
    for (word, port, outcome, status) in rows {
        let expected = json!({"outcome": outcome, "client_visible": "yes", "status": status, "status_source": "inferred"});
        let fits = |finding: &Finding| finding.number("/backend/port") == Some(port.into());
        differences.only(word, &findings, fits, &expected);
    }
    differences.check(findings.len() == rows.len(), || {
        format!("number: {findings:#?}")
    });
    differences.finish("");
    Ok(())
}

#[test]
fn under_tls_a_hidden_retry_is_known_too() -> Result<()> {
    let world = World::new()?;
    let agent = world.agent()?;
    let mut differences = Differences::default();
    for (word, ..) in retried() {
        let answer = tls::get(
            &world.bed,
            world.at(Listener::TlsRetry),
            &format!("/{word}/hidden"),
        )?;
        differences.check(answer.status == Some(200), || format!("{word}: {answer:?}"));
    }
    let findings = world.others(agent)?;
    for (word, port, outcome) in retried() {
        let expected = json!({"outcome": outcome, "client_visible": "no"});
        let fits = |finding: &Finding| finding.number("/backend/port") == Some(port.into());
        differences.only(word, &findings, fits, &expected);
    }
    differences.finish("");
    Ok(())
}

#[test]
fn under_tls_one_connection_can_carry_success_and_failure() -> Result<()> {
    let mut world = World::new()?;
    let agent = world.agent()?;
    let mut client = TlsConnection::open(&world.bed, world.at(Listener::TlsPooled))?;
    for (path, status) in [
        ("/ok/1", 200),
        ("/reset-request/2", 502),
        ("/ok/3", 200),
        ("/race/4", 200),
        ("/race/5", 502),
    ] {
        assert_eq!(client.get(path)?.status, Some(status), "{path}");
        if path == "/race/4" {
            world.backends.closed(B::Race)?;
        }
    }
    let findings = world.others(agent)?;
    let mut differences = Differences::default();
    for (path, cause) in [
        ("/reset-request/2", "backend_reset"),
        ("/race/5", "keepalive_race"),
    ] {
        let expected = json!({"cause": cause, "client_visible": "yes", "status": 502, "status_source": "inferred"});
        differences.only(path, &findings, |finding| finding.path() == path, &expected);
    }
    differences.check(findings.len() == 2, || format!("number: {findings:#?}"));
    differences.finish("");
    Ok(())
}
