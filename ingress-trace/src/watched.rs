//! The line that runs the other way: targets found -> cgroups attached -> sockets adopted, and who
//! owns which cgroup. Touches the kernel edge and /proc; knows no findings.
use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use ingress_trace_common::aggregate::{Key, Value, loss};

use crate::agent::monotonic;
use crate::cause::evidence::Shortage;
use crate::cause::taxonomy::Controller;
use crate::cluster::object::Name;
use crate::counts::Labels;
use crate::gap::Gap;
use crate::limits::{self, Baseline, Limits};
use crate::probe::{HOOKS, Probe};
use crate::profiles::{self, Chain, Serves};
use crate::sinks::metrics::{Metrics, Stage};
use crate::targets::{self, Finder, Found, Roots, Target, cgroups_below};

mod answered;

pub use answered::Answered;

/// Most cgroups whose owner is remembered after they are gone.
const REMEMBERED: usize = 16_384;
/// Snapshots after which an unchanged aggregate leaves the kernel's map.
const IDLE: u64 = 600;
/// Most backends whose local ports are remembered.
const BACKENDS: usize = 1024;
/// How long a reading of the controller's limits serves.
const FRESH: Duration = Duration::from_secs(1);
/// How long before the verdict a shortage may have been seen.
const RECENT: Duration = Duration::from_secs(3);
/// What a controller's counters are compared with is so old, at most twice as old: what it was short
/// of before says nothing about a failure.
const COMPARED: Duration = Duration::from_secs(5);

/// Who owns a cgroup.
#[derive(Clone, Debug)]
pub struct Owner {
    /// The data plane.
    pub controller: Controller,
    /// Its pod, where the API has told.
    pub pod: Option<Name>,
    /// Which routes that pod serves.
    pub serves: Option<Arc<Serves>>,
    /// Id of the target's cgroup.
    pub target: u64,
}

struct Entry {
    target: Target,
    /// Of its cgroup when the owners below it were noted last.
    links: u64,
    /// What its counters are compared with, and what they will be later.
    older: (Instant, Baseline),
    newer: (Instant, Baseline),
    /// The newest readings of its limits, newest last, each with the time that its counters are of.
    readings: Vec<(Instant, Duration, Limits)>,
}

/// How many folders are right below a cgroup, as its number of links tells.
fn links(cgroup: &Path) -> u64 {
    std::fs::metadata(cgroup).map_or(0, |folder| folder.nlink())
}

/// Everything that is watched.
pub struct Watched {
    probe: Probe,
    finder: Finder,
    roots: Roots,
    entries: HashMap<u64, Entry>,
    owners: HashMap<u64, Owner>,
    /// Cgroups below the targets that are no data plane's of ours, or were gone when looked for.
    strangers: HashSet<u64>,
    names: HashSet<String>,
    reported: HashSet<String>,
    /// For whose sake the kernel side tells of clients that waited while something failed.
    tells_clients: Vec<Chain>,
    answered: Answered,
    /// When the ring was full.
    gap: Gap,
    /// The newest readings of local ports in use.
    ports: HashMap<(u64, IpAddr, u16), (Instant, Option<limits::Usage>)>,
}

impl Watched {
    /// Nothing is attached yet.
    pub fn new(probe: Probe, finder: Finder, roots: Roots) -> Self {
        Self {
            probe,
            finder,
            roots,
            entries: HashMap::new(),
            owners: HashMap::new(),
            strangers: HashSet::new(),
            names: HashSet::new(),
            reported: HashSet::new(),
            tells_clients: Vec::new(),
            answered: Answered::default(),
            gap: Gap::default(),
            ports: HashMap::new(),
        }
    }

    /// Attaches to what is new, lets go of what is gone. `strict`: a target that cannot be attached
    /// to is an error, else it is logged.
    pub fn refresh(&mut self, strict: bool) -> Result<()> {
        let found = self.finder.find()?;
        self.report(&found);
        self.allow(&found)?;
        let live: HashSet<u64> = found.targets.iter().map(|target| target.id).collect();
        let gone: Vec<u64> = self
            .entries
            .keys()
            .filter(|id| !live.contains(id))
            .copied()
            .collect();
        for id in gone {
            self.probe.detach(id);
            self.entries.remove(&id);
            tracing::info!(cgroup = id, "target gone");
        }
        for target in found.targets {
            let links = links(&target.cgroup);
            self.own(&target);
            self.expect(target.controller)?;
            if let Some(entry) = self.entries.get_mut(&target.id) {
                entry.update(target, links, &self.roots);
            } else if let Err(error) = self.enter(target, links) {
                if strict {
                    return Err(error);
                }
                self.report_once(format!("{error:#}"));
            }
        }
        Ok(())
    }

    /// What a kind of data plane needs of the kernel side.
    fn expect(&mut self, controller: Controller) -> Result<()> {
        let chains = profiles::of(controller).chains;
        let new = !self.tells_clients.contains(&chains);
        if chains != Chain::Adjacent && new {
            self.tells_clients.push(chains);
            let bound = self.tells_clients.iter().any(|one| *one != Chain::Process);
            self.probe.tell_clients(bound)?;
        }
        Ok(())
    }

    fn enter(&mut self, target: Target, links: u64) -> Result<()> {
        self.probe.attach(target.id, &target.cgroup)?;
        let adopted = self.adopt(&target);
        tracing::info!(
            controller = target.controller.word(),
            cgroup = %target.cgroup.display(),
            processes = target.pids.len(),
            adopted,
            "watching"
        );
        let baseline = (Instant::now(), Baseline::take(&target, &self.roots));
        self.entries.insert(
            target.id,
            Entry {
                target,
                links,
                older: baseline.clone(),
                newer: baseline,
                readings: Vec::new(),
            },
        );
        Ok(())
    }

    /// Connections that were there before; without the rights for it the agent starts from now.
    fn adopt(&mut self, target: &Target) -> usize {
        let below = cgroups_below(&target.cgroup).unwrap_or_default();
        let cgroups: Vec<u64> = below.into_iter().map(|(id, _)| id).collect();
        let inodes = targets::socket_inodes(&self.roots.proc, &target.pids);
        let mut adopted = 0;
        for namespace in targets::network_namespaces(&self.roots.proc, &target.pids) {
            match self.probe.adopt(&namespace.path, &cgroups, &inodes) {
                Ok(more) => adopted += more,
                Err(error) => {
                    let error = format!("{error:#}");
                    tracing::warn!(error, "failed to adopt existing connections");
                }
            }
        }
        adopted
    }

    fn own(&mut self, target: &Target) {
        if self.owners.len() > REMEMBERED {
            let live: HashSet<u64> = self.entries.keys().copied().collect();
            self.owners.retain(|_, owner| live.contains(&owner.target));
        }
        let owner = Owner {
            controller: target.controller,
            pod: target.pod.clone(),
            serves: target.serves.clone(),
            target: target.id,
        };
        for (id, _) in cgroups_below(&target.cgroup).unwrap_or_default() {
            if target.foreign.contains(&id) {
                self.owners.remove(&id);
                self.strangers.insert(id);
            } else {
                self.owners.insert(id, owner.clone());
                self.strangers.remove(&id);
            }
        }
    }

    fn allow(&mut self, found: &Found) -> Result<()> {
        let known = profiles::ALL
            .iter()
            .flat_map(|profile| profile.names.iter().copied());
        let targets = found.targets.iter().flat_map(|target| target.names.iter());
        let new: Vec<String> = known
            .chain(targets.map(String::as_str))
            .filter(|name| !self.names.contains(*name))
            .map(str::to_owned)
            .collect();
        self.probe.allow_names(new.iter().map(String::as_str))?;
        self.names.extend(new);
        Ok(())
    }

    fn report(&mut self, found: &Found) {
        for skipped in &found.skipped {
            let (controller, reason) = (skipped.controller.word(), skipped.reason.to_string());
            self.report_once(format!("{controller} is not watched: {reason}"));
        }
    }

    fn report_once(&mut self, problem: String) {
        if self.reported.len() < REMEMBERED && !self.reported.contains(&problem) {
            tracing::warn!(problem, "target not watched");
            self.reported.insert(problem);
        }
    }

    /// Whose a cgroup is.
    pub fn owner(&self, cgroup: u64) -> Option<&Owner> {
        self.owners.get(&cgroup)
    }

    /// Whether a cgroup of which something was heard is a data plane's. One that is new is looked
    /// for at once: a container that has just begun.
    pub fn meet(&mut self, cgroup: u64) -> bool {
        if self.owners.contains_key(&cgroup) {
            return true;
        }
        if self.strangers.len() > REMEMBERED {
            self.strangers.clear();
        }
        if !self.strangers.insert(cgroup) {
            return false;
        }
        if let Err(error) = self.refresh(false) {
            tracing::warn!(error = format!("{error:#}"), "failed to refresh targets");
        }
        self.owners.contains_key(&cgroup)
    }

    /// Whether a refresh would find more, as far as a glance tells: a pod whose cgroup has come, a
    /// container that has begun. Cheap enough for ten times a second.
    pub fn arrived(&self) -> bool {
        let mut entries = self.entries.values();
        self.finder.arrived() || entries.any(|entry| links(&entry.target.cgroup) != entry.links)
    }

    /// What decides on the targets, to be told of the API's pods; [`Watched::refresh`] follows it.
    pub fn finder(&mut self) -> &mut Finder {
        &mut self.finder
    }

    /// Gives every waiting sample to `take`, with a way to look at a cgroup's limits at once: by
    /// the time of the verdict a shortage may be over.
    pub fn drain(&mut self, mut take: impl FnMut(&[u8], &mut dyn FnMut(u64))) -> usize {
        // Bounded, so that a storm cannot keep the rest of the agent from its turn.
        const MOST: usize = 100_000;
        let Self {
            probe,
            entries,
            owners,
            roots,
            gap,
            ..
        } = self;
        let mut look = |cgroup: u64| {
            let entry = owners
                .get(&cgroup)
                .and_then(|owner| entries.get_mut(&owner.target));
            if let Some(entry) = entry {
                entry.look(roots);
            }
        };
        let count = probe.drain(MOST, |sample| take(sample, &mut look));
        let before = monotonic();
        if let Ok(losses) = probe.losses() {
            gap.look(losses[loss::RING as usize], before, monotonic());
        }
        count
    }

    /// Whether a sample of this time may be among those that the ring had no room for.
    pub fn lost_between(&self, since: u64, until: u64) -> bool {
        self.gap.overlaps(since, until)
    }

    /// Whether a process is still there.
    pub fn alive(&self, pid: u32) -> bool {
        self.roots.proc.join(pid.to_string()).exists()
    }

    /// What the controller was short of just now.
    pub fn shortage(&mut self, cgroup: u64) -> Shortage {
        let target = self.owner(cgroup).map(|owner| owner.target);
        let entry = target.and_then(|target| self.entries.get_mut(&target));
        let worst = entry.and_then(|entry| {
            entry.look(&self.roots);
            entry.worst()
        });
        let (span, limits) = worst.unzip();
        Shortage {
            limits,
            span: span.unwrap_or_default(),
            ports: None,
        }
    }

    /// Local ports in use towards a backend, as of some time within the last second: reading them
    /// takes a pass over the namespace's sockets.
    pub fn ports(&mut self, cgroup: u64, address: IpAddr, port: u16) -> Option<limits::Usage> {
        let target = self.owner(cgroup)?.target;
        let key = (target, address, port);
        if let Some((at, usage)) = self.ports.get(&key)
            && at.elapsed() < FRESH
        {
            return *usage;
        }
        if self.ports.len() >= BACKENDS {
            self.ports.clear();
        }
        let entry = self.entries.get(&target)?;
        let usage = limits::ports(&entry.target, &self.roots, address, port);
        self.ports.insert(key, (Instant::now(), usage));
        usage
    }

    /// The backends that have answered, as of the last second.
    pub fn answered(&self) -> &Answered {
        &self.answered
    }

    /// Those that did since this was asked last, with their controllers' cgroups.
    pub fn take_answers(&mut self) -> Vec<(u64, SocketAddr)> {
        self.answered.take()
    }

    /// Brings what the kernel counted to the metrics, and shows it to `beside`. `name` puts a backend's
    /// names into its labels; false as long as they may still come.
    pub fn count(
        &mut self,
        metrics: &Metrics,
        name: impl Fn(SocketAddr, &mut Labels) -> bool,
        beside: impl FnOnce(&[(Key, Value)]),
    ) -> Result<()> {
        let aggregates = self.probe.aggregates()?;
        self.answered
            .note(&aggregates, |cgroup| self.owners.contains_key(&cgroup));
        beside(&aggregates);
        let owners = &self.owners;
        let idle: Vec<Key> = metrics.with_counts(|counts| {
            counts.observe(aggregates, |key| labels(owners, key, &name));
            counts.idle(IDLE).collect()
        });
        for key in idle {
            self.probe
                .remove(&key)
                .context("failed to remove an idle aggregate")?;
            metrics.with_counts(|counts| counts.forget(&key));
        }
        for (what, total) in self.probe.losses()?.into_iter().enumerate() {
            if let Some(stage) = Stage::of_loss(what as u32) {
                metrics.lost_total(stage, total);
            }
        }
        let attached = self.probe.attached().count();
        for hook in HOOKS {
            metrics.hook(hook, attached > 0 || hook == "state");
        }
        metrics.pods(attached);
        Ok(())
    }
}

impl Entry {
    /// Takes the target as it is now.
    fn update(&mut self, target: Target, links: u64, roots: &Roots) {
        self.links = links;
        if target.pids != self.target.pids {
            let now = Baseline::take(&target, roots);
            self.older.1.follow(now.clone());
            self.newer.1.follow(now);
        }
        self.target = target;
        if self.newer.0.elapsed() >= COMPARED {
            let now = (Instant::now(), Baseline::take(&self.target, roots));
            self.older = std::mem::replace(&mut self.newer, now);
        }
    }

    fn look(&mut self, roots: &Roots) {
        let now = Instant::now();
        if self
            .readings
            .last()
            .is_none_or(|(at, ..)| now.duration_since(*at) >= FRESH)
        {
            self.readings
                .retain(|(at, ..)| now.duration_since(*at) < RECENT);
            let (since, older) = &self.older;
            let limits = limits::read(&self.target, roots, Some(older));
            self.readings.push((now, since.elapsed(), limits));
        }
    }

    /// The reading that was closest to a limit, and the time that its counters are of.
    fn worst(&self) -> Option<(Duration, Limits)> {
        let ratio = |limits: &Limits| {
            let of = |usage: Option<limits::ProcessUsage>| usage.map_or(0.0, |p| p.usage.ratio());
            of(limits.descriptors).max(of(limits.connections))
        };
        self.readings
            .iter()
            .filter(|(at, ..)| at.elapsed() < RECENT)
            .max_by(|(.., a), (.., b)| ratio(a).total_cmp(&ratio(b)))
            .map(|(_, span, limits)| (*span, limits.clone()))
    }
}

/// Labels of an aggregate; `None` while its cgroup has no known owner, or its backend no known name.
fn labels(
    owners: &HashMap<u64, Owner>,
    key: &Key,
    name: impl Fn(SocketAddr, &mut Labels) -> bool,
) -> Option<Labels> {
    let controller = match owners.get(&key.cgroup) {
        Some(owner) => owner.controller,
        // What a full map could not tell apart.
        None if key.cgroup == 0 => Controller::Unknown,
        None => return None,
    };
    let mut labels = Labels {
        controller,
        namespace: String::new(),
        service: String::new(),
        port: if key.cgroup == 0 { 0 } else { key.port },
    };
    let address = Ipv6Addr::from(key.address);
    let named = address.is_unspecified() || name(backend(key), &mut labels);
    named.then_some(labels)
}

/// The backend of an aggregate.
fn backend(key: &Key) -> SocketAddr {
    let address = IpAddr::V6(Ipv6Addr::from(key.address));
    SocketAddr::new(address.to_canonical(), key.port)
}
