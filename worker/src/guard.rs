//! The guard: a process that thaws a frozen container when its worker dies.
//!
//! A worker that is killed while it holds a container frozen would leave it so until a successor starts. So before a
//! freeze it starts a guard: the same binary with a hidden subcommand, in a process group of its own, at the other end
//! of a pipe. When the freeze is over the worker says so and the guard leaves; when the pipe ends without a word, the
//! worker is dead and the guard thaws.
//!
//! The guard holds a lock of its own per container while it lives. The next guard for the container waits for it, and
//! nobody freezes before his guard is ready: an old guard that still tries to reach Docker can thus not thaw a
//! successor's freeze.
//!
//! SIGTERM, SIGINT and SIGHUP do not end a guard, because they reach it together with its worker, which then says the
//! word itself. SIGKILL for the whole unit does: then the successor thaws at its start.

use crate::docker::{DockerError, Engine, EngineLimits};
use crate::journal::FreezeJournal;
use crate::lock::{FileLock, LockError, guard_lock_path};
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWriteExt, BufReader, Take};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

/// What the worker says when the freeze is over.
const DONE: &str = "done";
/// What the guard says when it stands.
const READY: &str = "ready";

/// How long a dead predecessor's guard is waited for.
const TAKEOVER: Duration = Duration::from_mins(1);
/// How long a guard may take to stand, a predecessor's included.
const STAND_UP: Duration = Duration::from_secs(75);
/// How long a guard may take to leave once it was told.
const LEAVE: Duration = Duration::from_secs(10);
/// How long a guard tries to thaw: longer than Docker takes to restart.
const THAW: Duration = Duration::from_mins(10);
/// The first pause between two tries to thaw; doubles.
const THAW_AGAIN_FIRST: Duration = Duration::from_millis(200);
/// The longest pause between two tries to thaw.
const THAW_AGAIN_MAX: Duration = Duration::from_secs(5);
/// Most that is heard of a guard until it stands.
const HEARD_BYTES_MAX: u64 = 4096;
/// Longest word that is read from the pipe.
const WORD_BYTES_MAX: usize = 256;
/// How often a worker says that it lives.
const BEAT: Duration = Duration::from_secs(5);
/// After how long without a word a worker counts as stopped: its container must not stay frozen with it. A worker that
/// goes on after that finds its freeze broken, and fails the attempt.
const SILENCE: Duration = Duration::from_mins(1);

/// What a guard needs to know; what its command line carries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GuardPost {
    /// Docker's address.
    pub docker_host: String,
    /// The container's Docker id.
    pub docker_id: String,
    /// The directory of the node's locks.
    pub locks_dir: PathBuf,
}

/// Why there is no guard, or why it did not do its work.
#[derive(Debug, thiserror::Error)]
pub enum GuardError {
    /// It could not be started or spoken to.
    #[error("start guard {program}")]
    Start {
        /// The program.
        program: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// It did not stand within its time.
    #[error("start guard: it was not ready within {} s", STAND_UP.as_secs())]
    NotReady,
    /// It ended otherwise than it should, or not at all.
    #[error("guard: {0}")]
    Ended(String),
    /// A guard of the container is still at work.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// Docker could not be asked.
    #[error(transparent)]
    Docker(#[from] DockerError),
    /// The pipe or the signals could not be used.
    #[error("keep guard")]
    Io(#[from] io::Error),
}

/// How the guard's program is called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GuardCommand {
    /// The program: the worker's own binary.
    pub program: PathBuf,
    /// What stands before the guard's own options, such as the subcommand.
    pub args: Vec<OsString>,
}

impl GuardCommand {
    /// The very binary that runs, with the subcommand `guard`. Survives an upgrade of the file on disk.
    pub fn own() -> Self {
        Self { program: PathBuf::from("/proc/self/exe"), args: vec!["guard".into()] }
    }
}

/// A guard at its post, seen from the worker. Dropping it without [`Guard::done`] makes it thaw the container.
#[derive(Debug)]
pub struct Guard {
    child: Child,
    /// Says that the worker lives, and gives the pipe back when told. Dropped, it closes the pipe.
    beats: JoinSet<ChildStdin>,
    ended: CancellationToken,
    // Kept open: what it might still say must not break it.
    _words: BufReader<Take<ChildStdout>>,
}

impl Guard {
    /// Starts a guard and waits until it stands. Only then may the container be frozen.
    pub async fn start(command: &GuardCommand, post: &GuardPost) -> Result<Self, GuardError> {
        let failed = |source| GuardError::Start { program: command.program.display().to_string(), source };
        let mut child = Command::new(&command.program)
            .args(&command.args)
            .args(post.args())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // Its warnings belong into the worker's log.
            .stderr(Stdio::inherit())
            // A signal for the worker's group must not reach it; nor does it hold the worker's directory busy.
            .process_group(0)
            .current_dir("/")
            .spawn()
            .map_err(failed)?;
        let (Some(pipe), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(failed(io::ErrorKind::BrokenPipe.into()));
        };
        let mut reader = BufReader::new(stdout.take(HEARD_BYTES_MAX));
        match timeout(STAND_UP, hear_ready(&mut reader)).await {
            Ok(Ok(true)) => {
                let (mut beats, ended) = (JoinSet::new(), CancellationToken::new());
                beats.spawn(beat(pipe, ended.clone()));
                Ok(Self { child, beats, ended, _words: reader })
            }
            Ok(Ok(false)) => Err(GuardError::Ended(describe(timeout(LEAVE, child.wait()).await))),
            Ok(Err(e)) => Err(failed(e)),
            Err(_) => {
                let _ = child.start_kill();
                Err(GuardError::NotReady)
            }
        }
    }

    /// Tells the guard that the freeze is over, thawed or removed, and waits until it has left. The guard touches
    /// nothing. An error means that it may yet thaw the container, which is then running anyway or gone.
    pub async fn done(mut self) -> Result<(), GuardError> {
        self.ended.cancel();
        let Some(Ok(mut pipe)) = self.beats.join_next().await else {
            return Err(GuardError::Io(io::ErrorKind::BrokenPipe.into()));
        };
        pipe.write_all(format!("{DONE}\n").as_bytes()).await?;
        pipe.shutdown().await?;
        drop(pipe);
        match timeout(LEAVE, self.child.wait()).await {
            Ok(Ok(status)) if status.success() => Ok(()),
            other => {
                // It was told, so nothing that it still does is wanted.
                let _ = self.child.start_kill();
                Err(GuardError::Ended(describe(other)))
            }
        }
    }

    /// The guard's process id.
    pub fn pid(&self) -> Option<u32> {
        self.child.id()
    }
}

/// Says that the worker lives, until told to end. A pipe that is broken is found out by whoever says the last word.
async fn beat(mut pipe: ChildStdin, ended: CancellationToken) -> ChildStdin {
    while ended.run_until_cancelled(sleep(BEAT)).await.is_some() {
        if pipe.write_all(b".\n").await.is_err() {
            ended.cancelled().await;
        }
    }
    pipe
}

/// Whether the guard says that it stands; what else it, or a wrapper around it, says before is passed over.
async fn hear_ready(words: &mut (impl AsyncBufRead + Unpin)) -> io::Result<bool> {
    let mut line = String::new();
    while words.read_line(&mut line).await? > 0 {
        if line.trim() == READY {
            return Ok(true);
        }
        line.clear();
    }
    Ok(false)
}

fn describe(ended: Result<io::Result<ExitStatus>, tokio::time::error::Elapsed>) -> String {
    match ended {
        Ok(Ok(status)) => status.to_string(),
        Ok(Err(e)) => e.to_string(),
        Err(_) => "it did not end".to_owned(),
    }
}

impl GuardPost {
    /// The options that tell it to a guard's process.
    pub fn args(&self) -> [OsString; 6] {
        [
            "--docker-host".into(),
            self.docker_host.clone().into(),
            "--container".into(),
            self.docker_id.clone().into(),
            "--locks-dir".into(),
            self.locks_dir.clone().into(),
        ]
    }
}

/// What the guard's process does; `mothball guard --docker-host H --container ID --locks-dir D` calls it. Its pipe is
/// standard input, and it says `ready` on standard output.
pub async fn run_guard(post: &GuardPost) -> Result<(), GuardError> {
    // Before the worker hears "ready", so that no signal falls into the gap. Held: dropping them would restore nothing,
    // but their streams must be there to swallow what comes.
    let _deaf =
        [signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?, signal(SignalKind::hangup())?];
    let engine =
        Engine::connect(&post.docker_host, EngineLimits { call: THAW_AGAIN_MAX * 2, ..Default::default() })?;
    let _post = FileLock::guard(&lock_path(post), TAKEOVER).await?;
    let mut stdout = tokio::io::stdout();
    stdout.write_all(format!("{READY}\n").as_bytes()).await?;
    stdout.flush().await?;

    if was_told(tokio::io::stdin()).await {
        return Ok(());
    }
    tracing::warn!(container = %post.docker_id, "the worker died while the container was frozen: thawing it");
    thaw(&engine, &post.docker_id).await?;
    // Thawed: a pause that is found later is its user's.
    FreezeJournal::new(&post.locks_dir).remove(&post.docker_id)?;
    Ok(())
}

fn lock_path(post: &GuardPost) -> PathBuf {
    guard_lock_path(Path::new(&post.locks_dir), &post.docker_id)
}

/// Waits for the worker's last word; whether it was that it is done. An end of the pipe, an error and a long silence are
/// none.
async fn was_told(mut pipe: impl AsyncRead + Unpin) -> bool {
    let mut word = Vec::new();
    let mut heard = [0; 64];
    loop {
        let count = match timeout(SILENCE, pipe.read(&mut heard)).await {
            Ok(Ok(count)) if count > 0 => count,
            // What was said last may lack its line's end.
            Ok(Ok(_)) => return is_done(&word),
            Ok(Err(_)) | Err(_) => return false,
        };
        for byte in &heard[..count] {
            match byte {
                b'\n' if is_done(&word) => return true,
                b'\n' => word.clear(),
                _ if word.len() < WORD_BYTES_MAX => word.push(*byte),
                _ => {}
            }
        }
    }
}

fn is_done(word: &[u8]) -> bool {
    word == DONE.as_bytes()
}

/// Thaws for as long as it takes Docker to come back. The container may have been frozen, thawed or removed: all three
/// end well.
async fn thaw(engine: &Engine, docker_id: &str) -> Result<(), DockerError> {
    let deadline = Instant::now() + THAW;
    let mut pause = THAW_AGAIN_FIRST;
    loop {
        match engine.unpause(docker_id).await {
            Ok(_) => return Ok(()),
            Err(e) if e.is_not_found() => return Ok(()),
            Err(e) if Instant::now() >= deadline => return Err(e),
            Err(e) => tracing::warn!(container = %docker_id, error = %e, "thaw container: trying again"),
        }
        sleep(pause).await;
        pause = (pause * 2).min(THAW_AGAIN_MAX);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_the_word_counts_as_told() {
        for (said, told) in [
            ("done\n", true),
            (".\n.\ndone\n", true),
            (".\n.\n", false),
            ("done", true),
            ("", false),
            ("don", false),
            ("x\n", false),
        ] {
            assert_eq!(was_told(said.as_bytes()).await, told, "{said:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_worker_that_beats_is_waited_for_and_one_that_is_silent_is_not() {
        let (mut worker, guard) = tokio::io::duplex(64);
        let told = async { was_told(guard).await };
        let beats = async {
            for _ in 0..100 {
                sleep(BEAT).await;
                worker.write_all(b".\n").await.unwrap();
            }
            std::future::pending::<()>().await;
        };
        let begun = Instant::now();
        tokio::select! {
            said = told => assert!(!said),
            () = beats => unreachable!("the worker never ends"),
        }
        assert_eq!(begun.elapsed(), BEAT * 100 + SILENCE);
    }
}
