//! Backends that speak HTTP/2, in cleartext (gRPC's way) and over TLS: servers that behave in one way
//! each, on a runtime of their own in the backend's namespace.
use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use bytes::Bytes;
use h2::server::{Connection, SendResponse};
use h2::{Reason, RecvStream};
use http::{Request, Response};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::runtime::{Builder, Runtime};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::{ServerConfig, version};

use crate::bed::{Bed, Host};
use crate::client::abort_on_close;
use crate::secure::pair;
use crate::tls;

/// How an HTTP/2 backend behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum H2 {
    /// Answers, as large as `size=` and as late as `ms=` ask, and keeps the connection.
    Ok = 9801,
    /// The same over TLS.
    Secure,
    /// Answers; GOAWAY and an orderly close soon after.
    Goaway,
    /// The same over TLS.
    SecureGoaway,
    /// Its own 503.
    Busy,
    /// RST once the request was read.
    Reset,
    /// FIN once the request was read.
    Fin,
    /// GOAWAY with an error, then FIN.
    Refuse,
    /// No answer.
    Silent,
    /// The same over TLS.
    SecureSilent,
    /// Resets the stream; the connection stays.
    ResetStream,
    /// Head and a part of the body, then resets the stream.
    CutStream,
    /// Head and a part of the body, then RST.
    ResetBody,
    /// Head and a part of the body, then FIN.
    FinBody,
    /// Head and a part of the body, then nothing.
    Stall,
    /// HTTP/1.1 that takes the preface for a bad request.
    Old,
    /// No HTTP/2 over TLS: RST once the request was read.
    SecureReset,
}

impl H2 {
    /// All of them.
    pub const ALL: [Self; 17] = [
        Self::Ok,
        Self::Secure,
        Self::Goaway,
        Self::SecureGoaway,
        Self::Busy,
        Self::Reset,
        Self::Fin,
        Self::Refuse,
        Self::Silent,
        Self::SecureSilent,
        Self::ResetStream,
        Self::CutStream,
        Self::ResetBody,
        Self::FinBody,
        Self::Stall,
        Self::Old,
        Self::SecureReset,
    ];

    /// Where it listens.
    pub fn endpoint(self) -> SocketAddr {
        SocketAddr::new(Host::Backend.v4(), self as u16)
    }

    /// Whether it is HTTP/2 over TLS.
    pub fn encrypted(self) -> bool {
        matches!(
            self,
            Self::Secure | Self::SecureGoaway | Self::SecureSilent | Self::SecureReset
        )
    }
}

/// Starts all of them; they end with what is given.
pub fn serve(bed: &Bed) -> Result<Runtime> {
    let folder = bed.folder().join("h2");
    fs::create_dir_all(&folder).context("failed to create the servers' folder")?;
    tls::certificate(&folder)?;
    let (certificate, key) = pair(&folder)?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[&version::TLS13])
        .context("failed to choose a version of TLS")?
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .context("failed to use a certificate")?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let runtime = Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .context("failed to build a runtime")?;
    for one in H2::ALL {
        let listener = bed.inside(Host::Backend, || {
            TcpListener::bind(one.endpoint()).context("failed to listen")
        })?;
        listener
            .set_nonblocking(true)
            .context("failed to set nonblocking")?;
        runtime.spawn(accept(one, listener, acceptor.clone()));
    }
    Ok(runtime)
}

async fn accept(one: H2, listener: TcpListener, acceptor: TlsAcceptor) {
    let listener = tokio::net::TcpListener::from_std(listener).expect("it is nonblocking");
    while let Ok((stream, _)) = listener.accept().await {
        let acceptor = acceptor.clone();
        tokio::spawn(async move {
            let _ = stream.set_nodelay(true);
            let socket = stream.as_raw_fd();
            // An error is the other side's close: part of the game.
            let _ = match one {
                H2::Old => old(stream).await,
                _ if one.encrypted() => match acceptor.accept(stream).await {
                    Ok(stream) => connection(one, stream, socket).await,
                    Err(error) => Err(error.into()),
                },
                _ => connection(one, stream, socket).await,
            };
        });
    }
}

async fn old(mut stream: TcpStream) -> Result<()> {
    let mut first = [0; 4096];
    // However much of the preface has come.
    let _ = stream.read(&mut first).await?;
    let answer = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    stream.write_all(answer).await?;
    Ok(())
}

/// What is to become of the connection.
enum Then {
    Keep,
    Close,
    Reset,
    Goaway,
}

async fn connection<S>(one: H2, stream: S, socket: i32) -> Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut connection: Connection<S, Bytes> = h2::server::handshake(stream).await?;
    let (done, mut ended) = tokio::sync::mpsc::unbounded_channel();
    loop {
        let then = tokio::select! {
            next = connection.accept() => match next {
                Some(next) => {
                    let (request, respond) = next?;
                    let done = done.clone();
                    tokio::spawn(async move {
                        let then = answer(one, &request, respond).await;
                        let _ = done.send(then.unwrap_or(Then::Keep));
                    });
                    Then::Keep
                }
                None => return Ok(()),
            },
            then = ended.recv() => then.unwrap_or(Then::Keep),
        };
        match then {
            Then::Keep => {}
            // What still comes is read, so that the close is no RST.
            // SAFETY: a socket that `connection` owns.
            Then::Close => drop(unsafe { libc::shutdown(socket, libc::SHUT_WR) }),
            Then::Reset => {
                abort_on_close(socket)?;
                return Ok(());
            }
            Then::Goaway if one == H2::Refuse => {
                connection.abrupt_shutdown(Reason::ENHANCE_YOUR_CALM);
            }
            Then::Goaway => connection.graceful_shutdown(),
        }
    }
}

async fn answer(
    one: H2,
    request: &Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
) -> Result<Then, h2::Error> {
    let number = |key: &str| -> Option<u64> {
        let mut pairs = request
            .uri()
            .query()?
            .split('&')
            .filter_map(|pair| pair.split_once('='));
        pairs.find(|(name, _)| *name == key)?.1.parse().ok()
    };
    let ok = |status: u16| {
        Response::builder()
            .status(status)
            .body(())
            .expect("a status")
    };
    match one {
        H2::Reset | H2::SecureReset | H2::Fin | H2::Refuse => {
            // Dropped, it would reset the stream.
            std::mem::forget(respond);
            return Ok(match one {
                H2::Fin => Then::Close,
                H2::Refuse => Then::Goaway,
                _ => Then::Reset,
            });
        }
        H2::Silent | H2::SecureSilent => std::future::pending::<()>().await,
        H2::ResetStream => respond.send_reset(Reason::INTERNAL_ERROR),
        H2::Busy => drop(respond.send_response(ok(503), true)?),
        H2::CutStream | H2::ResetBody | H2::FinBody | H2::Stall => {
            let head = Response::builder().header("content-length", "100000");
            let mut body = respond.send_response(head.body(()).expect("a head"), false)?;
            body.send_data(Bytes::from(vec![b'x'; 20_000]), false)?;
            // The proxy has relayed it by then.
            tokio::time::sleep(Duration::from_millis(60)).await;
            match one {
                H2::CutStream => body.send_reset(Reason::INTERNAL_ERROR),
                H2::ResetBody | H2::FinBody => {
                    std::mem::forget(body);
                    let reset = one == H2::ResetBody;
                    return Ok(if reset { Then::Reset } else { Then::Close });
                }
                _ => std::future::pending::<()>().await,
            }
        }
        _ => {
            tokio::time::sleep(Duration::from_millis(number("ms").unwrap_or(0))).await;
            let size = usize::try_from(number("size").unwrap_or(5)).unwrap_or(5);
            let mut body = respond.send_response(ok(200), false)?;
            body.send_data(Bytes::from(vec![b'x'; size]), true)?;
            if matches!(one, H2::Goaway | H2::SecureGoaway) {
                tokio::time::sleep(Duration::from_millis(400)).await;
                return Ok(Then::Goaway);
            }
        }
    }
    Ok(Then::Keep)
}
