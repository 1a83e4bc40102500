//! In: a Pod as the API writes it. Out: the trimmed pod. Joins each container with its status.
use std::net::IpAddr;
use std::sync::Arc;

use jiff::Timestamp;
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::Partial;
use super::meta::{Meta, StatusCondition, addresses, is_tcp, ready};
use crate::cluster::object::{self, Object, PreStop, State};

#[derive(Deserialize)]
pub(super) struct Pod {
    metadata: Meta,
    #[serde(default)]
    spec: Spec,
    #[serde(default)]
    status: Status,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Spec {
    node_name: Option<Arc<str>>,
    host_network: Option<bool>,
    termination_grace_period_seconds: Option<i64>,
    containers: Option<Vec<Container>>,
    init_containers: Option<Vec<Container>>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Container {
    name: Arc<str>,
    image: Option<Arc<str>>,
    command: Option<Vec<Arc<str>>>,
    args: Option<Vec<Arc<str>>>,
    env: Option<Vec<Variable>>,
    ports: Option<Vec<Port>>,
    restart_policy: Option<String>,
    readiness_probe: Option<IgnoredAny>,
    lifecycle: Option<Lifecycle>,
    resources: Option<Resources>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Lifecycle {
    pre_stop: Option<Hook>,
}

#[derive(Deserialize)]
struct Hook {
    exec: Option<Exec>,
    sleep: Option<Sleep>,
}

#[derive(Deserialize)]
struct Exec {
    command: Option<Vec<String>>,
}

#[derive(Deserialize)]
struct Sleep {
    seconds: i64,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Resources {
    limits: Option<Limits>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Limits {
    cpu: Option<Arc<str>>,
    memory: Option<Arc<str>>,
}

#[derive(Deserialize)]
struct Variable {
    name: String,
    value: Option<String>,
}

/// The variables that are kept: what profiles know.
const VARIABLES: [&str; 1] = ["CONTROLLER_INGRESS_CLASS"];

#[derive(Deserialize)]
struct Port {
    name: Option<Arc<str>>,
    #[serde(rename = "containerPort")]
    number: u16,
    protocol: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Status {
    phase: Option<Arc<str>>,
    #[serde(rename = "podIP")]
    pod_ip: Option<String>,
    #[serde(rename = "podIPs")]
    pod_ips: Option<Vec<PodIp>>,
    conditions: Option<Vec<StatusCondition>>,
    container_statuses: Option<Vec<ContainerStatus>>,
    init_container_statuses: Option<Vec<ContainerStatus>>,
}

#[derive(Deserialize)]
struct PodIp {
    ip: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct ContainerStatus {
    name: Arc<str>,
    ready: bool,
    restart_count: u32,
    #[serde(rename = "containerID")]
    container_id: Option<Arc<str>>,
    state: Option<ContainerState>,
    last_state: Option<ContainerState>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct ContainerState {
    waiting: Option<Waiting>,
    running: Option<Running>,
    terminated: Option<Terminated>,
}

#[derive(Deserialize)]
struct Waiting {
    reason: Option<Arc<str>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Running {
    started_at: Option<Timestamp>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Terminated {
    reason: Option<Arc<str>>,
    #[serde(default)]
    exit_code: i32,
    started_at: Option<Timestamp>,
    finished_at: Option<Timestamp>,
}

impl Partial for Pod {
    fn meta(&self) -> &Meta {
        &self.metadata
    }

    fn trim(self) -> Object {
        let (meta, spec, status) = (self.metadata, self.spec, self.status);
        let owner = meta.owner();
        let grace = meta.deletion_grace_period_seconds;
        Object::Pod(object::Pod {
            name: meta.name(),
            created: meta.creation_timestamp,
            deletion: meta.deletion_timestamp,
            grace: grace.and_then(|seconds| seconds.try_into().ok()),
            termination: (spec.termination_grace_period_seconds)
                .and_then(|seconds| seconds.try_into().ok()),
            owner,
            node: spec.node_name.filter(|node| !node.is_empty()),
            host_network: spec.host_network == Some(true),
            addresses: pod_addresses(status.pod_ips, status.pod_ip),
            phase: status.phase.unwrap_or_default(),
            ready: ready(status.conditions),
            containers: containers(
                spec.containers,
                spec.init_containers,
                status
                    .container_statuses
                    .into_iter()
                    .chain(status.init_container_statuses)
                    .flatten()
                    .collect(),
            ),
            hash: meta.annotations.and_then(|annotations| annotations.hash),
            uid: meta.uid,
            labels: meta.labels.into_iter().flatten().collect(),
        })
    }
}

fn pod_addresses(all: Option<Vec<PodIp>>, first: Option<String>) -> Vec<IpAddr> {
    let found = addresses(all.into_iter().flatten().filter_map(|one| one.ip));
    if found.is_empty() {
        addresses(first)
    } else {
        found
    }
}

/// Containers, and the init containers that go on running beside them.
fn containers(
    main: Option<Vec<Container>>,
    init: Option<Vec<Container>>,
    mut statuses: Vec<ContainerStatus>,
) -> Vec<object::Container> {
    let main = main.into_iter().flatten();
    main.chain(init.into_iter().flatten().filter(Container::is_sidecar))
        .map(|container| {
            let named = |status: &ContainerStatus| status.name == container.name;
            let status = statuses.iter().position(named);
            let status =
                status.map_or_else(ContainerStatus::default, |at| statuses.swap_remove(at));
            join(container, status)
        })
        .collect()
}

impl Container {
    fn is_sidecar(&self) -> bool {
        self.restart_policy.as_deref() == Some("Always")
    }
}

fn join(container: Container, status: ContainerStatus) -> object::Container {
    let sidecar = container.is_sidecar();
    let ports = container.ports.into_iter().flatten();
    let limits = container.resources.and_then(|resources| resources.limits);
    let limits = limits.unwrap_or_default();
    object::Container {
        sidecar,
        probed: container.readiness_probe.is_some(),
        pre_stop: container
            .lifecycle
            .and_then(|lifecycle| lifecycle.pre_stop)
            .map(pre_stop),
        cpu: limits.cpu,
        memory: limits.memory,
        name: container.name,
        image: container.image.unwrap_or_default(),
        command: container
            .command
            .into_iter()
            .chain(container.args)
            .flatten()
            .chain(container.env.into_iter().flatten().filter_map(word))
            .collect(),
        ports: ports
            .filter(|port| is_tcp(port.protocol.as_deref()))
            .map(|port| (port.name.unwrap_or_default(), port.number))
            .collect(),
        ready: status.ready,
        restarts: status.restart_count,
        id: status.container_id.filter(|id| !id.is_empty()),
        state: state(status.state),
        last: state(status.last_state),
    }
}

fn pre_stop(hook: Hook) -> PreStop {
    let sleep = hook.sleep.and_then(|sleep| sleep.seconds.try_into().ok());
    let command = hook.exec.and_then(|exec| exec.command);
    let slept = command.and_then(|command| sleeps(&command));
    sleep
        .map(PreStop::Sleep)
        .or(slept.map(PreStop::Command))
        .unwrap_or(PreStop::Other)
}

/// Seconds of a command that sleeps and does nothing else, by itself or in a shell.
fn sleeps(command: &[String]) -> Option<u32> {
    let words: Vec<&str> = match command {
        [_, flag, script] if flag == "-c" => script.split_whitespace().collect(),
        words => words.iter().map(String::as_str).collect(),
    };
    let [program, time] = &*words else {
        return None;
    };
    let sleep = program.rsplit('/').next() == Some("sleep");
    let seconds = time.strip_suffix('s').unwrap_or(time).parse().ok();
    seconds.filter(|_| sleep)
}

/// A variable as a shell writes it; one whose value lies elsewhere has none that is to be seen.
fn word(variable: Variable) -> Option<Arc<str>> {
    let known = VARIABLES.contains(&variable.name.as_str());
    let value = variable.value.unwrap_or_else(|| "$".to_owned());
    known.then(|| format!("{}={value}", variable.name).into())
}

fn state(state: Option<ContainerState>) -> State {
    let state = state.unwrap_or_default();
    if let Some(ended) = state.terminated {
        State::Terminated {
            reason: ended.reason.unwrap_or_default(),
            code: ended.exit_code,
            started: ended.started_at,
            finished: ended.finished_at,
        }
    } else if let Some(running) = state.running {
        State::Running(running.started_at)
    } else {
        let waiting = state.waiting;
        waiting.map_or(State::None, |waiting| {
            State::Waiting(waiting.reason.unwrap_or_default())
        })
    }
}
