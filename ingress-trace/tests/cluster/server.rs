//! The link against a real API server with the rights of `deploy/` and no others.
use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use anyhow::Result;
use ingress_trace::cluster::object::{Kind, Name, Object};
use ingress_trace::cluster::stats::Reason;
use serde_json::{Value, json};
use tests::apiserver::{Access, ApiServer};
use tests::objects;

use crate::view::{MUCH, NODE, View};

/// How long a token lives that ends during its test.
const SHORT: Duration = Duration::from_secs(15);

fn pod(namespace: &str, name: &str, node: &str, last: u8) -> Value {
    let address = IpAddr::V4(Ipv4Addr::new(10, 1, 0, last));
    objects::pod(namespace, name, node, &[address], &[8080])
}

fn cart(server: &ApiServer, namespace: &str) -> Result<()> {
    let ports = [("http", 80, json!(8080))];
    server.apply_all(&[
        objects::node(NODE),
        objects::node("node-2"),
        objects::service(namespace, "cart", Some("cart"), &ports),
        pod(namespace, "cart-0", NODE, 5),
        pod(namespace, "cart-1", "node-2", 6),
    ])?;
    server.await_endpoints(
        namespace,
        "cart",
        &[("10.1.0.5", true, false), ("10.1.0.6", true, false)],
    )
}

/// With the agent's rights, for as long as its token lives.
fn view(server: &ApiServer, life: Option<Duration>) -> (View, Access) {
    let mut access = None;
    let mut view = View::at(MUCH, |folder| {
        let given = server.agent_access(folder)?;
        if let Some(life) = life {
            given.set_token(&server.short_token(life)?)?;
        }
        let path = given.kubeconfig.clone();
        access = Some(given);
        Ok(path)
    });
    view.link.want(true, Instant::now());
    (view, access.expect("made above"))
}

impl View {
    async fn all_synced(&mut self) {
        self.until("all synced", |view| {
            let states = view.report().states;
            states.len() == 8 && states.values().all(|state| state.synced)
        })
        .await;
    }

    /// Addresses of the Service's endpoints, and whether they are ready.
    fn endpoints(&self, namespace: &str) -> Vec<(String, bool)> {
        let slices = self.known.values().filter_map(|object| match object {
            Object::Slice(slice) if *slice.name.namespace == *namespace => Some(slice),
            _ => None,
        });
        let mut all: Vec<_> = slices
            .flat_map(|slice| &slice.endpoints)
            .map(|one| (one.addresses[0].to_string(), one.ready))
            .collect();
        all.sort();
        all
    }

    async fn has_endpoints(&mut self, namespace: &str, wanted: &[(&str, bool)]) {
        let owned = |(address, ready): &(&str, bool)| ((*address).to_owned(), *ready);
        let wanted: Vec<_> = wanted.iter().map(owned).collect();
        let what = format!("endpoints {wanted:?}");
        self.until(&what, |view| view.endpoints(namespace) == wanted)
            .await;
    }

    fn has(&self, kind: Kind, namespace: &str, name: &str) -> bool {
        self.known.contains_key(&(kind, Name::new(namespace, name)))
    }
}

#[tokio::test]
async fn with_exactly_the_rights_of_deploy_all_is_known_and_nothing_is_refused() -> Result<()> {
    let server = ApiServer::start()?;
    let namespace = server.namespace("rights")?;
    let name = namespace.name();
    cart(&server, name)?;
    let paths = &[("/", "cart", 80)];
    server.apply(&objects::ingress(name, "web", "nginx", "a.example", paths))?;
    let (mut view, _access) = view(&server, None);
    view.all_synced().await;
    view.has_endpoints(name, &[("10.1.0.5", true), ("10.1.0.6", true)])
        .await;
    for (kind, object) in [
        (Kind::Service, "cart"),
        (Kind::Ingress, "web"),
        (Kind::Pod, "cart-0"),
    ] {
        view.until(object, |view| view.has(kind, name, object))
            .await;
    }
    // Another node's pod is known when it is asked for.
    assert!(!view.has(Kind::Pod, name, "cart-1"));
    view.link.look_at(Name::new(name, "cart-1"));
    view.until("the fetched pod", |view| {
        view.has(Kind::Pod, name, "cart-1")
    })
    .await;
    // Routes that are installed now are found within a minute.
    server.install_gateway_api()?;
    server.apply(&objects::http_route(name, "route", "b.example", paths))?;
    server.apply(&objects::grpc_route(
        name,
        "calls",
        "c.example",
        &[("shop.Cart", "cart", 80)],
    ))?;
    view.until("the HTTPRoute", |view| {
        view.has(Kind::HttpRoute, name, "route")
    })
    .await;
    view.until("the GRPCRoute", |view| {
        view.has(Kind::GrpcRoute, name, "calls")
    })
    .await;
    assert!(view.report().errors.is_empty(), "{:?}", view.report());
    Ok(())
}

#[tokio::test]
async fn readiness_termination_and_new_pods_are_followed_through_restarts() -> Result<()> {
    let server = ApiServer::start()?;
    let namespace = server.namespace("restarts")?;
    let name = namespace.name();
    cart(&server, name)?;
    let (mut view, _access) = view(&server, None);
    view.all_synced().await;
    let mut first = pod(name, "cart-0", NODE, 5);
    objects::set_ready(&mut first, false);
    server.apply(&first)?;
    view.has_endpoints(name, &[("10.1.0.5", false), ("10.1.0.6", true)])
        .await;
    server.delete_pod(name, "cart-1", 40)?;
    view.has_endpoints(name, &[("10.1.0.5", false), ("10.1.0.6", false)])
        .await;
    // Watches break and go on from where they were.
    server.restart()?;
    objects::set_ready(&mut first, true);
    server.apply(&first)?;
    view.has_endpoints(name, &[("10.1.0.5", true), ("10.1.0.6", false)])
        .await;
    // While nobody listens, history goes on, and is forgotten.
    server.stop();
    let down = |view: &View| view.errors("services", Reason::Unreachable) > 0;
    view.until("the absence", down).await;
    server.resume()?;
    server.end(name, "cart-1")?;
    server.compact()?;
    server.restart()?;
    server.await_endpoints(name, "cart", &[("10.1.0.5", true, false)])?;
    view.has_endpoints(name, &[("10.1.0.5", true)]).await;
    view.all_synced().await;
    Ok(())
}

#[tokio::test]
async fn a_token_that_has_ended_is_said_and_its_successor_is_taken() -> Result<()> {
    let server = ApiServer::start()?;
    let namespace = server.namespace("tokens")?;
    cart(&server, namespace.name())?;
    let end = Instant::now() + SHORT;
    let (mut view, access) = view(&server, Some(SHORT));
    view.all_synced().await;
    tokio::time::sleep_until((end + Duration::from_secs(1)).into()).await;
    // Watches outlive their token, but not the server.
    server.restart()?;
    let refused = |view: &View| view.errors("services", Reason::Unauthorized) > 0;
    view.until("a refusal", refused).await;
    assert!(!view.state("services").synced);
    access.set_token(&server.agent_token()?)?;
    view.all_synced().await;
    Ok(())
}
