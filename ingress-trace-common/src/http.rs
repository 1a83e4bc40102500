//! HTTP/1 heads and framing (RFC 9112), in the form that BPF verifiers accept: bounded loops over
//! fixed buffers, no slices, results in memory. Pure; used by the kernel side, tested in user space.
use crate::sample::{HOST_LEN, METHOD_LEN, PATH_LEN, Sample};

/// Bytes kept of a request head.
pub const REQUEST_KEPT: usize = 512;
/// Bytes kept of a response head.
pub const RESPONSE_KEPT: usize = 2048;
/// Bytes that [`scan`] looks at in one go: verifiers bound the branches of one function.
pub const WINDOW: usize = 1024;
/// Readable bytes behind what is kept, so that a look ahead (at most a host),
/// and what is appended behind a head, need no check.
pub const PAD: usize = 520;
/// A kept request head.
pub type RequestHead = [u8; REQUEST_KEPT + PAD];
/// A kept response head.
pub type ResponseHead = [u8; RESPONSE_KEPT + PAD];

/// How the end of a response is told.
pub mod framing {
    /// Not looked at yet.
    pub const UNSCANNED: u8 = 0;
    /// `Content-Length`.
    pub const LENGTH: u8 = 1;
    /// `Transfer-Encoding`.
    pub const CHUNKED: u8 = 2;
    /// The connection's end.
    pub const UNTIL_CLOSE: u8 = 3;
    /// There is no body (HEAD, 204, 304).
    pub const NO_BODY: u8 = 4;
    /// The head itself is not complete.
    pub const HEAD_CUT: u8 = 5;
    /// The head is longer than what is kept: not known.
    pub const UNKNOWN: u8 = 6;
}

/// Whether a response was complete when its connection ended.
pub mod complete {
    /// It was cut.
    pub const NO: u8 = 0;
    /// All of it had come.
    pub const YES: u8 = 1;
    /// The bytes that are kept do not tell.
    pub const UNSURE: u8 = 2;
}

/// What a look through a response head found.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Scan {
    /// Value of `Content-Length`, 0 when absent.
    pub length: u64,
    /// Bytes of the head with its empty line, 0 when that was not found.
    pub end: u32,
    /// Position of the line end before `Content-Length`, 0 when there is none.
    pub length_at: u32,
    /// Position of the line end before `Transfer-Encoding`, 0 when there is none.
    pub encoding_at: u32,
    /// Zero.
    pub reserved: u32,
}

/// Something that [`scan`] comes across.
#[derive(Clone, Copy)]
pub enum Mark {
    /// The head's end.
    End,
    /// The header that gives the body's length.
    Length,
    /// The header that gives the body's encoding.
    Encoding,
}

const fn lower(text: [u8; 8]) -> u64 {
    u64::from_le_bytes(text) | 0x2020_2020_2020_2020
}

const CONTENT: u64 = lower(*b"content-");
const LENGTH: u64 = lower(*b"length:\0") & 0x00ff_ffff_ffff_ffff;
const TRANSFER: u64 = lower(*b"transfer");
const ENCODING: u64 = lower(*b"-encodin");

/// Looks through [`WINDOW`] bytes from `FROM` on of the first `len` bytes of a response head and
/// reports what it comes across. Keeps nothing between two bytes, so that a verifier sees one state
/// per byte. Bytes behind `len` may be stale.
#[inline(always)]
pub fn scan<const FROM: usize>(head: &ResponseHead, len: u32, mark: impl Fn(Mark, u32)) {
    let mut i = FROM;
    while i < FROM + WINDOW {
        if i as u32 >= len {
            return;
        }
        if head[i] == b'\n' {
            let next = head[i + 1];
            if next == b'\r' || next == b'\n' {
                let end = i as u32 + if next == b'\r' { 3 } else { 2 };
                if end <= len {
                    mark(Mark::End, end);
                }
                return;
            }
            let name = word(head, i + 1);
            if name == CONTENT {
                if word(head, i + 9) & 0x00ff_ffff_ffff_ffff == LENGTH {
                    mark(Mark::Length, i as u32);
                }
            } else if name == TRANSFER && word(head, i + 9) == ENCODING {
                mark(Mark::Encoding, i as u32);
            }
        }
        i += 1;
    }
}

/// The number behind `Content-Length:`, whose line end before it is at `at`.
#[inline(always)]
pub fn length(head: &ResponseHead, at: u32) -> u64 {
    let start = (at as usize & (RESPONSE_KEPT - 1)) + "\nContent-Length:".len();
    let mut length = 0u64;
    let mut i = 0;
    while i < 24 {
        let byte = head[start + i];
        let digit = byte.wrapping_sub(b'0');
        if digit < 10 {
            length = length.wrapping_mul(10).wrapping_add(digit as u64);
        } else if byte != b' ' && byte != b'\t' {
            break;
        }
        i += 1;
    }
    length
}

/// Eight bytes from `at`, lower-cased.
#[inline(always)]
fn word(head: &ResponseHead, at: usize) -> u64 {
    lower([
        head[at],
        head[at + 1],
        head[at + 2],
        head[at + 3],
        head[at + 4],
        head[at + 5],
        head[at + 6],
        head[at + 7],
    ])
}

/// How the end of the response is told (RFC 9112 section 6.3). `kept` are the bytes looked at, of
/// `bytes` that came; `head_request` says that the request was a HEAD.
#[inline(always)]
pub fn framing_of(scan: &Scan, status: u16, head_request: bool, kept: u32, bytes: u64) -> u8 {
    if scan.end == 0 {
        let all = (kept as usize) < RESPONSE_KEPT && kept as u64 >= bytes;
        return if all {
            framing::HEAD_CUT
        } else {
            framing::UNKNOWN
        };
    }
    if head_request || status == 204 || status == 304 {
        framing::NO_BODY
    } else if scan.encoding_at != 0 {
        framing::CHUNKED
    } else if scan.length_at != 0 {
        framing::LENGTH
    } else {
        framing::UNTIL_CLOSE
    }
}

/// Bytes that the framing asks for, the head included; 0 when it does not say.
#[inline(always)]
pub fn expected(scan: &Scan, kind: u8) -> u64 {
    if kind == framing::LENGTH {
        (scan.end as u64).wrapping_add(scan.length)
    } else if kind == framing::NO_BODY {
        scan.end as u64
    } else {
        0
    }
}

/// The last chunk and the empty line behind it, with the line end before them (RFC 9112, 7.1).
pub const LAST_CHUNK: u64 = u64::from_be_bytes(*b"\0\r\n0\r\n\r\n");
const EMPTY_LINE: u64 = u32::from_be_bytes(*b"\r\n\r\n") as u64;

/// Whether a response is complete. `bytes` is all that came of it, `tail` its last eight bytes
/// (the last one lowest), `fin` whether the peer ended the connection in order.
#[inline(always)]
pub fn completeness(kind: u8, expected: u64, bytes: u64, tail: u64, fin: bool) -> u8 {
    let yes = match kind {
        framing::LENGTH | framing::NO_BODY => bytes >= expected,
        framing::CHUNKED => {
            if tail & 0x00ff_ffff_ffff_ffff == LAST_CHUNK {
                true
            } else if tail & 0xffff_ffff == EMPTY_LINE {
                // Trailers end like this, and so may a chunk of data.
                return complete::UNSURE;
            } else {
                false
            }
        }
        framing::UNTIL_CLOSE => fin,
        framing::HEAD_CUT => false,
        _ => return complete::UNSURE,
    };
    yes as u8
}

/// Folds the newest `len` bytes of a stream into its tail; `newest` are the eight bytes before the
/// end of the segment, of which the last `len` belong to the stream.
#[inline(always)]
pub fn fold_tail(tail: u64, newest: [u8; 8], len: u32) -> u64 {
    let newest = u64::from_be_bytes(newest);
    if len >= 8 {
        return newest;
    }
    let bits = (len & 7) * 8;
    (tail << bits) | (newest & ((1u64 << bits) - 1))
}

/// Status of the response line at the beginning of these bytes (at least 12), or 0 when there is
/// none (RFC 9112 section 4).
#[inline(always)]
pub fn status<const N: usize>(line: &[u8; N]) -> u16 {
    let version = u32::from_le_bytes([line[0], line[1], line[2], line[3]]);
    if version != u32::from_le_bytes(*b"HTTP") || line[4] != b'/' || line[8] != b' ' {
        return 0;
    }
    let hundreds = line[9].wrapping_sub(b'0') as u16;
    let tens = line[10].wrapping_sub(b'0') as u16;
    let ones = line[11].wrapping_sub(b'0') as u16;
    if hundreds > 9 || tens > 9 || ones > 9 {
        0
    } else {
        hundreds * 100 + tens * 10 + ones
    }
}

/// Whether these are the first bytes of a request line with a registered method.
#[inline(always)]
pub fn is_request(first: [u8; 4]) -> bool {
    const fn le(text: [u8; 4]) -> u32 {
        u32::from_le_bytes(text)
    }
    let word = u32::from_le_bytes(first);
    if word == le(*b"GET ") || word == le(*b"POST") {
        return true; // nearly always, and so in two comparisons
    }
    word == le(*b"PUT ")
        || word == le(*b"HEAD")
        || word == le(*b"DELE")
        || word == le(*b"PATC")
        || word == le(*b"OPTI")
        || word == le(*b"CONN")
        || word == le(*b"TRAC")
        || word == le(*b"PROP")
        || word == le(*b"REPO")
        || word == le(*b"MKCO")
        || word == le(*b"LOCK")
        || word == le(*b"UNLO")
        || word == le(*b"COPY")
        || word == le(*b"MOVE")
        || word == le(*b"SEAR")
        || word == le(*b"PURG")
        || word == le(*b"QUER")
}

/// Copies method, path (without its query) and Host header of a request head into `out`.
/// `forget` returns its argument such that the verifier no longer knows the value: it would follow
/// each value on a path of its own. The identity elsewhere.
#[inline(always)]
pub fn request(head: &RequestHead, len: u32, forget: impl Fn(u32) -> u32 + Copy, out: &mut Sample) {
    let mut i = 0usize;
    while i < METHOD_LEN {
        let byte = head[i];
        if byte == b' ' || i as u32 >= len {
            break;
        }
        out.method[i] = byte;
        i += 1;
    }
    out.method_len = forget(i as u32) as u8;
    // Masks, not comparisons: compilers rewrite those into forms that verifiers do not follow.
    let start = forget(i as u32 + 1) & 15;
    if start >= len {
        return;
    }
    path(head, start, len, forget, out);
    host(head, forget(len), forget, out);
}

#[inline(always)]
fn path(head: &RequestHead, start: u32, len: u32, forget: impl Fn(u32) -> u32, out: &mut Sample) {
    let mut i = 0usize;
    while i < PATH_LEN {
        let at = start as usize + i;
        if at as u32 >= len || at >= REQUEST_KEPT {
            break;
        }
        let byte = head[at];
        if byte == b' ' || byte == b'?' || byte == b'\r' || byte == b'\n' {
            break;
        }
        out.path[i] = byte;
        i += 1;
    }
    out.path_len = forget(i as u32) as u8;
}

#[inline(always)]
fn host(head: &RequestHead, len: u32, forget: impl Fn(u32) -> u32, out: &mut Sample) {
    let mut at = 0u32;
    let mut i = 0usize;
    while i < REQUEST_KEPT {
        if i as u32 >= len {
            break;
        }
        if head[i] == b'\n' {
            let next = head[i + 1];
            if next == b'\r' || next == b'\n' {
                break;
            }
            if next | 0x20 == b'h'
                && head[i + 2] | 0x20 == b'o'
                && head[i + 3] | 0x20 == b's'
                && head[i + 4] | 0x20 == b't'
                && head[i + 5] == b':'
            {
                at = i as u32 + 6;
                break;
            }
        }
        i += 1;
    }
    let at = forget(at) & (REQUEST_KEPT as u32 - 1);
    if at == 0 {
        return;
    }
    let at = at + (head[at as usize] == b' ') as u32;
    let mut i = 0usize;
    while i < HOST_LEN {
        let from = at as usize + i;
        if from as u32 >= len || from >= REQUEST_KEPT {
            break;
        }
        let byte = head[from];
        if byte == b'\r' || byte == b'\n' || byte == b' ' {
            break;
        }
        out.host[i] = byte;
        i += 1;
    }
    out.host_len = forget(i as u32) as u8;
}

/// Where a PROXY protocol header ends (HAProxy's proxy-protocol.txt), 0 when there is none.
/// Version 1 is a text line of at most 107 bytes, version 2 has its length in bytes 14 and 15.
#[inline(always)]
pub fn proxy_header(head: &RequestHead, len: u32) -> u32 {
    let first = u32::from_le_bytes([head[0], head[1], head[2], head[3]]);
    if first == u32::from_le_bytes(*b"PROX") && head[4] == b'Y' && head[5] == b' ' {
        let mut i = 0usize;
        while i < 108 {
            if i as u32 >= len {
                break;
            }
            if head[i] == b'\n' {
                return i as u32 + 1;
            }
            i += 1;
        }
        0
    } else if first == u32::from_le_bytes(*b"\r\n\r\n")
        && head[4] == 0
        && head[5] == b'\r'
        && head[6] == b'\n'
        && head[7] == b'Q'
        && head[11] == b'\n'
        && len >= 16
    {
        16 + u16::from_be_bytes([head[14], head[15]]) as u32
    } else {
        0
    }
}

#[cfg(test)]
#[path = "http_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "http_request_tests.rs"]
mod request_tests;
