//! What the agent tells the kernel side before it is loaded (read-only data, so that the verifier
//! knows it and drops the branches that are off).

/// Settings and struct offsets; set with `EbpfLoader::override_global("CONFIG", ...)`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Config {
    /// Nanoseconds to the first byte above which a response is slow; 0 never.
    pub slow: u64,
    /// Read payload (methods, statuses, framing) when 1.
    pub http: u32,
    /// Only processes whose main thread's name is in the `NAMES` map are data planes, when 1.
    pub names: u32,
    /// Offset of `sk_err` in `struct sock`.
    pub sk_err: u32,
    /// Offset of `sk_err_soft` in `struct sock`.
    pub sk_err_soft: u32,
    /// Offset of `sk_lock.owned` in `struct sock`.
    pub sk_owned: u32,
    /// Offset of `sk_cgrp_data.cgroup` in `struct sock`.
    pub sk_cgroup: u32,
    /// Offset of `sk_socket` in `struct sock`.
    pub sk_socket: u32,
    /// Offset of `kn` in `struct cgroup`.
    pub cgroup_kn: u32,
    /// Offset of `id` in `struct kernfs_node`.
    pub kn_id: u32,
    /// Offset of `total_retrans` in `struct tcp_sock`.
    pub total_retrans: u32,
    /// Offset of `snd_una` in `struct tcp_sock`.
    pub snd_una: u32,
    /// Offset of `snd_nxt` in `struct tcp_sock`.
    pub snd_nxt: u32,
    /// Offset of `rcv_nxt` in `struct tcp_sock`.
    pub rcv_nxt: u32,
    /// Offset of `copied_seq` in `struct tcp_sock`.
    pub copied_seq: u32,
    /// Offset of `tcp_clock_cache` in `struct tcp_sock`.
    pub tcp_clock: u32,
    /// Offset of `tgid` in `struct task_struct`; `pid` is the word before it.
    pub task_tgid: u32,
    /// Offset of `flags` in `struct task_struct`.
    pub task_flags: u32,
    /// Offset of `group_leader` in `struct task_struct`.
    pub task_leader: u32,
    /// Offset of `comm` in `struct task_struct`.
    pub task_comm: u32,
    /// Offset of `vfs_inode.i_ino` in `struct socket_alloc`, counted from its `socket` member.
    pub inode: u32,
    /// Offset of `skc_daddr` in `struct sock_common`.
    pub skc_daddr: u32,
    /// Offset of `skc_rcv_saddr` in `struct sock_common`.
    pub skc_rcv_saddr: u32,
    /// Offset of `skc_v6_daddr` in `struct sock_common`.
    pub skc_v6_daddr: u32,
    /// Offset of `skc_v6_rcv_saddr` in `struct sock_common`.
    pub skc_v6_rcv_saddr: u32,
    /// Offset of `skc_dport` in `struct sock_common`.
    pub skc_dport: u32,
    /// Offset of `skc_num` in `struct sock_common`.
    pub skc_num: u32,
    /// Offset of `skc_family` in `struct sock_common`.
    pub skc_family: u32,
    /// Offset of `skc_state` in `struct sock_common`.
    pub skc_state: u32,
    /// Offset of `sk_error_queue.next` in `struct sock`.
    pub sk_error_queue: u32,
    /// Offset of `sk_error_queue.qlen` in `struct sock`.
    pub sk_error_qlen: u32,
    /// Offset of `cb` in `struct sk_buff`.
    pub skb_cb: u32,
    /// Offset of `ee.ee_errno` in `struct sock_exterr_skb`, which lies in `cb`.
    pub ee_errno: u32,
}
const _: () = assert!(core::mem::size_of::<Config>() == 8 + 32 * 4);

/// Length of a process name (`TASK_COMM_LEN`), NUL-padded.
pub const NAME_LEN: usize = 16;

// SAFETY: repr(C), integers only, no padding (asserted above), any bit pattern is valid.
#[cfg(feature = "user")]
unsafe impl aya::Pod for Config {}
