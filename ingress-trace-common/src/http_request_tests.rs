//! In: generated request heads and PROXY protocol headers. Out: proof that method, path and host
//! are those of a plain parser, that no query is copied, and that stale bytes are never read.
extern crate std;

use proptest::prelude::*;
use proptest::sample::Index;
use std::{format, string::String, vec::Vec};

use super::*;
use crate::sample::SIZE;

/// What lies behind `len` in a kept head: the remains of an earlier, longer one.
const STALE: &[u8] = b"\r\nHost: stale\r\n\r\nGET /stale?stale HTTP/1.1\r\n";

/// A head as it is kept; the pad behind it stays zero, for nothing is ever copied there.
fn kept(bytes: &[u8], shift: usize) -> (RequestHead, u32) {
    let mut head = [0; REQUEST_KEPT + PAD];
    for (at, byte) in head[..REQUEST_KEPT].iter_mut().enumerate() {
        *byte = STALE[(at + shift) % STALE.len()];
    }
    let len = bytes.len().min(REQUEST_KEPT);
    head[..len].copy_from_slice(&bytes[..len]);
    (head, len as u32)
}

/// Method, path and host as the kernel side copies them; what was in the sample before shines
/// through if a length is wrong.
fn copied(head: &RequestHead, len: u32) -> [String; 3] {
    let mut out = Sample::from_bytes(&[0; SIZE]).expect("a sample's size");
    (out.method, out.path, out.host) = ([b'J'; METHOD_LEN], [b'J'; PATH_LEN], [b'J'; HOST_LEN]);
    request(head, len, |value| value, &mut out);
    let text = |bytes: &[u8], len: u8| String::from_utf8_lossy(&bytes[..len.into()]).into_owned();
    [
        text(&out.method, out.method_len),
        text(&out.path, out.path_len),
        text(&out.host, out.host_len),
    ]
}

/// The same by slices and lines.
fn plain(bytes: &[u8]) -> [String; 3] {
    let bytes = &bytes[..bytes.len().min(REQUEST_KEPT)];
    let until = |bytes: &[u8], stops: &[u8], most: usize| {
        let end = bytes
            .iter()
            .position(|byte| stops.contains(byte))
            .unwrap_or(bytes.len());
        String::from_utf8_lossy(&bytes[..end.min(most)]).into_owned()
    };
    let method = until(bytes, b" ", METHOD_LEN);
    let target = bytes.get(method.len() + 1..).unwrap_or_default();
    let mut found = [method, until(target, b" ?\r\n", PATH_LEN), String::new()];
    for line in bytes.split(|byte| *byte == b'\n').skip(1) {
        if line.is_empty() || line == b"\r" {
            break;
        }
        if line.len() > 4 && line[..5].eq_ignore_ascii_case(b"host:") {
            let value = &line[5..];
            found[2] = until(value.strip_prefix(b" ").unwrap_or(value), b" \r", HOST_LEN);
            break;
        }
    }
    found
}

#[derive(Clone, Debug)]
struct Request {
    bytes: Vec<u8>,
    method: &'static str,
    path: String,
    host: String,
}

const METHODS: &[&str] = &[
    "GET", "POST", "PUT", "HEAD", "DELETE", "PATCH", "OPTIONS", "CONNECT", "TRACE", "PROPFIND",
    "REPORT", "LOCK", "UNLOCK", "COPY", "MOVE", "SEARCH", "PURGE",
];

fn request_head() -> impl Strategy<Value = Request> {
    let headers = || prop::collection::vec("[A-GI-Z][a-z-]{1,12}: [a-z0-9 ?=]{0,60}", 0..5);
    (
        prop::sample::select(METHODS),
        "/[a-z0-9/._%-]{0,200}",
        prop::option::of("[Q&=]{0,60}"),
        "[a-z0-9.-]{1,70}(:[0-9]{2,5})?",
        (headers(), headers()),
        prop::sample::select(std::vec!["Host: ", "host: ", "HOST:", "hOsT: "]),
    )
        .prop_map(|(method, path, query, host, (before, after), name)| {
            let query = query.map(|query| format!("?{query}")).unwrap_or_default();
            let mut lines = std::vec![format!("{method} {path}{query} HTTP/1.1")];
            lines.extend(before);
            lines.push(format!("{name}{host}"));
            lines.extend(after);
            let bytes = format!("{}\r\n\r\nhost: body\r\n", lines.join("\r\n")).into_bytes();
            Request {
                bytes,
                method,
                path,
                host,
            }
        })
}

fn cut(text: &str, most: usize) -> &str {
    &text[..text.len().min(most)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn a_request_line_and_its_host_are_copied_cut_and_without_the_query(
        request in request_head(), shift in 0usize..40,
    ) {
        let (head, len) = kept(&request.bytes, shift);
        let [method, path, host] = copied(&head, len);
        prop_assert_eq!(method, request.method);
        prop_assert_eq!(path, cut(&request.path, PATH_LEN));
        if request.bytes.len() <= REQUEST_KEPT {
            prop_assert_eq!(host, cut(&request.host, HOST_LEN));
        }
    }

    #[test]
    fn a_head_that_was_cut_gives_what_there_is_of_it(
        request in request_head(), at in any::<Index>(), shift in 0usize..40,
    ) {
        let bytes = &request.bytes[..at.index(request.bytes.len() + 1)];
        let (head, len) = kept(bytes, shift);
        let copied = copied(&head, len);
        prop_assert!(!copied.concat().contains('Q'), "a part of the query in {copied:?}");
        prop_assert_eq!(copied, plain(bytes));
    }

    #[test]
    fn any_head_and_any_length_are_survived(
        seed in prop::collection::vec(any::<u8>(), REQUEST_KEPT + PAD), len in any::<u32>(),
    ) {
        let head: RequestHead = seed[..].try_into().expect("the size of a head");
        for len in [len, len % 600] {
            let _ = copied(&head, len);
            let _ = proxy_header(&head, len);
        }
    }

    #[test]
    fn only_registered_methods_begin_a_request(method in prop::sample::select(METHODS), any in any::<[u8; 4]>()) {
        let line = format!("{method} / HTTP/1.1");
        prop_assert!(is_request(line.as_bytes()[..4].try_into().expect("four bytes")));
        prop_assert!(!is_request(any) || any.iter().all(|byte| b" ABCDEFGHIJKLMNOPQRSTUVWXYZ".contains(byte)));
    }

    #[test]
    fn a_proxy_line_ends_with_its_line_end(
        addresses in "TCP[46] [0-9a-f.:]{7,39} [0-9a-f.:]{7,39} [0-9]{1,5}", at in any::<Index>(),
        shift in 0usize..40,
    ) {
        let line = format!("PROXY {addresses}\r\n");
        let (head, len) = kept(format!("{line}GET / HTTP/1.1\r\n").as_bytes(), shift);
        prop_assert_eq!(proxy_header(&head, len) as usize, line.len());
        let (head, len) = kept(&line.as_bytes()[..at.index(line.len())], shift);
        prop_assert_eq!(proxy_header(&head, len), 0);
    }

    #[test]
    fn a_binary_proxy_header_says_how_long_it_is(
        family in any::<[u8; 2]>(), block in prop::collection::vec(any::<u8>(), 0..300),
        short in 0usize..16, shift in 0usize..40,
    ) {
        let mut bytes = b"\r\n\r\n\0\r\nQUIT\n".to_vec();
        bytes.extend(family);
        bytes.extend((block.len() as u16).to_be_bytes());
        bytes.extend(&block);
        let (head, len) = kept(&bytes, shift);
        prop_assert_eq!(proxy_header(&head, len) as usize, 16 + block.len());
        let (head, len) = kept(&bytes[..short], shift);
        prop_assert_eq!(proxy_header(&head, len), 0);
    }

    #[test]
    fn a_request_is_no_proxy_header(request in request_head(), shift in 0usize..40) {
        let (head, len) = kept(&request.bytes, shift);
        prop_assert_eq!(proxy_header(&head, len), 0);
    }
}
