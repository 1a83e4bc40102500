//! Expectations on findings: findings and partial JSON in, differences in words out. All
//! differences of a run are told at once, since each run costs a kernel and a proxy.
use serde_json::Value;

use crate::agent::Finding;

/// Differences met so far.
#[derive(Debug, Default)]
pub struct Differences(Vec<String>);

impl Differences {
    /// Notes every field of `expected` that the finding has otherwise; null means absent.
    pub fn compare(&mut self, what: &str, finding: &Finding, expected: &Value) {
        self.walk(what, "", finding, expected);
    }

    fn walk(&mut self, what: &str, pointer: &str, finding: &Finding, expected: &Value) {
        if let Value::Object(fields) = expected {
            for (name, value) in fields {
                self.walk(what, &format!("{pointer}/{name}"), finding, value);
            }
            return;
        }
        let got = finding.0.pointer(pointer).unwrap_or(&Value::Null);
        if got != expected {
            self.note(format!(
                "{what}: {pointer} is {got}, not {expected}: {}",
                finding.0
            ));
        }
    }

    /// Compares the only finding that fits; none and several are differences too.
    pub fn only(
        &mut self,
        what: &str,
        findings: &[Finding],
        fits: impl Fn(&Finding) -> bool,
        expected: &Value,
    ) {
        let found: Vec<_> = findings.iter().filter(|finding| fits(finding)).collect();
        match found.as_slice() {
            [one] => self.compare(what, one, expected),
            [] => self.note(format!("{what}: no finding, expected {expected}")),
            many => self.note(format!(
                "{what}: {} findings instead of one: {many:#?}",
                many.len()
            )),
        }
    }

    /// Notes a difference in words.
    pub fn note(&mut self, text: impl Into<String>) {
        self.0.push(text.into());
    }

    /// Notes `text` unless the condition holds.
    pub fn check(&mut self, holds: bool, text: impl FnOnce() -> String) {
        if !holds {
            self.note(text());
        }
    }

    /// Ends the test with all that was noted, unless it is at most one of a hundred `cases`: what the
    /// load of the machine decides.
    ///
    /// # Panics
    /// If more was noted.
    pub fn finish_all_but_one_of_a_hundred(self, cases: usize, context: &str) {
        if self.0.len() * 100 <= cases {
            println!("{} differences:\n{}", self.0.len(), self.0.join("\n"));
        } else {
            self.finish(context);
        }
    }

    /// Ends the test with all that was noted.
    ///
    /// # Panics
    /// If anything was noted.
    pub fn finish(self, context: &str) {
        assert!(
            self.0.is_empty(),
            "{} differences:\n{}\n{context}",
            self.0.len(),
            self.0.join("\n")
        );
    }
}

/// Lines of a table that may be others in a run.
const CHANCE: usize = 3;

/// What a golden table of real proxies is compared with: `kept`, where at most a few lines of `text`
/// are others, else `text`. Which endpoint a proxy tries again, or which of two errors it meets
/// first, is chance now and then. With `UPDATE_EXPECT` all is taken as it came.
pub fn table(kept: &str, text: String) -> String {
    let others: Vec<&str> = text
        .lines()
        .filter(|line| !kept.lines().any(|other| other == *line))
        .collect();
    let updates = std::env::var_os("UPDATE_EXPECT").is_some();
    if updates || others.is_empty() || others.len() > CHANCE {
        return text;
    }
    println!("other lines than ever:\n{}", others.join("\n"));
    kept.to_owned()
}

/// Whether a number lies within a range, as timers and their rounding need.
pub fn within(value: Option<f64>, least: f64, most: f64) -> bool {
    value.is_some_and(|value| (least..=most).contains(&value))
}
