//! Names behind each of the five data planes: real proxies in pods of a real API server, found by
//! themselves as their kubelets lay them out, with backends of both families, and with routes of another
//! ingress class or Gateway that would lead elsewhere.

use anyhow::{Context, Result};
use serde_json::{Value, json};
use tests::agent::{Agent, Finding};
use tests::apiserver::{Access, ApiServer};
use tests::backends::{Backends, Behavior};
use tests::bed::{Bed, Host};
use tests::client;
use tests::kubelet::{Layout, Pod};
use tests::nginx::Fault;
use tests::objects;
use tests::planes::{Listener, Plane, Proxy};

const NODE: &str = "n1";

/// How the pod of a data plane is made, and what it serves.
struct Packaging {
    plane: Plane,
    image: &'static str,
    arguments: &'static [&'static str],
    layout: Layout,
    /// `spec.controller` of its own class, and of one that is not.
    classes: [&'static str; 2],
}

const PACKAGINGS: [Packaging; 5] = [
    Packaging {
        plane: Plane::Nginx,
        image: "registry.k8s.io/ingress-nginx/controller:v1.13.0",
        arguments: &[
            "/nginx-ingress-controller",
            "--controller-class=k8s.io/edge",
        ],
        layout: Layout::SYSTEMD,
        classes: ["k8s.io/edge", "k8s.io/ingress-nginx"],
    },
    Packaging {
        plane: Plane::Haproxy,
        image: "haproxytech/kubernetes-ingress:3.1",
        arguments: &["--ingress.class=edge"],
        layout: Layout::CGROUPFS,
        classes: [
            "haproxy.org/ingress-controller/edge",
            "haproxy.org/ingress-controller/other",
        ],
    },
    // A gateway's: Envoy Gateway serves no Ingress.
    Packaging {
        plane: Plane::Envoy,
        image: "envoyproxy/envoy:distroless-v1.36.0",
        arguments: &[],
        layout: Layout::KIND,
        classes: ["", "k8s.io/ingress-nginx"],
    },
    Packaging {
        plane: Plane::Traefik,
        image: "docker.io/traefik:v3.5",
        arguments: &[
            "--providers.kubernetesingress",
            "--providers.kubernetesingress.ingressclass=edge",
        ],
        layout: Layout::SYSTEMD,
        classes: [
            "traefik.io/ingress-controller",
            "traefik.io/ingress-controller",
        ],
    },
    Packaging {
        plane: Plane::Caddy,
        image: "caddy/ingress:v0.2.1",
        arguments: &[],
        layout: Layout::CGROUPFS,
        classes: ["caddyserver.com/ingress", "k8s.io/ingress-nginx"],
    },
];

/// A data plane in its pod, and the cluster around it.
struct World {
    space: String,
    plane: Plane,
    agent: Agent,
    _proxy: Proxy,
    _backends: Backends,
    _access: Access,
    // Last: it is dropped after what lives in it.
    bed: Bed,
}

impl World {
    fn new(server: &ApiServer, space: &str, packaging: &Packaging) -> Result<Self> {
        let bed = Bed::new()?;
        let backends = Backends::start(&bed)?;
        routes(server, space, packaging)?;
        let name = format!("edge-{}", packaging.plane.word());
        server.apply(&ingress_pod(space, &name, packaging))?;
        let object = server.object("pods", space, &name)?.context("the pod")?;
        let pod = Pod::of(&bed, Host::Proxy, packaging.layout, &object)?;
        pod.create()?;
        pod.container(&bed, "main")?;
        let proxy = Proxy::start(packaging.plane, &bed, Host::Proxy)?;
        let access = server.agent_access(bed.folder())?;
        let config = access.kubeconfig.display().to_string();
        let follow = ["--kubeconfig", &config, "--node", NODE];
        let agent = Agent::start_with(bed.folder(), &follow)?;
        agent.knows_the_cluster()?;
        agent.metric("the pod watched", |page| {
            page.count("ingress_trace_ingress_pods", &[]) == 1
        })?;
        Ok(Self {
            space: space.to_owned(),
            plane: packaging.plane,
            agent,
            _proxy: proxy,
            _backends: backends,
            _access: access,
            bed,
        })
    }

    fn told(&self, listener: std::net::SocketAddr, path: &str) -> Result<Finding> {
        let answer = client::get(&self.bed, listener, path)?;
        assert!(answer.status.is_some_and(|status| status >= 500), "{path}");
        let found = self.agent.finding(path, |finding| finding.path() == path)?;
        let ingress = format!("edge-{}", self.plane.word());
        assert_eq!(found.text("/ingress/pod"), ingress);
        assert_eq!(found.text("/controller"), self.plane.word());
        Ok(found)
    }

    fn names(&self, finding: &Finding, service: &str, pod: &str) {
        let parts = ["namespace", "service", "pod"];
        let told = parts.map(|part| finding.text(&format!("/backend/{part}")));
        assert_eq!(told, [&self.space, service, pod], "{finding:?}");
    }
}

/// nginx's is a static pod in its node's network, of which the API has but a mirror.
fn ingress_pod(space: &str, name: &str, packaging: &Packaging) -> Value {
    let mut pod = objects::pod(space, name, NODE, &[Host::Proxy.v4()], &[8080]);
    pod["spec"]["containers"][0]["image"] = json!(packaging.image);
    pod["spec"]["containers"][0]["args"] = json!(packaging.arguments);
    match packaging.plane {
        Plane::Nginx => {
            let hash = "8a5363f4f31e043bdae3c93aca499190";
            pod["metadata"]["annotations"] = json!({
                "kubernetes.io/config.hash": hash,
                "kubernetes.io/config.mirror": hash,
                "kubernetes.io/config.source": "file",
            });
            pod["spec"]["hostNetwork"] = json!(true);
            pod["spec"]["containers"][0]["ports"][0]["hostPort"] = json!(8080);
        }
        Plane::Envoy => {
            pod["metadata"]["labels"] = json!({
                "app.kubernetes.io/managed-by": "envoy-gateway",
                "app.kubernetes.io/component": "proxy",
                "gateway.envoyproxy.io/owning-gateway-name": "gateway",
                "gateway.envoyproxy.io/owning-gateway-namespace": space,
            });
        }
        _ => {}
    }
    pod
}

/// `/none/` leads to `empty` by the routes of this data plane, and to `decoy` by those of another.
fn routes(server: &ApiServer, space: &str, packaging: &Packaging) -> Result<()> {
    let (own, other) = ([("/none", "empty", 80)], [("/none", "decoy", 80)]);
    if packaging.plane == Plane::Envoy {
        let mut decoy = objects::http_route(space, "a-decoy", "proxy", &other);
        decoy["spec"]["parentRefs"] = json!([{"name": "other"}]);
        decoy["spec"]["hostnames"] = json!([]);
        let mut route = objects::http_route(space, "web", "proxy", &own);
        route["spec"]["hostnames"] = json!([]);
        server.apply_all([&decoy, &route])?;
    } else {
        let class = objects::ingress_class("edge", packaging.classes[0]);
        server.apply(&class)?;
        server.apply(&objects::ingress(space, "web", "edge", "", &own))?;
    }
    server.apply(&objects::ingress_class("other", packaging.classes[1]))?;
    server.apply(&objects::ingress(space, "a-decoy", "other", "", &other))
}

/// Services of both families in front of one pod, each for another port of it.
fn backends(server: &ApiServer, space: &str) -> Result<()> {
    let addresses = [Host::Backend.v4(), Host::Backend.v6()];
    let ports = [Fault::Refused.port(), Behavior::ResetRequest.port()];
    server.apply(&objects::node(NODE))?;
    for (name, port) in [("cart", ports[0]), ("orders", ports[1])] {
        let mut service = objects::service(space, name, Some("cart"), &[("http", 80, json!(port))]);
        service["spec"]["ipFamilyPolicy"] = json!("RequireDualStack");
        server.apply(&service)?;
    }
    for name in ["empty", "decoy"] {
        let service = objects::service(space, name, Some(name), &[("http", 80, json!(8080))]);
        server.apply(&service)?;
    }
    server.apply(&objects::pod(space, "cart-0", NODE, &addresses, &ports))?;
    let [v4, v6] = addresses.map(|address| address.to_string());
    let mut wanted = [(v4.as_str(), true, false), (v6.as_str(), true, false)];
    wanted.sort_unstable();
    server.await_endpoints(space, "cart", &wanted)?;
    server.await_endpoints(space, "orders", &wanted)
}

#[test]
fn refused_reset_and_unrouted_requests_have_their_names_on_every_data_plane() -> Result<()> {
    let server = ApiServer::shared()?;
    server.install_gateway_api()?;
    let namespace = server.namespace("planes")?;
    let space = namespace.name();
    backends(&server, space)?;
    for packaging in &PACKAGINGS {
        let world = World::new(&server, space, packaging)?;
        check(&world).with_context(|| packaging.plane.word())?;
        world.agent.stop()?;
        server.end(space, &format!("edge-{}", packaging.plane.word()))?;
        clear(&server, space)?;
    }
    Ok(())
}

/// Removes the routes and the classes, whose controllers cannot be changed.
fn clear(server: &ApiServer, space: &str) -> Result<()> {
    let of = |resource, namespace, name| -> Result<()> {
        if server.object(resource, namespace, name)?.is_some() {
            server.delete(resource, namespace, name)?;
        }
        Ok(())
    };
    for name in ["web", "a-decoy"] {
        of("ingresses", space, name)?;
        of("httproutes", space, name)?;
    }
    for name in ["edge", "other"] {
        of("ingressclasses", "", name)?;
    }
    Ok(())
}

fn check(world: &World) -> Result<()> {
    let plain = Listener::Plain.of(Host::Proxy);
    let refused = world.told(plain, "/refused/four")?;
    world.names(&refused, "cart", "cart-0");
    assert_eq!(refused.text("/outcome"), "connect_refused");
    let broken = world.told(plain, "/reset-request/four")?;
    world.names(&broken, "orders", "cart-0");
    let none = world.told(plain, "/none/here")?;
    assert_eq!(none.text("/outcome"), "no_upstream");
    world.names(&none, "empty", "");

    let (listener, route) = world.plane.six("refused");
    let refused = world.told(listener, &format!("/{route}/of-six"))?;
    assert_eq!(
        refused.text("/backend/address"),
        Host::Backend.v6().to_string()
    );
    world.names(&refused, "cart", "cart-0");
    let (listener, route) = world.plane.six("reset-request");
    let broken = world.told(listener, &format!("/{route}/of-six"))?;
    world.names(&broken, "orders", "cart-0");
    let labels = [
        ("backend_namespace", &*world.space),
        ("backend_service", "orders"),
    ];
    world.agent.metric("failures of orders", |page| {
        page.count("ingress_trace_upstream_failures_total", &labels) == 2
    })?;
    Ok(())
}
