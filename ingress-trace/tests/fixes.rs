//! What findings propose, done: every command that changes something is run by a shell with the real
//! kubectl against a real API server, which takes it; every other one is a line that kubectl understands.
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use ingress_trace::cause::fix::{Member, Short, Subject, Thing, fixes};
use ingress_trace::cause::taxonomy::{Cause, Controller};
use ingress_trace::cluster::object::{Container, Name, Owner, Pod, PreStop};
use ingress_trace::profiles;
use serde_json::{Value, json};
use tests::apiserver::ApiServer;
use tests::objects;

#[path = "../src/cause/fix/example.rs"]
mod example;

fn deployment(namespace: &str, name: &str, container: &Value) -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"namespace": namespace, "name": name},
        "spec": {"replicas": 1, "selector": {"matchLabels": {"app": name}},
            "template": {"metadata": {"labels": {"app": name}},
                "spec": {"terminationGracePeriodSeconds": 60, "containers": [container]}}}})
}

fn container(name: &str) -> Value {
    json!({"name": name, "image": "registry.example/app:1",
        "ports": [{"containerPort": 8080, "protocol": "TCP"}],
        "resources": {"limits": {"cpu": "500m", "memory": "512Mi"}}})
}

/// An example behind a data plane, with every need, and every kind of route and hook in turn.
fn subjects(space: &str, controller: Controller, packaging: &'static str) -> Vec<Subject> {
    let mut proxy = example::owned(space, "controller", "proxy");
    proxy.containers[0].command = vec!["--configmap=$(POD_NAMESPACE)/settings".into()];
    let mut first = example::subject(space).behind(controller, Some(&proxy));
    first.packaging = Some(packaging);
    first.backend.short = vec![Short::Cpu, Short::Queue, Short::Files];
    first.ingress.short = vec![Short::Cpu, Short::Memory];
    let routed = Subject {
        route: Some(Thing::new("httproute", &Name::new(space, "routed"))),
        rule: Some(1),
        ..first.clone()
    };
    let hooked = |owner: &str, hook| {
        let mut pod = example::owned(space, owner, "app");
        pod.containers[0].pre_stop = Some(hook);
        Subject {
            backend: Member::of(&pod, Some(8080)),
            ..first.clone()
        }
    };
    let sleeping = hooked("sleeping", PreStop::Sleep(20));
    let waiting = hooked("waiting", PreStop::Command(20));
    let early = Subject {
        ending: Some(3),
        ..sleeping.clone()
    };
    vec![first, routed, sleeping, waiting, early]
}

/// Every command of every cause for every data plane, once.
fn commands(space: &str) -> Vec<String> {
    let mut all = Vec::new();
    for profile in profiles::ALL {
        for packaging in profile.packagings {
            for subject in subjects(space, profile.controller, packaging.name) {
                let causes = Cause::ALL.iter();
                all.extend(causes.flat_map(|cause| fixes(*cause, &subject)));
            }
        }
    }
    all.retain(|line| line.starts_with("kubectl "));
    all.sort();
    all.dedup();
    all
}

/// Whether a command only looks: what it looks at may not be there.
fn looks(line: &str) -> bool {
    let verbs = [" get ", " describe ", " logs ", " top ", " debug "];
    !line.contains("--replicas=") && verbs.iter().any(|verb| line.contains(verb))
}

#[test]
fn what_findings_propose_is_taken_by_a_real_api_server() -> Result<()> {
    let server = ApiServer::shared()?;
    let namespace = server.namespace("fixes")?;
    let space = namespace.name();
    server.apply_all(&[
        objects::node("n1"),
        objects::service(space, "cart", Some("cart"), &[("http", 80, json!(8080))]),
        objects::ingress(space, "web", "nginx", "shop.example", &[("/", "cart", 80)]),
        deployment(space, "cart", &container("app")),
        deployment(space, "controller", &container("proxy")),
        json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {},
            "metadata": {"namespace": space, "name": "settings"}}),
    ])?;
    server.install_gateway_api()?;
    let paths = [("/", "cart", 80), ("/slow", "cart", 80)];
    server.apply_all(&[
        objects::http_route(space, "routed", "shop.example", &paths),
        hooked(space, "sleeping", &json!({"sleep": {"seconds": 20}})),
        hooked(
            space,
            "waiting",
            &json!({"exec": {"command": ["sleep", "20"]}}),
        ),
    ])?;
    // A container has one hook only: why it matters which one is there.
    let blind = example::owned(space, "sleeping", "app");
    let blind = Subject {
        backend: Member::of(&blind, Some(8080)),
        ..Subject::default()
    };
    let refused = server.shell(&fixes(Cause::PodTerminating, &blind)[0]);
    ensure!(refused.is_err(), "a second hook was taken");
    let mut changed = 0;
    for line in commands(space) {
        let failed = server.shell(&line).err().map(|error| error.to_string());
        if looks(&line) {
            // Neither metrics nor kubelets are here: only the line itself may be wrong.
            let usage = |told: &String| {
                ["unknown", "--help", "unable to parse", "usage"]
                    .iter()
                    .any(|word| told.contains(word))
            };
            ensure!(!failed.as_ref().is_some_and(usage), "{line}: {failed:?}");
        } else {
            ensure!(failed.is_none(), "{line}: {failed:?}");
            changed += 1;
        }
    }
    ensure!(changed >= 40, "only {changed} commands change anything");
    came_about(&server, space)?;
    waits_came_about(&server, space)
}

/// A Deployment whose container has a hook before its end.
fn hooked(space: &str, name: &str, hook: &Value) -> Value {
    let mut app = container("app");
    app["lifecycle"] = json!({"preStop": hook});
    deployment(space, name, &app)
}

/// Sleeps that were there are longer, and are what they were: a container has one hook only.
fn waits_came_about(server: &Arc<ApiServer>, space: &str) -> Result<()> {
    for (name, hook) in [
        ("sleeping", json!({"sleep": {"seconds": 40}})),
        ("waiting", json!({"exec": {"command": ["sleep", "40"]}})),
    ] {
        let found = server.object("deployments", space, name)?;
        let pod = &found.context("no Deployment")?["spec"]["template"]["spec"];
        assert_eq!(pod["containers"][0]["lifecycle"]["preStop"], hook);
        assert_eq!(pod["terminationGracePeriodSeconds"], 80);
    }
    let route = server.object("httproutes", space, "routed")?;
    let rules = &route.context("no HTTPRoute")?["spec"]["rules"];
    assert_eq!(rules[1]["timeouts"], json!({"request": "120s"}));
    assert_eq!(rules[0].get("timeouts"), None);
    Ok(())
}

/// What the commands were meant to do is done.
fn came_about(server: &Arc<ApiServer>, space: &str) -> Result<()> {
    let object = |kind: &str, name: &str| {
        let found = server.object(kind, space, name)?;
        found.with_context(|| format!("no {kind} {name}"))
    };
    let cart = object("deployments", "cart")?;
    let pod = &cart["spec"]["template"]["spec"];
    let app = &pod["containers"][0];
    let sleep = &app["lifecycle"]["preStop"]["exec"]["command"];
    assert_eq!(sleep, &json!(["sleep", "15"]));
    assert_eq!(pod["terminationGracePeriodSeconds"], 75);
    assert_eq!(
        app["resources"]["limits"],
        json!({"cpu": "1", "memory": "1Gi"})
    );
    assert_eq!(app["readinessProbe"]["tcpSocket"]["port"], 8080);
    assert_eq!(cart["spec"]["replicas"], 2);
    let ports = &object("services", "cart")?["spec"]["ports"];
    assert_eq!(
        (&ports[0]["targetPort"], ports.as_array().map(Vec::len)),
        (&json!(8081), Some(1))
    );
    let web = &object("ingresses", "web")?["metadata"]["annotations"];
    assert_eq!(web["nginx.ingress.kubernetes.io/proxy-read-timeout"], "120");
    let settings = &object("configmaps", "settings")?["data"];
    assert_eq!(settings["max-worker-connections"], "32768");
    assert_eq!(settings["upstream-keepalive-timeout"], "4");
    assert_eq!(settings["http-connection-mode"], "http-server-close");
    let controller = object("deployments", "controller")?;
    let template = &controller["spec"]["template"];
    let restarted = &template["metadata"]["annotations"]["kubectl.kubernetes.io/restartedAt"];
    assert!(restarted.is_string(), "{template}");
    let range = &template["spec"]["securityContext"]["sysctls"][0]["value"];
    assert_eq!(range, "1024 65535");
    Ok(())
}
