//! The bed: hosts (a namespace and a pod-like cgroup each) on one bridge, built on `new`, removed
//! on drop, also after a panic. Must not leave anything behind nor touch the host's own network.
use std::fmt::Write as _;
use std::fs::{self, File};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result};

use crate::process::Process;
use crate::{cgroup, netns, process};

const PREFIX: &str = "ingress-trace-test";

/// The machines of the bed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Host {
    /// Where requests come from.
    Client = 1,
    /// The ingress pod.
    Proxy = 2,
    /// The pod behind it.
    Backend = 3,
    /// Another ingress pod.
    SecondProxy = 4,
}

impl Host {
    const ALL: [Self; 4] = [Self::Client, Self::Proxy, Self::Backend, Self::SecondProxy];

    fn name(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Proxy => "proxy",
            Self::Backend => "backend",
            Self::SecondProxy => "second",
        }
    }

    /// Its IPv4 address. The same in every bed: beds cannot see each other.
    pub fn v4(self) -> IpAddr {
        IpAddr::V4(Ipv4Addr::new(10, 77, 0, self as u8))
    }

    /// Its IPv6 address.
    pub fn v6(self) -> IpAddr {
        IpAddr::V6(Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, self as u16))
    }
}

/// Hosts, their network and a scratch folder.
pub struct Bed {
    tag: String,
    cgroup: PathBuf,
    folder: PathBuf,
    /// Cgroups that tests made for hosts.
    homes: Mutex<Vec<(Host, PathBuf)>>,
}

impl Bed {
    /// Builds it, and removes what test processes that died have left.
    pub fn new() -> Result<Self> {
        let tag = tag();
        let cgroup = cgroup::mount()?.join(&tag);
        let folder = std::env::temp_dir().join(&tag);
        // Owned before it is filled: a failure in the middle is cleaned up too.
        let bed = Self {
            tag,
            cgroup,
            folder,
            homes: Mutex::default(),
        };
        bed.build()
            .context("failed to build the test bed (needs root)")?;
        Ok(bed)
    }

    fn build(&self) -> Result<()> {
        fs::create_dir_all(&self.folder).context("failed to create scratch folder")?;
        for host in Host::ALL {
            cgroup::create(&self.cgroup(host))?;
        }
        let fabric = self.fabric();
        let mut links = format!("netns add {fabric}\n");
        let mut ports = "link add br0 type bridge forward_delay 0 mcast_snooping 0\n\
                         link set br0 up\n"
            .to_owned();
        for host in Host::ALL {
            let (name, namespace) = (host.name(), self.namespace(host));
            write!(
                links,
                "netns add {namespace}\n\
                 link add {name} netns {fabric} type veth peer name eth0 netns {namespace}\n"
            )?;
            writeln!(ports, "link set {name} master br0 up")?;
        }
        netns::ip(None, &links)?;
        netns::ip(Some(&fabric), &ports)?;
        Host::ALL
            .into_iter()
            .try_for_each(|host| self.address(host))
    }

    fn address(&self, host: Host) -> Result<()> {
        let (v4, v6) = (host.v4(), host.v6());
        let namespace = self.namespace(host);
        netns::ip(
            Some(&namespace),
            &format!(
                "link set lo up\nlink set eth0 up\n\
                 addr add {v4}/24 dev eth0\naddr add {v6}/64 dev eth0 nodad\n"
            ),
        )?;
        // An address nobody has is told unreachable after 0.3 s instead of 3 s.
        netns::sysctl(&namespace, "ipv4/neigh/eth0/retrans_time_ms", "100")
    }

    /// Name of the host's network namespace.
    pub fn namespace(&self, host: Host) -> String {
        format!("{}-{}", self.tag, host.name())
    }

    fn fabric(&self) -> String {
        format!("{}-fabric", self.tag)
    }

    /// The host's cgroup folder.
    pub fn cgroup(&self, host: Host) -> PathBuf {
        let homes = self.homes.lock().unwrap_or_else(PoisonError::into_inner);
        let home = homes.iter().rev().find(|(one, _)| *one == host);
        home.map_or_else(
            || self.cgroup.join(format!("pod-{}", host.name())),
            |(_, home)| home.clone(),
        )
    }

    /// From now on processes of the host start in this cgroup, which is below [`Bed::root`].
    pub fn settle(&self, host: Host, home: PathBuf) {
        let mut homes = self.homes.lock().unwrap_or_else(PoisonError::into_inner);
        homes.push((host, home));
    }

    /// The cgroup that holds all of its cgroups.
    pub fn root(&self) -> &Path {
        &self.cgroup
    }

    /// A folder for configurations and logs.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Starts a command as a process of the host.
    pub fn start(&self, host: Host, command: &mut Command) -> Result<Process> {
        let procs = self.cgroup(host).join("cgroup.procs");
        let procs = File::options()
            .write(true)
            .open(&procs)
            .context("failed to open cgroup")?;
        Process::start_inside(command, netns::open(&self.namespace(host))?, procs)
    }

    /// Runs `work` on a thread of its own in the host's namespace.
    pub fn inside<T: Send>(
        &self,
        host: Host,
        work: impl FnOnce() -> Result<T> + Send,
    ) -> Result<T> {
        netns::inside(&self.namespace(host), work)
    }

    /// Loads nftables rules on the host.
    pub fn nft(&self, host: Host, rules: &str) -> Result<()> {
        netns::nft(&self.namespace(host), rules)
    }

    /// Sets a `net.*` sysctl of the host.
    pub fn sysctl(&self, host: Host, key: &str, value: &str) -> Result<()> {
        netns::sysctl(&self.namespace(host), key, value)
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        clear(&self.tag);
    }
}

/// A new name for what belongs to this process, after what dead processes left is removed.
pub fn tag() -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    sweep();
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    format!("{PREFIX}-{}-{number}", std::process::id())
}

/// Removes everything named after `tag`; what fails is told and does not stop the rest.
fn clear(tag: &str) {
    let told = |result: Result<()>| {
        if let Err(error) = result {
            eprintln!("test bed: {error:#}");
        }
    };
    told(cgroup::mount().and_then(|mount| cgroup::remove(&mount.join(tag))));
    // A kubelet makes the same folders in v1's hierarchies.
    for mount in ["cpu", "memory"].into_iter().filter_map(cgroup::old) {
        told(cgroup::remove(&mount.join(tag)));
    }
    for namespace in netns::list(&format!("{tag}-")) {
        told(netns::delete(&namespace));
    }
    // Missing when an earlier sweep took it.
    let _ = fs::remove_dir_all(std::env::temp_dir().join(tag));
}

/// Clears the beds of processes that no longer exist (killed before they could).
fn sweep() {
    let mut tags: Vec<String> = netns::list(PREFIX)
        .iter()
        .filter_map(|name| tag_of(name))
        .collect();
    for folder in cgroup::mount().into_iter().chain([std::env::temp_dir()]) {
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        tags.extend(entries.filter_map(|entry| tag_of(entry.file_name().to_str()?)));
    }
    tags.sort();
    tags.dedup();
    for tag in tags {
        if owner(&tag).is_some_and(|pid| !process::alive(pid)) {
            clear(&tag);
        }
    }
}

/// `ingress-trace-test-PID-N` of a name that starts with it.
fn tag_of(name: &str) -> Option<String> {
    let mut parts = name.strip_prefix(PREFIX)?.strip_prefix('-')?.split('-');
    let (pid, number) = (parts.next()?, parts.next()?);
    pid.parse::<u32>().ok()?;
    number.parse::<u32>().ok()?;
    Some(format!("{PREFIX}-{pid}-{number}"))
}

fn owner(tag: &str) -> Option<u32> {
    tag.strip_prefix(PREFIX)?.split('-').nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_ours_are_swept() {
        let tag = tag_of("ingress-trace-test-12-3-client").unwrap();
        assert_eq!(tag, "ingress-trace-test-12-3");
        assert_eq!(owner(&tag), Some(12));
        assert_eq!(tag_of("ingress-trace-test-x"), None);
        assert_eq!(tag_of("ingress-trace"), None);
    }
}
