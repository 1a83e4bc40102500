//! In: a cause, and the objects it is about. Out: what to do: commands with their real names and values,
//! else where to look. What would be a guess is not proposed.
mod kubectl;
mod pods;
mod settings;
mod subject;

use self::kubectl::Kubectl;
use super::taxonomy::Cause;

pub use self::subject::{Member, Part, Subject, Thing};

/// Seconds that a pod goes on serving after its deletion, so that controllers hear of it.
const SLEEP: u32 = 15;

/// What to do about a cause.
pub fn fixes(cause: Cause, subject: &Subject) -> Vec<String> {
    match cause {
        Cause::NoEndpoints => no_endpoints(subject),
        Cause::BackendNotReady => pods::not_ready(subject),
        Cause::BackendCrashed => pods::crashed(subject),
        Cause::BackendTimeout => backend_timeout(subject),
        Cause::PodTerminating => pods::terminating(&subject.backend),
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
    let setting = settings::read_timeout(subject).and_then(|one| one.command(subject));
    let words = || settings::read_timeout_words(subject);
    let mut found: Vec<String> = setting.or_else(words).into_iter().collect();
    found.extend(pods::top(&subject.backend));
    found
}

fn stale_endpoint(subject: &Subject) -> Vec<String> {
    let mut found: Vec<String> = restart(subject).into_iter().collect();
    found.extend(pods::terminating(&subject.backend));
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
    let settings = settings::connections(subject).into_iter();
    let mut found: Vec<String> = settings.filter_map(|one| one.command(subject)).collect();
    found.extend(pods::scale(&subject.ingress));
    if found.is_empty() {
        found.push("raise the controller's limit of open files and connections".to_owned());
    }
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
    let setting = settings::idle_timeout(subject).and_then(|one| one.command(subject));
    let words = || {
        let what = settings::idle_timeout_words(subject)?;
        Some(format!("or have the controller close them earlier: {what}"))
    };
    found.extend(setting.or_else(words));
    found
}

fn protocol_error(subject: &Subject) -> Vec<String> {
    let setting = settings::speak_tls(subject).filter(|_| subject.tls);
    let command = setting.and_then(|one| one.command(subject));
    let mut found: Vec<String> = command.into_iter().collect();
    if found.is_empty() && subject.tls {
        found.push("have the controller speak TLS to this backend".to_owned());
    }
    found.extend(pods::logs(&subject.backend));
    found
}

fn unreachable(subject: &Subject) -> Vec<String> {
    let mut found = Vec::new();
    if let Some(pod) = &subject.backend.pod {
        let line = Kubectl::within(&pod.namespace);
        found.push(line.word("get networkpolicies -o wide").line());
    }
    found.extend(node(subject));
    found
}

fn node(subject: &Subject) -> Option<String> {
    let node = subject.node.as_ref()?;
    Some(Kubectl::within("").word("describe node").value(node).line())
}

#[cfg(test)]
mod tests;
