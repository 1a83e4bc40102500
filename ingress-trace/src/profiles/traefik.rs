//! In: nothing. Out: what is known of Traefik.
//! Data only, measured with real traffic; nothing here decides.
use std::time::Duration;

use super::{Chain, Profile, Retries, RetryOn, Statuses, Unread};
use crate::cause::taxonomy::Controller;

/// Traefik.
pub(super) const PROFILE: Profile = Profile {
    controller: Controller::Traefik,
    names: &["traefik"],
    idle_titles: &[],
    // The chart's `traefik` (ping, dashboard) and `metrics` entry points. Newer charts have the
    // first one at 8080, where many others have their clients: not listed.
    own_ports: &[9000, 9100],
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
