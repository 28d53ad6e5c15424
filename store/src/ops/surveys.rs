//! Surveys: the API writes down what is to be looked at, a worker takes it once and writes down what it saw. They live for a
//! short while and stand in no list: nothing of them is left, and no job waits for them.

use crate::db::tx::Tx;
use crate::ops::{after, transact};
use crate::{Store, StoreError, keys};
use mothball_domain::exclude::Exclude;
use mothball_domain::id::{ContainerId, SurveyId};
use mothball_domain::name::{NodeName, UserName};
use mothball_domain::survey::{Survey, SurveyOutcome};
use std::time::Duration;

/// How long a survey is kept: longer than any caller waits for it.
pub const SURVEY_TTL: Duration = Duration::from_mins(2);

/// A survey to be asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SurveyDraft {
    /// A fresh UUIDv7.
    pub id: SurveyId,
    /// What is to be looked at.
    pub container: ContainerId,
    /// The node whose worker is to look.
    pub node: NodeName,
    /// Who asks.
    pub user: UserName,
    /// What the save would leave out.
    pub excludes: Vec<Exclude>,
    /// How long the look may take.
    pub limit: Duration,
}

/// What came of asking for a survey.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AskedFor {
    /// It is recorded: wake the node's worker.
    New(Survey),
    /// The same user's same survey is under way: wait for that one.
    Joined(Survey),
}

impl Store {
    /// Records a survey, or joins the one within its time that the same user asked for in the same words. Atomic. Idempotent by
    /// its id. After a crash what is recorded goes by itself.
    pub async fn ask_survey(&self, draft: &SurveyDraft) -> Result<AskedFor, StoreError> {
        transact!(self, |tx| ask(tx, draft).await)
    }

    /// Takes a survey for the worker run `instance` on `node`: of many at once one gets it. None when it is another's, over,
    /// or too old to be known. Atomic. A taker that dies leaves it untaken by others: its caller waits no longer than it would.
    pub async fn take_survey(
        &self,
        id: SurveyId,
        node: &NodeName,
        instance: &str,
    ) -> Result<Option<Survey>, StoreError> {
        transact!(self, |tx| take(tx, id, node, instance).await)
    }

    /// Writes down what the taker saw. False when the survey is not its own, is over, or is too old to be known. Atomic.
    pub async fn finish_survey(
        &self,
        id: SurveyId,
        instance: &str,
        outcome: &SurveyOutcome,
    ) -> Result<bool, StoreError> {
        transact!(self, |tx| finish(tx, id, instance, outcome).await)
    }

    /// One survey, while it is kept.
    pub async fn survey(&self, id: SurveyId) -> Result<Option<Survey>, StoreError> {
        Tx::new(&self.db).get(&keys::survey(id)).await
    }
}

async fn ask(tx: &mut Tx<'_>, draft: &SurveyDraft) -> Result<AskedFor, StoreError> {
    let last_key = keys::survey_of(&draft.user, draft.container);
    tx.load(&[keys::survey(draft.id), last_key.clone()]).await?;
    let now = tx.now().await?;
    if let Some(known) = tx.get(&keys::survey(draft.id)).await? {
        return Ok(AskedFor::New(known));
    }
    if let Some(last) = tx.get::<SurveyId>(&last_key).await?
        && let Some(last) = tx.get::<Survey>(&keys::survey(last)).await?
        && last.outcome.is_none()
        // One that should have ended by now has lost its worker: a new one may find another.
        && after(last.asked_at, Duration::from_millis(last.limit_ms)) > now
        && (&last.node, &last.excludes) == (&draft.node, &draft.excludes)
    {
        return Ok(AskedFor::Joined(last));
    }
    let survey = Survey {
        id: draft.id,
        container: draft.container,
        node: draft.node.clone(),
        user: draft.user.clone(),
        excludes: draft.excludes.clone(),
        limit_ms: draft.limit.as_millis() as u64,
        asked_at: now,
        taken_by: None,
        outcome: None,
    };
    tx.put_for(&keys::survey(survey.id), &survey, Some(SURVEY_TTL))?;
    tx.put_for(&last_key, &survey.id, Some(SURVEY_TTL))?;
    Ok(AskedFor::New(survey))
}

async fn take(
    tx: &mut Tx<'_>,
    id: SurveyId,
    node: &NodeName,
    instance: &str,
) -> Result<Option<Survey>, StoreError> {
    let free = |s: &Survey| s.node == *node && s.taken_by.is_none() && s.outcome.is_none();
    let Some(mut survey) = tx.get::<Survey>(&keys::survey(id)).await?.filter(free) else { return Ok(None) };
    survey.taken_by = Some(instance.to_owned());
    tx.put_for(&keys::survey(id), &survey, Some(SURVEY_TTL))?;
    Ok(Some(survey))
}

async fn finish(
    tx: &mut Tx<'_>,
    id: SurveyId,
    instance: &str,
    outcome: &SurveyOutcome,
) -> Result<bool, StoreError> {
    let own = |s: &Survey| s.taken_by.as_deref() == Some(instance) && s.outcome.is_none();
    let Some(mut survey) = tx.get::<Survey>(&keys::survey(id)).await?.filter(own) else { return Ok(false) };
    survey.outcome = Some(outcome.clone());
    tx.put_for(&keys::survey(id), &survey, Some(SURVEY_TTL))?;
    Ok(true)
}
