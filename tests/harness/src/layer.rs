//! Layers by hand: tars of any content, also such as no honest program writes, and what overlayfs makes of layers.

use std::ffi::CString;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use crate::command::program;
use crate::place::Place;

/// The type of a tar's entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Flag {
    File = b'0',
    HardLink = b'1',
    Symlink = b'2',
    Character = b'3',
    Block = b'4',
    Directory = b'5',
    Fifo = b'6',
}

/// An entry of a tar.
#[derive(Clone, Debug)]
pub struct Item {
    /// The name, as it is to be written.
    pub path: Vec<u8>,
    /// Its type.
    pub flag: Flag,
    /// The target of a link.
    pub link: Vec<u8>,
    /// The permission bits.
    pub mode: u32,
    /// The owner and the group.
    pub owner: (u32, u32),
    /// The time of modification.
    pub modified: (i64, u32),
    /// The number of a device.
    pub device: (u32, u32),
    /// Extended attributes.
    pub attributes: Vec<(Vec<u8>, Vec<u8>)>,
    /// A file's bytes.
    pub body: Vec<u8>,
}

impl Item {
    /// An entry of root's, mode 644 or 755.
    pub fn new(path: impl AsRef<[u8]>, flag: Flag) -> Self {
        Self {
            path: path.as_ref().to_vec(),
            flag,
            link: Vec::new(),
            mode: if flag == Flag::Directory { 0o755 } else { 0o644 },
            owner: (0, 0),
            modified: (1_600_000_000, 123_456_789),
            device: (0, 0),
            attributes: Vec::new(),
            body: Vec::new(),
        }
    }

    /// A file.
    pub fn file(path: impl AsRef<[u8]>, body: impl AsRef<[u8]>) -> Self {
        Self { body: body.as_ref().to_vec(), ..Self::new(path, Flag::File) }
    }

    /// A directory.
    pub fn directory(path: impl AsRef<[u8]>) -> Self {
        Self::new(path, Flag::Directory)
    }

    /// A hard or symbolic link.
    pub fn link(path: impl AsRef<[u8]>, flag: Flag, target: impl AsRef<[u8]>) -> Self {
        Self { link: target.as_ref().to_vec(), ..Self::new(path, flag) }
    }
}

/// The tar of these entries, with its end.
pub fn tar(items: &[Item]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for item in items {
        write(&mut bytes, item);
    }
    bytes.resize(bytes.len() + 1024, 0);
    bytes
}

fn write(bytes: &mut Vec<u8>, item: &Item) {
    let mut records = record(b"mtime", format!("{}.{:09}", item.modified.0, item.modified.1).as_bytes());
    records.extend(record(b"path", &item.path));
    if !item.link.is_empty() {
        records.extend(record(b"linkpath", &item.link));
    }
    records.extend(record(b"uid", item.owner.0.to_string().as_bytes()));
    records.extend(record(b"gid", item.owner.1.to_string().as_bytes()));
    for (name, value) in &item.attributes {
        records.extend(record(&[b"SCHILY.xattr.", name.as_slice()].concat(), value));
    }
    block(bytes, b'x', records.len(), item);
    padded(bytes, &records);
    block(bytes, item.flag as u8, item.body.len(), item);
    padded(bytes, &item.body);
}

fn block(bytes: &mut Vec<u8>, flag: u8, size: usize, item: &Item) {
    let mut block = [0_u8; 512];
    block[..5].copy_from_slice(b"entry");
    let mut field = |at: usize, text: String| block[at..at + text.len()].copy_from_slice(text.as_bytes());
    field(100, format!("{:07o}", item.mode));
    field(108, "0000000".to_owned());
    field(116, "0000000".to_owned());
    field(124, format!("{size:011o}"));
    field(136, "00000000000".to_owned());
    field(148, "        ".to_owned());
    field(257, "ustar\x0000".to_owned());
    field(329, format!("{:07o}", item.device.0));
    field(337, format!("{:07o}", item.device.1));
    block[156] = flag;
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
    bytes.extend_from_slice(&block);
}

fn padded(bytes: &mut Vec<u8>, body: &[u8]) {
    bytes.extend_from_slice(body);
    bytes.resize(bytes.len().next_multiple_of(512), 0);
}

fn record(key: &[u8], value: &[u8]) -> Vec<u8> {
    let rest = [b" ", key, b"=", value, b"\n"].concat();
    let mut length = rest.len();
    while length != rest.len() + length.to_string().len() {
        length = rest.len() + length.to_string().len();
    }
    [length.to_string().into_bytes(), rest].concat()
}

/// The entries of a directory that overlayfs has written a layer into: whiteouts and opaque marks by their names in a tar,
/// every directory before what is in it.
pub fn items_of(upper: &Path) -> Result<Vec<Item>> {
    let mut items = Vec::new();
    let mut links = std::collections::HashMap::new();
    visit(upper, Path::new(""), &mut links, &mut items)?;
    Ok(items)
}

fn visit(
    upper: &Path,
    path: &Path,
    links: &mut std::collections::HashMap<u64, Vec<u8>>,
    items: &mut Vec<Item>,
) -> Result<()> {
    let full = upper.join(path);
    let found = std::fs::symlink_metadata(&full).with_context(|| format!("read {}", full.display()))?;
    let name = path.as_os_str().as_bytes().to_vec();
    let kind = found.file_type();
    let mut item = Item::new(if name.is_empty() { b"./".to_vec() } else { name.clone() }, Flag::File);
    item.mode = found.mode() & 0o7777;
    item.owner = (found.uid(), found.gid());
    item.modified = (found.mtime(), found.mtime_nsec() as u32);
    item.device = (rustix::fs::major(found.rdev()), rustix::fs::minor(found.rdev()));
    item.attributes = attributes(&full)?;
    let overlays = |(name, _): &(Vec<u8>, Vec<u8>)| name.starts_with(b"trusted.overlay.");
    let opaque =
        item.attributes.iter().any(|(name, value)| name == b"trusted.overlay.opaque" && value == b"y");
    item.attributes.retain(|attribute| !overlays(attribute));
    if kind.is_char_device() && found.rdev() == 0 {
        let parent = path.parent().unwrap_or(Path::new("")).as_os_str().as_bytes();
        let slash: &[u8] = if parent.is_empty() { b"" } else { b"/" };
        let last = path.file_name().unwrap_or_default().as_bytes();
        items.push(Item::file([parent, slash, b".wh.", last].concat(), ""));
        return Ok(());
    }
    let first = (!kind.is_dir() && found.nlink() > 1).then(|| links.get(&found.ino()).cloned()).flatten();
    links.insert(found.ino(), name.clone());
    item.flag = if kind.is_dir() {
        Flag::Directory
    } else if let Some(first) = first {
        item.link = first;
        Flag::HardLink
    } else if kind.is_symlink() {
        item.link = std::fs::read_link(&full)?.as_os_str().as_bytes().to_vec();
        Flag::Symlink
    } else if kind.is_fifo() {
        Flag::Fifo
    } else if kind.is_char_device() {
        Flag::Character
    } else if kind.is_block_device() {
        Flag::Block
    } else {
        item.body = std::fs::read(&full)?;
        Flag::File
    };
    items.push(item);
    if kind.is_dir() {
        if opaque {
            items.push(Item::file([name.as_slice(), b"/.wh..wh..opq"].concat(), ""));
        }
        let mut names = std::fs::read_dir(&full)?
            .map(|entry| entry.map(|entry| entry.file_name()))
            .collect::<Result<Vec<_>, _>>()?;
        names.sort();
        names.iter().try_for_each(|name| visit(upper, &path.join(name), links, items))?;
    }
    Ok(())
}

fn attributes(path: &Path) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
    let mut names = [0; 4096];
    let length = rustix::fs::llistxattr(path, &mut names[..]).context("list attributes")?;
    let names = names[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty());
    names
        .map(|name| {
            let mut value = vec![0; 4096];
            let length = rustix::fs::lgetxattr(path, CString::new(name)?, &mut value[..])?;
            value.truncate(length);
            Ok((name.to_vec(), value))
        })
        .collect()
}

/// Directories that overlayfs mounts over each other; unmounted and gone when dropped.
#[derive(Debug)]
pub struct Overlays {
    place: Place,
    mounts: u32,
}

/// A mounted overlay.
#[derive(Debug)]
pub struct Mounted {
    path: PathBuf,
}

impl Overlays {
    /// A place without mounts.
    pub fn new() -> Result<Self> {
        Ok(Self { place: Place::new("overlay")?, mounts: 0 })
    }

    /// Makes a directory for a layer.
    pub fn layer(&self, name: &str) -> Result<PathBuf> {
        let path = self.place.path(name);
        std::fs::create_dir(&path).with_context(|| format!("make {}", path.display()))?;
        Ok(path)
    }

    /// Mounts layers, topmost first; what is written goes into `upper`, where there is one.
    pub fn mount(&mut self, lower: &[PathBuf], upper: Option<&Path>) -> Result<Mounted> {
        self.mounts += 1;
        let path = self.layer(&format!("mount{}", self.mounts))?;
        let mut lower: Vec<String> = lower.iter().map(|layer| layer.display().to_string()).collect();
        let mut options = String::new();
        if let Some(upper) = upper {
            let work = self.layer(&format!("work{}", self.mounts))?;
            options = format!(",redirect_dir=off,upperdir={},workdir={}", upper.display(), work.display());
        } else {
            // Without a writable layer there must be two others.
            lower.push(self.layer(&format!("empty{}", self.mounts))?.display().to_string());
        }
        let options = format!("lowerdir={}{options}", lower.join(":"));
        let mount = Command::new(program("mount", "mount")?)
            .args(["-t", "overlay", "overlay", "-o", &options])
            .arg(&path)
            .status()
            .context("run mount")?;
        ensure!(mount.success(), "mount -o {options} ended with {mount}");
        Ok(Mounted { path })
    }
}

impl Mounted {
    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // What cannot be unmounted now is unmounted by the place's keeper.
        let _late = program("umount", "mount").map(|umount| Command::new(umount).arg(&self.path).status());
    }
}
