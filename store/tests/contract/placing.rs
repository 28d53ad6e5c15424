//! Placement: all GPUs or none, first come first served, dead and drained nodes.

use crate::world::*;
use anyhow::{Context, Result, bail, ensure};
use mothball_domain::container::Container;
use mothball_domain::failure::FailureClass;
use mothball_domain::job::{Job, JobSpec, Then};
use mothball_domain::state::JobState;
use mothball_harness::wait::eventually;
use mothball_store::{Attend, Attention, Claim, Outcome, Submitted, Target};
use std::time::Duration;
use tokio::task::JoinSet;

async fn launch(w: &World, name: &str, gpus: u32) -> Result<Job> {
    w.new_job(&request(JobSpec::Launch, new_container(name, gpus))).await
}

async fn of(w: &World, job: &Job) -> Result<Container> {
    w.container(job.container.context("a launch has a container")?).await
}

fn waits_for(job: &Job, words: &str) -> Result<()> {
    let why = job.waiting_for.as_deref().unwrap_or("nothing");
    ensure!(job.node.is_none() && why.contains(words), "it is on {:?} and waits for {why}", job.node);
    Ok(())
}

/// Attends until the job has a node, as the scheduler would, and says which.
async fn placed(w: &World, job: &Job) -> Result<String> {
    ensure!(w.is_due(job.id).await?, "nobody looks at {}", job.id);
    match w.attend(job.id).await? {
        Attend::Publish(Some(node)) => Ok(node.to_string()),
        other => bail!("{other:?}, it waits for {:?}", w.job(job.id).await?.waiting_for),
    }
}

pub(crate) async fn all_gpus_or_none(w: &World) -> Result<()> {
    w.node("n1", 2).await?;
    w.node("n2", 2).await?;
    ensure!(launch(w, "one", 1).await?.node.is_some() && launch(w, "two", 2).await?.node.is_some());
    let job = launch(w, "three", 2).await?;
    waits_for(&job, "2 free GPUs on one node")?;
    ensure!(of(w, &job).await?.gpus.is_empty());
    ensure!(w.store.claim(job.id, &node_name("n1"), "x", LONG).await? == Claim::NotDue);
    ensure!(w.attend(job.id).await? == Attend::Nothing);
    waits_for(&w.job(job.id).await?, "2 free GPUs on one node")
}

pub(crate) async fn what_is_released_is_given_to_who_waits(w: &World) -> Result<()> {
    w.node("n1", 2).await?;
    let first = w.launched("first", 2).await?;
    let job = launch(w, "second", 2).await?;
    ensure!(!w.is_due(job.id).await?);
    w.deleted(&first).await?;
    ensure!(placed(w, &job).await? == "n1");
    ensure!(of(w, &job).await?.gpus == [0, 1] && w.job(job.id).await?.waiting_for.is_none());
    ensure!(w.job(job.id).await?.events.iter().any(|e| e.event == "placed"));
    w.ended(&job, running("d")).await.map(drop)
}

pub(crate) async fn nobody_overtakes_who_waits_for_gpus(w: &World) -> Result<()> {
    w.node("n1", 4).await?;
    let first = w.launched("first", 3).await?;
    let second = launch(w, "second", 2).await?;
    waits_for(&second, "2 free GPUs")?;
    let third = launch(w, "third", 1).await?;
    waits_for(&third, &format!("its turn: {}", second.id))?;
    w.attend(third.id).await?;
    waits_for(&w.job(third.id).await?, "its turn")?;
    ensure!(launch(w, "none", 0).await?.node.is_some(), "one without GPUs waits behind those with");
    w.deleted(&first).await?;
    // Whichever is looked at first, the earlier gets its place first.
    w.attend(third.id).await?;
    waits_for(&w.job(third.id).await?, "its turn")?;
    placed(w, &second).await?;
    w.attend(third.id).await?;
    ensure!((of(w, &second).await?.gpus, of(w, &third).await?.gpus) == (vec![0, 1], vec![2]));
    // One that is to be stopped does not hold up the others.
    let fourth = launch(w, "fourth", 2).await?;
    let fifth = launch(w, "fifth", 1).await?;
    waits_for(&fifth, "its turn")?;
    w.store.cancel(fourth.id).await?;
    ensure!(placed(w, &fifth).await? == "n1");
    Ok(())
}

pub(crate) async fn who_wants_more_than_any_node_has_blocks_nobody(w: &World) -> Result<()> {
    w.node("n1", 2).await?;
    let large = launch(w, "large", 3).await?;
    waits_for(&large, "a node with 3 GPUs: the largest live node has 2")?;
    ensure!(launch(w, "small", 1).await?.node.is_some());
    w.node("n2", 4).await?;
    ensure!(placed(w, &large).await? == "n2");
    Ok(())
}

pub(crate) async fn a_drained_node_takes_nothing_new(w: &World) -> Result<()> {
    w.node("n1", 1).await?;
    let there = w.launched("there", 0).await?;
    ensure!(w.store.drain_node(&node_name("n1"), true).await?.is_some_and(|n| n.drained));
    let job = launch(w, "box", 1).await?;
    waits_for(&job, "a node that is not drained")?;
    let save = w.new_job(&request(snapshot("base:v1", Then::Keep), Target::Container(there.id))).await?;
    ensure!(w.attend(save.id).await? == Attend::Publish(Some(node_name("n1"))), "what is there goes on");
    w.store.drain_node(&node_name("n1"), false).await?;
    ensure!(placed(w, &job).await? == "n1");
    ensure!(w.store.drain_node(&node_name("none"), true).await?.is_none());
    Ok(())
}

pub(crate) async fn what_has_not_begun_on_a_drained_node_goes_elsewhere(w: &World) -> Result<()> {
    w.node("n1", 2).await?;
    let (begun, next) = (launch(w, "begun", 1).await?, launch(w, "next", 1).await?);
    ensure!(begun.node == next.node && next.node == Some(node_name("n1")));
    w.claimed(&begun).await?;
    w.store.drain_node(&node_name("n1"), true).await?;
    ensure!(w.job(begun.id).await?.node == Some(node_name("n1")), "what has begun is finished");
    let moved = w.job(next.id).await?;
    ensure!(moved.node.is_none() && of(w, &next).await?.gpus.is_empty());
    ensure!(moved.events.iter().any(|e| e.event == "replaced" && e.detail.contains("drained")));
    ensure!(w.store.claim(next.id, &node_name("n1"), "x", LONG).await? == Claim::NotDue);
    w.attend(next.id).await?;
    waits_for(&w.job(next.id).await?, "a node that is not drained")?;
    w.node("n2", 1).await?;
    ensure!(placed(w, &next).await? == "n2");
    // An attempt that failed on it goes elsewhere, too.
    w.ended(&next, running("d")).await?;
    w.node("n3", 1).await?;
    w.store.settle(begun.id, w.job(begun.id).await?.fence, &failed(transient(), Duration::ZERO)).await?;
    w.attend(begun.id).await?;
    ensure!(w.job(begun.id).await?.node == Some(node_name("n3")));
    w.ended(&begun, running("d2")).await.map(drop)
}

pub(crate) async fn a_launch_without_a_node_says_so_and_starts_when_one_comes(w: &World) -> Result<()> {
    let job = launch(w, "box", 0).await?;
    waits_for(&job, "a live node")?;
    w.attend(job.id).await?;
    ensure!(!w.is_due(job.id).await?);
    w.node("n1", 0).await?;
    ensure!(placed(w, &job).await? == "n1");
    Ok(())
}

pub(crate) async fn a_launch_whose_node_died_is_placed_anew(w: &World) -> Result<()> {
    let (n1, job) = (w.node("n1", 1).await?, launch(w, "box", 1).await?);
    ensure!(job.node == Some(node_name("n1")));
    w.store.node_stopped(&n1).await?;
    ensure!(w.attend(job.id).await? == Attend::Nothing);
    waits_for(&w.job(job.id).await?, "a live node")?;
    ensure!(of(w, &job).await?.gpus.is_empty());
    w.node("n2", 1).await?;
    ensure!(placed(w, &job).await? == "n2");
    ensure!(w.job(job.id).await?.events.iter().any(|e| e.event == "replaced"));
    ensure!(of(w, &job).await?.node_uid.as_deref() == Some("n2"));
    w.ended(&job, running("d")).await.map(drop)
}

pub(crate) async fn a_launch_that_died_half_way_is_woken_too(w: &World) -> Result<()> {
    let (n1, job) = (w.node("n1", 1).await?, launch(w, "box", 1).await?);
    w.claimed_for(&job, Duration::ZERO).await?;
    w.store.node_stopped(&n1).await?;
    ensure!(w.attend(job.id).await? == Attend::Nothing);
    let waits = w.job(job.id).await?;
    ensure!(waits.state == JobState::Retrying);
    waits_for(&waits, "a live node")?;
    w.node("n2", 1).await?;
    ensure!(placed(w, &job).await? == "n2");
    let held = w.claimed(&job).await?;
    ensure!(held.attempt == 2);
    Ok(())
}

pub(crate) async fn what_is_on_a_node_waits_for_it_and_is_given_up_at_last(w: &World) -> Result<()> {
    let n1 = w.node("n1", 0).await?;
    let container = w.launched("box", 0).await?;
    w.node("n2", 0).await?;
    let job = w.new_job(&request(snapshot("base:v1", Then::Keep), Target::Container(container.id))).await?;
    w.store.node_stopped(&n1).await?;
    // It is published all the same: the queue holds it until the node is back.
    ensure!(w.attend(job.id).await? == Attend::Publish(Some(node_name("n1"))));
    let waits = w.job(job.id).await?;
    ensure!(waits.state == JobState::Queued && waits.node == Some(node_name("n1")));
    ensure!(
        waits.waiting_for.as_deref() == Some("node n1, which does not report"),
        "{:?}",
        waits.waiting_for
    );
    w.store.register_node(&run("n1", "n1", "second"), &report(0)).await?;
    w.attend(job.id).await?;
    ensure!(w.job(job.id).await?.waiting_for.is_none());
    w.store.node_stopped(&run("n1", "n1", "second")).await?;
    let hasty = Attention { gone_after: Duration::from_millis(100), ..PATIENT };
    let given_up =
        eventually(SOON, "the end of patience", async || match w.store.attend(job.id, hasty).await.ok()? {
            Attend::Settled(job) => Some(job),
            _ => None,
        });
    let given_up = given_up.await?;
    ensure!(given_up.state == JobState::Failed && given_up.attempt == 0);
    ensure!(given_up.error.is_some_and(|e| e.class == FailureClass::Gone && e.message.contains("n1")));
    ensure!(w.container(container.id).await? == container);
    Ok(())
}

pub(crate) async fn a_silent_node_is_a_dead_one(w: &World) -> Result<()> {
    w.node("n1", 0).await?;
    let within = Duration::from_millis(100);
    let mut number = 0;
    eventually(SOON, "a launch that finds the node too silent", async || {
        number += 1;
        let asked = request(JobSpec::Launch, new_container(&format!("box{number}"), 0));
        let asked = mothball_store::Submission { alive_within: within, ..asked };
        match w.store.submit(&asked).await.ok()? {
            Submitted::New(job) => job.node.is_none().then_some(()),
            _ => None,
        }
    })
    .await?;
    ensure!(w.store.heartbeat(&run("n1", "n1", "first"), &report(0), &[]).await?);
    let asked = request(JobSpec::Launch, new_container("again", 0));
    let asked = mothball_store::Submission { alive_within: Duration::from_secs(30), ..asked };
    ensure!(w.new_job(&asked).await?.node.is_some());
    Ok(())
}

pub(crate) async fn a_wake_waits_without_its_old_place(w: &World) -> Result<()> {
    w.node("n1", 1).await?;
    let container = w.launched("box", 1).await?;
    w.parked(&container, "base:parked").await?;
    let other = w.launched("other", 1).await?;
    let wake = w.new_job(&request(JobSpec::Launch, Target::Container(container.id))).await?;
    waits_for(&wake, "1 free GPUs on one node")?;
    ensure!(w.store.claim(wake.id, &node_name("n1"), "x", LONG).await? == Claim::NotDue);
    let waiting = of(w, &wake).await?;
    ensure!(waiting.node.is_none() && waiting.gpus.is_empty());
    w.node("n2", 1).await?;
    ensure!(placed(w, &wake).await? == "n2");
    w.ended(&wake, running("d-new")).await?;
    w.deleted(&other).await.map(drop)
}

pub(crate) async fn new_gpus_are_given_out(w: &World) -> Result<()> {
    let n1 = w.node("n1", 0).await?;
    let job = launch(w, "box", 1).await?;
    w.attend(job.id).await?;
    ensure!(w.store.heartbeat(&n1, &report(0), &[]).await? && !w.is_due(job.id).await?);
    ensure!(w.store.heartbeat(&n1, &report(1), &[]).await?);
    ensure!(placed(w, &job).await? == "n1");
    // A node that loses them again still takes what needs none.
    w.store.heartbeat(&n1, &report(0), &[]).await?;
    ensure!(launch(w, "none", 0).await?.node.is_some());
    Ok(())
}

pub(crate) async fn a_crowd_never_shares_a_gpu(w: &World) -> Result<()> {
    for name in ["n1", "n2"] {
        w.node(name, 4).await?;
    }
    let mut crowd = JoinSet::new();
    for i in 0..24 {
        let world = w.clone();
        crowd.spawn(async move {
            let job = launch(&world, &format!("box{i}"), 1 + i % 2).await?;
            // Some are cancelled and some fail, so that there is releasing too.
            match i % 4 {
                0 => drop(world.store.cancel(job.id).await?),
                1 if job.node.is_some() => drop(world.ended(&job, Outcome::Interrupted).await?),
                2 if job.node.is_some() => drop(world.ended(&job, failed(permanent(), LONG)).await?),
                _ => {}
            }
            anyhow::Ok(())
        });
    }
    for outcome in crowd.join_all().await {
        outcome?;
    }
    w.check_sound().await?;
    for job in w.all_jobs().await?.iter().rev().filter(|job| !job.state.is_final()) {
        w.attend(job.id).await?;
    }
    w.check_sound().await?;
    let held: usize = w.store.nodes().await?.iter().map(|(_, r)| r.gpus_held()).sum();
    ensure!((7..=8).contains(&held), "{held} of 8 GPUs are in use though many wait");
    Ok(())
}
