//! Compression of a layer, block by block: each block is a gzip member or a zstd frame of its own, so that all
//! cores can work on one layer. Chosen by measurement, see docs/adr/0004.

use crate::oci::media;
use bytes::Bytes;
use std::io;

/// Bytes of tar in one block. Larger ones gain nothing in size, smaller ones cost calls.
pub(crate) const BLOCK_BYTES: usize = 1024 * 1024;
/// Room for a block that does not shrink: gzip then stores it in pieces of 64 KiB.
const OUTPUT_BYTES_MAX: usize = BLOCK_BYTES + BLOCK_BYTES / 64 + 4096;
/// The zstd level: still faster than a registry takes the bytes.
const ZSTD_LEVEL: i32 = 1;

/// How layers are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Codec {
    /// gzip, which every engine reads.
    #[default]
    Gzip,
    /// zstd: dockerd from 23 on and containerd from 1.5 on read it; dockerd 20.10 fails only after it has
    /// downloaded everything.
    Zstd,
}

impl Codec {
    /// The media type of a layer that is compressed so.
    pub fn media_type(self) -> &'static str {
        match self {
            Self::Gzip => media::OCI_LAYER_GZIP,
            Self::Zstd => media::OCI_LAYER_ZSTD,
        }
    }
}

/// One thread's compressor.
pub(crate) struct Compressor {
    scratch: Vec<u8>,
    kind: Kind,
}

enum Kind {
    Gzip,
    Zstd(zstd::bulk::Compressor<'static>),
}

impl Compressor {
    pub(crate) fn new(codec: Codec) -> io::Result<Self> {
        let kind = match codec {
            Codec::Gzip => Kind::Gzip,
            Codec::Zstd => Kind::Zstd(zstd::bulk::Compressor::new(ZSTD_LEVEL)?),
        };
        Ok(Self { scratch: vec![0; OUTPUT_BYTES_MAX], kind })
    }

    /// Compresses one block of at most [`BLOCK_BYTES`]. What does not shrink is stored, at the speed of memory:
    /// both libraries notice by themselves.
    pub(crate) fn block(&mut self, raw: &[u8]) -> io::Result<Bytes> {
        let length = match &mut self.kind {
            Kind::Gzip => {
                let level = isal::CompressionLevel::One;
                isal::compress_into(raw, &mut self.scratch, level, isal::Codec::Gzip)
                    .map_err(|e| io::Error::other(format!("igzip: {e}")))?
            }
            Kind::Zstd(zstd) => zstd.compress_to_buffer(raw, &mut self.scratch[..])?,
        };
        Ok(Bytes::copy_from_slice(&self.scratch[..length]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read as _;

    /// Text that repeats, and bytes that do not.
    fn samples() -> Vec<Vec<u8>> {
        let text: Vec<u8> = b"import numpy as np\n".iter().copied().cycle().take(BLOCK_BYTES).collect();
        let mut state = 1_u64;
        let mut noise = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 33) as u8
        };
        let noise: Vec<u8> = std::iter::repeat_with(&mut noise).take(BLOCK_BYTES).collect();
        vec![text, noise, vec![0; BLOCK_BYTES], b"x".to_vec(), Vec::new()]
    }

    #[test]
    fn blocks_one_after_another_are_one_stream() {
        for codec in [Codec::Gzip, Codec::Zstd] {
            let mut compressor = Compressor::new(codec).unwrap();
            let samples = samples();
            let packed: Vec<u8> = samples.iter().flat_map(|raw| compressor.block(raw).unwrap()).collect();
            let mut raw = Vec::new();
            match codec {
                Codec::Gzip => {
                    // One member after another, as gunzip and Go's reader take them.
                    let mut gunzip = std::process::Command::new("gzip")
                        .arg("-dc")
                        .stdin(std::process::Stdio::piped())
                        .stdout(std::process::Stdio::piped())
                        .spawn()
                        .unwrap();
                    let mut input = gunzip.stdin.take().unwrap();
                    let feeder = std::thread::spawn(move || io::Write::write_all(&mut input, &packed));
                    gunzip.stdout.take().unwrap().read_to_end(&mut raw).unwrap();
                    feeder.join().unwrap().unwrap();
                    assert!(gunzip.wait().unwrap().success());
                }
                Codec::Zstd => {
                    zstd::stream::read::Decoder::new(&packed[..]).unwrap().read_to_end(&mut raw).unwrap();
                }
            }
            assert!(raw == samples.concat(), "{codec:?}");
        }
    }

    #[test]
    fn what_does_not_shrink_grows_by_little() {
        for codec in [Codec::Gzip, Codec::Zstd] {
            let packed = Compressor::new(codec).unwrap().block(&samples()[1]).unwrap();
            assert!(packed.len() < BLOCK_BYTES + BLOCK_BYTES / 100, "{codec:?}: {}", packed.len());
        }
    }

    #[test]
    fn the_same_bytes_give_the_same_block() {
        for codec in [Codec::Gzip, Codec::Zstd] {
            let mut compressor = Compressor::new(codec).unwrap();
            let first = compressor.block(&samples()[0]).unwrap();
            let noise = samples().swap_remove(1);
            compressor.block(&noise).unwrap();
            assert_eq!(compressor.block(&samples()[0]).unwrap(), first, "{codec:?}");
        }
    }
}
