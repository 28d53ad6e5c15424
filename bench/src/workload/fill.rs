//! Filling a new container's writable layer.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use mothball_harness::command::stdout;
use mothball_harness::dockerd::Dockerd;

use super::{Packages, Size, Workload};

/// Where the workloads lie in a container.
pub(crate) const AT: &str = "/opt";
/// How many incompressible files W4 has beside its packages.
pub(crate) const LARGE_FILES: u64 = 4;

const LIMIT: Duration = Duration::from_mins(30);

/// Fills a container: with docker cp and docker exec, as a user would.
pub(crate) async fn fill(
    dockerd: &Dockerd,
    container: &str,
    workload: Workload,
    size: Size,
    packages: &Packages,
) -> Result<()> {
    match workload {
        Workload::W1 | Workload::W3 => copy(dockerd, container, &packages.directory, "packages").await,
        Workload::W2 => random(dockerd, container, "weights-1", size).await,
        Workload::W4 => {
            for name in ["packages-1", "packages-2", "packages-3"] {
                copy(dockerd, container, &packages.directory, name).await?;
            }
            for n in 1..=LARGE_FILES {
                random(dockerd, container, &format!("weights-{n}"), size).await?;
            }
            Ok(())
        }
    }
}

async fn copy(dockerd: &Dockerd, container: &str, from: &Path, name: &str) -> Result<()> {
    let target = format!("{AT}/{name}");
    dockerd.docker(&["exec", container, "mkdir", "-p", &target]).await?;
    let mut copy = dockerd.client()?;
    copy.arg("cp").arg(from.join(".")).arg(format!("{container}:{target}"));
    stdout(&mut copy, LIMIT).await.map(drop).context("copy the packages into the container")
}

async fn random(dockerd: &Dockerd, container: &str, name: &str, size: Size) -> Result<()> {
    let mib = size.blob_mib();
    let script = format!("mkdir -p {AT} && dd if=/dev/urandom of={AT}/{name} bs=1M count={mib} 2>&1");
    let mut fill = dockerd.client()?;
    fill.args(["exec", container, "sh", "-c", &script]);
    stdout(&mut fill, LIMIT).await.map(drop).context("write an incompressible file")
}
