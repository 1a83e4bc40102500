//! In: how many samples were lost in all, each time it is asked. Out: when that may have been.
//! Pure: times are the caller's, monotonic nanoseconds.

/// Gaps that are closer than this count as one: requests with retries live as long.
const NEAR: u64 = 15_000_000_000;

/// The newest time in which samples were lost.
#[derive(Clone, Copy, Debug, Default)]
pub struct Gap {
    total: u64,
    looked: u64,
    since: u64,
    until: u64,
}

impl Gap {
    /// Takes the total as it was between `before` and `after`.
    pub fn look(&mut self, total: u64, before: u64, after: u64) {
        if total > self.total {
            if self.until.saturating_add(NEAR) < self.looked {
                self.since = self.looked;
            }
            (self.total, self.until) = (total, after);
        }
        self.looked = before;
    }

    /// Whether one of the samples of this time may be missing.
    pub fn overlaps(&self, since: u64, until: u64) -> bool {
        self.total > 0 && self.since <= until && since <= self.until
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn a_gap_is_from_the_last_look_without_loss_to_the_first_with_it() {
        let mut gap = Gap::default();
        gap.look(0, 100 * SECOND, 101 * SECOND);
        assert!(!gap.overlaps(0, u64::MAX), "nothing was lost");
        gap.look(3, 110 * SECOND, 111 * SECOND);
        assert!(gap.overlaps(105 * SECOND, 106 * SECOND));
        assert!(gap.overlaps(90 * SECOND, 100 * SECOND));
        assert!(gap.overlaps(111 * SECOND, 112 * SECOND));
        assert!(!gap.overlaps(90 * SECOND, 99 * SECOND));
        assert!(!gap.overlaps(112 * SECOND, 113 * SECOND));
    }

    #[test]
    fn near_gaps_are_one_and_far_ones_are_not() {
        let mut gap = Gap::default();
        for (total, time) in [(0, 100), (1, 101), (1, 105), (2, 106)] {
            gap.look(total, time * SECOND, time * SECOND);
        }
        assert!(gap.overlaps(103 * SECOND, 103 * SECOND));
        for (total, time) in [(2, 200), (3, 201)] {
            gap.look(total, time * SECOND, time * SECOND);
        }
        assert!(!gap.overlaps(103 * SECOND, 199 * SECOND));
        assert!(gap.overlaps(200 * SECOND, 200 * SECOND));
    }
}
