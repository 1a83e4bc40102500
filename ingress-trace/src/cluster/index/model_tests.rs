//! In: any changes in any order, duplicates, lists that repeat what is known, forgetting. Out: proof
//! that the index says of every time what a naive model says that keeps everything.
use std::collections::BTreeMap;

use jiff::Timestamp;
use proptest::prelude::*;

use super::example::{
    at, get, index, ip, not_ready, pod, prefix, ready, route, rule, service, shop, slice,
    terminating,
};
use super::model::{ADDRESSES, Model, Step};
use super::owned::{Owned, PortOf, Tenancy};
use super::{Index, MOST_VERSIONS, Standing};
use crate::cluster::object::{Endpoint, Kind, Name, Object};

const PORTS: [u16; 3] = [8080, 9090, 0];
const HOSTS: [&str; 3] = ["a.b", "*.b", ""];
const PATHS: [&str; 3] = ["/", "/x", "/x/y"];
const SERVICES: [&str; 3] = ["cart", "mail", "web"];
const KINDS: [Kind; 4] = [Kind::Slice, Kind::Service, Kind::Ingress, Kind::Pod];

fn an_endpoint() -> impl Strategy<Value = Option<Endpoint>> {
    prop::option::of((0..3_usize, 0..3_usize)).prop_map(|seat| {
        seat.map(|(pod, health)| {
            let pod = ["p", "q", ""][pod];
            [ready, not_ready, terminating][health]("10.0.0.0", pod)
        })
    })
}

fn a_slice() -> impl Strategy<Value = Object> {
    let endpoints = prop::collection::vec(an_endpoint(), 3);
    (0..3_usize, 0..3_usize, endpoints).prop_map(|(name, port, endpoints)| {
        // Two slices of one Service, one of another.
        let (name, service) = [("s-1", "cart"), ("s-2", "cart"), ("s-3", "mail")][name];
        let seated = endpoints.into_iter().zip(ADDRESSES);
        let seated = seated.filter_map(|(endpoint, address)| {
            Some(Endpoint {
                addresses: vec![ip(address)],
                ..endpoint?
            })
        });
        slice(name, service, PORTS[port], &seated.collect::<Vec<_>>())
    })
}

fn a_route() -> impl Strategy<Value = Object> {
    let a_rule = (0..3_usize, 0..3_usize, 0..3_usize);
    let rules = prop::collection::vec(a_rule, 1..3);
    (0..3_usize, rules).prop_map(|(name, rules)| {
        let rules = rules.into_iter();
        let rules = rules
            .map(|(host, path, to)| rule(HOSTS[host], prefix(PATHS[path]), SERVICES[to]))
            .collect();
        Object::Route(route(Kind::Ingress, ["r-1", "r-2", "r-3"][name], rules))
    })
}

fn an_object() -> impl Strategy<Value = Object> {
    let a_service = (0..3_usize, 1..3_u8).prop_map(|(name, last)| {
        Object::Service(service(SERVICES[name], &format!("10.96.0.{last}")))
    });
    let a_pod = (0..3_usize, 0..2_usize, 0..3_usize).prop_map(|(name, uid, address)| {
        let (name, uid) = (["p", "q", "r"][name], ["1", "2"][uid]);
        Object::Pod(pod(name, uid, ADDRESSES[address], at(0)))
    });
    prop_oneof![6 => a_slice(), 3 => a_route(), 2 => a_service, 1 => a_pod]
}

fn a_step() -> impl Strategy<Value = Step> {
    let names = ["s-1", "s-2", "s-3", "r-1", "r-2", "cart", "mail", "p", "q"];
    let deletes = (0..KINDS.len(), 0..names.len())
        .prop_map(move |(kind, name)| Step::Delete(KINDS[kind], shop(names[name])));
    let replaces =
        (0..KINDS.len(), prop::collection::vec(an_object(), 0..6)).prop_map(|(kind, objects)| {
            let kind = KINDS[kind];
            // A list has each name once.
            let objects = objects.into_iter().filter(|object| object.kind() == kind);
            let objects: BTreeMap<Name, Object> = objects
                .map(|object| (object.name().clone(), object))
                .collect();
            Step::Replace(kind, objects.into_values().collect())
        });
    prop_oneof![8 => an_object().prop_map(|object| Step::Apply(Box::new(object))), 2 => deletes, 1 => replaces]
}

/// Steps with the time since the one before, in milliseconds; some are done twice.
fn steps() -> impl Strategy<Value = Vec<(Step, i64, bool)>> {
    // Fewer than what a history holds of one thing: beyond it there is nothing to compare.
    prop::collection::vec((a_step(), 0..4_i64, any::<bool>()), 1..MOST_VERSIONS)
}

fn take(index: &mut Index, step: &Step, at: Timestamp) {
    match step.clone() {
        Step::Apply(object) => index.apply(*object, at),
        Step::Delete(kind, name) => index.delete(kind, &name, at),
        Step::Replace(kind, objects) => index.replace(kind, objects, at),
    }
}

fn run(index: &mut Index, model: &mut Model, steps: &[(Step, i64, bool)]) -> i64 {
    let mut now = 0;
    for (step, passed, twice) in steps {
        now += passed;
        take(index, step, at(now));
        model.take(step, at(now));
        if *twice {
            take(index, step, at(now + 1));
            model.take(step, at(now + 1));
            now += 1;
        }
    }
    now
}

fn tenancy(index: &Index, address: &str, port: u16, at: Timestamp) -> Option<Tenancy> {
    match index.whose((ip(address), port).into(), at, None) {
        Owned::Endpoint(tenancy) => Some(*tenancy),
        _ => None,
    }
}

fn check_address(index: &Index, model: &Model, address: &str, port: u16, at: Timestamp) {
    let held = model.held(ip(address), port, at);
    let found = tenancy(index, address, port, at);
    if held.is_empty() {
        let standing = found.map(|tenancy| tenancy.standing);
        assert_ne!(standing, Some(Standing::Held), "{address}:{port} at {at}");
        return;
    }
    let found = found.expect("an endpoint");
    let routed = model.routed();
    let named = held.iter().filter(|(_, held)| held.named);
    let expected = named.min_by_key(|(service, _)| (!routed.contains(*service), *service));
    if let Some((service, held)) = expected {
        assert_eq!(
            found.service.as_ref(),
            Some(service),
            "{address}:{port} at {at}"
        );
        assert_eq!(found.port, PortOf::Named("http".into()));
        assert_eq!(found.pod, held.endpoint.pod.as_deref().map(shop));
        let health = (found.health.ready, found.health.terminating);
        assert_eq!(health, (held.endpoint.ready, held.endpoint.terminating));
        assert!(found.since.at <= held.from);
    }
    if found.standing == Standing::Held {
        let service = found.service.expect("all slices have one");
        assert_eq!(found.pod, held[&service].endpoint.pod.as_deref().map(shop));
    }
}

fn check_time(index: &Index, model: &Model, at: Timestamp) {
    for address in ADDRESSES {
        for port in [8080, 9090] {
            check_address(index, model, address, port, at);
        }
    }
    for name in ["cart", "mail", "web"] {
        let found = index.service(&shop(name), None, at);
        assert_eq!(
            found.numbers,
            model.numbers(&shop(name), at),
            "{name} at {at}"
        );
        let services = model.snapshot(Kind::Service, at);
        let exists = services.iter().any(|object| *object.name() == shop(name));
        assert_eq!(found.exists(), exists, "{name} at {at}");
    }
    for (host, path) in [
        ("a.b", "/x/y/z"),
        ("a.b", "/x"),
        ("c.b", "/xy"),
        ("d.e", "/x/"),
    ] {
        let Some(expected) = model.led(host, path, at) else {
            continue;
        };
        let found = index.route(&get(host, path), at).expect("a route");
        assert_eq!(found.backends[0].service, expected, "{host}{path} at {at}");
    }
}

proptest! {
    #[test]
    fn the_index_says_of_every_time_what_the_model_says(steps in steps()) {
        let (mut index, mut model) = (index(), Model::default());
        let end = run(&mut index, &mut model, &steps);
        prop_assert_eq!(index.evicted(), 0);
        for ms in 0..=end + 1 {
            check_time(&index, &model, at(ms));
        }
    }

    #[test]
    fn what_is_forgotten_changes_no_answer_for_the_time_after(
        steps in steps(),
        share in 0..=100_i64,
    ) {
        let (mut kept, mut model) = (index(), Model::default());
        let end = run(&mut kept, &mut model, &steps);
        let mut index = index();
        run(&mut index, &mut Model::default(), &steps);
        let before = end * share / 100;
        index.forget(at(before));
        for ms in before..=end + 1 {
            check_time(&index, &model, at(ms));
            // Whose the port is, is told with all that was.
            for address in ADDRESSES {
                let [a, b] = [&index, &kept].map(|index| tenancy(index, address, 8080, at(ms)));
                let held = |it: &Tenancy| {
                    it.standing == Standing::Held && matches!(it.port, PortOf::Named(_))
                };
                let [a, b] = [a, b].map(|it| it.filter(held).map(|it| (it.pod, it.health, it.next)));
                prop_assert_eq!(a, b);
            }
        }
    }

    #[test]
    fn a_list_of_what_is_known_changes_nothing(steps in steps()) {
        let (mut index, mut model) = (index(), Model::default());
        let end = run(&mut index, &mut model, &steps);
        let told = |index: &Index| {
            let owners = ADDRESSES.map(|address| {
                let times = (0..=end + 3).map(|ms| index.whose((ip(address), 8080).into(), at(ms), None));
                times.collect::<Vec<_>>()
            });
            let routed = (0..=end + 3).map(|ms| index.route(&get("a.b", "/x"), at(ms)));
            (owners, routed.collect::<Vec<_>>())
        };
        let before = told(&index);
        for kind in KINDS {
            let list: Vec<Object> = model.snapshot(kind, Timestamp::MAX).into_iter().cloned().collect();
            index.replace(kind, list, at(end + 2));
        }
        prop_assert_eq!(told(&index), before);
    }

    #[test]
    fn when_all_is_deleted_and_forgotten_nothing_is_left(steps in steps()) {
        let (mut index, mut model) = (index(), Model::default());
        let end = run(&mut index, &mut model, &steps);
        for kind in KINDS {
            index.replace(kind, [], at(end));
        }
        index.forget(at(end));
        prop_assert_eq!(index.kept(), 0);
    }
}

#[test]
fn what_changes_too_often_is_bounded_and_counted() {
    let mut index = index();
    for ms in 0..100_i64 {
        let endpoint = [ready, not_ready][usize::from(ms % 2 == 0)];
        index.apply(
            slice("s", "cart", 8080, &[endpoint("10.1.0.1", "p")]),
            at(ms),
        );
    }
    let most = i64::try_from(MOST_VERSIONS).expect("a small number");
    assert_eq!(index.evicted(), 100 - MOST_VERSIONS as u64);
    let oldest = tenancy(&index, "10.1.0.1", 8080, at(0)).expect("an endpoint");
    assert!(matches!(oldest.standing, Standing::Later(since) if since.at == at(100 - most)));
    let newest = tenancy(&index, "10.1.0.1", 8080, at(99)).expect("an endpoint");
    assert_eq!(
        (newest.standing, newest.health.ready),
        (Standing::Held, true)
    );
}

#[test]
fn the_past_of_many_things_and_fetched_pods_are_bounded_and_counted() {
    let mut index = index();
    let address = |number: usize| format!("10.{}.{}.1", number / 250, number % 250);
    let more = 10;
    for number in 0..super::MOST_PAST + more {
        let name = format!("s-{number}");
        let ms = i64::try_from(number).expect("a small number");
        index.apply(
            slice(&name, &name, 8080, &[ready(&address(number), "p")]),
            at(ms),
        );
        index.delete(Kind::Slice, &shop(&name), at(ms));
    }
    assert_eq!(index.evicted(), more as u64);
    let kept = |number| tenancy(&index, &address(number), 8080, Timestamp::MAX).is_some();
    assert!(!kept(0) && !kept(more - 1) && kept(more));
    let before = index.evicted();
    for number in 0..super::MOST_FETCHED + more {
        let ms = i64::try_from(number).expect("a small number");
        index.apply(
            Object::Pod(pod(&format!("p-{number}"), "1", &address(number), at(0))),
            at(ms),
        );
    }
    assert_eq!(index.evicted(), before + more as u64);
    assert!(index.pod(&shop("p-0"), at(0)).is_none());
}
