//! Pod-like cgroup v2 folders: makes, kills and removes them below the mount that
//! /proc/self/mountinfo names. Must not touch a folder that is not ours.
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::wait;

/// Where cgroup v2 is mounted (pure: /sys/fs/cgroup, hybrid: mostly /sys/fs/cgroup/unified).
pub fn mount() -> Result<PathBuf> {
    let info = fs::read_to_string("/proc/self/mountinfo").context("failed to read mountinfo")?;
    info.lines()
        .find_map(mounted_at)
        .context("failed to find a cgroup v2 mount: mount one or boot with cgroup v2")
}

fn mounted_at(line: &str) -> Option<PathBuf> {
    let (front, back) = line.split_once(" - ")?;
    back.starts_with("cgroup2 ")
        .then(|| front.split(' ').nth(4).map(PathBuf::from))?
}

/// Where the v1 hierarchy with this controller is mounted, if it is.
pub fn old(controller: &str) -> Option<PathBuf> {
    let info = fs::read_to_string("/proc/self/mountinfo").ok()?;
    info.lines().find_map(|line| old_at(line, controller))
}

fn old_at(line: &str, controller: &str) -> Option<PathBuf> {
    let (front, back) = line.split_once(" - ")?;
    let mut back = back.split(' ');
    let is_old = back.next() == Some("cgroup");
    let mut options = back.nth(1)?.split(',');
    let fits = is_old && options.any(|option| option == controller);
    fits.then(|| front.split(' ').nth(4).map(PathBuf::from))?
}

/// Lets a v2 folder below `mount` have a controller: each folder above has to hand it down.
pub fn enable(mount: &Path, below: &Path, controller: &str) -> Result<()> {
    let mut above: Vec<PathBuf> = below
        .ancestors()
        .skip(1)
        .map(|path| mount.join(path))
        .collect();
    above.reverse();
    above.into_iter().try_for_each(|folder| {
        let file = folder.join("cgroup.subtree_control");
        fs::write(&file, format!("+{controller}"))
            .with_context(|| format!("failed to enable {controller} in {}", folder.display()))
    })
}

/// Freezes all that live in it, or lets them go on; returns once they are.
pub fn freeze(folder: &Path, frozen: bool) -> Result<()> {
    let state = u8::from(frozen);
    write(folder, "cgroup.freeze", &state.to_string())?;
    let wanted = format!("frozen {state}");
    wait::holds("the freezer", Duration::from_secs(10), || {
        let events = fs::read_to_string(folder.join("cgroup.events"));
        events.is_ok_and(|text| text.contains(&wanted))
    })
}

/// Gives all that runs in a v2 folder so much CPU time in each 100 ms: by v1's folder of the same path,
/// which its processes enter, or by its own files.
pub fn throttle(folder: &Path, ms: u32) -> Result<()> {
    let micros = u64::from(ms) * 1000;
    let mount = mount()?;
    let path = folder.strip_prefix(&mount).context("no v2 folder")?;
    let Some(old) = old("cpu") else {
        enable(&mount, path, "cpu")?;
        return write(folder, "cpu.max", &format!("{micros} 100000"));
    };
    let twin = old.join(path);
    create(&twin)?;
    for pid in processes(folder) {
        write(&twin, "cgroup.procs", &pid.to_string())?;
    }
    write(&twin, "cpu.cfs_period_us", "100000")?;
    write(&twin, "cpu.cfs_quota_us", &micros.to_string())
}

/// Writes one of its files.
pub fn write(folder: &Path, file: &str, value: &str) -> Result<()> {
    let path = folder.join(file);
    fs::write(&path, value).with_context(|| format!("failed to write {}", path.display()))
}

/// Makes the folder and its parents.
pub fn create(path: &Path) -> Result<()> {
    fs::create_dir_all(path).with_context(|| format!("failed to create cgroup {}", path.display()))
}

/// Kills all that live in `path` and below, then removes the folders. Quiet if it does not exist.
pub fn remove(path: &Path) -> Result<()> {
    if !path.exists() {
        return Ok(());
    }
    // One level below is all that a bed makes; cgroup.kill reaches every level.
    if fs::write(path.join("cgroup.kill"), "1").is_err() {
        kill_each(path);
    }
    wait::holds(
        "the cgroup's processes gone",
        Duration::from_secs(10),
        || !populated(path),
    )?;
    for entry in fs::read_dir(path)
        .context("failed to list cgroup")?
        .flatten()
    {
        if entry.path().is_dir() {
            remove(&entry.path())?;
        }
    }
    fs::remove_dir(path).with_context(|| format!("failed to remove cgroup {}", path.display()))
}

fn populated(path: &Path) -> bool {
    fs::read_to_string(path.join("cgroup.events")).is_ok_and(|text| text.contains("populated 1"))
}

/// For kernels before 5.14, which have no cgroup.kill.
fn kill_each(path: &Path) {
    for pid in processes(path) {
        crate::process::signal(pid, libc::SIGKILL);
    }
    for entry in fs::read_dir(path).into_iter().flatten().flatten() {
        if entry.path().is_dir() {
            kill_each(&entry.path());
        }
    }
}

/// Processes that live directly in the folder.
pub fn processes(path: &Path) -> Vec<u32> {
    let list = fs::read_to_string(path.join("cgroup.procs")).unwrap_or_default();
    list.lines().filter_map(|pid| pid.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hybrid_and_the_pure_mount_are_found() {
        let hybrid = "41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw";
        let pure = "31 23 0:28 / /sys/fs/cgroup rw shared:9 - cgroup2 cgroup rw,nsdelegate";
        let v1 = "32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu";
        assert_eq!(
            mounted_at(hybrid),
            Some(PathBuf::from("/sys/fs/cgroup/unified"))
        );
        assert_eq!(mounted_at(pure), Some(PathBuf::from("/sys/fs/cgroup")));
        assert_eq!(mounted_at(v1), None);
        let cpu = Some(PathBuf::from("/sys/fs/cgroup/cpu"));
        assert_eq!(old_at(v1, "cpu"), cpu);
        assert_eq!(old_at(v1, "memory"), None);
        assert_eq!(old_at(pure, "rw"), None);
    }
}
