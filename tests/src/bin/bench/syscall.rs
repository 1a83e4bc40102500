//! `bpf()` as the benchmark needs it: attributes in, descriptors and statistics out. The layouts
//! are those of `union bpf_attr` in linux/bpf.h.
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

const PROG_LOAD: libc::c_int = 5;
const PROG_GET_FD_BY_ID: libc::c_int = 13;
const OBJ_GET_INFO_BY_FD: libc::c_int = 15;
const LINK_CREATE: libc::c_int = 28;
const ENABLE_STATS: libc::c_int = 32;

const CGROUP_SKB: u32 = 8;
/// `BPF_CGROUP_INET_INGRESS`.
pub const INGRESS: u32 = 0;
/// `BPF_CGROUP_INET_EGRESS`.
pub const EGRESS: u32 = 1;

/// `struct bpf_prog_info` up to the statistics, in words: its pointers stay null.
const INFO_WORDS: usize = 26;
const NAME_AT: usize = 8;
const TIME_AT: usize = 24;

/// What a program has done since it was loaded, as far as statistics were on.
#[derive(Clone, Debug)]
pub struct Statistics {
    /// Its name, cut to 15 bytes by the kernel.
    pub name: String,
    /// Nanoseconds.
    pub time: u64,
    /// How often it ran.
    pub runs: u64,
}

/// Turns statistics on for as long as the descriptor is open.
pub fn enable_statistics() -> io::Result<OwnedFd> {
    // type: BPF_STATS_RUN_TIME.
    open(ENABLE_STATS, &mut [0])
}

/// Statistics of a program by its id.
pub fn statistics(id: u32) -> io::Result<Statistics> {
    let program = open(PROG_GET_FD_BY_ID, &mut [u64::from(id)])?;
    let mut info = [0_u64; INFO_WORDS];
    let size = size_of_val(&info) as u64;
    let fd = program.as_raw_fd().cast_unsigned();
    call(
        OBJ_GET_INFO_BY_FD,
        &mut [u64::from(fd) | size << 32, info.as_mut_ptr() as u64],
    )?;
    let name: Vec<u8> = info[NAME_AT..NAME_AT + 2]
        .iter()
        .flat_map(|word| word.to_ne_bytes())
        .take_while(|byte| *byte != 0)
        .collect();
    Ok(Statistics {
        name: String::from_utf8_lossy(&name).into_owned(),
        time: info[TIME_AT],
        runs: info[TIME_AT + 1],
    })
}

/// Loads a cgroup_skb program of these instructions.
pub fn load(instructions: &[u64]) -> io::Result<OwnedFd> {
    let count = instructions.len() as u64;
    let license = c"GPL";
    let mut attr = [0_u64; 9];
    attr[0] = u64::from(CGROUP_SKB) | count << 32;
    attr[1] = instructions.as_ptr() as u64;
    attr[2] = license.as_ptr() as u64;
    open(PROG_LOAD, &mut attr)
}

/// Attaches a program to a cgroup for as long as the descriptor is open.
pub fn link(program: &OwnedFd, cgroup: &impl AsRawFd, attach: u32) -> io::Result<OwnedFd> {
    let word = |fd: i32| u64::from(fd.cast_unsigned());
    let fds = word(program.as_raw_fd()) | word(cgroup.as_raw_fd()) << 32;
    open(LINK_CREATE, &mut [fds, u64::from(attach)])
}

/// Id of a loaded program.
pub fn id(program: &OwnedFd) -> io::Result<u32> {
    let mut info = [0_u64; INFO_WORDS];
    let size = size_of_val(&info) as u64;
    let fd = u64::from(program.as_raw_fd().cast_unsigned());
    call(
        OBJ_GET_INFO_BY_FD,
        &mut [fd | size << 32, info.as_mut_ptr() as u64],
    )?;
    // The type, then the id.
    Ok((info[0] >> 32) as u32)
}

fn open(command: libc::c_int, attr: &mut [u64]) -> io::Result<OwnedFd> {
    let fd = call(command, attr)?;
    // SAFETY: these commands return a new descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn call(command: libc::c_int, attr: &mut [u64]) -> io::Result<i32> {
    // SAFETY: pointer and size describe `attr`, and the pointers inside it are to values that the
    // callers keep alive through the call and that are as large as the attributes say.
    let result =
        unsafe { libc::syscall(libc::SYS_bpf, command, attr.as_mut_ptr(), size_of_val(attr)) };
    match i32::try_from(result) {
        Ok(value) if value >= 0 => Ok(value),
        _ => Err(io::Error::last_os_error()),
    }
}
