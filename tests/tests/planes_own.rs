//! What the cluster says of a failed attempt takes no client's failure away: under TLS, where nothing
//! but time and threads joins both, refused clients of Services with a route are told, and of Services
//! whose routes are not seen, once one of those has answered.
use std::sync::Mutex;
use std::time::Duration;

use anyhow::{Result, ensure};
use tests::agent::Agent;
use tests::edge::pause;
use tests::expect::Differences;
use tests::fake_api::FakeApi;
use tests::nginx::Fault;
use tests::planes::client::Client;
use tests::planes::{Plane, Way, World, each, watch_in};
use tests::{objects, shop, wait};

/// Requests that are refused.
const TIMES: usize = 4;
/// Longer than a failure waits for the end of its retry.
const PATIENCE: Duration = Duration::from_secs(20);

/// Answers of these Services come before anything fails.
fn answered(world: &World, agent: &Agent, words: &[&str]) -> Result<()> {
    for word in words {
        let got = world.ask(
            Client::Tls,
            Client::Tls.at(Way::Single),
            &format!("/{word}/first"),
        )?;
        ensure!(!got.failed(), "{word}: {got:?}");
        agent.metric(word, |page| {
            let labels = [("backend_service", *word)];
            page.count("ingress_trace_upstream_exchanges_total", &labels) > 0
        })?;
    }
    Ok(())
}

/// Requests of TLS clients that nobody else is beside, for a Service that refuses: each must be told.
fn refused(plane: Plane, api: &FakeApi, words: &[&str], found: &Mutex<Differences>) -> Result<()> {
    let world = World::new(plane)?;
    let agent = watch_in(&world.bed, plane, api)?;
    answered(&world, &agent, words)?;
    for number in 0..TIMES {
        // Longer than the agent needs to see that nobody else was around.
        pause(600);
        let path = format!("/refused/{number}");
        let got = world.ask(Client::Tls, Client::Tls.at(Way::Single), &path)?;
        ensure!(got.failed(), "{path}: {got:?}");
    }
    let port = Some(f64::from(Fault::Refused.port()));
    let told = || {
        let all = agent.findings();
        let fits = all.iter().filter(|one| {
            one.number("/backend/port") == port && one.text("/backend/service") == "refused"
        });
        fits.count()
    };
    let all = wait::holds("told", PATIENCE, || told() >= TIMES).is_ok();
    let own = agent
        .metrics()?
        .count("ingress_trace_own_failures_total", &[]);
    let mut found = found.lock().expect("no thread panics with it");
    found.check(all && told() == TIMES && own == 0, || {
        format!(
            "{plane:?}: {} of {TIMES} told, {own} taken for its own",
            told()
        )
    });
    agent.stop().map(drop)
}

fn all(api: impl Fn() -> Result<FakeApi> + Sync, words: &[&str]) -> Result<()> {
    let found = Mutex::new(Differences::default());
    each(|plane| refused(plane, &api()?, words, &found))?;
    let found = found.into_inner().expect("no thread panics with it");
    found.finish("");
    Ok(())
}

#[test]
fn refused_clients_that_cannot_be_read_are_told_where_a_route_leads() -> Result<()> {
    all(shop::api, &["ok"])
}

#[test]
fn refused_clients_are_told_where_another_service_without_a_route_has_answered() -> Result<()> {
    let api = || {
        let api = shop::api()?;
        // All but one are routed by what the agent does not see.
        let paths = [("/ok", "ok", 80)];
        api.apply(objects::ingress(
            shop::NAME,
            shop::NAME,
            "nginx",
            "",
            &paths,
        ))?;
        Ok(api)
    };
    all(api, &["ok", "chunked"])
}
