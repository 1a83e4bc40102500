//! What a test does to the real cluster: objects as JSON (see `objects`) in, what the controllers
//! make of them out. Plays the kubelet where pods need one, by their status and their end.
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::{ApiServer, FOLLOWS};
use crate::fake_api::resource::Resource;
use crate::wait;

/// What the EndpointSlices of a Service say: address, ready, terminating; in order.
pub type Slice = Vec<(String, bool, bool)>;

/// A namespace of a test's own; what is in it goes with it.
pub struct Namespace<'a> {
    server: &'a ApiServer,
    name: String,
}

impl Namespace<'_> {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl Drop for Namespace<'_> {
    fn drop(&mut self) {
        let pods = Resource::named("pods").path(&self.name, "");
        let own = Resource::named("namespaces").path("", &self.name);
        let now = json!({"gracePeriodSeconds": 0});
        // A server that was stopped cannot be told, and is gone with its test.
        let _ = self.server.admin().json("DELETE", &pods, &now);
        let _ = self.server.admin().json("DELETE", &own, &json!({}));
    }
}

impl ApiServer {
    /// Makes a namespace of its own for a test; returns when pods can be made in it.
    pub fn namespace(&self, word: &str) -> Result<Namespace<'_>> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("{word}-{}", COUNT.fetch_add(1, Ordering::Relaxed));
        self.apply(&json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}))?;
        let namespace = Namespace { server: self, name };
        self.await_account(namespace.name())?;
        Ok(namespace)
    }

    /// Waits until pods can be made in a namespace: the controllers have given it its account.
    pub fn await_account(&self, namespace: &str) -> Result<()> {
        let account = format!("/api/v1/namespaces/{namespace}/serviceaccounts/default");
        wait::holds("the namespace's account", super::START, || {
            let answer = self.admin().get(&account);
            answer.is_ok_and(|answer| answer.status == 200)
        })
    }

    /// Creates an object or changes it to this one; its status too, where it has one. Fields that
    /// an earlier call gave and this one does not are removed.
    pub fn apply(&self, object: &Value) -> Result<()> {
        let (resource, path) = place(object)?;
        let mut wanted = object.clone();
        let status = wanted
            .as_object_mut()
            .and_then(|fields| fields.remove("status"));
        let body = wanted.to_string();
        let kind = "application/apply-patch+yaml";
        let apply = format!("{path}?fieldManager=test&force=true");
        let answer = self.admin().send("PATCH", &apply, kind, body.as_bytes())?;
        let told = || format!("failed to apply {} {path}", resource.kind);
        answer.success().with_context(told)?;
        let Some(status) = status else { return Ok(()) };
        let body = json!({"status": status}).to_string();
        // A merge patch: lists are replaced, as a kubelet does it.
        let kind = "application/merge-patch+json";
        let path = format!("{path}/status");
        let answer = self.admin().send("PATCH", &path, kind, body.as_bytes())?;
        answer.success().with_context(told).map(drop)
    }

    /// Applies each of them.
    pub fn apply_all<'a>(&self, objects: impl IntoIterator<Item = &'a Value>) -> Result<()> {
        objects
            .into_iter()
            .try_for_each(|object| self.apply(object))
    }

    /// An object as the server has it, if it is there.
    pub fn object(&self, resource: &str, namespace: &str, name: &str) -> Result<Option<Value>> {
        let path = Resource::named(resource).path(namespace, name);
        let answer = self.admin().get(&path)?;
        match answer.status {
            404 => Ok(None),
            _ => answer.success().map(Some),
        }
    }

    /// Asks for an object's deletion. A pod stays, terminating, until [`ApiServer::end`].
    pub fn delete(&self, resource: &str, namespace: &str, name: &str) -> Result<()> {
        self.delete_with(resource, namespace, name, &json!({}))
    }

    /// Asks for a pod's deletion with this grace period.
    pub fn delete_pod(&self, namespace: &str, name: &str, grace: u32) -> Result<()> {
        self.delete_with(
            "pods",
            namespace,
            name,
            &json!({"gracePeriodSeconds": grace}),
        )
    }

    /// Ends a pod for good, as its kubelet does when all its containers have ended.
    pub fn end(&self, namespace: &str, name: &str) -> Result<()> {
        self.delete_pod(namespace, name, 0)
    }

    fn delete_with(&self, resource: &str, namespace: &str, name: &str, how: &Value) -> Result<()> {
        let path = Resource::named(resource).path(namespace, name);
        self.admin().json("DELETE", &path, how)?.success().map(drop)
    }

    /// What the Service's EndpointSlices say now.
    pub fn endpoints(&self, namespace: &str, service: &str) -> Result<Slice> {
        let path = Resource::named("endpointslices").path(namespace, "");
        let path = format!("{path}?labelSelector=kubernetes.io/service-name%3D{service}");
        let list = self.admin().get(&path)?.success()?;
        let items = list["items"].as_array().into_iter().flatten();
        let endpoints = items.flat_map(|slice| slice["endpoints"].as_array().into_iter().flatten());
        let mut all: Slice = endpoints
            .map(|endpoint| {
                let is = |name: &str| endpoint["conditions"][name].as_bool() == Some(true);
                let address = endpoint["addresses"][0].as_str().unwrap_or_default();
                (address.to_owned(), is("ready"), is("terminating"))
            })
            .collect();
        all.sort();
        Ok(all)
    }

    /// Waits until the EndpointSlice controller says this of the Service.
    pub fn await_endpoints(
        &self,
        namespace: &str,
        service: &str,
        wanted: &[(&str, bool, bool)],
    ) -> Result<()> {
        let mut last = None;
        let same = |all: &Slice| {
            let all = all
                .iter()
                .map(|(ip, ready, end)| (ip.as_str(), *ready, *end));
            all.eq(wanted.iter().copied())
        };
        let seen = wait::holds("the endpoints", FOLLOWS, || {
            last = self.endpoints(namespace, service).ok();
            last.as_ref().is_some_and(same)
        });
        seen.with_context(|| format!("wanted {wanted:?}, got {last:?}"))
    }
}

fn place(object: &Value) -> Result<(&'static Resource, String)> {
    let resource = Resource::of(object)?;
    let metadata = &object["metadata"];
    let name = metadata["name"]
        .as_str()
        .context("the object has no name")?;
    let namespace = metadata["namespace"].as_str().unwrap_or_default();
    Ok((resource, resource.path(namespace, name)))
}
