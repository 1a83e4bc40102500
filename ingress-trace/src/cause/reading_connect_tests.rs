//! In: connects that failed or were given up. Out: proof of which outcome each is.
use super::*;

#[test]
fn an_errno_tells_how_a_connect_failed() {
    let table = [
        (111, Outcome::ConnectRefused),
        (104, Outcome::ConnectRefused),
        (110, Outcome::ConnectTimeout),
        (113, Outcome::ConnectUnreachable),
        (101, Outcome::ConnectUnreachable),
        (13, Outcome::ConnectLocal),
    ];
    for (errno, right) in table {
        for ending in [Ending::Unknown, Ending::Aborted, answered(Some(502))] {
            assert_eq!(
                outcome(connect(Some(errno)), ending),
                Some(right),
                "errno {errno}"
            );
        }
    }
}

#[test]
fn a_connect_given_up_is_a_timeout_only_if_the_client_or_a_timer_says_so() {
    assert_eq!(
        outcome(connect(None), answered(Some(504))),
        Some(Outcome::ConnectTimeout)
    );
    // Before any timer that a controller has, its client had left, whoever came next.
    assert_eq!(outcome(connect(None), Ending::Retried(Some(200))), None);
    assert_eq!(outcome(connect(None), answered(None)), None);
    let waited = Event {
        connect_time: Some(AT - 401 * MS),
        ..connect(None)
    };
    assert_eq!(
        outcome(waited, Ending::Retried(Some(200))),
        Some(Outcome::ConnectTimeout)
    );
    assert_eq!(outcome(connect(None), Ending::Aborted), None);
    assert_eq!(outcome(connect(None), Ending::Unknown), None);
    let timer = Event {
        connect_time: Some(AT - 5_001 * MS),
        ..connect(None)
    };
    assert_eq!(
        outcome(timer.clone(), Ending::Unknown),
        Some(Outcome::ConnectTimeout)
    );
    assert_eq!(outcome(timer, Ending::Aborted), None);
}

#[test]
fn a_connect_that_failed_before_any_packet_is_local_or_without_route() {
    let local = |errno| Event {
        errno: Some(errno),
        ..up(1, Kind::ConnectLocal, AT)
    };
    assert_eq!(
        outcome(local(99), Ending::Unknown),
        Some(Outcome::ConnectLocal)
    );
    assert_eq!(
        outcome(local(101), Ending::Unknown),
        Some(Outcome::ConnectUnreachable)
    );
}
