//! In: a cause. Out: all that is to be said of it: meaning, evidence, fixes with placeholders, PromQL;
//! `docs/causes.md` and `explain` are made of it. Pure.
use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::Serialize;

use super::fix::{Subject, fixes};
use super::meaning::GUIDE;
use super::taxonomy::{Cause, Controller, Outcome};
use crate::profiles;

/// What there is to say of a cause.
#[derive(Clone, Debug, Serialize)]
pub struct Explanation {
    /// Which.
    pub cause: Cause,
    /// Number of the guide's cause.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub guide: Option<u8>,
    /// One sentence.
    pub meaning: &'static str,
    /// What speaks for it.
    pub evidence: &'static [&'static str],
    /// What to do, whatever the data plane; `<...>` stands for a name or a value.
    pub fix: Vec<String>,
    /// What to do, by how the data plane is deployed.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub fix_of: BTreeMap<&'static str, Vec<String>>,
    /// Queries to follow it with.
    pub promql: Vec<String>,
}

impl Cause {
    /// What there is to say of it.
    pub fn explain(self) -> Explanation {
        let (fix, fix_of) = fixes_of(self);
        Explanation {
            cause: self,
            guide: self.guide(),
            meaning: self.meaning(),
            evidence: self.look_for(),
            fix,
            fix_of,
            promql: queries(self),
        }
    }
}

/// Fixes that all data planes share, and the others by data plane.
fn fixes_of(cause: Cause) -> (Vec<String>, BTreeMap<&'static str, Vec<String>>) {
    let packagings = profiles::ALL.iter().flat_map(|profile| {
        let all = profile.packagings.iter();
        all.map(|packaging| (profile.controller, packaging.name))
    });
    let each: Vec<(&str, Vec<String>)> = packagings
        .map(|(controller, name)| {
            let subject = Subject::placeholders(controller, Some(name));
            (name, fixes(cause, &subject))
        })
        .collect();
    // Without a data plane that is known, nothing is said of its settings.
    let unknown = fixes(cause, &Subject::placeholders(Controller::Unknown, None));
    let own = each.into_iter().filter_map(|(name, found)| {
        let own: Vec<String> = found
            .into_iter()
            .filter(|fix| !unknown.contains(fix))
            .collect();
        (!own.is_empty()).then_some((name, own))
    });
    let own = own.collect();
    (unknown, own)
}

/// How many a second, by Service or by data plane, and of how many.
fn queries(cause: Cause) -> Vec<String> {
    let by = if cause.guide() == Some(6) {
        "controller"
    } else {
        "backend_namespace, backend_service"
    };
    let failures = format!(
        "sum by ({by}) (rate(ingress_trace_upstream_failures_total{{cause=\"{cause}\"}}[5m]))"
    );
    let all = format!("sum by ({by}) (rate(ingress_trace_upstream_exchanges_total[5m]))");
    vec![failures.clone(), format!("{failures} / {all}")]
}

impl Explanation {
    /// The same for a person's terminal.
    pub fn text(&self) -> String {
        let mut text = format!("{}\n  {}\n", self.cause, self.meaning);
        if let Some(number) = self.guide {
            let title = GUIDE[usize::from(number) - 1];
            let _ = writeln!(text, "  Guide: {number}. {title}");
        }
        section(&mut text, "Evidence", self.evidence);
        section(&mut text, "Fix", &self.fix);
        for (name, fixes) in &self.fix_of {
            section(&mut text, &format!("Fix with {name}"), fixes);
        }
        section(&mut text, "PromQL", &self.promql);
        text
    }

    fn markdown(&self) -> String {
        let mut text = format!("\n### {}\n\n{}\n", self.cause, self.meaning);
        let listed = |text: &mut String, lines: &[&str]| {
            text.extend(lines.iter().map(|line| format!("- {line}\n")));
        };
        text.push_str("\nEvidence:\n\n");
        listed(&mut text, self.evidence);
        let fixes = self.fix.iter().map(|fix| (fix, None));
        let own = self.fix_of.iter();
        let own = own.flat_map(|(name, fixes)| fixes.iter().map(move |fix| (fix, Some(*name))));
        let all: Vec<_> = fixes.chain(own).collect();
        if !all.is_empty() {
            text.push_str("\nFix:\n\n");
        }
        for (fix, name) in all {
            let with = name.map_or(String::new(), |name| format!("{name}: "));
            let code = if fix.starts_with("kubectl ") { "`" } else { "" };
            // Writing into a string cannot fail.
            let _ = writeln!(text, "- {with}{code}{fix}{code}");
        }
        let _ = writeln!(text, "\nPromQL: `{}`", self.promql[0]);
        text
    }
}

fn section<T: AsRef<str>>(text: &mut String, title: &str, lines: &[T]) {
    if lines.is_empty() {
        return;
    }
    let _ = writeln!(text, "\n  {title}:");
    for line in lines {
        let _ = writeln!(text, "    {}", line.as_ref());
    }
}

/// The text of `docs/causes.md`.
pub fn document() -> String {
    let mut text = String::from(
        "<!-- Written by a test from ingress-trace/src/cause/{meaning,explanation}.rs; change it there and run \
         `UPDATE_EXPECT=1 cargo test`. -->\n# Causes and outcomes\n\nA *cause* says why an \
         exchange failed. One is named only when evidence supports it; otherwise it is \
         `unknown`. The number points to the cause of the 502/503/504 guide that it refines.\n\n\
         | cause | guide | meaning |\n|---|---|---|\n",
    );
    text.extend(Cause::ALL.iter().map(|cause| {
        let guide = cause
            .guide()
            .map_or_else(|| "-".into(), |number| number.to_string());
        format!("| `{cause}` | {guide} | {} |\n", cause.meaning())
    }));
    text += "\n`ingress-trace explain CAUSE` tells the same as below. `<...>` stands for what a finding \
             names.\n\n## The guide\n\n";
    text.extend(
        (1..)
            .zip(GUIDE)
            .map(|(number, title)| format!("{number}. {title}\n")),
    );
    text += "\n## Outcomes\n\nAn *outcome* is what the kernel saw, before any interpretation; it \
             does not depend on the controller.\n\n| outcome | a failure | meaning |\n|---|---|---|\n";
    text.extend(Outcome::ALL.iter().map(|outcome| {
        let failure = if outcome.is_failure() { "yes" } else { "no" };
        format!("| `{outcome}` | {failure} | {} |\n", outcome.meaning())
    }));
    text += "\n## Each cause\n";
    text.extend(Cause::ALL.iter().map(|cause| cause.explain().markdown()));
    text
}

#[cfg(test)]
mod tests {
    use expect_test::{expect, expect_file};

    use super::*;

    #[test]
    fn the_document_of_causes_is_up_to_date() {
        expect_file!["../../../docs/causes.md"].assert_eq(&document());
    }

    #[test]
    fn every_cause_has_evidence_and_a_query_and_something_to_do() {
        for cause in Cause::ALL {
            let known = cause.explain();
            assert!(!known.evidence.is_empty() && known.promql.len() == 2);
            assert!(!known.fix.is_empty() || !known.fix_of.is_empty(), "{cause}");
            let advised = cause.advice().is_some();
            assert_eq!(advised, *cause != Cause::Unknown, "{cause}");
        }
    }

    #[test]
    fn a_cause_is_explained_to_a_person() {
        expect![[r#"
            pod_terminating
              The pod was being deleted, or its endpoint was terminating, and still got traffic.
              Guide: 3. Pod is terminating but still receiving traffic

              Evidence:
                the pod's deletion was asked for before, or its endpoint was terminating
                the connect was refused or not answered, or the connection ended

              Fix:
                kubectl -n <namespace> patch deployment <deployment> --type=strategic -p '{"spec":{"template":{"spec":{"terminationGracePeriodSeconds":<grace>,"containers":[{"name":"<container>","lifecycle":{"preStop":{"exec":{"command":["sleep","15"]}}}}]}}}}'
                an image without `sleep` takes preStop.sleep.seconds: 15 instead (Kubernetes 1.30 and newer)
                or, where it has a preStop hook of its own: have it wait 15 s before it stops anything, with terminationGracePeriodSeconds <grace>

              PromQL:
                sum by (backend_namespace, backend_service) (rate(ingress_trace_upstream_failures_total{cause="pod_terminating"}[5m]))
                sum by (backend_namespace, backend_service) (rate(ingress_trace_upstream_failures_total{cause="pod_terminating"}[5m])) / sum by (backend_namespace, backend_service) (rate(ingress_trace_upstream_exchanges_total[5m]))
        "#]].assert_eq(&Cause::PodTerminating.explain().text());
    }
}
