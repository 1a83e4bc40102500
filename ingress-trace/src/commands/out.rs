//! What a command writes to stdout: nothing, JSON lines, or lines for a person. Written by a thread
//! of its own: a reader that is slow or stuck must not hold up the agent.
use std::io::Stdout;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use jiff::tz::TimeZone;

use crate::cli::Output;
use crate::finding::Finding;
use crate::sinks::Reader;
use crate::sinks::json::Json;
use crate::sinks::terminal::{Color, Terminal};

/// Findings that may wait for the reader; more are dropped and counted.
const WAITING: usize = 10_000;
/// How long the reader may take for what waits once the agent ends.
const PATIENCE: Duration = Duration::from_secs(2);

/// The way to stdout.
pub struct Out {
    /// `None` when nothing is written.
    writer: Option<Writer>,
    /// Findings that the reader was too slow for.
    pub lost: u64,
}

struct Writer {
    findings: SyncSender<Finding>,
    ended: Receiver<Result<()>>,
}

enum Sink {
    Json(Json<Stdout>),
    Text(Terminal<Stdout>),
}

impl Out {
    /// The way for a format; without one nothing is written.
    pub fn stdout(output: Option<Output>) -> Result<Self> {
        let writer = match output {
            None => None,
            Some(Output::Json) => Some(Writer::start(Sink::Json(Json::new(std::io::stdout())))?),
            Some(Output::Text) => {
                let (color, zone) = (Color::of_stdout(), TimeZone::system());
                let terminal = Terminal::new(std::io::stdout(), color, zone);
                Some(Writer::start(Sink::Text(terminal))?)
            }
        };
        Ok(Self { writer, lost: 0 })
    }

    /// Hands over one finding.
    pub fn finding(&mut self, finding: &Finding) -> Result<Reader> {
        let Some(writer) = &self.writer else {
            return Ok(Reader::Present);
        };
        match writer.findings.try_send(finding.clone()) {
            Ok(()) => Ok(Reader::Present),
            Err(TrySendError::Full(_)) => {
                self.lost += 1;
                Ok(Reader::Present)
            }
            // It ends by itself only when nobody reads any more, or with an error.
            Err(TrySendError::Disconnected(_)) => {
                self.end()?;
                Ok(Reader::Gone)
            }
        }
    }

    /// Has everything written that waits, and what belongs at the end.
    pub fn end(&mut self) -> Result<()> {
        let Some(writer) = self.writer.take() else {
            return Ok(());
        };
        drop(writer.findings);
        match writer.ended.recv_timeout(PATIENCE) {
            Ok(result) => result,
            Err(RecvTimeoutError::Timeout) => {
                tracing::warn!("stdout is not read: findings that wait for it are dropped");
                Ok(())
            }
            Err(RecvTimeoutError::Disconnected) => Ok(()),
        }
    }
}

impl Writer {
    fn start(mut sink: Sink) -> Result<Self> {
        let (findings, taken) = sync_channel(WAITING);
        let (end, ended) = sync_channel(1);
        thread::Builder::new()
            .name("stdout".to_owned())
            .spawn(move || {
                // Nobody waits for the result of an agent that has ended.
                let _ = end.send(sink.write(&taken));
            })
            .context("failed to start the thread for stdout")?;
        Ok(Self { findings, ended })
    }
}

impl Sink {
    fn write(&mut self, findings: &Receiver<Finding>) -> Result<()> {
        for finding in findings {
            let reader = match self {
                Self::Json(sink) => sink.finding(&finding)?,
                Self::Text(sink) => sink.finding(&finding)?,
            };
            if reader == Reader::Gone {
                return Ok(());
            }
        }
        if let Self::Text(sink) = self {
            let _ = sink.summary()?;
        }
        Ok(())
    }
}
