//! W1's tree: real packages, installed by pip, kept between runs.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};
use mothball_harness::command::{program, stdout};
use tokio::process::Command;

use super::Size;
use crate::say;

const LIMIT: Duration = Duration::from_mins(30);
/// Every version is named and nothing is resolved: the same tree in every run.
const FULL: &str = include_str!("packages-full.txt");
const CI: &str = include_str!("packages-ci.txt");

/// A directory of installed packages.
#[derive(Clone, Debug)]
pub(crate) struct Packages {
    /// Where it is.
    pub(crate) directory: PathBuf,
}

impl Packages {
    /// Takes the tree of an earlier run, or installs it below `out`.
    pub(crate) async fn get(out: &Path, size: Size) -> Result<Self> {
        let (name, list) = if size == Size::Ci { ("ci", CI) } else { ("full", FULL) };
        let directory = out.join(format!("packages-{name}"));
        let said = out.join(format!("packages-{name}.txt"));
        // The list lies beside the tree, written last: an installation that was cut short, or of another list, is no tree.
        if std::fs::read_to_string(&said).is_ok_and(|installed| installed == list) {
            return Ok(Self { directory });
        }
        say(&format!("installing W1's packages into {}", directory.display()));
        match std::fs::remove_dir_all(&directory) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(error).context("remove packages of another list");
            }
            _ => {}
        }
        let wanted = out.join(format!("wanted-{name}.txt"));
        std::fs::write(&wanted, list).context("write the list of packages")?;
        let pip = pip(out).await?;
        let mut install = Command::new(pip);
        install.args(["install", "--quiet", "--no-deps", "--no-cache-dir", "--disable-pip-version-check"]);
        install.arg("--target").arg(&directory).arg("--requirement").arg(&wanted);
        stdout(&mut install, LIMIT).await.context("install W1's packages")?;
        std::fs::rename(&wanted, &said).context("keep the list of packages")?;
        Ok(Self { directory })
    }
}

/// A pip of our own: Debian's refuses to install outside of a virtual environment.
async fn pip(out: &Path) -> Result<PathBuf> {
    let environment = out.join("python");
    let pip = environment.join("bin/pip");
    if !pip.exists() {
        let mut python = Command::new(program("python3", "python3-venv")?);
        python.args(["-m", "venv"]).arg(&environment);
        stdout(&mut python, LIMIT).await.context("make a virtual environment")?;
    }
    Ok(pip)
}
