//! In: events as one nginx causes them. Out: proof of which flows they are, in whatever
//! order they came, and that what never ends is let go.
use proptest::prelude::*;

use super::*;
use crate::cause::taxonomy::Phase;
use crate::event::example::{MS, THREAD, after, down, refused, released, up, with};
use crate::finding::Request;
use crate::flow::in_words;
use crate::settle::Settle;

const WAITS: Waits = Waits {
    settle: 200 * MS,
    release: 1000 * MS,
    relay: 3000 * MS,
    retry: 15_000 * MS,
};

fn joiner(events: &[Event]) -> Joiner {
    let mut joiner = Joiner::new(WAITS);
    for event in events {
        joiner.push(event.clone());
    }
    joiner
}

/// The flows that stand at `now`, as words: which connection failed and what the client got.
fn told(joiner: &mut Joiner, now: u64) -> Vec<String> {
    joiner.settled(now).iter().map(in_words).collect()
}

fn all(events: &[Event]) -> Vec<String> {
    told(&mut joiner(events), u64::MAX)
}

fn retry(prev: u64, cookie: u64, time: u64) -> Event {
    after(prev, up(cookie, Kind::Retry, time))
}

/// A backend's own error, and the answer of a controller that relays it.
fn error(cookie: u64, status: u16, time: u64) -> Event {
    Event {
        status: Some(status),
        ..up(cookie, Kind::Response, time)
    }
}

fn answer(cookie: u64, status: u16, time: u64) -> Event {
    Event {
        status: Some(status),
        // It was there before any backend was asked.
        request_time: Some(time.saturating_sub(20 * MS)),
        ..down(cookie, Kind::Response, time)
    }
}

#[test]
fn a_failure_and_the_error_that_its_thread_wrote_are_one_flow() {
    let events = [refused(1, 100 * MS), after(1, answer(9, 502, 101 * MS))];
    assert_eq!(all(&events), ["1: answered 502"]);
    // Nothing more can come: the flow stands at once.
    assert_eq!(told(&mut joiner(&events), 102 * MS), ["1: answered 502"]);
}

#[test]
fn all_attempts_of_a_request_get_the_answer_that_the_last_one_got() {
    let events = [
        refused(1, 100 * MS),
        retry(1, 2, 101 * MS),
        after(1, refused(2, 102 * MS)),
        after(2, answer(9, 502, 103 * MS)),
    ];
    assert_eq!(all(&events), ["1: answered 502", "2: answered 502"]);
    assert_eq!(told(&mut joiner(&events), 104 * MS).len(), 2);
}

#[test]
fn a_failure_that_a_retry_hid_is_told_with_the_status_of_the_retry() {
    let events = [
        refused(1, 100 * MS),
        retry(1, 2, 101 * MS),
        after(1, up(2, Kind::Response, 150 * MS)),
    ];
    assert_eq!(all(&events), ["1: retried 200"]);
    // While the retry is still open nothing is told, however long it takes.
    let mut waiting = joiner(&events[..2]);
    assert_eq!(told(&mut waiting, 14_000 * MS), [""; 0]);
    waiting.push(after(1, up(2, Kind::Response, 14_001 * MS)));
    assert_eq!(told(&mut waiting, 14_002 * MS), ["1: retried 200"]);
}

#[test]
fn a_retry_that_brings_a_backends_own_error_is_a_failure_too() {
    let events = [
        refused(1, 100 * MS),
        retry(1, 2, 101 * MS),
        after(1, error(2, 503, 110 * MS)),
        answer(9, 503, 111 * MS),
    ];
    assert_eq!(all(&events), ["1: answered 503", "2: answered 503"]);
}

#[test]
fn a_client_that_went_away_aborted_the_request() {
    let gave_up = released(up(1, Kind::GaveUp, 100 * MS));
    let left = with(after(1, down(9, Kind::DownEnd, 101 * MS)), flag::FIN_IN);
    assert_eq!(all(&[gave_up.clone(), left]), ["1: aborted"]);
    let reset = with(after(1, down(9, Kind::DownEnd, 101 * MS)), flag::RST_IN);
    assert_eq!(all(&[gave_up, reset]), ["1: aborted"]);
}

#[test]
fn a_response_that_the_controller_cut_short_is_cut_for_the_client() {
    let failed = Event {
        phase: Phase::Response,
        ..up(1, Kind::Reset, 100 * MS)
    };
    let let_go = up(1, Kind::Released, 101 * MS);
    let end = Event {
        status: Some(200),
        ..after(1, down(9, Kind::DownEnd, 102 * MS))
    };
    assert_eq!(
        all(&[failed.clone(), let_go.clone(), end.clone()]),
        ["1: cut 200"]
    );
    // A last write into the response comes first; the end then names the client's connection only.
    let write = Event {
        status: Some(200),
        phase: Phase::Response,
        ..after(1, down(9, Kind::DownWrite, 102 * MS))
    };
    let later = Event {
        prev: None,
        time: 103 * MS,
        ..end
    };
    assert_eq!(
        all(&[failed.clone(), let_go.clone(), write.clone(), later]),
        ["1: cut 200"]
    );
    let mut open = joiner(&[failed, let_go, write]);
    assert_eq!(told(&mut open, 301 * MS), [""; 0]);
    assert_eq!(
        told(&mut open, 302 * MS),
        ["1: unknown"],
        "its end was not seen"
    );
}

#[test]
fn a_body_that_was_cut_is_never_hidden_by_what_its_thread_sends_next() {
    // RST_STREAM leaves no trace; the thread's next answers are those of others.
    let failed = Event {
        phase: Phase::Response,
        status: Some(200),
        ..up(1, Kind::Reset, 100 * MS)
    };
    let let_go = up(1, Kind::Released, 101 * MS);
    for others in [
        after(1, answer(9, 200, 102 * MS)),
        after(1, answer(9, 404, 102 * MS)),
        with(after(1, down(9, Kind::DownEnd, 102 * MS)), flag::COMPLETE),
    ] {
        assert_eq!(
            all(&[failed.clone(), let_go.clone(), others]),
            ["1: unknown"]
        );
    }
    // nginx may hold back the head of a short response: it is written, and cut, behind the failure.
    let head = after(1, answer(9, 200, 102 * MS));
    let end = Event {
        status: Some(200),
        ..down(9, Kind::DownEnd, 103 * MS)
    };
    assert_eq!(all(&[failed, let_go, head, end]), ["1: cut 200"]);
}

#[test]
fn a_write_to_a_client_that_had_got_nothing_is_its_answer() {
    let write = Event {
        phase: Phase::Idle,
        status: None,
        ..after(1, down(9, Kind::DownWrite, 101 * MS))
    };
    assert_eq!(all(&[refused(1, 100 * MS), write]), ["1: answered -"]);
}

#[test]
fn a_client_connection_that_ends_with_a_whole_response_was_answered() {
    let end = with(
        after(1, answer(9, 502, 101 * MS)),
        flag::COMPLETE | flag::FIN_IN,
    );
    let end = Event {
        kind: Kind::DownEnd,
        ..end
    };
    assert_eq!(all(&[refused(1, 100 * MS), end]), ["1: answered 502"]);
}

#[test]
fn an_error_that_nothing_explains_reached_no_upstream() {
    let mut lone = joiner(&[answer(9, 503, 100 * MS)]);
    assert_eq!(told(&mut lone, 299 * MS), [""; 0]);
    let flows = lone.settled(300 * MS);
    assert_eq!(
        flows.iter().map(in_words).collect::<Vec<_>>(),
        ["9: answered 503"]
    );
    assert_eq!(flows[0].failure.leg, Leg::Downstream);
    let refused = Event {
        kind: Kind::Refused,
        ..answer(9, 502, 100 * MS)
    };
    assert_eq!(all(&[refused]), ["9: answered 502"]);
}

#[test]
fn a_backends_own_error_is_joined_to_the_answer_that_relays_it() {
    assert_eq!(
        all(&[error(1, 503, 100 * MS), answer(9, 503, 101 * MS)]),
        ["1: answered 503"]
    );
}

#[test]
fn an_error_to_who_asked_after_the_backend_had_been_asked_relays_nothing() {
    let later = Event {
        request_time: Some(99 * MS),
        ..answer(9, 503, 101 * MS)
    };
    let events = [error(1, 503, 100 * MS), later];
    assert_eq!(all(&events), ["1: unknown", "9: answered 503"]);
}

#[test]
fn an_answer_with_another_status_method_or_pod_relays_nothing() {
    let failed = error(1, 503, 100 * MS);
    let apart = ["1: unknown", "9: answered 503"];
    let post = Request {
        method: "POST".into(),
        ..crate::event::example::get()
    };
    let post = Event {
        request: Some(post),
        ..answer(9, 503, 101 * MS)
    };
    assert_eq!(all(&[failed.clone(), post]), apart);
    let elsewhere = Event {
        cgroup: 1,
        ..answer(9, 503, 101 * MS)
    };
    assert_eq!(all(&[failed.clone(), elsewhere]), apart);
    assert_eq!(
        all(&[failed, answer(9, 502, 101 * MS)]),
        ["1: unknown", "9: answered 502"]
    );
}

#[test]
fn an_error_that_was_told_before_it_was_relayed_is_not_told_again() {
    let mut late = joiner(&[error(1, 503, 100 * MS)]);
    assert_eq!(told(&mut late, 3099 * MS), [""; 0]);
    assert_eq!(told(&mut late, 3100 * MS), ["1: unknown"]);
    late.push(Event {
        request_time: Some(80 * MS),
        ..answer(9, 503, 3200 * MS)
    });
    assert_eq!(told(&mut late, u64::MAX), [""; 0]);
}

#[test]
fn what_a_thread_does_after_it_relayed_an_error_is_another_requests() {
    let relayed = [
        error(1, 503, 100 * MS),
        answer(9, 503, 101 * MS),
        up(1, Kind::Released, 102 * MS),
    ];
    let other = [&relayed[..], &[after(1, answer(10, 502, 103 * MS))]].concat();
    assert_eq!(all(&other), ["1: answered 503", "10: answered 502"]);
    let other = [&relayed[..], &[retry(1, 2, 103 * MS)]].concat();
    assert_eq!(all(&other), ["1: answered 503"]);
}

#[test]
fn errors_of_backends_and_their_relayed_answers_pair_up_one_to_one() {
    let events = [
        error(1, 503, 100 * MS),
        error(2, 503, 101 * MS),
        answer(8, 503, 102 * MS),
        answer(9, 503, 103 * MS),
        answer(10, 503, 104 * MS),
    ];
    assert_eq!(
        all(&events),
        ["1: answered 503", "2: answered 503", "10: answered 503"]
    );
}

#[test]
fn a_failure_that_nothing_follows_is_told_after_its_wait() {
    let mut let_go = joiner(&[refused(1, 100 * MS)]);
    assert_eq!(told(&mut let_go, 299 * MS), [""; 0]);
    assert_eq!(told(&mut let_go, 300 * MS), ["1: unknown"]);
    let mut kept = joiner(&[up(1, Kind::Reset, 100 * MS)]);
    assert_eq!(told(&mut kept, 1099 * MS), [""; 0]);
    assert_eq!(told(&mut kept, 1100 * MS), ["1: unknown"]);
    let mut slow = joiner(&[
        up(1, Kind::Reset, 100 * MS),
        up(1, Kind::Released, 900 * MS),
    ]);
    assert_eq!(told(&mut slow, 1099 * MS), [""; 0]);
    assert_eq!(told(&mut slow, 1100 * MS), ["1: unknown"]);
    let mut retried = joiner(&[refused(1, 100 * MS), retry(1, 2, 101 * MS)]);
    assert_eq!(told(&mut retried, 15_099 * MS), [""; 0]);
    assert_eq!(told(&mut retried, 15_100 * MS), ["1: unknown"]);
}

#[test]
fn a_success_that_follows_no_failure_is_no_flow() {
    assert_eq!(all(&[up(1, Kind::Response, 100 * MS)]), [""; 0]);
    assert_eq!(
        all(&[with(up(1, Kind::Response, 100 * MS), flag::SLOW)]),
        [""; 0]
    );
    assert_eq!(all(&[down(9, Kind::DownEnd, 100 * MS)]), [""; 0]);
}

#[test]
fn what_is_open_is_bounded_and_what_is_told_early_is_counted() {
    let mut joiner = Joiner::new(WAITS);
    for cookie in 0..MOST_OPEN as u64 + 2 {
        joiner.push(refused(cookie + 1, 100 * MS + cookie));
    }
    assert_eq!(told(&mut joiner, 100 * MS), ["1: unknown", "2: unknown"]);
    assert_eq!(joiner.evicted, 2);
    assert_eq!(joiner.settled(u64::MAX).len(), MOST_OPEN);
    let left = (joiner.open.left(), joiner.untold.len(), joiner.joined.len());
    assert_eq!(left, (0, 0, 0));
}

#[test]
fn unexplained_answers_are_bounded_too() {
    let mut joiner = Joiner::new(WAITS);
    for cookie in 0..MOST_OPEN as u64 + 2 {
        joiner.push(answer(cookie + 1, 503, 100 * MS + cookie));
    }
    assert_eq!(told(&mut joiner, 100 * MS), [""; 0]);
    assert_eq!((joiner.evicted, joiner.answers.len()), (2, MOST_OPEN));
}

/// Everything at once: a failure, a chain, a hidden one, an abort, a cut, an error of a backend and
/// one without an upstream, on several connections at about the same time.
fn storm() -> Vec<Event> {
    let cut = Event {
        phase: Phase::Response,
        ..up(31, Kind::Reset, 106 * MS)
    };
    vec![
        refused(1, 100 * MS),
        after(1, answer(91, 502, 101 * MS)),
        refused(11, 102 * MS),
        retry(11, 12, 103 * MS),
        after(11, refused(12, 104 * MS)),
        after(12, answer(92, 504, 105 * MS)),
        cut,
        up(31, Kind::Released, 107 * MS),
        Event {
            status: Some(200),
            ..after(31, down(93, Kind::DownEnd, 108 * MS))
        },
        refused(21, 109 * MS),
        retry(21, 22, 110 * MS),
        after(21, up(22, Kind::Response, 111 * MS)),
        released(up(41, Kind::GaveUp, 112 * MS)),
        with(after(41, down(94, Kind::DownEnd, 113 * MS)), flag::FIN_IN),
        error(51, 503, 114 * MS),
        answer(95, 503, 115 * MS),
        Event {
            tid: Some(THREAD + 1),
            ..answer(96, 500, 116 * MS)
        },
    ]
}

fn through(events: Vec<Event>) -> Vec<String> {
    let (mut settle, mut joiner) = (Settle::new(50 * MS), Joiner::new(WAITS));
    for event in events {
        settle.push(event);
    }
    let mut flows = Vec::new();
    for now in (100..600).step_by(50).map(|ms| ms * MS).chain([u64::MAX]) {
        while let Some(event) = settle.pop(now) {
            joiner.push(event);
        }
        flows.extend(told(&mut joiner, now));
    }
    flows.sort_unstable();
    flows
}

#[test]
fn a_storm_is_the_sum_of_its_flows() {
    let flows = [
        "11: answered 504",
        "12: answered 504",
        "1: answered 502",
        "21: retried 200",
        "31: cut 200",
        "41: aborted",
        "51: answered 503",
        "96: answered 500",
    ];
    assert_eq!(through(storm()), flows);
}

proptest! {
    #[test]
    fn events_out_of_order_are_the_same_flows(shuffled in Just(storm()).prop_shuffle()) {
        prop_assert_eq!(through(shuffled), through(storm()));
    }

    #[test]
    fn any_subset_of_events_leaves_nothing_open_and_tells_each_failure_once(
        kept in prop::collection::vec(any::<bool>(), 17),
    ) {
        let events: Vec<Event> =
            storm().into_iter().zip(kept).filter_map(|(event, keep)| keep.then_some(event)).collect();
        let fails = |event: &&Event| {
            event.leg == Leg::Upstream
                && !matches!(event.kind, Kind::Released | Kind::Retry)
                && (event.kind != Kind::Response || is_failure(event))
        };
        let mut failed: Vec<u64> =
            events.iter().filter(fails).map(|event| event.exchange.cookie).collect();
        let mut joiner = joiner(&events);
        let mut flows = joiner.settled(u64::MAX);
        flows.retain(|flow| flow.failure.leg == Leg::Upstream);
        let mut told: Vec<u64> =
            flows.iter().map(|flow| flow.failure.exchange.cookie).collect();
        failed.sort_unstable();
        told.sort_unstable();
        prop_assert_eq!(told, failed);
        prop_assert_eq!((joiner.open.left(), joiner.joined.len()), (0, 0));
        prop_assert!(joiner.answers.is_empty() && joiner.untold.is_empty());
    }
}

#[test]
fn an_exchange_that_fails_again_is_told_once_and_leaves_nothing() {
    let mut joiner = joiner(&[refused(1, 100 * MS), up(1, Kind::Reset, 130 * MS)]);
    assert_eq!(told(&mut joiner, u64::MAX), ["1: unknown"]);
    assert_eq!((joiner.open.left(), joiner.evicted), (0, 1));
}

#[test]
fn a_good_head_behind_a_failure_is_cut_when_its_connection_ends_incomplete() {
    let failed = released(up(1, Kind::Closed, 100 * MS));
    let head = after(1, answer(9, 200, 101 * MS));
    let end = down(9, Kind::DownEnd, 102 * MS);
    let mut joiner = joiner(&[failed.clone(), head.clone()]);
    assert_eq!(told(&mut joiner, 102 * MS), [""; 0]);
    joiner.push(end);
    assert_eq!(told(&mut joiner, 103 * MS), ["1: cut -"]);
    assert_eq!(all(&[failed, head]), ["1: answered 200"]);
}
