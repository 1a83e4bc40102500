//! In: when the agent wants to ask the Kubernetes API. Out: how long it waits before. Pure: the time
//! is given.
use std::time::{Duration, Instant};

/// A bucket of tokens: so many requests at once, so many a second in the long run.
#[derive(Debug)]
pub struct Pace {
    each: Duration,
    burst: u32,
    /// When the bucket would be full, had nobody asked since.
    full_at: Option<Instant>,
}

impl Pace {
    /// A full bucket.
    pub fn new(per_second: u32, burst: u32) -> Self {
        Self {
            each: Duration::from_secs(1) / per_second,
            burst,
            full_at: None,
        }
    }

    /// Takes a token; it is there after so long.
    pub fn take(&mut self, now: Instant) -> Duration {
        let from = self.full_at.filter(|at| *at > now).unwrap_or(now);
        let full_at = from + self.each;
        self.full_at = Some(full_at);
        (full_at - now).saturating_sub(self.each * self.burst)
    }
}

/// Waits between tries: from half a second up to half a minute, each spread at random so that the
/// agents of a cluster do not come back at once.
#[derive(Debug, Default)]
pub struct Backoff {
    tries: u32,
}

/// The longest wait between tries.
pub const LONGEST: Duration = Duration::from_secs(30);
const SHORTEST: Duration = Duration::from_millis(500);

impl Backoff {
    /// The next wait, between half of its length and the whole.
    pub fn next(&mut self, random: u64) -> Duration {
        let whole = LONGEST.min(SHORTEST * 2u32.pow(self.tries.min(8)));
        self.tries += 1;
        spread(whole, random)
    }

    /// What followed was well.
    pub fn reset(&mut self) {
        self.tries = 0;
    }
}

/// Between half of `whole` and all of it.
pub fn spread(whole: Duration, random: u64) -> Duration {
    let share = (random % 1024) as u32;
    whole / 2 + whole * share / 2048
}

/// A random number, good enough to spread load.
pub fn random() -> u64 {
    use std::hash::{BuildHasher, RandomState};

    RandomState::new().hash_one(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_goes_at_once_and_the_rest_at_the_rate() {
        let mut pace = Pace::new(10, 3);
        let now = Instant::now();
        let waits = [(); 5].map(|()| pace.take(now).as_millis());
        assert_eq!(waits, [0, 0, 0, 100, 200]);
    }

    #[test]
    fn a_bucket_fills_again_and_never_beyond_its_size() {
        let mut pace = Pace::new(10, 3);
        let now = Instant::now();
        for _ in 0..3 {
            assert_eq!(pace.take(now), Duration::ZERO);
        }
        let later = now + Duration::from_mins(1);
        let waits = [(); 4].map(|()| pace.take(later).as_millis());
        assert_eq!(waits, [0, 0, 0, 100]);
    }

    #[test]
    fn waits_double_up_to_the_longest_and_start_anew_after_success() {
        let mut backoff = Backoff::default();
        let waits: Vec<_> = (0..9).map(|_| backoff.next(0).as_millis()).collect();
        assert_eq!(
            waits,
            [250, 500, 1000, 2000, 4000, 8000, 15000, 15000, 15000]
        );
        backoff.reset();
        assert_eq!(backoff.next(0), SHORTEST / 2);
        for at in 0..2000 {
            let wait = spread(LONGEST, at);
            assert!((LONGEST / 2..LONGEST).contains(&wait), "{wait:?}");
        }
    }
}
