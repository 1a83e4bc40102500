//! In: a pod's objects as the API tells them, early and late. Out: proof of what the pod was at a
//! time, by the objects' own times, and of what is left open within their seconds.
use super::super::example::{at, condition, index, pod, shop};
use super::*;
use crate::cluster::object::{Container, Object};

fn first() -> Pod {
    pod("cart-x", "u-1", "10.1.0.3", at(-60_000))
}

fn deleted(asked: i64) -> Pod {
    Pod {
        deletion: Some(at(asked + 30_000)),
        grace: Some(30),
        ..first()
    }
}

fn then(changes: &[(i64, Pod)], ms: i64) -> PodThen {
    let mut index = index();
    for (learned, pod) in changes {
        index.apply(Object::Pod(pod.clone()), at(*learned));
    }
    index.pod(&shop("cart-x"), at(ms)).expect("a pod")
}

fn since(ms: i64, exact: bool) -> Since {
    Since { at: at(ms), exact }
}

#[test]
fn a_deletion_counts_from_when_it_was_asked_for() {
    let changes = [(0, first()), (5_400, deleted(5_000))];
    assert_eq!(then(&changes, 3_000).terminating, None);
    // Learned afterwards, its own time is before; within its second nobody can say.
    assert_eq!(then(&changes, 5_300).terminating, Some(since(5_000, false)));
    let late = [(0, first()), (8_000, deleted(5_000))];
    assert_eq!(then(&late, 6_500).terminating, Some(since(5_000, true)));
    assert_eq!(then(&late, 4_900).terminating, None);
    // Learned before, it is sure.
    assert_eq!(then(&changes, 5_450).terminating, Some(since(5_000, true)));
}

#[test]
fn readiness_counts_by_its_own_time_and_is_open_within_its_second() {
    let unready = Pod {
        ready: Some(condition(false, at(5_000))),
        ..first()
    };
    let changes = [(0, first()), (7_000, unready)];
    let at_time = |ms| {
        let then = then(&changes, ms);
        (then.ready, then.ready_since)
    };
    assert_eq!(at_time(4_000), (Some(true), Some(at(-60_000))));
    assert_eq!(at_time(5_500), (None, Some(at(5_000))));
    assert_eq!(at_time(6_500), (Some(false), Some(at(5_000))));
    assert_eq!(at_time(9_000), (Some(false), Some(at(5_000))));
}

#[test]
fn the_ends_of_containers_are_told_once_also_when_they_come_late() {
    let ended = State::Terminated {
        reason: "OOMKilled".into(),
        code: 137,
        started: Some(at(-60_000)),
        finished: Some(at(5_000)),
    };
    let with = |state: State, last: State| Pod {
        containers: vec![Container {
            name: "app".into(),
            state,
            last,
            ..Container::default()
        }],
        ..first()
    };
    let changes = [
        (0, first()),
        (6_000, with(ended.clone(), State::None)),
        (
            7_000,
            with(State::Waiting("CrashLoopBackOff".into()), ended.clone()),
        ),
        (9_000, with(State::Running(Some(at(8_000))), ended)),
    ];
    let then = then(&changes, 5_500);
    assert_eq!(then.pod.containers, Vec::new());
    assert_eq!(then.newest.containers.len(), 1);
    let [end] = then.ended.as_slice() else {
        panic!("{:?}", then.ended);
    };
    assert_eq!((&*end.reason, end.code), ("OOMKilled", 137));
    assert_eq!((&*end.container, end.finished), ("app", Some(at(5_000))));
}

#[test]
fn the_next_pod_of_the_same_name_is_another() {
    let next = pod("cart-x", "u-2", "10.1.0.9", at(10_000));
    let changes = [(0, first()), (12_000, next)];
    let before = then(&changes, 9_000);
    assert_eq!((&*before.pod.uid, before.standing), ("u-1", Standing::Held));
    assert_eq!(&*before.newest.uid, "u-1");
    let between = then(&changes, 11_000);
    assert_eq!(&*between.pod.uid, "u-1");
    assert_eq!(between.standing, Standing::Gone(since(10_000, false)));
    assert_eq!(&*then(&changes, 13_000).pod.uid, "u-2");
}

#[test]
fn a_pod_that_is_fetched_late_was_there_if_it_had_been_created() {
    let changes = [(9_000, first())];
    assert_eq!(then(&changes, 5_000).standing, Standing::Held);
    assert_eq!(then(&changes, 5_000).ready, Some(true));
    let later = then(&changes, -70_000);
    assert_eq!(later.standing, Standing::Later(since(9_000, true)));
    assert_eq!(later.ready, None);
}

#[test]
fn a_pod_that_was_deleted_is_told_as_gone() {
    let mut index = index();
    index.apply(Object::Pod(first()), at(0));
    index.delete(
        crate::cluster::object::Kind::Pod,
        &shop("cart-x"),
        at(5_000),
    );
    let then = index.pod(&shop("cart-x"), at(6_000)).expect("a pod");
    assert_eq!(then.standing, Standing::Gone(since(5_000, true)));
    assert_eq!(index.pod(&shop("other"), at(6_000)), None);
    index.forget(at(5_000));
    assert_eq!(index.pod(&shop("cart-x"), at(6_000)), None);
}
