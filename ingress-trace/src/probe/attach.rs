//! One pod's cgroup in, links on it out. Links die with the agent, however it dies.
use std::fs::File;
use std::path::Path;

use anyhow::{Context, Result};
use aya::Ebpf;
use aya::programs::cgroup_skb::CgroupSkbLink;
use aya::programs::cgroup_sock::CgroupSockLink;
use aya::programs::cgroup_sock_addr::CgroupSockAddrLink;
use aya::programs::sock_ops::SockOpsLink;
use aya::programs::{
    CgroupAttachMode, CgroupSkb, CgroupSkbAttachType, CgroupSock, CgroupSockAddr, SockOps,
};

use super::Probe;

/// The programs that a pod needs, and the one that all share; names as in the eBPF object.
pub const HOOKS: [&str; 8] = [
    "packet_in",
    "packet_out",
    "established",
    "connect4",
    "connect6",
    "release",
    "state",
    "sockets",
];

// A link on a cgroup is always one of many; ALLOW_MULTI is refused there (EINVAL).
const MODE: CgroupAttachMode = CgroupAttachMode::Single;

/// The links of one pod: dropping them detaches.
pub struct Attached {
    _packets: [CgroupSkbLink; 2],
    _connects: [CgroupSockAddrLink; 2],
    _established: SockOpsLink,
    _release: CgroupSockLink,
}

impl Probe {
    /// Attaches to a cgroup v2 folder (and all below it). `id` is the folder's inode.
    pub fn attach(&mut self, id: u64, cgroup: &Path) -> Result<()> {
        if self.attached.contains_key(&id) {
            return Ok(());
        }
        let folder = File::open(cgroup)
            .with_context(|| format!("failed to open the cgroup {}", cgroup.display()))?;
        let links = links(&mut self.ebpf, &folder)
            .with_context(|| format!("failed to attach to the cgroup {}", cgroup.display()))?;
        self.attached.insert(id, links);
        Ok(())
    }

    /// Lets go of a cgroup.
    pub fn detach(&mut self, id: u64) {
        self.attached.remove(&id);
    }

    /// Which cgroups are attached to, by id.
    pub fn attached(&self) -> impl Iterator<Item = u64> {
        self.attached.keys().copied()
    }
}

fn program<'a, T>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut T>
where
    &'a mut T: TryFrom<&'a mut aya::programs::Program>,
    <&'a mut T as TryFrom<&'a mut aya::programs::Program>>::Error:
        std::error::Error + Send + Sync + 'static,
{
    ebpf.program_mut(name)
        .with_context(|| format!("the eBPF object has no program {name}"))?
        .try_into()
        .with_context(|| format!("the eBPF program {name} has an unexpected type"))
}

fn links(ebpf: &mut Ebpf, folder: &File) -> Result<Attached> {
    // The socket hooks first: what they do not know, the packet hooks ignore.
    let release: &mut CgroupSock = program(ebpf, "release")?;
    let id = release
        .attach(folder, MODE)
        .context("cgroup/sock_release")?;
    let release = release.take_link(id)?;
    let established: &mut SockOps = program(ebpf, "established")?;
    let id = established.attach(folder, MODE).context("sock_ops")?;
    let established = established.take_link(id)?;
    let connects = [
        connect(ebpf, "connect4", folder)?,
        connect(ebpf, "connect6", folder)?,
    ];
    let packets = [
        packet(ebpf, "packet_out", folder, CgroupSkbAttachType::Egress)?,
        packet(ebpf, "packet_in", folder, CgroupSkbAttachType::Ingress)?,
    ];
    Ok(Attached {
        _packets: packets,
        _connects: connects,
        _established: established,
        _release: release,
    })
}

fn connect(ebpf: &mut Ebpf, name: &str, folder: &File) -> Result<CgroupSockAddrLink> {
    let program: &mut CgroupSockAddr = program(ebpf, name)?;
    let id = program
        .attach(folder, MODE)
        .with_context(|| format!("cgroup/{name}"))?;
    Ok(program.take_link(id)?)
}

fn packet(
    ebpf: &mut Ebpf,
    name: &str,
    folder: &File,
    direction: CgroupSkbAttachType,
) -> Result<CgroupSkbLink> {
    let program: &mut CgroupSkb = program(ebpf, name)?;
    let id = program
        .attach(folder, direction, MODE)
        .with_context(|| format!("cgroup_skb ({direction:?})"))?;
    Ok(program.take_link(id)?)
}
