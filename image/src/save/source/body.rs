//! A file's content: exactly as many bytes as were promised, and holes without reading them.

use rustix::fs::{Advice, SeekFrom, Stat};
use rustix::io::Errno;
use std::io::{self, Write};
use std::num::NonZeroU64;
use std::os::fd::OwnedFd;

/// How much is read at once.
const BUFFER_BYTES: usize = 256 * 1024;
/// From this size on the system is told that a file will be read from front to back.
const LONG: u64 = 4 * 1024 * 1024;

/// Reads files one after the other.
pub(super) struct Body<'a> {
    buffer: Box<[u8]>,
    progress: &'a dyn Fn(u64),
    pub(super) bytes_read: u64,
}

impl<'a> Body<'a> {
    pub(super) fn new(progress: &'a dyn Fn(u64)) -> Self {
        Self { buffer: vec![0; BUFFER_BYTES].into_boxed_slice(), progress, bytes_read: 0 }
    }

    /// Copies as many bytes as `stat` says. Answers whether the file had them; zeros stand for those that it had not.
    pub(super) fn copy(&mut self, file: &OwnedFd, stat: &Stat, out: &mut dyn Write) -> io::Result<bool> {
        let size = stat.st_size as u64;
        if size >= LONG {
            // Advice: nothing is lost where it is not taken.
            let _ = rustix::fs::fadvise(file, 0, NonZeroU64::new(size), Advice::Sequential);
        }
        if (stat.st_blocks as u64).saturating_mul(512) >= size {
            return self.data(file, 0, size, out);
        }
        let (mut at, mut whole) = (0, true);
        while at < size {
            let (data, end) = next_data(file, at, size)?;
            self.zeros(data - at, out)?;
            whole &= self.data(file, data, end, out)?;
            at = end;
        }
        Ok(whole)
    }

    fn data(&mut self, file: &OwnedFd, mut at: u64, end: u64, out: &mut dyn Write) -> io::Result<bool> {
        while at < end {
            let room = (end - at).min(BUFFER_BYTES as u64) as usize;
            let read = match rustix::io::pread(file, &mut self.buffer[..room], at) {
                Ok(0) => {
                    self.zeros(end - at, out)?;
                    return Ok(false);
                }
                Ok(read) => read,
                Err(Errno::INTR) => continue,
                Err(error) => return Err(error.into()),
            };
            out.write_all(&self.buffer[..read])?;
            at += read as u64;
            self.bytes_read += read as u64;
            (self.progress)(read as u64);
        }
        Ok(true)
    }

    fn zeros(&mut self, mut count: u64, out: &mut dyn Write) -> io::Result<()> {
        if count > 0 {
            self.buffer.fill(0);
        }
        while count > 0 {
            let part = count.min(BUFFER_BYTES as u64);
            out.write_all(&self.buffer[..part as usize])?;
            (self.progress)(part);
            count -= part;
        }
        Ok(())
    }
}

/// Where the next data from `at` on begins and ends, as far as `size`.
fn next_data(file: &OwnedFd, at: u64, size: u64) -> io::Result<(u64, u64)> {
    let start = match rustix::fs::seek(file, SeekFrom::Data(at)) {
        Ok(start) => start.min(size),
        // Nothing but a hole follows.
        Err(Errno::NXIO) => return Ok((size, size)),
        // A file system that does not know of holes.
        Err(Errno::INVAL | Errno::NOTSUP) => return Ok((at, size)),
        Err(error) => return Err(error.into()),
    };
    match rustix::fs::seek(file, SeekFrom::Hole(start)) {
        Ok(end) if end > start => Ok((start, end.min(size))),
        // It was cut off meanwhile.
        Ok(_) | Err(Errno::NXIO) => Ok((start, size)),
        Err(error) => Err(error.into()),
    }
}
