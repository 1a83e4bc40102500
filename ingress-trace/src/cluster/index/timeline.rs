//! In: the values of one thing, each from a time on. Out: what it was at a time, since when and what
//! came after. Bounded; knows nothing of what it keeps.
use jiff::Timestamp;

/// Most values that are kept of one thing; beyond it the oldest leave.
pub const MOST_VERSIONS: usize = 16;

/// A value from a time on; none is kept where the thing was deleted.
#[derive(Clone, Debug, PartialEq)]
pub struct Version<T> {
    /// When it was learned.
    pub from: Timestamp,
    /// Found in a list: true since then at the latest, perhaps for longer.
    pub listed: bool,
    /// The value.
    pub value: Option<T>,
}

/// Since when something holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Since {
    /// The time.
    pub at: Timestamp,
    /// Whether it began then; else it began earlier, or at about that time.
    pub exact: bool,
}

/// Whether something was there at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It was there.
    Held,
    /// It had been there, until this time.
    Gone(Since),
    /// It was not known yet, and was learned at this time.
    Later(Since),
}

/// The recent values of one thing, in the order in which they were learned.
#[derive(Clone, Debug, PartialEq)]
pub struct Timeline<T> {
    newest: Version<T>,
    older: Vec<Version<T>>,
}

impl<T: PartialEq> Timeline<T> {
    /// Of a thing that is new.
    pub fn new(first: Version<T>) -> Self {
        Self {
            newest: first,
            older: Vec::new(),
        }
    }

    /// Takes a value, unless it is the newest one already; gives what had to leave for it.
    pub fn set(&mut self, version: Version<T>) -> Result<Option<Version<T>>, Unchanged> {
        if self.newest.value == version.value {
            return Err(Unchanged);
        }
        let dropped = (self.older.len() + 1 >= MOST_VERSIONS).then(|| self.older.remove(0));
        self.older.reserve_exact(1);
        self.older
            .push(std::mem::replace(&mut self.newest, version));
        Ok(dropped)
    }

    /// The newest value; none where the thing was deleted.
    pub fn now(&self) -> Option<&T> {
        self.newest.value.as_ref()
    }

    /// All versions, the oldest first.
    pub fn versions(&self) -> impl DoubleEndedIterator<Item = &Version<T>> {
        self.older.iter().chain(std::iter::once(&self.newest))
    }

    /// The values that are kept.
    pub fn values(&self) -> impl Iterator<Item = &T> {
        self.versions().filter_map(|version| version.value.as_ref())
    }

    /// The version that stood at a time: the last one learned of those from before.
    pub fn stood(&self, at: Timestamp) -> Option<&Version<T>> {
        self.versions().rev().find(|version| version.from <= at)
    }

    /// The value that tells most of a time, and whether it stood then: else the last one before, or
    /// the first one after.
    pub fn at(&self, at: Timestamp) -> Option<(&T, Standing)> {
        let mut gone = None;
        for version in self.versions().rev().filter(|version| version.from <= at) {
            match (&version.value, gone) {
                (Some(value), None) => return Some((value, Standing::Held)),
                (Some(value), Some(since)) => return Some((value, Standing::Gone(since))),
                (None, None) => gone = Some(version.since()),
                (None, Some(_)) => {}
            }
        }
        let later = self.versions().find(|version| version.value.is_some())?;
        let value = later.value.as_ref()?;
        Some((value, Standing::Later(later.since())))
    }

    /// Since when the value that stood at a time was like this; it may have been there with other
    /// traits before.
    pub fn since(&self, at: Timestamp, like: impl Fn(&T) -> bool) -> Option<Since> {
        self.versions()
            .rev()
            .skip_while(|version| version.from > at)
            .take_while(|version| version.value.as_ref().is_some_and(&like))
            .last()
            .map(Version::since)
    }

    /// Drops what ended before a time or at it; gives the values that left, and whether any is left.
    pub fn forget(&mut self, before: Timestamp) -> (Vec<T>, bool) {
        let ended = self
            .versions()
            .skip(1)
            .take_while(|next| next.from <= before)
            .count();
        let mut left: Vec<T> = self
            .older
            .drain(..ended)
            .filter_map(|version| version.value)
            .collect();
        self.older.shrink_to_fit();
        let over = self.newest.value.is_none() && self.newest.from <= before;
        if over {
            left.extend(self.older.drain(..).filter_map(|version| version.value));
        }
        (left, !over)
    }
}

impl<T> Version<T> {
    /// When it began.
    pub fn since(&self) -> Since {
        Since {
            at: self.from,
            exact: !self.listed,
        }
    }
}

/// The value is the newest one already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unchanged;
