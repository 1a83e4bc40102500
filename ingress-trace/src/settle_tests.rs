//! In: events in any order within the rest. Out: proof that they leave in the order of time, none
//! too early, none twice, and in bounded room.
use proptest::prelude::*;

use super::*;
use crate::event::Kind;
use crate::event::example::{MS, up};

const REST: u64 = 50 * MS;

#[test]
fn an_event_leaves_when_it_has_rested_and_not_before() {
    let mut settle = Settle::new(REST);
    settle.push(up(1, Kind::Reset, 100 * MS));
    assert_eq!(settle.pop(150 * MS - 1), None);
    assert_eq!(settle.pop(150 * MS).map(|event| event.time), Some(100 * MS));
    assert_eq!(settle.pop(u64::MAX), None);
}

#[test]
fn events_of_the_same_time_keep_the_order_in_which_they_came() {
    let mut settle = Settle::new(REST);
    for cookie in [3, 1, 2] {
        settle.push(up(cookie, Kind::Reset, MS));
    }
    let left: Vec<u64> = std::iter::from_fn(|| settle.pop(u64::MAX))
        .map(|event| event.exchange.cookie)
        .collect();
    assert_eq!(left, [3, 1, 2]);
}

#[test]
fn what_does_not_fit_leaves_early_and_is_counted() {
    let mut settle = Settle::new(REST);
    let event = up(1, Kind::Reset, 0);
    for time in 0..MOST as u64 + 3 {
        settle.push(crate::event::Event {
            time,
            ..event.clone()
        });
    }
    let early: Vec<u64> = std::iter::from_fn(|| settle.pop(0))
        .map(|event| event.time)
        .collect();
    assert_eq!((early, settle.early), (vec![0, 1, 2], 3));
}

proptest! {
    #[test]
    fn events_leave_in_the_order_of_time_whatever_the_delay_they_came_with(
        delays in prop::collection::vec(0..REST, 1..40),
    ) {
        let mut arrivals: Vec<(u64, u64)> = delays
            .iter()
            .enumerate()
            .map(|(at, delay)| (at as u64 * 7 * MS + delay, at as u64 * 7 * MS))
            .collect();
        arrivals.sort_unstable();
        let (mut settle, mut left) = (Settle::new(REST), Vec::new());
        for (now, time) in arrivals {
            settle.push(up(time, Kind::Reset, time));
            left.extend(std::iter::from_fn(|| settle.pop(now)).map(|event| event.time));
        }
        left.extend(std::iter::from_fn(|| settle.pop(u64::MAX)).map(|event| event.time));
        let in_order: Vec<u64> = (0..delays.len() as u64).map(|at| at * 7 * MS).collect();
        prop_assert_eq!(left, in_order);
        prop_assert_eq!(settle.early, 0);
    }
}
