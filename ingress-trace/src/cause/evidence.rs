//! In: what a rule needs to know. Out: the same as words for a person. Formats only.
use std::time::Duration;

use super::reading::errno;

/// Everything that a decision may look at, beside the flow.
#[derive(Clone, Debug, Default)]
pub struct Shortage {
    /// What the controller itself is short of, when that was read.
    pub limits: Option<crate::limits::Limits>,
    /// The time that its counters are about, up to now.
    pub span: Duration,
    /// Local ports in use towards this backend, when that was read.
    pub ports: Option<crate::limits::Usage>,
}

/// A duration as a person writes it: three figures and a unit.
pub fn span(duration: Duration) -> String {
    let seconds = duration.as_secs_f64();
    if seconds >= 1.0 {
        format!("{seconds:.2} s")
    } else if seconds >= 0.001 {
        format!("{:.1} ms", seconds * 1e3)
    } else {
        format!("{:.0} us", seconds * 1e6)
    }
}

/// The symbolic name of an errno that TCP gives, else its number.
pub fn errno_name(number: u32) -> String {
    let name = match number {
        1 => "EPERM",
        13 => "EACCES",
        22 => "EINVAL",
        32 => "EPIPE",
        errno::EADDRNOTAVAIL => "EADDRNOTAVAIL",
        errno::ENETUNREACH => "ENETUNREACH",
        errno::ECONNRESET => "ECONNRESET",
        errno::ETIMEDOUT => "ETIMEDOUT",
        errno::ECONNREFUSED => "ECONNREFUSED",
        errno::EHOSTUNREACH => "EHOSTUNREACH",
        92 => "ENOPROTOOPT",
        111.. | 0..=110 => return format!("errno {number}"),
    };
    name.to_owned()
}
