//! What `docker save` writes, read as it comes: layers go up one after another, nothing is kept.
//!
//! Up to Docker 24 a layer is `<id>/layer.tar`, from 25 on `blobs/sha256/<diffID>`; both uncompressed. A layer that an image
//! has twice is a symbolic link the second time.

use super::{BaseBlob, BaseCache, descriptor};
use crate::oci::Descriptor;
use crate::save::error::SaveError;
use crate::save::pipeline::{Upstream, upload_once};
use mothball_domain::image::Digest;
use std::collections::{BTreeSet, HashMap};
use std::io::{self, Read as _, Write};
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio_util::io::SyncIoBridge;

/// A tar's block in bytes.
const BLOCK: usize = 512;
/// Bytes read at once.
const PIECE_BYTES: usize = 256 * 1024;
/// Longest extended header that is read, in bytes.
const EXTENDED_BYTES_MAX: u64 = 64 * 1024;

/// Reads exports of one image; a second one goes on where the first broke off.
#[derive(Debug, Default)]
pub(super) struct Exporter {
    /// The layers that were brought up, by their names in the export.
    done: HashMap<String, Digest>,
}

impl Exporter {
    /// Brings up the layers that are missing, and takes each off the list.
    pub(super) async fn run<R: AsyncRead + Unpin + Send + 'static>(
        &mut self,
        to: &Upstream,
        mut tar: R,
        missing: &mut BTreeSet<Digest>,
        cache: &BaseCache,
        found: &mut HashMap<Digest, Descriptor>,
    ) -> Result<(), SaveError> {
        let broken = |e: io::Error| SaveError::io("read what Docker exports", e);
        while !missing.is_empty() {
            let header = tokio::select! {
                () = to.cancel.cancelled() => return Err(SaveError::Cancelled),
                header = next(&mut tar) => header.map_err(broken)?,
            };
            let Some(Header { name, size, is_file }) = header else { return Ok(()) };
            if !is_file || !self.is_wanted(&name, missing) {
                skip(&mut tar, padded(size)).await.map_err(broken)?;
                continue;
            }
            to.progress.plan(size);
            let (layer, rest) = upload_once(to, move |out| copy(tar, size, out)).await?;
            tar = rest;
            let blob = BaseBlob {
                diff_id: layer.diff_id,
                digest: layer.digest,
                size: layer.size,
                media_type: layer.media_type,
                repo: to.repo.clone(),
            };
            missing.remove(&blob.diff_id);
            self.done.insert(name, blob.diff_id.clone());
            found.insert(blob.diff_id.clone(), descriptor(&blob));
            cache.learn(to.registry.host(), blob);
        }
        Ok(())
    }

    /// Whether it is a layer that may be missing: in the older form a layer's name does not say which one it is.
    fn is_wanted(&self, name: &str, missing: &BTreeSet<Digest>) -> bool {
        if let Some(hex) = name.strip_prefix("blobs/sha256/") {
            return Digest::new(format!("sha256:{hex}")).is_ok_and(|digest| missing.contains(&digest));
        }
        name.ends_with("/layer.tar") && !self.done.contains_key(name)
    }
}

struct Header {
    name: String,
    size: u64,
    is_file: bool,
}

/// The next entry; nothing at the end.
async fn next<R: AsyncRead + Unpin>(tar: &mut R) -> io::Result<Option<Header>> {
    let (mut long_name, mut long_size) = (None, None);
    loop {
        let mut block = [0; BLOCK];
        if tar.read(&mut block[..1]).await? == 0 {
            return Ok(None);
        }
        tar.read_exact(&mut block[1..]).await?;
        if block.iter().all(|b| *b == 0) {
            // The rest is padding; it is read so that Docker can end well.
            tokio::io::copy(tar, &mut tokio::io::sink()).await?;
            return Ok(None);
        }
        let size = number(&block[124..136])?;
        if block[156] == b'x' {
            let mut text = vec![0; usize::try_from(size.min(EXTENDED_BYTES_MAX)).unwrap_or_default()];
            tar.read_exact(&mut text).await?;
            skip(tar, padded(size) - text.len() as u64).await?;
            for (key, value) in extended(&text) {
                match key.as_str() {
                    "path" => long_name = Some(value),
                    "size" => long_size = value.parse().ok(),
                    _ => {}
                }
            }
            continue;
        }
        let name = long_name.unwrap_or_else(|| text(&block[..100]));
        let is_file = matches!(block[156], b'0' | 0);
        return Ok(Some(Header { name, size: long_size.unwrap_or(size), is_file }));
    }
}

/// The bytes up to the first zero.
fn text(field: &[u8]) -> String {
    let end = field.iter().position(|b| *b == 0).unwrap_or(field.len());
    String::from_utf8_lossy(&field[..end]).into_owned()
}

/// A number in octal digits, or in binary where it is too large for them.
fn number(field: &[u8]) -> io::Result<u64> {
    if field[0] & 0x80 != 0 {
        return Ok(field[field.len() - 8..].iter().fold(0, |sum, b| (sum << 8) | u64::from(*b)));
    }
    let digits = text(field);
    u64::from_str_radix(digits.trim(), 8).map_err(|e| io::Error::other(format!("the size of an entry: {e}")))
}

/// The records of an extended header: `<length> <key>=<value>\n`.
fn extended(mut text: &[u8]) -> Vec<(String, String)> {
    let mut records = Vec::new();
    while let Some(space) = text.iter().position(|b| *b == b' ') {
        let length: usize = String::from_utf8_lossy(&text[..space]).parse().unwrap_or_default();
        if length <= space + 1 || length > text.len() {
            break;
        }
        let record = String::from_utf8_lossy(&text[space + 1..length - 1]).into_owned();
        if let Some((key, value)) = record.split_once('=') {
            records.push((key.to_owned(), value.to_owned()));
        }
        text = &text[length..];
    }
    records
}

fn padded(size: u64) -> u64 {
    size.next_multiple_of(BLOCK as u64)
}

async fn skip<R: AsyncRead + Unpin>(tar: &mut R, bytes: u64) -> io::Result<()> {
    let skipped = tokio::io::copy(&mut tar.take(bytes), &mut tokio::io::sink()).await?;
    if skipped == bytes { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

/// Copies an entry's content and reads over its padding; gives the rest of the tar back. Runs on a thread that may wait.
fn copy<R: AsyncRead + Unpin>(tar: R, size: u64, out: &mut dyn Write) -> io::Result<R> {
    let mut tar = SyncIoBridge::new(tar);
    let mut piece = vec![0; PIECE_BYTES];
    let (mut left, mut padding) = (size, padded(size) - size);
    while left + padding > 0 {
        let now = if left > 0 { left } else { padding };
        let now = usize::try_from(now).unwrap_or(PIECE_BYTES).min(PIECE_BYTES);
        tar.read_exact(&mut piece[..now])?;
        if left > 0 {
            out.write_all(&piece[..now])?;
            left -= now as u64;
        } else {
            padding -= now as u64;
        }
    }
    Ok(tar.into_inner())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_beyond_octal_are_read() {
        assert_eq!(number(b"00000001750\0").unwrap(), 1000);
        let mut large = [0; 12];
        large[0] = 0x80;
        large[4..].copy_from_slice(&(20_u64 << 30).to_be_bytes());
        assert_eq!(number(&large).unwrap(), 20 << 30);
        assert!(number(b"not a number").is_err());
    }

    #[test]
    fn extended_headers_are_read_and_broken_ones_end() {
        let records = extended(b"20 size=21474836480\n14 path=a b/c\n99 x=y\n");
        assert_eq!(
            records,
            [("size".to_owned(), "21474836480".to_owned()), ("path".to_owned(), "a b/c".to_owned())]
        );
        assert!(extended(b"no").is_empty() && extended(b"0 =").is_empty());
    }
}
