//! A slice's bytes, read from a tree that changes meanwhile.
//!
//! A tar says a file's size before its content. Whatever happens to the file in between, exactly so many bytes follow; what
//! is not as it was is reported, and the next pass, which sees the same by the stamps, sends it again.

mod body;
mod names;

use super::delta::{ChangeSet, Item};
use super::slices::Slice;
use crate::layer::entry::{Device, Entry, Meta, Timestamp, What, Xattr};
use crate::layer::root::Root;
use crate::layer::tar;
use crate::layer::tree::{Kind, Node, NodeId, ROOT, Tree};
use body::Body;
use names::Directory;
use rustix::fs::Stat;
use std::collections::HashMap;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::sync::Arc;

/// How many of the entries whose attributes were left out are named.
const NAMED_MAX: usize = 20;

/// A tree and what is to be said of it. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Source {
    /// Where its files are.
    pub root: Arc<Root>,
    /// What the walk saw.
    pub tree: Arc<Tree>,
    /// What is to be said.
    pub changes: Arc<ChangeSet>,
}

/// What became of a slice.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SliceReport {
    /// Entries whose content may be neither what the walk saw nor what is there now.
    pub suspect: Vec<NodeId>,
    /// Entries that are not in the slice: they vanished, or are something else by now.
    pub missing: Vec<NodeId>,
    /// Bytes of content that were read; holes are not.
    pub bytes_read: u64,
    /// Bytes of the tar for directories that are only on the way to what the slice says.
    pub way_bytes: u64,
    /// Entries of which some extended attribute has no room in a tar: the first of them.
    pub lost_xattrs: Vec<Vec<u8>>,
}

impl Source {
    /// Writes a slice as a whole tar. `progress` hears of content as it is read, in bytes. Fails when `out` does, when the
    /// disk does, and on what only a container engine with other settings writes (`redirect`, `metacopy`).
    pub fn write_slice(
        &self,
        slice: &Slice,
        out: &mut dyn Write,
        progress: &dyn Fn(u64),
    ) -> io::Result<SliceReport> {
        let writer = SliceWriter {
            source: self,
            out,
            body: Body::new(progress),
            headers: Vec::with_capacity(4096),
            way: Vec::new(),
            links: HashMap::new(),
            report: SliceReport::default(),
        };
        writer.write(slice)
    }
}

/// A file with several names, of which the first is written.
struct Linked {
    target: Vec<u8>,
    meta: Meta,
    xattrs: Vec<Xattr>,
}

struct SliceWriter<'a> {
    source: &'a Source,
    out: &'a mut dyn Write,
    body: Body<'a>,
    headers: Vec<u8>,
    /// The directories on the way to where the writer is, the root first: all of them are written.
    way: Vec<Directory>,
    links: HashMap<u64, Linked>,
    report: SliceReport,
}

impl SliceWriter<'_> {
    fn write(mut self, slice: &Slice) -> io::Result<SliceReport> {
        for item in &slice.items {
            match *item {
                Item::Entry(id) => self.entry(id)?,
                Item::Opaque(id) => {
                    self.go_to(id)?;
                    self.mark(self.source.tree.path(id), What::Opaque)?;
                }
                Item::Removal(n) => {
                    let Some(removal) = self.source.changes.removals.get(n as usize) else { continue };
                    self.go_to(removal.parent)?;
                    self.mark(removal.path(&self.source.tree), What::Whiteout)?;
                }
            }
        }
        self.out.write_all(&tar::END)?;
        self.report.bytes_read = self.body.bytes_read;
        Ok(self.report)
    }

    fn entry(&mut self, id: NodeId) -> io::Result<()> {
        let tree = self.source.tree.clone();
        let node = tree.node(id);
        if node.kind.is_directory() {
            self.go_to(id)?;
            // It is what the slice says, and not only on the way.
            self.report.way_bytes = self.report.way_bytes.saturating_sub(self.headers.len() as u64);
            return Ok(());
        }
        self.go_to(tree.parent(id))?;
        let path = tree.path(id);
        if node.kind == Kind::Whiteout {
            return self.mark(path, What::Whiteout);
        }
        let written = match node.kind {
            Kind::File => self.file(id, node, &path),
            _ => self.special(node, tree.name(id), path.clone()),
        };
        match written {
            Ok(true) => Ok(()),
            Ok(false) => {
                self.report.missing.push(id);
                Ok(())
            }
            Err(error) => Err(at(&path, &error)),
        }
    }

    /// Has the directories on the way to this one written, and itself: what a layer does not say of them is made up by
    /// whoever unpacks it.
    fn go_to(&mut self, id: NodeId) -> io::Result<()> {
        let tree = self.source.tree.clone();
        let mut way = super::slices::way_to(&tree, id);
        way.push(id);
        let known = way.iter().zip(&self.way).take_while(|(a, b)| **a == b.id).count();
        self.way.truncate(known);
        for id in way.drain(known..) {
            self.directory(id).map_err(|error| at(&tree.path(id), &error))?;
            self.report.way_bytes += self.headers.len() as u64;
        }
        Ok(())
    }

    /// Writes a directory. One that has vanished is written too: it was promised to what is in it.
    fn directory(&mut self, id: NodeId) -> io::Result<()> {
        let tree = &self.source.tree;
        let path = tree.path(id);
        let directory = Directory::open(&self.source.root, id, &path)?;
        let xattrs = directory.xattrs()?;
        if directory.is_gone() && id != ROOT {
            self.report.suspect.push(id);
        }
        self.way.push(directory);
        let entry = Entry { path, what: What::Directory, meta: tree.node(id).meta(), xattrs };
        self.header(entry)
    }

    fn here(&self) -> io::Result<&Directory> {
        self.way.last().ok_or_else(|| io::Error::other("no directory is open"))
    }

    /// Writes a link, a pipe or a device; answers whether it is still there.
    fn special(&mut self, node: &Node, name: &[u8], path: Vec<u8>) -> io::Result<bool> {
        let Some(special) = self.here()?.special(name, node.kind)? else { return Ok(false) };
        let what = match node.kind {
            Kind::Symlink => What::Symlink { target: special.target },
            Kind::Fifo => What::Fifo,
            Kind::CharDevice => What::CharDevice(device_of(&special.stat)),
            _ => What::BlockDevice(device_of(&special.stat)),
        };
        let meta = meta_of(&special.stat);
        self.header(Entry { path, what, meta, xattrs: special.xattrs })?;
        Ok(true)
    }

    /// Writes a file, or another name of one that is written; answers whether it is still there.
    fn file(&mut self, id: NodeId, node: &Node, path: &[u8]) -> io::Result<bool> {
        let name = self.source.tree.name(id);
        if node.linked && self.links.contains_key(&node.ino) {
            match self.here()?.inode(name)? {
                Some(ino) if ino == node.ino => return self.link(node.ino, path),
                // It has become a file of its own.
                Some(_) => self.report.suspect.push(id),
                None => return Ok(false),
            }
        }
        let Some((file, stat)) = self.here()?.open_file(name)? else { return Ok(false) };
        let xattrs = names::file_xattrs(&file)?;
        let meta = meta_of(&stat);
        let what = What::File { size: stat.st_size as u64 };
        let entry = Entry { path: path.to_vec(), what, meta, xattrs };
        if node.linked && stat.st_ino == node.ino {
            let linked = Linked { target: path.to_vec(), meta, xattrs: entry.xattrs.clone() };
            self.links.insert(node.ino, linked);
        }
        self.header(entry)?;
        self.content(id, &file, &stat)?;
        Ok(true)
    }

    fn link(&mut self, ino: u64, path: &[u8]) -> io::Result<bool> {
        let Some(linked) = self.links.get(&ino) else { return Ok(false) };
        let what = What::Hardlink { target: linked.target.clone() };
        let entry = Entry { path: path.to_vec(), what, meta: linked.meta, xattrs: linked.xattrs.clone() };
        self.header(entry)?;
        Ok(true)
    }

    fn content(&mut self, id: NodeId, file: &OwnedFd, stat: &Stat) -> io::Result<()> {
        let whole = self.body.copy(file, stat, self.out)?;
        if !whole {
            self.report.suspect.push(id);
        }
        self.out.write_all(&[0; tar::BLOCK][..tar::padding(stat.st_size as u64)])
    }

    /// Writes a whiteout or an opaque mark.
    fn mark(&mut self, path: Vec<u8>, what: What) -> io::Result<()> {
        self.header(Entry { path, what, meta: Meta::default(), xattrs: Vec::new() })
    }

    fn header(&mut self, mut entry: Entry) -> io::Result<()> {
        let all = entry.xattrs.len();
        entry.xattrs.retain(tar::can_hold);
        if !tar::can_hold_all(&entry.xattrs) {
            entry.xattrs.clear();
        }
        if entry.xattrs.len() < all && self.report.lost_xattrs.len() < NAMED_MAX {
            self.report.lost_xattrs.push(entry.path.clone());
        }
        self.headers.clear();
        tar::header(&entry, &mut self.headers);
        self.out.write_all(&self.headers)
    }
}

fn device_of(stat: &Stat) -> Device {
    Device { major: rustix::fs::major(stat.st_rdev), minor: rustix::fs::minor(stat.st_rdev) }
}

/// As it is now: its content is of now, too.
fn meta_of(stat: &Stat) -> Meta {
    let mtime = Timestamp { seconds: stat.st_mtime, nanos: stat.st_mtime_nsec as u32 };
    Meta { mode: (stat.st_mode & 0o7777) as u16, uid: stat.st_uid, gid: stat.st_gid, mtime }
}

/// Says at which path something went wrong.
fn at(path: &[u8], error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("cannot read /{}: {error}", String::from_utf8_lossy(path)))
}
