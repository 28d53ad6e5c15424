//! Slices read while the container stands still, and kept until it runs again.

use super::look::Plan;
use crate::layer::root::Root;
use crate::save::slices::Slice;
use crate::save::source::SliceReport;
use crate::save::spool::{Spool, SpoolSettings};
use std::io::{self, Write};
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// A slice that was read.
pub(super) struct SetAside {
    pub(super) slice: Arc<Slice>,
    pub(super) report: SliceReport,
    pub(super) tar: Arc<Spool>,
}

/// Reads all slices of a plan; nothing when that is more than may be kept.
pub(super) fn all(
    plan: &Plan,
    root: &Arc<Root>,
    settings: &SpoolSettings,
    stop: &CancellationToken,
) -> io::Result<Option<Vec<SetAside>>> {
    if plan.changes.tar_bytes(&plan.tree) > settings.bytes_max {
        return Ok(None);
    }
    let source = plan.source(root);
    let mut bounds = settings.clone();
    let mut aside = Vec::with_capacity(plan.slices.len());
    for slice in &plan.slices {
        let mut out = Stoppable { spool: Spool::new(bounds.clone()), stop };
        let report = match source.write_slice(slice, &mut out, &|_| {}) {
            Ok(report) => report,
            // It grew while it was read.
            Err(error) if error.kind() == io::ErrorKind::FileTooLarge => return Ok(None),
            Err(error) => return Err(error),
        };
        bounds = out.spool.room_left();
        aside.push(SetAside { slice: slice.clone(), report, tar: Arc::new(out.spool) });
    }
    Ok(Some(aside))
}

/// Ends where the save was cancelled.
struct Stoppable<'a> {
    spool: Spool,
    stop: &'a CancellationToken,
}

impl Write for Stoppable<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.stop.is_cancelled() {
            return Err(io::Error::new(io::ErrorKind::BrokenPipe, "the save was stopped"));
        }
        self.spool.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
