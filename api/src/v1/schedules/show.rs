//! From a schedule's records to JSON.

use crate::app::App;
use crate::v1::views::{self, Problem};
use jiff::Timestamp;
use mothball_domain::id::ContainerId;
use mothball_domain::schedule::run::{Run, RunTarget};
use mothball_domain::schedule::zone::Zone;
use mothball_domain::schedule::{Plan, Schedule, ScheduleTarget};
use std::collections::BTreeMap;

/// Names of containers that were looked up.
pub(super) type Names = BTreeMap<ContainerId, Option<String>>;

/// The container that a plan names.
pub(super) fn container(plan: &Plan) -> Option<ContainerId> {
    match plan.target {
        ScheduleTarget::Container(id) => Some(id),
        ScheduleTarget::Labels(_) | ScheduleTarget::Project => None,
    }
}

/// What a plan is about, in words.
pub(super) fn about(plan: &Plan) -> String {
    match &plan.target {
        ScheduleTarget::Container(id) => format!("container {id}"),
        ScheduleTarget::Labels(labels) => format!("containers with {labels}"),
        ScheduleTarget::Project => "all containers".to_owned(),
    }
}

/// The same, with the container's name where it is known.
pub(super) fn about_named(plan: &Plan, names: &Names) -> String {
    let name = container(plan).and_then(|id| names.get(&id).cloned().flatten());
    name.unwrap_or_else(|| about(plan))
}

/// The names of the containers that these schedules name; each is read once.
pub(super) async fn names(app: &App, schedules: &[Schedule]) -> Result<Names, Problem> {
    let mut names = Names::new();
    for id in schedules.iter().filter_map(|s| container(&s.plan)) {
        if let std::collections::btree_map::Entry::Vacant(unknown) = names.entry(id) {
            let found = app.parts.store.container(id).await?;
            unknown.insert(found.map(|c| c.name.to_string()));
        }
    }
    Ok(names)
}

/// A schedule.
pub(super) async fn schedule(app: &App, schedule: &Schedule) -> Result<views::Schedule, Problem> {
    let names = names(app, std::slice::from_ref(schedule)).await?;
    Ok(with_names(schedule, &names))
}

/// Schedules.
pub(super) async fn schedules(app: &App, schedules: &[Schedule]) -> Result<Vec<views::Schedule>, Problem> {
    let names = names(app, schedules).await?;
    Ok(schedules.iter().map(|schedule| with_names(schedule, &names)).collect())
}

fn with_names(schedule: &Schedule, names: &Names) -> views::Schedule {
    let (plan, clock) = (&schedule.plan, &schedule.clock);
    let container = container(plan);
    views::Schedule {
        id: schedule.id,
        container,
        container_name: container.and_then(|id| names.get(&id).cloned().flatten()),
        labels: match &plan.target {
            ScheduleTarget::Labels(labels) => Some(labels.as_map().clone()),
            _ => None,
        },
        all_containers: plan.target == ScheduleTarget::Project,
        action: plan.action,
        cron: plan.cron.to_string(),
        timezone: plan.timezone.to_string(),
        enabled: schedule.enabled,
        next_at: schedule.next_at(),
        skip_next: clock.skip_next,
        last_job: schedule.last_job,
        postponed_from: clock.postponed_to.and(clock.planned_at),
        missed: plan.missed,
        patience_seconds: plan.patience_s,
        tag: plan.tag.as_ref().map(ToString::to_string),
        flavor: plan.flavor.as_ref().map(ToString::to_string),
        discard_volumes: plan.discard_volumes,
        description: plan.description.clone(),
        disabled_because: schedule.disabled_because.clone(),
        project: schedule.project.to_string(),
        user: schedule.user.to_string(),
        created_at: schedule.created_at,
        updated_at: schedule.updated_at,
    }
}

/// A time in a zone, with its offset: what the wall clock shows there.
pub(super) fn local(at: Timestamp, zone: &Zone) -> String {
    let rules = zone.rules().unwrap_or(jiff::tz::TimeZone::UTC);
    at.to_zoned(rules).strftime("%Y-%m-%d %H:%M:%S %:z").to_string()
}

/// A run, with where its jobs stand.
pub(super) async fn run(app: &App, run: Run) -> Result<views::ScheduleRun, Problem> {
    let outcome = run.outcome();
    let mut containers = Vec::new();
    for target in run.targets.into_iter().flatten() {
        let RunTarget { container, name, outcome, job, reason } = target;
        let job_state = match job {
            Some(id) => app.parts.store.job(id).await?.map(|job| job.state),
            None => None,
        };
        let name = name.to_string();
        containers.push(views::RunContainer { container, name, outcome, job, job_state, reason });
    }
    Ok(views::ScheduleRun {
        planned_at: run.planned_at,
        fired_at: run.fired_at,
        finished_at: run.finished_at,
        action: run.plan.action,
        outcome,
        reason: run.reason,
        missed: run.missed,
        containers,
    })
}
