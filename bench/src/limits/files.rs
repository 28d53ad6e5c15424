//! Reading a tree that is in the page cache: its names and sizes, then its bytes, by one thread.

use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context as _, Result};

use super::Limit;
use super::hashing::rate;

const BUFFER: usize = 1 << 20;

/// How many entries can be looked at, and how many bytes read, in a second.
pub(super) fn limits(tree: &Path) -> Result<Vec<Limit>> {
    // Once to have everything in the cache, if it fits.
    let (files, _) = walk(tree)?;
    read(&files)?;
    let begun = Instant::now();
    let (files, entries) = walk(tree)?;
    let walked = entries as f64 / begun.elapsed().as_secs_f64();
    let begun = Instant::now();
    let bytes = read(&files)?;
    Ok(vec![
        Limit::new("walking W1's packages, one thread", walked, "entries"),
        Limit::new("reading W1's packages from the page cache, one thread", rate(bytes, begun), "MB"),
    ])
}

/// The files of a tree, and how many entries it has in all.
fn walk(tree: &Path) -> Result<(Vec<PathBuf>, usize)> {
    let (mut files, mut entries) = (Vec::new(), 0);
    let mut left = vec![tree.to_owned()];
    while let Some(directory) = left.pop() {
        for child in fs::read_dir(&directory).with_context(|| format!("list {}", directory.display()))? {
            let child = child.context("list a directory")?;
            let metadata = child.metadata().context("look at an entry")?;
            entries += 1;
            if metadata.is_dir() {
                left.push(child.path());
            } else if metadata.is_file() {
                files.push(child.path());
            }
        }
    }
    Ok((files, entries))
}

fn read(files: &[PathBuf]) -> Result<usize> {
    let (mut buffer, mut bytes) = (vec![0; BUFFER], 0);
    for file in files {
        let mut file = fs::File::open(file).with_context(|| format!("open {}", file.display()))?;
        loop {
            let length = file.read(&mut buffer).context("read a file")?;
            if length == 0 {
                break;
            }
            bytes += length;
        }
    }
    Ok(bytes)
}
