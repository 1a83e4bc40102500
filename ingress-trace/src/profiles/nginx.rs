//! In: nothing. Out: what is known of nginx: ingress-nginx, F5, Kong, APISIX and OpenResty.
//! Data only, measured with real traffic; nothing here decides.
use std::time::Duration;

use super::{Chain, Profile, Retries, RetryOn, Statuses, Unread};
use crate::cause::taxonomy::Controller;

/// nginx and its relatives.
pub(super) const PROFILE: Profile = Profile {
    controller: Controller::Nginx,
    names: &["nginx", "nginx-debug", "openresty", "angie"],
    idle_titles: &[
        "nginx: master process",
        "nginx: cache ",
        "angie: master process",
        "angie: cache ",
    ],
    // ingress-nginx: 10245-10247 and 10254 (the controller's), 18080 before 0.2x. Kong: admin 8001
    // (not 8444, where others have clients), status 8100. APISIX: control 9090, metrics 9091, admin
    // 9180. F5: metrics 9113.
    own_ports: &[
        8001, 8100, 9090, 9091, 9113, 9180, 10245, 10246, 10247, 10254, 18080,
    ],
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
