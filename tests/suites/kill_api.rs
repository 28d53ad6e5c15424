//! The API and the scheduler die, at the worst moment, or run twice: what was promised is done once, and nothing is published
//! without end.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use mothball_harness::claim::Claim;
use mothball_harness::http::client;
use mothball_harness::mothball::Mothball;
use mothball_harness::system::{BASE, Pair, System};
use mothball_harness::wait::{eventually, try_eventually};
use serde_json::json;

use crate::faults::{SOON, assert_clean, events, is_frozen, launch, options};

/// Where the API dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Moment {
    /// The request is in, and the store does not answer yet.
    BeforeTheRecord,
    /// The job is recorded, and the broker does not answer yet.
    BetweenRecordAndPublish,
    /// The caller has its 202.
    AfterTheAnswer,
}

const ON_SERVERS: [Moment; 3] =
    [Moment::BeforeTheRecord, Moment::BetweenRecordAndPublish, Moment::AfterTheAnswer];
const EMBEDDED: [Moment; 2] = [Moment::BetweenRecordAndPublish, Moment::AfterTheAnswer];

/// Failures that this suite injects.
pub(crate) fn cases() -> usize {
    ON_SERVERS.len() + EMBEDDED.len() + 2
}

mothball_tests::on_both_pairs!(the_api_is_killed_around_a_submit);

async fn the_api_is_killed_around_a_submit(pair: Pair) -> Result<()> {
    let mut system = options(pair).start().await?;
    let (container, docker_id) = launch(&system, "box").await?;
    let moments = if pair == Pair::Servers { ON_SERVERS.as_slice() } else { EMBEDDED.as_slice() };
    for (number, moment) in moments.iter().enumerate() {
        let tag = format!("tag-{number}");
        killed_around(&mut system, *moment, &container, &tag)
            .await
            .with_context(|| format!("{pair:?} {moment:?}"))?;
        ensure!(is_frozen(&system, &docker_id).await? == Some(false), "the container does not run");
        assert_clean(&system).await?;
    }
    Ok(())
}

async fn killed_around(system: &mut System, moment: Moment, container: &str, tag: &str) -> Result<()> {
    let api = system.operator()?;
    let freeze = |frozen: bool| {
        let proxies = system.proxies.as_ref();
        let way = match moment {
            Moment::BeforeTheRecord => proxies.and_then(|proxies| proxies.store.as_ref()),
            Moment::BetweenRecordAndPublish => proxies.and_then(|proxies| proxies.broker.as_ref()),
            Moment::AfterTheAnswer => None,
        };
        if let Some(way) = way {
            if frozen { way.freeze() } else { way.thaw() }
        }
    };
    freeze(true);
    let path = format!("/v1/containers/{container}/snapshots");
    let body = json!({"tag": tag, "then": "keep"});
    let submit = api.post_once(&path, tag, &body);
    match moment {
        Moment::AfterTheAnswer => drop(submit.await?.job_id(202)?),
        Moment::BeforeTheRecord => {
            // The request is in when the server has said that it goes on waiting; nothing tells us but time.
            let waited = tokio::time::timeout(Duration::from_millis(300), submit).await;
            ensure!(waited.is_err(), "the request was answered without the store");
        }
        Moment::BetweenRecordAndPublish => {
            let recorded = eventually(SOON, "the record", async || {
                let jobs = api.get("/v1/jobs").await.ok()?.json;
                jobs["items"].as_array()?.iter().any(|job| job["tag"] == tag).then_some(())
            });
            // Whichever comes first: with a broker that is frozen the answer is about to come, too.
            tokio::select! {
                answer = submit => drop(answer?.job_id(202)?),
                recorded = recorded => recorded?,
            }
        }
    }
    system.api.kill9();
    freeze(false);
    system.api.start_again().await?;

    // The caller asks again with its key, and has one job.
    let job = try_eventually(SOON, "the answer", async || {
        let answer = api.post_once(&path, tag, &body).await?;
        // The first minutes after a start may be too early.
        Ok((answer.status != 503).then_some(answer))
    });
    let job = job.await?.job_id(202)?;
    let done = api.wait_success(&job, SOON).await?;
    ensure!(events(&done, "succeeded") == 1, "it did not end once: {done:#}");
    let jobs = api.get("/v1/jobs?kind=snapshot").await?.expect(200)?;
    let same = jobs["items"].as_array().into_iter().flatten().filter(|job| job["tag"] == tag).count();
    ensure!(same == 1, "{same} jobs of one request");
    if system.redis.is_some() {
        // The worker was not touched.
        ensure!(done["attempt"] == 1 && events(&done, "claimed") == 1, "it ran more than once: {done:#}");
    }
    Ok(())
}

/// Two schedulers, one of which is killed in the middle of publishing; and their numbers.
#[tokio::test]
async fn schedulers_are_killed_and_run_twice() -> Result<()> {
    let options = options(Pair::Servers).env("MOTHBALL_WORKER__ALIVE_WITHIN", "10m");
    let mut system = options.start().await?;
    let api = system.operator()?;
    system.scheduler().kill9();
    let (mut one, mut two) = (Watched::start(&system).await?, Watched::start(&system).await?);

    // Jobs that nobody takes, published by schedulers alone: the API could not.
    system.worker().kill9();
    let broker = system.proxies.as_ref().and_then(|proxies| proxies.broker.as_ref()).context("no broker")?;
    broker.freeze();
    let mut jobs = Vec::new();
    for number in 0..4 {
        let body = json!({"name": format!("box-{number}"), "image": BASE, "flavor": "cpu-small"});
        jobs.push(api.post("/v1/containers", &body).await?.job_id(202)?);
    }
    // Both stand before the broker with the same jobs in hand.
    one.wait_ticks(1).await?;
    one.process.kill9();
    broker.thaw();
    one.process.start_again().await?;

    // Published at least once each, and then left alone for a while, however often the two look.
    let queued = eventually(SOON, "the publications", async || {
        let queues = system.vhost.as_ref()?.queues().await.ok()?;
        let ready =
            queues.iter().find(|(name, _)| name.ends_with(".node.node-a")).map(|(_, ready)| *ready)?;
        (ready >= jobs.len() as u64).then_some(ready)
    });
    let queued = queued.await?;
    one.wait_ticks(2).await?;
    let before = one.published().await? + two.published().await?;
    one.wait_ticks(3).await?;
    two.wait_ticks(1).await?;
    let after = one.published().await? + two.published().await?;
    ensure!(before == after, "published without end: {before}, then {after}");
    // Each of two schedulers, the one before the kill, and the API: once at most.
    ensure!(queued <= 4 * jobs.len() as u64, "{queued} messages for {} jobs", jobs.len());

    system.worker().start_again().await?;
    for job in &jobs {
        let done = api.wait_success(job, SOON).await?;
        ensure!(done["attempt"] == 1 && events(&done, "claimed") == 1, "it ran more than once: {done:#}");
    }
    two.process.kill9();
    one.process.kill9();
    // With no scheduler at all the API publishes by itself.
    let container = api.job(&jobs[0]).await?["container"].to_string();
    let job = api.delete(&format!("/v1/containers/{container}")).await?.job_id(202)?;
    api.wait_success(&job, SOON).await?;
    no_message_is_left(&system).await?;
    assert_clean(&system).await
}

async fn no_message_is_left(system: &System) -> Result<()> {
    eventually(SOON, "empty queues", async || {
        let queues = system.vhost.as_ref()?.queues().await.ok()?;
        queues.iter().all(|(_, ready)| *ready == 0).then_some(())
    })
    .await
}

/// A scheduler whose numbers can be read.
struct Watched {
    process: Mothball,
    address: String,
    _port: Claim,
}

impl Watched {
    async fn start(system: &System) -> Result<Self> {
        let port = Claim::port()?;
        let address = format!("127.0.0.1:{}", port.number());
        let process = system.another("scheduler").env("MOTHBALL_TELEMETRY__LISTEN", &address).start().await?;
        Ok(Self { process, address, _port: port })
    }

    /// Waits until it has looked for due jobs for so many seconds more.
    async fn wait_ticks(&mut self, seconds: u64) -> Result<()> {
        let tick = "mothball_scheduler_last_tick_timestamp_seconds ";
        let begin = self.number(tick).await?;
        eventually(SOON, "the scheduler's ticks", async || {
            (self.number(tick).await.ok()? >= begin + seconds).then_some(())
        })
        .await
    }

    async fn published(&self) -> Result<u64> {
        self.number("mothball_scheduler_attended_total{done=\"published\"} ").await
    }

    /// A number of its metrics; nothing counts as zero.
    async fn number(&self, name: &str) -> Result<u64> {
        let url = format!("http://{}/metrics", self.address);
        let text = client().get(url).send().await.context("scrape")?.text().await.context("scrape")?;
        let value = text.lines().find_map(|line| line.strip_prefix(name));
        value.map_or(Ok(0), |value| {
            value.trim().parse::<f64>().context("read a metric").map(|value| value as u64)
        })
    }
}
