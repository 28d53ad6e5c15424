//! What the suites that break things share: systems whose every way leads through a proxy, and what must be true whatever
//! was broken: nothing is frozen, nothing is left over, what was saved can be read back.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use mothball_harness::http::{Api, client};
use mothball_harness::proxy::{Gate, Proxy, Request, Rule};
use mothball_harness::system::{Options, Pair, System};
use mothball_harness::wait::{eventually, try_eventually};
use serde_json::{Value, json};

/// Long enough for anything that is about to happen on a busy machine.
pub(crate) const SOON: Duration = Duration::from_mins(1);
/// A lease that no test outlives: what is taken up within [`SOON`] was not taken up because a lease had ended.
pub(crate) const LONG_LEASE: &str = "10m";

/// A system to break: proxied, and impatient where a test would otherwise wait.
pub(crate) fn options(pair: Pair) -> Options {
    System::options(pair)
        .proxied()
        .env("MOTHBALL_JOBS__LEASE", LONG_LEASE)
        .env("MOTHBALL_JOBS__RETRY_FIRST", "100ms")
        .env("MOTHBALL_JOBS__RETRY_MAX", "500ms")
        .env("MOTHBALL_SCHEDULER__TICK", "100ms")
        .env("MOTHBALL_WORKER__HEARTBEAT", "1s")
        .env("MOTHBALL_WORKER__STOP_GRACE", "2s")
        .engine_arg("--max-download-attempts=1")
}

/// The same where what is deleted is removed from the registry at once, by the very job that deletes it.
pub(crate) fn without_undo(options: Options) -> Options {
    options.env("MOTHBALL_RETENTION__UNDO", "0s")
}

/// The same with nodes that save by Docker commit and push, and launch by pull.
pub(crate) fn by_engine(options: Options) -> Options {
    options.env("MOTHBALL_WORKER__SNAPSHOT", "engine")
}

/// Which way a request goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    Docker,
    Registry,
}

/// A request among all that pass: by its method and a part of its path, where `{id}` stands for the container's Docker id and
/// `{tag}` for the image's tag. With `then` it is the first such request after the first one that matches.
#[derive(Clone, Copy, Debug)]
pub(crate) struct At {
    pub(crate) way: Way,
    pub(crate) method: &'static str,
    pub(crate) part: &'static str,
    pub(crate) then: Option<(&'static str, &'static str)>,
}

impl At {
    pub(crate) const fn docker(method: &'static str, part: &'static str) -> Self {
        Self { way: Way::Docker, method, part, then: None }
    }

    pub(crate) const fn registry(method: &'static str, part: &'static str) -> Self {
        Self { way: Way::Registry, method, part, then: None }
    }

    pub(crate) const fn then(mut self, method: &'static str, part: &'static str) -> Self {
        self.then = Some((method, part));
        self
    }

    /// The rule that chooses this request, once.
    pub(crate) fn rule(&self, docker_id: &str, tag: &str) -> Rule {
        let fill = |part: &str| part.replace("{id}", docker_id).replace("{tag}", tag);
        let is = |method: &'static str, part: String| {
            move |request: &Request| request.method == method && request.path.contains(&part)
        };
        let first = is(self.method, fill(self.part));
        let Some((method, part)) = self.then else { return Rule::matching(first).times(1) };
        let second = is(method, fill(part));
        let seen = AtomicBool::new(false);
        let chosen = move |request: &Request| {
            if first(request) {
                seen.store(true, Ordering::Relaxed);
                return false;
            }
            seen.load(Ordering::Relaxed) && second(request)
        };
        Rule::matching(chosen).times(1)
    }
}

/// The proxy on a way of the first node.
pub(crate) fn proxy(system: &System, way: Way) -> Result<&Proxy> {
    match way {
        Way::Docker => system.nodes[0].socket.as_ref(),
        Way::Registry => system.proxies.as_ref().map(|proxies| &proxies.registry),
    }
    .context("the system has no proxies")
}

/// Gives up what stands at a gate, as the end of its sender would have, and lets later requests pass.
pub(crate) fn give_up(proxy: &Proxy, gate: &Gate) {
    proxy.clear();
    proxy.cut();
    gate.open();
}

/// Asks for a save; the id of the job.
pub(crate) async fn save(api: &Api, container: &str, tag: &str, then: &str) -> Result<String> {
    let body = json!({"tag": tag, "then": then});
    api.post(&format!("/v1/containers/{container}/snapshots"), &body).await?.job_id(202)
}

/// A launched container with a file that says which it is; its id in Mothball and its id at Docker.
pub(crate) async fn launch(system: &System, name: &str) -> Result<(String, String)> {
    let container = system.launch(name).await?;
    let docker_id = system.docker_id(&container).await?;
    write(system, &docker_id, name).await?;
    Ok((container, docker_id))
}

/// Adds a line to the file that every image of these suites is known by. A frozen container cannot do that.
pub(crate) async fn write(system: &System, docker_id: &str, line: &str) -> Result<()> {
    system.dockerd().sh(docker_id, &format!("echo {line} >> /note")).await.map(drop)
}

/// Whether Docker holds the container frozen; `None` when it has no such container.
pub(crate) async fn is_frozen(system: &System, docker_id: &str) -> Result<Option<bool>> {
    let all =
        system.dockerd().docker(&["ps", "--all", "--no-trunc", "--format", "{{.ID}} {{.Status}}"]).await?;
    let found = all.lines().find(|line| line.starts_with(docker_id));
    Ok(found.map(|line| line.contains("(Paused)")))
}

/// Waits until the container runs, not frozen.
pub(crate) async fn wait_thawed(system: &System, docker_id: &str) -> Result<()> {
    try_eventually(SOON, "the container to be thawed", async || {
        let frozen = is_frozen(system, docker_id).await?;
        ensure!(frozen.is_some(), "the container is gone");
        Ok((frozen == Some(false)).then_some(()))
    })
    .await
}

/// What the saved image has in the file, read back by a plain `docker run` of what the job says it saved.
pub(crate) async fn saved_note(system: &System, api: &Api, name_and_tag: &str) -> Result<String> {
    let image = api.get(&format!("/v1/images/{name_and_tag}")).await?.expect(200)?;
    let reference = image["reference"].as_str().context("the image has no reference")?.to_owned();
    let text = system.dockerd().docker(&["run", "--rm", &reference, "cat", "/note"]).await?;
    system.dockerd().docker(&["rmi", "--force", &reference]).await?;
    Ok(text)
}

/// How often the job's history names an event.
pub(crate) fn events(job: &Value, event: &str) -> usize {
    let events = job["events"].as_array();
    events.map_or(0, |events| events.iter().filter(|e| e["event"] == event).count())
}

/// Nothing is frozen, and nothing is left of jobs that are over: containers, images and tags of their own, journal, locks.
pub(crate) async fn assert_clean(system: &System) -> Result<()> {
    // A job is over before its lock is released; so all of it is waited for.
    let mut last = String::new();
    let clean = eventually(Duration::from_secs(20), "a clean node", async || {
        last = leftovers(system).await.unwrap_or_else(|error| format!("{error:#}"));
        last.is_empty().then_some(())
    })
    .await;
    clean.with_context(|| format!("left over: {last}"))
}

async fn leftovers(system: &System) -> Result<String> {
    let mut left = Vec::new();
    let docker = async |what: &str, args: &[&str]| -> Result<Option<String>> {
        let found = system.dockerd().docker(args).await?;
        Ok((!found.is_empty()).then(|| format!("{what}: {found}")))
    };
    left.extend(docker("frozen", &["ps", "--all", "--quiet", "--filter", "status=paused"]).await?);
    left.extend(docker("carriers", &["ps", "--all", "--quiet", "--filter", "label=mothball.carrier"]).await?);
    left.extend(docker("images", &["images", "--all", "--quiet", "--filter", "label=mothball.job"]).await?);
    for entry in
        std::fs::read_dir(system.dockerd().data().join("mothball-locks")).context("list the locks")?
    {
        let name = entry.context("list the locks")?.file_name().to_string_lossy().into_owned();
        if name != "worker.lock" {
            left.push(format!("lock: {name}"));
        }
    }
    left.extend(layers_on_their_way(system)?);
    left.extend(tags(system).await?.into_iter().filter(|tag| tag.starts_with("_mothball-job-")));
    Ok(left.join("; "))
}

/// The tags of the one repository that these suites save into, as the registry has them.
pub(crate) async fn tags(system: &System) -> Result<Vec<String>> {
    let url = format!("{}/v2/default/base/tags/list", system.registry.url());
    let list: Value =
        client().get(url).send().await.context("list tags")?.json().await.context("list tags")?;
    Ok(serde_json::from_value(list["tags"].clone()).unwrap_or_default())
}

/// The digest that the registry has under a tag.
pub(crate) async fn digest_of_tag(system: &System, tag: &str) -> Result<Option<String>> {
    let url = format!("{}/v2/default/base/manifests/{tag}", system.registry.url());
    let accept =
        "application/vnd.docker.distribution.manifest.v2+json, application/vnd.oci.image.manifest.v1+json";
    let answer = client().head(url).header("accept", accept).send().await.context("ask for a tag")?;
    let digest = answer.headers().get("docker-content-digest").and_then(|value| value.to_str().ok());
    Ok(digest.filter(|_| answer.status().is_success()).map(str::to_owned))
}

/// Layers that are only half in a container.
fn layers_on_their_way(system: &System) -> Result<Vec<String>> {
    let mut left = Vec::new();
    for layer in std::fs::read_dir(system.dockerd().data().join("overlay2")).context("list the layers")? {
        let staging = layer.context("list the layers")?.path().join("mothball-restore");
        if staging.exists() {
            left.push(format!("a layer on its way: {}", staging.display()));
        }
    }
    Ok(left)
}

/// Uploads in the registry that hold bytes and that nobody will end. Docker's own pushes leave some, and a lost answer leaves
/// one that docker-registry 2.8 gives nobody a way to take out; else there is none.
pub(crate) fn unfinished_uploads(system: &System) -> Result<Vec<String>> {
    let mut left = Vec::new();
    let mut folders = vec![system.registry.directory().join("data/docker/registry/v2/repositories")];
    while let Some(folder) = folders.pop() {
        let Ok(entries) = std::fs::read_dir(&folder) else { continue };
        for entry in entries {
            let path = entry.context("list the registry")?.path();
            let upload = folder.file_name().is_some_and(|name| name == "_uploads");
            // One that holds nothing may be the second one of a beginning whose answer was lost.
            if upload && std::fs::metadata(path.join("data")).is_ok_and(|data| data.len() > 0) {
                left.push(format!("an unfinished upload: {}", path.display()));
            } else if path.is_dir() {
                folders.push(path);
            }
        }
    }
    Ok(left)
}
