//! In: what went wrong between the agent and the Kubernetes API. Out: a reason for metrics, words
//! and a remedy for people. Does nothing about it.
use std::error::Error;
use std::time::Duration;

use super::resource::{Call, EVENTS, Resource};

/// Why a request failed; a label of metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// No connection, or it broke.
    Unreachable,
    /// No answer in time, or a watch that went silent.
    Timeout,
    /// The agent's own credentials could not be read.
    Credentials,
    /// 401.
    Unauthorized,
    /// 403.
    Forbidden,
    /// 404.
    NotFound,
    /// 410: history before this is gone.
    Expired,
    /// 429.
    Throttled,
    /// Another status.
    Refused,
    /// The answer is not what it should be.
    Unreadable,
    /// Not asked at all: too much waits already.
    Dropped,
}

impl Reason {
    /// The label's value.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Unreachable => "unreachable",
            Self::Timeout => "timeout",
            Self::Credentials => "credentials",
            Self::Unauthorized => "unauthorized",
            Self::Forbidden => "forbidden",
            Self::NotFound => "not_found",
            Self::Expired => "expired",
            Self::Throttled => "throttled",
            Self::Refused => "refused",
            Self::Unreadable => "unreadable",
            Self::Dropped => "dropped",
        }
    }

    /// The reason behind a status that is an error.
    pub const fn of_status(code: u16) -> Self {
        match code {
            401 => Self::Unauthorized,
            403 => Self::Forbidden,
            404 => Self::NotFound,
            410 => Self::Expired,
            429 => Self::Throttled,
            _ => Self::Refused,
        }
    }
}

/// A request that failed.
#[derive(Debug, thiserror::Error)]
#[error("{text}")]
pub struct Failed {
    /// Why.
    pub reason: Reason,
    /// In words.
    pub text: String,
    /// How long the server wants to be left alone.
    pub retry_after: Option<Duration>,
}

impl Failed {
    /// Without a wish of the server's.
    pub fn new(reason: Reason, text: impl Into<String>) -> Self {
        Self {
            reason,
            text: text.into(),
            retry_after: None,
        }
    }

    /// From what kube's client says.
    pub fn from_client(error: &kube::Error) -> Self {
        let reason = if is_about_credentials(error) {
            Reason::Credentials
        } else {
            Reason::Unreachable
        };
        Self::new(reason, causes(error))
    }

    /// What helps, where something is known to.
    pub fn remedy(&self, call: &Call) -> Option<String> {
        Some(match self.reason {
            Reason::Unreachable | Reason::Timeout => {
                "check that the API server's address is right and that this node reaches it \
                 (network policy, firewall, proxy); names are missing until then"
                    .into()
            }
            Reason::Credentials => {
                "check that the token file is there, readable and nothing but the token, without a \
                 line break: mount the ServiceAccount's token, or mend the kubeconfig"
                    .into()
            }
            Reason::Unauthorized => {
                "the token has expired or its account is gone; a renewed token file is read within \
                 a minute"
                    .into()
            }
            Reason::Forbidden => missing_rule(&call.resource, call.verb.word()),
            _ => return None,
        })
    }
}

fn missing_rule(resource: &Resource, verb: &str) -> String {
    let file = if *resource == EVENTS {
        "rbac-events.yaml"
    } else {
        "rbac.yaml"
    };
    format!(
        "add to the agent's ClusterRole (deploy/{file}): apiGroups: [\"{}\"], resources: \
         [\"{}\"], verbs: [\"{verb}\"]",
        resource.group, resource.plural
    )
}

fn is_about_credentials(error: &(dyn Error + 'static)) -> bool {
    error.is::<kube::client::AuthError>() || error.source().is_some_and(is_about_credentials)
}

/// An error with all its causes, as kube's own text leaves out what happened on the wire.
pub fn causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let words = inner.to_string();
        if !text.contains(&words) {
            text.push_str(": ");
            text.push_str(&words);
        }
        cause = inner.source();
    }
    text
}
