//! In: calls. Out: bodies and lines of the Kubernetes API, or why there is none. The only place that
//! asks it: paced, limited in time and size, counted. Reads no objects.
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use http::request::Builder;
use http::{HeaderMap, Method, Request, Response};
use http_body_util::BodyExt as _;
use kube::Client;
use kube::client::Body;
use tokio::time::{sleep, timeout};

use super::client::Source;
use super::failed::{Failed, Reason, causes};
use super::pace::Pace;
use super::partial::Status;
use super::resource::{Call, Resource, Verb};
use super::stats::Stats;

/// Requests a second in the long run, and at once: enough for the pages of a large cluster.
const RATE: u32 = 10;
const BURST: u32 = 30;
/// Largest body; a page of 500 large Services is a tenth of it.
const LARGEST: usize = 64 << 20;
/// Largest line of a watch; etcd takes no object beyond 1.5 MiB.
const LONGEST: usize = 8 << 20;
/// Longest text of an error that is kept.
const TEXT: usize = 300;
/// How often the configuration is read again while it is refused.
const RENEW: Duration = Duration::from_secs(10);

/// How long the API may be silent.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// Until an answer begins.
    pub answer: Duration,
    /// Between parts of a body.
    pub body: Duration,
    /// Between lines of a watch: a bookmark comes about once a minute.
    pub line: Duration,
    /// Until it is asked again for a resource that it may have been given meanwhile.
    pub absent: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            answer: Duration::from_secs(30),
            body: Duration::from_secs(30),
            line: Duration::from_secs(150),
            absent: Duration::from_secs(55),
        }
    }
}

/// The API of one cluster.
pub struct Api {
    source: Source,
    client: Mutex<Read>,
    pace: Mutex<Pace>,
    /// What happened so far.
    pub stats: Arc<Stats>,
    /// How long it may be silent.
    pub patience: Patience,
}

/// A configuration as it was read.
struct Read {
    client: Result<Client, String>,
    at: Instant,
}

impl Read {
    fn now(source: &Source) -> Self {
        Self {
            client: source.client().map_err(|error| format!("{error:#}")),
            at: Instant::now(),
        }
    }
}

impl Api {
    /// Reads the configuration, again and again while it is wrong; asks nothing yet. Needs a
    /// runtime.
    pub fn new(source: Source, patience: Patience) -> Self {
        Self {
            client: Mutex::new(Read::now(&source)),
            source,
            pace: Mutex::new(Pace::new(RATE, BURST)),
            stats: Arc::default(),
            patience,
        }
    }

    /// The whole body of an answer.
    pub async fn body(&self, call: &Call) -> Result<Vec<u8>, Failed> {
        let mut lines = self.lines(call).await?;
        while lines.more(self.patience.body).await? {
            if lines.buffer.len() > LARGEST {
                return Err(Failed::new(Reason::Unreadable, "the answer is too large"));
            }
        }
        Ok(lines.buffer)
    }

    /// Creates or changes an object.
    pub async fn write(&self, call: &Call, body: Vec<u8>) -> Result<(), Failed> {
        let (method, kind) = match call.verb {
            Verb::Patch => (Method::PATCH, "application/merge-patch+json"),
            Verb::Create | Verb::Get | Verb::List | Verb::Watch => {
                (Method::POST, "application/json")
            }
        };
        let request = Request::builder()
            .method(method)
            .uri(&call.path)
            .header(http::header::CONTENT_TYPE, kind);
        // What the object is by now is of no interest, but the connection is: it is read to its end.
        let mut lines = self.ask(call, request, body).await?;
        while lines.more(self.patience.body).await? {
            lines.buffer.clear();
        }
        Ok(())
    }

    /// The lines of an answer, as they come.
    pub async fn lines(&self, call: &Call) -> Result<Lines, Failed> {
        self.ask(call, Request::get(&call.path), Vec::new()).await
    }

    async fn ask(&self, call: &Call, request: Builder, body: Vec<u8>) -> Result<Lines, Failed> {
        let wait = locked(&self.pace).take(Instant::now());
        sleep(wait).await;
        let client = self.client()?;
        let request = request.body(Body::from(body));
        let request = request.expect("paths are made of escaped parts");
        let answer = timeout(self.patience.answer, client.send(request)).await;
        let code = |answer: &Response<Body>| answer.status().as_u16();
        let status = answer.as_ref().ok().and_then(|sent| sent.as_ref().ok());
        self.stats.answered(call, status.map_or(0, code));
        let answer = match answer {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => return Err(Failed::from_client(&error)),
            Err(_) => return Err(Failed::new(Reason::Timeout, "no answer came")),
        };
        let (head, body) = answer.into_parts();
        let mut lines = Lines {
            body,
            buffer: Vec::new(),
            start: 0,
            stats: Arc::clone(&self.stats),
            resource: call.resource,
        };
        if head.status.is_success() {
            return Ok(lines);
        }
        let code = head.status.as_u16();
        if code == 401 {
            self.renew();
        }
        // A reason is as good without its text.
        while lines.buffer.len() < LONGEST && lines.more(self.patience.body).await.unwrap_or(false)
        {
        }
        Err(Failed {
            reason: Reason::of_status(code),
            text: refusal(code, &lines.buffer),
            retry_after: retry_after(&head.headers),
        })
    }

    fn client(&self) -> Result<Client, Failed> {
        let client = locked(&self.client).client.clone();
        client.map_err(|text| {
            self.renew();
            Failed::new(Reason::Credentials, text)
        })
    }

    /// Reads the configuration again: what it names may have been renewed, and a token file is read
    /// no more than once a minute by the old client.
    fn renew(&self) {
        let mut read = locked(&self.client);
        if read.at.elapsed() >= RENEW {
            let new = Read::now(&self.source);
            if new.client.is_ok() || read.client.is_err() {
                *read = new;
            } else {
                read.at = new.at;
            }
        }
    }
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // Nothing in there is half done after a panic.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The server's words, or the beginning of what somebody else answered.
fn refusal(code: u16, body: &[u8]) -> String {
    let message = serde_json::from_slice::<Status>(body).unwrap_or_default();
    let mut text = if message.message.is_empty() {
        String::from_utf8_lossy(&body[..body.len().min(TEXT)]).into_owned()
    } else {
        message.message
    };
    text.retain(|letter| !letter.is_control());
    let text: String = text.chars().take(TEXT).collect();
    format!("status {code}: {text}")
}

/// `Retry-After` in seconds, as the API server writes it.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let value = headers.get(http::header::RETRY_AFTER)?.to_str().ok()?;
    let seconds: u64 = value.trim().parse().ok()?;
    Some(Duration::from_secs(seconds.min(300)))
}

/// An answer that is read line by line.
pub struct Lines {
    body: Body,
    buffer: Vec<u8>,
    /// Where the next line begins.
    start: usize,
    stats: Arc<Stats>,
    resource: Resource,
}

impl Lines {
    /// The next line that is not empty; `None` at the end. What stands after the last newline was
    /// cut and is no line.
    pub async fn next(&mut self, patience: Duration) -> Result<Option<&[u8]>, Failed> {
        let mut searched = self.start;
        loop {
            let newline = self.buffer[searched..]
                .iter()
                .position(|byte| *byte == b'\n');
            if let Some(at) = newline {
                let (from, to) = (self.start, searched + at);
                self.start = to + 1;
                searched = self.start;
                if from == to {
                    continue;
                }
                return Ok(Some(&self.buffer[from..to]));
            }
            self.buffer.drain(..self.start);
            self.start = 0;
            searched = self.buffer.len();
            if searched > LONGEST {
                return Err(Failed::new(
                    Reason::Unreadable,
                    "a line of the watch is too long",
                ));
            }
            if !self.more(patience).await? {
                return Ok(None);
            }
        }
    }

    /// Takes what comes next of the body; `false` at its end.
    async fn more(&mut self, patience: Duration) -> Result<bool, Failed> {
        loop {
            let frame = timeout(patience, self.body.frame()).await;
            let frame =
                frame.map_err(|_| Failed::new(Reason::Timeout, "the server fell silent"))?;
            let Some(frame) = frame else {
                return Ok(false);
            };
            let broken = |error| Failed::new(Reason::Unreachable, causes(&error));
            // Trailers say nothing here.
            if let Ok(data) = frame.map_err(broken)?.into_data() {
                self.stats.received(&self.resource, data.len());
                self.buffer.extend_from_slice(&data);
                return Ok(true);
            }
        }
    }
}
