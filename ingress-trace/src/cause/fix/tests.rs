//! In: subjects that are known in full, in part, or not at all. Out: proof that fixes name what is known,
//! propose no guess, and are lines that a shell and a JSON parser take.
use expect_test::expect;

use super::*;
use crate::cause::taxonomy::Controller;
use crate::cluster::object::{Container, Name, Owner, Pod, PreStop};

#[path = "example.rs"]
mod example;

fn backend() -> Pod {
    example::owned("shop", "cart", "app")
}

fn ingress() -> Pod {
    Pod {
        containers: vec![Container {
            name: "controller".into(),
            image: "registry.k8s.io/ingress-nginx/controller:v1.12.0".into(),
            command: vec!["--configmap=$(POD_NAMESPACE)/controller".into()],
            cpu: Some("1".into()),
            ..Container::default()
        }],
        ..example::owned("edge", "controller", "controller")
    }
}

fn subject() -> Subject {
    let mut subject = example::subject("shop").behind(Controller::Nginx, Some(&ingress()));
    subject.backend.short = vec![Short::Cpu];
    subject.ingress.short = vec![Short::Memory, Short::Cpu];
    subject
}

/// With a container like this in its backend.
fn with(container: Container) -> Subject {
    let pod = Pod {
        containers: vec![container],
        ..backend()
    };
    Subject {
        backend: Member::of(&pod, Some(8080)),
        ..subject()
    }
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
            kubectl -n shop logs cart-7d9f-x --all-containers --since=10m
        backend_crashed
            kubectl -n shop logs cart-7d9f-x -c app --previous --tail=100
            kubectl -n shop describe pod cart-7d9f-x
        backend_timeout
            kubectl -n shop annotate --overwrite ingress web nginx.ingress.kubernetes.io/proxy-read-timeout=120
            kubectl -n shop top pod cart-7d9f-x --containers
            kubectl -n shop logs cart-7d9f-x --all-containers --since=10m
        pod_terminating
            kubectl -n shop patch deployment cart --type=strategic -p '{"spec":{"template":{"spec":{"terminationGracePeriodSeconds":75,"containers":[{"name":"app","lifecycle":{"preStop":{"exec":{"command":["sleep","15"]}}}}]}}}}'
            an image without `sleep` takes preStop.sleep.seconds: 15 instead (Kubernetes 1.30 and newer)
        stale_endpoint
            kubectl -n edge rollout restart deployment controller
            kubectl -n shop patch deployment cart --type=strategic -p '{"spec":{"template":{"spec":{"terminationGracePeriodSeconds":75,"containers":[{"name":"app","lifecycle":{"preStop":{"exec":{"command":["sleep","15"]}}}}]}}}}'
            an image without `sleep` takes preStop.sleep.seconds: 15 instead (Kubernetes 1.30 and newer)
        wrong_port
            kubectl -n shop patch service cart --type=strategic -p '{"spec":{"ports":[{"port":80,"targetPort":8081}]}}'
            or have the application listen on 8080
        backend_oom_killed
            kubectl -n shop set resources deployment cart -c app --limits=memory=1024Mi
            kubectl -n shop top pod cart-7d9f-x --containers
        backend_overloaded
            kubectl -n shop set resources deployment cart -c app --limits=cpu=1000m
            kubectl -n shop scale deployment cart --replicas=$(($(kubectl -n shop get deployment cart -o 'jsonpath={.spec.replicas}') + 1))
            where an autoscaler sets the replicas, raise its minReplicas instead
            kubectl -n shop top pod cart-7d9f-x --containers
        ingress_ports_exhausted
            kubectl -n edge patch deployment controller --type=strategic -p '{"spec":{"template":{"spec":{"securityContext":{"sysctls":[{"name":"net.ipv4.ip_local_port_range","value":"1024 65535"}]}}}}}'
            keep connections to the backend open, so that fewer are made
            kubectl -n edge scale deployment controller --replicas=$(($(kubectl -n edge get deployment controller -o 'jsonpath={.spec.replicas}') + 1))
            where an autoscaler sets the replicas, raise its minReplicas instead
        ingress_fds_exhausted
            kubectl -n edge patch configmap controller --type=merge -p '{"data":{"max-worker-connections":"32768"}}'
            kubectl -n edge patch configmap controller --type=merge -p '{"data":{"max-worker-open-files":"2048"}}'
            raise the limit of open files that the node's container runtime gives (LimitNOFILE of its service), then restart the pod: Kubernetes has no field for it
            kubectl -n edge scale deployment controller --replicas=$(($(kubectl -n edge get deployment controller -o 'jsonpath={.spec.replicas}') + 1))
            where an autoscaler sets the replicas, raise its minReplicas instead
        ingress_overloaded
            kubectl -n edge set resources deployment controller -c controller --limits=cpu=2
            kubectl -n edge scale deployment controller --replicas=$(($(kubectl -n edge get deployment controller -o 'jsonpath={.spec.replicas}') + 1))
            where an autoscaler sets the replicas, raise its minReplicas instead
            kubectl -n edge top pod controller-7d9f-x --containers
        keepalive_race
            have the backend keep idle connections longer than the controller: it closed one after 5 s
            kubectl -n edge patch configmap controller --type=merge -p '{"data":{"upstream-keepalive-timeout":"4"}}'
        backend_reset
            kubectl -n shop logs cart-7d9f-x --all-containers --since=10m
        premature_close
            kubectl -n shop logs cart-7d9f-x --all-containers --since=10m
        protocol_error
            kubectl -n shop annotate --overwrite ingress web nginx.ingress.kubernetes.io/backend-protocol=HTTPS
            it holds for all Services of the Ingress: give those that speak plaintext one of their own
            kubectl -n shop logs cart-7d9f-x --all-containers --since=10m
        network_unreachable
            kubectl -n shop get networkpolicies -o wide
            kubectl -n edge get networkpolicies -o wide
            kubectl describe node n1
        node_not_ready
            kubectl describe node n1
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
fn a_hook_that_is_there_is_made_longer_or_left_alone() {
    let app = |pre_stop| Container {
        pre_stop: Some(pre_stop),
        ..backend().containers.remove(0)
    };
    let terminating = |subject: &Subject| fixes(Cause::PodTerminating, subject).join("\n");
    let patched = |pre_stop| terminating(&with(app(pre_stop)));
    expect![[r#"
        kubectl -n shop patch deployment cart --type=strategic -p '{"spec":{"template":{"spec":{"terminationGracePeriodSeconds":80,"containers":[{"name":"app","lifecycle":{"preStop":{"sleep":{"seconds":40}}}}]}}}}'"#]]
    .assert_eq(&patched(PreStop::Sleep(20)));
    expect![[r#"
        kubectl -n shop patch deployment cart --type=strategic -p '{"spec":{"template":{"spec":{"terminationGracePeriodSeconds":70,"containers":[{"name":"app","lifecycle":{"preStop":{"exec":{"command":["sleep","15"]}}}}]}}}}'
        an image without `sleep` takes preStop.sleep.seconds: 15 instead (Kubernetes 1.30 and newer)"#]]
    .assert_eq(&patched(PreStop::Command(5)));
    expect![[r#"
        container app has a preStop hook of its own: have it wait 15 s before it stops anything, with terminationGracePeriodSeconds 75"#]]
    .assert_eq(&patched(PreStop::Other));
    // It failed while the sleep should have held.
    let mut early = with(app(PreStop::Command(30)));
    early.ending = Some(4);
    expect![[r#"
        kubectl -n shop get events --field-selector reason=FailedPreStopHook
        see why the preStop sleep of 30 s in container app did not hold for 4 s: an image without `sleep`, an end that the application chose itself, or another container"#]]
    .assert_eq(&terminating(&early));
    early.ending = Some(31);
    assert!(terminating(&early).contains(r#"["sleep","60"]"#));
}

#[test]
fn without_what_made_the_pod_a_sleep_is_asked_for_in_words() {
    let unknown = Subject {
        backend: Member::default(),
        ..subject()
    };
    let found = fixes(Cause::PodTerminating, &unknown);
    assert_eq!(
        found,
        [
            "have the pods of service shop/cart wait 15 s before the end (a preStop sleep), with a \
             terminationGracePeriodSeconds above it"
        ]
    );
}

#[test]
fn patches_name_only_containers_that_the_template_has_as_such() {
    let named = |name: &str, sidecar| Container {
        name: name.into(),
        ports: Vec::new(),
        sidecar,
        ..backend().containers.remove(0)
    };
    let pod = Pod {
        containers: vec![
            named("app", false),
            named("helper", false),
            named("istio-proxy", false),
            named("native", true),
        ],
        ..backend()
    };
    let member = Member::of(&pod, Some(8080));
    let parts: Vec<&str> = member.parts.iter().map(|part| &*part.name).collect();
    assert_eq!(parts, ["app", "helper"]);
    let gateway = Pod {
        containers: vec![named("istio-proxy", false)],
        ..backend()
    };
    assert_eq!(Member::of(&gateway, None).parts[0].name, "istio-proxy");
}

#[test]
fn what_a_pod_was_short_of_comes_first() {
    let first = |short| {
        let mut subject = subject();
        subject.backend.short = short;
        fixes(Cause::BackendOverloaded, &subject).swap_remove(0)
    };
    assert!(first(vec![Short::Cpu]).contains("--limits=cpu=1000m"));
    assert!(first(vec![Short::Memory]).contains("--limits=memory=1024Mi"));
    assert!(first(vec![Short::Node]).contains("CPU request"));
    assert!(first(vec![Short::Queue]).contains("backlog"));
    assert!(first(vec![Short::Files]).contains("open files"));
    assert!(first(Vec::new()).contains(" scale "));
}

#[test]
fn a_pod_that_has_a_probe_is_not_given_another() {
    let mut subject = subject();
    subject.backend.parts[0].probed = true;
    let found = fixes(Cause::BackendNotReady, &subject);
    assert_eq!(found[0], "kubectl -n shop describe pod cart-7d9f-x");
}

/// What is said first of a cause, by packaging.
fn by_packaging(cause: Cause, subject: &Subject, which: usize) -> String {
    let packagings = crate::profiles::ALL.iter().flat_map(|profile| {
        let named = profile.packagings.iter();
        named.map(|packaging| (profile.controller, packaging.name))
    });
    let mut text = String::new();
    for (controller, name) in packagings {
        let subject = Subject {
            controller: Some(controller),
            packaging: Some(name),
            ..subject.clone()
        };
        let found = fixes(cause, &subject);
        let fix = found.get(which).map_or("-", String::as_str);
        text.extend([name, ": ", fix, "\n"]);
    }
    text
}

#[test]
fn each_data_plane_has_its_own_timeout() {
    expect![[r#"
        ingress-nginx: kubectl -n shop annotate --overwrite ingress web nginx.ingress.kubernetes.io/proxy-read-timeout=120
        NGINX Ingress Controller (F5): kubectl -n shop annotate --overwrite ingress web nginx.org/proxy-read-timeout=120s
        NGINX Gateway Fabric: set proxy_read_timeout in a SnippetsFilter of the route to 120s
        Kong: kubectl -n shop annotate --overwrite service cart konghq.com/read-timeout=120000
        APISIX: kubectl -n shop annotate --overwrite ingress web k8s.apisix.apache.org/upstream-read-timeout=120s
        HAProxy Kubernetes Ingress Controller: kubectl -n shop annotate --overwrite service cart haproxy.org/timeout-server=120s
        HAProxy Ingress: kubectl -n shop annotate --overwrite service cart haproxy-ingress.github.io/timeout-server=120s
        OpenShift router: kubectl -n shop annotate --overwrite ingress web haproxy.router.openshift.io/timeout=120s
        Contour: kubectl -n shop annotate --overwrite ingress web projectcontour.io/response-timeout=120s
        Envoy Gateway: set timeout.http.requestTimeout of a BackendTrafficPolicy for the route to 120s
        Istio gateway: set http[].timeout of the VirtualService to 120s
        Emissary: set timeout_ms of the Mapping (120s)
        Gloo: set options.timeout of the VirtualService's route to 120s
        kgateway: set timeouts.request of the HTTPRoute's rule to 120s
        Cilium: kubectl -n shop annotate --overwrite ingress web ingress.cilium.io/request-timeout=120s
        Traefik: set forwardingTimeouts.responseHeaderTimeout of the ServersTransport to 120s
        Caddy Ingress Controller: kubectl -n shop top pod cart-7d9f-x --containers
    "#]].assert_eq(&by_packaging(Cause::BackendTimeout, &subject(), 0));
}

#[test]
fn a_rule_of_a_route_gets_its_time_where_that_is_heeded() {
    let routed = Subject {
        route: Some(Thing::new("httproute", &Name::new("shop", "web"))),
        rule: Some(2),
        ..subject()
    };
    expect![[r#"
        ingress-nginx: kubectl -n shop top pod cart-7d9f-x --containers
        NGINX Ingress Controller (F5): kubectl -n shop top pod cart-7d9f-x --containers
        NGINX Gateway Fabric: set proxy_read_timeout in a SnippetsFilter of the route to 120s
        Kong: kubectl -n shop annotate --overwrite service cart konghq.com/read-timeout=120000
        APISIX: kubectl -n shop top pod cart-7d9f-x --containers
        HAProxy Kubernetes Ingress Controller: kubectl -n shop annotate --overwrite service cart haproxy.org/timeout-server=120s
        HAProxy Ingress: kubectl -n shop annotate --overwrite service cart haproxy-ingress.github.io/timeout-server=120s
        OpenShift router: kubectl -n shop top pod cart-7d9f-x --containers
        Contour: kubectl -n shop patch httproute web --type=json -p '[{"op":"add","path":"/spec/rules/2/timeouts","value":{"request":"120s"}}]'
        Envoy Gateway: kubectl -n shop patch httproute web --type=json -p '[{"op":"add","path":"/spec/rules/2/timeouts","value":{"request":"120s"}}]'
        Istio gateway: kubectl -n shop patch httproute web --type=json -p '[{"op":"add","path":"/spec/rules/2/timeouts","value":{"request":"120s"}}]'
        Emissary: set timeout_ms of the Mapping (120s)
        Gloo: set options.timeout of the VirtualService's route to 120s
        kgateway: kubectl -n shop patch httproute web --type=json -p '[{"op":"add","path":"/spec/rules/2/timeouts","value":{"request":"120s"}}]'
        Cilium: kubectl -n shop patch httproute web --type=json -p '[{"op":"add","path":"/spec/rules/2/timeouts","value":{"request":"120s"}}]'
        Traefik: set forwardingTimeouts.responseHeaderTimeout of the ServersTransport to 120s
        Caddy Ingress Controller: kubectl -n shop top pod cart-7d9f-x --containers
    "#]].assert_eq(&by_packaging(Cause::BackendTimeout, &routed, 0));
    let doubtful = Subject {
        rule: None,
        packaging: Some("Envoy Gateway"),
        controller: Some(Controller::Envoy),
        ..routed
    };
    assert_eq!(
        fixes(Cause::BackendTimeout, &doubtful)[0],
        "set timeouts.request of the rule of httproute shop/web to 120s"
    );
}

#[test]
fn each_data_plane_closes_idle_connections_in_its_own_way() {
    expect![[r#"
        ingress-nginx: kubectl -n edge patch configmap controller --type=merge -p '{"data":{"upstream-keepalive-timeout":"4"}}'
        NGINX Ingress Controller (F5): -
        NGINX Gateway Fabric: or have the controller close them first: set keepAlive.timeout of an UpstreamSettingsPolicy for the Service to 4s
        Kong: or have the controller close them first: set KONG_UPSTREAM_KEEPALIVE_IDLE_TIMEOUT of the proxy (4s)
        APISIX: or have the controller close them first: set nginx_config.http.upstream.keepalive_timeout of config.yaml to 4s
        HAProxy Kubernetes Ingress Controller: kubectl -n edge patch configmap controller --type=merge -p '{"data":{"http-connection-mode":"http-server-close"}}'
        HAProxy Ingress: or have the controller close them first: `option http-server-close`, after each response
        OpenShift router: -
        Contour: or have the controller close them first: set timeoutPolicy.idleConnection of the HTTPProxy's route to 4s
        Envoy Gateway: or have the controller close them first: set timeout.http.connectionIdleTimeout of a BackendTrafficPolicy to 4s
        Istio gateway: or have the controller close them first: set trafficPolicy.connectionPool.http.idleTimeout of a DestinationRule to 4s
        Emissary: or have the controller close them first: set cluster_idle_timeout_ms of the Mapping (4s)
        Gloo: or have the controller close them first: set connectionConfig.commonHttpProtocolOptions.idleTimeout of the Upstream to 4s
        kgateway: or have the controller close them first: set commonHttpProtocolOptions.idleTimeout of a BackendConfigPolicy to 4s
        Cilium: or have the controller close them first: set proxy-idle-timeout-seconds of the ConfigMap cilium-config (4s)
        Traefik: or have the controller close them first: set forwardingTimeouts.idleConnTimeout of the ServersTransport to 4s
        Caddy Ingress Controller: -
    "#]].assert_eq(&by_packaging(Cause::KeepaliveRace, &subject(), 1));
}

#[test]
fn each_data_plane_speaks_tls_in_its_own_way() {
    expect![[r#"
        ingress-nginx: kubectl -n shop annotate --overwrite ingress web nginx.ingress.kubernetes.io/backend-protocol=HTTPS
        NGINX Ingress Controller (F5): kubectl -n shop annotate ingress web nginx.org/ssl-services=cart
        NGINX Gateway Fabric: have the controller speak TLS to this backend: a BackendTLSPolicy for the Service
        Kong: kubectl -n shop annotate --overwrite service cart konghq.com/protocol=https
        APISIX: kubectl -n shop annotate --overwrite ingress web k8s.apisix.apache.org/upstream-scheme=https
        HAProxy Kubernetes Ingress Controller: kubectl -n shop annotate --overwrite service cart haproxy.org/server-ssl=true
        HAProxy Ingress: kubectl -n shop annotate --overwrite service cart haproxy-ingress.github.io/backend-protocol=h1-ssl
        OpenShift router: have the controller speak TLS to this backend: route.openshift.io/termination=reencrypt on the Ingress, with its CA in route.openshift.io/destination-ca-certificate-secret
        Contour: kubectl -n shop annotate service cart projectcontour.io/upstream-protocol.tls=80
        Envoy Gateway: have the controller speak TLS to this backend: a BackendTLSPolicy for the Service
        Istio gateway: have the controller speak TLS to this backend: trafficPolicy.tls.mode SIMPLE of a DestinationRule
        Emissary: have the controller speak TLS to this backend
        Gloo: have the controller speak TLS to this backend
        kgateway: have the controller speak TLS to this backend
        Cilium: have the controller speak TLS to this backend
        Traefik: kubectl -n shop annotate --overwrite service cart traefik.ingress.kubernetes.io/service.serversscheme=https
        Caddy Ingress Controller: kubectl -n shop annotate --overwrite ingress web caddy.ingress.kubernetes.io/backend-protocol=https
    "#]].assert_eq(&by_packaging(Cause::ProtocolError, &subject(), 0));
}

#[test]
fn each_data_plane_has_its_own_limit_of_connections() {
    expect![[r#"
        ingress-nginx: kubectl -n edge patch configmap controller --type=merge -p '{"data":{"max-worker-connections":"32768"}}'
        NGINX Ingress Controller (F5): kubectl -n edge patch configmap controller --type=merge -p '{"data":{"worker-connections":"32768"}}'
        NGINX Gateway Fabric: raise `worker_connections` of nginx
        Kong: raise KONG_NGINX_MAIN_WORKER_RLIMIT_NOFILE and KONG_NGINX_EVENTS_WORKER_CONNECTIONS of the proxy
        APISIX: raise nginx_config.worker_rlimit_nofile and nginx_config.event.worker_connections of config.yaml
        HAProxy Kubernetes Ingress Controller: raise maxconn of the controller's ConfigMap: HAProxy takes its descriptors from it
        HAProxy Ingress: raise max-connections of the controller's ConfigMap: HAProxy takes its descriptors from it
        OpenShift router: raise spec.tuningOptions.maxConnections of the IngressController
        Contour: raise the limit of open files that the node's container runtime gives (LimitNOFILE of its service), then restart the pod: Kubernetes has no field for it
        Envoy Gateway: raise the limit of open files that the node's container runtime gives (LimitNOFILE of its service), then restart the pod: Kubernetes has no field for it
        Istio gateway: raise the limit of open files that the node's container runtime gives (LimitNOFILE of its service), then restart the pod: Kubernetes has no field for it
        Emissary: raise the limit of open files that the node's container runtime gives (LimitNOFILE of its service), then restart the pod: Kubernetes has no field for it
        Gloo: raise the limit of open files that the node's container runtime gives (LimitNOFILE of its service), then restart the pod: Kubernetes has no field for it
        kgateway: raise the limit of open files that the node's container runtime gives (LimitNOFILE of its service), then restart the pod: Kubernetes has no field for it
        Cilium: raise the limit of open files that the node's container runtime gives (LimitNOFILE of its service), then restart the pod: Kubernetes has no field for it
        Traefik: raise the limit of open files that the node's container runtime gives (LimitNOFILE of its service), then restart the pod: Kubernetes has no field for it
        Caddy Ingress Controller: raise the limit of open files that the node's container runtime gives (LimitNOFILE of its service), then restart the pod: Kubernetes has no field for it
    "#]].assert_eq(&by_packaging(Cause::IngressFdsExhausted, &subject(), 0));
}

#[test]
fn a_setting_whose_object_is_not_known_is_told_in_words() {
    let unknown = Subject {
        route: None,
        settings: None,
        ..subject()
    };
    assert_eq!(
        fixes(Cause::BackendTimeout, &unknown)[0],
        "set nginx.ingress.kubernetes.io/proxy-read-timeout of the Ingress to 120"
    );
    assert_eq!(
        fixes(Cause::KeepaliveRace, &unknown)[1],
        "or have the controller close them first: set upstream-keepalive-timeout of the \
         controller's ConfigMap to 4"
    );
}
