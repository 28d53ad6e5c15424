//! What is said to be saved is in the registry, for everybody; and what is not there deletes nothing.

use std::time::Duration;

use anyhow::{Context as _, Result};
use mothball_harness::dockerd::Dockerd;
use mothball_harness::http::Api;
use mothball_harness::proxy::{Gate, Proxy, Request};
use mothball_harness::system::{BASE, JOB_LIMIT, Pair, System};
use mothball_harness::wait::eventually;
use mothball_tests::flow::{self, Launched, background, root};
use mothball_tests::image::{parts, read_back, tagged};
use mothball_tests::{moments, on_both_pairs};
use serde_json::{Value, json};

on_both_pairs!(
    what_is_saved_is_in_the_registry,
    a_registry_that_lost_a_blob_deletes_nothing,
    a_registry_that_loses_a_blob_once_gets_it_again,
);

const LIMIT: Duration = Duration::from_mins(1);

async fn what_is_saved_is_in_the_registry(pair: Pair) -> Result<()> {
    let mut system = System::start(pair).await?;
    let api = system.operator()?;
    let container = flow::launch(&api, "box", BASE).await?;
    let script =
        "mkdir /srv && echo here > /srv/file && dd if=/dev/urandom of=/srv/blob bs=1M count=1 2>/dev/null
                  sha256sum /srv/blob";
    let blob = root(system.dockerd(), &container.docker_id, script).await?;
    flow::save_and_delete(&api, &container.id, "v1").await?;
    assert_eq!(flow::status(system.dockerd(), &container.docker_id).await?, "absent");

    let image = flow::image(&api, "base:v1").await?;
    let reference = image["reference"].as_str().context("no reference")?;
    let (repository, digest) = parts(reference)?;
    assert_eq!((image["digest"].as_str(), repository), (Some(digest), "default/base"));
    let whole = read_back(&system.registry.url(), repository, digest).await?;
    assert_eq!(image["layers"], whole.layers.len());
    assert_eq!(whole.config["rootfs"]["diff_ids"].as_array().map(Vec::len), Some(whole.layers.len()));
    assert_eq!(image["size_bytes"], whole.blobs.values().map(Vec::len).sum::<usize>());
    assert_eq!(tagged(&system.registry.url(), repository, "v1").await?.as_deref(), Some(digest));

    // By an engine that has never heard of Mothball, with nothing but the reference.
    let stranger = Dockerd::start().await?;
    stranger.docker(&["pull", reference]).await?;
    stranger.docker(&["run", "--detach", "--name", "box", reference]).await?;
    assert_eq!(root(&stranger, "box", "sha256sum /srv/blob").await?, blob);
    drop(stranger);

    if pair == Pair::Servers {
        // On another node; the first, which has the layers, is out of the question.
        system.add_node("node-b").await?;
        api.post("/v1/nodes/node-a/drain", &json!({})).await?.expect(200)?;
        let other = flow::launch(&api, "other", "base:v1").await?;
        assert_eq!(other.node, "node-b");
        assert_eq!(root(&system.nodes[1].dockerd, &other.docker_id, "sha256sum /srv/blob").await?, blob);
    } else {
        let again = flow::launch(&api, "again", "base:v1").await?;
        assert_eq!(root(system.dockerd(), &again.docker_id, "sha256sum /srv/blob").await?, blob);
    }
    Ok(())
}

/// A system whose registry can be robbed at the moment of the proof, and a container in it that writes all the time.
struct Robbed {
    system: System,
    api: Api,
    container: Launched,
    saved_before: String,
}

impl Robbed {
    /// Launches the container and saves it once, all being well, under the tag that is overwritten later.
    async fn start(pair: Pair) -> Result<Self> {
        let options = System::options(pair)
            .proxied()
            .env("MOTHBALL_JOBS__MAX_ATTEMPTS", "2")
            .env("MOTHBALL_JOBS__RETRY_FIRST", "100ms");
        let system = options.start().await?;
        let api = system.operator()?;
        let container = flow::launch(&api, "box", BASE).await?;
        root(system.dockerd(), &container.docker_id, "echo one > /root/file").await?;
        background(
            system.dockerd(),
            &container.docker_id,
            "while :; do echo x >> /tmp/x; usleep 20000; done",
        )
        .await?;
        flow::save_and_keep(&api, &container.id, "v1").await?;
        let saved_before = flow::text(&flow::image(&api, "base:v1").await?["digest"]);
        root(system.dockerd(), &container.docker_id, "echo two > /root/file").await?;
        Ok(Self { system, api, container, saved_before })
    }

    fn proxy(&self) -> Result<&Proxy> {
        Ok(&self.system.proxies.as_ref().context("find the proxies")?.registry)
    }

    async fn save_then_delete(&self) -> Result<String> {
        flow::save(&self.api, &self.container.id, &json!({"tag": "v1", "then": "delete"})).await
    }

    /// Waits for the proof, takes the newest layer out of the registry behind its back, and lets the proof go on.
    async fn rob(&self, proof: Gate) -> Result<()> {
        proof.reached(LIMIT).await?;
        let status = flow::status(self.system.dockerd(), &self.container.docker_id).await?;
        assert_eq!(status, "paused", "what is to be deleted stays frozen until it is proven");
        let (repository, digest) = moments::put_last(self.proxy()?)?;
        let image = read_back(&self.system.registry.url(), &repository, &digest).await?;
        self.system.registry.remove_blob(image.layers.last().context("an image without layers")?)?;
        proof.open();
        Ok(())
    }

    /// The container is there, thawed, and writes.
    async fn goes_on(&self) -> Result<()> {
        let (engine, id) = (self.system.dockerd(), &self.container.docker_id);
        assert_eq!(flow::status(engine, id).await?, "running");
        let lines = async || root(engine, id, "wc -l < /tmp/x").await.ok()?.parse::<usize>().ok();
        let before = lines().await.context("count lines")?;
        eventually(LIMIT, "the container to write on", async || lines().await.filter(|now| *now > before))
            .await?;
        Ok(())
    }

    /// Tag, record and container are as they were before the save that failed.
    async fn nothing_has_moved(&self) -> Result<()> {
        let tag = tagged(&self.system.registry.url(), "default/base", "v1").await?;
        assert_eq!(
            tag.as_deref(),
            Some(self.saved_before.as_str()),
            "the tag points at an unproven manifest"
        );
        assert_eq!(flow::image(&self.api, "base:v1").await?["digest"], self.saved_before.as_str());
        assert_eq!(flow::container(&self.api, &self.container.id).await?["state"], "ready");
        Ok(())
    }

    /// Manifest, config and every layer were read after the manifest was put and before the tag was.
    async fn was_proven_before_it_was_tagged(&self, job: &Value) -> Result<()> {
        let digest = job["digest"].as_str().context("no digest")?;
        let image = read_back(&self.system.registry.url(), "default/base", digest).await?;
        let requests = self.proxy()?.requests();
        let put = |r: &&Request, what: &str| r.method == "PUT" && r.path.ends_with(what);
        let after = requests.iter().rposition(|r| put(&r, digest)).context("the manifest was never put")?;
        let rest = &requests[after..];
        let between: Vec<_> = rest.iter().take_while(|r| !put(r, "/manifests/v1")).collect();
        for part in image.blobs.keys().map(String::as_str).chain([digest]) {
            let read =
                between.iter().any(|r| r.path.ends_with(part) && matches!(r.method.as_str(), "GET" | "HEAD"));
            assert!(read, "{part} was not read before the tag was moved: {between:#?}");
        }
        Ok(())
    }

    /// The container is deleted, and what it held last is in the image.
    async fn is_safe(&self, job: &Value) -> Result<()> {
        assert_eq!(flow::status(self.system.dockerd(), &self.container.docker_id).await?, "absent");
        let image = flow::image(&self.api, "base:v1").await?;
        assert_ne!(image["digest"], self.saved_before.as_str());
        assert_eq!(image["digest"], job["digest"]);
        let (repository, digest) = parts(image["reference"].as_str().context("no reference")?)?;
        read_back(&self.system.registry.url(), repository, digest).await?;
        let again = flow::launch(&self.api, "again", "base:v1").await?;
        assert_eq!(root(self.system.dockerd(), &again.docker_id, "cat /root/file").await?, "two");
        Ok(())
    }
}

async fn a_registry_that_lost_a_blob_deletes_nothing(pair: Pair) -> Result<()> {
    let robbed = Robbed::start(pair).await?;
    let proxy = robbed.proxy()?;
    let (first, second) = (proxy.hold(moments::proof().times(1)), proxy.hold(moments::proof().times(1)));
    let job = robbed.save_then_delete().await?;
    robbed.rob(first).await?;
    robbed.rob(second).await?;
    let job = robbed.api.wait_failure(&job, "registry", JOB_LIMIT).await?;
    assert_eq!(job["attempt"], 2, "{job:#}");
    let message = flow::text(&job["error"]["message"]);
    assert!(message.contains("layer sha256:") && message.contains("missing"), "{message}");
    robbed.goes_on().await?;
    robbed.nothing_has_moved().await?;

    // Once the registry keeps what it takes, a retry by the owner brings it all again.
    proxy.clear();
    let id = flow::text(&job["id"]);
    robbed.api.post(&format!("/v1/jobs/{id}/retry"), &json!({})).await?.expect(202)?;
    let job = robbed.api.wait_success(&id, JOB_LIMIT).await?;
    robbed.is_safe(&job).await
}

async fn a_registry_that_loses_a_blob_once_gets_it_again(pair: Pair) -> Result<()> {
    let robbed = Robbed::start(pair).await?;
    let proxy = robbed.proxy()?;
    let proof = proxy.hold(moments::proof().times(1));
    let job = robbed.save_then_delete().await?;
    proof.reached(LIMIT).await?;
    let again = proxy.hold(moments::greeting());
    robbed.rob(proof).await?;
    again.reached(LIMIT).await.context("begin a second attempt")?;
    robbed.goes_on().await.context("thaw between two attempts")?;
    robbed.nothing_has_moved().await?;
    again.open();
    let job = robbed.api.wait_success(&job, JOB_LIMIT).await?;
    assert_eq!(job["attempt"], 2, "{job:#}");
    robbed.was_proven_before_it_was_tagged(&job).await?;
    robbed.is_safe(&job).await
}
