//! A server that all tests of one run share, for those that are slow to start.
//!
//! The first test that asks starts it; the others find its record. It ends with the runner (`cargo nextest`, `cargo
//! test`: the parent of the test process), or when no test has used it for a while.

use std::fs::File;
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};

use anyhow::{Context as _, Result};
use rustix::process::{Pid, getppid};
use serde::{Serialize, de::DeserializeOwned};

/// Lives as long as the shared server should. Its standard output is the keeper's input, so its end starts the clean-up.
/// Arguments: the runner's process id, the file that users hold a shared lock on, the server's record,
/// the file that the starting test holds.
const LANDLORD: &str = r#"
trap '' INT TERM HUP
exec 9<"$2"
idle=0
while kill -0 "$1" 2>/dev/null; do
  if flock -n -x 9; then
    idle=$((idle + 1))
    if [ "$idle" -gt 100 ]; then break; fi
    flock -u 9
  else
    idle=0
  fi
  sleep 0.3
done
rm -f "$3"
# The files that are locked go with the run only: a test that waits for one of them must find the others at the same file.
kill -0 "$1" 2>/dev/null || rm -f "$2" "$4"
"#;

/// The right to use a shared server; hold it as long as the server is used.
#[derive(Debug)]
pub struct Lease {
    _users: File,
}

/// Returns the record of the run's server of this kind, starting it first where there is none.
///
/// `start` gets what must be the input of the server's keeper. It is called by one test process at a time.
pub async fn lease<T, S>(kind: &str, start: S) -> Result<(T, Lease)>
where
    T: Serialize + DeserializeOwned,
    S: AsyncFnOnce(Landlord) -> Result<T>,
{
    let runner = getppid().map_or(1, Pid::as_raw_pid);
    let directory = std::env::temp_dir().join("mothball-harness");
    std::fs::create_dir_all(&directory).context("make the directory of shared servers")?;
    let file = |suffix: &str| directory.join(format!("{kind}-{runner}-{}.{suffix}", begin(runner)));
    let (users, record, turn) = (file("users"), file("json"), file("turn"));

    // One at a time looks for the record and, if there is none, starts the server.
    let held_turn = File::create(&turn).context("open the turn of a shared server")?;
    let held_turn = tokio::task::spawn_blocking(move || held_turn.lock().map(|()| held_turn))
        .await
        .context("wait for a turn")?
        .context("wait for a turn")?;
    let held = File::create(&users).context("open the users of a shared server")?;
    held.lock_shared().context("use a shared server")?;
    let value = if let Ok(text) = std::fs::read(&record) {
        serde_json::from_slice(&text).context("read the record of a shared server")?
    } else {
        let landlord = Landlord::start(runner, [&users, &record, &turn])?;
        let value = start(landlord).await?;
        let text = serde_json::to_vec(&value).context("write the record of a shared server")?;
        std::fs::write(&record, text).context("write the record of a shared server")?;
        value
    };
    drop(held_turn);
    Ok((value, Lease { _users: held }))
}

/// The process whose end is the end of the shared server.
#[derive(Debug)]
pub struct Landlord {
    shell: Child,
}

impl Landlord {
    fn start(runner: i32, files: [&PathBuf; 3]) -> Result<Self> {
        let shell = std::os::unix::process::CommandExt::process_group(
            Command::new("/bin/sh").args(["-c", LANDLORD, "landlord", &runner.to_string()]),
            0,
        )
        .args(files)
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .context("start a landlord")?;
        Ok(Self { shell })
    }

    /// What the keeper reads.
    pub fn into_output(mut self) -> Result<ChildStdout> {
        self.shell.stdout.take().context("take the landlord's output")
    }
}

/// When a process began, in ticks: a number that tells it from a later one of the same id.
fn begin(pid: i32) -> String {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The name in parentheses may hold spaces; the fields after it are plain, the start time the twentieth of them.
    let fields = stat.rsplit(')').next().unwrap_or_default();
    fields.split_whitespace().nth(19).unwrap_or("0").to_owned()
}
