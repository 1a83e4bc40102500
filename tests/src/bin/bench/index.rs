//! The index of a large cluster: what it keeps and what each question costs, in simulated time. No
//! API and no agent.
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use anyhow::{Result, ensure};
use ingress_trace::allocator;
use ingress_trace::cluster::index::owned::Owned;
use ingress_trace::cluster::index::{Asked, Index};
use ingress_trace::cluster::object::{
    BackendRef, Condition, Container, Endpoint, Kind, Name, Node, Object, PathMatch, Pod, PortRef,
    Route, Rule, Service, ServicePort, Slice, SlicePort,
};
use jiff::Timestamp;

use crate::table::{print, progress};
use crate::usage::{memory, thread_seconds};

const SERVICES: u32 = 5_000;
/// Endpoints of each Service: 10,000 pods.
const ENDPOINTS: u32 = 2;
const ROUTES: u32 = 1_000;
const NODES: u32 = 100;
/// Pods of the agent's own node.
const OWN: u32 = 110;
/// Changes of endpoints in each simulated second.
const CHURN: u32 = 100;
/// How long the past is kept, and twice that is simulated.
const HORIZON: u32 = 120;
/// How often each question is asked.
const ASKED: u32 = 20_000;

/// Measures and prints.
pub fn measure() -> Result<()> {
    progress("the index");
    let held = || {
        // As the agent does now and then.
        allocator::trim();
        memory(std::process::id()).map(|memory| memory.anonymous)
    };
    let before = held()?;
    let mut index = Index::new("node-0");
    let listed = timed(|| fill(&mut index));
    let filled = held()? - before;
    let churned = timed(|| churn(&mut index));
    let full = held()? - before;
    ensure!(
        index.evicted() == 0,
        "{} changes left early",
        index.evicted()
    );
    let changes = f64::from(CHURN) * f64::from(2 * HORIZON);
    let share = churned / f64::from(2 * HORIZON) * 100.0;
    let mut rows = vec![
        vec!["memory after the lists, MiB".into(), format!("{filled:.1}")],
        vec!["memory with its past, MiB".into(), format!("{full:.1}")],
        vec!["lists, ms".into(), format!("{:.0}", listed * 1e3)],
        vec![
            "a change, us".into(),
            format!("{:.2}", churned / changes * 1e6),
        ],
        vec!["changes, share of a core".into(), format!("{share:.2} %")],
    ];
    let mut row = |what: &str, seconds: f64, times: u32| {
        let each = seconds / f64::from(times) * 1e6;
        rows.push(vec![format!("{what}, us"), format!("{each:.2}")]);
    };
    let now = at(i64::from(2 * HORIZON));
    let found = ask(
        |number| match index.whose(address(number), now, Some(&asked(number))) {
            Owned::Endpoint(_) => 1,
            _ => 0,
        },
    )?;
    row("whose an address was", found, ASKED);
    let routed = ask(|number| u32::from(index.route(&asked(number), now).is_some()))?;
    row("where a request led", routed, ASKED);
    let labels = ask(|number| u32::from(index.labels(address(number)).is_some()))?;
    row("labels of an address", labels, ASKED);
    let mut dead = 0;
    let seconds = timed(|| dead = index.dead_routes().len());
    row(&format!("all dead routes ({dead})"), seconds, 1);
    let title = format!(
        "The index: {} pods, {SERVICES} Services, {ROUTES} routes, {CHURN} changes/s for {} s, past of {HORIZON} s",
        SERVICES * ENDPOINTS,
        2 * HORIZON
    );
    print(&title, &["figure", "value"], &rows);
    Ok(())
}

/// Asks for each of many numbers; all must be found.
fn ask(mut question: impl FnMut(u32) -> u32) -> Result<f64> {
    let mut found = 0;
    let seconds = timed(|| found = (0..ASKED).map(|number| question(number * 7)).sum::<u32>());
    ensure!(found == ASKED, "{found} of {ASKED} were found");
    Ok(seconds)
}

fn timed(work: impl FnOnce()) -> f64 {
    let start = thread_seconds();
    work();
    thread_seconds() - start
}

fn fill(index: &mut Index) {
    let start = at(0);
    index.replace(Kind::Node, (0..NODES).map(node), start);
    index.replace(Kind::Service, (0..SERVICES).map(service), start);
    index.replace(
        Kind::Slice,
        (0..SERVICES).map(|number| slice(number, 0)),
        start,
    );
    index.replace(Kind::Ingress, (0..ROUTES).map(route), start);
    index.replace(Kind::Pod, (0..OWN).map(pod), start);
}

/// Endpoints that get unready, ready again, and replaced pods with new names.
fn churn(index: &mut Index) {
    for second in 1..=2 * HORIZON {
        for change in 0..CHURN {
            let number = second * CHURN + change;
            index.apply(slice(number * 31 % SERVICES, number), at(second.into()));
        }
        index.forget(at(i64::from(second) - i64::from(HORIZON)));
    }
}

fn at(second: i64) -> Timestamp {
    Timestamp::new(1_772_373_600 + second, 0).expect("a time within range")
}

fn name(kind: &str, number: u32) -> Name {
    Name::new(
        &format!("team-{}", number % 100),
        &format!("{kind}-{number}"),
    )
}

fn ip(net: u8, number: u32) -> IpAddr {
    let [_, _, high, low] = number.to_be_bytes();
    IpAddr::V4(Ipv4Addr::new(10, net, high, low))
}

/// An address of an endpoint that no change takes away.
fn address(number: u32) -> SocketAddr {
    SocketAddr::new(ip(1, number % (SERVICES * ENDPOINTS)), 8080)
}

fn asked(number: u32) -> Asked<'static> {
    const PATHS: [&str; 3] = ["/", "/api/v1/items", "/static/app.js"];
    Asked {
        host: Some("shop-7.example.com"),
        path: PATHS[number as usize % PATHS.len()],
        method: Some("GET"),
        serves: None,
    }
}

fn node(number: u32) -> Object {
    Object::Node(Node {
        name: Name::new("", &format!("node-{number}")),
        addresses: vec![ip(0, number)],
        ready: Some(Condition {
            met: true,
            since: Some(at(0)),
            reason: Some("KubeletReady".into()),
        }),
    })
}

fn service(number: u32) -> Object {
    Object::Service(Service {
        name: name("service", number),
        selects: true,
        cluster_ips: vec![ip(96, number)],
        ports: vec![ServicePort {
            name: "http".into(),
            port: 80,
            target: PortRef::Name("http".into()),
            node_port: None,
        }],
        ..Service::default()
    })
}

/// The slice of a Service after a change: each makes another state, now and then another pod.
fn slice(number: u32, change: u32) -> Object {
    let Name {
        namespace,
        name: service,
    } = name("service", number);
    let endpoint = |place: u32| {
        let changed = place == change % ENDPOINTS;
        let ready = !changed || change.is_multiple_of(3);
        let turn = if changed { change / 8 } else { 0 };
        Endpoint {
            addresses: vec![ip(1, number * ENDPOINTS + place)],
            ready,
            serving: ready,
            terminating: false,
            pod: Some(format!("service-{number}-7d9f5c6b8-{turn:x}{place}").into()),
            node: Some(format!("node-{}", (number + place) % NODES).into()),
        }
    };
    Object::Slice(Slice {
        name: Name::new(&namespace, &format!("service-{number}-x7k2p")),
        service: Some(service),
        ports: vec![SlicePort {
            name: "http".into(),
            port: Some(8080),
        }],
        endpoints: (0..ENDPOINTS).map(endpoint).collect(),
    })
}

fn route(number: u32) -> Object {
    let rule = |path: &str, service: u32| Rule {
        hosts: vec![format!("shop-{number}.example.com").into()],
        path: PathMatch::Prefix(path.into()),
        method: None,
        conditional: false,
        index: 0,
        backends: vec![BackendRef {
            service: name("service", service % SERVICES),
            port: Some(PortRef::Number(80)),
        }],
    };
    Object::Route(Route {
        kind: Kind::Ingress,
        name: name("web", number),
        class: Some("nginx".into()),
        annotation: None,
        parents: Vec::new(),
        created: Some(at(0)),
        rules: vec![
            rule("/", number),
            rule("/api", number + 1),
            rule("/static", number + 2),
        ],
        default_backend: None,
    })
}

fn pod(number: u32) -> Object {
    let text = |what: &str| -> std::sync::Arc<str> { format!("{what}-{number}").into() };
    Object::Pod(Pod {
        name: name("own", number),
        uid: text("8f2b1c60-3f0e-4b1a-9c44-5d1f6f7a"),
        created: Some(at(0)),
        node: Some("node-0".into()),
        addresses: vec![ip(2, number)],
        phase: "Running".into(),
        labels: vec![("app".into(), text("app")), ("version".into(), "v1".into())],
        containers: vec![Container {
            name: "app".into(),
            image: text("registry.example.com/team/app:v1"),
            ports: vec![("http".into(), 8080)],
            ready: true,
            id: Some(text("containerd://0123456789abcdef0123456789abcdef")),
            ..Container::default()
        }],
        ..Pod::default()
    })
}
