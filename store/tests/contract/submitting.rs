//! Submitting: uniqueness, idempotency, names, quotas.

use crate::world::*;
use anyhow::{Context, Result, bail, ensure};
use mothball_domain::container::ContainerState;
use mothball_domain::id::ContainerId;
use mothball_domain::job::{JobSpec, Then};
use mothball_domain::state::JobState;
use mothball_store::{ContainerChange, Effect, JobQuery, Outcome, Submission, Submitted, Target};
use std::collections::BTreeSet;
use tokio::task::JoinSet;

pub(crate) async fn a_submission_is_recorded_listed_and_due_at_once(w: &World) -> Result<()> {
    w.node("n1", 0).await?;
    let container = w.launched("box", 0).await?;
    let asked = request(snapshot("base:v1", Then::Keep), Target::Container(container.id));
    let job = w.new_job(&asked).await?;
    ensure!((job.id, &job.spec, job.state) == (asked.id, &asked.spec, JobState::Queued));
    ensure!((job.attempt, job.max_attempts, job.fence.0) == (0, 3, 0));
    ensure!(job.node == Some(node_name("n1")) && job.container == Some(container.id));
    ensure!(
        job.image.as_deref() == Some("base:v1")
            && job.events.len() == 1
            && job.events[0].event == "submitted"
    );
    ensure!(w.job(job.id).await? == job && w.is_due(job.id).await?);
    ensure!(w.container(container.id).await?.job == Some(job.id));
    for query in [
        JobQuery { user: Some(user("ann")), limit: 9, ..JobQuery::default() },
        JobQuery { project: Some(project("p")), limit: 9, ..JobQuery::default() },
    ] {
        ensure!(w.store.jobs(&query).await?.items.first() == Some(&job), "{query:?}");
    }
    Ok(())
}

pub(crate) async fn the_same_id_is_the_same_job(w: &World) -> Result<()> {
    w.node("n1", 0).await?;
    let asked = request(JobSpec::Launch, new_container("box", 0));
    let job = w.new_job(&asked).await?;
    ensure!(w.store.submit(&asked).await? == Submitted::Replayed(Box::new(job)));
    Ok(())
}

/// A container and a keyed request to save it.
async fn keyed_save(w: &World) -> Result<Submission> {
    w.node("n1", 0).await?;
    let container = w.launched("box", 0).await?;
    let save = request(snapshot("base:v1", Then::Keep), Target::Container(container.id));
    Ok(keyed(save, "key", "body"))
}

pub(crate) async fn the_same_key_and_body_give_the_same_job_even_when_it_is_over(w: &World) -> Result<()> {
    let asked = keyed_save(w).await?;
    let job = w.new_job(&asked).await?;
    ensure!(w.store.submit(&again(&asked)).await? == Submitted::Replayed(Box::new(job.clone())));
    let over = w.ended(&job, Outcome::Succeeded(Effect::None)).await?;
    ensure!(w.store.submit(&again(&asked)).await? == Submitted::Replayed(Box::new(over)));
    Ok(())
}

pub(crate) async fn the_same_key_with_another_body_is_refused(w: &World) -> Result<()> {
    let asked = keyed_save(w).await?;
    let job = w.new_job(&asked).await?;
    let other = keyed(asked, "key", "another body");
    ensure!(w.store.submit(&other).await? == Submitted::IdempotencyConflict(job.id));
    ensure!(w.store.job(other.id).await?.is_none());
    Ok(())
}

pub(crate) async fn a_key_belongs_to_its_user(w: &World) -> Result<()> {
    let asked = keyed_save(w).await?;
    let job = w.new_job(&asked).await?;
    w.ended(&job, Outcome::Succeeded(Effect::None)).await?;
    let other = w.new_job(&by("bob", &asked)).await?;
    ensure!(other.id != job.id);
    Ok(())
}

pub(crate) async fn a_key_is_forgotten_after_its_time(w: &World) -> Result<()> {
    let asked = keyed_save(w).await?;
    let job = w.new_job(&asked).await?;
    w.ended(&job, Outcome::Succeeded(Effect::None)).await?;
    w.expire("idem:ann:").await?;
    w.new_job(&keyed(asked, "key", "another body")).await.map(drop)
}

pub(crate) async fn a_key_that_joined_a_job_stays_with_it(w: &World) -> Result<()> {
    let asked = keyed_save(w).await?;
    let job = w.new_job(&again(&Submission { idempotency: None, ..asked.clone() })).await?;
    ensure!(w.store.submit(&asked).await? == Submitted::Joined(Box::new(job.clone())));
    let over = w.ended(&job, Outcome::Succeeded(Effect::None)).await?;
    ensure!(w.store.submit(&again(&asked)).await? == Submitted::Replayed(Box::new(over)));
    Ok(())
}

pub(crate) async fn of_many_repetitions_at_once_one_is_new(w: &World) -> Result<()> {
    let asked = keyed_save(w).await?;
    let mut crowd = JoinSet::new();
    for _ in 0..32 {
        let (store, asked) = (w.store.clone(), again(&asked));
        crowd.spawn(async move { store.submit(&asked).await });
    }
    let (mut new, mut same) = (BTreeSet::new(), BTreeSet::new());
    for outcome in crowd.join_all().await {
        match outcome? {
            Submitted::New(job) => new.insert(job.id),
            Submitted::Replayed(job) => same.insert(job.id),
            other => bail!("{other:?}"),
        };
    }
    ensure!(new.len() == 1 && new == same, "{new:?} {same:?}");
    Ok(())
}

pub(crate) async fn the_same_request_joins_and_another_is_busy(w: &World) -> Result<()> {
    w.node("n1", 0).await?;
    let container = w.launched("box", 0).await?;
    let asked = request(snapshot("base:v1", Then::Keep), Target::Container(container.id));
    let job = w.new_job(&asked).await?;
    ensure!(w.store.submit(&again(&asked)).await? == Submitted::Joined(Box::new(job.clone())));
    let busy = Submitted::Busy(Box::new(job.clone()));
    ensure!(w.store.submit(&by("bob", &asked)).await? == busy);
    for spec in
        [JobSpec::Delete, JobSpec::Stop, snapshot("base:v2", Then::Keep), snapshot("base:v1", Then::Delete)]
    {
        ensure!(w.store.submit(&request(spec, asked.target.clone())).await? == busy);
    }
    let held = w.claimed(&job).await?;
    ensure!(w.store.submit(&again(&asked)).await? == Submitted::Joined(Box::new(held.clone())));
    w.store.cancel(job.id).await?;
    ensure!(
        matches!(w.store.submit(&again(&asked)).await?, Submitted::Busy(_)),
        "one to be stopped was joined"
    );
    w.settled(&held, Outcome::Cancelled).await?;
    w.new_job(&again(&asked)).await.map(drop)
}

pub(crate) async fn an_image_has_one_unfinished_job_and_a_refused_container_stays_free(
    w: &World,
) -> Result<()> {
    w.node("n1", 0).await?;
    let (one, two) = (w.launched("one", 0).await?, w.launched("two", 0).await?);
    w.saved(&one, "base:v1", 1).await?;
    let job = w.new_job(&request(snapshot("base:v1", Then::Keep), Target::Container(one.id))).await?;
    let other = request(snapshot("base:v1", Then::Keep), Target::Container(two.id));
    let busy = Submitted::Busy(Box::new(job.clone()));
    ensure!(w.store.submit(&other).await? == busy);
    ensure!(w.container(two.id).await? == two, "the refused request changed its container");
    let removal = JobSpec::DeleteImage { image: image("base:v1"), digest: digest(1) };
    ensure!(w.store.submit(&request(removal.clone(), Target::Image)).await? == busy);
    w.ended(&job, Outcome::Succeeded(Effect::None)).await?;
    let removal = w.new_job(&request(removal, Target::Image)).await?;
    ensure!(w.store.submit(&again(&other)).await? == Submitted::Busy(Box::new(removal.clone())));
    ensure!(
        w.store.submit(&request(removal.spec.clone(), Target::Image)).await?
            == Submitted::Joined(Box::new(removal.clone()))
    );
    w.ended(&removal, Outcome::Succeeded(Effect::ImageRemoved { undo: LONG })).await?;
    w.new_job(&again(&other)).await.map(drop)
}

pub(crate) async fn what_belongs_to_another_project_is_not_there(w: &World) -> Result<()> {
    w.node("n1", 0).await?;
    let container = w.launched("box", 0).await?;
    w.saved(&container, "base:v1", 1).await?;
    let foreign = |spec, target| Submission { project: project("q"), ..request(spec, target) };
    let none = w.store.submit(&foreign(JobSpec::Delete, Target::Container(container.id))).await?;
    ensure!(none == Submitted::NoContainer);
    ensure!(
        w.store.submit(&request(JobSpec::Delete, Target::Container(ContainerId(999)))).await?
            == Submitted::NoContainer
    );
    let removal = JobSpec::DeleteImage { image: image("base:v1"), digest: digest(1) };
    ensure!(w.store.submit(&foreign(removal, Target::Image)).await? == Submitted::NoImage);
    ensure!(w.store.image(&project("q"), &image("base:v1")).await?.is_none());
    ensure!(w.store.container_named(&project("q"), &container_name("box")).await?.is_none());
    Ok(())
}

pub(crate) async fn what_a_state_does_not_allow_is_refused_with_a_sentence(w: &World) -> Result<()> {
    w.node("n1", 0).await?;
    let container = w.launched("box", 0).await?;
    let target = Target::Container(container.id);
    let refused = async |specs: Vec<JobSpec>, word: &str| {
        for spec in specs {
            match w.store.submit(&request(spec.clone(), target.clone())).await? {
                Submitted::NotNow(why) => ensure!(why.contains("box") && why.contains(word), "{why}"),
                other => bail!("{spec:?} while {word}: {other:?}"),
            }
        }
        Ok(())
    };
    refused(vec![JobSpec::Start, JobSpec::Launch], "ready").await?;
    let stop = w.new_job(&request(JobSpec::Stop, target.clone())).await?;
    w.ended(&stop, Outcome::Succeeded(Effect::Stopped)).await?;
    refused(vec![JobSpec::Stop, JobSpec::Launch], "stopped").await?;
    w.parked(&container, "base:parked").await?;
    refused(vec![JobSpec::Stop, JobSpec::Start, snapshot("base:v2", Then::Keep)], "parked").await?;
    w.deleted(&w.container(container.id).await?).await?;
    refused(vec![JobSpec::Delete, JobSpec::Launch, snapshot("base:v2", Then::Keep)], "deleted").await
}

pub(crate) async fn a_protected_container_is_not_deleted(w: &World) -> Result<()> {
    w.node("n1", 0).await?;
    let container = w.launched("box", 0).await?;
    let target = Target::Container(container.id);
    let protect = |protected| ContainerChange { protected: Some(protected), ..ContainerChange::default() };
    w.store.change_container(container.id, &protect(true)).await?;
    for spec in [JobSpec::Delete, snapshot("base:v1", Then::Delete), snapshot("base:v1", Then::Park)] {
        ensure!(w.store.submit(&request(spec, target.clone())).await? == Submitted::Protected);
    }
    let save = w.new_job(&request(snapshot("base:v1", Then::Keep), target)).await?;
    w.ended(&save, Outcome::Succeeded(Effect::None)).await?;
    w.store.change_container(container.id, &protect(false)).await?;
    w.deleted(&container).await.map(drop)
}

pub(crate) async fn a_name_is_taken_until_its_container_is_gone(w: &World) -> Result<()> {
    w.node("n1", 0).await?;
    let first = w.launched("box", 0).await?;
    let second = request(JobSpec::Launch, new_container("box", 0));
    ensure!(w.store.submit(&second).await? == Submitted::NameTaken(first.id));
    w.new_job(&Submission { id: fresh_id(), project: project("q"), ..second.clone() }).await?;
    let deletion = w.new_job(&request(JobSpec::Delete, Target::Container(first.id))).await?;
    let held = w.claimed(&deletion).await?;
    ensure!(
        w.store.submit(&second).await? == Submitted::NameTaken(first.id),
        "freed while it is being deleted"
    );
    w.settled(&held, Outcome::Succeeded(Effect::Removed)).await?;
    ensure!(w.store.container_named(&project("p"), &container_name("box")).await?.is_none());
    let job = w.new_job(&second).await?;
    let named =
        w.store.container_named(&project("p"), &container_name("box")).await?.context("no container")?;
    ensure!(Some(named.id) == job.container && named.id != first.id);
    ensure!(w.container(first.id).await?.state == ContainerState::Deleted, "history lost the first one");
    Ok(())
}

pub(crate) async fn the_same_launch_under_way_is_joined(w: &World) -> Result<()> {
    w.node("n1", 4).await?;
    let asked = request(JobSpec::Launch, new_container("box", 1));
    let job = w.new_job(&asked).await?;
    ensure!(w.store.submit(&again(&asked)).await? == Submitted::Joined(Box::new(job.clone())));
    let id = job.container.context("a container")?;
    for other in [by("bob", &asked), request(JobSpec::Launch, new_container("box", 2))] {
        ensure!(w.store.submit(&other).await? == Submitted::NameTaken(id));
    }
    w.ended(&job, running("d")).await?;
    ensure!(w.store.submit(&again(&asked)).await? == Submitted::NameTaken(id));
    Ok(())
}

pub(crate) async fn overwriting_adds_nothing_to_a_quota(w: &World) -> Result<()> {
    w.node("n1", 0).await?;
    w.store.create_project(&project("p")).await?;
    let container = w.launched("box", 0).await?;
    w.saved(&container, "base:v1", 1).await?;
    w.store.set_quota(&project("p"), Some(1), Some(1)).await?;
    let save = |to: &str| request(snapshot(to, Then::Keep), Target::Container(container.id));
    match w.store.submit(&save("base:v2")).await? {
        Submitted::Quota(why) => ensure!(why.contains("project p has 1 images, its quota is 1"), "{why}"),
        other => bail!("{other:?}"),
    }
    ensure!(w.container(container.id).await?.job.is_none(), "the refused request keeps the container");
    let over = w.new_job(&save("base:v1")).await?;
    w.ended(&over, Outcome::Succeeded(Effect::None)).await?;
    w.store.set_quota(&project("p"), None, None).await?;
    w.new_job(&save("base:v2")).await.map(drop)
}

pub(crate) async fn a_quota_counts_what_is_being_saved(w: &World) -> Result<()> {
    w.node("n1", 0).await?;
    w.store.create_project(&project("p")).await?;
    w.store.set_quota(&project("p"), None, Some(1)).await?;
    let (one, two) = (w.launched("one", 0).await?, w.launched("two", 0).await?);
    let job = w.new_job(&request(snapshot("base:v1", Then::Keep), Target::Container(one.id))).await?;
    let other = request(snapshot("base:v2", Then::Keep), Target::Container(two.id));
    ensure!(matches!(w.store.submit(&other).await?, Submitted::Quota(_)));
    w.ended(&job, failed(permanent(), LONG)).await?;
    w.new_job(&other).await.map(drop)
}

pub(crate) async fn two_saves_at_once_do_not_share_the_last_place(w: &World) -> Result<()> {
    w.node("n1", 0).await?;
    w.store.create_project(&project("p")).await?;
    w.store.set_quota(&project("p"), None, Some(3)).await?;
    let mut crowd = JoinSet::new();
    for i in 0..12 {
        let container = w.launched(&format!("box{i}"), 0).await?;
        let save = request(snapshot(&format!("base:v{i}"), Then::Keep), Target::Container(container.id));
        let store = w.store.clone();
        crowd.spawn(async move { store.submit(&save).await });
    }
    let outcomes = crowd.join_all().await.into_iter().collect::<Result<Vec<_>, _>>()?;
    let new = outcomes.iter().filter(|o| matches!(o, Submitted::New(_))).count();
    let refused = outcomes.iter().filter(|o| matches!(o, Submitted::Quota(_))).count();
    ensure!((new, refused) == (3, 9), "{new} accepted, {refused} refused");
    Ok(())
}

pub(crate) async fn a_byte_quota_stops_the_next_save(w: &World) -> Result<()> {
    w.node("n1", 0).await?;
    w.store.create_project(&project("p")).await?;
    w.store.set_quota(&project("p"), Some(1500), None).await?;
    let container = w.launched("box", 0).await?;
    w.saved(&container, "base:v1", 1).await?;
    w.saved(&container, "base:v2", 2).await?;
    let save = request(snapshot("base:v3", Then::Keep), Target::Container(container.id));
    match w.store.submit(&save).await? {
        Submitted::Quota(why) => ensure!(why.contains("2003 bytes") && why.contains("1500"), "{why}"),
        other => bail!("{other:?}"),
    }
    Ok(())
}

pub(crate) async fn numbers_of_containers_never_repeat(w: &World) -> Result<()> {
    w.node("n1", 0).await?;
    let mut crowd = JoinSet::new();
    for i in 0..200 {
        let (store, asked) =
            (w.store.clone(), request(JobSpec::Launch, new_container(&format!("box{i}"), 0)));
        crowd.spawn(async move { store.submit(&asked).await });
    }
    let mut numbers = BTreeSet::new();
    for outcome in crowd.join_all().await {
        match outcome? {
            Submitted::New(job) => ensure!(numbers.insert(job.container.context("a container")?)),
            other => bail!("{other:?}"),
        }
    }
    ensure!(numbers.len() == 200);
    Ok(())
}
