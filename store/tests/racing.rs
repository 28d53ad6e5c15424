//! A crowd: workers that crash, sleep longer than their lease and hear of a job twice, two schedulers, people who
//! cancel. Every job ends exactly once, and whoever lost a job writes nothing more.

use crate::world::*;
use anyhow::{Context, Result, ensure};
use mothball_domain::id::JobId;
use mothball_domain::job::{Job, JobSpec};
use mothball_domain::state::JobState;
use mothball_harness::wait::eventually;
use mothball_store::{Attend, Claim, Outcome, Renewal, Settled, Store, Submission};
use rand::RngExt;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Mutex, mpsc};
use tokio::task::JoinSet;
use tokio::time::interval;
use tokio_util::sync::CancellationToken;

const JOBS: usize = 300;
const WORKERS: usize = 8;
const LEASE: Duration = Duration::from_millis(150);
const LIMIT: Duration = Duration::from_secs(50);

/// What the crowd did.
#[derive(Default)]
struct Tally {
    /// Successes that the store acknowledged, by job.
    successes: BTreeMap<JobId, u32>,
    crashes: u32,
    stale: u32,
    twice: u32,
}

type Shared = Arc<Mutex<Tally>>;

/// What a worker does with a job that it has claimed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Works,
    Crashes,
    SleepsTooLong,
    Fails,
    IsInterrupted,
}

fn fate() -> Fate {
    match rand::rng().random_range(0..100) {
        0..20 => Fate::Crashes,
        20..36 => Fate::SleepsTooLong,
        36..50 => Fate::Fails,
        50..55 => Fate::IsInterrupted,
        _ => Fate::Works,
    }
}

async fn worker(
    store: Store,
    name: String,
    inbox: Arc<Mutex<mpsc::Receiver<JobId>>>,
    tally: Shared,
) -> Result<()> {
    loop {
        let next = inbox.lock().await.recv().await;
        let Some(id) = next else { return Ok(()) };
        let Claim::Claimed(job) = store.claim(id, &node_name("n1"), &name, LEASE).await? else { continue };
        let fate = fate();
        if fate == Fate::Crashes {
            tally.lock().await.crashes += 1;
            continue;
        }
        if fate == Fate::SleepsTooLong {
            // It wakes up when somebody else has the job, and does not know.
            if was_replaced(&store, &job).await? {
                let renewed = store.renew(id, job.fence, LEASE, None).await?;
                ensure!(renewed == Renewal::Lost, "a stale worker renewed {id}");
            }
        }
        let outcome = match fate {
            Fate::Fails => failed(transient(), Duration::from_millis(30)),
            Fate::IsInterrupted => Outcome::Interrupted,
            _ => running("d"),
        };
        match store.settle(id, job.fence, &outcome).await? {
            Settled::Done(done) if done.state == JobState::Succeeded => {
                *tally.lock().await.successes.entry(id).or_default() += 1;
            }
            Settled::Done(_) => {}
            Settled::Lost => tally.lock().await.stale += 1,
        }
    }
}

/// Waits until somebody else holds the job or it is over; not for ever, since the others may be asleep too.
async fn was_replaced(store: &Store, job: &Job) -> Result<bool> {
    let mut tick = interval(LEASE / 10);
    for _ in 0..40 {
        tick.tick().await;
        let now = store.job(job.id).await?.context("the job is gone")?;
        if now.fence > job.fence || now.state != JobState::Running {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Attends to what is due and publishes it, now and then twice.
async fn scheduler(
    store: Store,
    outbox: mpsc::Sender<JobId>,
    stop: CancellationToken,
    tally: Shared,
) -> Result<()> {
    let mut tick = interval(Duration::from_millis(20));
    while !stop.is_cancelled() {
        tick.tick().await;
        for id in store.due(50).await? {
            if let Attend::Publish(_) = store.attend(id, PATIENT).await? {
                let twice = rand::rng().random_range(0..100) < 23;
                tally.lock().await.twice += u32::from(twice);
                for _ in 0..=u32::from(twice) {
                    outbox.send(id).await.context("the workers are gone")?;
                }
                store.mark_published(id).await?;
            }
        }
    }
    Ok(())
}

async fn a_crowd_ends_every_job_once(adapter: &str) -> Result<()> {
    let ground = Ground::new().await?;
    let world = ground.world(adapter, "racing")?;
    world.node("n1", 0).await?;
    let mut jobs = Vec::new();
    for i in 0..JOBS {
        let launch = request(JobSpec::Launch, new_container(&format!("box{i}"), 0));
        jobs.push(world.new_job(&Submission { max_attempts: 1000, ..launch }).await?.id);
    }
    let (outbox, inbox) = mpsc::channel(4 * JOBS);
    let (inbox, tally, stop) = (Arc::new(Mutex::new(inbox)), Shared::default(), CancellationToken::new());
    let mut crowd = JoinSet::new();
    for i in 0..WORKERS {
        crowd.spawn(worker(world.store.clone(), format!("w{i}"), Arc::clone(&inbox), Arc::clone(&tally)));
    }
    for _ in 0..2 {
        crowd.spawn(scheduler(world.store.clone(), outbox.clone(), stop.clone(), Arc::clone(&tally)));
    }
    drop(outbox);
    // Every tenth is cancelled on the way.
    for id in jobs.iter().step_by(10) {
        world.store.cancel(*id).await?;
    }
    let over = eventually(LIMIT, "the end of all jobs", async || {
        (world.store.unfinished_and_due().await.ok()?.0 == 0).then_some(())
    })
    .await;
    stop.cancel();
    while let Some(member) = crowd.join_next().await {
        member??;
    }
    over?;
    world.check_sound().await?;

    let tally = tally.lock().await;
    for job in world.all_jobs().await? {
        let successes = tally.successes.get(&job.id).copied().unwrap_or(0);
        let ends = ["succeeded", "cancelled", "failed"];
        let ended = job.events.iter().filter(|e| ends.contains(&e.event.as_str())).count();
        let expected = u32::from(job.state == JobState::Succeeded);
        ensure!(successes == expected, "{} is {} and succeeded {successes} times", job.id, job.state);
        ensure!(ended == 1, "{} ended {ended} times", job.id);
        ensure!(job.state != JobState::Failed, "{} failed: {:?}", job.id, job.error);
        let container = world.container(job.container.context("a launch has a container")?).await?;
        ensure!(
            container.metered.len() == expected as usize,
            "{} is billed as {:?}",
            job.id,
            container.metered
        );
    }
    let crowd = (tally.crashes, tally.stale, tally.twice);
    ensure!(crowd.0 > 20 && crowd.1 > 5 && crowd.2 > 20, "too little happened: {crowd:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crowd_ends_every_job_once_on_redis() -> Result<()> {
    a_crowd_ends_every_job_once("redis").await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crowd_ends_every_job_once_on_embedded() -> Result<()> {
    a_crowd_ends_every_job_once("embedded").await
}
