//! The GPUs of this node.

use mothball_domain::node::Gpu;
use nvml_wrapper::Nvml;
use nvml_wrapper::error::NvmlError;
use std::path::Path;

/// How GPUs are found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum GpuInventory {
    /// NVIDIA's management library is asked.
    #[default]
    Auto,
    /// So many, without asking: for trials and tests.
    Fixed(u32),
}

/// The GPUs that were found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct GpuList {
    /// The GPUs, by index.
    pub gpus: Vec<Gpu>,
    /// Why there are none, in words.
    pub note: Option<String>,
}

impl GpuInventory {
    /// The GPUs of this node. A node without a driver has none, and says why. Blocks for some milliseconds, or, with
    /// many GPUs and no persistence daemon, for seconds.
    pub fn list(self) -> GpuList {
        match self {
            Self::Fixed(count) => GpuList { gpus: (0..count).map(fixed).collect(), note: None },
            Self::Auto => match ask() {
                Ok(gpus) => {
                    let note = gpus.is_empty().then(|| "NVIDIA's driver reports no GPU.".to_owned());
                    GpuList { gpus, note }
                }
                Err(e) => GpuList { gpus: Vec::new(), note: Some(reason(&e)) },
            },
        }
    }

    /// How busy each GPU is, 0 to 1, by index; nothing where it cannot be told. A fixed inventory is as busy as the file
    /// [`TRIAL_FILE`] in the worker's directory says. Blocks like [`Self::list`].
    pub fn utilization(self, worker_dir: &Path) -> Vec<(u32, f64)> {
        match self {
            Self::Fixed(_) => std::fs::read_to_string(worker_dir.join(TRIAL_FILE))
                .map(|text| text.lines().filter_map(trial_line).collect())
                .unwrap_or_default(),
            Self::Auto => measure().unwrap_or_default(),
        }
    }
}

/// Where trials without GPUs say how busy theirs are: lines like `0 0.95`, an index and a share.
pub const TRIAL_FILE: &str = "gpu-utilization";

fn trial_line(line: &str) -> Option<(u32, f64)> {
    let (index, busy) = line.split_once(' ')?;
    Some((index.parse().ok()?, busy.trim().parse().ok()?))
}

fn fixed(index: u32) -> Gpu {
    Gpu { index, uuid: format!("GPU-mothball-{index}"), name: "fixed".to_owned() }
}

fn ask() -> Result<Vec<Gpu>, NvmlError> {
    let nvml = Nvml::init()?;
    (0..nvml.device_count()?)
        .map(|index| {
            let device = nvml.device_by_index(index)?;
            Ok(Gpu { index, uuid: device.uuid()?, name: device.name()? })
        })
        .collect()
}

fn measure() -> Result<Vec<(u32, f64)>, NvmlError> {
    let nvml = Nvml::init()?;
    let mut found = Vec::new();
    for index in 0..nvml.device_count()? {
        // Not every GPU can tell: a partitioned one (MIG) answers "not supported".
        if let Ok(rates) = nvml.device_by_index(index).and_then(|d| d.utilization_rates()) {
            found.push((index, f64::from(rates.gpu) / 100.0));
        }
    }
    Ok(found)
}

fn reason(error: &NvmlError) -> String {
    match error {
        NvmlError::LibloadingError(_) => "NVIDIA's driver is not installed on this node.".to_owned(),
        NvmlError::DriverNotLoaded => "NVIDIA's driver is installed but not loaded.".to_owned(),
        NvmlError::NoPermission => "The worker may not ask NVIDIA's driver.".to_owned(),
        other => format!("NVIDIA's driver could not be asked: {other}."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fixed_inventory_has_as_many_as_asked() {
        let list = GpuInventory::Fixed(2).list();
        let uuids: Vec<_> = list.gpus.iter().map(|g| g.uuid.as_str()).collect();
        assert_eq!(uuids, ["GPU-mothball-0", "GPU-mothball-1"]);
        assert_eq!((list.note, list.gpus[1].index), (None, 1));
        assert!(GpuInventory::Fixed(0).list().gpus.is_empty());
    }

    #[test]
    fn a_fixed_inventory_is_as_busy_as_its_file_says() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(GpuInventory::Fixed(2).utilization(dir.path()), []);
        std::fs::write(dir.path().join(TRIAL_FILE), "0 0.95\n1 0\nnonsense\n").unwrap();
        assert_eq!(GpuInventory::Fixed(2).utilization(dir.path()), [(0, 0.95), (1, 0.0)]);
    }

    #[test]
    fn gpus_or_a_reason() {
        let list = GpuInventory::Auto.list();
        assert_eq!(list.gpus.is_empty(), list.note.is_some());
        assert!(list.gpus.iter().all(|g| g.uuid.starts_with("GPU-")), "{list:?}");
    }
}
