//! In: ages at which a controller was seen to give up. Out: whether an age is one of its timers.
//! Pure state, bounded.
use std::collections::HashMap;
use std::time::Duration;

use super::taxonomy::Controller;
use crate::profiles;

/// Which timer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Timer {
    /// Until the connection stands.
    Connect,
    /// Until the next byte of the response.
    Read,
}

/// Most timers learnt for one controller: configurations have a handful.
const MOST: usize = 32;

/// Timers that are known by the profile, and those that really fired.
#[derive(Debug, Default)]
pub struct Timers {
    learnt: HashMap<(Controller, Timer), Vec<Duration>>,
}

impl Timers {
    /// Remembers an age at which a controller gave up, as its answer to the client proved.
    pub fn learn(&mut self, controller: Controller, timer: Timer, age: Duration) {
        if self.agrees(controller, timer, age) {
            return;
        }
        let ages = self.learnt.entry((controller, timer)).or_default();
        if ages.len() == MOST {
            ages.remove(0);
        }
        ages.push(age);
    }

    /// Whether this age is one of the controller's timers, as configured by default or learnt.
    pub fn agrees(&self, controller: Controller, timer: Timer, age: Duration) -> bool {
        let profile = profiles::of(controller);
        let defaults = match timer {
            Timer::Connect => profile.connect_timers,
            Timer::Read => profile.read_timers,
        };
        let learnt = self
            .learnt
            .get(&(controller, timer))
            .map_or(&[][..], Vec::as_slice);
        defaults.iter().chain(learnt).any(|known| near(*known, age))
    }
}

/// Timers fire late, hardly ever early: a tick before, two hundredths (at least 150 ms, on a
/// busy machine) after.
fn near(timer: Duration, age: Duration) -> bool {
    let late = (timer / 50).max(Duration::from_millis(150));
    age + Duration::from_millis(5) >= timer && age <= timer + late
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn default_timers_agree_and_other_ages_do_not() {
        let timers = Timers::default();
        let read = |ms| timers.agrees(Controller::Nginx, Timer::Read, Duration::from_millis(ms));
        assert!(read(60_000) && read(60_900));
        assert!(!read(59_000) && !read(30_000) && !read(65_000));
        assert!(!timers.agrees(Controller::Traefik, Timer::Read, Duration::from_mins(1)));
    }

    #[test]
    fn a_timer_that_fired_is_learnt_for_its_controller_only() {
        let mut timers = Timers::default();
        let age = Duration::from_millis(605);
        timers.learn(Controller::Nginx, Timer::Read, age);
        assert!(timers.agrees(Controller::Nginx, Timer::Read, Duration::from_millis(601)));
        assert!(!timers.agrees(Controller::Nginx, Timer::Connect, age));
        assert!(!timers.agrees(Controller::Envoy, Timer::Read, age));
    }

    #[test]
    fn what_is_learnt_is_bounded() {
        let mut timers = Timers::default();
        for second in 100..1000 {
            timers.learn(
                Controller::Caddy,
                Timer::Read,
                Duration::from_secs(second * 2),
            );
        }
        assert!(timers.learnt[&(Controller::Caddy, Timer::Read)].len() <= MOST);
    }
}
