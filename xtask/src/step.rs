//! Runs the commands of a task: comes in a command, goes out its success, or an error that keeps
//! its exit code. Must not swallow output: what a command says goes straight to the terminal.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::Instant;

use anyhow::{Context, Error, Result};

/// A command that ran and did not succeed.
#[derive(Debug)]
struct Failed {
    command: String,
    status: ExitStatus,
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` ended with {}", self.command, self.status)
    }
}

impl std::error::Error for Failed {}

/// The exit code of the command that failed; 1 for every other error, or when a signal ended it.
pub fn exit_code(error: &Error) -> u8 {
    let code = error
        .downcast_ref::<Failed>()
        .and_then(|failed| failed.status.code());
    code.and_then(|code| u8::try_from(code).ok())
        .filter(|code| *code != 0)
        .unwrap_or(1)
}

/// Announces `what`, runs it, and says how long it took.
pub fn step(what: &str, work: impl FnOnce() -> Result<()>) -> Result<()> {
    eprintln!("==> {what}");
    let start = Instant::now();
    let result = work();
    let outcome = if result.is_ok() { "done" } else { "failed" };
    eprintln!(
        "==> {what}: {outcome} after {:.1} s",
        start.elapsed().as_secs_f64()
    );
    result
}

/// Runs `command` to its end.
pub fn run(command: &mut Command) -> Result<()> {
    let line = line(command);
    let status = command
        .status()
        .with_context(|| format!("failed to start `{line}`"))?;
    if status.success() {
        Ok(())
    } else {
        Err(Failed {
            command: line,
            status,
        }
        .into())
    }
}

/// The cargo that runs us, in the repository's root.
pub fn cargo() -> Command {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(root());
    cargo
}

/// The repository's root.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("xtask lies in the workspace")
}

/// Cargo's target folder: the one that we run from.
pub fn target_dir() -> Result<PathBuf> {
    let own = std::env::current_exe().context("failed to find the folder of xtask")?;
    let target = own
        .ancestors()
        .find(|folder| folder.join("CACHEDIR.TAG").is_file());
    Ok(target.map_or_else(|| root().join("target"), Path::to_path_buf))
}

/// The command as one would type it, less the folders of its program.
fn line(command: &Command) -> String {
    let program = Path::new(command.get_program());
    let program = program.file_name().unwrap_or(program.as_os_str());
    let mut line = program.to_string_lossy().into_owned();
    for argument in command.get_args() {
        line.push(' ');
        line.push_str(&argument.to_string_lossy());
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exit_code_of_a_command_is_passed_on() {
        let error = run(Command::new("sh").args(["-c", "exit 7"])).unwrap_err();
        assert_eq!(exit_code(&error), 7);
        let error = error.context("failed to do more");
        assert_eq!(exit_code(&error), 7);
        assert_eq!(
            format!("{error:#}"),
            "failed to do more: `sh -c exit 7` ended with exit status: 7"
        );
    }

    #[test]
    fn a_command_that_a_signal_ended_or_that_is_not_there_counts_as_one() {
        let killed = run(Command::new("sh").args(["-c", "kill -9 $$"])).unwrap_err();
        assert_eq!(exit_code(&killed), 1);
        let absent = run(&mut Command::new("/nonexistent/tool")).unwrap_err();
        assert_eq!(exit_code(&absent), 1);
        assert!(absent.to_string().contains("failed to start `tool`"));
    }
}
