//! Parking and waking: a park is a save that deletes, a wake a launch from what it saved. The container keeps its
//! number, name and history.

use super::docs::Refused;
use super::excludes;
use super::snapshots::user_tag;
use super::views::{Job, ParkRequest, Problem, WakeRequest};
use crate::access::{NamedProject, Principal};
use crate::app::App;
use crate::extract::{MaybeBody, Path};
use crate::submit::{self, Order, Repeatable};
use crate::v1::containers;
use axum::extract::State;
use axum::response::Response;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use mothball_domain::container::Container;
use mothball_domain::flavor::Flavor;
use mothball_domain::image::ImageRef;
use mothball_domain::job::{JobSpec, PauseMode, Then};
use mothball_store::Target;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(park)).routes(routes!(wake))
}

/// Parks a container: saves it, proves the image, deletes it, and remembers how to wake it.
#[utoipa::path(
    post, path = "/v1/containers/{container}/park", tag = "containers", request_body = Option<ParkRequest>,
    params(("container" = String, Path, description = "Its number, or its name within the project")),
    responses((status = 202, body = Job), (status = 200, description = "The job that it joins", body = Job), Refused)
)]
async fn park(
    State(app): State<App>,
    principal: Principal,
    NamedProject(named): NamedProject,
    repeatable: Repeatable,
    Path(which): Path<String>,
    MaybeBody(asked): MaybeBody<ParkRequest>,
) -> Result<Response, Problem> {
    let idempotency = repeatable.with(&asked);
    if let Some(answer) = submit::replay(&app, &principal, idempotency.as_ref()).await? {
        return Ok(answer);
    }
    let found = containers::find_own(&app, &principal, named.as_deref(), &which).await?;
    let image = match (&asked.tag, parking_as(&app, &principal, &found).await?) {
        (Some(tag), _) => named_image(&app, &found, tag)?,
        (None, Some(under_way)) => under_way,
        (None, None) => free_image(&app, &found).await?,
    };
    let excludes = excludes::of_save(&app, &found.project, &asked.exclude, asked.default_excludes).await?;
    let order = Order {
        subject: format!("container {} ({}) as {image}", found.name, found.id),
        spec: JobSpec::Snapshot {
            image,
            then: Then::Park,
            pause: PauseMode::Auto,
            discard_volumes: asked.discard_volumes,
            excludes,
        },
        project: found.project,
        target: Target::Container(found.id),
        action: "container.park",
    };
    submit::submit(&app, &principal, idempotency, order).await
}

/// The image of the caller's own park that is under way: asking again without a tag means that one.
async fn parking_as(
    app: &App,
    principal: &Principal,
    container: &Container,
) -> Result<Option<ImageRef>, Problem> {
    let Some(id) = container.job else { return Ok(None) };
    let job = app.parts.store.job(id).await?;
    let own = job.filter(|job| !job.state.is_final() && job.user == *principal.name());
    Ok(own.and_then(|job| match job.spec {
        JobSpec::Snapshot { image, then: Then::Park, .. } => Some(image),
        _ => None,
    }))
}

fn named_image(app: &App, container: &Container, tag: &str) -> Result<ImageRef, Problem> {
    Ok(ImageRef { name: container.image_name.clone(), tag: user_tag(app, &container.image_name, tag)? })
}

/// Most seconds that a default tag may be ahead of the time.
const TAGS_AHEAD_MAX: i64 = 60;

/// The image of a park that names no tag: of this second, or of the next one that is free. Containers of the same base that
/// are parked together must not overwrite each other's image.
async fn free_image(app: &App, container: &Container) -> Result<ImageRef, Problem> {
    let now = app.parts.store.now().await?;
    let mut image = named_image(app, container, &default_tag(now))?;
    for ahead in 1..=TAGS_AHEAD_MAX {
        if app.parts.store.image_name_is_free(&container.project, &image).await? {
            break;
        }
        let later = now.saturating_add(SignedDuration::from_secs(ahead)).unwrap_or(now);
        image = named_image(app, container, &default_tag(later))?;
    }
    Ok(image)
}

/// `park-YYYYMMDD-HHMMSS`, in UTC.
fn default_tag(now: Timestamp) -> String {
    now.to_zoned(TimeZone::UTC).strftime("park-%Y%m%d-%H%M%S").to_string()
}

/// Wakes a parked container: launches it again from what its park saved, by its own name, on any node with room, as the
/// size it had or as another. The price is that of this launch.
#[utoipa::path(
    post, path = "/v1/containers/{container}/wake", tag = "containers", request_body = Option<WakeRequest>,
    params(("container" = String, Path, description = "Its number, or its name within the project")),
    responses((status = 202, body = Job), (status = 200, description = "The job that it joins", body = Job), Refused)
)]
async fn wake(
    State(app): State<App>,
    principal: Principal,
    NamedProject(named): NamedProject,
    repeatable: Repeatable,
    Path(which): Path<String>,
    MaybeBody(asked): MaybeBody<WakeRequest>,
) -> Result<Response, Problem> {
    let idempotency = repeatable.with(&asked);
    if let Some(answer) = submit::replay(&app, &principal, idempotency.as_ref()).await? {
        return Ok(answer);
    }
    let found = containers::find_own(&app, &principal, named.as_deref(), &which).await?;
    let flavor = match &asked.flavor {
        Some(flavor) => super::launch::flavor(&app, flavor)?,
        None => as_before(&app, &found),
    };
    let order = Order {
        spec: JobSpec::Launch,
        subject: format!("container {} ({}) as {}", found.name, found.id, flavor.name),
        project: found.project,
        target: Target::Wake(found.id, Box::new(flavor)),
        action: "container.wake",
    };
    submit::submit(&app, &principal, idempotency, order).await
}

/// The size that the container had, at what that costs today; as it was, where it is not offered any more.
fn as_before(app: &App, container: &Container) -> Flavor {
    let had = container.parked_flavor.as_ref().unwrap_or(&container.launch.flavor);
    let offered = app.parts.settings.flavors.iter().find(|flavor| flavor.name == had.name);
    offered.unwrap_or(had).clone()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_tag_is_the_time_in_utc() {
        let at: Timestamp = "2026-02-03T04:05:06Z".parse().unwrap();
        assert_eq!(default_tag(at), "park-20260203-040506");
    }
}
