//! In: failures that nobody waited for, as far as is known once no retry of theirs can go on. Out: which
//! attempts are a controller's own (health checks, traces, authorities). Pure, bounded.
use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::SocketAddr;

use super::MOST_OPEN;
use super::beat::Beat;
use crate::cause::taxonomy::Phase;
use crate::event::Event;

/// So often is no chance, where a client that cannot be read was there each time.
const ENOUGH: u32 = 3;

/// Kinds whose beat is looked for: what clients ask for in vain may be as many as they like.
const KINDS: usize = 4096;

/// What is known of one kind of attempts.
#[derive(Debug, Default)]
struct Known {
    alone: u32,
    /// When it was last alone.
    learnt: u64,
    /// When it last failed.
    failed: u64,
    beat: Beat,
    /// When the newest one failed that was nobody's as far as was known at its time; 0 when a newer one
    /// was somebody's.
    unasked: u64,
}

/// Attempts by backend and words.
#[derive(Debug, Default)]
pub(super) struct Checks {
    known: HashMap<u64, Known>,
}

impl Checks {
    /// Takes an attempt of this kind that failed; tells whether it is on the beat of a check.
    pub fn beats(&mut self, kind: u64, began: u64, time: u64) -> bool {
        self.known(kind, time, KINDS)
            .is_some_and(|known| known.beat.next(began))
    }

    fn known(&mut self, kind: u64, time: u64, most: usize) -> Option<&mut Known> {
        if self.known.len() >= most && !self.known.contains_key(&kind) {
            return None;
        }
        let known = self.known.entry(kind).or_default();
        known.failed = known.failed.max(time);
        Some(known)
    }

    /// Notes that no client was seen for a failure of this kind, once all around it was compared.
    pub fn unasked(&mut self, kind: u64, time: u64) {
        if let Some(known) = self.known.get_mut(&kind) {
            known.unasked = known.unasked.max(time);
        }
    }

    /// Notes that this was wrong.
    pub fn unasked_no_more(&mut self, kind: u64) {
        if let Some(known) = self.known.get_mut(&kind) {
            known.unasked = 0;
        }
    }

    /// Whether a failure of this kind was nobody's since then, as far as is known by now.
    pub fn unasked_since(&self, kind: u64, time: u64) -> bool {
        let known = self.known.get(&kind);
        known.is_some_and(|known| known.unasked > time)
    }

    /// A backend has answered: connects to it that fail from now on may be clients'.
    pub fn answers(&mut self, cgroup: u64, backend: SocketAddr) {
        if let Some(known) = self.known.get_mut(&connects(cgroup, backend)) {
            (known.alone, known.unasked) = (0, 0);
        }
    }

    /// Notes a failure of this kind that nobody seems to have waited for: surely nobody, or it is
    /// unlikely of those who were there.
    pub fn alone(&mut self, kind: u64, time: u64, surely: bool) {
        if let Some(known) = self.known(kind, time, MOST_OPEN) {
            let times = if surely { ENOUGH } else { 1 };
            known.alone = known.alone.saturating_add(times);
            known.learnt = known.learnt.max(time);
        }
    }

    /// Notes that a client had waited for one: what was learnt before may be its requests.
    pub fn asked(&mut self, kind: u64) {
        self.known.remove(&kind);
    }

    /// Whether such an attempt is one of the controller's own; `on_beat`: what [`Checks::beats`] told.
    pub fn has(&self, kind: u64, on_beat: bool) -> bool {
        let known = self.known.get(&kind);
        known.is_some_and(|known| known.alone >= ENOUGH || on_beat && known.unasked != 0)
    }

    /// Forgets what has not failed since `time`, and of the others what was not nobody's since.
    pub fn forget(&mut self, time: u64) {
        self.known.retain(|_, known| known.failed > time);
        for known in self.known.values_mut() {
            if known.learnt <= time {
                known.alone = 0;
            }
            if known.unasked <= time {
                known.unasked = 0;
            }
        }
    }
}

/// What repeats: a check asks the same of the same backend each time; clients ask other things there.
pub(super) fn kind(failure: &Event) -> u64 {
    if failure.phase == Phase::Connect {
        return connects(failure.cgroup, failure.remote);
    }
    let words = failure.request.as_ref();
    let words = words.map(|request| (&request.method, &request.path));
    hash(&(failure.cgroup, failure.remote, words))
}

/// The kind of connects that fail.
fn connects(cgroup: u64, backend: SocketAddr) -> u64 {
    hash(&(cgroup, backend, Phase::Connect.word()))
}

fn hash(what: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    what.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Kind;
    use crate::event::example::{refused, up};

    #[test]
    fn what_nobody_waited_for_is_the_controllers_own_until_it_rests() {
        let check = up(1, Kind::Reset, 1000);
        let mut other = up(2, Kind::Reset, 4000);
        other.request.as_mut().expect("a request").path = "/other".into();
        let (own, asked) = (kind(&check), kind(&other));
        assert_eq!(own, kind(&up(3, Kind::Closed, 9000)));
        let mut checks = Checks::default();
        for time in [1000, 2000, 3000] {
            assert!(!checks.has(own, false));
            checks.alone(own, time, false);
        }
        assert!(checks.has(own, false) && !checks.has(asked, false));
        checks.alone(asked, 4000, true);
        assert!(checks.has(asked, false));
        checks.asked(asked);
        assert!(!checks.has(asked, false), "clients ask for it, too");
        checks.alone(asked, 4000, true);
        // That it goes on to fail is not that nobody asks.
        checks.beats(own, 4000, 4000);
        checks.forget(3000);
        assert!(!checks.has(own, false) && checks.has(asked, false));
    }

    #[test]
    fn what_was_nobodys_on_a_beat_is_forgotten_as_well() {
        let mut checks = Checks::default();
        checks.beats(7, 1000, 1000);
        checks.unasked(7, 1000);
        assert!(checks.has(7, true) && !checks.has(7, false));
        assert!(checks.unasked_since(7, 999) && !checks.unasked_since(7, 1000));
        checks.beats(7, 9000, 9000);
        checks.forget(1000);
        assert!(
            !checks.has(7, true),
            "it goes on to fail, and nothing tells whose"
        );
    }

    #[test]
    fn a_backend_that_answers_again_has_its_failed_connects_told_again_and_no_other_checks() {
        let refused = refused(1, 1000);
        let check = up(2, Kind::Reset, 1000);
        let mut checks = Checks::default();
        for failure in [&refused, &check] {
            checks.alone(kind(failure), 1000, true);
            assert!(checks.has(kind(failure), false));
        }
        checks.answers(refused.cgroup + 1, refused.remote);
        assert!(checks.has(kind(&refused), false), "another controller's");
        checks.answers(refused.cgroup, refused.remote);
        assert!(!checks.has(kind(&refused), false) && checks.has(kind(&check), false));
    }
}
