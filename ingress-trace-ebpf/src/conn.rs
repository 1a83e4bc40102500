//! State of one watched connection. Lives in socket storage and dies with the socket.
use core::ffi::c_void;

use aya_ebpf::{bindings::BPF_SK_STORAGE_GET_F_CREATE, helpers::bpf_sk_storage_get};
use ingress_trace_common::{
    aggregate::loss,
    http::{RequestHead, ResponseHead, Scan, completeness, framing},
    sample::{flag, phase, proto, role},
};

use crate::{count::lost, maps::CONNECTIONS, sock::Ends};

/// [`Conn::server`]: known once the process has sent something.
pub mod server {
    /// Not known yet.
    pub const UNKNOWN: u8 = 0;
    /// A data plane.
    pub const DATA_PLANE: u8 = 1;
    /// Another process of the pod (health, metrics, admission): not watched.
    pub const OTHER: u8 = 2;
}

/// Zero-initialized by the kernel. Times in monotonic nanoseconds; sequence numbers as in TCP.
/// In the order of use: what every exchange touches is in the first three cache lines, of which the
/// first begins with eight bytes of the kernel's.
#[repr(C)]
pub struct Conn {
    pub role: u8,
    /// Whose process answers on an accepted connection ([`server`]).
    pub server: u8,
    pub phase: u8,
    pub proto: u8,
    pub framing: u8,
    // Bytes of their own and not bits of `flags`: they are written without the socket's lock, by
    // hooks that may run on two CPUs at once.
    /// The peer's FIN came.
    pub fin_in: u8,
    /// The peer's RST came.
    pub rst_in: u8,
    /// The application let go of the socket.
    pub released: u8,
    pub flags: u16,
    pub status: u16,
    pub local_port: u16,
    pub remote_port: u16,
    /// Highest sequence number seen in the request's direction.
    pub request_end: u32,
    /// Where the current request began.
    pub request_start: u32,
    /// Where the next request must begin.
    pub request_next: u32,
    /// Highest sequence number seen in the response's direction.
    pub response_end: u32,
    /// Where the current response begins.
    pub response_start: u32,
    pub exchange: u32,
    pub request_kept: u32,
    pub response_kept: u32,
    /// Newest response byte.
    pub last_time: u64,
    pub request_time: u64,
    pub response_time: u64,
    /// Idle before the current exchange.
    pub idle: u64,
    pub request_bytes: u64,
    pub response_bytes: u64,
    /// Last bytes of the response, kept where the framing needs them. Upstream TLS: whether the
    /// newest bytes were an alert; HTTP/2: the stream of this exchange.
    pub tail: u64,
    /// Failed attempt that this exchange follows (retry, or answer to the client).
    pub prev_cookie: u64,
    pub cgroup: u64,
    pub remote: [u32; 4],
    /// Valid once `framing` is known.
    pub scan: Scan,
    /// Where a value goes for the verifier to forget it.
    pub scratch: u64,
    pub cookie: u64,
    pub connect_time: u64,
    pub established_time: u64,
    /// What the peer's RST acknowledged; before one, the peer by the time of the application's own end.
    pub reset_ack: u32,
    pub prev_exchange: u32,
    /// Thread and process that connected.
    pub tid: u32,
    pub tgid: u32,
    pub local: [u32; 4],
    /// Number of the failure at which this client was told of last.
    pub told: u32,
    /// SYN_SENT was entered: routing had succeeded.
    pub syn_sent: u8,
    /// The peer's RST carried an ACK.
    pub rst_ack: u8,
    /// The application's close was seen by TCP: what follows of it tells nothing.
    pub ended: u8,
    /// The application had ended its own side before the peer did, and still holds the socket
    /// (HAProxy).
    pub shut: u8,
    pub request_head: RequestHead,
    pub response_head: ResponseHead,
}

impl Conn {
    /// Its argument, but as a value that the verifier does not know any more.
    #[inline(always)]
    pub fn forget(&self, value: u32) -> u32 {
        let scratch = (&raw const self.scratch).cast_mut();
        // SAFETY: a word of ours that nothing else reads; volatile, so that the value really goes
        // through memory.
        unsafe {
            core::ptr::write_volatile(scratch, value as u64);
            core::ptr::read_volatile(scratch) as u32
        }
    }

    /// The state of a socket, if it is watched.
    ///
    /// # Safety
    /// `sk` must be a socket pointer that the verifier accepts for `bpf_sk_storage_get`.
    #[inline(always)]
    pub unsafe fn of(sk: *mut c_void) -> Option<&'static mut Self> {
        // SAFETY: promised by the caller.
        unsafe { Self::get(sk, 0) }
    }

    /// The state of a socket, made when there is none. Counts a failure (`net.core.optmem_max`).
    ///
    /// # Safety
    /// As for [`Self::of`].
    #[inline(always)]
    pub unsafe fn create(sk: *mut c_void) -> Option<&'static mut Self> {
        // SAFETY: promised by the caller.
        let conn = unsafe { Self::get(sk, BPF_SK_STORAGE_GET_F_CREATE as u64) };
        if conn.is_none() {
            lost(loss::STORAGE);
        }
        conn
    }

    #[inline(always)]
    unsafe fn get(sk: *mut c_void, flags: u64) -> Option<&'static mut Self> {
        // SAFETY: the map is a live static, `sk` as promised. The value lives as long as the
        // socket, which outlives the program run; programs on the same socket are serialized by
        // its lock, and where they are not, fields are plain integers that only statistics read.
        unsafe {
            let map = (&raw const CONNECTIONS).cast_mut().cast();
            let value = bpf_sk_storage_get(map, sk, core::ptr::null_mut(), flags).cast::<Self>();
            if value.is_null() {
                None
            } else {
                Some(&mut *value)
            }
        }
    }

    #[inline(always)]
    pub fn upstream(&self) -> bool {
        self.role == role::UPSTREAM
    }

    #[inline(always)]
    pub fn has(&self, flag: u16) -> bool {
        self.flags & flag != 0
    }

    /// Whether it stopped to speak HTTP (101), and nothing was sent to the backend since.
    #[inline(always)]
    pub fn switched(&self) -> bool {
        self.status == 101
            && self.proto == proto::OPAQUE
            && self.upstream()
            && self.request_end == self.request_next
    }

    /// All facts, as they travel.
    #[inline(always)]
    pub fn all_flags(&self) -> u16 {
        let bit = |set: u8, flag: u16| if set != 0 { flag } else { 0 };
        self.flags
            | bit(self.fin_in, flag::FIN_IN)
            | bit(self.rst_in, flag::RST_IN)
            | bit(self.rst_ack, flag::RST_ACK)
            | bit(self.released, flag::RELEASED)
    }

    #[inline(always)]
    pub fn set_ends(&mut self, ends: &Ends) {
        self.local = ends.local;
        self.remote = ends.remote;
        self.local_port = ends.local_port;
        self.remote_port = ends.remote_port;
    }

    /// Notes where both byte streams start: the next numbers to send and to receive.
    #[inline(always)]
    pub fn set_streams(&mut self, sent: u32, received: u32) {
        let (request, response) = if self.upstream() {
            (sent, received)
        } else {
            (received, sent)
        };
        self.request_end = request;
        self.request_start = request;
        self.request_next = request;
        self.response_end = response;
        self.response_start = response;
    }

    #[inline(always)]
    pub fn remote_bytes(&self) -> [u8; 16] {
        bytes(self.remote)
    }

    #[inline(always)]
    pub fn local_bytes(&self) -> [u8; 16] {
        bytes(self.local)
    }

    /// Request bytes that the peer's kernel acknowledged, given our lowest unacknowledged number.
    #[inline(always)]
    pub fn acknowledged(&self, unacknowledged: u32) -> u32 {
        if !self.upstream() {
            return 0;
        }
        let mut acked = unacknowledged.wrapping_sub(self.request_start);
        if acked as i32 <= 0 {
            acked = 0;
        }
        if self.rst_ack != 0 {
            let reset = self.reset_ack.wrapping_sub(self.request_start);
            if reset as i32 > acked as i32 {
                acked = reset;
            }
        }
        // A FIN of ours counts one; it is no request byte.
        if acked as u64 > self.request_bytes {
            self.request_bytes as u32
        } else {
            acked
        }
    }

    /// Corrects the count of response bytes by what TCP has received in order (`received`, without
    /// a FIN): packets of one connection may be seen by two CPUs at once, before the socket's lock.
    #[inline(always)]
    pub fn correct_response_bytes(&mut self, received: u32) {
        if self.proto == proto::HTTP1 && self.phase != phase::IDLE && self.response_bytes != 0 {
            let exact = received.wrapping_sub(self.response_start);
            let off = exact.wrapping_sub(self.response_bytes as u32) as i32;
            self.response_bytes = self.response_bytes.wrapping_add(off as i64 as u64);
        }
    }

    /// Whether the current response is complete ([`ingress_trace_common::http::complete`]).
    #[inline(always)]
    pub fn complete(&mut self, fin: bool) -> u8 {
        if self.proto != proto::HTTP1 || self.phase != phase::RESPONSE {
            return ingress_trace_common::http::complete::UNSURE;
        }
        if self.framing == framing::UNSCANNED || self.framing == framing::HEAD_CUT {
            crate::exchange::scan(self);
        }
        let expected = ingress_trace_common::http::expected(&self.scan, self.framing);
        let done = completeness(self.framing, expected, self.response_bytes, self.tail, fin);
        if done == ingress_trace_common::http::complete::UNSURE {
            // Whoever hears of it must know that these bytes do not tell.
            self.framing = framing::UNKNOWN;
        }
        done
    }
}

/// An address as it travels.
#[inline(always)]
pub fn bytes(words: [u32; 4]) -> [u8; 16] {
    // SAFETY: same size, any bit pattern is valid; the words are in network order already.
    unsafe { core::mem::transmute(words) }
}
