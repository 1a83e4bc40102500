//! One sample: what the kernel side tells about one failed, retried or erroneous exchange.
//!
//! Written by `ingress-trace-ebpf/src/emit.rs` only, read by `ingress-trace/src/event.rs` only.

/// Longest method, host and path (without its query) that leave the kernel side, in bytes.
pub const METHOD_LEN: usize = 8;
/// See [`METHOD_LEN`].
pub const HOST_LEN: usize = 64;
/// See [`METHOD_LEN`].
pub const PATH_LEN: usize = 128;

/// [`Sample::kind`]: what happened.
pub mod kind {
    /// SYN_SENT ended in CLOSE; `errno` 0 means that the application's own timer closed it.
    pub const CONNECT_FAILED: u8 = 1;
    /// `connect()` failed before any packet; `errno` EADDRNOTAVAIL (no port) or ENETUNREACH.
    pub const CONNECT_LOCAL: u8 = 2;
    /// The peer's RST ended an established connection with an exchange open (or unclear).
    pub const RESET: u8 = 3;
    /// The peer's FIN came with an exchange open (or unclear).
    pub const CLOSED: u8 = 4;
    /// The application closed its side with an exchange open.
    pub const GAVE_UP: u8 = 5;
    /// An established connection died by an error of our own kernel (ETIMEDOUT, EHOSTUNREACH).
    pub const BROKEN: u8 = 6;
    /// A response began, and it is an error, slow, not HTTP, or follows a failed attempt.
    pub const RESPONSE: u8 = 7;
    /// The application released a connection whose exchange had failed; names the thread.
    pub const RELEASED: u8 = 8;
    /// A new attempt starts on the thread that has just released a failed one (`prev_*`).
    pub const RETRY: u8 = 9;
    /// The thread that has just released a failed attempt (`prev_*`) wrote to a client.
    pub const DOWN_WRITE: u8 = 10;
    /// The thread that has just released a failed attempt (`prev_*`) closed a client connection,
    /// or a client connection that had been joined to a failed attempt ended.
    pub const DOWN_END: u8 = 11;
    /// A client got an error right after its thread had released a complete response that was
    /// asked for after the client's request. A downstream sample, but its `remote_*` are the
    /// backend's.
    pub const REFUSED: u8 = 12;
}

/// [`Sample::role`]: which leg.
pub mod role {
    /// The data plane connected: controller to backend.
    pub const UPSTREAM: u8 = 1;
    /// The data plane accepted: client to controller.
    pub const DOWNSTREAM: u8 = 2;
}

/// [`Sample::phase`]: where the exchange was.
pub mod phase {
    /// No exchange open.
    pub const IDLE: u8 = 0;
    /// A request was sent (or is being sent), no response byte has come.
    pub const REQUEST: u8 = 1;
    /// The response has begun.
    pub const RESPONSE: u8 = 2;
    /// The connection is not established yet.
    pub const CONNECT: u8 = 3;
}

/// [`Sample::proto`]: what the bytes of the leg are.
pub mod proto {
    /// Nothing was seen yet.
    pub const UNKNOWN: u8 = 0;
    /// HTTP/1.x in plaintext.
    pub const HTTP1: u8 = 1;
    /// TLS records: no status, no framing; exchanges by record type and direction.
    pub const TLS: u8 = 2;
    /// HTTP/2 in plaintext: no status, no framing; exchanges by frame type and direction.
    pub const HTTP2: u8 = 3;
    /// Anything else (WebSocket after 101, TCP streams): no exchanges.
    pub const OPAQUE: u8 = 4;
    /// Payload reading is off: exchanges by direction only.
    pub const UNREAD: u8 = 5;
}

/// [`Sample::flags`]: facts about the connection, or-ed together.
pub mod flag {
    /// The SYN was built (`tcp_connect` reached).
    pub const SYN: u16 = 1;
    /// The application released the socket.
    pub const RELEASED: u16 = 1 << 1;
    /// The peer's FIN has come.
    pub const FIN_IN: u16 = 1 << 2;
    /// The peer's RST has come.
    pub const RST_IN: u16 = 1 << 3;
    /// The connection existed before the agent attached.
    pub const ADOPTED: u16 = 1 << 4;
    /// The current exchange has failed; its sample was sent.
    pub const FAILED: u16 = 1 << 5;
    /// The first response bytes are not HTTP.
    pub const NOT_HTTP: u16 = 1 << 6;
    /// The first byte came later than the threshold.
    pub const SLOW: u16 = 1 << 7;
    /// The peer's RST carried an ACK (`tcp_send_active_reset`: a live socket aborted), as against
    /// the RST that answers a segment to a socket that is gone.
    pub const RST_ACK: u16 = 1 << 8;
    /// A stream of HTTP/2 ended by RST_STREAM or GOAWAY, and not the connection.
    pub const STREAM: u16 = 1 << 9;
    /// The peer's FIN had come before this exchange's request was sent.
    pub const FIN_BEFORE: u16 = 1 << 10;
    /// The request is a HEAD.
    pub const HEAD: u16 = 1 << 11;
    /// The downstream exchange was joined to a failed upstream attempt.
    pub const JOINED: u16 = 1 << 12;
    /// More request bytes came after the response had begun (an answer before the request's end);
    /// under TLS on a client's leg, behind the request's first segment.
    pub const EARLY: u16 = 1 << 13;
    /// The response was complete when the connection ended.
    pub const COMPLETE: u16 = 1 << 14;
    /// The hook ran in the context of the process that uses the socket: `tid` is meaningful.
    pub const PROCESS: u16 = 1 << 15;
}

/// One sample of the ring buffer. Times are `CLOCK_MONOTONIC` nanoseconds, 0 where they do not
/// apply; addresses and ports as noted; strings are cut at their length fields.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    /// When the fact happened.
    pub time: u64,
    /// `bpf_get_socket_cookie`: identifies the connection on this node until reboot.
    pub cookie: u64,
    /// The socket's cgroup (kernfs node id, the inode of its cgroup v2 folder).
    pub cgroup: u64,
    /// The failed attempt that this thread released just before, 0 when none.
    pub prev_cookie: u64,
    /// When `connect()` was called, or the connection was accepted or adopted.
    pub connect_time: u64,
    /// When the handshake ended.
    pub established_time: u64,
    /// When the request's first byte passed.
    pub request_time: u64,
    /// When the response's first byte passed.
    pub response_time: u64,
    /// When the newest response byte passed (coarse clock, some ms); of `DOWN_WRITE`, the newest before
    /// what is written.
    pub last_time: u64,
    /// When anything was last sent to a backend of this cgroup that cannot be read (TLS, HTTP/2);
    /// downstream only.
    pub unreadable_time: u64,
    /// Nanoseconds between the end of the previous exchange and this request; 0 on the first.
    pub idle: u64,
    /// Request bytes of this exchange that left (upstream) or came (downstream).
    pub request_bytes: u64,
    /// Response bytes of this exchange.
    pub response_bytes: u64,
    /// Response bytes that the framing asks for, head included; 0 when it does not say.
    pub expected_bytes: u64,
    /// 1-based number of this exchange on its connection.
    pub exchange: u32,
    /// Exchange number of `prev_cookie`.
    pub prev_exchange: u32,
    /// Thread that acted, valid with [`flag::PROCESS`].
    pub tid: u32,
    /// Its process (the one that connected, where the hook was not in process context).
    pub tgid: u32,
    /// `sk_err` as a positive errno, 0 when none.
    pub errno: u32,
    /// Segments retransmitted over the connection's life, SYNs included (`total_retrans`).
    pub retransmits: u32,
    /// Request bytes the peer's kernel had acknowledged when it ended.
    pub acked: u32,
    /// Response bytes that the application had not read when it ended.
    pub unread: u32,
    /// HTTP status of the response, 0 when not seen; with [`flag::NOT_HTTP`] its first two bytes, of
    /// an alert that ended a TLS handshake its type and description.
    pub status: u16,
    /// Local port, host order.
    pub local_port: u16,
    /// Remote port, host order.
    pub remote_port: u16,
    /// See [`flag`].
    pub flags: u16,
    /// See [`kind`].
    pub kind: u8,
    /// See [`role`].
    pub role: u8,
    /// See [`phase`].
    pub phase: u8,
    /// See [`proto`].
    pub proto: u8,
    /// See [`crate::http::framing`].
    pub framing: u8,
    /// Length of `method`.
    pub method_len: u8,
    /// Length of `host`.
    pub host_len: u8,
    /// Length of `path`.
    pub path_len: u8,
    /// Remote address: IPv6 in network order, IPv4 as v4-mapped.
    pub remote_address: [u8; 16],
    /// Local address, likewise.
    pub local_address: [u8; 16],
    /// Request method, cut.
    pub method: [u8; METHOD_LEN],
    /// Host header, cut.
    pub host: [u8; HOST_LEN],
    /// Request target up to its query, cut.
    pub path: [u8; PATH_LEN],
}

/// Size of a [`Sample`] on the wire, in bytes.
pub const SIZE: usize = core::mem::size_of::<Sample>();

// Every field follows the previous one without padding: the sum of the parts is the whole.
const _: () =
    assert!(SIZE == 14 * 8 + 8 * 4 + 4 * 2 + 8 + 2 * 16 + METHOD_LEN + HOST_LEN + PATH_LEN);

impl Sample {
    /// The sample in these bytes, when they are exactly one. Any bytes are a sample; what they
    /// mean is checked where it is decoded.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        if bytes.len() != SIZE {
            return None;
        }
        // SAFETY: the length is right, integers have no invalid patterns, unaligned is allowed.
        Some(unsafe { core::ptr::read_unaligned(bytes.as_ptr().cast()) })
    }

    /// The bytes of this sample, as they travel.
    pub fn as_bytes(&self) -> &[u8; SIZE] {
        // SAFETY: no padding (asserted above), so that every byte is initialized; the borrow keeps
        // the sample alive.
        unsafe { &*core::ptr::from_ref(self).cast() }
    }
}

#[cfg(test)]
#[path = "sample_tests.rs"]
mod tests;
