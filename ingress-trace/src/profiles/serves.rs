//! In: what a data plane's pod was started with, its labels; what a route claims. Out: whether the route
//! is one of this data plane's: yes, no, or not to be told from its pod. Pure, no I/O.
use std::collections::BTreeMap;

use super::packaging;
use crate::cluster::object::{Name, Parent};

/// Which routes a data plane serves, as far as its pod tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Serves {
    /// Name of its packaging.
    pub packaging: &'static str,
    /// Which Ingresses.
    pub ingresses: Ingresses,
    /// Which HTTPRoutes and GRPCRoutes.
    pub gateways: Gateways,
    /// Whether a host `*.x` of an Ingress takes several labels, where that is known.
    pub deep: Option<bool>,
}

/// Which Ingresses a data plane serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ingresses {
    /// None at all.
    None,
    /// Nothing is known.
    Any,
    /// Its pod does not say; classes of other packagings are not its own.
    Own,
    /// Its pod says.
    Told(Told),
}

/// What a pod says of the Ingresses that it serves.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Told {
    /// `spec.controller` of its classes.
    pub controller: Option<String>,
    /// The name of its class; of the old annotation, too.
    pub name: Option<String>,
    /// What decides on `spec.ingressClassName`.
    pub by: By,
    /// Whether it serves Ingresses that name no class, where that is known.
    pub without: Option<bool>,
}

/// By what of a class a data plane knows it as its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum By {
    /// `spec.controller`.
    #[default]
    Controller,
    /// Its name.
    Name,
    /// `spec.controller`, and the name where one was given.
    Both,
    /// `spec.controller` or the name.
    Either,
}

/// Which routes of the Gateway API a data plane serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Gateways {
    /// None at all.
    None,
    /// Its pod does not say.
    Any,
    /// Those of this Gateway.
    One(Name),
}

/// What an Ingress says of its class.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Claim<'a> {
    /// `spec.ingressClassName`.
    pub class: Option<&'a str>,
    /// `spec.controller` of that class, where it is known.
    pub controller: Option<&'a str>,
    /// Annotation `kubernetes.io/ingress.class`.
    pub annotation: Option<&'a str>,
}

impl Serves {
    /// Whether an Ingress is its own; none where that cannot be told.
    pub fn ingress(&self, claim: &Claim) -> Option<bool> {
        match (claim.class, claim.annotation) {
            (Some(class), None) => self.class(class, claim.controller),
            (None, Some(name)) => self.annotation(name),
            // Controllers differ in which of both goes before the other.
            (Some(class), Some(name)) => {
                let by_class = self.class(class, claim.controller);
                by_class.filter(|own| self.annotation(name) == Some(*own))
            }
            (None, None) => match &self.ingresses {
                Ingresses::None => Some(false),
                Ingresses::Any | Ingresses::Own => None,
                Ingresses::Told(told) => told.without,
            },
        }
    }

    /// Whether an HTTPRoute or a GRPCRoute with these parents is its own.
    pub fn attached(&self, parents: &[Parent]) -> Option<bool> {
        match &self.gateways {
            Gateways::None => Some(false),
            // What has services only for parents is a mesh's.
            Gateways::Any => parents.is_empty().then_some(false),
            Gateways::One(own) => {
                let mut gateways = parents.iter().map(|parent| parent.gateway.as_ref());
                if gateways.clone().flatten().any(|gateway| gateway == own) {
                    return Some(true);
                }
                // A set of listeners may be its Gateway's.
                gateways.all(|gateway| gateway.is_some()).then_some(false)
            }
        }
    }

    fn class(&self, name: &str, controller: Option<&str>) -> Option<bool> {
        let told = match &self.ingresses {
            Ingresses::None => return Some(false),
            Ingresses::Any => return None,
            Ingresses::Own => None,
            Ingresses::Told(told) => Some(told),
        };
        let owner = controller.and_then(packaging::of_class);
        if owner.is_some_and(|owner| owner.name != self.packaging) {
            return Some(false);
        }
        let told = told?;
        let own = told.controller.as_deref();
        let by_controller = controller.zip(own).map(|(is, own)| is == own);
        let by_name = told.name.as_deref().map(|own| own == name);
        match told.by {
            By::Controller => by_controller,
            By::Name => by_name,
            By::Both => match (by_controller, by_name.unwrap_or(true)) {
                (_, false) => Some(false),
                (known, true) => known,
            },
            By::Either => match (by_controller, by_name) {
                (Some(true), _) | (_, Some(true)) => Some(true),
                (known, _) => known,
            },
        }
    }

    fn annotation(&self, name: &str) -> Option<bool> {
        match &self.ingresses {
            Ingresses::None => Some(false),
            Ingresses::Any | Ingresses::Own => None,
            Ingresses::Told(told) => told.name.as_deref().map(|own| own == name),
        }
    }
}

/// The words that the containers of a pod were started with.
#[derive(Clone, Copy, Debug)]
pub struct Words<'a>(pub &'a [&'a str]);

/// What a flag was set to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Given<'a> {
    /// It is not there.
    Not,
    /// To this; empty where it stands alone.
    To(&'a str),
    /// To something that only the container knows: a variable of its environment.
    Hidden,
}

impl<'a> Words<'a> {
    /// The last value of a flag, `--flag=value` or `--flag value`, or of a variable of the
    /// environment, `NAME=value`. Case does not matter, nor the number of dashes.
    pub fn flag(&self, name: &str) -> Given<'a> {
        let mut given = Given::Not;
        for (place, word) in self.0.iter().enumerate() {
            let (flag, value) = word.split_once('=').unwrap_or((word, ""));
            if !flag.trim_start_matches('-').eq_ignore_ascii_case(name) {
                continue;
            }
            let next = self.0.get(place + 1).filter(|next| !next.starts_with('-'));
            let value = if word.contains('=') {
                value
            } else {
                next.copied().unwrap_or_default()
            };
            let hidden = value.contains('$');
            given = if hidden {
                Given::Hidden
            } else {
                Given::To(value)
            };
        }
        given
    }

    /// Whether a switch is on; none where it cannot be told.
    pub fn switch(&self, name: &str) -> Option<bool> {
        match self.flag(name) {
            Given::Not => Some(false),
            Given::Hidden => None,
            Given::To(value) => Some(!value.eq_ignore_ascii_case("false")),
        }
    }

    /// Whether a flag of this family was given: itself, or one that goes on behind a dot.
    pub fn any_of(&self, family: &str) -> bool {
        self.0.iter().any(|word| {
            let flag = word.trim_start_matches('-');
            let head = flag.get(..family.len());
            let rest = flag.get(family.len()..).unwrap_or_default();
            head.is_some_and(|head| head.eq_ignore_ascii_case(family))
                && (rest.is_empty() || rest.starts_with(['.', '=']))
        })
    }

    /// The name that a flag gives, else a default; none where it cannot be told.
    pub fn name(&self, flag: &str, default: Option<&str>) -> Result<Option<String>, Hidden> {
        match self.flag(flag) {
            Given::Hidden => Err(Hidden),
            Given::To("") | Given::Not => Ok(default.map(str::to_owned)),
            Given::To(value) => Ok(Some(value.to_owned())),
        }
    }

    /// Whether the containers' images alone say what runs.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// A value is not to be seen from here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hidden;

/// Labels with the name of a pod's Gateway, and those with its namespace; empty: the pod's own.
/// Envoy Gateway: internal/gatewayapi/translator.go; the others: GEP-1762, istio/istio before it.
const GATEWAY_LABELS: [(&str, &str); 4] = [
    (
        "gateway.envoyproxy.io/owning-gateway-name",
        "gateway.envoyproxy.io/owning-gateway-namespace",
    ),
    ("gateway.networking.k8s.io/gateway-name", ""),
    ("istio.io/gateway-name", ""),
    ("projectcontour.io/owning-gateway-name", ""),
];

/// The Gateway that a pod was made for.
pub(super) fn gateway(labels: &BTreeMap<String, String>, namespace: &str) -> Option<Name> {
    let (name, of) = GATEWAY_LABELS.iter().find_map(|(name, of)| {
        let name = labels.get(*name)?;
        Some((name, of))
    })?;
    let namespace = match *of {
        "" => namespace,
        label => labels.get(label)?,
    };
    Some(Name::new(namespace, name))
}

#[cfg(test)]
#[path = "serves_tests.rs"]
mod tests;
