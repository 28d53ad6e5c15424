//! Looking at a mount: how much lies there, and which installed packages a save would not carry.

use super::until::Until;
use super::walk::{Bounds, Root, Visit, kind, walk};
use super::{depth, name_of, parent_of, shown};
use mothball_domain::survey::{PackageTree, TREES_MAX, TreeKind};
use rustix::fs::{FileType, Stat};
use std::io;
use std::path::Path;

/// Trees that are remembered before those that lie in others are taken out.
const FOUND_MAX: usize = 1_000;

/// What was seen of a mount.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Mounted {
    /// Bytes of its files.
    pub bytes: u64,
    /// Whether all of them were counted in time.
    pub complete: bool,
    /// Trees of installed packages in it, nearest to its root first, at most [`TREES_MAX`].
    pub trees: Vec<PackageTree>,
}

/// Looks at what is mounted at `target`, from `source` on the node. Blocks, and where a file server is away that may be for
/// ever: give it a thread that can be spared. Fails where the source cannot be opened.
pub fn look_at_mount(source: &Path, target: &str, until: Until, threads: usize) -> io::Result<Mounted> {
    if source.is_file() {
        return Ok(Mounted { bytes: source.metadata()?.len(), complete: true, trees: Vec::new() });
    }
    let root = Root::open(source)?;
    let (visitors, complete) = walk(&root, (), &Bounds { until, threads }, Visitor::default);
    let bytes = visitors.iter().map(|v| v.bytes).sum();
    let mut found: Vec<(Vec<u8>, TreeKind)> = visitors.into_iter().flat_map(|v| v.found).collect();
    found.sort_by(|a, b| (depth(&a.0), a).cmp(&(depth(&b.0), b)));
    let mut trees: Vec<(Vec<u8>, TreeKind)> = Vec::new();
    for (path, kind) in found {
        if trees.len() < TREES_MAX && !trees.iter().any(|(tree, _)| lies_in(&path, tree)) {
            trees.push((path, kind));
        }
    }
    let tree = |(path, kind): (Vec<u8>, TreeKind)| PackageTree {
        path: shown(target, &path),
        kind,
        mount: target.to_owned(),
    };
    Ok(Mounted { bytes, complete, trees: trees.into_iter().map(tree).collect() })
}

fn lies_in(path: &[u8], tree: &[u8]) -> bool {
    tree.is_empty() || path == tree || path.strip_prefix(tree).is_some_and(|rest| rest.starts_with(b"/"))
}

#[derive(Debug, Default)]
struct Visitor {
    bytes: u64,
    found: Vec<(Vec<u8>, TreeKind)>,
}

impl Visit for Visitor {
    type Inside = ();

    fn entry(&mut self, path: &[u8], (): &(), stat: &Stat) -> Option<()> {
        let file_type = kind(stat);
        let tree = match (file_type, name_of(path)) {
            (FileType::Directory, b"conda-meta") => Some((parent_of(path), TreeKind::Conda)),
            (FileType::Directory, b"site-packages" | b"dist-packages") => Some((path, TreeKind::Python)),
            (FileType::Directory, b"node_modules") => Some((path, TreeKind::Npm)),
            (FileType::RegularFile, b"pyvenv.cfg") => Some((parent_of(path), TreeKind::Python)),
            _ => None,
        };
        if let Some((path, kind)) = tree.filter(|_| self.found.len() < FOUND_MAX) {
            self.found.push((path.to_vec(), kind));
        }
        if file_type == FileType::RegularFile {
            self.bytes += stat.st_size.unsigned_abs();
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::time::Duration;

    #[test]
    fn trees_are_named_once_by_their_roots() {
        let dir = tempfile::tempdir().unwrap();
        for directory in [
            ".local/lib/python3.10/site-packages/numpy",
            "envs/torch/conda-meta",
            "envs/torch/lib/python3.11/site-packages",
            "venv/lib/python3.11/site-packages",
            "app/node_modules/left-pad/node_modules/x",
        ] {
            fs::create_dir_all(dir.path().join(directory)).unwrap();
        }
        fs::write(dir.path().join("venv/pyvenv.cfg"), "12345").unwrap();
        fs::write(dir.path().join("data"), [0; 1000]).unwrap();
        let later = Until::after(Duration::from_mins(1));
        let seen = look_at_mount(dir.path(), "/home/ann", later, 2).unwrap();
        assert_eq!((seen.bytes, seen.complete), (1005, true));
        let trees: Vec<(&str, TreeKind)> = seen.trees.iter().map(|t| (t.path.as_str(), t.kind)).collect();
        let expected = [
            ("/home/ann/venv", TreeKind::Python),
            ("/home/ann/app/node_modules", TreeKind::Npm),
            ("/home/ann/envs/torch", TreeKind::Conda),
            ("/home/ann/.local/lib/python3.10/site-packages", TreeKind::Python),
        ];
        assert_eq!(trees, expected);
        assert!(seen.trees.iter().all(|t| t.mount == "/home/ann"));
    }

    #[test]
    fn a_mount_may_be_one_file_or_be_gone_or_take_too_long() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("file"), "123").unwrap();
        let later = Until::after(Duration::from_mins(1));
        assert_eq!(look_at_mount(&dir.path().join("file"), "/x", later.clone(), 1).unwrap().bytes, 3);
        assert!(look_at_mount(&dir.path().join("none"), "/x", later, 1).is_err());
        assert!(!look_at_mount(dir.path(), "/x", Until::after(Duration::ZERO), 1).unwrap().complete);
    }
}
