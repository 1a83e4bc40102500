//! `ingress-trace explain`: what a cause means, what speaks for it, and what to do about it.
use std::io::Write;

use anyhow::{Context, Result, bail};

use crate::cause::taxonomy::Cause;
use crate::cli::{Explain, Output};

/// Writes one cause, or all of them, to stdout.
pub fn run(options: &Explain) -> Result<()> {
    let causes = match &options.cause {
        None => Cause::ALL.to_vec(),
        Some(word) => vec![named(word)?],
    };
    let text = causes.iter().map(|cause| told(*cause, options.output));
    let text = text.collect::<Result<Vec<String>>>()?.join("\n");
    match std::io::stdout().write_all(text.as_bytes()) {
        // Nobody reads on, as after `| head`.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        written => written.context("failed to write to stdout"),
    }
}

fn named(word: &str) -> Result<Cause> {
    let found = Cause::ALL.iter().find(|cause| cause.word() == word);
    let Some(cause) = found else {
        let words: Vec<&str> = Cause::ALL.iter().map(|cause| cause.word()).collect();
        bail!("no cause '{word}': the causes are {}", words.join(", "));
    };
    Ok(*cause)
}

fn told(cause: Cause, output: Output) -> Result<String> {
    let explanation = cause.explain();
    match output {
        Output::Text => Ok(explanation.text()),
        Output::Json => {
            serde_json::to_string(&explanation).context("failed to write an explanation as JSON")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_is_found_by_its_word_and_another_word_is_answered_with_all() {
        assert_eq!(named("wrong_port").expect("a cause"), Cause::WrongPort);
        let error = named("gremlins").expect_err("no cause").to_string();
        assert!(
            error.starts_with("no cause 'gremlins': the causes are no_endpoints, "),
            "{error}"
        );
    }

    #[test]
    fn every_cause_is_json_on_one_line() {
        for cause in Cause::ALL {
            let line = told(*cause, Output::Json).expect("JSON");
            let value: serde_json::Value = serde_json::from_str(&line).expect("JSON");
            assert_eq!(value["cause"], cause.word());
            assert!(!line.contains('\n'));
        }
    }
}
