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
        loop {
            let members = self.db.scan(&index, after.as_deref(), Order::Descending, BATCH).await?;
            let job_keys: Vec<String> = members.iter().map(|m| format!("job:{m}")).collect();
            for job in Tx::new(&self.db).get_many::<Job>(&job_keys).await? {
                if matches(&job) {
                    items.push(job);
                }
                if items.len() == query.limit {
                    let next = items.last().map(|job| job.id.to_string());
                    return Ok(Page { items, next });
                }
            }
            looked_at += members.len();
            if members.len() < BATCH {
                return Ok(Page { items, next: None });
            }
            after = members.into_iter().next_back();
            if looked_at >= LOOKED_AT_MAX {
                return Ok(Page { items, next: after });
            }
        }
    }

    /// How many jobs stand where: every kind in every state, zeros included.
    pub async fn job_counts(&self) -> Result<Vec<JobCount>, StoreError> {
        let mut counts = Vec::new();
        for kind in JobKind::ALL {
            for state in JobState::ALL {
                let index = keys::jobs_in_state(kind, state);
                let count = self.db.count(&index).await?;
                let oldest = if count > 0 && !state.is_final() { self.oldest(&index).await? } else { None };
                counts.push(JobCount { kind, state, count, oldest });
            }
        }
        Ok(counts)
    }

    /// How many unfinished jobs there are, and how many have a due time: the two are equal.
    pub async fn unfinished_and_due(&self) -> Result<(u64, u64), StoreError> {
        let mut unfinished = 0;
        for kind in JobKind::ALL {
            for state in JobState::ALL.into_iter().filter(|s| !s.is_final()) {
                unfinished += self.db.count(&keys::jobs_in_state(kind, state)).await?;
            }
        }
        Ok((unfinished, self.db.count(keys::DUE).await?))
    }

    /// How many containers stand where, deleted ones left out.
    pub async fn container_counts(&self) -> Result<Vec<(ContainerState, u64)>, StoreError> {
        let mut counts = Vec::new();
        for state in ContainerState::ALL.into_iter().filter(|s| *s != ContainerState::Deleted) {
            counts.push((state, self.db.count(&keys::containers_in_state(state)).await?));
        }
        Ok(counts)
    }

    async fn oldest(&self, index: &str) -> Result<Option<Timestamp>, StoreError> {
        let first = self.db.scan(index, None, Order::Ascending, 1).await?;
        let Some(id) = first.first().and_then(|m| m.parse().ok()) else { return Ok(None) };
        Ok(self.job(id).await?.map(|job| job.created_at))
    }
}
