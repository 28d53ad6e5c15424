//! What a container writes between the saved instant and its removal is never lost: either its last line is in the image, or
//! the container is still there.

use std::time::Duration;

use anyhow::{Context as _, Result};
use mothball_harness::http::Api;
use mothball_harness::proxy::{Gate, Proxy};
use mothball_harness::system::{BASE, JOB_LIMIT, Options, Pair, System};
use mothball_tests::flow::{self, Launched, save_and_delete};
use mothball_tests::image::{read_back, tagged};
use mothball_tests::writers::{Witness, Writers};
use mothball_tests::{moments, on_both_pairs, soak};
use serde_json::json;

use crate::faults::by_engine;

on_both_pairs!(
    the_last_line_is_in_the_image_round_after_round,
    nothing_is_lost_while_the_registry_is_slow_or_a_proof_fails,
    nothing_is_lost_by_cancel_protection_or_a_stranger_who_thaws,
);

const LIMIT: Duration = Duration::from_mins(1);

async fn the_last_line_is_in_the_image_round_after_round(pair: Pair) -> Result<()> {
    rounds(System::options(pair)).await
}

#[tokio::test]
async fn the_last_line_is_in_the_image_where_docker_engine_saves() -> Result<()> {
    rounds(by_engine(System::options(Pair::Embedded))).await
}

async fn rounds(options: Options) -> Result<()> {
    let witness = Witness::new()?;
    let system = options.configuration(&witness.configuration()).start().await?;
    let (api, engine) = (system.operator()?, system.dockerd());
    let writers = witness.writers("rounds");
    let mut container = flow::launch(&api, "box", BASE).await?;
    for round in 1..=soak::size(3, 100) {
        writers.start(engine, &container.docker_id).await?;
        let tag = format!("r{round}");
        save_and_delete(&api, &container.id, &tag).await?;
        assert_eq!(flow::status(engine, &container.docker_id).await?, "absent");
        container = flow::launch(&api, "box", &format!("base:{tag}")).await?;
        writers.are_whole_in(engine, &container.docker_id).await.with_context(|| format!("round {round}"))?;
    }
    Ok(())
}

/// A container full of writers in a system whose registry's every request can be held.
struct Case<'a> {
    system: &'a System,
    api: Api,
    writers: Writers<'a>,
    name: String,
    container: Launched,
}

async fn proxied(pair: Pair, witness: &Witness) -> Result<System> {
    let options = System::options(pair).proxied().configuration(&witness.configuration());
    options.env("MOTHBALL_JOBS__RETRY_FIRST", "100ms").start().await
}

impl<'a> Case<'a> {
    async fn start(system: &'a System, witness: &'a Witness, name: &str) -> Result<Self> {
        let api = system.operator()?;
        let container = flow::launch(&api, name, BASE).await?;
        let writers = witness.writers(name);
        writers.start(system.dockerd(), &container.docker_id).await?;
        Ok(Self { system, api, writers, name: name.to_owned(), container })
    }

    fn registry(&self) -> Result<&'a Proxy> {
        Ok(&self.system.proxies.as_ref().context("find the proxies")?.registry)
    }

    /// Holds what is brought into the registry once the container is frozen.
    fn hold_frozen_upload(&self) -> Result<Gate> {
        let docker = self.system.nodes[0].socket.as_ref().context("find the proxies")?;
        Ok(self.registry()?.hold(moments::frozen_upload(docker).times(1)))
    }

    /// Asks for save-then-delete under the case's own tag.
    async fn save_then_delete(&self) -> Result<String> {
        flow::save(&self.api, &self.container.id, &json!({"tag": self.name, "then": "delete"})).await
    }

    async fn status(&self) -> Result<String> {
        flow::status(self.system.dockerd(), &self.container.docker_id).await
    }

    /// The container is frozen, and its writers are, too.
    async fn is_frozen(&self) -> Result<()> {
        assert_eq!(self.status().await?, "paused");
        self.writers.are_frozen(self.system.dockerd()).await
    }

    /// The container is there and thawed: its writers write on.
    async fn writes_on(&self) -> Result<()> {
        assert_eq!(self.status().await?, "running");
        self.writers.write_on(&self.writers.seen()?).await
    }

    /// Waits for the success of the job; then the container is gone and its image has every line.
    async fn ends_whole(&self, job: &str) -> Result<()> {
        self.api.wait_success(job, JOB_LIMIT).await?;
        assert_eq!(self.status().await?, "absent");
        let copy = format!("{}-copy", self.name);
        let copy = flow::launch(&self.api, &copy, &format!("base:{}", self.name)).await?;
        self.writers.are_whole_in(self.system.dockerd(), &copy.docker_id).await
    }

    /// Saves and deletes once more, undisturbed.
    async fn ends_whole_after_all(&self) -> Result<()> {
        let job = self.save_then_delete().await?;
        self.ends_whole(&job).await
    }
}

async fn nothing_is_lost_while_the_registry_is_slow_or_a_proof_fails(pair: Pair) -> Result<()> {
    let witness = Witness::new()?;
    let system = proxied(pair, &witness).await?;
    slow_registry(&Case::start(&system, &witness, "slow").await?).await.context("a slow registry")?;
    failed_proof(&Case::start(&system, &witness, "proof").await?).await.context("a failed proof")
}

async fn slow_registry(case: &Case<'_>) -> Result<()> {
    let registry = case.registry()?;
    let (upload, proof) = (case.hold_frozen_upload()?, registry.hold(moments::proof().times(1)));
    let job = case.save_then_delete().await?;
    upload.reached(LIMIT).await?;
    case.is_frozen().await?;
    upload.open();
    proof.reached(LIMIT).await?;
    case.is_frozen().await?;
    proof.open();
    case.ends_whole(&job).await
}

/// The first proof fails: the container is thawed and goes on, and the second attempt saves it as it is then.
async fn failed_proof(case: &Case<'_>) -> Result<()> {
    let registry = case.registry()?;
    let proof = registry.hold(moments::proof().times(1));
    let job = case.save_then_delete().await?;
    proof.reached(LIMIT).await?;
    let again = registry.hold(moments::greeting());
    let (repository, digest) = moments::put_last(registry)?;
    let image = read_back(&case.system.registry.url(), &repository, &digest).await?;
    case.system.registry.remove_blob(image.layers.last().context("an image without layers")?)?;
    proof.open();
    again.reached(LIMIT).await?;
    case.writes_on().await?;
    again.open();
    case.ends_whole(&job).await
}

async fn nothing_is_lost_by_cancel_protection_or_a_stranger_who_thaws(pair: Pair) -> Result<()> {
    let witness = Witness::new()?;
    let system = proxied(pair, &witness).await?;
    cancelled(&Case::start(&system, &witness, "cancel").await?).await.context("a cancel")?;
    protected(&Case::start(&system, &witness, "protect").await?).await.context("a protection")?;
    thawed(&Case::start(&system, &witness, "thaw").await?).await.context("a stranger who thaws")
}

/// A cancel during the upload: thawed, nothing deleted, no tag.
async fn cancelled(case: &Case<'_>) -> Result<()> {
    let upload = case.hold_frozen_upload()?;
    let job = case.save_then_delete().await?;
    upload.reached(LIMIT).await?;
    case.is_frozen().await?;
    flow::cancel(&case.api, &job).await?;
    let job = case.api.wait_job(&job, JOB_LIMIT).await?;
    assert_eq!(job["state"], "cancelled", "{job:#}");
    case.writes_on().await?;
    upload.open();
    assert_eq!(case.api.get("/v1/images/base:cancel").await?.status, 404);
    assert_eq!(tagged(&case.system.registry.url(), "default/base", "cancel").await?, None);
    case.ends_whole_after_all().await
}

/// Protected while it is saved: the image is there, and so is the container.
async fn protected(case: &Case<'_>) -> Result<()> {
    let upload = case.hold_frozen_upload()?;
    let job = case.save_then_delete().await?;
    upload.reached(LIMIT).await?;
    let protect = async |on: bool| {
        let path = format!("/v1/containers/{}", case.container.id);
        case.api.patch(&path, &json!({"protected": on})).await?.expect(200)
    };
    protect(true).await?;
    upload.open();
    let job = case.api.wait_failure(&job, "engine", JOB_LIMIT).await?;
    assert_eq!(job["attempt"], 1, "another attempt would only repeat it: {job:#}");
    let message = flow::text(&job["error"]["message"]);
    assert!(message.contains("protected"), "{message}");
    case.writes_on().await?;
    flow::image(&case.api, "base:protect").await?;
    let container = flow::container(&case.api, &case.container.id).await?;
    assert_eq!((&container["state"], &container["protected"]), (&json!("ready"), &json!(true)));
    protect(false).await?;
    case.ends_whole_after_all().await
}

/// Somebody else lets the container run during the upload and freezes it again: the attempt fails, the container stays.
async fn thawed(case: &Case<'_>) -> Result<()> {
    let (engine, docker_id) = (case.system.dockerd(), case.container.docker_id.as_str());
    let upload = case.hold_frozen_upload()?;
    let job = case.save_then_delete().await?;
    upload.reached(LIMIT).await?;
    case.is_frozen().await?;
    engine.docker(&["unpause", docker_id]).await?;
    case.writes_on().await?;
    engine.docker(&["pause", docker_id]).await?;
    let again = case.registry()?.hold(moments::greeting());
    upload.open();
    // Docker greets the registry before its push, too: that one has passed already.
    again.reached(LIMIT).await.context("begin a second attempt")?;
    let failed = case.api.job(&job).await?;
    assert_eq!((&failed["attempt"], &failed["error"]["class"]), (&json!(2), &json!("engine")), "{failed:#}");
    case.writes_on().await.context("go on between two attempts")?;
    again.open();
    case.ends_whole(&job).await
}
