//! In: names of pods whose connections failed. Out: those pods as they are now and two seconds later,
//! when the API shows what has just happened to them. Never more than a few requests a second.
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio::sync::mpsc;
use tokio::time::{sleep_until, timeout};

use super::api::Api;
use super::failed::{Failed, Reason};
use super::object::{Kind, Name};
use super::pace::Pace;
use super::partial;
use super::resource::{Call, PODS, Verb, escape};
use super::watch::{Learnt, Update};

/// Requests a second, and at once.
const RATE: u32 = 5;
const BURST: u32 = 10;
/// Pods that are remembered.
const MOST: usize = 256;
/// A pod is looked at again after so long; a container's end takes about a second to be told.
const AGAIN: Duration = Duration::from_secs(2);
/// A slow answer must not hold up the others for longer.
const ANSWER: Duration = Duration::from_secs(5);

/// Which pods to look at, and when. Pure: the time is given.
#[derive(Debug, Default)]
pub struct Queue {
    looks: HashMap<Name, Look>,
}

#[derive(Debug)]
struct Look {
    /// When the pod first failed since it was remembered.
    first: Instant,
    last: Option<Instant>,
    /// A look after this is wanted.
    wanted: Instant,
}

impl Look {
    fn due(&self) -> Option<Instant> {
        match self.last {
            None => Some(self.first),
            Some(last) if last < self.wanted => Some(last + AGAIN),
            Some(_) => None,
        }
    }
}

impl Queue {
    /// A connection to this pod failed. `false`: too many wait already.
    pub fn ask(&mut self, name: Name, now: Instant) -> bool {
        let wanted = now + AGAIN;
        if let Some(look) = self.looks.get_mut(&name) {
            look.wanted = wanted;
            return true;
        }
        if self.looks.len() >= MOST {
            self.looks.retain(|_, look| look.due().is_some());
        }
        if self.looks.len() >= MOST {
            return false;
        }
        let look = Look {
            first: now,
            last: None,
            wanted,
        };
        self.looks.insert(name, look);
        true
    }

    /// The pod whose turn is first, and when.
    pub fn next(&self) -> Option<(Instant, &Name)> {
        let due = |(name, look): (_, &Look)| Some((look.due()?, name));
        self.looks.iter().filter_map(due).min()
    }

    /// It was looked at.
    pub fn looked(&mut self, name: &Name, now: Instant) {
        if let Some(look) = self.looks.get_mut(name) {
            look.last = Some(now);
            // Seen often enough; the next failure begins anew.
            if look.due().is_none() {
                self.looks.remove(name);
            }
        }
    }
}

/// Looks at pods until nobody asks or takes.
pub async fn run(api: Arc<Api>, mut asked: mpsc::Receiver<Name>, updates: mpsc::Sender<Learnt>) {
    let mut queue = Queue::default();
    let mut pace = Pace::new(RATE, BURST);
    let mut told = None;
    // When the next request may go, once its turn has come.
    let mut turn: Option<Instant> = None;
    loop {
        let due = queue.next().map(|(due, name)| (due, name.clone()));
        let at = due.as_ref().map(|(due, _)| {
            let now = Instant::now();
            let turn = *turn.get_or_insert_with(|| now + pace.take(now));
            turn.max(*due)
        });
        tokio::select! {
            biased;
            () = sleep_until(at.unwrap_or_else(Instant::now).into()), if at.is_some() => {
                turn = None;
                let Some((_, name)) = due else { continue };
                queue.looked(&name, Instant::now());
                match fetch(&api, &name).await {
                    Ok(update) => {
                        told = None;
                        let at = Timestamp::now();
                        if updates.send(Learnt { update, at }).await.is_err() {
                            return;
                        }
                    }
                    Err(failed) => {
                        tell(&api, &mut told, &failed);
                        turn = failed.retry_after.map(|wait| Instant::now() + wait);
                    }
                }
            }
            name = asked.recv() => {
                let Some(name) = name else { return };
                if !queue.ask(name, Instant::now()) {
                    api.stats.error(&PODS, Reason::Dropped);
                }
            }
        }
    }
}

async fn fetch(api: &Api, name: &Name) -> Result<Update, Failed> {
    let answer = timeout(ANSWER, api.body(&call(name))).await;
    let late = || Failed::new(Reason::Timeout, "no answer came");
    match answer.unwrap_or_else(|_| Err(late())) {
        Ok(body) => partial::object(Kind::Pod, &body)
            .map(|read| Update::Apply(Box::new(read.object)))
            .map_err(|error| Failed::new(Reason::Unreadable, error.to_string())),
        Err(failed) if failed.reason == Reason::NotFound => {
            Ok(Update::Delete(Kind::Pod, name.clone()))
        }
        Err(failed) => Err(failed),
    }
}

fn call(name: &Name) -> Call {
    let (namespace, pod) = (escape(&name.namespace), escape(&name.name));
    Call {
        verb: Verb::Get,
        resource: PODS,
        path: format!("/api/v1/namespaces/{namespace}/pods/{pod}"),
    }
}

/// Once per reason.
fn tell(api: &Api, told: &mut Option<Reason>, failed: &Failed) {
    api.stats.error(&PODS, failed.reason);
    if told.replace(failed.reason) != Some(failed.reason) {
        let remedy = failed.remedy(&call(&Name::default()));
        tracing::warn!(
            error = failed.text,
            remedy,
            "failed to look at a backend pod"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(number: usize) -> Name {
        Name::new("shop", &format!("cart-{number}"))
    }

    #[test]
    fn a_pod_is_looked_at_at_once_and_again_when_the_api_knows_more() {
        let mut queue = Queue::default();
        let start = Instant::now();
        assert!(queue.ask(name(1), start));
        assert_eq!(queue.next(), Some((start, &name(1))));
        queue.looked(&name(1), start);
        assert_eq!(queue.next(), Some((start + AGAIN, &name(1))));
        queue.looked(&name(1), start + AGAIN);
        assert_eq!(queue.next(), None);
    }

    #[test]
    fn a_pod_that_goes_on_failing_is_looked_at_every_two_seconds() {
        let mut queue = Queue::default();
        let start = Instant::now();
        let mut looks = 0;
        for tenth in 0..100 {
            let now = start + tenth * Duration::from_millis(100);
            assert!(queue.ask(name(1), now));
            if queue.next().is_some_and(|(due, _)| due <= now) {
                queue.looked(&name(1), now);
                looks += 1;
            }
        }
        assert_eq!(looks, 5);
    }

    #[test]
    fn who_waits_longest_is_first() {
        let mut queue = Queue::default();
        let start = Instant::now();
        queue.ask(name(2), start + Duration::from_millis(1));
        queue.ask(name(1), start);
        assert_eq!(queue.next().expect("two wait").1, &name(1));
    }

    #[test]
    fn what_waits_is_bounded_and_what_was_seen_makes_room() {
        let mut queue = Queue::default();
        let now = Instant::now();
        for number in 0..MOST {
            assert!(queue.ask(name(number), now));
        }
        assert!(!queue.ask(name(MOST), now));
        queue.looked(&name(0), now + AGAIN);
        assert!(queue.ask(name(MOST), now + AGAIN));
    }
}
