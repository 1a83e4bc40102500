//! Causes that lie in the ingress pod itself: provoked for real (kernel, proxy, API server), and the
//! finding's cause, its names, its evidence and its fix compared; the fix is done.
use std::fs;
use std::net::SocketAddr;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::json;
use tests::agent::Finding;
use tests::apiserver::ApiServer;
use tests::backends::{Backends, Behavior};
use tests::bed::{Bed, Host};
use tests::edge::pause;
use tests::expect::Differences;
use tests::ingress::{self, HAPROXY, INGRESS_NGINX, Ingress};
use tests::node::{INGRESS, Node};
use tests::planes::own::{Own, at};
use tests::planes::upstreams::{Route, Speaks, files};
use tests::planes::{Plane, watch};
use tests::{cgroup, client, objects, process, wait};

const PORT: u16 = 8000;

/// What nginx has too little of.
struct Short {
    word: &'static str,
    /// Lines of its configuration.
    main: &'static str,
    events: &'static str,
    evidence: &'static str,
    /// The setting of ingress-nginx that helps, and its value.
    setting: (&'static str, &'static str),
}

const SHORT: [Short; 2] = [
    Short {
        word: "descriptors",
        main: "worker_processes 1; worker_rlimit_nofile 80;",
        events: "worker_connections 4000;",
        evidence: "of 80 descriptors",
        setting: ("max-worker-open-files", "160"),
    },
    Short {
        word: "connections",
        main: "worker_processes 1;",
        events: "worker_connections 60;",
        evidence: "of 60 worker_connections",
        setting: ("max-worker-connections", "120"),
    },
];

impl Short {
    fn check(&self, server: &std::sync::Arc<ApiServer>) -> Result<()> {
        let namespace = server.namespace(self.word)?;
        let space = namespace.name();
        let node = Node::bare(server, space, Plane::Nginx, 1)?;
        let app = self.word;
        node.service(app, app, json!(PORT))?;
        let pod = node.pod(&format!("{app}-0"), PORT)?;
        pod.run(&[])?;
        // No other test's is the same.
        let path = format!("/{app}");
        let paths = [(&*path, app, 80)];
        server.apply(&objects::ingress(space, "web", "nginx", "", &paths))?;
        let ingress = Ingress::new(&node, &INGRESS_NGINX)?;
        let route = Route::new(app, SocketAddr::new(pod.address(), PORT), Speaks::Http);
        let mut files = files(Plane::Nginx, &[route])?;
        for (_, text) in &mut files {
            *text = text.replace("worker_processes 2;", self.main);
            *text = text.replace("worker_connections 4000;", self.events);
            // Who keeps its connection to the backend runs out of those to clients, and says nothing.
            *text = text.replace("keepalive 8;", "");
        }
        let _own = Own::start(&node.bed, Plane::Nginx, &files)?;
        let agent = node.finder()?;
        let (held, path) = client::exhaust(&node.bed, node.at(), app)?;
        // Still full while the agent looks.
        let finding = node.told(&agent, &path)?;
        drop(held);
        let expected = json!({"cause": "ingress_fds_exhausted", "outcome": "no_upstream",
            "status": 500, "status_source": "observed", "client_visible": "yes",
            "ingress": {"namespace": space, "pod": ingress.pod, "node": node.name},
            "backend": {"namespace": space, "service": app}});
        let mut differences = Differences::default();
        differences.compare(self.word, &finding, &expected);
        let evidence = finding.0["evidence"].to_string();
        differences.check(evidence.contains(self.evidence), || evidence.clone());
        let name = INGRESS_NGINX.name;
        let (key, value) = self.setting;
        let set = format!(
            "kubectl -n {space} patch configmap {name} --type=merge -p \
             '{{\"data\":{{\"{key}\":\"{value}\"}}}}'"
        );
        let more = format!("kubectl -n {space} scale deployment {name} --replicas=");
        let told = finding.0["fix"].as_array().context("no fix")?;
        let advice = told.iter().filter_map(|fix| fix.as_str());
        let advice: Vec<&str> = advice.filter(|fix| fix.starts_with("kubectl ")).collect();
        differences.check(
            matches!(&*advice, [first, second] if *first == set && second.starts_with(&more)),
            || format!("{advice:#?}"),
        );
        differences.finish("");
        advice.iter().try_for_each(|fix| server.shell(fix))?;
        let settings = server.object("configmaps", space, name)?;
        let settings = settings.context("no ConfigMap")?;
        ensure!(settings["data"][key] == value, "{settings}");
        let deployment = server.object("deployments", space, name)?;
        let deployment = deployment.context("no Deployment")?;
        ensure!(deployment["spec"]["replicas"] == 2, "{deployment}");
        ensure!(agent.stop()?.len() == 1);
        Ok(())
    }
}

#[test]
fn an_ingress_without_descriptors_or_connections_is_named_and_its_fix_is_taken() -> Result<()> {
    let server = ApiServer::shared()?;
    SHORT.iter().try_for_each(|short| short.check(&server))
}

/// Clients that ask one after the other.
const CLIENTS: usize = 48;
/// Its readings reach back so far at most: what lies behind is not of the overload alone.
const WINDOW: Duration = Duration::from_secs(10);

/// Requests of all clients for so long: their paths, and what they got.
fn traffic(node: &Node, word: &str, last: Duration) -> Result<Vec<(String, Option<u16>)>> {
    let until = Instant::now() + last;
    let ask = |client: usize| {
        let mut got = Vec::new();
        while Instant::now() < until {
            let path = format!("/cart/{word}-{client}-{}", got.len());
            let status = node.get(&path)?.status;
            got.push((path, status));
            pause(10);
        }
        Ok(got)
    };
    let all = thread::scope(|scope| {
        let clients = [(); CLIENTS];
        let mut number = 0..;
        let clients = clients.map(|()| {
            let number = number.next().unwrap_or_default();
            scope.spawn(move || ask(number))
        });
        clients
            .into_iter()
            .map(wait::joined)
            .collect::<Result<Vec<_>>>()
    })?;
    Ok(all.concat())
}

fn succeeds(all: &[(String, Option<u16>)]) -> Result<()> {
    let failed = all.iter().find(|(_, status)| *status != Some(200));
    ensure!(failed.is_none() && !all.is_empty(), "{failed:?}");
    Ok(())
}

/// Its requests queue for the only connection that its backend takes, and longer than they may only while
/// its own CPU quota holds it back.
#[test]
fn an_ingress_that_its_cpu_quota_holds_back_is_overloaded_and_named() -> Result<()> {
    let server = ApiServer::shared()?;
    let namespace = server.namespace("throttled")?;
    let space = namespace.name();
    let node = Node::bare(&server, space, Plane::Haproxy, 1)?;
    node.service("cart", "cart", json!(PORT))?;
    let pod = node.pod("cart-0", PORT)?;
    pod.run(&[])?;
    let ingress = Ingress::new(&node, &HAPROXY)?;
    let endpoint = SocketAddr::new(pod.address(), PORT);
    let route = Route {
        hasty: false,
        ..Route::new("cart", endpoint, Speaks::Http)
    };
    let mut files = files(Plane::Haproxy, &[route])?;
    let line = format!("server s {endpoint}");
    for (_, text) in &mut files {
        let narrow = format!("timeout queue 500\n{line} maxconn 1");
        *text = text.replace(&line, &narrow);
    }
    let _own = Own::start(&node.bed, Plane::Haproxy, &files)?;
    let agent = node.finder()?;
    succeeds(&traffic(&node, "before", Duration::from_secs(3))?)?;
    ingress.throttle(ingress::CPU)?;
    traffic(&node, "early", WINDOW)?;
    let held = traffic(&node, "held", Duration::from_secs(5))?;
    ingress.throttle(200)?;
    traffic(&node, "late", Duration::from_secs(1))?;
    succeeds(&traffic(&node, "after", Duration::from_secs(3))?)?;
    let failed: Vec<_> = held
        .iter()
        .filter(|(_, status)| *status == Some(503))
        .collect();
    ensure!(!failed.is_empty(), "nothing failed of {}", held.len());
    let found = agent.stop()?;
    let mut differences = Differences::default();
    let name = HAPROXY.name;
    for (path, _) in failed {
        let expected = json!({"cause": "ingress_overloaded", "outcome": "no_upstream", "status": 503,
            "status_source": "observed", "client_visible": "yes", "confidence": "medium",
            "ingress": {"namespace": space, "pod": ingress.pod, "node": node.name}});
        let fits = |one: &Finding| one.path() == path;
        differences.only(path, &found, fits, &expected);
        for one in found.iter().filter(|one| fits(one)) {
            let list = |name: &str| one.0[name].to_string();
            for (list, words) in [
                (list("evidence"), "the controller's CPU quota ("),
                (list("evidence"), "the request had waited "),
                (
                    list("fix"),
                    &*format!("-n {space} scale deployment {name} --replicas="),
                ),
                (
                    list("fix"),
                    &*format!("deployment {name} -c controller --limits=cpu=40m"),
                ),
            ] {
                differences.check(list.contains(words), || format!("no {words}: {list}"));
            }
        }
    }
    // Before it is known for how long, nothing else is said.
    for one in found {
        let right = ["ingress_overloaded", "unknown"].contains(&one.text("/cause"));
        differences.check(right && one.status() == Some(503), || one.0.to_string());
    }
    differences.finish("");
    Ok(())
}

/// What a controller is short of is said of what fails meanwhile, and decides nothing: a policy's error
/// comes at once, a backend's silence is the backend's, and who waits to be accepted does not fail.
#[test]
fn what_an_ingress_is_short_of_is_not_the_cause_of_what_fails_anyway() -> Result<()> {
    let bed = Bed::new()?;
    let _backends = Backends::start(&bed)?;
    let hang = Route::new("hang", Behavior::Hang.endpoint(), Speaks::Http);
    let mut files = files(Plane::Nginx, &[hang])?;
    for (_, text) in &mut files {
        *text = text.replace("worker_processes 2;", "worker_processes 1;");
        let listen = format!("listen {INGRESS};");
        let narrow = format!("listen {INGRESS} backlog=1; location /policy/ {{ return 503; }}");
        *text = text.replace(&listen, &narrow);
    }
    let own = Own::start(&bed, Plane::Nginx, &files)?;
    let agent = watch(&bed, Plane::Nginx)?;
    let get = |path: &str| client::get(&bed, at(INGRESS), path).map(|got| got.status);
    crowd(&bed, &own)?;
    ensure!(get("/hang/crowded")? == Some(504));
    // It has all the time that nginx leaves.
    let mut busy = Command::new("sh");
    let _busy = bed.start(Host::Proxy, busy.args(["-c", "while :; do :; done"]))?;
    cgroup::throttle(&bed.cgroup(Host::Proxy), 20)?;
    thread::sleep(WINDOW);
    ensure!(get("/policy/held")? == Some(503));
    ensure!(get("/hang/held")? == Some(504));
    ensure!(get("/fine/held")? == Some(200));
    let found = agent.stop()?;
    let mut differences = Differences::default();
    for (path, cause, status, words) in [
        (
            "/hang/crowded",
            "backend_timeout",
            504,
            "accept queues of the controller's",
        ),
        (
            "/policy/held",
            "unknown",
            503,
            "the controller's CPU quota (",
        ),
        (
            "/hang/held",
            "backend_timeout",
            504,
            "the controller's CPU quota (",
        ),
    ] {
        let fits = |one: &Finding| one.path() == path;
        let expected = json!({"cause": cause, "status": status, "client_visible": "yes"});
        differences.only(path, &found, fits, &expected);
        let told = found.iter().find(|one| fits(one));
        let evidence = told.map(|one| one.0["evidence"].to_string());
        let evidence = evidence.unwrap_or_default();
        differences.check(evidence.contains(words), || format!("{path}: {evidence}"));
    }
    differences.check(found.len() == 3, || format!("{found:#?}"));
    differences.finish(&own.output());
    Ok(())
}

/// More clients than may wait to be accepted, while nobody accepts: all are served in the end.
fn crowd(bed: &Bed, own: &Own) -> Result<()> {
    let id = own.process.id();
    let children = fs::read_to_string(format!("/proc/{id}/task/{id}/children"))?;
    let worker: u32 = children.trim().parse().context("not one worker")?;
    process::signal(worker, libc::SIGSTOP);
    let served = thread::scope(|scope| {
        let clients = [(); 6].map(|()| {
            scope.spawn(|| client::get(bed, at(INGRESS), "/fine/crowded").map(|got| got.status))
        });
        thread::sleep(Duration::from_millis(500));
        process::signal(worker, libc::SIGCONT);
        clients
            .into_iter()
            .map(wait::joined)
            .collect::<Result<Vec<_>>>()
    })?;
    ensure!(
        served.iter().all(|status| *status == Some(200)),
        "{served:?}"
    );
    Ok(())
}
