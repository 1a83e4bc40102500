//! Counts kept in the kernel: nothing travels for a success.

/// Upper bounds of the latency buckets in nanoseconds; one more bucket counts what is above.
pub const BOUNDS: [u64; 16] = [
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    25_000_000,
    50_000_000,
    100_000_000,
    250_000_000,
    500_000_000,
    1_000_000_000,
    2_500_000_000,
    5_000_000_000,
    10_000_000_000,
    30_000_000_000,
    60_000_000_000,
];
/// Number of latency buckets.
pub const BUCKETS: usize = BOUNDS.len() + 1;

/// The first bucket whose bound is not below `nanos`, in four comparisons.
#[inline(always)]
pub fn bucket(nanos: u64) -> usize {
    let mut low = 0;
    if nanos > BOUNDS[7] {
        low = 8;
    }
    if nanos > BOUNDS[low + 3] {
        low += 4;
    }
    if nanos > BOUNDS[low + 1] {
        low += 2;
    }
    if nanos > BOUNDS[low] {
        low += 1;
    }
    // Every step above leaves the answer within one of `low`; the last bound needs its own test.
    if low == BOUNDS.len() - 1 && nanos > BOUNDS[BOUNDS.len() - 1] {
        low += 1;
    }
    low
}

/// What an aggregate counts.
pub mod counted {
    /// Upstream exchanges that got a response, by status (0: not readable).
    pub const EXCHANGE: u8 = 1;
    /// Upstream connects that succeeded; only the histogram is of interest.
    pub const CONNECT: u8 = 2;
    /// Upstream exchanges and connects that failed without a response.
    pub const FAILURE: u8 = 3;
    /// Upstream first bytes later than the threshold.
    pub const SLOW: u8 = 4;
    /// Downstream responses by status (0: not readable).
    pub const RESPONSE: u8 = 5;
    /// Downstream exchanges that the client left before they were answered.
    pub const ABORT: u8 = 6;
}

/// Key of the aggregate map.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    /// The socket's cgroup, as in [`crate::sample::Sample::cgroup`].
    pub cgroup: u64,
    /// Backend address (IPv4 as v4-mapped); zero for downstream counts.
    pub address: [u8; 16],
    /// Backend port, or the local port for downstream counts; host order.
    pub port: u16,
    /// HTTP status, 0 when there is none.
    pub status: u16,
    /// See [`counted`].
    pub counted: u8,
    /// Zero.
    pub reserved: [u8; 3],
}
const _: () = assert!(core::mem::size_of::<Key>() == 8 + 16 + 2 + 2 + 1 + 3);

/// Value of the aggregate map (one per CPU). Wraps never in practice.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Value {
    /// How many.
    pub count: u64,
    /// Sum of the latencies in nanoseconds.
    pub sum: u64,
    /// Latencies by bucket ([`BOUNDS`]); not cumulative. Counts without a latency are in none.
    pub buckets: [u32; BUCKETS],
    /// Zero.
    pub reserved: u32,
}
const _: () = assert!(core::mem::size_of::<Value>() == 8 + 8 + BUCKETS * 4 + 4);

/// Counters of what the kernel side itself could not do; index into the loss map.
pub mod loss {
    /// The ring buffer was full: a sample was not sent.
    pub const RING: u32 = 0;
    /// The aggregate map was full: a count went to the catch-all key (all zero but `counted`).
    pub const AGGREGATE: u32 = 1;
    /// No state could be attached to a socket (`bpf_sk_storage_get` failed): it is not watched.
    pub const STORAGE: u32 = 2;
    /// What a thread had released was still waited for when another thread took its slot: a retry,
    /// an answer or a refusal may not be recognized.
    pub const LINK: u32 = 3;
    /// How many there are.
    pub const COUNT: u32 = 4;
}

// SAFETY: repr(C), integers only, no padding (asserted above), any bit pattern is valid.
#[cfg(feature = "user")]
unsafe impl aya::Pod for Key {}
// SAFETY: as above.
#[cfg(feature = "user")]
unsafe impl aya::Pod for Value {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bucket_is_the_first_whose_bound_is_not_below() {
        for (i, bound) in BOUNDS.iter().enumerate() {
            assert_eq!(bucket(*bound), i);
            assert_eq!(bucket(bound + 1), i + 1);
        }
        assert_eq!(bucket(0), 0);
        assert_eq!(bucket(u64::MAX), BOUNDS.len());
    }
}
