//! In: the path and the host of a request, and what a rule takes. Out: whether it takes them, and how
//! exactly. Knows nothing of routes and Services.
use regex_lite::{Regex, RegexBuilder};

use crate::cluster::object::PathMatch;

/// Largest expression that is compiled, in bytes of its program.
const MOST_PROGRAM: usize = 64 << 10;

/// How a rule took a path; what is smaller comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fit {
    /// Longer paths first.
    longest: std::cmp::Reverse<usize>,
    /// Of equally long ones: exact, prefix, expression.
    form: Form,
}

/// Form of a match.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Form {
    Exact,
    Prefix,
    Expression,
}

impl Fit {
    /// What is left for a default backend.
    pub const NONE: Self = Self {
        longest: std::cmp::Reverse(0),
        form: Form::Expression,
    };

    /// Whether an expression took it: which of two is meant depends on the controller.
    pub fn by_expression(self) -> bool {
        self.form == Form::Expression
    }

    fn new(path: &str, form: Form) -> Self {
        Self {
            longest: std::cmp::Reverse(path.trim_end_matches('/').len()),
            form,
        }
    }
}

/// A path to match, ready for use.
#[derive(Debug)]
pub enum Pattern {
    /// As it is written.
    Plain,
    /// A regular expression from the start.
    Expression(Regex),
    /// A regular expression that cannot be read here (look-ahead, too large).
    Unreadable,
}

impl Pattern {
    /// Of a rule's path. Of an Ingress, `nginx` reads expressions without regard to case.
    pub fn of(path: &PathMatch, ingress: bool) -> Self {
        match path {
            PathMatch::Exact(_) | PathMatch::Prefix(_) => Self::Plain,
            PathMatch::Specific(text) if !is_expression(text) => Self::Plain,
            PathMatch::Specific(text) | PathMatch::Regex(text) => {
                RegexBuilder::new(&format!("^(?:{text})"))
                    .case_insensitive(ingress)
                    .size_limit(MOST_PROGRAM)
                    .build()
                    .map_or(Self::Unreadable, Self::Expression)
            }
        }
    }

    /// How a rule takes a path, if it does. What cannot be read takes nothing.
    pub fn fit(&self, rule: &PathMatch, path: &str) -> Option<Fit> {
        let (text, form) = match (self, rule) {
            (Self::Unreadable, _) => return None,
            (Self::Expression(expression), _) => {
                let taken = expression.is_match(path);
                return taken.then(|| Fit::new(text(rule), Form::Expression));
            }
            (Self::Plain, PathMatch::Exact(text)) => {
                return (**text == *path).then(|| Fit::new(text, Form::Exact));
            }
            (Self::Plain, PathMatch::Prefix(text)) => {
                (under(text, path).then_some(text)?, Form::Prefix)
            }
            (Self::Plain, PathMatch::Specific(text) | PathMatch::Regex(text)) => {
                (path.starts_with(&**text).then_some(text)?, Form::Prefix)
            }
        };
        Some(Fit::new(text, form))
    }
}

fn text(rule: &PathMatch) -> &str {
    match rule {
        PathMatch::Exact(text)
        | PathMatch::Prefix(text)
        | PathMatch::Regex(text)
        | PathMatch::Specific(text) => text,
    }
}

/// Whether the whole segments of a prefix begin a path; a slash at its end does not count.
fn under(prefix: &str, path: &str) -> bool {
    path.strip_prefix(prefix.trim_end_matches('/'))
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Whether a path of `ImplementationSpecific` is meant as an expression: no plain path has these.
fn is_expression(text: &str) -> bool {
    text.contains(['(', '[', '*', '^', '$', '+', '?', '|', '\\', '{'])
}

/// A host header as rules write hosts: lower case, without port and final dot.
pub fn host(header: &str) -> String {
    let end = match header.rfind(':') {
        // The colons of an IPv6 address stand in brackets.
        Some(colon) if !header[colon..].contains(']') => colon,
        _ => header.len(),
    };
    header[..end].trim_end_matches('.').to_ascii_lowercase()
}

/// The hosts by which rules may take a host, the most exact first: itself, its wildcards, all.
pub fn names(host: &str) -> Vec<String> {
    let mut names = Vec::new();
    if !host.is_empty() {
        names.push(host.to_owned());
    }
    let dots = host.match_indices('.');
    names.extend(dots.map(|(dot, _)| format!("*{}", &host[dot..])));
    names.push(String::new());
    names
}

/// Whether a wildcard stands for exactly one label of a host.
pub fn one_label(wildcard: &str, host: &str) -> bool {
    wildcard
        .strip_prefix('*')
        .and_then(|rest| host.strip_suffix(rest))
        .is_some_and(|label| !label.is_empty() && !label.contains('.'))
}
