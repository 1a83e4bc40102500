//! The kernel edge, and the only user of aya: loads the programs, attaches them to the cgroups of
//! the targets, adopts the sockets that exist, drains samples, reads counts.
pub mod btf;
pub mod preflight;

mod adopt;
mod attach;
mod load;

use std::collections::HashMap;

use anyhow::{Context, Result};
use aya::Ebpf;
use aya::maps::{MapData, PerCpuArray, PerCpuHashMap, RingBuf};
use ingress_trace_common::aggregate::{Key, Value, loss};

pub use attach::{Attached, HOOKS};
pub use load::Settings;

/// The loaded programs with their maps. Dropping it detaches and frees everything.
pub struct Probe {
    ebpf: Ebpf,
    samples: RingBuf<MapData>,
    aggregates: PerCpuHashMap<MapData, Key, Value>,
    losses: PerCpuArray<MapData, u64>,
    attached: HashMap<u64, Attached>,
    /// The kernel side's own log, when it was asked for.
    log: Option<aya_log::EbpfLogger<&'static dyn log::Log>>,
}

impl Probe {
    /// Calls `take` with every sample that waits in the ring, at most `most` of them; tells how
    /// many there were.
    pub fn drain(&mut self, most: usize, mut take: impl FnMut(&[u8])) -> usize {
        if let Some(log) = &mut self.log {
            log.flush();
        }
        let mut count = 0;
        while count < most {
            let Some(sample) = self.samples.next() else {
                break;
            };
            take(&sample);
            count += 1;
        }
        count
    }

    /// All aggregates, summed over the CPUs.
    pub fn aggregates(&self) -> Result<Vec<(Key, Value)>> {
        self.aggregates
            .iter()
            .map(|entry| {
                let (key, values) = entry.context("failed to read the aggregate map")?;
                Ok((key, sum(values.iter())))
            })
            .collect()
    }

    /// Removes an aggregate that is not used any more.
    pub fn remove(&mut self, key: &Key) -> Result<()> {
        match self.aggregates.remove(key) {
            Ok(()) | Err(aya::maps::MapError::KeyNotFound) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// What the kernel side could not do so far, indexed by [`loss`].
    pub fn losses(&self) -> Result<[u64; loss::COUNT as usize]> {
        let mut losses = [0; loss::COUNT as usize];
        for (what, total) in losses.iter_mut().enumerate() {
            let values = self
                .losses
                .get(&(what as u32), 0)
                .context("failed to read the loss map")?;
            *total = values.iter().sum();
        }
        Ok(losses)
    }
}

fn sum<'a>(values: impl Iterator<Item = &'a Value>) -> Value {
    values.fold(Value::default(), |mut total, value| {
        total.count += value.count;
        total.sum = total.sum.wrapping_add(value.sum);
        for (bucket, more) in total.buckets.iter_mut().zip(value.buckets) {
            // They wrap in the kernel, too; who reads them takes differences.
            *bucket = bucket.wrapping_add(more);
        }
        total
    })
}
