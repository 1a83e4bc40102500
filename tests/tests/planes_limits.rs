//! Errors that no backend is asked for: all endpoints down, full queues and circuit breakers, a
//! configuration that refuses, no descriptor left; and a response that a data plane refuses. What is
//! told must be what happened, and nothing where nobody can know.
use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tests::agent::{Agent, Finding, VERDICT};
use tests::backends::{Backends, Behavior as B};
use tests::bed::Bed;
use tests::client::{self as plain, request};
use tests::edge::{pause, serve};
use tests::expect::Differences;
use tests::planes::limits::{self, DOWN, FRESH, FULL, MOST, POLICY, SCRIPT, SCRIPT_PORT, SECURE};
use tests::planes::own::{Own, PORT, TLS_PORT, at};
use tests::planes::{Plane, each, watch};
use tests::response::Answer;
use tests::{h2, https, secure, wait};

/// A data plane whose limits are narrow.
struct Narrow {
    own: Own,
    backends: Backends,
    agent: Agent,
    plane: Plane,
    // Last: it is dropped after what lives in it.
    bed: Bed,
}

impl Narrow {
    /// Starts it; the agent comes when all that shall be down is.
    fn new(plane: Plane, often: bool) -> Result<Self> {
        let bed = Bed::new()?;
        let backends = Backends::start(&bed)?;
        secure::serve(&bed)?;
        let own = Own::start(&bed, plane, &limits::files(plane, often))?;
        let get = |path: &str| plain::get(&bed, at(PORT), path);
        wait::holds("requests relayed", VERDICT, || {
            get("/ready").is_ok_and(|got| got.status == Some(200))
        })?;
        let down = limits::status(plane, DOWN).filter(|_| often);
        wait::holds("all endpoints down", VERDICT, || {
            let got = get("/down/ready");
            got.is_ok_and(|got| down.is_none() || got.status == down)
        })
        .with_context(|| own.output())?;
        let agent = watch(&bed, plane)?;
        Ok(Self {
            own,
            backends,
            agent,
            plane,
            bed,
        })
    }

    /// Waits until the agent has seen so many checks that it knows them.
    fn learnt(&mut self) -> Result<()> {
        if self.plane != Plane::Nginx {
            let before = self.backends.requests(B::Ok)?;
            wait::holds("checks", VERDICT, || {
                self.backends
                    .requests(B::Ok)
                    .is_ok_and(|now| now >= before + 7)
            })?;
        }
        let path = "/down/marker-learnt";
        plain::get(&self.bed, at(PORT), path)?;
        let told = self.agent.finding("the marker", |one| one.path() == path);
        told.map(drop)
    }

    /// Holds as many requests as a limit allows while `during` is done.
    fn held(&mut self, word: &str, during: impl FnOnce(&Self) -> Result<()>) -> Result<()> {
        let path = request("GET", &format!("/{word}/held"), "");
        let mut clear = plain::Connection::open(&self.bed, at(PORT))?;
        let mut encrypted = https::open(&self.bed, at(TLS_PORT))?;
        let (sent, reach) = match (self.plane, word) {
            // It allows none at all: even the first one must wait for its connection.
            (Plane::Envoy, FULL) => (0, 0),
            // It counts for each entry point.
            (Plane::Traefik, _) => (2, 2),
            // The second one has the queue for itself.
            (Plane::Haproxy, MOST) => (2, 1),
            _ => (1, 1),
        };
        let before = self.backends.requests(B::Hang)?;
        if sent > 0 {
            clear.send(path.as_bytes())?;
        }
        if sent > reach {
            pause(100);
        }
        if sent > 1 {
            encrypted.send(path.as_bytes())?;
        }
        wait::holds("the requests that are held", VERDICT, || {
            let held = before + reach;
            self.backends.requests(B::Hang).is_ok_and(|now| now == held)
        })?;
        if sent > reach {
            pause(100);
        }
        during(self)
    }

    /// Lets requests fail until the circuit breaker of each entry point is open.
    fn opened(&self) -> Result<()> {
        let path = format!("/{MOST}/opens");
        wait::holds("an open circuit breaker", VERDICT, || {
            let clear = plain::get(&self.bed, at(PORT), &path);
            let encrypted = https::open(&self.bed, at(TLS_PORT)).and_then(|mut one| one.get(&path));
            let open = |got: Result<Answer>| got.is_ok_and(|got| got.status == Some(503));
            open(clear) & open(encrypted)
        })
    }

    /// One request of each kind of client for each of these paths; all must get this.
    fn ask(&self, word: &str, status: u16, times: u32) -> Result<()> {
        for number in 0..times {
            let path = |client: &str| format!("/{word}/{client}-{number}");
            let got = plain::get(&self.bed, at(PORT), &path("plain"))?;
            ensure!(got.status == Some(status), "{word}: {got:?}");
            let got = https::open(&self.bed, at(TLS_PORT))?.get(&path("tls"))?;
            ensure!(got.status == Some(status), "{word}, TLS: {got:?}");
            let got = h2::Connection::open(&self.bed, at(TLS_PORT))?.get(&path("h2"))?;
            ensure!(got.status == Some(status), "{word}, HTTP/2: {got:?}");
        }
        Ok(())
    }
}

/// What must be told of a request that reached no backend.
fn expected(status: u16) -> Value {
    json!({"outcome": "no_upstream", "phase": null, "status": status,
        "status_source": "observed", "client_visible": "yes", "backend": null})
}

/// Notes what is not told of these paths exactly once, as it should be, and all that is told besides.
fn compare(
    plane: Plane,
    mut findings: Vec<Finding>,
    expected: impl IntoIterator<Item = (String, Value)>,
    differences: &Mutex<Differences>,
) {
    let mut differences = differences.lock().expect("no thread panics with it");
    for (path, expected) in expected {
        let fits = |one: &Finding| one.path() == path;
        differences.only(&format!("{plane:?} {path}"), &findings, fits, &expected);
        findings.retain(|one| !fits(one));
    }
    for finding in findings {
        differences.note(format!("{plane:?} told: {}", finding.0));
    }
}

/// How often each kind of client asks where nothing is held.
const TIMES: u32 = 40;
/// The same while a request is held, or waits in a queue.
const HELD: u32 = 3;

fn limited(plane: Plane, differences: &Mutex<Differences>) -> Result<()> {
    let mut narrow = Narrow::new(plane, true)?;
    narrow.learnt()?;
    let mut asked = Vec::new();
    for (word, times) in [(DOWN, TIMES), (POLICY, TIMES)] {
        if let Some(status) = limits::status(plane, word) {
            narrow.ask(word, status, times)?;
            asked.push((word, status, times));
        }
    }
    for word in [FULL, MOST] {
        let Some(status) = limits::status(plane, word) else {
            continue;
        };
        if (plane, word) == (Plane::Traefik, MOST) {
            narrow.opened()?;
            narrow.ask(word, status, HELD)?;
        } else {
            narrow.held(word, |narrow| narrow.ask(word, status, HELD))?;
        }
        if status != 429 {
            asked.push((word, status, HELD));
        }
    }
    let marker = "/down/marker";
    plain::get(&narrow.bed, at(PORT), marker)?;
    narrow
        .agent
        .finding("the marker", |one| one.path() == marker)?;
    let mut findings = narrow.agent.stop()?;
    let opens = |one: &Finding| {
        let broken = one.number("/backend/port") == Some(limits::broken().port().into());
        broken || one.path() == format!("/{MOST}/opens")
    };
    findings.retain(|one| !one.path().starts_with(marker) && !opens(one));
    findings.retain(|one| one.text("/outcome") != "slow");
    let all = asked.into_iter().flat_map(|(word, status, times)| {
        let path = move |number| (format!("/{word}/plain-{number}"), expected(status));
        (0..times).map(path)
    });
    // Under TLS nobody can know, and checks are nobody's.
    compare(plane, findings, all, differences);
    Ok(())
}

/// The work on every data plane; all differences at once, but for what the load decides of so many
/// requests on each.
fn all(
    requests: u32,
    work: impl Fn(Plane, &Mutex<Differences>) -> Result<()> + Sync,
) -> Result<()> {
    let differences = Mutex::new(Differences::default());
    each(|plane| work(plane, &differences))?;
    let cases = usize::try_from(requests)? * Plane::ALL.len();
    let differences = differences.into_inner().expect("no thread panics with it");
    differences.finish_all_but_one_of_a_hundred(cases, "");
    Ok(())
}

/// Checks are told by their beat here, which a machine with too much to do disturbs.
static ALONE: Mutex<()> = Mutex::new(());

#[test]
fn errors_without_an_attempt_are_told_as_that() -> Result<()> {
    let _alone = ALONE.lock();
    all(3 * (2 * TIMES + 2 * HELD), limited)
}

/// How far apart the requests of a client are whose backend is spoken to over TLS, and such clients.
const BESIDE: (u64, usize) = (10, 2);

/// Errors of the data plane's own beside constant requests that go to a backend over TLS.
fn beside(plane: Plane, differences: &Mutex<Differences>) -> Result<()> {
    let mut narrow = Narrow::new(plane, true)?;
    narrow.learnt()?;
    let word = if plane == Plane::Traefik {
        DOWN
    } else {
        POLICY
    };
    let status = limits::status(plane, word).context("a status")?;
    let done = AtomicBool::new(false);
    let (bed, asked) = (&narrow.bed, AtomicUsize::new(0));
    let encrypted = |client: usize| {
        while !done.load(Ordering::Relaxed) {
            let path = format!("/{SECURE}/{client}");
            let got = plain::get(bed, at(PORT), &path)?;
            ensure!(got.status == Some(200), "{path}: {got:?}");
            asked.fetch_add(1, Ordering::Relaxed);
            pause(BESIDE.0);
        }
        Ok(())
    };
    thread::scope(|scope| {
        let clients: Vec<_> = (0..BESIDE.1)
            .map(|client| scope.spawn(move || encrypted(client)))
            .collect();
        let told = (0..TIMES).try_for_each(|number| {
            let path = format!("/{word}/plain-{number}");
            let got = plain::get(bed, at(PORT), &path)?;
            ensure!(got.status == Some(status), "{path}: {got:?}");
            pause(30);
            Ok(())
        });
        done.store(true, Ordering::Relaxed);
        let clients = clients.into_iter().try_for_each(wait::joined);
        told.and(clients)
    })?;
    let findings = narrow.agent.stop()?;
    let fits = |one: &&Finding| one.path().starts_with(&format!("/{word}/plain-"));
    let told = findings.iter().filter(fits).count();
    let asked = asked.into_inner();
    eprintln!("{plane:?}: {told} of {TIMES} told beside {asked} requests over TLS");
    let mut differences = differences.lock().expect("no thread panics with it");
    // What was sent over TLS in between by chance may have been asked for by the same client.
    differences.check(told >= TIMES as usize / 2, || {
        format!("{plane:?}: {told} of {TIMES} told beside {asked} requests over TLS")
    });
    for finding in findings {
        let right = finding.text("/outcome") == "no_upstream" && !finding.path().contains(SECURE);
        differences.check(right, || format!("{plane:?} told: {}", finding.0));
    }
    Ok(())
}

#[test]
fn errors_without_an_attempt_are_told_beside_backends_that_cannot_be_read() -> Result<()> {
    let _alone = ALONE.lock();
    all(TIMES, beside)
}

/// Sets how many descriptors a process may have open.
fn limit(pid: u32, most: libc::rlim_t) -> Result<()> {
    let mut limits = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    let (id, what) = (pid.cast_signed(), libc::RLIMIT_NOFILE);
    // SAFETY: null, or a pointer to a value that lives through the call.
    let mut done = unsafe { libc::prlimit(id, what, std::ptr::null(), &raw mut limits) } == 0;
    limits.rlim_cur = most;
    // SAFETY: as above.
    done &= unsafe { libc::prlimit(id, what, &raw const limits, std::ptr::null_mut()) } == 0;
    ensure!(done, "failed to limit: {}", std::io::Error::last_os_error());
    Ok(())
}

/// The process that opens sockets to backends.
fn serving(narrow: &Narrow) -> Result<u32> {
    let id = narrow.own.process.id();
    if narrow.plane != Plane::Nginx {
        return Ok(id);
    }
    let children = std::fs::read_to_string(format!("/proc/{id}/task/{id}/children"));
    let children = children.context("failed to read nginx's children")?;
    let worker = children.split_whitespace().next().context("no worker")?;
    worker.parse().context("failed to parse a process id")
}

/// Its open descriptors.
fn open(pid: u32) -> BTreeSet<u64> {
    let folder = std::fs::read_dir(format!("/proc/{pid}/fd"));
    let names = folder.into_iter().flatten().flatten();
    names
        .filter_map(|one| one.file_name().to_str()?.parse().ok())
        .collect()
}

/// Leaves it no descriptor: it gets none beyond the lowest that is free.
fn fill(pid: u32) -> Result<()> {
    let open = open(pid);
    let mut numbers = 0..=u64::try_from(open.len())?;
    let free = numbers.find(|number| !open.contains(number));
    limit(pid, free.context("more open than there are")?)
}

/// How many it may have open before and after that.
const PLENTY: libc::rlim_t = 1000;

/// A request on a connection that is there, while no descriptor is; returns when the connection is gone.
fn starve<S: Read + Write>(
    narrow: &Narrow,
    mut client: plain::Connection<S>,
    path: &str,
    seen: impl FnOnce() -> Result<()>,
) -> Result<()> {
    let pid = serving(narrow)?;
    let before = open(pid).len();
    // A health check that ends meanwhile gives one back: then it is asked again.
    let got = wait::until("no descriptor", VERDICT, || {
        let got = fill(pid).and_then(|()| client.get(path));
        let free = got.as_ref().is_ok_and(|got| got.status == Some(200));
        (!free).then_some(got)
    })?;
    let got = got.with_context(|| narrow.own.output())?;
    let status = limits::without_descriptor(narrow.plane);
    ensure!(
        got.status == Some(status),
        "{path}: {got:?} {}",
        narrow.own.output()
    );
    seen()?;
    drop(client);
    limit(pid, PLENTY)?;
    wait::holds("the client's end", VERDICT, || open(pid).len() < before)
}

fn exhausted(plane: Plane, differences: &Mutex<Differences>) -> Result<()> {
    let narrow = Narrow::new(plane, false)?;
    let mut plain = Vec::new();
    let mut encrypted = Vec::new();
    for _ in 0..5 {
        let mut clear = plain::Connection::open(&narrow.bed, at(PORT))?;
        let mut tls = https::open(&narrow.bed, at(TLS_PORT))?;
        for got in [clear.get("/first")?, tls.get("/first")?] {
            ensure!(got.status == Some(200), "{got:?}");
        }
        plain.push(clear);
        encrypted.push(tls);
    }
    let mut told = Vec::new();
    for (number, (clear, tls)) in plain.into_iter().zip(encrypted).enumerate() {
        let path = format!("/{FRESH}/plain-{number}");
        // Still short while the agent looks.
        let seen = || {
            let finding = narrow
                .agent
                .finding("the shortage", |one| one.path() == path);
            finding.map(drop)
        };
        starve(&narrow, clear, &path, seen)?;
        starve(&narrow, tls, &format!("/{FRESH}/tls-{number}"), || Ok(()))?;
        told.push(path);
    }
    let got = plain::get(&narrow.bed, at(PORT), "/fresh/again")?;
    ensure!(got.status == Some(200), "{got:?}");
    let findings = narrow.agent.stop()?;
    let mut expected = expected(limits::without_descriptor(plane));
    expected["cause"] = json!("ingress_fds_exhausted");
    let all = told.into_iter().map(|path| (path, expected.clone()));
    compare(plane, findings, all, differences);
    Ok(())
}

#[test]
fn no_descriptor_left_is_the_ingress_pods_own_shortage_on_every_data_plane() -> Result<()> {
    all(1, exhausted)
}

/// Asks for a WebSocket that the backend's 101 does not rightly agree to; what becomes of it.
fn refuses(plane: Plane, differences: &Mutex<Differences>) -> Result<()> {
    let narrow = Narrow::new(plane, false)?;
    serve(&narrow.bed, SCRIPT_PORT, |peer| {
        while let Some(head) = peer.request()? {
            peer.send(match head.split('/').nth(2) {
                // Without Sec-WebSocket-Accept.
                Some("bare") => {
                    "HTTP/1.1 101 Switching\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"
                }
                _ => {
                    "HTTP/1.1 101 Switching\r\nUpgrade: other\r\nConnection: Upgrade\r\n                     Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
                }
            })?;
        }
        Ok(())
    })?;
    let headers = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                   Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    let mut failed = Vec::new();
    for number in 0..6 {
        let word = ["bare", "other"][number % 2];
        let path = format!("/{SCRIPT}/{word}/plain-{number}");
        let mut clear = plain::Connection::open(&narrow.bed, at(PORT))?;
        clear.send(request("GET", &path, headers).as_bytes())?;
        let got = clear.answer()?;
        if got.status >= Some(500) {
            failed.push((path, got.status));
        }
        let mut tls = https::open(&narrow.bed, at(TLS_PORT))?;
        let path = format!("/{SCRIPT}/{word}/tls-{number}");
        tls.send(request("GET", &path, headers).as_bytes())?;
        tls.answer()?;
    }
    let findings = narrow.agent.stop()?;
    let all = failed.into_iter().map(|(path, status)| {
        let expected = json!({"outcome": "bad_response", "phase": "response", "status": status,
            "status_source": "observed", "client_visible": "yes", "cause": "protocol_error",
            "backend": {"port": SCRIPT_PORT}});
        (path, expected)
    });
    compare(plane, findings, all, differences);
    Ok(())
}

#[test]
fn a_refused_101_is_the_backends_response() -> Result<()> {
    all(6, refuses)
}
