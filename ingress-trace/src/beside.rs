//! In: failures, and what the kernel counts. Out: what is known beside a failure's own packets: the
//! backend's own side, and what was seen of it before. Holds both; decides nothing.
use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use ingress_trace_common::aggregate::{Key, Value, counted};

use crate::agent::monotonic;
use crate::cause::facts::{Inside, Past};
use crate::cause::taxonomy::Outcome;
use crate::cluster::view::View;
use crate::event::{Event, Kind, Leg};
use crate::identity::Identity;
use crate::neighbors::Neighbors;
use crate::past::{Pasts, Successes};

/// Backends with traffic whose pods are thought of in a second.
const THOUGHT_OF: usize = 64;

/// What is known beside failures.
pub struct Beside {
    neighbors: Option<Neighbors>,
    pasts: Pasts,
    /// Where the turn of the backends with traffic is.
    turn: usize,
}

impl Beside {
    /// Without `neighbors` nothing is known of the backends' own side.
    pub fn new(neighbors: Option<Neighbors>) -> Self {
        Self {
            neighbors,
            pasts: Pasts::default(),
            turn: 0,
        }
    }

    /// Something happened on an upstream leg; where it may be a failure, the pod is looked at at once.
    pub fn hear(&mut self, event: &Event, view: &View) {
        let Some(neighbors) = &mut self.neighbors else {
            return;
        };
        let (now, backend) = (monotonic(), backend(event));
        if may_fail(event)
            && neighbors.glance(backend, now)
            && let Some(neighbor) = view.neighbor(backend)
        {
            neighbors.fails(&neighbor, now);
        }
    }

    /// To be called often: takes what was found of the pods.
    pub fn turn(&mut self) {
        if let Some(neighbors) = &mut self.neighbors {
            neighbors.turn(monotonic());
        }
    }

    /// A failure stands.
    pub fn failed(&mut self, event: &Event, outcome: Outcome, view: Option<&View>) {
        if event.leg == Leg::Upstream && outcome.is_failure() {
            let service = view.and_then(|view| view.service(event.remote));
            self.pasts
                .failed(event.remote, outcome, service, event.time);
        }
    }

    /// What was seen of the backend before a failure.
    pub fn past(&self, event: &Event, outcome: Outcome) -> Option<Past> {
        (event.leg == Leg::Upstream).then(|| self.pasts.ask(event.remote, outcome, event.time))
    }

    /// What the backend's own side says of a failure, where its pod is on this node.
    pub fn inside(&self, event: &Event, who: &Identity, view: &View) -> Option<Inside> {
        let neighbor = view.is_neighbor(who)?;
        let began = event.began().unwrap_or(event.time);
        let neighbors = self.neighbors.as_ref()?;
        neighbors.inside(&neighbor, backend(event).port(), began, event.time)
    }

    /// Takes what the kernel has counted, once a second.
    pub fn count(&mut self, aggregates: &[(Key, Value)], view: Option<&View>) {
        let now = monotonic();
        let service = |address| view?.service(address);
        self.pasts.note(successes(aggregates), service, now);
        let (Some(neighbors), Some(view)) = (&mut self.neighbors, view) else {
            return;
        };
        let busy = self.pasts.busy();
        let some = busy.iter().cycle().skip(self.turn % busy.len().max(1));
        for backend in some.take(THOUGHT_OF.min(busy.len())) {
            if let Some(neighbor) = view.neighbor(*backend) {
                neighbors.rests(&neighbor, now);
            }
        }
        self.turn = self.turn.wrapping_add(1);
    }

    /// Pods that failed and were not looked at, as too many did at once.
    pub fn skipped(&self) -> u64 {
        self.neighbors
            .as_ref()
            .map_or(0, |neighbors| neighbors.skipped)
    }
}

/// Where a connection really led.
fn backend(event: &Event) -> SocketAddr {
    event.leads.unwrap_or(event.remote)
}

fn may_fail(event: &Event) -> bool {
    let happened = match event.kind {
        Kind::ConnectFailed | Kind::Reset | Kind::Closed | Kind::GaveUp | Kind::Broken => true,
        Kind::Response => event.status.is_some_and(|status| status >= 500),
        Kind::ConnectLocal
        | Kind::Released
        | Kind::Retry
        | Kind::DownWrite
        | Kind::DownEnd
        | Kind::Refused => false,
    };
    happened && event.leg == Leg::Upstream
}

/// How often each backend has succeeded so far.
fn successes(aggregates: &[(Key, Value)]) -> HashMap<SocketAddr, Successes> {
    let mut totals: HashMap<SocketAddr, Successes> = HashMap::new();
    for (key, value) in aggregates {
        let address = Ipv6Addr::from(key.address);
        if address.is_unspecified() {
            continue;
        }
        let backend = SocketAddr::new(IpAddr::V6(address).to_canonical(), key.port);
        match key.counted {
            counted::CONNECT => totals.entry(backend).or_default().connects += value.count,
            counted::EXCHANGE if !matches!(key.status, 502..=504) => {
                totals.entry(backend).or_default().answers += value.count;
            }
            _ => {}
        }
    }
    totals
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connects_and_answers_are_successes_and_errors_are_not() {
        let key = |counted, status| Key {
            cgroup: 1,
            address: std::net::Ipv4Addr::new(10, 0, 0, 1)
                .to_ipv6_mapped()
                .octets(),
            port: 80,
            status,
            counted,
            reserved: [0; 3],
        };
        let all = [
            (counted::CONNECT, 0, 1),
            (counted::EXCHANGE, 200, 2),
            (counted::EXCHANGE, 500, 4),
            (counted::EXCHANGE, 0, 8),
            (counted::EXCHANGE, 503, 100),
            (counted::FAILURE, 0, 100),
            (counted::SLOW, 200, 100),
            (counted::RESPONSE, 200, 100),
        ];
        let entry = |(counted, status, count): (u8, u16, u64)| {
            let value = Value {
                count,
                ..Value::default()
            };
            (key(counted, status), value)
        };
        let totals = successes(&all.map(entry));
        let backend = "10.0.0.1:80".parse().expect("an address");
        let expected = Successes {
            connects: 1,
            answers: 14,
        };
        assert_eq!(totals, [(backend, expected)].into());
    }
}
