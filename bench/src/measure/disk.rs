//! Bytes on disks: of a directory exactly, of a whole file system cheaply.

use std::collections::HashSet;
use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use anyhow::{Context as _, Result};

/// Bytes that a directory takes, as du counts: blocks, each file once however many names it has, and nothing that is
/// mounted below it.
pub(crate) fn used(root: &Path) -> Result<u64> {
    let metadata = fs::symlink_metadata(root).with_context(|| format!("look at {}", root.display()))?;
    let device = metadata.dev();
    let (mut bytes, mut linked) = (0, HashSet::new());
    let mut left = vec![root.to_owned()];
    while let Some(directory) = left.pop() {
        // Servers work in these directories: what is gone by now takes nothing.
        let Ok(children) = fs::read_dir(&directory) else { continue };
        for child in children.flatten() {
            let Ok(metadata) = child.metadata() else { continue };
            if metadata.dev() != device {
                continue;
            }
            if counts(&metadata, &mut linked) {
                bytes += metadata.blocks() * 512;
            }
            if metadata.is_dir() {
                left.push(child.path());
            }
        }
    }
    Ok(bytes)
}

fn counts(metadata: &Metadata, linked: &mut HashSet<u64>) -> bool {
    metadata.is_dir() || metadata.nlink() == 1 || linked.insert(metadata.ino())
}

/// Bytes that are free for root on the file system of a path.
pub(crate) fn free(path: &Path) -> Result<u64> {
    let facts =
        rustix::fs::statvfs(path).with_context(|| format!("look at the disk of {}", path.display()))?;
    Ok(facts.f_bfree * facts.f_frsize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_counts_once_and_by_its_blocks() {
        let place = std::env::temp_dir().join(format!("mothball-bench-{}", std::process::id()));
        fs::create_dir_all(place.join("below")).unwrap();
        let empty = used(&place).unwrap();
        fs::write(place.join("below/one"), vec![1; 1_000_000]).unwrap();
        fs::hard_link(place.join("below/one"), place.join("two")).unwrap();
        let grown = used(&place).unwrap() - empty;
        fs::remove_dir_all(&place).unwrap();
        assert!((1_000_000..1_100_000).contains(&grown), "{grown}");
        assert!(used(&place).is_err());
    }
}
