//! The store dies and comes back, or hangs for longer than a lease, in the middle of jobs: nothing that was answered is lost,
//! nothing is deleted without a fresh word from it, and the API says meanwhile that it cannot work.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use mothball_harness::http::Api;
use mothball_harness::proxy::Gate;
use mothball_harness::redis::Redis;
use mothball_harness::system::{Pair, System};
use mothball_harness::wait::eventually;
use serde_json::json;

use crate::faults::{
    At, SOON, assert_clean, digest_of_tag, events, is_frozen, launch, options, proxy, save, saved_note,
};

/// Where a job stands when the store goes: held at this request, before it or after it.
#[derive(Clone, Copy, Debug)]
struct Moment {
    name: &'static str,
    /// None for a job that is queued, without a worker to take it.
    at: Option<At>,
    after: bool,
    /// The container is there as long as the store is away.
    kept: bool,
}

const LOOK: At = At::docker("POST", "/containers/{id}/pause").then("GET", "/containers/{id}/json");

const MOMENTS: [Moment; 5] = [
    Moment { name: "queued", at: None, after: false, kept: true },
    Moment {
        name: "freeze",
        at: Some(At::docker("POST", "/containers/{id}/pause")),
        after: false,
        kept: true,
    },
    Moment { name: "upload", at: Some(At::registry("PATCH", "/blobs/uploads/")), after: false, kept: true },
    Moment { name: "before-delete", at: Some(LOOK), after: false, kept: true },
    Moment {
        name: "after-delete",
        at: Some(At::docker("DELETE", "/containers/{id}")),
        after: true,
        kept: false,
    },
];

/// Of these the lease ends while the store hangs.
const SLOW: [Moment; 2] = [MOMENTS[2], MOMENTS[3]];

/// Failures that this suite injects.
pub(crate) fn cases() -> usize {
    MOMENTS.len() + SLOW.len()
}

#[tokio::test]
async fn killed_and_started_again() -> Result<()> {
    let mut system = options(Pair::Servers).start().await?;
    for moment in MOMENTS {
        let began = Instant::now();
        let done = killed(&mut system, moment).await;
        done.with_context(|| format!("{}; the worker's log:\n{}", moment.name, system.worker().log()))?;
        println!("{}: {:?}", moment.name, began.elapsed());
    }
    Ok(())
}

async fn killed(system: &mut System, moment: Moment) -> Result<()> {
    let api = system.operator()?;
    let (container, docker_id) = launch(system, moment.name).await?;
    let gate = hold(system, moment, &docker_id)?;
    if moment.at.is_none() {
        system.worker().kill9();
    }
    let job = save(&api, &container, moment.name, "delete").await?;
    if let Some(gate) = &gate {
        gate.reached(SOON).await?;
    }

    redis(system)?.kill9();
    unable(&api).await?;
    if let Some(gate) = &gate {
        let tried = asks_in_vain(system);
        gate.open();
        // The worker has come to where it needs the store, and asks again.
        eventually(SOON, "the worker's question", async || (asks_in_vain(system) > tried + 1).then_some(()))
            .await?;
    }
    nothing_deleted(system, moment, &docker_id).await?;

    redis(system)?.start_again().await?;
    able(&api).await?;
    if moment.at.is_none() {
        system.worker().start_again().await?;
    }
    let done = api.wait_success(&job, SOON).await?;
    ensure!(done["attempt"] == 1 && events(&done, "succeeded") == 1, "it ran more than once: {done:#}");
    deleted_once(system, &api, moment, &docker_id).await
}

#[tokio::test]
async fn hangs_for_longer_than_the_lease() -> Result<()> {
    let mut system = options(Pair::Servers).env("MOTHBALL_JOBS__LEASE", "2s").start().await?;
    for moment in SLOW {
        let began = Instant::now();
        let done = hung(&mut system, moment).await;
        done.with_context(|| format!("{}; the worker's log:\n{}", moment.name, system.worker().log()))?;
        println!("{} of a store that hangs: {:?}", moment.name, began.elapsed());
    }
    Ok(())
}

async fn hung(system: &mut System, moment: Moment) -> Result<()> {
    let api = system.operator()?;
    let (container, docker_id) = launch(system, moment.name).await?;
    let gate = hold(system, moment, &docker_id)?.context("a moment without a gate")?;
    let job = save(&api, &container, moment.name, "delete").await?;
    gate.reached(SOON).await?;

    let since = Instant::now();
    redis(system)?.pause();
    unable(&api).await?;
    let tried = asks_in_vain(system);
    gate.open();
    eventually(SOON, "the worker's question, and the end of the lease", async || {
        (asks_in_vain(system) > tried && since.elapsed() > Duration::from_secs(4)).then_some(())
    })
    .await?;
    nothing_deleted(system, moment, &docker_id).await?;
    redis(system)?.resume();
    able(&api).await?;

    // Who is first decides: the holder renews and goes on, or the scheduler takes the job away and it is done anew.
    let done = api.wait_success(&job, SOON).await?;
    let attempts = done["attempt"].as_u64().unwrap_or_default() as usize;
    ensure!(attempts <= 2 && events(&done, "succeeded") == 1, "it did not end once: {done:#}");
    ensure!(events(&done, "lease_expired") == attempts - 1, "{done:#}");
    deleted_once(system, &api, moment, &docker_id).await
}

fn hold(system: &System, moment: Moment, docker_id: &str) -> Result<Option<Gate>> {
    let Some(at) = moment.at else { return Ok(None) };
    let way = proxy(system, at.way)?;
    way.forget();
    let rule = at.rule(docker_id, moment.name);
    Ok(Some(if moment.after { way.hold_answer(rule) } else { way.hold(rule) }))
}

fn redis(system: &mut System) -> Result<&mut Redis> {
    system.redis.as_mut().context("the system has no Redis")
}

/// How often the worker has asked a store that does not answer.
fn asks_in_vain(system: &System) -> usize {
    let worker =
        system.nodes[0].worker.as_ref().map(mothball_harness::mothball::Mothball::log).unwrap_or_default();
    worker.matches("trying again").count()
}

/// The API says that it cannot work, in the form that callers understand, and that it may later.
async fn unable(api: &Api) -> Result<()> {
    for answer in [
        api.get("/v1/containers").await?,
        api.post("/v1/containers", &json!({"name": "x2", "image": "base:latest", "flavor": "cpu-small"}))
            .await?,
    ] {
        ensure!(answer.headers.contains_key("retry-after"), "no Retry-After: {:?}", answer.headers);
        let code = answer.problem(503)?;
        ensure!(code == "unavailable" || code == "timeout", "{code}");
    }
    ensure!(api.get("/readyz").await?.status == 503, "it calls itself ready");
    api.get("/livez").await?.expect(200).map(drop)
}

async fn able(api: &Api) -> Result<()> {
    let ready = async || (api.get("/readyz").await.ok()?.status == 200).then_some(());
    eventually(SOON, "readiness", ready).await?;
    let works = async || (api.get("/v1/containers").await.ok()?.status == 200).then_some(());
    eventually(SOON, "an answer of the API", works).await
}

/// As long as the store cannot say that the job is still ours and wanted, the container is there.
async fn nothing_deleted(system: &System, moment: Moment, docker_id: &str) -> Result<()> {
    if moment.kept {
        let there = is_frozen(system, docker_id).await?.is_some();
        ensure!(there, "the container was deleted without a word from the store");
    }
    Ok(())
}

async fn deleted_once(system: &System, api: &Api, moment: Moment, docker_id: &str) -> Result<()> {
    ensure!(is_frozen(system, docker_id).await?.is_none(), "it was not deleted");
    let digest = digest_of_tag(system, moment.name).await?;
    ensure!(digest.is_some(), "the image is not in the registry");
    let saved = saved_note(system, api, &format!("base:{}", moment.name)).await?;
    ensure!(saved == moment.name, "the image has {saved:?}");
    assert_clean(system).await
}
