//! In: objects of one kind by name, as they change. Out: their timelines, and which of them are
//! linked to an address, a port or a host. Bounded; what leaves early is counted.
use std::borrow::Borrow;
use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::sync::Arc;

use jiff::Timestamp;

use super::timeline::{Timeline, Version};
use crate::cluster::object::Name;

/// Most changes of a kind of objects that are remembered; beyond it the oldest are forgotten.
pub const MOST_PAST: usize = 32_768;

/// What leads to objects of this kind.
pub trait Linked: PartialEq {
    /// Address, port or host.
    type Link: Clone + Eq + Hash;
    /// What leads to this object.
    fn links(&self) -> Vec<Self::Link>;
}

/// Which names a link leads to, now or in the past that is kept.
#[derive(Debug)]
pub struct Links<L>(HashMap<L, Few>);

/// Some names; nearly always one.
#[derive(Debug)]
enum Few {
    One(Name),
    More(Vec<Name>),
}

impl Few {
    fn names(&self) -> &[Name] {
        match self {
            Self::One(name) => std::slice::from_ref(name),
            Self::More(names) => names,
        }
    }
}

impl<L: Eq + Hash> Default for Links<L> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<L: Eq + Hash> Links<L> {
    /// Adds a name, once.
    pub fn add(&mut self, link: L, name: &Name) {
        match self.0.entry(link) {
            Entry::Vacant(new) => {
                new.insert(Few::One(name.clone()));
            }
            Entry::Occupied(known) if known.get().names().contains(name) => {}
            Entry::Occupied(mut known) => match known.get_mut() {
                Few::One(first) => {
                    let names = vec![first.clone(), name.clone()];
                    known.insert(Few::More(names));
                }
                Few::More(names) => names.push(name.clone()),
            },
        }
    }

    /// Removes a name.
    pub fn remove(&mut self, link: L, name: &Name) {
        let Entry::Occupied(mut known) = self.0.entry(link) else {
            return;
        };
        let names = known.get().names().iter();
        let mut names: Vec<Name> = names.filter(|other| *other != name).cloned().collect();
        match names.len() {
            0 => drop(known.remove()),
            1 => drop(known.insert(Few::One(names.remove(0)))),
            _ => drop(known.insert(Few::More(names))),
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// The names that it leads to.
    pub fn get<Q: Eq + Hash + ?Sized>(&self, link: &Q) -> &[Name]
    where
        L: Borrow<Q>,
    {
        self.0.get(link).map_or(&[], Few::names)
    }
}

/// Changes in the order in which they were learned, for forgetting them.
#[derive(Debug, Default)]
pub struct Past {
    changes: VecDeque<(Timestamp, Name, u32)>,
    /// How many values ended by them.
    ended: usize,
    /// How many were forgotten before their time.
    pub evicted: u64,
}

impl Past {
    /// How many changes wait to be forgotten.
    pub fn len(&self) -> usize {
        self.changes.len()
    }

    /// So many values of an object ended.
    pub fn push(&mut self, at: Timestamp, name: &Name, ended: u32) {
        if ended > 0 {
            self.ended += ended as usize;
            self.changes.push_back((at, name.clone(), ended));
        }
    }

    /// The oldest change, if there are too many.
    pub fn too_many(&mut self) -> Option<(Timestamp, Name)> {
        let over = self.ended > MOST_PAST;
        let (at, name, ended) = over.then(|| self.changes.pop_front()).flatten()?;
        self.ended -= ended as usize;
        self.evicted += u64::from(ended);
        Some((at, name))
    }

    /// The next change from before a time or at it.
    pub fn pop(&mut self, before: Timestamp) -> Option<Name> {
        let due = self.changes.front().is_some_and(|(at, ..)| *at <= before);
        let (_, name, ended) = due.then(|| self.changes.pop_front()).flatten()?;
        self.ended -= ended as usize;
        // Such a queue grows in a storm of changes only.
        if self.changes.len() * 4 < self.changes.capacity() {
            self.changes.shrink_to(self.changes.len() * 2);
        }
        Some(name)
    }
}

/// Objects of one kind.
#[derive(Debug)]
pub struct Store<T: Linked> {
    timelines: HashMap<Name, Timeline<Arc<T>>>,
    links: Links<T::Link>,
    past: Past,
}

impl<T: Linked> Default for Store<T> {
    fn default() -> Self {
        Self {
            timelines: HashMap::new(),
            links: Links::default(),
            past: Past::default(),
        }
    }
}

impl<T: Linked> Store<T> {
    /// Takes what an object is from now on; none when it was deleted. False if it was so before.
    pub fn set(&mut self, name: &Name, version: Version<Arc<T>>) -> bool {
        let (at, value) = (version.from, version.value.clone());
        match self.timelines.entry(name.clone()) {
            Entry::Vacant(_) if value.is_none() => return false,
            Entry::Vacant(new) => {
                new.insert(Timeline::new(version));
            }
            Entry::Occupied(mut known) => match known.get_mut().set(version) {
                Err(_) => return false,
                Ok(dropped) => {
                    let left = dropped.and_then(|dropped| dropped.value);
                    self.past.evicted += u64::from(left.is_some());
                    self.unlink(name, left);
                    self.past.push(at, name, 1);
                    while let Some((before, name)) = self.past.too_many() {
                        self.forget_of(&name, before);
                    }
                }
            },
        }
        for link in value.iter().flat_map(|value| value.links()) {
            self.links.add(link, name);
        }
        true
    }

    /// Drops what ended before a time.
    pub fn forget(&mut self, before: Timestamp) {
        while let Some(name) = self.past.pop(before) {
            self.forget_of(&name, before);
        }
    }

    /// Drops an object with all its past.
    pub fn remove(&mut self, name: &Name) {
        let Some(timeline) = self.timelines.remove(name) else {
            return;
        };
        self.unlink(name, timeline.values().cloned().collect::<Vec<_>>());
    }

    /// The timeline of an object.
    pub fn get(&self, name: &Name) -> Option<&Timeline<Arc<T>>> {
        self.timelines.get(name)
    }

    /// The name of an object as it is kept here, and its timeline.
    pub fn entry(&self, name: &Name) -> Option<(&Name, &Timeline<Arc<T>>)> {
        self.timelines.get_key_value(name)
    }

    /// The timelines of what a link leads to, or has led to.
    pub fn linked<'a, Q: Eq + Hash + ?Sized>(
        &'a self,
        link: &Q,
    ) -> impl Iterator<Item = (&'a Name, &'a Timeline<Arc<T>>)> + use<'a, T, Q>
    where
        T::Link: Borrow<Q>,
    {
        let names = self.links.get(link).iter();
        names.filter_map(|name| Some((name, self.timelines.get(name)?)))
    }

    /// What there is now.
    pub fn present(&self) -> impl Iterator<Item = (&Name, &Arc<T>)> {
        self.timelines
            .iter()
            .filter_map(|(name, timeline)| Some((name, timeline.now()?)))
    }

    /// Names of what there is now.
    pub fn names(&self) -> Vec<Name> {
        self.present().map(|(name, _)| name.clone()).collect()
    }

    /// How many objects, links and changes are kept.
    pub fn kept(&self) -> usize {
        self.timelines.len() + self.links.len() + self.past.len()
    }

    /// How many changes were forgotten before their time.
    pub fn evicted(&self) -> u64 {
        self.past.evicted
    }

    fn forget_of(&mut self, name: &Name, before: Timestamp) {
        let Some(timeline) = self.timelines.get_mut(name) else {
            return;
        };
        let (left, some) = timeline.forget(before);
        if !some {
            self.timelines.remove(name);
        }
        self.unlink(name, left);
    }

    /// Removes the links of values that left, unless a value that is kept has them too.
    fn unlink(&mut self, name: &Name, left: impl IntoIterator<Item = Arc<T>>) {
        let gone: Vec<T::Link> = left.into_iter().flat_map(|value| value.links()).collect();
        if gone.is_empty() {
            return;
        }
        let kept: Vec<T::Link> = self
            .timelines
            .get(name)
            .into_iter()
            .flat_map(Timeline::values)
            .flat_map(|value| value.links())
            .collect();
        for link in gone {
            if !kept.contains(&link) {
                self.links.remove(link, name);
            }
        }
    }
}
