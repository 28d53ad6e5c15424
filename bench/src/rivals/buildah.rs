//! buildah, whose commit goes straight to a registry.
//!
//! It cannot see Docker's containers: a container of its own gets the same files, from the same base image.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use mothball_harness::command::{program, stdout};
use mothball_harness::place::Place;
use mothball_harness::process::Process;
use mothball_harness::registry::Registry;
use tokio::process::Command;

use super::{Done, tool};

const LIMIT: Duration = Duration::from_hours(1);
/// buildah writes a cache below /var/lib, whatever it is told: here that is a memory of its own.
const RUN: &str = r#"mount -t tmpfs none /var/lib; exec "$0" "$@""#;
/// Files are copied where buildah has mounted its container, which is seen in its own mounts only.
const COPY: &str = r#"mount -t tmpfs none /var/lib
    at=$("$0" "$@" mount "$NAME"); cp --archive "$FROM" "$at"; "$0" "$@" umount "$NAME""#;
const ANY: &str = r#"{"default": [{"type": "insecureAcceptAnything"}]}"#;

/// buildah with a storage and a registry of its own.
#[derive(Debug)]
pub(crate) struct Buildah {
    program: PathBuf,
    /// The registry that it saves to.
    pub(crate) registry: Registry,
    place: Place,
}

impl Buildah {
    /// Makes the storage; fails where buildah is not installed.
    pub(crate) async fn start() -> Result<Self> {
        let program = program("buildah", "buildah")?;
        let place = Place::new("buildah")?;
        std::fs::write(place.path("policy.json"), ANY).context("write buildah's policy")?;
        Ok(Self { program, registry: Registry::start().await?, place })
    }

    /// The version, as it says it.
    pub(crate) async fn version(&self) -> Result<String> {
        stdout(Command::new(&self.program).arg("--version"), LIMIT).await
    }

    /// Where it keeps everything on the node.
    pub(crate) fn storage(&self) -> &Path {
        self.place.directory()
    }

    /// Makes a container from an archive of the base image, with the files of Docker's container.
    pub(crate) async fn prepare(&self, name: &str, base: &Path, upper: &Path) -> Result<()> {
        let archive = format!("docker-archive:{}", base.display());
        let mut from = self.command(RUN)?;
        from.args(["from", "--quiet", "--name", name, "--signature-policy"]);
        stdout(from.arg(self.policy()).arg(archive), LIMIT).await.context("make buildah's container")?;
        let mut copy = self.command(COPY)?;
        copy.env("NAME", name).env("FROM", upper.join("."));
        stdout(&mut copy, LIMIT).await.map(drop).context("copy the files into buildah's container")
    }

    /// `buildah commit CONTAINER docker://REFERENCE`.
    pub(crate) async fn save(&self, name: &str, reference: &str) -> Result<Done> {
        let begun = Instant::now();
        let mut commit = self.command(RUN)?;
        commit.args(["commit", "--quiet", "--tls-verify=false", "--signature-policy"]).arg(self.policy());
        commit.arg(name).arg(format!("docker://{reference}"));
        let peak = tool::run(&mut commit, LIMIT).await.context("buildah commit")?;
        Ok(Done {
            reference: reference.to_owned(),
            stages: vec![("commit".to_owned(), begun.elapsed().as_secs_f64())],
            tool_rss: Some(peak),
            ..Done::default()
        })
    }

    /// Removes a container.
    pub(crate) async fn remove(&self, name: &str) -> Result<()> {
        stdout(self.command(RUN)?.args(["rm", name]), LIMIT).await.map(drop)
    }

    fn policy(&self) -> PathBuf {
        self.place.path("policy.json")
    }

    /// buildah in mounts of its own, by one of the scripts above.
    fn command(&self, script: &str) -> Result<Command> {
        let mut command = Process::command(&self.place, &program("unshare", "util-linux")?);
        command.args(["--mount", "sh", "-ec", script]).arg(&self.program);
        command.arg("--root").arg(self.place.path("storage"));
        command.arg("--runroot").arg(self.place.path("run"));
        command.args(["--storage-driver", "overlay"]);
        Ok(command.into())
    }
}
