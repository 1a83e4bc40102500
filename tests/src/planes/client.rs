//! The three kinds of clients that a data plane has: a request in, what the client got out, in one
//! type for all. One connection per request; what needs more uses the clients' own modules.
use std::io::{Read, Write};
use std::net::SocketAddr;

use anyhow::{Result, bail};
use h2::Reason;

use super::{Listener, Way, World};
use crate::bed::Bed;
use crate::edge::pause;
use crate::{client, h2 as http2, https, response};

/// What a client speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Client {
    /// HTTP/1.1 in plaintext.
    Plain,
    /// HTTP/1.1 under TLS.
    Tls,
    /// HTTP/2 under TLS.
    H2,
}

impl Client {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Plain, Self::Tls, Self::H2];

    /// Its name in tables and paths.
    pub fn word(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Tls => "tls",
            Self::H2 => "h2",
        }
    }

    /// The listener that serves it this way.
    pub fn at(self, way: Way) -> Listener {
        match (self, way) {
            (Self::Plain, Way::Single) => Listener::Plain,
            (Self::Plain, Way::Pooled) => Listener::Pooled,
            (Self::Plain, Way::Retry) => Listener::Retry,
            (Self::Tls | Self::H2, Way::Single) => Listener::Tls,
            (Self::Tls | Self::H2, Way::Pooled) => Listener::TlsPooled,
            (Self::Tls | Self::H2, Way::Retry) => Listener::TlsRetry,
        }
    }
}

/// What a client got for one request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Got {
    /// The final status; none when no head came.
    pub status: Option<u16>,
    /// Whether the whole response came, as far as this client can tell.
    pub complete: bool,
    /// Why the server reset the stream, under HTTP/2.
    pub reset: Option<Reason>,
}

impl Got {
    /// Whether the client has a reason to complain.
    pub fn failed(self) -> bool {
        !self.complete || self.status.is_none_or(|status| status >= 400)
    }
}

impl From<response::Answer> for Got {
    fn from(answer: response::Answer) -> Self {
        Self {
            status: answer.status,
            complete: answer.complete,
            reset: None,
        }
    }
}

impl From<http2::Answer> for Got {
    fn from(answer: http2::Answer) -> Self {
        Self {
            status: answer.status,
            complete: answer.complete,
            reset: answer.reset,
        }
    }
}

/// A connection of a client.
pub enum Connection {
    /// In plaintext.
    Plain(client::Connection),
    /// Under TLS.
    Tls(Box<client::Connection<https::Stream>>),
    /// HTTP/2 under TLS.
    H2(http2::Connection),
}

impl Connection {
    /// Connects to the listener.
    pub fn open(world: &World, client: Client, listener: Listener) -> Result<Self> {
        Self::to(&world.bed, client, world.at(listener))
    }

    /// Connects from the client host.
    pub fn to(bed: &Bed, client: Client, to: SocketAddr) -> Result<Self> {
        Ok(match client {
            Client::Plain => Self::Plain(client::Connection::open(bed, to)?),
            Client::Tls => Self::Tls(Box::new(https::open(bed, to)?)),
            Client::H2 => Self::H2(http2::Connection::open(bed, to)?),
        })
    }

    /// Sends a request on a connection that stays; reads its answer. `headers` are whole lines,
    /// `body` is small.
    pub fn request(&mut self, method: &str, path: &str, body: &'static str) -> Result<Got> {
        let length = match body.len() {
            0 => String::new(),
            length => format!("Content-Length: {length}\r\n"),
        };
        self.send(method, path, &length, body)
    }

    /// Sends a GET over HTTP/1.1 and does not wait for its answer.
    pub fn begin(&mut self, path: &str) -> Result<()> {
        let head = client::request("GET", path, "");
        match self {
            Self::Plain(connection) => connection.send(head.as_bytes()),
            Self::Tls(connection) => connection.send(head.as_bytes()),
            Self::H2(_) => bail!("an HTTP/2 stream is begun by its own client"),
        }
    }

    /// Sends a GET, and leaves after so many milliseconds.
    pub fn abandon(mut self, path: &str, after: u64) -> Result<()> {
        if let Self::H2(connection) = &self {
            let stream = connection.ask("GET", path, b"")?;
            pause(after);
            stream.cancel();
        } else {
            self.begin(path)?;
            pause(after);
        }
        Ok(())
    }

    /// The same; `headers` are whole lines.
    pub fn send(
        &mut self,
        method: &str,
        path: &str,
        headers: &str,
        body: &'static str,
    ) -> Result<Got> {
        let head = || client::request(method, path, headers) + body;
        match self {
            Self::Plain(connection) => exchange(connection, &head()),
            Self::Tls(connection) => exchange(connection, &head()),
            Self::H2(connection) => {
                let stream = connection.ask(method, path, body.as_bytes())?;
                Ok(stream.answer()?.into())
            }
        }
    }
}

fn exchange<S: Read + Write>(on: &mut client::Connection<S>, request: &str) -> Result<Got> {
    on.send(request.as_bytes())?;
    Ok(on.answer()?.into())
}

impl World {
    /// One GET on a connection of its own.
    pub fn ask(&self, client: Client, listener: Listener, path: &str) -> Result<Got> {
        let mut connection = Connection::open(self, client, listener)?;
        connection.send("GET", path, "Connection: close\r\n", "")
    }
}
