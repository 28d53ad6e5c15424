//! The command line, as people and scripts use it: every user command in words and as JSON, exit codes, waiting, questions of
//! the set-up.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use mothball_harness::command;
use mothball_harness::mothball::{self, Outcome};
use mothball_harness::registry::Registry;
use mothball_harness::system::{BASE, JOB_LIMIT, Pair, System};
use mothball_harness::wait::eventually;
use mothball_tests::{flow, moments, people};
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::Command;

use crate::faults::{Way, assert_clean, options, proxy};

/// An image whose command ends at once: its launch cannot succeed, however often it is tried.
const BRIEF: &str = "brief:latest";

mothball_tests::on_both_pairs!(
    every_command_in_words_and_as_json,
    waiting_tells_how_it_ends,
    waiting_outlasts_a_restart_of_the_server,
    doctor_finds_a_good_setup_good,
);

/// A user's shell: a home, and what was said.
struct Shell {
    home: TempDir,
    variables: Vec<(String, String)>,
}

impl Shell {
    fn new() -> Result<Self> {
        Ok(Self { home: TempDir::new()?, variables: Vec::new() })
    }

    fn set(mut self, name: &str, value: impl Into<String>) -> Self {
        self.variables.push((name.to_owned(), value.into()));
        self
    }

    fn command(&self, args: &[&str]) -> Result<Command> {
        let mut command = Command::new(mothball::binary()?);
        let variables = self.variables.iter().map(|(name, value)| (name, value));
        command
            .env_clear()
            .env("PATH", command::PATH)
            .env("HOME", self.home.path())
            .envs(variables)
            .args(args);
        Ok(command)
    }

    async fn run(&self, args: &[&str]) -> Result<Outcome> {
        Ok(ended(&command::output(&mut self.command(args)?, JOB_LIMIT).await?))
    }

    /// The same with something on standard input.
    async fn tell(&self, args: &[&str], input: &str) -> Result<Outcome> {
        let mut command = self.command(args)?;
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn()?;
        let mut stdin = child.stdin.take().context("find standard input")?;
        stdin.write_all(input.as_bytes()).await?;
        drop(stdin);
        Ok(ended(&tokio::time::timeout(JOB_LIMIT, child.wait_with_output()).await??))
    }
}

fn ended(output: &std::process::Output) -> Outcome {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let code = output.status.code().unwrap_or(-1);
    Outcome { code, stdout: text(&output.stdout), stderr: text(&output.stderr) }
}

/// Somebody who follows a job.
struct Watch {
    child: tokio::process::Child,
    stderr: BufReader<tokio::process::ChildStderr>,
}

impl Watch {
    /// Starts, and waits for the first line of what has happened.
    async fn start(shell: &Shell, job: &str) -> Result<Self> {
        let mut command = shell.command(&["jobs", "watch", job])?;
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn()?;
        let mut stderr = BufReader::new(child.stderr.take().context("find standard error")?);
        let mut line = String::new();
        tokio::time::timeout(JOB_LIMIT, stderr.read_line(&mut line)).await??;
        Ok(Self { child, stderr })
    }

    async fn end(mut self) -> Result<Outcome> {
        let mut rest = String::new();
        tokio::time::timeout(JOB_LIMIT, self.stderr.read_to_string(&mut rest)).await??;
        let outcome = ended(&tokio::time::timeout(JOB_LIMIT, self.child.wait_with_output()).await??);
        Ok(Outcome { stderr: rest, ..outcome })
    }
}

async fn system(pair: Pair) -> Result<System> {
    let catalog = format!("[[catalog]]\nname = \"{BRIEF}\"\nimage = \"{BRIEF}\"\ntype = \"Brief\"\n");
    let system = options(pair).configuration(&catalog).start().await?;
    system.dockerd().import_busybox(BRIEF, &[r#"CMD ["true"]"#]).await?;
    Ok(system)
}

/// Runs a command that must succeed, and looks for words in what it prints.
async fn says(system: &System, args: &[&str], words: &[&str]) -> Result<String> {
    let outcome = system.api.cli(args).await?;
    let text = outcome.success().with_context(|| args.join(" "))?;
    for word in words {
        ensure!(text.contains(word), "{} does not say {word:?}:\n{text}", args.join(" "));
    }
    ensure!(!text.contains('\u{1b}'), "{} prints escapes into a pipe: {text:?}", args.join(" "));
    Ok(text)
}

/// Runs a command that must succeed, as JSON.
async fn json(system: &System, args: &[&str]) -> Result<Value> {
    let args = [args, &["-o", "json"]].concat();
    let outcome = system.api.cli(&args).await?;
    outcome.json().with_context(|| args.join(" "))
}

/// Runs a command that must fail with this code, and say why in an error line with these words.
async fn fails(system: &System, args: &[&str], code: i32, words: &[&str]) -> Result<()> {
    let outcome = system.api.cli(args).await?;
    refused(&outcome, args, code, words)
}

fn refused(outcome: &Outcome, args: &[&str], code: i32, words: &[&str]) -> Result<()> {
    let shown = args.join(" ");
    ensure!(outcome.code == code, "{shown} ended with {}, not {code}: {}", outcome.code, outcome.stderr);
    ensure!(outcome.stderr.contains("error: "), "{shown} does not say what is wrong: {:?}", outcome.stderr);
    for word in words {
        ensure!(outcome.stderr.contains(word), "{shown} does not say {word:?}: {}", outcome.stderr);
    }
    Ok(())
}

async fn every_command_in_words_and_as_json(pair: Pair) -> Result<()> {
    let system = system(pair).await?;
    containers(&system).await?;
    saves_and_images(&system).await?;
    jobs(&system).await?;
    parks(&system).await?;
    nodes(&system).await?;
    projects_users_keys(&system).await?;
    ends(&system).await?;
    exit_codes(&system).await?;
    assert_clean(&system).await
}

async fn containers(system: &System) -> Result<()> {
    let launch =
        ["launch", BASE, "--name", "box", "--flavor", "cpu-small", "--env", "KEY=value", "--port", "8080"];
    says(system, &[&launch[..], &["--wait"]].concat(), &["launch", "box is ready"]).await?;
    let job = json(system, &["launch", BASE, "--name", "more", "--flavor", "cpu-small"]).await?;
    ensure!(
        job["kind"] == "launch" && job["state"] == "queued" && job["container_name"] == "more",
        "{job:#}"
    );
    says(system, &["jobs", "watch", &flow::text(&job["id"])], &["more is ready"]).await?;

    says(system, &["containers"], &["ID", "NAME", "STATE", "box", "more", "ready", "cpu-small"]).await?;
    says(system, &["ps", "--state", "stopped"], &["ID"]).await?;
    let list = json(system, &["containers"]).await?;
    ensure!(list.as_array().is_some_and(|list| list.len() == 2 && list[0]["name"] == "box"), "{list:#}");
    says(system, &["containers", "show", "box"], &["name:", "box", "8080 (on the node: ", "docker id:"])
        .await?;
    let number = flow::text(&list[0]["id"]);
    assert_eq!(json(system, &["containers", "show", &number]).await?["name"], "box");
    assert_eq!(json(system, &["containers", "show", "box"]).await?["id"], list[0]["id"]);

    says(system, &["protect", "box", "on"], &["protected from deletion"]).await?;
    fails(system, &["delete", "box"], 1, &["protected", "hint: "]).await?;
    assert_eq!(json(system, &["protect", "box", "off"]).await?["protected"], false);
    says(system, &["keep", "box", "--until", "8h"], &["left alone until"]).await?;
    ensure!(json(system, &["containers", "show", "box"]).await?["keep_until"].is_string());
    says(system, &["keep", "box", "--until", "off"], &["apply to box again"]).await?;
    fails(system, &["keep", "box", "--until", "soon"], 2, &["soon", "hint: "]).await?;
    says(system, &["stop", "box", "--wait"], &["stopped box"]).await?;
    fails(system, &["stop", "box"], 1, &["stopped"]).await?;
    assert_eq!(json(system, &["start", "box", "--wait"]).await?["state"], "succeeded");
    says(system, &["flavors"], &["NAME", "cpu-small", "TWD"]).await?;
    ensure!(json(system, &["flavors"]).await?.as_array().is_some_and(|all| all.len() > 3));
    Ok(())
}

async fn saves_and_images(system: &System) -> Result<()> {
    says(system, &["save", "box", "--tag", "v1", "--dry-run"], &["base:v1", "The save can go ahead."])
        .await?;
    let dry = json(system, &["save", "box", "--tag", "v1", "--dry-run"]).await?;
    ensure!(dry["possible"] == true && dry["overwrites"] == false, "{dry:#}");
    // Without a terminal: plain lines of what happens on standard error, the result on standard output.
    let outcome = system.api.cli(&["save", "box", "--tag", "v1", "--wait"]).await?;
    for line in ["claimed", "step: upload", "step: verify", "recorded", "succeeded"] {
        ensure!(outcome.stderr.contains(line), "no line says {line}: {}", outcome.stderr);
    }
    let text = outcome.success()?;
    for words in ["saved box as base:v1", "proven in the registry: sha256:"] {
        ensure!(text.contains(words), "{text}");
    }
    let job = json(system, &["save", "box", "--tag", "v2", "--pause", "never", "--wait"]).await?;
    ensure!(job["state"] == "succeeded" && flow::notes(&job).contains("not frozen"), "{job:#}");
    ensure!(json(system, &["save", "box", "--tag", "v2", "--dry-run"]).await?["overwrites"] == true);

    says(system, &["images"], &["IMAGE", "base:v1", "base:v2", "admin"]).await?;
    let list = json(system, &["images"]).await?;
    ensure!(list.as_array().is_some_and(|list| list.len() == 2 && list[0]["tag"] == "v1"), "{list:#}");
    says(system, &["images", "show", "base:v1"], &["digest:", "sha256:", "reference:", "container "]).await?;
    assert_eq!(json(system, &["images", "show", "base:v1"]).await?["name"], "base");
    says(system, &["images", "--catalog"], &[BASE, BRIEF, "Brief"]).await?;
    says(system, &["images", "pin", "base:v1"], &["pinned"]).await?;
    fails(system, &["images", "delete", "base:v1", "--yes"], 1, &["pinned", "hint: "]).await?;
    assert_eq!(json(system, &["images", "pin", "base:v1", "--off"]).await?["pinned"], false);
    fails(system, &["images", "restore", "base:v1"], 1, &["nothing to restore"]).await?;
    says(system, &["images", "delete", "base:v1", "--yes", "--wait"], &["deleted image base:v1"]).await?;
    fails(system, &["images", "show", "base:v1"], 1, &["base:v1", "hint: "]).await?;
    let restorable = ["IMAGE", "base:v1", "deleted", "images restore base:v1"];
    says(system, &["images", "--restorable"], &restorable).await?;
    assert_eq!(json(system, &["images", "--restorable"]).await?[0]["deleted_by"], "admin");
    says(system, &["images", "restore", "base:v1"], &["base:v1 is there again", "sha256:"]).await?;
    says(system, &["images"], &["base:v1", "base:v2"]).await?;
    says(system, &["policy", "retention"], &["No image of project default is removed"]).await?;
    fails(system, &["policy", "retention", "set"], 2, &["--keep-last", "--unused-days"]).await?;
    fails(system, &["policy", "retention", "set", "--unused-days", "1"], 2, &["unused_days is between"])
        .await?;
    says(system, &["policy", "retention", "set", "--keep-last", "1"], &["1 of each name"]).await?;
    let preview = ["IMAGE", "base:v1", "enough newer", "stays", "1 of 2 go"];
    says(system, &["policy", "retention", "preview"], &preview).await?;
    assert_eq!(json(system, &["policy", "retention", "off"]).await?["keep_last"], Value::Null);
    Ok(())
}

async fn jobs(system: &System) -> Result<()> {
    says(system, &["jobs"], &["ID", "KIND", "snapshot", "launch", "succeeded", "box"]).await?;
    let list = json(system, &["jobs", "--kind", "snapshot", "--state", "succeeded"]).await?;
    ensure!(list.as_array().is_some_and(|list| list.len() == 2), "{list:#}");
    ensure!(
        json(system, &["jobs", "--all", "--limit", "3"]).await?.as_array().is_some_and(|all| all.len() == 3)
    );
    ensure!(json(system, &["jobs", "--state", "failed"]).await? == serde_json::json!([]));
    let id = flow::text(&list[0]["id"]);
    says(system, &["jobs", "show", &id], &["state:", "succeeded", "EVENT", "recorded", "note: "]).await?;
    assert_eq!(json(system, &["jobs", "show", &id]).await?["id"], id.as_str());
    says(system, &["jobs", "watch", &id], &["saved box as base:v2"]).await?;
    fails(system, &["jobs", "cancel", &id], 1, &["succeeded already"]).await?;
    fails(system, &["jobs", "retry", &id], 1, &["only failed and cancelled"]).await?;

    // Stopped while it stands at a request; with --wait the end of it is the success.
    let registry = proxy(system, Way::Registry)?;
    let gate = registry.hold(moments::upload().times(1));
    let job = flow::text(&json(system, &["save", "box", "--tag", "v3"]).await?["id"]);
    gate.reached(JOB_LIMIT).await?;
    fails(system, &["save", "box", "--tag", "v4"], 1, &[&job, "hint: "]).await?;
    says(system, &["jobs", "cancel", &job, "--wait"], &[&job, "cancelled"]).await?;
    crate::faults::give_up(registry, &gate);
    fails(system, &["jobs", "watch", &job], 1, &[&job, "was cancelled"]).await?;
    says(system, &["jobs", "retry", &job, "--wait"], &["saved box as base:v3"]).await.map(drop)
}

async fn parks(system: &System) -> Result<()> {
    let before = json(system, &["containers", "show", "box"]).await?;
    says(system, &["park", "box", "--tag", "p1", "--wait"], &["parked box", "mothball wake box"]).await?;
    assert_eq!(json(system, &["containers", "show", "box"]).await?["state"], "parked");
    let job = json(system, &["wake", "box", "--wait"]).await?;
    ensure!(job["kind"] == "launch" && job["state"] == "succeeded", "{job:#}");
    let after = json(system, &["containers", "show", "box"]).await?;
    ensure!(after["id"] == before["id"] && after["state"] == "ready", "{after:#}");
    let words = json(system, &["park", "box", "--wait"]).await?;
    ensure!(words["tag"].as_str().is_some_and(|tag| tag.starts_with("park-2")), "{words:#}");
    says(system, &["wake", "box", "--wait"], &["box is ready"]).await.map(drop)
}

async fn nodes(system: &System) -> Result<()> {
    says(system, &["nodes"], &["NAME", "node-a", "ready", "direct"]).await?;
    ensure!(json(system, &["nodes"]).await?[0]["name"] == "node-a");
    says(system, &["nodes", "show", "node-a"], &["uid:", "docker:", "containers:"]).await?;
    says(system, &["nodes", "drain", "node-a"], &["takes no new containers"]).await?;
    assert_eq!(json(system, &["nodes", "show", "node-a"]).await?["state"], "drained");
    says(system, &["nodes", "resume", "node-a"], &["takes new containers"]).await?;
    fails(system, &["nodes", "forget", "node-a", "--yes"], 1, &["still holds containers"]).await?;
    fails(system, &["nodes", "show", "nowhere"], 1, &["nowhere"]).await?;
    let docker_id = system.dockerd().docker(&["run", "--detach", BASE]).await?;
    let adopt =
        ["adopt", &docker_id, "--node", "node-a", "--name", "found", "--user", "admin", "--image", BASE];
    says(system, &adopt, &["adopted container", "found"]).await?;
    assert_eq!(json(system, &["containers", "show", "found"]).await?["adopted"], true);
    Ok(())
}

async fn projects_users_keys(system: &System) -> Result<()> {
    says(system, &["projects", "create", "lab"], &["made project lab"]).await?;
    says(system, &["projects"], &["NAME", "lab", "default"]).await?;
    let quota = ["projects", "quota", "lab", "--bytes", "500GB", "--images", "3"];
    assert_eq!(json(system, &quota).await?["quota_bytes"], 500_000_000_000_u64);
    fails(system, &["projects", "quota", "lab"], 2, &["nothing to set"]).await?;
    let made = json(system, &["users", "create", "alice", "--project", "lab", "--with-key"]).await?;
    let key = flow::text(&made["key"]["key"]);
    ensure!(made["user"]["projects"][0]["role"] == "member", "{made:#}");
    says(system, &["users"], &["alice", "lab (member)"]).await?;
    says(system, &["users", "create", "bob"], &["made user bob"]).await?;
    says(system, &["projects", "members", "add", "lab", "bob", "--role", "admin"], &["bob", "admin"]).await?;
    says(system, &["projects", "members", "remove", "lab", "bob"], &["alice"]).await?;
    says(system, &["projects", "members", "list", "lab"], &["MEMBER", "alice"]).await?;
    says(system, &["projects", "show", "lab"], &["most images:", "alice"]).await?;

    // Another user's view of the same commands.
    let alice = async |args: &[&str]| system.api.cli_as(&key, args).await;
    ensure!(alice(&["whoami"]).await?.success()?.contains("lab (member)"));
    ensure!(alice(&["containers", "-o", "json"]).await?.json()? == serde_json::json!([]));
    refused(&alice(&["containers", "show", "1"]).await?, &["containers", "show", "1"], 1, &["there is no"])?;
    refused(&alice(&["nodes"]).await?, &["nodes"], 4, &["operators"])?;
    refused(&alice(&["users"]).await?, &["users"], 4, &["operators"])?;
    refused(&alice(&["images", "--project", "default"]).await?, &["images"], 1, &["default"])?;

    let made =
        json(system, &["keys", "create", "--user", "alice", "--label", "laptop", "--expires", "90d"]).await?;
    ensure!(
        made["key"].as_str().is_some_and(|key| key.len() == 36) && made["expires_at"].is_string(),
        "{made:#}"
    );
    let (id, second) = (flow::text(&made["id"]), flow::text(&made["key"]));
    let listed = says(system, &["keys", "list", "--user", "alice"], &["laptop", &id]).await?;
    ensure!(!listed.contains(&second) && !listed.contains(&key), "a list shows secrets: {listed}");
    ensure!(system.api.cli_as(&second, &["whoami"]).await?.code == 0);
    says(system, &["keys", "revoke", &id, "--user", "alice", "--yes"], &["revoked"]).await?;
    refused(&system.api.cli_as(&second, &["whoami"]).await?, &["whoami"], 4, &["does not work", "hint: "])?;
    says(system, &["users", "disable", "alice"], &["refused"]).await?;
    ensure!(alice(&["whoami"]).await?.code == 4);
    says(system, &["users", "enable", "alice"], &["accepted"]).await?;
    ensure!(alice(&["whoami"]).await?.code == 0);
    Ok(())
}

async fn ends(system: &System) -> Result<()> {
    let outcome =
        system.api.cli(&["save", "box", "--tag", "last", "--then-delete", "--wait"]).await?.success()?;
    ensure!(outcome.contains("saved box as base:last") && outcome.contains("deleted box"), "{outcome}");
    says(system, &["launch", "base:last", "--name", "box2", "--flavor", "cpu-small", "--wait"], &["ready"])
        .await?;
    // One that is lost at its node is forgotten.
    let id = flow::text(&json(system, &["containers", "show", "box2"]).await?["docker_id"]);
    system.dockerd().docker(&["rm", "--force", &id]).await?;
    eventually(JOB_LIMIT, "the container to be lost", async || {
        let shown = json(system, &["containers", "show", "box2"]).await.ok()?;
        (shown["state"] == "lost").then_some(())
    })
    .await?;
    says(system, &["delete", "box2", "--forget", "--yes"], &["forgot box2"]).await?;
    // Several at once: what was refused fails the command, the others are done.
    let outcome = system.api.cli(&["delete", "more", "nothing", "found", "--wait"]).await?;
    refused(&outcome, &["delete"], 1, &["nothing"])?;
    ensure!(
        outcome.stdout.contains("deleted more") && outcome.stdout.contains("deleted found"),
        "{outcome:?}"
    );
    ensure!(json(system, &["containers"]).await? == serde_json::json!([]));
    Ok(())
}

async fn exit_codes(system: &System) -> Result<()> {
    for args in [
        &["launch", BASE][..],
        &["nonsense"],
        &["save", "box"],
        &["jobs", "--state", "sideways"],
        &["protect", "box", "perhaps"],
        &["save", "box", "--tag", "v1", "--discard-volumes"],
        &["containers", "-o", "yaml"],
    ] {
        let outcome = system.api.cli(args).await?;
        ensure!(outcome.code == 2 && !outcome.stderr.is_empty(), "{args:?}: {outcome:?}");
    }
    // The server's refusals of what was written are usage, too; what is not there is a failure.
    let launch = |name: &'static str| ["launch", BASE, "--name", name, "--flavor", "cpu-small"];
    fails(system, &launch("Bad Name"), 2, &["container name", "lower-case"]).await?;
    fails(system, &["launch", BASE, "--name", "box", "--flavor", "huge"], 1, &["huge", "hint: "]).await?;
    fails(
        system,
        &["launch", "none:v1", "--name", "box", "--flavor", "cpu-small"],
        1,
        &["none:v1", "hint: "],
    )
    .await?;
    fails(system, &["launch", BASE, "--name", "box", "--flavor", "cpu-small", "--env", "NONE"], 2, &["NONE"])
        .await?;
    fails(system, &["save", "nothing", "--tag", "v1"], 1, &["nothing"]).await?;
    refused(&system.api.cli_as("not-a-key", &["containers"]).await?, &["containers"], 4, &["hint: "])?;

    let away = Shell::new()?.set("MOTHBALL_URL", "http://127.0.0.1:1").set("MOTHBALL_API_KEY", "any");
    refused(
        &away.run(&["containers"]).await?,
        &["containers"],
        3,
        &["cannot reach http://127.0.0.1:1", "hint: "],
    )?;
    let nobody = Shell::new()?.set("MOTHBALL_URL", system.api.url());
    refused(&nobody.run(&["containers"]).await?, &["containers"], 4, &["not signed in", "mothball login"])
}

async fn waiting_tells_how_it_ends(pair: Pair) -> Result<()> {
    let system = system(pair).await?;
    let launch = ["launch", BRIEF, "--name", "brief", "--flavor", "cpu-small", "--wait"];
    fails(&system, &launch, 1, &["failed", "ended at once with exit code 0", "(engine)", "hint: ", "logs"])
        .await?;
    // The same as JSON: the job on standard output, the sentence on standard error all the same.
    let outcome = system.api.cli(&["delete", "brief", "--wait", "-o", "json"]).await?;
    ensure!(outcome.code == 0, "{outcome:?}");
    let outcome = system.api.cli(&[&launch[..], &["-o", "json"]].concat()).await?;
    let job: Value = serde_json::from_str(&outcome.stdout)?;
    ensure!(job["state"] == "failed" && job["error"]["class"] == "engine", "{job:#}");
    refused(&outcome, &launch, 1, &["ended at once", "hint: "])?;
    let id = flow::text(&job["id"]);
    fails(&system, &["jobs", "watch", &id], 1, &[&id, "hint: "]).await?;
    let shown = says(&system, &["jobs", "show", &id], &["error:", "hint:", "failed"]).await?;
    ensure!(shown.contains("ended at once"), "{shown}");
    says(&system, &["jobs", "--state", "failed"], &["engine: "]).await?;
    fails(&system, &["jobs", "retry", &id, "--wait"], 1, &["ended at once"]).await?;

    // A stranger's job is not there.
    let mallory = people::member_key(&system.operator()?, "other", "mallory").await?;
    for command in ["show", "watch", "cancel", "retry"] {
        let outcome = system.api.cli_as(&mallory, &["jobs", command, &id]).await?;
        refused(&outcome, &["jobs", command], 1, &["there is no job"])?;
    }
    Ok(())
}

/// Whoever waits goes on waiting while the server is away, and hears the end.
async fn waiting_outlasts_a_restart_of_the_server(pair: Pair) -> Result<()> {
    let mut system = system(pair).await?;
    system.launch("box").await?;
    let gate = proxy(&system, Way::Registry)?.hold(moments::upload().times(1));
    let shell =
        Shell::new()?.set("MOTHBALL_URL", system.api.url()).set("MOTHBALL_API_KEY", system.api.admin_key()?);
    let mut save = shell.command(&["save", "box", "--tag", "v1", "--wait", "-o", "json"])?;
    let mut watch = None;
    let save = async { Ok(ended(&command::output(&mut save, JOB_LIMIT).await?)) };
    let restart = async {
        gate.reached(JOB_LIMIT).await?;
        let jobs = system.operator()?.get("/v1/jobs?kind=snapshot").await?.expect(200)?;
        watch = Some(Watch::start(&shell, &flow::text(&jobs["items"][0]["id"])).await?);
        system.api.kill9();
        // On the embedded pair the worker died, too, and its request with it.
        gate.open();
        system.api.start_again().await
    };
    let (outcome, ()) = tokio::try_join!(save, restart)?;
    ensure!(outcome.code == 0, "{outcome:?}");
    assert_eq!(outcome.json()?["state"], "succeeded");
    let watched = watch.context("nobody watched")?.end().await?;
    ensure!(watched.code == 0 && watched.stdout.contains("saved box as base:v1"), "{watched:?}");
    Ok(())
}

#[tokio::test]
async fn a_login_is_kept_for_its_owner_alone() -> Result<()> {
    let system = System::start(Pair::Embedded).await?;
    let (url, key) = (system.api.url(), system.api.admin_key()?);
    let shell = Shell::new()?;
    let wrong = shell.tell(&["login", &url], "00000000-0000-4000-8000-000000000000\n").await?;
    refused(&wrong, &["login"], 4, &["does not work"])?;
    refused(&shell.tell(&["login", &url], "\n").await?, &["login"], 2, &["no key was given"])?;
    refused(&shell.run(&["--url", &url, "whoami"]).await?, &["whoami"], 4, &["not signed in"])?;

    let outcome = shell.tell(&["login", &url], &format!("  {key}\n")).await?.success()?;
    ensure!(outcome.contains("signed in to") && !outcome.contains(&key), "{outcome}");
    ensure!(shell.run(&["whoami"]).await?.success()?.contains("admin"));
    ensure!(shell.run(&["--url", &url, "containers", "-o", "json"]).await?.json()? == serde_json::json!([]));
    let files = holding(shell.home.path(), &key)?;
    let [file] = files.as_slice() else { anyhow::bail!("the key lies in {files:?}") };
    assert_eq!(std::fs::metadata(file)?.permissions().mode() & 0o777, 0o600);
    // A key of the environment goes before the saved one.
    let other = Shell { home: shell.home, variables: Vec::new() }.set("MOTHBALL_API_KEY", "nonsense");
    refused(&other.run(&["whoami"]).await?, &["whoami"], 4, &[])?;
    let shell = Shell { home: other.home, variables: Vec::new() };
    ensure!(shell.run(&["logout"]).await?.success()?.contains("signed out"));
    refused(&shell.run(&["--url", &url, "whoami"]).await?, &["whoami"], 4, &["not signed in"])?;
    ensure!(holding(shell.home.path(), &key)?.is_empty(), "the key is still there");
    Ok(())
}

/// The files below a directory that hold a text.
fn holding(directory: &Path, text: &str) -> Result<Vec<std::path::PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory)?.flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(holding(&path, text)?);
        } else if String::from_utf8_lossy(&std::fs::read(&path)?).contains(text) {
            found.push(path);
        }
    }
    Ok(found)
}

#[tokio::test]
async fn completions_are_scripts() -> Result<()> {
    let shell = Shell::new()?;
    for name in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = shell.run(&["completions", name]).await?.success()?;
        for word in ["mothball", "containers", "jobs", "then-delete"] {
            ensure!(script.contains(word), "the script for {name} does not know {word}");
        }
        ensure!(!script.contains("guard"), "the script for {name} shows what is hidden");
        if name == "bash" {
            let file = shell.home.path().join("completions");
            std::fs::write(&file, script)?;
            command::stdout(Command::new("bash").arg("-n").arg(&file), Duration::from_secs(10)).await?;
        }
    }
    assert_eq!(shell.run(&["completions", "tcsh"]).await?.code, 2);
    for args in [&["--help"][..], &["save", "--help"], &["--version"]] {
        assert_eq!(shell.run(args).await?.code, 0, "{args:?}");
    }
    Ok(())
}

#[tokio::test]
async fn settings_are_shown_masked_and_misspelt_ones_named() -> Result<()> {
    let secret = "geheim-12345678";
    let shell = Shell::new()?
        .set("MOTHBALL_STORE__URL", format!("redis://user:{secret}@127.0.0.1:6379/0"))
        .set("MOTHBALL_QUEUE__URL", format!("amqp://user:{secret}@127.0.0.1:5672/%2f"))
        .set("MOTHBALL_API__ADMIN_KEY", "12345678-aaaa-4bbb-8ccc-123456789abc")
        .set("MOTHBALL_WORKER__NODE", "n1");
    for args in [&["config"][..], &["config", "-o", "json"]] {
        let shown = shell.run(args).await?.success()?;
        for hidden in [secret, "12345678-aaaa"] {
            ensure!(!shown.contains(hidden), "{args:?} shows {hidden}: {shown}");
        }
        ensure!(shown.contains("127.0.0.1:6379") && shown.contains("n1"), "{shown}");
    }
    // Words of the user's own are named as they were written, with the nearest that there is.
    let file = shell.home.path().join("mothball.toml");
    for (text, wrong, right) in [
        ("[jobs]\nleese = \"30s\"\n", "jobs.leese", "jobs.lease"),
        ("[wroker]\nconcurrency = 3\n", "wroker", "worker"),
        ("data_dri = \"x\"\n", "data_dri", "data_dir"),
    ] {
        std::fs::write(&file, text)?;
        let path = file.display().to_string();
        for args in [&["config", "--config", &path][..], &["serve", "--config", &path]] {
            refused(&shell.run(args).await?, args, 2, &[wrong, right])?;
        }
    }
    let shell = shell.set("MOTHBALL_WORKER__CONCURENCY", "4");
    let args = ["config"];
    refused(
        &shell.run(&args).await?,
        &args,
        2,
        &["MOTHBALL_WORKER__CONCURENCY", "MOTHBALL_WORKER__CONCURRENCY"],
    )
}

/// What the server of this system is configured with, as far as doctor asks.
fn doctors(system: &System) -> Result<Shell> {
    let mut shell = Shell::new()?
        .set("MOTHBALL_DATA_DIR", system.api.data().display().to_string())
        .set("MOTHBALL_REGISTRY__URL", system.registry.url())
        .set("MOTHBALL_WORKER__NODE", "node-a")
        .set("MOTHBALL_WORKER__GPUS", "2")
        .set("MOTHBALL_WORKER__DOCKER_HOST", system.dockerd().host());
    if let (Some(redis), Some(vhost)) = (&system.redis, &system.vhost) {
        shell = shell.set("MOTHBALL_STORE__URL", redis.url()).set("MOTHBALL_QUEUE__URL", vhost.url());
    }
    Ok(shell)
}

/// The verdict on a check, and what is said about it.
fn finding(findings: &Value, check: &str, verdict: &str) -> Result<String> {
    let all = findings.as_array().context("no list")?;
    let found = all.iter().find(|finding| finding["check"] == check && finding["verdict"] == verdict);
    found.map(Value::to_string).with_context(|| format!("{check} is not {verdict}: {findings:#}"))
}

async fn doctor_finds_a_good_setup_good(pair: Pair) -> Result<()> {
    let system = System::start(pair).await?;
    let shell = doctors(&system)?;
    let findings = shell.run(&["doctor", "-o", "json"]).await?.json()?;
    for check in ["store", "queue", "registry", "docker", "docker disk", "data disk", "gpus"] {
        ensure!(finding(&findings, check, "fail").is_err(), "{findings:#}");
        finding(&findings, check, "ok")
            .or_else(|error| finding(&findings, check, "warn").map_err(|_| error))?;
    }
    if pair == Pair::Servers {
        finding(&findings, "clock", "ok")?;
    }
    let text = shell.run(&["doctor"]).await?.success()?;
    ensure!(text.contains("a probe was pushed, read back and deleted"), "{text}");
    // The probe leaves nothing.
    let url = format!("{}/v2/mothball/doctor-probe/tags/list", system.registry.url());
    let tags: Value = mothball_harness::http::client().get(url).send().await?.json().await?;
    ensure!(tags["tags"].as_array().is_none_or(Vec::is_empty), "{tags}");

    // A message that nobody can use lies apart, and is named.
    if let Some(vhost) = &system.vhost {
        vhost.publish("mothball.any", "job.v1", "no wake-up of ours").await?;
        let warned = eventually(JOB_LIMIT, "the message to be put apart", async || {
            let findings = shell.run(&["doctor", "-o", "json"]).await.ok()?.json().ok()?;
            finding(&findings, "queue", "warn").ok()
        })
        .await?;
        ensure!(warned.contains("no wake-up of ours"), "{warned}");
    }
    Ok(())
}

#[tokio::test]
async fn doctor_says_what_is_broken_and_what_to_do() -> Result<()> {
    let mut system = System::start(Pair::Servers).await?;
    let (redis, vhost) =
        (system.redis.as_ref().context("no Redis")?, system.vhost.as_ref().context("no broker")?);
    let secret = "wrong-password-9876";
    let broker = vhost.broker().address();
    let amqp = format!("amqp://mothball:{secret}@{broker}/{}", vhost.name());
    let locked = Registry::options().login("mothball", "right").start().await?;
    let password = tempfile::NamedTempFile::new()?;
    std::fs::write(password.path(), secret)?;
    let data = TempDir::new()?;
    let base = |shell: Shell| shell.set("MOTHBALL_DATA_DIR", data.path().display().to_string());
    let wrong = base(Shell::new()?)
        .set("MOTHBALL_STORE__URL", redis.url())
        .set("MOTHBALL_QUEUE__URL", amqp)
        .set("MOTHBALL_REGISTRY__URL", locked.url())
        .set("MOTHBALL_REGISTRY__USERNAME", "mothball")
        .set("MOTHBALL_REGISTRY__PASSWORD_FILE", password.path().display().to_string())
        .set("MOTHBALL_WORKER__DOCKER_HOST", "unix:///nowhere/docker.sock");
    let outcome = wrong.run(&["doctor", "-o", "json"]).await?;
    refused(&outcome, &["doctor"], 1, &["checks failed"])?;
    let findings: Value = serde_json::from_str(&outcome.stdout)?;
    finding(&findings, "store", "ok")?;
    for (check, words) in
        [("queue", "advice"), ("registry", "registry.password_file"), ("docker", "worker.docker_host")]
    {
        ensure!(finding(&findings, check, "fail")?.contains(words), "{findings:#}");
    }
    for text in [&outcome.stdout, &outcome.stderr, &wrong.run(&["doctor"]).await?.stdout] {
        ensure!(!text.contains(secret), "a password is shown: {text}");
    }

    let url = redis.url();
    system.registry.kill9();
    if let Some(redis) = &mut system.redis {
        redis.kill9();
    }
    let away = base(Shell::new()?)
        .set("MOTHBALL_STORE__URL", url)
        .set("MOTHBALL_QUEUE__URL", "amqp://guest:guest@127.0.0.1:1/%2f")
        .set("MOTHBALL_REGISTRY__URL", system.registry.url())
        .set("MOTHBALL_WORKER__DOCKER_HOST", system.dockerd().host());
    let outcome = away.run(&["doctor", "-o", "json"]).await?;
    refused(&outcome, &["doctor"], 1, &["3 of"])?;
    let findings: Value = serde_json::from_str(&outcome.stdout)?;
    for check in ["store", "queue", "registry"] {
        ensure!(finding(&findings, check, "fail")?.contains("advice"), "{findings:#}");
    }
    finding(&findings, "docker", "ok").map(drop)
}
