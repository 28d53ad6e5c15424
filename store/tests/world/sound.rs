//! What must hold of every store at every moment.

use super::World;
use anyhow::{Result, ensure};
use jiff::Timestamp;
use mothball_domain::billing::{Line, Usage};
use mothball_domain::container::{Container, ContainerState};
use mothball_domain::id::ContainerId;
use mothball_domain::job::{Job, JobSpec};
use mothball_domain::name::ProjectName;
use mothball_domain::node::{Node, Reservations};
use mothball_domain::state::JobState;
use mothball_store::{ContainerQuery, JobQuery, LedgerQuery, ScheduleQuery};
use std::collections::{BTreeMap, BTreeSet};

/// Everything that can be seen of a store at rest.
pub(crate) struct Seen {
    /// Newest first.
    pub(crate) jobs: Vec<Job>,
    /// Those that are not deleted.
    pub(crate) containers: Vec<Container>,
    pub(crate) nodes: Vec<(Node, Reservations)>,
    unfinished_and_due: (u64, u64),
}

impl World {
    /// Every job, newest first.
    pub(crate) async fn all_jobs(&self) -> Result<Vec<Job>> {
        let page = self.store.jobs(&JobQuery { limit: 1900, ..JobQuery::default() }).await?;
        ensure!(page.next.is_none(), "more jobs than this looks at");
        Ok(page.items)
    }

    /// Every container that is not deleted.
    pub(crate) async fn all_containers(&self) -> Result<Vec<Container>> {
        Ok(self
            .store
            .containers(&ContainerQuery { limit: usize::MAX, ..ContainerQuery::default() })
            .await?
            .items)
    }

    pub(crate) async fn look(&self) -> Result<Seen> {
        Ok(Seen {
            jobs: self.all_jobs().await?,
            containers: self.all_containers().await?,
            nodes: self.store.nodes().await?,
            unfinished_and_due: self.store.unfinished_and_due().await?,
        })
    }

    /// Checks every invariant of the store at rest.
    pub(crate) async fn check_sound(&self) -> Result<()> {
        let seen = self.look().await?;
        let all = ScheduleQuery { limit: usize::MAX, ..ScheduleQuery::default() };
        let schedules = self.store.schedules(&all).await?.items;
        let due = schedules.iter().filter(|s| s.next_at().is_some()).count();
        ensure!(schedules.iter().all(|s| s.enabled == s.next_at().is_some()), "{schedules:?}");
        ensure!(self.store.schedules_and_due().await? == (schedules.len() as u64, due as u64));
        for count in self.store.job_counts().await? {
            let found = seen.jobs.iter().filter(|j| j.kind() == count.kind && j.state == count.state).count();
            ensure!(count.count == found as u64, "{count:?}, but there are {found}");
        }
        seen.check()?;
        self.check_money().await
    }

    /// The ledger says of each container what its record does, and of each project what its containers do.
    async fn check_money(&self) -> Result<()> {
        let query = LedgerQuery { project: None, user: None, since: Timestamp::UNIX_EPOCH };
        let ledger = self.store.ledger(&query).await?;
        let mut by_container: BTreeMap<ContainerId, Vec<Line>> = BTreeMap::new();
        for sheet in ledger.sheets {
            by_container.entry(sheet.container).or_default().extend(sheet.lines);
        }
        let mut deleted: BTreeMap<ProjectName, Usage> = BTreeMap::new();
        let newest = by_container.keys().next_back().map_or(0, |id| id.0);
        let mut is_whole = true;
        for number in 1.. {
            let lines = by_container.remove(&ContainerId(number));
            let Some(container) = self.store.container(ContainerId(number)).await? else {
                // Purged, or the last one is behind us.
                if number > newest {
                    break;
                }
                is_whole = false;
                continue;
            };
            let mut lines = lines.unwrap_or_default();
            lines.sort_by_key(|line| (line.from, line.to.is_none()));
            let meets = |pair: &[Line]| pair[0].to.is_some_and(|to| to <= pair[1].from);
            ensure!(lines.windows(2).all(meets), "stretches of {number} overlap: {lines:?}");
            let lasted = |line: &Line| {
                let until = line.to.unwrap_or(ledger.now);
                let lasted_ms = until.as_millisecond() - line.from.as_millisecond();
                Usage::of(lasted_ms.max(0), &line.rate, line.stored.as_ref())
            };
            let (written, used) = (lines.iter().map(lasted).sum::<Usage>(), container.usage(ledger.now));
            ensure!(written == used, "the ledger of {number} says {written:?}, its record {used:?}");
            if container.is_gone() {
                *deleted.entry(container.project).or_default() += used;
            }
        }
        for (project, used) in deleted.into_iter().filter(|_| is_whole) {
            let total = self.store.used_by_deleted(&project).await?;
            ensure!(total == used, "deleted containers of {project} came to {used:?}, not to {total:?}");
        }
        Ok(())
    }
}

impl Seen {
    /// Checks the invariants.
    pub(crate) fn check(&self) -> Result<()> {
        self.check_jobs()?;
        check_containers(&self.jobs, &self.containers)?;
        self.check_places()
    }

    fn check_jobs(&self) -> Result<()> {
        let unfinished: Vec<&Job> = self.jobs.iter().filter(|job| !job.state.is_final()).collect();
        let (counted, due) = self.unfinished_and_due;
        let expected = unfinished.len() as u64;
        ensure!(
            (counted, due) == (expected, expected),
            "{counted} unfinished, {due} due, but {expected} jobs"
        );
        let mut claimed = BTreeSet::new();
        for job in &unfinished {
            if let Some(container) = job.container {
                ensure!(
                    claimed.insert(container.to_string()),
                    "container {container} has two unfinished jobs"
                );
            }
            if let Some(image) = job.spec.image() {
                let image = format!("{}/{image}", job.project);
                ensure!(claimed.insert(image.clone()), "image {image} has two unfinished jobs");
            }
        }
        for job in &self.jobs {
            let running = job.state == JobState::Running;
            ensure!(job.lease.is_some() == running, "{} is {} with lease {:?}", job.id, job.state, job.lease);
            ensure!(job.finished_at.is_some() == job.state.is_final(), "{} is {}", job.id, job.state);
            ensure!(job.attempt <= job.max_attempts, "{} had {} attempts", job.id, job.attempt);
            ensure!(job.fence.0 >= u64::from(job.attempt), "{} has fence {}", job.id, job.fence);
            let placed = job.spec == JobSpec::Launch && running;
            ensure!(!placed || job.node.is_some(), "launch {} runs nowhere", job.id);
        }
        Ok(())
    }

    fn check_places(&self) -> Result<()> {
        let mut held = BTreeSet::new();
        for (node, reservations) in &self.nodes {
            let mut gpus = BTreeSet::new();
            for (id, indexes) in &reservations.held {
                for index in indexes {
                    ensure!(gpus.insert(*index), "GPU {index} of {} is held twice", node.name);
                }
                let holder = self.containers.iter().find(|c| c.id == *id);
                let right = holder.is_some_and(|c| c.gpus == *indexes && c.node.as_ref() == Some(&node.name));
                ensure!(right, "{id} holds {indexes:?} of {}, but is {holder:?}", node.name);
                held.insert(*id);
            }
        }
        for container in &self.containers {
            let full = container.gpus.len() == container.launch.flavor.gpus as usize;
            ensure!(container.gpus.is_empty() || full, "{} has some of its GPUs", container.id);
            ensure!(
                !container.state.exists() || full,
                "{} is {} without its GPUs",
                container.id,
                container.state
            );
            let holds = held.contains(&container.id);
            ensure!(holds || container.gpus.is_empty(), "{} has GPUs that it does not hold", container.id);
            ensure!(!container.state.exists() || holds, "{} is {} nowhere", container.id, container.state);
        }
        Ok(())
    }
}

fn check_containers(jobs: &[Job], containers: &[Container]) -> Result<()> {
    let mut names = BTreeSet::new();
    for container in containers {
        let name = (container.project.clone(), container.name.clone());
        ensure!(names.insert(name), "two containers are called {}", container.name);
        if let Some(id) = container.job {
            let job = jobs.iter().find(|job| job.id == id && !job.state.is_final());
            ensure!(
                job.is_some_and(|job| job.container == Some(container.id)),
                "{} is busy with {id}, which is not an unfinished job of it",
                container.id
            );
        }
        let open = container.metered.iter().filter(|s| s.is_open()).count();
        let shown = format!("{} is {} and metered as {:?}", container.id, container.state, container.metered);
        ensure!(open <= 1 && container.metered.iter().rev().skip(1).all(|s| !s.is_open()), "{shown}");
        let is_parked = open == 1 && !container.is_billed();
        match container.state {
            ContainerState::Ready | ContainerState::Stopped => ensure!(container.is_billed(), "{shown}"),
            ContainerState::Deleting => ensure!(!is_parked, "{shown}"),
            ContainerState::Parked => ensure!(is_parked, "{shown}"),
            // Being parked saves money until it is ready again.
            ContainerState::Initializing => {
                ensure!(open == 0 || (is_parked && container.parked_image.is_some()), "{shown}");
            }
            _ => ensure!(open == 0, "{shown}"),
        }
    }
    for job in jobs.iter().filter(|job| !job.state.is_final()) {
        if let Some(id) = job.container {
            let container = containers.iter().find(|c| c.id == id);
            ensure!(
                container.is_some_and(|c| c.job == Some(job.id)),
                "{} does not have its container",
                job.id
            );
        }
    }
    Ok(())
}
