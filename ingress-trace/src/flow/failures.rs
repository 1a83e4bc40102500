//! In: failures whose endings are not known yet. Out: each by its exchange, and all of them by time.
//! Bounded by whoever asks for what is [`Failures::beyond`]; must not know what a failure is.
use std::collections::{BTreeMap, HashMap};
use std::ops::{RangeBounds, RangeInclusive};

use super::MOST_OPEN;
use super::times::BEHIND;
use crate::event::{Event, ExchangeId};

/// A time and what happened then.
pub(super) type Place = (u64, ExchangeId);

/// Before all that happened at a time.
pub(super) const FIRST: ExchangeId = ExchangeId {
    cookie: 0,
    number: 0,
};
/// Behind all that happened at a time.
pub(super) const LAST: ExchangeId = ExchangeId {
    cookie: u64::MAX,
    number: u32::MAX,
};

/// Where the failures stand that a client may have waited for.
pub(super) fn around(client: &Event) -> RangeInclusive<Place> {
    let from = client.began().unwrap_or(client.time).min(client.time);
    (from, FIRST)..=(client.time.saturating_add(BEHIND), LAST)
}

/// Failures that wait for their endings.
#[derive(Debug)]
pub(super) struct Failures<T> {
    open: BTreeMap<Place, T>,
    /// When an exchange failed.
    at: HashMap<ExchangeId, u64>,
}

impl<T> Default for Failures<T> {
    fn default() -> Self {
        Self {
            open: BTreeMap::new(),
            at: HashMap::new(),
        }
    }
}

impl<T> Failures<T> {
    /// Whether this exchange has failed before.
    pub fn has(&self, id: ExchangeId) -> bool {
        self.at.contains_key(&id)
    }

    /// Takes one that is not there yet.
    pub fn insert(&mut self, (time, id): Place, failure: T) {
        self.at.insert(id, time);
        self.open.insert((time, id), failure);
    }

    /// That of an exchange.
    pub fn get(&self, id: ExchangeId) -> Option<&T> {
        self.open.get(&(*self.at.get(&id)?, id))
    }

    /// That of an exchange, to learn more of it.
    pub fn get_mut(&mut self, id: ExchangeId) -> Option<&mut T> {
        self.open.get_mut(&(*self.at.get(&id)?, id))
    }

    /// Gives that of an exchange away.
    pub fn remove(&mut self, id: ExchangeId) -> Option<T> {
        let time = self.at.remove(&id)?;
        self.open.remove(&(time, id))
    }

    /// The oldest, while there are too many.
    pub fn beyond(&self) -> Option<ExchangeId> {
        let (&(_, id), _) = self.open.first_key_value()?;
        (self.open.len() > MOST_OPEN).then_some(id)
    }

    /// All, by time.
    pub fn values(&self) -> impl Iterator<Item = &T> {
        self.open.values()
    }

    /// All, by time, to learn more of them.
    pub fn values_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.open.values_mut()
    }

    /// Those of a time.
    pub fn within(&self, places: impl RangeBounds<Place>) -> impl Iterator<Item = &T> {
        self.open.range(places).map(|(_, failure)| failure)
    }

    /// Those of a time, to learn more of them.
    pub fn within_mut(&mut self, places: impl RangeBounds<Place>) -> impl Iterator<Item = &mut T> {
        self.open.range_mut(places).map(|(_, failure)| failure)
    }

    /// How many there are, by whichever way they are looked up.
    #[cfg(test)]
    pub fn left(&self) -> usize {
        self.open.len().max(self.at.len())
    }
}
