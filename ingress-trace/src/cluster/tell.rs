//! In: Kubernetes Events to create and to change. Out: they are, or a log line says why not, once per
//! reason; the rest of the agent does not notice.
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::api::Api;
use super::failed::{Failed, Reason};
use super::notice::Post;
use super::resource::{Call, EVENTS, Verb, escape};

/// Kubernetes Events that may wait.
const WAITING: usize = 64;
/// How long the API may take for what waits once the agent ends.
const PATIENCE: Duration = Duration::from_secs(2);

/// The way to the API. Ends with its owner.
pub struct Tell {
    posts: mpsc::Sender<Post>,
    last: oneshot::Sender<()>,
    task: JoinSet<()>,
}

impl Tell {
    /// Begins to wait for something to post. Needs a runtime.
    pub fn start(api: Arc<Api>) -> Self {
        let (posts, given) = mpsc::channel(WAITING);
        let (last, ended) = oneshot::channel();
        let mut task = JoinSet::new();
        task.spawn(run(api, given, ended));
        Self { posts, last, task }
    }

    /// Whether there was room for it.
    pub fn post(&self, post: Post) -> bool {
        self.posts.try_send(post).is_ok()
    }

    /// Has all posted that waits, as far as the API takes it in time; the rest is told and counted.
    pub async fn end(self) {
        let Self {
            posts,
            last,
            mut task,
        } = self;
        drop((posts, last));
        task.join_next().await;
    }
}

/// Posts until nobody gives any more, and a little longer what waits then.
async fn run(api: Arc<Api>, mut posts: mpsc::Receiver<Post>, last: oneshot::Receiver<()>) {
    let mut open = 0;
    let late = async {
        // Its owner says nothing: it is gone.
        let _ = last.await;
        sleep(PATIENCE).await;
    };
    tokio::select! {
        () = all(&api, &mut posts, &mut open) => {}
        () = late => {
            let left = open + posts.len();
            (0..left).for_each(|_| api.stats.error(&EVENTS, Reason::Dropped));
            tracing::warn!(left, "the API is too slow: Kubernetes Events that wait for it are dropped");
        }
    }
}

/// `open` is how many are being posted: one, or none.
async fn all(api: &Api, posts: &mut mpsc::Receiver<Post>, open: &mut usize) {
    let mut told = None;
    while let Some(post) = posts.recv().await {
        let (call, body) = call(post);
        *open = 1;
        let written = api.write(&call, body).await;
        *open = 0;
        match written {
            Ok(()) => told = None,
            Err(failed) => {
                tell(api, &mut told, &failed, &call);
                if let Some(wait) = failed.retry_after {
                    sleep(wait).await;
                }
            }
        }
    }
}

fn call(post: Post) -> (Call, Vec<u8>) {
    let (verb, namespace, rest, body) = match post {
        Post::Create(namespace, body) => (Verb::Create, namespace, String::new(), body),
        Post::Change(name, body) => {
            let rest = format!("/{}", escape(&name.name));
            (Verb::Patch, name.namespace, rest, body)
        }
    };
    let namespace = escape(&namespace);
    let call = Call {
        verb,
        resource: EVENTS,
        path: format!("/apis/events.k8s.io/v1/namespaces/{namespace}/events{rest}"),
    };
    (call, body.to_string().into_bytes())
}

/// Once per reason.
fn tell(api: &Api, told: &mut Option<Reason>, failed: &Failed, call: &Call) {
    api.stats.error(&EVENTS, failed.reason);
    if told.replace(failed.reason) != Some(failed.reason) {
        let remedy = failed.remedy(call);
        tracing::warn!(
            error = failed.text,
            remedy,
            "failed to write a Kubernetes Event"
        );
    }
}
