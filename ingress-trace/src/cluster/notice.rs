//! In: findings of causes, about whom they are. Out: Kubernetes Events to create, and to change when the
//! same goes on: one per object and cause in ten minutes. Pure: the time is given.
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::object::Name;
use crate::cause::taxonomy::Cause;
use crate::finding::Finding;

/// Events a second in the long run, and at once.
const RATE: Duration = Duration::from_secs(1);
const BURST: u32 = 10;
/// After such a pause the same is told anew.
const PAUSE: SignedDuration = SignedDuration::from_mins(10);
/// How often the count of one is changed at most.
const CHANGE: Duration = Duration::from_mins(1);
/// Most series at once.
const MOST: usize = 1024;
/// Longest note that the API takes, in bytes.
const LONGEST: usize = 1024;
/// Who reports them.
const REPORTER: &str = "ingress-trace";

/// The kind of object that an Event is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum About {
    /// The backend's pod.
    Pod,
    /// The backend's Service.
    Service,
    /// The ingress pod.
    Ingress,
}

impl About {
    /// Whose fault a cause is; none where nobody knows.
    pub const fn of(cause: Cause) -> Option<Self> {
        Some(match cause {
            Cause::BackendNotReady
            | Cause::BackendCrashed
            | Cause::BackendTimeout
            | Cause::PodTerminating
            | Cause::BackendOomKilled
            | Cause::BackendOverloaded
            | Cause::KeepaliveRace
            | Cause::BackendReset
            | Cause::PrematureClose
            | Cause::ProtocolError
            | Cause::UpstreamError => Self::Pod,
            Cause::NoEndpoints
            | Cause::StaleEndpoint
            | Cause::WrongPort
            | Cause::NetworkUnreachable
            | Cause::NodeNotReady => Self::Service,
            Cause::IngressPortsExhausted
            | Cause::IngressFdsExhausted
            | Cause::IngressOverloaded => Self::Ingress,
            Cause::Unknown => return None,
        })
    }
}

/// An object of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subject {
    /// `Pod` or `Service`.
    pub kind: &'static str,
    /// Its name.
    pub name: Name,
    /// `metadata.uid`: kubectl asks for it.
    pub uid: Arc<str>,
}

/// What is to be asked of the API.
#[derive(Clone, Debug, PartialEq)]
pub enum Post {
    /// A new Event in this namespace.
    Create(Arc<str>, Value),
    /// A change of the one with this name.
    Change(Name, Value),
}

#[derive(Debug)]
struct Series {
    subject: Subject,
    name: String,
    cause: Cause,
    note: String,
    first: Timestamp,
    last: Timestamp,
    count: u64,
    /// How much of the count is told, and when it was.
    told: Option<(u64, Instant)>,
}

/// What is told, and how much of it.
#[derive(Debug)]
pub struct Notices {
    node: String,
    series: HashMap<(Arc<str>, Cause), Series>,
    /// Events that may be sent now, as of a time.
    left: u32,
    at: Instant,
    /// Events that were not sent, as there were too many.
    pub dropped: u64,
}

impl Notices {
    /// None yet, by the agent of this node.
    pub fn new(node: &str, now: Instant) -> Self {
        Self {
            node: node.to_owned(),
            series: HashMap::new(),
            left: BURST,
            at: now,
            dropped: 0,
        }
    }

    /// A failure with a cause that an object is to blame for.
    pub fn note(&mut self, subject: Subject, finding: &Finding) {
        let (at, cause) = (finding.time, finding.cause);
        let key = (Arc::clone(&subject.uid), cause);
        if let Some(series) = self.series.get_mut(&key)
            && at.duration_since(series.last) < PAUSE
        {
            series.count += 1;
            series.last = series.last.max(at);
            return;
        }
        self.make_room();
        let series = Series {
            name: format!(
                "{}.{:x}{:02x}",
                subject.name.name,
                at.as_nanosecond(),
                cause as u8
            ),
            subject,
            cause,
            note: note(finding),
            first: at,
            last: at,
            count: 1,
            told: None,
        };
        self.series.insert(key, series);
    }

    /// What is to be sent now.
    pub fn due(&mut self, now: Instant, wall: Timestamp) -> Vec<Post> {
        self.refill(now);
        let mut posts = self.create(now);
        posts.extend(self.change(now, CHANGE));
        self.series
            .retain(|_, series| wall.duration_since(series.last) < PAUSE);
        posts
    }

    /// What is to be sent at the end: one more burst, and what does not fit is dropped.
    pub fn rest(&mut self, now: Instant) -> Vec<Post> {
        self.left = BURST;
        let mut posts = self.create(now);
        posts.extend(self.change(now, Duration::ZERO));
        let untold = self.series.values().filter(|series| series.grew());
        self.dropped += untold.count() as u64;
        posts
    }

    /// More may be sent as time goes on.
    fn refill(&mut self, now: Instant) {
        let more = now.saturating_duration_since(self.at).as_secs() / RATE.as_secs();
        self.at += RATE * u32::try_from(more).unwrap_or(u32::MAX).min(BURST);
        if more > u64::from(BURST) {
            self.at = now;
        }
        let more = u32::try_from(more).unwrap_or(BURST);
        self.left = self.left.saturating_add(more).min(BURST);
    }

    /// Those that have no Event yet; too many are dropped.
    fn create(&mut self, now: Instant) -> Vec<Post> {
        let mut posts = Vec::new();
        self.series.retain(|_, series| {
            if series.told.is_some() {
                return true;
            }
            if self.left == 0 {
                self.dropped += 1;
                return false;
            }
            self.left -= 1;
            posts.push(series.create(&self.node));
            series.told = Some((1, now));
            true
        });
        posts
    }

    /// Those whose Event tells less than there were, and has done so for this long; too many wait.
    fn change(&mut self, now: Instant, after: Duration) -> Vec<Post> {
        let mut posts = Vec::new();
        for series in self.series.values_mut() {
            let old = |(_, when)| now.duration_since(when) >= after;
            if self.left > 0 && series.grew() && series.told.is_some_and(old) {
                self.left -= 1;
                posts.push(series.change());
                series.told = Some((series.count, now));
            }
        }
        posts
    }

    fn make_room(&mut self) {
        if self.series.len() < MOST {
            return;
        }
        let oldest = self.series.iter().min_by_key(|(_, series)| series.last);
        let key = oldest.map(|(key, _)| key.clone());
        let oldest = key.and_then(|key| self.series.remove(&key));
        let untold = oldest.is_some_and(|series| series.told.is_none() || series.grew());
        self.dropped += u64::from(untold);
    }
}

impl Series {
    /// Whether its Event tells less than there were.
    fn grew(&self) -> bool {
        self.told.is_some_and(|(told, _)| self.count > told)
    }

    fn create(&self, node: &str) -> Post {
        let Subject { kind, name, uid } = &self.subject;
        let (space, name) = (&name.namespace, &name.name);
        let event = json!({
            "apiVersion": "events.k8s.io/v1", "kind": "Event",
            "metadata": {"namespace": space, "name": self.name},
            "eventTime": time(self.first), "type": "Warning",
            "reason": reason(self.cause), "action": "Diagnosed", "note": self.note,
            "reportingController": REPORTER, "reportingInstance": format!("{REPORTER}-{node}"),
            "regarding": {"apiVersion": "v1", "kind": kind, "namespace": space, "name": name,
                "uid": uid},
        });
        Post::Create(Arc::clone(space), event)
    }

    fn change(&self) -> Post {
        let name = Name::new(&self.subject.name.namespace, &self.name);
        let series = json!({"count": self.count, "lastObservedTime": time(self.last)});
        Post::Change(name, json!({ "series": series }))
    }
}

/// `MicroTime`.
fn time(at: Timestamp) -> String {
    format!("{at:.6}")
}

/// A cause as the reason of an Event: `pod_terminating` is `PodTerminating`.
pub fn reason(cause: Cause) -> String {
    let words = cause.word().split('_');
    words.fold(String::new(), |mut all, word| {
        let mut letters = word.chars();
        all.extend(letters.next().map(|first| first.to_ascii_uppercase()));
        all.push_str(letters.as_str());
        all
    })
}

/// One line: the status, the evidence, and the first fix.
fn note(finding: &Finding) -> String {
    let status = finding.status.map(|status| format!("{status}: "));
    let mut text = status.unwrap_or_default() + &finding.evidence.join("; ");
    if let Some(fix) = finding.fix.first() {
        text = cut(text, LONGEST.saturating_sub(fix.len() + 8));
        text = text + ". Fix: " + fix;
    }
    cut(text, LONGEST)
}

fn cut(mut text: String, most: usize) -> String {
    if text.len() > most {
        let end = (0..=most).rev().find(|at| text.is_char_boundary(*at));
        text.truncate(end.unwrap_or(0));
    }
    text
}

#[cfg(test)]
#[path = "notice_tests.rs"]
mod tests;
