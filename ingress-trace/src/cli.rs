//! In: the command line and its environment. Out: typed options; a wrong line ends with exit 2.
//! Touches no kernel and no network; `docs/cli.md` is written from here.
use std::{net::SocketAddr, path::PathBuf, time::Duration};

use anyhow::{Context, Result};
use clap::builder::PossibleValuesParser;
use clap::builder::TypedValueParser as _;
use clap::{ArgAction, Args, CommandFactory, Parser, Subcommand, ValueEnum};
use jiff::SignedDuration;

use crate::cause::taxonomy::Controller;
use crate::targets::{PodName, Selection, Selector};

/// Width of the help in `docs/cli.md`, in columns.
const WIDTH: usize = 100;

/// Why a Kubernetes Ingress answers 502, 503 or 504, from kernel facts
#[derive(Debug, Parser)]
#[command(name = "ingress-trace", version, max_term_width = WIDTH)]
#[command(after_help = "run and watch need root, and a kernel with BTF and cgroup v2.")]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
    /// Log more to stderr: -v for debug, -vv for trace; RUST_LOG, when set, is obeyed instead
    #[arg(short, long, action = ArgAction::Count, global = true)]
    pub verbose: u8,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run as the agent of this node: metrics and findings over HTTP
    Run(Run),
    /// Show findings as they come, and a breakdown by cause at the end
    Watch(Watch),
    /// Explain a cause, or all: what it means, what speaks for it, what to do about it
    Explain(Explain),
}

/// `ingress-trace explain`.
#[derive(Debug, Args)]
pub struct Explain {
    /// Which cause, such as pod_terminating [default: all]
    pub cause: Option<String>,
    /// How it is written to stdout
    #[arg(short, long, value_name = "FORMAT", default_value = "text")]
    pub output: Output,
}

/// `ingress-trace run`. Its own options come first, or the help would put them under a heading of
/// the others.
#[derive(Debug, Args)]
pub struct Run {
    /// Where to serve /metrics, /livez, /readyz, /findings and a page for people
    #[arg(long, value_name = "ADDR:PORT", default_value = "0.0.0.0:9477")]
    pub listen: SocketAddr,
    /// Also write every finding to stdout [default: none is written]
    #[arg(short, long, value_name = "FORMAT")]
    pub output: Option<Output>,
    /// End after this time [default: run until SIGINT or SIGTERM]
    #[arg(long, value_name = "DURATION", value_parser = positive)]
    pub duration: Option<Duration>,
    /// Which data planes.
    #[command(flatten)]
    pub targets: Targets,
    /// What is captured.
    #[command(flatten)]
    pub capture: Capture,
}

/// `ingress-trace watch`.
#[derive(Debug, Args)]
pub struct Watch {
    /// Also serve what `run` serves [default: nothing is served]
    #[arg(long, value_name = "ADDR:PORT")]
    pub listen: Option<SocketAddr>,
    /// How findings are written to stdout
    #[arg(short, long, value_name = "FORMAT", default_value = "text")]
    pub output: Output,
    /// End after this time [default: watch until Ctrl-C]
    #[arg(long, value_name = "DURATION", value_parser = positive)]
    pub duration: Option<Duration>,
    /// Which data planes.
    #[command(flatten)]
    pub targets: Targets,
    /// What is captured.
    #[command(flatten)]
    pub capture: Capture,
}

/// Which data planes are watched.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Targets (default: every known data plane that runs here)")]
pub struct Targets {
    /// Watch the cgroup of this process; may be given more than once
    #[arg(long, value_name = "PID", value_parser = clap::value_parser!(u32).range(1..))]
    pub pid: Vec<u32>,
    /// Watch this cgroup and all below it; may be given more than once
    #[arg(long, value_name = "PATH")]
    pub cgroup: Vec<PathBuf>,
    /// Watch this pod of this node, as the Kubernetes API names it; may be given more than once
    #[arg(long, value_name = "[NS/]NAME", conflicts_with = "no_kube")]
    pub pod: Vec<PodName>,
    /// Also take pods with these labels for ingress pods; may be given more than once
    #[arg(long, value_name = "SELECTOR", conflicts_with = "no_kube")]
    pub ingress_selector: Vec<Selector>,
    /// Take the targets for this data plane instead of guessing
    #[arg(long, value_name = "KIND", value_parser = controllers())]
    pub controller: Option<Controller>,
    /// Where the Kubernetes API is configured [default: $KUBECONFIG, ~/.kube/config, or the pod's
    /// ServiceAccount]
    #[arg(long, value_name = "PATH", conflicts_with = "no_kube")]
    pub kubeconfig: Option<PathBuf>,
    /// Work without the Kubernetes API
    #[arg(long)]
    pub no_kube: bool,
    /// Tell causes as Kubernetes Events too, as `kubectl describe` shows them; needs the rights of
    /// deploy/rbac-events.yaml
    #[arg(long, conflicts_with = "no_kube")]
    pub kube_events: bool,
    /// Name of this node [default: the host name]
    #[arg(long, value_name = "NAME", env = "NODE_NAME", hide_env_values = true)]
    pub node: Option<String>,
}

/// What is captured, and how long it rests.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Capture")]
pub struct Capture {
    /// Report a response as slow when its first byte takes longer; 0s reports none
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = duration)]
    pub slow: Duration,
    /// How long an event waits for what belongs to it before its verdict
    #[arg(long, value_name = "DURATION", default_value = "200ms", value_parser = duration)]
    pub settle: Duration,
    /// How long a failure waits for what the Kubernetes API tells of it: that is seconds late
    #[arg(long, value_name = "DURATION", default_value = "2500ms", value_parser = duration)]
    pub kube_settle: Duration,
    /// Read no payload: no methods, paths and statuses, connection-level facts only
    #[arg(long)]
    pub no_http: bool,
    /// Log what the eBPF programs log (for their developers)
    #[arg(long)]
    pub log_ebpf: bool,
}

/// How findings are written to stdout.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// One line a person reads per finding
    Text,
    /// One JSON object per line
    Json,
}

impl Cli {
    /// The level to log at where RUST_LOG is not set: a person at `watch` sees warnings only.
    pub fn log_level(&self) -> tracing::Level {
        match (self.verbose, &self.command) {
            (0, Command::Watch(_) | Command::Explain(_)) => tracing::Level::WARN,
            (0, Command::Run(_)) => tracing::Level::INFO,
            (1, _) => tracing::Level::DEBUG,
            (2.., _) => tracing::Level::TRACE,
        }
    }
}

impl Targets {
    /// Whether something is asked for that only the API knows.
    pub fn needs_kube(&self) -> bool {
        !self.pod.is_empty() || !self.ingress_selector.is_empty()
    }

    /// What the finder is to follow.
    pub fn selection(&self) -> Selection {
        Selection {
            pids: self.pid.clone(),
            cgroups: self.cgroup.clone(),
            pods: self.pod.clone(),
            selectors: self.ingress_selector.clone(),
            controller: self.controller,
        }
    }

    /// Name of this node: the option, `$NODE_NAME`, or the host name.
    pub fn node(&self) -> Result<String> {
        if let Some(name) = self.node.as_deref().filter(|name| !name.is_empty()) {
            return Ok(name.to_owned());
        }
        let path = "/proc/sys/kernel/hostname";
        let name = std::fs::read_to_string(path)
            .with_context(|| format!("failed to read {path}; name the node with --node"))?;
        Ok(name.trim_end().to_owned())
    }
}

/// The text of `docs/cli.md`.
pub fn document() -> String {
    let mut text = String::from(
        "<!-- Written by a test from ingress-trace/src/cli.rs; change it there and run \
         `UPDATE_EXPECT=1 cargo test`. -->\n# Command line\n\nDurations are written as `200ms`, \
         `1.5s`, `5m` or `1h 30m`. Findings go to stdout, logs to stderr. The exit status is 0, \
         1 after an error, and 2 for a wrong command line.\n\n## ingress-trace\n",
    );
    let mut root = Cli::command().term_width(WIDTH);
    root.build();
    push_help(&mut text, &mut root);
    for command in root
        .get_subcommands_mut()
        .filter(|command| command.get_name() != "help")
    {
        text.push_str("\n## ingress-trace ");
        text.push_str(command.get_name());
        text.push('\n');
        push_help(&mut text, command);
    }
    text
}

fn push_help(text: &mut String, command: &mut clap::Command) {
    let help = command.render_long_help().to_string();
    text.push_str("\n```text\n");
    for line in help.trim_end().lines() {
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text.push_str("```\n");
}

/// Any word of the taxonomy.
fn controllers() -> impl clap::builder::TypedValueParser<Value = Controller> {
    let words = Controller::ALL.iter().map(|controller| controller.word());
    PossibleValuesParser::new(words).map(|word| {
        *Controller::ALL
            .iter()
            .find(|controller| controller.word() == word)
            .expect("the parser takes these words only")
    })
}

/// `30s`, `5m`, `1h 30m`; no sign.
fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("'{text}' is not a duration such as 200ms, 30s, 5m or 1h");
    let signed: SignedDuration = text.parse().map_err(|_| wrong())?;
    Duration::try_from(signed).map_err(|_| wrong())
}

/// A duration above zero.
fn positive(text: &str) -> Result<Duration, String> {
    let duration = duration(text)?;
    if duration.is_zero() {
        Err("it must be longer than zero".into())
    } else {
        Ok(duration)
    }
}

#[cfg(test)]
mod tests {
    use clap::error::ErrorKind;
    use expect_test::expect_file;

    use super::*;

    fn parse(line: &str) -> Result<Cli, clap::Error> {
        Cli::try_parse_from(std::iter::once("ingress-trace").chain(line.split_whitespace()))
    }

    fn run(line: &str) -> Run {
        match parse(line).expect("a right line").command {
            Command::Run(run) => run,
            Command::Watch(_) | Command::Explain(_) => panic!("not run: {line}"),
        }
    }

    fn watch(line: &str) -> Watch {
        match parse(line).expect("a right line").command {
            Command::Watch(watch) => watch,
            Command::Run(_) | Command::Explain(_) => panic!("not watch: {line}"),
        }
    }

    #[test]
    fn the_document_of_the_command_line_is_up_to_date() {
        expect_file!["../../docs/cli.md"].assert_eq(&document());
    }

    #[test]
    fn the_definition_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn run_listens_and_writes_nothing_by_default() {
        let run = run("run");
        assert_eq!(run.listen.to_string(), "0.0.0.0:9477");
        assert_eq!((run.output, run.duration), (None, None));
        assert_eq!(run.capture.slow, Duration::from_secs(1));
        assert_eq!(run.capture.settle, Duration::from_millis(200));
    }

    #[test]
    fn watch_writes_and_does_not_listen_by_default() {
        let watch = watch("watch");
        assert_eq!((watch.listen, watch.output), (None, Output::Text));
    }

    #[test]
    fn targets_may_be_given_more_than_once() {
        let watch = watch("watch --pid 10 --pid 11 --cgroup /a --cgroup /b --controller haproxy");
        assert_eq!(watch.targets.pid, [10, 11]);
        assert_eq!(
            watch.targets.cgroup,
            [PathBuf::from("/a"), PathBuf::from("/b")]
        );
        assert_eq!(watch.targets.controller, Some(Controller::Haproxy));
    }

    #[test]
    fn pods_are_named_or_selected_where_there_is_an_api() {
        let watch = watch("watch --pod edge/gw-1 --pod gw-2 --ingress-selector app=gw,!canary");
        let selection = watch.targets.selection();
        let pods: Vec<_> = selection.pods.iter().map(ToString::to_string).collect();
        assert_eq!(pods, ["edge/gw-1", "gw-2"]);
        assert_eq!(
            selection.selectors,
            ["app=gw,!canary".parse().expect("right")]
        );
        for line in [
            "watch --no-kube --pod gw-1",
            "watch --no-kube --ingress-selector app",
            "watch --pod a/b/c",
            "watch --ingress-selector app>5",
        ] {
            assert_eq!(parse(line).expect_err(line).exit_code(), 2, "{line}");
        }
    }

    #[test]
    fn durations_have_units() {
        let wanted = [
            ("30s", 30_000),
            ("5m", 300_000),
            ("1h", 3_600_000),
            ("1.5s", 1_500),
        ];
        for (text, millis) in wanted {
            assert_eq!(duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for text in ["", "30", "-1s", "5 parsecs", "1s ago"] {
            assert!(duration(text).is_err(), "{text}");
        }
        assert!(positive("0s").is_err());
    }

    #[test]
    fn a_wrong_line_exits_with_2() {
        for line in [
            "",
            "run --nonsense",
            "run --listen 9477",
            "watch -o yaml",
            "watch --controller apache",
            "watch --pid 0",
            "watch --duration 0s",
            "explode",
        ] {
            assert_eq!(parse(line).expect_err(line).exit_code(), 2, "{line}");
        }
        assert_eq!(
            parse("--version").expect_err("shown").kind(),
            ErrorKind::DisplayVersion
        );
    }

    #[test]
    fn an_unknown_controller_is_answered_with_the_known_ones() {
        let answer = parse("watch --controller apache")
            .expect_err("unknown")
            .to_string();
        assert!(
            answer.contains("nginx, haproxy, envoy, traefik, caddy"),
            "{answer}"
        );
    }

    #[test]
    fn a_named_node_wins_and_an_empty_name_is_none() {
        let named = Targets {
            node: Some("node-1".into()),
            ..Targets::default()
        };
        assert_eq!(named.node().expect("named"), "node-1");
        let empty = Targets {
            node: Some(String::new()),
            ..Targets::default()
        };
        assert!(!empty.node().expect("the host has a name").is_empty());
    }

    #[test]
    fn each_v_logs_more() {
        let level = |line| parse(line).expect("a right line").log_level();
        assert_eq!(level("watch"), tracing::Level::WARN);
        assert_eq!(level("run"), tracing::Level::INFO);
        assert_eq!(level("-v watch"), tracing::Level::DEBUG);
        assert_eq!(level("run -vvv"), tracing::Level::TRACE);
    }
}
