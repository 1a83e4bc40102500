//! Healthy traffic at the edges of HTTP and nginx: nothing of it is a finding. Each row is checked
//! by what the client got, so that a row that is not healthy fails by itself.
use std::fmt::Write as _;
use std::io;

use anyhow::Result;
use tests::agent::Finding;
use tests::bed::Bed;
use tests::client::Connection;
use tests::edge::{Edge, Peer, head, pause, serve, silent};
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
        let Row {
            word, directives, ..
        } = row;
        writeln!(
            text,
            "location /{word}/ {{ proxy_pass http://$BACKEND:{port}; {directives} }}"
        )?;
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
        assert_eq!(
            (answer.status, answer.complete),
            (Some(row.status), true),
            "{}: {answer:?}\n{}",
            row.word,
            edge.errors()
        );
        pause(60);
    }
    world.others(agent)
}

fn body(size: usize) -> Vec<u8> {
    vec![b'x'; size]
}

fn whole(peer: &mut Peer, size: usize, bytes: usize) -> io::Result<()> {
    peer.request()?;
    peer.send(
        [
            head(size, &format!("Content-Length: {bytes}\r\n")).into_bytes(),
            body(bytes),
        ]
        .concat(),
    )
}

const HEADS: &[Row] = &[
    Row {
        word: "head-1k",
        directives: "",
        status: 200,
        script: |peer| whole(peer, 1000, 100),
    },
    Row {
        word: "head-2k",
        directives: "",
        status: 200,
        script: |peer| whole(peer, 2000, 100),
    },
    Row {
        word: "head-3k",
        directives: "",
        status: 200,
        script: |peer| whole(peer, 3000, 3_000_000),
    },
    Row {
        word: "head-2k-until-close",
        directives: "",
        status: 200,
        script: |peer| {
            peer.request()?;
            peer.send(head(2000, "Connection: close\r\n"))?;
            peer.send(body(100_000))
        },
    },
    Row {
        word: "head-2k-chunked",
        directives: "",
        status: 200,
        script: |peer| {
            peer.request()?;
            peer.send(head(2000, "Transfer-Encoding: chunked\r\n"))?;
            peer.pieces(&["5\r\nhello\r\n", "0\r\n\r\n"])
        },
    },
    Row {
        word: "head-pieces",
        directives: "",
        status: 200,
        script: |peer| {
            peer.request()?;
            let text = head(900, "Content-Length: 5\r\n");
            peer.pieces(&[&text[..700], &text[700..], "hello"])
        },
    },
    Row {
        word: "head-line-first",
        directives: "",
        status: 200,
        script: |peer| {
            peer.request()?;
            let text = head(900, "Content-Length: 5\r\n");
            peer.pieces(&[&text[..17], &text[17..], "hello"])
        },
    },
    Row {
        word: "head-line-first-chunked",
        directives: "",
        status: 200,
        script: |peer| {
            peer.request()?;
            let text = head(900, "Transfer-Encoding: chunked\r\n");
            peer.pieces(&[&text[..17], &text[17..], "5\r\nhello\r\n0\r\n\r\n"])
        },
    },
    Row {
        word: "head-by-line",
        directives: "",
        status: 200,
        script: |peer| {
            peer.request()?;
            let text = head(600, "Content-Length: 5\r\n");
            peer.pieces(&text.split_inclusive('\n').collect::<Vec<_>>())?;
            peer.send("hello")
        },
    },
];

#[test]
fn long_heads_and_heads_in_pieces() -> Result<()> {
    silent(&alarms(HEADS, "")?);
    Ok(())
}

const CHUNKED: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";

const CHUNKS: &[Row] = &[
    Row {
        word: "trailers",
        directives: "",
        status: 200,
        script: |peer| {
            peer.request()?;
            peer.pieces(&[CHUNKED, "5\r\nhello\r\n", "0\r\nX-Sum: 1\r\n\r\n"])
        },
    },
    Row {
        word: "split-end",
        directives: "",
        status: 200,
        script: |peer| {
            peer.request()?;
            peer.pieces(&[CHUNKED, "5\r\nhello\r", "\n0", "\r", "\n\r", "\n"])
        },
    },
    Row {
        word: "chunked-2m",
        directives: "",
        status: 200,
        script: |peer| {
            peer.request()?;
            peer.send(CHUNKED)?;
            for _ in 0..200 {
                peer.send([b"2710\r\n".to_vec(), body(10_000), b"\r\n".to_vec()].concat())?;
            }
            peer.send("0\r\n\r\n")
        },
    },
    Row {
        word: "chunked-zeros",
        directives: "",
        status: 200,
        script: |peer| {
            peer.request()?;
            peer.send(CHUNKED)?;
            peer.send("00005\r\nhello\r\n000\r\n\r\n")
        },
    },
    Row {
        word: "chunked-extension",
        directives: "",
        status: 200,
        script: |peer| {
            peer.request()?;
            peer.send(CHUNKED)?;
            peer.send("5\r\nhello\r\n0;a=b\r\n\r\n")
        },
    },
    Row {
        word: "empty-chunked",
        directives: "",
        status: 200,
        script: |peer| {
            peer.request()?;
            peer.send(format!("{CHUNKED}0\r\n\r\n"))
        },
    },
    Row {
        word: "not-modified",
        directives: "",
        status: 304,
        script: |peer| {
            peer.request()?;
            peer.send("HTTP/1.1 304 Not Modified\r\nContent-Length: 5000\r\nETag: \"a\"\r\n\r\n")
        },
    },
    Row {
        word: "no-content",
        directives: "",
        status: 204,
        script: |peer| {
            peer.request()?;
            peer.send("HTTP/1.1 204 No Content\r\n\r\n")
        },
    },
    Row {
        word: "bare-newlines",
        directives: "",
        status: 200,
        script: |peer| {
            peer.request()?;
            peer.send("HTTP/1.1 200 OK\nContent-Length: 5\n\nhello")
        },
    },
    Row {
        word: "old-version",
        directives: "",
        status: 200,
        script: |peer| {
            peer.request()?;
            peer.send("HTTP/1.0 200 OK\r\n\r\nhello")
        },
    },
    Row {
        word: "reset-after-all",
        directives: "",
        status: 200,
        script: |peer| {
            peer.request()?;
            peer.send("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")?;
            pause(30);
            peer.abort()
        },
    },
    Row {
        word: "trickle",
        directives: "proxy_read_timeout 1s; proxy_buffering off;",
        status: 200,
        script: |peer| {
            peer.request()?;
            peer.send("HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n")?;
            for _ in 0..6 {
                pause(200);
                peer.send("x")?;
            }
            Ok(())
        },
    },
];

#[test]
fn ends_of_responses() -> Result<()> {
    silent(&alarms(CHUNKS, "")?);
    Ok(())
}

/// Answers with a body that comes too late for anyone that is interested in the head only.
fn late_body(peer: &mut Peer, status: &str, headers: &str) -> io::Result<()> {
    peer.request()?;
    peer.send(format!(
        "HTTP/1.1 {status}\r\nContent-Length: 100000\r\n{headers}\r\n"
    ))?;
    pause(100);
    peer.send(body(100_000))
}

fn fine(peer: &mut Peer) -> io::Result<()> {
    peer.request()?;
    peer.send("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")
}

const BODIES_LEFT: &[Row] = &[
    Row {
        word: "fine",
        directives: "",
        status: 200,
        script: fine,
    },
    Row {
        word: "asks",
        directives: "auth_request /auth;",
        status: 200,
        script: fine,
    },
    Row {
        word: "denied",
        directives: "auth_request /auth-no;",
        status: 401,
        script: fine,
    },
    Row {
        word: "mirrored",
        directives: "mirror /mirror;",
        status: 200,
        script: |peer| {
            peer.request()?;
            pause(50);
            peer.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello")?;
            pause(200);
            peer.send("hello")
        },
    },
    Row {
        word: "intercepted",
        directives: "proxy_intercept_errors on; error_page 404 = /fine/;",
        status: 200,
        script: |peer| late_body(peer, "404 Not Found", ""),
    },
    Row {
        word: "intercepted-static",
        directives: "proxy_intercept_errors on; error_page 404 =200 /static;",
        status: 200,
        script: |peer| late_body(peer, "404 Not Found", ""),
    },
    Row {
        word: "redirected",
        directives: "",
        status: 200,
        script: |peer| late_body(peer, "200 OK", "X-Accel-Redirect: /fine/\r\n"),
    },
    Row {
        word: "redirected-static",
        directives: "",
        status: 200,
        script: |peer| late_body(peer, "200 OK", "X-Accel-Redirect: /static\r\n"),
    },
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
