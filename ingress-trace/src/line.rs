//! The straight line from samples to findings: decode -> settle -> join -> read -> hold -> identify ->
//! decide. Holds the state between the pure stages; the only I/O is what [`Watched`] and [`View`]
//! look up for a verdict.
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::agent::clock_offset;
use crate::beside::Beside;
use crate::cause::classify::{Context, Known, finding, reading, verdict, wall};
use crate::cause::evidence::Shortage;
use crate::cause::facts::{Inside, Past};
use crate::cause::reading::{Reading, asked_of_itself};
use crate::cause::taxonomy::{Controller, Outcome};
use crate::cause::timers::Timers;
use crate::cli::Capture;
use crate::cluster::index::Way;
use crate::cluster::object::Pod;
use crate::cluster::view::View;
use crate::event::{Event, Kind, Leg};
use crate::finding::{Finding, Ingress};
use crate::flow::{Flow, Joiner, Matcher, Waits};
use crate::hold::Hold;
use crate::identity::{Identity, Question};
use crate::ocsp;
use crate::own::{Attempt, Own};
use crate::profiles::{self, Chain, Serves};
use crate::settle::Settle;
use crate::sinks::metrics::{Metrics, Stage};
use crate::watched::Watched;

/// Events of different CPUs are out of order by less than this, in nanoseconds.
const ORDER: u64 = 50_000_000;
/// How long an application may take to let go of a failed connection.
const RELEASE: u64 = 1_000_000_000;
/// How long a backend's own error waits to be relayed: what is late is not joined any more.
const RELAY: u64 = 3_000_000_000;
/// How long a failure waits for the end of its retry.
const RETRY: u64 = 15_000_000_000;
/// How long before a client's request an exchange that it waits for may have been seen to begin: it is
/// not known when it asked, or what it asked for was sent again.
const BEFORE: u64 = 1_500_000_000;
/// How far the clocks of arriving and leaving packets may differ.
const CLOCKS: u64 = 100_000;

/// How many of those that wait for the cluster are asked at once whether they need no more.
const ASKED: usize = 64;

/// State of the line.
pub struct Line {
    settle: Settle,
    joiner: Joiner,
    matcher: Matcher,
    timers: Timers,
    hold: Hold<Settled>,
    own: Own,
    /// How often details of pods had come when those that wait were asked last.
    details: u64,
    /// How long a failure waits for the cluster's word, in nanoseconds.
    patience: u64,
    node: String,
    beside: Beside,
    metrics: Arc<Metrics>,
}

/// A failure of which the kernel has told all.
struct Settled {
    flow: Flow,
    reading: Reading,
    shortage: Shortage,
    context: Context,
    /// Which routes the controller serves.
    serves: Option<Arc<Serves>>,
}

impl Settled {
    /// Who it was; `stale`: how old the cluster's state is.
    fn question(&self, stale: Option<Duration>) -> Question<'_> {
        Question {
            event: &self.flow.failure,
            request: self.flow.request(),
            serves: self.serves.as_deref(),
            at: wall(self.flow.failure.time, self.context.clock),
            stale,
        }
    }
}

/// What is known around a failure at one moment.
struct Around {
    who: Option<Identity>,
    inside: Option<Inside>,
    past: Option<Past>,
    ingress: Option<Arc<Pod>>,
}

impl Around {
    fn known<'a>(&'a self, shortage: &'a Shortage) -> Known<'a> {
        Known {
            shortage,
            who: self.who.as_ref(),
            inside: self.inside.as_ref(),
            past: self.past.as_ref(),
            ingress: self.ingress.as_deref(),
        }
    }
}

impl Line {
    /// An empty line.
    pub fn new(capture: &Capture, node: String, beside: Beside, metrics: Arc<Metrics>) -> Self {
        let settle = u64::try_from(capture.settle.as_nanos()).unwrap_or(u64::MAX);
        let waits = Waits {
            settle,
            release: settle.max(RELEASE),
            relay: settle.max(RELAY),
            retry: RETRY,
        };
        Self {
            settle: Settle::new(settle.min(ORDER)),
            joiner: Joiner::new(waits),
            matcher: Matcher::new(waits),
            timers: Timers::default(),
            hold: Hold::default(),
            own: Own::default(),
            details: 0,
            patience: u64::try_from(capture.kube_settle.as_nanos()).unwrap_or(u64::MAX),
            node,
            beside,
            metrics,
        }
    }

    /// Takes one sample; `look` has the limits of a cgroup's controller read at once.
    pub fn sample(&mut self, bytes: &[u8], look: &mut dyn FnMut(u64), view: Option<&View>) {
        match Event::decode(bytes) {
            Ok(mut event) => {
                if let Some(view) = view.filter(|_| event.leg == Leg::Upstream) {
                    event.leads = view.leads(event.local, event.remote);
                    let wordless = event.request.is_none() && event.is_attempt_failed();
                    event.unrouted = wordless && view.is_unrouted(event.remote);
                    self.beside.hear(&event, view);
                }
                tracing::trace!(?event, "event");
                let unexplained = event.leg == Leg::Downstream
                    && event.kind == Kind::Response
                    && event.prev.is_none();
                if unexplained {
                    look(event.cgroup);
                }
                self.settle.push(event);
            }
            Err(error) => {
                self.metrics.lost(Stage::Decode, 1);
                tracing::warn!(%error, "failed to decode a sample");
            }
        }
    }

    /// The findings that stand at `now`; all that are open when it is `u64::MAX`.
    pub fn findings(
        &mut self,
        now: u64,
        watched: &mut Watched,
        view: Option<&View>,
    ) -> Vec<Finding> {
        self.beside.turn();
        while let Some(event) = self.settle.pop(now) {
            if !watched.meet(event.cgroup) || asks_authority(&event) {
                continue;
            }
            match chain(watched, event.cgroup) {
                Chain::Adjacent => self.joiner.push(event),
                // Told by words and time, a probe's answer would be that of a failure near it.
                _ if asked_of_itself(&event, controller(watched, event.cgroup)) => {}
                chain => self.matcher.push(event, chain),
            }
        }
        // Nothing younger than what still rests has been joined.
        let horizon = self.settle.horizon(now);
        let mut flows = self.joiner.settled(horizon);
        flows.extend(self.matcher.settled(horizon));
        let settled = flows
            .into_iter()
            .filter_map(|flow| self.settled(flow, watched, view));
        let settled: Vec<Settled> = settled.collect();
        let mut findings = Vec::new();
        for settled in settled {
            match view {
                Some(view)
                    if now != u64::MAX
                        && !(may_stand(&settled) && self.stands(&settled, view))
                        && awaits(&settled, view) =>
                {
                    self.hold.push(now.saturating_add(self.patience), settled);
                }
                _ => findings.extend(self.finding(&settled, watched, view)),
            }
        }
        findings.extend(view.into_iter().flat_map(|view| self.early(watched, view)));
        while let Some(settled) = self.hold.pop(now) {
            findings.extend(self.finding(&settled, watched, view));
        }
        findings
    }

    fn settled(
        &mut self,
        flow: Flow,
        watched: &mut Watched,
        view: Option<&View>,
    ) -> Option<Settled> {
        let cgroup = flow.failure.cgroup;
        let controller = controller(watched, cgroup);
        let reading = reading(&flow, controller, &mut self.timers);
        tracing::trace!(?flow, ?reading, "flow");
        let reading = reading?;
        // A controller that ends drops what it has open, as it is told to.
        let own = flow.failure.kind == Kind::GaveUp && flow.failure.pid != 0;
        if own && !watched.alive(flow.failure.pid) {
            return None;
        }
        let shortage = shortage(&flow, reading, watched);
        if reading.outcome == Outcome::NoUpstream && !stands(&flow, &shortage, watched) {
            return None;
        }
        self.beside.failed(&flow.failure, reading.outcome, view);
        let owner = watched.owner(cgroup);
        let pod = owner.and_then(|own| own.pod.as_ref());
        let serves = owner.and_then(|own| own.serves.clone());
        let ingress = Ingress {
            namespace: pod.map(|pod| pod.namespace.to_string()),
            pod: pod.map(|pod| pod.name.to_string()),
            node: Some(self.node.clone()),
            ..Ingress::default()
        };
        let context = Context {
            controller,
            ingress,
            clock: clock_offset(),
        };
        Some(Settled {
            flow,
            reading,
            shortage,
            context,
            serves,
        })
    }

    /// What it was; none where it is the controller's own, by what the cluster says.
    fn finding(
        &mut self,
        settled: &Settled,
        watched: &Watched,
        view: Option<&View>,
    ) -> Option<Finding> {
        let around = self.around(settled, view);
        let Settled { flow, context, .. } = settled;
        if let Some((view, who)) = view.zip(around.who.as_ref())
            && settled.reading.outcome.is_failure()
            && self.owns(settled, who, watched, view)
        {
            self.metrics.own(context.controller);
            tracing::debug!(event = ?flow.failure, "the controller's own");
            return None;
        }
        let known = around.known(&settled.shortage);
        Some(finding(
            flow,
            settled.reading,
            &known,
            &self.timers,
            context,
        ))
    }

    /// Whether it is known who it was, and why: nothing is left to wait for.
    fn stands(&self, settled: &Settled, view: &View) -> bool {
        let around = self.around(settled, Some(view));
        let known = around.known(&settled.shortage);
        let Settled { flow, context, .. } = settled;
        let named = around.who.as_ref().filter(|who| who.is_named());
        // Which backends have answered is known a second later.
        let routed = named.is_some_and(|who| {
            let way = who.owned.as_ref();
            let way = way.map(|owned| view.way(owned, flow.failure.remote));
            way != Some(Way::Unrouted) || flow.proven(profiles::of(context.controller).chains)
        });
        routed && verdict(flow, settled.reading, &known, &self.timers, context).stands()
    }

    fn around(&self, settled: &Settled, view: Option<&View>) -> Around {
        let Settled { flow, context, .. } = settled;
        let event = &flow.failure;
        let who = view.map(|view| view.identify(&settled.question(view.stale())));
        let with = view.zip(who.as_ref());
        Around {
            inside: with.and_then(|(view, who)| self.beside.inside(event, who, view)),
            past: self.beside.past(event, settled.reading.outcome),
            ingress: view.and_then(|view| view.ingress(&context.ingress)),
            who,
        }
    }

    /// Those that wait and need no more: only the first ones are asked, and only when a pod's details
    /// have come.
    fn early(&mut self, watched: &Watched, view: &View) -> Vec<Finding> {
        if self.details == view.details() {
            return Vec::new();
        }
        self.details = view.details();
        let mut hold = std::mem::take(&mut self.hold);
        let ready = hold.release(ASKED, |settled| self.stands(settled, view));
        self.hold = hold;
        let ready = ready.iter();
        ready
            .filter_map(|settled| self.finding(settled, watched, Some(view)))
            .collect()
    }

    /// What is known beside failures, to be told what the kernel counts.
    pub fn beside(&mut self) -> &mut Beside {
        &mut self.beside
    }

    /// Whether what failed was the controller's own: nothing shows that a client waited for it, and no
    /// route leads there.
    fn owns(&mut self, settled: &Settled, who: &Identity, watched: &Watched, view: &View) -> bool {
        let event = &settled.flow.failure;
        let (None, Some(owned)) = (who.stale, &who.owned) else {
            return false;
        };
        let proven = settled.flow.proven(chain(watched, event.cgroup));
        let attempt = Attempt {
            cgroup: event.cgroup,
            way: view.way(owned, event.remote),
            proven: proven && !view.asks_another(&settled.question(None), who),
            answered: watched.answered().has(event.cgroup, event.remote),
            time: event.time,
        };
        self.own
            .has(&attempt, || view.ways(watched.answered().of(event.cgroup)))
    }

    /// Takes the backends that have answered of late, with their controllers' cgroups.
    pub fn answers(&mut self, backends: Vec<(u64, SocketAddr)>) {
        for (cgroup, backend) in backends {
            self.matcher.answers(cgroup, backend);
        }
    }

    /// Brings what was lost on the way to the metrics.
    pub fn count(&self) {
        self.metrics
            .lost_total(Stage::Neighbor, self.beside.skipped());
        self.metrics.lost_total(
            Stage::Settle,
            self.settle.early + self.joiner.evicted + self.matcher.evicted + self.hold.early,
        );
    }
}

/// Whether the cluster may still tell something of a failure: asks for the details of its pod.
fn awaits(settled: &Settled, view: &View) -> bool {
    if !settled.reading.outcome.is_failure() {
        return false;
    }
    view.looks_at(&settled.question(None))
}

/// Whether the packets, or what is known of Services, may tell all: of the others a pod's details do.
fn may_stand(settled: &Settled) -> bool {
    match settled.reading.outcome {
        Outcome::ConnectLocal
        | Outcome::ConnectUnreachable
        | Outcome::BadResponse
        | Outcome::ErrorStatus
        | Outcome::NoUpstream => true,
        Outcome::ConnectRefused
        | Outcome::ConnectTimeout
        | Outcome::Reset
        | Outcome::ClosedEarly
        | Outcome::ResponseTimeout
        | Outcome::ResponseStalled
        | Outcome::Slow
        | Outcome::ClientAbort => false,
    }
}

/// Whether this is the controller's own question about a certificate.
fn asks_authority(event: &Event) -> bool {
    let path = event.request.as_ref().map(|request| &request.path);
    event.leg == Leg::Upstream && path.is_some_and(|path| ocsp::asks(path))
}

fn chain(watched: &Watched, cgroup: u64) -> Chain {
    profiles::of(controller(watched, cgroup)).chains
}

fn controller(watched: &Watched, cgroup: u64) -> Controller {
    watched
        .owner(cgroup)
        .map_or(Controller::Unknown, |own| own.controller)
}

fn shortage(flow: &Flow, reading: Reading, watched: &mut Watched) -> Shortage {
    let event = &flow.failure;
    match reading.outcome {
        Outcome::NoUpstream
        | Outcome::ConnectTimeout
        | Outcome::ResponseTimeout
        | Outcome::ResponseStalled => watched.shortage(event.cgroup),
        Outcome::ConnectLocal => Shortage {
            ports: watched.ports(event.cgroup, event.remote.ip(), event.remote.port()),
            ..Shortage::default()
        },
        _ => Shortage::default(),
    }
}

/// Whether an error without an upstream attempt is one: a 500 is the application's own unless the
/// controller is at a limit, behind TLS or HTTP/2 the status may be the backend's, and what was lost
/// may have been the attempt.
fn stands(flow: &Flow, shortage: &Shortage, watched: &Watched) -> bool {
    let event = &flow.failure;
    if event.status == Some(500) && !crate::cause::decide::exhausted(shortage) {
        return false;
    }
    let began = event.began().unwrap_or(event.time);
    !watched.lost_between(began, event.time) && !may_be_relayed(event)
}

/// Whether something was sent to a backend that cannot be read between a client's request and the
/// error that it got. What a timer ends may have been sent, and seen, before.
fn may_be_relayed(event: &Event) -> bool {
    let before = match event.began() {
        Some(_) if event.status != Some(504) => CLOCKS,
        _ => BEFORE,
    };
    let since = event.began().unwrap_or(event.time).saturating_sub(before);
    event.unreadable_time.is_some_and(|sent| sent >= since)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::example::{MS, down};

    #[test]
    fn an_error_is_no_backends_where_nothing_was_sent_to_one_since_its_client_had_asked() {
        let asked = 5_000 * MS;
        let answered = |status, request_time, sent| {
            may_be_relayed(&Event {
                status: Some(status),
                request_time,
                connect_time: None,
                unreadable_time: Some(sent),
                ..down(1, Kind::Response, asked + 2 * MS)
            })
        };
        for (status, sent, relayed) in [
            (503, asked - MS, false),
            (503, asked, true),
            (503, asked + MS, true),
            (504, asked - MS, true),
            (504, asked - 2_000 * MS, false),
        ] {
            assert_eq!(
                answered(status, Some(asked), sent),
                relayed,
                "{status} {sent}"
            );
        }
        // Nobody knows when it had asked.
        assert!(answered(503, None, asked - 1_000 * MS));
    }
}
