//! An index as a file: one version, one checksum at the end, and with any doubt no index.

use super::mentions::Slot;
use super::{Base, Held, Index, LayerBlob, Mark, Mentions};
use crate::layer::entry::PATH_BYTES_MAX;
use crate::layer::tree::{Kind, Node, ROOT, Tree};
use crate::layer::walk::LeftOut;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

/// What the file begins with; the number is the format's.
const MAGIC: &[u8; 16] = b"mothball-index 1";
/// Longest part in JSON.
const HEAD_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// Bytes of one entry.
const NODE_BYTES: usize = 65;
/// Bytes of one mention.
const MENTION_BYTES: usize = 13;
/// Bytes of the checksum.
const SUM_BYTES: u64 = 32;

/// The part in JSON: what people may want to read.
#[derive(Serialize, Deserialize)]
struct Head {
    base: Base,
    layers: Vec<LayerBlob>,
    said_bytes: Vec<u64>,
    rules: String,
    walked_at_nanos: i64,
    hole_bytes: u64,
    redirected: bool,
    nodes: u32,
    names: u64,
    mentions: u64,
    paths: u64,
}

impl Index {
    /// Writes the file anew, or leaves the old one as it was; after a crash it is one of the two.
    pub fn save(&self, path: &Path) -> io::Result<()> {
        let mut new = path.as_os_str().as_bytes().to_vec();
        new.extend_from_slice(b".new");
        let new = Path::new(std::ffi::OsStr::from_bytes(&new));
        let file = File::create(new)?;
        let mut writer = BufWriter::new(&file);
        self.write(&mut writer)?;
        writer.flush()?;
        drop(writer);
        file.sync_all()?;
        fs::rename(new, path)
    }

    /// Reads the file. Nothing where there is none, or where it is not whole and ours to the last byte.
    pub fn load(path: &Path) -> Option<Self> {
        let file = File::open(path).ok()?;
        let length = file.metadata().ok()?.len();
        Self::read(BufReader::with_capacity(1 << 18, file), length).ok()
    }

    fn write(&self, writer: &mut impl Write) -> io::Result<()> {
        let mut out = Summed { inner: writer, sum: Sha256::new() };
        let head = Head {
            base: self.base.clone(),
            layers: self.layers.clone(),
            said_bytes: self.said_bytes.clone(),
            rules: self.rules.clone(),
            walked_at_nanos: self.tree.walked_at_nanos,
            hole_bytes: self.tree.hole_bytes,
            redirected: self.tree.redirected,
            nodes: self.tree.nodes.len() as u32,
            names: self.tree.names.len() as u64,
            mentions: self.mentions.list.len() as u64,
            paths: self.mentions.paths.len() as u64,
        };
        let head = serde_json::to_vec(&head)?;
        out.write_all(MAGIC)?;
        out.write_all(&(head.len() as u64).to_le_bytes())?;
        out.write_all(&head)?;
        for (node, held) in self.tree.nodes.iter().zip(&self.held) {
            out.write_all(&pack(node, *held))?;
        }
        out.write_all(&self.tree.names)?;
        for slot in &self.mentions.list {
            let mut bytes = [0; MENTION_BYTES];
            bytes[..8].copy_from_slice(&(slot.at as u64).to_le_bytes());
            bytes[8..10].copy_from_slice(&slot.len.to_le_bytes());
            bytes[10..12].copy_from_slice(&slot.layer.to_le_bytes());
            bytes[12] = slot.mark as u8;
            out.write_all(&bytes)?;
        }
        out.write_all(&self.mentions.paths)?;
        let Summed { inner, sum } = out;
        inner.write_all(&sum.finalize())
    }

    fn read(reader: impl Read, length: u64) -> io::Result<Self> {
        let mut input = Summed { inner: reader, sum: Sha256::new() };
        if &input.array::<16>()? != MAGIC {
            return Err(doubt());
        }
        let head_bytes = u64::from_le_bytes(input.array()?);
        if head_bytes > HEAD_BYTES_MAX.min(length) {
            return Err(doubt());
        }
        let head: Head = serde_json::from_slice(&input.bytes(head_bytes)?)?;
        let parts = [
            (16 + 8 + head_bytes, 1),
            (u64::from(head.nodes), NODE_BYTES as u64),
            (head.names, 1),
            (head.mentions, MENTION_BYTES as u64),
            (head.paths, 1),
            (SUM_BYTES, 1),
        ];
        let total = parts.iter().try_fold(0_u64, |sum, (n, size)| sum.checked_add(n.checked_mul(*size)?));
        if total != Some(length) {
            return Err(doubt());
        }
        let count = head.nodes as usize;
        let (mut nodes, mut held_by) = (Vec::with_capacity(count), Vec::with_capacity(count));
        for _ in 0..head.nodes {
            let (node, at) = unpack(&input.array()?).ok_or_else(doubt)?;
            nodes.push(node);
            held_by.push(at);
        }
        let names = input.bytes(head.names)?;
        let mut list = Vec::with_capacity(head.mentions as usize);
        for _ in 0..head.mentions {
            list.push(unpack_mention(&input.array()?).ok_or_else(doubt)?);
        }
        let paths = input.bytes(head.paths)?;
        let Summed { mut inner, sum } = input;
        let mut written = [0; SUM_BYTES as usize];
        inner.read_exact(&mut written)?;
        if sum.finalize()[..] != written {
            return Err(doubt());
        }
        let tree = Tree {
            nodes,
            names,
            left_out: LeftOut::default(),
            walked_at_nanos: head.walked_at_nanos,
            hole_bytes: head.hole_bytes,
            redirected: head.redirected,
        };
        let index = Self {
            base: head.base,
            layers: head.layers,
            said_bytes: head.said_bytes,
            rules: head.rules,
            tree: Arc::new(tree),
            held: held_by,
            mentions: Mentions { paths, list },
        };
        if index.is_sound() { Ok(index) } else { Err(doubt()) }
    }

    /// Whether every number in it leads somewhere. The checksum has proven that it is what was written; this proves that
    /// what was written was right.
    fn is_sound(&self) -> bool {
        let Self { layers, said_bytes, tree, held, mentions, .. } = self;
        let count = tree.nodes.len();
        let is_layer = |number: u16| usize::from(number) < layers.len();
        let node_sound = |(id, node): (usize, &Node)| {
            let named = (node.name_at as usize + usize::from(node.name_len)) <= tree.names.len();
            let first = node.first_child as usize;
            let leads_on = first == 0
                || first > id
                    && first < count
                    && tree.nodes[first].parent as usize == id
                    && node.kind.is_directory();
            let led_to = id == 0 || (node.parent as usize) < id && node.name_len > 0;
            named && leads_on && led_to
        };
        count > 0
            && said_bytes.len() == layers.len()
            && tree.node(ROOT).kind.is_directory()
            && tree.nodes.iter().enumerate().all(node_sound)
            && held.iter().filter_map(|held| held.layer()).all(is_layer)
            && mentions.list.iter().all(|slot| {
                let inside =
                    slot.at.checked_add(usize::from(slot.len)).is_some_and(|end| end <= mentions.paths.len());
                inside && usize::from(slot.len) <= PATH_BYTES_MAX && is_layer(slot.layer)
            })
    }
}

fn doubt() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "this is not an index that can be used")
}

fn pack(node: &Node, held: Held) -> [u8; NODE_BYTES] {
    let mut bytes = [0; NODE_BYTES];
    let mut at = 0;
    let mut put = |part: &[u8]| {
        bytes[at..at + part.len()].copy_from_slice(part);
        at += part.len();
    };
    put(&node.ctime_nanos.to_le_bytes());
    put(&node.ino.to_le_bytes());
    put(&node.size.to_le_bytes());
    put(&node.mtime_seconds.to_le_bytes());
    put(&node.mtime_nanos.to_le_bytes());
    put(&node.uid.to_le_bytes());
    put(&node.gid.to_le_bytes());
    put(&node.parent.to_le_bytes());
    put(&node.name_at.to_le_bytes());
    put(&node.first_child.to_le_bytes());
    put(&node.mode.to_le_bytes());
    put(&[node.name_len, node.kind as u8, u8::from(node.linked)]);
    put(&held.0.to_le_bytes());
    put(&[0, 0]);
    bytes
}

fn unpack(bytes: &[u8; NODE_BYTES]) -> Option<(Node, Held)> {
    let mut rest = bytes.as_slice();
    let node = Node {
        ctime_nanos: i64::from_le_bytes(take(&mut rest)?),
        ino: u64::from_le_bytes(take(&mut rest)?),
        size: u64::from_le_bytes(take(&mut rest)?),
        mtime_seconds: i64::from_le_bytes(take(&mut rest)?),
        mtime_nanos: u32::from_le_bytes(take(&mut rest)?),
        uid: u32::from_le_bytes(take(&mut rest)?),
        gid: u32::from_le_bytes(take(&mut rest)?),
        parent: u32::from_le_bytes(take(&mut rest)?),
        name_at: u32::from_le_bytes(take(&mut rest)?),
        first_child: u32::from_le_bytes(take(&mut rest)?),
        mode: u16::from_le_bytes(take(&mut rest)?),
        name_len: u8::from_le_bytes(take(&mut rest)?),
        kind: Kind::from_number(u8::from_le_bytes(take(&mut rest)?))?,
        linked: u8::from_le_bytes(take(&mut rest)?) != 0,
    };
    Some((node, Held(u16::from_le_bytes(take(&mut rest)?))))
}

fn unpack_mention(bytes: &[u8; MENTION_BYTES]) -> Option<Slot> {
    let mut rest = bytes.as_slice();
    Some(Slot {
        at: usize::try_from(u64::from_le_bytes(take(&mut rest)?)).ok()?,
        len: u16::from_le_bytes(take(&mut rest)?),
        layer: u16::from_le_bytes(take(&mut rest)?),
        mark: Mark::from_number(u8::from_le_bytes(take(&mut rest)?))?,
    })
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (first, behind) = rest.split_first_chunk::<N>()?;
    *rest = behind;
    Some(*first)
}

/// Sums what goes through.
struct Summed<T> {
    inner: T,
    sum: Sha256,
}

impl<W: Write> Summed<&mut W> {
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.sum.update(bytes);
        self.inner.write_all(bytes)
    }
}

impl<R: Read> Summed<R> {
    fn array<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        let mut bytes = [0; N];
        self.inner.read_exact(&mut bytes)?;
        self.sum.update(bytes);
        Ok(bytes)
    }

    /// The caller has checked that the file is that long.
    fn bytes(&mut self, length: u64) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; usize::try_from(length).map_err(|_| doubt())?];
        self.inner.read_exact(&mut bytes)?;
        self.sum.update(&bytes);
        Ok(bytes)
    }
}
