//! In: when attempts of one kind failed. Out: whether one is on the beat of those before it, as health
//! checks are, and clients are not. Pure, bounded.
use std::collections::VecDeque;

/// A check has failed on the same beat so often before it is taken for one: more often than any
/// client is tried again.
const BEATS: u64 = 5;
/// Shortest time between two checks of a backend; a second and little less.
const SHORTEST: u64 = 990_000_000;
/// What timers are off by on a busy machine: more would be clients' time.
const OFF: u64 = 10_000_000;
/// Most checks of one kind between two beats: what fails more often has clients.
const AMONG: usize = 2;
/// Failures that are kept: more would not be accepted.
const KEPT: usize = (BEATS as usize + 1) * AMONG;

/// The newest failures of one kind.
#[derive(Debug, Default)]
pub(super) struct Beat {
    /// When these attempts began, oldest first.
    began: VecDeque<u64>,
}

impl Beat {
    /// Takes the next attempt; tells whether it is on a beat.
    pub fn next(&mut self, began: u64) -> bool {
        let on = self.on(began);
        if self.began.len() >= KEPT {
            self.began.pop_front();
        }
        let place = self.began.partition_point(|time| *time <= began);
        self.began.insert(place, began);
        on
    }

    fn on(&self, began: u64) -> bool {
        let spans = self.began.iter().rev().map(|time| began.abs_diff(*time));
        spans
            .take_while(|span| began / BEATS > *span)
            .any(|span| span >= SHORTEST && self.repeats(began, span))
    }

    /// Whether the attempts before this one came at such a distance, and hardly any others.
    fn repeats(&self, began: u64, span: u64) -> bool {
        let mut beat = began;
        for _ in 0..BEATS {
            // From beat to beat: a check waits from when the one before was made.
            let due = beat.saturating_sub(span);
            let Some(near) = self.near(due) else {
                return false;
            };
            beat = near;
        }
        let first = self.began.partition_point(|time| *time < beat);
        self.began.len() - first <= BEATS as usize * AMONG
    }

    fn near(&self, due: u64) -> Option<u64> {
        let times = self.began.iter().copied();
        let near = times.filter(|time| time.abs_diff(due) <= OFF);
        near.min_by_key(|time| time.abs_diff(due))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    /// Which of these attempts, in milliseconds, are on a beat.
    fn beats(times: &[u64]) -> Vec<u64> {
        let mut beat = Beat::default();
        let on = |time: &&u64| beat.next(**time * MS);
        times.iter().filter(on).copied().collect()
    }

    #[test]
    fn what_comes_at_equal_distances_is_on_the_beat_from_the_sixth_time_on() {
        let checks = [9000, 11_000, 13_004, 15_001, 17_003, 19_000, 21_004];
        assert_eq!(beats(&checks), [19_000, 21_004]);
        let two = [
            9000, 9400, 11_000, 11_400, 13_000, 13_400, 15_000, 15_400, 17_000, 17_400, 19_000,
            19_400,
        ];
        assert_eq!(beats(&two), [19_000, 19_400]);
    }

    #[test]
    fn clients_and_their_retries_are_on_none() {
        // Three retries, a second after each other.
        assert_eq!(beats(&[50_000, 51_000, 52_000, 53_000]), [0; 0]);
        let scattered = [
            50_000, 50_310, 51_020, 52_410, 52_800, 53_090, 54_700, 55_000, 55_950, 56_100, 57_800,
        ];
        assert_eq!(beats(&scattered), [0; 0]);
        // So many that some are on any beat.
        let many: Vec<u64> = (0..200).map(|number| 50_000 + 300 * number).collect();
        assert_eq!(beats(&many), [0; 0]);
        // Seen before: checks go on among clients, and those between them are not on the beat.
        let mixed = [
            9000, 11_000, 13_000, 15_000, 17_000, 17_700, 19_000, 20_100, 21_000,
        ];
        assert_eq!(beats(&mixed), [19_000, 21_000]);
    }
}
