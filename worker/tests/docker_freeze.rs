//! What is frozen stays frozen until it is removed, and never longer than its worker lives.

use anyhow::{Context, Result};
use mothball_domain::container::Mount;
use mothball_harness::dockerd::Dockerd;
use mothball_harness::wait::eventually;
use mothball_worker::docker::{CONTAINER_LABEL, CreateRequest, DockerError, Engine, EngineLimits};
use mothball_worker::guard::{Guard, GuardCommand, GuardPost, run_guard};
use mothball_worker::lock::{FileLock, guard_lock_path};
use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use std::collections::BTreeMap;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;
use tokio::process::{Child, Command};

const DEADLINE: Duration = Duration::from_mins(1);

/// Writers that are not the first process, as fast as they can, and one more level of children.
const WRITERS: &str = "for i in 1 2 3; do (while :; do echo $i >>/out/$i; done) & done; \
    (sh -c 'while :; do echo 4 >>/out/4; done') & sleep 1d";

async fn writer(engine: &Engine, name: &str, out: &Path) -> Result<String> {
    let id = engine
        .create(&CreateRequest {
            name: name.into(),
            image: "writer:1".into(),
            labels: BTreeMap::from([(CONTAINER_LABEL.into(), "7".into())]),
            mounts: vec![Mount { target: "/out".into(), source: out.display().to_string() }],
            ..CreateRequest::default()
        })
        .await?
        .id;
    engine.start(&id).await?;
    Ok(id)
}

fn written(out: &Path) -> Vec<u64> {
    let size = |i: u32| std::fs::metadata(out.join(i.to_string())).map_or(0, |m| m.len());
    (1..=4).map(size).collect()
}

async fn all_write(out: &Path) -> Result<()> {
    let before = written(out);
    eventually(DEADLINE, "every writer to write", async || {
        written(out).iter().zip(&before).all(|(now, then)| now > then).then_some(())
    })
    .await
}

async fn docker() -> Result<(Dockerd, Engine)> {
    let docker = Dockerd::start().await?;
    let command = serde_json::to_string(&["sh", "-c", WRITERS])?;
    docker.import_busybox("writer:1", &[&format!("CMD {command}")]).await?;
    let engine = Engine::connect(&docker.host(), EngineLimits::default())?;
    Ok((docker, engine))
}

#[tokio::test]
async fn nothing_is_written_between_the_freeze_and_the_removal() -> Result<()> {
    let (docker, engine) = docker().await?;
    let mut late = 0;
    for round in 0..5 {
        let out = tempfile::tempdir()?;
        // Without our kill first, to see that there is something to prevent; then with it.
        for careful in [false, true] {
            let id = writer(&engine, &format!("w{round}{careful}"), out.path()).await?;
            all_write(out.path()).await?;
            let awake = engine.kill_all_frozen(&id).await.unwrap_err();
            assert!(matches!(awake, DockerError::NotFrozen { .. }), "{awake:?}");
            engine.pause(&id).await?;
            let frozen = written(out.path());
            if careful {
                let killed = engine.kill_all_frozen(&id).await?;
                assert_eq!(killed.processes, 4, "every writer, and the first process is Docker's");
                assert!(engine.inspect(&id).await?.context("gone")?.is_paused());
                engine.kill_all_frozen(&id).await?;
            }
            assert_eq!(written(out.path()), frozen);
            engine.remove(&id, true, true).await?;
            if careful {
                assert_eq!(written(out.path()), frozen, "round {round}");
            } else {
                late += u32::from(written(out.path()) != frozen);
            }
        }
    }
    assert!(late > 0, "Docker alone let nothing through in five rounds: is the test able to see anything?");
    let gone = engine.kill_all_frozen(&"0".repeat(64)).await.unwrap_err();
    assert!(gone.is_not_found(), "{gone:?}");
    drop(docker);
    Ok(())
}

/// Another container's processes are none of ours.
#[tokio::test]
async fn a_neighbour_is_not_touched() -> Result<()> {
    let (_docker, engine) = docker().await?;
    let (ours, theirs) = (tempfile::tempdir()?, tempfile::tempdir()?);
    let id = writer(&engine, "ours", ours.path()).await?;
    let neighbour = writer(&engine, "theirs", theirs.path()).await?;
    all_write(theirs.path()).await?;
    engine.pause(&id).await?;
    engine.kill_all_frozen(&id).await?;
    all_write(theirs.path()).await?;
    engine.remove(&id, true, true).await?;
    all_write(theirs.path()).await?;
    engine.remove(&neighbour, true, true).await?;
    Ok(())
}

struct Scene {
    docker: Dockerd,
    engine: Engine,
    out: tempfile::TempDir,
    locks: tempfile::TempDir,
    id: String,
}

impl Scene {
    async fn new() -> Result<Self> {
        let (docker, engine) = docker().await?;
        let (out, locks) = (tempfile::tempdir()?, tempfile::tempdir()?);
        let id = writer(&engine, "guarded", out.path()).await?;
        Ok(Self { docker, engine, out, locks, id })
    }

    fn post(&self) -> GuardPost {
        GuardPost {
            docker_host: self.docker.host(),
            docker_id: self.id.clone(),
            locks_dir: self.locks.path().to_owned(),
        }
    }

    async fn paused(&self) -> Result<bool> {
        Ok(self.engine.inspect(&self.id).await?.context("gone")?.is_paused())
    }

    async fn until_paused(&self, wanted: bool) -> Result<()> {
        eventually(DEADLINE, "the container to be frozen or thawed", async || {
            (self.paused().await.ok()? == wanted).then_some(())
        })
        .await
    }

    /// A worker, in a process group of its own, that freezes the container under a guard and then only waits.
    fn holder(&self) -> Result<Child> {
        let command = this_program_as("worker")?;
        Command::new(&command.program)
            .args(&command.args)
            .args(self.post().args())
            .stdin(Stdio::null())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .context("start a worker")
    }

    async fn until_no_guard(&self) -> Result<()> {
        let lock = guard_lock_path(self.locks.path(), &self.id);
        eventually(DEADLINE, "the guard to leave", async || (!lock.exists()).then_some(())).await
    }
}

/// What this very program plays when it is started again, see `as_somebody_else`.
const PART: &str = "MOTHBALL_TEST_PART";

/// This test program, started again to play a part. It takes its options through the environment, because the test
/// runner inside it would not know them.
fn this_program_as(part: &str) -> Result<GuardCommand> {
    let script = format!(
        "{PART}=\"{part} $*\" exec \"$0\" --exact as_somebody_else --nocapture --test-threads=2 2>/dev/null"
    );
    let here = std::env::current_exe()?;
    Ok(GuardCommand { program: "/bin/sh".into(), args: vec!["-c".into(), script.into(), here.into()] })
}

/// Not a test: where a guard or a worker that is going to be killed begins.
#[tokio::test]
async fn as_somebody_else() -> Result<()> {
    let Some(part) = std::env::var_os(PART) else { return Ok(()) };
    let part = part.to_string_lossy();
    let words: Vec<&str> = part.split(' ').collect();
    let value = |name: &str| {
        let at = words.iter().position(|w| *w == name).context("an option is missing")?;
        words.get(at + 1).copied().context("an option has no value")
    };
    let post = GuardPost {
        docker_host: value("--docker-host")?.into(),
        docker_id: value("--container")?.into(),
        locks_dir: value("--locks-dir")?.into(),
    };
    if words[0] == "guard" {
        return Ok(run_guard(&post).await?);
    }
    let _guard = Guard::start(&guard_command()?, &post).await?;
    Engine::connect(&post.docker_host, EngineLimits::default())?.pause(&post.docker_id).await?;
    std::future::pending().await
}

fn guard_command() -> Result<GuardCommand> {
    this_program_as("guard")
}

fn pid(child: &Child) -> Result<Pid> {
    let raw = child.id().and_then(|id| i32::try_from(id).ok());
    raw.and_then(Pid::from_raw).context("it has ended")
}

#[tokio::test]
async fn a_killed_worker_leaves_no_frozen_container() -> Result<()> {
    let mut scene = Scene::new().await?;
    let worker = scene.holder()?;
    scene.until_paused(true).await?;
    // Its whole group, as a service manager or a shell would.
    kill_process_group(pid(&worker)?, Signal::KILL)?;
    scene.until_paused(false).await?;
    all_write(scene.out.path()).await?;
    scene.until_no_guard().await?;
    drop(worker);

    // SIGTERM to the guard itself changes nothing: it reaches guards when the machine shuts down.
    let guard = Guard::start(&guard_command()?, &scene.post()).await?;
    scene.engine.pause(&scene.id).await?;
    let guard_pid = guard.pid().and_then(|p| Pid::from_raw(p.cast_signed())).context("no guard")?;
    for signal in [Signal::TERM, Signal::INT, Signal::HUP] {
        kill_process(guard_pid, signal)?;
    }
    assert!(scene.paused().await?);
    drop(guard);
    scene.until_paused(false).await?;
    scene.until_no_guard().await?;

    // Docker is away when the worker dies: the guard goes on trying. Its containers outlive it with live-restore.
    scene.docker = {
        drop(scene.docker);
        Dockerd::start_with(&["--live-restore"]).await?
    };
    let command = serde_json::to_string(&["sh", "-c", WRITERS])?;
    scene.docker.import_busybox("writer:1", &[&format!("CMD {command}")]).await?;
    scene.engine = Engine::connect(&scene.docker.host(), EngineLimits::default())?;
    scene.id = writer(&scene.engine, "guarded", scene.out.path()).await?;
    let guard = Guard::start(&guard_command()?, &scene.post()).await?;
    scene.engine.pause(&scene.id).await?;
    scene.docker.kill9();
    drop(guard);
    scene.docker.start_again().await?;
    scene.until_paused(false).await?;
    scene.until_no_guard().await?;
    Ok(())
}

#[tokio::test]
async fn a_guard_that_was_told_does_nothing() -> Result<()> {
    let scene = Scene::new().await?;
    let guard = Guard::start(&guard_command()?, &scene.post()).await?;
    scene.engine.pause(&scene.id).await?;
    guard.done().await?;
    assert!(scene.paused().await?);
    scene.engine.unpause(&scene.id).await?;

    // The container that it guarded may be gone.
    let guard = Guard::start(&guard_command()?, &scene.post()).await?;
    scene.engine.remove(&scene.id, true, true).await?;
    drop(guard);
    scene.until_no_guard().await?;
    Ok(())
}

#[tokio::test]
async fn a_successor_does_not_freeze_before_the_old_guard_has_left() -> Result<()> {
    let scene = Scene::new().await?;
    let first = Guard::start(&guard_command()?, &scene.post()).await?;
    scene.engine.pause(&scene.id).await?;
    let lock = guard_lock_path(scene.locks.path(), &scene.id);
    assert!(lock.exists());
    // It hangs at a Docker that does not answer while its worker dies.
    scene.docker.pause();
    drop(first);
    let (command, post) = (guard_command()?, scene.post());
    let second = Guard::start(&command, &post);
    tokio::pin!(second);
    let early = tokio::time::timeout(Duration::from_secs(2), &mut second).await;
    assert!(early.is_err(), "the second stands although the first is at work");
    scene.docker.resume();
    let second = second.await?;
    assert!(!scene.paused().await?, "the first had thawed before the second stood");
    scene.engine.pause(&scene.id).await?;
    assert!(scene.paused().await?);
    second.done().await?;
    assert!(scene.paused().await?);
    FileLock::container(scene.locks.path(), &scene.id, Duration::ZERO).await?;
    Ok(())
}
