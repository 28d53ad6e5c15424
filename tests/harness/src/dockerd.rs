//! A private Docker Engine with a network bridge of its own; several run side by side.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};
use rustix::process::Signal;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::process::Command;

use crate::busybox;
use crate::claim::Claim;
use crate::command;
use crate::place::Place;
use crate::process::Process;

const PACKAGE: &str = "docker.io";
const START_LIMIT: Duration = Duration::from_mins(1);
const COMMAND_LIMIT: Duration = Duration::from_mins(5);

/// A running Docker Engine; its containers, mounts, bridge and data are gone when it is dropped.
#[derive(Debug)]
pub struct Dockerd {
    process: Process,
    place: Place,
    bridge: Claim,
    args: Vec<String>,
}

impl Dockerd {
    /// Starts an engine.
    pub async fn start() -> Result<Self> {
        Self::start_with(&[]).await
    }

    /// Starts an engine with more arguments, such as `--live-restore`.
    pub async fn start_with(args: &[&str]) -> Result<Self> {
        let mut place = Place::new("docker")?;
        let bridge = Claim::bridge()?;
        let name = format!("mb{}", bridge.number());
        if let Some(keeper) = place.keeper() {
            keeper.note_link(&name)?;
        }
        let network = format!("10.{}.0.1/24", bridge.number());
        for words in [
            vec!["link", "add", &name, "type", "bridge"],
            vec!["address", "add", &network, "dev", &name],
            vec!["link", "set", &name, "up"],
        ] {
            let mut ip = Command::new(command::program("ip", "iproute2")?);
            command::stdout(ip.args(words), COMMAND_LIMIT).await?;
        }
        let args: Vec<String> = args.iter().map(|&arg| arg.to_owned()).collect();
        let process = spawn(&place, &name, &args)?;
        let mut dockerd = Self { process, place, bridge, args };
        dockerd.wait_ready().await?;
        Ok(dockerd)
    }

    /// The address for `DOCKER_HOST`.
    pub fn host(&self) -> String {
        format!("unix://{}", self.socket().display())
    }

    /// The path of the socket.
    pub fn socket(&self) -> PathBuf {
        self.place.path("docker.sock")
    }

    /// The engine's data directory.
    pub fn data(&self) -> PathBuf {
        self.place.path("data")
    }

    /// The address of the machine as this engine's containers see it.
    pub fn gateway(&self) -> String {
        format!("10.{}.0.1", self.bridge.number())
    }

    /// Runs the docker command against this engine and returns its standard output; an error holds the standard error.
    pub async fn docker(&self, args: &[&str]) -> Result<String> {
        command::stdout(self.client()?.args(args), COMMAND_LIMIT).await
    }

    /// Runs a shell script in a container.
    pub async fn sh(&self, container: &str, script: &str) -> Result<String> {
        self.docker(&["exec", container, "sh", "-c", script]).await
    }

    /// The docker command for this engine, with a configuration of its own.
    pub fn client(&self) -> Result<Command> {
        let mut client = Command::new(command::program("docker", PACKAGE)?);
        client
            .env("DOCKER_HOST", self.host())
            .env("DOCKER_CONFIG", self.place.path("client"))
            .env_remove("DOCKER_CONTEXT");
        Ok(client)
    }

    /// Imports a tiny image made of Debian's static busybox; each change is a line of a Dockerfile (`CMD ["sleep", "1d"]`).
    pub async fn import_busybox(&self, image: &str, changes: &[&str]) -> Result<String> {
        let archive = self.place.path("busybox.tar");
        if !archive.exists() {
            busybox::archive(&self.place.path("busybox"), &archive).await?;
        }
        let mut client = self.client()?;
        client.arg("import");
        for change in changes {
            client.args(["--change", change]);
        }
        command::stdout(client.arg(&archive).arg(image), COMMAND_LIMIT).await
    }

    /// The process id of a container's first process, as this machine sees it.
    pub async fn container_pid(&self, container: &str) -> Result<u32> {
        let pid = self.docker(&["inspect", "--format", "{{.State.Pid}}", container]).await?;
        pid.parse().context("read a container's process id")
    }

    /// Kills the engine as a crash would. Its containers go on until it starts again, which kills them too unless it
    /// runs with `--live-restore`.
    pub fn kill9(&mut self) {
        self.process.kill();
        // It dies with its parent, but a moment later; a new engine that still finds it would wait for it.
        self.place.kill_named("containerd");
    }

    /// Stops the engine in order, and with it its containers unless it runs with `--live-restore`.
    pub async fn stop(&mut self) -> Result<()> {
        self.process.stop(COMMAND_LIMIT).await.map(drop)
    }

    /// Starts a killed or stopped engine again on the same socket and data.
    pub async fn start_again(&mut self) -> Result<()> {
        self.kill9();
        // The pid of the last containerd too: as an orphan that nobody has reaped yet it would pass for alive.
        for left in ["docker.pid", "docker.sock", "exec/containerd/containerd.pid"] {
            let _absent = std::fs::remove_file(self.place.path(left));
        }
        let name = format!("mb{}", self.bridge.number());
        self.process = spawn(&self.place, &name, &self.args)?;
        self.wait_ready().await
    }

    /// Stops the engine in order and starts it again.
    pub async fn restart(&mut self) -> Result<()> {
        self.stop().await?;
        self.start_again().await
    }

    /// Freezes the engine: its socket accepts and nothing answers.
    pub fn pause(&self) {
        self.process.signal(Signal::STOP);
    }

    /// Lets a frozen engine go on.
    pub fn resume(&self) {
        self.process.signal(Signal::CONT);
    }

    /// The engine's own directory, gone after drop.
    pub fn directory(&self) -> &Path {
        self.place.directory()
    }

    /// The engine's log.
    pub fn log(&self) -> String {
        self.process.log()
    }

    async fn wait_ready(&mut self) -> Result<()> {
        let socket = self.socket();
        self.process
            .wait_ready(START_LIMIT, async || {
                let mut stream = UnixStream::connect(&socket).await.ok()?;
                stream.write_all(b"GET /_ping HTTP/1.0\r\n\r\n").await.ok()?;
                let mut answer = [0; 12];
                stream.read_exact(&mut answer).await.ok()?;
                answer.ends_with(b" 200").then_some(())
            })
            .await
    }
}

fn spawn(place: &Place, bridge: &str, args: &[String]) -> Result<Process> {
    let program = command::program("dockerd", PACKAGE)?;
    // The machine's own /etc/docker/daemon.json is for the machine's own engine.
    std::fs::write(place.path("daemon.json"), "{}").context("write the engine's configuration")?;
    let mut command = Process::command(place, &program);
    for (option, value) in [
        ("--config-file", place.path("daemon.json")),
        ("--data-root", place.path("data")),
        ("--exec-root", place.path("exec")),
        ("--pidfile", place.path("docker.pid")),
        ("--bridge", bridge.into()),
        ("--storage-driver", "overlay2".into()),
        // The keeper finds the containers' processes by their cgroup: they carry no mark.
        ("--cgroup-parent", format!("/{}", place.mark()).into()),
        ("--exec-opt", "native.cgroupdriver=cgroupfs".into()),
    ] {
        command.arg(option).arg(value);
    }
    command
        .arg(format!("--host=unix://{}", place.path("docker.sock").display()))
        .args(["--log-level=warn", "--iptables=false", "--ip-forward=false", "--ip-masq=false"])
        .args(args);
    Process::spawn(place, "dockerd", &mut command)
}
