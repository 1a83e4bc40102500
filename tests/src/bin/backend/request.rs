//! Reads requests: bytes in, head and drained body out. Knows only what our proxies send.
use std::io::{self, BufRead, Read};

/// The parts of a request that behaviors look at.
pub struct Head {
    /// Whether it is a HEAD request: its response has no body.
    pub bodiless: bool,
    /// Whether the client wants the connection closed (or is HTTP/1.0).
    pub close: bool,
    /// Length of the body, if it has one.
    pub length: u64,
    /// Whether the body is chunked.
    pub chunked: bool,
    query: String,
}

impl Head {
    /// A number from the query.
    pub fn number(&self, key: &str) -> Option<u64> {
        let mut pairs = self
            .query
            .split('&')
            .filter_map(|pair| pair.split_once('='));
        pairs.find(|(name, _)| *name == key)?.1.parse().ok()
    }
}

/// The next request's head; none when the client closed between requests.
pub fn head(reader: &mut impl BufRead) -> io::Result<Option<Head>> {
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let target = line.split(' ').nth(1).unwrap_or_default();
    let mut head = Head {
        bodiless: line.starts_with("HEAD "),
        close: line.trim_end().ends_with("/1.0"),
        length: 0,
        chunked: false,
        query: target
            .split_once('?')
            .map(|(_, query)| query.to_owned())
            .unwrap_or_default(),
    };
    loop {
        line.clear();
        if reader.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let Some((name, value)) = line.trim_end().split_once(':') else {
            return Ok(Some(head));
        };
        match (name.to_ascii_lowercase().as_str(), value.trim()) {
            ("content-length", value) => head.length = value.parse().unwrap_or(0),
            ("transfer-encoding", "chunked") => head.chunked = true,
            ("connection", value) if value.eq_ignore_ascii_case("close") => head.close = true,
            _ => {}
        }
    }
}

/// Reads the request's body to its end.
pub fn body(reader: &mut impl BufRead, head: &Head) -> io::Result<()> {
    if !head.chunked {
        return io::copy(&mut reader.take(head.length), &mut io::sink()).map(drop);
    }
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let size = u64::from_str_radix(line.trim(), 16).unwrap_or(0);
        // The chunk and its line end.
        io::copy(&mut reader.take(size + 2), &mut io::sink())?;
        if size == 0 {
            return Ok(());
        }
    }
}
