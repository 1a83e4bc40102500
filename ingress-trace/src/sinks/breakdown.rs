//! In: findings. Out: how many there are of each cause, with statuses and the backends that are
//! hit most. Bounded in memory whatever comes; formats nothing.
use std::collections::{BTreeMap, HashMap};

use crate::cause::taxonomy::{Cause, Visible};
use crate::finding::{Backend, Finding};

/// Most backends that are told apart per cause; later ones are counted together.
const BACKENDS: usize = 1000;

/// What is known of the findings with one cause.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Row {
    /// Findings, warnings (slow, client aborts) left out.
    pub count: u64,
    /// Those that the client saw.
    pub visible: u64,
    /// Those of which it is not known.
    pub unclear: u64,
    /// How many by status; `None` where it is not known.
    pub statuses: BTreeMap<Option<u16>, u64>,
    backends: HashMap<String, u64>,
    others: u64,
}

impl Row {
    /// The backends that are hit most, with their counts, most first.
    pub fn top(&self, many: usize) -> Vec<(&str, u64)> {
        let mut all: Vec<_> = self
            .backends
            .iter()
            .map(|(name, count)| (name.as_str(), *count))
            .collect();
        all.sort_unstable_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(b.0)));
        all.truncate(many);
        all
    }

    /// Findings with a backend that `top` does not name when asked for `many`.
    pub fn beyond(&self, many: usize) -> u64 {
        let named: u64 = self.top(many).iter().map(|(_, count)| count).sum();
        self.backends.values().sum::<u64>() + self.others - named
    }

    fn add(&mut self, finding: &Finding) {
        self.count += 1;
        match finding.client_visible {
            Visible::Yes => self.visible += 1,
            Visible::No => {}
            Visible::Unknown => self.unclear += 1,
        }
        *self.statuses.entry(finding.status).or_default() += 1;
        let Some(backend) = &finding.backend else {
            return;
        };
        let name = name(backend);
        if self.backends.len() < BACKENDS || self.backends.contains_key(&name) {
            *self.backends.entry(name).or_default() += 1;
        } else {
            self.others += 1;
        }
    }
}

/// All findings by cause.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Breakdown {
    rows: BTreeMap<Cause, Row>,
    warnings: u64,
}

impl Breakdown {
    /// Counts one finding.
    pub fn add(&mut self, finding: &Finding) {
        if finding.outcome.is_failure() {
            self.rows.entry(finding.cause).or_default().add(finding);
        } else {
            self.warnings += 1;
        }
    }

    /// One row per cause that occurred, most frequent first.
    pub fn rows(&self) -> Vec<(Cause, &Row)> {
        let mut rows: Vec<_> = self.rows.iter().map(|(cause, row)| (*cause, row)).collect();
        rows.sort_by_key(|(_, row)| std::cmp::Reverse(row.count));
        rows
    }

    /// How many failures there are.
    pub fn failures(&self) -> u64 {
        self.rows.values().map(|row| row.count).sum()
    }

    /// How many findings are warnings, no failures.
    pub const fn warnings(&self) -> u64 {
        self.warnings
    }
}

/// A backend as a person calls it: its Service where that is known, else its address.
pub fn name(backend: &Backend) -> String {
    let port = backend.port.unwrap_or(0);
    match (&backend.namespace, &backend.service, backend.address) {
        (Some(namespace), Some(service), _) => format!("{namespace}/{service}:{port}"),
        (_, _, Some(address)) => std::net::SocketAddr::new(address, port).to_string(),
        _ => "-".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cause::taxonomy::Outcome;
    use crate::sinks::example;

    #[test]
    fn causes_come_most_frequent_first() {
        let mut breakdown = Breakdown::default();
        breakdown.add(&example());
        for visible in [Visible::No, Visible::Unknown] {
            let cause = Cause::BackendTimeout;
            let status = Some(504);
            breakdown.add(&Finding {
                cause,
                status,
                client_visible: visible,
                ..example()
            });
        }
        let rows = breakdown.rows();
        let causes: Vec<_> = rows
            .iter()
            .map(|(cause, row)| (*cause, row.count))
            .collect();
        assert_eq!(
            causes,
            [(Cause::BackendTimeout, 2), (Cause::KeepaliveRace, 1)]
        );
        assert_eq!((rows[0].1.visible, rows[0].1.unclear), (0, 1));
        assert_eq!(rows[0].1.statuses, BTreeMap::from([(Some(504), 2)]));
        assert_eq!(breakdown.failures(), 3);
    }

    #[test]
    fn a_warning_is_no_failure() {
        let mut breakdown = Breakdown::default();
        breakdown.add(&Finding {
            outcome: Outcome::Slow,
            ..example()
        });
        breakdown.add(&Finding {
            outcome: Outcome::ClientAbort,
            ..example()
        });
        assert_eq!((breakdown.failures(), breakdown.warnings()), (0, 2));
    }

    #[test]
    fn backends_are_bounded_and_still_counted() {
        let mut breakdown = Breakdown::default();
        let mut finding = example();
        for port in 1..=BACKENDS as u16 + 5 {
            finding.backend.as_mut().expect("a backend").port = Some(port);
            breakdown.add(&finding);
        }
        finding.backend.as_mut().expect("a backend").port = Some(7);
        breakdown.add(&finding);
        let rows = breakdown.rows();
        assert_eq!(rows[0].1.top(2), [("10.77.1.3:7", 2), ("10.77.1.3:1", 1)]);
        assert_eq!(rows[0].1.beyond(2), BACKENDS as u64 + 3);
    }

    #[test]
    fn a_backend_is_called_by_its_service() {
        let mut backend = example().backend.expect("a backend");
        backend.namespace = Some("shop".into());
        backend.service = Some("cart".into());
        assert_eq!(name(&backend), "shop/cart:8080");
    }
}
