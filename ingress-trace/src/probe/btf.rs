//! In: the kernel's BTF bytes. Out: byte offsets of struct members and facts about tracepoints.
//! Must not panic or loop on any bytes, and must not load anything.
use std::path::Path;

use anyhow::{Context, Result, ensure};
use ingress_trace_common::config::Config;

/// Where a kernel built with `CONFIG_DEBUG_INFO_BTF` shows its types.
pub const VMLINUX: &str = "/sys/kernel/btf/vmlinux";

const MAGIC: u16 = 0xeb9f;
const HEADER_LEN: usize = 24;
/// Chains of typedefs and qualifiers, and paths of members, are a handful long in real kernels.
const MAX_HOPS: usize = 64;
/// Members looked at in one search; the largest struct with its anonymous parts has some hundreds.
const MAX_MEMBERS: usize = 100_000;

mod kind {
    pub const INT: u32 = 1;
    pub const PTR: u32 = 2;
    pub const ARRAY: u32 = 3;
    pub const STRUCT: u32 = 4;
    pub const UNION: u32 = 5;
    pub const ENUM: u32 = 6;
    pub const FWD: u32 = 7;
    pub const TYPEDEF: u32 = 8;
    pub const VOLATILE: u32 = 9;
    pub const CONST: u32 = 10;
    pub const RESTRICT: u32 = 11;
    pub const FUNC: u32 = 12;
    pub const FUNC_PROTO: u32 = 13;
    pub const VAR: u32 = 14;
    pub const DATASEC: u32 = 15;
    pub const FLOAT: u32 = 16;
    pub const DECL_TAG: u32 = 17;
    pub const TYPE_TAG: u32 = 18;
    pub const ENUM64: u32 = 19;
}

/// Parsed BTF: the bytes and where each type starts.
#[derive(Debug)]
pub struct Btf {
    bytes: Vec<u8>,
    strings: std::ops::Range<usize>,
    /// Position of each type by id; id 0 is `void` and has none.
    types: Vec<u32>,
}

/// One type's fixed part.
#[derive(Clone, Copy)]
struct Type {
    at: usize,
    name: u32,
    kind: u32,
    members: usize,
    bitfields: bool,
    /// Size, or the id of the type referred to.
    refers: u32,
}

/// One member of a struct or union.
struct Member {
    name: u32,
    type_id: u32,
    bits: u32,
}

impl Btf {
    /// Reads and parses the BTF at `path`.
    pub fn load(path: &Path) -> Result<Self> {
        let bytes = std::fs::read(path).with_context(|| {
            format!(
                "failed to read the kernel's BTF at {}: a kernel built with \
                 CONFIG_DEBUG_INFO_BTF=y is needed",
                path.display()
            )
        })?;
        Self::parse(bytes).with_context(|| format!("failed to parse the BTF at {}", path.display()))
    }

    /// Parses raw BTF in this machine's byte order.
    pub fn parse(bytes: Vec<u8>) -> Result<Self> {
        ensure!(bytes.len() >= HEADER_LEN, "shorter than a BTF header");
        let magic = u16::from_ne_bytes([bytes[0], bytes[1]]);
        ensure!(
            magic == MAGIC,
            "magic number {magic:#06x} is not BTF's {MAGIC:#06x}"
        );
        let word = |at| word(&bytes, at).map_or(0, |v| v as usize);
        let header = word(4);
        let types = section(&bytes, header, word(8), word(12)).context("types leave the file")?;
        let strings =
            section(&bytes, header, word(16), word(20)).context("strings leave the file")?;
        let types = positions(&bytes, types)?;
        Ok(Self {
            bytes,
            strings,
            types,
        })
    }

    /// Byte offset of a member of `structure`, given as a path of named members (`a.b`); anonymous
    /// members are looked through. None when it does not exist or is no whole byte (a bit field).
    pub fn offset(&self, structure: &str, path: &str) -> Option<u32> {
        let mut inside = self.named(kind::STRUCT, structure);
        let mut bits = 0u32;
        let mut budget = MAX_MEMBERS;
        for (depth, field) in path.split('.').enumerate() {
            if depth >= MAX_HOPS {
                return None;
            }
            let (offset, id) = self.member(inside?, field, &mut budget, 0)?;
            bits = bits.checked_add(offset)?;
            inside = self.resolve(id);
        }
        bits.is_multiple_of(8).then_some(bits / 8)
    }

    /// Number of arguments of a raw tracepoint; None when this kernel does not have it.
    pub fn tracepoint_args(&self, tracepoint: &str) -> Option<usize> {
        let typedef = self.named(kind::TYPEDEF, &format!("btf_trace_{tracepoint}"))?;
        let mut prototype = self.resolve(typedef.refers)?;
        if prototype.kind == kind::PTR {
            prototype = self.resolve(prototype.refers)?;
        }
        // The first parameter is the tracer's own data pointer.
        (prototype.kind == kind::FUNC_PROTO).then(|| prototype.members.saturating_sub(1))
    }

    fn get(&self, id: u32) -> Option<Type> {
        let at = *self.types.get(usize::try_from(id).ok()?.checked_sub(1)?)? as usize;
        type_at(&self.bytes, at)
    }

    fn name(&self, offset: u32) -> Option<&[u8]> {
        let strings = self.bytes.get(self.strings.clone())?;
        strings
            .get(offset as usize..)?
            .split(|byte| *byte == 0)
            .next()
    }

    fn named(&self, kind: u32, name: &str) -> Option<Type> {
        let strings = self.bytes.get(self.strings.clone())?;
        // Compared where it stands: to look for the end of every name takes ten times as long.
        let is = |offset: u32| {
            let rest = strings.get(offset as usize..)?;
            let rest = rest.strip_prefix(name.as_bytes())?;
            (rest.first() == Some(&0)).then_some(())
        };
        self.types
            .iter()
            .filter_map(|at| type_at(&self.bytes, *at as usize))
            .find(|found| found.kind == kind && is(found.name).is_some())
    }

    /// Follows typedefs and qualifiers to the type itself.
    fn resolve(&self, mut id: u32) -> Option<Type> {
        for _ in 0..MAX_HOPS {
            let found = self.get(id)?;
            match found.kind {
                kind::TYPEDEF | kind::VOLATILE | kind::CONST | kind::RESTRICT | kind::TYPE_TAG => {
                    id = found.refers;
                }
                _ => return Some(found),
            }
        }
        None
    }

    fn members(&self, of: Type) -> impl Iterator<Item = Member> {
        let count = if matches!(of.kind, kind::STRUCT | kind::UNION) {
            of.members
        } else {
            0
        };
        (0..count).map_while(move |index| {
            let at = of.at + 12 + 12 * index;
            let bits = word(&self.bytes, at + 8)?;
            Some(Member {
                name: word(&self.bytes, at)?,
                type_id: word(&self.bytes, at + 4)?,
                bits: if of.bitfields {
                    bits & 0x00ff_ffff
                } else {
                    bits
                },
            })
        })
    }

    /// Bit offset and type of `field` in `of`. `budget` bounds the work on hostile input, where
    /// anonymous members may contain each other.
    fn member(
        &self,
        of: Type,
        field: &str,
        budget: &mut usize,
        depth: usize,
    ) -> Option<(u32, u32)> {
        for member in self.members(of) {
            *budget = budget.checked_sub(1)?;
            let name = self.name(member.name)?;
            if !name.is_empty() {
                if name == field.as_bytes() {
                    return Some((member.bits, member.type_id));
                }
                continue;
            }
            if depth >= MAX_HOPS {
                continue;
            }
            let inner = self
                .resolve(member.type_id)
                .and_then(|inner| self.member(inner, field, budget, depth + 1));
            if let Some((bits, id)) = inner {
                return Some((member.bits.checked_add(bits)?, id));
            }
        }
        None
    }
}

/// Fills the offset fields of a [`Config`] for this kernel; the settings in it stay at their
/// defaults. A missing member is an error that names it.
pub fn offsets(btf: &Btf) -> Result<Config> {
    let of = |structure: &str, path: &str| {
        btf.offset(structure, path).with_context(|| {
            format!("the kernel's BTF has no member {path} in struct {structure}: this kernel is not supported")
        })
    };
    let inode = of("socket_alloc", "vfs_inode.i_ino")?
        .checked_sub(of("socket_alloc", "socket")?)
        .context("the kernel's BTF has vfs_inode before socket in struct socket_alloc: this kernel is not supported")?;
    Ok(Config {
        sk_err: of("sock", "sk_err")?,
        sk_err_soft: of("sock", "sk_err_soft")?,
        sk_owned: of("sock", "sk_lock.owned")?,
        sk_cgroup: of("sock", "sk_cgrp_data.cgroup")?,
        sk_socket: of("sock", "sk_socket")?,
        cgroup_kn: of("cgroup", "kn")?,
        kn_id: of("kernfs_node", "id")?,
        total_retrans: of("tcp_sock", "total_retrans")?,
        snd_una: of("tcp_sock", "snd_una")?,
        snd_nxt: of("tcp_sock", "snd_nxt")?,
        rcv_nxt: of("tcp_sock", "rcv_nxt")?,
        copied_seq: of("tcp_sock", "copied_seq")?,
        tcp_clock: of("tcp_sock", "tcp_clock_cache")?,
        task_tgid: of("task_struct", "tgid")?,
        task_flags: of("task_struct", "flags")?,
        task_leader: of("task_struct", "group_leader")?,
        task_comm: of("task_struct", "comm")?,
        inode,
        skc_daddr: of("sock_common", "skc_daddr")?,
        skc_rcv_saddr: of("sock_common", "skc_rcv_saddr")?,
        skc_v6_daddr: of("sock_common", "skc_v6_daddr")?,
        skc_v6_rcv_saddr: of("sock_common", "skc_v6_rcv_saddr")?,
        skc_dport: of("sock_common", "skc_dport")?,
        skc_num: of("sock_common", "skc_num")?,
        skc_family: of("sock_common", "skc_family")?,
        skc_state: of("sock_common", "skc_state")?,
        sk_error_queue: of("sock", "sk_error_queue.next")?,
        sk_error_qlen: of("sock", "sk_error_queue.qlen")?,
        skb_cb: of("sk_buff", "cb")?,
        ee_errno: of("sock_exterr_skb", "ee.ee_errno")?,
        ..Config::default()
    })
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..at.checked_add(4)?)?;
    Some(u32::from_ne_bytes(
        bytes.try_into().expect("the slice is four bytes"),
    ))
}

fn section(bytes: &[u8], header: usize, at: usize, len: usize) -> Option<std::ops::Range<usize>> {
    let start = header.checked_add(at)?;
    let end = start.checked_add(len)?;
    (end <= bytes.len()).then_some(start..end)
}

fn type_at(bytes: &[u8], at: usize) -> Option<Type> {
    let info = word(bytes, at + 4)?;
    Some(Type {
        at,
        name: word(bytes, at)?,
        kind: (info >> 24) & 0x1f,
        members: (info & 0xffff) as usize,
        bitfields: info >> 31 != 0,
        refers: word(bytes, at + 8)?,
    })
}

/// Where each type starts; every type lies wholly inside `section`.
fn positions(bytes: &[u8], section: std::ops::Range<usize>) -> Result<Vec<u32>> {
    let mut found = Vec::new();
    let mut at = section.start;
    while at < section.end {
        let next = type_at(bytes, at).context("the last type is cut")?;
        let tail = match next.kind {
            kind::INT | kind::VAR | kind::DECL_TAG => 4,
            kind::ARRAY => 12,
            kind::STRUCT | kind::UNION | kind::DATASEC | kind::ENUM64 => 12 * next.members,
            kind::ENUM | kind::FUNC_PROTO => 8 * next.members,
            kind::PTR | kind::FWD..=kind::FUNC | kind::FLOAT | kind::TYPE_TAG => 0,
            unknown => anyhow::bail!(
                "type {} has kind {unknown}, which this version does not know",
                found.len() + 1
            ),
        };
        found.push(u32::try_from(at).context("larger than 4 GiB")?);
        at += 12 + tail;
        ensure!(at <= section.end, "type {} leaves its section", found.len());
    }
    Ok(found)
}

#[cfg(test)]
#[path = "btf_tests.rs"]
mod tests;
