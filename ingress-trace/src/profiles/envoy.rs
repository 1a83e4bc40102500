//! In: nothing. Out: what is known of Envoy: Contour, Istio gateway, Envoy Gateway, Emissary, Gloo,
//! kgateway, Cilium.
//! Data only, measured with real traffic; nothing here decides.
use std::time::Duration;

use super::serves::Ingresses;
use super::{Chain, Packaging, Profile, Retries, Statuses, Unread};
use crate::cause::taxonomy::Controller;

/// Envoy.
pub(super) const PROFILE: Profile = Profile {
    controller: Controller::Envoy,
    // Cilium's: /usr/bin/cilium-envoy.
    names: &["envoy", "cilium-envoy"],
    named: &[],
    // Istio: the node's type in the arguments of Envoy (up to 1.6), in those of its parent since
    // (pkg/envoy/proxy.go hands it over in a file).
    sidecars: &[
        "--service-node sidecar~",
        "pilot-agent proxy sidecar",
        "pilot-agent proxy waypoint",
    ],
    idle_titles: &[],
    // Envoy's documentation: admin 9901. Istio, kube-gateway.yaml of its chart: agent 15020, readiness
    // 15021, metrics 15090; admin 15000. Envoy Gateway, testdata/deployments of its proxy: admin
    // 19000, metrics 19001, shutdown 19002, readiness 19003. Contour, examples/contour/03-envoy.yaml:
    // readiness and metrics 8002, admin 9001 before it had a socket. Emissary, constants.py: admin
    // 8001, probes and diagnostics 8877. Gloo and kgateway: admin 19000. Cilium, its chart's
    // values: health 9878, metrics 9964.
    own_ports: &[
        8001, 8002, 8877, 9001, 9878, 9901, 9964, 15000, 15020, 15021, 15090, 19000, 19001, 19002,
        19003,
    ],
    // Contour's shutdown manager; readiness of kgateway (proxy-deployment.yaml), metrics of Gloo and
    // kgateway.
    own_paths: &[
        (8090, "/shutdown"),
        (8082, "/ready"),
        (8081, "/metrics"),
        (9091, "/metrics"),
    ],
    packagings: PACKAGINGS,
    connect_timers: &[Duration::from_secs(5)],
    read_timers: &[Duration::from_secs(15)],
    statuses: Statuses {
        refused: Some(503),
        connect_timeout: Some(503),
        unreachable: Some(503),
        local: Some(503),
        no_answer: Some(503),
        cut_head: Some(502),
        read_timeout: Some(504),
        bad_response: Some(502),
        no_upstream: Some(503),
        reused_safe: Some(503),
        reused_other: Some(503),
    },
    unread: Unread {
        refuses_streams: false,
        holds_bodies: false,
    },
    // Plain routes have none; Istio adds two.
    retries: Retries {
        on: &[],
        tries: Some(1),
    },
    chains: Chain::Pool,
};

// The image of Envoy itself has many uses: only what stands beside it, or labels, tell.
const PACKAGINGS: &[Packaging] = &[
    // examples/contour/03-envoy.yaml of projectcontour/contour: its shutdown manager runs beside Envoy,
    // in no pod of its control plane.
    Packaging {
        name: "Contour",
        images: &["contour"],
        with: Some("shutdown-manager"),
        labels: &[&[
            ("app.kubernetes.io/name", "contour"),
            ("app.kubernetes.io/component", "envoy"),
        ]],
        classes: &["projectcontour.io"],
        ..Packaging::NONE
    },
    // internal/infrastructure/kubernetes/proxy/testdata/deployments of envoyproxy/gateway; rate limits
    // are another component.
    Packaging {
        name: "Envoy Gateway",
        labels: &[&[
            ("app.kubernetes.io/managed-by", "envoy-gateway"),
            ("app.kubernetes.io/component", "proxy"),
        ]],
        classes: &["gateway.envoyproxy.io/gatewayclass-controller"],
        ingresses: |_| Ok(Ingresses::None),
        ..Packaging::NONE
    },
    // kube-gateway.yaml and the gateway chart of istio/istio. The same image is a sidecar (`proxy
    // sidecar`) or a waypoint (`proxy waypoint`); what leaves the mesh is no ingress.
    Packaging {
        name: "Istio gateway",
        images: &["proxyv2"],
        with: Some("router"),
        labels: &[&[("gateway.istio.io/managed", "istio.io-gateway-controller")]],
        unlike: &[("istio", "egressgateway")],
        classes: &["istio.io/ingress-controller", "istio.io/gateway-controller"],
        ..Packaging::NONE
    },
    // charts/emissary-ingress of emissary-ingress/emissary; its conversion webhook runs the same image.
    Packaging {
        name: "Emissary",
        images: &[
            "emissaryingress/emissary",
            "datawire/aes",
            "datawire/ambassador",
        ],
        without: Some("apiext"),
        labels: &[&[
            ("app.kubernetes.io/name", "emissary-ingress"),
            ("profile", "main"),
        ]],
        classes: &["getambassador.io/ingress-controller"],
        ..Packaging::NONE
    },
    // solo-io/gloo: its image is a sidecar of the control plane, too, so that labels tell.
    Packaging {
        name: "Gloo",
        labels: &[&[("gloo", "gateway-proxy")], &[("gloo", "kube-gateway")]],
        classes: &["solo.io/gloo-gateway"],
        ..Packaging::NONE
    },
    // _helpers.tpl of kgateway-dev/kgateway.
    Packaging {
        name: "kgateway",
        images: &["kgateway-dev/envoy-wrapper"],
        labels: &[&[("kgateway", "kube-gateway")]],
        classes: &["kgateway.dev/kgateway"],
        ingresses: |_| Ok(Ingresses::None),
        ..Packaging::NONE
    },
    // templates/cilium-envoy/daemonset.yaml of cilium/cilium. It also enforces policies between pods.
    Packaging {
        name: "Cilium",
        images: &["cilium/cilium-envoy"],
        labels: &[&[("k8s-app", "cilium-envoy")]],
        classes: &[
            "cilium.io/ingress-controller",
            "io.cilium/gateway-controller",
        ],
        ..Packaging::NONE
    },
];
