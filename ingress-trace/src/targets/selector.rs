//! In: the text of a label selector, as kubectl takes it. Out: which labels it matches.
//! Pure; must not match what Kubernetes would not.
use std::collections::BTreeMap;
use std::str::FromStr;

/// Requirements that all hold for the labels it matches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selector(Vec<Requirement>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Requirement {
    key: String,
    is: Is,
}

/// What a label is to be. `NotIn` holds for an absent label, as in Kubernetes.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Is {
    Present,
    Absent,
    In(Vec<String>),
    NotIn(Vec<String>),
}

impl Selector {
    /// Whether all requirements hold.
    pub fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        self.0.iter().all(|requirement| {
            let value = labels.get(&requirement.key);
            match &requirement.is {
                Is::Present => value.is_some(),
                Is::Absent => value.is_none(),
                Is::In(values) => value.is_some_and(|value| values.contains(value)),
                Is::NotIn(values) => value.is_none_or(|value| !values.contains(value)),
            }
        })
    }
}

/// `app=x`, `tier in (edge, dmz),!canary`: whatever `kubectl get -l` takes, save for numbers
/// (`>`, `<`). An empty one, which matches everything, is an error.
impl FromStr for Selector {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut words = Words::of(text)?;
        let mut requirements = Vec::new();
        loop {
            requirements.push(requirement(&mut words)?);
            match words.next() {
                None => return Ok(Self(requirements)),
                Some(Word::Sign(",")) => {}
                Some(other) => return Err(format!("'{other}' where a comma should be")),
            }
        }
    }
}

fn requirement(words: &mut Words) -> Result<Requirement, String> {
    if words.take(&Word::Sign("!")) {
        let key = key(words)?;
        return Ok(Requirement {
            key,
            is: Is::Absent,
        });
    }
    let key = key(words)?;
    let is = match words.peek() {
        None | Some(Word::Sign(",")) => Is::Present,
        Some(Word::Sign("=" | "==")) => Is::In(vec![value(words)?]),
        Some(Word::Sign("!=")) => Is::NotIn(vec![value(words)?]),
        Some(Word::Text("in")) => Is::In(set(words)?),
        Some(Word::Text("notin")) => Is::NotIn(set(words)?),
        Some(other) => return Err(format!("'{other}' where =, !=, in or notin should be")),
    };
    Ok(Requirement { key, is })
}

fn key(words: &mut Words) -> Result<String, String> {
    match words.next() {
        Some(Word::Text(key)) => Ok(key.to_owned()),
        Some(other) => Err(format!("'{other}' where a label should be")),
        None => Err("a label is missing: write one such as app=gateway".to_owned()),
    }
}

/// The value behind an operator; it may be empty.
fn value(words: &mut Words) -> Result<String, String> {
    words.next();
    text(words)
}

/// The values in parentheses behind `in` and `notin`.
fn set(words: &mut Words) -> Result<Vec<String>, String> {
    words.next();
    if !words.take(&Word::Sign("(")) {
        return Err("values in parentheses are missing, such as in (a,b)".to_owned());
    }
    let mut values = vec![text(words)?];
    while words.take(&Word::Sign(",")) {
        values.push(text(words)?);
    }
    if words.take(&Word::Sign(")")) {
        Ok(values)
    } else {
        Err("the closing parenthesis is missing".to_owned())
    }
}

fn text(words: &mut Words) -> Result<String, String> {
    match words.peek() {
        None | Some(Word::Sign("," | ")")) => Ok(String::new()),
        Some(Word::Text(value)) => {
            words.next();
            Ok(value.to_owned())
        }
        Some(other) => Err(format!("'{other}' where a value should be")),
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Word<'a> {
    Text(&'a str),
    Sign(&'static str),
}

impl std::fmt::Display for Word<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Text(text) => f.write_str(text),
            Self::Sign(sign) => f.write_str(sign),
        }
    }
}

/// The longer ones first.
const SIGNS: [&str; 7] = ["==", "!=", "=", "!", ",", "(", ")"];

/// Words of a selector, from the last to the first.
struct Words<'a>(Vec<Word<'a>>);

impl<'a> Words<'a> {
    fn of(mut rest: &'a str) -> Result<Self, String> {
        let named = |c: char| c.is_ascii_alphanumeric() || "_./-".contains(c);
        let mut words = Vec::new();
        rest = rest.trim();
        while let Some(first) = rest.chars().next() {
            let length = rest.find(|c| !named(c)).unwrap_or(rest.len());
            let word = match SIGNS.iter().find(|sign| rest.starts_with(**sign)) {
                Some(sign) => Word::Sign(sign),
                None if length > 0 => Word::Text(&rest[..length]),
                None => return Err(format!("'{first}' is no part of a label selector")),
            };
            rest = rest[word.to_string().len()..].trim_start();
            words.push(word);
        }
        words.reverse();
        Ok(Self(words))
    }

    fn peek(&self) -> Option<Word<'a>> {
        self.0.last().copied()
    }

    fn next(&mut self) -> Option<Word<'a>> {
        self.0.pop()
    }

    fn take(&mut self, word: &Word<'a>) -> bool {
        self.0.pop_if(|next| next == word).is_some()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn matches(selector: &str, labels: &[(&str, &str)]) -> bool {
        let owned = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
        let labels = labels.iter().map(owned).collect();
        let selector: Selector = selector.parse().expect(selector);
        selector.matches(&labels)
    }

    #[test]
    fn each_requirement_takes_what_kubectl_takes() {
        let edge = [("app", "gateway"), ("tier", "edge"), ("x.io/a_b", "")];
        for (selector, expected) in [
            ("app=gateway", true),
            ("app==gateway", true),
            ("app = gateway", true),
            ("app=gate", false),
            ("app=", false),
            ("x.io/a_b=", true),
            ("app!=gateway", false),
            ("app!=other", true),
            ("none!=other", true),
            ("none=other", false),
            ("app", true),
            ("none", false),
            ("!none", true),
            ("! app", false),
            ("tier in (edge)", true),
            ("tier in (dmz, edge)", true),
            ("tier in (dmz,core)", false),
            ("none in (a)", false),
            ("x.io/a_b in (,b)", true),
            ("tier notin (dmz,core)", true),
            ("tier notin (edge)", false),
            ("none notin (edge)", true),
            ("app=gateway,tier in (dmz,edge),!none", true),
            ("app=gateway,tier=dmz", false),
            ("  app=gateway , tier  ", true),
        ] {
            assert_eq!(matches(selector, &edge), expected, "{selector}");
        }
    }

    #[test]
    fn words_of_the_syntax_may_be_labels() {
        assert!(matches("in in (in),notin", &[("in", "in"), ("notin", "")]));
    }

    #[test]
    fn a_wrong_selector_is_answered_with_what_is_wrong() {
        for (selector, word) in [
            ("", "missing"),
            ("app=x,", "missing"),
            (",", "','"),
            ("=x", "'='"),
            ("app x", "'x'"),
            ("app=x y", "'y' where a comma"),
            ("app in x", "parentheses"),
            ("app in (x", "closing"),
            ("app=(x)", "'('"),
            ("!", "missing"),
            ("app>5", "'>'"),
            ("app=\"x\"", "'\"'"),
            ("äpp=x", "'ä'"),
        ] {
            let error = selector.parse::<Selector>().expect_err(selector);
            assert!(error.contains(word), "{selector}: {error}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_a_selector_or_an_error(text in "[a-z(),!=< é]{0,20}") {
            let _ = text.parse::<Selector>();
        }
    }
}
