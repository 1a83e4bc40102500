//! In: what the link learns, and where connections lead. Out: who it was, as of any moment of the
//! last minutes. The only holder of the index; thin: asks the API and the kernel, decides nothing.
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;
use jiff::{SignedDuration, Timestamp};

use super::index::owned::Owned;
use super::index::{Index, PodThen, Way};
use super::link::Link;
use super::notice::{About, Notices, Subject};
use super::object::{Kind, Name, Object, Pod};
use super::stats::Report;
use super::{Learnt, Update};
use crate::conntrack::Conntrack;
use crate::counts::Labels;
use crate::finding::{Finding, Ingress};
use crate::identity::{Identity, Question, asks_another, identify, whom};
use crate::neighbors::Neighbor;

/// How long the past is kept: at 100 changes a second as much as there is room for.
const HORIZON: SignedDuration = SignedDuration::from_mins(2);
/// How long counts wait for the names of their backends after the start.
const NAMES: SignedDuration = SignedDuration::from_secs(10);

/// The cluster as this agent sees it.
pub struct View {
    link: Link,
    index: Index,
    node: Arc<str>,
    /// Absent without the right to ask.
    conntrack: Option<Conntrack>,
    began: Timestamp,
    /// Where Kubernetes Events are wanted.
    notices: Option<Notices>,
    /// Since when what is followed is not up to date, as of the last second.
    stale: Option<Timestamp>,
    details: u64,
}

fn of_a_pod(update: &Update) -> bool {
    match update {
        Update::Apply(object) => matches!(**object, Object::Pod(_)),
        Update::Delete(kind, _) | Update::Replace(kind, _) => *kind == Kind::Pod,
    }
}

impl View {
    /// Begins to follow the cluster that is configured, if one is. Needs a runtime.
    pub fn open(kubeconfig: Option<&Path>, node: &str) -> Result<Option<Self>> {
        let Some(link) = Link::open(kubeconfig, node)? else {
            return Ok(None);
        };
        let conntrack = Conntrack::open(Path::new("/proc"));
        if let Err(error) = &conntrack {
            tracing::warn!(
                error = format!("{error:#}"),
                "pods behind a Service's own address will have no name"
            );
        }
        let began = Timestamp::now();
        Ok(Some(Self {
            link,
            index: Index::new(node),
            node: node.into(),
            conntrack: conntrack.ok(),
            began,
            notices: None,
            stale: Some(began),
            details: 0,
        }))
    }

    /// From now on causes are told as Kubernetes Events.
    pub fn tell(&mut self) {
        self.link.tell();
        self.notices = Some(Notices::new(&self.node, Instant::now()));
    }

    /// Tells a finding where that is wanted, and it has a cause that an object is to blame for.
    pub fn notice(&mut self, finding: &Finding) {
        if self.notices.is_none() || !finding.outcome.is_failure() {
            return;
        }
        let subject = self.subject(finding);
        if let Some((notices, subject)) = self.notices.as_mut().zip(subject) {
            notices.note(subject, finding);
        }
    }

    /// Whom a cause is about, with the uid as of the failure.
    fn subject(&self, finding: &Finding) -> Option<Subject> {
        let backend = finding.backend.clone().unwrap_or_default();
        let name = |namespace: &Option<String>, name: &Option<String>| {
            Some(Name::new(namespace.as_deref()?, name.as_deref()?))
        };
        let pod = |name: Name| {
            let known = self.index.pod(&name, finding.time)?;
            let uid = Arc::clone(&known.pod.uid);
            Some(Subject {
                kind: "Pod",
                name,
                uid,
            })
        };
        let service = || {
            let name = name(&backend.namespace, &backend.service)?;
            let then = self.index.service(&name, None, finding.time);
            let uid = Arc::clone(&then.service?.uid);
            Some(Subject {
                kind: "Service",
                name,
                uid,
            })
        };
        let behind = || name(&backend.namespace, &backend.pod).and_then(pod);
        match About::of(finding.cause)? {
            About::Ingress => {
                let ingress = &finding.ingress;
                name(&ingress.namespace, &ingress.pod).and_then(pod)
            }
            About::Pod => behind().or_else(service),
            About::Service => service().or_else(behind),
        }
    }

    /// Says whether this node has an ingress pod: only then is all of the cluster followed.
    pub fn want(&mut self, ingress: bool) {
        self.link.want(ingress, Instant::now());
    }

    /// Takes what was learnt since; each of it is shown to `each`.
    pub fn learn(&mut self, mut each: impl FnMut(&Update)) {
        while let Some(Learnt { update, at }) = self.link.take() {
            each(&update);
            self.details += u64::from(of_a_pod(&update));
            match update {
                Update::Apply(object) => self.index.apply(*object, at),
                Update::Delete(kind, name) => self.index.delete(kind, &name, at),
                Update::Replace(kind, objects) => self.index.replace(kind, objects, at),
            }
        }
    }

    /// How often details of a pod have come.
    pub fn details(&self) -> u64 {
        self.details
    }

    /// To be called once a second: lets go of the distant past, and looks how old the state is.
    pub fn tick(&mut self) {
        let stale = self.link.report().stale_since();
        self.stale = stale.map(|heard| heard.unwrap_or(self.began));
        if let Ok(before) = Timestamp::now().checked_sub(HORIZON) {
            self.index.forget(before);
        }
        if let Some(notices) = &mut self.notices {
            for post in notices.due(Instant::now(), Timestamp::now()) {
                self.link.post(post);
            }
            self.link.dropped(std::mem::take(&mut notices.dropped));
        }
    }

    /// To be called at the end: tells what of causes has not been told yet, within a short time.
    pub async fn end(&mut self) {
        if let Some(mut notices) = self.notices.take() {
            for post in notices.rest(Instant::now()) {
                self.link.post(post);
            }
            self.link.dropped(notices.dropped);
            self.link.told().await;
        }
    }

    /// Where a connection really leads, when its destination is a Service's own address. To be asked
    /// soon: the kernel forgets it some seconds after the connection's end.
    pub fn leads(&self, local: SocketAddr, remote: SocketAddr) -> Option<SocketAddr> {
        let front = || {
            let owned = self.index.whose(remote, Timestamp::now(), None);
            matches!(owned, Owned::Front(_) | Owned::Node(_))
        };
        let conntrack = self.conntrack.as_ref()?;
        if !self.index.may_lead_on(remote.ip()) || !front() {
            return None;
        }
        conntrack.destination(local, remote)
    }

    /// Who it was, by what is known so far.
    pub fn identify(&self, question: &Question) -> Identity {
        identify(question, &self.index)
    }

    /// An ingress pod of this node, as it is now.
    pub fn ingress(&self, ingress: &Ingress) -> Option<Arc<Pod>> {
        let name = Name::new(ingress.namespace.as_deref()?, ingress.pod.as_deref()?);
        Some(self.index.pod(&name, Timestamp::MAX)?.newest)
    }

    /// Has the details of the failed pod fetched: they come within a moment, and once more after 2 s.
    /// False where nothing in the cluster can tell more.
    pub fn looks_at(&self, question: &Question) -> bool {
        let (pod, known) = whom(question, &self.index);
        if let Some(pod) = pod {
            self.link.look_at(pod);
        }
        known || self.stale.is_some()
    }

    /// The pod of this node that has this address now.
    pub fn neighbor(&self, backend: SocketAddr) -> Option<Neighbor> {
        let now = Timestamp::now();
        let pod = self.index.whose(backend, now, None).into_pod()?;
        self.of_this_node(&self.index.pod(&pod, now)?)
    }

    /// The same of a failure's backend.
    pub fn is_neighbor(&self, who: &Identity) -> Option<Neighbor> {
        self.of_this_node(who.known.as_ref()?)
    }

    fn of_this_node(&self, then: &PodThen) -> Option<Neighbor> {
        let pod = &then.pod;
        (pod.node.as_ref() == Some(&self.node)).then(|| Neighbor {
            pod: pod.name.clone(),
            uid: Arc::clone(pod.local_uid()),
            host_network: pod.host_network,
        })
    }

    /// The Service that a backend belongs to now.
    pub fn service(&self, backend: SocketAddr) -> Option<Name> {
        self.index
            .labels(backend)
            .map(|label| label.service.clone())
    }

    /// Whether routes lead to what owned an address.
    pub fn way(&self, owned: &Owned, address: SocketAddr) -> Way {
        self.index.way(owned, address.ip())
    }

    /// Whether routes are seen, and none leads to what this address is now.
    pub fn is_unrouted(&self, address: SocketAddr) -> bool {
        let owned = self.index.whose(address, Timestamp::now(), None);
        self.way(&owned, address) == Way::Unrouted
    }

    /// Whether what was asked leads by the routes to another Service for certain.
    pub fn asks_another(&self, question: &Question, who: &Identity) -> bool {
        asks_another(question, who, &self.index)
    }

    /// Whether routes lead to what these addresses are now.
    pub fn ways(&self, addresses: impl Iterator<Item = SocketAddr>) -> Vec<Way> {
        let now = Timestamp::now();
        let way = |address| self.way(&self.index.whose(address, now, None), address);
        addresses.map(way).collect()
    }

    /// How old the cluster's state is, where it is not up to date: since the oldest word of what is
    /// not followed now, or since the start.
    pub fn stale(&self) -> Option<Duration> {
        let heard = self.stale?;
        Some(Timestamp::now().duration_since(heard).unsigned_abs())
    }

    /// Puts a backend's names into its labels; false as long as they may still come.
    pub fn name(&self, backend: SocketAddr, labels: &mut Labels) -> bool {
        if let Some(label) = self.index.labels(backend) {
            labels.namespace = label.service.namespace.to_string();
            labels.service = label.service.name.to_string();
            return true;
        }
        self.stale.is_none() || Timestamp::now().duration_since(self.began) > NAMES
    }

    /// Whether the Service of these labels is there, or was until some minutes ago.
    pub fn lives(&self, labels: &Labels) -> bool {
        labels.service.is_empty()
            || self
                .index
                .lives(&Name::new(&labels.namespace, &labels.service))
    }

    /// Services without a ready endpoint, one for each route that leads there; none while not all of
    /// what is followed is known: before endpoints are listed no Service has any.
    pub fn dead_routes(&self) -> Option<impl Iterator<Item = Name>> {
        let known = self.link.report().stale_since().is_none();
        let dead = known.then(|| self.index.dead_routes())?;
        Some(dead.into_iter().map(|dead| dead.service))
    }

    /// Changes that there was no room for.
    pub fn evicted(&self) -> u64 {
        self.index.evicted()
    }

    /// How it stands with the API.
    pub fn report(&self) -> Report {
        self.link.report()
    }
}
