//! In: a data plane. Out: a subject in which `<...>` stands for all that a finding would name.
use super::subject::{Member, Part, Short, Subject, Thing};
use crate::cause::taxonomy::Controller;

impl Subject {
    /// What stands for all that a finding would name.
    pub fn placeholders(controller: Controller, packaging: Option<&'static str>) -> Self {
        let text = |text: &str| Some(text.to_owned());
        let some = |kind, namespace, name| Some(thing(kind, namespace, name));
        Self {
            service: some("service", "<namespace>", "<service>"),
            service_port: text("<service-port>"),
            port: text("<port>"),
            right_port: text("<target-port>"),
            backend: Member {
                short: vec![Short::Cpu, Short::Node, Short::Queue, Short::Files],
                ..member("<namespace>", "")
            },
            node: text("<node>"),
            route: some("ingress", "<namespace>", "<ingress>"),
            rule: None,
            ingress: Member {
                short: vec![Short::Cpu, Short::Memory],
                ..member("<ingress-namespace>", "ingress-")
            },
            settings: some("configmap", "<ingress-namespace>", "<configmap>"),
            packaging,
            controller: Some(controller),
            tls: true,
            longer: Some(120),
            shorter: Some(4),
            connections: text("<connections>"),
            files: text("<open-files>"),
            ending: None,
            placeholders: true,
        }
    }
}

fn thing(kind: &str, namespace: &str, name: &str) -> Thing {
    Thing {
        kind: kind.to_owned(),
        namespace: namespace.to_owned(),
        name: name.to_owned(),
    }
}

fn member(namespace: &str, prefix: &str) -> Member {
    Member {
        pod: Some(thing("pod", namespace, &format!("<{prefix}pod>"))),
        owner: Some(thing(
            "deployment",
            namespace,
            &format!("<{prefix}deployment>"),
        )),
        parts: vec![Part {
            name: format!("<{prefix}container>"),
            probed: false,
            more_cpu: Some("<cpu>".to_owned()),
            more_memory: Some("<memory>".to_owned()),
            pre_stop: None,
        }],
        grace: Some("<grace>".to_owned()),
        ..Member::default()
    }
}
