//! In: failures that are settled, with the time until which the cluster may still tell something of
//! them. Out: each at its time, oldest first. The API is seconds late; knows no clock, time is given.
use std::collections::VecDeque;

/// Most that wait at once; what is too many leaves early.
const MOST: usize = 65_536;

/// A queue of what waits for the cluster's word.
pub struct Hold<T> {
    waiting: VecDeque<(u64, T)>,
    /// How many had to leave before their time.
    pub early: u64,
}

impl<T> Default for Hold<T> {
    fn default() -> Self {
        Self {
            waiting: VecDeque::new(),
            early: 0,
        }
    }
}

impl<T> Hold<T> {
    /// Keeps it until `due`, which never lies before that of the one given last.
    pub fn push(&mut self, due: u64, held: T) {
        let due = self.waiting.back().map_or(due, |(last, _)| due.max(*last));
        self.waiting.push_back((due, held));
    }

    /// Those of the first `most` that need not wait any longer, in order.
    pub fn release(&mut self, most: usize, stands: impl Fn(&T) -> bool) -> Vec<T> {
        let first = self.waiting.drain(..most.min(self.waiting.len()));
        let (ready, waits): (Vec<_>, Vec<_>) = first.partition(|(_, held)| stands(held));
        for held in waits.into_iter().rev() {
            self.waiting.push_front(held);
        }
        ready.into_iter().map(|(_, held)| held).collect()
    }

    /// The next one whose time has come at `now`, or that there is no room for.
    pub fn pop(&mut self, now: u64) -> Option<T> {
        let (due, _) = self.waiting.front()?;
        if *due > now {
            if self.waiting.len() <= MOST {
                return None;
            }
            self.early += 1;
        }
        self.waiting.pop_front().map(|(_, held)| held)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_does_not_fit_leaves_early_and_is_counted() {
        let mut hold = Hold::default();
        for number in 0..=MOST {
            hold.push(10, number);
        }
        assert_eq!((hold.pop(0), hold.early), (Some(0), 1));
        assert_eq!((hold.pop(0), hold.early), (None, 1));
    }

    #[test]
    fn what_stands_leaves_early_and_the_others_keep_their_turn() {
        let mut hold = Hold::default();
        for number in 0..10 {
            hold.push(number, number);
        }
        assert_eq!(hold.release(6, |number| number % 2 == 1), [1, 3, 5]);
        let left: Vec<u64> = std::iter::from_fn(|| hold.pop(u64::MAX)).collect();
        assert_eq!((left, hold.early), (vec![0, 2, 4, 6, 7, 8, 9], 0));
    }

    proptest! {
        #[test]
        fn each_leaves_once_in_order_and_never_before_its_time(waits in prop::collection::vec(0u64..20, 0..50)) {
            let (mut hold, mut left) = (Hold::default(), Vec::new());
            for (now, wait) in waits.iter().enumerate() {
                let now = now as u64;
                hold.push(now + wait, (left.len(), now + wait));
                while let Some((_, due)) = hold.pop(now) {
                    prop_assert!(due <= now);
                    left.push(due);
                }
            }
            while let Some((_, due)) = hold.pop(u64::MAX) {
                left.push(due);
            }
            prop_assert_eq!(left.len(), waits.len());
            prop_assert_eq!(hold.early, 0);
        }
    }
}
