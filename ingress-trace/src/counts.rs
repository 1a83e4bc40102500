//! In: full snapshots of the kernel's aggregate map, cumulative since each entry was created.
//! Out: cumulative series by public labels. Pure: no I/O, no clock, and no series ever decreases.
use std::collections::{BTreeMap, HashMap};

use ingress_trace_common::aggregate::{BUCKETS, Key, Value, counted};

use crate::cause::taxonomy::Controller;

/// Most backends that have series of their own; what the others count has an empty name.
pub const MOST: usize = 4096;

/// Labels of everything counted on upstream legs; a backend outside the cluster has empty names.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Labels {
    /// Which data plane.
    pub controller: Controller,
    /// Namespace of the backend's Service.
    pub namespace: String,
    /// Name of the backend's Service.
    pub service: String,
    /// Port of the backend.
    pub port: u16,
}

impl Labels {
    /// Those of all backends of this controller that have no series of their own.
    #[must_use]
    pub fn nameless(&self) -> Self {
        Self {
            controller: self.controller,
            namespace: String::new(),
            service: String::new(),
            port: 0,
        }
    }
}

/// Latencies by bucket of [`ingress_trace_common::aggregate::BOUNDS`]; not cumulative over buckets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Histogram {
    /// How many in each bucket; the last one is above every bound.
    pub buckets: [u64; BUCKETS],
    /// Sum of the latencies in nanoseconds.
    pub sum: u64,
}

impl Histogram {
    /// How many latencies there are.
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    fn add(&mut self, grown: &Growth) {
        for (bucket, more) in self.buckets.iter_mut().zip(grown.buckets) {
            *bucket += more;
        }
        self.sum = self.sum.saturating_add(grown.sum);
    }
}

/// What was counted on the upstream legs with the same labels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Upstream {
    /// Exchanges with and without a response, and failed connection attempts.
    pub exchanges: u64,
    /// First bytes later than the threshold.
    pub slow: u64,
    /// Connects that succeeded.
    pub connect: Histogram,
    /// First bytes.
    pub first_byte: Histogram,
}

/// What an entry gained since it was seen last.
struct Growth {
    count: u64,
    sum: u64,
    buckets: [u64; BUCKETS],
}

/// An entry of the kernel's map as it was last counted.
#[derive(Clone, Copy)]
struct Seen {
    /// What has been counted of it; zero as long as nothing is known to count it for.
    counted: Value,
    /// Its count in the newest snapshot.
    count: u64,
    /// Snapshot in which the entry was last present.
    present: u64,
    /// Snapshot in which it last changed.
    changed: u64,
}

/// All cumulative series.
#[derive(Default)]
pub struct Counts {
    snapshot: u64,
    seen: HashMap<Key, Seen>,
    upstream: BTreeMap<Labels, Upstream>,
    responses: BTreeMap<(Controller, u16), u64>,
    aborts: BTreeMap<Controller, u64>,
}

impl Counts {
    /// Takes one full snapshot of the map, values summed over the CPUs (buckets may wrap).
    ///
    /// An entry that `resolve` does not know yet keeps its count until it does, so that the first
    /// requests of a new ingress pod are not lost.
    pub fn observe(
        &mut self,
        entries: impl IntoIterator<Item = (Key, Value)>,
        resolve: impl Fn(&Key) -> Option<Labels>,
    ) {
        self.snapshot += 1;
        for (key, value) in entries {
            let Some(before) = self.note(key, &value) else {
                continue;
            };
            if let Some(labels) = resolve(&key) {
                self.add(&key, labels, &growth(&before, &value));
                if let Some(seen) = self.seen.get_mut(&key) {
                    seen.counted = value;
                }
            }
        }
        let newest = self.snapshot;
        self.seen.retain(|_, seen| seen.present == newest);
    }

    /// Entries that have not changed for more than `snapshots` snapshots and may be removed from
    /// the kernel's map; each removal is to be followed by [`Counts::forget`].
    pub fn idle(&self, snapshots: u64) -> impl Iterator<Item = Key> {
        self.seen
            .iter()
            .filter(move |(_, seen)| self.snapshot - seen.changed > snapshots)
            .map(|(key, _)| *key)
    }

    /// The entry was removed from the kernel's map: it will start from zero.
    pub fn forget(&mut self, key: &Key) {
        self.seen.remove(key);
    }

    /// Keeps the upstream series for which `live` holds; those of Services that are gone disappear.
    pub fn retain(&mut self, live: impl Fn(&Labels) -> bool) {
        self.upstream.retain(|labels, _| live(labels));
    }

    /// Upstream series in the order of their labels.
    pub fn upstream(&self) -> impl Iterator<Item = (&Labels, &Upstream)> {
        self.upstream.iter()
    }

    /// Downstream responses whose status was read, by controller and status.
    pub fn responses(&self) -> impl Iterator<Item = (Controller, u16, u64)> {
        self.responses
            .iter()
            .map(|((controller, status), count)| (*controller, *status, *count))
    }

    /// Downstream exchanges that the client left, by controller.
    pub fn aborts(&self) -> impl Iterator<Item = (Controller, u64)> {
        self.aborts
            .iter()
            .map(|(controller, count)| (*controller, *count))
    }

    /// Marks the entry as present; what had been counted of it before, if there is more by now.
    fn note(&mut self, key: Key, value: &Value) -> Option<Value> {
        let snapshot = self.snapshot;
        let seen = self.seen.entry(key).or_insert(Seen {
            counted: Value::default(),
            count: 0,
            present: snapshot,
            changed: snapshot,
        });
        seen.present = snapshot;
        if seen.count != value.count {
            seen.count = value.count;
            seen.changed = snapshot;
        }
        (seen.counted != *value).then_some(seen.counted)
    }

    fn add(&mut self, key: &Key, labels: Labels, grown: &Growth) {
        match key.counted {
            counted::EXCHANGE => {
                let series = self.series(labels);
                series.exchanges += grown.count;
                series.first_byte.add(grown);
            }
            counted::CONNECT => self.series(labels).connect.add(grown),
            counted::FAILURE => self.series(labels).exchanges += grown.count,
            counted::SLOW => self.series(labels).slow += grown.count,
            counted::RESPONSE if key.status != 0 => {
                *self
                    .responses
                    .entry((labels.controller, key.status))
                    .or_default() += grown.count;
            }
            counted::ABORT => *self.aborts.entry(labels.controller).or_default() += grown.count,
            // A response without a readable status, or a kernel side newer than this agent.
            _ => {}
        }
    }

    fn series(&mut self, labels: Labels) -> &mut Upstream {
        let room = self.upstream.len() < MOST || self.upstream.contains_key(&labels);
        let labels = if room { labels } else { labels.nameless() };
        self.upstream.entry(labels).or_default()
    }
}

/// What `now` has beyond `before`; all of it when the entry started from zero in between.
fn growth(before: &Value, now: &Value) -> Growth {
    let restarted = now.count < before.count || now.sum < before.sum;
    let base = if restarted { Value::default() } else { *before };
    let mut buckets = [0; BUCKETS];
    for (i, bucket) in buckets.iter_mut().enumerate() {
        // The kernel's buckets are 32 bits wide and wrap after some days of heavy traffic.
        *bucket = u64::from(now.buckets[i].wrapping_sub(base.buckets[i]));
    }
    Growth {
        count: now.count - base.count,
        sum: now.sum - base.sum,
        buckets,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key(counted: u8, status: u16) -> Key {
        Key {
            cgroup: 7,
            address: [1; 16],
            port: 80,
            status,
            counted,
            reserved: [0; 3],
        }
    }

    fn value(count: u64) -> Value {
        let mut value = Value {
            count,
            sum: count * 1000,
            ..Value::default()
        };
        value.buckets[3] = count as u32;
        value
    }

    fn labels() -> Labels {
        Labels {
            controller: Controller::Nginx,
            namespace: "shop".into(),
            service: "cart".into(),
            port: 80,
        }
    }

    #[expect(clippy::unnecessary_wraps, reason = "the signature of a resolver")]
    fn known(_: &Key) -> Option<Labels> {
        Some(labels())
    }

    fn only(counts: &Counts) -> Upstream {
        *counts.upstream().next().expect("one series").1
    }

    #[test]
    fn exchanges_are_those_with_and_without_a_response() {
        let mut counts = Counts::default();
        let entries = [
            (key(counted::EXCHANGE, 200), value(5)),
            (key(counted::EXCHANGE, 502), value(2)),
            (key(counted::FAILURE, 0), value(3)),
            (key(counted::CONNECT, 0), value(4)),
            (key(counted::SLOW, 0), value(1)),
        ];
        counts.observe(entries, known);
        let series = only(&counts);
        assert_eq!((series.exchanges, series.slow), (10, 1));
        assert_eq!(
            (series.first_byte.count(), series.first_byte.sum),
            (7, 7000)
        );
        assert_eq!((series.connect.buckets[3], series.connect.sum), (4, 4000));
    }

    #[test]
    fn the_same_snapshot_twice_counts_once() {
        let mut counts = Counts::default();
        for total in [4, 4, 9] {
            counts.observe([(key(counted::EXCHANGE, 200), value(total))], known);
        }
        assert_eq!(only(&counts).exchanges, 9);
    }

    #[test]
    fn an_entry_that_started_from_zero_adds_all_it_has() {
        let mut counts = Counts::default();
        counts.observe([(key(counted::EXCHANGE, 200), value(9))], known);
        counts.observe([(key(counted::EXCHANGE, 200), value(4))], known);
        assert_eq!(only(&counts).exchanges, 13);
        assert_eq!(only(&counts).first_byte.buckets[3], 13);
    }

    #[test]
    fn a_removed_entry_may_come_back_with_more_than_it_had() {
        let mut counts = Counts::default();
        counts.observe([(key(counted::EXCHANGE, 200), value(2))], known);
        counts.forget(&key(counted::EXCHANGE, 200));
        counts.observe([(key(counted::EXCHANGE, 200), value(5))], known);
        counts.observe([], known);
        counts.observe([(key(counted::EXCHANGE, 200), value(6))], known);
        assert_eq!(only(&counts).exchanges, 13);
    }

    #[test]
    fn a_bucket_may_wrap() {
        let mut counts = Counts::default();
        let mut full = value(10);
        full.buckets[3] = u32::MAX;
        let mut wrapped = value(12);
        wrapped.buckets[3] = 1;
        counts.observe([(key(counted::EXCHANGE, 200), full)], known);
        counts.observe([(key(counted::EXCHANGE, 200), wrapped)], known);
        assert_eq!(only(&counts).first_byte.buckets[3], u64::from(u32::MAX) + 2);
    }

    #[test]
    fn what_is_resolved_late_is_counted_in_full() {
        let mut counts = Counts::default();
        counts.observe([(key(counted::EXCHANGE, 200), value(3))], |_| None);
        assert_eq!(counts.upstream().count(), 0);
        counts.observe([(key(counted::EXCHANGE, 200), value(3))], known);
        assert_eq!(only(&counts).exchanges, 3);
    }

    #[test]
    fn responses_are_by_status_and_unreadable_ones_are_none() {
        let mut counts = Counts::default();
        let entries = [
            (key(counted::RESPONSE, 0), value(8)),
            (key(counted::RESPONSE, 502), value(2)),
            (key(counted::ABORT, 0), value(1)),
        ];
        counts.observe(entries, known);
        assert_eq!(
            counts.responses().collect::<Vec<_>>(),
            [(Controller::Nginx, 502, 2)]
        );
        assert_eq!(
            counts.aborts().collect::<Vec<_>>(),
            [(Controller::Nginx, 1)]
        );
        assert_eq!(counts.upstream().count(), 0);
    }

    #[test]
    fn idle_entries_are_those_that_stopped_changing() {
        let mut counts = Counts::default();
        for i in 1..=4 {
            let entries = [
                (key(counted::EXCHANGE, 200), value(1)),
                (key(counted::CONNECT, 0), value(i)),
            ];
            counts.observe(entries, known);
        }
        assert_eq!(
            counts.idle(2).collect::<Vec<_>>(),
            [key(counted::EXCHANGE, 200)]
        );
        assert_eq!(counts.idle(3).count(), 0);
    }

    #[test]
    fn backends_beyond_the_most_are_counted_without_a_name() {
        let mut counts = Counts::default();
        let at = |port| Key {
            port,
            ..key(counted::FAILURE, 0)
        };
        let by_port = |key: &Key| {
            let port = key.port;
            Some(Labels { port, ..labels() })
        };
        let ports = 1..=MOST as u16 + 3;
        counts.observe(ports.map(|port| (at(port), value(1))), by_port);
        // One that has a place keeps it.
        counts.observe([(at(7), value(5))], by_port);
        assert_eq!(counts.upstream().count(), MOST + 1);
        let of = |wanted: &Labels| {
            let mut series = counts.upstream().filter(|(labels, _)| *labels == wanted);
            series.next().map(|(_, series)| series.exchanges)
        };
        assert_eq!(of(&labels().nameless()), Some(3));
        assert_eq!(
            of(&Labels {
                port: 7,
                ..labels()
            }),
            Some(5)
        );
    }

    #[test]
    fn series_of_services_that_are_gone_disappear() {
        let mut counts = Counts::default();
        counts.observe([(key(counted::EXCHANGE, 200), value(1))], known);
        counts.retain(|labels| labels.service != "cart");
        assert_eq!(counts.upstream().count(), 0);
    }

    proptest! {
        #[test]
        fn no_series_ever_decreases(totals in prop::collection::vec(0u64..50, 1..30)) {
            let mut counts = Counts::default();
            let mut last = 0;
            for total in totals {
                counts.observe([(key(counted::EXCHANGE, 200), value(total))], known);
                let now = counts.upstream().next().map_or(0, |(_, series)| series.exchanges);
                prop_assert!(now >= last);
                last = now;
            }
        }
    }
}
