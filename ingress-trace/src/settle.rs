//! In: events as the CPUs sent them. Out: the same in the order of time, a little later. Bounded.
use std::collections::VecDeque;

use crate::event::Event;

/// Most events that may rest; beyond it the oldest leave early.
pub const MOST: usize = 262_144;
/// Room that is kept when nothing rests.
const SPARE: usize = 1024;

/// A buffer in which events rest until whatever happened before them has come, too.
#[derive(Debug)]
pub struct Settle {
    rest: u64,
    /// By time, those of the same time as they came. They come almost in order: a place is found
    /// at the end, where a tree would move its neighbors about for each.
    events: VecDeque<Event>,
    /// How many left early because of [`MOST`].
    pub early: u64,
}

impl Settle {
    /// Events rest for `rest` nanoseconds.
    pub fn new(rest: u64) -> Self {
        Self {
            rest,
            events: VecDeque::new(),
            early: 0,
        }
    }

    /// Takes one event.
    pub fn push(&mut self, event: Event) {
        let later = |other: &&Event| other.time > event.time;
        let later = self.events.iter().rev().take_while(later).count();
        self.events.insert(self.events.len() - later, event);
    }

    /// The next event that has rested at `now`; any when `now` is `u64::MAX`.
    pub fn pop(&mut self, now: u64) -> Option<Event> {
        let Some(first) = self.events.front() else {
            // After a storm: this is what it took at its height.
            self.events.shrink_to(SPARE);
            return None;
        };
        let rested = first.time.saturating_add(self.rest) <= now;
        if rested || self.count_early() {
            return self.events.pop_front();
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
