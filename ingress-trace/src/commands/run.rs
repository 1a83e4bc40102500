//! `ingress-trace run`: the agent of a node, with metrics and findings over HTTP.
use anyhow::Result;

use super::out::Out;
use crate::agent::{self, Options};
use crate::cli::Run;

/// Runs until it is told to end.
pub async fn run(options: Run) -> Result<()> {
    agent::run(Options {
        targets: options.targets,
        capture: options.capture,
        listen: Some(options.listen),
        duration: options.duration,
        out: Out::stdout(options.output)?,
    })
    .await
}
