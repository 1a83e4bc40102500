//! In: a process, a pod, a class or a controller. Out: what is known of this data plane: how it is told, its
//! timers, what it answers to which fault. Data and look-ups only; no I/O.
//!
//! Statuses and timers were measured with real traffic, retries off.
use std::time::Duration;

use crate::cause::taxonomy::{Controller, Outcome, Phase};

mod caddy;
mod deployed;
mod envoy;
mod haproxy;
mod nginx;
mod packaging;
pub mod serves;
mod traefik;
mod unknown;

pub use deployed::{deployed, labels};
pub use packaging::{By, Container, Packaging, Recognized, pod};
pub use serves::Serves;

/// One data plane.
#[derive(Debug)]
pub struct Profile {
    /// Which one.
    pub controller: Controller,
    /// Names of its main threads (comm, at most 15 bytes).
    pub names: &'static [&'static str],
    /// What the command line must hold where the name says too little.
    pub named: &'static [(&'static str, &'static str)],
    /// What the command line of a process, or of its parent, holds where it serves no ingress.
    pub sidecars: &'static [&'static str],
    /// Beginnings of command lines of its processes that carry no requests.
    pub idle_titles: &'static [&'static str],
    /// Ports on which its usual packagings are probed, scraped and administered: what is answered
    /// there is no client's.
    pub own_ports: &'static [u16],
    /// The same by port and path, where others have their clients on that port.
    pub own_paths: &'static [(u16, &'static str)],
    /// How it is deployed in clusters.
    pub packagings: &'static [Packaging],
    /// Default connect timers of its usual packagings.
    pub connect_timers: &'static [Duration],
    /// Default timers for the first byte of a response; empty when it waits without end.
    pub read_timers: &'static [Duration],
    /// What it answers to a fault.
    pub statuses: Statuses,
    /// What is not known of its answers on legs that cannot be read.
    pub unread: Unread,
    /// What it tries again by default.
    pub retries: Retries,
    /// How a failed attempt is joined to its client.
    pub chains: Chain,
}

/// The client's status per fault; None where it cannot be said.
#[derive(Debug, Default)]
pub struct Statuses {
    /// RST answered the SYN.
    pub refused: Option<u16>,
    /// SYN unanswered.
    pub connect_timeout: Option<u16>,
    /// EHOSTUNREACH, ENETUNREACH.
    pub unreachable: Option<u16>,
    /// No local port.
    pub local: Option<u16>,
    /// RST or FIN on a fresh connection before any response byte.
    pub no_answer: Option<u16>,
    /// RST or FIN inside the response's headers.
    pub cut_head: Option<u16>,
    /// No first byte within the read timeout.
    pub read_timeout: Option<u16>,
    /// The response is not HTTP.
    pub bad_response: Option<u16>,
    /// No upstream attempt was made.
    pub no_upstream: Option<u16>,
    /// RST or FIN on a reused connection before any response byte, safe methods (GET).
    pub reused_safe: Option<u16>,
    /// The same for other methods (POST).
    pub reused_other: Option<u16>,
}

/// What a client under TLS or HTTP/2 may get instead of the status, so that none is told.
#[derive(Debug, Default)]
pub struct Unread {
    /// HTTP/2 streams are reset without a status where no complete head came from the backend.
    pub refuses_streams: bool,
    /// A body that is cut short may be given up with all that was kept of it.
    pub holds_bodies: bool,
}

/// What a data plane tries again by default, and how often.
#[derive(Debug)]
pub struct Retries {
    /// Which failures.
    pub on: &'static [RetryOn],
    /// Attempts in all; None when every endpoint is tried once.
    pub tries: Option<u32>,
}

/// A class of failures that may be tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RetryOn {
    /// The connection was not established.
    Connect,
    /// Nothing was answered; idempotent methods only.
    NoAnswer,
    /// A reused connection broke before it answered; idempotent methods only.
    Reused,
}

/// What stays together when a client's request fails upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Chain {
    /// A thread goes on with the request at once: what it does next belongs to it.
    Adjacent,
    /// The request stays on its thread, which serves others in between.
    Thread,
    /// The same, and a connect that fails fails all that wait for a connection to that backend.
    Pool,
    /// The request stays in its process.
    Process,
}

/// All known data planes.
pub const ALL: &[&Profile] = &[
    &nginx::PROFILE,
    &haproxy::PROFILE,
    &envoy::PROFILE,
    &traefik::PROFILE,
    &caddy::PROFILE,
];

/// The profile of a controller; that of an unknown one says nothing.
pub fn of(controller: Controller) -> &'static Profile {
    match controller {
        Controller::Nginx => &nginx::PROFILE,
        Controller::Haproxy => &haproxy::PROFILE,
        Controller::Envoy => &envoy::PROFILE,
        Controller::Traefik => &traefik::PROFILE,
        Controller::Caddy => &caddy::PROFILE,
        Controller::Unknown => &unknown::PROFILE,
    }
}

/// Whether a data plane's main thread may have this name.
pub fn is_name(comm: &str) -> bool {
    ALL.iter().any(|profile| profile.names.contains(&comm))
}

/// The data plane whose main thread has this name, with this command line.
pub fn recognize(comm: &str, title: &str) -> Option<&'static Profile> {
    ALL.iter().copied().find(|profile| {
        let mut named = profile.named.iter();
        profile.names.contains(&comm)
            && named.all(|(name, word)| *name != comm || title.contains(word))
    })
}

impl Profile {
    /// The client's status for an outcome on a fresh connection when no retry hides it, or None
    /// where it cannot be said.
    ///
    /// In phase `response` it depends on how far the response came: what was relayed stands, and
    /// [`Statuses::cut_head`] holds when the head was incomplete. On reused connections see
    /// [`Profile::reused`].
    pub fn status(&self, outcome: Outcome, phase: Option<Phase>) -> Option<u16> {
        let statuses = &self.statuses;
        match outcome {
            Outcome::ConnectRefused => statuses.refused,
            // To the controller its connect has failed.
            Outcome::Reset if phase == Some(Phase::Idle) => statuses.refused,
            Outcome::ConnectTimeout => statuses.connect_timeout,
            Outcome::ConnectUnreachable => statuses.unreachable,
            Outcome::ConnectLocal => statuses.local,
            Outcome::Reset | Outcome::ClosedEarly if phase == Some(Phase::Request) => {
                statuses.no_answer
            }
            Outcome::ResponseTimeout => statuses.read_timeout,
            Outcome::BadResponse => statuses.bad_response,
            Outcome::NoUpstream => statuses.no_upstream,
            // Relayed or cut as far as it had come, the backend's own, or nobody left to answer.
            Outcome::Reset
            | Outcome::ClosedEarly
            | Outcome::ResponseStalled
            | Outcome::ErrorStatus
            | Outcome::Slow
            | Outcome::ClientAbort => None,
        }
    }

    /// The client's status when a reused connection broke before it answered.
    pub fn reused(&self, safe_method: bool) -> Option<u16> {
        if safe_method {
            self.statuses.reused_safe
        } else {
            self.statuses.reused_other
        }
    }

    /// Whether a process with this command line, its own or its parent's, serves an application and
    /// no ingress.
    pub fn is_sidecar(&self, title: &str) -> bool {
        self.sidecars.iter().any(|words| title.contains(words))
    }

    /// Whether what is asked at this port and path is asked of the controller itself: probed, scraped
    /// or administered.
    pub fn is_own(&self, port: u16, path: Option<&str>) -> bool {
        let asked = |own: &(u16, &str)| own.0 == port && path == Some(own.1);
        self.own_ports.contains(&port) || self.own_paths.iter().any(asked)
    }

    /// Whether a process of this data plane with this command line carries requests.
    pub fn carries(&self, title: &str) -> bool {
        !self.idle_titles.iter().any(|idle| title.starts_with(idle))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_controller_has_its_own_profile() {
        for controller in Controller::ALL {
            assert_eq!(of(*controller).controller, *controller);
        }
        assert_eq!(ALL.len() + 1, Controller::ALL.len());
    }

    #[test]
    fn every_name_fits_the_kernel_and_names_one_profile() {
        for profile in ALL {
            assert!(!profile.names.is_empty());
            for name in profile.names {
                assert!(
                    name.len() < ingress_trace_common::config::NAME_LEN,
                    "{name}"
                );
                let words: Vec<_> = profile.named.iter().map(|(_, word)| *word).collect();
                let found = recognize(name, &words.join(" ")).expect("its own name");
                assert_eq!(found.controller, profile.controller);
            }
        }
        assert!(recognize("", "").is_none() && recognize("bash", "bash").is_none());
        assert!(of(Controller::Unknown).names.is_empty());
    }

    #[test]
    fn the_unknown_controller_has_no_status_for_anything() {
        for outcome in Outcome::ALL {
            for phase in Phase::ALL {
                assert_eq!(of(Controller::Unknown).status(*outcome, Some(*phase)), None);
            }
        }
    }

    #[test]
    fn statuses_are_the_measured_ones() {
        let row = |outcome, phase| {
            ALL.iter()
                .map(|p| p.status(outcome, Some(phase)).unwrap_or(0))
                .collect::<Vec<_>>()
        };
        // nginx, HAProxy, Envoy, Traefik, Caddy
        assert_eq!(
            row(Outcome::ConnectRefused, Phase::Connect),
            [502, 503, 503, 502, 502]
        );
        assert_eq!(
            row(Outcome::ConnectTimeout, Phase::Connect),
            [504, 503, 503, 504, 502]
        );
        assert_eq!(
            row(Outcome::ConnectUnreachable, Phase::Connect),
            [502, 503, 503, 502, 502]
        );
        assert_eq!(
            row(Outcome::ConnectLocal, Phase::Connect),
            [502, 503, 503, 502, 502]
        );
        assert_eq!(
            row(Outcome::Reset, Phase::Request),
            [502, 502, 503, 502, 502]
        );
        assert_eq!(
            row(Outcome::ClosedEarly, Phase::Request),
            [502, 502, 503, 502, 502]
        );
        assert_eq!(row(Outcome::ClosedEarly, Phase::Response), [0; 5]);
        assert_eq!(row(Outcome::ResponseTimeout, Phase::Request), [504; 5]);
        assert_eq!(
            row(Outcome::BadResponse, Phase::Response),
            [0, 502, 502, 500, 502]
        );
        assert_eq!(row(Outcome::ErrorStatus, Phase::Response), [0; 5]);
    }

    #[test]
    fn a_name_that_others_have_too_needs_the_command_line() {
        let caddy = "/ingress-controller -config-map=caddy-ingress-controller-configmap";
        let found = recognize("ingress-control", caddy).map(|profile| profile.controller);
        assert_eq!(found, Some(Controller::Caddy));
        assert!(recognize("ingress-control", "/ingress-controller --v=2").is_none());
    }

    #[test]
    fn what_is_asked_of_a_controller_itself_is_told_by_port_or_by_port_and_path() {
        let traefik = of(Controller::Traefik);
        assert!(traefik.is_own(9100, None) && traefik.is_own(9000, Some("/dashboard/")));
        assert!(traefik.is_own(8080, Some("/ping")));
        assert!(!traefik.is_own(8080, Some("/cart")) && !traefik.is_own(8080, None));
    }

    #[test]
    fn masters_and_caches_of_nginx_carry_no_requests() {
        let nginx = of(Controller::Nginx);
        assert!(nginx.carries("nginx: worker process"));
        assert!(nginx.carries("nginx: worker process is shutting down"));
        assert!(nginx.carries("nginx -g daemon off; master_process off;"));
        assert!(!nginx.carries("nginx: master process /usr/sbin/nginx"));
        assert!(!nginx.carries("nginx: cache manager process"));
    }
}
