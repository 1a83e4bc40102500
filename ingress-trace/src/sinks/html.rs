//! In: the breakdown and the newest findings. Out: one self-contained HTML page for people.
//! Everything is escaped: hosts and paths come from the network.
use super::breakdown::{Breakdown, name};
use crate::finding::Finding;

const HEAD: &str = r#"<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>ingress-trace</title>
<meta http-equiv="refresh" content="10"><meta name="viewport" content="width=device-width">
<style>
:root { color-scheme: light dark }
body { font: 14px/1.5 system-ui, sans-serif; margin: 2em }
table { border-collapse: collapse; margin-bottom: 2em }
th, td { text-align: left; padding: .2em 1em .2em 0; border-bottom: 1px solid #8886; vertical-align: top }
td { overflow-wrap: anywhere }
</style></head><body>
<h1>ingress-trace</h1>
<p><a href="metrics">metrics</a> · <a href="findings?limit=100">findings (JSON)</a> ·
<a href="readyz">readiness</a></p>
"#;

/// Backends named per cause.
const TOP: usize = 3;

/// The page; `findings` newest first.
pub fn page(breakdown: &Breakdown, findings: &[Finding]) -> String {
    let mut html = String::from(HEAD);
    html.push_str("<h2>Failures by cause</h2>\n");
    if breakdown.failures() == 0 {
        html.push_str("<p>No upstream failure was seen since the start.</p>\n");
    } else {
        causes(&mut html, breakdown);
    }
    if !findings.is_empty() {
        html.push_str("<h2>Newest findings</h2>\n");
        newest(&mut html, findings);
    }
    html.push_str("</body></html>\n");
    html
}

fn causes(html: &mut String, breakdown: &Breakdown) {
    row(
        html,
        "th",
        &[
            "cause",
            "failures",
            "client saw",
            "unclear",
            "backends hit most",
            "meaning",
        ],
    );
    for (cause, all) in breakdown.rows() {
        let top: Vec<_> = all
            .top(TOP)
            .iter()
            .map(|(name, count)| format!("{name} ×{count}"))
            .collect();
        let (count, visible, unclear) = (all.count, all.visible, all.unclear);
        let cells = [
            cause.word(),
            &count.to_string(),
            &visible.to_string(),
            &unclear.to_string(),
            &top.join(", "),
            cause.meaning(),
        ];
        row(html, "td", &cells);
    }
    html.push_str("</table>\n");
}

fn newest(html: &mut String, findings: &[Finding]) {
    row(
        html,
        "th",
        &[
            "time (UTC)",
            "status",
            "client saw",
            "cause",
            "outcome",
            "backend",
            "request",
            "evidence",
        ],
    );
    for finding in findings {
        let request = finding.request.as_ref().map(|request| {
            let host = request.host.as_deref().unwrap_or_default();
            format!("{} {host}{}", request.method, request.path)
        });
        let cells = [
            &finding.time.strftime("%F %T%.3f").to_string(),
            &finding
                .status
                .map(|status| status.to_string())
                .unwrap_or_default(),
            finding.client_visible.word(),
            finding.cause.word(),
            finding.outcome.word(),
            &finding.backend.as_ref().map(name).unwrap_or_default(),
            request.as_deref().unwrap_or_default(),
            &finding.evidence.join("; "),
        ];
        row(html, "td", &cells);
    }
    html.push_str("</table>\n");
}

/// A row of a table; a row of headings opens the table.
fn row(html: &mut String, tag: &str, cells: &[&str]) {
    html.push_str(if tag == "th" { "<table><tr>" } else { "<tr>" });
    html.extend(
        cells
            .iter()
            .map(|cell| format!("<{tag}>{}</{tag}>", escape(cell))),
    );
    html.push_str("</tr>\n");
}

/// Text as HTML; control characters and changes of direction are shown, not obeyed.
fn escape(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for char in super::terminal::escape(text).chars() {
        match char {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            other => safe.push(other),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sinks::example;

    #[test]
    fn a_finding_shows_up_in_both_tables() {
        let mut breakdown = Breakdown::default();
        breakdown.add(&example());
        let html = page(&breakdown, &[example()]);
        assert!(
            html.contains("<td>keepalive_race</td><td>1</td><td>1</td><td>0</td>"),
            "{html}"
        );
        assert!(html.contains("<td>GET shop.example/cart</td>"), "{html}");
    }

    #[test]
    fn nothing_from_the_network_becomes_markup() {
        let mut finding = example();
        finding.request.as_mut().expect("a request").path = "/<script>'\"&\u{1b}".into();
        finding.evidence = vec!["<b>".into()];
        let html = page(&Breakdown::default(), &[finding]);
        assert!(
            html.contains(r"/&lt;script&gt;&#39;&quot;&amp;\u{1b}"),
            "{html}"
        );
        assert!(!html.contains("<script") && !html.contains("<b>"), "{html}");
    }
}
