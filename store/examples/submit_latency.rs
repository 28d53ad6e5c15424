//! How long a submission takes, on both adapters: `cargo run --release -p mothball-store --example submit_latency`.
//!
//! Redis flushes its append-only file at every commit, then once a second; the embedded store flushes always.

use anyhow::{Context, Result, bail};
use mothball_domain::container::{Launch, Source};
use mothball_domain::flavor::Flavor;
use mothball_domain::id::{ContainerId, JobId};
use mothball_domain::job::{JobSpec, PauseMode, Then};
use mothball_domain::name::{ContainerName, FlavorName, ImageName, NodeName, ProjectName, UserName};
use mothball_domain::node::NodeReport;
use mothball_domain::size::ByteSize;
use mothball_harness::redis::Redis;
use mothball_store::{
    Claim, Effect, Idempotency, NewContainer, NodeRun, Outcome, RedisSettings, Store, Submission, Submitted,
    Target,
};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use tokio::task::JoinSet;
use uuid::Uuid;

const JOBS: usize = 500;
/// Callers at once, where there are many.
const CALLERS: usize = 16;
const LONG: Duration = Duration::from_hours(1);

#[tokio::main]
async fn main() -> Result<()> {
    say("store                    request            p50        p99        max   per second");
    let redis = Redis::start().await?;
    for flush in ["always", "everysec"] {
        redis.cli(&["CONFIG", "SET", "appendfsync", flush]).await?;
        let settings = RedisSettings { prefix: flush.to_owned(), ..RedisSettings::new(redis.url().into()) };
        measure(&format!("redis, flushes {flush}"), &Store::redis(settings)?).await?;
    }
    let folder = tempfile::tempdir()?;
    measure("embedded", &Store::embedded(&folder.path().join("store.db"))?).await
}

async fn measure(name: &str, store: &Store) -> Result<()> {
    let run = NodeRun { name: NodeName::new("n1")?, uid: "uid".into(), instance: "run".into() };
    store.register_node(&run, &NodeReport::default()).await?;
    let mut took = Vec::new();
    let mut containers = Vec::new();
    let begin = Instant::now();
    for i in 0..JOBS {
        let launch = request(JobSpec::Launch, new_container(i)?)?;
        took.push(timed(store, &launch).await?);
        containers.push(launch.id);
    }
    report(name, "launch", took, begin.elapsed());
    let mut saves = Vec::new();
    for (i, launch) in containers.into_iter().enumerate() {
        saves.push(save(i, ready(store, launch, &run).await?)?);
    }
    let (mut took, begin) = (Vec::new(), Instant::now());
    let crowd = saves.split_off(JOBS / 2);
    for save in &saves {
        took.push(timed(store, save).await?);
    }
    report(name, "save", took, begin.elapsed());

    let (mut callers, begin) = (JoinSet::new(), Instant::now());
    for part in crowd.chunks(crowd.len().div_ceil(CALLERS)) {
        let (store, part) = (store.clone(), part.to_vec());
        callers.spawn(async move {
            let mut took = Vec::new();
            for save in &part {
                took.push(timed(&store, save).await?);
            }
            anyhow::Ok(took)
        });
    }
    let mut took = Vec::new();
    while let Some(part) = callers.join_next().await {
        took.extend(part??);
    }
    report(name, &format!("save, {CALLERS} at once"), took, begin.elapsed());
    Ok(())
}

async fn timed(store: &Store, request: &Submission) -> Result<Duration> {
    let begin = Instant::now();
    match store.submit(request).await? {
        Submitted::New(_) => Ok(begin.elapsed()),
        other => bail!("not accepted: {other:?}"),
    }
}

/// Brings a launch to its end, and returns the container.
async fn ready(store: &Store, launch: JobId, run: &NodeRun) -> Result<ContainerId> {
    let Claim::Claimed(job) = store.claim(launch, &run.name, &run.instance, LONG).await? else {
        bail!("the launch cannot be claimed")
    };
    let effect = Effect::Running { docker_id: launch.to_string(), ports: Vec::new() };
    store.settle(launch, job.fence, &Outcome::Succeeded(effect)).await?;
    job.container.context("a launch has a container")
}

fn request(spec: JobSpec, target: Target) -> Result<Submission> {
    let id = JobId(Uuid::now_v7());
    Ok(Submission {
        id,
        spec,
        user: UserName::new("ann")?,
        project: ProjectName::new("p")?,
        target,
        schedule: None,
        idempotency: Some(Idempotency { key: id.to_string(), body_sha256: "0".repeat(64) }),
        max_attempts: 5,
        alive_within: LONG,
    })
}

fn save(number: usize, container: ContainerId) -> Result<Submission> {
    let image = format!("base:v{number}").parse()?;
    let spec = JobSpec::Snapshot {
        image,
        then: Then::Keep,
        pause: PauseMode::Auto,
        discard_volumes: false,
        excludes: Vec::new(),
    };
    request(spec, Target::Container(container))
}

fn new_container(number: usize) -> Result<Target> {
    let flavor = Flavor {
        name: FlavorName::new("cpu")?,
        gpus: 0,
        cpus: 1,
        memory: ByteSize(1 << 30),
        shm: None,
        price_per_hour: rust_decimal::Decimal::ONE,
    };
    let launch = Launch {
        source: Source::Catalog { name: "base".into(), reference: "registry/base:1".into() },
        flavor,
        env: BTreeMap::new(),
        mounts: Vec::new(),
        ports: Vec::new(),
    };
    Ok(Target::New(Box::new(NewContainer {
        name: ContainerName::new(format!("box{number}"))?,
        launch,
        image_name: ImageName::new("base")?,
        description: String::new(),
        labels: mothball_domain::label::Labels::default(),
    })))
}

fn report(store: &str, request: &str, mut took: Vec<Duration>, whole: Duration) {
    took.sort();
    let ms = |share: f64| took[((took.len() - 1) as f64 * share) as usize].as_secs_f64() * 1000.0;
    let rate = took.len() as f64 / whole.as_secs_f64();
    say(&format!(
        "{store:<24} {request:<16} {:>7.2} ms {:>7.2} ms {:>7.2} ms {rate:>8.0}",
        ms(0.5),
        ms(0.99),
        ms(1.0)
    ));
}

#[expect(clippy::print_stdout, reason = "the figures are what this program is for")]
fn say(line: &str) {
    println!("{line}");
}
