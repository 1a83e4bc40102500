//! The real API server itself: the controllers follow what a test says of pods, the manifests of
//! `deploy/` give the agent its rights and no others, tokens end, and old revisions are gone.
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use tests::apiserver::{ApiServer, FOLLOWS};
use tests::kube_client::Next;
use tests::{objects, process, shop, wait};

const NODE: &str = "n1";

fn address(last: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(10, 1, 0, last))
}

fn pod(namespace: &str, name: &str, last: u8) -> Value {
    objects::pod(namespace, name, NODE, &[address(last)], &[8080])
}

fn cart(server: &ApiServer, namespace: &str) -> Result<()> {
    server.apply_all(&[
        objects::node(NODE),
        objects::service(
            namespace,
            "cart",
            Some("cart"),
            &[("http", 80, json!(8080))],
        ),
        pod(namespace, "cart-0", 5),
        pod(namespace, "cart-1", 6),
    ])?;
    let both = [("10.1.0.5", true, false), ("10.1.0.6", true, false)];
    server.await_endpoints(namespace, "cart", &both)
}

struct Folder(std::path::PathBuf);

impl Folder {
    fn new() -> Result<Self> {
        let folder = std::env::temp_dir().join(tests::bed::tag());
        std::fs::create_dir_all(&folder).context("failed to create a folder")?;
        Ok(Self(folder))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn slices_follow_readiness_termination_and_the_end_of_pods() -> Result<()> {
    let server = ApiServer::shared()?;
    let namespace = server.namespace("slices")?;
    let name = namespace.name();
    cart(&server, name)?;
    let mut second = pod(name, "cart-1", 6);
    objects::set_ready(&mut second, false);
    server.apply(&second)?;
    let first = ("10.1.0.5", true, false);
    server.await_endpoints(name, "cart", &[first, ("10.1.0.6", false, false)])?;
    objects::set_ready(&mut second, true);
    server.apply(&second)?;
    server.delete_pod(name, "cart-1", 40)?;
    server.await_endpoints(name, "cart", &[first, ("10.1.0.6", false, true)])?;
    let metadata = &server
        .object("pods", name, "cart-1")?
        .context("it is gone")?["metadata"];
    assert!(metadata["deletionTimestamp"].is_string(), "{metadata}");
    assert_eq!(metadata["deletionGracePeriodSeconds"], 40);
    server.end(name, "cart-1")?;
    server.await_endpoints(name, "cart", &[first])?;
    assert_eq!(server.object("pods", name, "cart-1")?, None);
    Ok(())
}

#[test]
fn a_pods_status_is_what_its_kubelet_says() -> Result<()> {
    let server = ApiServer::shared()?;
    let namespace = server.namespace("status")?;
    let name = namespace.name();
    let mut killed = pod(name, "cart-0", 5);
    let end = "2026-01-01T00:00:05Z";
    killed["status"]["containerStatuses"] = json!([objects::ended("main", 3, "OOMKilled", end)]);
    server.apply(&killed)?;
    let found = server.object("pods", name, "cart-0")?;
    let status = &found.context("it is gone")?["status"]["containerStatuses"][0];
    assert_eq!(status["restartCount"], 3);
    assert_eq!(status["lastState"]["terminated"]["reason"], "OOMKilled");
    assert_eq!(status["lastState"]["terminated"]["finishedAt"], end);
    Ok(())
}

#[test]
fn routes_of_both_apis_are_accepted() -> Result<()> {
    let server = ApiServer::shared()?;
    let namespace = server.namespace("routes")?;
    let name = namespace.name();
    server.install_gateway_api()?;
    let paths = [("/cart", "cart", 80)];
    server.apply_all(&[
        objects::ingress(name, "web", "nginx", "shop.example", &paths),
        objects::http_route(name, "web", "shop.example", &paths),
        objects::grpc_route(name, "calls", "shop.example", &[("shop.Cart", "cart", 80)]),
    ])?;
    let route = server.object("httproutes", name, "web")?;
    let backend = &route.context("it is gone")?["spec"]["rules"][0]["backendRefs"][0];
    assert_eq!(backend, &json!({"name": "cart", "port": 80}));
    Ok(())
}

#[test]
fn the_shop_is_what_the_controllers_would_make_of_it() -> Result<()> {
    let server = ApiServer::shared()?;
    let (made, given): (Vec<Value>, Vec<Value>) = shop::objects()
        .into_iter()
        .partition(|object| object["kind"] == "EndpointSlice");
    let place = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": shop::NAME}});
    server.apply(&place)?;
    server.await_account(shop::NAME)?;
    server.apply_all(&given)?;
    for slice in made {
        let name = &slice["metadata"]["labels"]["kubernetes.io/service-name"];
        let name = name.as_str().context("a slice of no Service")?;
        let endpoint = &slice["endpoints"][0];
        let address = endpoint["addresses"][0].as_str();
        let wanted: Vec<_> = address.map(|ip| (ip, true, false)).into_iter().collect();
        server.await_endpoints(shop::NAME, name, &wanted)?;
    }
    Ok(())
}

#[test]
fn the_agents_account_may_do_what_deploy_grants_and_nothing_else() -> Result<()> {
    let server = ApiServer::shared()?;
    let folder = Folder::new()?;
    server.install_gateway_api()?;
    let access = server.agent_access(&folder.0)?;
    let agent = server.agent_client(&access)?;
    let group = |name: &str, rest: &str| format!("/apis/{name}/v1/{rest}");
    let granted = [
        "/api/v1/pods".to_owned(),
        "/api/v1/pods?fieldSelector=spec.nodeName%3Dn1".to_owned(),
        "/api/v1/services".to_owned(),
        "/api/v1/nodes".to_owned(),
        group("discovery.k8s.io", "endpointslices"),
        group("networking.k8s.io", "ingresses"),
        group("gateway.networking.k8s.io", "httproutes"),
        group("gateway.networking.k8s.io", "grpcroutes"),
        "/apis".to_owned(),
    ];
    for path in granted {
        assert_eq!(agent.get(&path)?.status, 200, "{path}");
        let mark = if path.contains('?') { '&' } else { '?' };
        if path != "/apis" {
            agent.watch(&format!("{path}{mark}watch=true"))?;
        }
    }
    // Nothing of that name: 404 is what somebody gets who may ask.
    let none = agent.get("/api/v1/namespaces/default/pods/none")?;
    assert_eq!(none.status, 404);
    let denied = [
        "/api/v1/secrets".to_owned(),
        "/api/v1/configmaps".to_owned(),
        "/api/v1/nodes/n1".to_owned(),
        "/api/v1/namespaces/default/services/kubernetes".to_owned(),
        "/api/v1/namespaces/default/pods/none/log".to_owned(),
        group("apps", "replicasets"),
        group("apps", "namespaces/default/replicasets/none"),
        group("apps", "deployments"),
    ];
    for path in denied {
        let answer = agent.get(&path)?;
        assert_eq!(answer.status, 403, "{path}: {:?}", answer.json());
    }
    let pods = "/api/v1/namespaces/default/pods";
    let made = agent.json("POST", pods, &pod("default", "made-0", 9))?;
    assert_eq!(made.status, 403);
    assert_eq!(agent.json("DELETE", pods, &json!({}))?.status, 403);
    Ok(())
}

#[test]
fn the_manifests_of_deploy_are_accepted() -> Result<()> {
    let server = ApiServer::shared()?;
    let deploy = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy");
    server.kubectl(&["apply", "-f", &format!("{deploy}/namespace.yaml")])?;
    let told = server.kubectl(&["apply", "--dry-run=server", "-f", deploy])?;
    let refused = server.kubectl(&["apply", "--dry-run=server", "-f", "/dev/null"]);
    assert!(refused.is_err());
    for object in [
        "namespace/ingress-trace",
        "serviceaccount/ingress-trace",
        "clusterrole.rbac.authorization.k8s.io/ingress-trace",
        "clusterrolebinding.rbac.authorization.k8s.io/ingress-trace",
    ] {
        let line = told.lines().find(|line| line.starts_with(object));
        let line = line.with_context(|| format!("no {object} in {told}"))?;
        assert!(line.ends_with("(server dry run)"), "{line}");
    }
    Ok(())
}

#[test]
fn a_token_ends_and_the_next_one_is_good() -> Result<()> {
    let server = ApiServer::shared()?;
    let folder = Folder::new()?;
    let access = server.agent_access(&folder.0)?;
    let life = Duration::from_secs(2);
    access.set_token(&server.short_token(life)?)?;
    let short = server.agent_client(&access)?;
    assert_eq!(short.get("/api/v1/pods")?.status, 200);
    let ended = wait::until("the token's end", FOLLOWS, || {
        let answer = short.get("/api/v1/pods").ok()?;
        (answer.status != 200).then_some(answer)
    })?;
    assert_eq!(
        (ended.status, ended.json()?["code"].as_u64()),
        (401, Some(401))
    );
    access.set_token(&server.agent_token()?)?;
    let next = server.agent_client(&access)?;
    assert_eq!(next.get("/api/v1/pods")?.status, 200);
    Ok(())
}

#[test]
fn a_watch_from_before_a_compaction_and_a_restart_is_told_that_it_is_too_old() -> Result<()> {
    let server = ApiServer::start()?;
    let namespace = server.namespace("old")?;
    let name = namespace.name();
    cart(&server, name)?;
    let client = server.admin();
    let list = client.get("/api/v1/pods?limit=1")?.success()?;
    let metadata = &list["metadata"];
    let from = metadata["resourceVersion"]
        .as_str()
        .context("no revision")?;
    let token = metadata["continue"].as_str().context("no next page")?;
    let path = format!("/api/v1/pods?watch=true&resourceVersion={from}");
    let mut open = client.watch(&path)?;
    server.apply(&pod(name, "cart-2", 7))?;
    assert_eq!(open.brief(), "ADDED cart-2");
    server.compact()?;
    server.stop();
    let ends = wait::until("the watch's end", FOLLOWS, || {
        Some(open.next(FOLLOWS)).filter(|next| !matches!(next, Next::Event(_)))
    })?;
    assert!(matches!(ends, Next::Broken | Next::End), "{ends:?}");
    assert!(client.get("/readyz").is_err());
    server.resume()?;
    let mut late = client.watch(&path)?;
    assert_eq!(late.brief(), "ERROR 410");
    let gone = client.get(&format!("/api/v1/pods?limit=1&continue={token}"))?;
    assert_eq!(gone.status, 410, "{:?}", gone.json());
    assert_eq!(client.get("/api/v1/pods")?.success()?["kind"], "PodList");
    Ok(())
}

#[test]
fn nothing_of_a_server_stays() -> Result<()> {
    let before = children();
    let server = ApiServer::start()?;
    let own: Vec<u32> = children()
        .into_iter()
        .filter(|id| !before.contains(id))
        .collect();
    assert_eq!(own.len(), 3, "{own:?}");
    let folder = server.kubeconfig();
    drop(server);
    assert!(!folder.exists());
    assert!(!own.into_iter().any(process::alive));
    Ok(())
}

/// Processes that this one has started and that still live.
fn children() -> Vec<u32> {
    let tasks = std::fs::read_dir("/proc/self/task")
        .into_iter()
        .flatten()
        .flatten();
    let lists = tasks.filter_map(|task| std::fs::read_to_string(task.path().join("children")).ok());
    let ids: Vec<u32> = lists
        .flat_map(|list| {
            let ids = list.split_whitespace().filter_map(|id| id.parse().ok());
            ids.collect::<Vec<_>>()
        })
        .collect();
    ids
}
