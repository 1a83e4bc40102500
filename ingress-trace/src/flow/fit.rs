//! In: a failed attempt and what a client got. Out: how well they fit together: the client's request
//! came before the attempt, its answer behind the failure, on the same thread, with the same words.
//! Pure.
use ingress_trace_common::sample::flag;

use super::Ending;
use super::greeting;
use super::times::{
    ADJACENT, AT_ONCE, BEHIND, GREETED, LATER, LEAD, LONG, LONG_LEAD, NEXT_STEP, PATIENT, TOGETHER,
    TOLD,
};
use crate::cause::reading::errno;
use crate::cause::taxonomy::{Phase, Protocol};
use crate::event::{Event, Kind};
use crate::finding::Request;
use crate::profiles::Chain;

// What speaks against a pair, in nanoseconds of distance.
const OTHER_WORDS: u64 = 20_000_000;
const NO_WORDS: u64 = 5_000_000;
const RETRIED: u64 = 10_000_000;
const OTHER_KIND: u64 = 3_000_000;
const OTHER_THREAD: u64 = 1_000_000;
const NO_THREAD: u64 = 500_000;

/// What a client's event says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Said {
    /// A status of 500 and above.
    Error,
    /// Another status.
    Success,
    /// Bytes that cannot be read.
    Bytes,
    /// The controller ended the connection within an exchange.
    Cut,
    /// The client did.
    Aborted,
    /// Nothing about an exchange.
    Nothing,
}

/// What a client's event says.
pub fn said(event: &Event) -> Said {
    match event.kind {
        Kind::Response | Kind::Refused if event.status.is_some() => {
            match event.status {
                Some(500..) => Said::Error,
                // Traefik and Caddy write it to a connection that the client has closed.
                Some(499) => Said::Aborted,
                _ => Said::Success,
            }
        }
        // A handshake's, while nothing was asked, are no answer.
        Kind::DownWrite if event.phase == Phase::Idle => Said::Nothing,
        // What is written to a client that has closed is read by nobody.
        Kind::DownWrite | Kind::Response if left(event) => Said::Aborted,
        Kind::DownWrite if event.protocol != Some(Protocol::Http1) => Said::Bytes,
        Kind::Response => Said::Bytes,
        Kind::DownEnd => ended(event),
        _ => Said::Nothing,
    }
}

/// Whether the client had closed first, on a leg that cannot be read.
fn left(event: &Event) -> bool {
    event.protocol != Some(Protocol::Http1) && event.flags.any(flag::FIN_IN | flag::RST_IN)
}

fn ended(event: &Event) -> Said {
    let answered = event.status.is_some_and(|status| status >= 400);
    if event.flags.any(flag::COMPLETE) || answered || event.phase == Phase::Idle {
        Said::Nothing
    } else if event.flags.any(flag::FIN_IN | flag::RST_IN) {
        // Whether it had got its answer cannot be read: only the thread tells what it is about.
        let unread = event.protocol != Some(Protocol::Http1) && event.phase == Phase::Response;
        if unread && event.prev.is_none() {
            return Said::Nothing;
        }
        Said::Aborted
    } else {
        Said::Cut
    }
}

/// The ending that a client's event is.
pub fn ending(client: Event) -> Ending {
    match said(&client) {
        // Whether the client left or the controller told it to cannot be read: the age must tell.
        Said::Aborted if client.kind == Kind::DownEnd && left(&client) => Ending::Unknown,
        Said::Aborted => Ending::Aborted,
        Said::Cut => Ending::Cut(Box::new(client)),
        _ => Ending::Answered(Box::new(client)),
    }
}

/// A failed attempt, as far as clients are compared with it.
#[derive(Clone, Copy, Debug)]
pub struct Attempt<'a> {
    /// The failure.
    pub event: &'a Event,
    /// When the application let go of it.
    pub released: Option<u64>,
    /// Its thread.
    pub thread: Option<u32>,
    /// What stays together.
    pub chain: Chain,
    /// When its thread made the next attempt, where nothing came between.
    pub retry: Option<u64>,
    /// When that got a response.
    pub retried: Option<u64>,
}

impl Attempt<'_> {
    /// Whether a request stays on its thread.
    fn bound(&self) -> bool {
        self.chain != Chain::Process
    }

    /// From the client's request to this attempt; `None` when the request came later.
    pub fn lead(&self, client: &Event) -> Option<u64> {
        let Some(asked) = client.began() else {
            return Some(LONG_LEAD); // adopted: nobody knows
        };
        let event = self.event;
        // One connection fails all who wait for it, whoever had it opened (Envoy).
        if self.chain == Chain::Pool && event.before_request() && asked > event.began()? {
            return (asked <= event.time).then_some(LONG_LEAD);
        }
        let latest = event.began()?.checked_sub(asked)?;
        // A connection may be opened for one request and used by the next.
        let connect = event.connect_time.filter(|_| !event.reused());
        let earliest = connect.and_then(|time| time.checked_sub(asked));
        Some(earliest.map_or(latest, |lead| lead.min(latest)))
    }

    /// Whether this client may have waited for this attempt.
    pub fn possible(&self, client: &Event) -> bool {
        let other = self.bound() && self.same_thread(client) == Some(false);
        let after = client.time.saturating_add(BEHIND) >= self.event.time;
        let same = client.cgroup == self.event.cgroup;
        !other && after && same && !self.answered(client) && self.lead(client).is_some()
    }

    /// Whether this client's response had begun before the attempt did.
    fn answered(&self, client: &Event) -> bool {
        let begun = client.response_time.filter(|_| client.status.is_some());
        begun.is_some_and(|time| self.event.began().is_some_and(|began| time < began))
    }

    /// Whether it probably did: it asked for the same, or, where its answer says nothing of what it
    /// asked for, just before: a controller connects as soon as it is asked. Requests that arrive
    /// slowly, or are authorized first, are known by their answer at once.
    pub fn likely(&self, client: &Event) -> bool {
        let soon = self.lead(client).is_some_and(|lead| lead < LONG_LEAD);
        let told = match self.same_words(client) {
            Some(same) => same,
            None if self.bound() || client.request.is_none() => {
                soon || self.answered_behind(client) || self.explains(client)
            }
            None => self.explains(client),
        };
        self.possible(client) && told
    }

    /// Whether a client that cannot be read got its answer right behind the failure.
    pub fn answered_behind(&self, client: &Event) -> bool {
        let unread = client.protocol != Some(Protocol::Http1);
        let told = matches!(said(client), Said::Bytes | Said::Cut);
        unread && told && client.time >= self.event.time && self.lag(client) <= AT_ONCE
    }

    fn same_thread(&self, client: &Event) -> Option<bool> {
        Some(self.thread? == client.tid?)
    }

    /// Whether another attempt had succeeded by then: bytes to a client are of that one.
    fn retried_before(&self, time: u64) -> bool {
        self.retried.is_some_and(|answered| answered <= time)
    }

    /// Whether the next attempt had begun by then.
    fn retry_before(&self, time: u64) -> bool {
        self.retry.is_some_and(|began| began <= time)
    }

    /// Whether a client, or another attempt, has the same words.
    pub fn same_words(&self, client: &Event) -> Option<bool> {
        same_words(self.event.request.as_ref(), client.request.as_ref())
    }

    /// Whether this client's error may be this attempt's, whatever words both have.
    pub fn explains(&self, client: &Event) -> bool {
        let said = said(client);
        self.possible(client) && self.may_say(said, client) && self.lag(client) <= AT_ONCE
    }

    /// Whether one path may be the other one with its beginning taken away.
    fn rewritten(&self, client: &Event) -> bool {
        let (Some(up), Some(down)) = (&self.event.request, &client.request) else {
            return false;
        };
        let (short, long) = (up.path.trim_end_matches('/'), &down.path);
        up.method == down.method && (long.ends_with(short) || up.path.ends_with(long.as_str()))
    }

    /// From the failure to the client's answer, in either direction.
    fn lag(&self, client: &Event) -> u64 {
        let failed = client.time.abs_diff(self.event.time);
        self.released
            .map_or(failed, |time| failed.min(client.time.abs_diff(time)))
    }

    /// How far a client's error is from being this attempt's; `None` when it cannot be. Without words
    /// it is rather another one's where such attempts are the controller's own (`own`), or no route leads
    /// there: Envoy sends its traces between a failure and the answer to it.
    pub fn distance(&self, client: &Event, own: bool) -> Option<u64> {
        if !self.possible(client) || !self.may_say(said(client), client) {
            return None;
        }
        let (lag, lead) = (self.lag(client), self.lead(client)?);
        let linked = self.linked(client);
        // Envoy closes a client's connection a second after it has nothing more to send.
        let cut = said(client) == Said::Cut && self.same_words(client) == Some(true);
        let lag = if linked || cut {
            (lag / 4).min(AT_ONCE)
        } else {
            lag
        };
        let words = match self.same_words(client) {
            Some(true) => 0,
            Some(false) if self.rewritten(client) => OTHER_WORDS,
            Some(false) => return None,
            None if self.event.unrouted || own => OTHER_WORDS,
            None => NO_WORDS,
        };
        let thread = match self.same_thread(client) {
            Some(true) => 0,
            Some(false) => OTHER_THREAD,
            None => NO_THREAD,
        };
        let retried = if self.retry_before(client.time) {
            RETRIED
        } else {
            0
        };
        let late = client.status == Some(504) && !self.timed_out();
        let kind = if late { OTHER_KIND } else { 0 };
        let lead = lead.min(LONG_LEAD) / 2;
        let lead = if linked { lead / 8 } else { lead };
        Some(lag + lead + words + thread + kind + retried)
    }

    /// Whether a client is told this, in this way, of such a failure.
    fn may_say(&self, said: Said, client: &Event) -> bool {
        let event = self.event;
        match said {
            Said::Success | Said::Nothing => false,
            Said::Error if event.kind == Kind::Response => {
                let relayed = event.status == client.status || event.flags.any(flag::NOT_HTTP);
                relayed && client.time >= event.time
            }
            // The thread went on with another attempt at once: this one's, or another request's. Envoy's
            // own tries wait first (`retry_back_off`, 25 ms at random): there it is another one's.
            Said::Error if self.bound() && event.request.is_none() => {
                let pool = self.chain == Chain::Pool;
                let most = if pool { AT_ONCE } else { NEXT_STEP };
                self.at_once(client) && (self.retry.is_none() || self.lag(client) <= most)
            }
            Said::Error => true,
            Said::Bytes => self.may_write(client),
            // How a connection ends that cannot be read tells only where a response was cut.
            Said::Cut => {
                let readable = client.protocol == Some(Protocol::Http1);
                readable || client.phase == Phase::Request || event.head_complete()
            }
            Said::Aborted => {
                let by_timer = event.kind == Kind::ConnectFailed && event.errno.is_none();
                let unread = client.kind == Kind::DownEnd && left(client);
                let linked = client.prev == Some(event.exchange);
                (event.kind == Kind::GaveUp || by_timer) && (linked || !unread)
            }
        }
    }

    /// Whether a connect that failed was tried as soon as the client had asked, or the client was told
    /// as soon as it had failed: else it may have waited for something else (in HAProxy's queues).
    fn at_once(&self, client: &Event) -> bool {
        let soon = self.lead(client).is_some_and(|lead| lead < LONG_LEAD);
        soon || self.chain != Chain::Thread || self.lag(client) <= AT_ONCE
    }

    /// Whether this client's error is this attempt's although such attempts are the controller's own
    /// as a rule: it asked for the same, or, but for those that come when a check does (`on_beat`),
    /// what it asked for was tried at once, and it was told at once.
    pub fn certain(&self, client: &Event, on_beat: bool) -> bool {
        let readable = client.protocol == Some(Protocol::Http1);
        let soon = self.lead(client).is_some_and(|lead| lead <= LEAD);
        let same = self.same_words(client) == Some(true);
        readable && (same || !on_beat && soon && self.lag(client) <= TOLD)
    }

    /// Whether bytes that cannot be read may be the answer for such a failure.
    fn may_write(&self, client: &Event) -> bool {
        let event = self.event;
        let behind = client.time >= event.time;
        // A success, or another one's answer.
        let other = self.retried_before(client.time) || self.lag(client) > AT_ONCE;
        // Where a request may go on elsewhere, only the thread's very next step is its answer, or
        // what a client got that had waited for just as long.
        let elsewhere = self.strays() && !self.next_step(client) && !self.spanned(client);
        // What comes before a failure is its answer only where the controller gives up.
        let early = !behind && !self.timed_out();
        let own = event.kind == Kind::Response;
        !other && !elsewhere && !early && if own { behind } else { !event.head_complete() }
    }

    /// Whether this client had its greeting when the attempt failed. Go writes one before it serves the
    /// request, others behind whatever the first request has led to.
    pub fn greeted(&self, client: &Event) -> bool {
        let before = client.response_time;
        let write = client.kind == Kind::DownWrite;
        !self.bound() && write && before.is_some_and(|time| time < self.event.time)
    }

    /// Whether the thread wrote this right after it had let go of the attempt.
    fn next_step(&self, client: &Event) -> bool {
        self.linked(client) && self.lag(client) <= NEXT_STEP
    }

    /// Whether what a thread does links them: of several that it lets go of in one go (a backend has died)
    /// it keeps the last one only, whoever is answered next; who asked right before this one began.
    fn linked(&self, client: &Event) -> bool {
        let among = || {
            let before = self.released.is_some_and(|time| time <= client.time);
            let soon = self.lead(client).is_some_and(|lead| lead <= LEAD);
            let next = client.prev.is_some() && self.lag(client) <= NEXT_STEP;
            before && soon && next && self.same_thread(client) == Some(true)
        };
        client.prev == Some(self.event.exchange) || !self.bound() && among()
    }

    /// Whether a client that cannot be read asked right before the attempt began, got nothing but a
    /// greeting until the controller gave it up, and something right behind that: over so long a time
    /// both hardly fit by chance.
    fn spanned(&self, client: &Event) -> bool {
        let event = self.event;
        let linked = client.prev == Some(event.exchange);
        let most = if linked { LONG_LEAD } else { LEAD };
        let soon = self.lead(client).is_some_and(|lead| lead <= most);
        let began = event.began().unwrap_or(event.time);
        let long = event.time.saturating_sub(began) >= PATIENT;
        let first = client.response_time.is_some_and(|time| time >= event.time);
        let latest = began.saturating_add(GREETED);
        let silent = first || greeting::until(client).is_some_and(|time| time <= latest);
        self.timed_out() && long && soon && silent
    }

    /// Whether the request may go on in another thread.
    fn strays(&self) -> bool {
        let own = self.event.kind == Kind::Response && !self.event.flags.any(flag::NOT_HTTP);
        !self.bound() && !own
    }

    fn timed_out(&self) -> bool {
        let event = self.event;
        let unanswered = matches!(event.errno, None | Some(errno::ETIMEDOUT));
        matches!(event.kind, Kind::GaveUp | Kind::Broken)
            || (event.kind == Kind::ConnectFailed && unanswered)
    }

    /// Whether this client may have been told of this failed connect although its own attempt was
    /// another one: Envoy answers all who wait for a connection to the same backend.
    pub fn shares(&self, client: &Event) -> bool {
        let other = self.same_thread(client) == Some(false);
        let connect = self.event.before_request();
        let waited = client.began().is_some_and(|asked| asked < self.event.time);
        let released = self.released.unwrap_or(self.event.time);
        let at_once = client
            .time
            .checked_sub(released)
            .is_some_and(|lag| lag <= TOGETHER);
        self.chain == Chain::Pool && connect && !other && waited && at_once
    }

    /// How long before this attempt a client had asked that was told of another one's failure.
    pub fn told_before(&self, client: &Event) -> Option<u64> {
        let event = self.event;
        let connecting = event.phase == Phase::Connect && client.time <= event.time;
        let during = event.connect_time.is_some_and(|time| time <= client.time);
        let other = self.same_thread(client) == Some(false) || client.cgroup != event.cgroup;
        let lead = self.lead(client).filter(|lead| *lead <= LEAD);
        lead.filter(|_| self.chain == Chain::Pool && connecting && during && !other)
    }

    /// Whether a client's success is the beginning of the response that was cut.
    pub fn begins(&self, client: &Event) -> bool {
        let event = self.event;
        event.head_complete()
            && event.kind != Kind::Response
            && said(client) == Said::Success
            && event.status == client.status
            && self.possible(client)
            && self.same_words(client) == Some(true)
    }

    /// How far a client's success is from hiding this failure; `None` when it does not. Without the
    /// request's words it must have waited just then, and the backend not be one that is checked
    /// (`checked`) while nobody waits.
    pub fn hidden_by(&self, client: &Event, checked: bool) -> Option<u64> {
        let event = self.event;
        let later = match said(client) {
            Said::Success => client.time >= event.time,
            Said::Bytes => {
                let relayed = event.kind != Kind::Response && event.head_complete();
                let late = self.lag(client) > LATER || self.retried_before(client.time);
                client.time >= event.time && !relayed && late
            }
            _ => false,
        };
        if !later || !self.possible(client) || self.begins(client) {
            return None;
        }
        let lead = self.lead(client)?;
        match self.same_words(client) {
            Some(true) => Some(lead),
            Some(false) => None,
            None if self.relays_retry(client) => Some(NO_WORDS),
            None => (lead <= LONG && !checked).then_some(lead + NO_WORDS),
        }
    }

    /// Whether this is written right behind the response to the thread's next attempt.
    fn relays_retry(&self, client: &Event) -> bool {
        let behind = self.retried.and_then(|time| client.time.checked_sub(time));
        behind.is_some_and(|behind| behind <= AT_ONCE)
    }

    /// Whether an attempt that its thread began at `time`, with these words, tries the same again:
    /// others may be served in between.
    pub fn tried_again(&self, time: u64, request: Option<&Request>) -> bool {
        let since = self.released.unwrap_or(self.event.time);
        match same_words(self.event.request.as_ref(), request) {
            Some(same) => same && time >= self.event.time,
            None => time.abs_diff(since) <= ADJACENT,
        }
    }

    /// Whether this attempt came before `last` and for the same request, which `client` had sent.
    pub fn precedes(&self, last: &Attempt, client: &Event, checked: bool) -> bool {
        let (event, later) = (self.event, last.event);
        if !self.possible(client) || later.began().is_none_or(|began| began < event.time) {
            return false;
        }
        let words = same_words(event.request.as_ref(), later.request.as_ref());
        match words.or_else(|| self.same_words(client)) {
            Some(same) => same,
            // The last one was made as soon as it was asked for: it was the first, too.
            None if last.lead(client).is_none_or(|lead| lead <= LEAD) => false,
            None if self.lead(client).is_some_and(|lead| lead <= LEAD) => true,
            None => {
                let same = self.thread.is_some() && self.thread == last.thread;
                !checked && self.bound() && same && event.remote == later.remote
            }
        }
    }
}

/// Whether two requests have the same words, where both are known.
pub fn same_words(one: Option<&Request>, other: Option<&Request>) -> Option<bool> {
    let (one, other) = (one?, other?);
    Some(one.method == other.method && one.path == other.path)
}

#[cfg(test)]
#[path = "fit_tests.rs"]
mod tests;
