//! In: what slices say of their ports. Out: what a port is, was or becomes to an endpoint.
use std::sync::Arc;

use jiff::Timestamp;

use super::owned::PortOf;
use super::seats::{Head, Tenant};
use super::timeline::{Since, Timeline, Version};

/// The slices' word on an address for one Service.
pub type Group<'a> = Vec<&'a Timeline<Tenant>>;

/// What a port was to a Service's endpoint at a time.
pub fn port_of(group: &Group, tenant: &Tenant, port: u16, at: Timestamp) -> PortOf {
    match port_in(&tenant.head, port) {
        Has::Named(name) => return PortOf::Named(name.clone()),
        Has::Any => return PortOf::Any,
        Has::Not => {}
    }
    let mut former: Option<(Since, &Arc<str>)> = None;
    let mut coming: Option<(Since, &Arc<str>)> = None;
    for timeline in group {
        let ends = timeline.versions().skip(1).map(Version::since);
        let ends = ends.map(Some).chain([None]);
        for (version, end) in timeline.versions().zip(ends) {
            let Some(tenant) = &version.value else {
                continue;
            };
            let Has::Named(name) = port_in(&tenant.head, port) else {
                continue;
            };
            if version.from > at {
                let from = version.since();
                coming = coming
                    .filter(|known| known.0.at <= from.at)
                    .or(Some((from, name)));
            } else if let Some(until) = end {
                former = former
                    .filter(|known| known.0.at >= until.at)
                    .or(Some((until, name)));
            }
        }
    }
    match (former, coming) {
        (Some((until, name)), _) => PortOf::Former {
            name: name.clone(),
            until,
        },
        (None, Some((from, name))) => PortOf::Coming {
            name: name.clone(),
            from,
        },
        (None, None) => PortOf::Other,
    }
}

/// What a port is to a slice.
#[derive(Clone, Copy)]
pub enum Has<'a> {
    /// One of its ports, with the name of the Service's port.
    Named(&'a Arc<str>),
    /// It has all ports, or names none.
    Any,
    /// None of its ports.
    Not,
}

impl Has<'_> {
    /// What is smaller fits better.
    pub fn class(self) -> u8 {
        match self {
            Self::Named(_) => 0,
            Self::Any => 1,
            Self::Not => 2,
        }
    }
}

/// What a port is to a slice; where no port is named, none can be wrong.
pub fn port_in(head: &Head, number: u16) -> Has<'_> {
    let mut ports = head.ports.iter();
    let named = ports.find(|port| port.port == Some(number));
    let any = head.ports.is_empty() || head.ports.iter().any(|port| port.port.is_none());
    match named {
        Some(port) => Has::Named(&port.name),
        None if any => Has::Any,
        None => Has::Not,
    }
}
