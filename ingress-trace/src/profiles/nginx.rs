//! In: nothing. Out: what is known of nginx: ingress-nginx, F5, NGINX Gateway
//! Fabric, Kong, APISIX and OpenResty.
//! Data only, measured with real traffic; nothing here decides.
use std::time::Duration;

use super::serves::{By, Hidden, Ingresses, Told, Words};
use super::{Chain, Packaging, Profile, Retries, RetryOn, Statuses, Unread};
use crate::cause::taxonomy::Controller;

/// nginx and its relatives.
pub(super) const PROFILE: Profile = Profile {
    controller: Controller::Nginx,
    // Kong and APISIX run OpenResty, whose processes are called nginx or openresty.
    names: &["nginx", "nginx-debug", "openresty", "angie"],
    named: &[],
    sidecars: &[],
    idle_titles: &[
        "nginx: master process",
        "nginx: cache ",
        "angie: master process",
        "angie: cache ",
    ],
    // ingress-nginx, pkg/flags/flags.go: health and metrics 10254, profiler 10245, status 10246, stream
    // 10247; status 18080 before 0.26. Kong, developer.konghq.com/gateway/network and KIC's
    // all-in-one-dbless.yaml: admin 8001 (8444 is TLS), status 8100, controller 10254 and 10255.
    // APISIX, apisix.apache.org/docs: control 9090, metrics 9091, admin 9180. F5, flags of
    // cmd/nginx-ingress: metrics 9113, service insight 9114. NGINX Gateway Fabric: metrics 9113.
    own_ports: &[
        8001, 8100, 9090, 9091, 9113, 9114, 9180, 10245, 10246, 10247, 10254, 10255, 18080,
    ],
    // F5, --ready-status-port; NGINX Gateway Fabric, deploy/default/deploy.yaml.
    own_paths: &[(8081, "/nginx-ready"), (8081, "/readyz")],
    packagings: PACKAGINGS,
    connect_timers: &[Duration::from_secs(5), Duration::from_mins(1)],
    read_timers: &[Duration::from_mins(1)],
    statuses: Statuses {
        refused: Some(502),
        connect_timeout: Some(504),
        unreachable: Some(502),
        local: Some(502),
        no_answer: Some(502),
        cut_head: Some(502),
        read_timeout: Some(504),
        bad_response: None,
        no_upstream: None,
        reused_safe: Some(502),
        reused_other: Some(502),
    },
    unread: Unread {
        refuses_streams: false,
        holds_bodies: false,
    },
    retries: Retries {
        on: &[RetryOn::Connect, RetryOn::NoAnswer],
        tries: Some(3),
    },
    chains: Chain::Adjacent,
};

// OpenResty's image is a web server like nginx's: only its processes tell it, without an API.
const PACKAGINGS: &[Packaging] = &[
    // deploy/static/provider/cloud/deploy.yaml of kubernetes/ingress-nginx; older images are named
    // after the binary, those of RKE2 still (rancher/nginx-ingress-controller). The webhook's jobs and
    // the default backend have other components.
    Packaging {
        name: "ingress-nginx",
        images: &[
            "ingress-nginx/controller",
            "ingress-nginx/controller-chroot",
            "nginx-ingress-controller",
        ],
        labels: &[&[
            ("app.kubernetes.io/name", "ingress-nginx"),
            ("app.kubernetes.io/component", "controller"),
        ]],
        classes: &["k8s.io/ingress-nginx"],
        ingresses: ingress_nginx,
        gateways: false,
        // An expression without dots: kubernetes/ingress-nginx#8438.
        deep: Some(false),
        ..Packaging::NONE
    },
    // deployments/deployment/nginx-ingress.yaml of nginx/kubernetes-ingress.
    Packaging {
        name: "NGINX Ingress Controller (F5)",
        images: &["nginx/nginx-ingress", "nginx-plus-ingress"],
        labels: &[&[("app.kubernetes.io/name", "nginx-ingress")]],
        classes: &["nginx.org/ingress-controller"],
        ingresses: f5,
        gateways: false,
        deep: Some(true),
        ..Packaging::NONE
    },
    // internal/controller/provisioner/objects.go of nginx/nginx-gateway-fabric: data planes only, the
    // control plane's image ends before.
    Packaging {
        name: "NGINX Gateway Fabric",
        images: &[
            "nginx-gateway-fabric/nginx",
            "nginx-gateway-fabric/nginx-plus",
        ],
        classes: &["gateway.nginx.org/nginx-gateway-controller"],
        ingresses: |_| Ok(Ingresses::None),
        ..Packaging::NONE
    },
    // deploy/single/all-in-one-dbless.yaml of Kong/kubernetes-ingress-controller, whose own image is
    // another one. Migrations of the database are jobs out of Kong's image.
    Packaging {
        name: "Kong",
        images: &["kong", "kong-gateway"],
        without: Some("migrations"),
        classes: &[
            "ingress-controllers.konghq.com/kong",
            "konghq.com/kic-gateway-controller",
        ],
        ingresses: kong,
        ..Packaging::NONE
    },
    // charts/apisix of apache/apisix-helm-chart; ingress controller and dashboard have other images.
    Packaging {
        name: "APISIX",
        images: &["apache/apisix"],
        classes: &["apisix.apache.org/apisix-ingress-controller"],
        ..Packaging::NONE
    },
];

/// pkg/flags/flags.go and `GetIngressClass` of internal/ingress/controller/store/store.go.
fn ingress_nginx(words: &Words) -> Result<Ingresses, Hidden> {
    let by_name = words.switch("ingress-class-by-name").ok_or(Hidden)?;
    let by = if by_name { By::Either } else { By::Controller };
    Ok(Ingresses::Told(Told {
        controller: words.name("controller-class", Some("k8s.io/ingress-nginx"))?,
        name: words.name("ingress-class", Some("nginx"))?,
        by,
        without: words.switch("watch-ingress-without-class"),
    }))
}

/// `HasCorrectIngressClass` of internal/k8s/controller.go: the name alone; older ones serve Ingresses
/// without a class as well.
fn f5(words: &Words) -> Result<Ingresses, Hidden> {
    Ok(Ingresses::Told(Told {
        name: words.name("ingress-class", Some("nginx"))?,
        by: By::Name,
        ..Told::default()
    }))
}

/// The controller may run in the same pod, and reads its class, `kong` by default, from its environment
/// as the chart has it. Where it runs elsewhere nothing is told.
fn kong(words: &Words) -> Result<Ingresses, Hidden> {
    let class = words.name("CONTROLLER_INGRESS_CLASS", None)?;
    let class = class.or(words.name("ingress-class", None)?);
    Ok(class.map_or(Ingresses::Own, |name| {
        Ingresses::Told(Told {
            name: Some(name),
            by: By::Name,
            ..Told::default()
        })
    }))
}
