//! Which processor each process of the rig runs on: where the scheduler places them, a run's figures
//! say more about that than about the agent. Hosts in, the affinity of what is started out.
use std::io;

use ::tests::bed::Host;
use anyhow::{Context, Result};

/// Runs `start`; what it starts stays on the host's processor.
pub fn on<T>(host: Host, start: impl FnOnce() -> Result<T>) -> Result<T> {
    let before = affinity().context("failed to read the processors to run on")?;
    let cores = (0..libc::CPU_SETSIZE as usize).filter(|core| has(&before, *core));
    let cores: Vec<usize> = cores.collect();
    restrict(&only(cores[place(host, cores.len())])).context("failed to choose a processor")?;
    let started = start();
    restrict(&before).context("failed to free the choice of processors")?;
    started
}

/// The proxies have one for themselves, where there are two.
fn place(host: Host, cores: usize) -> usize {
    let place = match host {
        Host::Proxy | Host::SecondProxy => 0,
        Host::Backend => 1,
        Host::Client => 2,
    };
    place.min(cores - 1)
}

fn has(set: &libc::cpu_set_t, core: usize) -> bool {
    // SAFETY: the set is whole, and the number below its size.
    unsafe { libc::CPU_ISSET(core, set) }
}

fn only(core: usize) -> libc::cpu_set_t {
    // SAFETY: a set of bits, all zeros is the empty one; the number is below its size.
    unsafe {
        let mut set = std::mem::zeroed();
        libc::CPU_SET(core, &mut set);
        set
    }
}

fn affinity() -> io::Result<libc::cpu_set_t> {
    // SAFETY: a set of bits, all zeros is the empty one.
    let mut set = unsafe { std::mem::zeroed() };
    // SAFETY: 0 is this thread; the set is as large as told.
    let result = unsafe { libc::sched_getaffinity(0, size_of_val(&set), &raw mut set) };
    check(result).map(|()| set)
}

fn restrict(set: &libc::cpu_set_t) -> io::Result<()> {
    // SAFETY: as above.
    check(unsafe { libc::sched_setaffinity(0, size_of_val(set), set) })
}

fn check(result: libc::c_int) -> io::Result<()> {
    match result {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proxies_share_their_processor_with_nobody_where_there_are_two() {
        let places = |cores| {
            [Host::Proxy, Host::SecondProxy, Host::Backend, Host::Client]
                .map(|host| place(host, cores))
        };
        assert_eq!(places(1), [0, 0, 0, 0]);
        assert_eq!(places(2), [0, 0, 1, 1]);
        assert_eq!(places(8), [0, 0, 1, 2]);
    }

    #[test]
    fn what_is_started_is_placed_and_the_rest_is_as_before() -> Result<()> {
        let count = |set: &libc::cpu_set_t| {
            (0..libc::CPU_SETSIZE as usize)
                .filter(|core| has(set, *core))
                .count()
        };
        let before = count(&affinity()?);
        assert_eq!(on(Host::Proxy, || Ok(count(&affinity()?)))?, 1);
        assert_eq!(count(&affinity()?), before);
        Ok(())
    }
}
