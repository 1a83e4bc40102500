//! In: nothing. Out: what is known of HAProxy and the ingress controllers that run it.
//! Data only, measured with real traffic; nothing here decides.
use std::time::Duration;

use super::{Chain, Profile, Retries, RetryOn, Statuses, Unread};
use crate::cause::taxonomy::Controller;

/// HAProxy.
pub(super) const PROFILE: Profile = Profile {
    controller: Controller::Haproxy,
    names: &["haproxy"],
    idle_titles: &[],
    // haproxytech: statistics 1024, health 1042, the controller's own 6060. jcmoraisjr: statistics
    // 1936, metrics 9101, health 10253, the controller's own 10254.
    own_ports: &[1024, 1042, 1936, 6060, 9101, 10253, 10254],
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
