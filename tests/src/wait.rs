//! Waiting for conditions: a probe and a deadline in, its answer out. Never a fixed sleep where a
//! condition exists.
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

const STEP: Duration = Duration::from_millis(5);

/// Polls `probe` until it gives something; fails with `what` once `limit` has passed.
pub fn until<T>(what: &str, limit: Duration, mut probe: impl FnMut() -> Option<T>) -> Result<T> {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(found) = probe() {
            return Ok(found);
        }
        if Instant::now() >= deadline {
            bail!("failed to see {what} within {limit:?}");
        }
        sleep(STEP);
    }
}

/// [`until`] for a plain condition.
pub fn holds(what: &str, limit: Duration, mut condition: impl FnMut() -> bool) -> Result<()> {
    until(what, limit, || condition().then_some(()))
}
