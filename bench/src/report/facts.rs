//! The machine and the versions: without them a figure says nothing.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use jiff::Timestamp;
use mothball_harness::command::{output, program, stdout};
use mothball_harness::mothball::binary;
use serde::Serialize;
use tokio::process::Command;
use tokio::time::{interval, timeout};

use crate::measure::busy_seconds;
use crate::rig::Rig;

const LIMIT: Duration = Duration::from_secs(30);
const QUIET_FOR: Duration = Duration::from_secs(2);

/// What a run ran on: each with its name.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Facts {
    /// When the run began.
    pub(crate) at: String,
    /// Names and values, in the order in which they are shown.
    pub(crate) lines: Vec<(String, String)>,
}

impl Facts {
    /// Looks at the machine, and asks every program for its version.
    pub(crate) async fn find(rig: &Rig) -> Result<Self> {
        let dockerd = rig.dockerd();
        let docker =
            dockerd.docker(&["version", "--format", "{{.Client.Version}}, engine {{.Server.Version}}"]);
        let docker = docker.await?;
        let registry = version(program("docker-registry", "docker-registry")?).await?;
        let driver = dockerd.docker(&["info", "--format", "{{.Driver}}"]).await?;
        let cpus = read("/proc/cpuinfo");
        let mut lines = vec![
            ("mothball", format!("{}{}", version(binary()?).await?, commit().await)),
            ("docker", docker),
            ("docker-registry", registry.split_whitespace().last().unwrap_or_default().to_owned()),
        ];
        if let Some(buildah) = &rig.buildah {
            lines.push(("buildah", buildah.version().await?));
        }
        lines.extend([
            ("kernel", read("/proc/sys/kernel/osrelease").trim().to_owned()),
            ("processors", processors(&cpus)),
            ("memory", total_memory(&read("/proc/meminfo"))),
            ("Docker's disk", format!("{driver} on {}", file_system(&dockerd.data(), &read("/proc/mounts")))),
            ("busy before the run", format!("{:.0} % of one processor", busy_share().await? * 100.0)),
        ]);
        let lines = lines.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        // Wall time for people; nothing is compared with it.
        let at = Timestamp::now().strftime("%Y-%m-%d %H:%M UTC").to_string();
        Ok(Self { at, lines })
    }
}

async fn version(program: PathBuf) -> Result<String> {
    stdout(Command::new(program).arg("--version"), LIMIT).await
}

/// The commit of the sources that lie here, where git knows it.
async fn commit() -> String {
    let git = async |args: &[&str]| -> Option<String> {
        let output = output(Command::new("git").args(args), LIMIT).await.ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let Some(commit) = git(&["rev-parse", "--short=10", "HEAD"]).await else {
        return String::new();
    };
    let changed =
        git(&["status", "--porcelain", "--untracked-files=no"]).await.is_some_and(|text| !text.is_empty());
    format!(", commit {commit}{}", if changed { " with changes" } else { "" })
}

fn read(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

fn processors(cpuinfo: &str) -> String {
    let values = |name: &str| {
        let of = cpuinfo.lines().filter_map(|line| line.split_once(':'));
        of.filter(|(key, _)| key.trim() == name).map(|(_, value)| value.trim().to_owned()).collect::<Vec<_>>()
    };
    let (models, flags) = (values("model name"), values("flags"));
    let model = models.first().map_or("unknown", String::as_str);
    let sha = flags.iter().any(|flags| flags.split(' ').any(|flag| flag == "sha_ni"));
    format!("{} x {model}, {} SHA instructions", models.len(), if sha { "with" } else { "without" })
}

fn total_memory(meminfo: &str) -> String {
    let kib = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:")?.trim().strip_suffix(" kB"));
    let gib = kib.and_then(|kib| kib.parse::<f64>().ok()).unwrap_or(0.0) / f64::from(1 << 20);
    format!("{gib:.0} GiB")
}

/// The type of the file system that a path lies on: the deepest mount above it.
fn file_system(path: &Path, mounts: &str) -> String {
    let above = mounts.lines().filter_map(|line| {
        let mut words = line.split(' ').skip(1);
        let (at, kind) = (words.next()?, words.next()?);
        path.starts_with(at).then_some((at.len(), kind))
    });
    above.max_by_key(|(depth, _)| *depth).map_or("unknown", |(_, kind)| kind).to_owned()
}

/// How many processors were busy while nothing of this run was: neighbours make every figure worse.
async fn busy_share() -> Result<f64> {
    let (begun, busy) = (Instant::now(), busy_seconds()?);
    let mut ticks = interval(QUIET_FOR);
    ticks.tick().await;
    timeout(LIMIT, ticks.tick()).await.context("wait for a quiet moment")?;
    Ok((busy_seconds()? - busy) / begun.elapsed().as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processors_are_counted_and_named() {
        let cpuinfo =
            "model name\t: EPYC\nflags\t\t: fpu sha_ni\n\nmodel name\t: EPYC\nflags\t\t: fpu sha_ni\n";
        assert_eq!(processors(cpuinfo), "2 x EPYC, with SHA instructions");
        assert_eq!(total_memory("MemTotal:       25165824 kB\n"), "24 GiB");
    }

    #[test]
    fn the_deepest_mount_above_a_path_counts() {
        let mounts = "a / ext4 rw\nb /tmp xfs rw\nc /tmp/other tmpfs rw\n";
        assert_eq!(file_system(Path::new("/tmp/mb"), mounts), "xfs");
        assert_eq!(file_system(Path::new("/var"), mounts), "ext4");
    }
}
