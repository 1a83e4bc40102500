//! In: failures, and what clients got of whom nothing can be read. Out: proof of which bytes are an answer,
//! which are a greeting, and what they hide.
use super::tests::{bound, bytes, loose, matcher, of, on, told, tried};
use super::*;
use crate::event::example::{MS, THREAD, first, refused, released, second, up};

#[test]
fn bytes_that_cannot_be_read_are_an_answer_only_at_once() {
    let failed = tried(refused(1, 100 * MS), MS / 10);
    let at_once = bytes(101 * MS, MS + MS / 2);
    assert_eq!(bound(&[failed.clone(), at_once]), ["1: answered -"]);
    let later = bytes(130 * MS, 30 * MS + MS / 2);
    assert_eq!(bound(&[failed, later]), ["1: retried 0"]);
}

#[test]
fn who_waited_for_as_long_as_a_timer_was_told_of_it_by_any_thread() {
    let gave_up = tried(released(up(1, Kind::GaveUp, 700 * MS)), 600 * MS);
    let first = |time: u64, after: u64| Event {
        response_time: Some(time),
        ..on(THREAD + 1, bytes(time, after))
    };
    let told = |client: Event| loose(&[gave_up.clone(), client]);
    assert_eq!(told(first(701 * MS, 602 * MS)), ["1: answered -"]);
    // Asked too long before, or answered too late.
    assert_eq!(told(first(701 * MS, 640 * MS)), ["1: unknown"]);
    assert_eq!(told(first(710 * MS, 611 * MS)), ["1: unknown"]);
    // More of what had begun before.
    let more = Event {
        response_time: Some(300 * MS),
        ..first(701 * MS, 602 * MS)
    };
    assert_eq!(told(more), ["1: unknown"]);
}

/// A timer of 600 ms that fired at 700 ms.
fn timed_out() -> Event {
    tried(released(up(1, Kind::GaveUp, 700 * MS)), 600 * MS)
}

/// What another thread writes to a client right behind [`timed_out`], who had a greeting first; asked for
/// this long before.
fn greeted(greeting: u64, newest: u64) -> Event {
    Event {
        kind: Kind::DownWrite,
        exchange: second(9),
        response_time: Some(greeting),
        last_time: Some(newest),
        ..on(THREAD + 1, bytes(701 * MS, 602 * MS))
    }
}

#[test]
fn a_greeting_before_the_timer_is_no_answer() {
    let at = |greeting, newest| loose(&[timed_out(), greeted(greeting, newest)]);
    // Just before the attempt, or a little behind its beginning.
    assert_eq!(at(99 * MS, 99 * MS), ["1: answered -"]);
    assert_eq!(at(99 * MS, 140 * MS), ["1: answered -"]);
    // More came while the attempt waited: it got something else.
    assert_eq!(at(99 * MS, 400 * MS), ["1: unknown"]);
    // A recording of before: what was newest is what was written.
    assert_eq!(at(99 * MS, 701 * MS), ["1: unknown"]);
    // On a connection that had its answers, nothing greets.
    let old = Event {
        exchange: ExchangeId {
            number: 3,
            ..first(9)
        },
        ..greeted(99 * MS, 99 * MS)
    };
    assert_eq!(loose(&[timed_out(), old]), ["1: unknown"]);
}

/// Written to a new client by the thread that let a backend's connection go; `greeted` before.
fn write(time: u64, greeted: u64) -> Event {
    Event {
        kind: Kind::DownWrite,
        prev: Some(first(1)),
        response_time: Some(greeted),
        last_time: Some(greeted),
        ..bytes(time, time - 98 * MS)
    }
}

#[test]
fn what_follows_an_answer_takes_nothing_from_it() {
    let reset = || {
        let event = of("/a", tried(up(1, Kind::Reset, 100 * MS), MS));
        released(event)
    };
    // The response's head, and its body in a write of its own.
    let (head, body) = (100 * MS + MS / 5, 101 * MS);
    let both = |greeted| loose(&[reset(), write(head, greeted), write(body, greeted)]);
    assert_eq!(both(99 * MS), ["1: answered -"]);
    // Without a greeting before, the first may be one.
    assert_eq!(both(head), ["1: unknown"]);
    // Others greet behind what the first request has led to.
    let events = [reset(), write(head, 99 * MS), write(body, 99 * MS)];
    let mut envoy = matcher(&events[..2], Chain::Pool);
    assert_eq!(told(&mut envoy, u64::MAX), ["1: answered -"]);
    assert_eq!(bound(&events), ["1: answered -"]);
}

#[test]
fn who_cancels_a_request_is_not_hidden_by_what_another_client_gets() {
    let success = || on(THREAD + 1, bytes(900 * MS, 801 * MS));
    let cancelled = of("/a", timed_out());
    assert_eq!(loose(&[cancelled, success()]), ["1: unknown"]);
    // A backend's own fault may be hidden by it, unless somebody was answered right behind it.
    let reset = of("/a", tried(released(up(1, Kind::Reset, 100 * MS)), MS));
    let late = on(THREAD + 1, bytes(130 * MS, 32 * MS));
    assert_eq!(loose(&[reset.clone(), late.clone()]), ["1: retried 0"]);
    let mut soon = on(THREAD + 1, bytes(102 * MS, 4 * MS));
    soon.exchange = first(10);
    assert_eq!(loose(&[reset, soon, late]), ["1: unknown"]);
}

#[test]
fn what_a_thread_asks_next_for_somebody_else_is_no_retry() {
    let cancelled = of("/a", timed_out());
    let next = |path| {
        let retry = Event {
            prev: Some(first(1)),
            ..of(path, tried(up(2, Kind::Retry, 700 * MS), 0))
        };
        let failed = of(path, tried(up(2, Kind::Response, 715 * MS), 15 * MS));
        let mut failed = Event {
            prev: Some(first(1)),
            status: Some(502),
            ..failed
        };
        failed.phase = Phase::Response;
        let told = on(THREAD + 1, bytes(716 * MS, 17 * MS));
        loose(&[cancelled.clone(), retry, failed, told])
    };
    assert_eq!(next("/b"), ["1: nobody", "2: answered -"]);
    assert_eq!(next("/a"), ["1: answered -", "2: answered -"]);
}

#[test]
fn of_attempts_that_fail_in_one_go_each_client_keeps_its_own() {
    // A backend dies; the thread lets go of all before it answers any, and keeps the last one only.
    let failed = |cookie, began: u64| {
        let event = of(
            "/a",
            tried(up(cookie, Kind::Closed, 700 * MS), 700 * MS - began),
        );
        released(event)
    };
    let answer = |cookie, asked: u64, link: Option<u64>| {
        let time = 700 * MS + cookie * MS / 50;
        Event {
            exchange: first(cookie),
            prev: link.map(first),
            ..bytes(time, time - asked)
        }
    };
    let last = failed(2, 300 * MS);
    let events = |link| {
        let (one, other) = (answer(11, 99 * MS, link), answer(12, 299 * MS, None));
        [failed(1, 100 * MS), last.clone(), one, other]
    };
    assert_eq!(loose(&events(Some(2))), ["1: answered -", "2: unknown"]);
    // Without that step, who was answered is not known; that somebody waited is.
    assert_eq!(loose(&events(None)), ["1: unknown", "2: unknown"]);
}
