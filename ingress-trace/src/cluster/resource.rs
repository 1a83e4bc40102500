//! Which resources of the Kubernetes API are read or written, and how they are called there. Data only.
use super::object::Kind;

/// A resource of the API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resource {
    /// API group; empty for the core.
    pub group: &'static str,
    /// Versions to try, the newest first.
    pub versions: &'static [&'static str],
    /// Its name in paths, rules and metrics.
    pub plural: &'static str,
}

/// Pods: those of this node, and single ones whose connections failed.
pub const PODS: Resource = Resource {
    group: "",
    versions: &["v1"],
    plural: "pods",
};

/// What is told to people who ask the API (`kubectl describe`); never read.
pub const EVENTS: Resource = Resource {
    group: "events.k8s.io",
    versions: &["v1"],
    plural: "events",
};

/// What is watched only while this node has an ingress pod.
pub const WIDE: [(Kind, Resource); 7] = [
    (
        Kind::Slice,
        Resource {
            group: "discovery.k8s.io",
            versions: &["v1"],
            plural: "endpointslices",
        },
    ),
    (
        Kind::Service,
        Resource {
            group: "",
            versions: &["v1"],
            plural: "services",
        },
    ),
    (
        Kind::Ingress,
        Resource {
            group: "networking.k8s.io",
            versions: &["v1"],
            plural: "ingresses",
        },
    ),
    (
        Kind::Class,
        Resource {
            group: "networking.k8s.io",
            versions: &["v1"],
            plural: "ingressclasses",
        },
    ),
    (
        Kind::Node,
        Resource {
            group: "",
            versions: &["v1"],
            plural: "nodes",
        },
    ),
    (
        Kind::HttpRoute,
        Resource {
            group: "gateway.networking.k8s.io",
            versions: &["v1", "v1beta1"],
            plural: "httproutes",
        },
    ),
    (
        Kind::GrpcRoute,
        Resource {
            group: "gateway.networking.k8s.io",
            versions: &["v1", "v1alpha2"],
            plural: "grpcroutes",
        },
    ),
];

impl Resource {
    /// Whether a cluster may be without it.
    pub fn optional(&self) -> bool {
        self.group == "gateway.networking.k8s.io"
    }

    /// Its path at this version, over all namespaces.
    pub fn path(&self, version: &str) -> String {
        let (group, plural) = (self.group, self.plural);
        if group.is_empty() {
            format!("/api/{version}/{plural}")
        } else {
            format!("/apis/{group}/{version}/{plural}")
        }
    }
}

/// What is done with a resource; a label of metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verb {
    /// One object.
    Get,
    /// All, in pages.
    List,
    /// Changes, as they come.
    Watch,
    /// A new one.
    Create,
    /// A change to one.
    Patch,
}

impl Verb {
    /// The label's value, and the word of RBAC.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::List => "list",
            Self::Watch => "watch",
            Self::Create => "create",
            Self::Patch => "patch",
        }
    }
}

/// A request.
#[derive(Clone, Debug)]
pub struct Call {
    /// What is done.
    pub verb: Verb,
    /// With what.
    pub resource: Resource,
    /// Path and query.
    pub path: String,
}

/// A text as a value in a query: everything but unreserved characters is escaped.
pub fn escape(text: &str) -> String {
    use std::fmt::Write as _;

    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                escaped.push(byte.into());
            }
            _ => write!(escaped, "%{byte:02X}").expect("a string takes all text"),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resources_of_the_core_and_of_groups_have_their_paths() {
        assert_eq!(PODS.path("v1"), "/api/v1/pods");
        assert_eq!(
            WIDE[0].1.path("v1"),
            "/apis/discovery.k8s.io/v1/endpointslices"
        );
    }

    #[test]
    fn what_a_query_gives_a_meaning_to_is_escaped() {
        assert_eq!(escape("a-b.c_d~9"), "a-b.c_d~9");
        assert_eq!(escape("a=b&c d/ü"), "a%3Db%26c%20d%2F%C3%BC");
    }
}
