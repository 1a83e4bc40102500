//! One example of pods and of what a fix is about: for the tests beside it, and for those against a real API
//! server (`tests/fixes.rs`). Whoever includes it imports what it names.
use super::{Container, Member, Name, Owner, Pod, Subject, Thing};

/// A pod of a Deployment, with one container of port 8080.
pub(super) fn owned(namespace: &str, owner: &str, container: &str) -> Pod {
    Pod {
        name: Name::new(namespace, &format!("{owner}-7d9f-x")),
        owner: Some(Owner {
            kind: "Deployment".into(),
            name: owner.into(),
        }),
        termination: Some(60),
        containers: vec![Container {
            name: container.into(),
            ports: vec![("http".into(), 8080)],
            cpu: Some("500m".into()),
            memory: Some("512Mi".into()),
            ..Container::default()
        }],
        ..Pod::default()
    }
}

/// All that is known in the best case, but for the ingress pod.
pub(super) fn subject(namespace: &str) -> Subject {
    let name = |name: &str| Name::new(namespace, name);
    Subject {
        service: Some(Thing::new("service", &name("cart"))),
        service_port: Some("80".to_owned()),
        port: Some("8080".to_owned()),
        right_port: Some("8081".to_owned()),
        backend: Member::of(&owned(namespace, "cart", "app"), Some(8080)),
        node: Some("n1".to_owned()),
        route: Some(Thing::new("ingress", &name("web"))),
        tls: true,
        longer: Some(120),
        shorter: Some(4),
        connections: Some("32768".to_owned()),
        files: Some("2048".to_owned()),
        ..Subject::default()
    }
}
