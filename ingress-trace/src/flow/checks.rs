//! In: failures around which no client waited. Out: which attempts are a controller's own (health
//! checks, traces, authorities): the same thing that failed so several times. Pure, bounded.
use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use super::MOST_OPEN;
use super::beat::Beat;
use crate::cause::reading::SWITCHING;
use crate::event::Event;

/// So often alone is no chance: the client of a lonely failure may have been lost, or still wait.
const ENOUGH: u32 = 3;

/// Kinds whose beat is looked for: what clients ask for in vain may be as many as they like.
const KINDS: usize = 4096;

/// What is known of one kind of attempts.
#[derive(Debug, Default)]
struct Known {
    alone: u32,
    /// When it last failed.
    time: u64,
    beat: Beat,
    /// Whether any of them was seen to be nobody's at its time.
    unasked: bool,
}

/// Attempts by backend and words.
#[derive(Debug, Default)]
pub(super) struct Checks {
    known: HashMap<u64, Known>,
}

impl Checks {
    /// Takes a failure as it comes; tells whether it is on the beat of a check.
    pub fn beats(&mut self, failure: &Event) -> bool {
        let began = failure.began().unwrap_or(failure.time);
        self.known(failure, KINDS)
            .is_some_and(|known| known.beat.next(began))
    }

    /// Notes a failure that no client was told of.
    pub fn unasked(&mut self, failure: &Event) {
        if let Some(known) = self.known.get_mut(&key(failure)) {
            known.unasked = true;
        }
    }

    fn known(&mut self, failure: &Event, most: usize) -> Option<&mut Known> {
        if failure.status == Some(SWITCHING) {
            return None; // an upgrade that its client did not use
        }
        let key = key(failure);
        if self.known.len() >= most && !self.known.contains_key(&key) {
            return None;
        }
        let known = self.known.entry(key).or_default();
        known.time = known.time.max(failure.time);
        Some(known)
    }

    /// Notes a failure that no client seems to have waited for.
    pub fn alone(&mut self, failure: &Event) {
        self.note(failure, 1);
    }

    /// Notes a failure that certainly no client waited for.
    pub fn certain(&mut self, failure: &Event) {
        self.note(failure, ENOUGH);
    }

    /// Notes a failure that a client had waited for: what was learnt before may be its requests.
    pub fn asked(&mut self, failure: &Event) {
        self.known.remove(&key(failure));
    }

    fn note(&mut self, failure: &Event, times: u32) {
        if let Some(known) = self.known(failure, MOST_OPEN) {
            known.alone = known.alone.saturating_add(times);
        }
    }

    /// Whether this attempt is one of the controller's own; `on_beat`: what [`Checks::beats`] told.
    pub fn has(&self, failure: &Event, on_beat: bool) -> bool {
        !self.known.is_empty()
            && self
                .known
                .get(&key(failure))
                .is_some_and(|known| known.alone >= ENOUGH || on_beat && known.unasked)
    }

    /// Forgets what has not failed since `time`.
    pub fn forget(&mut self, time: u64) {
        self.known.retain(|_, known| known.time > time);
    }
}

/// A check asks the same of the same backend each time; clients ask other things there.
fn key(failure: &Event) -> u64 {
    let mut hasher = DefaultHasher::new();
    let words = failure.request.as_ref();
    let words = words.map(|request| (&request.method, &request.path));
    (failure.cgroup, failure.remote, words).hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Kind;
    use crate::event::example::up;

    #[test]
    fn what_failed_alone_three_times_is_the_controllers_own_until_it_rests() {
        let check = |cookie| up(cookie, Kind::Reset, 1000 * cookie);
        let mut other = check(4);
        other.request.as_mut().expect("a request").path = "/other".into();
        let mut checks = Checks::default();
        for cookie in 1..=3 {
            assert!(!checks.has(&check(4), false));
            checks.alone(&check(cookie));
        }
        assert!(checks.has(&check(4), false) && !checks.has(&other, false));
        checks.certain(&other);
        assert!(checks.has(&other, false));
        checks.asked(&other);
        assert!(!checks.has(&other, false), "clients ask for it, too");
        checks.certain(&other);
        checks.forget(3000);
        assert!(!checks.has(&check(4), false) && checks.has(&other, false));
    }
}
