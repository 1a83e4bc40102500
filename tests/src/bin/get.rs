//! The guest's HTTP client: `get PORT PATH` on loopback; the answer's body goes to stdout. Fails
//! unless the answer is complete and its status 200. Needs no resolver and no library but libc.
use std::env;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tests::response;

/// Longer than any timer of the guest's proxy.
const LIMIT: Duration = Duration::from_secs(20);

fn main() -> Result<()> {
    let mut arguments = env::args().skip(1);
    let port = arguments.next().context("failed to read PORT")?;
    let port: u16 = port.parse().context("failed to parse PORT")?;
    let path = arguments.next().context("failed to read PATH")?;
    let mut stream =
        TcpStream::connect((Ipv4Addr::LOCALHOST, port)).context("failed to connect")?;
    stream
        .set_read_timeout(Some(LIMIT))
        .context("failed to set timeout")?;
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: guest\r\nConnection: close\r\n\r\n"
    )
    .context("failed to ask")?;
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).context("failed to read")?;
    let answer = response::read(&mut bytes.as_slice(), false).context("failed to parse")?;
    ensure!(
        answer.complete && answer.status == Some(200),
        "failed to get {path}: {answer:?}"
    );
    let body = bytes.len() - usize::try_from(answer.bytes).context("failed to measure body")?;
    io::stdout()
        .write_all(&bytes[body..])
        .context("failed to write")
}
