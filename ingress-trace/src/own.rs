//! In: failed attempts, whether routes lead to where they went, and which backends have answered the
//! controller. Out: which of them are the controller's own (traces, authorities), and no client's.
//! Pure.
//!
//! Controllers have routes that the agent does not see, so that a Service without one proves nothing by
//! itself. It does where no client was seen to ask for the attempt, where whatever has answered this
//! controller has a route, and where nothing has ever answered there.
use std::collections::{HashMap, HashSet};

use crate::cluster::index::Way;

/// How long what answered is good for, in nanoseconds: it is brought up to date once a second.
const FRESH: u64 = 1_000_000_000;
/// Most controllers that are remembered.
const MOST: usize = 1_024;

/// A failed attempt.
#[derive(Clone, Copy, Debug)]
pub struct Attempt {
    /// Of which controller, by its cgroup.
    pub cgroup: u64,
    /// Whether routes lead to where it went.
    pub way: Way,
    /// Whether a client was seen to wait for it.
    pub proven: bool,
    /// Whether the same backend has ever answered.
    pub answered: bool,
    /// When it failed, monotonic nanoseconds.
    pub time: u64,
}

/// What is known of the controllers.
#[derive(Debug, Default)]
pub struct Own {
    /// Those whose clients ask for what no route that is seen leads to.
    asked: HashSet<u64>,
    traffic: HashMap<u64, Traffic>,
}

/// Where a controller's answered exchanges went.
#[derive(Clone, Copy, Debug, Default)]
struct Traffic {
    looked: u64,
    routed: bool,
    unrouted: bool,
    foreign: bool,
}

impl Own {
    /// Whether an attempt was the controller's own; `ways`: whether routes lead to the backends that
    /// have answered it.
    pub fn has(&mut self, attempt: &Attempt, ways: impl FnOnce() -> Vec<Way>) -> bool {
        if !matches!(attempt.way, Way::Unrouted | Way::Foreign) || self.asked.len() >= MOST {
            return false;
        }
        if attempt.proven {
            self.asked.insert(attempt.cgroup);
        }
        if attempt.answered || self.asked.contains(&attempt.cgroup) {
            return false;
        }
        let traffic = self.traffic(attempt, ways);
        let alike = attempt.way == Way::Foreign && traffic.foreign;
        traffic.routed && !traffic.unrouted && !alike
    }

    fn traffic(&mut self, attempt: &Attempt, ways: impl FnOnce() -> Vec<Way>) -> Traffic {
        let known = self.traffic.get(&attempt.cgroup);
        if let Some(known) = known.filter(|known| attempt.time < known.looked + FRESH) {
            return *known;
        }
        let ways = ways();
        let traffic = Traffic {
            looked: attempt.time,
            routed: ways.contains(&Way::Routed),
            unrouted: ways.contains(&Way::Unrouted),
            foreign: ways.contains(&Way::Foreign),
        };
        if self.traffic.len() >= MOST {
            self.traffic.clear(); // gone controllers' as well; it is read again
        }
        self.traffic.insert(attempt.cgroup, traffic);
        traffic
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::index::Way::{Foreign, Routed, Unclear, Unrouted};

    const ATTEMPT: Attempt = Attempt {
        cgroup: 7,
        way: Unrouted,
        proven: false,
        answered: false,
        time: FRESH,
    };

    fn own(attempt: Attempt, ways: &[Way]) -> bool {
        Own::default().has(&attempt, || ways.to_vec())
    }

    #[test]
    fn what_no_route_leads_to_is_the_controllers_own_where_all_that_answered_has_a_route() {
        assert!(own(ATTEMPT, &[Routed, Unclear]));
        let foreign = Attempt {
            way: Foreign,
            ..ATTEMPT
        };
        assert!(own(foreign, &[Routed]));
        let answered = Attempt {
            answered: true,
            ..ATTEMPT
        };
        let proven = Attempt {
            proven: true,
            ..ATTEMPT
        };
        let cases = [
            (
                ATTEMPT,
                &[Unclear][..],
                "nothing shows that routes are seen",
            ),
            (
                ATTEMPT,
                &[Routed, Unrouted],
                "it has routes that are not seen",
            ),
            (foreign, &[Routed, Foreign], "it has backends outside"),
            (answered, &[Routed], "it has answered before"),
            (proven, &[Routed], "a client waited"),
        ];
        for (attempt, ways, why) in cases {
            assert!(!own(attempt, ways), "{why}");
        }
        for way in [Routed, Unclear] {
            assert!(!own(Attempt { way, ..ATTEMPT }, &[Routed]), "{way:?}");
        }
    }

    #[test]
    fn a_controller_whose_clients_once_asked_for_what_has_no_route_owns_nothing_more() {
        let mut own = Own::default();
        let mut has = |attempt: Attempt| own.has(&attempt, || vec![Routed]);
        assert!(has(ATTEMPT));
        let other = Attempt {
            cgroup: 8,
            ..ATTEMPT
        };
        assert!(!has(Attempt {
            proven: true,
            ..ATTEMPT
        }));
        assert!(!has(ATTEMPT) && has(other));
    }

    #[test]
    fn what_has_answered_is_looked_at_again_after_a_second() {
        let mut own = Own::default();
        let later = Attempt {
            time: ATTEMPT.time + FRESH,
            ..ATTEMPT
        };
        assert!(own.has(&ATTEMPT, || vec![Routed]));
        assert!(own.has(&ATTEMPT, || vec![Routed, Unrouted]));
        assert!(!own.has(&later, || vec![Routed, Unrouted]));
    }
}
