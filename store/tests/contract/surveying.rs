//! Surveys: asked for, taken once, answered once, forgotten.

use crate::world::*;
use anyhow::{Context, Result, ensure};
use mothball_domain::exclude::Exclude;
use mothball_domain::failure::{Failure, FailureClass};
use mothball_domain::id::{ContainerId, SurveyId};
use mothball_domain::survey::{Survey, SurveyOutcome, SurveyReport};
use mothball_harness::wait::eventually;
use mothball_store::{AskedFor, JobQuery, SurveyDraft};
use std::time::Duration;
use uuid::Uuid;

fn draft(container: u64, asked_by: &str) -> SurveyDraft {
    SurveyDraft {
        id: SurveyId(Uuid::now_v7()),
        container: ContainerId(container),
        node: node_name("n1"),
        user: user(asked_by),
        excludes: Vec::new(),
        limit: Duration::from_mins(1),
    }
}

async fn new(w: &World, draft: &SurveyDraft) -> Result<Survey> {
    match w.store.ask_survey(draft).await? {
        AskedFor::New(survey) => Ok(survey),
        AskedFor::Joined(survey) => anyhow::bail!("joined {survey:?}"),
    }
}

fn report(bytes: u64) -> SurveyOutcome {
    SurveyOutcome::Report(Box::new(SurveyReport { writable_bytes: Some(bytes), ..SurveyReport::default() }))
}

pub(crate) async fn a_survey_is_taken_once_and_answered_once(w: &World) -> Result<()> {
    let asked = new(w, &draft(1, "ann")).await?;
    ensure!(w.store.survey(asked.id).await? == Some(asked.clone()) && asked.limit_ms == 60_000);
    ensure!(w.store.take_survey(asked.id, &node_name("n2"), "i").await?.is_none(), "another node took it");
    ensure!(!w.store.finish_survey(asked.id, "i", &report(1)).await?, "nobody had taken it");
    let (n1, racers) = (node_name("n1"), ["a", "b", "c", "d"]);
    let taking = racers.map(|instance| w.store.take_survey(asked.id, &n1, instance));
    let taken: Vec<Survey> =
        futures_util::future::try_join_all(taking).await?.into_iter().flatten().collect();
    ensure!(taken.len() == 1, "{} took it", taken.len());
    let winner = taken[0].taken_by.clone().context("the taker")?;
    ensure!(!w.store.finish_survey(asked.id, "another", &report(1)).await?, "another answered");
    ensure!(w.store.finish_survey(asked.id, &winner, &report(2)).await?);
    let failed = SurveyOutcome::Failed(Failure::transient(FailureClass::Engine, "no"));
    ensure!(!w.store.finish_survey(asked.id, &winner, &failed).await?, "it was answered twice");
    ensure!(w.store.survey(asked.id).await?.context("the survey")?.outcome == Some(report(2)));
    ensure!(w.store.take_survey(asked.id, &n1, "late").await?.is_none());
    Ok(())
}

pub(crate) async fn the_same_question_joins_the_survey_under_way(w: &World) -> Result<()> {
    let first = draft(1, "ann");
    let asked = new(w, &first).await?;
    ensure!(new(w, &first).await? == asked, "the same id is the same survey");
    ensure!(w.store.ask_survey(&draft(1, "ann")).await? == AskedFor::Joined(asked.clone()));
    let taken = w.store.take_survey(asked.id, &node_name("n1"), "i").await?.context("it is free")?;
    ensure!(w.store.ask_survey(&draft(1, "ann")).await? == AskedFor::Joined(taken));
    // Whatever differs makes another one.
    new(w, &draft(2, "ann")).await?;
    new(w, &draft(1, "bob")).await?;
    let other = SurveyDraft { excludes: vec![Exclude::new("*.ckpt")?], ..draft(1, "ann") };
    let other = new(w, &other).await?;
    // And one that is over is not joined: the container has changed since.
    w.store.take_survey(other.id, &node_name("n1"), "i").await?.context("it is free")?;
    ensure!(w.store.finish_survey(other.id, "i", &report(1)).await?);
    let again = SurveyDraft { excludes: other.excludes.clone(), ..draft(1, "ann") };
    ensure!(new(w, &again).await?.outcome.is_none());
    Ok(())
}

pub(crate) async fn a_survey_whose_worker_died_is_not_joined_for_ever(w: &World) -> Result<()> {
    let short = |id| SurveyDraft { id, limit: Duration::from_millis(1), ..draft(1, "ann") };
    let dead = new(w, &short(SurveyId(Uuid::now_v7()))).await?;
    eventually(SOON, "the end of its time", async || {
        let asked = w.store.ask_survey(&short(SurveyId(Uuid::now_v7()))).await.ok()?;
        matches!(asked, AskedFor::New(survey) if survey.id != dead.id).then_some(())
    })
    .await
}

pub(crate) async fn a_survey_is_forgotten_and_stands_in_no_list(w: &World) -> Result<()> {
    let asked = new(w, &draft(1, "ann")).await?;
    w.store.take_survey(asked.id, &node_name("n1"), "i").await?.context("it is free")?;
    ensure!(w.store.jobs(&JobQuery { limit: 10, ..JobQuery::default() }).await?.items.is_empty());
    w.expire("survey:").await?;
    ensure!(w.store.survey(asked.id).await?.is_none());
    ensure!(!w.store.finish_survey(asked.id, "i", &report(1)).await?, "a report came back to life");
    ensure!(w.store.survey(asked.id).await?.is_none());
    w.expire("surveyof:").await?;
    new(w, &draft(1, "ann")).await.map(drop)
}
