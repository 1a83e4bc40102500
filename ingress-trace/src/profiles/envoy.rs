//! In: nothing. Out: what is known of Envoy: Contour, Istio gateway, Envoy Gateway, Emissary.
//! Data only, measured with real traffic; nothing here decides.
use std::time::Duration;

use super::{Chain, Profile, Retries, Statuses, Unread};
use crate::cause::taxonomy::Controller;

/// Envoy.
pub(super) const PROFILE: Profile = Profile {
    controller: Controller::Envoy,
    names: &["envoy"],
    idle_titles: &[],
    // Admin: Envoy's documentation (9901), Istio (15000), Envoy Gateway (19000), Emissary and
    // Contour (8001, 9001). Readiness and metrics: Istio (15020, 15021, 15090), Envoy Gateway
    // (19001, 19003), Contour (8002).
    own_ports: &[
        8001, 8002, 9001, 9901, 15000, 15020, 15021, 15090, 19000, 19001, 19003,
    ],
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
