//! Whole-tree comparison: what a file system holds, entry by entry, down to times, owners, attributes and links.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ffi::CString;
use std::fmt::Write as _;
use std::fs::Metadata;
use std::io::Read as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use sha2::{Digest as _, Sha256};

use crate::dockerd::Dockerd;

/// What Docker lays out anew in each container that it creates: the times say when that was, not what was saved.
const LAID_OUT: [&str; 3] = ["", "etc", "etc/mtab"];

/// How exactly times of modification must agree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Times {
    /// To the nanosecond.
    Nanoseconds,
    /// To the second: Docker's own commit keeps no more.
    Seconds,
    /// Not at all.
    Ignored,
}

/// One entry, told apart from another by any of its fields.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// What it is: `file`, `directory`, `symlink`, `fifo`, `socket`, `character` or `block`.
    pub kind: &'static str,
    /// The permission bits, with setuid, setgid and sticky.
    pub mode: u32,
    /// The owner and the group.
    pub owner: (u32, u32),
    /// The time of modification, in seconds and nanoseconds.
    pub modified: (i64, i64),
    /// How many names a file has; 1 for directories, whose count differs between file systems.
    pub links: u64,
    /// The first name, in order, of a file that has several.
    pub same_as: Option<PathBuf>,
    /// The number of a device.
    pub device: u64,
    /// The size of a file.
    pub size: u64,
    /// The SHA-256 of a file's content, or the target of a symlink.
    pub content: String,
    /// The extended attributes.
    pub attributes: BTreeMap<Vec<u8>, Vec<u8>>,
}

/// A file system as it was when it was read; paths are relative to its root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tree {
    /// The entries by path; the root itself has the empty path.
    pub entries: BTreeMap<PathBuf, Entry>,
}

impl Tree {
    /// Reads everything below a directory.
    pub fn read(root: &Path) -> Result<Self> {
        Self::read_without(root, &BTreeSet::new())
    }

    /// Reads a running container's file system without what is mounted into it and without Docker's own marker.
    pub async fn of_container(dockerd: &Dockerd, container: &str) -> Result<Self> {
        let process = PathBuf::from(format!("/proc/{}", dockerd.container_pid(container).await?));
        let table =
            std::fs::read_to_string(process.join("mountinfo")).context("read a container's mounts")?;
        let mut without: BTreeSet<PathBuf> = table
            .lines()
            .filter_map(|line| line.split(' ').nth(4)?.strip_prefix('/').map(PathBuf::from))
            .filter(|path| path != Path::new(""))
            .collect();
        without.insert(".dockerenv".into());
        let root = process.join("root");
        // A kernel call for each entry: not on a thread that others wait for.
        let tree = tokio::task::spawn_blocking(move || Self::read_without(&root, &without))
            .await
            .context("read a container's files")?;
        let mut tree = tree?;
        for path in LAID_OUT {
            if let Some(entry) = tree.entries.get_mut(Path::new(path)) {
                entry.modified = (0, 0);
            }
        }
        Ok(tree)
    }

    fn read_without(root: &Path, without: &BTreeSet<PathBuf>) -> Result<Self> {
        let mut reader = Reader { root, without, first_names: HashMap::new(), entries: BTreeMap::new() };
        reader.visit(Path::new(""))?;
        Ok(Self { entries: reader.entries })
    }

    /// Counts as a file's names those in this tree: overlayfs counts also those in a layer that a later layer hides.
    #[must_use]
    pub fn links_counted(mut self) -> Self {
        let mut names = HashMap::<PathBuf, u64>::new();
        for first in self.entries.values().filter_map(|entry| entry.same_as.clone()) {
            *names.entry(first).or_default() += 1;
        }
        for entry in self.entries.values_mut() {
            entry.links = entry.same_as.as_ref().map_or(1, |first| names[first]);
            entry.same_as.take_if(|_| entry.links == 1);
        }
        self
    }

    /// What differs, one line for each entry; empty when the trees are equal.
    pub fn differences(&self, other: &Self, times: Times) -> Vec<String> {
        let paths: BTreeSet<&PathBuf> = self.entries.keys().chain(other.entries.keys()).collect();
        let compare = |path: &PathBuf| match (self.entries.get(path), other.entries.get(path)) {
            (Some(one), Some(two)) => one.difference(two, times),
            (Some(_), None) => Some("is missing in the second".to_owned()),
            _ => Some("is missing in the first".to_owned()),
        };
        let line = |path: &PathBuf| Some(format!("/{}: {}", path.display(), compare(path)?));
        paths.into_iter().filter_map(line).collect()
    }
}

impl Entry {
    fn difference(&self, other: &Self, times: Times) -> Option<String> {
        let mut text = String::new();
        let mut check = |name: &str, equal: bool, one: &dyn std::fmt::Debug, two: &dyn std::fmt::Debug| {
            if !equal {
                let _infallible = write!(text, " {name} {one:?} and {two:?};");
            }
        };
        let (one, two) = (self, other);
        let modified = match times {
            Times::Nanoseconds => one.modified == two.modified,
            Times::Seconds => one.modified.0 == two.modified.0,
            Times::Ignored => true,
        };
        check("kind", one.kind == two.kind, &one.kind, &two.kind);
        check("mode", one.mode == two.mode, &one.mode, &two.mode);
        check("owner", one.owner == two.owner, &one.owner, &two.owner);
        check("time", modified, &one.modified, &two.modified);
        check("links", one.links == two.links, &one.links, &two.links);
        check("first name", one.same_as == two.same_as, &one.same_as, &two.same_as);
        check("device", one.device == two.device, &one.device, &two.device);
        check("size", one.size == two.size, &one.size, &two.size);
        check("content", one.content == two.content, &one.content, &two.content);
        check("attributes", one.attributes == two.attributes, &one.attributes, &two.attributes);
        (!text.is_empty()).then_some(text)
    }
}

struct Reader<'a> {
    root: &'a Path,
    without: &'a BTreeSet<PathBuf>,
    first_names: HashMap<(u64, u64), PathBuf>,
    entries: BTreeMap<PathBuf, Entry>,
}

impl Reader<'_> {
    fn visit(&mut self, path: &Path) -> Result<()> {
        if self.without.contains(path) {
            return Ok(());
        }
        let full = self.root.join(path);
        let at = || format!("read {}", full.display());
        // The root may be given as a link, as /proc/<pid>/root is.
        let metadata =
            if path == Path::new("") { std::fs::metadata(&full) } else { std::fs::symlink_metadata(&full) };
        let metadata = metadata.with_context(at)?;
        let entry = self.entry(path, &full, &metadata).with_context(at)?;
        self.entries.insert(path.to_owned(), entry);
        if metadata.is_dir() {
            let children = std::fs::read_dir(&full).with_context(at)?;
            let mut names = children
                .map(|child| child.map(|child| child.file_name()))
                .collect::<Result<Vec<_>, _>>()
                .with_context(at)?;
            // In order, so that the first name of a file is the same one in both trees.
            names.sort();
            for name in names {
                self.visit(&path.join(name))?;
            }
        }
        Ok(())
    }

    fn entry(&mut self, path: &Path, full: &Path, metadata: &Metadata) -> Result<Entry> {
        let kind = metadata.file_type();
        let (kind, content) = if kind.is_file() {
            ("file", hash(full)?)
        } else if kind.is_symlink() {
            ("symlink", std::fs::read_link(full)?.to_string_lossy().into_owned())
        } else if kind.is_dir() {
            ("directory", String::new())
        } else if kind.is_fifo() {
            ("fifo", String::new())
        } else if kind.is_socket() {
            ("socket", String::new())
        } else if kind.is_char_device() {
            ("character", String::new())
        } else {
            ("block", String::new())
        };
        let links = if metadata.is_dir() { 1 } else { metadata.nlink() };
        let same_as = (links > 1).then(|| {
            let first = self.first_names.entry((metadata.dev(), metadata.ino()));
            first.or_insert_with(|| path.to_owned()).clone()
        });
        Ok(Entry {
            kind,
            mode: metadata.mode() & 0o7777,
            owner: (metadata.uid(), metadata.gid()),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            links,
            same_as,
            device: metadata.rdev(),
            size: if metadata.is_dir() { 0 } else { metadata.len() },
            content,
            attributes: attributes(full)?,
        })
    }
}

fn hash(path: &Path) -> Result<String> {
    let mut file = std::fs::File::open(path)?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let length = file.read(&mut buffer)?;
        if length == 0 {
            break;
        }
        hash.update(&buffer[..length]);
    }
    let mut text = String::new();
    for byte in hash.finalize() {
        write!(text, "{byte:02x}")?;
    }
    Ok(text)
}

fn attributes(path: &Path) -> Result<BTreeMap<Vec<u8>, Vec<u8>>> {
    let mut names = vec![0; 64 * 1024];
    let length = rustix::fs::llistxattr(path, &mut names[..]).context("list attributes")?;
    let mut attributes = BTreeMap::new();
    for name in names[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        let mut value = vec![0; 64 * 1024];
        let length =
            rustix::fs::lgetxattr(path, CString::new(name)?, &mut value[..]).context("read an attribute")?;
        value.truncate(length);
        attributes.insert(name.to_owned(), value);
    }
    Ok(attributes)
}
