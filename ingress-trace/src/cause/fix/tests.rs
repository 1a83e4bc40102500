//! In: subjects that are known in full, in part, or not at all. Out: proof that fixes name what is known,
//! propose no guess, and are lines that a shell and a JSON parser take.
use expect_test::expect;

use super::*;
use crate::cause::taxonomy::Controller;
use crate::cluster::index::example::shop;
use crate::cluster::object::{Container, Name, Owner, Pod};

fn backend() -> Pod {
    Pod {
        name: shop("cart-7d9f-x"),
        owner: Some(Owner {
            kind: "Deployment".into(),
            name: "cart".into(),
        }),
        termination: Some(60),
        containers: vec![Container {
            name: "app".into(),
            ports: vec![("http".into(), 8080)],
            cpu: Some("500m".into()),
            memory: Some("512Mi".into()),
            ..Container::default()
        }],
        ..Pod::default()
    }
}

fn ingress() -> Pod {
    Pod {
        name: Name::new("edge", "controller-1"),
        owner: Some(Owner {
            kind: "Deployment".into(),
            name: "controller".into(),
        }),
        containers: vec![Container {
            name: "controller".into(),
            image: "registry.k8s.io/ingress-nginx/controller:v1.12.0".into(),
            command: vec!["--configmap=$(POD_NAMESPACE)/controller".into()],
            cpu: Some("1".into()),
            ..Container::default()
        }],
        ..Pod::default()
    }
}

fn subject() -> Subject {
    Subject {
        service: Some(Thing::new("service", &shop("cart"))),
        service_port: Some("80".to_owned()),
        port: Some("8080".to_owned()),
        right_port: Some("8081".to_owned()),
        backend: Member::of(&backend(), Some(8080)),
        node: Some("node-2".to_owned()),
        route: Some(Thing::new("ingress", &shop("web"))),
        tls: true,
        longer: Some(120),
        shorter: Some(4),
        connections: Some("32768".to_owned()),
        files: Some("2048".to_owned()),
        ..Subject::default()
    }
    .behind(Controller::Nginx, Some(&ingress()))
}

#[test]
fn fixes_carry_the_real_names_ports_and_values() {
    let mut text = String::new();
    for cause in Cause::ALL {
        let found = fixes(*cause, &subject());
        let lines = found.iter().map(|fix| format!("    {fix}\n"));
        text.extend(std::iter::once(format!("{cause}\n")).chain(lines));
    }
    expect![[r#"
        no_endpoints
            kubectl -n shop get endpointslices -l kubernetes.io/service-name=cart -o wide
            kubectl -n shop describe service cart
            kubectl -n shop describe ingress web
            have a Ready pod behind service shop/cart: its selector, their readiness, their number
        backend_not_ready
            kubectl -n shop patch deployment cart --type=strategic -p '{"spec":{"template":{"spec":{"containers":[{"name":"app","readinessProbe":{"tcpSocket":{"port":8080},"periodSeconds":5}}]}}}}'
            kubectl -n shop describe pod cart-7d9f-x
        backend_crashed
            kubectl -n shop logs cart-7d9f-x -c app --previous --tail=100
            kubectl -n shop describe pod cart-7d9f-x
        backend_timeout
            kubectl -n shop annotate --overwrite ingress web nginx.ingress.kubernetes.io/proxy-read-timeout=120
            kubectl -n shop top pod cart-7d9f-x --containers
        pod_terminating
            kubectl -n shop patch deployment cart --type=strategic -p '{"spec":{"template":{"spec":{"terminationGracePeriodSeconds":75,"containers":[{"name":"app","lifecycle":{"preStop":{"exec":{"command":["sleep","15"]}}}}]}}}}'
            an image without `sleep` takes preStop.sleep.seconds: 15 instead (Kubernetes 1.30 and newer)
        stale_endpoint
            kubectl -n edge rollout restart deployment controller
            kubectl -n shop patch deployment cart --type=strategic -p '{"spec":{"template":{"spec":{"terminationGracePeriodSeconds":75,"containers":[{"name":"app","lifecycle":{"preStop":{"exec":{"command":["sleep","15"]}}}}]}}}}'
            an image without `sleep` takes preStop.sleep.seconds: 15 instead (Kubernetes 1.30 and newer)
        wrong_port
            kubectl -n shop patch service cart --type=strategic -p '{"spec":{"ports":[{"port":80,"targetPort":8081}]}}'
        backend_oom_killed
            kubectl -n shop set resources deployment cart -c app --limits=memory=1024Mi
            kubectl -n shop top pod cart-7d9f-x --containers
        backend_overloaded
            kubectl -n shop scale deployment cart --replicas=$(($(kubectl -n shop get deployment cart -o 'jsonpath={.spec.replicas}') + 1))
            kubectl -n shop set resources deployment cart -c app --limits=cpu=1000m
            kubectl -n shop top pod cart-7d9f-x --containers
        ingress_ports_exhausted
            kubectl -n edge patch deployment controller --type=strategic -p '{"spec":{"template":{"spec":{"securityContext":{"sysctls":[{"name":"net.ipv4.ip_local_port_range","value":"1024 65535"}]}}}}}'
            keep connections to the backend open, so that fewer are made
            kubectl -n edge scale deployment controller --replicas=$(($(kubectl -n edge get deployment controller -o 'jsonpath={.spec.replicas}') + 1))
        ingress_fds_exhausted
            kubectl -n edge patch configmap controller --type=merge -p '{"data":{"max-worker-connections":"32768"}}'
            kubectl -n edge patch configmap controller --type=merge -p '{"data":{"max-worker-open-files":"2048"}}'
            kubectl -n edge scale deployment controller --replicas=$(($(kubectl -n edge get deployment controller -o 'jsonpath={.spec.replicas}') + 1))
        ingress_overloaded
            kubectl -n edge scale deployment controller --replicas=$(($(kubectl -n edge get deployment controller -o 'jsonpath={.spec.replicas}') + 1))
            kubectl -n edge set resources deployment controller -c controller --limits=cpu=2
            kubectl -n edge top pod controller-1 --containers
        keepalive_race
            have the backend keep idle connections longer than the controller: it closed one after 5 s
            kubectl -n edge patch configmap controller --type=merge -p '{"data":{"upstream-keepalive-timeout":"4"}}'
        backend_reset
            kubectl -n shop logs cart-7d9f-x --all-containers --since=10m
        premature_close
            kubectl -n shop logs cart-7d9f-x --all-containers --since=10m
        protocol_error
            kubectl -n shop annotate --overwrite ingress web nginx.ingress.kubernetes.io/backend-protocol=HTTPS
            kubectl -n shop logs cart-7d9f-x --all-containers --since=10m
        network_unreachable
            kubectl -n shop get networkpolicies -o wide
            kubectl describe node node-2
        node_not_ready
            kubectl describe node node-2
        upstream_error
            kubectl -n shop logs cart-7d9f-x --all-containers --since=10m
        unknown
            kubectl -n shop describe pod cart-7d9f-x
    "#]].assert_eq(&text);
}

#[test]
fn nothing_is_proposed_for_what_is_not_known() {
    for cause in Cause::ALL {
        for fix in fixes(*cause, &Subject::default()) {
            assert!(!fix.contains("kubectl"), "{cause}: {fix}");
        }
    }
}

#[test]
fn every_command_is_a_line_of_a_shell_and_every_patch_is_json() {
    for cause in Cause::ALL {
        for fix in fixes(*cause, &subject()) {
            if !fix.starts_with("kubectl ") {
                continue;
            }
            let words = shlex::split(&fix).expect("a line");
            let patch = words.iter().skip_while(|word| *word != "-p").nth(1);
            if let Some(patch) = patch {
                serde_json::from_str::<serde_json::Value>(patch).expect("JSON");
            }
            assert!(!fix.contains('<'), "{fix}");
        }
    }
}

#[test]
fn the_grace_period_stays_longer_than_the_sleep() {
    let found = fixes(Cause::PodTerminating, &subject());
    assert!(
        found[0].contains(r#""terminationGracePeriodSeconds":75"#),
        "{}",
        found[0]
    );
    let unset = Pod {
        termination: None,
        ..backend()
    };
    let member = Member::of(&unset, Some(8080));
    assert_eq!(member.grace.as_deref(), Some("45"));
}

#[test]
fn a_pod_that_has_a_probe_is_not_given_another() {
    let mut subject = subject();
    subject.backend.parts[0].probed = true;
    let found = fixes(Cause::BackendNotReady, &subject);
    assert_eq!(found, ["kubectl -n shop describe pod cart-7d9f-x"]);
}

#[test]
fn each_data_plane_has_its_own_timeout() {
    let packagings = crate::profiles::ALL.iter().flat_map(|profile| {
        let named = profile.packagings.iter();
        named.map(|packaging| (profile.controller, packaging.name))
    });
    let mut text = String::new();
    for (controller, name) in packagings {
        let mut subject = subject();
        (subject.controller, subject.packaging) = (Some(controller), Some(name));
        let found = fixes(Cause::BackendTimeout, &subject);
        text.extend([name, ": ", &found[0], "\n"]);
    }
    expect![[r#"
        ingress-nginx: kubectl -n shop annotate --overwrite ingress web nginx.ingress.kubernetes.io/proxy-read-timeout=120
        NGINX Ingress Controller (F5): kubectl -n shop annotate --overwrite ingress web nginx.org/proxy-read-timeout=120s
        NGINX Gateway Fabric: set proxy_read_timeout in a SnippetsFilter of the route to 120s
        Kong: kubectl -n shop annotate --overwrite service cart konghq.com/read-timeout=120000
        APISIX: kubectl -n shop annotate --overwrite ingress web k8s.apisix.apache.org/upstream-read-timeout=120s
        HAProxy Kubernetes Ingress Controller: kubectl -n shop annotate --overwrite ingress web haproxy.org/timeout-server=120s
        HAProxy Ingress: kubectl -n shop annotate --overwrite ingress web haproxy-ingress.github.io/timeout-server=120s
        OpenShift router: kubectl -n shop annotate --overwrite ingress web haproxy.router.openshift.io/timeout=120s
        Contour: kubectl -n shop annotate --overwrite ingress web projectcontour.io/response-timeout=120s
        Envoy Gateway: set timeout.http.requestTimeout of a BackendTrafficPolicy for the route to 120s
        Istio gateway: set http[].timeout of the VirtualService to 120s
        Emissary: set timeout_ms of the Mapping (120s)
        Gloo: set options.timeout of the VirtualService's route to 120s
        kgateway: kubectl -n shop top pod cart-7d9f-x --containers
        Cilium: kubectl -n shop top pod cart-7d9f-x --containers
        Traefik: set forwardingTimeouts.responseHeaderTimeout of the ServersTransport to 120s
        Caddy Ingress Controller: set response_header_timeout of reverse_proxy's transport to 120s
    "#]].assert_eq(&text);
}
