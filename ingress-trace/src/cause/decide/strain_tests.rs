//! In: flows of a controller under strain. Out: proof that its shortage is told, once, and decides nothing
//! but what it explains.
use std::time::Duration;

use jiff::Timestamp;

use super::*;
use crate::cause::evidence::Shortage;
use crate::cause::reading::read;
use crate::cause::taxonomy::Controller;
use crate::cause::timers::Timers;
use crate::event::example::{MS, down, released, up};
use crate::event::{Event, Kind};
use crate::flow::{Ending, Flow};
use crate::limits::{Limits, Throttling};

const AT: u64 = 100_000 * MS;

fn decided(flow: &Flow, shortage: &Shortage) -> Verdict {
    let reading = read(flow, Controller::Nginx, &Timers::default()).expect("a failure");
    decide(&Facts {
        flow,
        reading,
        shortage,
        timer: true,
        at: Timestamp::UNIX_EPOCH,
        who: None,
        inside: None,
        past: None,
    })
}

fn hung(unread: u32) -> Flow {
    let mut failure = released(up(1, Kind::GaveUp, AT));
    failure.unread = unread;
    Flow {
        failure,
        ending: Ending::Answered(Box::new(down(9, Kind::Response, AT))),
    }
}

/// What a quota did in the last five seconds.
fn throttled(periods: u64, nanos: u64) -> Shortage {
    let throttling = Throttling {
        periods,
        nanos,
        ..Throttling::default()
    };
    let limits = Limits {
        throttling: Some(("/sys/fs/cgroup/pod".into(), throttling)),
        ..Limits::default()
    };
    Shortage {
        limits: Some(limits),
        span: Duration::from_secs(5),
        ports: None,
    }
}

/// An error of the controller's own, so long after the request had come.
fn answered_after(wait: u64) -> Flow {
    let failure = Event {
        status: Some(503),
        request_time: Some(AT - wait),
        ..down(9, Kind::Response, AT)
    };
    Flow {
        failure,
        ending: Ending::Unknown,
    }
}

#[test]
fn an_error_of_its_own_is_of_overload_where_it_was_held_back_and_let_the_request_wait() {
    const HELD: (u64, u64) = (40, 4_000 * MS);
    for ((periods, nanos), wait, overload) in [
        (HELD, 500 * MS, true),
        // At once: what its configuration says.
        (HELD, 20 * MS, false),
        ((40, 1_000 * MS), 500 * MS, false),
        // Many threads, each for a little, in a few periods.
        ((5, 4_000 * MS), 500 * MS, false),
    ] {
        let verdict = decided(&answered_after(wait), &throttled(periods, nanos));
        let expected = if overload {
            Cause::IngressOverloaded
        } else {
            Cause::Unknown
        };
        assert_eq!(verdict.cause, expected, "{periods} {nanos} {wait}");
        let told = verdict
            .evidence
            .iter()
            .filter(|one| one.contains("CPU quota"));
        assert_eq!(told.count(), 1, "{:?}", verdict.evidence);
    }
}

#[test]
fn what_the_controller_is_short_of_is_told_with_a_timeout_and_decides_nothing() {
    let plain = decided(&hung(0), &Shortage::default());
    let strained = decided(&hung(0), &throttled(7, 1));
    assert_eq!(plain.cause, strained.cause);
    assert!(strained.evidence.last().unwrap().contains("in 7 periods"));
    assert!(!plain.evidence.last().unwrap().contains("periods"));
}

#[test]
fn what_decides_is_told_once() {
    let verdict = decided(&hung(100), &throttled(40, 4_000 * MS));
    assert_eq!(verdict.cause, Cause::IngressOverloaded);
    let periods = |words: &&String| words.contains("in 40 periods");
    assert_eq!(verdict.evidence.iter().filter(periods).count(), 1);
}
