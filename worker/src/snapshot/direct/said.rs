//! What a direct save tells of itself: to its owner, and in numbers.

use crate::attempt::Attempt;
use crate::metrics::Metrics;
use mothball_image::layer::{LeftOut, Reason};
use mothball_image::save::SavedLayers;

/// Most paths that a note names.
const NAMED_MAX: usize = 10;

/// Counts what was read, sent and reused.
pub(super) fn count(metrics: &Metrics, saved: &SavedLayers) {
    metrics.bytes_read.inc_by(saved.report.read_bytes);
    metrics.bytes_uploaded.inc_by(saved.report.sent_bytes);
    metrics.bytes_reused.inc_by(reused(saved));
}

/// Bytes of the image's own layers that were in the registry before.
fn reused(saved: &SavedLayers) -> u64 {
    let all: u64 = saved.layers.iter().map(|layer| layer.size).sum();
    all.saturating_sub(saved.report.sent_bytes)
}

/// Tells the job's owner what was sent, and what is not in the image.
pub(super) fn say(attempt: &mut Attempt, saved: &SavedLayers) {
    let report = &saved.report;
    attempt.note(format!(
        "The save read {} bytes of the container's files and sent {} bytes; {} bytes were in the registry already.",
        report.read_bytes,
        report.sent_bytes,
        reused(saved)
    ));
    left_out(attempt, &report.left_out);
    if !report.lost_xattrs.is_empty() {
        let paths: Vec<String> = report.lost_xattrs.iter().map(|path| shown(path)).collect();
        attempt.note(format!("Saved without some extended attribute: {}.", list(&paths)));
    }
}

fn left_out(attempt: &mut Attempt, left_out: &LeftOut) {
    for (reason, words) in [
        (Reason::Socket, "sockets, which are of no use without their processes"),
        (Reason::WhiteoutName, "names by which images say that something is deleted"),
        (Reason::PathTooLong, "paths longer than any Docker takes"),
        (Reason::OtherFileSystem, "mounted from elsewhere"),
        (Reason::Excluded, "left out as asked"),
    ] {
        let named = left_out.named.iter().filter(|(_, why)| *why == reason);
        let paths: Vec<String> = named.map(|(path, _)| shown(path)).collect();
        if !paths.is_empty() {
            attempt.note(format!("Not saved ({words}): {}.", list(&paths)));
        }
    }
}

fn shown(path: &[u8]) -> String {
    format!("/{}", String::from_utf8_lossy(path).escape_debug())
}

fn list(paths: &[String]) -> String {
    let named = paths.iter().take(NAMED_MAX).cloned().collect::<Vec<_>>().join(", ");
    match paths.len().saturating_sub(NAMED_MAX) {
        0 => named,
        more => format!("{named} and {more} more"),
    }
}
