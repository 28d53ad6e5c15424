//! One entry of a layer, as its tar has it: what a save writes and a restore reads.

/// What the name of a whiteout's tar entry begins with.
pub const WHITEOUT_PREFIX: &[u8] = b".wh.";
/// The name of the tar entry that makes its directory opaque.
pub const OPAQUE_NAME: &[u8] = b".wh..wh..opq";
/// Longest path of an entry, in bytes: what every Docker can still unpack below its own directories.
pub const PATH_BYTES_MAX: usize = 4000;
/// The attribute by which overlayfs marks an opaque directory.
pub const OPAQUE_XATTR: &str = "trusted.overlay.opaque";

/// One entry of a layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Where it is: bytes as the file system has them, relative to the root, without a slash at either
    /// end. The root itself is the empty path. Of a whiteout: the path that it hides; of an opaque mark:
    /// the directory.
    pub path: Vec<u8>,
    /// What it is.
    pub what: What,
    /// Mode, owner and time; of no meaning for whiteouts and opaque marks.
    pub meta: Meta,
    /// Extended attributes. Hard links repeat them: Docker applies a link's own, and loses
    /// `security.capability` where there are none.
    pub xattrs: Vec<Xattr>,
}

/// What an entry is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// A directory. What earlier layers have in it stays.
    Directory,
    /// A regular file, its content behind it.
    File {
        /// The content's length in bytes.
        size: u64,
    },
    /// Another name for a file that came earlier in the same layer.
    Hardlink {
        /// That file's path.
        target: Vec<u8>,
    },
    /// A symbolic link.
    Symlink {
        /// Where it points, as it stands there.
        target: Vec<u8>,
    },
    /// A named pipe.
    Fifo,
    /// A character device.
    CharDevice(Device),
    /// A block device.
    BlockDevice(Device),
    /// The path is not there, whatever lower layers have.
    Whiteout,
    /// What lower layers have in this directory is not there.
    Opaque,
}

/// Mode, owner and modification time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Meta {
    /// Permissions with setuid, setgid and sticky bit: the low 12 bits.
    pub mode: u16,
    /// The owner.
    pub uid: u32,
    /// The group.
    pub gid: u32,
    /// When the content was last changed.
    pub mtime: Timestamp,
}

/// A point in time as file systems have it. Before 1970 `seconds` is negative and `nanos` counts up from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp {
    /// Whole seconds since 1970, rounded down.
    pub seconds: i64,
    /// Nanoseconds on top, below 1,000,000,000.
    pub nanos: u32,
}

/// The number of a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Device {
    /// Which driver.
    pub major: u32,
    /// Which of its devices.
    pub minor: u32,
}

/// An extended attribute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Xattr {
    /// Its whole name, such as `security.capability`.
    pub name: Vec<u8>,
    /// Its value.
    pub value: Vec<u8>,
}
