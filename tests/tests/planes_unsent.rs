//! A connection that the backend resets before the request that it was made for is sent, as the queue of
//! a listener that ends does: on every data plane it is told, and as no error of the controller's own.
use std::fs;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use tests::bed::{Bed, Host};
use tests::edge::{Peer, serve};
use tests::expect::Differences;
use tests::planes::own::{Own, PORT, at};
use tests::planes::{Plane, checks, each, watch};
use tests::{cgroup, client, wait};

/// Where the backend resets whatever it accepts.
const ABORTS: u16 = 9590;
const PATH: &str = "/unsent";
/// Longer than the kernel waits until it sends a SYN again (`TCP_TIMEOUT_INIT`, one second).
const PATIENCE: Duration = Duration::from_secs(10);
/// `include/net/tcp_states.h`.
const SYN_SENT: &str = "02";
const ESTABLISHED: &str = "01";

/// Whether a socket of the proxy's to the backend is in this state.
fn connecting(bed: &Bed, state: &str) -> Result<bool> {
    // The thread is in the namespace, its process is not.
    let read = || fs::read_to_string("/proc/thread-self/net/tcp").context("failed to read sockets");
    let text = bed.inside(Host::Proxy, read)?;
    let remote = format!(":{ABORTS:04X}");
    Ok(text.lines().any(|line| {
        let mut fields = line.split_whitespace().skip(2);
        fields.next().is_some_and(|to| to.ends_with(&remote)) && fields.next() == Some(state)
    }))
}

fn start(bed: &Bed, plane: Plane) -> Result<Own> {
    let fine = [SocketAddr::new(Host::Backend.v4(), ABORTS)];
    let mut files = checks::files(plane, &fine, false)?;
    for (_, text) in &mut files {
        // The second SYN comes after a second.
        *text = text
            .replace(r#""connect_timeout":"1s""#, r#""connect_timeout":"8s""#)
            .replace("timeout connect 1s", "timeout connect 8s");
    }
    Own::start(bed, plane, &files)
}

/// Holds the proxy while its connect succeeds and is reset; gives the client's status.
fn provoke(bed: &Bed) -> Result<Option<u16>> {
    let lost = format!(
        "table inet held {{ chain in {{ type filter hook input priority 0;\ntcp dport {ABORTS} drop\n}}\n}}\n"
    );
    bed.nft(Host::Backend, &lost)?;
    let home = bed.cgroup(Host::Proxy);
    thread::scope(|scope| {
        let client = scope.spawn(|| client::get(bed, at(PORT), PATH));
        wait::holds("the connect", PATIENCE, || {
            connecting(bed, SYN_SENT).unwrap_or(false)
        })?;
        cgroup::freeze(&home, true)?;
        bed.nft(Host::Backend, "delete table inet held\n")?;
        let open =
            || connecting(bed, SYN_SENT).and_then(|one| Ok(one || connecting(bed, ESTABLISHED)?));
        let reset = wait::holds("the reset", PATIENCE, || open().is_ok_and(|open| !open));
        cgroup::freeze(&home, false)?;
        let answer = wait::joined(client)?;
        reset.map(|()| answer.status)
    })
}

#[test]
fn a_reset_before_the_request_is_told() -> Result<()> {
    let differences = Mutex::new(Differences::default());
    each(|plane| {
        let bed = Bed::new()?;
        serve(&bed, ABORTS, Peer::abort)?;
        let _own = start(&bed, plane)?;
        let agent = watch(&bed, plane)?;
        let status = provoke(&bed)?;
        let unsent = agent.finding("the reset", |one| one.text("/phase") == "idle")?;
        let others = agent.stop()?;
        let mut differences = differences.lock().expect("no thread panics with it");
        let facts = (
            unsent.text("/outcome"),
            unsent.text("/client_visible"),
            unsent.status(),
            unsent.path(),
        );
        differences.check(facts == ("reset", "yes", status, PATH), || {
            format!("{plane:?}: client got {status:?}: {}", unsent.0)
        });
        let own = others
            .iter()
            .find(|one| one.text("/outcome") == "no_upstream");
        differences.check(own.is_none(), || {
            format!("{plane:?}: {:?}", own.map(|one| &one.0))
        });
        Ok(())
    })?;
    let differences = differences.into_inner();
    differences.expect("no thread panics with it").finish("");
    Ok(())
}
