//! In: Kubernetes Events to create and to change. Out: they are, or a log line says why not, once per
//! reason; the rest of the agent does not notice.
use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::time::sleep;

use super::api::Api;
use super::failed::{Failed, Reason};
use super::notice::Post;
use super::resource::{Call, EVENTS, Verb, escape};

/// Posts until nobody gives any more.
pub async fn run(api: Arc<Api>, mut posts: mpsc::Receiver<Post>) {
    let mut told = None;
    while let Some(post) = posts.recv().await {
        let (call, body) = call(post);
        match api.write(&call, body).await {
            Ok(()) => told = None,
            Err(failed) => {
                tell(&api, &mut told, &failed, &call);
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
