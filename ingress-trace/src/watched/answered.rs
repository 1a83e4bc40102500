//! In: what the kernel counted. Out: which backends have answered which controllers, and which have done so
//! anew. Pure.
use std::collections::HashMap;
use std::net::SocketAddr;

use ingress_trace_common::aggregate::{Key, Value, counted};

use super::backend;

/// Most backends that are remembered, per cgroup, and most answers that wait to be taken.
const MOST: usize = 16_384;

/// The backends that have answered.
#[derive(Debug, Default)]
pub struct Answered {
    /// Per cgroup, and how often.
    totals: HashMap<u64, HashMap<SocketAddr, u64>>,
    /// Those that did since they were taken last.
    new: Vec<(u64, SocketAddr)>,
}

impl Answered {
    /// Those that have answered a cgroup's controller.
    pub fn of(&self, cgroup: u64) -> impl Iterator<Item = SocketAddr> {
        let all = self.totals.get(&cgroup).into_iter().flatten();
        all.map(|(backend, _)| *backend)
    }

    /// Whether one of them is this.
    pub fn has(&self, cgroup: u64, backend: SocketAddr) -> bool {
        let known = self.totals.get(&cgroup);
        known.is_some_and(|known| known.contains_key(&backend))
    }

    /// Those that did since this was asked last, with their controllers' cgroups.
    pub(super) fn take(&mut self) -> Vec<(u64, SocketAddr)> {
        std::mem::take(&mut self.new)
    }

    /// Takes a snapshot of what the kernel counted, of cgroups that are `watched`.
    pub(super) fn note(&mut self, aggregates: &[(Key, Value)], watched: impl Fn(u64) -> bool) {
        let mut totals: HashMap<(u64, SocketAddr), u64> = HashMap::new();
        for (key, value) in aggregates {
            let failed = matches!(key.status, 502..=504);
            if key.counted == counted::EXCHANGE && !failed && watched(key.cgroup) {
                *totals.entry((key.cgroup, backend(key))).or_default() += value.count;
            }
        }
        self.totals.retain(|cgroup, _| watched(*cgroup));
        for ((cgroup, backend), total) in totals {
            let known = self.totals.entry(cgroup).or_default();
            if known.len() >= MOST && !known.contains_key(&backend) {
                continue;
            }
            let before = known.insert(backend, total).unwrap_or(0);
            if total > before && self.new.len() < MOST {
                self.new.push((cgroup, backend));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    const CGROUP: u64 = 7;

    fn at(port: u16) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, port).into()
    }

    fn exchanges(cgroup: u64, port: u16, status: u16, count: u64) -> (Key, Value) {
        let key = Key {
            cgroup,
            address: Ipv4Addr::LOCALHOST.to_ipv6_mapped().octets(),
            port,
            status,
            counted: counted::EXCHANGE,
            reserved: [0; 3],
        };
        let value = Value {
            count,
            ..Value::default()
        };
        (key, value)
    }

    #[test]
    fn a_backend_that_answers_again_is_new_again_and_an_error_is_no_answer() {
        let mut answered = Answered::default();
        let ours = |cgroup| cgroup == CGROUP;
        let first = [
            exchanges(CGROUP, 1, 200, 3),
            exchanges(CGROUP, 1, 404, 1),
            exchanges(CGROUP, 2, 503, 5),
            exchanges(8, 3, 200, 1),
        ];
        answered.note(&first, ours);
        assert_eq!(answered.take(), [(CGROUP, at(1))]);
        answered.note(&first, ours);
        assert_eq!(answered.take(), []);
        answered.note(&[exchanges(CGROUP, 1, 200, 5)], ours);
        assert_eq!(answered.take(), [(CGROUP, at(1))]);
        assert!(answered.has(CGROUP, at(1)) && !answered.has(CGROUP, at(2)));
        assert_eq!(answered.of(CGROUP).collect::<Vec<_>>(), [at(1)]);
        answered.note(&[], |_| false);
        assert!(!answered.has(CGROUP, at(1)));
    }
}
