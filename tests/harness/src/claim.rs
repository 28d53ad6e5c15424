//! Machine-wide names that only one test at a time may hold: TCP ports and bridge numbers.

use std::fs::File;
use std::net::TcpListener;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use uuid::Uuid;

/// Ports below Linux's ephemeral range: a server that is down for a while finds its port free when it comes back,
/// since no outgoing connection can have been given it.
const PORTS: std::ops::Range<u16> = 12_000..32_000;
const BRIDGES: std::ops::Range<u16> = 1..250;

/// A number held exclusively by this process, among all test processes of the machine, until dropped.
///
/// The kernel releases the lock when the process ends, however it ends.
#[derive(Debug)]
pub struct Claim {
    number: u16,
    file: PathBuf,
    _lock: File,
}

impl Claim {
    /// Claims a TCP port of 127.0.0.1 that is free now and that no other test will choose.
    pub fn port() -> Result<Self> {
        Self::take("port", PORTS, |port| TcpListener::bind(("127.0.0.1", port)).is_ok())
    }

    /// Claims a number N for the bridge `mbN` with the network 10.N.0.0/24.
    pub fn bridge() -> Result<Self> {
        let routes = std::fs::read_to_string("/proc/net/route").unwrap_or_default();
        Self::take("bridge", BRIDGES, |n| {
            // The routing table writes addresses as little-endian hexadecimal: 10.N.0.0 is 0000NN0A.
            let network = format!("\t0000{n:02X}0A\t");
            !routes.contains(&network) && !PathBuf::from(format!("/sys/class/net/mb{n}")).exists()
        })
    }

    fn take(kind: &str, numbers: std::ops::Range<u16>, free: impl Fn(u16) -> bool) -> Result<Self> {
        let directory = std::env::temp_dir().join("mothball-harness");
        std::fs::create_dir_all(&directory).context("make the directory of claims")?;
        let count = numbers.end - numbers.start;
        // A random start keeps tests that begin together from queueing at the same numbers.
        let start = (Uuid::new_v4().as_u128() % u128::from(count)) as u16;
        for step in 0..count {
            let number = numbers.start + (start + step) % count;
            let file = directory.join(format!("{kind}-{number}"));
            let lock = File::create(&file).context("open the file of a claim")?;
            // The file may have been removed, and made anew by a third test, since it was opened here.
            if lock.try_lock().is_ok() && is_at(&lock, &file) && free(number) {
                return Ok(Self { number, file, _lock: lock });
            }
        }
        bail!("no {kind} between {} and {} is free", numbers.start, numbers.end)
    }

    /// The number held.
    pub fn number(&self) -> u16 {
        self.number
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        // While the lock is held, so that nobody's claim but this one is removed.
        let _removed = std::fs::remove_file(&self.file);
    }
}

fn is_at(file: &File, path: &Path) -> bool {
    let inode = |metadata: std::fs::Metadata| (metadata.dev(), metadata.ino());
    match (file.metadata(), std::fs::metadata(path)) {
        (Ok(opened), Ok(named)) => inode(opened) == inode(named),
        _ => false,
    }
}
