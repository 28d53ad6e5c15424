//! What lies in the containers: the workloads that the goals are stated for, and smaller ones of the same kind.

mod changes;
mod fill;
mod packages;

use clap::ValueEnum;
use serde::Serialize;

pub(crate) use changes::{change, start_writer, stop_writer};
pub(crate) use fill::fill;
pub(crate) use packages::Packages;

const MIB: u64 = 1 << 20;

/// One kind of writable layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Workload {
    /// Packages from PyPI, as pip installs them.
    W1,
    /// One incompressible file.
    W2,
    /// W1 saved again after changes.
    W3,
    /// A large layer of everything.
    W4,
}

/// How much of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Size {
    /// About a tenth: for a quick look, and for machines of CI.
    Ci,
    /// W1, W2 and W3 as the goals mean them.
    Standard,
    /// All four.
    Full,
}

impl Workload {
    /// Its name.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::W1 => "W1",
            Self::W2 => "W2",
            Self::W3 => "W3",
            Self::W4 => "W4",
        }
    }

    /// What it is, in words.
    pub(crate) fn what(self, size: Size) -> String {
        match self {
            Self::W1 => "packages from PyPI installed by pip, while a process writes 1 MB/s".to_owned(),
            Self::W2 => format!("one incompressible file of {} MiB", size.blob_mib()),
            Self::W3 => {
                format!("W1 saved again after about {} MB of changes, deletes included", size.changes_mb())
            }
            Self::W4 => format!("W1's packages three times, and {} files of W2's kind", fill::LARGE_FILES),
        }
    }

    /// Whether a run of this size has it without being asked.
    pub(crate) fn is_in(self, size: Size) -> bool {
        self != Self::W4 || size == Size::Full
    }

    /// Rounds, unless asked otherwise: fewer where one takes minutes.
    pub(crate) fn rounds(self) -> u32 {
        match self {
            Self::W1 => 3,
            Self::W2 | Self::W3 => 2,
            Self::W4 => 1,
        }
    }
}

impl Size {
    /// The incompressible file of W2, in MiB.
    pub(crate) fn blob_mib(self) -> u64 {
        if self == Self::Ci { 128 } else { 1024 }
    }

    /// What W3 writes anew, in MB.
    pub(crate) fn changes_mb(self) -> u64 {
        if self == Self::Ci { 8 } else { 31 }
    }

    /// Bytes of a workload's layer, roughly; what is planned with, never what is reported.
    pub(crate) fn layer_bytes(self, workload: Workload) -> u64 {
        let packages = if self == Self::Ci { 330 * MIB } else { 2_600 * MIB };
        match workload {
            Workload::W1 | Workload::W3 => packages,
            Workload::W2 => self.blob_mib() * MIB,
            Workload::W4 => 3 * packages + fill::LARGE_FILES * self.blob_mib() * MIB,
        }
    }
}
