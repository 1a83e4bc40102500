//! Figures in, markdown and plain numbers out. Formats and sorts only.
use std::fs;

use anyhow::{Context, Result};

/// One line that names the machine and the time: figures of different machines do not compare.
pub fn machine() -> Result<String> {
    let cpu = fs::read_to_string("/proc/cpuinfo").context("failed to read cpuinfo")?;
    let model = cpu
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": "))
        .map_or("unknown processor", |(_, model)| model);
    let kernel =
        fs::read_to_string("/proc/sys/kernel/osrelease").context("failed to read osrelease")?;
    let cores = std::thread::available_parallelism().context("failed to count processors")?;
    let load = fs::read_to_string("/proc/loadavg").context("failed to read loadavg")?;
    let now = jiff::Timestamp::now().strftime("%Y-%m-%d %H:%M UTC");
    Ok(format!(
        "{now}; {model}, {cores} processors, Linux {}, load before the run {}",
        kernel.trim(),
        load.split(' ').next().unwrap_or_default()
    ))
}

/// Says on stderr what is being measured, for who waits.
pub fn progress(what: &str) {
    eprintln!("==> {what}");
}

/// Prints a headline and a table; columns of numbers are the caller's to format.
pub fn print(title: &str, header: &[&str], rows: &[Vec<String>]) {
    println!("### {title}\n");
    println!("| {} |", header.join(" | "));
    println!("|{}", "---|".repeat(header.len()));
    for row in rows {
        println!("| {} |", row.join(" | "));
    }
    println!();
}

/// The middle of the values, 0 of none.
pub fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    percentile(values, 50)
}

/// The smallest value that at least `percent` of the values do not exceed; 0 of none.
pub fn percentile(values: impl IntoIterator<Item = f64>, percent: usize) -> f64 {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    let place = (values.len() * percent).div_ceil(100).max(1) - 1;
    values.get(place).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_values_that_were_seen() {
        let values = || (1..=100).rev().map(f64::from);
        assert!((percentile(values(), 50) - 50.0).abs() < 1e-9);
        assert!((percentile(values(), 99) - 99.0).abs() < 1e-9);
        assert!((percentile([7.0], 99) - 7.0).abs() < 1e-9);
        assert!((median([3.0, 1.0, 2.0]) - 2.0).abs() < 1e-9);
        assert!(median([]).abs() < 1e-9);
    }
}
