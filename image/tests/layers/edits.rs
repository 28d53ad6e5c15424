//! Random changes to a container's files.

use proptest::prelude::*;
use rustix::fs::{AtFlags, CWD, FileType, Mode, Timespec, Timestamps, XattrFlags};
use std::fs;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};

/// One change. Those that are not possible where they fall are not made.
#[derive(Debug, Clone)]
pub(crate) enum Edit {
    Write(Place, u16),
    Append(Place),
    Directory(Place),
    Remove(Place),
    Recreate(Place),
    Rename(Place, Place),
    Link(Place, Place),
    Symlink(Place, Place),
    Mode(Place, u16),
    Owner(Place, u32),
    Time(Place, i64, u32),
    Xattr(Place, u8),
    Capability(Place),
    Fifo(Place),
    Device(Place),
    Swap(Place, Place),
}

/// A path out of few, so that changes meet.
#[derive(Debug, Clone)]
pub(crate) struct Place(Vec<u8>);

const NAMES: [&[u8]; 6] = [b"a", b"b", b"c", b"base", "\u{e9}t\u{e9}".as_bytes(), b"\xff\xfe"];

impl Place {
    fn at(&self, root: &Path) -> PathBuf {
        use std::os::unix::ffi::OsStrExt;
        self.0.iter().fold(root.to_owned(), |path, name| {
            path.join(std::ffi::OsStr::from_bytes(NAMES[usize::from(*name) % NAMES.len()]))
        })
    }
}

fn place() -> impl Strategy<Value = Place> {
    prop::collection::vec(0..NAMES.len() as u8, 1..4).prop_map(Place)
}

pub(crate) fn edit() -> impl Strategy<Value = Edit> {
    prop_oneof![
        4 => (place(), 0..3000_u16).prop_map(|(a, n)| Edit::Write(a, n)),
        1 => place().prop_map(Edit::Append),
        4 => place().prop_map(Edit::Directory),
        4 => place().prop_map(Edit::Remove),
        2 => place().prop_map(Edit::Recreate),
        2 => (place(), place()).prop_map(|(a, b)| Edit::Rename(a, b)),
        2 => (place(), place()).prop_map(|(a, b)| Edit::Link(a, b)),
        1 => (place(), place()).prop_map(|(a, b)| Edit::Symlink(a, b)),
        1 => (place(), 0..0o10000_u16).prop_map(|(a, mode)| Edit::Mode(a, mode)),
        1 => (place(), prop_oneof![0..5_u32, Just(3_000_000), Just(u32::MAX - 1)])
            .prop_map(|(a, id)| Edit::Owner(a, id)),
        1 => (place(), prop_oneof![-9_000_000_000..9_000_000_000_i64, -3..3_i64], 0..1_000_000_000_u32)
            .prop_map(|(a, s, n)| Edit::Time(a, s, n)),
        1 => (place(), any::<u8>()).prop_map(|(a, n)| Edit::Xattr(a, n)),
        1 => place().prop_map(Edit::Capability),
        1 => place().prop_map(Edit::Fifo),
        1 => place().prop_map(Edit::Device),
        1 => (place(), place()).prop_map(|(a, b)| Edit::Swap(a, b)),
    ]
}

impl Edit {
    pub(crate) fn make(&self, root: &Path) {
        // Whether it was possible is of no matter.
        let _ = self.try_make(root);
    }

    fn try_make(&self, root: &Path) -> std::io::Result<()> {
        match self {
            Self::Write(a, n) => {
                let path = a.at(root);
                if fs::symlink_metadata(&path).is_ok() {
                    regular(path.clone())?;
                }
                fs::write(path, vec![b'x'; usize::from(*n)])?;
            }
            Self::Append(a) => {
                use std::io::Write;
                fs::OpenOptions::new().append(true).open(regular(a.at(root))?)?.write_all(b"more")?;
            }
            Self::Directory(a) => fs::create_dir_all(a.at(root))?,
            Self::Remove(a) => remove(&a.at(root))?,
            Self::Recreate(a) => {
                remove(&a.at(root))?;
                fs::create_dir(a.at(root))?;
                fs::write(a.at(root).join("a"), "new")?;
            }
            Self::Rename(a, b) => fs::rename(a.at(root), b.at(root))?,
            Self::Link(a, b) => fs::hard_link(regular(a.at(root))?, b.at(root))?,
            Self::Symlink(a, b) => symlink(a.at(Path::new("nowhere")), b.at(root))?,
            Self::Mode(a, mode) => {
                let path = not_link(a.at(root))?;
                fs::set_permissions(path, fs::Permissions::from_mode(u32::from(*mode)))?;
            }
            Self::Owner(a, id) => chown(not_link(a.at(root))?, Some(*id), Some(*id ^ 1))?,
            Self::Time(a, seconds, nanos) => {
                let time = Timespec { tv_sec: *seconds, tv_nsec: i64::from(*nanos) };
                let times = Timestamps { last_access: time, last_modification: time };
                rustix::fs::utimensat(CWD, a.at(root), &times, AtFlags::SYMLINK_NOFOLLOW)?;
            }
            Self::Xattr(a, n) => {
                let value = vec![b'=', b'\n', *n];
                rustix::fs::setxattr(regular(a.at(root))?, "user.note", &value, XattrFlags::empty())?;
            }
            Self::Capability(a) => {
                rustix::fs::setxattr(
                    regular(a.at(root))?,
                    "security.capability",
                    &CAPABILITY,
                    XattrFlags::empty(),
                )?;
            }
            Self::Fifo(a) => rustix::fs::mknodat(CWD, a.at(root), FileType::Fifo, Mode::RUSR, 0)?,
            Self::Device(a) => {
                let null = rustix::fs::makedev(1, 3);
                rustix::fs::mknodat(CWD, a.at(root), FileType::CharacterDevice, Mode::RUSR, null)?;
            }
            Self::Swap(a, b) => {
                let (a, b, aside) = (a.at(root), b.at(root), root.join("aside"));
                fs::rename(&a, &aside)?;
                let swapped = fs::rename(&b, &a);
                fs::rename(&aside, if swapped.is_ok() { &b } else { &a })?;
            }
        }
        Ok(())
    }
}

/// `cap_net_bind_service=ep`, as the kernel keeps it.
pub(crate) const CAPABILITY: [u8; 20] = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

fn not_link(path: PathBuf) -> std::io::Result<PathBuf> {
    if fs::symlink_metadata(&path)?.is_symlink() { Err(std::io::ErrorKind::Other.into()) } else { Ok(path) }
}

fn regular(path: PathBuf) -> std::io::Result<PathBuf> {
    if fs::symlink_metadata(&path)?.is_file() { Ok(path) } else { Err(std::io::ErrorKind::Other.into()) }
}

fn remove(path: &Path) -> std::io::Result<()> {
    if fs::symlink_metadata(path)?.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) }
}
