//! In: successes and failures of backends in any order. Out: proof that what is told of their past is
//! what happened, that siblings are told apart, and that memory is bounded.
use proptest::prelude::*;

use super::*;

fn at(pod: u8) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, pod], 8080))
}

fn cart() -> Name {
    Name::new("shop", "cart")
}

fn answers(answers: u64) -> Successes {
    Successes {
        answers,
        ..Successes::default()
    }
}

const S: u64 = 1_000_000_000;

const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[test]
fn the_last_success_before_a_failure_is_told_and_never_a_later_one() {
    let mut pasts = Pasts::default();
    pasts.note([(at(1), answers(0))], |_| None, S);
    pasts.note([(at(1), answers(5))], |_| None, 2 * S);
    pasts.note([(at(1), answers(5))], |_| None, 3 * S);
    pasts.note([(at(1), answers(6))], |_| None, 9 * S);
    let ask = |time| pasts.ask(at(1), Outcome::ConnectRefused, time);
    assert_eq!(ask(S).last_success, None);
    assert_eq!(ask(3 * S).last_success, Some(seconds(2)));
    // The counts were not read for a while.
    assert_eq!(ask(10 * S).last_success, Some(seconds(7)));
    assert_eq!(ask(10 * S).watched, Duration::from_secs(9));
}

#[test]
fn within_a_time_of_success_the_last_one_was_within_two_ticks() {
    let mut pasts = Pasts::default();
    for second in 1..=20 {
        pasts.note([(at(1), answers(second))], |_| None, second * S);
    }
    let ask = |time| pasts.ask(at(1), Outcome::Reset, time).last_success;
    assert_eq!(ask(10 * S + S / 2), Some(seconds(2)));
    assert_eq!(ask(22 * S), Some(seconds(3)), "within the last tick");
}

#[test]
fn a_count_that_starts_again_is_no_success_until_it_grows() {
    let mut pasts = Pasts::default();
    pasts.note([(at(1), answers(9))], |_| None, S);
    pasts.note([(at(1), answers(2))], |_| None, 5 * S);
    let past = pasts.ask(at(1), Outcome::Reset, 6 * S);
    assert_eq!(past.last_success, Some(seconds(5)));
    pasts.note([(at(1), answers(3))], |_| None, 6 * S);
    let past = pasts.ask(at(1), Outcome::Reset, 8 * S);
    assert_eq!(past.last_success, Some(seconds(3)));
}

#[test]
fn a_connect_is_success_only_for_who_failed_to_connect() {
    let mut pasts = Pasts::default();
    let connects = |connects| Successes {
        connects,
        answers: 0,
    };
    pasts.note(
        [(at(1), connects(1)), (at(2), connects(1))],
        |_| Some(cart()),
        S,
    );
    pasts.note(
        [(at(1), connects(2)), (at(2), connects(2))],
        |_| Some(cart()),
        2 * S,
    );
    let refused = pasts.ask(at(1), Outcome::ConnectRefused, 3 * S);
    assert_eq!(
        (refused.last_success, refused.siblings_fine),
        (Some(seconds(2)), 1)
    );
    let reset = pasts.ask(at(1), Outcome::Reset, 3 * S);
    assert_eq!((reset.last_success, reset.siblings_fine), (None, 0));
}

#[test]
fn what_was_never_seen_has_no_past() {
    let past = Pasts::default().ask(at(1), Outcome::Reset, S);
    assert_eq!(past, Past::default());
}

#[test]
fn siblings_are_other_addresses_of_the_same_service_near_in_time() {
    let mut pasts = Pasts::default();
    let other = |address| {
        Some(if address == at(9) {
            Name::new("shop", "web")
        } else {
            cart()
        })
    };
    pasts.note((1..10).map(|pod| (at(pod), answers(1))), other, 20 * S);
    // Fine, and failed in the same way: failed.
    pasts.failed(at(2), Outcome::ConnectRefused, Some(cart()), 21 * S);
    // In another way, and too long before.
    pasts.failed(at(3), Outcome::Reset, Some(cart()), 21 * S);
    pasts.failed(at(4), Outcome::ConnectRefused, Some(cart()), S);
    pasts.failed(at(1), Outcome::ConnectRefused, Some(cart()), 22 * S);
    let past = pasts.ask(at(1), Outcome::ConnectRefused, 22 * S);
    assert_eq!((past.siblings_fine, past.siblings_failed), (6, 1));
    let late = pasts.ask(at(1), Outcome::ConnectRefused, 90 * S);
    assert_eq!((late.siblings_fine, late.siblings_failed), (0, 0));
}

#[test]
fn a_pod_with_two_ports_is_one_sibling() {
    let mut pasts = Pasts::default();
    let second = SocketAddr::new(at(2).ip(), 9090);
    pasts.note(
        [
            (at(1), answers(1)),
            (at(2), answers(1)),
            (second, answers(1)),
        ],
        |_| Some(cart()),
        S,
    );
    let ask = |pasts: &Pasts| {
        let past = pasts.ask(at(1), Outcome::Reset, S);
        (past.siblings_fine, past.siblings_failed)
    };
    assert_eq!(ask(&pasts), (1, 0));
    pasts.failed(second, Outcome::Reset, Some(cart()), S);
    assert_eq!(ask(&pasts), (0, 1));
}

#[test]
fn an_address_that_another_service_took_over_is_no_sibling_any_more() {
    let mut pasts = Pasts::default();
    pasts.note(
        [(at(1), answers(1)), (at(2), answers(1))],
        |_| Some(cart()),
        S,
    );
    pasts.note(
        [(at(2), answers(2))],
        |_| Some(Name::new("shop", "web")),
        2 * S,
    );
    let past = pasts.ask(at(1), Outcome::Reset, 2 * S);
    assert_eq!((past.siblings_fine, past.siblings_failed), (0, 0));
}

#[test]
fn the_most_recent_are_kept_where_there_is_no_room_for_all() {
    let mut pasts = Pasts::default();
    let all = |number: u32| SocketAddr::from((number.to_be_bytes(), 80));
    for number in 0..MOST as u32 + 10 {
        pasts.note(
            [(all(number), answers(1))],
            |_| Some(cart()),
            u64::from(number + 1),
        );
    }
    assert!(pasts.len() <= MOST);
    assert_eq!(pasts.services[&cart()].len(), pasts.len());
    let known = |number| pasts.backends.contains_key(&all(number));
    assert!(!known(0) && known(MOST as u32 / 16) && known(MOST as u32 + 9));
}

proptest! {
    /// `true` is a second with a success.
    #[test]
    fn a_success_is_told_exactly_where_there_was_one_before(history in prop::collection::vec(any::<bool>(), 1..40)) {
        let mut pasts = Pasts::default();
        let mut total = 0;
        pasts.note([(at(1), answers(0))], |_| None, S);
        let mut last: Option<u64> = None;
        for (index, fine) in history.iter().enumerate() {
            let now = (index as u64 + 2) * S;
            total += u64::from(*fine);
            pasts.note([(at(1), answers(total))], |_| None, now);
            if *fine {
                last = Some(now);
            }
            // Right after this second.
            let told = pasts.ask(at(1), Outcome::Reset, now + 1).last_success;
            // Within its second, or at its end.
            let most = last.map(|last| Duration::from_nanos(now + 1 - last + S));
            prop_assert_eq!(told, most);
        }
    }
}
