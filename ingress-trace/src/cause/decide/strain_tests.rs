//! In: flows of a controller under strain. Out: proof that its shortage is told, once, and decides nothing but what it explains.
use std::time::Duration;

use jiff::Timestamp;

use super::*;
use crate::cause::evidence::Shortage;
use crate::cause::reading::read;
use crate::cause::taxonomy::Controller;
use crate::cause::timers::Timers;
use crate::event::Kind;
use crate::event::example::{MS, down, released, up};
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

/// A quota that held the controller back for so long in 5 s.
fn throttled(nanos: u64) -> Shortage {
    let throttling = Throttling { periods: 7, nanos };
    let limits = Limits {
        throttling: Some(("/sys/fs/cgroup/pod".into(), throttling)),
        ..Limits::default()
    };
    Shortage {
        limits: Some(limits),
        span: Duration::from_secs(5),
        ..Shortage::default()
    }
}

#[test]
fn what_the_controller_is_short_of_is_told_with_a_timeout_and_decides_nothing() {
    let plain = decided(&hung(0), &Shortage::default());
    let strained = decided(&hung(0), &throttled(1));
    assert_eq!(plain.cause, strained.cause);
    assert!(strained.evidence.last().unwrap().contains("in 7 periods"));
    assert!(!plain.evidence.last().unwrap().contains("periods"));
}

#[test]
fn what_decides_is_told_once() {
    let verdict = decided(&hung(100), &throttled(4_000 * MS));
    assert_eq!(verdict.cause, Cause::IngressOverloaded);
    let periods = |words: &&String| words.contains("in 7 periods");
    assert_eq!(verdict.evidence.iter().filter(periods).count(), 1);
}
