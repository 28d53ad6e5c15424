//! Everything about a tree that an image must keep, for comparison.

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

/// One entry as people see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Seen {
    kind: &'static str,
    mode: u32,
    owner: (u32, u32),
    mtime: (i64, i64),
    device: u64,
    content: Vec<u8>,
    xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    /// The first name of a file that has several.
    linked_to: Option<PathBuf>,
}

/// Looks at everything below `root`, and at itself. `real` paths that cannot be in an image are left out.
pub(crate) fn view(root: &Path) -> BTreeMap<PathBuf, Seen> {
    let mut seen = BTreeMap::new();
    let mut first_names: HashMap<u64, PathBuf> = HashMap::new();
    let mut stack = vec![PathBuf::new()];
    let mut files = Vec::new();
    while let Some(path) = stack.pop() {
        let full = root.join(&path);
        let meta = fs::symlink_metadata(&full).unwrap_or_else(|e| panic!("{}: {e}", full.display()));
        if meta.is_dir() {
            for entry in fs::read_dir(&full).unwrap() {
                let name = entry.unwrap().file_name();
                if !name.as_bytes().starts_with(b".wh.") {
                    stack.push(path.join(name));
                }
            }
        }
        if meta.file_type().is_socket() {
            continue;
        }
        if meta.is_file() {
            files.push((path.clone(), meta.ino()));
        }
        seen.insert(path, look(&full, &meta));
    }
    files.sort();
    for (path, ino) in files {
        if let Some(first) = first_names.get(&ino) {
            let first = first.clone();
            for name in [&first, &path] {
                seen.get_mut(name).unwrap().linked_to = Some(first.clone());
            }
        } else {
            first_names.insert(ino, path);
        }
    }
    seen
}

fn look(full: &Path, meta: &fs::Metadata) -> Seen {
    let kind = meta.file_type();
    let (kind, content) = match () {
        () if kind.is_dir() => ("directory", Vec::new()),
        () if kind.is_file() => ("file", fs::read(full).unwrap()),
        () if kind.is_symlink() => ("symlink", fs::read_link(full).unwrap().as_os_str().as_bytes().to_vec()),
        () if kind.is_fifo() => ("fifo", Vec::new()),
        () if kind.is_char_device() => ("character device", Vec::new()),
        () => ("block device", Vec::new()),
    };
    Seen {
        kind,
        mode: meta.mode() & 0o7777,
        owner: (meta.uid(), meta.gid()),
        mtime: (meta.mtime(), meta.mtime_nsec()),
        device: meta.rdev(),
        content,
        xattrs: xattrs(full),
        linked_to: None,
    }
}

fn xattrs(full: &Path) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let mut names = vec![0; 4096];
    let length = rustix::fs::llistxattr(full, &mut names[..]).unwrap_or(0);
    let names: Vec<_> = names[..length].split(|b| *b == 0).filter(|n| !n.is_empty()).collect();
    let value = |name: &[u8]| {
        let mut value = vec![0; 4096];
        let length = rustix::fs::lgetxattr(full, OsStr::from_bytes(name), &mut value[..]).unwrap();
        value[..length].to_vec()
    };
    names.into_iter().map(|name| (name.to_vec(), value(name))).collect()
}

/// Says what is different; nothing where all is the same.
pub(crate) fn differences(a: &BTreeMap<PathBuf, Seen>, b: &BTreeMap<PathBuf, Seen>) -> Vec<String> {
    let paths: std::collections::BTreeSet<_> = a.keys().chain(b.keys()).collect();
    let differs = paths.into_iter().filter(|path| a.get(*path) != b.get(*path));
    differs.map(|path| format!("{}:\n  {:?}\n  {:?}", path.display(), a.get(path), b.get(path))).collect()
}
