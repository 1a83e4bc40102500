//! The stand-in's resources: a request's path and query in, which objects it means out. Pure; knows
//! neither the objects that there are nor how they are served.
use std::collections::HashMap;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

/// The group of the Gateway API, which is there only once it was installed.
pub const GATEWAY: &str = "gateway.networking.k8s.io";

/// A resource that the stand-in serves.
#[derive(Debug, PartialEq, Eq)]
pub struct Resource {
    /// API group, empty for the core.
    pub group: &'static str,
    /// Plural, as in paths and in RBAC.
    pub plural: &'static str,
    /// Kind of one object.
    pub kind: &'static str,
    /// Whether its objects have a namespace.
    pub namespaced: bool,
}

/// All of them; their version is `v1`.
pub static RESOURCES: [Resource; 13] = [
    resource("", "configmaps", "ConfigMap", true),
    resource("", "namespaces", "Namespace", false),
    resource("", "nodes", "Node", false),
    resource("", "pods", "Pod", true),
    resource("", "services", "Service", true),
    resource("apps", "deployments", "Deployment", true),
    resource("apps", "replicasets", "ReplicaSet", true),
    resource("apps", "statefulsets", "StatefulSet", true),
    resource("discovery.k8s.io", "endpointslices", "EndpointSlice", true),
    resource("networking.k8s.io", "ingresses", "Ingress", true),
    resource("networking.k8s.io", "ingressclasses", "IngressClass", false),
    resource(GATEWAY, "grpcroutes", "GRPCRoute", true),
    resource(GATEWAY, "httproutes", "HTTPRoute", true),
];

const fn resource(
    group: &'static str,
    plural: &'static str,
    kind: &'static str,
    namespaced: bool,
) -> Resource {
    Resource {
        group,
        plural,
        kind,
        namespaced,
    }
}

impl Resource {
    /// The `apiVersion` of its objects.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() {
            "v1".to_owned()
        } else {
            format!("{}/v1", self.group)
        }
    }

    /// The path of its objects, or of one.
    pub fn path(&self, namespace: &str, name: &str) -> String {
        let mut path = match self.group {
            "" => "/api/v1".to_owned(),
            group => format!("/apis/{group}/v1"),
        };
        let namespaced = self.namespaced && !namespace.is_empty();
        let parts = ["/namespaces/", namespace].into_iter();
        path.extend(parts.filter(|_| namespaced));
        path.extend(["/", self.plural]);
        path.extend(["/", name].into_iter().filter(|_| !name.is_empty()));
        path
    }

    /// By plural.
    ///
    /// # Panics
    /// There is none: a test that misspells it must not pass.
    pub fn named(plural: &str) -> &'static Self {
        let found = RESOURCES.iter().find(|resource| resource.plural == plural);
        found.unwrap_or_else(|| panic!("the stand-in has no resource {plural}"))
    }

    /// The resource of an object, by its kind.
    pub fn of(object: &Value) -> Result<&'static Self> {
        let kind = object["kind"].as_str().context("the object has no kind")?;
        let found = RESOURCES.iter().find(|resource| resource.kind == kind);
        found.with_context(|| format!("the stand-in has no kind {kind}"))
    }
}

/// What a path means.
#[derive(Debug, PartialEq, Eq)]
pub enum Route {
    /// `/api`, `/apis`, `/version`, `/readyz` and the like.
    Discovery,
    /// Objects of a resource: all, those of a namespace, or one.
    Objects {
        /// The resource.
        resource: &'static Resource,
        /// Only of this namespace.
        namespace: Option<String>,
        /// Only this one.
        name: Option<String>,
    },
    /// Nothing that the stand-in has.
    Unknown,
}

/// Reads a path without its query.
pub fn route(path: &str) -> Route {
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    let (group, rest) = match parts.as_slice() {
        ["api", "v1", rest @ ..] => ("", rest),
        ["apis", group, "v1", rest @ ..] => (*group, rest),
        _ => return Route::Discovery,
    };
    let (namespace, rest) = match rest {
        [] => return Route::Discovery,
        ["namespaces", namespace, rest @ ..] if !rest.is_empty() => {
            (Some((*namespace).to_owned()), rest)
        }
        rest => (None, rest),
    };
    let (plural, name) = match rest {
        [plural] => (*plural, None),
        [plural, name] => (*plural, Some((*name).to_owned())),
        _ => return Route::Unknown,
    };
    let found = RESOURCES
        .iter()
        .find(|resource| resource.group == group && resource.plural == plural);
    found.map_or(Route::Unknown, |resource| Route::Objects {
        resource,
        namespace,
        name,
    })
}

/// Reads a query.
pub fn query(text: &str) -> HashMap<String, String> {
    let pairs = text.split('&').filter(|pair| !pair.is_empty());
    let pairs = pairs.map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    pairs
        .map(|(key, value)| (decode(key), decode(value)))
        .collect()
}

/// Undoes percent-encoding; what is none stays.
fn decode(text: &str) -> String {
    let mut out = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((first, behind)) = rest.split_first() {
        let (byte, behind) = match (first, escaped(behind)) {
            (b'%', Some(byte)) => (byte, &behind[2..]),
            (b'+', _) => (b' ', behind),
            _ => (*first, behind),
        };
        out.push(byte);
        rest = behind;
    }
    String::from_utf8_lossy(&out).into_owned()
}

fn escaped(digits: &[u8]) -> Option<u8> {
    u8::from_str_radix(std::str::from_utf8(digits.get(..2)?).ok()?, 16).ok()
}

/// Which objects a request asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    namespace: Option<String>,
    // Where in the object, its wanted value, and whether it must differ.
    conditions: Vec<(Vec<String>, Option<String>, bool)>,
}

impl Selection {
    /// From the path's namespace and the query's `fieldSelector` and `labelSelector`. Of the latter
    /// `k=v`, `k==v`, `k!=v` and `k` are known; what is not is an error rather than everything.
    pub fn new(namespace: Option<String>, query: &HashMap<String, String>) -> Result<Self> {
        let mut conditions = Vec::new();
        for term in terms(query.get("fieldSelector")) {
            let (key, value, differs) = condition(term);
            let path = key.split('.').map(str::to_owned).collect();
            ensure!(value.is_some(), "failed to read field selector {term}");
            conditions.push((path, value, differs));
        }
        for term in terms(query.get("labelSelector")) {
            if term.contains([' ', '(', '!']) && !term.contains("!=") {
                bail!("failed to read label selector {term}");
            }
            let (key, value, differs) = condition(term);
            let path = ["metadata", "labels", key].map(str::to_owned).to_vec();
            conditions.push((path, value, differs));
        }
        Ok(Self {
            namespace,
            conditions,
        })
    }

    /// Whether an object is one of them.
    pub fn has(&self, object: &Value) -> bool {
        let metadata = &object["metadata"];
        let here = self
            .namespace
            .as_ref()
            .is_none_or(|namespace| metadata["namespace"].as_str() == Some(namespace));
        here && self.conditions.iter().all(|(path, wanted, differs)| {
            let found = path.iter().try_fold(object, |at, key| at.get(key));
            let found = found.and_then(Value::as_str);
            match wanted {
                // An absent field is the empty text, as in the real one.
                Some(wanted) => (found.unwrap_or_default() == wanted) != *differs,
                None => found.is_some(),
            }
        })
    }
}

fn terms(selector: Option<&String>) -> impl Iterator<Item = &str> {
    let terms = selector.map(|text| text.split(',')).into_iter().flatten();
    terms.filter(|term| !term.is_empty())
}

fn condition(term: &str) -> (&str, Option<String>, bool) {
    if let Some((key, value)) = term.split_once("!=") {
        return (key, Some(value.to_owned()), true);
    }
    match term.split_once('=') {
        Some((key, value)) => (key, Some(value.trim_start_matches('=').to_owned()), false),
        None => (term, None, false),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn paths_lead_to_their_resources() {
        let objects = |resource, namespace: Option<&str>, name: Option<&str>| Route::Objects {
            resource: Resource::named(resource),
            namespace: namespace.map(str::to_owned),
            name: name.map(str::to_owned),
        };
        assert_eq!(route("/api/v1/pods"), objects("pods", None, None));
        assert_eq!(
            route("/api/v1/namespaces/shop"),
            objects("namespaces", None, Some("shop"))
        );
        assert_eq!(
            route("/api/v1/namespaces/shop/pods/cart"),
            objects("pods", Some("shop"), Some("cart"))
        );
        assert_eq!(
            route("/apis/discovery.k8s.io/v1/endpointslices"),
            objects("endpointslices", None, None)
        );
        assert_eq!(route("/apis"), Route::Discovery);
        let path = Resource::named("pods").path("shop", "cart");
        assert_eq!(route(&path), objects("pods", Some("shop"), Some("cart")));
        let path = Resource::named("nodes").path("", "");
        assert_eq!(route(&path), objects("nodes", None, None));
        assert_eq!(route("/apis/apps/v1"), Route::Discovery);
        assert_eq!(route("/api/v1/secrets"), Route::Unknown);
        assert_eq!(
            route("/api/v1/namespaces/shop/pods/cart/log"),
            Route::Unknown
        );
    }

    #[test]
    fn selectors_choose_and_unknown_ones_are_refused() {
        let choose = |text: &str| Selection::new(None, &query(text));
        let pod = json!({"metadata": {"namespace": "shop", "labels": {"app": "cart"}},
            "spec": {"nodeName": "n1"}});
        for (text, chosen) in [
            ("fieldSelector=spec.nodeName%3Dn1", true),
            ("fieldSelector=spec.nodeName%3Dn2", false),
            ("fieldSelector=spec.nodeName!%3Dn2", true),
            ("labelSelector=app%3Dcart", true),
            ("labelSelector=app%3D%3Dcart,tier", false),
            ("", true),
        ] {
            assert_eq!(choose(text).unwrap().has(&pod), chosen, "{text}");
        }
        assert!(choose("labelSelector=app+in+(a)").is_err());
        let elsewhere = Selection::new(Some("other".to_owned()), &HashMap::new());
        assert!(!elsewhere.unwrap().has(&pod));
    }
}
