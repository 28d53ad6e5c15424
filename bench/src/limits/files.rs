//! W1's tree in the page cache: looking at it, reading it, writing it once more, each by one thread.

use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};

use super::{Limit, What, rate};

const BUFFER: usize = 1 << 20;

/// How many entries can be looked at, and how many bytes read and written, in a second. What is written to `target` is
/// removed again.
pub(super) fn limits(tree: &Path, target: &Path) -> Result<Vec<Limit>> {
    // Once to have everything in the cache, if it fits.
    let (files, _) = walk(tree)?;
    read(&files)?;
    let begun = Instant::now();
    let (files, entries) = walk(tree)?;
    let walked = entries as f64 / begun.elapsed().as_secs_f64();
    let begun = Instant::now();
    let bytes = read(&files)?;
    let readable = rate(bytes, begun);
    let begun = Instant::now();
    let copied = Command::new("cp").arg("--archive").arg(tree).arg(target).status().context("start cp")?;
    let writable = rate(bytes, begun);
    ensure!(copied.success(), "cp ended with {copied}");
    fs::remove_dir_all(target).context("remove the copy")?;
    Ok(vec![
        Limit::new(What::Walk, 1, walked),
        Limit::new(What::Read, 1, readable),
        Limit::new(What::Write, 1, writable),
    ])
}

/// The content of a tree's files, one after another, up to so many bytes.
pub(super) fn content(tree: &Path, bytes_max: usize) -> Result<Vec<u8>> {
    let mut content = Vec::with_capacity(bytes_max);
    for file in walk(tree)?.0 {
        let left = bytes_max - content.len();
        if left == 0 {
            break;
        }
        let file = fs::File::open(&file).with_context(|| format!("open {}", file.display()))?;
        file.take(left as u64).read_to_end(&mut content).context("read a file")?;
    }
    Ok(content)
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
