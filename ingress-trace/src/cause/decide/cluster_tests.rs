//! In: failures that look the same, in clusters that differ. Out: proof that each row of the decision
//! table that needs the cluster fires on its evidence, and leaves to the others what is theirs.
use std::time::Duration;

use super::world::{
    IP, WHEN, World, app, calm, cart, delete, ended, late, lost, raced, refused, reset, silent,
    unrouted, up,
};
use super::*;
use crate::cause::facts::{Inside, Past};
use crate::cause::reading::errno;
use crate::cluster::index::example::{at, condition, not_ready, ready, shop, slice, terminating};
use crate::cluster::object::{Condition, State as Run};
use crate::event::example::{MS, second};
use crate::limits::{Pressure, ProcessUsage, Queue, Throttling, Usage};

fn is(world: &World, cause: Cause, confidence: Confidence) {
    let verdict = world.decide();
    let found = (verdict.cause, verdict.confidence);
    assert_eq!(found, (cause, confidence), "{:?}", verdict.evidence);
    assert!(!verdict.evidence.is_empty());
}

fn says(world: &World, words: &str) {
    let evidence = world.decide().evidence;
    assert!(
        evidence.iter().any(|line| line.contains(words)),
        "{evidence:?}"
    );
}

use Cause as C;
use Confidence::{High, Low, Medium};

#[test]
fn each_cause_has_one_row() {
    for cause in Cause::ALL {
        let rows = RULES.iter().filter(|rule| rule.cause == *cause).count();
        assert_eq!(rows, usize::from(*cause != Cause::Unknown), "{cause}");
    }
}

#[test]
fn a_route_whose_service_has_nothing_ready_has_no_endpoints() {
    let empty = unrouted().endpoints(50_000, &[not_ready(IP, "cart-x")]);
    is(&empty, C::NoEndpoints, High);
    is(&unrouted(), C::Unknown, Low);
    // 500 is what a controller answers that is out of something.
    let mut broken = empty;
    broken.event.status = Some(500);
    is(&broken, C::Unknown, Low);
}

#[test]
fn a_services_own_address_that_rejects_has_no_endpoints() {
    let mut front = refused().endpoints(50_000, &[]);
    front.event.remote = "10.96.0.9:80".parse().expect("an address");
    is(&front, C::NoEndpoints, High);
    let mut full = refused();
    full.event.remote = "10.96.0.9:80".parse().expect("an address");
    is(&full, C::Unknown, Low);
}

#[test]
fn an_address_that_nobody_has_any_more_is_stale() {
    let mut gone = refused().endpoints(59_000, &[]);
    gone.pods = vec![(0, cart())];
    gone.gone = vec![(59_000, shop("cart-x"))];
    for world in [
        &gone,
        &World {
            event: silent().event,
            ..gone.clone()
        },
    ] {
        is(world, C::StaleEndpoint, High);
    }
    // Nothing is known of the pod: it may be there, and have left the endpoints only.
    let unknown = World {
        pods: Vec::new(),
        ..gone.clone()
    };
    is(&unknown, C::StaleEndpoint, Medium);
    let lives = World {
        gone: Vec::new(),
        ..gone
    };
    assert_ne!(lives.decide().cause, C::StaleEndpoint);
}

#[test]
fn whatever_another_pod_answers_at_the_address_is_stale() {
    let another = slice("mail-1", "mail", 25, &[ready(IP, "mail-x")]);
    let worlds = [refused(), reset(), late()];
    for mut world in worlds {
        world.pods = Vec::new();
        let mut world = world.endpoints(58_000, &[]);
        world.changes.push((58_500, another.clone()));
        is(&world, C::StaleEndpoint, High);
    }
}

#[test]
fn a_node_that_is_down_takes_its_pods_along() {
    for world in [silent(), lost()] {
        let mut world = world;
        world.nodes = vec![
            (0, up("node-2", true, 0)),
            (30_000, up("node-2", false, 30_000)),
        ];
        is(&world, C::NodeNotReady, High);
        // Minutes later its pods are evicted.
        is(&world.clone().deleted(40_000), C::NodeNotReady, High);
    }
    // It is noticed late.
    let mut world = silent();
    world.nodes.push((62_000, up("node-2", false, 62_000)));
    is(&world, C::NodeNotReady, Medium);
    says(&world, "became not ready 2.00 s after");
    // Its kernel answers: that is another matter.
    let mut alive = refused();
    alive.nodes = vec![(0, up("node-2", false, 0))];
    assert_ne!(alive.decide().cause, C::NodeNotReady);
}

#[test]
fn a_container_that_was_killed_for_memory_explains_what_ended_with_it() {
    for world in [refused(), reset(), raced()] {
        let world = world.with_state(ended("OOMKilled", 137, 59_600));
        is(&world, C::BackendOomKilled, High);
        says(&world, "ended with OOMKilled (137)");
    }
    // What was answered again for long before the failure was not down.
    let long_ago = refused().with_pod(|pod| {
        pod.containers[0].last = ended("OOMKilled", 137, 20_000);
        pod.containers[0].state = Run::Running(Some(at(21_000)));
    });
    is(&long_ago, C::Unknown, Low);
    let before = reset().with_pod(|pod| pod.containers[0].last = ended("OOMKilled", 137, 20_000));
    is(&before, C::BackendReset, Medium);
}

#[test]
fn a_worker_that_was_killed_for_memory_leaves_its_mark_in_the_cgroup_only() {
    let mut inside = calm();
    inside.memory = Some(crate::limits::Memory {
        max: 3,
        oom: 1,
        killed: 1,
    });
    for world in [reset(), late()] {
        is(&world.inside(inside.clone()), C::BackendOomKilled, Medium);
    }
}

#[test]
fn a_container_that_ended_by_itself_crashed() {
    for code in [0, 1, 139] {
        for world in [refused(), reset()] {
            let world = world.with_state(ended("Error", code, 59_600));
            is(&world, C::BackendCrashed, High);
        }
    }
    let waits = refused().with_pod(|pod| {
        pod.containers[0].restarts = 7;
        pod.containers[0].state = Run::Waiting("CrashLoopBackOff".into());
        pod.ready = Some(condition(false, at(0)));
    });
    is(&waits, C::BackendCrashed, High);
    says(&waits, "CrashLoopBackOff after 7 restarts");
}

#[test]
fn a_container_that_does_not_answer_on_the_port_does_not_explain_it() {
    let sidecar = refused().with_pod(|pod| {
        let mut sidecar = app(0);
        sidecar.name = "logs".into();
        sidecar.ports = Vec::new();
        sidecar.state = ended("Error", 1, 59_600);
        pod.containers.push(sidecar);
    });
    is(&sidecar, C::Unknown, Low);
}

#[test]
fn what_ends_because_it_was_told_to_is_terminating() {
    for code in [0, 137, 143] {
        for world in [refused(), reset(), raced()] {
            let mut world = world.with_state(ended("Error", code, 59_900));
            delete(&mut world.pods[0].1, 58_000);
            is(&world, C::PodTerminating, High);
            says(&world, "deletion of pod cart-x was asked for 2.00 s before");
        }
    }
}

#[test]
fn a_pod_that_had_crashed_before_it_was_deleted_crashed() {
    let mut world = refused().with_state(ended("Error", 1, 40_000));
    delete(&mut world.pods[0].1, 55_000);
    is(&world, C::BackendCrashed, High);
}

#[test]
fn memory_that_runs_out_while_a_pod_goes_explains_what_broke_just_then_only() {
    let killed = |world: World| {
        let mut world = world.with_state(ended("OOMKilled", 137, 59_800));
        delete(&mut world.pods[0].1, 50_000);
        world
    };
    is(&killed(reset()), C::BackendOomKilled, High);
    is(&killed(refused()), C::PodTerminating, High);
}

#[test]
fn a_pod_that_is_on_its_way_out_terminates() {
    for world in [refused(), reset(), raced(), silent(), lost()] {
        is(&world.clone().deleted(57_000), C::PodTerminating, High);
        // Within the same second nobody can say.
        is(&world.clone().deleted(60_000), C::PodTerminating, Medium);
        let mut by_slice = world.clone();
        by_slice.pods = Vec::new();
        is(
            &by_slice.endpoints(59_000, &[terminating(IP, "cart-x")]),
            C::PodTerminating,
            High,
        );
        let mut just_after = world;
        just_after.pods = Vec::new();
        is(
            &just_after.endpoints(60_300, &[terminating(IP, "cart-x")]),
            C::PodTerminating,
            Medium,
        );
    }
    // It had all the request, and time: it is slow.
    is(&late().deleted(57_000), C::BackendTimeout, Medium);
}

#[test]
fn a_pod_that_is_not_ready_explains_a_refusal() {
    let unready = refused().with_pod(|pod| pod.ready = Some(condition(false, at(20_000))));
    is(&unready, C::BackendNotReady, High);
    says(&unready, "was not Ready, last changed 40.00 s before");
    let slow = late().with_pod(|pod| pod.ready = Some(condition(false, at(20_000))));
    is(&slow, C::BackendNotReady, Medium);
    // Its probe failed while the request hung: that follows, it does not lead. The API cuts to seconds.
    for since in [59_000, 57_500] {
        let hung = late().with_pod(|pod| pod.ready = Some(condition(false, at(since))));
        is(&hung, C::BackendTimeout, Medium);
    }
}

#[test]
fn a_container_that_has_only_just_started_may_not_listen_yet() {
    let started = |start: i64| {
        refused().with_pod(|pod| {
            pod.containers[0].state = Run::Running(Some(at(start)));
            pod.created = Some(at(start - 2_000));
        })
    };
    is(&started(57_000), C::BackendNotReady, Medium);
    is(&started(61_000), C::BackendNotReady, High);
    is(&started(40_000), C::Unknown, Low);
}

fn watched() -> Past {
    Past {
        watched: Duration::from_secs(55),
        ..Past::default()
    }
}

#[test]
fn a_port_on_which_the_pod_does_not_listen_is_wrong() {
    let elsewhere = Inside {
        listening: Some([8081, 9090].into()),
        ..calm()
    };
    let world = refused().inside(elsewhere.clone());
    is(&world, C::WrongPort, High);
    says(&world, "pod cart-x listens on 8081, 9090, not on 8080");
    // Of a listener that was there, its end is the question.
    let was_open = Past {
        last_success: Some(Duration::from_secs(2)),
        ..watched()
    };
    is(&world.past(was_open), C::Unknown, Low);
    // It is there, and another one refused.
    is(&refused().inside(calm()), C::NetworkUnreachable, Medium);
    let nothing = Inside {
        listening: Some([].into()),
        ..calm()
    };
    is(&refused().inside(nothing), C::Unknown, Low);
}

#[test]
fn a_port_that_nobody_declares_and_that_never_accepted_is_wrong() {
    let undeclared = refused().with_pod(|pod| pod.containers[0].ports[0].1 = 8081);
    is(&undeclared, C::WrongPort, Medium);
    is(&undeclared.clone().past(watched()), C::WrongPort, High);
    is(&refused().past(watched()), C::WrongPort, Medium);
    let sibling = Past {
        siblings_fine: 3,
        ..watched()
    };
    is(&undeclared.past(sibling), C::Unknown, Low);
}

#[test]
fn a_port_that_is_not_that_of_the_endpoints_is_wrong() {
    let mut moved = refused();
    moved.event.remote.set_port(8079);
    is(&moved, C::WrongPort, High);
    says(&moved, "8079 is not the port of the endpoints of shop/cart");
    moved.pods = Vec::new();
    is(&moved, C::WrongPort, Medium);
}

#[test]
fn a_full_accept_queue_is_overload() {
    let full = Inside {
        overflows: Some(4),
        queue: Some(Queue {
            local: "10.77.1.3:8080".parse().expect("an address"),
            waiting: 2,
            limit: Some(1),
        }),
        ..calm()
    };
    for world in [silent(), lost()] {
        is(
            &world.clone().inside(full.clone()),
            C::BackendOverloaded,
            High,
        );
        let elsewhere = Inside {
            queue: None,
            ..full.clone()
        };
        is(
            &world.clone().inside(elsewhere),
            C::BackendOverloaded,
            Medium,
        );
        // It is full now, and was not looked at before.
        let mut first = Inside {
            overflows: None,
            ..full.clone()
        };
        first.queue.as_mut().expect("a queue").limit = None;
        assert_ne!(
            world.clone().inside(first.clone()).decide().cause,
            C::BackendOverloaded
        );
        first.queue.as_mut().expect("a queue").limit = Some(1);
        is(&world.inside(first), C::BackendOverloaded, Medium);
    }
}

#[test]
fn a_backend_that_is_held_back_or_out_of_descriptors_is_overloaded() {
    let throttled = |periods: u64, millis: u64| Inside {
        throttling: Some(Throttling {
            periods,
            nanos: millis * MS,
            ..Throttling::default()
        }),
        ..calm()
    };
    is(
        &late().inside(throttled(12, 1_500)),
        C::BackendOverloaded,
        Medium,
    );
    // Now and then is everyday life.
    is(&late().inside(throttled(12, 200)), C::BackendTimeout, High);
    // Many CPUs, each for a little, in a few periods.
    is(&late().inside(throttled(4, 1_500)), C::BackendTimeout, High);
    // Or in long ones.
    let mut long = throttled(4, 1_500);
    long.throttling.as_mut().expect("throttled").period = Duration::from_millis(500);
    is(&late().inside(long), C::BackendOverloaded, Medium);
    let starved = |millis: u64| Inside {
        pressure: Some(Pressure {
            cpu: millis * MS,
            memory: 0,
        }),
        ..calm()
    };
    is(&late().inside(starved(1_500)), C::BackendOverloaded, Medium);
    is(&late().inside(starved(200)), C::BackendTimeout, High);
    // It may have been before the wait.
    let before = Inside {
        span: Duration::from_secs(6),
        ..starved(2_500)
    };
    is(&late().inside(before), C::BackendTimeout, High);
    let full = Inside {
        descriptors: Some(ProcessUsage {
            pid: 9,
            usage: Usage {
                used: 64,
                limit: 64,
            },
        }),
        ..calm()
    };
    is(&late().inside(full.clone()), C::BackendOverloaded, High);
    is(&reset().inside(full.clone()), C::BackendOverloaded, Medium);
    is(&refused().inside(full), C::NetworkUnreachable, Medium);
}

#[test]
fn a_frozen_backend_is_too_late_and_says_why() {
    let frozen = Inside {
        frozen: true,
        ..calm()
    };
    let world = late().inside(frozen);
    is(&world, C::BackendTimeout, High);
    says(&world, "is frozen");
}

#[test]
fn packets_that_nothing_answers_while_all_is_well_are_the_networks() {
    is(&silent(), C::NetworkUnreachable, Medium);
    is(&silent().inside(calm()), C::NetworkUnreachable, High);
    let mut reused = lost();
    reused.event.exchange = second(1);
    is(&reused, C::NetworkUnreachable, High);
    // Of a fresh connection the accept queue may have been full.
    is(&lost(), C::NetworkUnreachable, Medium);
    let mut icmp = silent();
    icmp.event.errno = Some(errno::EHOSTUNREACH);
    is(&icmp, C::NetworkUnreachable, High);
    // Whether pod and node were there is not known.
    let mut blind = silent();
    blind.nodes = Vec::new();
    is(&blind, C::Unknown, Low);
}

#[test]
fn races_and_timeouts_are_certain_where_the_backend_is_well() {
    is(&raced(), C::KeepaliveRace, High);
    is(&late(), C::BackendTimeout, High);
    is(&reset(), C::BackendReset, Medium);
    // Looked at before the failure only.
    let mut before = raced();
    before.pods = vec![(WHEN - 20_000, cart())];
    is(&before, C::KeepaliveRace, Medium);
}

#[test]
fn a_cluster_that_is_not_up_to_date_is_never_certain() {
    let mut world = refused().with_state(ended("OOMKilled", 137, 59_600));
    world.stale = Some(Duration::from_secs(9));
    is(&world, C::BackendOomKilled, Medium);
}

#[test]
fn what_is_not_known_is_told_with_what_is_missing() {
    let mut world = refused();
    world.pods = Vec::new();
    is(&world, C::Unknown, Low);
    says(&world, "the details of pod cart-x are not known");
    says(&refused(), "cannot be seen from this node");
    world.event.remote = "192.0.2.9:80".parse().expect("an address");
    says(
        &world,
        "192.0.2.9 belongs to nothing that is known of the cluster",
    );
    world.api = false;
    says(&world, "the cluster's state is needed");
    let none: Option<Condition> = None;
    let pending = refused().with_pod(|pod| pod.ready = none);
    is(&pending, C::Unknown, Low);
}
