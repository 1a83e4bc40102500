//! In: findings. Out: proof that each object and cause has one Event, that its count goes on, and that a
//! storm sends no more than its share.
use super::*;
use crate::sinks::example;

fn subject(number: usize) -> Subject {
    Subject {
        kind: "Pod",
        name: Name::new("shop", &format!("cart-{number}")),
        uid: format!("uid-{number}").into(),
    }
}

fn finding(cause: Cause, seconds: i64) -> Finding {
    let start: Timestamp = "2026-01-01T00:00:00.25Z".parse().expect("a time");
    Finding {
        cause,
        time: start + SignedDuration::from_secs(seconds),
        evidence: vec!["one".into(), "two".into()],
        fix: vec!["kubectl x".into()],
        ..example()
    }
}

struct World {
    notices: Notices,
    start: Instant,
}

impl World {
    fn new() -> Self {
        let start = Instant::now();
        let notices = Notices::new("n1", start);
        Self { notices, start }
    }

    fn fail(&mut self, pod: usize, cause: Cause, seconds: i64) {
        self.notices.note(subject(pod), &finding(cause, seconds));
    }

    /// The name of a pod's only Event.
    fn name(&self, pod: usize) -> String {
        let mut all = self.notices.series.values();
        let one = all.find(|series| series.subject == subject(pod));
        one.expect("it has one").name.clone()
    }

    fn due(&mut self, seconds: u64) -> Vec<Post> {
        let wall = finding(Cause::Unknown, seconds.cast_signed()).time;
        let now = self.start + Duration::from_secs(seconds);
        self.notices.due(now, wall)
    }
}

#[test]
fn a_new_cause_is_an_event_that_kubectl_finds_at_its_object() {
    let mut world = World::new();
    world.fail(1, Cause::PodTerminating, 0);
    let posts = world.due(0);
    let [Post::Create(namespace, event)] = &posts[..] else {
        panic!("{posts:?}");
    };
    assert_eq!(&**namespace, "shop");
    assert_eq!(event["reason"], "PodTerminating");
    assert_eq!(event["eventTime"], "2026-01-01T00:00:00.250000Z");
    assert_eq!(event["note"], "502: one; two. Fix: kubectl x");
    let regarding = json!({"apiVersion": "v1", "kind": "Pod", "namespace": "shop", "name": "cart-1",
        "uid": "uid-1"});
    assert_eq!(event["regarding"], regarding);
}

#[test]
fn what_goes_on_is_counted_in_the_same_event_once_a_minute() {
    let mut world = World::new();
    for second in 0..130 {
        world.fail(1, Cause::WrongPort, second);
        let posts = world.due(second.cast_unsigned());
        let changes = posts.iter().filter_map(|post| match post {
            Post::Change(_, body) => body["series"]["count"].as_u64(),
            Post::Create(..) => None,
        });
        let expected: &[u64] = match second {
            60 => &[61],
            120 => &[121],
            _ => &[],
        };
        assert_eq!(changes.collect::<Vec<_>>(), expected);
        assert_eq!(posts.len(), expected.len() + usize::from(second == 0));
    }
}

#[test]
fn other_causes_and_objects_and_what_comes_back_after_a_pause_have_events_of_their_own() {
    let mut world = World::new();
    world.fail(1, Cause::WrongPort, 0);
    world.fail(1, Cause::BackendReset, 0);
    world.fail(2, Cause::WrongPort, 0);
    assert_eq!(world.due(0).len(), 3);
    world.fail(1, Cause::WrongPort, 600);
    let posts = world.due(600);
    assert!(matches!(&posts[..], [Post::Create(..)]), "{posts:?}");
    world.due(1201);
    assert!(world.notices.series.is_empty());
}

#[test]
fn a_storm_sends_its_share_and_what_is_dropped_is_counted_and_told_when_it_goes_on() {
    let mut world = World::new();
    for pod in 0..50 {
        world.fail(pod, Cause::WrongPort, 0);
    }
    assert_eq!(world.due(0).len(), 10);
    assert_eq!(world.notices.dropped, 40);
    for pod in 0..50 {
        world.fail(pod, Cause::WrongPort, 3);
    }
    assert_eq!(world.due(3).len(), 3);
    assert_eq!(world.notices.dropped, 77);
}

#[test]
fn what_has_come_since_is_told_at_the_end() {
    let mut world = World::new();
    world.fail(1, Cause::WrongPort, 0);
    assert_eq!(world.due(0).len(), 1);
    (1..5).for_each(|second| world.fail(1, Cause::WrongPort, second));
    world.fail(2, Cause::BackendReset, 5);
    assert_eq!(world.notices.rest(world.start), {
        let mut same = World::new();
        same.fail(2, Cause::BackendReset, 5);
        let mut posts = same.due(5);
        let name = Name::new("shop", &world.name(1));
        let series = json!({"count": 5, "lastObservedTime": "2026-01-01T00:00:04.250000Z"});
        posts.push(Post::Change(name, json!({ "series": series })));
        posts
    });
    assert!(world.notices.rest(world.start).is_empty());
    assert_eq!(world.notices.dropped, 0);
}

#[test]
fn at_the_end_too_no_more_than_a_burst_is_sent_and_the_rest_is_counted() {
    let mut world = World::new();
    (0..8).for_each(|pod| world.fail(pod, Cause::WrongPort, 0));
    assert_eq!(world.due(0).len(), 8);
    (0..15).for_each(|pod| world.fail(pod, Cause::WrongPort, 1));
    let posts = world.notices.rest(world.start);
    let created = posts.iter().filter(|post| matches!(post, Post::Create(..)));
    assert_eq!((created.count(), posts.len()), (7, 10));
    assert_eq!(world.notices.dropped, 5);
}

#[test]
fn series_are_bounded() {
    let mut world = World::new();
    for pod in 0..2 * MOST {
        world.fail(
            pod,
            Cause::WrongPort,
            i64::try_from(pod).expect("small") / 100,
        );
    }
    assert_eq!(world.notices.series.len(), MOST);
    assert_eq!(world.notices.dropped, MOST as u64);
}

#[test]
fn a_note_is_as_long_as_the_api_takes_and_keeps_its_fix() {
    let long = Finding {
        evidence: vec!["ü".repeat(900)],
        ..finding(Cause::WrongPort, 0)
    };
    let text = note(&long);
    assert!(
        text.len() <= LONGEST && text.ends_with(". Fix: kubectl x"),
        "{text}"
    );
}

#[test]
fn each_cause_is_a_reason_in_camel_case() {
    for &cause in Cause::ALL {
        let reason = reason(cause);
        assert!(reason.chars().all(char::is_alphanumeric), "{reason}");
        assert!(reason.starts_with(char::is_uppercase), "{reason}");
    }
    assert_eq!(reason(Cause::IngressFdsExhausted), "IngressFdsExhausted");
}
