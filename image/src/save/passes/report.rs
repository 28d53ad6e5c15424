//! What a save did.

use super::look::Plan;
use crate::layer::walk::LeftOut;
use crate::save::record::Sent;
use std::time::Duration;

/// Most entries that are named.
const NAMED_MAX: usize = 20;

/// How much differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Churn {
    /// Entries and removals.
    pub entries: usize,
    /// Bytes of file content to be read.
    pub bytes: u64,
}

/// What a frozen pass did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FrozenReport {
    /// How long it took: the container stood still for so long, and for as long as freezing and thawing take.
    pub took: Duration,
    /// Entries and removals that differed.
    pub entries: usize,
    /// Bytes of file content that were read.
    pub bytes: u64,
    /// Whether all of it was set aside; else it was uploaded while the container stood still.
    pub set_aside: bool,
    /// Layers that hold a secret which is gone by now, and that were too large to be rewritten in this pass. The next save
    /// rewrites them.
    pub secrets_kept: usize,
}

/// What a save did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SaveReport {
    /// Why nothing was built upon, where there was an earlier save.
    pub full_because: Option<String>,
    /// How many live passes there were.
    pub live_passes: u32,
    /// What the frozen pass did.
    pub frozen: Option<FrozenReport>,
    /// Entries of the writable layer.
    pub entries: usize,
    /// What of it is not in the image, and why.
    pub left_out: LeftOut,
    /// Files of which some extended attribute has no room in a layer: the first of them.
    pub lost_xattrs: Vec<Vec<u8>>,
    /// Layers of the image on top of its base.
    pub layers: usize,
    /// Those of them that were uploaded.
    pub layers_sent: usize,
    /// Their bytes, compressed.
    pub sent_bytes: u64,
    /// Bytes of file content that were read.
    pub read_bytes: u64,
    /// How long looking took, disks synced.
    pub looking: Duration,
    /// How long reading, compressing and uploading took.
    pub uploading: Duration,
}

impl SaveReport {
    pub(super) fn saw(&mut self, plan: &Plan) {
        self.entries = plan.tree.len();
        self.left_out = plan.tree.left_out.clone();
    }

    pub(super) fn sent(&mut self, sent: &[Sent]) {
        self.layers_sent += sent.len();
        for Sent { report, blob, .. } in sent {
            self.sent_bytes += blob.size;
            self.read_bytes += report.bytes_read;
            let room = NAMED_MAX.saturating_sub(self.lost_xattrs.len());
            self.lost_xattrs.extend(report.lost_xattrs.iter().take(room).cloned());
        }
    }
}
