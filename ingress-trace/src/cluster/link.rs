//! In: a cluster, and whether this node has an ingress pod. Out: what is learnt of the cluster.
//! Starts and stops what asks the API; keeps nothing of what it learns.
use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;
use jiff::Timestamp;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::api::{Api, Patience};
use super::client::Source;
use super::failed::Reason;
use super::fetch;
use super::notice::Post;
use super::object::{Kind, Name};
use super::resource::{EVENTS, PODS, WIDE};
use super::stats::Report;
use super::tell::Tell;
use super::watch::{Learnt, Update, Watch};

/// Updates that may wait for the agent; the API waits beyond.
const WAITING: usize = 1024;
/// Names of failed pods that may wait.
const FAILED: usize = 256;
/// How long the cluster is followed after the last ingress pod of this node went: one that is
/// replaced comes back.
pub const LINGER: Duration = Duration::from_mins(1);

/// The agent's connection to its cluster. Ends with its owner.
pub struct Link {
    api: Arc<Api>,
    sender: mpsc::Sender<Learnt>,
    learnt: mpsc::Receiver<Learnt>,
    asked: mpsc::Sender<Name>,
    /// This node's pods, and single ones.
    _narrow: JoinSet<()>,
    /// All the rest, while it is wanted.
    wide: JoinSet<()>,
    /// Since when nobody has wanted the rest.
    unwanted: Option<Instant>,
    /// What the end of watches means for what is known.
    cleared: VecDeque<Learnt>,
    /// Where Kubernetes Events go, where they are wanted.
    tell: Option<Tell>,
}

impl Link {
    /// To the API that is named, or else the one that is configured here, if any. A named
    /// configuration that is wrong is an error; another's wrongs are told until they are mended.
    pub fn open(named: Option<&Path>, node: &str) -> Result<Option<Self>> {
        let Some(source) = Source::find(named) else {
            tracing::info!(
                "no Kubernetes API is configured: findings have no names; see --kubeconfig"
            );
            return Ok(None);
        };
        if named.is_some() {
            source.client()?;
        }
        Ok(Some(Self::start(source, node, Patience::default())))
    }

    /// Begins to follow the pods of this node. Needs a runtime.
    pub fn start(source: Source, node: &str, patience: Patience) -> Self {
        let api = Arc::new(Api::new(source, patience));
        let (sender, learnt) = mpsc::channel(WAITING);
        let (asked, names) = mpsc::channel(FAILED);
        let mut narrow = JoinSet::new();
        let pods = Watch::new(
            Arc::clone(&api),
            (Kind::Pod, PODS),
            Some(node),
            sender.clone(),
        );
        narrow.spawn(pods.run());
        narrow.spawn(fetch::run(Arc::clone(&api), names, sender.clone()));
        Self {
            api,
            sender,
            learnt,
            asked,
            _narrow: narrow,
            wide: JoinSet::new(),
            unwanted: None,
            cleared: VecDeque::new(),
            tell: None,
        }
    }

    /// From now on Kubernetes Events are wanted.
    pub fn tell(&mut self) {
        self.tell = Some(Tell::start(Arc::clone(&self.api)));
    }

    /// Sends a Kubernetes Event, if there is room.
    pub fn post(&self, post: Post) {
        if !self.tell.as_ref().is_some_and(|tell| tell.post(post)) {
            self.dropped(1);
        }
    }

    /// Has the Kubernetes Events sent that wait, within a short time: there will be no more.
    pub async fn told(&mut self) {
        if let Some(tell) = self.tell.take() {
            tell.end().await;
        }
    }

    /// Kubernetes Events that were not sent.
    pub fn dropped(&self, many: u64) {
        for _ in 0..many {
            self.api.stats.error(&EVENTS, Reason::Dropped);
        }
    }

    /// Says whether this node has an ingress pod: only then is the cluster followed.
    pub fn want(&mut self, ingress: bool, now: Instant) {
        if ingress {
            self.unwanted = None;
            if self.wide.is_empty() {
                self.widen();
            }
        } else if !self.wide.is_empty() {
            let since = *self.unwanted.get_or_insert(now);
            if now.duration_since(since) >= LINGER {
                self.narrow();
            }
        }
    }

    fn widen(&mut self) {
        tracing::info!("following the cluster for this node's ingress pods");
        for followed in WIDE {
            let watch = Watch::new(Arc::clone(&self.api), followed, None, self.sender.clone());
            self.wide.spawn(watch.run());
        }
    }

    fn narrow(&mut self) {
        tracing::info!("no ingress pod on this node: following its pods only");
        self.unwanted = None;
        self.wide = JoinSet::new();
        // What they still sent comes first.
        while let Ok(learnt) = self.learnt.try_recv() {
            self.cleared.push_back(learnt);
        }
        let at = Timestamp::now();
        for (kind, resource) in WIDE {
            self.api.stats.ended(&resource);
            let update = Update::Replace(kind, Vec::new());
            self.cleared.push_back(Learnt { update, at });
        }
    }

    /// What was learnt since, in its order; `None` when that is all.
    pub fn take(&mut self) -> Option<Learnt> {
        self.cleared
            .pop_front()
            .or_else(|| self.learnt.try_recv().ok())
    }

    /// A connection to this pod failed: its details are wanted.
    pub fn look_at(&self, pod: Name) {
        if self.asked.try_send(pod).is_err() {
            self.api.stats.error(&PODS, Reason::Dropped);
        }
    }

    /// For the metrics.
    pub fn report(&self) -> Report {
        self.api.stats.report()
    }
}
