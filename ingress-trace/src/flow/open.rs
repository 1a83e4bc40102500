//! In: a failure. Out: what is learnt of it until its ending is known.
use ingress_trace_common::sample::flag;

use super::fit::Attempt;
use super::times::UNCLEAR;
use super::{Ending, checks};
use crate::cause::reading::SWITCHING;
use crate::cause::taxonomy::{Phase, Protocol};
use crate::event::{Event, ExchangeId, Kind};
use crate::finding::Request;
use crate::profiles::Chain;

/// A failed attempt.
#[derive(Debug)]
pub(super) struct Open {
    pub failure: Event,
    /// What it has in common with other attempts of the same: see [`checks::kind`].
    pub kind: u64,
    /// See [`Attempt::chain`].
    pub chain: Chain,
    /// When the application let go of it.
    pub released: Option<u64>,
    /// The thread that did.
    pub thread: Option<u32>,
    /// What its thread tried next.
    pub retry: Option<ExchangeId>,
    /// When, if at once.
    pub tried: Option<u64>,
    /// When that got a response.
    pub retried: Option<u64>,
    /// When a client that cannot be read got something right behind it.
    pub answered: Option<u64>,
    pub ending: Option<Ending>,
    /// The nearest success that may hide it.
    pub hidden: Option<Hidden>,
    /// Whether any client was there at all.
    pub possible: bool,
    /// Whether any client may have waited for it.
    pub awaited: bool,
    /// Whether it came on the beat of a check.
    pub on_beat: bool,
    /// Whether it was noted that nobody seems to have, once all around it was compared.
    pub noted: bool,
    /// Whether one of those clients cannot be read.
    pub unclear: bool,
    /// Whether such an attempt failed for one of those clients.
    pub again: bool,
}

/// A success that may hide a failure.
#[derive(Debug)]
pub(super) struct Hidden {
    pub distance: u64,
    pub status: Option<u16>,
    /// What was asked; none where another success is as near.
    pub request: Option<Request>,
}

impl Open {
    /// A failure that has just happened.
    pub fn new(failure: Event, chain: Chain) -> Self {
        let gone = failure.flags.any(flag::RELEASED);
        Self {
            kind: checks::kind(&failure),
            chain,
            released: gone.then_some(failure.time),
            thread: failure.tid,
            retry: None,
            tried: None,
            retried: None,
            answered: None,
            ending: None,
            hidden: None,
            possible: false,
            awaited: false,
            on_beat: false,
            noted: false,
            unclear: false,
            again: false,
            failure,
        }
    }

    /// When the attempt began, whichever connection it used.
    pub fn began(&self) -> u64 {
        let event = &self.failure;
        let connect = event.connect_time.filter(|_| !event.reused());
        connect.or(event.request_time).unwrap_or(event.time)
    }

    /// Takes a client that may have waited for it; tells whether it probably did.
    pub fn meets(&mut self, client: &Event) -> bool {
        let attempt = self.attempt();
        if !attempt.possible(client) {
            return false;
        }
        let (likely, behind) = (attempt.likely(client), attempt.answered_behind(client));
        self.possible = true;
        self.awaited |= likely;
        self.unclear |= client.protocol != Some(Protocol::Http1);
        if behind {
            let first = self.answered.unwrap_or(u64::MAX).min(client.time);
            self.answered = Some(first);
        }
        likely
    }

    /// Takes a success that may hide it, where it is the nearest.
    pub fn hide(&mut self, distance: u64, client: &Event) {
        let best = self.hidden.as_ref().map_or(u64::MAX, |one| one.distance);
        let clear = distance.abs_diff(best) > UNCLEAR;
        // Where requests move between threads, time alone does not tell whose it was.
        let strays = self.chain == Chain::Process && self.failure.request.is_none();
        if distance < best {
            self.hidden = Some(Hidden {
                distance,
                status: client.status,
                request: client.request.clone().filter(|_| clear && !strays),
            });
        } else if let Some(hidden) = &mut self.hidden
            && !clear
        {
            hidden.request = None;
        }
    }

    /// What a success says that may hide it: without words on both sides nothing, where a client that
    /// cannot be read got something right behind it, too.
    pub fn hidden_by(&self, hidden: &Hidden) -> Ending {
        let nameless = hidden.status.is_none();
        let wordless = self.failure.request.is_none() || nameless;
        // Who cancels a request looks the same while another one's is answered.
        let cancelled = nameless && self.failure.kind == Kind::GaveUp;
        let unclear = wordless && self.answered.is_some() || cancelled;
        if unclear && self.tried.is_none() {
            return Ending::Unknown;
        }
        Ending::Retried(hidden.status)
    }

    /// Whether it may have been a check although a success seems to hide it: of a connect there are no
    /// words, and where requests move between threads, what a thread does next is chance as well.
    pub fn doubtful(&self) -> bool {
        let connect = self.failure.phase == Phase::Connect || self.failure.unsent();
        self.chain == Chain::Process && connect
    }

    /// Whether it can tell what the controller asks for itself: not an upgrade that its client did not
    /// use.
    pub fn teaches(&self) -> bool {
        self.failure.status != Some(SWITCHING)
    }

    /// As clients are compared with it.
    pub fn attempt(&self) -> Attempt<'_> {
        Attempt {
            event: &self.failure,
            released: self.released,
            thread: self.thread,
            chain: self.chain,
            retry: self.tried,
            retried: self.retried,
        }
    }
}

/// An attempt that began on the thread which had just released a failed one, and what it got.
#[derive(Debug)]
pub(super) struct Retry {
    pub began: u64,
    pub answer: Option<Event>,
}
