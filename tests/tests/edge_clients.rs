//! Healthy traffic of unusual clients: slow, half-closed, uploading, leaving, pipelining. None of it
//! is a finding, with HTTP read and without.
use anyhow::Result;
use tests::agent::Agent;
use tests::client::{self, Connection, Leave, request};
use tests::edge::{Edge, Peer, head, pause, serve, silent};
use tests::nginx::Listener;
use tests::world::World;

const PORT: u16 = 8090;

fn body(size: usize) -> Vec<u8> {
    vec![b'x'; size]
}

/// Traffic with clients of its own kind: whatever it leaves in the findings is an alarm.
fn quiet(http: &str, traffic: impl FnOnce(&World, &mut Edge) -> Result<()>) -> Result<()> {
    quiet_with(&[], http, traffic)
}

fn quiet_with(
    arguments: &[&str],
    http: &str,
    traffic: impl FnOnce(&World, &mut Edge) -> Result<()>,
) -> Result<()> {
    let world = World::new()?;
    let mut edge = Edge::start(&world.bed, "", http)?;
    let target = world.cgroup().display().to_string();
    let base = ["--no-kube", "--controller", "nginx", "--cgroup", &target];
    let agent = Agent::start_with(world.bed.folder(), &[&base[..], arguments].concat())?;
    traffic(&world, &mut edge)?;
    let found = if arguments.contains(&"--no-http") {
        // Paths are not read: the marker cannot be known by one.
        world.get(Listener::Plain, "/refused/marker")?;
        agent.finding("the marker", |one| {
            one.text("/outcome") == "connect_refused"
        })?;
        let mut all = agent.stop()?;
        all.retain(|one| one.text("/outcome") != "connect_refused");
        all
    } else {
        world.others(agent)?
    };
    silent(&found);
    Ok(())
}

fn one_location(port: u16, directives: &str) -> String {
    format!(
        "server {{ listen {PORT}; location / {{ proxy_pass http://$BACKEND:{port}; {directives} }} }}"
    )
}

#[test]
fn a_client_that_reads_too_slowly_for_nginx() -> Result<()> {
    let http = one_location(9611, "proxy_buffering off; send_timeout 300ms;");
    quiet(&http, |world, edge| {
        serve(&world.bed, 9611, |peer| {
            peer.request()?;
            peer.send("HTTP/1.1 200 OK\r\nContent-Length: 50000000\r\n\r\n")?;
            peer.send(body(50_000_000))
        })?;
        let mut client = Connection::open(&world.bed, edge.at(PORT))?;
        client.send(request("GET", "/slow", "").as_bytes())?;
        edge.logged("/slow")?;
        Ok(())
    })
}

#[test]
fn a_client_whose_upload_stalls() -> Result<()> {
    let http = one_location(
        9611,
        "proxy_request_buffering off; client_body_timeout 300ms;",
    );
    quiet(&http, |world, edge| {
        serve(&world.bed, 9611, Peer::wait)?;
        let mut client = Connection::open(&world.bed, edge.at(PORT))?;
        client.send(request("POST", "/stalled", "Content-Length: 1000\r\n").as_bytes())?;
        client.send(b"some of it")?;
        edge.logged("/stalled")?;
        Ok(())
    })
}

#[test]
fn a_client_that_leaves_while_it_uploads() -> Result<()> {
    let http = one_location(9611, "proxy_request_buffering off;");
    quiet(&http, |world, edge| {
        serve(&world.bed, 9611, Peer::wait)?;
        for (path, how) in [("/fin", Leave::Fin), ("/rst", Leave::Reset)] {
            let mut client = Connection::open(&world.bed, edge.at(PORT))?;
            client.send(request("POST", path, "Content-Length: 1000\r\n").as_bytes())?;
            client.send(b"some of it")?;
            pause(50);
            client.leave(how)?;
            edge.logged(path)?;
        }
        Ok(())
    })
}

#[test]
fn slow_readers_of_a_buffered_response() -> Result<()> {
    let http = one_location(9611, "");
    quiet(&http, |world, edge| {
        serve(&world.bed, 9611, |peer| {
            peer.request()?;
            peer.send(head(2000, "Content-Length: 20000000\r\n"))?;
            peer.send(body(20_000_000))
        })?;
        let mut client = Connection::open(&world.bed, edge.at(PORT))?;
        client.send(request("GET", "/slow", "").as_bytes())?;
        pause(1500);
        assert!(client.answer()?.complete);
        Ok(())
    })
}

#[test]
fn an_error_whose_body_comes_late() -> Result<()> {
    let world = World::new()?;
    let edge = Edge::start(&world.bed, "", &one_location(9611, ""))?;
    serve(&world.bed, 9611, |peer| {
        peer.request()?;
        peer.send("HTTP/1.1 503 Busy\r\nContent-Length: 5\r\n\r\n")?;
        pause(2000);
        peer.send("hello")
    })?;
    let agent = world.agent()?;
    let answer = Connection::open(&world.bed, edge.at(PORT))?.get("/late")?;
    assert_eq!(answer.status, Some(503));
    let found = world.others(agent)?;
    assert_eq!(found.len(), 1, "{found:#?}");
    assert_eq!(
        (found[0].text("/outcome"), found[0].text("/client_visible")),
        ("error_status", "yes")
    );
    Ok(())
}

#[test]
fn clients_that_close_their_half_or_reset_after_all() -> Result<()> {
    let http = one_location(9611, "");
    quiet(&http, |world, edge| {
        serve(&world.bed, 9611, |peer| {
            peer.request()?;
            pause(100);
            peer.send(
                [
                    b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n".to_vec(),
                    body(100_000),
                ]
                .concat(),
            )
        })?;
        let mut client = Connection::open(&world.bed, edge.at(PORT))?;
        assert!(client.get("/all")?.complete);
        client.leave(Leave::Reset)?;
        let mut old = Connection::open(&world.bed, edge.at(PORT))?;
        old.send(b"GET /old HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")?;
        assert!(old.answer()?.complete);
        old.send(b"GET /old HTTP/1.0\r\n\r\n")?;
        assert!(old.answer()?.complete);
        edge.logged("/old").map(drop)
    })
}

#[test]
fn early_answers_to_uploads() -> Result<()> {
    for arguments in [&[][..], &["--no-http"]] {
        let http = one_location(9611, "proxy_request_buffering off;");
        quiet_with(arguments, &http, |world, edge| {
            serve(&world.bed, 9611, |peer| {
                peer.request()?;
                peer.take(1000)?;
                peer.send(
                    "HTTP/1.1 413 Too Large\r\nContent-Length: 4\r\nConnection: close\r\n\r\nbig\n",
                )?;
                // Read on for a while, as good servers do, then close.
                peer.take(200_000)?;
                Ok(())
            })?;
            let answer = client::post(&world.bed, edge.at(PORT), "/large", 50_000_000)?;
            assert_eq!(answer.status, Some(413), "{}", edge.errors());
            edge.logged("/large").map(drop)
        })?;
    }
    Ok(())
}

#[test]
fn web_sockets_without_http() -> Result<()> {
    let upgrade = "proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection upgrade;";
    for arguments in [&[][..], &["--no-http"]] {
        quiet_with(arguments, &one_location(9611, upgrade), |world, edge| {
            serve(&world.bed, 9611, |peer| {
                peer.request()?;
                peer.send(
                    "HTTP/1.1 101 Switching\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
                )?;
                // One message of the client is one too many: the server closes without a word.
                peer.take(60).map(drop)
            })?;
            let mut client = Connection::open(&world.bed, edge.at(PORT))?;
            client.send(request("GET", "/ws", "Upgrade: websocket\r\n").as_bytes())?;
            assert_eq!(client.answer()?.status, Some(101));
            client.send(&body(60))?;
            edge.logged("/ws").map(drop)
        })?;
    }
    Ok(())
}

#[test]
fn pipelined_requests_are_counted_one_by_one() -> Result<()> {
    let world = World::new()?;
    let agent = world.agent()?;
    let mut sent = 0;
    for count in [2, 10, 100] {
        let many: String = (0..count)
            .map(|number| request("GET", &format!("/ok/{number}"), ""))
            .collect();
        let mut client = Connection::open(&world.bed, world.at(Listener::Pooled))?;
        client.send(many.as_bytes())?;
        for _ in 0..count {
            assert_eq!(client.answer()?.status, Some(200));
        }
        sent += count;
    }
    world.mark(&agent)?;
    let page = agent.metric("the marker counted", |page| {
        page.count("ingress_trace_responses_total", &[("status", "502")]) >= 1
    })?;
    let counted = page.count("ingress_trace_responses_total", &[("status", "200")]);
    let aborts = page.count("ingress_trace_client_aborts_total", &[]);
    // Two responses that share a segment count once; how many do is up to the machine.
    assert!(
        counted <= sent && counted * 10 >= sent * 8,
        "{counted} of {sent}"
    );
    assert_eq!(aborts, 0);
    silent(
        &world
            .others(agent)?
            .into_iter()
            .filter(|one| !one.path().contains("marker"))
            .collect::<Vec<_>>(),
    );
    Ok(())
}
