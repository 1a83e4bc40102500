//! In: a cause, and the objects it is about. Out: what to do: commands with their real names and values,
//! else where to look. What would be a guess is not proposed.
mod kubectl;
mod placeholders;
mod pods;
mod rows;
mod settings;
mod subject;
mod timeouts;

use self::kubectl::Kubectl;
use super::taxonomy::Cause;

pub use self::subject::{Member, Part, Short, Subject, Thing};

/// Seconds that a pod goes on serving after its deletion, so that controllers hear of it.
const SLEEP: u32 = 15;

/// What to do about a cause.
pub fn fixes(cause: Cause, subject: &Subject) -> Vec<String> {
    match cause {
        Cause::NoEndpoints => no_endpoints(subject),
        Cause::BackendNotReady => pods::not_ready(subject),
        Cause::BackendCrashed => pods::crashed(subject),
        Cause::BackendTimeout => backend_timeout(subject),
        Cause::PodTerminating => pods::terminating(subject),
        Cause::StaleEndpoint => stale_endpoint(subject),
        Cause::WrongPort => wrong_port(subject),
        Cause::BackendOomKilled => pods::oom_killed(&subject.backend),
        Cause::BackendOverloaded => pods::overloaded(&subject.backend),
        Cause::IngressPortsExhausted => ports_exhausted(subject),
        Cause::IngressFdsExhausted => connections_exhausted(subject),
        Cause::IngressOverloaded => pods::overloaded(&subject.ingress),
        Cause::KeepaliveRace => keepalive_race(subject),
        Cause::BackendReset | Cause::PrematureClose | Cause::UpstreamError => {
            pods::logs(&subject.backend)
        }
        Cause::ProtocolError => protocol_error(subject),
        Cause::NetworkUnreachable => unreachable(subject),
        Cause::NodeNotReady => node(subject).into_iter().collect(),
        Cause::Unknown => pods::describe(&subject.backend).into_iter().collect(),
    }
}

fn no_endpoints(subject: &Subject) -> Vec<String> {
    let Some(service) = &subject.service else {
        return Vec::new();
    };
    let within = || Kubectl::within(&service.namespace);
    let mut found = vec![
        within()
            .word("get endpointslices -l")
            .pair("kubernetes.io/service-name", &service.name)
            .word("-o wide")
            .line(),
        within()
            .word("describe service")
            .value(&service.name)
            .line(),
    ];
    found.extend(subject.route.as_ref().map(|route| {
        Kubectl::within(&route.namespace)
            .word("describe")
            .word(&route.kind)
            .value(&route.name)
            .line()
    }));
    found.push(format!(
        "have a Ready pod behind {}: its selector, their readiness, their number",
        service.words()
    ));
    found
}

fn backend_timeout(subject: &Subject) -> Vec<String> {
    let mut found: Vec<String> = timeouts::read_timeout(subject).into_iter().collect();
    found.extend(pods::top(&subject.backend));
    found.extend(pods::logs(&subject.backend));
    found
}

fn stale_endpoint(subject: &Subject) -> Vec<String> {
    let mut found: Vec<String> = restart(subject).into_iter().collect();
    found.extend(pods::terminating(subject));
    found
}

/// Has the controller read its configuration anew.
fn restart(subject: &Subject) -> Option<String> {
    let owner = subject.ingress.owner.as_ref()?;
    if owner.kind == "replicaset" {
        return None;
    }
    let line = Kubectl::within(&owner.namespace).word("rollout restart");
    Some(line.word(&owner.kind).value(&owner.name).line())
}

fn wrong_port(subject: &Subject) -> Vec<String> {
    let mut found = Vec::new();
    if let (Some(service), Some(port), Some(right)) =
        (&subject.service, &subject.service_port, &subject.right_port)
    {
        // Ports of a Service are merged by their number.
        let patch = format!(r#"{{"spec":{{"ports":[{{"port":{port},"targetPort":{right}}}]}}}}"#);
        let line = Kubectl::within(&service.namespace);
        found.push(line.patch("service", &service.name, "strategic", &patch));
    }
    let port = subject.port.as_ref();
    found.extend(port.map(|port| format!("or have the application listen on {port}")));
    if subject.right_port.is_none() || subject.placeholders {
        found.extend(pods::listening(&subject.backend));
        found.extend(subject.service.as_ref().map(|service| {
            let line = Kubectl::within(&service.namespace).word("get service");
            let line = line.value(&service.name).word("-o");
            line.value("jsonpath={.spec.ports}").line()
        }));
    }
    found
}

fn ports_exhausted(subject: &Subject) -> Vec<String> {
    let mut found = Vec::new();
    if let Some(owner) = subject
        .ingress
        .owner
        .as_ref()
        .filter(|_| !subject.ingress.host_network)
    {
        // A safe sysctl: no kubelet needs to allow it.
        let patch = r#"{"spec":{"template":{"spec":{"securityContext":{"sysctls":[{"name":"net.ipv4.ip_local_port_range","value":"1024 65535"}]}}}}}"#;
        let line = Kubectl::within(&owner.namespace);
        found.push(line.patch(&owner.kind, &owner.name, "strategic", patch));
    }
    found.push("keep connections to the backend open, so that fewer are made".to_owned());
    found.extend(pods::scale(&subject.ingress));
    found
}

fn connections_exhausted(subject: &Subject) -> Vec<String> {
    let mut found = settings::connections(subject);
    found.extend(pods::scale(&subject.ingress));
    found
}

fn keepalive_race(subject: &Subject) -> Vec<String> {
    let mut found = vec![match subject.shorter {
        Some(seconds) => format!(
            "have the backend keep idle connections longer than the controller: it closed one after \
             {} s",
            seconds + 1
        ),
        None => "have the backend keep idle connections longer than the controller".to_owned(),
    }];
    found.extend(timeouts::idle_timeout(subject));
    found
}

fn protocol_error(subject: &Subject) -> Vec<String> {
    let mut found = if subject.tls {
        settings::speak_tls(subject)
    } else {
        Vec::new()
    };
    found.extend(pods::logs(&subject.backend));
    found
}

/// Policies of both ends may stand between them.
fn unreachable(subject: &Subject) -> Vec<String> {
    let ends = [&subject.backend, &subject.ingress];
    let namespaces = ends.into_iter().filter_map(|end| end.pod.as_ref());
    let policies = namespaces.map(|pod| {
        let line = Kubectl::within(&pod.namespace);
        line.word("get networkpolicies -o wide").line()
    });
    let mut found: Vec<String> = policies.collect();
    found.dedup();
    found.extend(node(subject));
    found
}

fn node(subject: &Subject) -> Option<String> {
    let node = subject.node.as_ref()?;
    Some(Kubectl::within("").word("describe node").value(node).line())
}

#[cfg(test)]
mod tests;
