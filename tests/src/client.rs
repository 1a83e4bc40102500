//! A plain HTTP/1 client on a bed's client host: requests in, what a real client got out. Keeps
//! to one connection as long as it is asked to, and can go away rudely.
use std::io::{self, BufReader};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsRawFd, RawFd};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::bed::{Bed, Host};
use crate::response::{self, Answer};

/// How long a client waits for anything: far above every timer of the bed.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Makes the socket's close a RST instead of a FIN.
pub fn abort_on_close(socket: RawFd) -> io::Result<()> {
    let linger = libc::linger {
        l_onoff: 1,
        l_linger: 0,
    };
    let size = size_of_val(&linger) as libc::socklen_t;
    // SAFETY: the pointer and the size describe `linger`, which lives through the call.
    let result = unsafe {
        let value = (&raw const linger).cast();
        libc::setsockopt(socket, libc::SOL_SOCKET, libc::SO_LINGER, value, size)
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// How a client goes away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leave {
    /// An orderly close.
    Fin,
    /// An abort.
    Reset,
}

/// A TCP connection from the client host, with [`PATIENCE`].
pub fn connect(bed: &Bed, to: SocketAddr) -> Result<TcpStream> {
    bed.inside(Host::Client, || connect_here(to))
}

/// The same from this thread's own network.
fn connect_here(to: SocketAddr) -> Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&to, PATIENCE)
        .with_context(|| format!("failed to connect to {to}"))?;
    stream.set_nodelay(true).context("failed to set nodelay")?;
    stream
        .set_read_timeout(Some(PATIENCE))
        .context("failed to set timeout")?;
    stream
        .set_write_timeout(Some(PATIENCE))
        .context("failed to set timeout")?;
    Ok(stream)
}

/// One connection of a client, over TCP or what is on top of it.
pub struct Connection<S = TcpStream> {
    reader: BufReader<S>,
    /// The stream's own: open as long as it is.
    socket: RawFd,
}

impl Connection {
    /// Connects from the client host.
    pub fn open(bed: &Bed, to: SocketAddr) -> Result<Self> {
        connect(bed, to).map(Self::on)
    }

    /// Connects from this thread's own network.
    pub fn here(to: SocketAddr) -> Result<Self> {
        connect_here(to).map(Self::on)
    }

    fn on(stream: TcpStream) -> Self {
        let socket = stream.as_raw_fd();
        Self::over(stream, socket)
    }
}

impl<S: io::Read + io::Write> Connection<S> {
    /// Speaks HTTP over this stream, which ends with this socket.
    pub fn over(stream: S, socket: RawFd) -> Self {
        Self {
            reader: BufReader::new(stream),
            socket,
        }
    }

    /// Sends bytes as they are.
    pub fn send(&mut self, bytes: &[u8]) -> Result<()> {
        self.reader
            .get_mut()
            .write_all(bytes)
            .context("failed to send")
    }

    /// Reads the next response.
    pub fn answer(&mut self) -> Result<Answer> {
        response::read(&mut self.reader, false).context("failed to read response")
    }

    /// Reads the next response to a HEAD request.
    pub fn answer_to_head(&mut self) -> Result<Answer> {
        response::read(&mut self.reader, true).context("failed to read response")
    }

    /// Reads exactly `count` bytes (after a protocol switch).
    pub fn bytes(&mut self, count: usize) -> Result<Vec<u8>> {
        let mut bytes = vec![0; count];
        io::Read::read_exact(&mut self.reader, &mut bytes).context("failed to read bytes")?;
        Ok(bytes)
    }

    /// GET on a connection that stays open.
    pub fn get(&mut self, path: &str) -> Result<Answer> {
        self.send(request("GET", path, "").as_bytes())?;
        self.answer()
    }

    /// Closes the connection.
    pub fn leave(self, how: Leave) -> Result<()> {
        match how {
            Leave::Fin => Ok(()),
            Leave::Reset => abort_on_close(self.socket).context("failed to abort"),
        }
    }
}

/// A request's head; `headers` are whole lines with their ends.
pub fn request(method: &str, path: &str, headers: &str) -> String {
    format!("{method} {path} HTTP/1.1\r\nHost: shop.example\r\n{headers}\r\n")
}

/// One GET on a connection of its own.
pub fn get(bed: &Bed, to: SocketAddr, path: &str) -> Result<Answer> {
    let mut connection = Connection::open(bed, to)?;
    connection.send(request("GET", path, "Connection: close\r\n").as_bytes())?;
    connection.answer()
}

/// One POST with a body of `size` bytes on a connection of its own. A server that answers before
/// it has read the body ends the sending, not the reading.
pub fn post(bed: &Bed, to: SocketAddr, path: &str, size: usize) -> Result<Answer> {
    let mut connection = Connection::open(bed, to)?;
    let headers = format!("Content-Length: {size}\r\nConnection: close\r\n");
    connection.send(request("POST", path, &headers).as_bytes())?;
    // The answer tells whether this mattered.
    let _ = connection.send(&vec![b'x'; size]);
    connection.answer()
}

/// Holds connections until a server has nothing left for one more: them, and the path of the request
/// that it answered with 500.
pub fn exhaust(bed: &Bed, to: SocketAddr, word: &str) -> Result<(Vec<Connection>, String)> {
    let mut held = Vec::new();
    loop {
        let path = format!("/{word}/{}", held.len());
        let mut client = Connection::open(bed, to)?;
        let answer = client.get(&path)?;
        if answer.status == Some(500) {
            held.push(client);
            return Ok((held, path));
        }
        ensure!(answer.status == Some(200), "{path}: {answer:?}");
        ensure!(held.len() < 200, "the server did not run out");
        // Half a request: a server that is short does not take such a connection back.
        client.send(b"GET / HTTP/1.1\r\nHost: ")?;
        held.push(client);
    }
}
