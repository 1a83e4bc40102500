//! The tasks of this repository: comes in a command line, goes out the exit code of what it ran.
//! Thin: building is `cargo build`, testing is `cargo test`; nothing is decided here.

mod apiserver;
#[allow(dead_code, reason = "ingress-trace/build.rs uses the rest")]
mod bpf;
mod go;
mod lint;
mod setup;
mod step;
mod tasks;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "dev", bin_name = "dev", about = "The tasks of ingress-trace")]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Install what is missing to build and test (Debian packages, bpf-linker, data planes,
    /// a Kubernetes API server)
    Setup,
    /// Build the agent with its eBPF programs: target/release/ingress-trace
    Build,
    /// Build the agent and run it: `run -- watch --pid 42`
    Run {
        /// Arguments of ingress-trace
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<OsString>,
    },
    /// Set up, build, and show failing backends behind a real nginx being found (root)
    Demo,
    /// Set up, build and run all tests (root, a kernel with BTF)
    Test {
        /// Only what needs neither root nor a kernel
        #[arg(long)]
        quick: bool,
    },
    /// Set up, build, and measure what the agent costs against a run without it (root)
    Bench {
        /// Under two minutes instead of under ten
        #[arg(long)]
        quick: bool,
        /// Alternating pairs of runs with and without the agent
        #[arg(long, value_name = "N")]
        pairs: Option<u32>,
        /// Only this part: pairs, programs, storm, latency, line or memory
        #[arg(long, value_name = "PART")]
        only: Vec<String>,
    },
    /// Formatting, clippy on every crate, and cargo-deny where it is installed
    Lint,
}

fn main() -> ExitCode {
    let result = match Cli::parse().task {
        Task::Setup => setup::everything(),
        Task::Build => setup::build_tools().and_then(|()| tasks::build()),
        Task::Run { args } => tasks::run(&args),
        Task::Demo => tasks::demo(),
        Task::Test { quick: true } => tasks::test_quick(),
        Task::Test { quick: false } => tasks::test(),
        Task::Bench { quick, pairs, only } => tasks::bench(quick, pairs, &only),
        Task::Lint => lint::lint(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(step::exit_code(&error))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_benchmark_takes_its_size() {
        let cli = Cli::try_parse_from(["dev", "bench", "--quick", "--pairs", "7"]);
        let Task::Bench { quick, pairs, .. } = cli.unwrap().task else {
            panic!("not bench")
        };
        assert_eq!((quick, pairs), (true, Some(7)));
    }

    #[test]
    fn arguments_of_the_agent_reach_it_unread() {
        let cli = Cli::try_parse_from(["dev", "run", "--", "watch", "--pid", "42", "--help"]);
        let Task::Run { args } = cli.unwrap().task else {
            panic!("not run")
        };
        assert_eq!(args, ["watch", "--pid", "42", "--help"]);
    }
}
