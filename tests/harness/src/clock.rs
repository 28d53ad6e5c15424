//! A wall clock that a test moves while processes run under it, so that a night takes a second.

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use jiff::SignedDuration;
use tempfile::TempDir;

/// A wall clock that some processes believe: as far from the real one as the test says. How long things take is not
/// touched: timers run on the monotonic clock.
#[derive(Debug)]
pub struct Clock {
    directory: TempDir,
}

impl Clock {
    /// A clock that shows the real time, for now.
    pub fn new() -> Result<Self> {
        let clock = Self { directory: tempfile::tempdir().context("make the clock's directory")? };
        clock.set(SignedDuration::ZERO)?;
        Ok(clock)
    }

    /// What a process that believes this clock has in its environment.
    pub fn environment(&self) -> Result<Vec<(&'static str, String)>> {
        Ok(vec![
            // The allocator of the C library before Redis's own, which asks for the time before there is one.
            ("LD_PRELOAD", format!("{} libc.so.6", library()?.display())),
            ("FAKETIME_TIMESTAMP_FILE", self.file().display().to_string()),
            // In seconds of the real time: how soon a process sees that the clock was moved.
            ("FAKETIME_CACHE_DURATION", "1".to_owned()),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
            // Times of files are what they are.
            ("NO_FAKE_STAT", "1".to_owned()),
        ])
    }

    /// Moves the clock: so far from the real time.
    pub fn set(&self, ahead: SignedDuration) -> Result<()> {
        // In one step: a process that reads half a line would be lost in time.
        let fresh = self.directory.path().join("fresh");
        std::fs::write(&fresh, format!("{:+}\n", ahead.as_secs())).context("write the clock's time")?;
        std::fs::rename(fresh, self.file()).context("move the clock")
    }

    fn file(&self) -> PathBuf {
        self.directory.path().join("offset")
    }
}

/// The library that stands between a process and the time.
pub fn library() -> Result<PathBuf> {
    let libraries = std::fs::read_dir("/usr/lib").context("list /usr/lib")?.flatten();
    let mut candidates = libraries.map(|entry| entry.path().join("faketime/libfaketimeMT.so.1"));
    candidates
        .find(|path| path.exists())
        .context("libfaketime is not installed: run `apt-get install faketime` (or `make test`)")
}
