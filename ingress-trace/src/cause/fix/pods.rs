//! In: a pod and what made it. Out: what to do about pods: a preStop sleep, a probe, limits, replicas, or
//! where to look.
use super::SLEEP;
use super::kubectl::Kubectl;
use super::subject::{Member, Part, Short, Subject, Thing};
use crate::cluster::object::PreStop;

/// A patch of the pods that an owner makes, by containers.
fn template(owner: &Thing, spec: &str, containers: &[String]) -> String {
    let containers = containers.join(",");
    let patch =
        format!(r#"{{"spec":{{"template":{{"spec":{{{spec}"containers":[{containers}]}}}}}}}}"#);
    let line = Kubectl::within(&owner.namespace);
    line.patch(&owner.kind, &owner.name, "strategic", &patch)
}

/// The guide's remedy for rollouts: serve on until every controller knows.
pub(super) fn terminating(subject: &Subject) -> Vec<String> {
    let member = &subject.backend;
    if let Some(broken) = did_not_hold(subject) {
        return broken;
    }
    let mut found: Vec<String> = sleeps(member).into_iter().collect();
    if found.is_empty() && member.parts.iter().all(|part| part.sleep().is_some()) {
        let service = subject.service.as_ref();
        let service = service.map(|service| format!("the pods of {}", service.words()));
        let whose = service.or_else(|| Some(member.pod.as_ref()?.words()));
        found.extend(whose.map(|whose| {
            format!(
                "have {whose} wait {SLEEP} s before the end (a preStop sleep), with a \
                 terminationGracePeriodSeconds above it"
            )
        }));
        return found;
    }
    let command = |part: &Part| !matches!(part.pre_stop, Some(PreStop::Sleep(_) | PreStop::Other));
    if member.parts.iter().any(command) {
        found.push(format!(
            "an image without `sleep` takes preStop.sleep.seconds: {SLEEP} instead (Kubernetes 1.30 \
             and newer)"
        ));
    }
    found.extend(own_hooks(subject));
    found
}

/// Sleeps before the end, longer than those that are there. A hook of another kind is not touched: a
/// container has only one.
fn sleeps(member: &Member) -> Option<String> {
    let (owner, grace) = member.owner.as_ref().zip(member.grace.as_ref())?;
    let hook = |part: &Part| {
        let (_, seconds) = part.sleep()?;
        let how = match part.pre_stop {
            Some(PreStop::Sleep(_)) => format!(r#""sleep":{{"seconds":{seconds}}}"#),
            _ => format!(r#""exec":{{"command":["sleep","{seconds}"]}}"#),
        };
        let name = &part.name;
        Some(format!(
            r#"{{"name":"{name}","lifecycle":{{"preStop":{{{how}}}}}}}"#
        ))
    };
    let containers: Vec<String> = member.parts.iter().filter_map(hook).collect();
    if containers.is_empty() {
        return None;
    }
    let spec = format!(r#""terminationGracePeriodSeconds":{grace},"#);
    Some(template(owner, &spec, &containers))
}

/// Hooks that do more than sleep, or that a reader knows of.
fn own_hooks(subject: &Subject) -> Vec<String> {
    let member = &subject.backend;
    let grace = member.grace.as_deref().unwrap_or("larger");
    let wait = |whose: &str| {
        format!(
            "{whose} has a preStop hook of its own: have it wait {SLEEP} s before it stops \
             anything, with terminationGracePeriodSeconds {grace}"
        )
    };
    if subject.placeholders {
        return vec![format!("or, where {}", wait("it"))];
    }
    let own = member.parts.iter().filter(|part| part.sleep().is_none());
    own.map(|part| wait(&format!("container {}", part.name)))
        .collect()
}

/// A sleep that was to last longer than until the failure: it does not work.
fn did_not_hold(subject: &Subject) -> Option<Vec<String>> {
    let passed = subject.ending?;
    let pod = subject.backend.pod.as_ref()?;
    let (part, seconds) = subject.backend.parts.iter().find_map(|part| {
        let (now, _) = part.sleep()?;
        (u64::from(now) > passed).then_some((part, now))
    })?;
    let events = Kubectl::within(&pod.namespace).word("get events --field-selector");
    let events = events.word("reason=FailedPreStopHook").line();
    Some(vec![
        events,
        format!(
            "see why the preStop sleep of {seconds} s in container {} did not hold for {passed} s: an \
             image without `sleep`, an end that the application chose itself, or another container",
            part.name
        ),
    ])
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
    found.extend(logs(member));
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
        // One that has not ended has no logs of a time before.
        line = match part {
            Some(part) => line.word("-c").value(&part.name),
            None => line.word("--all-containers --ignore-errors"),
        };
        found.push(line.word("--previous --tail=100").line());
    }
    found.extend(describe(member));
    found
}

pub(super) fn oom_killed(member: &Member) -> Vec<String> {
    let mut found = larger(member, Short::Memory);
    found.extend(top(member));
    found
}

/// First what it was short of, then more pods.
pub(super) fn overloaded(member: &Member) -> Vec<String> {
    let short = member.short.iter();
    let mut found: Vec<String> = short.flat_map(|short| larger(member, *short)).collect();
    found.extend(scale(member));
    found.extend(top(member));
    found
}

/// More of what a pod was short of.
fn larger(member: &Member, short: Short) -> Vec<String> {
    let words = |words: &str| vec![words.to_owned()];
    match short {
        Short::Cpu => limits(member, "cpu", |part| part.more_cpu.as_ref()),
        Short::Node => words(
            "others have the node's CPUs: raise the CPU request of its containers, which is their \
             share, or have it run on another node",
        ),
        Short::Memory => limits(member, "memory", |part| part.more_memory.as_ref()),
        Short::Queue => words(
            "have the application accept faster, or listen with a larger backlog (and \
             net.core.somaxconn)",
        ),
        Short::Files => words(
            "raise the application's limit of open files (`ulimit -n` before it starts), and see \
             that it closes what it opens",
        ),
    }
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
pub(super) fn scale(member: &Member) -> Vec<String> {
    let scaled = member.owner.as_ref();
    let Some(owner) = scaled.filter(|owner| owner.kind != "daemonset") else {
        return Vec::new();
    };
    let within = || Kubectl::within(&owner.namespace);
    let present = within().word("get").word(&owner.kind).value(&owner.name);
    let present = present.word("-o").value("jsonpath={.spec.replicas}").line();
    let line = within().word("scale").word(&owner.kind).value(&owner.name);
    vec![
        line.word(&format!("--replicas=$(($({present}) + 1))"))
            .line(),
        "where an autoscaler sets the replicas, raise its minReplicas instead".to_owned(),
    ]
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

/// Where the pod listens; its own images need not have the tool.
pub(super) fn listening(member: &Member) -> Option<String> {
    let pod = member.pod.as_ref()?;
    let line = Kubectl::within(&pod.namespace)
        .word("debug -it")
        .value(&pod.name);
    Some(line.word("--image=busybox -- netstat -tln").line())
}
