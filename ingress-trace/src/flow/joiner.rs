//! In: events in the order of time, of data planes whose thread goes on with a failed request at once
//! (nginx). Out: flows, joined by what a thread did next.
use std::collections::{BTreeMap, HashMap, VecDeque};

use ingress_trace_common::sample::flag;

use crate::cause::taxonomy::{Phase, Protocol};
use crate::event::{Event, ExchangeId, Kind, Leg};

use super::failures::{Failures, Place};
use super::{Ending, Flow, MOST_OPEN, Waits, is_failure};

#[derive(Debug)]
struct Open {
    failure: Event,
    released: Option<(Option<u32>, u64)>,
    next: Next,
}

impl Open {
    /// Whether the backend ended inside the body of a response: no retry and no other status follows.
    fn cut(&self) -> bool {
        let ended = matches!(self.failure.kind, Kind::Reset | Kind::Closed | Kind::Broken);
        ended && self.failure.head_complete()
    }
}

#[derive(Debug, PartialEq)]
enum Next {
    Nothing,
    Attempt(ExchangeId),
    Client(Box<Event>),
}

/// What is kept of a backend's own error to recognize it when it is relayed.
#[derive(Debug)]
struct Relayable {
    exchange: ExchangeId,
    time: u64,
    began: Option<u64>,
    method: Option<String>,
}

/// Joins events to flows. Bounded: see [`MOST_OPEN`].
#[derive(Debug)]
pub struct Joiner {
    waits: Waits,
    /// Failed attempts that wait for their ending, by time.
    open: Failures<Open>,
    /// Attempts that follow failed ones and have not failed (yet): when they began, and their
    /// endings once they got a response.
    retries: HashMap<ExchangeId, (u64, Option<Ending>)>,
    /// Failures that were told without an ending, and when: what comes late belongs to them.
    untold: HashMap<ExchangeId, u64>,
    /// Backends' own errors that wait for being relayed, by cgroup and status; they stay for a
    /// while after they were told, for a controller that relays late.
    errors: HashMap<(u64, Option<u16>), VecDeque<Relayable>>,
    /// Which failure a client's exchange was joined to.
    joined: HashMap<ExchangeId, ExchangeId>,
    /// Errors that clients got and that nothing explains yet, by time.
    answers: BTreeMap<Place, Event>,
    /// When what is too old was forgotten last.
    forgotten: u64,
    /// How often the bound was met.
    pub evicted: u64,
}

impl Joiner {
    /// An empty one.
    pub fn new(waits: Waits) -> Self {
        Self {
            waits,
            open: Failures::default(),
            retries: HashMap::new(),
            untold: HashMap::new(),
            errors: HashMap::new(),
            joined: HashMap::new(),
            answers: BTreeMap::new(),
            forgotten: 0,
            evicted: 0,
        }
    }

    /// Takes one event.
    pub fn push(&mut self, event: Event) {
        match event.leg {
            Leg::Upstream => self.upstream(event),
            Leg::Downstream => self.downstream(event),
        }
    }

    fn upstream(&mut self, event: Event) {
        let id = event.exchange;
        if let Some(prev) = event.prev {
            self.follow(prev, Next::Attempt(id));
            self.tell_request(prev, &event);
        }
        match event.kind {
            Kind::Retry => self.note_retry(id, event.time, None),
            Kind::Released => {
                if let Some(open) = self.open.get_mut(id) {
                    open.released = Some((event.tid, event.time));
                }
            }
            Kind::Response if !is_failure(&event) => {
                if event.prev.is_some() {
                    self.note_retry(id, event.time, Some(Ending::Retried(event.status)));
                }
            }
            _ => self.fail(event),
        }
    }

    fn note_retry(&mut self, id: ExchangeId, time: u64, ending: Option<Ending>) {
        if self.retries.len() < MOST_OPEN || self.retries.contains_key(&id) {
            self.retries.insert(id, (time, ending));
        } else {
            self.evicted += 1;
        }
    }

    /// An attempt that sent nothing was for the same request as the one that follows it.
    fn tell_request(&mut self, prev: ExchangeId, event: &Event) {
        let follows = Next::Attempt(event.exchange);
        if let Some(open) = self.open.get_mut(prev)
            && open.next == follows
            && open.failure.request.is_none()
        {
            open.failure.request.clone_from(&event.request);
        }
    }

    fn fail(&mut self, event: Event) {
        let id = event.exchange;
        if self.open.has(id) {
            // The same socket failed again before the first failure was told: that one stands.
            self.evicted += 1;
            return;
        }
        self.retries.remove(&id);
        let released = matches!(
            event.kind,
            Kind::GaveUp | Kind::Closed | Kind::ConnectFailed
        )
        .then_some((event.tid, event.time))
        .filter(|_| event.flags.any(flag::RELEASED));
        if event.kind == Kind::Response {
            let waiting = self.errors.entry((event.cgroup, event.status)).or_default();
            waiting.push_back(Relayable {
                exchange: id,
                time: event.time,
                began: event.began(),
                method: method(&event),
            });
        }
        let open = Open {
            released,
            next: Next::Nothing,
            failure: event,
        };
        self.open.insert((open.failure.time, id), open);
    }

    fn downstream(&mut self, event: Event) {
        if let Some(prev) = event.prev
            && self.is_next(prev, &event)
        {
            self.follow(prev, Next::Client(Box::new(event)));
        } else if event.kind == Kind::DownEnd {
            self.client_left(event);
        } else if event.kind == Kind::Refused
            || (event.kind == Kind::Response && event.status >= Some(500))
        {
            self.answered(event);
        }
    }

    /// Whether this is what followed a failed attempt. A thread that had relayed a backend's error
    /// before it released that connection has done with it: what it does next is another request's.
    fn is_next(&self, prev: ExchangeId, event: &Event) -> bool {
        let Some(open) = self.open.get(prev) else {
            // Told already, without an answer: this comes too late, but belongs to it.
            return self.untold.contains_key(&prev);
        };
        // The response whose body was cut may be written only now, but never another one.
        let another = event.kind == Kind::Response && event.status != open.failure.status;
        if another && open.cut() && event.status.is_some() {
            return false;
        }
        match &open.next {
            Next::Nothing => true,
            Next::Client(before) => before.exchange == event.exchange,
            Next::Attempt(_) => false,
        }
    }

    /// An error without a link: the relayed answer of a backend, or one without an upstream.
    fn answered(&mut self, event: Event) {
        match self.relayed(&event) {
            // One that was told before is not told again as an error without an upstream.
            Some(id) => self.follow(id, Next::Client(Box::new(event))),
            None => {
                self.answers.insert((event.time, event.exchange), event);
            }
        }
    }

    /// The oldest error of a backend that this answer may relay.
    fn relayed(&mut self, answer: &Event) -> Option<ExchangeId> {
        let key = (answer.cgroup, answer.status);
        let place = self
            .errors
            .get(&key)?
            .iter()
            .position(|error| relays(answer, error) && self.is_next(error.exchange, answer))?;
        self.errors
            .get_mut(&key)?
            .remove(place)
            .map(|error| error.exchange)
    }

    /// A client's connection that had been joined to a failure before has ended for good.
    fn client_left(&mut self, event: Event) {
        let Some(id) = self.joined.remove(&event.exchange) else {
            return;
        };
        let answered = self.open.get_mut(id).is_some_and(|open| match &open.next {
            Next::Client(before) => {
                before.kind == Kind::Response && before.status.is_none_or(|status| status >= 400)
            }
            Next::Nothing | Next::Attempt(_) => false,
        });
        // How a connection ends after an error says nothing about the error.
        if !answered {
            self.follow(id, Next::Client(Box::new(event)));
        }
    }

    fn follow(&mut self, id: ExchangeId, next: Next) {
        let client = match &next {
            Next::Client(event) => Some(event.exchange),
            _ => None,
        };
        let Some(open) = self.open.get_mut(id) else {
            return;
        };
        // Answered before, or cut inside what was relayed: the attempt is another request's.
        let over = matches!(open.next, Next::Client(_)) || open.cut();
        if over && client.is_none() {
            return;
        }
        open.next = next;
        if let Some(client) = client {
            self.joined.insert(client, id);
        }
    }

    /// Gives the flows that are settled at `now`; all of them when `now` is `u64::MAX`.
    pub fn settled(&mut self, now: u64) -> Vec<Flow> {
        let mut flows = Vec::new();
        let ready: Vec<(ExchangeId, Ending)> = self
            .open
            .values()
            .filter_map(|open| Some((open.failure.exchange, self.ending(open, now)?)))
            .collect();
        for (id, ending) in ready {
            self.close(id, ending, now, &mut flows);
        }
        self.evict(now, &mut flows);
        let settle = self.waits.settle;
        while let Some(entry) = self.answers.first_entry() {
            if entry.key().0.saturating_add(settle) > now {
                break;
            }
            let answer = entry.remove();
            flows.push(Flow {
                ending: Ending::Answered(Box::new(answer.clone())),
                failure: answer,
            });
        }
        self.forget(now);
        flows
    }

    fn close(&mut self, id: ExchangeId, ending: Ending, now: u64, flows: &mut Vec<Flow>) {
        if let Some(open) = self.open.remove(id) {
            if let Next::Client(event) = &open.next {
                self.joined.remove(&event.exchange);
            }
            if ending == Ending::Unknown && self.untold.len() < MOST_OPEN {
                self.untold.insert(id, now);
            }
            flows.push(Flow {
                failure: open.failure,
                ending,
            });
        }
    }

    fn evict(&mut self, now: u64, flows: &mut Vec<Flow>) {
        while let Some(id) = self.open.beyond() {
            self.evicted += 1;
            self.close(id, Ending::Unknown, now, flows);
        }
        while self.answers.len() > MOST_OPEN {
            self.evicted += 1;
            self.answers.pop_first();
        }
    }

    fn forget(&mut self, now: u64) {
        if now < self.forgotten.saturating_add(self.waits.release) {
            return; // a pass over all of it is not needed every time
        }
        self.forgotten = now;
        let retry = self.waits.retry;
        self.untold
            .retain(|_, time| time.saturating_add(retry) > now);
        self.retries
            .retain(|_, (time, _)| time.saturating_add(retry) > now);
        self.errors.retain(|_, waiting| {
            let old = |error: &Relayable| error.time.saturating_add(retry) <= now;
            while waiting.front().is_some_and(old) || waiting.len() > MOST_OPEN {
                waiting.pop_front();
            }
            !waiting.is_empty()
        });
    }

    /// The ending of a failure, once it is known or cannot be known any more.
    fn ending(&self, open: &Open, now: u64) -> Option<Ending> {
        let failed = open.failure.time;
        match &open.next {
            Next::Client(event) => match client_ending(event, self.waits.settle, now)? {
                // What is whole is another request's: HTTP/2's RST_STREAM leaves no trace.
                Ending::Answered(_) if open.cut() && whole(event) => Some(Ending::Unknown),
                ending => Some(ending),
            },
            Next::Attempt(id) => self
                .attempt_ending(*id, now, 0)
                .or_else(|| expired(failed, self.waits.retry, now)),
            Next::Nothing => match open.released {
                Some((_, time)) => expired(time, self.waits.settle, now),
                None if open.failure.kind == Kind::Response => {
                    expired(failed, self.waits.relay, now)
                }
                None => expired(failed, self.waits.release, now),
            },
        }
    }

    /// The ending of the attempt that followed, which is that of the first one, too.
    fn attempt_ending(&self, id: ExchangeId, now: u64, depth: usize) -> Option<Ending> {
        // A chain is as long as the controller's tries; no bound of theirs is near this.
        const LONGEST: usize = 64;
        if let Some((_, ending)) = self.retries.get(&id) {
            return ending.clone();
        }
        let open = self.open.get(id)?;
        if depth == LONGEST {
            return Some(Ending::Unknown);
        }
        match &open.next {
            Next::Attempt(next) => self.attempt_ending(*next, now, depth + 1),
            _ => self.ending(open, now),
        }
    }
}

fn client_ending(event: &Event, settle: u64, now: u64) -> Option<Ending> {
    let flags = event.flags;
    let gone = flags.any(flag::FIN_IN | flag::RST_IN);
    match event.kind {
        // A good head behind a failure may be the beginning of a response that is cut: its end
        // follows at once, if so.
        Kind::Response if event.status.is_some_and(|status| status < 400) => {
            expired(event.time, settle, now).map(|_| Ending::Answered(Box::new(event.clone())))
        }
        Kind::Response => Some(Ending::Answered(Box::new(event.clone()))),
        Kind::DownEnd if flags.any(flag::COMPLETE) => {
            Some(Ending::Answered(Box::new(event.clone())))
        }
        Kind::DownEnd if gone => Some(Ending::Aborted),
        Kind::DownEnd => Some(Ending::Cut(Box::new(event.clone()))),
        // A write into a response that had begun: its end, if it is cut, follows at once. On a
        // leg that cannot be read, a write is all that is ever seen of an answer.
        _ if event.phase == Phase::Response && event.protocol == Some(Protocol::Http1) => {
            expired(event.time, settle, now)
        }
        _ => Some(Ending::Answered(Box::new(event.clone()))),
    }
}

fn expired(since: u64, wait: u64, now: u64) -> Option<Ending> {
    (since.saturating_add(wait) <= now).then_some(Ending::Unknown)
}

/// Whether a client's leg shows a response that was not cut.
fn whole(event: &Event) -> bool {
    let begun = event.kind == Kind::Response && event.status.is_some();
    begun || event.flags.any(flag::COMPLETE)
}

/// Whether a client's error is the answer that this backend gave: same status, not before it, and
/// the same request as far as controllers leave it alone, which was there before the backend was asked.
fn relays(answer: &Event, error: &Relayable) -> bool {
    let asked = answer.began().zip(error.began);
    error.time <= answer.time
        && asked.is_none_or(|(client, controller)| client <= controller)
        && match (method(answer), &error.method) {
            (Some(down), Some(up)) => down == *up,
            _ => true,
        }
}

fn method(event: &Event) -> Option<String> {
    event.request.as_ref().map(|request| request.method.clone())
}

#[cfg(test)]
#[path = "joiner_tests.rs"]
mod tests;
