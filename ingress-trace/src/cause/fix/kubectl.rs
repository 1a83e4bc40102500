//! In: what is to be changed, by names and values. Out: one command line each, as a shell takes it.
//! Decides nothing.
use std::fmt::{Display, Write as _};

/// A command line of kubectl in a namespace.
pub(super) struct Kubectl(String);

impl Kubectl {
    /// `kubectl -n NAMESPACE`; a node has none.
    pub(super) fn within(namespace: &str) -> Self {
        let line = Self("kubectl".to_owned());
        if namespace.is_empty() {
            line
        } else {
            line.word("-n").value(namespace)
        }
    }

    /// A word that needs no quotes.
    pub(super) fn word(mut self, word: &str) -> Self {
        self.0.push(' ');
        self.0.push_str(word);
        self
    }

    /// A value, quoted where a shell needs it.
    pub(super) fn value(mut self, value: &str) -> Self {
        self.0.push(' ');
        self.0.push_str(&quoted(value));
        self
    }

    /// `NAME=VALUE`.
    pub(super) fn pair(self, name: &str, value: impl Display) -> Self {
        let mut pair = String::new();
        // Writing into a string cannot fail.
        let _ = write!(pair, "{name}={value}");
        self.value(&pair)
    }

    /// A patch of an object of this kind.
    pub(super) fn patch(self, kind: &str, name: &str, how: &str, patch: &str) -> String {
        let line = self.word("patch").word(kind).value(name);
        line.word(&format!("--type={how}"))
            .word("-p")
            .value(patch)
            .0
    }

    /// The line.
    pub(super) fn line(self) -> String {
        self.0
    }
}

/// A word of a shell: names as they are, anything else in single quotes. `<name>` stands for what a
/// reader fills in.
fn quoted(word: &str) -> String {
    let inside = word
        .strip_prefix('<')
        .and_then(|word| word.strip_suffix('>'));
    let placeholder = inside.is_some_and(|name| {
        let mut chars = name.chars();
        chars.all(|char| char.is_ascii_lowercase() || char == '-')
    });
    let plain = |char: char| char.is_ascii_alphanumeric() || "-_./=:@,+%".contains(char);
    if placeholder || !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_are_plain_and_all_else_is_quoted() {
        assert_eq!(quoted("cart-7d9f"), "cart-7d9f");
        assert_eq!(quoted(r#"{"a":"it's"}"#), r#"'{"a":"it'\''s"}'"#);
        assert_eq!(quoted("$(reboot)"), "'$(reboot)'");
        assert_eq!(quoted(""), "''");
        assert_eq!(quoted("<namespace>"), "<namespace>");
        assert_eq!(quoted("<a>;b"), "'<a>;b'");
    }

    proptest! {
        #[test]
        fn a_shell_reads_back_what_was_meant(word in "[^\\x00]{0,40}") {
            let read = shlex::split(&quoted(&word)).expect("a line");
            let placeholder = word.starts_with('<');
            prop_assert!(placeholder || read == [word]);
        }
    }
}
