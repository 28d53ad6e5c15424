//! Holding a job: claim, renewal, checkpoint, fence, lease.

use crate::world::*;
use anyhow::{Result, bail, ensure};
use mothball_domain::failure::FailureClass;
use mothball_domain::job::{Checkpoint, Job, JobSpec, Progress, Step, Then};
use mothball_domain::state::JobState;
use mothball_harness::wait::eventually;
use mothball_store::{Attend, Checkpointed, Claim, Effect, Outcome, Recorded, Renewal, Settled, Target};
use std::time::Duration;
use tokio::task::JoinSet;

/// A job to save a container on node n1.
async fn save(w: &World) -> Result<Job> {
    w.node("n1", 0).await?;
    let container = w.launched("box", 0).await?;
    w.new_job(&request(snapshot("base:v1", Then::Keep), Target::Container(container.id))).await
}

pub(crate) async fn of_64_racers_one_claims(w: &World) -> Result<()> {
    let job = save(w).await?;
    let mut racers = JoinSet::new();
    for i in 0..64 {
        let store = w.store.clone();
        racers.spawn(async move { store.claim(job.id, &node_name("n1"), &format!("run{i}"), LONG).await });
    }
    let outcomes = racers.join_all().await.into_iter().collect::<Result<Vec<_>, _>>()?;
    let winners = outcomes.iter().filter(|o| matches!(o, Claim::Claimed(_))).count();
    let losers = outcomes.iter().filter(|o| matches!(o, Claim::Held)).count();
    ensure!((winners, losers) == (1, 63), "{winners} won, {losers} lost");
    let held = w.job(job.id).await?;
    ensure!((held.attempt, held.fence.0, held.state) == (1, 1, JobState::Running));
    Ok(())
}

pub(crate) async fn a_claim_says_why_not(w: &World) -> Result<()> {
    let job = save(w).await?;
    let claim = async |node: &str| w.store.claim(job.id, &node_name(node), "second", LONG).await;
    ensure!(claim("n2").await? == Claim::Elsewhere);
    let held = w.claimed(&job).await?;
    ensure!(held.started_at.is_some() && held.events.last().is_some_and(|e| e.event == "claimed"));
    ensure!(claim("n1").await? == Claim::Held);
    let job = w.settled(&held, failed(transient(), LONG)).await?;
    ensure!(job.next_attempt_at.is_some());
    ensure!(claim("n1").await? == Claim::NotDue);
    w.store.cancel(job.id).await?;
    ensure!(claim("n1").await? == Claim::Over);
    ensure!(w.store.claim(fresh_id(), &node_name("n1"), "x", LONG).await? == Claim::Over);
    Ok(())
}

pub(crate) async fn a_job_without_a_node_is_anybodys(w: &World) -> Result<()> {
    w.node("n1", 0).await?;
    let container = w.launched("box", 0).await?;
    w.saved(&container, "base:v1", 1).await?;
    let removal = JobSpec::DeleteImage { image: image("base:v1"), digest: digest(1) };
    let job = w.new_job(&request(removal, Target::Image)).await?;
    ensure!(job.node.is_none() && w.attend(job.id).await? == Attend::Publish(None));
    match w.store.claim(job.id, &node_name("anywhere"), "first", LONG).await? {
        Claim::Claimed(held) => {
            w.settled(&held, Outcome::Succeeded(Effect::ImageRemoved { undo: LONG })).await.map(drop)
        }
        other => bail!("{other:?}"),
    }
}

pub(crate) async fn a_renewal_keeps_the_lease_and_brings_the_cancel(w: &World) -> Result<()> {
    let job = save(w).await?;
    let held = w.claimed_for(&job, Duration::ZERO).await?;
    let progress = Progress { bytes_done: 5, bytes_total: 10, bytes_per_second: 1, eta_seconds: Some(5) };
    let renewed = w.store.renew(job.id, held.fence, LONG, Some(progress)).await?;
    ensure!(renewed == Renewal::Held { cancel: false } && !w.is_due(job.id).await?);
    let due_in_s = w.due_in_s(job.id).await?.unwrap_or_default();
    ensure!((3500.0..=3600.0).contains(&due_in_s), "due in {due_in_s} s, not at the lease's end");
    w.store.cancel(job.id).await?;
    ensure!(w.store.renew(job.id, held.fence, LONG, None).await? == Renewal::Held { cancel: true });
    ensure!(w.job(job.id).await?.progress == Some(progress), "a renewal without progress erased it");
    Ok(())
}

pub(crate) async fn a_checkpoint_is_there_for_the_next_attempt(w: &World) -> Result<()> {
    let job = save(w).await?;
    let held = w.claimed(&job).await?;
    let mut written =
        Checkpointed { step: Some(Step::Upload), notes: vec!["note".into()], ..Checkpointed::default() };
    written.checkpoint.manifest = Some(digest(7));
    for _ in 0..2 {
        ensure!(w.store.checkpoint(job.id, held.fence, &written).await? == Renewal::Held { cancel: false });
    }
    let between = w.job(job.id).await?;
    ensure!(between.notes == ["note"] && between.events.iter().filter(|e| e.event == "step").count() == 1);
    w.settled(&held, failed(transient(), Duration::ZERO)).await?;
    let held = w.claimed(&job).await?;
    ensure!(held.checkpoint.manifest == Some(digest(7)) && held.step == Some(Step::Upload));
    // The bill ends by the store's clock, whatever the node's clock says, and only once.
    let gone = Checkpoint { removed_at: Some(jiff::Timestamp::UNIX_EPOCH), ..Checkpoint::default() };
    w.store.checkpoint(job.id, held.fence, &at_checkpoint(gone.clone())).await?;
    let removed_at = w.job(job.id).await?.checkpoint.removed_at;
    ensure!(removed_at.is_some_and(|at| at > jiff::Timestamp::UNIX_EPOCH), "{removed_at:?}");
    w.store.checkpoint(job.id, held.fence, &at_checkpoint(gone)).await?;
    ensure!(w.job(job.id).await?.checkpoint.removed_at == removed_at);
    w.settled(&held, Outcome::Succeeded(Effect::None)).await.map(drop)
}

pub(crate) async fn a_stale_fence_writes_nothing(w: &World) -> Result<()> {
    let job = save(w).await?;
    let stale = w.claimed_for(&job, Duration::ZERO).await?;
    let Claim::Claimed(held) = w.store.claim(job.id, &node_name("n1"), "second", LONG).await? else {
        bail!("no takeover")
    };
    ensure!(held.fence > stale.fence);
    let before = w.job(job.id).await?;
    ensure!(w.store.renew(job.id, stale.fence, LONG, None).await? == Renewal::Lost);
    ensure!(w.store.checkpoint(job.id, stale.fence, &frozen()).await? == Renewal::Lost);
    ensure!(w.store.record_image(job.id, stale.fence, &draft(9)).await? == Recorded::Lost);
    for outcome in [
        Outcome::Succeeded(Effect::None),
        failed(permanent(), LONG),
        Outcome::Interrupted,
        Outcome::Cancelled,
    ] {
        ensure!(w.store.settle(job.id, stale.fence, &outcome).await? == Settled::Lost, "{outcome:?}");
    }
    ensure!(w.job(job.id).await? == before, "a stale write changed the job");
    ensure!(w.store.image(&project("p"), &image("base:v1")).await?.is_none());
    // A fence from nowhere is no better, nor is any fence of a job that is over.
    ensure!(w.store.renew(job.id, held.fence.next(), LONG, None).await? == Renewal::Lost);
    w.settled(&held, Outcome::Succeeded(Effect::None)).await?;
    ensure!(w.store.renew(job.id, held.fence, LONG, None).await? == Renewal::Lost);
    Ok(())
}

pub(crate) async fn a_holder_that_nobody_replaced_goes_on_after_its_lease(w: &World) -> Result<()> {
    let job = save(w).await?;
    let held = w.claimed_for(&job, Duration::ZERO).await?;
    ensure!(
        w.store.checkpoint(job.id, held.fence, &at_checkpoint(Checkpoint::default())).await? != Renewal::Lost
    );
    let job = w.settled(&held, Outcome::Succeeded(Effect::None)).await?;
    ensure!(job.state == JobState::Succeeded && job.attempt == 1);
    Ok(())
}

pub(crate) async fn a_lease_that_ended_is_rescued_and_costs_an_attempt(w: &World) -> Result<()> {
    let job = save(w).await?;
    let lost = w.claimed_for(&job, Duration::from_millis(150)).await?;
    eventually(SOON, "the end of the lease", async || w.is_due(job.id).await.ok()?.then_some(())).await?;
    ensure!(w.attend(job.id).await? == Attend::Publish(Some(node_name("n1"))));
    let rescued = w.job(job.id).await?;
    ensure!((rescued.state, rescued.attempt) == (JobState::Retrying, 1) && rescued.lease.is_none());
    let error = rescued.error.as_ref().map(|e| (e.class, e.message.contains("n1")));
    ensure!(error == Some((FailureClass::Timeout, true)), "{:?}", rescued.error);
    ensure!(rescued.events.iter().any(|e| e.event == "lease_expired"));
    ensure!(w.store.renew(job.id, lost.fence, LONG, None).await? == Renewal::Lost);
    let held = w.claimed(&job).await?;
    ensure!((held.attempt, held.fence.0) == (2, 2));
    let over = w.settled(&held, Outcome::Succeeded(Effect::None)).await?;
    ensure!(over.error.is_none(), "a job that succeeded shows an old error");
    Ok(())
}

pub(crate) async fn a_takeover_costs_an_attempt_and_the_last_one_fails_the_job(w: &World) -> Result<()> {
    let job = save(w).await?;
    for attempt in 1..=3 {
        let held = w.claimed_for(&job, Duration::ZERO).await?;
        ensure!(held.attempt == attempt);
    }
    ensure!(w.store.claim(job.id, &node_name("n1"), "late", LONG).await? == Claim::Over);
    let over = w.job(job.id).await?;
    ensure!(over.state == JobState::Failed && over.error.is_some_and(|e| e.class == FailureClass::Timeout));
    let container = w.all_containers().await?.remove(0);
    ensure!(container.job.is_none(), "the failed job keeps the container");
    Ok(())
}

pub(crate) async fn a_job_that_is_held_is_left_alone(w: &World) -> Result<()> {
    let job = save(w).await?;
    let held = w.claimed(&job).await?;
    ensure!(
        w.attend(job.id).await? == Attend::Nothing && !w.is_due(job.id).await?,
        "rescued while it is held"
    );
    w.store.mark_published(job.id).await?;
    ensure!(w.job(job.id).await? == held);
    Ok(())
}

pub(crate) async fn an_interruption_costs_no_attempt(w: &World) -> Result<()> {
    let job = save(w).await?;
    for _ in 0..5 {
        let held = w.claimed(&job).await?;
        ensure!(held.attempt == 1);
        let queued = w.settled(&held, Outcome::Interrupted).await?;
        ensure!((queued.state, queued.attempt) == (JobState::Queued, 0) && w.is_due(job.id).await?);
    }
    Ok(())
}
