//! In: what the kernel has counted of each backend so far, once a second, and what failed. Out: what
//! was seen of an address before a failure, and of its Service's other pods beside it. Plain state:
//! time is given, in monotonic nanoseconds.
use std::collections::{BTreeSet, HashMap};
use std::net::SocketAddr;
use std::time::Duration;

use crate::cause::facts::Past;
use crate::cause::taxonomy::Outcome;
use crate::cluster::object::Name;

/// Most backends that are remembered; beyond it those go that were silent for longest.
pub const MOST: usize = 16_384;
/// How near to a failure what happens to its siblings counts.
const NEAR: u64 = 10_000_000_000;
/// How often the counts are read: what happened within is not told apart.
const TICK: u64 = 1_000_000_000;
/// Times of success that are kept of a backend; without a pause between them they are one.
const SPANS: usize = 4;

/// What is remembered of all backends.
#[derive(Debug, Default)]
pub struct Pasts {
    backends: HashMap<SocketAddr, Backend>,
    services: HashMap<Name, BTreeSet<SocketAddr>>,
    /// Those whose count has grown lately.
    busy: Vec<SocketAddr>,
    /// When the counts were read last.
    noted: Option<u64>,
}

/// How often a backend has succeeded so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Successes {
    /// Connects.
    pub connects: u64,
    /// Exchanges whose response was no 502, 503 or 504.
    pub answers: u64,
}

/// Times at which a count grew.
#[derive(Debug, Default)]
struct Growth {
    total: u64,
    /// Oldest first.
    spans: Vec<Span>,
}

/// It grew after `from`, within each tick until `to`, of which the last one began at `newest`.
#[derive(Clone, Copy, Debug)]
struct Span {
    from: u64,
    newest: u64,
    to: u64,
}

impl Growth {
    /// An idle count leaves the kernel's map: the sum shrinks, and nothing has happened.
    fn note(&mut self, total: u64, from: u64, to: u64) -> bool {
        let grown = total > std::mem::replace(&mut self.total, total);
        if grown {
            match self.spans.last_mut() {
                Some(span) if span.to == from => (span.newest, span.to) = (from, to),
                _ => self.spans.push(Span {
                    from,
                    newest: from,
                    to,
                }),
            }
            if self.spans.len() > SPANS {
                self.spans.remove(0);
            }
        }
        grown
    }

    /// How long before a time it last grew, at most: within the last tick of a span, or, where it went on
    /// then, the tick before.
    fn last(&self, at: u64) -> Option<Duration> {
        let span = self.spans.iter().rev().find(|span| span.from < at)?;
        let most = if at >= span.to {
            at - span.newest
        } else {
            (at - span.from).min(2 * TICK)
        };
        Some(Duration::from_nanos(most))
    }

    fn near(&self, at: u64) -> bool {
        let near = |span: &Span| {
            span.to >= at.saturating_sub(NEAR) && span.from <= at.saturating_add(NEAR)
        };
        self.spans.iter().any(near)
    }
}

#[derive(Debug)]
struct Backend {
    connects: Growth,
    answers: Growth,
    /// Since when it is known.
    since: u64,
    /// When it last succeeded or failed.
    touched: u64,
    /// How it failed last, and when.
    failed: Option<(Outcome, u64)>,
    service: Option<Name>,
}

impl Backend {
    fn new(at: u64) -> Self {
        Self {
            connects: Growth::default(),
            answers: Growth::default(),
            since: at,
            touched: at,
            failed: None,
            service: None,
        }
    }

    /// Whether that is news.
    fn note(&mut self, now: Successes, from: u64, to: u64) -> bool {
        let connected = self.connects.note(now.connects, from, to);
        let grown = self.answers.note(now.answers, from, to) || connected;
        if grown {
            self.touched = self.touched.max(to);
        }
        grown
    }

    /// What is success for who failed in this way: beyond the connect, a connect is none, as its own
    /// one went well.
    fn successes(&self, outcome: Outcome) -> impl Iterator<Item = &Growth> {
        let connecting = matches!(
            outcome,
            Outcome::ConnectRefused
                | Outcome::ConnectTimeout
                | Outcome::ConnectUnreachable
                | Outcome::ConnectLocal
        );
        let connects = connecting.then_some(&self.connects);
        connects.into_iter().chain([&self.answers])
    }

    fn had_failed(&self, outcome: Outcome, at: u64) -> bool {
        self.failed
            .is_some_and(|(how, when)| how == outcome && when.abs_diff(at) <= NEAR)
    }
}

impl Pasts {
    /// Takes how often each backend has succeeded so far. `service` says whose a backend is that has
    /// news.
    pub fn note(
        &mut self,
        totals: impl IntoIterator<Item = (SocketAddr, Successes)>,
        service: impl Fn(SocketAddr) -> Option<Name>,
        now: u64,
    ) {
        let from = self.noted.replace(now).unwrap_or(now);
        self.busy.clear();
        for (address, total) in totals {
            if self.backend(address, now).note(total, from, now) {
                self.busy.push(address);
                self.belongs(address, service(address));
            }
        }
    }

    /// A backend failed.
    pub fn failed(
        &mut self,
        address: SocketAddr,
        outcome: Outcome,
        service: Option<Name>,
        at: u64,
    ) {
        let backend = self.backend(address, at);
        backend.since = backend.since.min(at);
        backend.touched = backend.touched.max(at);
        if backend.failed.is_none_or(|(_, when)| when <= at) {
            backend.failed = Some((outcome, at));
        }
        if service.is_some() {
            self.belongs(address, service);
        }
    }

    /// What was seen before and beside a failure.
    pub fn ask(&self, address: SocketAddr, outcome: Outcome, at: u64) -> Past {
        let Some(backend) = self.backends.get(&address) else {
            return Past::default();
        };
        let (mut fine, mut failed) = (BTreeSet::new(), BTreeSet::new());
        let service = backend
            .service
            .as_ref()
            .and_then(|it| self.services.get(it));
        for other in service.into_iter().flatten() {
            let Some(sibling) = self
                .backends
                .get(other)
                .filter(|_| other.ip() != address.ip())
            else {
                continue;
            };
            if sibling.had_failed(outcome, at) {
                failed.insert(other.ip());
            } else if sibling.successes(outcome).any(|some| some.near(at)) {
                fine.insert(other.ip());
            }
        }
        let count = |set: &BTreeSet<_>| u32::try_from(set.len()).unwrap_or(u32::MAX);
        Past {
            last_success: backend
                .successes(outcome)
                .filter_map(|some| some.last(at))
                .min(),
            watched: Duration::from_nanos(at.saturating_sub(backend.since)),
            siblings_fine: count(&(&fine - &failed)),
            siblings_failed: count(&failed),
        }
    }

    /// Backends that had succeeded when the counts were read last.
    pub fn busy(&self) -> &[SocketAddr] {
        &self.busy
    }

    /// How many backends are remembered.
    pub fn len(&self) -> usize {
        self.backends.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.backends.is_empty()
    }

    fn backend(&mut self, address: SocketAddr, now: u64) -> &mut Backend {
        if self.backends.len() >= MOST && !self.backends.contains_key(&address) {
            self.make_room();
        }
        self.backends
            .entry(address)
            .or_insert_with(|| Backend::new(now))
    }

    /// A sixteenth at once: a look at all for every single one would cost too much.
    fn make_room(&mut self) {
        let touched = |(address, backend): (&SocketAddr, &Backend)| (backend.touched, *address);
        let mut oldest: Vec<_> = self.backends.iter().map(touched).collect();
        oldest.sort_unstable();
        for (_, address) in oldest.into_iter().take(MOST / 16) {
            self.belongs(address, None);
            self.backends.remove(&address);
        }
    }

    fn belongs(&mut self, address: SocketAddr, service: Option<Name>) {
        let Some(backend) = self.backends.get_mut(&address) else {
            return;
        };
        if backend.service == service {
            return;
        }
        let before = std::mem::replace(&mut backend.service, service.clone());
        if let Some(before) = before
            && let Some(all) = self.services.get_mut(&before)
        {
            all.remove(&address);
            if all.is_empty() {
                self.services.remove(&before);
            }
        }
        if let Some(service) = service {
            self.services.entry(service).or_default().insert(address);
        }
    }
}

#[cfg(test)]
#[path = "past_tests.rs"]
mod tests;
