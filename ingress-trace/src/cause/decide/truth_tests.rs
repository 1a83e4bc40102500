//! In: worlds in which a cause is true, with all that follows from it. Out: proof that whatever part of
//! it is known, the verdict is that cause, `unknown`, or one that less evidence allows, and that what is
//! certain is true and stays so when more is known.
use std::time::Duration;

use proptest::prelude::*;

use super::world::{
    AT, IP, World, app, calm, delete, ended, late, lost, raced, refused, reset, silent, unrouted,
    up,
};
use super::*;
use crate::cause::evidence::Shortage;
use crate::cause::facts::{Inside, Past};
use crate::cause::reading::errno;
use crate::cluster::index::example::{at, condition, not_ready, ready, slice, terminating};
use crate::event::example::{MS, up as event};
use crate::event::{Event, Flags, Kind, Strange};
use crate::flow::Ending;
use crate::limits::{Limits, Memory, Pressure, ProcessUsage, Queue, Throttling, Usage};

/// What is left to chance in a world.
#[derive(Clone, Copy, Debug)]
struct Dice {
    /// Which of several outcomes.
    outcome: usize,
    /// Which of several ways to the same.
    way: usize,
    /// Milliseconds.
    delay: i64,
}

/// Which part of a world is known.
#[derive(Clone, Copy, Debug)]
struct Known {
    api: bool,
    pods: bool,
    nodes: bool,
    inside: bool,
    past: bool,
    shortage: bool,
}

fn one_of(worlds: &[fn() -> World], dice: Dice) -> World {
    worlds[dice.outcome % worlds.len()]()
}

const ENDED: &[fn() -> World] = &[refused, reset, raced];
const UNANSWERED: &[fn() -> World] = &[silent, lost];
const ANY: &[fn() -> World] = &[refused, reset, raced, silent, lost];

fn watched(last_success: Option<u64>) -> Past {
    Past {
        last_success: last_success.map(Duration::from_millis),
        watched: Duration::from_secs(55),
        ..Past::default()
    }
}

fn usage(used: u64, limit: u64) -> ProcessUsage {
    ProcessUsage {
        pid: 7,
        usage: Usage { used, limit },
    }
}

fn short(change: impl FnOnce(&mut Limits)) -> Shortage {
    let mut limits = Limits::default();
    change(&mut limits);
    Shortage {
        limits: Some(limits),
        span: Duration::from_secs(5),
        ports: None,
    }
}

fn throttled(millis: u64) -> Throttling {
    Throttling {
        periods: 30,
        nanos: millis * MS,
        ..Throttling::default()
    }
}

/// A world in which this is why.
fn world(cause: Cause, dice: Dice) -> World {
    match cause {
        Cause::NoEndpoints => no_endpoints(dice),
        Cause::BackendNotReady => unready(dice),
        Cause::BackendCrashed => crashed(dice),
        Cause::BackendTimeout => late().inside(calm()).past(watched(Some(900))),
        Cause::PodTerminating => terminates(dice),
        Cause::StaleEndpoint => stale(dice),
        Cause::WrongPort => wrong_port(),
        Cause::BackendOomKilled => killed(dice),
        Cause::BackendOverloaded => overloaded(dice),
        Cause::IngressPortsExhausted => World::new(local(errno::EADDRNOTAVAIL), Ending::Unknown),
        Cause::IngressFdsExhausted => World {
            shortage: short(|limits| limits.descriptors = Some(usage(1_024, 1_024))),
            ..unrouted()
        },
        Cause::IngressOverloaded => {
            let mut world = if dice.way == 0 { unrouted() } else { late() };
            world.event.unread = 100;
            let throttling = Some(("/pod".into(), throttled(4_000)));
            world.shortage = short(|limits| limits.throttling = throttling);
            world.inside(calm())
        }
        Cause::KeepaliveRace => raced().inside(calm()).past(watched(Some(5_000))),
        Cause::BackendReset => reset().inside(calm()).past(watched(Some(100))),
        Cause::PrematureClose => {
            World::new(event(1, Kind::Closed, AT), Ending::Unknown).inside(calm())
        }
        Cause::ProtocolError => World::new(garbage(), Ending::Unknown).inside(calm()),
        Cause::NetworkUnreachable => network(dice),
        Cause::NodeNotReady => node_down(dice),
        Cause::UpstreamError => World::new(
            Event {
                status: Some(503),
                ..event(1, Kind::Response, AT)
            },
            Ending::Unknown,
        ),
        // Nothing is wrong, and yet it failed.
        Cause::Unknown => one_of(&[refused, unrouted], dice),
    }
}

fn local(errno: u32) -> Event {
    Event {
        errno: Some(errno),
        flags: Flags(0),
        ..event(1, Kind::ConnectLocal, AT)
    }
}

fn garbage() -> Event {
    let flag = ingress_trace_common::sample::flag::NOT_HTTP;
    Event {
        strange: Some(Strange::Unknown),
        ..crate::event::example::with(event(1, Kind::Response, AT), flag)
    }
}

fn no_endpoints(dice: Dice) -> World {
    let left = match dice.way {
        0 => vec![],
        1 => vec![not_ready(IP, "cart-x")],
        _ => vec![terminating(IP, "cart-x")],
    };
    let mut world = one_of(&[unrouted, refused], dice).endpoints(59_000 - dice.delay, &left);
    if dice.outcome % 2 == 1 {
        world.event.remote = "10.96.0.9:80".parse().expect("an address");
    }
    world
}

fn unready(dice: Dice) -> World {
    let worlds: &[fn() -> World] = &[refused, reset, late];
    let since = 50_000 - dice.delay;
    let world = one_of(worlds, dice).endpoints(since + 100, &[not_ready(IP, "cart-x")]);
    world.with_pod(|pod| pod.ready = Some(condition(false, at(since))))
}

fn crashed(dice: Dice) -> World {
    let world = one_of(ENDED, dice);
    let world = world.endpoints(60_900, &[not_ready(IP, "cart-x")]);
    world.with_state(ended("Error", 1, end(dice)))
}

fn killed(dice: Dice) -> World {
    let mut world = one_of(ENDED, dice);
    if dice.way == 0 {
        let mut inside = calm();
        inside.memory = Some(Memory {
            max: 9,
            oom: 1,
            killed: 1,
        });
        world = world.inside(inside);
    }
    world.with_state(ended("OOMKilled", 137, end(dice)))
}

/// When a container ended: at any time before it refused, just as it broke.
fn end(dice: Dice) -> i64 {
    if dice.outcome.is_multiple_of(ENDED.len()) {
        59_900 - dice.delay
    } else {
        60_000 - dice.delay / 40
    }
}

fn terminates(dice: Dice) -> World {
    let asked = 58_000 - dice.delay;
    let world = one_of(ANY, dice);
    let world = world.endpoints(asked + 200, &[terminating(IP, "cart-x")]);
    match dice.way {
        0 => world.deleted(asked),
        way => {
            let code = if way == 1 { 0 } else { 143 };
            let mut world = world.with_state(ended("Completed", code, asked + 1_500));
            delete(&mut world.pods[0].1, asked);
            world
        }
    }
}

fn stale(dice: Dice) -> World {
    let gone = 59_000 - dice.delay;
    let mut world = one_of(ANY, dice).endpoints(gone, &[]);
    world.pods = Vec::new();
    if dice.way > 0 {
        let another = slice("mail-1", "mail", 25, &[ready(IP, "mail-x")]);
        world.changes.push((gone + 100, another));
    }
    world
}

fn wrong_port() -> World {
    let world = refused().with_pod(|pod| {
        let mut app = app(-600_000);
        app.ports = vec![("http".into(), 8081)];
        pod.containers = vec![app];
    });
    let inside = Inside {
        listening: Some([8081].into()),
        ..calm()
    };
    world.inside(inside).past(watched(None))
}

fn overloaded(dice: Dice) -> World {
    let mut inside = calm();
    let world = match dice.way {
        0 => {
            inside.overflows = Some(5);
            inside.queue = Some(Queue {
                local: "10.77.1.3:8080".parse().expect("an address"),
                waiting: 129,
                limit: Some(128),
            });
            one_of(UNANSWERED, dice)
        }
        1 if dice.outcome.is_multiple_of(2) => {
            inside.throttling = Some(throttled(1_900));
            late()
        }
        1 => {
            inside.pressure = Some(Pressure {
                cpu: 1_900 * MS,
                memory: 0,
            });
            late()
        }
        _ => {
            inside.descriptors = Some(usage(64, 64));
            late()
        }
    };
    world.inside(inside)
}

fn network(dice: Dice) -> World {
    let mut world = one_of(&[silent, lost, silent], dice);
    if dice.outcome % 3 == 2 {
        world.event.errno = Some(errno::EHOSTUNREACH);
    }
    world.inside(calm()).past(watched(Some(4_000)))
}

fn node_down(dice: Dice) -> World {
    let mut world = one_of(UNANSWERED, dice);
    let since = 30_000 - dice.delay;
    world.nodes.push((since, up("node-2", false, since)));
    match dice.way {
        0 => world,
        // After its kubelet was silent for long, its pods are deleted.
        1 => world.deleted(since + 20_000),
        _ => world.with_pod(|pod| pod.ready = Some(condition(false, at(since)))),
    }
}

/// The world as far as it is known.
fn part(world: &World, known: Known) -> World {
    let mut part = world.clone();
    part.api = known.api;
    if !known.pods {
        part.pods.clear();
    }
    if !known.nodes {
        part.nodes.clear();
    }
    part.inside = part.inside.filter(|_| known.inside);
    part.past = part.past.filter(|_| known.past);
    if !known.shortage {
        part.shortage = Shortage::default();
    }
    part
}

/// What may be said of a cause by somebody who does not know all.
fn weaker(cause: Cause) -> &'static [Cause] {
    match cause {
        Cause::BackendCrashed | Cause::BackendOomKilled => &[
            Cause::KeepaliveRace,
            Cause::BackendReset,
            Cause::BackendNotReady,
        ],
        Cause::PodTerminating | Cause::StaleEndpoint => &[
            Cause::KeepaliveRace,
            Cause::BackendReset,
            Cause::NetworkUnreachable,
        ],
        Cause::NodeNotReady => &[
            Cause::NetworkUnreachable,
            Cause::PodTerminating,
            Cause::BackendNotReady,
        ],
        Cause::BackendNotReady => &[Cause::BackendReset, Cause::BackendTimeout],
        Cause::BackendOverloaded => &[Cause::BackendTimeout, Cause::NetworkUnreachable],
        Cause::IngressOverloaded => &[Cause::BackendTimeout],
        Cause::NoEndpoints
        | Cause::BackendTimeout
        | Cause::WrongPort
        | Cause::IngressPortsExhausted
        | Cause::IngressFdsExhausted
        | Cause::KeepaliveRace
        | Cause::BackendReset
        | Cause::PrematureClose
        | Cause::ProtocolError
        | Cause::NetworkUnreachable
        | Cause::UpstreamError
        | Cause::Unknown => &[],
    }
}

/// Whether a statement holds, although the cause says more: who is held back is too late indeed.
fn holds(said: Cause, cause: Cause) -> bool {
    said == cause || (said, cause) == (Cause::BackendTimeout, Cause::BackendOverloaded)
}

fn dice() -> impl Strategy<Value = Dice> {
    (0usize..60, 0usize..3, 0i64..20_000).prop_map(|(outcome, way, delay)| Dice {
        outcome,
        way,
        delay,
    })
}

fn known() -> impl Strategy<Value = Known> {
    any::<[bool; 6]>().prop_map(|[api, pods, nodes, inside, past, shortage]| Known {
        api,
        pods,
        nodes,
        inside,
        past,
        shortage,
    })
}

const ALL: Known = Known {
    api: true,
    pods: true,
    nodes: true,
    inside: true,
    past: true,
    shortage: true,
};

impl Known {
    fn and(self, other: Self) -> Self {
        Self {
            api: self.api || other.api,
            pods: self.pods || other.pods,
            nodes: self.nodes || other.nodes,
            inside: self.inside || other.inside,
            past: self.past || other.past,
            shortage: self.shortage || other.shortage,
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn all_that_follows_from_a_cause_tells_it(which in 0..Cause::ALL.len(), dice in dice()) {
        let cause = Cause::ALL[which];
        let verdict = part(&world(cause, dice), ALL).decide();
        prop_assert_eq!(verdict.cause, cause, "{:?}", verdict.evidence);
    }

    #[test]
    fn less_evidence_never_tells_what_is_not_so(
        which in 0..Cause::ALL.len(), dice in dice(), known in known(),
    ) {
        let cause = Cause::ALL[which];
        let verdict = part(&world(cause, dice), known).decide();
        let allowed = [Cause::Unknown, cause].contains(&verdict.cause)
            || weaker(cause).contains(&verdict.cause);
        prop_assert!(allowed, "{cause}: {verdict:?}");
        let certain = verdict.confidence == Confidence::High;
        prop_assert!(!certain || holds(verdict.cause, cause), "{cause}: {verdict:?}");
    }

    #[test]
    fn more_evidence_never_takes_back_what_was_right_and_certain(
        which in 0..Cause::ALL.len(), dice in dice(), known in known(), more in known(),
    ) {
        let cause = Cause::ALL[which];
        let world = world(cause, dice);
        let less = part(&world, known).decide();
        if less.cause == cause && less.confidence == Confidence::High {
            let verdict = part(&world, known.and(more)).decide();
            prop_assert_eq!(verdict.cause, cause);
        }
    }

    #[test]
    fn a_cluster_that_is_not_up_to_date_makes_nothing_certain_that_it_tells(
        which in 0..Cause::ALL.len(), dice in dice(),
    ) {
        let cause = Cause::ALL[which];
        let mut world = world(cause, dice);
        world.stale = Some(Duration::from_secs(5));
        let verdict = world.decide();
        world.api = false;
        let alone = world.decide();
        let certain = verdict.confidence == Confidence::High;
        prop_assert!(!certain || alone.confidence == Confidence::High, "{cause}: {verdict:?}");
    }

    #[test]
    fn nothing_but_a_connection_that_was_refused_is_unknown(dice in dice(), known in known()) {
        let mut world = part(&refused(), known);
        (world.pods, world.inside, world.past) = (Vec::new(), None, None);
        let verdict = world.decide();
        prop_assert_eq!(verdict.cause, Cause::Unknown, "{:?} {:?}", dice, verdict.evidence);
    }
}

#[test]
fn what_stands_is_not_changed_by_what_may_come() {
    let world = crashed(Dice {
        outcome: 0,
        way: 0,
        delay: 0,
    });
    assert!(world.decide().stands());
    let blind = part(&world, Known { pods: false, ..ALL });
    assert!(!blind.decide().stands());
}
