//! In: nothing. Out: what is known of Traefik.
//! Data only, measured with real traffic; nothing here decides.
use std::time::Duration;

use super::serves::{By, Hidden, Ingresses, Told, Words};
use super::{Chain, Packaging, Profile, Retries, RetryOn, Statuses, Unread};
use crate::cause::taxonomy::Controller;

/// Traefik.
pub(super) const PROFILE: Profile = Profile {
    controller: Controller::Traefik,
    names: &["traefik"],
    named: &[],
    sidecars: &[],
    idle_titles: &[],
    // The chart's `traefik` (ping, dashboard) and `metrics` entry points. From 33.0.0 on the first one
    // is at 8080 (traefik/traefik-helm-chart#1239), where many others have their clients.
    own_ports: &[9000, 9100],
    own_paths: &[(8080, "/ping")],
    // traefik/templates/_podtemplate.tpl and _helpers.tpl of that chart; K3s and RKE2 have images of
    // their own. K3s's job (`helm-install-traefik`) and load balancer (`svclb-traefik`) are others.
    packagings: &[Packaging {
        name: "Traefik",
        images: &["traefik", "mirrored-library-traefik", "hardened-traefik"],
        labels: &[&[("app.kubernetes.io/name", "traefik")]],
        classes: &[
            "traefik.io/ingress-controller",
            "traefik.io/gateway-controller",
        ],
        ingresses,
        deep: Some(false),
        ..Packaging::NONE
    }],
    connect_timers: &[Duration::from_secs(30)],
    read_timers: &[],
    statuses: Statuses {
        refused: Some(502),
        connect_timeout: Some(504),
        unreachable: Some(502),
        local: Some(502),
        no_answer: Some(502),
        cut_head: Some(500),
        read_timeout: Some(504),
        bad_response: Some(500),
        no_upstream: None,
        reused_safe: Some(200),
        reused_other: Some(502),
    },
    unread: Unread {
        refuses_streams: false,
        holds_bodies: true,
    },
    retries: Retries {
        on: &[RetryOn::Reused],
        tries: Some(2),
    },
    chains: Chain::Process,
};

/// `shouldProcessIngress` of pkg/provider/kubernetes/ingress. What flags do not say a file or the
/// environment may: one of the three. With its other provider it serves ingress-nginx's classes.
fn ingresses(words: &Words) -> Result<Ingresses, Hidden> {
    let provider = "providers.kubernetesingress";
    if !words.any_of(provider) || words.any_of("providers.kubernetesingressnginx") {
        return Ok(Ingresses::Any);
    }
    let name = words.name("providers.kubernetesingress.ingressclass", None)?;
    Ok(Ingresses::Told(Told {
        controller: Some("traefik.io/ingress-controller".to_owned()),
        by: By::Both,
        without: Some(name.is_none()),
        name,
    }))
}
