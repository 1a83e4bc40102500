//! What is learnt of a cluster, kept by the simplest of indexes, and what is waited for.
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use ingress_trace::cluster::client::Source;
use ingress_trace::cluster::link::Link;
use ingress_trace::cluster::object::{Kind, Name, Object};
use ingress_trace::cluster::stats::{Reason, Report, State};
use ingress_trace::cluster::{Patience, Update};
use tests::fake_api::FakeApi;
use tests::kubeconfig::User;
use tokio::time::sleep;

pub const NODE: &str = "node-1";
/// How long anything may take: tries again wait for up to half a minute.
pub const LIMIT: Duration = Duration::from_mins(1);

/// As little of it as the tests can bear.
pub const LITTLE: Patience = Patience {
    answer: Duration::from_secs(2),
    body: Duration::from_secs(2),
    line: Duration::from_secs(1),
    absent: Duration::from_millis(200),
};

/// Patience with whom nothing is renewed during a test.
pub const MUCH: Patience = Patience {
    line: Duration::from_mins(2),
    ..LITTLE
};

/// What is known, by the simplest of indexes.
pub struct View {
    pub link: Link,
    pub known: BTreeMap<(Kind, Name), Object>,
    pub folder: PathBuf,
}

impl Drop for View {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.folder).ok();
    }
}

impl View {
    pub fn of(api: &FakeApi, patience: Patience) -> Self {
        Self::with(api, patience, |_| User::Nobody)
    }

    pub fn with(
        api: &FakeApi,
        patience: Patience,
        user: impl for<'a> FnOnce(&'a Path) -> User<'a>,
    ) -> Self {
        Self::at(patience, |folder| {
            api.kubeconfig(folder, &user(&folder.join("token")))
        })
    }

    /// Of the API that the kubeconfig names, which is made in the given folder.
    pub fn at(
        patience: Patience,
        kubeconfig: impl FnOnce(&Path) -> anyhow::Result<PathBuf>,
    ) -> Self {
        let folder = std::env::temp_dir().join(tests::bed::tag());
        fs::create_dir_all(&folder).expect("a folder");
        let source = Source::File(kubeconfig(&folder).expect("a kubeconfig"));
        Self {
            link: Link::start(source, NODE, patience),
            known: BTreeMap::new(),
            folder,
        }
    }

    /// With everything wanted.
    pub fn wide(api: &FakeApi, patience: Patience) -> Self {
        let mut view = Self::of(api, patience);
        view.link.want(true, Instant::now());
        view
    }

    fn learn(&mut self) {
        while let Some(learnt) = self.link.take() {
            match learnt.update {
                Update::Apply(object) => {
                    let key = (object.kind(), object.name().clone());
                    self.known.insert(key, *object);
                }
                Update::Delete(kind, name) => {
                    self.known.remove(&(kind, name));
                }
                Update::Replace(kind, objects) => {
                    self.known.retain(|key, _| key.0 != kind);
                    let keyed = |object: Object| ((kind, object.name().clone()), object);
                    self.known.extend(objects.into_iter().map(keyed));
                }
            }
        }
    }

    pub async fn until(&mut self, what: &str, holds: impl Fn(&Self) -> bool) {
        let end = Instant::now() + LIMIT;
        loop {
            self.learn();
            if holds(self) {
                return;
            }
            let report = self.link.report();
            assert!(
                Instant::now() < end,
                "{what}: {:?}, {report:?}",
                self.known.keys()
            );
            sleep(Duration::from_millis(5)).await;
        }
    }

    pub async fn names(&mut self, kind: Kind, names: &[&str]) {
        let what = format!("{kind:?} {names:?}");
        self.until(&what, |view| view.of_kind(kind) == names).await;
    }

    pub fn of_kind(&self, kind: Kind) -> Vec<&str> {
        let keys = self.known.keys().filter(|key| key.0 == kind);
        keys.map(|key| &*key.1.name).collect()
    }

    pub fn report(&self) -> Report {
        self.link.report()
    }

    pub fn state(&self, resource: &str) -> State {
        self.report()
            .states
            .get(resource)
            .copied()
            .unwrap_or_default()
    }

    pub fn errors(&self, resource: &'static str, reason: Reason) -> u64 {
        let errors = self.report().errors;
        errors.get(&(resource, reason)).copied().unwrap_or(0)
    }

    pub async fn synced(&mut self, resource: &str) {
        let what = format!("{resource} synced");
        self.until(&what, |view| view.state(resource).synced).await;
    }
}
