//! In: nothing. Out: the profile of a controller that is none of the known ones: it says nothing.
//! Must not assume any status, timer or retry.
use super::{Chain, Profile, Retries, Statuses, Unread};
use crate::cause::taxonomy::Controller;

/// Any other controller.
pub(super) const PROFILE: Profile = Profile {
    controller: Controller::Unknown,
    names: &[],
    named: &[],
    sidecars: &[],
    idle_titles: &[],
    own_ports: &[],
    own_paths: &[],
    packagings: &[],
    connect_timers: &[],
    read_timers: &[],
    statuses: Statuses {
        refused: None,
        connect_timeout: None,
        unreachable: None,
        local: None,
        no_answer: None,
        cut_head: None,
        read_timeout: None,
        bad_response: None,
        no_upstream: None,
        reused_safe: None,
        reused_other: None,
    },
    unread: Unread {
        refuses_streams: false,
        holds_bodies: false,
    },
    retries: Retries {
        on: &[],
        tries: None,
    },
    chains: Chain::Adjacent,
};
