//! The broker is away, closes, hangs, or refuses us. The record is the promise: submits are accepted all the while, and every
//! job ends, once, when the broker is back.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use mothball_harness::http::Api;
use mothball_harness::mothball::binary;
use mothball_harness::rabbitmq::RabbitMq;
use mothball_harness::system::{BASE, Pair, System};
use mothball_harness::wait::eventually;
use serde_json::json;
use tokio::process::Command;

use crate::faults::{At, SOON, Way, assert_clean, events, is_frozen, launch, options, proxy, save};

/// How the broker fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outage {
    /// Stopped in order inside its node: the port refuses.
    Stopped,
    /// Killed, with its node.
    Killed,
    /// Everything stays open and nothing moves.
    Hangs,
    /// Every connection is closed once.
    Closes,
}

const OUTAGES: [Outage; 4] = [Outage::Closes, Outage::Hangs, Outage::Stopped, Outage::Killed];
/// A submit answers within this, with or without a broker: it waits a second for the broker and no longer.
const QUICK: Duration = Duration::from_secs(4);
/// Publications that must have failed before the broker comes back.
const RETRIES: usize = 8;

/// Failures that this suite injects.
pub(crate) fn cases() -> usize {
    OUTAGES.len() + 1
}

#[tokio::test]
async fn outages() -> Result<()> {
    let mut system = options(Pair::Servers).own_broker().start().await?;
    for outage in OUTAGES {
        let began = Instant::now();
        survive(&mut system, outage).await.with_context(|| format!("{outage:?}"))?;
        println!("{outage:?}: {:?}", began.elapsed());
    }
    Ok(())
}

async fn survive(system: &mut System, outage: Outage) -> Result<()> {
    let api = system.operator()?;
    let name = format!("{outage:?}").to_lowercase();
    let (container, docker_id) = launch(system, &name).await?;
    // A job that runs when the broker goes does not need it to come to its end.
    let gate =
        proxy(system, Way::Registry)?.hold(At::registry("PATCH", "/blobs/uploads/").rule(&docker_id, &name));
    let running = save(&api, &container, &name, "keep").await?;
    gate.reached(SOON).await?;

    let failed_before = failed_publications(system);
    begin(system, outage).await?;
    let mut jobs = Vec::new();
    for number in 0..3 {
        let body = json!({"name": format!("{name}-{number}"), "image": BASE, "flavor": "cpu-small"});
        let asked = Instant::now();
        jobs.push(api.post("/v1/containers", &body).await?.job_id(202)?);
        ensure!(asked.elapsed() < QUICK, "the submit took {:?}", asked.elapsed());
    }
    gate.open();
    let done = api.wait_success(&running, SOON).await?;
    ensure!(done["attempt"] == 1, "it ran more than once: {done:#}");
    if outage != Outage::Closes {
        let retried = async || (failed_publications(system) >= failed_before + RETRIES).then_some(());
        eventually(SOON, "publications in vain", retried).await?;
        for job in &jobs {
            let state = api.job(job).await?["state"].clone();
            ensure!(state == "queued", "it is {state}, without a wake-up");
        }
    }
    // A broker that is away does not make anybody unready.
    api.get("/readyz").await?.expect(200)?;
    end(system, outage).await?;
    all_end_once(&api, &jobs).await?;
    ensure!(is_frozen(system, &docker_id).await? == Some(false), "it does not run");
    assert_clean(system).await
}

async fn begin(system: &mut System, outage: Outage) -> Result<()> {
    match outage {
        Outage::Stopped => rabbit(system)?.stop_app().await,
        Outage::Killed => {
            rabbit(system)?.kill9();
            Ok(())
        }
        Outage::Hangs => {
            broker_proxy(system)?.freeze();
            Ok(())
        }
        Outage::Closes => system.vhost.as_ref().context("no virtual host")?.close_connections().await,
    }
}

async fn end(system: &mut System, outage: Outage) -> Result<()> {
    match outage {
        Outage::Stopped => rabbit(system)?.start_app().await,
        Outage::Killed => rabbit(system)?.start_again().await,
        Outage::Hangs => {
            broker_proxy(system)?.thaw();
            Ok(())
        }
        Outage::Closes => Ok(()),
    }
}

fn rabbit(system: &mut System) -> Result<&mut RabbitMq> {
    system.rabbit.as_mut().context("the broker is not the system's own")
}

fn broker_proxy(system: &System) -> Result<&mothball_harness::proxy::Proxy> {
    system.proxies.as_ref().and_then(|proxies| proxies.broker.as_ref()).context("no proxy before the broker")
}

fn failed_publications(system: &System) -> usize {
    let log = system.scheduler.as_ref().map(mothball_harness::mothball::Mothball::log).unwrap_or_default();
    log.matches("could not be published").count()
}

async fn all_end_once(api: &Api, jobs: &[String]) -> Result<()> {
    for job in jobs {
        let done = api.wait_success(job, SOON).await?;
        ensure!(done["attempt"] == 1 && events(&done, "claimed") == 1, "it ran more than once: {done:#}");
    }
    Ok(())
}

/// A wrong password is seen: in the log, and in what doctor says; but never in clear. The API works without the broker.
#[tokio::test]
async fn a_wrong_password() -> Result<()> {
    const WRONG: &str = "wrong-p%40ssword";
    let system = options(Pair::Servers).start().await?;
    let url = system.vhost.as_ref().context("no virtual host")?.url();
    let (user, rest) = url.rsplit_once('@').context("no password in the URL")?;
    let (user, _) = user.rsplit_once(':').context("no password in the URL")?;
    let wrong = format!("{user}:{WRONG}@{rest}");

    let api = system.another("api").env("MOTHBALL_QUEUE__URL", &wrong).start().await?;
    api.api()?.get("/readyz").await?.expect(200)?;
    // Another data directory has another key; what counts is who asks.
    let asked = Instant::now();
    let body = json!({"name": "box", "image": BASE, "flavor": "cpu-small"});
    let job =
        api.api()?.with_key(&system.api.admin_key()?).post("/v1/containers", &body).await?.job_id(202)?;
    ensure!(asked.elapsed() < QUICK, "the submit took {:?}", asked.elapsed());
    all_end_once(&system.operator()?, &[job]).await?;
    eventually(SOON, "a word in the log", async || api.log().contains("refuse").then_some(())).await?;

    let doctor = Command::new(binary()?)
        .env_clear()
        .env("MOTHBALL_DATA_DIR", api.data())
        .env("MOTHBALL_QUEUE__URL", &wrong)
        .env("MOTHBALL_STORE__URL", system.redis.as_ref().context("no store")?.url())
        .env("MOTHBALL_REGISTRY__URL", system.registry.url())
        .env("MOTHBALL_WORKER__NODE", "node-a")
        .env("MOTHBALL_WORKER__DOCKER_HOST", system.dockerd().host())
        .arg("doctor")
        .output()
        .await?;
    let said =
        format!("{}{}", String::from_utf8_lossy(&doctor.stdout), String::from_utf8_lossy(&doctor.stderr));
    ensure!(doctor.status.code() == Some(1), "doctor is content: {said}");
    let about = said.lines().find(|line| line.starts_with("fail") && line.contains("queue"));
    ensure!(about.is_some_and(|line| line.contains("refuse")), "doctor does not name the broker: {said}");
    for (place, text) in [("doctor", said), ("the log", api.log())] {
        for word in [WRONG, "wrong-p@ssword"] {
            ensure!(!text.contains(word), "{place} shows the password");
        }
    }
    Ok(())
}
