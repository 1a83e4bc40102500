//! In: changes of a small cluster, and a failure. Out: the verdict on it, by way of the real index and
//! identity. A pod `cart-x` of Service `cart` that is well, unless a test says otherwise.
use std::time::Duration;

use ingress_trace_common::sample::flag;

use super::{Facts, Verdict, decide};
use crate::cause::evidence::Shortage;
use crate::cause::facts::{Inside, Past};
use crate::cause::reading::{Reading, read};
use crate::cause::taxonomy::Controller;
use crate::cause::timers::Timers;
use crate::cluster::index::Index;
use crate::cluster::index::example::{
    at, condition, index, node, pod, ready, route, rule, service, shop, slice,
};
use crate::cluster::object::{
    Container, Endpoint, Kind, Name, Node, Object, PathMatch, Pod, State as Run,
};
use crate::event::example::{MS, down, refused as refuse, released, second, up as event, with};
use crate::event::{Event, Kind as Happened};
use crate::flow::{Ending, Flow};
use crate::identity::{Identity, Question, identify};

/// When the failure is, in milliseconds.
pub(super) const WHEN: i64 = 60_000;
/// The same by the events' clock.
pub(super) const AT: u64 = 60_000 * MS;
/// When the pod's details come, or came.
pub(super) const FETCHED: i64 = 60_500;
/// The backend's address.
pub(super) const IP: &str = "10.77.1.3";

/// What happened, and what is known of it.
#[derive(Clone)]
pub(super) struct World {
    pub(super) event: Event,
    pub(super) ending: Ending,
    pub(super) reading: Option<Reading>,
    /// Beside the pods and nodes: what was learned, and when.
    pub(super) changes: Vec<(i64, Object)>,
    pub(super) pods: Vec<(i64, Pod)>,
    pub(super) gone: Vec<(i64, Name)>,
    pub(super) nodes: Vec<(i64, Node)>,
    pub(super) inside: Option<Inside>,
    pub(super) past: Option<Past>,
    pub(super) shortage: Shortage,
    pub(super) timer: bool,
    pub(super) stale: Option<Duration>,
    pub(super) api: bool,
}

/// A container that runs since a time and declares port 8080.
pub(super) fn app(started: i64) -> Container {
    Container {
        name: "app".into(),
        ports: vec![("http".into(), 8080)],
        ready: true,
        state: Run::Running(Some(at(started))),
        ..Container::default()
    }
}

/// The pod as it is while all is well.
pub(super) fn cart() -> Pod {
    Pod {
        containers: vec![app(-600_000)],
        ..pod("cart-x", "u", IP, at(-600_000))
    }
}

/// An end of a container.
pub(super) fn ended(reason: &str, code: i32, finished: i64) -> Run {
    Run::Terminated {
        reason: reason.into(),
        code,
        started: Some(at(-600_000)),
        // Whole seconds, cut.
        finished: Some(at(finished.div_euclid(1000) * 1000)),
    }
}

impl World {
    /// A failure while all is well.
    pub(super) fn new(event: Event, ending: Ending) -> Self {
        Self {
            event,
            ending,
            reading: None,
            changes: vec![
                (0, Object::Service(service("cart", "10.96.0.9"))),
                (0, slice("cart-1", "cart", 8080, &[ready(IP, "cart-x")])),
                (0, routed()),
            ],
            pods: vec![(FETCHED, cart())],
            gone: Vec::new(),
            nodes: vec![(0, up("node-2", true, 0))],
            inside: None,
            past: None,
            shortage: Shortage::default(),
            timer: false,
            stale: None,
            api: true,
        }
    }

    /// With these endpoints from a time on.
    pub(super) fn endpoints(mut self, time: i64, endpoints: &[Endpoint]) -> Self {
        let change = slice("cart-1", "cart", 8080, endpoints);
        self.changes.push((time, change));
        self
    }

    /// With a pod that is so when it is looked at.
    pub(super) fn with_pod(mut self, change: impl FnOnce(&mut Pod)) -> Self {
        let mut pod = cart();
        change(&mut pod);
        self.pods = vec![(FETCHED, pod)];
        self
    }

    /// With a container that is in this state when it is looked at.
    pub(super) fn with_state(self, state: Run) -> Self {
        self.with_pod(|pod| {
            pod.containers[0].state = state;
            pod.containers[0].ready = false;
            pod.ready = Some(condition(false, at(WHEN)));
        })
    }

    /// With a pod whose deletion was asked for at this time.
    pub(super) fn deleted(self, asked: i64) -> Self {
        self.with_pod(|pod| delete(pod, asked))
    }

    /// With what the backend's own side says.
    pub(super) fn inside(mut self, inside: Inside) -> Self {
        self.inside = Some(inside);
        self
    }

    /// With what was seen before.
    pub(super) fn past(mut self, past: Past) -> Self {
        self.past = Some(past);
        self
    }

    fn index(&self) -> Index {
        let mut index = index();
        let pods = self.pods.iter();
        let pods = pods.map(|(time, pod)| (*time, Object::Pod(pod.clone())));
        let nodes = self.nodes.iter();
        let nodes = nodes.map(|(time, node)| (*time, Object::Node(node.clone())));
        let mut all: Vec<_> = self
            .changes
            .iter()
            .cloned()
            .chain(pods)
            .chain(nodes)
            .collect();
        all.sort_by_key(|(time, _)| *time);
        for (time, object) in all {
            index.apply(object, at(time));
        }
        for (time, name) in &self.gone {
            index.delete(Kind::Pod, name, at(*time));
        }
        index
    }

    fn who(&self, flow: &Flow) -> Option<Identity> {
        let question = Question {
            event: &flow.failure,
            request: flow.request(),
            serves: None,
            at: at(WHEN),
            stale: self.stale,
        };
        self.api.then(|| identify(&question, &self.index()))
    }

    /// The verdict.
    pub(super) fn decide(&self) -> Verdict {
        let flow = Flow {
            failure: self.event.clone(),
            ending: self.ending.clone(),
        };
        let read = read(&flow, Controller::Nginx, &Timers::default());
        let who = self.who(&flow);
        decide(&Facts {
            flow: &flow,
            reading: self.reading.or(read).expect("a failure"),
            at: at(WHEN),
            shortage: &self.shortage,
            timer: self.timer,
            who: who.as_ref(),
            inside: self.inside.as_ref(),
            past: self.past.as_ref(),
        })
    }
}

fn answered(status: u16) -> Ending {
    Ending::Answered(Box::new(Event {
        status: Some(status),
        ..down(9, Happened::Response, AT + MS)
    }))
}

/// A connect that was refused.
pub(super) fn refused() -> World {
    World::new(refuse(1, AT), answered(502))
}

/// A RST instead of a response.
pub(super) fn reset() -> World {
    World::new(event(1, Happened::Reset, AT), answered(502))
}

/// A FIN on a connection that had been idle.
pub(super) fn raced() -> World {
    let failure = Event {
        exchange: second(1),
        idle: Some(5_000 * MS),
        acked: 0,
        request_time: Some(AT - MS),
        ..with(event(1, Happened::Closed, AT), flag::FIN_BEFORE)
    };
    World::new(failure, answered(502))
}

/// A connect that nothing answered.
pub(super) fn silent() -> World {
    let failure = Event {
        retransmits: 2,
        connect_time: Some(AT - 5_000 * MS),
        ..released(event(1, Happened::ConnectFailed, AT))
    };
    World::new(failure, answered(504))
}

/// A request that was delivered and not answered in time.
pub(super) fn late() -> World {
    let failure = Event {
        request_time: Some(AT - 2_000 * MS),
        ..released(event(1, Happened::GaveUp, AT))
    };
    World::new(failure, answered(504))
}

/// A request that nothing acknowledged.
pub(super) fn lost() -> World {
    let mut world = late();
    (world.event.acked, world.event.retransmits) = (0, 4);
    world
}

/// An error without an upstream.
pub(super) fn unrouted() -> World {
    let failure = Event {
        status: Some(503),
        // It had been there for a second.
        request_time: Some(AT - 1_000 * MS),
        ..down(9, Happened::Response, AT)
    };
    World::new(failure, answered(503))
}

/// Has a pod deleted with a grace period of 30 s.
pub(super) fn delete(pod: &mut Pod, asked: i64) {
    pod.deletion = Some(at(asked.div_euclid(1000) * 1000 + 30_000));
    pod.grace = Some(30);
}

/// A node that is Ready, or not, since a time.
pub(super) fn up(name: &str, met: bool, since: i64) -> Node {
    let Object::Node(mut known) = node(name, "10.0.0.2") else {
        unreachable!("it makes a node")
    };
    known.ready = Some(condition(met, at(since)));
    known
}

fn routed() -> Object {
    let rules = vec![rule("shop.example", PathMatch::Prefix("/".into()), "cart")];
    Object::Route(route(Kind::Ingress, "web", rules))
}

/// What is said of the inside of a pod that is well.
pub(super) fn calm() -> Inside {
    Inside {
        pod: shop("cart-x"),
        listening: Some([8080].into()),
        overflows: Some(0),
        span: Duration::from_secs(2),
        ..Inside::default()
    }
}
