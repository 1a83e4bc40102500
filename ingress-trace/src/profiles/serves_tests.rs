//! In: pods as the controllers' manifests start them, and Ingresses of all sorts of classes. Out: proof
//! of which are their own, which are not, and of which nothing can be said.
use super::*;
use crate::profiles::{Container, pod};

/// What a pod serves that has these labels, and containers as `image command...`, one a line.
fn serves(selector: &str, lines: &str) -> Serves {
    let pairs = selector.split(',').filter_map(|pair| pair.split_once('='));
    let labels = pairs.map(|(key, value)| (key.to_owned(), value.to_owned()));
    let labels = labels.collect();
    let rows: Vec<(&str, Vec<String>)> = lines
        .lines()
        .map(|line| {
            let (image, command) = line.split_once(' ').unwrap_or((line, ""));
            let command = command.split_whitespace().map(str::to_owned);
            (image, command.collect())
        })
        .collect();
    let containers: Vec<_> = rows
        .iter()
        .map(|(image, command)| Container {
            name: "main",
            image,
            command,
        })
        .collect();
    let told = pod(&labels, &containers).expect("a data plane");
    told.packaging.serves(&labels, "edge", &containers)
}

const OWN: Option<bool> = Some(true);
const OTHER: Option<bool> = Some(false);

/// By `spec.ingressClassName`, with the class' controller where it is known.
fn class(serves: &Serves, class: &str, controller: &str) -> Option<bool> {
    serves.ingress(&Claim {
        class: Some(class),
        controller: Some(controller).filter(|controller| !controller.is_empty()),
        annotation: None,
    })
}

/// By the old annotation; empty: an Ingress that names no class.
fn annotated(serves: &Serves, name: &str) -> Option<bool> {
    serves.ingress(&Claim {
        annotation: Some(name).filter(|name| !name.is_empty()),
        ..Claim::default()
    })
}

const NGINX: &str = "registry.k8s.io/ingress-nginx/controller:v1 /nginx-ingress-controller";
const F5: &str = "nginx/nginx-ingress:5";
const HAPROXY: &str = "haproxytech/kubernetes-ingress:3 --configmap=$(POD_NAMESPACE)/x";
const JCMORAIS: &str = "quay.io/jcmoraisjr/haproxy-ingress:v0.15";
const TRAEFIK: &str = "traefik:v3 --providers.kubernetesingress";
const KONG: &str = "kong:3\nkong/kubernetes-ingress-controller:3";
const CONTOUR: &str = "contour:1 envoy shutdown-manager\nenvoy:1";
const INGRESS_NGINX_CLASS: &str = "k8s.io/ingress-nginx";
const HAPROXY_CLASS: &str = "haproxy.org/ingress-controller";
const TRAEFIK_CLASS: &str = "traefik.io/ingress-controller";

/// Image, its words, a class, its controller where it is known, and whether that class is its own.
type Row = (
    &'static str,
    &'static str,
    &'static str,
    &'static str,
    Option<bool>,
);

const ROWS: &[Row] = &[
    (NGINX, "", "any", INGRESS_NGINX_CLASS, OWN),
    (NGINX, "", "nginx", "k8s.io/internal", OTHER),
    (NGINX, "", "nginx", "", None),
    (
        NGINX,
        "--controller-class=k8s.io/internal",
        "a",
        "k8s.io/internal",
        OWN,
    ),
    (
        NGINX,
        "--controller-class k8s.io/internal",
        "a",
        "k8s.io/internal",
        OWN,
    ),
    (
        NGINX,
        "--controller-class=k8s.io/internal",
        "a",
        "k8s.io/more",
        OTHER,
    ),
    (
        NGINX,
        "--controller-class=$(CLASS)",
        "a",
        "k8s.io/more",
        None,
    ),
    (
        NGINX,
        "--ingress-class-by-name",
        "nginx",
        "k8s.io/more",
        OWN,
    ),
    (
        NGINX,
        "--ingress-class-by-name=false",
        "nginx",
        "k8s.io/more",
        OTHER,
    ),
    (
        F5,
        "-ingress-class=edge",
        "edge",
        "nginx.org/ingress-controller",
        OWN,
    ),
    (
        F5,
        "-ingress-class=edge",
        "nginx",
        "nginx.org/ingress-controller",
        OTHER,
    ),
    (F5, "-ingress-class=edge", "edge", "", OWN),
    (F5, "", "nginx", "", None),
    (
        F5,
        "-ingress-class=nginx",
        "nginx",
        INGRESS_NGINX_CLASS,
        OTHER,
    ),
    (HAPROXY, "", "any", HAPROXY_CLASS, OWN),
    (
        HAPROXY,
        "",
        "any",
        "haproxy.org/ingress-controller/edge",
        OTHER,
    ),
    (
        HAPROXY,
        "--ingress.class=edge",
        "any",
        "haproxy.org/ingress-controller/edge",
        OWN,
    ),
    (HAPROXY, "--ingress.class=edge", "edge", HAPROXY_CLASS, OWN),
    (
        HAPROXY,
        "--ingress.class=edge",
        "more",
        HAPROXY_CLASS,
        OTHER,
    ),
    (
        JCMORAIS,
        "--controller-class=edge",
        "a",
        "haproxy-ingress.github.io/controller/edge",
        OWN,
    ),
    (
        JCMORAIS,
        "--x",
        "a",
        "haproxy-ingress.github.io/controller/edge",
        OTHER,
    ),
    (TRAEFIK, "", "any", TRAEFIK_CLASS, OWN),
    (
        TRAEFIK,
        "--providers.kubernetesIngress.ingressClass=edge",
        "edge",
        TRAEFIK_CLASS,
        OWN,
    ),
    (
        TRAEFIK,
        "--providers.kubernetesIngress.ingressClass=edge",
        "more",
        TRAEFIK_CLASS,
        OTHER,
    ),
    (TRAEFIK, "", "any", INGRESS_NGINX_CLASS, OTHER),
    (
        TRAEFIK,
        "--providers.kubernetesingressnginx",
        "any",
        INGRESS_NGINX_CLASS,
        None,
    ),
    (
        "traefik:v3 --configfile=/x",
        "",
        "any",
        INGRESS_NGINX_CLASS,
        None,
    ),
    (
        KONG,
        "CONTROLLER_INGRESS_CLASS=edge",
        "edge",
        "ingress-controllers.konghq.com/kong",
        OWN,
    ),
    (
        KONG,
        "CONTROLLER_INGRESS_CLASS=edge",
        "kong",
        "ingress-controllers.konghq.com/kong",
        OTHER,
    ),
    (KONG, "CONTROLLER_INGRESS_CLASS=$", "edge", "", None),
    (
        KONG,
        "",
        "edge",
        "ingress-controllers.konghq.com/kong",
        None,
    ),
    (KONG, "", "nginx", INGRESS_NGINX_CLASS, OTHER),
    (CONTOUR, "", "contour", "projectcontour.io/contour", None),
    (CONTOUR, "", "nginx", INGRESS_NGINX_CLASS, OTHER),
    (CONTOUR, "", "any", "example.com/own", None),
];

#[test]
fn each_packaging_knows_its_classes_as_its_controller_does() {
    for (image, words, name, controller, expected) in ROWS {
        let serves = serves("", &format!("{image} {words}"));
        let told = class(&serves, name, controller);
        assert_eq!(told, *expected, "{image} {words}: {name}, {controller}");
    }
}

#[test]
fn annotations_and_ingresses_without_a_class_are_judged_by_what_was_given() {
    let watching = &format!("{JCMORAIS} --watch-ingress-without-class");
    for (image, words, annotation, expected) in [
        (NGINX, "", "nginx", OWN),
        (NGINX, "", "other", OTHER),
        (NGINX, "--ingress-class=edge", "edge", OWN),
        (NGINX, "--ingress-class=edge", "nginx", OTHER),
        (NGINX, "", "", OTHER),
        (NGINX, "--watch-ingress-without-class", "", OWN),
        (NGINX, "--watch-ingress-without-class=true --v=2", "", OWN),
        (NGINX, "--watch-ingress-without-class=false", "", OTHER),
        (TRAEFIK, "", "", OWN),
        (
            TRAEFIK,
            "--providers.kubernetesingress.ingressclass=edge",
            "",
            OTHER,
        ),
        (
            TRAEFIK,
            "--providers.kubernetesingress.ingressclass=edge",
            "edge",
            OWN,
        ),
        (watching, "", "", OWN),
        (watching, "", "haproxy", OWN),
        (
            "haproxytech/kubernetes-ingress:3",
            "--ingress.class=a",
            "",
            None,
        ),
        (
            "haproxytech/kubernetes-ingress:3",
            "--ingress.class=a",
            "b",
            OTHER,
        ),
    ] {
        let serves = serves("", &format!("{image} {words}"));
        assert_eq!(
            annotated(&serves, annotation),
            expected,
            "{image} {words}: {annotation}"
        );
    }
}

#[test]
fn an_ingress_with_both_is_told_only_where_both_say_the_same() {
    let serves = serves("", "ingress-nginx/controller --v=2");
    let both = |controller, annotation| {
        serves.ingress(&Claim {
            class: Some("a"),
            controller: Some(controller),
            annotation: Some(annotation),
        })
    };
    assert_eq!(both("k8s.io/ingress-nginx", "nginx"), OWN);
    assert_eq!(both("k8s.io/internal", "other"), OTHER);
    assert_eq!(both("k8s.io/ingress-nginx", "other"), None);
}

#[test]
fn an_image_that_starts_itself_says_nothing() {
    let serves = serves("", "ingress-nginx/controller");
    assert_eq!(serves.ingresses, Ingresses::Any);
    assert_eq!(class(&serves, "a", "k8s.io/internal"), None);
}

#[test]
fn a_pod_that_was_made_for_a_gateway_serves_its_routes_only() {
    const EG: &str = "app.kubernetes.io/managed-by=envoy-gateway,app.kubernetes.io/component=proxy";
    let route = |gateway: Option<(&str, &str)>| Parent {
        gateway: gateway.map(|(namespace, name)| Name::new(namespace, name)),
        section: None,
    };
    let own = [route(Some(("edge", "web")))];
    let other = [route(Some(("shop", "web")))];
    let set = [route(None)];
    for (labels, image, expected) in [
        (
            format!(
                "{EG},gateway.envoyproxy.io/owning-gateway-name=web,\
                 gateway.envoyproxy.io/owning-gateway-namespace=shop,\
                 gateway.networking.k8s.io/gateway-name=web"
            ),
            "envoy",
            [OTHER, OWN, None],
        ),
        (
            "gateway.networking.k8s.io/gateway-name=web".to_owned(),
            "nginx-gateway-fabric/nginx",
            [OWN, OTHER, None],
        ),
        (
            "istio.io/gateway-name=web".to_owned(),
            "istio/proxyv2 proxy router",
            [OWN, OTHER, None],
        ),
        (EG.to_owned(), "envoy", [None, None, None]),
        (String::new(), "nginx/nginx-ingress", [OTHER, OTHER, OTHER]),
    ] {
        let serves = serves(&labels, image);
        let told = [&own, &other, &set].map(|parents| serves.attached(parents));
        assert_eq!(told, expected, "{labels}, {image}");
        assert_eq!(serves.attached(&[]), OTHER, "a mesh's own");
    }
}
