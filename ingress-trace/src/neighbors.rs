//! In: pods of this node behind the ingress: those that fail at once, the others now and then. Out: what
//! their own side says of a failure. Reads on a thread of its own, a few pods a second at most.
use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, SyncSender, TrySendError, channel, sync_channel};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::agent::monotonic;
use crate::cause::facts::Inside;
use crate::cluster::object::Name;
use crate::limits::{Baseline, Before, Look, Place, inside};
use crate::targets::{Residents, Roots};

/// Most pods that are known at once.
const MOST: usize = 256;
/// Most looks a second at pods that fail, and at others for their counters' sake.
const LOOKS: u32 = 10;
const RESTS: u32 = 4;
/// Looks that may wait for the thread.
const WAITING: usize = 64;
/// How long a look serves.
const FRESH: u64 = 1_000_000_000;
/// How often the counters of a pod that does not fail are read.
const REST: u64 = 2_000_000_000;
/// How far apart counters are kept, and how many of a pod: a bit more than a minute of them.
const APART: u64 = 5_000_000_000;
const KEPT: usize = 13;
/// Looks that are kept of a pod.
const SEEN: usize = 8;

/// A pod of this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Neighbor {
    /// Its name.
    pub pod: Name,
    /// Its uid as the kubelet has it.
    pub uid: Arc<str>,
    /// `spec.hostNetwork`.
    pub host_network: bool,
}

/// What the thread is asked.
struct Ask {
    neighbor: Neighbor,
    whole: bool,
}

/// What it has found.
enum Seen {
    Counters(Baseline),
    Whole(Look),
}

struct Told {
    neighbor: Neighbor,
    at: u64,
    seen: Seen,
}

#[derive(Debug, Default)]
struct Known {
    uid: Arc<str>,
    /// When it was last asked for.
    asked: u64,
    /// When a whole look was.
    looked: Option<u64>,
    /// A second look is wanted, once the first is no longer fresh.
    again: Option<Neighbor>,
    before: VecDeque<(u64, Baseline)>,
    newest: Option<(u64, Baseline)>,
    looks: VecDeque<(u64, Look)>,
}

/// Follows the pods behind the ingress on this node.
pub struct Neighbors {
    ask: SyncSender<Ask>,
    told: Receiver<Told>,
    pods: HashMap<Name, Known>,
    /// When a backend was last asked about.
    glances: HashMap<SocketAddr, u64>,
    second: u64,
    looks: u32,
    rests: u32,
    /// Pods that failed and were not looked at, as too many did at once.
    pub skipped: u64,
}

impl Neighbors {
    /// Starts the thread; it ends with this.
    pub fn start(roots: Roots) -> Result<Self> {
        let (ask, asked) = sync_channel(WAITING);
        let (tell, told) = channel();
        std::thread::Builder::new()
            .name("neighbors".to_owned())
            .spawn(move || read(&roots, &asked, &tell))
            .context("failed to start a thread")?;
        Ok(Self {
            ask,
            told,
            pods: HashMap::new(),
            glances: HashMap::new(),
            second: 0,
            looks: 0,
            rests: 0,
            skipped: 0,
        })
    }

    /// Whether this backend was not asked about within the last second; from now on it was.
    pub fn glance(&mut self, backend: SocketAddr, now: u64) -> bool {
        if self.glances.len() >= 4 * MOST {
            self.glances.clear();
        }
        let last = self.glances.insert(backend, now);
        let old = last.is_none_or(|last| now.saturating_sub(last) >= FRESH);
        if let Some(last) = last.filter(|_| !old) {
            self.glances.insert(backend, last);
        }
        old
    }

    /// A connection to this pod failed: it is looked at now, and once more before the verdict.
    pub fn fails(&mut self, neighbor: &Neighbor, now: u64) {
        let known = self.known(neighbor, now);
        known.again = Some(neighbor.clone());
        if known
            .looked
            .is_some_and(|at| now.saturating_sub(at) < FRESH)
        {
            return;
        }
        if self.look(neighbor, now) {
            return;
        }
        self.skipped += 1;
    }

    /// Traffic goes to this pod: its counters are worth reading, should it fail.
    pub fn rests(&mut self, neighbor: &Neighbor, now: u64) {
        let known = self.known(neighbor, now);
        let newest = known.newest.as_ref();
        let due = newest.is_none_or(|(at, _)| now.saturating_sub(*at) >= REST);
        self.begin(now);
        if due && self.rests < RESTS {
            self.rests += 1;
            // Else there is a next time.
            let _ = self.send(neighbor, false);
        }
    }

    /// Takes what was found, and asks for the second looks that are due.
    pub fn turn(&mut self, now: u64) {
        while let Ok(told) = self.told.try_recv() {
            self.take(told);
        }
        let due = self.pods.values_mut().filter_map(|known| {
            let looked = known.looked?;
            if now.saturating_sub(looked) < FRESH {
                return None;
            }
            known.again.take()
        });
        for neighbor in due.collect::<Vec<_>>() {
            if !self.look(&neighbor, now) {
                self.skipped += 1;
            }
        }
    }

    /// What the pod's own side says of a failure of `port` that began and happened at these times.
    pub fn inside(&self, neighbor: &Neighbor, port: u16, began: u64, at: u64) -> Option<Inside> {
        let known = self.pods.get(&neighbor.pod)?;
        if known.uid != neighbor.uid {
            return None;
        }
        let near = |time: u64| time.saturating_add(FRESH) >= at;
        let looks = known.looks.iter().filter(|(time, _)| near(*time));
        let looks: Vec<_> = looks.collect();
        let (last, _) = looks.last()?;
        let counters = known
            .looks
            .iter()
            .map(|(time, look)| (time, &look.counters));
        let kept = known.before.iter().chain(&known.newest);
        let kept = kept.map(|(time, counters)| (time, counters));
        let earlier = kept.chain(counters).filter(|(time, _)| *time < last);
        let earlier: Vec<_> = earlier.collect();
        let before = earlier
            .iter()
            .filter(|(time, _)| **time <= began)
            .max_by_key(|(time, _)| **time)
            .or_else(|| earlier.iter().min_by_key(|(time, _)| **time));
        let before = before.map(|(time, counters)| Before {
            counters,
            span: Duration::from_nanos(last - **time),
            covers: **time <= began && *last >= at,
        });
        let place = Place {
            pod: neighbor.pod.clone(),
            port,
            host_network: neighbor.host_network,
        };
        let looks: Vec<&Look> = looks.into_iter().map(|(_, look)| look).collect();
        inside(&place, &looks, before)
    }

    fn look(&mut self, neighbor: &Neighbor, now: u64) -> bool {
        self.begin(now);
        if self.looks >= LOOKS || !self.send(neighbor, true) {
            return false;
        }
        self.looks += 1;
        self.known(neighbor, now).looked = Some(now);
        true
    }

    fn send(&self, neighbor: &Neighbor, whole: bool) -> bool {
        let ask = Ask {
            neighbor: neighbor.clone(),
            whole,
        };
        match self.ask.try_send(ask) {
            Ok(()) => true,
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => false,
        }
    }

    fn begin(&mut self, now: u64) {
        if now.saturating_sub(self.second) >= 1_000_000_000 {
            (self.second, self.looks, self.rests) = (now, 0, 0);
        }
    }

    fn known(&mut self, neighbor: &Neighbor, now: u64) -> &mut Known {
        if self.pods.len() >= MOST && !self.pods.contains_key(&neighbor.pod) {
            let oldest = self.pods.iter().min_by_key(|(_, known)| known.asked);
            if let Some(oldest) = oldest.map(|(name, _)| name.clone()) {
                self.pods.remove(&oldest);
            }
        }
        let known = self.pods.entry(neighbor.pod.clone()).or_default();
        // A StatefulSet's next pod has the same name.
        if known.uid != neighbor.uid {
            *known = Known {
                uid: Arc::clone(&neighbor.uid),
                ..Known::default()
            };
        }
        known.asked = now;
        known
    }

    fn take(&mut self, told: Told) {
        let Some(known) = self.pods.get_mut(&told.neighbor.pod) else {
            return;
        };
        if known.uid != told.neighbor.uid {
            return;
        }
        let counters = match &told.seen {
            Seen::Counters(counters) => counters.clone(),
            Seen::Whole(look) => look.counters.clone(),
        };
        known.newest = Some((told.at, counters.clone()));
        let last = known.before.back().map(|(at, _)| *at);
        if last.is_none_or(|last| told.at.saturating_sub(last) >= APART) {
            known.before.push_back((told.at, counters));
        }
        if known.before.len() > KEPT {
            known.before.pop_front();
        }
        if let Seen::Whole(look) = told.seen {
            known.looks.push_back((told.at, look));
        }
        if known.looks.len() > SEEN {
            known.looks.pop_front();
        }
    }
}

fn read(roots: &Roots, asked: &Receiver<Ask>, tell: &Sender<Told>) {
    let mut residents = Residents::default();
    while let Ok(Ask { neighbor, whole }) = asked.recv() {
        let at = monotonic();
        let Some(target) = residents.find(&neighbor.pod, &neighbor.uid, roots) else {
            continue;
        };
        let seen = if whole {
            Seen::Whole(Look::take(&target, roots, neighbor.host_network))
        } else {
            Seen::Counters(Baseline::take(&target, roots))
        };
        if tell.send(Told { neighbor, at, seen }).is_err() {
            return;
        }
    }
}

#[cfg(test)]
#[path = "neighbors_tests.rs"]
mod tests;
