//! A preflight from outside: what it says of a container whose contents are known, what it never says, and that it changes
//! nothing, disturbs no job, and ends in time whatever the node does.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use mothball_harness::http::{Answer, Api};
use mothball_harness::system::{BASE, JOB_LIMIT, Pair, System};
use mothball_harness::wait::eventually;
use mothball_tests::flow::{self, Launched, root};
use mothball_tests::{hunt, image, moments, on_both_pairs};
use serde_json::{Value, json};

on_both_pairs!(
    a_dry_run_says_what_a_save_would_mean_and_changes_nothing,
    a_worker_whose_hands_are_full_still_looks,
    what_cannot_be_left_out_is_refused_before_anything_is_saved,
    what_is_left_out_is_in_no_blob,
    a_save_warns_in_its_notes_and_teaches_the_node_its_pace,
    a_node_that_cannot_look_is_told_of_in_time,
);

const WITH_VOLUME: &str = "vol:latest";
/// How long a node may take in these tests.
const LIMIT: Duration = Duration::from_secs(4);
/// What "at once" and "within the limit" mean on a busy machine.
const SLACK: Duration = Duration::from_secs(10);

async fn dry(api: &Api, container: &str, more: &Value) -> Result<Answer> {
    let mut body = json!({"tag": "v1", "dry_run": true});
    body.as_object_mut().context("an object")?.extend(more.as_object().context("an object")?.clone());
    api.post(&format!("/v1/containers/{container}/snapshots"), &body).await
}

/// Secrets in two halves, so that no file of this repository looks like one.
fn secrets() -> [String; 3] {
    let key = format!("-----BEGIN {}-----\nMIIEpreflightbytes\n", "OPENSSH PRIVATE KEY");
    [key, format!("hf_{}", "preflightPREFLIGHT0123456789abcdef"), "preflight-typed-password".to_owned()]
}

/// Files of known sizes, secrets, a cache, and packages in the mount.
async fn fill(system: &System, container: &Launched) -> Result<()> {
    let [key, token, typed] = secrets();
    let script = format!(
        "set -e
        mkdir -p /opt/model /data/a /data/b /root/.ssh /root/.cache/pip/http /srv
        head -c 5000000 /dev/zero > /opt/model/weights.bin
        head -c 2000000 /dev/zero > /data/a/x
        head -c 1000000 /dev/zero > /data/b/y.ckpt
        head -c 12000000 /dev/zero > /root/.cache/pip/http/wheel
        printf '%s' '{key}' > /root/.ssh/id_ed25519
        echo 'import os; TOKEN = \"{token}\"' > /srv/train.py
        echo 'export PASSWORD={typed}' > /root/.ash_history
        mkdir -p /home/admin/.local/lib/python3.11/site-packages/numpy
        head -c 3000000 /dev/zero > /home/admin/.local/lib/python3.11/site-packages/numpy/core.so
        echo precious > /vol/file"
    );
    root(system.dockerd(), &container.docker_id, &script).await.map(drop)
}

async fn filled(pair: Pair) -> Result<(System, tempfile::TempDir, Launched)> {
    let mounts = tempfile::tempdir().context("make the directory of the mounts")?;
    let source = mounts.path().join("home/admin");
    std::fs::create_dir_all(&source).context("make the mounts")?;
    let configuration = format!(
        "[[catalog]]\nname = \"{WITH_VOLUME}\"\nimage = \"{WITH_VOLUME}\"\n\
         [[mounts]]\ntarget = \"/home/{{user}}\"\nsource = \"{}/home/{{user}}\"\n",
        mounts.path().display()
    );
    let system = System::options(pair).configuration(&configuration).start().await?;
    let changes = [mothball_harness::busybox::IDLE, r#"VOLUME ["/vol"]"#];
    system.dockerd().import_busybox(WITH_VOLUME, &changes).await?;
    let container = flow::launch(&system.operator()?, "box", WITH_VOLUME).await?;
    fill(&system, &container).await?;
    Ok((system, mounts, container))
}

fn paths(list: &Value, key: &str) -> Vec<String> {
    list.as_array().into_iter().flatten().map(|one| flow::text(&one[key])).collect()
}

fn bytes_at(list: &Value, path: &str) -> Option<u64> {
    list.as_array()
        .into_iter()
        .flatten()
        .find(|one| one["path"] == path)
        .and_then(|one| one["bytes"].as_u64())
}

async fn a_dry_run_says_what_a_save_would_mean_and_changes_nothing(pair: Pair) -> Result<()> {
    let (system, _mounts, container) = filled(pair).await?;
    let (api, engine) = (system.operator()?, system.dockerd());
    let since = engine.docker(&["info", "--format", "{{.SystemTime}}"]).await?;
    let told = dry(&api, &container.id, &json!({"then": "delete"})).await?.expect(200)?;

    let bytes = told["writable_bytes"].as_u64().context("no size")?;
    ensure!((20_000_000..20_100_000).contains(&bytes), "{told:#}");
    ensure!(
        told["entries"].as_u64().is_some_and(|n| n >= 12) && told["counted_completely"] == true,
        "{told:#}"
    );
    let largest = &told["largest_directories"];
    assert_eq!(bytes_at(largest, "/opt/model"), Some(5_000_000), "{told:#}");
    assert_eq!(bytes_at(largest, "/data"), Some(3_000_000), "{told:#}");
    assert_eq!(bytes_at(&told["largest_files"], "/data/a/x"), Some(2_000_000), "{told:#}");
    assert_eq!(bytes_at(&told["caches"], "/root/.cache/pip"), Some(12_000_000), "{told:#}");
    let mount = |target: &str| told["mounts"].as_array()?.iter().find(|m| m["target"] == target).cloned();
    let home = mount("/home/admin").context("the mount is not named")?;
    assert_eq!(
        (&home["kind"], &home["bytes"], &home["complete"]),
        (&json!("bind"), &json!(3_000_000), &json!(true))
    );
    let volume = mount("/vol").context("the volume is not named")?;
    assert_eq!((&volume["kind"], &volume["bytes"]), (&json!("anonymous_volume"), &json!(9)));
    assert_eq!(
        paths(&told["package_trees"], "path"),
        ["/home/admin/.local/lib/python3.11/site-packages"],
        "{told:#}"
    );
    assert_eq!(
        paths(&told["secrets"], "path"),
        ["/root/.ash_history", "/root/.ssh/id_ed25519", "/srv/train.py"]
    );
    assert_eq!(paths(&told["secrets"], "kind"), ["history", "private_key", "hugging_face"]);
    ensure!(told["registry"]["reachable"] == true && told["layers"]["after"] == 2, "{told:#}");
    ensure!(told["disk"]["free_bytes"].as_u64() > Some(0) && told["way_reason"].is_string(), "{told:#}");
    // Deleting would lose the volume: the one thing in the way.
    assert_eq!(told["possible"], false);
    ensure!(flow::text(&told["problems"][0]).contains("--discard-volumes"), "{told:#}");
    assert_eq!(dry(&api, &container.id, &json!({})).await?.expect(200)?["possible"], true);

    // In words, and never what a secret holds.
    let words = system.api.cli(&["save", "box", "--tag", "v1", "--dry-run"]).await?.success()?;
    for said in [
        "largest directories",
        "5.0 MB  /opt/model",
        "3.0 MB  /home/admin  (mount)",
        "private key  /root/.ssh/id_ed25519",
        "12 MB  /root/.cache/pip  (to clean it: pip cache purge)",
        "Python packages",
        "answers",
        "The save can go ahead.",
    ] {
        ensure!(words.contains(said), "nothing says {said:?}:\n{words}");
    }
    let object = system.api.cli(&["save", "box", "--tag", "v1", "--dry-run", "-o", "json"]).await?.json()?;
    assert_eq!(object["secrets"], told["secrets"]);
    for (what, text) in
        [("the report", told.to_string()), ("the words", words), ("the log", system.api.log())]
    {
        assert_eq!(hunt::found_in(what, text.as_bytes(), &secrets()), Vec::<String>::new());
        assert!(!text.contains("MIIEpreflightbytes"), "{what}");
    }

    // Nothing happened: no job, no image, no freeze.
    let jobs = api.get("/v1/jobs?kind=snapshot").await?.expect(200)?;
    assert_eq!(jobs["items"], json!([]));
    assert_eq!(flow::container(&api, &container.id).await?["job"], Value::Null);
    let until = engine.docker(&["info", "--format", "{{.SystemTime}}"]).await?;
    let window = ["events", "--since", &since, "--until", &until, "--format", "{{.Action}}"];
    let happened = engine
        .docker(&[&window[..], &["--filter", &format!("container={}", container.docker_id)]].concat())
        .await?;
    ensure!(!happened.contains("pause") && !happened.contains("commit"), "{happened}");
    assert_eq!(flow::status(engine, &container.docker_id).await?, "running");
    Ok(())
}

async fn a_worker_whose_hands_are_full_still_looks(pair: Pair) -> Result<()> {
    let system = System::options(pair).proxied().env("MOTHBALL_WORKER__CONCURRENCY", "1").start().await?;
    let api = system.operator()?;
    let busy = flow::launch(&api, "busy", BASE).await?;
    let free = flow::launch(&api, "free", BASE).await?;
    let registry = &system.proxies.as_ref().context("find the proxies")?.registry;
    let upload = registry.hold(moments::upload().times(1));
    let job = flow::save(&api, &busy.id, &json!({"tag": "v1"})).await?;
    upload.reached(JOB_LIMIT).await?;
    // The one slot for jobs is taken. Of the container that is being saved the preflight says what is in the way.
    assert_eq!(dry(&api, &free.id, &json!({})).await?.expect(200)?["possible"], true);
    let told = dry(&api, &busy.id, &json!({"tag": "v2"})).await?.expect(200)?;
    ensure!(told["possible"] == false && told["problems"].to_string().contains(&job), "{told:#}");
    assert_eq!(api.job(&job).await?["attempt"], 1);
    upload.open();
    api.wait_success(&job, JOB_LIMIT).await.map(drop)
}

async fn what_cannot_be_left_out_is_refused_before_anything_is_saved(pair: Pair) -> Result<()> {
    let system = System::options(pair).env("MOTHBALL_WORKER__SNAPSHOT", "engine").start().await?;
    let (api, engine) = (system.operator()?, system.dockerd());
    let container = flow::launch(&api, "box", BASE).await?;
    root(engine, &container.docker_id, "mkdir /data; head -c 700000 /dev/zero > /data/a.ckpt").await?;

    let refused = dry(&api, &container.id, &json!({"exclude": ["[a"]})).await?;
    assert_eq!(refused.problem(422)?, "invalid");
    let told = dry(&api, &container.id, &json!({"exclude": ["*.ckpt"]})).await?.expect(200)?;
    assert_eq!((&told["possible"], &told["excluded_bytes"]), (&json!(false), &json!(700_000)));
    ensure!(flow::text(&told["problems"][0]).contains("cannot leave anything out"), "{told:#}");

    // A project's own patterns count as well, unless they are declined.
    let patterns = ["projects", "excludes", "default", "*.ckpt"];
    let shown = system.api.cli(&patterns).await?.success()?;
    ensure!(shown.contains("saves leave out: *.ckpt"), "{shown}");
    let outcome = system.api.cli(&["save", "box", "--tag", "v1", "--wait"]).await?;
    ensure!(outcome.code == 1 && outcome.stderr.contains("--no-default-excludes"), "{outcome:?}");
    let job = flow::save(&api, &container.id, &json!({"tag": "v1", "exclude": ["/data"]})).await?;
    let job = api.wait_failure(&job, "engine", JOB_LIMIT).await?;
    assert_eq!((&job["attempt"], &job["excludes"]), (&json!(1), &json!(["*.ckpt", "/data"])));
    assert_eq!(api.get("/v1/images/base:v1").await?.status, 404);
    let saved = ["save", "box", "--tag", "v1", "--no-default-excludes", "--wait"];
    system.api.cli(&saved).await?.success()?;
    Ok(())
}

async fn what_is_left_out_is_in_no_blob(pair: Pair) -> Result<()> {
    let system = System::options(pair).env("MOTHBALL_WORKER__SNAPSHOT", "direct").start().await?;
    let (api, engine) = (system.operator()?, system.dockerd());
    let container = flow::launch(&api, "box", BASE).await?;
    let fill = "mkdir -p /data/run /root/keep; echo checkpoint-of-the-run > /data/run/a.ckpt
        echo private-of-the-user > /data/private; echo kept-for-the-others > /root/keep/file";
    root(engine, &container.docker_id, fill).await?;
    // First with everything in it: what a later save leaves out must not stay in a layer that it builds upon.
    // Twice: what was written a moment before a save is sent again by the next one.
    for _ in 0..2 {
        flow::save_and_keep(&api, &container.id, "all").await?;
    }
    let told = dry(&api, &container.id, &json!({})).await?.expect(200)?;
    ensure!(told["way"] == "direct" && told["reuse"]["changed_bytes"] == 0, "{told:#}");

    let excludes = json!({"exclude": ["*.ckpt", "/data/private"]});
    let told = dry(&api, &container.id, &excludes).await?.expect(200)?;
    assert_eq!((&told["possible"], &told["excluded_bytes"]), (&json!(true), &json!(42)), "{told:#}");
    let command =
        ["save", "box", "--tag", "less", "--exclude", "*.ckpt", "--exclude", "/data/private", "--wait"];
    system.api.cli(&command).await?.success()?;
    assert_eq!(holding(&system, &api, "base:less").await?, ["kept-for-the-others"]);
    let all = ["checkpoint-of-the-run", "kept-for-the-others", "private-of-the-user"];
    assert_eq!(holding(&system, &api, "base:all").await?, all);
    // The container has them still.
    root(engine, &container.docker_id, "cat /data/run/a.ckpt /data/private").await.map(drop)
}

/// The words of the test's files that stand in any blob of an image, unpacked.
async fn holding(system: &System, api: &Api, image: &str) -> Result<Vec<String>> {
    let shown = flow::image(api, image).await?;
    let (repository, digest) = image::parts(shown["reference"].as_str().context("no reference")?)?;
    let read = image::read_back(&system.registry.url(), repository, digest).await?;
    let directory = tempfile::tempdir()?;
    for (digest, blob) in &read.blobs {
        std::fs::write(directory.path().join(digest.replace(':', "-")), blob)?;
    }
    let words = ["checkpoint-of-the-run", "kept-for-the-others", "private-of-the-user"].map(str::to_owned);
    let found = hunt::hunt(directory.path(), &words).await?;
    let is_found = |word: &&String| found.iter().any(|place| place.starts_with(word.as_str()));
    Ok(words.iter().filter(is_found).cloned().collect())
}

async fn a_save_warns_in_its_notes_and_teaches_the_node_its_pace(pair: Pair) -> Result<()> {
    let (system, _mounts, container) = filled(pair).await?;
    let api = system.operator()?;
    assert_eq!(dry(&api, &container.id, &json!({})).await?.expect(200)?["expected"], Value::Null);
    let job = flow::save_and_keep(&api, &container.id, "v1").await?;
    let notes = flow::notes(&job);
    for said in [
        "/home/admin is a mount (3.0 MB)",
        "/root/.ssh/id_ed25519 (private key)",
        "/root/.cache/pip (12 MB",
        "/home/admin/.local/lib/python3.11/site-packages (Python packages)",
    ] {
        ensure!(notes.contains(said), "no note says {said:?}:\n{notes}");
    }
    ensure!(notes.lines().count() <= 10, "{notes}");
    assert_eq!(hunt::found_in("the job", job.to_string().as_bytes(), &secrets()), Vec::<String>::new());
    let told = dry(&api, &container.id, &json!({})).await?.expect(200)?;
    ensure!(
        told["expected"]["saves"] == 1 && flow::text(&told["expected"]["words"]).starts_with("about "),
        "{told:#}"
    );
    assert_eq!(told["overwrites"], true);
    Ok(())
}

async fn a_node_that_cannot_look_is_told_of_in_time(pair: Pair) -> Result<()> {
    let mut system = System::options(pair)
        .env("MOTHBALL_API__SURVEY_TIMEOUT", format!("{}s", LIMIT.as_secs()))
        .env("MOTHBALL_WORKER__HEARTBEAT", "1s")
        .env("MOTHBALL_WORKER__ALIVE_WITHIN", "12s")
        .start()
        .await?;
    let api = system.operator()?;
    let container = flow::launch(&api, "box", BASE).await?;

    // Docker does not answer its worker.
    system.dockerd().pause();
    let (refused, took) = timed(dry(&api, &container.id, &json!({}))).await?;
    system.dockerd().resume();
    ensure!(took < LIMIT + SLACK && refused.json["hint"].is_string(), "{took:?} {:#}", refused.json);
    ensure!(matches!(refused.status, 409 | 504), "{refused:?}");
    looks_again(&api, &container).await?;
    if pair == Pair::Embedded {
        return Ok(());
    }

    // The worker is there and does not answer: nobody waits longer than the limit.
    system.worker().sigstop();
    let (refused, took) = timed(dry(&api, &container.id, &json!({"exclude": ["x"]}))).await?;
    system.worker().sigcont();
    assert_eq!(refused.clone().problem(504)?, "survey_timeout");
    ensure!((LIMIT..LIMIT + SLACK).contains(&took) && refused.json["hint"].is_string(), "{took:?}");
    looks_again(&api, &container).await?;

    // The worker is dead, and known to be: said at once.
    system.worker().kill9();
    eventually(JOB_LIMIT, "the node to be seen as away", async || {
        let node = api.get("/v1/nodes/node-a").await.ok()?;
        (node.json["alive"] == false).then_some(())
    })
    .await?;
    let (refused, took) = timed(dry(&api, &container.id, &json!({}))).await?;
    assert_eq!(refused.clone().problem(409)?, "node_silent");
    ensure!(took < LIMIT && refused.json["hint"].is_string(), "{took:?} {:#}", refused.json);
    let outcome = system.api.cli(&["save", "box", "--tag", "v1", "--dry-run"]).await?;
    ensure!(
        outcome.code == 1 && outcome.stderr.contains("node-a") && outcome.stderr.contains("hint: "),
        "{outcome:?}"
    );
    system.worker().start_again().await?;
    looks_again(&api, &container).await
}

async fn timed(asked: impl Future<Output = Result<Answer>>) -> Result<(Answer, Duration)> {
    let began = Instant::now();
    Ok((asked.await?, began.elapsed()))
}

/// The node looks again, once it has come round.
async fn looks_again(api: &Api, container: &Launched) -> Result<()> {
    eventually(JOB_LIMIT, "the node to look again", async || {
        (dry(api, &container.id, &json!({})).await.ok()?.status == 200).then_some(())
    })
    .await
}
