//! In: events in the order of time, of data planes whose threads serve several requests at once.
//! Out: flows. Joins failures to the clients that waited for them by thread, words and time, where
//! what a thread does next says nothing.
use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::SocketAddr;
use std::ops::Bound;

use crate::cause::taxonomy::{Phase, Protocol};
use crate::event::{Event, ExchangeId, Kind, Leg};
use crate::profiles::Chain;

use super::checks::Checks;
use super::failures::{FIRST, Failures, LAST, Place, around};
use super::fit::{self, Said, said};
use super::greeting;
use super::open::{Open, Retry};
use super::times::{BEHIND, DOUBT, LINKED, NEAR};
use super::{Ending, Flow, MOST_OPEN, Waits, is_failure};

/// Joins events to flows. Bounded by [`MOST_OPEN`].
#[derive(Debug)]
pub struct Matcher {
    waits: Waits,
    open: Failures<Open>,
    /// What clients got and has not been compared yet.
    clients: BTreeMap<Place, Event>,
    /// Errors of clients that waited for the same connection as one that failed.
    sharing: BTreeMap<Place, Event>,
    retries: HashMap<ExchangeId, Retry>,
    /// Endings of attempts that were told, for the attempts before them.
    told: HashMap<ExchangeId, (u64, Ending)>,
    /// What the controller does for itself.
    checks: Checks,
    forgotten: u64,
    /// How often the bound was met.
    pub evicted: u64,
}

impl Matcher {
    /// An empty one.
    pub fn new(waits: Waits) -> Self {
        Self {
            waits,
            open: Failures::default(),
            clients: BTreeMap::new(),
            sharing: BTreeMap::new(),
            retries: HashMap::new(),
            told: HashMap::new(),
            checks: Checks::default(),
            forgotten: 0,
            evicted: 0,
        }
    }

    /// Takes one event of a controller that joins so.
    pub fn push(&mut self, event: Event, chain: Chain) {
        match event.leg {
            Leg::Upstream => self.upstream(event, chain),
            Leg::Downstream => {
                self.clients.insert((event.time, event.exchange), event);
            }
        }
    }

    /// A backend has answered.
    pub fn answers(&mut self, cgroup: u64, backend: SocketAddr) {
        self.checks.answers(cgroup, backend);
    }

    fn upstream(&mut self, event: Event, chain: Chain) {
        let id = event.exchange;
        if let Some(prev) = event.prev {
            self.note_retry(prev, &event);
        }
        match event.kind {
            Kind::Retry => {}
            Kind::Released => {
                if let Some(open) = self.open.get_mut(id) {
                    open.released = Some(event.time);
                    open.thread = event.tid;
                }
            }
            Kind::Response if !is_failure(&event) => {
                if let Some(open) = event.prev.and_then(|prev| self.open.get_mut(prev))
                    && open.attempt().same_words(&event) != Some(false)
                {
                    open.retried = Some(event.time);
                }
                if let Some(retry) = self.retries.get_mut(&id) {
                    retry.answer = Some(event);
                }
            }
            _ if self.open.has(id) => self.evicted += 1,
            _ => {
                // What began like an answer was none.
                if let Some(retry) = self.retries.get_mut(&id) {
                    retry.answer = None;
                }
                let (at, mut open) = ((event.time, id), Open::new(event, chain));
                // Envoy's checks have a thread of their own, which is not watched.
                if chain != Chain::Pool && open.teaches() {
                    let (began, time) = (open.failure.began(), open.failure.time);
                    open.on_beat = self.checks.beats(open.kind, began.unwrap_or(time), time);
                }
                self.open.insert(at, open);
            }
        }
    }

    fn note_retry(&mut self, prev: ExchangeId, event: &Event) {
        let id = event.exchange;
        if self.retries.len() >= MOST_OPEN {
            self.evicted += 1;
            return;
        }
        if let Some(open) = self.open.get_mut(prev)
            && open.attempt().same_words(event) != Some(false)
        {
            open.retry = Some(id);
            if event.kind == Kind::Retry && open.attempt().tried_again(event.time, None) {
                open.tried = Some(event.time);
            }
        }
        self.retries.entry(id).or_insert(Retry {
            began: event.time,
            answer: None,
        });
    }

    /// Whether this attempt is one of the controller's own.
    fn own(&self, open: &Open) -> bool {
        self.checks.has(open.kind, open.on_beat)
    }

    /// Gives the flows that are settled at `now`; all of them when `now` is `u64::MAX`.
    pub fn settled(&mut self, now: u64) -> Vec<Flow> {
        let mut flows = Vec::new();
        self.compare(now, &mut flows);
        self.share(now);
        self.note_unasked(now);
        let done: Vec<(ExchangeId, Ending)> = self
            .open
            .values()
            .filter_map(|open| Some((open.failure.exchange, self.ending(open, now)?)))
            .collect();
        for (id, ending) in done {
            self.close(id, ending, now, &mut flows);
        }
        self.evict(now, &mut flows);
        self.forget(now);
        flows
    }

    /// Compares what clients got, once it has rested, with the failures around it.
    fn compare(&mut self, now: u64, flows: &mut Vec<Flow>) {
        let rested = now.saturating_sub(self.waits.settle);
        let young = if now == u64::MAX {
            BTreeMap::new()
        } else {
            self.clients.split_off(&(rested, FIRST))
        };
        let mut batch = std::mem::replace(&mut self.clients, young);
        let pairs = self.pairs(&batch);
        for (place, failure) in &pairs {
            let ending = fit::ending(batch[place].clone());
            if let Some(open) = self.open.get_mut(*failure) {
                open.ending = Some(ending);
            }
        }
        let ended: HashSet<ExchangeId> = pairs
            .iter()
            .filter(|(place, _)| batch[place].protocol == Some(Protocol::Http1))
            .map(|(place, _)| place.1)
            .collect();
        // Attempts before the last one: what is nobody's last one.
        for (place, failure) in pairs {
            if let Some(client) = batch.remove(&place) {
                self.join_earlier(failure, client);
            }
        }
        batch.retain(|(_, exchange), _| !ended.contains(exchange));
        for client in batch.into_values() {
            self.left_over(client, flows);
        }
    }

    /// The clients' errors and the failures that fit best, each in one pair at most.
    fn pairs(&self, batch: &BTreeMap<Place, Event>) -> Vec<(Place, ExchangeId)> {
        let mut pairs = Vec::new();
        for (place, client) in batch {
            if greeting::had_bytes(batch, place) {
                continue;
            }
            let greets = greeting::goes_on([batch, &self.clients], place, client);
            let far = client.prev.is_some() || said(client) == Said::Cut;
            let near = if far { LINKED } else { NEAR };
            let from = client.time.saturating_sub(near);
            for open in self.failed_within(from, client.time.saturating_add(BEHIND)) {
                let own = self.own(open);
                if open.ending.is_none()
                    && (!greets || open.attempt().greeted(client))
                    && let Some(distance) = open.attempt().distance(client, own)
                    && (!own || open.attempt().certain(client, open.on_beat))
                {
                    pairs.push((distance, *place, open.failure.exchange));
                }
            }
        }
        pairs.sort_unstable();
        let (mut clients, mut failures) = (HashSet::new(), HashSet::new());
        pairs.retain(|(_, client, failure)| {
            // Where answers can be read, an exchange has one ending.
            let readable = batch[client].protocol == Some(Protocol::Http1);
            let one = (if readable { 0 } else { client.0 }, client.1);
            let free = !clients.contains(&one) && !failures.contains(failure);
            free && clients.insert(one) && failures.insert(*failure)
        });
        pairs
            .into_iter()
            .map(|(_, client, failure)| (client, failure))
            .collect()
    }

    fn failed_within(&self, from: u64, to: u64) -> impl Iterator<Item = &Open> {
        let range = (Bound::Included((from, FIRST)), Bound::Included((to, LAST)));
        self.open.within(range)
    }

    /// What the client got ends the attempts for the same request before this one, too.
    fn join_earlier(&mut self, failure: ExchangeId, client: Event) {
        let Some(last) = self.open.get(failure) else {
            return;
        };
        let time = last.failure.time;
        let kind = last.kind;
        let since = client.began().unwrap_or(time);
        let before: Vec<ExchangeId> = self
            .failed_within(since.min(time), time)
            .filter(|open| open.ending.is_none() && open.failure.exchange != failure)
            .filter(|open| {
                let attempt = open.attempt();
                open.retry == Some(failure)
                    && attempt.tried_again(last.began(), last.failure.request.as_ref())
                    || attempt.precedes(&last.attempt(), &client, self.own(open))
            })
            .map(|open| open.failure.exchange)
            .collect();
        self.again(&[kind], &client);
        let ending = fit::ending(client);
        for id in before {
            if let Some(open) = self.open.get_mut(id) {
                open.ending = Some(ending.clone());
            }
        }
    }

    /// Notes the failures that have rested and around which no client was at all: one that cannot be
    /// read may ask on a beat, too.
    fn note_unasked(&mut self, now: u64) {
        let rest = 2 * self.waits.settle;
        for open in self.open.values_mut().filter(|open| !open.noted) {
            let rested = open.failure.time.saturating_add(rest) <= now;
            if rested && open.ending.is_none() && !open.possible && !open.again {
                open.noted = true;
                self.checks.unasked(open.kind, open.failure.time);
            }
        }
    }

    /// Marks attempts of the same kind that failed for a client, though not with its answer: retries
    /// of its request are nobody else's, and no checks.
    fn again(&mut self, kinds: &[u64], client: &Event) {
        if kinds.is_empty() {
            return;
        }
        for open in self.open.within_mut(around(client)) {
            let again = kinds.contains(&open.kind) && open.attempt().possible(client);
            open.again |= again;
            if again && open.noted {
                self.checks.unasked_no_more(open.kind);
            }
        }
    }

    /// What is no failure's answer: a success that may hide failures, or an error of the
    /// controller's own.
    fn left_over(&mut self, client: Event, flows: &mut Vec<Flow>) {
        let (mut shared, mut kinds) = (false, Vec::new());
        for open in self.open.within_mut(around(&client)) {
            let attempt = open.attempt();
            let own = self.checks.has(open.kind, open.on_beat);
            // What a failure may have caused is no error of the controller's own.
            let free = open.ending.is_none() && (!own || attempt.certain(&client, open.on_beat));
            shared |= free && attempt.explains(&client);
            let hides = attempt.hidden_by(&client, own);
            let begins = attempt.begins(&client);
            let likely = open.meets(&client);
            if likely {
                kinds.push(open.kind);
            }
            if begins && open.ending.is_none() {
                open.ending = Some(Ending::Cut(Box::new(client.clone())));
            } else if let Some(distance) = hides {
                open.hide(distance, &client);
            }
        }
        self.again(&kinds, &client);
        if said(&client) != Said::Error {
            return;
        }
        if client.kind != Kind::Refused
            && let Some(failure) = self.shared_by(&client)
        {
            let ending = Ending::Answered(Box::new(client.clone()));
            flows.push(Flow { failure, ending });
            self.sharing.insert((client.time, client.exchange), client);
        } else if !shared || client.kind == Kind::Refused {
            flows.push(Flow {
                ending: Ending::Answered(Box::new(client.clone())),
                failure: client,
            });
        }
    }

    /// The failed connect that this client was told of although it was another one's.
    fn shared_by(&self, client: &Event) -> Option<Event> {
        let from = client.time.saturating_sub(NEAR);
        self.failed_within(from, client.time.saturating_add(BEHIND))
            .filter(|open| open.attempt().shares(client))
            .min_by_key(|open| {
                let released = open.released.unwrap_or(open.failure.time);
                client.time.checked_sub(released).unwrap_or(u64::MAX)
            })
            .map(|open| open.failure.clone())
    }

    /// Attempts that failed after their clients had been told of another one's failure: those
    /// clients' failures were told.
    fn share(&mut self, now: u64) {
        if self.sharing.is_empty() {
            return;
        }
        let settle = self.waits.settle;
        let waiting = self.open.values_mut().filter(|open| {
            let rested = open.failure.time.saturating_add(settle) <= now;
            rested && open.ending.is_none() && open.failure.phase == Phase::Connect
        });
        for open in waiting {
            let since = open.failure.connect_time.unwrap_or(open.failure.time);
            let range = (since, FIRST)..=(open.failure.time, LAST);
            let near = self
                .sharing
                .range(range)
                .filter_map(|(place, client)| Some((open.attempt().told_before(client)?, *place)))
                .min();
            if let Some((_, place)) = near
                && self.sharing.remove(&place).is_some()
            {
                open.ending = Some(Ending::NoClient);
            }
        }
    }

    fn close(&mut self, id: ExchangeId, ending: Ending, now: u64, flows: &mut Vec<Flow>) {
        let Some(mut open) = self.open.remove(id) else {
            return;
        };
        // One that had an ending before was not without a client from the start. Nor was one of which
        // nothing shows that it was an exchange: an idle connection's end.
        let exchange = open.failure.phase != Phase::Response || open.failure.status.is_some();
        let unjoined = ending == Ending::NoClient && open.ending.is_none() && !open.awaited;
        // Nor does one teach that is nobody's by what others are.
        let sure = open.hidden.is_none() || self.own(&open);
        let alone = unjoined && exchange && open.teaches() && sure && !open.again;
        if matches!(ending, Ending::Retried(_)) && open.failure.request.is_none() {
            let retry = open.retry.filter(|_| open.tried.is_some());
            let answer = retry.and_then(|retry| self.retries.get(&retry)?.answer.as_ref());
            open.failure.request = match answer {
                Some(answer) => answer.request.clone(),
                None => open.hidden.and_then(|hidden| hidden.request),
            };
        }
        if alone {
            let time = open.failure.time;
            self.checks.alone(open.kind, time, !open.unclear);
        } else if matches!(&ending, Ending::Answered(client) if client.status.is_some()) {
            self.checks.asked(open.kind);
        }
        if self.told.len() < MOST_OPEN {
            self.told.insert(id, (now, ending.clone()));
        }
        flows.push(Flow {
            failure: open.failure,
            ending,
        });
    }

    /// The ending of a failure, once it is known or cannot be known any more.
    fn ending(&self, open: &Open, now: u64) -> Option<Ending> {
        if open.ending.is_some() {
            return open.ending.clone();
        }
        let failure = &open.failure;
        let since = open.released.unwrap_or(failure.time).max(failure.time);
        // Until what came next has rested and was compared.
        if since.saturating_add(2 * self.waits.settle) > now {
            return None;
        }
        let own = self.own(open);
        // Without any client around it, what its thread did next was another check.
        if !own
            && open.possible
            && let Some(ending) = self.retried(open)
        {
            return self.hidden(open, ending, now);
        }
        if let Some(hidden) = open.hidden.as_ref().filter(|_| !own) {
            return self.hidden(open, open.hidden_by(hidden), now);
        }
        let cut = failure.kind != Kind::Response && failure.head_complete();
        let (relay, retry) = (self.waits.relay, self.waits.retry);
        let over = failure.time.saturating_add(if cut { relay } else { retry }) <= now;
        let ending = if !own && (cut || open.awaited) {
            Ending::Unknown
        } else {
            Ending::NoClient
        };
        over.then_some(ending)
    }

    /// What a success hides; where that may be chance, it is nobody's if another of its kind was.
    fn hidden(&self, open: &Open, ending: Ending, now: u64) -> Option<Ending> {
        if !open.doubtful() || !matches!(ending, Ending::Retried(_)) {
            return Some(ending);
        }
        let time = open.failure.time;
        if self
            .checks
            .unasked_since(open.kind, time.saturating_sub(self.waits.retry))
        {
            return Some(Ending::NoClient);
        }
        (time.saturating_add(DOUBT) <= now).then_some(ending)
    }

    /// What became of the attempt that the same thread made next.
    fn retried(&self, open: &Open) -> Option<Ending> {
        let id = open.retry?;
        let retry = self.retries.get(&id)?;
        // Whoever was answered before it began may be its client, who asks for the same again.
        if open.answered.is_some_and(|time| time < retry.began) {
            return None;
        }
        if let Some((_, ending)) = self.told.get(&id) {
            let again = open.attempt().tried_again(retry.began, None);
            return again.then(|| ending.clone());
        }
        let answer = retry.answer.as_ref()?;
        open.attempt()
            .tried_again(retry.began, answer.request.as_ref())
            .then_some(Ending::Retried(answer.status))
    }

    fn evict(&mut self, now: u64, flows: &mut Vec<Flow>) {
        while let Some(id) = self.open.beyond() {
            self.evicted += 1;
            self.close(id, Ending::Unknown, now, flows);
        }
        while self.clients.len() > MOST_OPEN {
            self.evicted += 1;
            self.clients.pop_first();
        }
    }

    fn forget(&mut self, now: u64) {
        if now < self.forgotten.saturating_add(self.waits.release) {
            return;
        }
        self.forgotten = now;
        let retry = self.waits.retry;
        self.sharing = self.sharing.split_off(&(now.saturating_sub(retry), FIRST));
        self.retries
            .retain(|_, one| one.began.saturating_add(2 * retry) > now);
        self.told
            .retain(|_, (time, _)| time.saturating_add(2 * retry) > now);
        // Health checks come at intervals of seconds to minutes.
        self.checks.forget(now.saturating_sub(20 * retry));
    }
}

#[cfg(test)]
#[path = "matcher_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "unread_tests.rs"]
mod unread_tests;
