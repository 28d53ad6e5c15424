//! Reads a layer's tar: ustar, PAX and GNU long names, as a stream and within bounds.
//!
//! What is read was written by others, so nothing in it is believed: names cannot lead out of the tree (what a link in
//! the tree does to them is for the unpacker to prevent), records have a bound, and what two readers could read
//! differently is an error. Sparse formats are refused: no container engine writes them into layers, and Docker reads
//! them.

mod field;
pub(crate) mod name;
mod pax;

use super::entry::{Device, Entry, Meta, Timestamp, What};
use name::{Meaning, clean, meaning, shown};
use std::io::{self, BufRead};

/// Longest PAX record set or GNU long name: what Go's reader, and so Docker, takes.
const META_BYTES_MAX: u64 = 1 << 20;
/// The unit of a tar.
const BLOCK: usize = 512;

/// Why a tar cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum UntarError {
    /// Where the bytes come from broke.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// It is not a tar, or one that this reader refuses.
    #[error("{0}")]
    Malformed(String),
}

/// An error that says what is wrong with the tar.
pub(crate) fn malformed(detail: impl Into<String>) -> UntarError {
    UntarError::Malformed(detail.into())
}

/// A tar that is being read.
#[derive(Debug)]
pub struct Untar<R> {
    from: R,
    /// Bytes of the current body that nobody has read yet.
    body: u64,
    /// Zeros after the body.
    padding: u64,
}

impl<R: BufRead> Untar<R> {
    /// Reads a tar from `from`.
    pub fn new(from: R) -> Self {
        Self { from, body: 0, padding: 0 }
    }

    /// The next entry, or nothing at the end. What is left of the body before it is skipped.
    pub fn next_entry(&mut self) -> Result<Option<Entry>, UntarError> {
        let mut said = pax::Said::default();
        loop {
            self.skip_body()?;
            let Some(block) = self.header()? else {
                return if said.is_empty() { Ok(None) } else { Err(cut()) };
            };
            let size = field::number(&block[124..136])?;
            match block[156] {
                b'x' => said.records(&self.meta(size)?)?,
                // Nothing of a global record holds for a layer; Docker ignores them too.
                b'g' => drop(self.meta(size)?),
                b'L' => said.path = Some(field::until_nul(&self.meta(size)?).to_vec()),
                b'K' => said.link = Some(field::until_nul(&self.meta(size)?).to_vec()),
                flag => {
                    if let Some(entry) = self.entry(&block, flag, std::mem::take(&mut said))? {
                        return Ok(Some(entry));
                    }
                }
            }
        }
    }

    /// Hands the current body out, piece by piece.
    pub fn read_body<E: From<io::Error>>(
        &mut self,
        mut take: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        while self.body > 0 {
            let piece = self.from.fill_buf()?;
            if piece.is_empty() {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
            }
            let length = piece.len().min(usize::try_from(self.body).unwrap_or(usize::MAX));
            take(&piece[..length])?;
            self.from.consume(length);
            self.body -= length as u64;
        }
        Ok(())
    }

    /// Reads what follows the end of the archive, so that whoever hashes the stream sees all of it.
    pub fn drain(mut self) -> io::Result<()> {
        loop {
            let length = self.from.fill_buf()?.len();
            if length == 0 {
                return Ok(());
            }
            self.from.consume(length);
        }
    }

    /// What a header means; nothing where it is about what no driver reads any more.
    fn entry(&mut self, block: &[u8; BLOCK], flag: u8, said: pax::Said) -> Result<Option<Entry>, UntarError> {
        let written = said.path.unwrap_or_else(|| field::path(block));
        let link = said.link.unwrap_or_else(|| field::until_nul(&block[157..257]).to_vec());
        let refused = |detail: String| malformed(format!("{:?}: {detail}", shown(&written)));
        let what = match flag {
            0 if written.ends_with(b"/") => What::Directory,
            0 | b'0' | b'7' => {
                What::File { size: said.size.map_or_else(|| field::number(&block[124..136]), Ok)? }
            }
            b'1' => What::Hardlink { target: clean(&link).map_err(refused)? },
            b'2' => What::Symlink { target: link },
            b'3' => What::CharDevice(device(block)?),
            b'4' => What::BlockDevice(device(block)?),
            b'5' => What::Directory,
            b'6' => What::Fifo,
            other => return Err(refused(format!("an entry of type {:?}", char::from(other)))),
        };
        // Only files have bodies, whatever the size field of others says: so Go's reader has it.
        if let What::File { size } = what {
            self.expect(size);
        }
        let (path, what) = match meaning(&written).map_err(refused)? {
            Meaning::Nothing => return Ok(None),
            Meaning::Whiteout(path) => (path, What::Whiteout),
            Meaning::Opaque(path) => (path, What::Opaque),
            Meaning::Entry(path) if path.is_empty() && what != What::Directory => {
                return Err(refused("the root is not a directory".to_owned()));
            }
            Meaning::Entry(path) => (path, what),
        };
        let mtime = match said.mtime {
            Some((seconds, nanos)) => Timestamp { seconds, nanos },
            None => Timestamp { seconds: field::signed(&block[136..148])?, nanos: 0 },
        };
        let meta = Meta {
            mode: (field::number(&block[100..108])? & 0o7777) as u16,
            uid: said.uid.map_or_else(|| field::small(&block[108..116]), Ok)?,
            gid: said.gid.map_or_else(|| field::small(&block[116..124]), Ok)?,
            mtime,
        };
        Ok(Some(Entry { path, what, meta, xattrs: said.xattrs }))
    }

    /// The next header block; nothing at the end of the archive, which is two blocks of zeros, or the end of the stream.
    fn header(&mut self) -> Result<Option<[u8; BLOCK]>, UntarError> {
        let mut block = [0; BLOCK];
        if !self.fill(&mut block)? {
            return Ok(None);
        }
        if block == [0; BLOCK] {
            if self.fill(&mut block)? && block != [0; BLOCK] {
                return Err(malformed("an entry after the end of the archive"));
            }
            return Ok(None);
        }
        field::check_sum(&block)?;
        Ok(Some(block))
    }

    /// Fills a block; false when the stream ended right before it.
    fn fill(&mut self, block: &mut [u8; BLOCK]) -> Result<bool, UntarError> {
        let mut filled = 0;
        while filled < BLOCK {
            let piece = self.from.fill_buf()?;
            if piece.is_empty() {
                return if filled == 0 { Ok(false) } else { Err(cut()) };
            }
            let length = piece.len().min(BLOCK - filled);
            block[filled..filled + length].copy_from_slice(&piece[..length]);
            self.from.consume(length);
            filled += length;
        }
        Ok(true)
    }

    /// A body that belongs to the next header.
    fn meta(&mut self, size: u64) -> Result<Vec<u8>, UntarError> {
        if size > META_BYTES_MAX {
            return Err(malformed(format!("{size} bytes of records for one entry")));
        }
        self.expect(size);
        let mut bytes = Vec::with_capacity(size as usize);
        self.read_body(|piece| {
            bytes.extend_from_slice(piece);
            Ok::<_, UntarError>(())
        })?;
        Ok(bytes)
    }

    fn expect(&mut self, size: u64) {
        self.body = size;
        self.padding = size.wrapping_neg() % BLOCK as u64;
    }

    fn skip_body(&mut self) -> Result<(), UntarError> {
        self.read_body(|_| Ok::<_, UntarError>(()))?;
        self.body = std::mem::take(&mut self.padding);
        self.read_body(|_| Ok::<_, UntarError>(()))
    }
}

fn device(block: &[u8; BLOCK]) -> Result<Device, UntarError> {
    Ok(Device { major: field::small(&block[329..337])?, minor: field::small(&block[337..345])? })
}

fn cut() -> UntarError {
    UntarError::Io(io::ErrorKind::UnexpectedEof.into())
}

#[cfg(test)]
mod tests;
