//! Doing to a container what its project's policy says: a warning, its withdrawal, a park, each in one step with what led
//! to it, so that two schedulers warn once and park once.

use crate::db::tx::Tx;
use crate::ops::notices::{subject, tell};
use crate::ops::submit::{Submission, Submitted, Target, submit, unfinished};
use crate::ops::{keeping, records, transact};
use crate::{ContainerQuery, Store, StoreError, keys};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use mothball_domain::container::{Container, ContainerState};
use mothball_domain::id::{ContainerId, JobId};
use mothball_domain::image::ImageRef;
use mothball_domain::job::{Job, JobSpec, PauseMode, Then};
use mothball_domain::name::{ProjectName, Tag};
use mothball_domain::notice::News;
use mothball_domain::people::Project;
use mothball_domain::policy::{Candidate, ParkPolicy, Verdict, Warning, decide};
use mothball_domain::state::JobState;
use mothball_domain::usage::Look;
use rust_decimal::Decimal;
use std::collections::BTreeMap;
use std::time::Duration;

/// What whoever polices must know.
#[derive(Debug, Clone, Default)]
pub struct Policing {
    /// What the container's project has cost this month.
    pub spent: Decimal,
    /// How old a look at a container may be to count.
    pub seen_within: Duration,
    /// Attempts that its jobs get.
    pub max_attempts: u32,
    /// How lately a node must have reported to count as alive.
    pub alive_within: Duration,
}

/// What was done about a container.
#[derive(Debug, Clone, PartialEq)]
pub enum Policed {
    /// Nothing was to be done.
    Nothing,
    /// Its owner is to be told.
    Warned(Warning, Box<Container>),
    /// The reason has gone, and the warning with it.
    Withdrawn(Box<Container>),
    /// It is being parked, by this job.
    Parking(Warning, Box<Job>),
    /// It should be parked and cannot be now; why, in words. It is tried again after another grace.
    NotNow(Warning, Box<Container>, String),
}

impl Store {
    /// Does what the policy of the container's project says now. `job` is a fresh id for the park, if it comes to that.
    /// Atomic; asked for twice it does nothing the second time.
    pub async fn police(
        &self,
        container: ContainerId,
        job: JobId,
        policing: &Policing,
    ) -> Result<Policed, StoreError> {
        let policed = transact!(self, |tx| police(tx, container, job, policing).await);
        if let Ok(Policed::Parking(_, job)) = &policed {
            self.count_submitted(job);
        }
        policed
    }

    /// Containers of a project about which its policy may say something now: those that give it a reason, and those that
    /// were warned. Looks at up to `limit` of them in a few reads; [`police`](Self::police) decides about each. With them
    /// comes the container after which to go on, if there are more. Reads only.
    pub async fn concerned(
        &self,
        project: &ProjectName,
        policy: &ParkPolicy,
        policing: &Policing,
        after: Option<ContainerId>,
        limit: usize,
    ) -> Result<(Vec<ContainerId>, Option<ContainerId>), StoreError> {
        let query = ContainerQuery {
            project: Some(project.clone()),
            cursor: after,
            limit,
            ..ContainerQuery::default()
        };
        let page = self.containers(&query).await?;
        let mut tx = Tx::new(&self.db);
        let around = |c: &Container| {
            let job = c.job.map(keys::job);
            [Some(keys::warning(c.id)), Some(keys::usage(c.id)), job]
                .into_iter()
                .flatten()
                .collect::<Vec<_>>()
        };
        tx.load(&page.items.iter().flat_map(around).collect::<Vec<_>>()).await?;
        let now = tx.now().await?;
        let mut concerned = Vec::new();
        for container in &page.items {
            let mut standing = tx.get::<Warning>(&keys::warning(container.id)).await?;
            if !is_there(container) {
                concerned.extend(standing.map(|_| container.id));
                continue;
            }
            let warned = standing.is_some();
            let verdict = verdict(&mut tx, container, policy, policing, &mut standing, now).await?;
            if verdict != Verdict::Leave || (warned && standing.is_none()) {
                concerned.push(container.id);
            }
        }
        Ok((concerned, page.items.last().filter(|_| page.next.is_some()).map(|c| c.id)))
    }

    /// What the policy of a container's project would do about it if it had not been warned of yet. Changes nothing.
    pub async fn would_police(
        &self,
        container: &Container,
        policing: &Policing,
    ) -> Result<Verdict, StoreError> {
        let mut tx = Tx::new(&self.db);
        let policy: ParkPolicy = tx.get(&keys::park_policy(&container.project)).await?.unwrap_or_default();
        let now = tx.now().await?;
        let candidate = candidate(&mut tx, container, &policy, policing, now).await?;
        Ok(decide(&policy, &candidate, policing.spent, None, now))
    }

    /// The warnings that stand for these containers.
    pub async fn warnings(
        &self,
        containers: &[ContainerId],
    ) -> Result<BTreeMap<ContainerId, Warning>, StoreError> {
        let mut tx = Tx::new(&self.db);
        tx.load(&containers.iter().map(|id| keys::warning(*id)).collect::<Vec<_>>()).await?;
        let mut found = BTreeMap::new();
        for id in containers {
            if let Some(warning) = tx.get(&keys::warning(*id)).await? {
                found.insert(*id, warning);
            }
        }
        Ok(found)
    }
}

async fn police(
    tx: &mut Tx<'_>,
    id: ContainerId,
    job: JobId,
    policing: &Policing,
) -> Result<Policed, StoreError> {
    tx.load(&[keys::container(id), keys::warning(id), keys::usage(id)]).await?;
    let mut standing: Option<Warning> = tx.get(&keys::warning(id)).await?;
    let found = records::container(tx, id).await?;
    let Some(container) = found.filter(is_there) else {
        // Parked, deleted, failed: whatever it was warned of has come to its end.
        if standing.is_some() {
            tx.delete(&keys::warning(id));
        }
        return Ok(Policed::Nothing);
    };
    let policy: ParkPolicy = tx.get(&keys::park_policy(&container.project)).await?.unwrap_or_default();
    let now = tx.now().await?;
    let warned = standing.is_some();
    let verdict = verdict(tx, &container, &policy, policing, &mut standing, now).await?;
    let has_led_to_its_park = warned && standing.is_none();
    match verdict {
        Verdict::Leave => {
            if has_led_to_its_park {
                tx.delete(&keys::warning(id));
            }
            Ok(Policed::Nothing)
        }
        Verdict::Withdraw => {
            tx.delete(&keys::warning(id));
            Ok(Policed::Withdrawn(Box::new(container)))
        }
        Verdict::Warn(warning) => {
            tx.put(&keys::warning(id), &warning)?;
            let keep = if warning.protected { None } else { Some(keeping::offer(tx, id, &policy)?) };
            let news = News::Warned {
                container: subject(&container),
                reason: warning.reason,
                park_at: warning.park_at,
                protected: warning.protected,
                per_hour: container.rate().price_per_hour,
                keep,
            };
            tell(tx, &container.project, Some(&container.user), news).await?;
            Ok(Policed::Warned(warning, Box::new(container)))
        }
        Verdict::Park(warning) => park(tx, container, job, warning, &policy, policing, now).await,
    }
}

/// Whether it is on a node, or about to be.
fn is_there(container: &Container) -> bool {
    container.state.exists() || container.state == ContainerState::Initializing
}

/// What is to be done about a container; `standing` is its warning, which a park that failed puts off.
async fn verdict(
    tx: &mut Tx<'_>,
    container: &Container,
    policy: &ParkPolicy,
    policing: &Policing,
    standing: &mut Option<Warning>,
    now: Timestamp,
) -> Result<Verdict, StoreError> {
    let candidate = candidate(tx, container, policy, policing, now).await?;
    after_its_park(tx, standing, policy).await?;
    Ok(decide(policy, &candidate, policing.spent, standing.as_ref(), now))
}

/// What the park that a warning led to means for it. One that failed is repeated when another grace is over, counted from
/// its end. One that succeeded has ended the warning, also where the container was woken before anybody looked: who woke it
/// is warned anew.
async fn after_its_park(
    tx: &mut Tx<'_>,
    standing: &mut Option<Warning>,
    policy: &ParkPolicy,
) -> Result<(), StoreError> {
    let Some(warning) = standing else { return Ok(()) };
    let Some(tried) = warning.tried else { return Ok(()) };
    let Some(job) = records::job(tx, tried).await? else { return Ok(()) };
    if job.state == JobState::Succeeded {
        *standing = None;
        return Ok(());
    }
    let again = job.finished_at.and_then(|at| at.saturating_add(policy.grace()).ok());
    warning.park_at = warning.park_at.max(again.unwrap_or(warning.park_at));
    Ok(())
}

async fn candidate(
    tx: &mut Tx<'_>,
    container: &Container,
    policy: &ParkPolicy,
    policing: &Policing,
    now: Timestamp,
) -> Result<Candidate, StoreError> {
    let busy = match container.job {
        Some(job) => unfinished(tx, job).await?.is_some(),
        None => false,
    };
    let look: Option<Look> = tx.get(&keys::usage(container.id)).await?;
    // A look by another rule, or an old one, says nothing.
    let counts = |look: &Look| {
        let age_ms = now.as_millisecond().saturating_sub(look.at.as_millisecond());
        policy.idle.as_ref().is_some_and(|rule| *rule == look.rule && rule.holds(&look.idle))
            && age_ms <= policing.seen_within.as_millis() as i64
    };
    Ok(Candidate {
        at_rest: !busy && matches!(container.state, ContainerState::Ready | ContainerState::Stopped),
        ready_since: container.billed_since(),
        idle_since: look.filter(counts).and_then(|look| look.idle_since()),
        protected: container.protected,
        keep_until: container.keep_until,
    })
}

async fn park(
    tx: &mut Tx<'_>,
    container: Container,
    job: JobId,
    warning: Warning,
    policy: &ParkPolicy,
    policing: &Policing,
    now: Timestamp,
) -> Result<Policed, StoreError> {
    let tag = format!("park-{}-{}", now.to_zoned(TimeZone::UTC).strftime("%Y%m%d-%H%M%S"), container.name);
    let Ok(tag) = Tag::new(tag) else {
        return Ok(Policed::NotNow(warning, Box::new(container), "its name makes no tag".to_owned()));
    };
    let project: Option<Project> = tx.get(&keys::project(&container.project)).await?;
    let submission = Submission {
        id: job,
        spec: JobSpec::Snapshot {
            image: ImageRef { name: container.image_name.clone(), tag },
            then: Then::Park,
            pause: PauseMode::Auto,
            discard_volumes: false,
            excludes: project.map(|p| p.excludes).unwrap_or_default(),
        },
        user: container.user.clone(),
        project: container.project.clone(),
        target: Target::Container(container.id),
        schedule: None,
        idempotency: None,
        max_attempts: policing.max_attempts,
        alive_within: policing.alive_within,
    };
    let submitted = submit(tx, &submission).await?;
    // Should it fail, or be refused, its owner has another grace before it is tried again. Written last: a submission
    // that is refused forgets whatever was written before it.
    let park_at = now.saturating_add(policy.grace()).unwrap_or(Timestamp::MAX);
    let tried = match &submitted {
        Submitted::New(job) | Submitted::Replayed(job) | Submitted::Joined(job) => Some(job.id),
        _ => warning.tried,
    };
    tx.put(&keys::warning(container.id), &Warning { park_at, tried, ..warning })?;
    if let Submitted::New(job) = &submitted {
        let news = News::Parking { container: subject(&container), reason: warning.reason, job: job.id };
        tell(tx, &container.project, Some(&container.user), news).await?;
    }
    Ok(match submitted {
        Submitted::New(job) | Submitted::Replayed(job) | Submitted::Joined(job) => {
            Policed::Parking(warning, job)
        }
        refused => Policed::NotNow(warning, Box::new(container), words(&refused)),
    })
}

fn words(refused: &Submitted) -> String {
    match refused {
        Submitted::NotNow(why) | Submitted::Quota(why) => why.clone(),
        Submitted::Busy(other) => format!("{} job {} is in the way", other.kind(), other.id),
        Submitted::Protected => "it is protected from deletion".to_owned(),
        other => format!("the store refused its park: {other:?}"),
    }
}
