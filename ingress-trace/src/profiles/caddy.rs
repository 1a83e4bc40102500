//! In: nothing. Out: what is known of Caddy.
//! Data only, measured with real traffic; nothing here decides.
use std::time::Duration;

use super::{Chain, Packaging, Profile, Retries, RetryOn, Statuses, Unread};
use crate::cause::taxonomy::Controller;

/// Caddy.
pub(super) const PROFILE: Profile = Profile {
    controller: Controller::Caddy,
    // Caddy Ingress Controller is its own binary, `/ingress-controller` (its Dockerfile), whose name is
    // cut; the chart names it in its arguments.
    names: &["caddy", "ingress-control"],
    named: &[("ingress-control", "caddy-ingress-controller")],
    sidecars: &[],
    idle_titles: &[],
    // Admin API (its default), and health and metrics of caddyserver/ingress's chart.
    own_ports: &[2019, 9765],
    own_paths: &[],
    // charts/caddy-ingress-controller of caddyserver/ingress: it goes by the class's name. Caddy's own
    // image is a web server.
    packagings: &[Packaging {
        name: "Caddy Ingress Controller",
        images: &["caddy/ingress", "caddyserver/ingress"],
        labels: &[&[("app.kubernetes.io/name", "caddy-ingress-controller")]],
        gateways: false,
        deep: Some(false),
        ..Packaging::NONE
    }],
    connect_timers: &[Duration::from_secs(3)],
    read_timers: &[],
    statuses: Statuses {
        refused: Some(502),
        connect_timeout: Some(502),
        unreachable: Some(502),
        local: Some(502),
        no_answer: Some(502),
        cut_head: Some(502),
        read_timeout: Some(504),
        bad_response: Some(502),
        no_upstream: None,
        reused_safe: Some(200),
        reused_other: Some(502),
    },
    unread: Unread {
        refuses_streams: false,
        holds_bodies: false,
    },
    retries: Retries {
        on: &[RetryOn::Reused],
        tries: Some(2),
    },
    chains: Chain::Process,
};
