//! Which pods are watched, through an API: real cgroups laid out as kubelets do, real containers
//! (nginx) that restart in them, and traffic of which nothing may be missed.
use std::time::Duration;

use anyhow::Result;
use tests::agent::{Agent, Finding};
use tests::backends::{Backends, Behavior};
use tests::bed::{Bed, Host};
use tests::client;
use tests::fake_api::FakeApi;
use tests::kubeconfig::User;
use tests::kubelet::{INGRESS, Layout, NODE, Pod, WEB};
use tests::nginx::{Listener, Nginx, Options};
use tests::wait;

const EXCHANGES: &str = "ingress_trace_upstream_exchanges_total";
const PODS: &str = "ingress_trace_ingress_pods";

/// How long it may take until an API that was away is asked again, and answers.
const RETRIED: Duration = Duration::from_mins(1);

/// Hosts, backends and an API.
struct Node {
    api: FakeApi,
    backends: Backends,
    bed: Bed,
}

impl Node {
    fn new() -> Result<Self> {
        let bed = Bed::new()?;
        let backends = Backends::start(&bed)?;
        Ok(Self {
            api: FakeApi::start()?,
            backends,
            bed,
        })
    }

    fn agent(&self, arguments: &[&str]) -> Result<Agent> {
        let config = self.api.kubeconfig(self.bed.folder(), &User::Nobody)?;
        let config = config.display().to_string();
        let mut all = vec!["--kubeconfig", &config, "--node", NODE];
        all.extend(arguments);
        Agent::start_with(self.bed.folder(), &all)
    }

    fn nginx(&self, host: Host) -> Result<Nginx> {
        Nginx::start(&self.bed, host, Options::default())
    }

    fn get(&self, host: Host, path: &str) -> Result<Option<u16>> {
        Ok(client::get(&self.bed, Listener::Plain.of(host), path)?.status)
    }

    /// So many requests that succeed, and one that fails.
    fn ask(&self, host: Host, times: u32, failing: &str) -> Result<()> {
        for _ in 0..times {
            assert_eq!(self.get(host, "/ok/")?, Some(200));
        }
        assert_eq!(self.get(host, failing)?, Some(502));
        Ok(())
    }
}

fn watches(agent: &Agent, pods: u64) -> Result<()> {
    let what = format!("{pods} ingress pods");
    agent
        .metric(&what, |page| page.count(PODS, &[]) == pods)
        .map(drop)
}

/// The request's finding, which must tell whose ingress it was.
fn told(agent: &Agent, path: &str, pod: &str) -> Result<()> {
    let finding = agent.finding(path, |finding| finding.path() == path)?;
    assert_eq!(finding.text("/controller"), "nginx");
    assert_eq!(finding.text("/ingress/namespace"), "edge");
    assert_eq!(finding.text("/ingress/pod"), pod);
    assert_eq!(finding.text("/ingress/node"), NODE);
    Ok(())
}

#[test]
fn nothing_is_missed_from_the_first_request_on_nor_while_a_container_restarts() -> Result<()> {
    for layout in Layout::ALL {
        let mut node = Node::new()?;
        let pod = Pod::new(&node.bed, Host::Proxy, layout, "gateway-1", INGRESS);
        let agent = node.agent(&[])?;
        watches(&agent, 0)?;
        node.api.apply(pod.object())?;
        pod.create()?;
        watches(&agent, 1)?;

        pod.container(&node.bed, "first")?;
        let nginx = node.nginx(Host::Proxy)?;
        node.ask(Host::Proxy, 20, "/refused/first")?;
        told(&agent, "/refused/first", "gateway-1")?;
        drop(nginx);
        pod.ended("first")?;

        pod.container(&node.bed, "second")?;
        let nginx = node.nginx(Host::Proxy)?;
        node.ask(Host::Proxy, 20, "/refused/second")?;
        told(&agent, "/refused/second", "gateway-1")?;

        let sent = node.backends.requests(Behavior::Ok)? + 2;
        assert_eq!(sent, 42);
        let page = agent.metric("every exchange counted", |page| {
            page.count(EXCHANGES, &[]) >= sent
        })?;
        let counted = page.count(EXCHANGES, &[("controller", "nginx")]);
        assert_eq!(counted, sent, "{layout:?}");

        node.api.delete("pods", "edge", "gateway-1")?;
        watches(&agent, 0)?;
        node.ask(Host::Proxy, 1, "/refused/third")?;
        assert_eq!(agent.stop()?.len(), 2, "{layout:?}");
        drop(nginx);
    }
    Ok(())
}

#[test]
fn an_applications_own_web_server_is_no_ingress_unless_it_is_named() -> Result<()> {
    let node = Node::new()?;
    let gateway = Pod::new(
        &node.bed,
        Host::Proxy,
        Layout::SYSTEMD,
        "gateway-1",
        INGRESS,
    );
    let web = Pod::new(&node.bed, Host::SecondProxy, Layout::SYSTEMD, "web-1", WEB);
    for pod in [&gateway, &web] {
        pod.create()?;
        pod.container(&node.bed, "main")?;
        node.api.apply(pod.object())?;
    }
    let _proxies = [node.nginx(Host::Proxy)?, node.nginx(Host::SecondProxy)?];
    for (arguments, watched) in [
        (&[][..], &["gateway-1"][..]),
        (&["--pod", "edge/web-1"], &["web-1"]),
        (
            &["--ingress-selector", "app in (web)"],
            &["gateway-1", "web-1"],
        ),
    ] {
        let agent = node.agent(arguments)?;
        watches(&agent, watched.len() as u64)?;
        let both = [
            (Host::SecondProxy, "/refused/web", "web-1"),
            (Host::Proxy, "/refused/gateway", "gateway-1"),
        ];
        for (host, path, name) in both {
            node.ask(host, 1, path)?;
            if watched.contains(&name) {
                told(&agent, path, name)?;
            }
        }
        assert_eq!(agent.stop()?.len(), watched.len(), "{arguments:?}");
    }
    Ok(())
}

#[test]
fn processes_stand_in_for_pods_until_the_api_answers() -> Result<()> {
    let mut node = Node::new()?;
    let gateway = Pod::new(&node.bed, Host::Proxy, Layout::KIND, "gateway-1", INGRESS);
    gateway.create()?;
    gateway.container(&node.bed, "main")?;
    node.api.apply(gateway.object())?;
    node.api.down();
    let _nginx = node.nginx(Host::Proxy)?;
    let agent = node.agent(&[])?;
    node.ask(Host::Proxy, 5, "/refused/before")?;
    let before = agent.finding("before", |finding| finding.path() == "/refused/before")?;
    assert_eq!(before.text("/ingress/pod"), "");
    assert!(
        agent.errors().contains("watching processes"),
        "{}",
        agent.errors()
    );
    node.api.up()?;
    wait::holds("the pod named", RETRIED, || {
        let asked = node.get(Host::Proxy, "/refused/after").is_ok();
        let named = |finding: &Finding| finding.text("/ingress/pod") == "gateway-1";
        asked && agent.findings().iter().any(named)
    })?;
    watches(&agent, 1)?;
    agent.stop().map(drop)
}
