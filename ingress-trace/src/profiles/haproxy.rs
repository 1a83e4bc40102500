//! In: nothing. Out: what is known of HAProxy and the ingress controllers that run it.
//! Data only, measured with real traffic; nothing here decides.
use std::time::Duration;

use super::serves::{By, Hidden, Ingresses, Told, Words};
use super::{Chain, Packaging, Profile, Retries, RetryOn, Statuses, Unread};
use crate::cause::taxonomy::Controller;

/// HAProxy.
pub(super) const PROFILE: Profile = Profile {
    controller: Controller::Haproxy,
    names: &["haproxy"],
    named: &[],
    sidecars: &[],
    idle_titles: &[],
    // haproxytech, pkg/utils/flags.go: statistics 1024, health 1042, the controller's own 6060.
    // haproxy-ingress, its chart's values.yaml: statistics 1936, metrics 9101, health 10253, the
    // controller's own 10254. OpenShift, router/deployment.yaml of its operator: 1936.
    own_ports: &[1024, 1042, 1936, 6060, 9101, 10253, 10254],
    own_paths: &[],
    packagings: PACKAGINGS,
    connect_timers: &[Duration::from_secs(5)],
    read_timers: &[Duration::from_secs(50)],
    statuses: Statuses {
        refused: Some(503),
        connect_timeout: Some(503),
        unreachable: Some(503),
        local: Some(503),
        no_answer: Some(502),
        cut_head: Some(502),
        read_timeout: Some(504),
        bad_response: Some(502),
        no_upstream: Some(503),
        reused_safe: None,
        reused_other: None,
    },
    unread: Unread {
        refuses_streams: true,
        holds_bodies: false,
    },
    retries: Retries {
        on: &[RetryOn::Connect],
        tries: Some(4),
    },
    chains: Chain::Thread,
};

const PACKAGINGS: &[Packaging] = &[
    // deploy/haproxy-ingress.yaml of haproxytech/kubernetes-ingress; a job out of the same image
    // updates its definitions.
    Packaging {
        name: "HAProxy Kubernetes Ingress Controller",
        images: &["haproxytech/kubernetes-ingress"],
        without: Some("--job-check-crd"),
        labels: &[&[("run", "haproxy-ingress")]],
        classes: &["haproxy.org/ingress-controller"],
        ingresses: haproxytech,
        ..Packaging::NONE
    },
    // haproxy-ingress/charts: HAProxy runs in the controller's container, or beside it in the pod.
    Packaging {
        name: "HAProxy Ingress",
        images: &["haproxy-ingress"],
        classes: &["haproxy-ingress.github.io/controller"],
        ingresses: haproxy_ingress,
        deep: Some(false),
        ..Packaging::NONE
    },
    // openshift/cluster-ingress-operator: releases name images by digest only, the label is what its
    // Services select.
    Packaging {
        name: "OpenShift router",
        images: &["origin-haproxy-router"],
        labels: &[&[(
            "ingresscontroller.operator.openshift.io/deployment-ingresscontroller",
            "",
        )]],
        classes: &["openshift.io/ingress-to-route"],
        ..Packaging::NONE
    },
];

/// `Supported` of pkg/ingress/ingress.go; the newest ask for the name in place of the controller.
fn haproxytech(words: &Words) -> Result<Ingresses, Hidden> {
    const CONTROLLER: &str = "haproxy.org/ingress-controller";
    let name = words.name("ingress.class", None)?;
    let controller = match &name {
        Some(name) => format!("{CONTROLLER}/{name}"),
        None => CONTROLLER.to_owned(),
    };
    Ok(Ingresses::Told(Told {
        controller: Some(controller),
        name,
        by: By::Either,
        without: None,
    }))
}

/// `IsValidIngress` of pkg/controller/legacy/cache.go: what follows the controller's name behind a slash
/// is `--controller-class`.
fn haproxy_ingress(words: &Words) -> Result<Ingresses, Hidden> {
    const CONTROLLER: &str = "haproxy-ingress.github.io/controller";
    let controller = match words.name("controller-class", None)? {
        Some(class) => format!("{CONTROLLER}/{}", class.trim_start_matches('/')),
        None => CONTROLLER.to_owned(),
    };
    Ok(Ingresses::Told(Told {
        controller: Some(controller),
        name: words.name("ingress-class", Some("haproxy"))?,
        by: By::Controller,
        without: words.switch("watch-ingress-without-class"),
    }))
}
