//! An API client for tests: an address, its authority, a token and a request in, the answer as it
//! came out. Blocking HTTP/1.1, plain or under TLS; judges no status, retries nothing.
use std::fs;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

/// How long an answer may take.
const LIMIT: Duration = Duration::from_secs(30);

/// A client. Its requests share a connection; threads do better with a clone each.
pub struct KubeClient {
    address: SocketAddr,
    tls: Option<Arc<ClientConfig>>,
    token: String,
    kept: Mutex<Option<Connection>>,
}

impl Clone for KubeClient {
    fn clone(&self) -> Self {
        Self {
            address: self.address,
            tls: self.tls.clone(),
            token: self.token.clone(),
            kept: Mutex::default(),
        }
    }
}

/// An answer.
#[derive(Debug)]
pub struct Answer {
    /// Its status.
    pub status: u16,
    /// Its head's lines.
    pub head: Vec<String>,
    /// Its whole body.
    pub body: Vec<u8>,
}

impl Answer {
    /// The body, which must be JSON.
    pub fn json(&self) -> Result<Value> {
        serde_json::from_slice(&self.body).with_context(|| {
            let text = String::from_utf8_lossy(&self.body);
            format!("failed to read as JSON: {text}")
        })
    }

    /// The body of a success; else an error that has what the server said.
    pub fn success(&self) -> Result<Value> {
        let text = String::from_utf8_lossy(&self.body);
        ensure!((200..300).contains(&self.status), "{}: {text}", self.status);
        self.json()
    }

    /// A header of the answer.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut fields = self.head.iter().filter_map(|line| line.split_once(':'));
        let found = fields.find(|(field, _)| field.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.trim())
    }
}

impl KubeClient {
    /// For a server; an authority (PEM) means TLS, an empty token none.
    pub fn new(address: SocketAddr, authority: Option<&Path>, token: &str) -> Result<Self> {
        let tls = authority.map(trusting).transpose()?;
        Ok(Self {
            address,
            tls,
            token: token.to_owned(),
            kept: Mutex::default(),
        })
    }

    /// The same for another token.
    #[must_use]
    pub fn with_token(&self, token: &str) -> Self {
        let token = token.to_owned();
        Self {
            token,
            ..self.clone()
        }
    }

    /// Sends a request with a body of this type and waits for the whole answer.
    pub fn send(&self, method: &str, path: &str, kind: &str, body: &[u8]) -> Result<Answer> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let mut connection = match kept.take().filter(Connection::is_open) {
            Some(connection) => connection,
            None => self.connect()?,
        };
        let answer = self
            .ask(&mut connection, method, path, kind, body)
            .and_then(|()| connection.answer())
            .with_context(|| format!("failed to {method} {path}"))?;
        if answer.header("connection") != Some("close") {
            *kept = Some(connection);
        }
        Ok(answer)
    }

    /// GET.
    pub fn get(&self, path: &str) -> Result<Answer> {
        self.send("GET", path, "application/json", &[])
    }

    /// A request with JSON; PATCH means a strategic merge patch.
    pub fn json(&self, method: &str, path: &str, body: &Value) -> Result<Answer> {
        let kind = match method {
            "PATCH" => "application/strategic-merge-patch+json",
            _ => "application/json",
        };
        self.send(method, path, kind, body.to_string().as_bytes())
    }

    /// Opens a watch: a GET whose lines are read one by one.
    pub fn watch(&self, path: &str) -> Result<Watch> {
        let mut connection = self.connect()?;
        self.ask(&mut connection, "GET", path, "application/json", &[])?;
        let (status, head) = connection.head()?;
        ensure!(status == 200, "failed to open a watch: {status}: {head:?}");
        Ok(Watch {
            connection,
            rest: Vec::new(),
        })
    }

    fn connect(&self) -> Result<Connection> {
        let stream = TcpStream::connect_timeout(&self.address, LIMIT);
        let stream = stream.with_context(|| format!("failed to connect to {}", self.address))?;
        stream.set_nodelay(true).context("failed to set nodelay")?;
        let timed = stream.set_read_timeout(Some(LIMIT));
        timed.context("failed to set a timeout")?;
        let socket = stream.try_clone().context("failed to share the socket")?;
        let stream: Box<dyn Stream> = match &self.tls {
            None => Box::new(stream),
            Some(config) => {
                let name = ServerName::from(self.address.ip());
                let session = ClientConnection::new(Arc::clone(config), name);
                Box::new(StreamOwned::new(
                    session.context("failed to begin TLS")?,
                    stream,
                ))
            }
        };
        Ok(Connection {
            stream: BufReader::new(stream),
            socket,
        })
    }

    fn ask(
        &self,
        connection: &mut Connection,
        method: &str,
        path: &str,
        kind: &str,
        body: &[u8],
    ) -> Result<()> {
        let user = if self.token.is_empty() {
            String::new()
        } else {
            format!("Authorization: Bearer {}\r\n", self.token)
        };
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nAccept: application/json\r\n{user}\
             Content-Type: {kind}\r\nContent-Length: {}\r\n\r\n",
            self.address,
            body.len()
        );
        let mut bytes = request.into_bytes();
        bytes.extend_from_slice(body);
        let stream = connection.stream.get_mut();
        stream.write_all(&bytes).context("failed to send")?;
        stream.flush().context("failed to send")
    }
}

fn trusting(authority: &Path) -> Result<Arc<ClientConfig>> {
    let text = fs::read(authority).context("failed to read the authority")?;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&text) {
        let certificate = certificate.context("failed to read a certificate")?;
        roots.add(certificate).context("failed to trust it")?;
    }
    let config = ClientConfig::builder().with_root_certificates(roots);
    Ok(Arc::new(config.with_no_client_auth()))
}

trait Stream: Read + Write + Send {}
impl<T: Read + Write + Send> Stream for T {}

/// One connection.
struct Connection {
    stream: BufReader<Box<dyn Stream>>,
    // The same socket, for what TLS hides.
    socket: TcpStream,
}

impl Connection {
    /// Whether the server has not ended it while it rested: nothing is there to be read.
    fn is_open(&self) -> bool {
        let quiet = || {
            self.socket.set_nonblocking(true)?;
            let peeked = self.socket.peek(&mut [0]);
            self.socket.set_nonblocking(false)?;
            peeked
        };
        quiet().is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        let bytes = self.stream.read_line(&mut line);
        ensure!(bytes.context("failed to read")? > 0, "the server hung up");
        Ok(line.trim_end().to_owned())
    }

    fn head(&mut self) -> Result<(u16, Vec<String>)> {
        let first = self.line()?;
        let status = first.split(' ').nth(1).and_then(|word| word.parse().ok());
        let status = status.with_context(|| format!("no HTTP: {first}"))?;
        let mut head = Vec::new();
        loop {
            let line = self.line()?;
            if line.is_empty() {
                return Ok((status, head));
            }
            head.push(line);
        }
    }

    fn answer(&mut self) -> Result<Answer> {
        let (status, head) = self.head()?;
        let mut answer = Answer {
            status,
            head,
            body: Vec::new(),
        };
        if let Some(length) = answer.header("content-length") {
            answer.body = vec![0; length.parse().context("failed to read the length")?];
            let whole = self.stream.read_exact(&mut answer.body);
            whole.context("failed to read the whole body")?;
        } else {
            while let Some(chunk) = self.chunk()? {
                answer.body.extend(chunk);
            }
        }
        Ok(answer)
    }

    /// The next chunk; none at the end in order.
    fn chunk(&mut self) -> Result<Option<Vec<u8>>> {
        let size = self.line()?;
        let size = usize::from_str_radix(&size, 16);
        let mut chunk = vec![0; size.context("failed to read a chunk's size")?];
        let whole = self.stream.read_exact(&mut chunk);
        whole.context("failed to read a whole chunk")?;
        self.line_end()?;
        Ok(Some(chunk).filter(|chunk| !chunk.is_empty()))
    }

    fn line_end(&mut self) -> Result<()> {
        let mut end = [0; 2];
        let whole = self.stream.read_exact(&mut end);
        whole.context("failed to read a chunk's end")?;
        if end != *b"\r\n" {
            bail!("a chunk without its end");
        }
        Ok(())
    }
}

/// An open watch.
pub struct Watch {
    connection: Connection,
    rest: Vec<u8>,
}

/// What a watch gave.
#[derive(Debug, PartialEq)]
pub enum Next {
    /// An event.
    Event(Value),
    /// A line that is no JSON.
    Garbage(String),
    /// Nothing within the time.
    Nothing,
    /// The end, in order.
    End,
    /// The connection broke.
    Broken,
}

impl Watch {
    /// Waits for the next line.
    pub fn next(&mut self, limit: Duration) -> Next {
        loop {
            if let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.rest.drain(..=end).collect();
                let event = serde_json::from_slice(&line);
                let text = || String::from_utf8_lossy(&line).into_owned();
                return event.map_or_else(|_| Next::Garbage(text()), Next::Event);
            }
            if !self.has_more(limit) {
                return Next::Nothing;
            }
            match self.connection.chunk() {
                Ok(Some(chunk)) => self.rest.extend(chunk),
                Ok(None) => return Next::End,
                Err(_) => return Next::Broken,
            }
        }
    }

    /// Waits until there is something to read, be it the end.
    fn has_more(&mut self, limit: Duration) -> bool {
        // Errors show when it is read.
        let _ = self.connection.socket.set_read_timeout(Some(limit));
        let filled = self.connection.stream.fill_buf().map(drop);
        let _ = self.connection.socket.set_read_timeout(Some(LIMIT));
        let late = |error: std::io::Error| {
            matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
        };
        !filled.is_err_and(late)
    }

    /// The next event in short: its type and its object's name (for ERROR its code).
    pub fn brief(&mut self) -> String {
        match self.next(LIMIT) {
            Next::Event(event) => {
                let object = &event["object"];
                let name = object["metadata"]["name"].as_str().map(str::to_owned);
                let what = name.or_else(|| Some(object["code"].as_u64()?.to_string()));
                let kind = event["type"].as_str().unwrap_or_default();
                format!("{kind} {}", what.unwrap_or_default())
                    .trim_end()
                    .to_owned()
            }
            other => format!("{other:?}"),
        }
    }
}
