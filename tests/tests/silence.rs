//! Healthy traffic of every kind: no finding, no failure counted. A marker that is known to fail
//! ends each run, so that silence is a fact and not a matter of patience.
use anyhow::Result;
use tests::agent::{Agent, Finding};
use tests::backends::{Behavior as B, FRAMINGS};
use tests::bed::Host;
use tests::client::{self, Connection, Leave, request};
use tests::nginx::Listener;
use tests::tls::{self, TlsConnection};
use tests::wait;
use tests::world::World;

/// Runs `traffic` under an agent; whatever is found besides the marker is a false alarm.
fn quiet(traffic: impl FnOnce(&mut World, &Agent) -> Result<()>) -> Result<()> {
    let mut world = World::new()?;
    let agent = world.agent()?;
    traffic(&mut world, &agent)?;
    world.mark(&agent)?;
    let page = agent.metric("the marker counted", |page| {
        page.sum("ingress_trace_upstream_failures_total", &[]) >= 1.0
    })?;
    let failures = page.sum("ingress_trace_upstream_failures_total", &[]);
    assert!(
        failures < 1.5,
        "{failures} failures counted, the marker is 1: {:#?}",
        agent.findings()
    );
    let others = world.others(agent)?;
    // A slow exchange is a warning by contract, never a failure.
    let alarm = |finding: &&Finding| {
        !finding.path().contains("/marker-") && finding.text("/outcome") != "slow"
    };
    let alarms: Vec<_> = others.iter().filter(alarm).collect();
    assert!(alarms.is_empty(), "false alarms: {alarms:#?}");
    Ok(())
}

/// GET each path on a connection of its own; each must be answered in full with its status.
fn fetch(world: &World, listener: Listener, rows: &[(&str, u16)]) -> Result<()> {
    for (path, status) in rows {
        let answer = world.get(listener, path)?;
        assert_eq!(
            (answer.status, answer.complete),
            (Some(*status), true),
            "{path} {answer:?}"
        );
    }
    Ok(())
}

/// Only where the backend closes: nginx 1.22 takes the interim answer for the final one, and on a
/// kept connection waits for more until its timer ends it.
const INTERIM: &[(&str, u16)] = &[("/interim-100/", 200), ("/interim-103/", 200)];

#[test]
fn every_way_to_frame_a_response() -> Result<()> {
    quiet(|world, _| {
        fetch(world, Listener::Plain, FRAMINGS)?;
        fetch(world, Listener::Plain, INTERIM)?;
        fetch(world, Listener::Pooled, FRAMINGS)?;
        fetch(world, Listener::V6, FRAMINGS)?;
        for path in ["/ok/head?size=5000", "/ok/head"] {
            let mut client = Connection::open(&world.bed, world.at(Listener::Pooled))?;
            client.send(request("HEAD", path, "").as_bytes())?;
            assert_eq!(client.answer_to_head()?.status, Some(200));
            assert_eq!(client.get(path)?.status, Some(200));
        }
        Ok(())
    })
}

#[test]
fn many_exchanges_on_pooled_connections() -> Result<()> {
    quiet(|world, _| {
        let mut client = Connection::open(&world.bed, world.at(Listener::Pooled))?;
        for number in 0..200 {
            let path = format!("/ok/{number}?size={}", number * 37);
            assert_eq!(client.get(&path)?.bytes, number * 37);
        }
        client.leave(Leave::Fin)
    })
}

#[test]
fn idle_connections_closed_by_either_side() -> Result<()> {
    quiet(|world, _| {
        // The client stays: the backend's idle close finds nginx's pooled connection unused.
        let mut client = Connection::open(&world.bed, world.at(Listener::Pooled))?;
        for _ in 0..3 {
            assert_eq!(client.get("/idle-close/")?.status, Some(200));
            let closed = |world: &mut World| {
                world.backends.seen().is_ok_and(|seen| {
                    let port = seen[&B::IdleClose.port()];
                    port.closed == port.connections
                })
            };
            wait::holds("the backend's close", client::PATIENCE, || closed(world))?;
        }
        client.leave(Leave::Fin)?;
        // The controller's side: a reload closes its pools.
        fetch(world, Listener::Pooled, &[("/ok/1", 200)])?;
        tests::process::signal(world.nginx.id(), libc::SIGHUP);
        fetch(world, Listener::Pooled, &[("/ok/2", 200)])
    })
}

#[test]
fn large_uploads_and_downloads() -> Result<()> {
    quiet(|world, _| {
        let at = world.at(Listener::Plain);
        for size in [0, 1, 100_000, 8_000_000] {
            let answer = client::post(&world.bed, at, "/ok/upload", size)?;
            assert_eq!(answer.status, Some(200), "{size}");
        }
        let answer = world.get(Listener::Pooled, "/ok/download?size=20000000")?;
        assert_eq!((answer.bytes, answer.complete), (20_000_000, true));
        let answer = client::post(
            &world.bed,
            world.at(Listener::Pooled),
            "/early-answer/",
            4000,
        )?;
        assert_eq!(answer.status, Some(413));
        Ok(())
    })
}

#[test]
fn expectations_pipelining_and_old_clients() -> Result<()> {
    quiet(|world, _| {
        let mut client = Connection::open(&world.bed, world.at(Listener::Plain))?;
        let headers = "Content-Length: 5\r\nExpect: 100-continue\r\n";
        client.send(request("POST", "/ok/expect", headers).as_bytes())?;
        // nginx sends its 100 at once; the body need not wait for it.
        client.send(b"12345")?;
        let answer = client.answer()?;
        assert_eq!(
            (answer.status, answer.interim.as_slice()),
            (Some(200), &[100][..])
        );
        let many: String = (0..10)
            .map(|number| request("GET", &format!("/ok/{number}?size=2000"), ""))
            .collect();
        for listener in [Listener::Plain, Listener::Pooled] {
            let mut client = Connection::open(&world.bed, world.at(listener))?;
            client.send(many.as_bytes())?;
            for _ in 0..10 {
                assert_eq!(client.answer()?.bytes, 2000);
            }
        }
        let mut old = Connection::open(&world.bed, world.at(Listener::Plain))?;
        old.send(b"GET /chunked/ HTTP/1.0\r\n\r\n")?;
        assert_eq!(old.answer()?.status, Some(200));
        Ok(())
    })
}

#[test]
fn slow_but_fine_responses() -> Result<()> {
    quiet(|world, _| {
        fetch(
            world,
            Listener::Plain,
            &[("/ok/slow?ms=400", 200), ("/ok/slower?ms=520", 200)],
        )?;
        fetch(world, Listener::Pooled, &[("/ok/slow?ms=400", 200)])
    })
}

#[test]
fn a_lost_syn() -> Result<()> {
    quiet(|world, _| {
        let port = B::Ok.port();
        // The limit lets one packet through to the drop, and no second one within the hour.
        let rule = format!(
            "table inet syn {{ chain in {{ type filter hook input priority -10;\n\
             tcp dport {port} tcp flags & (syn | ack) == syn limit rate 1/hour burst 1 packets drop\n\
             }}\n}}\n"
        );
        world.bed.nft(Host::Backend, &rule)?;
        fetch(world, Listener::Plain, &[("/patient/1", 200)])?;
        let entry = world.nginx.logged("/patient/1")?;
        assert!(entry.seconds > 0.9, "the SYN was not lost: {entry:?}");
        Ok(())
    })
}

#[test]
fn clients_that_leave_first() -> Result<()> {
    for (listener, how) in [
        (Listener::Plain, Leave::Fin),
        (Listener::Plain, Leave::Reset),
        (Listener::Pooled, Leave::Fin),
        (Listener::Pooled, Leave::Reset),
    ] {
        quiet(|world, agent| {
            for (behavior, path) in [(B::Hang, "/hang/left"), (B::Stall, "/stall/left")] {
                let before = world.backends.requests(behavior)?;
                let mut client = Connection::open(&world.bed, world.at(listener))?;
                client.send(request("GET", path, "").as_bytes())?;
                wait::holds("the request at the backend", client::PATIENCE, || {
                    world
                        .backends
                        .requests(behavior)
                        .is_ok_and(|count| count > before)
                })?;
                client.leave(how)?;
                let entry = world.nginx.logged(path)?;
                assert!(entry.seconds < 0.5, "the client left too late: {entry:?}");
            }
            agent.metric("the aborts counted", |page| {
                page.sum(
                    "ingress_trace_client_aborts_total",
                    &[("controller", "nginx")],
                ) >= 2.0
            })?;
            Ok(())
        })?;
    }
    Ok(())
}

#[test]
fn a_tls_client_that_leaves_first() -> Result<()> {
    quiet(|world, _| {
        let mut client = TlsConnection::open(&world.bed, world.at(Listener::Tls))?;
        assert_eq!(client.get("/ok/")?.status, Some(200));
        client.ask("/hang/left")?;
        wait::holds("the request at the backend", client::PATIENCE, || {
            world
                .backends
                .requests(B::Hang)
                .is_ok_and(|count| count > 0)
        })?;
        drop(client);
        world.nginx.logged("/hang/left").map(drop)
    })
}

#[test]
fn tls_traffic_in_good_order() -> Result<()> {
    quiet(|world, _| {
        for (path, status) in FRAMINGS {
            let answer = tls::get(&world.bed, world.at(Listener::Tls), path)?;
            assert_eq!(
                (answer.status, answer.complete),
                (Some(*status), true),
                "{path}"
            );
        }
        let mut client = TlsConnection::open(&world.bed, world.at(Listener::TlsPooled))?;
        for number in 0..50 {
            assert_eq!(client.get(&format!("/ok/{number}"))?.status, Some(200));
        }
        Ok(())
    })
}

#[test]
fn websockets_closed_by_either_side() -> Result<()> {
    quiet(|world, _| {
        let headers = "Connection: Upgrade\r\nUpgrade: websocket\r\n";
        for (path, by_client) in [("/websocket/", true), ("/websocket-close/", false)] {
            let mut client = Connection::open(&world.bed, world.at(Listener::Plain))?;
            client.send(request("GET", path, headers).as_bytes())?;
            assert_eq!(client.answer()?.status, Some(101));
            if by_client {
                client.send(b"GET / HTTP/1.1 is only payload here")?;
                assert_eq!(client.bytes(35)?.len(), 35);
            } else {
                assert_eq!(client.bytes(9)?.len(), 9);
            }
            client.leave(Leave::Fin)?;
            world.nginx.logged(path)?;
        }
        Ok(())
    })
}

#[test]
fn two_percent_packet_loss_with_64_kb_responses() -> Result<()> {
    quiet(|world, _| {
        let lossy = "table inet loss { chain in { type filter hook input priority -10;\n\
                     meta l4proto tcp numgen random mod 100 < 2 drop\n}\n}\n";
        world.bed.nft(Host::Proxy, lossy)?;
        let mut client = Connection::open(&world.bed, world.at(Listener::Pooled))?;
        // The patient location: nginx's read timer is longer than repeated losses.
        for number in 0..300 {
            let answer = client.get(&format!("/patient/{number}?size=65536"))?;
            assert_eq!((answer.status, answer.bytes), (Some(200), 65536));
        }
        world.bed.nft(Host::Proxy, "delete table inet loss\n")
    })
}
