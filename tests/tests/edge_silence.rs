//! Healthy traffic at the edges of HTTP and nginx: nothing of it is a finding. Each row is checked
//! by what the client got, so that a row that is not healthy fails by itself.
use std::io;

use anyhow::Result;
use tests::agent::{Agent, Finding};
use tests::bed::Bed;
use tests::client::{self, Connection, Leave, request};
use tests::edge::{Edge, Peer, pause, serve};
use tests::nginx::Listener;
use tests::world::World;

const PORT: u16 = 8090;
type Script = fn(&mut Peer) -> io::Result<()>;

/// One server with a location per row: word, backend port, directives, what the backend does.
struct Row {
    word: &'static str,
    directives: &'static str,
    script: Script,
    status: u16,
}

fn start(bed: &Bed, rows: &[Row], more: &str) -> Result<Edge> {
    serve(bed, 9601, |peer| late_body(peer, "200 OK", ""))?;
    serve(bed, 9603, |peer| {
        pause(100);
        late_body(peer, "200 OK", "")
    })?;
    serve(bed, 9602, |peer| late_body(peer, "401 Unauthorized", ""))?;
    let mut text = format!("server {{ listen {PORT}; listen [::]:{PORT};\n");
    for (row, port) in rows.iter().zip(9501..) {
        serve(bed, port, row.script)?;
        let Row { word, directives, .. } = row;
        text += &format!(
            "location /{word}/ {{ proxy_pass http://$BACKEND:{port}; {directives} }}\n"
        );
    }
    text += more;
    text += "}\n";
    Edge::start(bed, "", &text)
}

/// Runs all rows on connections that stay, then gives what was found besides the marker.
fn alarms(rows: &[Row], more: &str) -> Result<Vec<Finding>> {
    let world = World::new()?;
    let edge = start(&world.bed, rows, more)?;
    let agent = world.agent()?;
    for row in rows {
        let mut client = Connection::open(&world.bed, edge.at(PORT))?;
        let answer = client.get(&format!("/{}/", row.word))?;
        assert_eq!((answer.status, answer.complete), (Some(row.status), true), "{}: {answer:?}\n{}", row.word, edge.errors());
        pause(60);
    }
    left(&world, agent)
}

fn left(world: &World, agent: Agent) -> Result<Vec<Finding>> {
    let mut found = world.others(agent)?;
    found.retain(|finding| finding.text("/outcome") != "slow");
    Ok(found)
}

fn silent(found: &[Finding]) {
    let lines: Vec<String> = found.iter().map(|one| one.0.to_string()).collect();
    assert!(found.is_empty(), "{} false alarms:\n{}", found.len(), lines.join("\n"));
}

/// A head of about this many bytes, its framing last.
fn head(size: usize, framing: &str) -> String {
    let mut text = "HTTP/1.1 200 OK\r\n".to_owned();
    while text.len() < size {
        text += &format!("Set-Cookie: a{}={}; Path=/\r\n", text.len(), "v".repeat(60));
    }
    text + framing + "\r\n"
}

fn body(size: usize) -> Vec<u8> {
    vec![b'x'; size]
}

fn whole(peer: &mut Peer, size: usize, bytes: usize) -> io::Result<()> {
    peer.request()?;
    peer.send([head(size, &format!("Content-Length: {bytes}\r\n")).into_bytes(), body(bytes)].concat())
}

const HEADS: &[Row] = &[
    Row { word: "head-1k", directives: "", status: 200, script: |peer| whole(peer, 1000, 100) },
    Row { word: "head-2k", directives: "", status: 200, script: |peer| whole(peer, 2000, 100) },
    Row { word: "head-3k", directives: "", status: 200, script: |peer| whole(peer, 3000, 3_000_000) },
    Row { word: "head-2k-until-close", directives: "", status: 200, script: |peer| {
        peer.request()?;
        peer.send(head(2000, "Connection: close\r\n"))?;
        peer.send(body(100_000))
    } },
    Row { word: "head-2k-chunked", directives: "", status: 200, script: |peer| {
        peer.request()?;
        peer.send(head(2000, "Transfer-Encoding: chunked\r\n"))?;
        peer.pieces(&["5\r\nhello\r\n", "0\r\n\r\n"])
    } },
    Row { word: "head-pieces", directives: "", status: 200, script: |peer| {
        peer.request()?;
        let text = head(900, "Content-Length: 5\r\n");
        peer.pieces(&[&text[..700], &text[700..], "hello"])
    } },
    Row { word: "head-line-first", directives: "", status: 200, script: |peer| {
        peer.request()?;
        let text = head(900, "Content-Length: 5\r\n");
        peer.pieces(&[&text[..17], &text[17..], "hello"])
    } },
    Row { word: "head-line-first-chunked", directives: "", status: 200, script: |peer| {
        peer.request()?;
        let text = head(900, "Transfer-Encoding: chunked\r\n");
        peer.pieces(&[&text[..17], &text[17..], "5\r\nhello\r\n0\r\n\r\n"])
    } },
    Row { word: "head-by-line", directives: "", status: 200, script: |peer| {
        peer.request()?;
        let text = head(600, "Content-Length: 5\r\n");
        peer.pieces(&text.split_inclusive('\n').collect::<Vec<_>>())?;
        peer.send("hello")
    } },
];

#[test]
fn long_heads_and_heads_in_pieces() -> Result<()> {
    silent(&alarms(HEADS, "")?);
    Ok(())
}

const CHUNKED: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";

const CHUNKS: &[Row] = &[
    Row { word: "trailers", directives: "", status: 200, script: |peer| {
        peer.request()?;
        peer.pieces(&[CHUNKED, "5\r\nhello\r\n", "0\r\nX-Sum: 1\r\n\r\n"])
    } },
    Row { word: "split-end", directives: "", status: 200, script: |peer| {
        peer.request()?;
        peer.pieces(&[CHUNKED, "5\r\nhello\r", "\n0", "\r", "\n\r", "\n"])
    } },
    Row { word: "chunked-2m", directives: "", status: 200, script: |peer| {
        peer.request()?;
        peer.send(CHUNKED)?;
        for _ in 0..200 {
            peer.send([b"2710\r\n".to_vec(), body(10_000), b"\r\n".to_vec()].concat())?;
        }
        peer.send("0\r\n\r\n")
    } },
    Row { word: "chunked-zeros", directives: "", status: 200, script: |peer| {
        peer.request()?;
        peer.send(CHUNKED)?;
        peer.send("00005\r\nhello\r\n000\r\n\r\n")
    } },
    Row { word: "chunked-extension", directives: "", status: 200, script: |peer| {
        peer.request()?;
        peer.send(CHUNKED)?;
        peer.send("5\r\nhello\r\n0;a=b\r\n\r\n")
    } },
    Row { word: "empty-chunked", directives: "", status: 200, script: |peer| {
        peer.request()?;
        peer.send(format!("{CHUNKED}0\r\n\r\n"))
    } },
    Row { word: "not-modified", directives: "", status: 304, script: |peer| {
        peer.request()?;
        peer.send("HTTP/1.1 304 Not Modified\r\nContent-Length: 5000\r\nETag: \"a\"\r\n\r\n")
    } },
    Row { word: "no-content", directives: "", status: 204, script: |peer| {
        peer.request()?;
        peer.send("HTTP/1.1 204 No Content\r\n\r\n")
    } },
    Row { word: "bare-newlines", directives: "", status: 200, script: |peer| {
        peer.request()?;
        peer.send("HTTP/1.1 200 OK\nContent-Length: 5\n\nhello")
    } },
    Row { word: "old-version", directives: "", status: 200, script: |peer| {
        peer.request()?;
        peer.send("HTTP/1.0 200 OK\r\n\r\nhello")
    } },
    Row { word: "reset-after-all", directives: "", status: 200, script: |peer| {
        peer.request()?;
        peer.send("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")?;
        pause(30);
        peer.abort()
    } },
    Row { word: "trickle", directives: "proxy_read_timeout 1s; proxy_buffering off;", status: 200, script: |peer| {
        peer.request()?;
        peer.send("HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n")?;
        for _ in 0..6 {
            pause(200);
            peer.send("x")?;
        }
        Ok(())
    } },
];

#[test]
fn ends_of_responses() -> Result<()> {
    silent(&alarms(CHUNKS, "")?);
    Ok(())
}

/// Answers with a body that comes too late for anyone that is interested in the head only.
fn late_body(peer: &mut Peer, status: &str, headers: &str) -> io::Result<()> {
    peer.request()?;
    peer.send(format!("HTTP/1.1 {status}\r\nContent-Length: 100000\r\n{headers}\r\n"))?;
    pause(100);
    peer.send(body(100_000))
}

fn fine(peer: &mut Peer) -> io::Result<()> {
    peer.request()?;
    peer.send("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")
}

const BODIES_LEFT: &[Row] = &[
    Row { word: "fine", directives: "", status: 200, script: fine },
    Row { word: "asks", directives: "auth_request /auth;", status: 200, script: fine },
    Row { word: "denied", directives: "auth_request /auth-no;", status: 401, script: fine },
    Row { word: "mirrored", directives: "mirror /mirror;", status: 200, script: |peer| {
        peer.request()?;
        pause(50);
        peer.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello")?;
        pause(200);
        peer.send("hello")
    } },
    Row { word: "intercepted", directives: "proxy_intercept_errors on; error_page 404 = /fine/;", status: 200, script: |peer| late_body(peer, "404 Not Found", "") },
    Row { word: "intercepted-static", directives: "proxy_intercept_errors on; error_page 404 =200 /static;", status: 200, script: |peer| late_body(peer, "404 Not Found", "") },
    Row { word: "redirected", directives: "", status: 200, script: |peer| late_body(peer, "200 OK", "X-Accel-Redirect: /fine/\r\n") },
    Row { word: "redirected-static", directives: "", status: 200, script: |peer| late_body(peer, "200 OK", "X-Accel-Redirect: /static\r\n") },
];

#[test]
fn bodies_that_nginx_does_not_want() -> Result<()> {
    // The endpoints behind /auth and /mirror send their heads at once, their bodies too late.
    silent(&alarms(
        BODIES_LEFT,
        "location = /auth { internal; proxy_pass http://$BACKEND:9601; proxy_pass_request_body off; }\n\
         location = /auth-no { internal; proxy_pass http://$BACKEND:9602; }\n\
         location = /mirror { internal; proxy_pass http://$BACKEND:9603; }\n\
         location = /static { return 200 static; }\n",
    )?);
    Ok(())
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
        agent.finding("the marker", |one| one.text("/outcome") == "connect_refused")?;
        let mut all = agent.stop()?;
        all.retain(|one| one.text("/outcome") != "connect_refused");
        all
    } else {
        left(&world, agent)?
    };
    silent(&found);
    Ok(())
}

fn one_location(port: u16, directives: &str) -> String {
    format!("server {{ listen {PORT}; location / {{ proxy_pass http://$BACKEND:{port}; {directives} }} }}")
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
    let http = one_location(9611, "proxy_request_buffering off; client_body_timeout 300ms;");
    quiet(&http, |world, edge| {
        serve(&world.bed, 9611, |peer| peer.wait())?;
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
        serve(&world.bed, 9611, |peer| peer.wait())?;
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
        serve(&world.bed, 9611, |peer| whole(peer, 2000, 20_000_000))?;
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
    let found = left(&world, agent)?;
    assert_eq!(found.len(), 1, "{found:#?}");
    assert_eq!((found[0].text("/outcome"), found[0].text("/client_visible")), ("error_status", "yes"));
    Ok(())
}

#[test]
fn clients_that_close_their_half_or_reset_after_all() -> Result<()> {
    let http = one_location(9611, "");
    quiet(&http, |world, edge| {
        serve(&world.bed, 9611, |peer| {
            peer.request()?;
            pause(100);
            peer.send([b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n".to_vec(), body(100_000)].concat())
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
                peer.send("HTTP/1.1 413 Too Large\r\nContent-Length: 4\r\nConnection: close\r\n\r\nbig\n")?;
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
                peer.send("HTTP/1.1 101 Switching\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")?;
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
        let many: String =
            (0..count).map(|number| request("GET", &format!("/ok/{number}"), "")).collect();
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
    assert_eq!((counted, aborts), (sent, 0));
    silent(&left(&world, agent)?.into_iter().filter(|one| !one.path().contains("marker")).collect::<Vec<_>>());
    Ok(())
}
