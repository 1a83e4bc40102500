//! In: what the API says of a pod (its labels, its containers) or of a class. Out: which data plane it
//! is and which rule says so, or none: siblings and sidecars are none. Pure, no I/O.
use std::collections::BTreeMap;

use super::ALL;
use super::serves::{self, Gateways, Hidden, Ingresses, Serves, Words};
use crate::cause::taxonomy::Controller;

/// One way in which a data plane is deployed in a cluster, and how its pods and classes are told.
#[derive(Debug)]
pub struct Packaging {
    /// What people call it.
    pub name: &'static str,
    /// Repositories of the containers' images that run it, or what they end in: mirrors have other
    /// beginnings.
    pub images: &'static [&'static str],
    /// A word that such a container was started with, where its image has other uses, too.
    pub with: Option<&'static str>,
    /// A word that none was started with: jobs and webhooks out of the same image.
    pub without: Option<&'static str>,
    /// Labels that only its pods have, each alternative as a whole; an empty value stands for any.
    pub labels: &'static [&'static [(&'static str, &'static str)]],
    /// Labels that none of its pods has.
    pub unlike: &'static [(&'static str, &'static str)],
    /// `spec.controller` of its `IngressClass`, `spec.controllerName` of its `GatewayClass`; what
    /// follows behind a slash is the instance.
    pub classes: &'static [&'static str],
    /// Which Ingresses it serves, by what its containers were started with.
    pub ingresses: fn(&Words) -> Result<Ingresses, Hidden>,
    /// Whether it knows the Gateway API at all.
    pub gateways: bool,
    /// Whether a host `*.x` of an Ingress takes several labels, where that is known: the API says one,
    /// nginx's `server_name` takes all.
    pub deep: Option<bool>,
}

impl Packaging {
    /// One that nothing tells: what the others are built from.
    pub(super) const NONE: Self = Self {
        name: "",
        images: &[],
        with: None,
        without: None,
        labels: &[],
        unlike: &[],
        classes: &[],
        ingresses: |_| Ok(Ingresses::Own),
        gateways: true,
        deep: None,
    };

    /// What a pod of this packaging serves.
    pub fn serves(
        &self,
        labels: &BTreeMap<String, String>,
        namespace: &str,
        containers: &[Container],
    ) -> Serves {
        let commands = containers.iter().flat_map(|one| one.command);
        let words: Vec<&str> = commands.flat_map(|text| text.split_whitespace()).collect();
        // Images that start themselves may have flags of their own.
        let ingresses = match (self.ingresses)(&Words(&words)) {
            Ok(Ingresses::Told(_)) if words.is_empty() => Ingresses::Any,
            Ok(ingresses) => ingresses,
            Err(Hidden) => Ingresses::Any,
        };
        let gateways = match serves::gateway(labels, namespace) {
            _ if !self.gateways => Gateways::None,
            Some(gateway) => Gateways::One(gateway),
            None => Gateways::Any,
        };
        Serves {
            packaging: self.name,
            ingresses,
            gateways,
            deep: self.deep,
        }
    }
}

/// A container of a pod, as its specification says. Restartable init containers are containers.
#[derive(Clone, Copy, Debug)]
pub struct Container<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its image, with registry, tag and digest.
    pub image: &'a str,
    /// Its command and arguments; those of its image are not known.
    pub command: &'a [String],
}

/// A pod that was told to be a data plane.
#[derive(Debug)]
pub struct Recognized<'a> {
    /// Which one.
    pub controller: Controller,
    /// How it is deployed.
    pub packaging: &'static Packaging,
    /// Why.
    pub by: By<'a>,
}

/// The rule that told it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By<'a> {
    /// The image of this container.
    Container(&'a str),
    /// These labels.
    Labels(&'static [(&'static str, &'static str)]),
}

/// Which data plane a pod is. An image says more than labels, which people choose.
pub fn pod<'a>(
    labels: &BTreeMap<String, String>,
    containers: &[Container<'a>],
) -> Option<Recognized<'a>> {
    let likely = || packagings().filter(|(_, packaging)| !packaging.differs(labels));
    let of = |controller, packaging, by| Recognized {
        controller,
        packaging,
        by,
    };
    likely()
        .find_map(|(controller, packaging)| {
            let container = containers.iter().find(|one| packaging.runs(one))?;
            Some(of(controller, packaging, By::Container(container.name)))
        })
        .or_else(|| {
            likely().find_map(|(controller, packaging)| {
                let rule = packaging.labeled(labels)?;
                Some(of(controller, packaging, By::Labels(rule)))
            })
        })
}

/// What serves a class with this controller.
pub fn of_class(name: &str) -> Option<&'static Packaging> {
    let mut all = packagings().map(|(_, packaging)| packaging);
    all.find(|packaging| {
        packaging.classes.iter().any(|class| {
            let instance = name.strip_prefix(class);
            instance.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        })
    })
}

fn packagings() -> impl Iterator<Item = (Controller, &'static Packaging)> {
    ALL.iter().flat_map(|profile| {
        let all = profile.packagings.iter();
        all.map(|packaging| (profile.controller, packaging))
    })
}

impl Packaging {
    fn differs(&self, labels: &BTreeMap<String, String>) -> bool {
        self.unlike.iter().any(|pair| has(labels, *pair))
    }

    fn runs(&self, container: &Container) -> bool {
        let started = |word| given(container.command, word);
        let image = repository(container.image);
        self.images.iter().any(|end| ends_in(image, end))
            && self.with.is_none_or(started)
            && !self.without.is_some_and(started)
    }

    fn labeled(&self, labels: &BTreeMap<String, String>) -> Option<&'static [(&str, &str)]> {
        let all = |rule: &&&[(&str, &str)]| rule.iter().all(|pair| has(labels, *pair));
        self.labels.iter().find(all).copied()
    }
}

fn has(labels: &BTreeMap<String, String>, (key, value): (&str, &str)) -> bool {
    labels
        .get(key)
        .is_some_and(|one| value.is_empty() || one == value)
}

/// Whether this is one of the words of a command, be it inside a shell's.
fn given(command: &[String], word: &str) -> bool {
    let mut words = command.iter().flat_map(|text| text.split_whitespace());
    words.any(|one| one == word)
}

/// An image without its tag and digest; what stands before the first slash may have a port.
fn repository(image: &str) -> &str {
    let name = image.split_once('@').map_or(image, |(name, _)| name);
    match name.rsplit_once(':') {
        Some((repository, tag)) if !tag.contains('/') => repository,
        _ => name,
    }
}

fn ends_in(repository: &str, end: &str) -> bool {
    let rest = repository.strip_suffix(end);
    rest.is_some_and(|rest| rest.is_empty() || rest.ends_with('/'))
}

#[cfg(test)]
#[path = "packaging_tests.rs"]
mod tests;
