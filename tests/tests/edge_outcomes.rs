//! Failures at the edges of HTTP and nginx: what the client got, compared with what is found.
use std::fmt::Write as _;
use std::io;

use anyhow::Result;
use serde_json::{Value, json};
use tests::bed::Bed;
use tests::client::{Connection, Leave, request};
use tests::edge::{Edge, Peer, head, pause, serve};
use tests::expect::Differences;
use tests::world::World;

const PORT: u16 = 8090;

/// One location: word, directives (with `$PORT` for its backend), what the backend does, what the
/// client gets, and what is found for it.
struct Row {
    word: &'static str,
    directives: &'static str,
    script: fn(&mut Peer) -> io::Result<()>,
    status: Option<u16>,
    expected: fn() -> Value,
}

fn start(bed: &Bed, rows: &[Row], more: &str) -> Result<Edge> {
    let mut text = String::new();
    for (row, port) in rows.iter().zip(9501..) {
        serve(bed, port, row.script)?;
        let directives = row.directives.replace("$PORT", &port.to_string());
        writeln!(text, "location /{}/ {{ {directives} }}", row.word)?;
    }
    Edge::start(
        bed,
        "",
        &format!(
            "{more}\nserver {{ listen {PORT};\n{text}location = /auth {{ internal; proxy_pass http://$BACKEND:9701; }}\n}}\n"
        ),
    )
}

fn check(rows: &[Row], more: &str) -> Result<()> {
    let world = World::new()?;
    let edge = start(&world.bed, rows, more)?;
    compare(&world, &edge, rows, || Ok(()))
}

/// Asks for each row under an agent, does what comes `last`, and compares what is found.
fn compare(
    world: &World,
    edge: &Edge,
    rows: &[Row],
    last: impl FnOnce() -> Result<()>,
) -> Result<()> {
    let agent = world.agent()?;
    let mut differences = Differences::default();
    for row in rows {
        let mut client = Connection::open(&world.bed, edge.at(PORT))?;
        let answer = client.get(&format!("/{}/", row.word))?;
        differences.check(answer.status == row.status, || {
            format!("{}: {answer:?}", row.word)
        });
        pause(60);
    }
    last()?;
    let found = world.others(agent)?;
    for row in rows {
        let path = format!("/{}/", row.word);
        differences.only(
            row.word,
            &found,
            |one| one.path() == path,
            &(row.expected)(),
        );
    }
    differences.finish(&edge.errors());
    Ok(())
}

const PLAIN: &str = "proxy_pass http://$BACKEND:$PORT;";

const RESPONSES: &[Row] = &[
    Row {
        word: "long-head-cut-by-fin",
        directives: PLAIN,
        script: |peer| {
            peer.request()?;
            peer.send(head(2000, "Content-Length: 5000\r\n") + "begun")
        },
        status: Some(200),
        expected: || json!({"outcome": "closed_early", "phase": "response", "client_visible": "yes", "status": 200}),
    },
    Row {
        word: "long-head-cut-by-rst",
        directives: PLAIN,
        script: |peer| {
            peer.request()?;
            peer.send(head(2000, "Content-Length: 5000\r\n") + "begun")?;
            pause(30);
            peer.abort()
        },
        status: Some(200),
        expected: || json!({"outcome": "reset", "phase": "response", "client_visible": "yes", "status": 200}),
    },
    Row {
        word: "large-cut",
        directives: PLAIN,
        script: |peer| {
            peer.request()?;
            peer.send("HTTP/1.1 200 OK\r\nContent-Length: 5000001\r\n\r\n")?;
            peer.send(vec![b'x'; 5_000_000])
        },
        status: Some(200),
        expected: || json!({"outcome": "closed_early", "phase": "response", "bytes_received": 5_000_044, "client_visible": "yes"}),
    },
    Row {
        word: "until-close-reset",
        directives: PLAIN,
        script: |peer| {
            peer.request()?;
            peer.send("HTTP/1.1 200 OK\r\n\r\nsome")?;
            pause(30);
            peer.abort()
        },
        status: Some(200),
        expected: || json!({"outcome": "reset", "phase": "response"}),
    },
    Row {
        word: "head-too-large",
        directives: "proxy_pass http://$BACKEND:$PORT; proxy_buffer_size 4k; proxy_buffers 8 4k;",
        script: |peer| {
            peer.request()?;
            peer.send(head(9000, "Content-Length: 2\r\n") + "ok")?;
            peer.wait()
        },
        status: Some(502),
        expected: || json!({"outcome": "bad_response", "cause": "protocol_error", "client_visible": "yes", "status": 502, "status_source": "observed"}),
    },
    Row {
        word: "header-invalid",
        directives: PLAIN,
        script: |peer| {
            peer.request()?;
            peer.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX\0: a\r\n\r\nok")?;
            peer.wait()
        },
        status: Some(502),
        expected: || json!({"outcome": "bad_response", "cause": "protocol_error", "client_visible": "yes", "status": 502}),
    },
    Row {
        word: "chunk-invalid",
        directives: PLAIN,
        script: |peer| {
            peer.request()?;
            peer.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nhello\r\n")?;
            peer.wait()
        },
        // It had not sent the head on when the first chunk showed what it was worth.
        status: None,
        expected: || json!({"outcome": "bad_response", "cause": "protocol_error", "client_visible": "yes"}),
    },
    Row {
        word: "head-stalls",
        directives: "proxy_pass http://$BACKEND:$PORT; proxy_read_timeout 400ms;",
        script: |peer| {
            peer.request()?;
            peer.send("HTTP/1.1 200 OK\r\nConten")?;
            peer.wait()
        },
        status: Some(504),
        expected: || json!({"outcome": "response_stalled", "cause": "backend_timeout", "status": 504}),
    },
];

#[test]
fn responses_that_break() -> Result<()> {
    check(RESPONSES, "")
}

const HTTPS: &str = "proxy_pass https://$BACKEND:$PORT;";

/// Upstream TLS: the failure is at the connection, and must not go unseen.
const TLS: &[Row] = &[
    Row {
        word: "tls-reset-in-handshake",
        directives: HTTPS,
        script: |peer| {
            peer.take(5)?;
            peer.abort()
        },
        status: Some(502),
        expected: || json!({"outcome": "reset", "client_visible": "yes", "status": 502}),
    },
    Row {
        word: "tls-fin-in-handshake",
        directives: HTTPS,
        script: |peer| {
            peer.take(1)?;
            pause(30);
            Ok(())
        },
        status: Some(502),
        expected: || json!({"outcome": "closed_early", "client_visible": "yes", "status": 502}),
    },
    Row {
        word: "tls-alert",
        directives: HTTPS,
        script: |peer| {
            peer.take(100)?;
            peer.send(b"\x15\x03\x01\x00\x02\x02\x28")?;
            peer.wait()
        },
        status: Some(502),
        expected: || json!({"backend": {"port": 9503}, "client_visible": "yes", "status": 502}),
    },
    Row {
        word: "tls-to-plaintext",
        directives: HTTPS,
        script: |peer| {
            peer.take(100)?;
            peer.send(
                "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
            )?;
            peer.wait()
        },
        status: Some(502),
        expected: || json!({"outcome": "bad_response", "cause": "protocol_error", "client_visible": "yes", "status": 502}),
    },
    Row {
        word: "tls-silent",
        directives: "proxy_pass https://$BACKEND:$PORT; proxy_read_timeout 400ms; proxy_send_timeout 400ms;",
        script: |peer| peer.wait(),
        status: Some(504),
        expected: || json!({"outcome": "response_timeout", "client_visible": "yes", "status": 504}),
    },
];

#[test]
fn upstream_tls_that_fails_in_its_handshake() -> Result<()> {
    check(TLS, "")
}

fn no_upstream(status: u16) -> Value {
    json!({"outcome": "no_upstream", "status": status, "client_visible": "yes", "phase": null})
}

const OWN: &[Row] = &[
    Row {
        word: "own-502",
        directives: "return 502;",
        script: Peer::wait,
        status: Some(502),
        expected: || no_upstream(502),
    },
    Row {
        word: "own-504",
        directives: "return 504 later;",
        script: Peer::wait,
        status: Some(504),
        expected: || no_upstream(504),
    },
    Row {
        word: "limited",
        directives: "limit_req zone=none; proxy_pass http://$BACKEND:$PORT;",
        script: Peer::wait,
        status: Some(503),
        expected: || no_upstream(503),
    },
    Row {
        word: "authorized-without-endpoints",
        directives: "auth_request /auth; proxy_pass http://none;",
        script: Peer::wait,
        status: Some(502),
        expected: || no_upstream(502),
    },
    Row {
        word: "busy-then-fine",
        directives: "proxy_pass http://two; proxy_next_upstream http_503;",
        script: |peer| {
            peer.request()?;
            peer.send("HTTP/1.1 503 Busy\r\nContent-Length: 2\r\n\r\nno")
        },
        status: Some(200),
        expected: || json!({"outcome": "error_status", "cause": "upstream_error", "client_visible": "no", "status": 200}),
    },
];

#[test]
fn errors_of_nginxs_own_and_hidden_ones() -> Result<()> {
    let more = "limit_req_zone $server_port zone=none:1m rate=1r/m;\n\
                upstream two { server $BACKEND:9505; server $BACKEND:9701 backup; }\n\
                upstream none { server $BACKEND:1 down; }\n";
    let world = World::new()?;
    serve(&world.bed, 9701, |peer| {
        peer.request()?;
        peer.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
    })?;
    let edge = start(&world.bed, OWN, more)?;
    // Uses up the limit: its zone's key is the port.
    let mut first = Connection::open(&world.bed, edge.at(PORT))?;
    first.send(request("GET", "/limited/first", "").as_bytes())?;
    compare(&world, &edge, OWN, || first.leave(Leave::Fin))
}

#[test]
fn an_error_from_a_pool_beside_successes_of_others() -> Result<()> {
    let world = World::new()?;
    let http = format!(
        "upstream pool {{ server $BACKEND:9611; keepalive 4; }}\n\
         server {{ listen {PORT}; proxy_set_header Connection '';\n\
         location /busy {{ proxy_pass http://pool; }}\n\
         location /fine {{ proxy_pass http://$BACKEND:9612; proxy_set_header Connection close; }} }}"
    );
    let edge = Edge::start(&world.bed, "", &http)?;
    serve(&world.bed, 9611, |peer| {
        while peer.request()?.is_some() {
            pause(200);
            peer.send("HTTP/1.1 503 Busy\r\nContent-Length: 2\r\n\r\nno")?;
        }
        Ok(())
    })?;
    serve(&world.bed, 9612, |peer| {
        peer.request()?;
        peer.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
    })?;
    let agent = world.agent()?;
    let mut busy = Connection::open(&world.bed, edge.at(PORT))?;
    busy.send(request("GET", "/busy", "").as_bytes())?;
    let mut fine = Connection::open(&world.bed, edge.at(PORT))?;
    for _ in 0..5 {
        assert_eq!(fine.get("/fine")?.status, Some(200));
    }
    assert_eq!(busy.answer()?.status, Some(503));
    let found = world.others(agent)?;
    let mut differences = Differences::default();
    let expected = json!({"outcome": "error_status", "cause": "upstream_error", "client_visible": "yes", "status": 503, "request": {"path": "/busy"}});
    differences.only("busy", &found, |_| true, &expected);
    differences.finish("");
    Ok(())
}
