//! What a command writes to stdout: nothing, JSON lines, or lines for a person.
use std::io::Stdout;

use anyhow::Result;
use jiff::tz::TimeZone;

use crate::cli::Output;
use crate::finding::Finding;
use crate::sinks::Reader;
use crate::sinks::json::Json;
use crate::sinks::terminal::{Color, Terminal};

/// The sink on stdout.
pub enum Out {
    /// Nothing is written.
    Silent,
    /// One JSON object per line.
    Json(Json<Stdout>),
    /// One line a person reads per finding, and a breakdown at the end.
    Text(Terminal<Stdout>),
}

impl Out {
    /// The sink for a format.
    pub fn stdout(output: Option<Output>) -> Self {
        match output {
            None => Self::Silent,
            Some(Output::Json) => Self::Json(Json::new(std::io::stdout())),
            Some(Output::Text) => {
                let (color, zone) = (Color::of_stdout(), TimeZone::system());
                Self::Text(Terminal::new(std::io::stdout(), color, zone))
            }
        }
    }

    /// Writes one finding.
    pub fn finding(&mut self, finding: &Finding) -> Result<Reader> {
        match self {
            Self::Silent => Ok(Reader::Present),
            Self::Json(sink) => sink.finding(finding),
            Self::Text(sink) => sink.finding(finding),
        }
    }

    /// Writes what belongs at the end.
    pub fn end(&mut self) -> Result<Reader> {
        match self {
            Self::Silent | Self::Json(_) => Ok(Reader::Present),
            Self::Text(sink) => sink.summary(),
        }
    }
}
