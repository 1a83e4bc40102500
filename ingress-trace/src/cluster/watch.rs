//! In: one resource of the Kubernetes API. Out: its objects and their changes, trimmed, in order, for
//! as long as somebody takes them. Keeps no object: lists in pages, then follows from there.
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio::sync::mpsc;
use tokio::time::sleep;

use super::api::{Api, Lines};
use super::failed::{Failed, Reason};
use super::object::{Kind, Name, Object};
use super::pace::{Backoff, random, spread};
use super::partial::{self, Change};
use super::resource::{Call, Resource, Verb, escape};

/// Objects per page of a list.
const PAGE: &str = "500";
/// The server ends a watch after up to so many seconds, so that no server keeps all watches.
const WATCH: u64 = 300;
/// A watch that lasted so long was well, whatever ended it.
const STEADY: Duration = Duration::from_secs(10);

/// A change of what is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Update {
    /// An object is there, or changed.
    Apply(Box<Object>),
    /// An object is gone.
    Delete(Kind, Name),
    /// These are all objects of the kind; of pods, all of this node.
    Replace(Kind, Vec<Object>),
}

/// A change, and when the agent learnt of it.
#[derive(Clone, Debug)]
pub struct Learnt {
    /// The change.
    pub update: Update,
    /// Wall time of its arrival.
    pub at: Timestamp,
}

/// One watch.
pub struct Watch {
    api: Arc<Api>,
    kind: Kind,
    resource: Resource,
    /// Field selector, where only some objects are wanted.
    fields: Option<String>,
    updates: mpsc::Sender<Learnt>,
    /// Which of the resource's versions the server has.
    served: usize,
    /// Up to where the history is known; `None` before the first list.
    version: Option<String>,
    backoff: Backoff,
}

impl Watch {
    /// Of all objects, or of those on this node.
    pub fn new(
        api: Arc<Api>,
        (kind, resource): (Kind, Resource),
        node: Option<&str>,
        updates: mpsc::Sender<Learnt>,
    ) -> Self {
        api.stats.watching(&resource);
        Self {
            api,
            kind,
            resource,
            fields: node.map(|node| format!("spec.nodeName={node}")),
            updates,
            served: 0,
            version: None,
            backoff: Backoff::default(),
        }
    }

    /// Goes on until nobody takes the updates.
    pub async fn run(mut self) {
        loop {
            let wait = match self.session().await {
                Ok(()) => self.backoff.next(random()),
                Err((verb, failed)) => self.after(verb, &failed).await,
            };
            if self.updates.is_closed() {
                return;
            }
            sleep(wait).await;
        }
    }

    /// Lists where that is needed, then follows until the watch ends.
    async fn session(&mut self) -> Result<(), (Verb, Failed)> {
        if self.version.is_none() {
            self.list().await.map_err(|failed| (Verb::List, failed))?;
        }
        self.follow().await.map_err(|failed| (Verb::Watch, failed))
    }

    async fn list(&mut self) -> Result<(), Failed> {
        let mut objects = Vec::new();
        let mut next = None::<String>;
        loop {
            let mut query = vec![("limit", PAGE)];
            if let Some(token) = &next {
                query.push(("continue", token));
            } else if self.fields.is_some() {
                // The pods of a node are an index of the server's cache: without this, older
                // servers read all pods of the cluster from etcd for it.
                query.push(("resourceVersion", "0"));
            }
            let body = self.api.body(&self.call(Verb::List, &query)).await?;
            let page = partial::page(self.kind, &body);
            let page = page.map_err(|error| unreadable(&error))?;
            for _ in 0..page.unreadable {
                self.api.stats.error(&self.resource, Reason::Unreadable);
            }
            objects.extend(page.objects);
            match page.next {
                Some(token) => next = Some(token),
                None if page.version.is_empty() => {
                    let text = "the list has no resourceVersion";
                    return Err(Failed::new(Reason::Unreadable, text));
                }
                None => {
                    if let Some(fields) = self.fields.as_ref().filter(|_| objects.is_empty()) {
                        tracing::warn!(
                            fields,
                            "no pods on this node: is its name right? see --node"
                        );
                    }
                    self.send(Update::Replace(self.kind, objects)).await;
                    self.version = Some(page.version);
                    self.heard();
                    return Ok(());
                }
            }
        }
    }

    async fn follow(&mut self) -> Result<(), Failed> {
        let seconds = (WATCH - random() % (WATCH / 5)).to_string();
        let query = [
            ("watch", "true"),
            ("allowWatchBookmarks", "true"),
            ("timeoutSeconds", &seconds),
            (
                "resourceVersion",
                self.version.as_deref().unwrap_or_default(),
            ),
        ];
        let mut lines = self.api.lines(&self.call(Verb::Watch, &query)).await?;
        self.heard();
        let began = Instant::now();
        let ended = self.changes(&mut lines).await;
        if began.elapsed() >= STEADY {
            self.backoff.reset();
        }
        match ended {
            // Dead, or a server that sends no bookmarks: the next watch tells.
            Err(failed) if failed.reason == Reason::Timeout => {
                self.api.stats.error(&self.resource, Reason::Timeout);
                Ok(())
            }
            ended => ended,
        }
    }

    async fn changes(&mut self, lines: &mut Lines) -> Result<(), Failed> {
        let patience = self.api.patience.line;
        while let Some(line) = lines.next(patience).await? {
            let change = partial::change(self.kind, line);
            let version = match change.map_err(|error| unreadable(&error))? {
                Change::Applied(read) => {
                    self.send(Update::Apply(Box::new(read.object))).await;
                    read.version
                }
                Change::Deleted(read) => {
                    let name = read.object.name().clone();
                    self.send(Update::Delete(self.kind, name)).await;
                    read.version
                }
                Change::Bookmark(version) => version,
                Change::Error(status) => {
                    let text = format!("status {}: {}", status.code, status.message);
                    return Err(Failed::new(Reason::of_status(status.code), text));
                }
                Change::Unreadable(error) => {
                    tracing::warn!(
                        resource = self.resource.plural,
                        %error,
                        "failed to read an object"
                    );
                    self.api.stats.error(&self.resource, Reason::Unreadable);
                    continue;
                }
            };
            if !version.is_empty() {
                self.version = Some(version);
            }
            self.heard();
        }
        Ok(())
    }

    /// What follows from a failure: says so, and how long to wait.
    async fn after(&mut self, verb: Verb, failed: &Failed) -> Duration {
        let reason = failed.reason;
        // Without the right to watch, lists are all there is.
        if matches!(
            reason,
            Reason::Expired | Reason::Forbidden | Reason::NotFound
        ) {
            self.version = None;
        }
        if reason == Reason::NotFound && self.resource.optional() {
            return self.absent().await;
        }
        // History before this is gone, as it is after a while: a new list is the answer.
        if reason == Reason::Expired && verb == Verb::Watch {
            self.api.stats.error(&self.resource, reason);
            tracing::debug!(resource = self.resource.plural, "listing again");
        } else if self.api.stats.failing(&self.resource, reason) {
            let remedy = failed.remedy(&self.call(verb, &[]));
            tracing::warn!(
                resource = self.resource.plural,
                verb = verb.word(),
                error = failed.text,
                remedy,
                "failed to follow the Kubernetes API"
            );
        }
        let asked = failed.retry_after.unwrap_or_default();
        asked + self.backoff.next(random())
    }

    /// Another version of the resource may be there; else it has no objects.
    async fn absent(&mut self) -> Duration {
        self.served = (self.served + 1) % self.resource.versions.len();
        if self.served != 0 {
            return Duration::ZERO;
        }
        self.send(Update::Replace(self.kind, Vec::new())).await;
        self.heard();
        spread(self.api.patience.absent, random())
    }

    fn call(&self, verb: Verb, query: &[(&str, &str)]) -> Call {
        let mut path = self.resource.path(self.resource.versions[self.served]);
        let fields = self.fields.as_deref().map(|one| ("fieldSelector", one));
        let mut sign = '?';
        for (key, value) in query.iter().copied().chain(fields) {
            path.push(sign);
            path.push_str(key);
            path.push('=');
            path.push_str(&escape(value));
            sign = '&';
        }
        Call {
            verb,
            resource: self.resource,
            path,
        }
    }

    /// Nobody takes it any more: the loop ends by itself.
    async fn send(&self, update: Update) {
        let at = Timestamp::now();
        let _ = self.updates.send(Learnt { update, at }).await;
    }

    fn heard(&self) {
        if self.api.stats.heard(&self.resource, Timestamp::now()) {
            tracing::info!(
                resource = self.resource.plural,
                "following the Kubernetes API again"
            );
        }
    }
}

fn unreadable(error: &serde_json::Error) -> Failed {
    let text = format!("the answer is not what it should be: {error}");
    Failed::new(Reason::Unreadable, text)
}
