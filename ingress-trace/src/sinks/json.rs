//! In: findings. Out: one JSON object per line, in the shape of the contract, each flushed at once.
//! Never buffers a finding and never fails because the reader has gone.
use std::io::Write;

use anyhow::{Context, Result};

use super::Reader;
use crate::finding::Finding;

/// Writes findings as JSON lines.
pub struct Json<W> {
    out: W,
}

impl<W: Write> Json<W> {
    /// Writes to `out`.
    pub const fn new(out: W) -> Self {
        Self { out }
    }

    /// Writes and flushes one finding.
    pub fn finding(&mut self, finding: &Finding) -> Result<Reader> {
        let mut line = serde_json::to_vec(finding).context("failed to encode finding")?;
        line.push(b'\n');
        Reader::after(self.out.write_all(&line).and_then(|()| self.out.flush()))
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use expect_test::expect;

    use super::*;
    use crate::sinks::example;

    struct Closed(io::ErrorKind);

    impl Write for Closed {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(self.0.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_finding_is_one_line_as_in_the_contract() {
        let mut out = Vec::new();
        let reader = Json::new(&mut out).finding(&example()).expect("written");
        assert_eq!(reader, Reader::Present);
        expect![[r#"
            {"time":"2026-03-01T14:02:11.123456Z","cause":"keepalive_race","status":502,"status_source":"observed","client_visible":"yes","confidence":"high","outcome":"reset","phase":"request","errno":"ECONNRESET","controller":"nginx","ingress":{"node":"node-1","pid":4711},"backend":{"address":"10.77.1.3","port":8080},"protocol":"http/1","connect_seconds":0.0002,"elapsed_seconds":0.0002,"exchange":2,"idle_seconds":5.0,"bytes_sent":80,"bytes_received":0,"retransmits":0,"request":{"method":"GET","host":"shop.example","path":"/cart"},"evidence":["the connection had been idle for 5.0 s"],"fix":["keep idle connections in the backend longer than in nginx"]}
        "#]].assert_eq(std::str::from_utf8(&out).expect("UTF-8"));
    }

    #[test]
    fn a_line_break_in_a_path_does_not_break_the_line() {
        let mut finding = example();
        finding.request.as_mut().expect("a request").path = "/a\n\u{1b}[2J\"".into();
        let mut out = Vec::new();
        assert_eq!(
            Json::new(&mut out).finding(&finding).expect("written"),
            Reader::Present
        );
        assert_eq!(out.iter().filter(|byte| **byte < 0x20).count(), 1);
        assert_eq!(
            serde_json::from_slice::<Finding>(&out).expect("JSON"),
            finding
        );
    }

    #[test]
    fn a_reader_that_has_gone_is_no_error_and_a_full_disk_is() {
        let mut closed = Json::new(Closed(io::ErrorKind::BrokenPipe));
        assert_eq!(closed.finding(&example()).expect("no error"), Reader::Gone);
        let mut full = Json::new(Closed(io::ErrorKind::StorageFull));
        let error = full.finding(&example()).expect_err("an error");
        assert_eq!(error.to_string(), "failed to write to stdout");
    }
}
