//! One server process: its start, its log, its signals, its end.

use std::fs::{File, OpenOptions};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use crate::command::PATH;
use crate::keeper::MARK_VARIABLE;
use crate::place::Place;
use crate::wait::{eventually, try_eventually};

const TAIL_LINES: usize = 40;

/// A running server, killed and reaped when dropped; its output goes to a log file.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
    detached: bool,
}

impl Process {
    /// A command for a server of `place`: marked, with a clean environment and the place's directory as its home.
    pub fn command(place: &Place, program: &Path) -> Command {
        let mut command = Command::new(program);
        command
            .env_clear()
            .env("PATH", PATH)
            .env("HOME", place.directory())
            .env("TMPDIR", place.directory())
            .env("LANG", "C.UTF-8")
            .env(MARK_VARIABLE, place.mark())
            .current_dir(place.directory());
        command
    }

    /// Starts the command with its output appended to `<name>.log` of the place.
    pub fn spawn(place: &Place, name: &str, command: &mut Command) -> Result<Self> {
        let log = place.path(&format!("{name}.log"));
        let file = append(&log)?;
        let stdout = file.try_clone().context("share a server's log")?;
        Self::spawn_to(name, command, log, stdout, file)
    }

    /// Starts the command with its standard output in a file of its own, written anew, and the rest in the log.
    pub fn spawn_with_stdout(
        place: &Place,
        name: &str,
        command: &mut Command,
        stdout: &Path,
    ) -> Result<Self> {
        let log = place.path(&format!("{name}.log"));
        let stdout = File::create(stdout).context("open a server's output")?;
        let file = append(&log)?;
        Self::spawn_to(name, command, log, stdout, file)
    }

    fn spawn_to(name: &str, command: &mut Command, log: PathBuf, stdout: File, stderr: File) -> Result<Self> {
        let child = command
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(stdout)
            .stderr(stderr)
            .spawn()
            .with_context(|| format!("start {name}"))?;
        Ok(Self { name: name.to_owned(), child, log, detached: false })
    }

    /// Waits until `ready` answers; fails with the tail of the log when the process ends or the limit passes first.
    pub async fn wait_ready<T>(
        &mut self,
        limit: Duration,
        mut ready: impl AsyncFnMut() -> Option<T>,
    ) -> Result<T> {
        let child = &mut self.child;
        let name = &self.name;
        let answer = try_eventually(limit, "its readiness", async || {
            if let Some(status) = child.try_wait().context("ask after a server")? {
                bail!("it ended with {status}");
            }
            Ok(ready().await)
        });
        let answer = answer.await;
        answer.with_context(|| format!("{name} did not start; its log ends:\n{}", self.tail()))
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Whether the process has not ended.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Sends a signal; one that comes too late is no error.
    pub fn signal(&self, signal: Signal) {
        // Our child stays a zombie until we reap it, so its id cannot have passed to another process.
        let _late = kill_process(Pid::from_child(&self.child), signal);
    }

    /// Kills the process at once and reaps it.
    pub fn kill(&mut self) {
        let _late = self.child.kill();
        let _reaped = self.child.wait();
    }

    /// Lets the process outlive this one: a shared server, which its landlord ends.
    pub fn detach(mut self) {
        self.detached = true;
    }

    /// Waits for the end of the process; fails with the tail of the log when the limit passes.
    pub async fn wait_end(&mut self, limit: Duration) -> Result<ExitStatus> {
        let child = &mut self.child;
        let end = eventually(limit, "its end", async || child.try_wait().ok().flatten()).await;
        end.with_context(|| format!("{} goes on; its log ends:\n{}", self.name, self.tail()))
    }

    /// Asks the process to stop and waits for its end.
    pub async fn stop(&mut self, limit: Duration) -> Result<ExitStatus> {
        self.signal(Signal::TERM);
        self.wait_end(limit).await
    }

    /// The whole log so far.
    pub fn log(&self) -> String {
        read_lossy(&self.log)
    }

    /// The last lines of the log.
    pub fn tail(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.detached {
            return;
        }
        self.kill();
        if std::thread::panicking() {
            let tail = self.tail();
            #[expect(clippy::print_stderr, reason = "a failed test wants the log before its file is removed")]
            {
                eprintln!("--- the log of {} ends:\n{tail}\n---", self.name);
            }
        }
    }
}

fn append(log: &Path) -> Result<File> {
    let file = OpenOptions::new().create(true).append(true).open(log);
    file.context("open a server's log")
}

fn read_lossy(path: &Path) -> String {
    let read = || -> std::io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        std::io::Read::read_to_end(&mut File::open(path)?, &mut bytes)?;
        Ok(bytes)
    };
    String::from_utf8_lossy(&read().unwrap_or_default()).into_owned()
}
