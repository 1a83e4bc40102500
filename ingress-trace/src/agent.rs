//! The wiring, and the only file that knows all the others: targets -> probe -> events -> flows ->
//! findings -> sinks. Holds no rule of its own.
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

use crate::beside::Beside;
use crate::cli::{Capture, Targets};
use crate::cluster::stats::Report;
use crate::cluster::view::View;
use crate::commands::out::Out;
use crate::line::Line;
use crate::neighbors::Neighbors;
use crate::probe::{Probe, Settings, preflight};
use crate::sinks::Reader;
use crate::sinks::metrics::Stage;
use crate::sinks::page::{Page, Shown};
use crate::targets::{Finder, Roots};
use crate::watched::Watched;

/// How often the ring is emptied: a wake-up per sample would cost more than the sample.
const DRAIN: Duration = Duration::from_millis(25);
/// How often targets, counts and losses are looked at.
const REFRESH: Duration = Duration::from_secs(1);

/// How often it is looked whether a pod or a container has begun.
const ARRIVALS: Duration = Duration::from_millis(100);
/// How long the API may take to tell this node's pods before processes stand in for them.
const API_PATIENCE: Duration = Duration::from_secs(5);

/// Scrapes that may wait at once.
const ASKED: usize = 16;

/// Requests for counts as of now.
type Asked = mpsc::Receiver<oneshot::Sender<()>>;

/// What a command asks of the agent.
pub struct Options {
    /// Which data planes.
    pub targets: Targets,
    /// What is captured.
    pub capture: Capture,
    /// Where to serve HTTP, if at all.
    pub listen: Option<SocketAddr>,
    /// When to end by itself.
    pub duration: Option<Duration>,
    /// Where findings are written.
    pub out: Out,
}

/// Runs until a signal, the end of the duration or of the reader; verdicts still open are given.
pub async fn run(options: Options) -> Result<()> {
    // Signals first: one that comes while the programs are being loaded must not be lost.
    let mut stop = Stop::new(options.duration)?;
    let environment = preflight::check()?;
    for lack in &environment.lacks {
        tracing::warn!(lack, "degraded");
    }
    let page = match options.listen {
        Some(address) => Some(Page::bind(address).await?),
        None => None,
    };
    let node = options.targets.node()?;
    let mut cluster = match &options.targets {
        Targets { no_kube: true, .. } => None,
        targets => View::open(targets.kubeconfig.as_deref(), &node)?,
    };
    ensure!(
        cluster.is_some() || !options.targets.needs_kube(),
        "--pod and --ingress-selector need the Kubernetes API: name a kubeconfig with --kubeconfig"
    );
    if let Some(cluster) = cluster.as_mut().filter(|_| options.targets.kube_events) {
        cluster.tell();
    }
    let (fresh, mut asked) = mpsc::channel(ASKED);
    let shown = Shown {
        fresh: Some(fresh),
        ..Shown::default()
    };
    let (end, ended) = oneshot::channel::<()>();
    let serving = page.map(|page| {
        let shown = shown.clone();
        tokio::spawn(page.serve(shown, async {
            let _ = ended.await;
        }))
    });
    // Seconds of the verifier's work: meanwhile the page answers that it is not ready.
    let watched = {
        let (targets, capture) = (options.targets.clone(), options.capture.clone());
        let node = cluster.is_some().then(|| node.clone());
        tokio::task::spawn_blocking(move || {
            watch(&targets, &capture, &environment, node.as_deref())
        })
        .await
        .context("the loading thread ended")??
    };
    let neighbors = match &cluster {
        Some(_) => Some(Neighbors::start(Roots::detect(Path::new("/proc"))?)?),
        None => None,
    };
    let metrics = Arc::clone(&shown.metrics);
    let line = Line::new(&options.capture, node, Beside::new(neighbors), metrics);
    if cluster.is_none() && !options.targets.no_kube {
        shown.metrics.kube(Report::unconfigured());
    }
    let result = Agent {
        watched,
        line,
        cluster,
        began: Instant::now(),
        shown,
        out: options.out,
    }
    .work(&mut stop, &mut asked)
    .await;
    drop(end);
    if let Some(serving) = serving {
        serving.await.context("the HTTP server's task ended")??;
    }
    result
}

/// Loads the programs and attaches to the targets that are there; those of `node` that the API is to
/// tell come later.
fn watch(
    targets: &Targets,
    capture: &Capture,
    environment: &preflight::Environment,
    node: Option<&str>,
) -> Result<Watched> {
    let roots = Roots::detect(Path::new("/proc"))?;
    let selection = targets.selection();
    let mut finder = Finder::new(&selection, roots.clone())?;
    if let Some(node) = node {
        finder.await_pods(node);
    }
    let settings = Settings {
        http: !capture.no_http,
        slow: capture.slow,
        names: true,
        log: capture.log_ebpf,
    };
    let probe = Probe::load(&settings, environment)?;
    let explicit = !selection.pids.is_empty() || !selection.cgroups.is_empty();
    let mut watched = Watched::new(probe, finder, roots);
    watched.refresh(explicit)?;
    Ok(watched)
}

struct Agent {
    watched: Watched,
    line: Line,
    cluster: Option<View>,
    began: Instant,
    shown: Shown,
    out: Out,
}

impl Agent {
    async fn work(mut self, stop: &mut Stop, asked: &mut Asked) -> Result<()> {
        let mut drain = ticks(DRAIN);
        let mut refresh = ticks(REFRESH);
        let mut arrivals = ticks(ARRIVALS);
        self.count()?;
        loop {
            tokio::select! {
                biased;
                () = stop.wait() => break,
                _ = refresh.tick() => {
                    self.refresh();
                    self.count()?;
                }
                _ = arrivals.tick() => {
                    if self.watched.arrived() {
                        self.refresh();
                    }
                }
                Some(done) = asked.recv() => {
                    self.dead_routes();
                    self.count()?;
                    // Nobody waits any more: as good.
                    let _ = done.send(());
                }
                _ = drain.tick() => {
                    if self.step(monotonic())? == Reader::Gone {
                        break;
                    }
                }
            }
        }
        let _ = self.step(u64::MAX)?;
        self.count()?;
        // Meanwhile stdout is written.
        if let Some(cluster) = &mut self.cluster {
            cluster.end().await;
        }
        self.out.end()
    }

    fn refresh(&mut self) {
        if let Err(error) = self.watched.refresh(false) {
            tracing::warn!(error = format!("{error:#}"), "failed to refresh targets");
        }
    }

    /// Takes what the cluster told, and says whether all of it is of interest.
    fn learn(&mut self) {
        if let Some(cluster) = &mut self.cluster {
            let finder = self.watched.finder();
            cluster.want(finder.has_ingress());
            let mut changed = false;
            cluster.learn(|update| changed |= finder.learn(update));
            if finder.awaits() && self.began.elapsed() > API_PATIENCE {
                tracing::warn!("the API does not tell this node's pods: watching processes");
                finder.fall_back();
                changed = true;
            }
            if changed {
                self.refresh();
            }
        }
        if !self.watched.finder().awaits() {
            self.shown.ready.store(true, Ordering::Relaxed);
        }
    }

    /// Takes what waits in the ring, and gives the findings that are settled at `now`.
    fn step(&mut self, now: u64) -> Result<Reader> {
        self.learn();
        let line = &mut self.line;
        let watched = &mut self.watched;
        let cluster = self.cluster.as_ref();
        watched.drain(|sample, look| line.sample(sample, look, cluster));
        for finding in line.findings(now, watched, cluster) {
            self.shown.metrics.failure(&finding);
            if let Some(cluster) = &mut self.cluster {
                cluster.notice(&finding);
            }
            if self.out.finding(&finding)? == Reader::Gone {
                return Ok(Reader::Gone);
            }
            self.shown.recent.add(finding);
        }
        Ok(Reader::Present)
    }

    /// A look at all routes: only for who asks.
    fn dead_routes(&mut self) {
        self.learn();
        if let Some(cluster) = &self.cluster
            && let Some(dead) = cluster.dead_routes()
        {
            self.shown.metrics.dead_routes(dead);
        }
    }

    /// Brings counts, losses and states to the metrics.
    fn count(&mut self) -> Result<()> {
        if let Some(cluster) = &mut self.cluster {
            cluster.tick();
            // What was told to be complete just now may not have been taken yet.
            self.learn();
        }
        let metrics = &self.shown.metrics;
        if let Some(cluster) = &self.cluster {
            let line = &mut self.line;
            self.watched.count(
                metrics,
                |backend, labels| cluster.name(backend, labels),
                |counted| line.beside().count(counted, Some(cluster)),
            )?;
            metrics.retain(|labels| cluster.lives(labels));
            metrics.lost_total(Stage::History, cluster.evicted());
            metrics.kube(cluster.report());
        } else {
            let line = &mut self.line;
            self.watched.count(
                metrics,
                |_, _| true,
                |counted| line.beside().count(counted, None),
            )?;
        }
        self.line.answers(self.watched.take_answers());
        self.line.count();
        self.shown.metrics.lost_total(Stage::Output, self.out.lost);
        Ok(())
    }
}

fn ticks(period: Duration) -> tokio::time::Interval {
    let mut ticks = interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

/// Monotonic nanoseconds, the clock of the samples.
pub fn monotonic() -> u64 {
    nanos(libc::CLOCK_MONOTONIC)
}

/// What to add to a monotonic time for the wall clock's, in nanoseconds.
pub fn clock_offset() -> i128 {
    i128::from(nanos(libc::CLOCK_REALTIME)) - i128::from(monotonic())
}

fn nanos(clock: libc::clockid_t) -> u64 {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: a plain system call with a pointer to a local struct; these clocks always exist.
    unsafe { libc::clock_gettime(clock, &raw mut time) };
    time.tv_sec.unsigned_abs() * 1_000_000_000 + time.tv_nsec.unsigned_abs()
}

/// What ends the agent.
struct Stop {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
    deadline: Option<Instant>,
}

impl Stop {
    fn new(duration: Option<Duration>) -> Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt()).context("failed to watch SIGINT")?,
            terminate: signal(SignalKind::terminate()).context("failed to watch SIGTERM")?,
            deadline: duration.map(|duration| Instant::now() + duration),
        })
    }

    async fn wait(&mut self) {
        let far = Duration::from_hours(24 * 365);
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            () = sleep_until(self.deadline.unwrap_or_else(|| Instant::now() + far)),
                if self.deadline.is_some() => {}
        }
    }
}
