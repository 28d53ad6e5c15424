//! The main job by content: what was added, changed and deleted is so in the relaunched container; what must not be in an
//! image is nowhere.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use mothball_harness::http::Api;
use mothball_harness::proxy::Rule;
use mothball_harness::registry::Registry;
use mothball_harness::system::{JOB_LIMIT, Options, Pair, System};
use mothball_harness::wait::eventually;
use mothball_tests::flow::{self, Launched, root};
use mothball_tests::image::{self, Image};
use mothball_tests::{hunt, on_both_pairs, people};
use reqwest::Method;
use serde_json::{Value, json};
use tempfile::TempDir;
use uuid::Uuid;

use crate::faults::by_engine;

on_both_pairs!(a_container_comes_back_as_it_was);

const LIMIT: Duration = Duration::from_mins(1);
const IMAGE: &str = "rich:latest";
/// A base image with all that an image can say about the containers that are made of it.
const SETTINGS: [&str; 9] = [
    r#"ENTRYPOINT ["/bin/sh", "-c"]"#,
    r#"CMD ["trap 'exit 0' TERM; while :; do sleep 3600 & wait $!; done"]"#,
    "ENV WORD=hello",
    "ENV PATH=/bin:/opt/bin",
    "USER user",
    "WORKDIR /srv",
    "LABEL team=vision",
    "EXPOSE 8080",
    "HEALTHCHECK --interval=1h CMD true",
];

/// What must never leave the node, each a word that stands nowhere else.
struct Secrets {
    token: String,
    word: String,
    home: String,
    work: String,
}

async fn a_container_comes_back_as_it_was(pair: Pair) -> Result<()> {
    comes_back(System::options(pair)).await
}

#[tokio::test]
async fn a_container_comes_back_where_docker_engine_saves() -> Result<()> {
    comes_back(by_engine(System::options(Pair::Embedded))).await
}

async fn comes_back(options: Options) -> Result<()> {
    let mounts = tempfile::tempdir()?;
    let system = system(options, &mounts).await?;
    system.dockerd().import_busybox(IMAGE, &SETTINGS).await?;
    let operator = system.operator()?;
    let alice_key = people::member_key(&operator, "lab", "alice").await?;
    let (alice, bob) = (operator.with_key(&alice_key), people::member(&operator, "lab", "bob").await?);
    let mallory = people::member(&operator, "other", "mallory").await?;
    let secret = |what: &str| format!("{what}-{}", Uuid::new_v4().simple());
    let secrets =
        Secrets { token: secret("token"), word: secret("word"), home: secret("home"), work: secret("work") };

    let launch = json!({
        "name": "box", "image": IMAGE, "flavor": "cpu-small",
        "env": {"API_TOKEN": secrets.token, "WORD": secrets.word},
    });
    let saved = flow::launch_as(&alice, &launch).await?;
    change(&system, &saved, &secrets).await?;

    let first = first_save(&system, &alice, &saved).await?;
    relaunched_by_another_member(&system, &bob, &saved).await?;
    a_stranger_sees_nothing(&mallory, &saved, &first).await?;
    the_tag_moves(&system, &alice, &saved).await?;
    let keys = [alice_key, system.api.admin_key()?];
    nothing_leaked(&system, &secrets, &keys).await
}

async fn system(options: Options, mounts: &TempDir) -> Result<System> {
    for directory in ["home/alice", "home/bob", "work"] {
        std::fs::create_dir_all(mounts.path().join(directory))?;
    }
    let at = mounts.path().display();
    let configuration = format!(
        "[[catalog]]\nname = \"{IMAGE}\"\nimage = \"{IMAGE}\"\n\
         [[mounts]]\ntarget = \"/home/{{user}}\"\nsource = \"{at}/home/{{user}}\"\n\
         [[mounts]]\ntarget = \"/work\"\nsource = \"{at}/work\"\n"
    );
    options.proxied().configuration(&configuration).start().await
}

/// Adds, changes and deletes; writes into the mounts, too, and starts a process that goes on writing.
async fn change(system: &System, saved: &Launched, secrets: &Secrets) -> Result<()> {
    let engine = system.dockerd();
    let script = format!(
        "set -e
         test \"$API_TOKEN\" = {token} && test \"$WORD\" = {word}
         mkdir -p /srv/new && echo added > /srv/new/file && chown 1000:1000 /srv/new/file && chmod 4750 /srv/new/file
         echo changed >> /etc/group
         rm -r /var/tmp && rm /bin/yes
         dd if=/dev/urandom of=/srv/weights bs=1M count=4 2>/dev/null
         echo {home} > /home/alice/private; echo {work} > /work/data",
        token = secrets.token,
        word = secrets.word,
        home = secrets.home,
        work = secrets.work,
    );
    root(engine, &saved.docker_id, &script).await?;
    let counter = "while :; do echo tick >> /tmp/ticks; usleep 20000; done";
    flow::background(engine, &saved.docker_id, counter).await?;
    ticks(system, saved, 1).await.map(drop)
}

/// Waits until the container's own process has written more than so many lines.
async fn ticks(system: &System, saved: &Launched, more_than: usize) -> Result<usize> {
    eventually(LIMIT, "the container's process to write", async || {
        let count = root(system.dockerd(), &saved.docker_id, "wc -l < /tmp/ticks").await.ok()?;
        count.trim().parse().ok().filter(|count| *count > more_than)
    })
    .await
}

/// Saves while the upload is held half-way: bytes are seen to be done, and the container runs.
async fn first_save(system: &System, alice: &Api, saved: &Launched) -> Result<Value> {
    let engine = system.dockerd();
    let started = ["inspect", "--format", "{{.State.StartedAt}} {{.State.Pid}}", &saved.docker_id];
    let before = engine.docker(&started).await?;
    let proxy = &system.proxies.as_ref().context("find the proxies")?.registry;
    let gate = proxy.hold_after(Rule::on("PATCH", "/blobs/uploads/"), 512 * 1024);

    let job = flow::save(alice, &saved.id, &json!({"tag": "v1"})).await?;
    gate.reached(LIMIT).await?;
    let halfway = |job: &Value| {
        // Docker counts what it has read; the sockets on the way hold a few megabytes, so that may be all of it.
        let (done, total) = (&job["progress"]["bytes_done"], &job["progress"]["bytes_total"]);
        matches!(job["step"].as_str(), Some("read" | "upload"))
            && done.as_u64() > Some(0)
            && total.as_u64() >= done.as_u64().max(Some(4 << 20))
    };
    alice.wait_job_until(&job, LIMIT, "progress in bytes", halfway).await?;
    let so_far = ticks(system, saved, 0).await?;
    ticks(system, saved, so_far).await.context("run on while the image is uploaded")?;
    gate.open();
    let job = alice.wait_success(&job, JOB_LIMIT).await?;
    proxy.clear();

    assert_eq!(engine.docker(&started).await?, before, "the saved container was started anew");
    assert_eq!(flow::status(engine, &saved.docker_id).await?, "running");
    let so_far = ticks(system, saved, 0).await?;
    ticks(system, saved, so_far).await.context("run on after the save")?;
    let notes = flow::notes(&job);
    for mount in ["/home/alice", "/work"] {
        assert!(notes.contains(mount), "the notes do not name {mount}: {notes}");
    }
    assert!(job["size_bytes"].as_u64() > Some(4 << 20), "{job:#}");
    let left = engine.docker(&["images", "--quiet", "--filter", "label=mothball.job"]).await?;
    assert_eq!(left, "", "the save left images on the node");
    Ok(job)
}

async fn relaunched_by_another_member(system: &System, bob: &Api, saved: &Launched) -> Result<()> {
    let engine = system.dockerd();
    let copy = flow::launch(bob, "copy", "rich:v1").await?;
    assert_ne!(copy.docker_id, saved.docker_id);
    let check = "set -ex
        test \"$(cat /srv/new/file)\" = added
        test \"$(stat -c '%a %u %g' /srv/new/file)\" = '4750 1000 1000'
        test \"$(tail -n 1 /etc/group)\" = changed
        test ! -e /var/tmp && test ! -e /bin/yes
        test ! -e /home/alice/private
        sha256sum /srv/weights";
    let weights = root(engine, &copy.docker_id, check).await.context("find the files in the copy")?;
    assert_eq!(weights, root(engine, &saved.docker_id, "sha256sum /srv/weights").await?);

    // The container's settings as Docker has them: the image's own, and of the launcher's only this launch's.
    let config = engine.docker(&["inspect", "--format", "{{json .Config}}", &copy.docker_id]).await?;
    let config: Value = serde_json::from_str(&config)?;
    assert_eq!(config["Entrypoint"], json!(["/bin/sh", "-c"]));
    assert!(config["Cmd"][0].as_str().is_some_and(|cmd| cmd.starts_with("trap 'exit 0' TERM")), "{config:#}");
    assert_eq!(config["Env"], json!(["WORD=hello", "PATH=/bin:/opt/bin"]));
    assert_eq!((&config["User"], &config["WorkingDir"]), (&json!("user"), &json!("/srv")));
    assert_eq!(config["Labels"]["team"], "vision");
    assert_eq!(config["Labels"]["mothball.container"], copy.id.as_str());
    assert_eq!(config["ExposedPorts"], json!({"8080/tcp": {}}));
    assert_eq!(config["Healthcheck"]["Test"], json!(["CMD-SHELL", "true"]));
    Ok(())
}

/// To somebody of another project nothing of this exists, whatever they ask.
async fn a_stranger_sees_nothing(mallory: &Api, saved: &Launched, job: &Value) -> Result<()> {
    let (id, job) = (&saved.id, flow::text(&job["id"]));
    let (get, post) = (Method::GET, Method::POST);
    for (path, methods) in [
        (format!("/v1/containers/{id}"), vec![get.clone(), Method::DELETE, Method::PATCH]),
        ("/v1/containers/box".to_owned(), vec![get.clone()]),
        (format!("/v1/containers/{id}/start"), vec![post.clone()]),
        (format!("/v1/containers/{id}/stop"), vec![post.clone()]),
        (format!("/v1/containers/{id}/park"), vec![post.clone()]),
        ("/v1/images/rich:v1".to_owned(), vec![get.clone(), Method::DELETE]),
        ("/v1/images/rich:v1?project=lab".to_owned(), vec![get.clone(), Method::DELETE]),
        ("/v1/containers?project=lab".to_owned(), vec![get.clone()]),
        ("/v1/images?project=lab".to_owned(), vec![get.clone()]),
        (format!("/v1/jobs/{job}"), vec![get.clone()]),
        (format!("/v1/jobs/{job}/events"), vec![get.clone()]),
        (format!("/v1/jobs/{job}/cancel"), vec![post.clone()]),
        (format!("/v1/jobs/{job}/retry"), vec![post.clone()]),
    ] {
        for (asked, status) in people::knock(mallory, &path, &methods).await? {
            assert_eq!(status, 404, "{asked}");
        }
    }
    let save = mallory.post(&format!("/v1/containers/{id}/snapshots"), &json!({"tag": "mine"})).await?;
    assert_eq!(save.status, 404, "{}", save.json);
    let launch = json!({"name": "mine", "image": "rich:v1", "flavor": "cpu-small"});
    let launch = mallory.post("/v1/containers", &launch).await?;
    assert!(matches!(launch.status, 404 | 422), "a stranger launched it: {} {}", launch.status, launch.json);
    for list in ["/v1/containers", "/v1/images", "/v1/jobs"] {
        assert_eq!(mallory.get(list).await?.expect(200)?["items"], json!([]), "{list}");
    }
    Ok(())
}

/// Overwriting a tag moves `updated_at` and nothing else of its history; what it named before can still be pulled.
async fn the_tag_moves(system: &System, alice: &Api, saved: &Launched) -> Result<()> {
    let before = flow::image(alice, "rich:v1").await?;
    root(system.dockerd(), &saved.docker_id, "echo second > /srv/new/file").await?;
    flow::save_and_keep(alice, &saved.id, "v1").await?;
    let after = flow::image(alice, "rich:v1").await?;
    assert_eq!(before["created_at"], after["created_at"]);
    let at = |image: &Value| image["updated_at"].as_str().map(str::parse::<jiff::Timestamp>);
    let (earlier, later) = (at(&before).context("no time")??, at(&after).context("no time")??);
    assert!(later > earlier, "{earlier} {later}");
    assert_ne!(before["digest"], after["digest"]);

    let registry = system.registry.url();
    let (repository, old) = image::parts(before["reference"].as_str().context("no reference")?)?;
    let old = image::read_back(&registry, repository, old).await.context("read what the tag named before")?;
    no_trace_of_the_launch(&old)?;
    let tag = image::tagged(&registry, repository, "v1").await?;
    assert_eq!(tag.as_deref(), after["digest"].as_str());
    // As one would pull it: nothing of it is taken from this engine.
    let engine = system.dockerd();
    for reference in [&before["reference"], &after["reference"]] {
        engine.docker(&["pull", reference.as_str().unwrap_or_default()]).await?;
    }
    let again = flow::launch(alice, "again", "rich:v1").await?;
    assert_eq!(root(engine, &again.docker_id, "cat /srv/new/file").await?, "second");
    Ok(())
}

/// Neither the config nor the manifest names anything that was the container's and not its image's.
fn no_trace_of_the_launch(image: &Image) -> Result<()> {
    let words =
        ["API_TOKEN", "mothball.", "container_config", "trap 'exit 0' TERM; while"].map(str::to_owned);
    let shown = serde_json::to_string(&image.config)?;
    // Once, as the image's own CMD, and not in the history of our layer as well.
    let found = hunt::found_in("the config", shown.as_bytes(), &words[..3]);
    assert_eq!(found, Vec::<String>::new(), "{:#}", image.config);
    assert_eq!(shown.matches(&words[3]).count(), 1, "{:#}", image.config);
    // What a manifest's annotations say under our name is where the image comes from, and meant to be read.
    let manifest = serde_json::to_string(&image.manifest)?;
    let words: Vec<String> = words.into_iter().filter(|word| word != "mothball.").collect();
    assert_eq!(hunt::found_in("the manifest", manifest.as_bytes(), &words), Vec::<String>::new());
    Ok(())
}

/// Neither what the launcher injected nor what lay in mounts is in the registry, in any blob, index or unfinished upload;
/// keys and injected values are in no log.
async fn nothing_leaked(system: &System, secrets: &Secrets, keys: &[String]) -> Result<()> {
    let Secrets { token, word, home, work } = secrets;
    let mounted = [home.clone(), work.clone(), "home/alice/private".to_owned(), "work/data".to_owned()];
    let words = [&[token.clone(), word.clone()], &mounted[..], keys].concat();
    // That the hunt can find: what is in the image is found, inside of a layer.
    let known = ["srv/new/file".to_owned()];
    ensure!(!hunt::hunt(&storage(&system.registry), &known).await?.is_empty(), "the hunt is blind");
    let found = hunt::hunt(&storage(&system.registry), &words).await?;
    assert_eq!(found, Vec::<String>::new(), "the registry's disk holds secrets");

    let servers = [Some(&system.api), system.scheduler.as_ref(), system.nodes[0].worker.as_ref()];
    let words = [&[token.clone(), word.clone()], keys].concat();
    for server in servers.into_iter().flatten() {
        let log = server.log();
        ensure!(log.contains("job settled") || system.redis.is_some(), "the log is empty");
        assert_eq!(hunt::found_in("the log", log.as_bytes(), &words), Vec::<String>::new());
    }
    Ok(())
}

fn storage(registry: &Registry) -> std::path::PathBuf {
    registry.directory().to_owned()
}
