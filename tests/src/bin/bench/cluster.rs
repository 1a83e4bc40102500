//! The agent in a large cluster: a stand-in API with its objects in; memory, processor time, requests
//! and bytes out, beside an ingress pod and on a node without one.
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;
use serde_json::json;
use tests::fake_api::FakeApi;
use tests::kubeconfig::User;
use tests::objects::{self, Endpoint};
use tests::wait;

use crate::rig::{Agent, Rig};
use crate::table::{print, progress};
use crate::{Size, usage};

/// Services, each with two pods.
const SERVICES: u32 = 5000;
/// One route for so many Services.
const ROUTED: u32 = 5;
/// Changes a second.
const RATE: u32 = 100;
const NODE: &str = "bench";
const SYNCED: &str = "ingress_trace_kube_synced";
const REQUESTS: &str = "ingress_trace_kube_requests_total";
const RECEIVED: &str = "ingress_trace_kube_received_bytes_total";

/// Measures and prints.
pub fn measure(rig: &Rig, size: Size) -> Result<()> {
    progress("cluster");
    let api = FakeApi::start()?;
    api.apply(objects::node(NODE))?;
    for number in 0..SERVICES {
        fill(&api, number)?;
    }
    let config = api.kubeconfig(rig.bed.folder(), &User::Nobody)?;
    let beside = run(rig, &api, &config, size.storm, true)?;
    let without = run(rig, &api, &config, size.storm, false)?;
    let row = |what: &str, of: fn(&Seen) -> String| vec![what.into(), of(&beside), of(&without)];
    print(
        &format!(
            "A cluster of {} pods, {SERVICES} Services, {} routes, {RATE} changes/s",
            2 * SERVICES,
            SERVICES / ROUTED
        ),
        &["figure", "beside an ingress pod", "without one"],
        &[
            row("start to all known, s", |seen| format!("{:.1}", seen.known)),
            row("resident MiB", |seen| {
                format!("{:.1}", seen.memory.resident)
            }),
            row("of it anonymous, MiB", |seen| {
                format!("{:.1}", seen.memory.anonymous)
            }),
            row("resident at most, MiB", |seen| {
                format!("{:.1}", seen.memory.peak)
            }),
            row("of a core, %", |seen| format!("{:.1}", 100.0 * seen.core)),
            row("requests to list it all", |seen| seen.requests.to_string()),
            row("received by then, MB", |seen| {
                format!("{:.2}", seen.received / 1e6)
            }),
            row("requests while it changes", |seen| seen.later.to_string()),
        ],
    );
    Ok(())
}

struct Seen {
    known: f64,
    memory: usage::Memory,
    core: f64,
    requests: u64,
    received: f64,
    later: u64,
}

fn run(rig: &Rig, api: &FakeApi, config: &Path, churn: Duration, ingress: bool) -> Result<Seen> {
    let start = Instant::now();
    let config = config.display().to_string();
    let arguments = ["--kubeconfig", &config, "--node", NODE];
    let agent = if ingress {
        rig.agent_in_cluster(&arguments)?
    } else {
        rig.agent_of(&arguments)?
    };
    // Pods, Services, slices, Ingresses, their classes, nodes, and the two kinds of gateway routes.
    let all = if ingress { 8 } else { 1 };
    wait::holds("the cluster known", Duration::from_mins(2), || {
        agent
            .metrics()
            .is_ok_and(|page| page.count(SYNCED, &[]) == all)
    })?;
    let known = start.elapsed().as_secs_f64();
    let (requests, received) = asked(&agent)?;
    let (before, began) = (usage::process_seconds(agent.id())?.0, Instant::now());
    change(api, churn)?;
    let core = (usage::process_seconds(agent.id())?.0 - before) / began.elapsed().as_secs_f64();
    let seen = Seen {
        known,
        memory: usage::memory(agent.id())?,
        core,
        requests,
        received,
        later: asked(&agent)?.0 - requests,
    };
    agent.stop()?;
    Ok(seen)
}

fn asked(agent: &Agent) -> Result<(u64, f64)> {
    let page = agent.metrics()?;
    Ok((page.count(REQUESTS, &[]), page.sum(RECEIVED, &[])))
}

/// A Service, its slice of two pods, and now and then an Ingress. The fields that the API server
/// adds to each object, and that nobody reads, are there, too.
fn fill(api: &FakeApi, number: u32) -> Result<()> {
    let name = format!("service-{number}");
    let mut service = objects::service("shop", &name, Some(&name), &[("http", 80, 8080.into())]);
    let managed = "x".repeat(500);
    service["metadata"]["managedFields"] = json!([{"manager": managed}]);
    api.apply(service)?;
    let pods = [format!("{name}-a"), format!("{name}-b")];
    let endpoints =
        [0, 1].map(|one| Endpoint::ready(address(2 * number + one), &pods[one as usize]));
    api.apply(objects::slice("shop", &name, &[("http", 8080)], &endpoints))?;
    if number.is_multiple_of(ROUTED) {
        let host = format!("{name}.example");
        api.apply(objects::ingress(
            "shop",
            &name,
            "nginx",
            &host,
            &[("/", &name, 80)],
        ))?;
    }
    Ok(())
}

/// Endpoints become ready and not ready, one Service after the other.
fn change(api: &FakeApi, time: Duration) -> Result<()> {
    let start = Instant::now();
    for round in 0u32.. {
        let due = start + Duration::from_secs(1) * round / RATE;
        if due.duration_since(start) >= time {
            break;
        }
        thread::sleep(due.saturating_duration_since(Instant::now()));
        let number = round % SERVICES;
        let name = format!("service-{number}");
        let pods = [format!("{name}-a"), format!("{name}-b")];
        let mut endpoints =
            [0, 1].map(|one| Endpoint::ready(address(2 * number + one), &pods[one as usize]));
        endpoints[0].ready = (round / SERVICES) % 2 == 1;
        api.apply(objects::slice("shop", &name, &[("http", 8080)], &endpoints))?;
    }
    Ok(())
}

fn address(number: u32) -> IpAddr {
    let [_, high, middle, low] = number.to_be_bytes();
    IpAddr::V4(Ipv4Addr::new(10, 128 + high, middle, low))
}
