//! In: metrics, findings and readiness, shared with the agent. Out: HTTP, for Prometheus, the
//! kubelet and people. Read-only: no request changes anything.
use std::collections::VecDeque;
use std::future::{Future, IntoFuture as _};
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use axum::extract::{Query, State};
use axum::http::{StatusCode, header};
use axum::response::{Html, IntoResponse, Json};
use axum::{Router, routing::get};
use serde::Deserialize;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};

use super::breakdown::Breakdown;
use super::html;
use super::metrics::Metrics;
use crate::finding::Finding;

/// Findings that are kept; older ones are only counted.
pub const KEPT: usize = 1000;
/// Findings that are shown when nobody says how many.
const SHOWN: usize = 100;
/// How long a request under way may take once the agent ends.
const GRACE: Duration = Duration::from_secs(1);
/// No script, no other origin: the page is text.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'";

/// The newest findings and the breakdown of all; shared between the agent and the page.
#[derive(Default)]
pub struct Recent {
    kept: Mutex<(VecDeque<Finding>, Breakdown)>,
}

impl Recent {
    /// Keeps a finding; the oldest goes when there are [`KEPT`].
    pub fn add(&self, finding: Finding) {
        let mut kept = self.lock();
        kept.1.add(&finding);
        kept.0.truncate(KEPT - 1);
        kept.0.push_front(finding);
    }

    /// The newest findings, newest first.
    pub fn newest(&self, limit: usize) -> Vec<Finding> {
        self.lock().0.iter().take(limit).cloned().collect()
    }

    /// All findings by cause.
    pub fn breakdown(&self) -> Breakdown {
        self.lock().1.clone()
    }

    fn lock(&self) -> MutexGuard<'_, (VecDeque<Finding>, Breakdown)> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the page shows.
#[derive(Clone, Default)]
pub struct Shown {
    /// For `/metrics`.
    pub metrics: Arc<Metrics>,
    /// For `/findings` and `/`.
    pub recent: Arc<Recent>,
    /// For `/readyz`: set once the hooks are attached.
    pub ready: Arc<AtomicBool>,
    /// Whom to ask for counts as of now before `/metrics` is answered.
    pub fresh: Option<mpsc::Sender<oneshot::Sender<()>>>,
}

impl Shown {
    /// Has the counts read; metrics that are a second old beat none at all.
    async fn freshen(&self) {
        let Some(fresh) = &self.fresh else { return };
        let (done, counted) = oneshot::channel();
        if fresh.send(done).await.is_ok() {
            let _ = tokio::time::timeout(GRACE, counted).await;
        }
    }
}

/// An HTTP server that has its port and does not answer yet.
pub struct Page {
    listener: TcpListener,
    address: SocketAddr,
}

impl Page {
    /// Takes the port; the error names the address and the remedy.
    pub async fn bind(address: SocketAddr) -> Result<Self> {
        let listener = TcpListener::bind(address).await.map_err(|error| {
            let remedy = remedy(error.kind());
            anyhow!("failed to listen on {address}: {error}; {remedy}")
        })?;
        let address = listener
            .local_addr()
            .context("failed to read listening address")?;
        Ok(Self { listener, address })
    }

    /// Where it listens, the port filled in where 0 was asked for.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers until `shutdown` is there, then gives requests under way one second.
    pub async fn serve(
        self,
        shown: Shown,
        shutdown: impl Future<Output = ()> + Send + 'static,
    ) -> Result<()> {
        let (ended, signal) = oneshot::channel();
        let stop = async move {
            shutdown.await;
            // Nobody waits for it when the server has failed already.
            let _ = ended.send(());
        };
        let server = axum::serve(self.listener, router(shown)).with_graceful_shutdown(stop);
        let late = async {
            match signal.await {
                Ok(()) => tokio::time::sleep(GRACE).await,
                // The server is gone: its own result says why.
                Err(_) => std::future::pending().await,
            }
        };
        tokio::select! {
            end = server.into_future() => end.context("failed to serve HTTP"),
            () = late => Ok(()),
        }
    }
}

fn remedy(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::AddrInUse => "choose a free port with --listen ADDR:PORT",
        ErrorKind::AddrNotAvailable => "choose an address of this host with --listen ADDR:PORT",
        ErrorKind::PermissionDenied => "choose a port above 1023 with --listen ADDR:PORT",
        _ => "choose another address with --listen ADDR:PORT",
    }
}

fn router(shown: Shown) -> Router {
    Router::new()
        .route("/", get(people))
        .route("/metrics", get(metrics))
        .route("/findings", get(findings))
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .with_state(shown)
}

async fn people(State(shown): State<Shown>) -> impl IntoResponse {
    let html = html::page(&shown.recent.breakdown(), &shown.recent.newest(SHOWN));
    ([(header::CONTENT_SECURITY_POLICY, POLICY)], Html(html))
}

async fn metrics(State(shown): State<Shown>) -> Result<impl IntoResponse, StatusCode> {
    shown.freshen().await;
    // Megabytes of text where there are many backends: the ring must not wait for that.
    let text = tokio::task::spawn_blocking(move || shown.metrics.encode()).await;
    let text = text.map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)?;
    Ok(([(header::CONTENT_TYPE, prometheus::TEXT_FORMAT)], text))
}

#[derive(Deserialize)]
struct Limit {
    limit: Option<usize>,
}

async fn findings(State(shown): State<Shown>, Query(asked): Query<Limit>) -> impl IntoResponse {
    let newest = shown.recent.newest(asked.limit.unwrap_or(SHOWN));
    ([(header::X_CONTENT_TYPE_OPTIONS, "nosniff")], Json(newest))
}

async fn ready(State(shown): State<Shown>) -> impl IntoResponse {
    if shown.ready.load(Ordering::Acquire) {
        (StatusCode::OK, "ok\n")
    } else {
        (
            StatusCode::SERVICE_UNAVAILABLE,
            "not ready: the kernel hooks are not attached\n",
        )
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

    use super::*;
    use crate::sinks::example;

    const ANY: &str = "127.0.0.1:0";

    async fn start(shown: &Shown) -> SocketAddr {
        let page = Page::bind(ANY.parse().expect("an address"))
            .await
            .expect("a free port");
        let address = page.address();
        tokio::spawn(page.serve(shown.clone(), std::future::pending()));
        address
    }

    async fn ask(address: SocketAddr, path: &str) -> String {
        let mut stream = TcpStream::connect(address).await.expect("connected");
        let head = format!("GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
        stream.write_all(head.as_bytes()).await.expect("sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("answered");
        answer
    }

    #[tokio::test]
    async fn every_path_of_the_contract_answers() {
        let shown = Shown::default();
        shown.metrics.failure(&example());
        shown.recent.add(example());
        let address = start(&shown).await;
        let metrics = ask(address, "/metrics").await;
        assert!(metrics.starts_with("HTTP/1.1 200") && metrics.contains("version=0.0.4"));
        assert!(metrics.contains("ingress_trace_upstream_failures_total{"));
        assert!(ask(address, "/livez").await.starts_with("HTTP/1.1 200"));
        let page = ask(address, "/").await;
        assert!(page.contains("text/html") && page.contains("keepalive_race"));
        assert!(ask(address, "/nothing").await.starts_with("HTTP/1.1 404"));
    }

    #[tokio::test]
    async fn readiness_follows_the_flag() {
        let shown = Shown::default();
        let address = start(&shown).await;
        assert!(ask(address, "/readyz").await.starts_with("HTTP/1.1 503"));
        shown.ready.store(true, Ordering::Release);
        assert!(ask(address, "/readyz").await.starts_with("HTTP/1.1 200"));
    }

    #[tokio::test]
    async fn findings_come_newest_first_and_as_many_as_asked_for() {
        let shown = Shown::default();
        for exchange in 1..=3 {
            shown.recent.add(Finding {
                exchange: Some(exchange),
                ..example()
            });
        }
        let address = start(&shown).await;
        let answer = ask(address, "/findings?limit=2").await;
        let body = answer.split_once("\r\n\r\n").expect("a body").1;
        let found: Vec<Finding> = serde_json::from_str(body).expect("JSON");
        let numbers: Vec<_> = found.iter().map(|finding| finding.exchange).collect();
        assert_eq!(numbers, [Some(3), Some(2)]);
        assert!(
            ask(address, "/findings?limit=x")
                .await
                .starts_with("HTTP/1.1 400")
        );
    }

    #[test]
    fn no_more_findings_are_kept_than_said() {
        let recent = Recent::default();
        for exchange in 0..KEPT as u32 + 10 {
            recent.add(Finding {
                exchange: Some(exchange),
                ..example()
            });
        }
        let newest = recent.newest(usize::MAX);
        assert_eq!(
            (newest.len(), newest[0].exchange),
            (KEPT, Some(KEPT as u32 + 9))
        );
        assert_eq!(recent.breakdown().failures(), KEPT as u64 + 10);
    }

    #[tokio::test]
    async fn an_address_in_use_is_named_with_the_remedy() {
        let first = Page::bind(ANY.parse().expect("an address"))
            .await
            .expect("a free port");
        let error = Page::bind(first.address())
            .await
            .map(|_| ())
            .expect_err("taken")
            .to_string();
        assert!(
            error.starts_with(&format!("failed to listen on {}", first.address())),
            "{error}"
        );
        assert!(
            error.ends_with("choose a free port with --listen ADDR:PORT"),
            "{error}"
        );
    }

    #[tokio::test]
    async fn a_client_that_stalls_does_not_hold_up_the_end() {
        let page = Page::bind(ANY.parse().expect("an address"))
            .await
            .expect("a free port");
        let mut stream = TcpStream::connect(page.address()).await.expect("connected");
        stream
            .write_all(b"GET /livez HTTP/1.1\r\nHost:")
            .await
            .expect("sent");
        let served = page.serve(Shown::default(), tokio::time::sleep(GRACE / 10));
        tokio::time::timeout(GRACE * 3, served)
            .await
            .expect("ended")
            .expect("no error");
    }
}
