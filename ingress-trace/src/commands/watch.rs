//! `ingress-trace watch`: findings on a person's terminal as they come, a breakdown at the end.
use anyhow::Result;

use super::out::Out;
use crate::agent::{self, Options};
use crate::cli::Watch;

/// Runs until it is told to end.
pub async fn run(options: Watch) -> Result<()> {
    agent::run(Options {
        targets: options.targets,
        capture: options.capture,
        listen: options.listen,
        duration: options.duration,
        out: Out::stdout(Some(options.output))?,
    })
    .await
}
