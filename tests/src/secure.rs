//! Backends that speak TLS, or should: HTTP/1.1 servers that behave in one way each, as threads of
//! the test in the backend's namespace. What a client must get of them is the tests' own business.
use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio_rustls::rustls;

use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{
    RootCertStore, ServerConfig, ServerConnection, StreamOwned, SupportedProtocolVersion,
};

use crate::bed::{Bed, Host};
use crate::client::abort_on_close;
use crate::tls;

/// How a TLS backend behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Secure {
    /// Answers, as large as `size=` asks, and keeps the connection.
    Ok = 9701,
    /// The same with TLS 1.2.
    Old,
    /// Answers, and closes a connection that is idle.
    Idle,
    /// The same without a `close_notify`.
    IdleBare,
    /// Answers and closes; the response ends with the connection.
    CloseDelimited,
    /// Its own 503.
    Busy,
    /// The same, and closes.
    BusyClose,
    /// RST once the request was read.
    Reset,
    /// FIN once the request was read.
    Fin,
    /// The same behind a `close_notify`.
    Notify,
    /// No answer.
    Silent,
    /// No answer, but session tickets, as all others that do answer send them.
    SilentTickets,
    /// FIN once the request was read, behind session tickets.
    FinTickets,
    /// A head and a part of the body, then nothing.
    Stall,
    /// RST inside the body.
    ResetBody,
    /// FIN inside the body.
    FinBody,
    /// RST once the `ClientHello` was read.
    HelloReset,
    /// FIN once the `ClientHello` was read.
    HelloFin,
    /// No answer to the `ClientHello`.
    HelloSilent,
    /// A fatal alert to the `ClientHello`: no certificate for that name.
    Refuse,
    /// Wants a certificate of the client, TLS 1.2: the alert ends the handshake.
    MutualOld,
    /// The same with TLS 1.3: the alert comes behind the handshake.
    Mutual,
    /// HTTP in plaintext; whatever else comes is a bad request.
    Plain,
    /// Plaintext that says nothing to what it does not understand, and closes.
    PlainMute,
}

impl Secure {
    /// All of them.
    pub const ALL: [Self; 24] = [
        Self::Ok,
        Self::Old,
        Self::Idle,
        Self::IdleBare,
        Self::CloseDelimited,
        Self::Busy,
        Self::BusyClose,
        Self::Reset,
        Self::Fin,
        Self::Notify,
        Self::Silent,
        Self::SilentTickets,
        Self::FinTickets,
        Self::Stall,
        Self::ResetBody,
        Self::FinBody,
        Self::HelloReset,
        Self::HelloFin,
        Self::HelloSilent,
        Self::Refuse,
        Self::MutualOld,
        Self::Mutual,
        Self::Plain,
        Self::PlainMute,
    ];

    /// Where it listens.
    pub fn endpoint(self) -> SocketAddr {
        SocketAddr::new(Host::Backend.v4(), self as u16)
    }

    fn encrypted(self) -> bool {
        !matches!(
            self,
            Self::HelloReset | Self::HelloFin | Self::HelloSilent | Self::Plain | Self::PlainMute
        )
    }
}

/// Starts all of them.
pub fn serve(bed: &Bed) -> Result<()> {
    let folder = bed.folder().join("secure");
    fs::create_dir_all(&folder).context("failed to create the servers' folder")?;
    tls::certificate(&folder)?;
    for one in Secure::ALL {
        let config = if one.encrypted() {
            Some(config(one, &folder)?)
        } else {
            None
        };
        let listener = bed.inside(Host::Backend, || {
            TcpListener::bind(one.endpoint()).context("failed to listen")
        })?;
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let config = config.clone();
                thread::spawn(move || {
                    // An error is the other side's close: part of the game.
                    let _ = stream.set_nodelay(true);
                    let _ = match config {
                        Some(config) => secure(one, stream, config),
                        None => bare(one, stream),
                    };
                });
            }
        });
    }
    Ok(())
}

/// A certificate's files as the server's own; what TLS it speaks.
fn config(one: Secure, folder: &std::path::Path) -> Result<Arc<ServerConfig>> {
    let (certificate, key) = pair(folder)?;
    let versions: &[&SupportedProtocolVersion] = match one {
        Secure::Old | Secure::MutualOld => &[&rustls::version::TLS12],
        _ => &[&rustls::version::TLS13],
    };
    let provider = Arc::new(ring::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(versions)
        .context("failed to choose a version of TLS")?;
    let config = match one {
        Secure::Mutual | Secure::MutualOld => {
            let mut roots = RootCertStore::empty();
            roots
                .add(certificate.clone())
                .context("failed to trust a certificate")?;
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                .build()
                .context("failed to verify clients")?;
            builder
                .with_client_cert_verifier(verifier)
                .with_single_cert(vec![certificate], key)
        }
        Secure::Refuse => {
            return Ok(Arc::new(
                builder
                    .with_no_client_auth()
                    .with_cert_resolver(Arc::new(Nothing)),
            ));
        }
        _ => builder
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key),
    };
    let mut config = config.context("failed to use a certificate")?;
    if matches!(
        one,
        Secure::Reset | Secure::Fin | Secure::Notify | Secure::Silent
    ) {
        config.send_tls13_tickets = 0;
    }
    Ok(Arc::new(config))
}

/// Reads what [`tls::certificate`] wrote.
pub fn pair(folder: &std::path::Path) -> Result<(CertificateDer<'static>, PrivateKeyDer<'static>)> {
    let certificate = CertificateDer::from_pem_file(folder.join("cert.pem"));
    let key = PrivateKeyDer::from_pem_file(folder.join("key.pem"));
    Ok((
        certificate.context("failed to read a certificate")?,
        key.context("failed to read a key")?,
    ))
}

/// Has no certificate for anybody.
#[derive(Debug)]
struct Nothing;

impl ResolvesServerCert for Nothing {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        None
    }
}

type Tls = StreamOwned<ServerConnection, TcpStream>;

fn secure(one: Secure, stream: TcpStream, config: Arc<ServerConfig>) -> io::Result<()> {
    let connection = ServerConnection::new(config).map_err(io::Error::other)?;
    if matches!(one, Secure::Idle | Secure::IdleBare) {
        stream.set_read_timeout(Some(IDLE))?;
    }
    let mut tls = BufReader::new(StreamOwned::new(connection, stream));
    while let Some(size) = next(one, &mut tls)? {
        let stop = answer(one, size, tls.get_mut())?;
        if stop {
            return Ok(());
        }
    }
    match one {
        Secure::IdleBare => Ok(()),
        _ => notify(tls.get_mut()),
    }
}

/// How long a connection stays that nobody uses.
const IDLE: Duration = Duration::from_millis(400);

/// The next request; none once the other side has closed, or this one has waited long enough.
fn next(one: Secure, tls: &mut BufReader<Tls>) -> io::Result<Option<usize>> {
    match request(tls) {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            if one == Secure::Idle || one == Secure::IdleBare {
                Ok(None)
            } else {
                Err(error)
            }
        }
        other => other,
    }
}

/// Answers a request; tells whether the connection is to be closed.
fn answer(one: Secure, size: usize, to: &mut Tls) -> io::Result<bool> {
    let body = vec![b'x'; size];
    let half = |to: &mut Tls| {
        to.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")?;
        to.write_all(&vec![b'x'; 20_000])?;
        to.flush()?;
        // The proxy has relayed it by then.
        thread::sleep(Duration::from_millis(60));
        Ok::<_, io::Error>(())
    };
    match one {
        Secure::Reset => return abort(to),
        Secure::Fin | Secure::FinTickets => return Ok(true),
        Secure::Notify => {
            notify(to)?;
            return Ok(true);
        }
        Secure::Silent | Secure::SilentTickets => return wait(to),
        Secure::Stall => {
            half(to)?;
            return wait(to);
        }
        Secure::ResetBody => {
            half(to)?;
            return abort(to);
        }
        Secure::FinBody => {
            half(to)?;
            return Ok(true);
        }
        Secure::Busy => write!(to, "{BUSY}\r\nbusy")?,
        Secure::BusyClose => {
            write!(to, "{BUSY}Connection: close\r\n\r\nbusy")?;
            notify(to)?;
            return Ok(true);
        }
        Secure::CloseDelimited => {
            write!(to, "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")?;
            to.write_all(&body)?;
            to.flush()?;
            // Go gives up a request whose connection ends before it has seen the response's head.
            thread::sleep(Duration::from_millis(20));
            notify(to)?;
            return Ok(true);
        }
        _ => {
            write!(to, "HTTP/1.1 200 OK\r\nContent-Length: {size}\r\n\r\n")?;
            to.write_all(&body)?;
        }
    }
    to.flush()?;
    Ok(false)
}

const BUSY: &str = "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 4\r\n";

fn abort(tls: &mut Tls) -> io::Result<bool> {
    abort_on_close(tls.sock.as_raw_fd())?;
    Ok(true)
}

fn wait(tls: &mut Tls) -> io::Result<bool> {
    io::copy(&mut tls.sock, &mut io::sink())?;
    Ok(true)
}

fn notify(tls: &mut Tls) -> io::Result<()> {
    tls.conn.send_close_notify();
    tls.flush()
}

/// Reads a request with its body; gives the size that it asks for.
fn request(from: &mut impl BufRead) -> io::Result<Option<usize>> {
    let mut line = String::new();
    if from.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let asked = line.split("size=").nth(1).unwrap_or_default();
    let asked = asked.split([' ', '&']).next().unwrap_or_default();
    let size = asked.parse().unwrap_or(5);
    let mut length = 0;
    loop {
        line.clear();
        if from.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let Some((name, value)) = line.trim_end().split_once(':') else {
            break;
        };
        if name.eq_ignore_ascii_case("content-length") {
            length = value.trim().parse().unwrap_or(0);
        }
    }
    io::copy(&mut from.take(length), &mut io::sink())?;
    Ok(Some(size))
}

/// Without TLS: what it does to the first bytes that come.
fn bare(one: Secure, mut stream: TcpStream) -> io::Result<()> {
    let mut first = [0; 4096];
    let count = stream.read(&mut first)?;
    match one {
        Secure::HelloReset => abort_on_close(stream.as_raw_fd()),
        Secure::HelloFin | Secure::PlainMute => Ok(()),
        Secure::HelloSilent => io::copy(&mut stream, &mut io::sink()).map(drop),
        _ if first[..count].starts_with(b"GET ") => {
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nfine\n")
        }
        _ => stream.write_all(
            b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
        ),
    }
}
