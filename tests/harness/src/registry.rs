//! A private image registry whose disk can be small, lose data, or be written over behind its back.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use rustix::process::Signal;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::process::Command;

use crate::claim::Claim;
use crate::command;
use crate::place::Place;
use crate::process::Process;

const START_LIMIT: Duration = Duration::from_mins(1);
const COMMAND_LIMIT: Duration = Duration::from_mins(1);

/// A registry to be.
#[derive(Clone, Debug, Default)]
pub struct Options {
    login: Option<(String, String)>,
    disk_mib: Option<u32>,
}

/// A running registry with deletion enabled.
#[derive(Debug)]
pub struct Registry {
    process: Process,
    place: Place,
    port: Claim,
}

impl Options {
    /// Asks every client for this user and password.
    #[must_use]
    pub fn login(mut self, user: &str, password: &str) -> Self {
        self.login = Some((user.to_owned(), password.to_owned()));
        self
    }

    /// Keeps the data on a disk of this size, in MiB.
    #[must_use]
    pub fn disk_mib(mut self, size: u32) -> Self {
        self.disk_mib = Some(size);
        self
    }

    /// Starts the registry.
    pub async fn start(self) -> Result<Registry> {
        let place = Place::new("registry")?;
        let port = Claim::port()?;
        std::fs::create_dir(place.path("data")).context("make the registry's data directory")?;
        if let Some(size) = self.disk_mib {
            mount(&place, &format!("size={size}m")).await?;
        }
        let mut auth = String::new();
        if let Some((user, password)) = &self.login {
            let line = bcrypt(user, password).await?;
            let file = place.path("passwords");
            std::fs::write(&file, line).context("write the registry's passwords")?;
            auth = format!("auth:\n  htpasswd:\n    realm: test\n    path: {}\n", file.display());
        }
        // No cache of blob descriptors: what is lost on disk should be seen to be lost.
        let configuration = format!(
            "version: 0.1\n\
             storage:\n  filesystem:\n    rootdirectory: {data}\n  delete:\n    enabled: true\n\
             http:\n  addr: 127.0.0.1:{port}\n  secret: test\n{auth}",
            data = place.path("data").display(),
            port = port.number(),
        );
        std::fs::write(place.path("config.yml"), configuration)
            .context("write the registry's configuration")?;
        let process = spawn(&place)?;
        let mut registry = Registry { process, place, port };
        registry.wait_ready().await?;
        Ok(registry)
    }
}

impl Registry {
    /// Starts a registry that asks for no password.
    pub async fn start() -> Result<Self> {
        Options::default().start().await
    }

    /// Describes a registry before it is started.
    pub fn options() -> Options {
        Options::default()
    }

    /// The URL for clients.
    pub fn url(&self) -> String {
        format!("http://{}", self.address())
    }

    /// Host and port, as in the name of an image.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port.number())
    }

    /// Kills the registry as a power switch would; data stay.
    pub fn kill9(&mut self) {
        self.process.kill();
    }

    /// Starts a killed registry again on the same port and data.
    pub async fn start_again(&mut self) -> Result<()> {
        self.process.kill();
        self.process = spawn(&self.place)?;
        self.wait_ready().await
    }

    /// Freezes the registry: connections are accepted and nothing answers.
    pub fn pause(&self) {
        self.process.signal(Signal::STOP);
    }

    /// Lets a frozen registry go on.
    pub fn resume(&self) {
        self.process.signal(Signal::CONT);
    }

    /// Makes a small disk larger, or smaller.
    pub async fn resize_disk(&self, size_mib: u32) -> Result<()> {
        mount(&self.place, &format!("remount,size={size_mib}m")).await
    }

    /// The digests of all blobs on the registry's disk, manifests included.
    pub fn blobs(&self) -> Result<Vec<String>> {
        let mut digests = Vec::new();
        let Ok(groups) = std::fs::read_dir(self.blobs_directory()) else {
            return Ok(digests);
        };
        for group in groups {
            let group = group.context("list the registry's blobs")?.path();
            for blob in std::fs::read_dir(group).context("list the registry's blobs")? {
                let blob = blob.context("list the registry's blobs")?;
                digests.push(format!("sha256:{}", blob.file_name().to_string_lossy()));
            }
        }
        digests.sort();
        Ok(digests)
    }

    /// Loses one blob behind the registry's back.
    pub fn remove_blob(&self, digest: &str) -> Result<()> {
        let blob = self.blob(digest)?;
        std::fs::remove_dir_all(blob).with_context(|| format!("remove {digest}"))
    }

    /// Changes the last byte of a blob behind the registry's back.
    pub fn corrupt_blob(&self, digest: &str) -> Result<()> {
        let file = self.blob(digest)?.join("data");
        let mut bytes = std::fs::read(&file).with_context(|| format!("read {digest}"))?;
        if let Some(last) = bytes.last_mut() {
            *last ^= 1;
        }
        std::fs::write(&file, bytes).with_context(|| format!("write over {digest}"))
    }

    /// Loses every blob behind the registry's back.
    pub fn wipe_blobs(&self) -> Result<()> {
        std::fs::remove_dir_all(self.blobs_directory()).context("wipe the registry's blobs")
    }

    /// The registry's own directory, gone after drop.
    pub fn directory(&self) -> &Path {
        self.place.directory()
    }

    /// The registry's log, with a line for each request.
    pub fn log(&self) -> String {
        self.process.log()
    }

    fn blobs_directory(&self) -> PathBuf {
        self.place.path("data/docker/registry/v2/blobs/sha256")
    }

    fn blob(&self, digest: &str) -> Result<PathBuf> {
        let hash = digest.strip_prefix("sha256:").unwrap_or_default();
        ensure!(hash.len() == 64 && hash.is_ascii(), "{digest:?} is no digest");
        Ok(self.blobs_directory().join(&hash[..2]).join(hash))
    }

    async fn wait_ready(&mut self) -> Result<()> {
        let address = self.address();
        self.process.wait_ready(START_LIMIT, async || TcpStream::connect(&address).await.ok().map(drop)).await
    }
}

fn spawn(place: &Place) -> Result<Process> {
    let program = command::program("docker-registry", "docker-registry")?;
    let mut command = Process::command(place, &program);
    command.arg("serve").arg(place.path("config.yml"));
    Process::spawn(place, "registry", &mut command)
}

async fn mount(place: &Place, options: &str) -> Result<()> {
    let mut mount = Command::new(command::program("mount", "mount")?);
    mount.args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(place.path("data"));
    command::stdout(&mut mount, COMMAND_LIMIT).await.map(drop)
}

/// A line of a password file; the password goes through standard input, not the command line.
async fn bcrypt(user: &str, password: &str) -> Result<Vec<u8>> {
    let mut htpasswd = Command::new(command::program("htpasswd", "apache2-utils")?)
        .args(["-Bin", user])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .context("start htpasswd")?;
    let mut input = htpasswd.stdin.take().context("write to htpasswd")?;
    input.write_all(password.as_bytes()).await.context("write to htpasswd")?;
    drop(input);
    let output = tokio::time::timeout(COMMAND_LIMIT, htpasswd.wait_with_output())
        .await
        .context("wait for htpasswd")?
        .context("wait for htpasswd")?;
    ensure!(output.status.success(), "htpasswd ended with {}", output.status);
    Ok(output.stdout)
}
