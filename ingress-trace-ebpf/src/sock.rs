//! The only reader of kernel structs: sockets, TCP state and the current task. Offsets come from
//! the running kernel's BTF ([`ingress_trace_common::config::Config`]).
use core::ffi::c_void;

use aya_ebpf::{
    bindings::bpf_sock,
    helpers::{
        bpf_get_current_task_btf, bpf_ktime_get_ns, bpf_probe_read_kernel, bpf_skc_to_tcp_sock,
        generated::bpf_ktime_get_coarse_ns,
    },
};
use ingress_trace_common::config::NAME_LEN;

use crate::maps::{NAMES, config};

/// `PF_EXITING` of `include/linux/sched.h`.
const PF_EXITING: u32 = 4;
const AF_INET: u16 = 2;

/// Monotonic nanoseconds.
#[inline(always)]
pub fn now() -> u64 {
    // SAFETY: the helper has no preconditions.
    unsafe { bpf_ktime_get_ns() }
}

/// Monotonic nanoseconds as of the last tick: a few ms old, and cheap.
#[inline(always)]
pub fn now_coarse() -> u64 {
    // SAFETY: the helper has no preconditions.
    unsafe { bpf_ktime_get_coarse_ns() }
}

/// A `struct tcp_sock` that the verifier knows as such.
#[derive(Clone, Copy)]
pub struct Tcp(*const u8);

impl Tcp {
    /// The TCP side of a socket; `None` for anything that is no full TCP socket.
    ///
    /// # Safety
    /// `sk` must be a socket pointer that the verifier accepts (`sk` of a context, or a
    /// tracepoint's argument), valid for the run of the program.
    #[inline(always)]
    pub unsafe fn of(sk: *mut c_void) -> Option<Self> {
        // SAFETY: promised by the caller.
        let tcp = unsafe { bpf_skc_to_tcp_sock(sk) }.cast::<u8>();
        if tcp.is_null() { None } else { Some(Self(tcp)) }
    }

    #[inline(always)]
    fn field<T>(self, offset: u32) -> T {
        // SAFETY: the pointer is a checked `struct tcp_sock`, the offset is a field's, from BTF;
        // the verifier turns the load into a fault-tolerant one.
        unsafe { core::ptr::read_volatile(self.0.add(offset as usize).cast()) }
    }

    /// `sk_err`, a positive errno.
    #[inline(always)]
    pub fn error(self) -> u32 {
        self.field(config!(sk_err))
    }

    /// An ICMP error that came while a process worked on the socket: `sk_err_soft`, and where the
    /// application has read that (`SO_ERROR` clears it), what waits in the error queue.
    #[inline(always)]
    pub fn soft_error(self) -> u32 {
        let soft: u32 = self.field(config!(sk_err_soft));
        if soft != 0 || self.field::<u32>(config!(sk_error_qlen)) == 0 {
            return soft;
        }
        let report: *const u8 = self.field(config!(sk_error_queue));
        let at = report.wrapping_add((config!(skb_cb) + config!(ee_errno)) as usize);
        // SAFETY: bpf_probe_read_kernel checks the address; the queue's first buffer carries a
        // `struct sock_exterr_skb`.
        unsafe { bpf_probe_read_kernel(at.cast::<u32>()) }.unwrap_or(0)
    }

    /// Whether a process (and not a softirq) is working on the socket.
    #[inline(always)]
    pub fn owned(self) -> bool {
        self.field::<u32>(config!(sk_owned)) & 1 != 0
    }

    /// `total_retrans`, SYNs included.
    #[inline(always)]
    pub fn retransmits(self) -> u32 {
        self.field(config!(total_retrans))
    }

    /// Lowest sequence number that is not acknowledged.
    #[inline(always)]
    pub fn unacknowledged(self) -> u32 {
        self.field(config!(snd_una))
    }

    /// Bytes that came in order and that the application has not read.
    #[inline(always)]
    pub fn unread(self) -> u32 {
        let unread = self
            .receive_next()
            .wrapping_sub(self.field(config!(copied_seq)));
        // A FIN counts one; after the application has closed, the queue is dropped and counted.
        if unread as i32 <= 1 { 0 } else { unread }
    }

    /// The clock as TCP read it when it began to send: where it is sending, some microseconds old,
    /// and for nothing.
    #[inline(always)]
    pub fn clock(self) -> u64 {
        self.field(config!(tcp_clock))
    }

    /// Next sequence number to send.
    #[inline(always)]
    pub fn send_next(self) -> u32 {
        self.field(config!(snd_nxt))
    }

    /// Next sequence number expected.
    #[inline(always)]
    pub fn receive_next(self) -> u32 {
        self.field(config!(rcv_nxt))
    }

    /// Both ends, from `struct sock_common`.
    #[inline(always)]
    pub fn ends(self) -> Ends {
        let local_port = self.local_port();
        let remote_port = u16::from_be(self.field(config!(skc_dport)));
        if self.field::<u16>(config!(skc_family)) == AF_INET {
            let local = mapped(self.field(config!(skc_rcv_saddr)));
            let remote = mapped(self.field(config!(skc_daddr)));
            return Ends {
                local,
                remote,
                local_port,
                remote_port,
            };
        }
        Ends {
            local: self.words(config!(skc_v6_rcv_saddr)),
            remote: self.words(config!(skc_v6_daddr)),
            local_port,
            remote_port,
        }
    }

    #[inline(always)]
    fn words(self, offset: u32) -> [u32; 4] {
        [
            self.field(offset),
            self.field(offset + 4),
            self.field(offset + 8),
            self.field(offset + 12),
        ]
    }

    /// Local port, host order.
    #[inline(always)]
    pub fn local_port(self) -> u16 {
        self.field(config!(skc_num))
    }

    /// TCP state (`BPF_TCP_*`).
    #[inline(always)]
    pub fn state(self) -> u8 {
        self.field(config!(skc_state))
    }

    /// The socket's cgroup: kernfs node id, the inode of its folder.
    #[inline(always)]
    pub fn cgroup(self) -> u64 {
        let cgroup: *const u8 = self.field(config!(sk_cgroup));
        let (kn, id) = (config!(cgroup_kn) as usize, config!(kn_id) as usize);
        // SAFETY: a full socket holds a reference on its cgroup, which holds its kernfs node; both
        // loads are checked by the verifier through BTF.
        unsafe {
            let node: *const u8 = core::ptr::read_volatile(cgroup.add(kn).cast());
            core::ptr::read_volatile(node.add(id).cast())
        }
    }

    /// Inode of the socket as `/proc/PID/fd` shows it, 0 when no process holds it.
    #[inline(always)]
    pub fn inode(self) -> u64 {
        let socket: *const u8 = self.field(config!(sk_socket));
        if socket.is_null() {
            return 0;
        }
        let at = socket.wrapping_add(config!(inode) as usize).cast::<u64>();
        // SAFETY: bpf_probe_read_kernel checks the address; the inode is allocated together with
        // the socket (`struct socket_alloc`).
        unsafe { bpf_probe_read_kernel(at) }.unwrap_or(0)
    }
}

/// The current task.
#[derive(Clone, Copy)]
pub struct Task(*const u8);

impl Task {
    /// Meaningful in process context only.
    #[inline(always)]
    pub fn current() -> Self {
        // SAFETY: the helper has no preconditions.
        Self(unsafe { bpf_get_current_task_btf() } as *const u8)
    }

    #[inline(always)]
    fn field<T>(self, offset: u32) -> T {
        // SAFETY: a `struct task_struct` that the verifier knows as such; the offset is a field's.
        unsafe { core::ptr::read_volatile(self.0.add(offset as usize).cast()) }
    }

    /// Thread and process id in the initial namespace.
    #[inline(always)]
    pub fn ids(self) -> (u32, u32) {
        // `pid` stands right before `tgid` in task_struct.
        (
            self.field(config!(task_tgid) - 4),
            self.field(config!(task_tgid)),
        )
    }

    /// Whether the process is going away and its descriptors with it.
    #[inline(always)]
    pub fn exiting(self) -> bool {
        self.field::<u32>(config!(task_flags)) & PF_EXITING != 0
    }

    /// Whether its process is one of those that are watched.
    #[inline(always)]
    pub fn is_data_plane(self) -> bool {
        // SAFETY: a map look-up that copies nothing.
        config!(names) == 0 || unsafe { NAMES.get(self.name()) }.is_some()
    }

    /// Whether it is Envoy's main thread: it asks the control plane and the backends' health, and
    /// serves the administrator; requests of clients are its workers' (Envoy's threading model).
    #[inline(always)]
    pub fn administers(self) -> bool {
        let (thread, process) = self.ids();
        thread == process && self.name() == *b"envoy\0\0\0\0\0\0\0\0\0\0\0"
    }

    /// Name of the process' main thread (worker threads of Envoy have names of their own).
    #[inline(always)]
    pub fn name(self) -> [u8; NAME_LEN] {
        let leader = Self(self.field(config!(task_leader)));
        let comm = config!(task_comm);
        let (front, back): (u64, u64) = (leader.field(comm), leader.field(comm + 8));
        // SAFETY: same size, any bit pattern is valid.
        unsafe { core::mem::transmute([front, back]) }
    }
}

/// Addresses and ports of a connection; IPv4 as v4-mapped, all in network order but the ports.
pub struct Ends {
    /// Our address.
    pub local: [u32; 4],
    /// The peer's.
    pub remote: [u32; 4],
    /// Our port, host order.
    pub local_port: u16,
    /// The peer's, host order.
    pub remote_port: u16,
}

/// An IPv4 address (network order) as a v4-mapped IPv6 address.
#[inline(always)]
pub fn mapped(address: u32) -> [u32; 4] {
    [0, 0, 0xffff_u32.to_be(), address]
}

/// Both ends of a socket.
///
/// # Safety
/// `sk` must be a `struct bpf_sock` pointer that the verifier accepts.
#[inline(always)]
pub unsafe fn ends(sk: *mut bpf_sock) -> Ends {
    // Read unconditionally and volatile: the compiler would otherwise select a variable field
    // offset, which the verifier rejects for socket pointers.
    macro_rules! read {
        ($($field:tt)+) => {
            // SAFETY: a field of a bpf_sock that the caller vouches for.
            unsafe { core::ptr::read_volatile(&raw const (*sk).$($field)+) }
        };
    }
    let family = read!(family);
    let (local4, remote4) = (read!(src_ip4), read!(dst_ip4));
    let local6 = [
        read!(src_ip6[0]),
        read!(src_ip6[1]),
        read!(src_ip6[2]),
        read!(src_ip6[3]),
    ];
    let remote6 = [
        read!(dst_ip6[0]),
        read!(dst_ip6[1]),
        read!(dst_ip6[2]),
        read!(dst_ip6[3]),
    ];
    let local_port = read!(src_port) as u16;
    let remote_port = u16::from_be(read!(dst_port));
    if family == 2 {
        Ends {
            local: mapped(local4),
            remote: mapped(remote4),
            local_port,
            remote_port,
        }
    } else {
        Ends {
            local: local6,
            remote: remote6,
            local_port,
            remote_port,
        }
    }
}
