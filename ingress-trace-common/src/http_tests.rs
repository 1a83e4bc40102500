//! In: generated heads, bodies and any bytes. Out: proof that the bounded look-ups of the kernel
//! side agree with a plain parser over slices, and never read what is stale.
extern crate std;

use proptest::prelude::*;
use proptest::sample::Index;
use std::{format, string::String, vec::Vec};

use super::*;

/// What lies behind `len` in a kept head: the remains of an earlier, longer one.
const STALE: &[u8] = b"\r\nContent-Length: 7\r\nTransfer-Encoding: chunked\r\nHost: stale\r\n\r\n";

fn buffer<const N: usize>(bytes: &[u8], shift: usize) -> [u8; N] {
    let mut buffer = [0; N];
    for (at, byte) in buffer.iter_mut().enumerate() {
        *byte = STALE[(at + shift) % STALE.len()];
    }
    buffer[..bytes.len()].copy_from_slice(bytes);
    buffer
}

/// A scan as the kernel side makes it.
fn scanned(head: &ResponseHead, len: u32) -> Scan {
    let found = core::cell::Cell::new(Scan::default());
    let mark = |mark, at| {
        let mut scan = found.get();
        match mark {
            Mark::End => scan.end = at,
            Mark::Length => scan.length_at = at,
            Mark::Encoding => scan.encoding_at = at,
        }
        found.set(scan);
    };
    scan::<0>(head, len, mark);
    if found.get().end == 0 && len as usize > WINDOW {
        scan::<WINDOW>(head, len, mark);
    }
    let mut scan = found.get();
    if scan.length_at != 0 {
        scan.length = length(head, scan.length_at);
    }
    scan
}

/// What a head says, read line by line.
#[derive(Debug, Default, PartialEq)]
struct Plain {
    end: usize,
    length: Option<u64>,
    chunked: bool,
}

fn plain(head: &[u8]) -> Plain {
    let mut plain = Plain::default();
    let mut at = 0;
    for line in head.split_inclusive(|byte| *byte == b'\n') {
        at += line.len();
        let text = String::from_utf8_lossy(line);
        let text = text.trim_end_matches(['\r', '\n']);
        if text.is_empty() && line.ends_with(b"\n") {
            plain.end = at;
            return plain;
        }
        let (name, value) = text.split_once(':').unwrap_or((text, ""));
        if name.eq_ignore_ascii_case("content-length") {
            plain.length = value.trim().parse().ok();
        }
        plain.chunked |= name.eq_ignore_ascii_case("transfer-encoding");
    }
    Plain::default()
}

/// A response and how its end is told.
#[derive(Clone, Debug)]
struct Response {
    bytes: Vec<u8>,
    head: usize,
    kind: u8,
    status: u16,
    to_head: bool,
    trailers: bool,
}

fn cased(name: &str, upper: u64) -> String {
    let flip = |(at, c): (usize, char)| {
        if upper >> (at % 64) & 1 == 1 {
            c.to_ascii_uppercase()
        } else {
            c.to_ascii_lowercase()
        }
    };
    name.chars().enumerate().map(flip).collect()
}

fn other_header() -> impl Strategy<Value = String> {
    let name = prop::sample::select(std::vec![
        "Content-Type",
        "Content-Encoding",
        "X-Content-Length",
        "Content-Lengthy",
        "Transfer",
        "X-Transfer-Encoding",
        "Set-Cookie",
        "Trailer",
        "Connection",
        "Te",
        "Content",
        "C",
    ]);
    let value = prop_oneof!["[a-z0-9;=/ ]{0,40}", Just("content-length: 9".into())];
    (name, value, any::<u64>())
        .prop_map(|(name, value, case)| format!("{}: {value}", cased(name, case)))
}

/// Chunked bodies whose data may look like the end of trailers, but not like the last chunk.
fn chunked() -> impl Strategy<Value = (Vec<u8>, bool)> {
    let data = prop::collection::vec(prop::sample::select(b"ab1\r\n".to_vec()), 1..40);
    let trailers = prop::collection::vec("[A-Z][a-z]{1,8}: [a-z]{0,9}", 0..3);
    (prop::collection::vec(data, 0..5), trailers, any::<bool>()).prop_map(
        |(chunks, trailers, hex)| {
            let mut body = Vec::new();
            for chunk in chunks {
                let len = chunk.len();
                let size = if hex {
                    format!("{len:x}")
                } else {
                    format!("{len:04X};name=a")
                };
                body.extend(size.bytes().chain(*b"\r\n"));
                body.extend(chunk.into_iter().chain(*b"\r\n"));
            }
            body.extend(b"0\r\n");
            for trailer in &trailers {
                body.extend(trailer.bytes().chain(*b"\r\n"));
            }
            body.extend(b"\r\n");
            (body, !trailers.is_empty())
        },
    )
}

fn body() -> impl Strategy<Value = (u8, Vec<u8>, bool)> {
    let bytes = || prop::collection::vec(any::<u8>(), 0..200);
    prop_oneof![
        bytes().prop_map(|body| (framing::LENGTH, body, false)),
        chunked().prop_map(|(body, trailers)| (framing::CHUNKED, body, trailers)),
        bytes().prop_map(|body| (framing::UNTIL_CLOSE, body, false)),
        Just((framing::NO_BODY, Vec::new(), false)),
    ]
}

fn response() -> impl Strategy<Value = Response> {
    // Now and then as long as it takes to reach beyond the first window.
    let pad = prop_oneof![3 => Just(0usize), 1 => WINDOW - 300..WINDOW + 300];
    let headers = (prop::collection::vec(other_header(), 0..8), pad);
    (
        body(),
        headers,
        any::<(u64, Index, Index, bool)>(),
        " {0,4}",
    )
        .prop_map(
            |((kind, body, trailers), (mut headers, pad), (case, place, pick, to_head), space)| {
                let none = kind == framing::NO_BODY;
                let status = if none {
                    [204, 304, 200][pick.index(3)]
                } else {
                    200
                };
                let length = if none { 7 } else { body.len() };
                let framed = match kind {
                    framing::CHUNKED => Some(format!(
                        "{}:{space}chunked",
                        cased("Transfer-Encoding", case)
                    )),
                    framing::UNTIL_CLOSE => None,
                    _ => Some(format!("{}:{space}{length}", cased("Content-Length", case))),
                };
                if pad > 0 {
                    headers.insert(0, format!("X-Pad: {}", "x".repeat(pad)));
                }
                if let Some(framed) = framed {
                    headers.insert(place.index(headers.len() + 1), framed);
                }
                // Chunks end in CRLF always, so heads of chunked responses do here, too.
                let bare = case & 1 == 1 && kind != framing::CHUNKED;
                let end = if bare { "\n" } else { "\r\n" };
                let mut text = format!("HTTP/1.1 {status} Some reason{end}");
                for header in headers {
                    text.push_str(&header);
                    text.push_str(end);
                }
                text.push_str(end);
                let head = text.len();
                let bytes = text.into_bytes().into_iter().chain(body).collect();
                let to_head = none && (to_head || status == 200);
                Response {
                    bytes,
                    head,
                    kind,
                    status,
                    to_head,
                    trailers,
                }
            },
        )
}

/// The verdict of the kernel side about the first `came` bytes of a response.
fn judged(response: &Response, came: usize, fin: bool, shift: usize) -> (u8, u8) {
    let bytes = &response.bytes[..came];
    let kept = came.min(RESPONSE_KEPT);
    let scan = scanned(&buffer(&bytes[..kept], shift), kept as u32);
    let kind = framing_of(
        &scan,
        response.status,
        response.to_head,
        kept as u32,
        came as u64,
    );
    let tail = tail_of(bytes);
    (
        kind,
        completeness(kind, expected(&scan, kind), came as u64, tail, fin),
    )
}

fn tail_of(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0, |tail, byte| tail << 8 | u64::from(*byte))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn a_scan_finds_what_a_parser_of_lines_finds(
        response in response(), cut in any::<Index>(), shift in 0usize..70,
    ) {
        let came = cut.index(response.bytes.len() + 1).min(RESPONSE_KEPT);
        let scan = scanned(&buffer(&response.bytes[..came], shift), came as u32);
        let plain = plain(&response.bytes[..came]);
        prop_assert_eq!(scan.end as usize, plain.end);
        // Without an end nothing else is believed.
        if scan.end != 0 {
            prop_assert_eq!((scan.length_at != 0).then_some(scan.length), plain.length);
            prop_assert_eq!(scan.encoding_at != 0, plain.chunked);
        }
    }

    #[test]
    fn a_whole_response_is_complete(response in response(), shift in 0usize..70) {
        let whole = response.bytes.len();
        let (kind, verdict) = judged(&response, whole, response.kind == framing::UNTIL_CLOSE, shift);
        prop_assert_eq!(kind, response.kind);
        // Trailers cannot be told from data by the last bytes alone.
        let right = if response.trailers { complete::UNSURE } else { complete::YES };
        prop_assert_eq!(verdict, right);
    }

    #[test]
    fn a_response_that_was_cut_is_never_complete(
        response in response(), cut in any::<Index>(), fin in any::<bool>(), shift in 0usize..70,
    ) {
        let came = cut.index(response.bytes.len());
        let fin = fin && (response.kind != framing::UNTIL_CLOSE || came < response.head);
        let (kind, verdict) = judged(&response, came, fin, shift);
        prop_assert_ne!(verdict, complete::YES);
        if came < response.head {
            prop_assert_eq!((kind, verdict), (framing::HEAD_CUT, complete::NO));
        }
    }

    #[test]
    fn bytes_behind_the_length_change_nothing(
        response in response(), cut in any::<Index>(), one in 0usize..70, other in 0usize..70,
    ) {
        let came = cut.index(response.bytes.len() + 1);
        prop_assert_eq!(judged(&response, came, false, one), judged(&response, came, false, other));
    }

    #[test]
    fn a_head_longer_than_what_is_kept_is_not_judged(pad in RESPONSE_KEPT..2 * RESPONSE_KEPT) {
        let text = format!("HTTP/1.1 200 OK\r\nX: {}\r\nContent-Length: 1\r\n\r\n", "x".repeat(pad));
        let head = text.len();
        let response = Response {
            bytes: text.into_bytes(), head, kind: framing::LENGTH, status: 200, to_head: false,
            trailers: false,
        };
        prop_assert_eq!(judged(&response, head, true, 0), (framing::UNKNOWN, complete::UNSURE));
    }

    #[test]
    fn a_head_of_which_not_all_was_kept_is_not_judged(
        response in response(), cut in any::<Index>(), shift in 0usize..70,
    ) {
        let kept = cut.index(response.head);
        let scan = scanned(&buffer(&response.bytes[..kept], shift), kept as u32);
        let came = kept as u64 + 1;
        let kind = framing_of(&scan, response.status, response.to_head, kept as u32, came);
        prop_assert_eq!(kind, framing::UNKNOWN);
    }

    #[test]
    fn segments_fold_to_the_tail_of_the_stream(
        stream in prop::collection::vec(any::<u8>(), 8..300),
        cuts in prop::collection::vec((any::<Index>(), 0usize..20), 0..12),
        header in any::<[u8; 40]>(),
    ) {
        let mut ends: Vec<(usize, usize)> =
            cuts.into_iter().map(|(at, again)| (at.index(stream.len()), again)).collect();
        ends.push((stream.len(), 0));
        ends.sort_unstable();
        let (mut tail, mut seen) = (0, 0);
        for (end, again) in ends {
            // A segment may bring bytes again that have been seen.
            let from = seen - again.min(seen);
            let packet: Vec<u8> = header.iter().chain(&stream[from..end.max(from)]).copied().collect();
            let newest = packet[packet.len() - 8..].try_into().expect("eight bytes");
            tail = fold_tail(tail, newest, (end - seen) as u32);
            seen = end;
        }
        prop_assert_eq!(tail, tail_of(&stream));
    }

    #[test]
    fn a_status_is_read_from_a_status_line_and_from_nothing_else(
        status in 0u16..1000, version in "[0-9.]{3}", any in any::<[u8; 16]>(),
    ) {
        let line = format!("HTTP/{version} {status:03} Fine");
        let first: [u8; 16] = line.as_bytes()[..16].try_into().expect("sixteen bytes");
        prop_assert_eq!(super::status(&first), status);
        let text = String::from_utf8_lossy(&any);
        prop_assert!(text.starts_with("HTTP/") || super::status(&any) == 0);
        let short = format!("HTTP/{version} {:02}x OK..", status % 100);
        let first: [u8; 16] = short.as_bytes()[..16].try_into().expect("sixteen bytes");
        prop_assert_eq!(super::status(&first), 0);
    }

    #[test]
    fn any_bytes_and_any_length_are_survived(
        seed in prop::collection::vec(any::<u8>(), RESPONSE_KEPT + PAD), len in any::<u32>(),
        at in any::<u32>(), status in any::<u16>(), kind in any::<u8>(), bytes in any::<[u64; 3]>(),
    ) {
        let head: ResponseHead = seed[..].try_into().expect("the size of a head");
        for len in [len, len % 4096] {
            let scan = scanned(&head, len);
            let kind_of = framing_of(&scan, status, status & 1 == 0, len, bytes[0]);
            prop_assert!((framing::LENGTH..=framing::UNKNOWN).contains(&kind_of));
            prop_assert!(scan.end <= len);
            let _ = expected(&scan, kind);
            let _ = completeness(kind, bytes[0], bytes[1], bytes[2], false);
            let _ = fold_tail(bytes[0], bytes[1].to_be_bytes(), len);
        }
        let _ = length(&head, at);
    }
}

#[test]
fn a_length_is_read_with_and_without_spaces_up_to_the_largest() {
    for (text, value) in [
        ("0", 0),
        (" 42", 42),
        ("\t 7 ", 7),
        ("18446744073709551615", u64::MAX),
        (" x", 0),
    ] {
        let head = format!("H\r\nContent-Length:{text}\r\n\r\n");
        assert_eq!(length(&buffer(head.as_bytes(), 3), 2), value, "{text:?}");
    }
}
