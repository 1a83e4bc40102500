//! The bed itself, without an agent: what real clients get from real nginx for each behavior.
//! Everything else stands on these facts.
use anyhow::Result;
use tests::backends::Behavior;
use tests::client::{Connection, request};
use tests::nginx::{Fault, Listener};
use tests::tls::TlsConnection;
use tests::world::World;

#[test]
fn every_behavior_reaches_the_client_as_expected() -> Result<()> {
    use Behavior as B;
    let world = World::new()?;
    let table: &[(B, Option<u16>, bool)] = &[
        (B::Ok, Some(200), true),
        (B::CloseHeader, Some(200), true),
        (B::CloseDelimited, Some(200), true),
        (B::Chunked, Some(200), true),
        (B::IdleClose, Some(200), true),
        (B::ResetRequest, Some(502), true),
        (B::ResetUnread, Some(502), true),
        (B::FinRequest, Some(502), true),
        (B::ResetHead, Some(502), true),
        (B::FinHead, Some(502), true),
        (B::ResetBody, Some(200), false),
        (B::FinBody, Some(200), false),
        (B::FinChunked, Some(200), false),
        (B::Hang, Some(504), true),
        (B::Stall, Some(200), false),
        (B::Garbage, None, false),
        (B::TlsAlert, None, false),
        (B::EarlyAnswer, Some(413), true),
    ];
    for (behavior, status, complete) in table {
        let answer = world.get(Listener::Plain, &format!("/{}/x", behavior.word()))?;
        assert_eq!(
            (answer.status, answer.complete),
            (*status, *complete),
            "{behavior:?} {answer:?}"
        );
    }
    Ok(())
}

#[test]
fn every_fault_fails_its_own_way() -> Result<()> {
    let world = World::new()?;
    for (fault, status, said) in [
        (Fault::Refused, 502, "111: Connection refused"),
        (Fault::Dropped, 504, "110: Connection timed out"),
        (Fault::Rejected, 502, "113: "),
        (Fault::Nobody, 502, "113: "),
        (Fault::NoRoute, 502, "101: Network"),
    ] {
        for listener in [Listener::Plain, Listener::V6] {
            let path = format!("/{}/{listener:?}", fault.word());
            let answer = world.get(listener, &path)?;
            assert_eq!(answer.status, Some(status), "{fault:?} {listener:?}");
            world.nginx.logged(&path)?;
            let errors = world.nginx.errors()?;
            let line = errors
                .lines()
                .find(|line| line.contains(&path))
                .unwrap_or_default();
            assert!(line.contains(said), "{fault:?} {listener:?}: {line}");
        }
    }
    Ok(())
}

#[test]
fn a_retry_hides_the_failure_and_the_log_shows_both_attempts() -> Result<()> {
    let world = World::new()?;
    let answer = world.get(Listener::Retry, "/reset-request/hidden")?;
    assert_eq!(answer.status, Some(200));
    let entry = world.nginx.logged("/reset-request/hidden")?;
    let statuses: Vec<_> = entry.attempts.iter().map(|attempt| attempt.1).collect();
    assert_eq!(statuses, [Some(502), Some(200)]);
    Ok(())
}

#[test]
fn a_reused_connection_meets_the_closed_backend() -> Result<()> {
    let mut world = World::new()?;
    let mut client = Connection::open(&world.bed, world.at(Listener::Pooled))?;
    assert_eq!(client.get("/race/1")?.status, Some(200));
    assert_eq!(client.get("/race/2")?.status, Some(502));
    assert_eq!(world.backends.requests(Behavior::Race)?, 1);
    let mut client = Connection::open(&world.bed, world.at(Listener::PooledRetry))?;
    assert_eq!(client.get("/race/3")?.status, Some(200));
    assert_eq!(client.get("/race/4")?.status, Some(200));
    assert_eq!(world.nginx.logged("/race/4")?.attempts.len(), 2);
    for path in ["/reset-second/", "/fin-second/"] {
        let mut client = Connection::open(&world.bed, world.at(Listener::Pooled))?;
        assert_eq!(client.get(path)?.status, Some(200), "{path}");
        assert_eq!(client.get(path)?.status, Some(502), "{path}");
    }
    Ok(())
}

#[test]
fn tls_the_proxy_protocol_and_protocol_switches_work() -> Result<()> {
    let world = World::new()?;
    let mut tls = TlsConnection::open(&world.bed, world.at(Listener::TlsPooled))?;
    assert_eq!(tls.get("/ok/1")?.status, Some(200));
    assert_eq!(tls.get("/reset-request/2")?.status, Some(502));
    let mut proxied = Connection::open(&world.bed, world.at(Listener::ProxyProtocol))?;
    proxied.send(b"PROXY TCP4 192.0.2.1 192.0.2.2 1000 80\r\n")?;
    assert_eq!(proxied.get("/ok/3")?.status, Some(200));
    let mut socket = Connection::open(&world.bed, world.at(Listener::Plain))?;
    let headers = "Connection: Upgrade\r\nUpgrade: websocket\r\n";
    socket.send(request("GET", "/websocket/", headers).as_bytes())?;
    assert_eq!(socket.answer()?.status, Some(101));
    socket.send(b"ping")?;
    assert_eq!(socket.bytes(4)?, b"ping");
    Ok(())
}
