//! Bringing images back.

use super::super::docs::Refused;
use super::super::show;
use super::super::views::{Code, Image, Problem, RestoreRequest};
use crate::access::{NamedProject, Principal, authorize, shortened};
use crate::app::App;
use crate::extract::{MaybeBody, Path};
use crate::submit::{self, Repeatable};
use axum::Json;
use axum::extract::State;
use mothball_domain::id::JobId;
use mothball_domain::image::{Digest, ImageRef};
use mothball_domain::people::Action;
use mothball_store::{Idempotency, Restore, RestoreTo, Restored, Submitted};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(restore))
}

/// Brings an image back that was deleted; with `previous` or `digest`, what the tag named before it was overwritten. It is
/// in every list at once, can be launched from, and a job has the registry's tag follow.
#[utoipa::path(
    post, path = "/v1/images/{image}/restore", tag = "images", request_body = Option<RestoreRequest>,
    params(
        ("image" = String, Path, description = "`name:tag`"),
        ("project" = Option<String>, Query, description = "The project"),
        ("Idempotency-Key" = Option<String>, Header, description = "The same key and body within 24 h is the same restore")
    ),
    responses((status = 200, body = Image), Refused)
)]
async fn restore(
    State(app): State<App>,
    principal: Principal,
    NamedProject(named): NamedProject,
    Path(which): Path<String>,
    repeatable: Repeatable,
    MaybeBody(asked): MaybeBody<RestoreRequest>,
) -> Result<Json<Image>, Problem> {
    let idempotency = repeatable.with(&asked);
    let to = wanted(&asked)?;
    let (caller, project) = principal.choose_project(&app, named.as_deref()).await?;
    let missing = || {
        let hint =
            "List what can be restored: GET /v1/images?restorable=true (`mothball images --restorable`).";
        Problem::not_found(format_args!("image {} in project {}", shortened(&which), project.name))
            .with_hint(hint)
    };
    let image: ImageRef = which.parse().map_err(|_| missing())?;
    let owner = match app.parts.store.image(&project.name, &image).await? {
        Some(live) => live.created_by,
        None => {
            app.parts.store.deleted_image(&project.name, &image).await?.ok_or_else(missing)?.image.created_by
        }
    };
    authorize(&caller, &Action::ChangeOwnedBy(&owner), format_args!("image {image}"))?;
    if is_repeated(&app, &principal, idempotency.as_ref()).await?
        && let Some(back) = app.parts.store.image(&project.name, &image).await?
    {
        return Ok(Json(show::image(&back)));
    }
    let restore = Restore {
        project: project.name,
        image,
        to,
        user: principal.name().clone(),
        job: JobId(Uuid::now_v7()),
        undo: app.parts.settings.undo,
        max_attempts: app.parts.settings.max_attempts,
        idempotency,
    };
    let (back, job) = match app.parts.store.restore_image(&restore).await? {
        Restored::Done(back, job) => (back, job),
        refused => return Err(refusal(refused)),
    };
    let subject = format!("image {}", back.image);
    let detail = format!("it is {}; job {}", back.digest, job.id);
    let noted = submit::audit(&app, &principal, Some(&back.project), "image.restore", &subject, &detail);
    tokio::join!(Box::pin(submit::publish(&app, &job)), noted);
    Ok(Json(show::image(&back)))
}

/// Whether the very same request came before, and was done.
async fn is_repeated(
    app: &App,
    principal: &Principal,
    idempotency: Option<&Idempotency>,
) -> Result<bool, Problem> {
    let Some(idempotency) = idempotency else { return Ok(false) };
    match app.parts.store.replay(principal.name(), idempotency).await? {
        Some(Submitted::IdempotencyConflict(job)) => Err(submit::idempotency_conflict(job)),
        earlier => Ok(earlier.is_some()),
    }
}

fn wanted(asked: &RestoreRequest) -> Result<RestoreTo, Problem> {
    match (&asked.digest, asked.previous) {
        (Some(_), true) => {
            Err(Problem::invalid("digest", "digest and previous are two ways to say it: send one"))
        }
        (Some(text), false) => {
            let digest = Digest::new(text.as_str()).map_err(|why| Problem::invalid("digest", why))?;
            Ok(RestoreTo::Digest(digest))
        }
        (None, true) => Ok(RestoreTo::Previous),
        (None, false) => Ok(RestoreTo::Deleted),
    }
}

fn refusal(refused: Restored) -> Problem {
    match refused {
        Restored::Taken(why) => Problem::new(Code::NotNow, why).with_hint(
            "To set the tag back on what it named before, send {\"previous\": true} (`mothball images restore I --previous`).",
        ),
        Restored::Nothing(why) => Problem::new(Code::NotNow, why)
            .with_hint("GET /v1/images?restorable=true (`mothball images --restorable`) lists what can be restored."),
        Restored::Quota(why) => Problem::new(Code::Quota, why),
        Restored::Busy(job) => submit::in_the_way(&job),
        Restored::Done(..) => Problem::new(Code::Internal, "the restore was done and taken for refused"),
    }
}
