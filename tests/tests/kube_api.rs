//! The agent and the Kubernetes API from outside: where it finds it, what it says when something is
//! amiss there, what it counts, and that findings go on meanwhile.
use std::fs;
use std::process::{Command, Output};
use std::time::Duration;

use anyhow::{Context, Result};
use tests::agent::{self, Agent, free_address};
use tests::apiserver::ApiServer;
use tests::bed::tag;
use tests::fake_api::{FOREVER, FakeApi, Fault, Verb};
use tests::kubeconfig::User;
use tests::metrics::Page;
use tests::nginx::Listener;
use tests::world::World;
use tests::{objects, wait};

const NODE: &str = "node-1";
/// What is watched with an ingress pod on the node.
const RESOURCES: [&str; 8] = [
    "pods",
    "endpointslices",
    "services",
    "ingresses",
    "ingressclasses",
    "nodes",
    "httproutes",
    "grpcroutes",
];

fn synced(page: &Page, resource: &str) -> bool {
    page.count("ingress_trace_kube_synced", &[("resource", resource)]) == 1
}

fn follow(world: &World, api: &FakeApi) -> Result<Agent> {
    let path = api.kubeconfig(world.bed.folder(), &User::Nobody)?;
    let (path, cgroup) = (path.display().to_string(), world.cgroup());
    let cgroup = cgroup.display().to_string();
    let target = ["--controller", "nginx", "--cgroup", &cgroup];
    let kube = ["--node", NODE, "--kubeconfig", &path];
    Agent::start_with(world.bed.folder(), &[target, kube].concat())
}

/// Runs the agent for a moment, where nothing is configured but what is given.
fn run(arguments: &[&str], environment: &[(&str, &str)]) -> Result<Output> {
    let listen = free_address()?.to_string();
    let mut command = Command::new(agent::program()?);
    command
        .args(["run", "--duration", "1s", "--listen", &listen])
        .args(arguments)
        .env_remove("KUBECONFIG")
        .env_remove("KUBERNETES_SERVICE_HOST")
        .env("HOME", "/nonexistent")
        .envs(environment.iter().copied());
    command.output().context("failed to run the agent")
}

fn log(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_named_kubeconfig_that_is_wrong_is_an_error_that_names_it() -> Result<()> {
    let folder = std::env::temp_dir().join(tag());
    fs::create_dir_all(&folder).context("failed to create a folder")?;
    let token = folder.join("absent");
    let no_token = tests::kubeconfig::text("http://127.0.0.1:1", None, &User::TokenFile(&token));
    let texts = [
        ("garbage", "]["),
        ("empty", ""),
        (
            "no-context",
            "apiVersion: v1\nkind: Config\ncurrent-context: gone\n",
        ),
        ("no-token", &no_token),
    ];
    for (name, text) in texts {
        let path = folder.join(name);
        fs::write(&path, text).context("failed to write a kubeconfig")?;
        let path = path.display().to_string();
        let output = run(&["--kubeconfig", &path], &[])?;
        assert_eq!(output.status.code(), Some(1), "{name}: {}", log(&output));
        assert!(log(&output).contains(&path), "{name}: {}", log(&output));
    }
    let missing = run(&["--kubeconfig", "/nonexistent/config"], &[])?;
    assert_eq!(missing.status.code(), Some(1), "{}", log(&missing));
    assert!(log(&missing).contains("/nonexistent/config"));
    // kubectl would ask this proxy; so does the agent.
    let path = folder.join("proxied");
    let text = tests::kubeconfig::text("http://192.0.2.1:1", None, &User::Nobody);
    fs::write(&path, text).context("failed to write a kubeconfig")?;
    let path = path.display().to_string();
    let proxied = run(
        &["--kubeconfig", &path],
        &[("HTTPS_PROXY", "http://127.0.0.1:1")],
    )?;
    assert!(proxied.status.success(), "{}", log(&proxied));
    assert!(
        log(&proxied).contains("Connection refused"),
        "{}",
        log(&proxied)
    );
    let both = run(&["--kubeconfig", "/x", "--no-kube"], &[])?;
    assert_eq!(both.status.code(), Some(2), "{}", log(&both));
    fs::remove_dir_all(&folder).context("failed to remove a folder")
}

#[test]
fn without_an_api_the_agent_says_so_and_works() -> Result<()> {
    let none = run(&[], &[])?;
    assert!(none.status.success(), "{}", log(&none));
    assert!(
        log(&none).contains("no Kubernetes API is configured"),
        "{}",
        log(&none)
    );
    let refused = run(&["--no-kube"], &[("KUBECONFIG", "/nonexistent/config")])?;
    assert!(refused.status.success(), "{}", log(&refused));
    assert!(!log(&refused).contains("Kubernetes"), "{}", log(&refused));
    // Wrong, but not asked for on the command line: said, and no reason to end.
    let wrong = run(&[], &[("KUBECONFIG", "/nonexistent/config")])?;
    assert!(wrong.status.success(), "{}", log(&wrong));
    assert!(
        log(&wrong).contains("/nonexistent/config"),
        "{}",
        log(&wrong)
    );
    // A pod without a ServiceAccount's token.
    let service = [
        ("KUBERNETES_SERVICE_HOST", "127.0.0.1"),
        ("KUBERNETES_SERVICE_PORT", "1"),
    ];
    let pod = run(&[], &service)?;
    assert!(pod.status.success(), "{}", log(&pod));
    assert!(
        log(&pod).contains("automountServiceAccountToken"),
        "{}",
        log(&pod)
    );
    Ok(())
}

#[test]
fn findings_go_on_while_the_api_is_absent_and_metrics_say_so() -> Result<()> {
    let world = World::new()?;
    let mut api = FakeApi::start()?;
    api.apply(objects::pod("shop", "cart-1", NODE, &[], &[8080]))?;
    api.down();
    let agent = follow(&world, &api)?;
    let unreachable = [("resource", "pods"), ("reason", "unreachable")];
    let page = agent.metric("absence", |page| {
        page.count("ingress_trace_kube_errors_total", &unreachable) > 0
    })?;
    assert!(!synced(&page, "pods"));
    let answer = world.get(Listener::Plain, "/refused/absent")?;
    assert_eq!(answer.status, Some(502));
    agent.finding("the failure", |finding| finding.path() == "/refused/absent")?;
    let errors = agent.errors();
    assert!(
        errors.contains("failed to follow the Kubernetes API"),
        "{errors}"
    );
    assert!(
        errors.contains("check that the API server's address is right"),
        "{errors}"
    );
    api.up()?;
    wait::holds("all synced", Duration::from_mins(1), || {
        let page = agent.metrics().unwrap_or_default();
        RESOURCES.iter().all(|resource| synced(&page, resource))
    })?;
    assert!(
        agent
            .errors()
            .contains("following the Kubernetes API again")
    );
    assert_eq!(agent.stop()?.len(), 1);
    Ok(())
}

#[test]
fn in_a_pod_the_service_account_is_used() -> Result<()> {
    let world = World::new()?;
    let server = ApiServer::shared()?;
    server.apply(&objects::node(NODE))?;
    let access = server.agent_access(world.bed.folder())?;
    let cgroup = world.cgroup().display().to_string();
    let mut command = access.in_pod(&agent::program()?);
    command.env("NODE_NAME", NODE).env("HOME", "/nonexistent");
    let target = ["--controller", "nginx", "--cgroup", &cgroup];
    let agent = Agent::start_by(command, world.bed.folder(), &target)?;
    wait::holds("all synced", Duration::from_mins(1), || {
        let page = agent.metrics().unwrap_or_default();
        RESOURCES.iter().all(|resource| synced(&page, resource))
    })?;
    let errors = agent
        .metrics()?
        .count("ingress_trace_kube_errors_total", &[]);
    assert_eq!(errors, 0, "{}", agent.errors());
    agent.stop().map(drop)
}

#[test]
fn requests_and_bytes_are_counted_as_the_server_counts_them() -> Result<()> {
    let world = World::new()?;
    let api = FakeApi::start()?;
    api.apply_all((0..700).map(|at| {
        let name = format!("cart-{at}");
        objects::service("shop", &name, None, &[("http", 80, 8080.into())])
    }))?;
    let agent = follow(&world, &api)?;
    let page = agent.metric("all synced", |page| {
        RESOURCES.iter().all(|resource| synced(page, resource))
    })?;
    let of = [("verb", "list"), ("resource", "services"), ("code", "200")];
    assert_eq!(page.count("ingress_trace_kube_requests_total", &of), 2);
    assert_eq!(api.requests("services", Verb::List), 2);
    let services = [("resource", "services")];
    let received = page.count("ingress_trace_kube_received_bytes_total", &services);
    let sent = api.bytes("services", Verb::List);
    // The server counts heads too.
    assert!(
        received > 0 && received <= sent && sent < received + 2_000,
        "{received} {sent}"
    );
    let heard = page.sum("ingress_trace_kube_last_event_timestamp_seconds", &services);
    let now = jiff::Timestamp::now().as_second() as f64;
    assert!((now - heard).abs() < 30.0, "{heard}");
    assert_eq!(page.count("ingress_trace_kube_errors_total", &[]), 0);
    Ok(())
}

#[test]
fn a_right_that_is_missing_is_named_with_the_rule_that_gives_it() -> Result<()> {
    let world = World::new()?;
    let api = FakeApi::start()?;
    api.fail(
        "endpointslices",
        Verb::List,
        FOREVER,
        Fault::Status(403, None),
    );
    let agent = follow(&world, &api)?;
    let page = agent.metric("the others synced", |page| {
        let forbidden = [("resource", "endpointslices"), ("reason", "forbidden")];
        page.count("ingress_trace_kube_errors_total", &forbidden) > 1 && synced(page, "services")
    })?;
    assert!(!synced(&page, "endpointslices"));
    let errors = agent.errors();
    let rule =
        r#"apiGroups: [\"discovery.k8s.io\"], resources: [\"endpointslices\"], verbs: [\"list\"]"#;
    assert_eq!(errors.matches(rule).count(), 1, "said once: {errors}");
    Ok(())
}
