//! A private Redis with an append-only file.

use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result};
use rustix::process::Signal;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::process::Command;

use crate::claim::Claim;
use crate::command;
use crate::place::Place;
use crate::process::Process;

const START_LIMIT: Duration = Duration::from_mins(1);
const COMMAND_LIMIT: Duration = Duration::from_secs(30);
const DATABASES: u32 = 1024;

/// A running Redis: appends every write to a file, so that `kill9` and `start_again` lose nothing that was answered.
#[derive(Debug)]
pub struct Redis {
    process: Process,
    place: Place,
    port: Claim,
    environment: Vec<(&'static str, String)>,
    next: AtomicU32,
}

impl Redis {
    /// Starts a Redis on a port of its own.
    pub async fn start() -> Result<Self> {
        Self::start_with(Vec::new()).await
    }

    /// The same, with these variables in its environment.
    pub async fn start_with(environment: Vec<(&'static str, String)>) -> Result<Self> {
        let place = Place::new("redis")?;
        let port = Claim::port()?;
        let process = spawn(&place, port.number(), &environment)?;
        let mut redis = Self { process, place, port, environment, next: AtomicU32::new(1) };
        redis.wait_ready().await?;
        Ok(redis)
    }

    /// The URL of database 0.
    pub fn url(&self) -> String {
        self.url_db(0)
    }

    /// The URL of a database, one of 0 to 1023.
    pub fn url_db(&self, database: u32) -> String {
        format!("redis://{}/{database}", self.address())
    }

    /// The URL of a database that no other call was given: an empty world for one test.
    pub fn fresh(&self) -> String {
        self.url_db(self.next.fetch_add(1, Ordering::Relaxed) % DATABASES)
    }

    /// Host and port.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port.number())
    }

    /// Runs a command through `redis-cli` on database 0.
    pub async fn cli(&self, args: &[&str]) -> Result<String> {
        let mut cli = Command::new(command::program("redis-cli", "redis-tools")?);
        cli.args(["-h", "127.0.0.1", "-e", "-p", &self.port.number().to_string()]).args(args);
        command::stdout(&mut cli, COMMAND_LIMIT).await
    }

    /// Kills the server as a power switch would; data stay.
    pub fn kill9(&mut self) {
        self.process.kill();
    }

    /// Stops the server in order; data stay.
    pub async fn stop(&mut self) -> Result<()> {
        self.process.stop(COMMAND_LIMIT).await.map(drop)
    }

    /// Starts a killed or stopped server again on the same port and the same append-only file.
    pub async fn start_again(&mut self) -> Result<()> {
        self.process.kill();
        self.process = spawn(&self.place, self.port.number(), &self.environment)?;
        self.wait_ready().await
    }

    /// Freezes the server: connections stay open and nothing is answered.
    pub fn pause(&self) {
        self.process.signal(Signal::STOP);
    }

    /// Lets a frozen server go on.
    pub fn resume(&self) {
        self.process.signal(Signal::CONT);
    }

    /// The server's own directory, gone after drop.
    pub fn directory(&self) -> &Path {
        self.place.directory()
    }

    /// The server's log.
    pub fn log(&self) -> String {
        self.process.log()
    }

    async fn wait_ready(&mut self) -> Result<()> {
        let port = self.port.number();
        self.process
            .wait_ready(START_LIMIT, async || answers(port).await.ok().filter(|ok| *ok))
            .await
            .map(drop)
    }
}

fn spawn(place: &Place, port: u16, environment: &[(&str, String)]) -> Result<Process> {
    let program = command::program("redis-server", "redis-server")?;
    let mut command = Process::command(place, &program);
    command.envs(environment.iter().map(|(name, value)| (name, value)));
    command.arg("--dir").arg(place.directory());
    for (key, value) in [
        ("--bind", "127.0.0.1"),
        ("--port", &port.to_string()),
        ("--databases", &DATABASES.to_string()),
        ("--appendonly", "yes"),
        // With `everysec` a slow disk lets Redis answer up to two seconds before it writes (tried: a kill lost them).
        ("--appendfsync", "always"),
        ("--save", ""),
        ("--daemonize", "no"),
    ] {
        command.arg(key).arg(value);
    }
    Process::spawn(place, "redis", &mut command)
}

/// Whether the server answers PING; while it reads its file it answers `-LOADING` instead.
async fn answers(port: u16) -> Result<bool> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.context("connect")?;
    stream.write_all(b"PING\r\n").await.context("ask")?;
    let mut answer = [0; 7];
    stream.read_exact(&mut answer).await.context("listen")?;
    Ok(&answer == b"+PONG\r\n")
}
