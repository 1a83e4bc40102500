//! Reads the Prometheus text format: a page in, series out.
use std::collections::BTreeMap;

/// One series.
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    /// Its name.
    pub name: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its value.
    pub value: f64,
}

/// A scrape.
#[derive(Clone, Debug, Default)]
pub struct Page {
    /// All series, in the page's order.
    pub series: Vec<Series>,
}

impl Page {
    /// Parses a page; lines that are no series are left out.
    pub fn parse(text: &str) -> Self {
        Self {
            series: text.lines().filter_map(series).collect(),
        }
    }

    /// Sum of the series of this name that carry all these labels.
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let fits = |series: &&Series| {
            let has = |(key, value): &(&str, &str)| {
                series.labels.get(*key).is_some_and(|held| held == value)
            };
            series.name == name && labels.iter().all(has)
        };
        self.series
            .iter()
            .filter(fits)
            .map(|series| series.value)
            .sum()
    }

    /// [`Page::sum`] of counters, which are whole and never negative.
    #[expect(clippy::cast_sign_loss, reason = "counters are never negative")]
    pub fn count(&self, name: &str, labels: &[(&str, &str)]) -> u64 {
        self.sum(name, labels).round() as u64
    }
}

fn series(line: &str) -> Option<Series> {
    if line.starts_with('#') {
        return None;
    }
    let (front, value) = line.trim().rsplit_once(' ')?;
    let (name, labels) = front.split_once('{').unwrap_or((front, ""));
    // Values of ours hold neither commas nor quotes.
    let pairs = labels.trim_end_matches('}').split(',').filter_map(|pair| {
        let (key, value) = pair.split_once('=')?;
        Some((key.to_owned(), value.trim_matches('"').to_owned()))
    });
    Some(Series {
        name: name.to_owned(),
        labels: pairs.collect(),
        value: value.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_are_summed_by_label() {
        let page =
            Page::parse("# TYPE x counter\nx{a=\"1\",b=\"2\"} 3\nx{a=\"1\",b=\"3\"} 4\ny 5\n");
        assert!((page.sum("x", &[("a", "1")]) - 7.0).abs() < 1e-9);
        assert!((page.sum("x", &[("b", "3")]) - 4.0).abs() < 1e-9);
        assert_eq!(page.count("y", &[]), 5);
        assert_eq!(page.count("z", &[]), 0);
    }
}
