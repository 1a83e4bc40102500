//! In: a pod as the cluster has it. Out: how it is deployed, in the words of the profiles. Pure.
use std::collections::BTreeMap;

use super::packaging::{self, Container};
use crate::cluster::object::Pod;

/// What people call the way in which this ingress pod is deployed.
pub fn packaging(pod: &Pod) -> Option<&'static str> {
    let labels: BTreeMap<String, String> = pod
        .labels
        .iter()
        .map(|(key, value)| (key.to_string(), value.to_string()))
        .collect();
    let commands: Vec<Vec<String>> = pod
        .containers
        .iter()
        .map(|container| container.command.iter().map(ToString::to_string).collect())
        .collect();
    let containers: Vec<Container> = pod
        .containers
        .iter()
        .zip(&commands)
        .map(|(container, command)| Container {
            name: &container.name,
            image: &container.image,
            command,
        })
        .collect();
    Some(packaging::pod(&labels, &containers)?.packaging.name)
}
