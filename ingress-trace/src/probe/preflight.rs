//! In: /proc and uname. Out: the environment that loading needs, or one sentence that names what
//! is missing and its remedy. Must not change anything and must not load anything.
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

use super::btf::VMLINUX;
use crate::targets::hierarchy::{self, Mount};

/// The oldest kernel whose verifier accepts the programs.
const OLDEST: (u32, u32) = (5, 15);

/// Capabilities by number (`linux/capability.h`), name and what fails without them.
const NET_ADMIN: Capability = Capability(12, "CAP_NET_ADMIN");
const SYS_PTRACE: Capability = Capability(19, "CAP_SYS_PTRACE");
const SYS_ADMIN: Capability = Capability(21, "CAP_SYS_ADMIN");
const PERFMON: Capability = Capability(38, "CAP_PERFMON");
const BPF: Capability = Capability(39, "CAP_BPF");

/// What the machine offers; everything needed is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Environment {
    /// Where cgroup v2 is mounted.
    pub cgroup2: PathBuf,
    /// The kernel's BTF file.
    pub btf: PathBuf,
    /// Kernel release as `uname -r` shows it.
    pub release: String,
    /// What will not work although loading does: one sentence each, for the log.
    pub lacks: Vec<String>,
}

/// Checks this process and this machine, in the order in which a person would repair things.
pub fn check() -> Result<Environment> {
    let release = read("/proc/sys/kernel/osrelease")?.trim().to_owned();
    kernel(&release)?;
    user_namespace(&read("/proc/self/uid_map")?)?;
    let lacks = capabilities(&read("/proc/self/status")?)?;
    let btf = PathBuf::from(VMLINUX);
    ensure!(
        btf.exists(),
        "the kernel's BTF is missing at {VMLINUX}: boot a kernel built with \
         CONFIG_DEBUG_INFO_BTF=y, and in a container mount the host's /sys"
    );
    let cgroup2 = cgroup2(&hierarchy::mounts(&read("/proc/self/mountinfo")?))?;
    Ok(Environment {
        cgroup2,
        btf,
        release,
        lacks,
    })
}

fn read(path: &str) -> Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("failed to read {path}"))
}

/// One capability: its bit and its name.
#[derive(Clone, Copy)]
struct Capability(u32, &'static str);

/// Refuses kernels older than [`OLDEST`].
fn kernel(release: &str) -> Result<()> {
    let version = version(release)
        .with_context(|| format!("failed to read a version from the kernel release {release:?}"))?;
    ensure!(
        version >= OLDEST,
        "kernel {release} is too old: {}.{} or newer is needed",
        OLDEST.0,
        OLDEST.1
    );
    Ok(())
}

fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

/// Capabilities of a user namespace other than the first one do not count for BPF.
fn user_namespace(uid_map: &str) -> Result<()> {
    let whole = uid_map.split_whitespace().eq(["0", "0", "4294967295"]);
    ensure!(
        whole,
        "this process is in a user namespace of its own, where eBPF cannot be loaded: run it as \
         the host's root (in Kubernetes hostUsers: true, not rootless)"
    );
    Ok(())
}

/// Refuses when a program could not be loaded or attached; returns what else will not work.
///
/// Loading takes CAP_BPF and CAP_PERFMON (or CAP_SYS_ADMIN, which contains both), attaching to a
/// cgroup takes CAP_NET_ADMIN.
fn capabilities(status: &str) -> Result<Vec<String>> {
    let effective = effective(status).context("failed to find CapEff in /proc/self/status")?;
    let has = |capability: Capability| effective >> capability.0 & 1 == 1;
    let mut missing = Vec::new();
    if !has(SYS_ADMIN) {
        missing.extend([BPF, PERFMON].into_iter().filter(|c| !has(*c)));
    }
    missing.extend([NET_ADMIN].into_iter().filter(|c| !has(*c)));
    if !missing.is_empty() {
        let names: Vec<_> = missing.iter().map(|c| c.1).collect();
        bail!(
            "not allowed to load eBPF programs, {} missing: run as root (sudo), or in a container \
             with the capabilities BPF, PERFMON, NET_ADMIN, SYS_ADMIN and SYS_PTRACE",
            names.join(" and ")
        );
    }
    let mut lacks = Vec::new();
    if !has(SYS_ADMIN) {
        lacks.push(format!(
            "{} missing: network namespaces of containers cannot be entered, so their connections \
             older than this agent and their port range stay unknown",
            SYS_ADMIN.1
        ));
    }
    if !has(SYS_PTRACE) {
        lacks.push(format!(
            "{} missing: descriptors and network namespaces of other users' processes cannot be \
             read, so descriptor limits and older connections may stay unknown",
            SYS_PTRACE.1
        ));
    }
    Ok(lacks)
}

fn effective(status: &str) -> Option<u64> {
    let hex = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(hex.trim(), 16).ok()
}

/// The mount point of cgroup v2, pure or beside v1.
fn cgroup2(mounts: &[Mount]) -> Result<PathBuf> {
    if let Some(mount) = hierarchy::highest(mounts, |mount| mount.kind == "cgroup2") {
        return Ok(mount.point.clone());
    }
    if mounts.iter().any(|mount| mount.kind == "cgroup") {
        bail!(
            "no cgroup v2 is mounted, only v1: boot with systemd.unified_cgroup_hierarchy=1, or mount v2 \
             beside it with: mkdir -p /sys/fs/cgroup/unified && mount -t cgroup2 none \
             /sys/fs/cgroup/unified"
        );
    }
    bail!(
        "no cgroup v2 hierarchy is mounted: mount -t cgroup2 none {}, and in a container mount the \
         host's /sys/fs/cgroup",
        Path::new("/sys/fs/cgroup").display()
    )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn status(bits: &[Capability]) -> String {
        let mask = bits.iter().fold(0u64, |mask, c| mask | 1 << c.0);
        format!("Name:\tx\nCapPrm:\t000001ffffffffff\nCapEff:\t{mask:016x}\nCapBnd:\t0\n")
    }

    #[test]
    fn root_has_everything_and_lacks_nothing() {
        let lacks = capabilities("CapEff:\t000001ffffffffff\n").expect("root may load");
        assert!(lacks.is_empty());
    }

    #[test]
    fn bpf_and_perfmon_do_without_sys_admin_and_the_loss_is_told() {
        let lacks = capabilities(&status(&[BPF, PERFMON, NET_ADMIN])).expect("may load");
        assert_eq!(lacks.len(), 2);
        assert!(lacks[0].starts_with("CAP_SYS_ADMIN") && lacks[1].starts_with("CAP_SYS_PTRACE"));
    }

    #[test]
    fn each_missing_capability_is_named_with_the_remedy() {
        let error = |bits| {
            capabilities(&status(bits))
                .expect_err("may not load")
                .to_string()
        };
        assert!(error(&[]).contains("CAP_BPF and CAP_PERFMON and CAP_NET_ADMIN missing: run as"));
        assert!(error(&[BPF, NET_ADMIN]).contains(", CAP_PERFMON missing"));
        assert!(error(&[SYS_ADMIN]).contains(", CAP_NET_ADMIN missing"));
    }

    #[test]
    fn kernels_before_5_15_are_refused() {
        for good in ["5.15.0", "6.1.0-18-amd64", "6.18.44-fc", "10.0"] {
            kernel(good).expect("new enough");
        }
        let error = kernel("5.10.0-28").expect_err("too old").to_string();
        assert!(error.contains("5.10.0-28 is too old: 5.15"), "{error}");
        kernel("linux").expect_err("no version");
    }

    #[test]
    fn another_user_namespace_is_refused() {
        user_namespace("         0          0 4294967295\n").expect("the first one");
        user_namespace("         0     100000      65536\n").expect_err("a container's own");
    }

    #[test]
    fn cgroup_v2_is_found_pure_and_hybrid_and_v1_alone_is_refused() {
        let pure = "30 23 0:27 / /sys/fs/cgroup rw shared:4 - cgroup2 cgroup2 rw\n";
        let v1 = "32 31 0:29 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n";
        let v2 = "41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";
        let find = |text: &str| cgroup2(&hierarchy::mounts(text));
        assert_eq!(find(pure).expect("pure"), Path::new("/sys/fs/cgroup"));
        let hybrid = find(&format!("{v1}{v2}")).expect("hybrid");
        assert_eq!(hybrid, Path::new("/sys/fs/cgroup/unified"));
        let error = find(v1).expect_err("v1 only").to_string();
        assert!(error.contains("no cgroup v2 is mounted"), "{error}");
        find("").expect_err("nothing mounted");
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parsers_panic(text: String) {
            let _ = (version(&text), effective(&text), user_namespace(&text));
            let _ = cgroup2(&hierarchy::mounts(&text));
        }
    }
}
