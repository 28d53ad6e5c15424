//! What no image holds, and containers that do not simply run: volumes, stopped, dead, frozen, adopted.

use anyhow::{Context as _, Result};
use mothball_harness::http::Api;
use mothball_harness::system::{BASE, JOB_LIMIT, Pair, System};
use mothball_harness::wait::eventually;
use mothball_tests::flow::{self, root, save_and_delete, save_and_keep};
use mothball_tests::{hunt, image, moments, on_both_pairs};
use serde_json::{Value, json};

on_both_pairs!(
    a_volume_is_unsaved_data,
    stopped_and_dead_containers_are_saved,
    a_container_that_its_user_froze_stays_frozen,
    adopted_containers_are_saved_and_deleted,
    adopted_containers_wake_as_they_were_launched,
);

const WITH_VOLUME: &str = "vol:latest";

async fn a_volume_is_unsaved_data(pair: Pair) -> Result<()> {
    let catalog = format!("[[catalog]]\nname = \"{WITH_VOLUME}\"\nimage = \"{WITH_VOLUME}\"");
    let system = System::options(pair).configuration(&catalog).start().await?;
    let (api, engine) = (system.operator()?, system.dockerd());
    let changes = [mothball_harness::busybox::IDLE, r#"VOLUME ["/data"]"#];
    engine.import_busybox(WITH_VOLUME, &changes).await?;
    let container = flow::launch(&api, "box", WITH_VOLUME).await?;
    root(engine, &container.docker_id, "echo precious > /data/file; echo mine > /root/file").await?;

    // Kept: saved without the volume, and said so.
    let job = save_and_keep(&api, &container.id, "v1").await?;
    assert!(flow::notes(&job).contains("/data"), "the notes do not name the volume: {job:#}");

    // Deleted: refused, at once and with the way out.
    let body = json!({"tag": "v2", "then": "delete"});
    let job = flow::save(&api, &container.id, &body).await?;
    let job = api.wait_failure(&job, "engine", JOB_LIMIT).await?;
    assert_eq!(job["attempt"], 1, "another attempt would only repeat it: {job:#}");
    let (message, hint) = (flow::text(&job["error"]["message"]), flow::text(&job["error"]["hint"]));
    assert!(message.contains("/data") && hint.contains("--discard-volumes"), "{message} {hint}");
    let command = ["save", "box", "--tag", "v2", "--then-delete", "--wait", "--yes"];
    let outcome = system.api.cli(&command).await?;
    assert_eq!(outcome.code, 1, "{outcome:?}");
    assert!(outcome.stderr.contains("--discard-volumes"), "{outcome:?}");
    assert_eq!(flow::status(engine, &container.docker_id).await?, "running");
    assert_eq!(root(engine, &container.docker_id, "cat /data/file").await?, "precious");
    assert_eq!(api.get("/v1/images/vol:v2").await?.status, 404);

    // Told so, it goes, and the volume with it.
    let outcome = system.api.cli(&[&command[..], &["--discard-volumes"]].concat()).await?;
    outcome.success()?;
    assert_eq!(flow::status(engine, &container.docker_id).await?, "absent");
    assert_eq!(engine.docker(&["volume", "ls", "--quiet"]).await?, "");
    let again = flow::launch(&api, "again", "vol:v2").await?;
    let files = root(engine, &again.docker_id, "cat /root/file; ls /data").await?;
    assert_eq!(files, "mine");
    Ok(())
}

async fn stopped_and_dead_containers_are_saved(pair: Pair) -> Result<()> {
    let system = System::start(pair).await?;
    let (api, engine) = (system.operator()?, system.dockerd());
    let stopped = flow::launch(&api, "stopped", BASE).await?;
    root(engine, &stopped.docker_id, "echo stopped > /root/file").await?;
    let job = api.post(&format!("/v1/containers/{}/stop", stopped.id), &json!({})).await?.job_id(202)?;
    api.wait_success(&job, JOB_LIMIT).await?;
    // Behind our back: it may count as running still.
    let dead = flow::launch(&api, "dead", BASE).await?;
    root(engine, &dead.docker_id, "echo dead > /root/file").await?;
    engine.docker(&["kill", &dead.docker_id]).await?;

    for (name, container) in [("stopped", stopped), ("dead", dead)] {
        save_and_keep(&api, &container.id, &format!("{name}-kept")).await?;
        assert_eq!(flow::status(engine, &container.docker_id).await?, "exited", "{name}");
        save_and_delete(&api, &container.id, name).await?;
        assert_eq!(flow::status(engine, &container.docker_id).await?, "absent", "{name}");
        for image in [format!("base:{name}"), format!("base:{name}-kept")] {
            holds(&system, &api, &image, name).await?;
        }
    }
    Ok(())
}

/// A container of the image has the word in its file; it is deleted again.
async fn holds(system: &System, api: &Api, image: &str, word: &str) -> Result<()> {
    let container = flow::launch(api, "look", image).await?;
    let file = root(system.dockerd(), &container.docker_id, "cat /root/file").await?;
    assert_eq!(file, word, "{image}");
    let job = api.delete(&format!("/v1/containers/{}", container.id)).await?.job_id(202)?;
    api.wait_success(&job, JOB_LIMIT).await.map(drop)
}

async fn a_container_that_its_user_froze_stays_frozen(pair: Pair) -> Result<()> {
    let system = System::options(pair).proxied().start().await?;
    let (api, engine) = (system.operator()?, system.dockerd());
    let container = flow::launch(&api, "box", BASE).await?;
    root(engine, &container.docker_id, "echo frozen > /root/file").await?;
    engine.docker(&["pause", &container.docker_id]).await?;

    // Also where the container was to be deleted and the job was cancelled on the way.
    let registry = &system.proxies.as_ref().context("find the proxies")?.registry;
    let upload = registry.hold(moments::upload().times(1));
    let job = flow::save(&api, &container.id, &json!({"tag": "cancelled", "then": "delete"})).await?;
    upload.reached(JOB_LIMIT).await?;
    flow::cancel(&api, &job).await?;
    assert_eq!(api.wait_job(&job, JOB_LIMIT).await?["state"], "cancelled");
    upload.open();
    assert_eq!(flow::status(engine, &container.docker_id).await?, "paused");
    for pause in ["auto", "always", "never"] {
        let job = flow::save(&api, &container.id, &json!({"tag": "kept", "pause": pause})).await?;
        api.wait_success(&job, JOB_LIMIT).await?;
        assert_eq!(flow::status(engine, &container.docker_id).await?, "paused", "pause: {pause}");
    }
    save_and_delete(&api, &container.id, "deleted").await?;
    assert_eq!(flow::status(engine, &container.docker_id).await?, "absent");
    for image in ["base:kept", "base:deleted"] {
        holds(&system, &api, image, "frozen").await?;
    }
    Ok(())
}

async fn adopted_containers_are_saved_and_deleted(pair: Pair) -> Result<()> {
    let system = System::start(pair).await?;
    let (api, engine) = (system.operator()?, system.dockerd());
    // Started by hand, with secrets in its environment and on its command line.
    let idle = "trap 'exit 0' TERM; while :; do sleep 3600 & wait $!; done; : line-secret-1";
    let run = ["run", "--detach", "--env", "TOKEN=envi-secret-2", "--label", "mothball.container=1", BASE];
    let theirs = engine.docker(&[&run[..], &["sh", "-c", idle]].concat()).await?;
    root(engine, &theirs, "echo adopted > /root/file").await?;
    let created = engine.docker(&["create", BASE]).await?;
    let file = tempfile::NamedTempFile::new()?;
    std::fs::write(file.path(), "adopted\n")?;
    let from = file.path().to_string_lossy();
    engine.docker(&["cp", &from, &format!("{created}:/root/file")]).await?;

    for (name, docker_id) in [("running", &theirs), ("created", &created)] {
        let body = json!({"docker_id": docker_id, "name": name, "user": "admin", "image": BASE});
        let adopted = api.post("/v1/nodes/node-a/adopt", &body).await?.expect(201)?;
        assert_eq!(adopted["adopted"], true, "{adopted:#}");
        let id = flow::text(&adopted["id"]);
        let before = flow::status(engine, docker_id).await?;
        save_and_keep(&api, &id, &format!("{name}-kept")).await?;
        assert_eq!(flow::status(engine, docker_id).await?, before);
        save_and_delete(&api, &id, name).await?;
        assert_eq!(flow::status(engine, docker_id).await?, "absent");
        for tag in [name.to_owned(), format!("{name}-kept")] {
            let image = format!("base:{tag}");
            holds(&system, &api, &image, "adopted").await?;
            no_secret(&system, &flow::image(&api, &image).await?).await?;
        }
    }
    Ok(())
}

async fn adopted_containers_wake_as_they_were_launched(pair: Pair) -> Result<()> {
    let there = tempfile::tempdir().context("make the directory of the mounts")?;
    let (home, other) = (there.path().join("home/admin"), there.path().join("other"));
    for (path, word) in [(&home, "at home"), (&other, "elsewhere")] {
        std::fs::create_dir_all(path)?;
        std::fs::write(path.join("file"), word)?;
    }
    let rule = format!(
        "[[mounts]]\ntarget = \"/home/{{user}}\"\nsource = \"{}/home/{{user}}\"\n",
        there.path().display()
    );
    let system = System::options(pair).configuration(&rule).start().await?;
    let (api, engine) = (system.operator()?, system.dockerd());
    let (home, other) = (format!("{}:/home/admin", home.display()), format!("{}:/data", other.display()));
    let run = [
        "run",
        "--detach",
        "--publish",
        "8080",
        "--publish",
        "53/udp",
        "--volume",
        &home,
        "--volume",
        &other,
    ];
    let run =
        [&run[..], &["--env", "TOKEN=envi-secret-2", "--env", "NVIDIA_VISIBLE_DEVICES=void", BASE]].concat();
    // Parked at once, and parked once the node has seen it.
    for (name, waits) in [("at-once", false), ("seen", true)] {
        let theirs = engine.docker(&run).await?;
        root(engine, &theirs, "echo adopted > /root/file").await?;
        let body = json!({"docker_id": theirs, "name": name, "user": "admin", "image": BASE});
        let id = flow::text(&api.post("/v1/nodes/node-a/adopt", &body).await?.expect(201)?["id"]);
        if waits {
            eventually(JOB_LIMIT, "the node to see what it was launched with", async || {
                let shown = flow::container(&api, &id).await.ok()?;
                let is_known =
                    shown["mounts"][0]["target"] == "/home/admin" && shown["ports"][0]["target"] == 8080;
                is_known.then_some(())
            })
            .await?;
        }
        let job = api.post(&format!("/v1/containers/{id}/park"), &json!({})).await?.job_id(202)?;
        let job = api.wait_success(&job, JOB_LIMIT).await?;
        assert_eq!(flow::status(engine, &theirs).await?, "absent");
        let notes = flow::notes(&job);
        for said in
            ["not kept for the wake, because none like them is configured: /data.", "for the wake: 53/udp."]
        {
            assert!(notes.contains(said), "no note says {said:?}:\n{notes}");
        }
        assert!(!job.to_string().contains("envi-secret-2"), "{job:#}");

        let job = api.post(&format!("/v1/containers/{id}/wake"), &json!({})).await?.job_id(202)?;
        api.wait_success(&job, JOB_LIMIT).await?;
        let woken = flow::launched(&api, &id).await?.docker_id;
        let files = root(
            engine,
            &woken,
            "cat /root/file /home/admin/file; echo; echo $TOKEN $NVIDIA_VISIBLE_DEVICES; ls -d /data",
        );
        // The directory is there, with nothing mounted on it.
        assert_eq!(files.await?, "adopted\nat home\nenvi-secret-2\n/data", "{name}");
        let shown = flow::container(&api, &id).await?;
        assert!(shown["ports"][0]["target"] == 8080 && shown["ports"][0]["published"].is_u64(), "{shown:#}");
        let mounts = ["inspect", "--format", "{{range .Mounts}}{{.Source}}:{{.Destination}} {{end}}", &woken];
        assert_eq!(engine.docker(&mounts).await?.trim(), home);
        let job = api.delete(&format!("/v1/containers/{id}")).await?.job_id(202)?;
        api.wait_success(&job, JOB_LIMIT).await?;
    }
    Ok(())
}

/// Neither what was on the command line nor what was in the environment is in the image.
async fn no_secret(system: &System, shown: &Value) -> Result<()> {
    let (repository, digest) = image::parts(shown["reference"].as_str().context("no reference")?)?;
    let image = image::read_back(&system.registry.url(), repository, digest).await?;
    let config = serde_json::to_string(&image.config)?;
    let words = ["line-secret-1", "envi-secret-2", "mothball.container"].map(str::to_owned);
    assert_eq!(hunt::found_in("the config", config.as_bytes(), &words), Vec::<String>::new());
    Ok(())
}
