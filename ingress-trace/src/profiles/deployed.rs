//! In: a pod as the cluster has it. Out: the same in the words of the profiles, and how it is deployed.
//! Pure.
use std::collections::BTreeMap;

use super::packaging::{self, Container, Recognized};
use crate::cluster::object::Pod;

/// Labels by their keys.
pub fn labels(pod: &Pod) -> BTreeMap<String, String> {
    let pairs = pod.labels.iter();
    pairs
        .map(|(key, value)| (key.to_string(), value.to_string()))
        .collect()
}

/// What is read off a pod that the profiles know.
pub fn deployed<T>(
    pod: &Pod,
    labels: &BTreeMap<String, String>,
    read: impl FnOnce(&Recognized, &[Container]) -> T,
) -> Option<T> {
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
    let told = packaging::pod(labels, &containers)?;
    Some(read(&told, &containers))
}
