//! In: the bytes of one sample. Out: a typed event. Pure; never fails on a sample of ours, never
//! panics on anything else.
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use ingress_trace_common::http::framing;
use ingress_trace_common::sample::{self, Sample, flag, kind, phase, proto, role};

use crate::cause::taxonomy::{Phase, Protocol};
use crate::finding::Request;

/// Why some bytes are no event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Not the size of a sample: kernel and user side do not match.
    #[error("a sample of {0} bytes where {size} are expected", size = sample::SIZE)]
    Size(usize),
    /// A field with a value that has no meaning.
    #[error("a sample whose {0} is {1}")]
    Field(&'static str, u8),
}

/// One exchange (or connect) of one connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ExchangeId {
    /// Socket cookie.
    pub cookie: u64,
    /// 1-based; a connect counts as the first.
    pub number: u32,
}

/// Which leg.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leg {
    /// Controller to backend.
    Upstream,
    /// Client to controller.
    Downstream,
}

/// What happened; see [`sample::kind`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A connect ended in nothing.
    ConnectFailed,
    /// A connect failed before any packet.
    ConnectLocal,
    /// The peer's RST.
    Reset,
    /// The peer's FIN.
    Closed,
    /// The application closed with an exchange open.
    GaveUp,
    /// Our kernel gave the connection up.
    Broken,
    /// A response that is worth telling began.
    Response,
    /// A failed attempt's connection was released.
    Released,
    /// An attempt follows a failed one.
    Retry,
    /// A write to a client follows a failed attempt.
    DownWrite,
    /// A client's connection ended.
    DownEnd,
    /// A client got an error although a complete response had come; `remote` is the backend.
    Refused,
}

/// Facts of [`sample::flag`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flags(pub u16);

impl Flags {
    /// Whether any of these bits is set.
    pub fn any(self, bits: u16) -> bool {
        self.0 & bits != 0
    }
}

/// What is no response, by its first two bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strange {
    /// A record of TLS; of an alert in a handshake its description (RFC 8446 section 6).
    Tls(Option<u8>),
    /// HTTP/1.
    Http1,
    /// Something else.
    Unknown,
}

impl Strange {
    fn of(bytes: [u8; 2]) -> Self {
        match bytes {
            // Record types, and the version that every record names first.
            [0x14..=0x17, 3] => Self::Tls(None),
            [0x15, description] => Self::Tls(Some(description)),
            [b'H', b'T'] => Self::Http1,
            _ => Self::Unknown,
        }
    }
}

/// One event. Times in monotonic nanoseconds.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// When it happened.
    pub time: u64,
    /// What.
    pub kind: Kind,
    /// On which leg.
    pub leg: Leg,
    /// Of which exchange.
    pub exchange: ExchangeId,
    /// The failed attempt that the same thread released just before.
    pub prev: Option<ExchangeId>,
    /// Cgroup id of the socket.
    pub cgroup: u64,
    /// Acting thread, where the hook ran in process context.
    pub tid: Option<u32>,
    /// Process that used the connection; 0 when not known (adopted connections).
    pub pid: u32,
    /// Where the exchange was.
    pub phase: Phase,
    /// What the leg carries; `None` when nothing was seen.
    pub protocol: Option<Protocol>,
    /// Connection facts.
    pub flags: Flags,
    /// How the response's end is told ([`framing`]).
    pub framing: u8,
    /// `connect()` or accept.
    pub connect_time: Option<u64>,
    /// End of the handshake.
    pub established_time: Option<u64>,
    /// Request's first byte.
    pub request_time: Option<u64>,
    /// Response's first byte.
    pub response_time: Option<u64>,
    /// Response's newest byte; of [`Kind::DownWrite`], the newest before what is written.
    pub last_time: Option<u64>,
    /// When the controller had last sent a backend what cannot be read; on a client's leg only.
    pub unreadable_time: Option<u64>,
    /// Idle before this exchange, nanoseconds; `None` on the first.
    pub idle: Option<u64>,
    /// Request bytes.
    pub request_bytes: u64,
    /// Response bytes.
    pub response_bytes: u64,
    /// Response bytes that the framing asks for; 0 when it does not say.
    pub expected_bytes: u64,
    /// `sk_err`.
    pub errno: Option<u32>,
    /// Segments retransmitted.
    pub retransmits: u32,
    /// Request bytes acknowledged by the peer's kernel.
    pub acked: u32,
    /// Response bytes that the application had not read.
    pub unread: u32,
    /// The connection was still in its TLS handshake.
    pub handshake: bool,
    /// HTTP status.
    pub status: Option<u16>,
    /// What began where a response should have.
    pub strange: Option<Strange>,
    /// Our end.
    pub local: SocketAddr,
    /// The peer.
    pub remote: SocketAddr,
    /// Where the connection really led, where the node translates the destination; asked for when
    /// the event comes, no part of the sample.
    pub leads: Option<SocketAddr>,
    /// Whether no route that is seen leads there, of a failed attempt without words; as `leads`, no part
    /// of the sample.
    pub unrouted: bool,
    /// Request head, where it was read.
    pub request: Option<Request>,
}

impl Event {
    /// Decodes one sample.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let sample = Sample::from_bytes(bytes).ok_or(DecodeError::Size(bytes.len()))?;
        if sample.framing > framing::UNKNOWN {
            return Err(DecodeError::Field("framing", sample.framing));
        }
        let flags = Flags(sample.flags);
        let strange = flags
            .any(flag::NOT_HTTP)
            .then(|| Strange::of(sample.status.to_be_bytes()));
        Ok(Self {
            time: sample.time,
            kind: kind_of(sample.kind)?,
            leg: leg_of(sample.role)?,
            exchange: exchange(sample.cookie, sample.exchange),
            prev: (sample.prev_cookie != 0)
                .then(|| exchange(sample.prev_cookie, sample.prev_exchange)),
            cgroup: sample.cgroup,
            tid: flags.any(flag::PROCESS).then_some(sample.tid),
            pid: sample.tgid,
            phase: phase_of(sample.phase)?,
            protocol: protocol_of(sample.proto)?,
            flags,
            framing: sample.framing,
            connect_time: some(sample.connect_time),
            established_time: some(sample.established_time),
            request_time: some(sample.request_time),
            response_time: some(sample.response_time),
            last_time: some(sample.last_time),
            unreadable_time: some(sample.unreadable_time),
            idle: some(sample.idle),
            request_bytes: sample.request_bytes,
            response_bytes: sample.response_bytes,
            expected_bytes: sample.expected_bytes,
            errno: (sample.errno != 0).then_some(sample.errno),
            retransmits: sample.retransmits,
            acked: sample.acked,
            unread: sample.unread,
            handshake: sample.proto == proto::TLS && sample.exchange == 0,
            status: (sample.status != 0 && strange.is_none()).then_some(sample.status),
            strange,
            local: address(sample.local_address, sample.local_port),
            remote: address(sample.remote_address, sample.remote_port),
            leads: None,
            unrouted: false,
            request: request(&sample),
        })
    }

    /// Whether the connection had carried another exchange before.
    pub fn reused(&self) -> bool {
        self.exchange.number > 1 || self.flags.any(flag::ADOPTED)
    }

    /// Whether the connection broke before the request that it was made for was sent.
    pub fn unsent(&self) -> bool {
        self.kind == Kind::Reset && self.phase == Phase::Idle
    }

    /// Whether nothing could be sent: the connect failed, or what it had made broke.
    pub fn before_request(&self) -> bool {
        self.kind == Kind::ConnectFailed || self.unsent()
    }

    /// Whether it is the failure of an attempt, by its kind alone.
    pub fn is_attempt_failed(&self) -> bool {
        let other = matches!(self.kind, Kind::Response | Kind::Released | Kind::Retry);
        self.leg == Leg::Upstream && !other
    }

    /// Whether the head of its response had come: what was relayed of it cannot be taken back.
    pub fn head_complete(&self) -> bool {
        self.phase == Phase::Response && self.status.is_some() && self.framing != framing::HEAD_CUT
    }

    /// When the exchange (or the connect, where there was none) began.
    pub fn began(&self) -> Option<u64> {
        self.request_time.or(self.connect_time)
    }
}

fn exchange(cookie: u64, number: u32) -> ExchangeId {
    ExchangeId {
        cookie,
        number: number.max(1),
    }
}

fn some(time: u64) -> Option<u64> {
    (time != 0).then_some(time)
}

fn kind_of(value: u8) -> Result<Kind, DecodeError> {
    Ok(match value {
        kind::CONNECT_FAILED => Kind::ConnectFailed,
        kind::CONNECT_LOCAL => Kind::ConnectLocal,
        kind::RESET => Kind::Reset,
        kind::CLOSED => Kind::Closed,
        kind::GAVE_UP => Kind::GaveUp,
        kind::BROKEN => Kind::Broken,
        kind::RESPONSE => Kind::Response,
        kind::RELEASED => Kind::Released,
        kind::RETRY => Kind::Retry,
        kind::DOWN_WRITE => Kind::DownWrite,
        kind::DOWN_END => Kind::DownEnd,
        kind::REFUSED => Kind::Refused,
        other => return Err(DecodeError::Field("kind", other)),
    })
}

fn leg_of(value: u8) -> Result<Leg, DecodeError> {
    match value {
        role::UPSTREAM => Ok(Leg::Upstream),
        role::DOWNSTREAM => Ok(Leg::Downstream),
        other => Err(DecodeError::Field("role", other)),
    }
}

fn phase_of(value: u8) -> Result<Phase, DecodeError> {
    match value {
        phase::CONNECT => Ok(Phase::Connect),
        phase::IDLE => Ok(Phase::Idle),
        phase::REQUEST => Ok(Phase::Request),
        phase::RESPONSE => Ok(Phase::Response),
        other => Err(DecodeError::Field("phase", other)),
    }
}

fn protocol_of(value: u8) -> Result<Option<Protocol>, DecodeError> {
    match value {
        proto::UNKNOWN => Ok(None),
        proto::HTTP1 => Ok(Some(Protocol::Http1)),
        proto::TLS => Ok(Some(Protocol::Tls)),
        proto::HTTP2 => Ok(Some(Protocol::Http2)),
        proto::OPAQUE | proto::UNREAD => Ok(Some(Protocol::Opaque)),
        other => Err(DecodeError::Field("protocol", other)),
    }
}

fn address(octets: [u8; 16], port: u16) -> SocketAddr {
    let address = Ipv6Addr::from(octets);
    SocketAddr::new(
        address
            .to_ipv4_mapped()
            .map_or(IpAddr::V6(address), IpAddr::V4),
        port,
    )
}

fn request(sample: &Sample) -> Option<Request> {
    let text = |bytes: &[u8], len: u8| {
        let bytes = bytes.get(..usize::from(len)).unwrap_or(bytes);
        String::from_utf8_lossy(bytes).into_owned()
    };
    if sample.method_len == 0 {
        return None;
    }
    let host = text(&sample.host, sample.host_len);
    let target = text(&sample.path, sample.path_len);
    let (host, path) = absolute(&target).unwrap_or((host, target));
    Some(Request {
        method: text(&sample.method, sample.method_len),
        host: (!host.is_empty()).then_some(host),
        path,
    })
}

/// Host and path of a target in absolute form (RFC 9112 section 3.2.2), as clients send it to a
/// proxy.
fn absolute(target: &str) -> Option<(String, String)> {
    let rest = target
        .strip_prefix("http://")
        .or_else(|| target.strip_prefix("https://"))?;
    let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    // Credentials stay here.
    let host = host.rsplit('@').next().unwrap_or(host);
    let path = if path.is_empty() { "/" } else { path };
    Some((host.to_owned(), path.to_owned()))
}

#[cfg(test)]
#[path = "event_example.rs"]
pub(crate) mod example;

#[cfg(test)]
#[path = "event_tests.rs"]
mod tests;
