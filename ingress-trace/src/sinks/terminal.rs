//! In: findings. Out: one line per finding for a person, and a table by cause at the end.
//! Everything that came from the network is escaped: a request path must not drive the terminal.
use std::fmt::Write as _;
use std::io::Write;

use anyhow::Result;
use jiff::tz::TimeZone;

use super::Reader;
use super::breakdown::{Breakdown, name};
use crate::cause::taxonomy::{Outcome, Visible};
use crate::finding::{Backend, Finding, Request};

/// Backends named per cause in the table.
const TOP: usize = 3;

/// Whether lines are colored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Color {
    /// ANSI colors.
    On,
    /// Plain text.
    Off,
}

impl Color {
    /// For stdout: on a terminal only, and never with `NO_COLOR` set (<https://no-color.org>).
    pub fn of_stdout() -> Self {
        let unwanted = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
            || std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        if !unwanted && std::io::IsTerminal::is_terminal(&std::io::stdout()) {
            Self::On
        } else {
            Self::Off
        }
    }

    fn paint(self, code: &str, text: &str) -> String {
        match self {
            Self::On => format!("\u{1b}[{code}m{text}\u{1b}[0m"),
            Self::Off => text.to_owned(),
        }
    }
}

/// Writes findings for a person, and counts them.
pub struct Terminal<W> {
    out: W,
    color: Color,
    zone: TimeZone,
    breakdown: Breakdown,
}

impl<W: Write> Terminal<W> {
    /// Writes to `out`, with times of `zone`.
    pub fn new(out: W, color: Color, zone: TimeZone) -> Self {
        Self {
            out,
            color,
            zone,
            breakdown: Breakdown::default(),
        }
    }

    /// Writes one line.
    pub fn finding(&mut self, finding: &Finding) -> Result<Reader> {
        self.breakdown.add(finding);
        let line = line(finding, self.color, &self.zone);
        Reader::after(writeln!(self.out, "{line}").and_then(|()| self.out.flush()))
    }

    /// Writes the table by cause, to be called once at the end.
    pub fn summary(&mut self) -> Result<Reader> {
        let table = table(&self.breakdown, self.color);
        Reader::after(
            self.out
                .write_all(table.as_bytes())
                .and_then(|()| self.out.flush()),
        )
    }
}

/// One finding: fixed columns first, what varies in length at the end.
fn line(finding: &Finding, color: Color, zone: &TimeZone) -> String {
    let time = finding
        .time
        .to_zoned(zone.clone())
        .strftime("%H:%M:%S%.3f")
        .to_string();
    let status = finding
        .status
        .map_or_else(|| "-".into(), |status| status.to_string());
    let word = if finding.outcome.is_failure() {
        finding.cause.word()
    } else {
        finding.outcome.word()
    };
    let to = finding.backend.as_ref().map_or_else(|| "-".into(), backend);
    let request = finding.request.as_ref().map_or_else(|| "-".into(), request);
    format!(
        "{} {} {}  {}  {} -> {:<21}  {}  {}",
        color.paint("2", &time),
        color.paint(tint(finding), &format!("{status:<3}")),
        seen(finding.client_visible),
        color.paint(tint(finding), &format!("{word:<23}")),
        finding.controller,
        escape(&to),
        escape(&request),
        escape(&facts(finding)),
    )
}

/// Red for what a client saw, yellow for what it may have seen, dim for what it did not.
fn tint(finding: &Finding) -> &'static str {
    match finding.client_visible {
        _ if !finding.outcome.is_failure() => "2",
        Visible::Yes => "31",
        Visible::Unknown => "33",
        Visible::No => "2",
    }
}

/// Whether the client saw it, in three columns.
const fn seen(visible: Visible) -> &'static str {
    match visible {
        Visible::Yes => "yes",
        Visible::No => "no ",
        Visible::Unknown => "?  ",
    }
}

/// `10.77.1.3:8080`, `shop/cart:8080`, `shop/cart:8080 (10.77.1.3)` or `shop/cart:8080 (cart-7d9f)`.
fn backend(backend: &Backend) -> String {
    let address = backend.address.map(|address| address.to_string());
    match backend.pod.clone().or(address) {
        Some(who) if backend.service.is_some() => format!("{} ({who})", name(backend)),
        _ => name(backend),
    }
}

fn request(request: &Request) -> String {
    let host = request.host.as_deref().unwrap_or_default();
    format!("{} {host}{}", request.method, request.path)
}

/// What the kernel saw, what supports the cause, and what to do about it, in short.
fn facts(finding: &Finding) -> String {
    let mut text = String::from(finding.outcome.word());
    if let Some(errno) = &finding.errno
        && finding.outcome != Outcome::ConnectRefused
    {
        push(&mut text, format_args!(" ({errno})"));
    }
    if let Some(phase) = finding.phase {
        push(&mut text, format_args!(" in {phase}"));
    }
    if let Some(elapsed) = finding.elapsed_seconds {
        push(&mut text, format_args!(" after {}", span(elapsed)));
    }
    if let Some(exchange) = finding.exchange.filter(|number| *number > 1) {
        push(&mut text, format_args!(", exchange {exchange}"));
    }
    if let Some(idle) = finding.idle_seconds {
        push(&mut text, format_args!(", idle {}", span(idle)));
    }
    for evidence in &finding.evidence {
        push(&mut text, format_args!("; {evidence}"));
    }
    if let Some(advice) = finding
        .cause
        .advice()
        .filter(|_| finding.outcome.is_failure())
    {
        push(&mut text, format_args!(" -> {advice}"));
    }
    text
}

/// A duration with the unit that suits it.
fn span(seconds: f64) -> String {
    if seconds < 1.0 {
        format!("{:.1} ms", seconds * 1000.0)
    } else {
        format!("{seconds:.1} s")
    }
}

/// Writing into a string cannot fail.
fn push(text: &mut String, part: std::fmt::Arguments<'_>) {
    text.write_fmt(part)
        .expect("a string takes all that is written");
}

/// Makes visible what a terminal would obey: control characters and changes of direction.
pub(super) fn escape(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for char in text.chars() {
        let obeyed = char.is_control()
            || matches!(char, '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{2069}' | '\u{feff}');
        if obeyed {
            safe.extend(char.escape_default());
        } else {
            safe.push(char);
        }
    }
    safe
}

/// The breakdown by cause.
fn table(breakdown: &Breakdown, color: Color) -> String {
    let mut text = String::from("\n");
    if breakdown.failures() == 0 {
        text.push_str("no upstream failure was seen\n");
    } else {
        let head = format!(
            "{:<23} {:>8}  {:<16} {:<20} {}",
            "CAUSE", "FAILURES", "CLIENT-VISIBLE", "STATUS", "BACKENDS HIT MOST"
        );
        text.push_str(&color.paint("1", &head));
        text.push('\n');
    }
    for (cause, row) in breakdown.rows() {
        let visible = match row.unclear {
            0 => row.visible.to_string(),
            unclear => format!("{} ({unclear} unclear)", row.visible),
        };
        let statuses = row.statuses.iter().map(|(status, count)| {
            let status = status.map_or_else(|| "-".into(), |status| status.to_string());
            format!("{status} x{count}")
        });
        let statuses = statuses.collect::<Vec<_>>().join(", ");
        let mut top: Vec<_> = row
            .top(TOP)
            .iter()
            .map(|(name, count)| format!("{} x{count}", escape(name)))
            .collect();
        match row.beyond(TOP) {
            0 => {}
            others => top.push(format!("others x{others}")),
        }
        let top = top.join(", ");
        let count = row.count;
        let row = format!("{cause:<23} {count:>8}  {visible:<16} {statuses:<20} {top}");
        text.push_str(row.trim_end());
        text.push('\n');
    }
    if breakdown.warnings() > 0 {
        push(
            &mut text,
            format_args!("warnings (no failures): {}\n", breakdown.warnings()),
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::cause::taxonomy::Cause;
    use crate::sinks::example;

    fn shown(findings: &[Finding], color: Color) -> String {
        let mut out = Vec::new();
        let mut terminal = Terminal::new(&mut out, color, TimeZone::UTC);
        for finding in findings {
            assert_eq!(terminal.finding(finding).expect("written"), Reader::Present);
        }
        assert_eq!(terminal.summary().expect("written"), Reader::Present);
        String::from_utf8(out).expect("UTF-8")
    }

    #[test]
    fn a_finding_is_one_line_and_the_end_is_a_table() {
        let hidden = Finding {
            cause: Cause::Unknown,
            status: None,
            client_visible: Visible::No,
            outcome: Outcome::ConnectRefused,
            exchange: None,
            idle_seconds: None,
            request: None,
            evidence: Vec::new(),
            elapsed_seconds: Some(2.04),
            ..example()
        };
        let unclear = Finding {
            client_visible: Visible::Unknown,
            ..hidden.clone()
        };
        let slow = Finding {
            outcome: Outcome::Slow,
            ..example()
        };
        let no_upstream = Finding {
            outcome: Outcome::NoUpstream,
            backend: None,
            phase: None,
            ..example()
        };
        expect![[r#"
            14:02:11.123 502 yes  keepalive_race           nginx -> 10.77.1.3:8080         GET shop.example/cart  reset (ECONNRESET) in request after 0.2 ms, exchange 2, idle 5.0 s; the connection had been idle for 5.0 s -> longer keepalive in the backend than in the controller
            14:02:11.123 -   no   unknown                  nginx -> 10.77.1.3:8080         -  connect_refused in request after 2.0 s
            14:02:11.123 -   ?    unknown                  nginx -> 10.77.1.3:8080         -  connect_refused in request after 2.0 s
            14:02:11.123 502 yes  slow                     nginx -> 10.77.1.3:8080         GET shop.example/cart  slow (ECONNRESET) in request after 0.2 ms, exchange 2, idle 5.0 s; the connection had been idle for 5.0 s
            14:02:11.123 502 yes  keepalive_race           nginx -> -                      GET shop.example/cart  no_upstream (ECONNRESET) after 0.2 ms, exchange 2, idle 5.0 s; the connection had been idle for 5.0 s -> longer keepalive in the backend than in the controller

            CAUSE                   FAILURES  CLIENT-VISIBLE   STATUS               BACKENDS HIT MOST
            keepalive_race                 2  2                502 x2               10.77.1.3:8080 x1
            unknown                        2  0 (1 unclear)    - x2                 10.77.1.3:8080 x2
            warnings (no failures): 1
        "#]].assert_eq(&shown(
            &[example(), hidden, unclear, slow, no_upstream],
            Color::Off,
        ));
    }

    #[test]
    fn nothing_found_is_said() {
        expect![[r"

            no upstream failure was seen
        "]]
        .assert_eq(&shown(&[], Color::Off));
    }

    #[test]
    fn what_a_client_saw_is_red() {
        let colored = shown(&[example()], Color::On);
        assert!(colored.contains("\u{1b}[31m502\u{1b}[0m"), "{colored:?}");
    }

    #[test]
    fn nothing_from_the_network_drives_the_terminal() {
        let mut finding = example();
        finding.request = Some(Request {
            method: "G\u{1b}[2J".into(),
            host: Some("a\r\nb\u{9b}31m".into()),
            path: "/\u{202e}gpj.\u{7}\u{7f}é".into(),
        });
        finding.evidence = vec!["got \u{0}\u{8}".into()];
        let line = line(&finding, Color::Off, &TimeZone::UTC);
        assert!(
            !line
                .chars()
                .any(|char| char.is_control() || char == '\u{202e}'),
            "{line:?}"
        );
        assert!(
            line.contains(r"G\u{1b}[2J a\r\nb\u{9b}31m/\u{202e}gpj.\u{7}\u{7f}é"),
            "{line}"
        );
    }
}
