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
