//! In: flows of a controller under strain. Out: proof that its shortage is told and decides nothing.
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

#[test]
fn what_the_controller_is_short_of_is_told_with_a_timeout_and_decides_nothing() {
    let limits = Limits {
        throttling: Some((
            "/sys/fs/cgroup/pod".into(),
            Throttling {
                periods: 7,
                nanos: 1,
            },
        )),
        ..Limits::default()
    };
    let shortage = Shortage {
        limits: Some(limits),
        ..Shortage::default()
    };
    let hung = released(up(1, Kind::GaveUp, AT));
    let flow = Flow {
        failure: hung,
        ending: Ending::Answered(Box::new(down(9, Kind::Response, AT))),
    };
    let plain = decided(&flow, &Shortage::default());
    let strained = decided(&flow, &shortage);
    assert_eq!(plain.cause, strained.cause);
    assert!(strained.evidence.last().unwrap().contains("in 7 periods"));
    assert!(!plain.evidence.last().unwrap().contains("periods"));
}
