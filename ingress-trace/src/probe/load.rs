//! Settings and the kernel's BTF in, loaded programs out. Attaches only what is not tied to a pod.
use std::path::Path;
use std::thread;

use anyhow::{Context, Result, anyhow};
use aya::maps::{HashMap as BpfMap, PerCpuHashMap, PerCpuValues};
use aya::programs::{
    BtfTracePoint, CgroupSkb, CgroupSock, CgroupSockAddr, Iter, Program, ProgramError, SockOps,
};
use aya::util::nr_cpus;
use aya::{Ebpf, EbpfLoader};
use ingress_trace_common::aggregate::{Key, Value, counted};
use ingress_trace_common::config::{Config, NAME_LEN};

use super::{Probe, btf, preflight::Environment};
use crate::allocator;

/// What the kernel side is told; fixed for the life of the probe.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Read methods, statuses and framing from the payload.
    pub http: bool,
    /// First bytes later than this are slow.
    pub slow: std::time::Duration,
    /// Watch only processes whose names are given with [`Probe::allow_names`].
    pub names: bool,
    /// Forward the kernel side's own log.
    pub log: bool,
}

static OBJECT: &[u8] =
    aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/ingress-trace.bpf.o"));

impl Probe {
    /// Loads every program and attaches the one that is not tied to a pod (`sock_state`).
    pub fn load(settings: &Settings, environment: &Environment) -> Result<Self> {
        raise_memlock();
        let config = config(settings, &environment.btf)?;
        let level = if settings.log { 5u8 } else { 0u8 };
        // The loader parses the kernel's BTF, too; it is gone with this statement, and so the two
        // take their memory one after the other.
        let mut ebpf = EbpfLoader::new()
            .override_global("CONFIG", &config, true)
            .override_global(aya_log::LEVEL, &level, false)
            .load(OBJECT)
            .context("failed to load the eBPF object into the kernel")?;
        load_programs(&mut ebpf, &environment.btf)?;
        let aggregates = overflow(take(&mut ebpf, "AGGREGATES")?)?;
        let samples = take(&mut ebpf, "SAMPLES")?;
        let losses = take(&mut ebpf, "LOSSES")?;
        allocator::trim();
        let log = if settings.log {
            Some(aya_log::EbpfLogger::init(&mut ebpf).context("failed to read the eBPF log")?)
        } else {
            None
        };
        Ok(Self {
            ebpf,
            samples,
            aggregates,
            losses,
            attached: std::collections::HashMap::new(),
            log,
        })
    }

    /// Lets processes of these names count as data planes.
    pub fn allow_names<'a>(&mut self, names: impl Iterator<Item = &'a str>) -> Result<()> {
        let map = self
            .ebpf
            .map_mut("NAMES")
            .context("the eBPF object has no map NAMES")?;
        let mut map = BpfMap::<_, [u8; NAME_LEN], u8>::try_from(map)?;
        for name in names {
            map.insert(padded(name), 1, 0)
                .context("failed to write the map of process names")?;
        }
        Ok(())
    }
}

impl Probe {
    /// From now on the answers to clients that waited while an attempt failed are told, too.
    /// `bound`: some of them by controllers that keep a request on one thread.
    pub fn tell_clients(&mut self, bound: bool) -> Result<()> {
        let map = self
            .ebpf
            .map_mut("FAILING")
            .context("the eBPF object has no map FAILING")?;
        // Time and number of the newest failure, both none yet, and the wish.
        let wanted = [0u32, 0, 0, 1 + u32::from(bound)];
        aya::maps::Array::<_, [u32; 4]>::try_from(map)?
            .set(0, wanted, 0)
            .context("failed to write the map of the newest failure")
    }
}

/// A process name as the kernel keeps it: at most 15 bytes, NUL-padded.
fn padded(name: &str) -> [u8; NAME_LEN] {
    let mut padded = [0; NAME_LEN];
    for (to, from) in padded.iter_mut().take(NAME_LEN - 1).zip(name.bytes()) {
        *to = from;
    }
    padded
}

/// Kernels before 5.11 charge BPF memory to this limit; later ones ignore it.
fn raise_memlock() {
    let limit = libc::rlimit {
        rlim_cur: libc::RLIM_INFINITY,
        rlim_max: libc::RLIM_INFINITY,
    };
    // SAFETY: a plain system call with a pointer to a local struct. Its failure shows itself as a
    // load error, which says more.
    unsafe { libc::setrlimit(libc::RLIMIT_MEMLOCK, &raw const limit) };
}

fn config(settings: &Settings, path: &Path) -> Result<Config> {
    let offsets = btf::offsets(&btf::Btf::load(path)?)?;
    Ok(Config {
        slow: settings.slow.as_nanos() as u64,
        http: u32::from(settings.http),
        names: u32::from(settings.names),
        ..offsets
    })
}

fn take<T>(ebpf: &mut Ebpf, name: &str) -> Result<T>
where
    T: TryFrom<aya::maps::Map>,
    T::Error: std::error::Error + Send + Sync + 'static,
{
    let map = ebpf
        .take_map(name)
        .with_context(|| format!("the eBPF object has no map {name}"))?;
    T::try_from(map).with_context(|| format!("the eBPF map {name} has an unexpected type"))
}

/// Makes room for what a full aggregate map cannot tell apart.
fn overflow(
    mut map: PerCpuHashMap<aya::maps::MapData, Key, Value>,
) -> Result<PerCpuHashMap<aya::maps::MapData, Key, Value>> {
    let cpus = nr_cpus()
        .map_err(|(_, error)| error)
        .context("failed to count the CPUs")?;
    for what in counted::EXCHANGE..=counted::ABORT {
        let key = Key {
            cgroup: 0,
            address: [0; 16],
            port: 0,
            status: 0,
            counted: what,
            reserved: [0; 3],
        };
        let zero = PerCpuValues::try_from(vec![Value::default(); cpus])
            .context("failed to make an aggregate")?;
        map.insert(key, zero, 0)
            .context("failed to write the aggregate map")?;
    }
    Ok(map)
}

/// All at once: the verifier takes its time for each, and works on as many processors as it gets.
fn load_programs(ebpf: &mut Ebpf, btf: &Path) -> Result<()> {
    let kernel = aya::Btf::parse_file(btf, aya::Endianness::default())
        .context("failed to parse the kernel's BTF")?;
    thread::scope(|scope| {
        let loads: Vec<_> = ebpf
            .programs_mut()
            .map(|(name, program)| {
                let kernel = &kernel;
                scope.spawn(move || {
                    load_program(program, kernel).map_err(|error| explain(name, &error))
                })
            })
            .collect();
        loads
            .into_iter()
            .try_for_each(|load| load.join().expect("a loading thread does not panic"))
    })?;
    let state: &mut BtfTracePoint = ebpf
        .program_mut("state")
        .context("the eBPF object has no program state")?
        .try_into()
        .context("the program state is no tracepoint")?;
    state
        .attach()
        .context("failed to attach to the tracepoint inet_sock_set_state")?;
    Ok(())
}

fn load_program(program: &mut Program, kernel: &aya::Btf) -> Result<(), ProgramError> {
    match program {
        Program::CgroupSkb(program) => CgroupSkb::load(program),
        Program::CgroupSock(program) => CgroupSock::load(program),
        Program::CgroupSockAddr(program) => CgroupSockAddr::load(program),
        Program::SockOps(program) => SockOps::load(program),
        Program::BtfTracePoint(program) => {
            BtfTracePoint::load(program, "inet_sock_set_state", kernel)
        }
        Program::Iter(program) => Iter::load(program, "tcp", kernel),
        _ => Ok(()),
    }
}

/// The verifier's log is long; its last lines say what is wrong.
fn explain(name: &str, error: &ProgramError) -> anyhow::Error {
    if let ProgramError::LoadError {
        io_error,
        verifier_log,
    } = error
    {
        let log = verifier_log.to_string();
        let lines: Vec<&str> = log.lines().collect();
        let tail = lines[lines.len().saturating_sub(12)..].join("\n");
        return anyhow!(
            "failed to load the eBPF program {name}: {io_error}; the verifier's last words:\n{tail}"
        );
    }
    anyhow!("failed to load the eBPF program {name}: {error}")
}
