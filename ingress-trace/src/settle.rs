//! In: events as the CPUs sent them. Out: the same in the order of time, a little later. Bounded.
use std::collections::BTreeMap;

use crate::event::Event;

/// Most events that may rest; beyond it the oldest leave early.
pub const MOST: usize = 262_144;

/// A buffer in which events rest until whatever happened before them has come, too.
#[derive(Debug)]
pub struct Settle {
    rest: u64,
    events: BTreeMap<(u64, u64), Event>,
    count: u64,
    /// How many left early because of [`MOST`].
    pub early: u64,
}

impl Settle {
    /// Events rest for `rest` nanoseconds.
    pub fn new(rest: u64) -> Self {
        Self {
            rest,
            events: BTreeMap::new(),
            count: 0,
            early: 0,
        }
    }

    /// Takes one event.
    pub fn push(&mut self, event: Event) {
        self.count += 1;
        self.events.insert((event.time, self.count), event);
    }

    /// The next event that has rested at `now`; any when `now` is `u64::MAX`.
    pub fn pop(&mut self, now: u64) -> Option<Event> {
        let first = self.events.first_entry()?;
        let rested = first.key().0.saturating_add(self.rest) <= now;
        if rested || self.count_early() {
            return self.events.pop_first().map(|(_, event)| event);
        }
        None
    }

    /// Up to when every event has left at `now`; `u64::MAX` stays what it is.
    pub fn horizon(&self, now: u64) -> u64 {
        if now == u64::MAX {
            now
        } else {
            now.saturating_sub(self.rest)
        }
    }

    fn count_early(&mut self) -> bool {
        let full = self.events.len() > MOST;
        self.early += u64::from(full);
        full
    }
}

#[cfg(test)]
#[path = "settle_tests.rs"]
mod tests;
