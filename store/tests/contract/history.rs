//! History: jobs and the audit trail, by page, by filter, and removed when they are old.

use crate::world::*;
use anyhow::{Result, ensure};
use mothball_domain::id::JobId;
use mothball_domain::job::{JobKind, JobSpec, Then};
use mothball_domain::state::JobState;
use mothball_harness::wait::eventually;
use mothball_store::{AuditQuery, Effect, JobQuery, Outcome, Submission, Target};
use std::time::Duration;
use uuid::Uuid;

pub(crate) async fn jobs_are_listed_newest_first_by_page(w: &World) -> Result<()> {
    w.node("n1", 0).await?;
    let mut made = Vec::new();
    for i in 0..9 {
        made.push(w.new_job(&request(JobSpec::Launch, new_container(&format!("box{i}"), 0))).await?.id);
    }
    made.reverse();
    for limit in [1, 2, 3, 9, 10] {
        let (mut met, mut query): (Vec<JobId>, _) = (Vec::new(), JobQuery { limit, ..JobQuery::default() });
        loop {
            let page = w.store.jobs(&query).await?;
            ensure!(page.items.len() == limit || page.next.is_none());
            met.extend(page.items.iter().map(|job| job.id));
            let Some(next) = page.next else { break };
            ensure!(met.len() < 9, "an empty last page");
            query.cursor = Some(next.parse()?);
        }
        ensure!(met == made, "by {limit}");
    }
    // A page does not shift when newer ones come.
    let first = w.store.jobs(&JobQuery { limit: 3, ..JobQuery::default() }).await?;
    w.new_job(&request(JobSpec::Launch, new_container("newer", 0))).await?;
    let cursor = first.next.and_then(|next| next.parse().ok());
    let second = w.store.jobs(&JobQuery { cursor, limit: 3, ..JobQuery::default() }).await?;
    let ids: Vec<JobId> = second.items.iter().map(|job| job.id).collect();
    ensure!(ids == made[3..6]);
    Ok(())
}

pub(crate) async fn jobs_are_filtered(w: &World) -> Result<()> {
    w.node("n1", 0).await?;
    let container = w.launched("box", 0).await?;
    w.saved(&container, "base:v1", 1).await?;
    let save = w.new_job(&request(snapshot("base:v2", Then::Keep), Target::Container(container.id))).await?;
    let bobs = w.new_job(&by("bob", &request(JobSpec::Launch, new_container("bobs", 0)))).await?;
    let foreign =
        Submission { project: project("q"), ..request(JobSpec::Launch, new_container("foreign", 0)) };
    let foreign = w.new_job(&foreign).await?;
    let all = JobQuery { limit: 99, ..JobQuery::default() };
    let found = async |query: JobQuery| {
        let items = w.store.jobs(&query).await?.items;
        anyhow::Ok(items.iter().map(|job| job.id).collect::<Vec<_>>())
    };
    ensure!(found(JobQuery { user: Some(user("bob")), ..all.clone() }).await? == [bobs.id]);
    ensure!(found(JobQuery { project: Some(project("q")), ..all.clone() }).await? == [foreign.id]);
    ensure!(found(JobQuery { project: Some(project("p")), ..all.clone() }).await?.len() == 4);
    let anns_in_q = JobQuery { user: Some(user("ann")), project: Some(project("q")), ..all.clone() };
    ensure!(found(anns_in_q).await? == [foreign.id]);
    let snapshots = JobQuery { kind: Some(JobKind::Snapshot), ..all.clone() };
    ensure!(found(snapshots.clone()).await?.len() == 2);
    ensure!(found(JobQuery { state: Some(JobState::Queued), ..snapshots }).await? == [save.id]);
    ensure!(found(JobQuery { container: Some(container.id), ..all.clone() }).await?.len() == 3);
    // The first match lies behind more that do not.
    let oldest =
        JobQuery { state: Some(JobState::Succeeded), kind: Some(JobKind::Launch), limit: 1, ..all.clone() };
    ensure!(found(oldest).await?.len() == 1);
    ensure!(found(JobQuery { user: Some(user("nobody")), ..all }).await?.is_empty());
    let counts = w.store.job_counts().await?;
    ensure!(counts.len() == JobKind::ALL.len() * JobState::ALL.len());
    let queued = counts.iter().find(|c| (c.kind, c.state) == (JobKind::Launch, JobState::Queued));
    ensure!(queued.is_some_and(|c| c.count == 2 && c.oldest == Some(bobs.created_at)), "{queued:?}");
    Ok(())
}

pub(crate) async fn old_jobs_are_removed_and_others_stay(w: &World) -> Result<()> {
    w.node("n1", 0).await?;
    let container = w.launched("box", 0).await?;
    let saved = w.saved(&container, "base:v1", 1).await?;
    let save = request(snapshot("base:v2", Then::Keep), Target::Container(container.id));
    let retried = w.new_job(&keyed(save.clone(), "key", "body")).await?;
    w.ended(&retried, failed(permanent(), LONG)).await?;
    w.store.retry(retried.id, LONG).await?;
    ensure!(w.store.purge_jobs(LONG, 99).await? == 0, "young ones were removed");
    ensure!(w.store.purge_jobs(Duration::MAX, 99).await? == 0, "for ever is no error");
    let young = w.store.purge_jobs(Duration::ZERO, 1).await?;
    ensure!(young == 1, "not one at a time: {young}");
    eventually(SOON, "the removal of the rest", async || {
        w.store.purge_jobs(Duration::ZERO, 99).await.ok()?;
        (w.all_jobs().await.ok()?.len() == 1).then_some(())
    })
    .await?;
    ensure!(w.store.job(saved.id).await?.is_none() && w.store.job(retried.id).await?.is_some());
    ensure!(w.store.image(&project("p"), &image("base:v1")).await?.is_some(), "the image went with its job");
    // A key whose job history no longer has may be used anew.
    w.ended(&retried, Outcome::Succeeded(Effect::None)).await?;
    eventually(SOON, "the removal", async || {
        (w.store.purge_jobs(Duration::ZERO, 99).await.ok()? == 1).then_some(())
    })
    .await?;
    ensure!(w.all_jobs().await?.is_empty());
    w.new_job(&keyed(save, "key", "body")).await.map(drop)
}

pub(crate) async fn the_audit_trail_is_listed_newest_first_and_removed_when_old(w: &World) -> Result<()> {
    let ids: Vec<Uuid> = (0..7).map(|_| Uuid::now_v7()).collect();
    // Written in another order than they were made: the list goes by id all the same.
    for i in [3, 0, 6, 1, 5, 2, 4] {
        let p = project("p");
        let project = (i % 2 == 0).then_some(&p);
        w.store.audit(ids[i], &user("ann"), project, "key.revoke", &format!("k{i}"), "detail").await?;
    }
    let before = w.store.audit_trail(&AuditQuery { limit: 99, ..AuditQuery::default() }).await?.items;
    w.store.audit(ids[0], &user("bob"), None, "other", "other", "").await?;
    let after = w.store.audit_trail(&AuditQuery { limit: 99, ..AuditQuery::default() }).await?.items;
    ensure!(before == after, "the same id again changed something");
    for (project, expected) in [
        (None, vec!["k6", "k5", "k4", "k3", "k2", "k1", "k0"]),
        (Some(project("p")), vec!["k6", "k4", "k2", "k0"]),
    ] {
        let (mut met, mut query) = (Vec::new(), AuditQuery { project, limit: 2, cursor: None });
        loop {
            let page = w.store.audit_trail(&query).await?;
            met.extend(page.items.into_iter().map(|e| e.subject));
            query.cursor = page.next;
            if query.cursor.is_none() {
                break;
            }
        }
        ensure!(met == expected, "{met:?}");
    }
    ensure!(w.store.purge_audit(LONG, 99).await? == 0);
    let mut removed = w.store.purge_audit(Duration::ZERO, 3).await?;
    ensure!(removed == 3);
    eventually(SOON, "an empty trail", async || {
        removed += w.store.purge_audit(Duration::ZERO, 99).await.ok()?;
        (removed == 7).then_some(())
    })
    .await?;
    for project in [None, Some(project("p"))] {
        let left = w.store.audit_trail(&AuditQuery { project, limit: 9, cursor: None }).await?;
        ensure!(left.items.is_empty());
    }
    Ok(())
}
