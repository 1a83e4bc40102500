//! Every map and the read-only settings. All are bounded; per-socket state is freed with its socket.
use aya_ebpf::{
    btf_maps::SkStorage,
    macros::{btf_map, map},
    maps::{Array, HashMap, PerCpuArray, PerCpuHashMap, RingBuf},
};
use ingress_trace_common::{
    aggregate::{Key, Value, loss},
    config::{Config, NAME_LEN},
};

use crate::{
    conn::Conn,
    link::{Failing, Finished, Released},
    unreadable::SLOTS,
};

const BPF_F_NO_PREALLOC: u32 = 1;

/// State of every watched socket.
#[btf_map]
pub static CONNECTIONS: SkStorage<Conn> = SkStorage::new();

/// Samples on their way to the agent: some 10,000, a tenth of a second of the worst storms. The agent
/// maps it twice, so that each byte counts twice as resident there.
#[map]
pub static SAMPLES: RingBuf = RingBuf::with_byte_size(1 << 22, 0);

/// Counts of what succeeded, and of what failed, per backend and status.
#[map]
pub static AGGREGATES: PerCpuHashMap<Key, Value> =
    PerCpuHashMap::with_max_entries(16384, BPF_F_NO_PREALLOC);

/// A zero value for new aggregates: built on the stack it would be a loop of stores.
#[map]
pub static ZERO: Array<Value> = Array::with_max_entries(1, 0);

/// What could not be done; see [`loss`].
#[map]
pub static LOSSES: PerCpuArray<u64> = PerCpuArray::with_max_entries(loss::COUNT, 0);

/// Slots of [`RELEASED`] and [`FINISHED`]: a thread has the one of its id's lowest bits.
pub const THREADS: u32 = 8192;

/// The failed attempt that a thread released last.
#[map]
pub static RELEASED: Array<Released> = Array::with_max_entries(THREADS, 0);

/// Until when `RELEASED` may hold something: spares the look-up while nothing fails.
#[map]
pub static RELEASED_UNTIL: Array<u64> = Array::with_max_entries(1, 0);

/// The newest failure of any attempt, and whether clients that waited then are told of.
#[map]
pub static FAILING: Array<Failing> = Array::with_max_entries(1, 0);

/// The complete exchange whose connection a thread released last.
#[map]
pub static FINISHED: Array<Finished> = Array::with_max_entries(THREADS, 0);

/// When a request that cannot be read was last sent to a backend; see [`crate::unreadable`].
#[map]
pub static UNREADABLE: Array<u64> = Array::with_max_entries(SLOTS, 0);

/// Names of the processes that are data planes (when `Config::names` is set).
#[map]
pub static NAMES: HashMap<[u8; NAME_LEN], u8> = HashMap::with_max_entries(64, 0);

/// Cgroups whose existing sockets are adopted; filled by the agent before it runs the iterator.
#[map]
pub static ADOPT_CGROUPS: HashMap<u64, u8> = HashMap::with_max_entries(4096, BPF_F_NO_PREALLOC);

/// Inodes of the data planes' sockets, likewise; sockets of other processes are not adopted.
#[map]
pub static ADOPT_INODES: HashMap<u64, u8> = HashMap::with_max_entries(131_072, BPF_F_NO_PREALLOC);

/// Ports that the iterated network namespace listens on; filled by the iterator itself.
#[map]
pub static LISTENING: HashMap<u16, u8> = HashMap::with_max_entries(4096, BPF_F_NO_PREALLOC);

#[unsafe(no_mangle)]
pub static CONFIG: Config = Config {
    slow: 0,
    http: 1,
    names: 0,
    sk_err: 0,
    sk_err_soft: 0,
    sk_owned: 0,
    sk_cgroup: 0,
    sk_socket: 0,
    cgroup_kn: 0,
    kn_id: 0,
    total_retrans: 0,
    snd_una: 0,
    snd_nxt: 0,
    rcv_nxt: 0,
    copied_seq: 0,
    tcp_clock: 0,
    task_tgid: 0,
    task_flags: 0,
    task_leader: 0,
    task_comm: 0,
    inode: 0,
    skc_daddr: 0,
    skc_rcv_saddr: 0,
    skc_v6_daddr: 0,
    skc_v6_rcv_saddr: 0,
    skc_dport: 0,
    skc_num: 0,
    skc_family: 0,
    skc_state: 0,
    sk_error_queue: 0,
    sk_error_qlen: 0,
    skb_cb: 0,
    ee_errno: 0,
};

/// Reads one setting. Volatile: the compiler must not fold the values that stand above.
macro_rules! config {
    ($field:ident) => {
        // SAFETY: CONFIG is a live static of plain integers.
        unsafe { core::ptr::read_volatile(&raw const crate::maps::CONFIG.$field) }
    };
}
pub(crate) use config;
