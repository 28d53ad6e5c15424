//! What a save leaves out: mounts, with their sizes as far as they can be counted quickly.

use crate::attempt::Attempt;
use crate::docker::{ContainerFacts, MountKind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tokio::time::timeout;

/// How long the counting of one mount may take; a home directory may have millions of files.
const COUNT_LIMIT: Duration = Duration::from_secs(2);

/// Tells the job's owner which mounts are not in the image.
pub(super) async fn note(attempt: &mut Attempt, facts: &ContainerFacts) {
    let binds: Vec<_> = facts.mounts.iter().filter(|m| m.kind == MountKind::Bind).cloned().collect();
    for mount in binds {
        let source = PathBuf::from(&mount.source);
        let counting = tokio::task::spawn_blocking(move || count(&source));
        // A mount whose server is away answers nothing at all; its thread is left to it.
        let counted = timeout(COUNT_LIMIT * 2, counting).await.ok().and_then(Result::ok).flatten();
        let size = match counted {
            Some((bytes, true)) => format!(" ({})", human(bytes)),
            Some((bytes, false)) => format!(" (more than {})", human(bytes)),
            None => String::new(),
        };
        attempt.note(format!("Not saved: {} is a mount{size}; it stays where it is.", mount.destination));
    }
}

/// Bytes of the files below `path`, and whether all were counted in time; none where it cannot be read.
fn count(path: &Path) -> Option<(u64, bool)> {
    let deadline = Instant::now() + COUNT_LIMIT;
    let mut folders = vec![path.to_owned()];
    let mut bytes = 0;
    std::fs::read_dir(path).ok()?;
    while let Some(folder) = folders.pop() {
        let Ok(entries) = std::fs::read_dir(&folder) else { continue };
        for entry in entries.flatten() {
            let Ok(kind) = entry.file_type() else { continue };
            if kind.is_dir() {
                folders.push(entry.path());
            } else if kind.is_file() {
                bytes += entry.metadata().map_or(0, |m| m.len());
            }
            if Instant::now() > deadline {
                return Some((bytes, false));
            }
        }
    }
    Some((bytes, true))
}

fn human(bytes: u64) -> String {
    match bytes {
        0..1_000 => format!("{bytes} B"),
        1_000..1_000_000 => format!("{:.1} kB", bytes as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} MB", bytes as f64 / 1e6),
        _ => format!("{:.1} GB", bytes as f64 / 1e9),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_what_is_there() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("a")).unwrap();
        std::fs::write(dir.path().join("a/b"), [0; 1500]).unwrap();
        assert_eq!(count(dir.path()), Some((1500, true)));
        assert_eq!(count(&dir.path().join("none")), None);
        assert_eq!(human(1500), "1.5 kB");
    }
}
