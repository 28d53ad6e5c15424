//! The product itself, as a process.

use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use rustix::process::Signal;
use tokio::process::Command;

use crate::claim::Claim;
use crate::command;
use crate::http::Api;
use crate::place::Place;
use crate::process::Process;
use crate::wait::eventually;

const START_LIMIT: Duration = Duration::from_mins(1);
const STOP_LIMIT: Duration = Duration::from_mins(1);
const COMMAND_LIMIT: Duration = Duration::from_mins(5);

/// A process to be.
#[derive(Clone, Debug, Default)]
pub struct Options {
    targets: Vec<String>,
    environment: Vec<(String, String)>,
    configuration: String,
    data: Option<PathBuf>,
}

/// A running `mothball serve`, with a data directory of its own.
#[derive(Debug)]
pub struct Mothball {
    process: Process,
    place: Place,
    port: Claim,
    options: Options,
    ready: String,
}

/// How a command ended.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The exit code; -1 when a signal ended it.
    pub code: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Options {
    /// Runs this target; without any, all of them.
    #[must_use]
    pub fn target(mut self, target: &str) -> Self {
        self.targets.push(target.to_owned());
        self
    }

    /// Sets a variable of the environment, such as `MOTHBALL_JOBS__LEASE`; a later one of the same name wins.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl Into<String>) -> Self {
        self.environment.push((name.to_owned(), value.into()));
        self
    }

    /// Adds lines to the configuration file.
    #[must_use]
    pub fn configuration(mut self, toml: &str) -> Self {
        self.configuration.push_str(toml);
        self.configuration.push('\n');
        self
    }

    /// Uses this data directory, such as that of a process that was killed, instead of one of its own.
    #[must_use]
    pub fn data(mut self, directory: &Path) -> Self {
        self.data = Some(directory.to_owned());
        self
    }

    /// Starts the process and waits until it says that it is ready.
    pub async fn start(self) -> Result<Mothball> {
        let place = Place::new("mothball")?;
        let port = Claim::port()?;
        std::fs::write(place.path("mothball.toml"), &self.configuration)
            .context("write the configuration")?;
        let process = spawn(&place, &port, &self)?;
        let mut mothball = Mothball { process, place, port, options: self, ready: String::new() };
        mothball.wait_ready().await?;
        Ok(mothball)
    }
}

impl Mothball {
    /// Describes a process before it is started.
    pub fn options() -> Options {
        Options::default()
    }

    /// The URL of the API, as the process printed it; empty for one without an API.
    pub fn url(&self) -> String {
        self.ready.strip_prefix("listening on ").unwrap_or_default().to_owned()
    }

    /// The data directory.
    pub fn data(&self) -> PathBuf {
        data(&self.place, &self.options)
    }

    /// The operator's key.
    pub fn admin_key(&self) -> Result<String> {
        let file = self.data().join("admin.key");
        let key = std::fs::read_to_string(&file);
        let key = key.with_context(|| format!("read {}", file.display()))?;
        Ok(key.trim().to_owned())
    }

    /// The API with the operator's key.
    pub fn api(&self) -> Result<Api> {
        Ok(Api::new(&self.url(), &self.admin_key()?))
    }

    /// Waits until every target of a process with an API can work; the process prints its address before that.
    pub async fn wait_able(&self) -> Result<()> {
        let api = Api::new(&self.url(), "").without_key();
        let able = eventually(START_LIMIT, "/readyz to be 200", async || {
            let answer = api.get("/readyz").await.ok()?;
            (answer.status == 200).then_some(())
        });
        able.await.with_context(|| self.process.tail())
    }

    /// Runs a user command with the operator's key, whatever its outcome.
    pub async fn cli(&self, args: &[&str]) -> Result<Outcome> {
        self.cli_as(&self.admin_key()?, args).await
    }

    /// Runs a user command with this key, whatever its outcome.
    pub async fn cli_as(&self, key: &str, args: &[&str]) -> Result<Outcome> {
        let mut command = Command::new(binary()?);
        command
            .env_clear()
            .env("PATH", command::PATH)
            .env("HOME", self.place.path("home"))
            .env("MOTHBALL_URL", self.url())
            .env("MOTHBALL_API_KEY", key)
            .args(args);
        let output = command::output(&mut command, COMMAND_LIMIT).await?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ok(Outcome {
            code: output.status.code().unwrap_or(-1),
            stdout: text(&output.stdout),
            stderr: text(&output.stderr),
        })
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Kills the process as a power switch would; data stay.
    pub fn kill9(&mut self) {
        self.process.kill();
    }

    /// Asks the process to stop and does not wait.
    pub fn sigterm(&self) {
        self.process.signal(Signal::TERM);
    }

    /// Asks the process to stop and waits for its end.
    pub async fn stop(&mut self) -> Result<ExitStatus> {
        self.process.stop(STOP_LIMIT).await
    }

    /// Waits for the end of the process.
    pub async fn wait_end(&mut self, limit: Duration) -> Result<ExitStatus> {
        self.process.wait_end(limit).await
    }

    /// Whether the process has not ended.
    pub fn is_running(&mut self) -> bool {
        self.process.is_running()
    }

    /// Freezes the process.
    pub fn sigstop(&self) {
        self.process.signal(Signal::STOP);
    }

    /// Lets a frozen process go on.
    pub fn sigcont(&self) {
        self.process.signal(Signal::CONT);
    }

    /// Starts a killed or stopped process again: same port, same data, same configuration.
    pub async fn start_again(&mut self) -> Result<()> {
        self.process.kill();
        self.process = spawn(&self.place, &self.port, &self.options)?;
        self.wait_ready().await
    }

    /// What the process logged to standard error.
    pub fn log(&self) -> String {
        self.process.log()
    }

    /// What the process printed to standard output since it was started last.
    pub fn stdout(&self) -> String {
        std::fs::read_to_string(stdout(&self.place)).unwrap_or_default()
    }

    async fn wait_ready(&mut self) -> Result<()> {
        let stdout = stdout(&self.place);
        let ready = self.process.wait_ready(START_LIMIT, async || {
            let text = std::fs::read_to_string(&stdout).ok()?;
            let (line, _) = text.split_once('\n')?;
            Some(line.to_owned())
        });
        self.ready = ready.await?;
        ensure!(
            self.ready == "ready" || self.ready.starts_with("listening on http://"),
            "the first line of mothball is {:?}",
            self.ready
        );
        Ok(())
    }
}

impl Outcome {
    /// The standard output of a command that must have ended with 0.
    pub fn success(self) -> Result<String> {
        ensure!(self.code == 0, "the command ended with {}: {}", self.code, self.stderr);
        Ok(self.stdout)
    }

    /// The standard output of a command that must have ended with 0, as JSON.
    pub fn json(self) -> Result<serde_json::Value> {
        let text = self.success()?;
        serde_json::from_str(&text).with_context(|| format!("read {text:?} as JSON"))
    }
}

/// The program: `MOTHBALL_BIN`, or what cargo built beside the test.
pub fn binary() -> Result<PathBuf> {
    let path = if let Some(path) = std::env::var_os("MOTHBALL_BIN") {
        PathBuf::from(path)
    } else {
        // Tests lie in target/<profile>/deps.
        let test = std::env::current_exe().context("find this test")?;
        let profile = test.ancestors().nth(2).context("find the build directory")?;
        profile.join("mothball")
    };
    ensure!(path.exists(), "{} is not there: run `cargo build`", path.display());
    Ok(path)
}

fn spawn(place: &Place, port: &Claim, options: &Options) -> Result<Process> {
    let mut command = Process::command(place, &binary()?);
    command
        .env("MOTHBALL_DATA_DIR", data(place, options))
        // Not port 0: a process that is started again should be found where it was.
        .env("MOTHBALL_API__LISTEN", format!("127.0.0.1:{}", port.number()))
        .envs(options.environment.iter().map(|(name, value)| (name, value)))
        .arg("serve")
        .arg("--config")
        .arg(place.path("mothball.toml"));
    for target in &options.targets {
        command.args(["--target", target]);
    }
    Process::spawn_with_stdout(place, "mothball", &mut command, &stdout(place))
}

fn data(place: &Place, options: &Options) -> PathBuf {
    options.data.clone().unwrap_or_else(|| place.path("data"))
}

fn stdout(place: &Place) -> PathBuf {
    place.path("stdout")
}
