//! In: nothing. Out: what is known of Caddy.
//! Data only, measured with real traffic; nothing here decides.
use std::time::Duration;

use super::{Chain, Profile, Retries, RetryOn, Statuses, Unread};
use crate::cause::taxonomy::Controller;

/// Caddy.
pub(super) const PROFILE: Profile = Profile {
    controller: Controller::Caddy,
    names: &["caddy"],
    idle_titles: &[],
    // Admin API (its default), and health and metrics of Caddy Ingress Controller's chart.
    own_ports: &[2019, 9765],
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
