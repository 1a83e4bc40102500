//! Sockets that existed before the hooks: the TCP iterator, run inside the pod's network namespace,
//! gives state to those that the data plane's processes hold.
use std::io::Read;
use std::path::Path;

use anyhow::{Context, Result};
use aya::maps::HashMap as BpfMap;
use aya::programs::Iter;

use super::Probe;
use crate::netns;

impl Probe {
    /// Adopts the connections of one network namespace that lie in one of `cgroups` (ids) and
    /// whose inode is among `inodes`. Returns how many there were.
    pub fn adopt(&mut self, namespace: &Path, cgroups: &[u64], inodes: &[u64]) -> Result<usize> {
        self.fill("ADOPT_CGROUPS", cgroups)?;
        self.fill("ADOPT_INODES", inodes)?;
        self.clear_ports()?;
        let adopted = self.iterate(namespace);
        // Emptied again: the maps take memory only while they are used.
        self.fill("ADOPT_CGROUPS", &[])?;
        self.fill("ADOPT_INODES", &[])?;
        adopted
    }

    fn fill(&mut self, name: &str, ids: &[u64]) -> Result<()> {
        let map = self
            .ebpf
            .map_mut(name)
            .with_context(|| format!("no eBPF map {name}"))?;
        let mut map = BpfMap::<_, u64, u8>::try_from(map)?;
        let old: Vec<u64> = map.keys().filter_map(Result::ok).collect();
        for id in old {
            // Gone already is as good.
            let _ = map.remove(&id);
        }
        for id in ids {
            map.insert(id, 1, 0)
                .with_context(|| format!("failed to write the map {name}"))?;
        }
        Ok(())
    }

    fn clear_ports(&mut self) -> Result<()> {
        let map = self
            .ebpf
            .map_mut("LISTENING")
            .context("no eBPF map LISTENING")?;
        let mut map = BpfMap::<_, u16, u8>::try_from(map)?;
        let old: Vec<u16> = map.keys().filter_map(Result::ok).collect();
        for port in old {
            let _ = map.remove(&port);
        }
        Ok(())
    }

    fn iterate(&mut self, namespace: &Path) -> Result<usize> {
        let program: &mut Iter = self
            .ebpf
            .program_mut("sockets")
            .context("no eBPF program sockets")?
            .try_into()?;
        let id = program
            .attach()
            .context("failed to attach the TCP iterator")?;
        let link = program.take_link(id)?;
        // The iterator walks the namespace of the thread that opens it.
        netns::inside(namespace, || {
            let mut file = link
                .into_file()
                .context("failed to open the TCP iterator")?;
            let mut bytes = Vec::new();
            file.read_to_end(&mut bytes)
                .context("failed to read the TCP iterator")?;
            Ok(bytes.len())
        })
    }
}
