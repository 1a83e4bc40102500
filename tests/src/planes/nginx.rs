//! nginx: its own log in, the common entries out. Its configuration is the bed's (`nginx.rs`).
use super::Entry;
use crate::log;

/// What nginx logged; the flags are the statuses of its attempts.
pub(super) fn entries(log: &[log::Entry]) -> Vec<Entry> {
    log.iter().map(entry).collect()
}

fn entry(one: &log::Entry) -> Entry {
    let attempts: Vec<String> = one
        .attempts
        .iter()
        .map(|(_, status)| status.map_or_else(|| "-".to_owned(), |status| status.to_string()))
        .collect();
    Entry::new(&one.method, &one.uri, Some(one.status), attempts.join(","))
}
