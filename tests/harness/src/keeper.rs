//! What makes servers disappear: one small shell per server that outlives the test process.

use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

/// The environment variable by which a process is known to belong to a server of the harness. Not one of `MOTHBALL_…`:
/// Mothball refuses those that it does not know.
pub const MARK_VARIABLE: &str = "HARNESS_MARK";

const CLEAN_UP_LIMIT: Duration = Duration::from_mins(1);

/// A shell that removes a server's processes, mounts, links and files once its standard input closes.
///
/// The input is a pipe that only this process holds, so the kernel closes it however this process ends: a test that
/// panics, is stopped by its runner or killed with `kill -9` leaves nothing behind. Dropping the keeper takes the very
/// same path and waits for it, so the path is exercised by every test.
#[derive(Debug)]
pub struct Keeper {
    shell: Child,
    input: Option<ChildStdin>,
}

impl Keeper {
    /// Starts a keeper for the server whose processes carry `mark` and whose files lie in `directory`.
    pub fn start(mark: &str, directory: &Path) -> Result<Self> {
        let mut keeper = Self::spawn(mark, directory, Stdio::piped())?;
        keeper.input = keeper.shell.stdin.take();
        Ok(keeper)
    }

    /// Starts a keeper that ends the server when `input` ends instead of with this process: for shared servers.
    pub fn start_following(mark: &str, directory: &Path, input: ChildStdout) -> Result<()> {
        // Not dropped: its drop would wait for the end of the server.
        std::mem::forget(Self::spawn(mark, directory, input.into())?);
        Ok(())
    }

    fn spawn(mark: &str, directory: &Path, input: Stdio) -> Result<Self> {
        let shell = Command::new("/bin/sh")
            .args(["-c", include_str!("keeper.sh"), "keeper", mark])
            .arg(directory)
            // A group of its own: a runner that signals the group of the test must not take the keeper with it.
            .process_group(0)
            .current_dir("/")
            .env_remove(MARK_VARIABLE)
            .stdin(input)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("start the keeper")?;
        Ok(Self { shell, input: None })
    }

    /// Notes a network link to delete at the end; called before the link is made.
    pub fn note_link(&mut self, name: &str) -> Result<()> {
        let input = self.input.as_mut().context("the keeper is finishing")?;
        writeln!(input, "link {name}").context("tell the keeper")
    }

    /// Begins the clean-up without waiting for it, so that several servers can disappear side by side.
    pub fn finish(&mut self) {
        self.input = None;
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.finish();
        let deadline = Instant::now() + CLEAN_UP_LIMIT;
        while matches!(self.shell.try_wait(), Ok(None)) && Instant::now() < deadline {
            #[expect(
                clippy::disallowed_methods,
                reason = "a drop cannot await, and the end must be waited for"
            )]
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}
