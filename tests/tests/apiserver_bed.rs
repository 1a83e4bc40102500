//! The real API server itself: the controllers follow what a test says of pods, the manifests of
//! `deploy/` give the agent its rights and no others, tokens end, and old revisions are gone.
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use tests::apiserver::{ApiServer, FOLLOWS};
use tests::fake_api::FakeApi;
use tests::kube_client::{KubeClient, Next};
use tests::scratch::Scratch;
use tests::{objects, shop, wait};

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

/// What a client sees of these paths: status, reason of a failure, kind and names.
fn seen(client: &KubeClient, paths: &[String]) -> Result<Vec<Value>> {
    let answers = paths.iter().map(|path| client.get(path));
    let briefs = answers.map(|answer| {
        let (status, body) = answer.and_then(|answer| Ok((answer.status, answer.json()?)))?;
        let items = body["items"].as_array().into_iter().flatten();
        let items: Vec<_> = items
            .map(|item| json!([item["metadata"]["name"], item.get("kind")]))
            .collect();
        Ok(json!([
            status,
            body["reason"],
            body["kind"],
            body["metadata"]["name"],
            items
        ]))
    });
    briefs.collect()
}

#[test]
fn the_stand_in_says_what_the_real_one_says() -> Result<()> {
    let server = ApiServer::shared()?;
    let namespace = server.namespace("same")?;
    let name = namespace.name();
    let fake = FakeApi::start()?;
    let stand_in = KubeClient::new(fake.address(), None, "")?;
    let clients = [server.admin(), &stand_in];
    let ports = [("http", 80, json!(8080))];
    let service = |word: &str| objects::service(name, word, None, &ports);
    let there = [
        objects::node(NODE),
        pod(name, "cart-0", 5),
        service("a"),
        service("b"),
        service("c"),
    ];
    server.apply_all(&there)?;
    fake.apply_all(there)?;
    let core = format!("/api/v1/namespaces/{name}");
    let services = format!("{core}/services");
    let paths = [
        services.clone(),
        format!("{services}?limit=2"),
        format!("{services}?fieldSelector=metadata.name%3Db"),
        format!("{services}/a"),
        format!("{services}/none"),
        format!("{core}/pods?fieldSelector=spec.nodeName%3Dn1"),
        format!("{core}/pods?fieldSelector=spec.nodeName%3Dn2"),
        format!("{core}/pods?labelSelector=app%3Dcart"),
        format!("{core}/pods?labelSelector=app!%3Dcart"),
        format!("/apis/discovery.k8s.io/v1/namespaces/{name}/endpointslices"),
    ];
    let (real, fake_one) = (seen(clients[0], &paths)?, seen(clients[1], &paths)?);
    for (path, (real, fake_one)) in paths.iter().zip(real.iter().zip(&fake_one)) {
        assert_eq!(real, fake_one, "{path}");
    }
    let mut told = Vec::new();
    let all = "watch=true&allowWatchBookmarks=true&sendInitialEvents=true\
               &resourceVersionMatch=NotOlderThan";
    let mut watches = Vec::new();
    for client in clients {
        watches.push(client.watch(&format!("{services}?{all}"))?);
    }
    server.apply(&service("d"))?;
    fake.apply(service("d"))?;
    let mut changed = service("d");
    changed["spec"]["ports"][0]["port"] = json!(81);
    server.apply(&changed)?;
    fake.apply(changed)?;
    server.delete("services", name, "d")?;
    fake.delete("services", name, "d")?;
    for watch in &mut watches {
        told.push((0..7).map(|_| watch.brief()).collect::<Vec<_>>());
    }
    let expected = [
        "ADDED a",
        "ADDED b",
        "ADDED c",
        "BOOKMARK",
        "ADDED d",
        "MODIFIED d",
        "DELETED d",
    ];
    assert_eq!(told[0], expected);
    assert_eq!(told[1], expected);
    Ok(())
}

#[test]
fn the_agents_account_may_do_what_deploy_grants_and_nothing_else() -> Result<()> {
    let server = ApiServer::shared()?;
    let folder = Scratch::new()?;
    server.install_gateway_api()?;
    let access = server.agent_access(folder.path())?;
    let agent = server.agent_client(&access)?;
    let group = |name: &str, rest: &str| format!("/apis/{name}/v1/{rest}");
    let granted = [
        "/api/v1/pods".to_owned(),
        "/api/v1/pods?fieldSelector=spec.nodeName%3Dn1".to_owned(),
        "/api/v1/services".to_owned(),
        "/api/v1/nodes".to_owned(),
        group("discovery.k8s.io", "endpointslices"),
        group("networking.k8s.io", "ingresses"),
        group("networking.k8s.io", "ingressclasses"),
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
        group("networking.k8s.io", "ingressclasses/none"),
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
fn a_program_in_a_pod_finds_the_api_and_is_the_agents_account() -> Result<()> {
    let server = ApiServer::shared()?;
    let scratch = Scratch::new()?;
    let access = server.agent_access(scratch.path())?;
    let kubectl = |arguments: &[&str]| -> Result<String> {
        let mut command = access.in_pod(server.program());
        command.env("HOME", scratch.path());
        let output = command.arg("kubectl").args(arguments).output();
        let output = output.context("failed to run unshare")?;
        let told = [output.stdout, output.stderr].concat();
        Ok(String::from_utf8_lossy(&told).trim().to_owned())
    };
    assert_eq!(
        kubectl(&[
            "auth",
            "whoami",
            "-o",
            "jsonpath={.status.userInfo.username}"
        ])?,
        "system:serviceaccount:ingress-trace:ingress-trace"
    );
    assert_eq!(kubectl(&["auth", "can-i", "list", "pods"])?, "yes");
    assert_eq!(kubectl(&["auth", "can-i", "list", "secrets"])?, "no");
    Ok(())
}

#[test]
fn a_token_ends_and_the_next_one_is_good() -> Result<()> {
    let server = ApiServer::shared()?;
    let folder = Scratch::new()?;
    let access = server.agent_access(folder.path())?;
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
    let server = ApiServer::start()?;
    let kubeconfig = server.kubeconfig();
    let folder = kubeconfig.parent().context("no folder")?;
    assert_eq!(naming(folder)?.len(), 3);
    drop(server);
    assert_eq!(naming(folder)?, [0; 0]);
    assert!(!folder.exists());
    Ok(())
}

/// Processes whose command line names the folder.
fn naming(folder: &Path) -> Result<Vec<u32>> {
    let folder = folder.display().to_string();
    let all = std::fs::read_dir("/proc").context("failed to read /proc")?;
    let ids = all.flatten().filter_map(|entry| {
        let id = entry.file_name().to_str()?.parse().ok()?;
        // Gone since it was listed, or a thread of the kernel.
        let line = std::fs::read(entry.path().join("cmdline")).ok()?;
        String::from_utf8_lossy(&line)
            .contains(&folder)
            .then_some(id)
    });
    Ok(ids.collect())
}
