//! In: what the index says of an address, a Service, a pod or a node. Out: the same as words for a person,
//! with times as they lie to the failure. Formats only.
use std::net::SocketAddr;

use jiff::Timestamp;

use super::NodeThen;
use crate::cause::evidence::span;
use crate::cluster::index::owned::{Picked, PortOf, Tenancy};
use crate::cluster::index::{Ended, PortThen, ServiceThen, Since, Standing};
use crate::cluster::object::{Name, PortRef};

/// That a node is not ready, and since when.
pub fn node_words(name: &str, host: &NodeThen, at: Timestamp) -> String {
    match host.since {
        Some(since) if since <= at => format!("node {name} is not ready since {}", ago(since, at)),
        Some(since) => format!("node {name} became not ready {}", when(since, at)),
        None if host.after => format!("node {name} is not ready now"),
        None => format!("node {name} is not ready"),
    }
}

/// How a container of a pod ended, and when; the API has whole seconds.
pub fn end_words(pod: &str, end: &Ended, at: Timestamp) -> String {
    let time = end.finished.map_or(String::new(), |finished| {
        format!(" about {}", when(finished, at))
    });
    format!(
        "container {} of pod {pod} ended with {} ({}){time}",
        end.container, end.reason, end.code
    )
}

/// When the deletion of a pod was asked for.
pub fn deletion_words(pod: &str, since: Since, at: Timestamp) -> String {
    let about = if since.exact { "" } else { "about " };
    let ago = ago(since.at, at);
    format!("deletion of pod {pod} was asked for {about}{ago} before")
}

/// What the endpoints say of an address.
pub(super) fn endpoint_words(tenancy: &Tenancy, address: SocketAddr, at: Timestamp) -> Vec<String> {
    let who = tenancy.pod.as_ref().map_or_else(
        || format!("endpoint {}", address.ip()),
        |pod| format!("pod {}", pod.name),
    );
    let service = tenancy.service.as_ref();
    let service = service.map_or("no Service".to_owned(), ToString::to_string);
    let mut words = Vec::new();
    match tenancy.standing {
        Standing::Held if tenancy.health.terminating => {
            words.push(format!(
                "{who} is terminating since {}",
                since(tenancy.since, at)
            ));
        }
        Standing::Held if !tenancy.health.ready => {
            words.push(format!(
                "{who} is not ready since {}",
                since(tenancy.since, at)
            ));
        }
        Standing::Held => {}
        Standing::Gone(until) => {
            let now = tenancy.moved.as_ref();
            let now = now.map_or("to nobody".to_owned(), |pod| format!("to pod {}", pod.name));
            let until = since(until, at);
            let ip = address.ip();
            words.push(format!(
                "{ip} belonged to {who} until {until} before, now {now}"
            ));
        }
        Standing::Later(from) => {
            let ip = address.ip();
            let after = ago(at, from.at);
            words.push(format!(
                "{ip} was told to be {who} of {service} {after} after"
            ));
        }
    }
    if let Some(next) = &tenancy.next {
        let after = ago(at, next.at.at);
        let became = match next.health {
            None => "left the endpoints",
            Some(health) if health.terminating => "was told to be terminating",
            Some(health) if health.ready => "became ready",
            Some(_) => "was told to be not ready",
        };
        words.push(format!("{who} {became} {after} after"));
    }
    words.extend(port_words(tenancy, &service, address.port(), at));
    if tenancy.picked == Picked::Guess {
        let others: Vec<String> = tenancy.others.iter().map(ToString::to_string).collect();
        words.push(format!(
            "{address} is an endpoint of {} as well",
            others.join(", ")
        ));
    }
    words
}

fn port_words(tenancy: &Tenancy, service: &str, port: u16, at: Timestamp) -> Option<String> {
    match &tenancy.port {
        PortOf::Named(_) | PortOf::Any => None,
        PortOf::Former { until, .. } => {
            let until = since(*until, at);
            Some(format!(
                "{port} was the port of {service} until {until} before"
            ))
        }
        PortOf::Coming { from, .. } => {
            let after = ago(at, from.at);
            Some(format!("{port} became the port of {service} {after} after"))
        }
        PortOf::Other => Some(format!("{port} is no port of the endpoints of {service}")),
    }
}

/// What a Service had.
pub(super) fn service_words(
    name: &Name,
    port: Option<&PortRef>,
    then: &ServiceThen,
    at: Timestamp,
) -> String {
    match then.standing {
        None => return format!("Service {name} does not exist"),
        Some(Standing::Gone(until)) => {
            return format!("Service {name} was deleted {} before", since(until, at));
        }
        Some(Standing::Held | Standing::Later(_)) => {}
    }
    if let Some(outside) = then.external_name() {
        return format!("Service {name} stands for {outside}");
    }
    if then.port == PortThen::Missing {
        let port = match port {
            Some(PortRef::Number(number)) => number.to_string(),
            Some(PortRef::Name(name)) => name.to_string(),
            None => String::new(),
        };
        return format!("Service {name} has no port {port}");
    }
    let numbers = then.numbers;
    let since = then.emptied.map_or(String::new(), |emptied| {
        format!(" since {}", since(emptied, at))
    });
    let ready = match numbers.ready {
        0 => "no ready endpoint".to_owned(),
        1 => "1 ready endpoint".to_owned(),
        many => format!("{many} ready endpoints"),
    };
    let others = [
        (numbers.terminating, "terminating"),
        (numbers.not_ready, "not ready"),
    ];
    let others = others.iter().filter(|(count, _)| *count > 0);
    others.fold(
        format!("Service {name} has {ready}{since}"),
        |words, (count, word)| format!("{words}, {count} {word}"),
    )
}

/// How long before a time something began.
fn since(since: Since, at: Timestamp) -> String {
    let least = if since.exact { "" } else { "at least " };
    format!("{least}{}", ago(since.at, at))
}

/// A time as it lies to that of the failure.
pub fn when(time: Timestamp, at: Timestamp) -> String {
    let word = if time <= at { "before" } else { "after" };
    format!("{} {word}", ago(time, at))
}

/// How long from one time to another.
pub(super) fn ago(from: Timestamp, to: Timestamp) -> String {
    span(to.duration_since(from).unsigned_abs())
}
