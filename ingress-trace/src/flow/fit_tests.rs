//! In: an attempt and a client. Out: proof of how far they are from each other.
use super::*;
use crate::event::example::{MS, after, down, refused};

#[test]
fn an_error_is_not_of_what_a_controller_asks_for_itself_between_a_failure_and_its_answer() {
    let client = Event {
        request_time: Some(99 * MS),
        ..after(2, down(9, Kind::Response, 102 * MS))
    };
    let distance = |cookie, time, unrouted, own| {
        let event = Event {
            unrouted,
            connect_time: Some(time - MS / 2),
            ..refused(cookie, time)
        };
        let attempt = Attempt {
            event: &event,
            released: None,
            thread: None,
            chain: Chain::Pool,
            retry: None,
            retried: None,
        };
        attempt.distance(&client, own)
    };
    let failed = distance(1, 100 * MS, false, false);
    let traces = |unrouted, own| distance(2, 101 * MS, unrouted, own);
    assert!(traces(false, false) < failed, "nothing tells but the link");
    assert!(failed < traces(true, false) && failed < traces(false, true));
    assert!(traces(true, true).is_some(), "it may be a client's");
}
