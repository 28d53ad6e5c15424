//! Finding programs and running commands with a limit.

use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use tokio::process::Command;

/// The search path given to every server and command: Debian keeps daemons in `sbin`, which a user's path may lack.
pub const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Finds a program, or fails naming the Debian package that has it.
pub fn program(name: &str, package: &str) -> Result<PathBuf> {
    let found = if name.starts_with('/') {
        Some(PathBuf::from(name)).filter(|path| path.exists())
    } else {
        PATH.split(':').map(|directory| Path::new(directory).join(name)).find(|path| path.exists())
    };
    found.with_context(|| {
        format!("{name} is not installed: run `apt-get install {package}` (or `make test`, which installs what tests need)")
    })
}

/// Runs a command to its end within a limit, whatever its exit status; it is killed when the limit passes.
pub async fn output(command: &mut Command, limit: Duration) -> Result<Output> {
    let child = command.stdin(Stdio::null()).kill_on_drop(true).output();
    match tokio::time::timeout(limit, child).await {
        Ok(output) => output.with_context(|| format!("run {}", shown(command))),
        Err(_) => bail!("{} did not end within {limit:?}", shown(command)),
    }
}

/// Runs a command that must succeed and returns its standard output, trimmed; the error holds its standard error.
pub async fn stdout(command: &mut Command, limit: Duration) -> Result<String> {
    let output = output(command, limit).await?;
    let text = String::from_utf8_lossy(&output.stdout).trim_end().to_owned();
    if !output.status.success() {
        let error = String::from_utf8_lossy(&output.stderr);
        bail!("{}: {}: {} {text}", shown(command), output.status, error.trim());
    }
    Ok(text)
}

fn shown(command: &Command) -> String {
    let command = command.as_std();
    std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(|word| word.to_string_lossy())
        .collect::<Vec<_>>()
        .join(" ")
}
