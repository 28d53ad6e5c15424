//! From what was asked to a plan that can be.

use crate::access::{Principal, authorize};
use crate::app::App;
use crate::v1::snapshots::user_tag;
use crate::v1::views::{ContainerRef, Problem, SchedulePatch, ScheduleRequest};
use crate::v1::{containers, launch};
use mothball_domain::container::Container;
use mothball_domain::label::Labels;
use mothball_domain::name::{FlavorName, ProjectName, Tag};
use mothball_domain::people::Action;
use mothball_domain::schedule::cron::{Cron, CronError};
use mothball_domain::schedule::zone::Zone;
use mothball_domain::schedule::{PATIENCE_S_DEFAULT, Plan, PlanChange, Schedule, ScheduleTarget};
use std::collections::BTreeMap;

/// The plan of a new schedule, and the project it belongs to: its container's, else the call's.
pub(super) async fn plan(
    app: &App,
    principal: &Principal,
    named: Option<&str>,
    asked: ScheduleRequest,
) -> Result<(ProjectName, Plan), Problem> {
    let named = asked.project.as_deref().or(named);
    let (target, container) =
        target(app, principal, named, asked.container.as_ref(), asked.labels, asked.all_containers).await?;
    let project = if let Some(container) = &container {
        container.project.clone()
    } else {
        let (caller, project) = principal.choose_project(app, named).await?;
        authorize(&caller, &Action::Use, format_args!("project {}", project.name))?;
        project.name
    };
    let target = target.ok_or_else(|| {
        Problem::invalid("container", "a schedule needs a container, labels, or all_containers")
    })?;
    let plan = Plan {
        target,
        action: asked.action,
        cron: cron(&asked.cron)?,
        timezone: zone(&asked.timezone)?,
        missed: asked.missed,
        patience_s: asked.patience_seconds.unwrap_or(PATIENCE_S_DEFAULT),
        tag: asked.tag.as_deref().map(|text| tag(app, container.as_ref(), text)).transpose()?,
        flavor: asked.flavor.as_deref().map(|text| flavor(app, text)).transpose()?,
        discard_volumes: asked.discard_volumes,
        description: launch::checked_description(asked.description)?,
    };
    without_fault(plan).map(|plan| (project, plan))
}

/// What a patch changes of a schedule's plan, if the plan can be afterwards.
pub(super) async fn change(
    app: &App,
    principal: &Principal,
    schedule: &Schedule,
    asked: SchedulePatch,
) -> Result<PlanChange, Problem> {
    let all = asked.all_containers == Some(true);
    let project = schedule.project.as_str();
    let (target, container) =
        target(app, principal, Some(project), asked.container.as_ref(), asked.labels, all).await?;
    if container.as_ref().is_some_and(|c| c.project != schedule.project) {
        let why = format!("the schedule belongs to project {project}, and its containers must, too");
        return Err(Problem::invalid("container", why));
    }
    let tag = |text: Option<String>| text.map(|text| tag(app, container.as_ref(), &text)).transpose();
    let flavor = |text: Option<String>| text.map(|text| flavor(app, &text)).transpose();
    let change = PlanChange {
        target,
        action: asked.action,
        cron: asked.cron.as_deref().map(cron).transpose()?,
        timezone: asked.timezone.as_deref().map(zone).transpose()?,
        missed: asked.missed,
        patience_s: asked.patience_seconds,
        tag: asked.tag.map(tag).transpose()?,
        flavor: asked.flavor.map(flavor).transpose()?,
        discard_volumes: asked.discard_volumes,
        description: asked.description.map(launch::checked_description).transpose()?,
    };
    without_fault(schedule.plan.with(&change)).map(|_| change)
}

fn without_fault(plan: Plan) -> Result<Plan, Problem> {
    match plan.fault() {
        Some((field, why)) => Err(Problem::invalid(field, why)),
        None => Ok(plan),
    }
}

/// What is chosen, where something is, and the container where it is one.
async fn target(
    app: &App,
    principal: &Principal,
    named: Option<&str>,
    container: Option<&ContainerRef>,
    labels: Option<BTreeMap<String, String>>,
    all: bool,
) -> Result<(Option<ScheduleTarget>, Option<Container>), Problem> {
    let given = usize::from(container.is_some()) + usize::from(labels.is_some()) + usize::from(all);
    if given > 1 {
        let why =
            "a schedule is about one container, or chooses by labels, or is about all: name one of the three";
        return Err(Problem::invalid("container", why));
    }
    if let Some(container) = container {
        let which = match container {
            ContainerRef::Number(number) => number.to_string(),
            ContainerRef::Name(name) => name.clone(),
        };
        let found = containers::find_own(app, principal, named, &which).await?;
        return Ok((Some(ScheduleTarget::Container(found.id)), Some(found)));
    }
    if let Some(labels) = labels {
        let labels = Labels::new(labels).map_err(|why| Problem::invalid("labels", why))?;
        if labels.is_empty() {
            let why = "a selector names at least one label";
            return Err(
                Problem::invalid("labels", why).with_hint("Set all_containers to choose every container.")
            );
        }
        return Ok((Some(ScheduleTarget::Labels(labels)), None));
    }
    Ok((all.then_some(ScheduleTarget::Project), None))
}

pub(super) fn cron(text: &str) -> Result<Cron, Problem> {
    Cron::new(text).map_err(|why| Problem::invalid("cron", why).with_hint(CronError::HINT))
}

pub(super) fn zone(text: &str) -> Result<Zone, Problem> {
    Zone::new(text).map_err(|why| {
        let hint = why.hint();
        Problem::invalid("timezone", why).with_hint(hint)
    })
}

/// A tag that a user may give; for one container, also none that the catalogue has.
fn tag(app: &App, container: Option<&Container>, text: &str) -> Result<Tag, Problem> {
    if let Some(container) = container {
        return user_tag(app, &container.image_name, text);
    }
    let tag: Tag = text.parse().map_err(|why| Problem::invalid("tag", why))?;
    if tag.is_hidden() {
        return Err(Problem::invalid("tag", "the tag is one of Mothball's own"));
    }
    Ok(tag)
}

fn flavor(app: &App, text: &str) -> Result<FlavorName, Problem> {
    launch::flavor(app, text).map(|flavor| flavor.name)
}
