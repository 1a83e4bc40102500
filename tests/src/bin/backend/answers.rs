//! What each behavior writes: a request's head in, bytes on the wire and what to do with the
//! connection out.
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::fd::AsRawFd;
use std::thread::sleep;
use std::time::Duration;

use tests::backends::Behavior;

use crate::request::Head;

/// What becomes of the connection after an answer.
pub enum Next {
    /// Read the next request.
    Keep,
    /// Close it: FIN.
    Close,
    /// Abort it: RST.
    Reset,
}

/// A pause that makes two writes two segments, whatever the load.
const GAP: Duration = Duration::from_millis(20);

const LONGER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n";

/// Answers one request; `exchange` is its number on the connection, from 1.
pub fn answer(
    behavior: Behavior,
    head: &Head,
    exchange: u32,
    to: &mut TcpStream,
) -> io::Result<Next> {
    match behavior {
        Behavior::Ok => plain(head, to),
        Behavior::Interim100 => interim("100 Continue", head, to),
        Behavior::Interim103 => interim("103 Early Hints", head, to),
        Behavior::IdleClose => idle_close(head, to),
        Behavior::EarlyAnswer => early(to),
        Behavior::WebSocket => echo(to),
        Behavior::Race => plain(head, to).map(|_| Next::Close),
        Behavior::ResetSecond | Behavior::FinSecond if exchange == 1 => plain(head, to),
        Behavior::ResetRequest | Behavior::ResetUnread | Behavior::ResetSecond => Ok(Next::Reset),
        Behavior::FinRequest | Behavior::FinSecond => Ok(Next::Close),
        Behavior::Hang => until_closed(to),
        Behavior::Stall => {
            write(to, &[LONGER, b"begun"])?;
            until_closed(to)
        }
        Behavior::ResetHead | Behavior::ResetBody => {
            write(to, parts(behavior))?;
            sleep(GAP);
            Ok(Next::Reset)
        }
        Behavior::CloseHeader
        | Behavior::CloseDelimited
        | Behavior::Chunked
        | Behavior::FinHead
        | Behavior::FinBody
        | Behavior::FinChunked
        | Behavior::Garbage
        | Behavior::TlsAlert
        | Behavior::WebSocketClose => {
            write(to, parts(behavior))?;
            Ok(if behavior == Behavior::Chunked && !head.close {
                Next::Keep
            } else {
                Next::Close
            })
        }
    }
}

/// The fixed answers, each part a write of its own.
fn parts(behavior: Behavior) -> &'static [&'static [u8]] {
    const CHUNKED: &[u8] = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    match behavior {
        Behavior::CloseHeader => &[
            b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: close\r\n\r\n",
            b"ok\n",
        ],
        Behavior::CloseDelimited => &[
            b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n",
            b"some ",
            b"body",
        ],
        Behavior::Chunked => &[
            CHUNKED,
            b"5\r\nhel",
            b"lo\r\n6;x=y\r\n world\r\n",
            b"0\r\n",
            b"\r\n",
        ],
        Behavior::ResetHead | Behavior::FinHead => &[b"HTTP/1.1 200 OK\r\nContent-Le"],
        Behavior::ResetBody | Behavior::FinBody => &[LONGER, b"only this much"],
        Behavior::FinChunked => &[CHUNKED, b"5\r\nhello\r\n", b"ff\r\ncut"],
        Behavior::Garbage => &[b"\x00\x01\x02 this is no HTTP at all\r\n\r\n"],
        // Alert, TLS 1.0, 2 bytes: fatal, unexpected message.
        Behavior::TlsAlert => &[b"\x15\x03\x01\x00\x02\x02\x0a"],
        Behavior::WebSocketClose => &[SWITCH, b"\x81\x05hello\x88\x00"],
        _ => &[],
    }
}

/// The answer to the key of RFC 6455 section 1.3: HAProxy checks it.
const SWITCH: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\
    Connection: Upgrade\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

fn write(to: &mut TcpStream, parts: &[&[u8]]) -> io::Result<()> {
    for (index, part) in parts.iter().enumerate() {
        if index > 0 {
            sleep(GAP);
        }
        to.write_all(part)?;
    }
    Ok(())
}

/// Delay, status and size are the query's; 204 and 304 have no body, HEAD only its length.
fn plain(head: &Head, to: &mut TcpStream) -> io::Result<Next> {
    sleep(Duration::from_millis(head.number("ms").unwrap_or(0)));
    let status = head.number("status").unwrap_or(200);
    let size = head.number("size").unwrap_or(3);
    let bodiless = matches!(status, 204 | 304);
    let close = if head.close {
        "Connection: close\r\n"
    } else {
        ""
    };
    let length = if bodiless {
        String::new()
    } else {
        format!("Content-Length: {size}\r\n")
    };
    let mut bytes = format!("HTTP/1.1 {status} Asked\r\n{length}{close}\r\n").into_bytes();
    if !bodiless && !head.bodiless {
        bytes.resize(bytes.len() + usize::try_from(size).unwrap_or(0), b'x');
    }
    to.write_all(&bytes)?;
    Ok(if head.close { Next::Close } else { Next::Keep })
}

fn interim(status: &str, head: &Head, to: &mut TcpStream) -> io::Result<Next> {
    write!(to, "HTTP/1.1 {status}\r\n\r\n")?;
    sleep(GAP);
    plain(head, to)
}

fn idle_close(head: &Head, to: &mut TcpStream) -> io::Result<Next> {
    plain(head, to)?;
    sleep(Duration::from_millis(100));
    Ok(Next::Close)
}

/// The body still in the receive buffer makes this close a RST, long after the answer.
fn early(to: &mut TcpStream) -> io::Result<Next> {
    to.write_all(b"HTTP/1.1 413 Too Large\r\nContent-Length: 4\r\nConnection: close\r\n\r\nbig\n")?;
    sleep(Duration::from_millis(200));
    Ok(Next::Close)
}

fn echo(to: &mut TcpStream) -> io::Result<Next> {
    to.write_all(SWITCH)?;
    let mut bytes = [0; 4096];
    loop {
        match to.read(&mut bytes)? {
            0 => return Ok(Next::Close),
            count => to.write_all(&bytes[..count])?,
        }
    }
}

fn until_closed(to: &mut TcpStream) -> io::Result<Next> {
    io::copy(to, &mut io::sink())?;
    Ok(Next::Close)
}

/// RST with the request still unread.
pub fn reset_unread(stream: TcpStream) -> io::Result<()> {
    stream.peek(&mut [0; 1])?;
    reset(&stream)?;
    drop(stream);
    Ok(())
}

/// Makes the close that follows a RST.
pub fn reset(stream: &TcpStream) -> io::Result<()> {
    tests::client::abort_on_close(stream.as_raw_fd())
}
