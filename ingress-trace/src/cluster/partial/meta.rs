//! In: the metadata of an object as the API writes it. Out: what all kinds need of it.
//! Knows no kind.
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use jiff::Timestamp;
use serde::Deserialize;

use crate::cluster::object::{Condition, Name, Owner};

/// `metadata`.
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Meta {
    name: Arc<str>,
    namespace: Option<Arc<str>>,
    pub(super) uid: Arc<str>,
    pub(super) resource_version: String,
    pub(super) creation_timestamp: Option<Timestamp>,
    pub(super) deletion_timestamp: Option<Timestamp>,
    pub(super) deletion_grace_period_seconds: Option<i64>,
    pub(super) labels: Option<BTreeMap<Arc<str>, Arc<str>>>,
    pub(super) annotations: Option<Annotations>,
    owner_references: Option<Vec<OwnerReference>>,
}

/// The annotations that are read; others can be long and are skipped.
#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct Annotations {
    #[serde(rename = "kubernetes.io/ingress.class")]
    pub(super) class: Option<Arc<str>>,
    #[serde(rename = "kubernetes.io/config.hash")]
    pub(super) hash: Option<Arc<str>>,
    #[serde(rename = "nginx.ingress.kubernetes.io/use-regex")]
    pub(super) regex: Option<String>,
    #[serde(rename = "nginx.ingress.kubernetes.io/rewrite-target")]
    pub(super) rewrite: Option<String>,
    #[serde(rename = "nginx.ingress.kubernetes.io/canary")]
    pub(super) canary: Option<String>,
}

#[derive(Deserialize)]
struct OwnerReference {
    kind: Arc<str>,
    name: Arc<str>,
    controller: Option<bool>,
}

/// Labels that name what made a ReplicaSet, and what that is.
const TEMPLATES: [(&str, &str); 2] = [
    ("pod-template-hash", "Deployment"),
    ("rollouts-pod-template-hash", "Rollout"),
];

impl Meta {
    pub(super) fn name(&self) -> Name {
        Name {
            namespace: self.namespace.clone().unwrap_or_default(),
            name: Arc::clone(&self.name),
        }
    }

    pub(super) fn label(&self, key: &str) -> Option<&Arc<str>> {
        self.labels.as_ref()?.get(key)
    }

    /// The controlling owner. A Deployment names its ReplicaSets `NAME-HASH` and labels their pods
    /// with the hash: that spares the right to read ReplicaSets, and the requests.
    pub(super) fn owner(&self) -> Option<Owner> {
        let controls = |owner: &&OwnerReference| owner.controller == Some(true);
        let owner = self.owner_references.iter().flatten().find(controls)?;
        let made = TEMPLATES.iter().find_map(|(label, kind)| {
            let name = owner.name.strip_suffix(&**self.label(label)?)?;
            Some((*kind, name.strip_suffix('-')?))
        });
        match made.filter(|_| &*owner.kind == "ReplicaSet") {
            Some((kind, name)) => Some(Owner {
                kind: kind.into(),
                name: name.into(),
            }),
            None => Some(Owner {
                kind: Arc::clone(&owner.kind),
                name: Arc::clone(&owner.name),
            }),
        }
    }
}

/// One of `status.conditions`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct StatusCondition {
    r#type: String,
    status: String,
    last_transition_time: Option<Timestamp>,
    reason: Option<Arc<str>>,
}

/// The condition `Ready`.
pub(super) fn ready(conditions: Option<Vec<StatusCondition>>) -> Option<Condition> {
    let mut conditions = conditions.into_iter().flatten();
    let ready = conditions.find(|condition| condition.r#type == "Ready")?;
    Some(Condition {
        met: ready.status == "True",
        since: ready.last_transition_time,
        reason: ready.reason.filter(|reason| !reason.is_empty()),
    })
}

/// Those texts that are addresses.
pub(super) fn addresses<T: AsRef<str>>(texts: impl IntoIterator<Item = T>) -> Vec<IpAddr> {
    texts
        .into_iter()
        .filter_map(|text| text.as_ref().parse().ok())
        .collect()
}

/// Whether a port is TCP's, as it is where nothing is said.
pub(super) fn is_tcp(protocol: Option<&str>) -> bool {
    protocol.is_none_or(|protocol| protocol == "TCP")
}
