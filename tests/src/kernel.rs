//! What is loaded in the kernel: the ids of BPF programs and links, for before-and-after
//! comparisons. Reads only.
use std::collections::BTreeSet;
use std::{fs, io};

use anyhow::{Context, Result};

/// `bpf()` commands that walk ids, from linux/bpf.h.
const PROG_GET_NEXT_ID: libc::c_int = 11;
const MAP_GET_NEXT_ID: libc::c_int = 12;
const LINK_GET_NEXT_ID: libc::c_int = 31;

/// Ids of everything BPF that is alive.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Loaded {
    /// Programs.
    pub programs: BTreeSet<u32>,
    /// Maps.
    pub maps: BTreeSet<u32>,
    /// Links.
    pub links: BTreeSet<u32>,
}

impl Loaded {
    /// What is loaded now.
    pub fn now() -> Result<Self> {
        Ok(Self {
            programs: walk(PROG_GET_NEXT_ID).context("failed to list BPF programs (needs root)")?,
            maps: walk(MAP_GET_NEXT_ID).context("failed to list BPF maps")?,
            links: walk(LINK_GET_NEXT_ID).context("failed to list BPF links")?,
        })
    }

    /// What a process holds, by its descriptors.
    pub fn of(pid: u32) -> Result<Self> {
        let mut held = Self::default();
        let folder =
            fs::read_dir(format!("/proc/{pid}/fdinfo")).context("failed to list fdinfo")?;
        // A descriptor that is closed in between has no text.
        let texts = folder
            .flatten()
            .filter_map(|entry| fs::read_to_string(entry.path()).ok());
        for line in texts.collect::<String>().lines() {
            let Some((key, id)) = line.split_once(':') else {
                continue;
            };
            let Ok(id) = id.trim().parse() else { continue };
            match key {
                "prog_id" => held.programs.insert(id),
                "map_id" => held.maps.insert(id),
                "link_id" => held.links.insert(id),
                _ => continue,
            };
        }
        Ok(held)
    }

    /// Whether nothing of this exists any more. The kernel does not give an id twice.
    pub fn is_gone(&self) -> Result<bool> {
        let now = Self::now()?;
        Ok(self.programs.is_disjoint(&now.programs)
            && self.maps.is_disjoint(&now.maps)
            && self.links.is_disjoint(&now.links))
    }

    /// Whether everything in here was there before too.
    pub fn adds_nothing_to(&self, before: &Self) -> bool {
        self.programs.is_subset(&before.programs)
            && self.maps.is_subset(&before.maps)
            && self.links.is_subset(&before.links)
    }
}

fn walk(command: libc::c_int) -> io::Result<BTreeSet<u32>> {
    let mut ids = BTreeSet::new();
    // union bpf_attr: start_id, next_id, open_flags.
    let mut attr = [0_u32; 4];
    loop {
        // SAFETY: the pointer and the size describe `attr`, which lives through the call.
        let result = unsafe {
            libc::syscall(
                libc::SYS_bpf,
                command,
                attr.as_mut_ptr(),
                size_of_val(&attr),
            )
        };
        if result != 0 {
            let error = io::Error::last_os_error();
            return if error.raw_os_error() == Some(libc::ENOENT) {
                Ok(ids)
            } else {
                Err(error)
            };
        }
        ids.insert(attr[1]);
        attr[0] = attr[1];
    }
}
