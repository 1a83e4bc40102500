//! Agents on a bed's ingress pod, which is a data plane: with or without a cluster around it.
use anyhow::Result;

use super::Plane;
use crate::agent::Agent;
use crate::bed::{Bed, Host};
use crate::fake_api::FakeApi;
use crate::kubeconfig::User;
use crate::shop;

/// Starts an agent on the ingress pod, which is this data plane.
pub fn watch(bed: &Bed, plane: Plane) -> Result<Agent> {
    let cgroup = bed.cgroup(Host::Proxy).display().to_string();
    let target = [
        "--no-kube",
        "--controller",
        plane.word(),
        "--cgroup",
        &cgroup,
    ];
    Agent::start_with(bed.folder(), &target)
}

/// The same with the names and the routes of a cluster, which it knows when this returns.
pub fn watch_in(bed: &Bed, plane: Plane, api: &FakeApi) -> Result<Agent> {
    let cgroup = bed.cgroup(Host::Proxy).display().to_string();
    let config = api.kubeconfig(bed.folder(), &User::Nobody)?;
    let config = config.display().to_string();
    let target = ["--controller", plane.word(), "--cgroup", &cgroup];
    let cluster = ["--kubeconfig", &config, "--node", shop::NODE];
    let agent = Agent::start_with(bed.folder(), &[target, cluster].concat())?;
    agent.knows_the_cluster()?;
    Ok(agent)
}
