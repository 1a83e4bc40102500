//! In: events as HAProxy, Envoy, Traefik and Caddy cause them. Out: proof of which client each failure
//! is joined to, and that nothing is claimed where nothing tells.
use ingress_trace_common::sample::flag;

use super::*;
use crate::event::Flags;
use crate::event::example::{MS, THREAD, after, down, refused, released, up, with};
use crate::flow::in_words;

const WAITS: Waits = Waits {
    settle: 200 * MS,
    release: 1000 * MS,
    relay: 3000 * MS,
    retry: 15_000 * MS,
};

/// The flows of these events on a data plane that keeps a request on its thread, in words.
pub(super) fn bound(events: &[Event]) -> Vec<String> {
    told(&mut matcher(events, Chain::Pool), u64::MAX)
}

/// The same where a request wanders from thread to thread.
pub(super) fn loose(events: &[Event]) -> Vec<String> {
    told(&mut matcher(events, Chain::Process), u64::MAX)
}

pub(super) fn matcher(events: &[Event], chain: Chain) -> Matcher {
    let mut matcher = Matcher::new(WAITS);
    for event in events {
        matcher.push(event.clone(), chain);
    }
    matcher
}

pub(super) fn told(matcher: &mut Matcher, now: u64) -> Vec<String> {
    let mut words: Vec<_> = matcher.settled(now).iter().map(in_words).collect();
    words.sort();
    words
}

/// A client's answer at `time`, asked for this long before.
fn answer(cookie: u64, status: u16, time: u64, after: u64) -> Event {
    Event {
        status: Some(status),
        ..asked(down(cookie, Kind::Response, time), time - after)
    }
}

fn asked(event: Event, time: u64) -> Event {
    Event {
        request_time: Some(time),
        connect_time: Some(time.saturating_sub(MS)),
        ..event
    }
}

/// A failure whose attempt began this long before.
pub(super) fn tried(event: Event, before: u64) -> Event {
    let began = Some(event.time - before);
    Event {
        connect_time: began,
        request_time: event.request_time.and(began),
        ..event
    }
}

pub(super) fn on(thread: u32, event: Event) -> Event {
    Event {
        tid: Some(thread),
        ..event
    }
}

pub(super) fn of(path: &str, mut event: Event) -> Event {
    let mut request = crate::event::example::get();
    request.path = path.to_owned();
    event.request = Some(request);
    event
}

#[test]
fn an_answer_before_the_close_is_joined_by_its_thread() {
    let timed_out = tried(released(up(1, Kind::GaveUp, 601 * MS)), 600 * MS);
    let told_so = answer(9, 504, 600 * MS, 600 * MS);
    let mut haproxy = matcher(&[told_so.clone(), timed_out.clone()], Chain::Thread);
    assert_eq!(told(&mut haproxy, 750 * MS), [""; 0]);
    assert_eq!(told(&mut haproxy, 801 * MS), ["1: answered 504"]);
    let other = on(THREAD + 1, timed_out);
    assert_eq!(
        bound(&[told_so.clone(), other.clone()]),
        ["1: nobody", "9: answered 504"]
    );
    assert_eq!(loose(&[told_so, other]), ["1: answered 504"]);
}

#[test]
fn requests_that_wait_together_keep_their_own_answers() {
    // Both refused within a millisecond, the answers in the other order of the releases.
    let events = [
        tried(refused(1, 100 * MS), MS / 10),
        tried(refused(2, 100 * MS + MS / 2), MS / 10),
        answer(8, 503, 100 * MS + MS / 10, MS / 2),
        answer(9, 503, 100 * MS + 6 * MS / 10, MS / 2),
    ];
    assert_eq!(bound(&events), ["1: answered 503", "2: answered 503"]);
    let reset = |cookie, path| of(path, up(cookie, Kind::Reset, 100 * MS));
    let crossed = [
        reset(1, "/a"),
        reset(2, "/b"),
        of("/b", answer(8, 502, 101 * MS, 7 * MS)),
        of("/a", answer(9, 504, 102 * MS, 8 * MS)),
    ];
    assert_eq!(loose(&crossed), ["1: answered 504", "2: answered 502"]);
}

#[test]
fn a_failure_nobody_waited_for_is_nobodys_and_marks_its_backend() {
    let check = |cookie, time| tried(refused(cookie, time), MS / 10);
    assert_eq!(bound(&[check(1, 100 * MS)]), ["1: nobody"]);
    // A client that asks just when a check fails does not make it a failure.
    let mut busy = matcher(&[check(1, 100 * MS)], Chain::Thread);
    assert_eq!(told(&mut busy, 20_000 * MS), ["1: nobody"]);
    for event in [
        check(2, 20_100 * MS),
        answer(9, 200, 20_101 * MS, MS + MS / 2),
    ] {
        busy.push(event, Chain::Thread);
    }
    assert_eq!(told(&mut busy, u64::MAX), ["2: nobody"]);
}

#[test]
fn a_success_later_hides_a_failure_that_its_client_waited_for() {
    let failed = tried(refused(1, 100 * MS), MS / 10);
    let hidden = answer(9, 200, 130 * MS, 31 * MS);
    assert_eq!(loose(&[failed.clone(), hidden]), ["1: retried 200"]);
    let long_before = answer(9, 200, 130 * MS, 90 * MS);
    assert_eq!(loose(&[failed, long_before]), ["1: nobody"]);
    let reset = of("/a", up(1, Kind::Reset, 100 * MS));
    let same = of("/a", answer(9, 200, 130 * MS, 90 * MS));
    let other = of("/b", answer(9, 200, 130 * MS, 36 * MS));
    assert_eq!(loose(&[reset.clone(), same]), ["1: retried 200"]);
    assert_eq!(loose(&[reset, other]), ["1: nobody"]);
}

#[test]
fn a_head_that_was_relayed_is_cut_and_not_hidden() {
    let cut = Event {
        status: Some(200),
        phase: Phase::Response,
        response_bytes: 200,
        framing: ingress_trace_common::http::framing::LENGTH,
        ..up(1, Kind::Closed, 100 * MS)
    };
    let relayed = answer(9, 200, 101 * MS, 7 * MS);
    assert_eq!(loose(&[cut.clone(), relayed.clone()]), ["1: cut 200"]);
    let head_only = Event {
        framing: ingress_trace_common::http::framing::HEAD_CUT,
        ..cut
    };
    assert_eq!(loose(&[head_only, relayed]), ["1: retried 200"]);
}

#[test]
fn all_attempts_of_a_request_share_its_ending() {
    let attempt = |cookie, time| tried(refused(cookie, time), MS / 10);
    let events = [
        attempt(1, 100 * MS),
        attempt(2, 1100 * MS),
        attempt(3, 2100 * MS),
        answer(9, 503, 2101 * MS, 2001 * MS + MS / 2),
    ];
    let all = ["1: answered 503", "2: answered 503", "3: answered 503"];
    assert_eq!(bound(&events), all);
}

#[test]
fn clients_that_wait_for_one_connect_share_its_failure_and_each_is_told_once() {
    // Envoy answers all who wait when the first connect fails; the others fail later, for nobody.
    let events = [
        tried(refused(1, 500 * MS), 400 * MS),
        answer(8, 503, 500 * MS + MS / 10, 401 * MS),
        answer(9, 503, 500 * MS + MS / 5, 301 * MS),
        tried(refused(2, 600 * MS), 400 * MS),
    ];
    assert_eq!(
        bound(&events),
        ["1: answered 503", "1: answered 503", "2: nobody"]
    );
}

#[test]
fn a_client_that_left_is_no_victim() {
    let gave_up = released(up(1, Kind::GaveUp, 100 * MS));
    let left = asked(down(9, Kind::DownEnd, 101 * MS), 94 * MS);
    let left = with(left, flag::FIN_IN);
    assert_eq!(bound(&[gave_up.clone(), left.clone()]), ["1: aborted"]);
    let reset = up(1, Kind::Reset, 100 * MS);
    assert_eq!(bound(&[reset, left]), ["1: unknown"]);
}

/// Bytes to a client that cannot be read, asked for this long before.
pub(super) fn bytes(time: u64, after: u64) -> Event {
    Event {
        status: None,
        request: None,
        response_bytes: 300,
        protocol: Some(crate::cause::taxonomy::Protocol::Tls),
        ..answer(9, 0, time, after)
    }
}

const MINUTE: u64 = 60_000 * MS;

/// What is told of the same thing when it happens once a minute, each minute in words.
fn each_minute(chain: Chain, events: impl Fn(u64, u64) -> Vec<Event>) -> Vec<Vec<String>> {
    let mut matcher = Matcher::new(WAITS);
    let minutes = (1..=6).map(|minute| {
        for event in events(minute, minute * MINUTE) {
            matcher.push(event, chain);
        }
        // The agent asks four times a second.
        let steps = (0..80).map(|step| minute * MINUTE + step * 250 * MS);
        steps
            .flat_map(|now| told(&mut matcher, now))
            .filter(|word| !word.is_empty())
            .collect()
    });
    minutes.collect()
}

#[test]
fn lonely_clients_that_cannot_be_read_are_told_however_slowly_they_ask() {
    for chain in [Chain::Thread, Chain::Pool, Chain::Process] {
        for lead in [MS / 2, 20 * MS, 200 * MS, 3000 * MS] {
            let all = each_minute(chain, |minute, time| {
                let reset = of("/a", tried(up(minute, Kind::Reset, time), MS));
                vec![reset, bytes(time + MS, lead + 2 * MS)]
            });
            for (minute, told) in (1..).zip(all) {
                assert_eq!(told.len(), 1, "{chain:?} {lead}");
                assert_ne!(told, [format!("{minute}: nobody")], "{chain:?} {lead}");
            }
        }
    }
}

#[test]
fn a_lonely_client_that_asks_on_a_beat_is_told_forever() {
    // Every two seconds; its request arrives slowly, and on a busy machine its answer is late at times.
    for chain in [Chain::Thread, Chain::Process] {
        let mut matcher = Matcher::new(WAITS);
        let mut findings = Vec::new();
        for number in 1..=40 {
            let time = number * 2000 * MS;
            let late = if number == 5 { 8 } else { 1 };
            let failed = of("/a", up(number, Kind::Closed, time));
            matcher.push(failed, chain);
            matcher.push(bytes(time + late * MS, 150 * MS + late * MS), chain);
            for step in 1..8 {
                findings.extend(told(&mut matcher, time + step * 250 * MS));
            }
        }
        findings.extend(told(&mut matcher, u64::MAX));
        let nobody = findings.iter().filter(|one| one.ends_with("nobody"));
        assert!(nobody.count() <= 1, "{chain:?} {findings:?}");
        assert_eq!(findings.len(), 40);
    }
}

#[test]
fn what_a_client_asks_next_is_no_retry_of_what_it_was_told_before() {
    use crate::event::example::after;
    // Its answer is not linked to the failure; the same thread serves its next request.
    let events = [
        of("/a", up(1, Kind::Closed, 100 * MS)),
        bytes(100 * MS + MS / 2, 7 * MS),
        after(1, up(2, Kind::Retry, 700 * MS)),
        of("/a", after(1, up(2, Kind::Response, 701 * MS))),
    ];
    assert_eq!(loose(&events), ["1: unknown"]);
    // What began like an answer and was cut is none, whenever its client was told.
    let attempt = |cookie, time| of("/a", up(cookie, Kind::Closed, time));
    let cut = [
        attempt(1, 100 * MS),
        bytes(108 * MS, 15 * MS),
        after(1, up(2, Kind::Retry, 350 * MS)),
        of("/a", after(1, up(2, Kind::Response, 351 * MS))),
        attempt(2, 352 * MS),
    ];
    assert_eq!(loose(&cut), ["1: unknown", "2: nobody"]);
    // A retry is one while its client waits.
    let retried = [
        attempt(1, 100 * MS),
        after(1, up(2, Kind::Retry, 350 * MS)),
        of("/a", after(1, up(2, Kind::Response, 351 * MS))),
        bytes(352 * MS, 259 * MS),
    ];
    assert_eq!(loose(&retried), ["1: retried 200"]);
}

#[test]
fn attempts_that_are_tried_again_for_long_are_no_checks() {
    // Five attempts within a second, then the answer: Caddy's lb_try_duration, Traefik's retries.
    let all = each_minute(Chain::Process, |minute, time| {
        let attempt = |number| refused(minute * 10 + number, time + number * 250 * MS);
        let mut events: Vec<_> = (0..5)
            .map(|number| tried(attempt(number), MS / 10))
            .collect();
        events.push(bytes(time + 1001 * MS, 1001 * MS + MS / 2));
        events
    });
    for (minute, told) in (1..).zip(all) {
        let last = format!("{}: unknown", minute * 10 + 4);
        assert!(told.contains(&last), "{minute}: {told:?}");
    }
}

#[test]
fn retries_on_a_beat_are_no_checks_once_their_client_is_known() {
    // HAProxy with ten retries, a second between them; their client under TLS is told of the last one.
    let attempt = |number| tried(refused(number, 100_000 * MS + number * 1001 * MS), MS / 10);
    let mut matcher = Matcher::new(WAITS);
    let mut findings = Vec::new();
    for number in 1..=10 {
        let failed = attempt(number);
        let time = failed.time;
        matcher.push(failed, Chain::Thread);
        if number == 10 {
            matcher.push(bytes(time + MS, 9 * 1001 * MS + 2 * MS), Chain::Thread);
        }
        findings.extend(told(&mut matcher, time + 900 * MS));
    }
    findings.extend(told(&mut matcher, 200_000 * MS));
    let last = findings.iter().find(|one| one.starts_with("10: "));
    assert_eq!(
        last.map(String::as_str),
        Some("10: unknown"),
        "{findings:?}"
    );
    // Nothing was learnt: the next one is told as well.
    let failed = attempt(110);
    let time = failed.time;
    matcher.push(failed, Chain::Thread);
    matcher.push(bytes(time + MS, 2 * MS), Chain::Thread);
    assert_eq!(told(&mut matcher, u64::MAX), ["110: answered -"]);
}

#[test]
fn a_check_is_learnt_beside_clients_that_ask_for_long() {
    // Its answer comes long behind each check's failure, and each was asked for long before.
    let long = |time| bytes(time + 400 * MS, 800 * MS);
    let mut busy = Matcher::new(WAITS);
    for number in 1..=3 {
        let time = number * MINUTE;
        busy.push(tried(refused(number, time), MS / 10), Chain::Process);
        busy.push(long(time), Chain::Process);
        assert_eq!(
            told(&mut busy, time + 20_000 * MS),
            [format!("{number}: nobody")]
        );
    }
    // Now one that asks just when it fails does not make it a failure.
    busy.push(tried(refused(4, 4 * MINUTE), MS / 10), Chain::Process);
    busy.push(bytes(4 * MINUTE + MS, 2 * MS), Chain::Process);
    assert_eq!(told(&mut busy, u64::MAX), ["4: nobody"]);
}

#[test]
fn an_error_that_no_failure_explains_is_the_controllers_own() {
    assert_eq!(bound(&[answer(9, 503, 100 * MS, MS)]), ["9: answered 503"]);
    let relayed = Event {
        status: Some(503),
        ..up(1, Kind::Response, 99 * MS)
    };
    let events = [relayed, answer(9, 503, 100 * MS, 8 * MS)];
    assert_eq!(bound(&events), ["1: answered 503"]);
    assert_eq!(bound(&[answer(9, 200, 100 * MS, MS)]), [""; 0]);
}

#[test]
fn what_is_open_is_bounded_and_what_is_told_early_is_counted() {
    let mut matcher = Matcher::new(WAITS);
    let most = MOST_OPEN as u64;
    for cookie in 1..=most + 3 {
        let flags = Flags(0);
        let event = Event {
            flags,
            ..up(cookie, Kind::Reset, 100 * MS + cookie)
        };
        matcher.push(event, Chain::Thread);
    }
    assert_eq!(matcher.settled(101 * MS).len(), 3);
    assert_eq!(matcher.evicted, 3);
    assert_eq!(matcher.settled(u64::MAX).len(), MOST_OPEN);
}

#[test]
fn a_client_that_waited_in_a_queue_is_not_told_of_a_check_that_failed_meanwhile() {
    // HAProxy: the check's thread then answers the client; `prev` is a hint only.
    let queued = |cookie, lag: u64| {
        let answer = answer(9, 503, 400 * MS + lag, 400 * MS + lag - 10 * MS);
        let answer = crate::event::example::after(cookie, answer);
        Event {
            request: Some(crate::event::example::get()),
            ..answer
        }
    };
    let check = tried(refused(1, 400 * MS), MS / 10);
    let mut haproxy = matcher(&[check.clone(), queued(1, 30 * MS)], Chain::Thread);
    let apart = ["1: nobody", "9: answered 503"];
    assert_eq!(told(&mut haproxy, u64::MAX), apart);
    // Behind a queue it may fail to connect, too: then it is told at once.
    let mut haproxy = matcher(&[check, queued(1, MS)], Chain::Thread);
    assert_eq!(told(&mut haproxy, u64::MAX), ["1: answered 503"]);
}

#[test]
fn what_fails_on_a_beat_is_a_check_however_many_clients_there_are() {
    let (mut matcher, every) = (Matcher::new(WAITS), 2000 * MS);
    let mut findings = Vec::new();
    for number in 1..=12 {
        let time = number * every;
        // Its client cannot be read and asked just before, but for the first one.
        matcher.push(tried(refused(number, time), MS / 10), Chain::Thread);
        if number > 1 {
            let mut bytes = answer(100 + number, 0, time + 8 * MS, 9 * MS);
            bytes.status = None;
            bytes.protocol = Some(Protocol::Tls);
            matcher.push(bytes, Chain::Thread);
        }
        findings.extend(told(&mut matcher, time + 1000 * MS));
    }
    findings.extend(told(&mut matcher, 60_000 * MS));
    findings.sort();
    let nobody: Vec<_> = findings
        .iter()
        .filter(|one| one.ends_with("nobody"))
        .collect();
    // The beat is known from the sixth on.
    assert_eq!(findings.len(), 12);
    assert!(nobody.len() >= 7, "{findings:?}");
    // A client that fails between two beats is told of it.
    let failed = tried(refused(50, 61_000 * MS), MS / 10);
    matcher.push(failed, Chain::Thread);
    matcher.push(answer(60, 503, 61_000 * MS + MS, 2 * MS), Chain::Thread);
    assert_eq!(told(&mut matcher, u64::MAX), ["50: answered 503"]);
}

#[test]
fn a_connect_beside_a_success_is_nobodys_where_others_of_its_kind_were() {
    let connect = |number, time| tried(refused(number, time), MS / 10);
    let success = |time| answer(9, 200, time + 2 * MS, 3 * MS);
    let beside = [connect(1, 2000 * MS), success(2000 * MS)];
    // Alone a second later: a check.
    let mut checked = matcher(&beside, Chain::Process);
    assert_eq!(told(&mut checked, 2900 * MS), [""; 0]);
    checked.push(connect(2, 3000 * MS), Chain::Process);
    assert_eq!(told(&mut checked, 3900 * MS), ["1: nobody"]);
    // Or before.
    checked.push(connect(3, 4000 * MS), Chain::Process);
    checked.push(success(4000 * MS), Chain::Process);
    assert_eq!(told(&mut checked, 4900 * MS), ["3: nobody"]);
    // Never alone: a client's, once there was time enough to know.
    let mut asked = matcher(&beside, Chain::Process);
    assert_eq!(told(&mut asked, 6900 * MS), [""; 0]);
    assert_eq!(told(&mut asked, 7100 * MS), ["1: retried 200"]);
    // Where a request stays on its thread, that tells.
    let mut bound = matcher(&beside, Chain::Thread);
    assert_eq!(told(&mut bound, 2900 * MS), ["1: retried 200"]);
}

#[test]
fn an_error_keeps_its_failure_though_the_thread_served_another_request_first() {
    let failed = tried(refused(1, 100 * MS), MS / 50);
    let next = of("/b", up(2, Kind::Retry, 100 * MS + MS / 50));
    let answered = of("/b", up(2, Kind::Response, 100 * MS + MS / 10));
    let error = of("/a", answer(11, 503, 102 * MS, 3 * MS));
    let other = of("/b", answer(12, 200, 102 * MS, 2 * MS + MS / 2));
    let [next, answered] = [next, answered].map(|event| after(1, event));
    let events = [failed, next, answered, error, other];
    assert_eq!(bound(&events), ["1: answered 503"]);
    // HAProxy tries again at once; who waited in its queue is told of that.
    let bound = told(&mut matcher(&events, Chain::Thread), u64::MAX);
    assert_eq!(bound, ["11: answered 503", "1: retried 200"]);
}
