//! In: an Ingress as the API writes it. Out: the trimmed route, one rule per host and path.
use std::sync::Arc;

use serde::Deserialize;

use crate::cluster::object::{BackendRef, Kind, Name, Object, PathMatch, PortRef, Route, Rule};
use crate::cluster::partial::Partial;
use crate::cluster::partial::meta::{Annotations, Meta};

#[derive(Deserialize)]
pub(in crate::cluster::partial) struct Ingress {
    metadata: Meta,
    #[serde(default)]
    spec: Spec,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Spec {
    ingress_class_name: Option<Arc<str>>,
    default_backend: Option<Backend>,
    rules: Option<Vec<HostRule>>,
}

#[derive(Deserialize)]
struct HostRule {
    host: Option<String>,
    http: Option<Http>,
}

#[derive(Deserialize)]
struct Http {
    paths: Option<Vec<HttpPath>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct HttpPath {
    path: Option<String>,
    path_type: Option<String>,
    backend: Option<Backend>,
}

#[derive(Deserialize)]
struct Backend {
    service: Option<ServiceBackend>,
}

#[derive(Deserialize)]
struct ServiceBackend {
    name: Arc<str>,
    port: Option<BackendPort>,
}

#[derive(Deserialize)]
struct BackendPort {
    name: Option<Arc<str>>,
    number: Option<u16>,
}

impl Partial for Ingress {
    fn meta(&self) -> &Meta {
        &self.metadata
    }

    fn trim(self) -> Object {
        let (meta, spec) = (self.metadata, self.spec);
        let name = meta.name();
        let annotations = meta.annotations.unwrap_or_default();
        let backend = |backend: Option<Backend>| {
            let service = backend?.service?;
            Some(BackendRef {
                service: Name {
                    namespace: Arc::clone(&name.namespace),
                    name: service.name,
                },
                port: service.port.and_then(port),
            })
        };
        let mut rules = Vec::new();
        for (index, rule) in spec.rules.into_iter().flatten().enumerate() {
            let host = rule.host.filter(|host| !host.is_empty());
            let hosts: Vec<Arc<str>> = host
                .iter()
                .map(|host| host.to_ascii_lowercase().into())
                .collect();
            let paths = rule.http.and_then(|http| http.paths);
            rules.extend(paths.into_iter().flatten().map(|path| Rule {
                hosts: hosts.clone(),
                path: path_match(path.path, path.path_type.as_deref(), &annotations),
                method: None,
                conditional: yes(annotations.canary.as_ref()),
                index,
                backends: backend(path.backend).into_iter().collect(),
            }));
        }
        let default_backend = backend(spec.default_backend);
        Object::Route(Route {
            kind: Kind::Ingress,
            class: spec.ingress_class_name,
            annotation: annotations.class,
            parents: Vec::new(),
            created: meta.creation_timestamp,
            rules,
            default_backend,
            name,
        })
    }
}

fn port(port: BackendPort) -> Option<PortRef> {
    let number = port.number.filter(|number| *number != 0);
    let name = port.name.filter(|name| !name.is_empty());
    number.map(PortRef::Number).or(name.map(PortRef::Name))
}

/// ingress-nginx reads all paths but exact ones as regular expressions when it is told to, or when
/// it rewrites.
fn path_match(path: Option<String>, kind: Option<&str>, annotations: &Annotations) -> PathMatch {
    let Some(path) = path.filter(|path| !path.is_empty()) else {
        return PathMatch::Prefix("/".into());
    };
    let regex = yes(annotations.regex.as_ref()) || annotations.rewrite.is_some();
    match kind {
        Some("Exact") => PathMatch::Exact(path.into()),
        _ if regex => PathMatch::Regex(path.into()),
        Some("Prefix") => PathMatch::Prefix(path.into()),
        _ => PathMatch::Specific(path.into()),
    }
}

fn yes(annotation: Option<&String>) -> bool {
    annotation.is_some_and(|value| value == "true")
}
