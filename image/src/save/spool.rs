//! What was read while a container stood still: first in memory, then in a file without a name, never more than a bound.

use std::io::{self, Read, Seek as _, SeekFrom, Write};
use std::path::PathBuf;

/// Where and how much.
#[derive(Debug, Clone)]
pub struct SpoolSettings {
    /// A directory on the node's disk.
    pub directory: PathBuf,
    /// Bytes kept in memory, of all that is spooled together.
    pub memory_bytes: usize,
    /// Bytes kept in all.
    pub bytes_max: u64,
}

impl SpoolSettings {
    /// The usual bounds.
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Self { directory: directory.into(), memory_bytes: 32 * 1024 * 1024, bytes_max: 1024 * 1024 * 1024 }
    }
}

/// Bytes that can be read as often as needed.
#[derive(Debug)]
pub(super) struct Spool {
    settings: SpoolSettings,
    memory: Vec<u8>,
    file: Option<std::fs::File>,
    length: u64,
}

impl Spool {
    pub(super) fn new(settings: SpoolSettings) -> Self {
        Self { settings, memory: Vec::new(), file: None, length: 0 }
    }

    /// What is left of the bounds for the next one.
    pub(super) fn room_left(&self) -> SpoolSettings {
        SpoolSettings {
            memory_bytes: self.settings.memory_bytes - self.memory.len(),
            bytes_max: self.settings.bytes_max - self.length,
            ..self.settings.clone()
        }
    }

    /// Writes all of it.
    pub(super) fn copy_to(&self, out: &mut dyn Write) -> io::Result<()> {
        out.write_all(&self.memory)?;
        let Some(file) = &self.file else { return Ok(()) };
        // Several readers share one position; a retry begins only after the last one ended.
        let mut file = file;
        file.seek(SeekFrom::Start(0))?;
        let mut piece = vec![0; 256 * 1024];
        loop {
            let read = file.read(&mut piece)?;
            if read == 0 {
                return Ok(());
            }
            out.write_all(&piece[..read])?;
        }
    }
}

impl Write for Spool {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.length + bytes.len() as u64 > self.settings.bytes_max {
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, "more changed than may be set aside"));
        }
        if self.file.is_none() && self.memory.len() + bytes.len() <= self.settings.memory_bytes {
            self.memory.extend_from_slice(bytes);
        } else {
            if self.file.is_none() {
                self.file = Some(tempfile::tempfile_in(&self.settings.directory)?);
            }
            if let Some(file) = &mut self.file {
                file.write_all(bytes)?;
            }
        }
        self.length += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_in_comes_out_as_often_as_needed() {
        let dir = tempfile::tempdir().unwrap();
        let settings = SpoolSettings { memory_bytes: 10, bytes_max: 100, ..SpoolSettings::new(dir.path()) };
        for pieces in [1, 3, 25] {
            let mut spool = Spool::new(settings.clone());
            let want = b"abcd".repeat(pieces);
            for piece in want.chunks(4) {
                spool.write_all(piece).unwrap();
            }
            for _ in 0..2 {
                let mut got = Vec::new();
                spool.copy_to(&mut got).unwrap();
                let left = spool.room_left();
                assert_eq!((got, left.bytes_max), (want.clone(), 100 - want.len() as u64));
                assert!(left.memory_bytes <= 10);
            }
        }
    }

    #[test]
    fn it_has_an_end_and_leaves_no_file() {
        let dir = tempfile::tempdir().unwrap();
        let settings = SpoolSettings { memory_bytes: 0, bytes_max: 100, ..SpoolSettings::new(dir.path()) };
        let mut spool = Spool::new(settings);
        spool.write_all(&[1; 100]).unwrap();
        assert_eq!(spool.write_all(&[1]).unwrap_err().kind(), io::ErrorKind::FileTooLarge);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
