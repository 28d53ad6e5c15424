//! Where a private server lives: its directory, its mark, its keeper.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use rustix::fs::statfs;
use rustix::process::{Pid, Signal, kill_process};
use uuid::Uuid;

use crate::keeper::{Keeper, MARK_VARIABLE};
use crate::shared::Landlord;

/// The directory of one server, removed with everything in it when dropped.
///
/// Declare it after the [`Process`](crate::process::Process) in a struct: fields are dropped in order, and our children
/// should be reaped before the keeper looks for what is left.
#[derive(Debug)]
pub struct Place {
    directory: PathBuf,
    mark: String,
    keeper: Option<Keeper>,
}

impl Place {
    /// Makes a fresh directory on a disk file system and its keeper.
    pub fn new(kind: &str) -> Result<Self> {
        let (directory, mark) = names(kind);
        let keeper = Some(Keeper::start(&mark, &directory)?);
        Self::make(directory, mark, keeper)
    }

    /// Makes the place of a shared server: it is removed when the landlord ends, not when dropped.
    pub fn shared(kind: &str, landlord: Landlord) -> Result<Self> {
        let (directory, mark) = names(kind);
        Keeper::start_following(&mark, &directory, landlord.into_output()?)?;
        Self::make(directory, mark, None)
    }

    fn make(directory: PathBuf, mark: String, keeper: Option<Keeper>) -> Result<Self> {
        std::fs::create_dir(&directory).with_context(|| format!("make {}", directory.display()))?;
        Ok(Self { directory, mark, keeper })
    }

    /// The directory.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// A path inside the directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// The mark that every process of this server carries.
    pub fn mark(&self) -> &str {
        &self.mark
    }

    /// The keeper, to note what else must be removed; a shared server has none of ours.
    pub fn keeper(&mut self) -> Option<&mut Keeper> {
        self.keeper.as_mut()
    }

    /// Kills every process that carries the mark, also those whose parents are gone.
    pub fn kill_all(&self) {
        self.kill_where(|_| true);
    }

    /// Kills the processes of this name that carry the mark.
    pub fn kill_named(&self, name: &str) {
        self.kill_where(|process| {
            std::fs::read_to_string(process.join("comm")).is_ok_and(|comm| comm.trim_end() == name)
        });
    }

    fn kill_where(&self, chosen: impl Fn(&Path) -> bool) {
        let variable = format!("{MARK_VARIABLE}={}", self.mark);
        for process in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
            let environment = std::fs::read(process.path().join("environ")).unwrap_or_default();
            let ours = environment.split(|byte| *byte == 0).any(|v| v == variable.as_bytes());
            let pid = process.file_name().to_str().and_then(|name| name.parse().ok());
            if ours
                && chosen(&process.path())
                && let Some(pid) = pid.and_then(Pid::from_raw)
            {
                let _late = kill_process(pid, Signal::KILL);
            }
        }
    }
}

fn names(kind: &str) -> (PathBuf, String) {
    let id = Uuid::new_v4().simple().to_string();
    // Short, because the paths of unix sockets end at 107 bytes.
    let directory = base().join(format!("mb-{kind}-{}", &id[..8]));
    (directory, format!("mothball-{id}"))
}

/// The first temporary directory on a real disk: overlay mounts cannot be stacked on overlay, nor xattrs kept on tmpfs.
fn base() -> PathBuf {
    const TMPFS: i64 = 0x0102_1994;
    const OVERLAY: i64 = 0x794c_7630;
    let candidates = [std::env::temp_dir(), PathBuf::from("/tmp"), PathBuf::from("/var/tmp")];
    candidates
        .iter()
        .find(|path| statfs(path.as_path()).is_ok_and(|fs| fs.f_type != TMPFS && fs.f_type != OVERLAY))
        .unwrap_or(&candidates[0])
        .clone()
}
