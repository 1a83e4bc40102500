//! In: what happens between the agent and the Kubernetes API. Out: what is told of it in metrics.
//! Shared by all who ask; counts only.
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;

pub use super::failed::Reason;
pub use super::resource::Verb;
use super::resource::{Call, PODS, Resource};

/// How far what is known of a resource can be trusted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// All objects are known, and changes come in.
    pub synced: bool,
    /// When the API last told of it.
    pub heard: Option<Timestamp>,
    /// What failed last, if that still lasts.
    pub failing: Option<Reason>,
}

/// A snapshot. Resources by their name in the API.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Resources that are watched.
    pub states: BTreeMap<&'static str, State>,
    /// Answers by verb, resource and status; 0 where there was none.
    pub requests: BTreeMap<(Verb, &'static str, u16), u64>,
    /// Bytes of bodies.
    pub received: BTreeMap<&'static str, u64>,
    /// Failures.
    pub errors: BTreeMap<(&'static str, Reason), u64>,
}

impl Report {
    /// What there is to say where no API is configured.
    pub fn unconfigured() -> Self {
        Self {
            states: [(PODS.plural, State::default())].into(),
            ..Self::default()
        }
    }

    /// Since when something that is watched is not known any more, or not yet: the oldest word of
    /// those that fail. `None` while all is well.
    pub fn stale_since(&self) -> Option<Option<Timestamp>> {
        let failing = self.states.values().filter(|state| !state.synced);
        failing.map(|state| state.heard).min()
    }
}

/// The counts, and what is known of each resource that is watched.
#[derive(Debug, Default)]
pub struct Stats(Mutex<Report>);

impl Stats {
    /// As of now.
    pub fn report(&self) -> Report {
        self.lock().clone()
    }

    /// An answer, or none (0).
    pub fn answered(&self, call: &Call, status: u16) {
        let key = (call.verb, call.resource.plural, status);
        *self.lock().requests.entry(key).or_default() += 1;
    }

    /// Bytes of a body.
    pub fn received(&self, resource: &Resource, bytes: usize) {
        *self.lock().received.entry(resource.plural).or_default() += bytes as u64;
    }

    /// A failure that says nothing of what is known.
    pub fn error(&self, resource: &Resource, reason: Reason) {
        *self
            .lock()
            .errors
            .entry((resource.plural, reason))
            .or_default() += 1;
    }

    /// From now on this resource is watched.
    pub fn watching(&self, resource: &Resource) {
        self.lock().states.entry(resource.plural).or_default();
    }

    /// It is not watched any more.
    pub fn ended(&self, resource: &Resource) {
        self.lock().states.remove(resource.plural);
    }

    /// The API told of it: what is known is true as of now. Says whether something was amiss.
    pub fn heard(&self, resource: &Resource, at: Timestamp) -> bool {
        let mut report = self.lock();
        let Some(state) = report.states.get_mut(resource.plural) else {
            return false;
        };
        let was = std::mem::replace(
            state,
            State {
                synced: true,
                heard: Some(at),
                failing: None,
            },
        );
        was.failing.is_some()
    }

    /// What is known of it is not sure any more. Says whether that is news.
    pub fn failing(&self, resource: &Resource, reason: Reason) -> bool {
        self.error(resource, reason);
        let mut report = self.lock();
        let Some(state) = report.states.get_mut(resource.plural) else {
            return false;
        };
        state.synced = false;
        state.failing.replace(reason) != Some(reason)
    }

    fn lock(&self) -> MutexGuard<'_, Report> {
        // Each count stands for itself.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
