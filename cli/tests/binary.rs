//! The binary from outside: exit codes, what goes to which stream, and the life of `serve` without any server beside it.

use anyhow::{Context as _, Result, ensure};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc;
use std::time::Duration;

/// How long anything here may take.
const LIMIT: Duration = Duration::from_secs(30);

/// The binary, with nothing of this machine's environment but what it is given.
fn mothball(home: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mothball"));
    command.env_clear().env("HOME", home).current_dir(home).stdin(Stdio::null());
    command
}

fn run(home: &Path, args: &[&str], variables: &[(&str, &str)]) -> Result<Output> {
    mothball(home).args(args).envs(variables.iter().copied()).output().context("run mothball")
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[test]
fn exit_codes_tell_what_is_wrong() -> Result<()> {
    let home = tempfile::tempdir()?;
    let away = [
        ("MOTHBALL_URL", "http://127.0.0.1:1"),
        ("MOTHBALL_API_KEY", "00000000-0000-0000-0000-000000000000"),
    ];
    for (args, variables, code, words) in [
        (&["--version"][..], &[][..], 0, "mothball"),
        (&["completions", "bash"], &[], 0, "_mothball()"),
        (&["config", "--defaults"], &[], 0, "[[flavors]]"),
        (&["frobnicate"], &[], 2, "unrecognized"),
        (&["save", "box"], &[], 2, "--tag"),
        (&["config"], &[("MOTHBALL_WORKER__NODES", "a")], 2, "did you mean `MOTHBALL_WORKER__NODE`?"),
        (&["config", "--config", "missing.toml"], &[], 2, "missing.toml"),
        (&["serve", "--target", "worker"], &[], 2, "store.url is \"embedded\""),
        (&["containers"], &away[..1], 4, "mothball login"),
        (&["containers"], &away, 3, "cannot reach http://127.0.0.1:1"),
        (&["jobs", "watch", "x"], &away, 3, "cannot reach"),
        (&["containers"], &[("MOTHBALL_URL", "nowhere"), away[1]], 2, "not the address of a server"),
    ] {
        let output = run(home.path(), args, variables)?;
        let shown = said(&output);
        ensure!(output.status.code() == Some(code), "{args:?}: {} {shown}", output.status);
        ensure!(shown.contains(words), "{args:?}: {shown}");
    }
    Ok(())
}

#[test]
fn configuration_is_shown_without_secrets() -> Result<()> {
    let home = tempfile::tempdir()?;
    let secrets = [
        ("MOTHBALL_QUEUE__URL", "amqp://me:geheim@broker/v"),
        ("MOTHBALL_STORE__URL", "redis://:geheim@cache/0"),
        ("MOTHBALL_API__ADMIN_KEY", "01234567-89ab-4cde-8f01-23456789abcd"),
    ];
    let text = run(home.path(), &["config"], &secrets)?;
    let json = run(home.path(), &["config", "-o", "json"], &secrets)?;
    for output in [&text, &json] {
        let shown = said(output);
        ensure!(output.status.success() && !shown.contains("geheim") && !shown.contains("89ab"), "{shown}");
        ensure!(shown.contains("amqp://me:***@broker/v"), "{shown}");
    }
    // What is shown as TOML is a configuration again.
    std::fs::write(home.path().join("shown.toml"), &run(home.path(), &["config"], &[])?.stdout)?;
    let again = run(home.path(), &["config", "--config", "shown.toml"], &[])?;
    ensure!(again.status.success(), "{}", said(&again));
    Ok(())
}

/// A server, killed when the test ends.
struct Serving(Child);

impl Drop for Serving {
    fn drop(&mut self) {
        let _gone = (self.0.kill(), self.0.wait());
    }
}

impl Serving {
    /// Starts it, and reads its standard output to the line that says that it is ready.
    fn start(home: &Path) -> Result<(Self, String, mpsc::Receiver<String>)> {
        let child = mothball(home)
            .arg("serve")
            .env("MOTHBALL_API__LISTEN", "127.0.0.1:0")
            .env("MOTHBALL_DATA_DIR", home.join("data"))
            .env("MOTHBALL_WORKER__DOCKER_HOST", format!("unix://{}/no.sock", home.display()))
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .context("start mothball serve")?;
        let mut serving = Self(child);
        let stdout = serving.0.stdout.take().context("read its output")?;
        let (lines, read) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                let _nobody = lines.send(line);
            }
        });
        let first = read.recv_timeout(LIMIT).context("wait for the line that says that it is ready")?;
        Ok((serving, first, read))
    }

    /// Sends SIGTERM, and waits for the end.
    fn stop(mut self, lines: &mpsc::Receiver<String>) -> Result<i32> {
        let pid = rustix::process::Pid::from_child(&self.0);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM)?;
        // Its output ends when it does; a line that still comes would be one too many.
        match lines.recv_timeout(LIMIT) {
            Err(mpsc::RecvTimeoutError::Disconnected) => {}
            other => anyhow::bail!("it said more than one line, or did not stop: {other:?}"),
        }
        self.0.wait()?.code().context("it was killed")
    }
}

#[test]
fn serve_says_one_line_works_without_docker_and_stops_on_sigterm() -> Result<()> {
    let home = tempfile::tempdir()?;
    let (serving, line, lines) = Serving::start(home.path())?;
    let url = line.strip_prefix("listening on ").context(line.clone())?;
    let key = std::fs::read_to_string(home.path().join("data/admin.key"))?;
    let signed_in = [("MOTHBALL_URL", url), ("MOTHBALL_API_KEY", key.trim())];

    let flavors = run(home.path(), &["-o", "json", "flavors"], &signed_in)?;
    ensure!(flavors.status.success(), "{}", said(&flavors));
    let listed: Vec<serde_json::Value> = serde_json::from_slice(&flavors.stdout)?;
    ensure!(listed.len() == 10, "the built-in list has ten flavors, not {}", listed.len());

    let refused =
        run(home.path(), &["launch", "none:x", "--name", "box", "--flavor", "cpu-small"], &signed_in)?;
    ensure!(refused.status.code() == Some(1), "{}", said(&refused));
    let unknown = run(home.path(), &["containers"], &[("MOTHBALL_URL", url), ("MOTHBALL_API_KEY", "wrong")])?;
    ensure!(unknown.status.code() == Some(4), "{}", said(&unknown));

    // A second process on the same data is refused.
    let second = run(
        home.path(),
        &["serve"],
        &[
            ("MOTHBALL_API__LISTEN", "127.0.0.1:0"),
            ("MOTHBALL_DATA_DIR", &home.path().join("data").to_string_lossy()),
        ],
    )?;
    ensure!(
        second.status.code() == Some(1) && said(&second).contains("another process"),
        "{}",
        said(&second)
    );

    ensure!(serving.stop(&lines)? == 0, "a stop in order is no failure");
    // The key survives, and nothing is left locked.
    let (serving, _, lines) = Serving::start(home.path())?;
    ensure!(std::fs::read_to_string(home.path().join("data/admin.key"))? == key, "the key is kept");
    ensure!(serving.stop(&lines)? == 0, "a stop in order is no failure");
    Ok(())
}
