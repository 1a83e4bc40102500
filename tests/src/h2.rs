//! HTTP/2 over TLS on a bed's client host: requests in, what a real client got out, stream by
//! stream on one connection. Streams can be cancelled while the connection stays.
use std::future::Future;
use std::net::SocketAddr;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderMap, Request};
use tokio::runtime::{Builder, Runtime};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;

use crate::bed::Bed;
use crate::client::{PATIENCE, connect};
use crate::https::{NAME, config};

/// What a client got for one request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// The final status; none when no head came.
    pub status: Option<u16>,
    /// Whether the stream ended well, with as many bytes as its Content-Length said.
    pub complete: bool,
    /// Body bytes.
    pub bytes: u64,
    /// Why the server reset the stream.
    pub reset: Option<Reason>,
    /// The connection ended before the stream did.
    pub closed: bool,
}

/// One connection. Dropped, it is closed with all its streams.
pub struct Connection {
    sender: SendRequest<Bytes>,
    // Drives the connection by itself, so that streams go on while the test does other things.
    runtime: Runtime,
}

/// A request without its answer yet.
pub struct Stream<'a> {
    connection: &'a Connection,
    response: ResponseFuture,
    request: SendStream<Bytes>,
    // Dropped, it would cancel the stream.
    body: Option<RecvStream>,
}

impl Connection {
    /// Connects from the client host; returns once HTTP/2 is agreed on.
    pub fn open(bed: &Bed, to: SocketAddr) -> Result<Self> {
        let stream = connect(bed, to)?;
        stream
            .set_nonblocking(true)
            .context("failed to set nonblocking")?;
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .context("failed to build a runtime")?;
        let sender = within(&runtime, async {
            let stream = tokio::net::TcpStream::from_std(stream).context("failed to register")?;
            let name = ServerName::try_from(NAME).context("failed to read the server's name")?;
            let tls = TlsConnector::from(config(b"h2")?)
                .connect(name, stream)
                .await
                .context("failed to agree on TLS")?;
            ensure!(
                tls.get_ref().1.alpn_protocol() == Some(b"h2"),
                "failed to agree on HTTP/2"
            );
            let (sender, connection) = h2::client::handshake(tls)
                .await
                .context("failed to begin HTTP/2")?;
            // Its end shows at every stream.
            tokio::spawn(connection);
            Ok(sender)
        })??;
        Ok(Self { sender, runtime })
    }

    /// Sends a request; its body, if any, is whole.
    pub fn ask(&self, method: &str, path: &str, body: &'static [u8]) -> Result<Stream<'_>> {
        let request = Request::builder()
            .method(method)
            .uri(format!("https://{NAME}{path}"))
            .body(())
            .context("failed to build a request")?;
        let (response, request) = within(&self.runtime, async {
            let mut sender = self.sender.clone().ready().await?;
            let (response, mut request) = sender.send_request(request, body.is_empty())?;
            if !body.is_empty() {
                // Fails where the stream was reset meanwhile: the answer tells.
                let _ = request.send_data(Bytes::from_static(body), true);
            }
            Ok::<_, h2::Error>((response, request))
        })?
        .context("failed to send a request")?;
        Ok(Stream {
            connection: self,
            response,
            request,
            body: None,
        })
    }

    /// GET: sends it and reads its answer.
    pub fn get(&self, path: &str) -> Result<Answer> {
        self.ask("GET", path, b"")?.answer()
    }
}

impl Stream<'_> {
    /// Reads the answer to its end.
    pub fn answer(self) -> Result<Answer> {
        within(&self.connection.runtime, read(self.response))
    }

    /// Waits for the first bytes of its answer's body, and reads no more.
    pub fn begun(mut self) -> Result<Self> {
        within(&self.connection.runtime, async {
            let response = (&mut self.response).await?;
            self.body = Some(response.into_body());
            if let Some(body) = &mut self.body {
                body.data().await.transpose()?;
            }
            Ok::<_, h2::Error>(())
        })?
        .context("failed to see an answer begin")?;
        Ok(self)
    }

    /// Cancels it (`RST_STREAM CANCEL`); the connection stays.
    pub fn cancel(mut self) {
        self.request.send_reset(Reason::CANCEL);
    }
}

async fn read(response: ResponseFuture) -> Answer {
    let mut answer = Answer::default();
    if let Err(error) = fill(response, &mut answer).await {
        answer.reset = error.reason().filter(|_| error.is_reset());
        answer.closed = !error.is_reset();
    }
    answer
}

async fn fill(response: ResponseFuture, answer: &mut Answer) -> Result<(), h2::Error> {
    let (head, mut body) = response.await?.into_parts();
    answer.status = Some(head.status.as_u16());
    while let Some(part) = body.data().await {
        let part = part?;
        answer.bytes += part.len() as u64;
        body.flow_control().release_capacity(part.len())?;
    }
    answer.complete = length(&head.headers).is_none_or(|length| length == answer.bytes);
    Ok(())
}

fn length(headers: &HeaderMap) -> Option<u64> {
    let value = headers.get(http::header::CONTENT_LENGTH)?;
    value.to_str().ok()?.parse().ok()
}

fn within<T>(runtime: &Runtime, work: impl Future<Output = T>) -> Result<T> {
    runtime
        .block_on(async { tokio::time::timeout(PATIENCE, work).await })
        .context("failed to see the end of an HTTP/2 exchange")
}
