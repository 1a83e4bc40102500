//! In: an HTTPRoute or a GRPCRoute as the API writes it. Out: the trimmed route, one rule per match.
use std::sync::Arc;

use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::cluster::object::{
    BackendRef, Kind, Name, Object, Parent, PathMatch, PortRef, Route, Rule,
};
use crate::cluster::partial::Partial;
use crate::cluster::partial::meta::Meta;

#[derive(Deserialize)]
pub(in crate::cluster::partial) struct HttpRoute {
    metadata: Meta,
    #[serde(default)]
    spec: Spec<HttpMatch>,
}

#[derive(Deserialize)]
pub(in crate::cluster::partial) struct GrpcRoute {
    metadata: Meta,
    #[serde(default)]
    spec: Spec<GrpcMatch>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Spec<M> {
    parent_refs: Option<Vec<ParentRef>>,
    hostnames: Option<Vec<String>>,
    rules: Option<Vec<RouteRule<M>>>,
}

impl<M> Default for Spec<M> {
    fn default() -> Self {
        Self {
            parent_refs: None,
            hostnames: None,
            rules: None,
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ParentRef {
    kind: Option<String>,
    namespace: Option<Arc<str>>,
    name: Arc<str>,
    section_name: Option<Arc<str>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RouteRule<M> {
    matches: Option<Vec<M>>,
    backend_refs: Option<Vec<Reference>>,
}

#[derive(Deserialize)]
struct Reference {
    group: Option<String>,
    kind: Option<String>,
    name: Arc<str>,
    namespace: Option<Arc<str>>,
    port: Option<u16>,
    weight: Option<i32>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct HttpMatch {
    path: Option<HttpPath>,
    method: Option<Arc<str>>,
    headers: Option<Vec<IgnoredAny>>,
    query_params: Option<Vec<IgnoredAny>>,
}

#[derive(Deserialize)]
struct HttpPath {
    r#type: Option<String>,
    value: Option<Arc<str>>,
}

#[derive(Deserialize)]
struct GrpcMatch {
    method: Option<GrpcMethod>,
    headers: Option<Vec<IgnoredAny>>,
}

#[derive(Deserialize)]
struct GrpcMethod {
    r#type: Option<String>,
    service: Option<String>,
    method: Option<String>,
}

/// What one match asks of a request.
struct Asks {
    path: PathMatch,
    method: Option<Arc<str>>,
    conditional: bool,
}

impl Partial for HttpRoute {
    fn meta(&self) -> &Meta {
        &self.metadata
    }

    fn trim(self) -> Object {
        route(Kind::HttpRoute, &self.metadata, self.spec, |one| Asks {
            path: http_path(one.path),
            method: one.method,
            conditional: any(one.headers.as_ref()) || any(one.query_params.as_ref()),
        })
    }
}

impl Partial for GrpcRoute {
    fn meta(&self) -> &Meta {
        &self.metadata
    }

    fn trim(self) -> Object {
        route(Kind::GrpcRoute, &self.metadata, self.spec, |one| Asks {
            path: one.method.map_or_else(all, grpc_path),
            method: None,
            conditional: any(one.headers.as_ref()),
        })
    }
}

fn route<M>(kind: Kind, meta: &Meta, spec: Spec<M>, read: impl Fn(M) -> Asks) -> Object {
    let name = meta.name();
    let parents = spec.parent_refs.into_iter().flatten();
    let parents = parents.filter_map(|parent| attached(parent, &name.namespace));
    let parents = parents.collect();
    let hosts = spec.hostnames.into_iter().flatten();
    let hosts: Vec<Arc<str>> = hosts.map(|host| host.to_ascii_lowercase().into()).collect();
    let mut rules = Vec::new();
    for (index, rule) in spec.rules.into_iter().flatten().enumerate() {
        let backends: Vec<_> = rule
            .backend_refs
            .into_iter()
            .flatten()
            .filter_map(|reference| backend(reference, &name.namespace))
            .collect();
        let mut matches: Vec<_> = rule.matches.into_iter().flatten().map(&read).collect();
        if matches.is_empty() {
            matches.push(Asks {
                path: all(),
                method: None,
                conditional: false,
            });
        }
        rules.extend(matches.into_iter().map(|asks| Rule {
            hosts: hosts.clone(),
            path: asks.path,
            method: asks.method,
            conditional: asks.conditional,
            index,
            backends: backends.clone(),
        }));
    }
    Object::Route(Route {
        kind,
        class: None,
        annotation: None,
        parents,
        created: meta.creation_timestamp,
        rules,
        default_backend: None,
        name,
    })
}

/// `None` for a Service: traffic inside of a mesh.
fn attached(parent: ParentRef, namespace: &Arc<str>) -> Option<Parent> {
    let gateway = match parent.kind.as_deref() {
        None | Some("Gateway") => Some(Name {
            namespace: parent.namespace.unwrap_or_else(|| Arc::clone(namespace)),
            name: parent.name,
        }),
        Some("Service") => return None,
        Some(_) => None,
    };
    Some(Parent {
        gateway,
        section: parent.section_name,
    })
}

/// `None` for what is no Service, or gets no request.
fn backend(reference: Reference, namespace: &Arc<str>) -> Option<BackendRef> {
    let core = reference.group.is_none_or(|group| group.is_empty());
    let service = reference.kind.is_none_or(|kind| kind == "Service");
    if !core || !service || reference.weight == Some(0) {
        return None;
    }
    Some(BackendRef {
        service: Name {
            namespace: reference.namespace.unwrap_or_else(|| Arc::clone(namespace)),
            name: reference.name,
        },
        port: reference.port.map(PortRef::Number),
    })
}

fn all() -> PathMatch {
    PathMatch::Prefix("/".into())
}

fn http_path(path: Option<HttpPath>) -> PathMatch {
    let Some(path) = path else {
        return all();
    };
    let value = path.value.unwrap_or_else(|| "/".into());
    match path.r#type.as_deref() {
        Some("Exact") => PathMatch::Exact(value),
        Some("RegularExpression") => PathMatch::Regex(value),
        _ => PathMatch::Prefix(value),
    }
}

/// gRPC asks for `/SERVICE/METHOD`.
fn grpc_path(method: GrpcMethod) -> PathMatch {
    let regex = method.r#type.as_deref() == Some("RegularExpression");
    let service = method.service.filter(|text| !text.is_empty());
    let method = method.method.filter(|text| !text.is_empty());
    match (service, method) {
        (None, None) => all(),
        (Some(service), Some(method)) if !regex => {
            PathMatch::Exact(format!("/{service}/{method}").into())
        }
        (Some(service), None) if !regex => PathMatch::Prefix(format!("/{service}").into()),
        (service, method) => {
            let segment = |text: Option<String>| text.unwrap_or_else(|| "[^/]+".into());
            PathMatch::Regex(format!("/{}/{}$", segment(service), segment(method)).into())
        }
    }
}

fn any<T>(list: Option<&Vec<T>>) -> bool {
    list.is_some_and(|list| !list.is_empty())
}
