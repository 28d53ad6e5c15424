//! Entries as tar: POSIX ustar, with an extended (PAX) header where that has no room.
//!
//! Extended headers carry times with nanoseconds or before 1970, names beyond 100 bytes, large owners and sizes, and
//! extended attributes. Names are written as the bytes that they are, whatever their encoding.

use super::entry::{Device, Entry, Meta, OPAQUE_NAME, WHITEOUT_PREFIX, What, Xattr};
use std::io::Write as _;

/// What everything in a tar is a multiple of.
pub const BLOCK: usize = 512;
/// What a tar ends with.
pub const END: [u8; 2 * BLOCK] = [0; 2 * BLOCK];
/// Longest extended header that Docker reads, with room to spare.
const EXTENDED_BYTES_MAX: usize = 1_000_000;
/// What the names of extended attributes begin with in an extended header.
pub(crate) const XATTR_KEY: &str = "SCHILY.xattr.";

/// How many zeros follow a content of this many bytes.
pub fn padding(size: u64) -> usize {
    (size.next_multiple_of(BLOCK as u64) - size) as usize
}

/// Whether a tar can hold the attribute: `=` ends a key there.
pub fn can_hold(xattr: &Xattr) -> bool {
    !xattr.name.contains(&b'=')
}

/// Whether a tar that Docker reads can hold all of them beside the rest.
pub fn can_hold_all(xattrs: &[Xattr]) -> bool {
    let bytes = |x: &Xattr| XATTR_KEY.len() + x.name.len() + x.value.len() + 16;
    xattrs.iter().map(bytes).sum::<usize>() <= EXTENDED_BYTES_MAX
}

/// Writes an entry's headers behind what is in `out`. The content of a file, and its [`padding`], is up to the caller.
pub fn header(entry: &Entry, out: &mut Vec<u8>) {
    let mut extended = Vec::new();
    let mut block = Block([0; BLOCK]);
    let (kind, size, target, device) = match &entry.what {
        What::Directory => (b'5', 0, &[][..], None),
        What::File { size } => (b'0', *size, &[][..], None),
        What::Hardlink { target } => (b'1', 0, target.as_slice(), None),
        What::Symlink { target } => (b'2', 0, target.as_slice(), None),
        What::CharDevice(device) => (b'3', 0, &[][..], Some(device)),
        What::BlockDevice(device) => (b'4', 0, &[][..], Some(device)),
        What::Fifo => (b'6', 0, &[][..], None),
        What::Whiteout | What::Opaque => (b'0', 0, &[][..], None),
    };
    let meta = match entry.what {
        What::Whiteout | What::Opaque => Meta::default(),
        _ => entry.meta,
    };
    block.text(0, 100, "path", &name(entry), &mut extended);
    block.number(100, 8, u64::from(meta.mode), None);
    block.number(108, 8, u64::from(meta.uid), Some(("uid", &mut extended)));
    block.number(116, 8, u64::from(meta.gid), Some(("gid", &mut extended)));
    block.number(124, 12, size, Some(("size", &mut extended)));
    block.time(&meta, &mut extended);
    block.0[156] = kind;
    block.text(157, 100, "linkpath", target, &mut extended);
    if let Some(Device { major, minor }) = device {
        block.number(329, 8, u64::from(*major), None);
        block.number(337, 8, u64::from(*minor), None);
    }
    for Xattr { name, value } in &entry.xattrs {
        record(&mut extended, &[XATTR_KEY.as_bytes(), name], value);
    }
    if !extended.is_empty() {
        let mut before = Block([0; BLOCK]);
        before.0[..9].copy_from_slice(b"PaxHeader");
        before.number(100, 8, 0o644, None);
        before.number(108, 8, 0, None);
        before.number(116, 8, 0, None);
        before.number(124, 12, extended.len() as u64, None);
        before.number(136, 12, 0, None);
        before.0[156] = b'x';
        out.extend_from_slice(&before.finish());
        out.extend_from_slice(&extended);
        out.resize(out.len() + padding(extended.len() as u64), 0);
    }
    out.extend_from_slice(&block.finish());
}

/// The name that an entry has in a tar.
fn name(entry: &Entry) -> Vec<u8> {
    let path = entry.path.as_slice();
    match entry.what {
        What::Directory if path.is_empty() => b"./".to_vec(),
        What::Directory => [path, b"/"].concat(),
        What::Opaque if path.is_empty() => OPAQUE_NAME.to_vec(),
        What::Opaque => [path, b"/", OPAQUE_NAME].concat(),
        What::Whiteout => {
            let at = path.iter().rposition(|b| *b == b'/').map_or(0, |slash| slash + 1);
            [&path[..at], WHITEOUT_PREFIX, &path[at..]].concat()
        }
        _ => path.to_vec(),
    }
}

/// A record of an extended header: its length, which counts itself, a key and a value.
fn record(extended: &mut Vec<u8>, key: &[&[u8]], value: &[u8]) {
    let rest = key.iter().map(|part| part.len()).sum::<usize>() + value.len() + 3;
    let mut length = rest + 1;
    while length != rest + digits(length) {
        length = rest + digits(length);
    }
    // Writing into a vector does not fail.
    let _ = write!(extended, "{length} ");
    for part in key {
        extended.extend_from_slice(part);
    }
    extended.push(b'=');
    extended.extend_from_slice(value);
    extended.push(b'\n');
}

fn digits(number: usize) -> usize {
    number.checked_ilog10().map_or(1, |log| log as usize + 1)
}

/// One header block.
struct Block([u8; BLOCK]);

impl Block {
    /// A text, or as much of it as fits and all of it in the extended header.
    fn text(&mut self, at: usize, room: usize, key: &str, text: &[u8], extended: &mut Vec<u8>) {
        let fits = text.len().min(room);
        self.0[at..at + fits].copy_from_slice(&text[..fits]);
        if fits < text.len() {
            record(extended, &[key.as_bytes()], text);
        }
    }

    /// A number in octal digits; one that has more goes to the extended header.
    fn number(&mut self, at: usize, room: usize, number: u64, extended: Option<(&str, &mut Vec<u8>)>) {
        let digits = room - 1;
        let fits = number < 1 << (3 * digits);
        if let (false, Some((key, extended))) = (fits, extended) {
            record(extended, &[key.as_bytes()], number.to_string().as_bytes());
        }
        let text = format!("{:0digits$o}", if fits { number } else { 0 });
        self.0[at..at + digits].copy_from_slice(text.as_bytes());
    }

    /// The time, whole seconds here; whatever is more exact, or does not fit, in the extended header.
    fn time(&mut self, meta: &Meta, extended: &mut Vec<u8>) {
        let (seconds, nanos) = (meta.mtime.seconds, meta.mtime.nanos);
        let fits = (0..1 << 33).contains(&seconds);
        self.number(136, 12, if fits { seconds as u64 } else { 0 }, None);
        if fits && nanos == 0 {
            return;
        }
        // A file system counts up from a negative second, a decimal number down from zero.
        let text = match (seconds, nanos) {
            (_, 0) => seconds.to_string(),
            (0.., _) => format!("{seconds}.{nanos:09}"),
            _ => format!("-{}.{:09}", -(seconds + 1), 1_000_000_000 - nanos),
        };
        record(extended, &[b"mtime"], text.as_bytes());
    }

    /// Puts the rest into the block: the format's name and the checksum.
    fn finish(mut self) -> [u8; BLOCK] {
        self.0[257..265].copy_from_slice(b"ustar\x0000");
        self.0[148..156].fill(b' ');
        let sum: u32 = self.0.iter().map(|byte| u32::from(*byte)).sum();
        self.0[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
        self.0
    }
}
