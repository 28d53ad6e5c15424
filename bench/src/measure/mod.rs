//! What one save or launch costs, seen from outside: time, processors, memory, disks, wire, and how long the container
//! stood still.

mod disk;
mod freezer;
mod memory;
mod sampler;
mod system;

use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context as _, Result};
use serde::Serialize;

pub(crate) use disk::{free, used};
pub(crate) use memory::resident_peak;
pub(crate) use system::busy_seconds;

use freezer::Freezer;
use sampler::Sampler;

/// What there is to look at while something is measured.
#[derive(Clone, Debug)]
pub(crate) struct Watched {
    /// The node's directories: Docker's data root, the worker's state, a tool's storage.
    pub(crate) node: Vec<PathBuf>,
    /// The registry's directory.
    pub(crate) registry: PathBuf,
    /// The first process of the container that is saved.
    pub(crate) container: Option<u32>,
    /// Mothball's process.
    pub(crate) mothball: u32,
    /// Docker Engine's process.
    pub(crate) dockerd: u32,
}

/// What was seen.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Figures {
    /// Seconds as the user waits.
    pub(crate) waited_s: f64,
    /// CPU-seconds of the whole machine.
    pub(crate) cpu_s: f64,
    /// Seconds that the container's cgroup was frozen.
    pub(crate) frozen_s: Option<f64>,
    /// Peak of resident memory of Mothball's process, in bytes.
    pub(crate) mothball_rss: u64,
    /// Peak of resident memory of Docker Engine's process, in bytes.
    pub(crate) dockerd_rss: u64,
    /// Bytes more on the node's disk when it was done.
    pub(crate) node_bytes: i64,
    /// Bytes more on the node's disk while it was done, at most.
    pub(crate) node_bytes_peak: i64,
    /// Bytes more on the registry's disk.
    pub(crate) registry_bytes: i64,
    /// Bytes over the loopback interface.
    pub(crate) wire_bytes: u64,
}

/// A measurement that has begun.
pub(crate) struct Watch {
    watched: Watched,
    sampler: Sampler,
    node: u64,
    registry: u64,
    cpu: f64,
    wire: u64,
    begun: Instant,
}

impl Watch {
    /// Writes dirty pages back, so that nobody pays for what was written before, looks at everything, and begins.
    pub(crate) fn begin(watched: Watched) -> Result<Self> {
        rustix::fs::sync();
        let node = sum(&watched.node)?;
        let registry = used(&watched.registry)?;
        for pid in [watched.mothball, watched.dockerd] {
            memory::forget_peak(pid).context("reset a process's peak of memory")?;
        }
        let freezer = watched.container.map(Freezer::of_process).transpose()?;
        let sampler = Sampler::start(freezer, watched.registry.clone())?;
        let (cpu, wire) = (busy_seconds()?, system::loopback_bytes()?);
        Ok(Self { watched, sampler, node, registry, cpu, wire, begun: Instant::now() })
    }

    /// Ends, and looks at everything again.
    pub(crate) fn end(self) -> Result<Figures> {
        let waited_s = self.begun.elapsed().as_secs_f64();
        let (cpu, wire) = (busy_seconds()?, system::loopback_bytes()?);
        let seen = self.sampler.stop()?;
        let node_bytes = signed(sum(&self.watched.node)?, self.node);
        Ok(Figures {
            waited_s,
            cpu_s: cpu - self.cpu,
            frozen_s: seen.frozen.map(|frozen| frozen.as_secs_f64()),
            mothball_rss: resident_peak(self.watched.mothball)?,
            dockerd_rss: resident_peak(self.watched.dockerd)?,
            node_bytes,
            node_bytes_peak: seen.node_bytes_peak.max(node_bytes),
            registry_bytes: signed(used(&self.watched.registry)?, self.registry),
            wire_bytes: wire - self.wire,
        })
    }
}

fn sum(directories: &[PathBuf]) -> Result<u64> {
    directories.iter().map(|directory| used(directory)).sum()
}

/// How much more the first is; both are sizes of disks.
fn signed(after: u64, before: u64) -> i64 {
    after.cast_signed() - before.cast_signed()
}
