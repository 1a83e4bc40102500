//! In: a pod and what made it. Out: what to do about pods: a preStop sleep, a probe, limits, replicas, or
//! where to look.
use super::SLEEP;
use super::kubectl::Kubectl;
use super::subject::{Member, Part, Subject, Thing};

/// A patch of the pods that an owner makes, by containers.
fn template(owner: &Thing, spec: &str, containers: &[String]) -> String {
    let containers = containers.join(",");
    let patch =
        format!(r#"{{"spec":{{"template":{{"spec":{{{spec}"containers":[{containers}]}}}}}}}}"#);
    let line = Kubectl::within(&owner.namespace);
    line.patch(&owner.kind, &owner.name, "strategic", &patch)
}

/// The guide's remedy for rollouts: serve on until every controller knows.
pub(super) fn terminating(member: &Member) -> Vec<String> {
    let Some((owner, grace)) = member.owner.as_ref().zip(member.grace.as_ref()) else {
        return Vec::new();
    };
    let containers: Vec<String> = member
        .parts
        .iter()
        .map(|part| {
            format!(
                r#"{{"name":"{}","lifecycle":{{"preStop":{{"exec":{{"command":["sleep","{SLEEP}"]}}}}}}}}"#,
                part.name
            )
        })
        .collect();
    if containers.is_empty() {
        return Vec::new();
    }
    let spec = format!(r#""terminationGracePeriodSeconds":{grace},"#);
    vec![
        template(owner, &spec, &containers),
        format!(
            "an image without `sleep` takes preStop.sleep.seconds: {SLEEP} instead (Kubernetes 1.30 \
             and newer)"
        ),
    ]
}

/// A probe where there is none, else what the probe says.
pub(super) fn not_ready(subject: &Subject) -> Vec<String> {
    let member = &subject.backend;
    let mut found = Vec::new();
    let unprobed = member.parts.iter().find(|part| !part.probed);
    if let (Some(owner), Some(part), Some(port)) = (&member.owner, unprobed, &subject.port)
        && member.parts.len() == 1
    {
        let probe = format!(
            r#"{{"name":"{}","readinessProbe":{{"tcpSocket":{{"port":{port}}},"periodSeconds":5}}}}"#,
            part.name
        );
        found.push(template(owner, "", &[probe]));
    }
    found.extend(describe(member));
    found
}

pub(super) fn crashed(subject: &Subject) -> Vec<String> {
    let member = &subject.backend;
    let mut found = Vec::new();
    if let Some(pod) = &member.pod {
        let part = member.parts.first().filter(|_| member.parts.len() == 1);
        let mut line = Kubectl::within(&pod.namespace)
            .word("logs")
            .value(&pod.name);
        if let Some(part) = part {
            line = line.word("-c").value(&part.name);
        }
        found.push(line.word("--previous --tail=100").line());
    }
    found.extend(describe(member));
    found
}

pub(super) fn oom_killed(member: &Member) -> Vec<String> {
    let mut found = limits(member, "memory", |part| part.more_memory.as_ref());
    found.extend(top(member));
    found
}

pub(super) fn overloaded(member: &Member) -> Vec<String> {
    let mut found: Vec<String> = scale(member).into_iter().collect();
    found.extend(limits(member, "cpu", |part| part.more_cpu.as_ref()));
    found.extend(top(member));
    found
}

/// Larger limits, where the present ones are known.
fn limits(member: &Member, resource: &str, more: impl Fn(&Part) -> Option<&String>) -> Vec<String> {
    let Some(owner) = &member.owner else {
        return Vec::new();
    };
    let limited = member.parts.iter().filter_map(|part| {
        let limit = format!("--limits={resource}={}", more(part)?);
        let line = Kubectl::within(&owner.namespace).word("set resources");
        let line = line.word(&owner.kind).value(&owner.name);
        Some(line.word("-c").value(&part.name).word(&limit).line())
    });
    limited.collect()
}

/// One more pod.
pub(super) fn scale(member: &Member) -> Option<String> {
    let owner = member.owner.as_ref()?;
    if owner.kind == "daemonset" {
        return None;
    }
    let within = || Kubectl::within(&owner.namespace);
    let present = within().word("get").word(&owner.kind).value(&owner.name);
    let present = present.word("-o").value("jsonpath={.spec.replicas}").line();
    let line = within().word("scale").word(&owner.kind).value(&owner.name);
    Some(
        line.word(&format!("--replicas=$(($({present}) + 1))"))
            .line(),
    )
}

pub(super) fn logs(member: &Member) -> Vec<String> {
    let logs = member.pod.as_ref().map(|pod| {
        let line = Kubectl::within(&pod.namespace)
            .word("logs")
            .value(&pod.name);
        line.word("--all-containers --since=10m").line()
    });
    logs.into_iter().collect()
}

pub(super) fn describe(member: &Member) -> Option<String> {
    let pod = member.pod.as_ref()?;
    let line = Kubectl::within(&pod.namespace).word("describe pod");
    Some(line.value(&pod.name).line())
}

pub(super) fn top(member: &Member) -> Option<String> {
    let pod = member.pod.as_ref()?;
    let line = Kubectl::within(&pod.namespace)
        .word("top pod")
        .value(&pod.name);
    Some(line.word("--containers").line())
}

/// Where the pod listens.
pub(super) fn listening(member: &Member) -> Option<String> {
    let pod = member.pod.as_ref()?;
    let line = Kubectl::within(&pod.namespace)
        .word("exec")
        .value(&pod.name);
    Some(line.word("-- ss -tln").line())
}
