//! In: a pod and a time. Out: what it was then: terminating, ready, its containers' ends. The API is
//! late: what it tells afterwards counts by the times that the objects themselves carry.
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use super::Index;
use super::timeline::{Since, Standing, Timeline, Version};
use crate::cluster::object::{Name, Pod, State};

/// Times in objects are whole seconds, cut.
const SECOND: SignedDuration = SignedDuration::from_secs(1);

/// A pod as it was at a time.
#[derive(Clone, Debug, PartialEq)]
pub struct PodThen {
    /// The pod: as it was known then, or the last one before, or the first one after.
    pub pod: Arc<Pod>,
    /// The same pod by the newest word of it.
    pub newest: Arc<Pod>,
    /// Whether it was known then; by its own times, where it was learned of later.
    pub standing: Standing,
    /// Since when it had been deleted, if it had; exact if that was before the time for sure.
    pub terminating: Option<Since>,
    /// Whether it was Ready; none where that is not known for this moment.
    pub ready: Option<bool>,
    /// Since when it had been so, by the condition's own time (whole seconds).
    pub ready_since: Option<Timestamp>,
    /// Ends of its containers that are known, also later ones, in the order of time.
    pub ended: Vec<Ended>,
    /// When it was last looked at; none where it is followed all the time.
    pub looked: Option<Timestamp>,
}

/// A container's end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// Which container.
    pub container: Arc<str>,
    /// OOMKilled, Error, Completed, ...
    pub reason: Arc<str>,
    /// Exit code.
    pub code: i32,
    /// When it had started.
    pub started: Option<Timestamp>,
    /// When it ended; whole seconds.
    pub finished: Option<Timestamp>,
}

impl Index {
    /// A pod at a time; none where it is not known (any more, or not fetched yet).
    pub fn pod(&self, name: &Name, at: Timestamp) -> Option<PodThen> {
        let timeline = self.pods.get(name)?;
        let (pod, standing) = timeline.at(at)?;
        let standing = match (standing, pod.created) {
            (Standing::Later(_), Some(created)) if created <= at => Standing::Held,
            (standing, _) => standing,
        };
        // A StatefulSet's next pod has the same name.
        let same = |version: &&Version<Arc<Pod>>| {
            let uid = version.value.as_ref().map(|pod| &pod.uid);
            uid == Some(&pod.uid)
        };
        let newest = timeline.versions().rev().find(same);
        let newest = newest.and_then(|version| version.value.as_ref());
        let (ready, ready_since) = ready(timeline, &pod.uid, at);
        Some(PodThen {
            pod: pod.clone(),
            newest: newest.unwrap_or(pod).clone(),
            standing: replaced(timeline, pod, at).map_or(standing, Standing::Gone),
            terminating: terminating(timeline.versions().filter(same), at),
            ready,
            ready_since,
            ended: ended(timeline.versions().filter(same)),
            looked: self.fetched.get(name).copied(),
        })
    }
}

/// When the next pod of the same name was created, if that was before.
fn replaced(timeline: &Timeline<Arc<Pod>>, pod: &Pod, at: Timestamp) -> Option<Since> {
    let mut others = timeline.values().filter(|other| other.uid != pod.uid);
    let created = others.find_map(|other| {
        let newer = other.created >= pod.created;
        other.created.filter(|created| newer && *created <= at)
    })?;
    Some(Since {
        at: created,
        exact: false,
    })
}

/// Since when the pod had been deleted. Its own time says when, in whole seconds; that it was before
/// the moment in question is sure where it was learned before, or the second had passed.
fn terminating<'a>(
    versions: impl Iterator<Item = &'a Version<Arc<Pod>>>,
    at: Timestamp,
) -> Option<Since> {
    let asked = versions.filter_map(|version| {
        let asked = version.value.as_ref()?.deleted_at()?;
        let known = version.from <= at;
        let exact = known || passed(asked, at);
        (known || asked <= at).then_some(Since {
            at: asked.min(at),
            exact,
        })
    });
    // A shorter grace period given later moves the times; the first request counts.
    asked.min_by_key(|since| (since.at, !since.exact))
}

/// Whether a time that was cut to its second was before another for sure.
fn passed(cut: Timestamp, at: Timestamp) -> bool {
    cut.checked_add(SECOND).is_ok_and(|end| end <= at)
}

/// Whether the pod was Ready at a time, and since when.
fn ready(
    timeline: &Timeline<Arc<Pod>>,
    uid: &Arc<str>,
    at: Timestamp,
) -> (Option<bool>, Option<Timestamp>) {
    let same = timeline
        .versions()
        .filter(|version| version.value.as_ref().is_some_and(|pod| pod.uid == *uid));
    let mut known = (None, None);
    for version in same {
        let Some(condition) = version.value.as_ref().and_then(|pod| pod.ready.as_ref()) else {
            continue;
        };
        let since = condition.since;
        let learned = version.from <= at;
        let before = since.is_some_and(|since| passed(since, at));
        let after = since.is_none_or(|since| since > at);
        known = match (learned || before, after) {
            (true, _) => (Some(condition.met), since),
            // It changed afterwards: what was known before stands.
            (false, true) => known,
            // Within the same second: before or after, nobody can say.
            (false, false) if known.0 == Some(condition.met) => known,
            (false, false) => (None, since),
        };
    }
    known
}

fn ended<'a>(versions: impl Iterator<Item = &'a Version<Arc<Pod>>>) -> Vec<Ended> {
    let mut ends: Vec<Ended> = Vec::new();
    let pods = versions.filter_map(|version| version.value.as_ref());
    for container in pods.flat_map(|pod| &pod.containers) {
        for state in [&container.last, &container.state] {
            let State::Terminated {
                reason,
                code,
                started,
                finished,
            } = state
            else {
                continue;
            };
            let end = Ended {
                container: container.name.clone(),
                reason: reason.clone(),
                code: *code,
                started: *started,
                finished: *finished,
            };
            if !ends.contains(&end) {
                ends.push(end);
            }
        }
    }
    ends.sort_by_key(|end| end.finished);
    ends
}

#[cfg(test)]
#[path = "pods_tests.rs"]
mod tests;
