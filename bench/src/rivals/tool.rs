//! A command that lives for one task, and the most memory that it took.

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use tokio::process::Command;
use tokio::time::{interval, timeout};

use crate::measure::resident_peak;

/// How often its memory is looked at: the kernel keeps the peak, so only the last moments can be missed.
const TICK: Duration = Duration::from_millis(20);

/// Runs a command that must succeed; its peak of resident memory in bytes.
pub(crate) async fn run(command: &mut Command, limit: Duration) -> Result<u64> {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .context("start a command")?;
    let pid = child.id().context("find a command's process")?;
    let peak = async {
        let (mut peak, mut ticks) = (0, interval(TICK));
        let mut waiting = std::pin::pin!(async {
            let stderr = child.stderr.take();
            let error = read(stderr).await;
            child.wait().await.map(|status| (status, error))
        });
        loop {
            tokio::select! {
                ended = &mut waiting => {
                    let (status, error) = ended.context("wait for a command")?;
                    ensure!(status.success(), "it ended with {status}: {}", error.trim());
                    return Ok(peak);
                }
                _ = ticks.tick() => peak = peak.max(resident_peak(pid).unwrap_or(0)),
            }
        }
    };
    timeout(limit, peak).await.context("wait for a command")?
}

async fn read(stderr: Option<tokio::process::ChildStderr>) -> String {
    let mut text = String::new();
    if let Some(mut stderr) = stderr {
        // What cannot be read is not said; the status says enough.
        let _unreadable = tokio::io::AsyncReadExt::read_to_string(&mut stderr, &mut text).await;
    }
    text
}
