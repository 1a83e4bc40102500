//! One packet: its TCP header and safe access to its payload.
use core::mem::MaybeUninit;

use aya_ebpf::{bindings::__sk_buff, helpers::bpf_skb_load_bytes};

use crate::sock::{now, now_coarse};

const IPPROTO_TCP: u8 = 6;
/// TCP flag bits as they stand in the header.
pub const FIN: u8 = 1;
/// See [`FIN`].
pub const SYN: u8 = 2;
/// See [`FIN`].
pub const RST: u8 = 4;
/// See [`FIN`].
pub const ACK: u8 = 16;

/// A TCP segment (or a GSO/GRO super-packet, which looks like one).
pub struct Packet {
    skb: *mut __sk_buff,
    /// Offset of the payload.
    offset: u32,
    /// Payload bytes.
    pub len: u32,
    /// Sequence number of the first payload byte.
    pub seq: u32,
    /// Acknowledgement number, valid with [`ACK`].
    pub ack: u32,
    /// Flag bits.
    pub flags: u8,
    /// Leaves this host's socket, else comes in.
    pub egress: bool,
    /// The clock as TCP has just read it, 0 where it has not.
    pub clock: u64,
}

/// Hides the range of a value from the compiler, so that the verifier sees the explicit checks.
#[inline(always)]
pub fn opaque(mut x: u64) -> u64 {
    // SAFETY: no instruction but a move onto itself.
    unsafe {
        core::arch::asm!("{0} = {0}", inout(reg) x, options(nomem, nostack, preserves_flags));
    }
    x
}

impl Packet {
    /// Reads the headers; `None` for anything but TCP with something to learn: data, or
    /// the peer's FIN or RST.
    ///
    /// # Safety
    /// `skb` must be the context of a cgroup_skb program.
    #[inline(always)]
    pub unsafe fn read(skb: *mut __sk_buff, egress: bool) -> Option<Self> {
        // SAFETY: the context's own fields.
        let (data, end, total) =
            unsafe { ((*skb).data as usize, (*skb).data_end as usize, (*skb).len) };
        if data + 40 > end {
            return None;
        }
        macro_rules! at {
            ($offset:expr, $type:ty) => {
                // SAFETY: each use stands behind a comparison with `end`, which the verifier checks.
                unsafe { *(($offset) as *const $type) }
            };
        }
        let first = at!(data, u8);
        let ip_len = match first >> 4 {
            4 if at!(data + 9, u8) == IPPROTO_TCP => ((first & 15) as usize) * 4,
            6 if at!(data + 6, u8) == IPPROTO_TCP => 40,
            _ => return None,
        };
        let tcp = data + ip_len;
        if tcp + 20 > end {
            return None;
        }
        let flags = at!(tcp + 13, u8);
        let tcp_len = ((at!(tcp + 12, u8) >> 4) as usize) * 4;
        let offset = (ip_len + tcp_len) as u32;
        let len = total.wrapping_sub(offset);
        let telling = len != 0 || (!egress && flags & (FIN | RST) != 0);
        if !telling || flags & SYN != 0 {
            return None;
        }
        let seq = u32::from_be(at!(tcp + 4, u32));
        let ack = u32::from_be(at!(tcp + 8, u32));
        Some(Self {
            skb,
            offset,
            len,
            seq,
            ack,
            flags,
            egress,
            clock: 0,
        })
    }

    /// When it passes, in monotonic nanoseconds.
    #[inline(always)]
    pub fn time(&self) -> u64 {
        if self.clock != 0 { self.clock } else { now() }
    }

    /// The same, but a few ms old where the clock would have to be read.
    #[inline(always)]
    pub fn time_coarse(&self) -> u64 {
        if self.clock != 0 {
            self.clock
        } else {
            now_coarse()
        }
    }

    /// Sequence number behind the last payload byte.
    #[inline(always)]
    pub fn end(&self) -> u32 {
        self.seq.wrapping_add(self.len)
    }

    /// Copies up to `N` payload bytes from `skip` on into `into`; returns how many.
    #[inline(always)]
    pub fn copy<const N: usize>(&self, skip: u32, into: *mut u8) -> u32 {
        if skip >= self.len {
            return 0;
        }
        // `most` in 0..N, so that `most + 1` is in 1..=N: verifiers before 6.8 learn nothing
        // from "is not zero".
        let mut most = opaque((self.len - skip) as u64 - 1);
        if most > N as u64 - 1 {
            most = N as u64 - 1;
        }
        let count = (most + 1) as u32;
        // SAFETY: `into` has room for N bytes (callers pass buffers of that size), `count` <= N.
        let failed =
            unsafe { bpf_skb_load_bytes(self.skb.cast(), self.offset + skip, into.cast(), count) };
        if failed == 0 { count } else { 0 }
    }

    /// Copies up to `N` payload bytes behind the first `at` (below `ROOM`, a power of two) bytes of
    /// a buffer; returns how many.
    #[inline(always)]
    pub fn append<const N: usize, const ROOM: usize>(&self, to: *mut u8, at: u32) -> u32 {
        let at = opaque(at as u64) as usize & (ROOM - 1);
        self.copy::<N>(0, to.wrapping_add(at))
    }

    /// `N` payload bytes from `skip` on, when there are that many.
    #[inline(always)]
    pub fn bytes<const N: usize>(&self, skip: u32) -> Option<[u8; N]> {
        if skip + N as u32 > self.len {
            return None;
        }
        // Not zeroed before: that would be a loop of stores of single bytes.
        let mut bytes = MaybeUninit::<[u8; N]>::uninit();
        // SAFETY: the buffer is N bytes long.
        let failed = unsafe {
            bpf_skb_load_bytes(
                self.skb.cast(),
                self.offset + skip,
                bytes.as_mut_ptr().cast(),
                N as u32,
            )
        };
        if failed == 0 {
            // SAFETY: the helper has written all of it.
            Some(unsafe { bytes.assume_init() })
        } else {
            None
        }
    }

    /// The last eight bytes of the packet; header bytes stand in front of a shorter payload.
    #[inline(always)]
    pub fn last(&self) -> [u8; 8] {
        let mut bytes = [0u8; 8];
        let at = self.offset + self.len - 8;
        // SAFETY: the buffer is 8 bytes long; a packet has at least 40 bytes.
        unsafe { bpf_skb_load_bytes(self.skb.cast(), at, bytes.as_mut_ptr().cast(), 8) };
        bytes
    }
}
