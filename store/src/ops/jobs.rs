//! Reading jobs: one, a user's or a project's history, and how many stand where.

use crate::db::Order;
use crate::db::tx::Tx;
use crate::{Page, Store, StoreError, keys};
use jiff::Timestamp;
use mothball_domain::container::ContainerState;
use mothball_domain::id::{ContainerId, JobId};
use mothball_domain::job::{Job, JobKind};
use mothball_domain::name::{ProjectName, UserName};
use mothball_domain::state::JobState;

/// Which jobs a list shows: newest first.
#[derive(Debug, Clone, Default)]
pub struct JobQuery {
    /// Only of this project.
    pub project: Option<ProjectName>,
    /// Only of this user.
    pub user: Option<UserName>,
    /// Only in this state.
    pub state: Option<JobState>,
    /// Only of this kind.
    pub kind: Option<JobKind>,
    /// Only about this container.
    pub container: Option<ContainerId>,
    /// After this one, from the last page's `next`.
    pub cursor: Option<JobId>,
    /// How many at most.
    pub limit: usize,
}

/// How many jobs of a kind stand in a state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobCount {
    /// The kind.
    pub kind: JobKind,
    /// The state.
    pub state: JobState,
    /// How many.
    pub count: u64,
    /// When the oldest of them was submitted.
    pub oldest: Option<Timestamp>,
}

/// Jobs looked at for one page, however few of them match.
const LOOKED_AT_MAX: usize = 2000;
/// Jobs read from the store in one step.
const BATCH: usize = 200;

impl Store {
    /// One job.
    pub async fn job(&self, id: JobId) -> Result<Option<Job>, StoreError> {
        Tx::new(&self.db).get(&keys::job(id)).await
    }

    /// A page of jobs, newest first. A page may hold fewer than asked, or none, and still have a next one.
    pub async fn jobs(&self, query: &JobQuery) -> Result<Page<Job>, StoreError> {
        let index = match (&query.user, &query.project) {
            (Some(user), _) => keys::jobs_of_user(user),
            (None, Some(project)) => keys::jobs_of_project(project),
            (None, None) => keys::JOBS.to_owned(),
        };
        let matches = |job: &Job| {
            query.project.as_ref().is_none_or(|p| job.project == *p)
                && query.state.is_none_or(|s| job.state == s)
                && query.kind.is_none_or(|k| job.kind() == k)
                && query.container.is_none_or(|c| job.container == Some(c))
        };
        let mut items = Vec::new();
        let mut after = query.cursor.map(|id| id.to_string());
        let mut looked_at = 0;
        // One more than asked is looked for, to know whether there is a next page.
        let mut batch = query.limit.saturating_add(1).clamp(1, BATCH);
        loop {
            let members = self.db.scan(&index, after.as_deref(), Order::Descending, batch).await?;
            let job_keys: Vec<String> = members.iter().map(|m| format!("job:{m}")).collect();
            for job in Tx::new(&self.db).get_many::<Job>(&job_keys).await? {
                if matches(&job) {
                    if items.len() >= query.limit {
                        let next = items.last().map(|job: &Job| job.id.to_string());
                        return Ok(Page { items, next });
                    }
                    items.push(job);
                }
            }
            looked_at += members.len();
            if members.len() < batch {
                return Ok(Page { items, next: None });
            }
            batch = BATCH;
            after = members.into_iter().next_back();
            if looked_at >= LOOKED_AT_MAX {
                return Ok(Page { items, next: after });
            }
        }
    }

    /// How many jobs stand where: every kind in every state, zeros included.
    pub async fn job_counts(&self) -> Result<Vec<JobCount>, StoreError> {
        let places = || JobKind::ALL.into_iter().flat_map(|kind| JobState::ALL.map(|state| (kind, state)));
        let indexes: Vec<String> = places().map(|(kind, state)| keys::jobs_in_state(kind, state)).collect();
        let mut counts = Vec::with_capacity(indexes.len());
        for ((kind, state), (index, count)) in
            places().zip(indexes.iter().zip(self.db.count(&indexes).await?))
        {
            let oldest = if count > 0 && !state.is_final() { self.oldest(index).await? } else { None };
            counts.push(JobCount { kind, state, count, oldest });
        }
        Ok(counts)
    }

    /// How many unfinished jobs there are, and how many have a due time: the two are equal.
    pub async fn unfinished_and_due(&self) -> Result<(u64, u64), StoreError> {
        let unfinished = || JobState::ALL.into_iter().filter(|s| !s.is_final());
        let in_state = |kind| unfinished().map(move |state| keys::jobs_in_state(kind, state));
        let mut indexes = vec![keys::DUE.to_owned()];
        indexes.extend(JobKind::ALL.into_iter().flat_map(in_state));
        let counts = self.db.count(&indexes).await?;
        Ok((counts.iter().skip(1).sum(), counts.first().copied().unwrap_or(0)))
    }

    /// How many containers stand where, deleted ones left out.
    pub async fn container_counts(&self) -> Result<Vec<(ContainerState, u64)>, StoreError> {
        let states: Vec<ContainerState> =
            ContainerState::ALL.into_iter().filter(|s| *s != ContainerState::Deleted).collect();
        let indexes: Vec<String> = states.iter().map(|s| keys::containers_in_state(*s)).collect();
        Ok(states.into_iter().zip(self.db.count(&indexes).await?).collect())
    }

    async fn oldest(&self, index: &str) -> Result<Option<Timestamp>, StoreError> {
        let first = self.db.scan(index, None, Order::Ascending, 1).await?;
        let Some(id) = first.first().and_then(|m| m.parse().ok()) else { return Ok(None) };
        Ok(self.job(id).await?.map(|job| job.created_at))
    }
}
