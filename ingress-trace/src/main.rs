//! Entry point: parses the command line, runs the command, says in one line what went wrong.
use std::process::ExitCode;

use clap::Parser;
use ingress_trace::allocator;
use ingress_trace::cli::{Cli, Command};
use ingress_trace::commands;
use tracing_subscriber::EnvFilter;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    allocator::settle();
    let cli = Cli::parse();
    // What fails between the agent and the API is told here, with its remedy.
    let default = format!("ingress_trace={0},{0},kube_client=off", cli.log_level());
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(default));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .init();
    let result = match cli.command {
        Command::Run(options) => commands::run::run(options).await,
        Command::Watch(options) => commands::watch::run(options).await,
        Command::Explain(options) => commands::explain::run(&options),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
