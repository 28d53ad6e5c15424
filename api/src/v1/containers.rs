//! Containers: seeing, changing, deleting, starting, stopping, forgetting.

use super::docs::Refused;
use super::page::{PageQuery, chosen};
use super::views::{Code, Container, ContainerPatch, Job, List, Problem};
use super::{launch, show};
use crate::access::{NamedProject, Principal, authorize, shortened};
use crate::app::App;
use crate::extract::{Body, Path, Query};
use crate::keep;
use crate::submit::{self, Order, Repeatable};
use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use mothball_domain::container;
use mothball_domain::id::ContainerId;
use mothball_domain::job::JobSpec;
use mothball_domain::name::ContainerName;
use mothball_domain::people::{Action, Caller};
use mothball_store::{ContainerChange, ContainerQuery, Target};
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(show_one, change, delete))
        .routes(routes!(start))
        .routes(routes!(stop))
}

/// The container that a path names by number, or by name within the call's project; not there for strangers.
pub(super) async fn find(
    app: &App,
    principal: &Principal,
    named: Option<&str>,
    which: &str,
) -> Result<(container::Container, Caller), Problem> {
    let missing = || Problem::not_found(format_args!("container {}", shortened(which)));
    let found = if let Ok(id) = which.parse::<ContainerId>() {
        app.parts.store.container(id).await?
    } else {
        let name = ContainerName::new(which).map_err(|_| missing())?;
        let (_, project) = principal.choose_project(app, named).await?;
        app.parts.store.container_named(&project.name, &name).await?
    };
    let found = found.ok_or_else(missing)?;
    let caller = principal.caller_in(app, &found.project).await?;
    if !caller.may(&Action::See) {
        return Err(missing());
    }
    Ok((found, caller))
}

/// The same, for its owner, the project's admins and operators alone.
pub(super) async fn find_own(
    app: &App,
    principal: &Principal,
    named: Option<&str>,
    which: &str,
) -> Result<container::Container, Problem> {
    let (found, caller) = find(app, principal, named, which).await?;
    authorize(&caller, &Action::ChangeOwnedBy(&found.user), format_args!("container {}", found.name))?;
    Ok(found)
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct ContainersQuery {
    /// The whole platform (operators).
    #[serde(default)]
    all: Option<String>,
    /// Only of this user.
    user: Option<String>,
    /// Only on this node.
    node: Option<String>,
    /// Only in this state.
    state: Option<String>,
}

/// Whether a flag of the query is set: `?all`, `?all=true` and `?all=1` are.
pub(super) fn flag(field: &str, text: Option<&str>) -> Result<bool, Problem> {
    match text {
        None | Some("false" | "0") => Ok(false),
        Some("" | "true" | "1") => Ok(true),
        Some(_) => Err(Problem::invalid(field, format_args!("{field} is true or false"))),
    }
}

fn state_named(text: &str) -> Result<container::ContainerState, Problem> {
    let all = container::ContainerState::ALL;
    all.into_iter().find(|state| state.as_str() == text).ok_or_else(|| {
        Problem::invalid(
            "state",
            format_args!("state is one of {}", all.map(container::ContainerState::as_str).join(", ")),
        )
    })
}

/// Containers of the project, oldest first; deleted ones are left out.
#[utoipa::path(
    get, path = "/v1/containers", tag = "containers",
    params(("project" = Option<String>, Query, description = "The project"), ContainersQuery, PageQuery),
    responses((status = 200, body = List<Container>), Refused)
)]
async fn list(
    State(app): State<App>,
    principal: Principal,
    NamedProject(named): NamedProject,
    Query(filter): Query<ContainersQuery>,
    Query(page): Query<PageQuery>,
) -> Result<Json<List<Container>>, Problem> {
    let everywhere = flag("all", filter.all.as_deref())? && principal.user.operator && named.is_none();
    let project =
        if everywhere { None } else { Some(principal.choose_project(&app, named.as_deref()).await?.1.name) };
    let query = ContainerQuery {
        project,
        user: chosen("user", filter.user.as_deref())?,
        node: chosen("node", filter.node.as_deref())?,
        state: filter.state.as_deref().filter(|s| !s.is_empty()).map(state_named).transpose()?,
        cursor: page.cursor()?,
        limit: page.limit(&app)?,
    };
    let (now, found) = (app.parts.store.now().await?, app.parts.store.containers(&query).await?);
    let items = found.items.iter().map(|c| show::container(c, now, &app.parts.settings.currency)).collect();
    Ok(Json(List { items: show::with_looks(&app, items).await?, next_cursor: found.next }))
}

/// One container, deleted ones included.
#[utoipa::path(
    get, path = "/v1/containers/{container}", tag = "containers",
    params(("container" = String, Path, description = "Its number, or its name within the project")),
    responses((status = 200, body = Container), Refused)
)]
async fn show_one(
    State(app): State<App>,
    principal: Principal,
    NamedProject(named): NamedProject,
    Path(which): Path<String>,
) -> Result<Json<Container>, Problem> {
    let (found, _) = find(&app, &principal, named.as_deref(), &which).await?;
    let now = app.parts.store.now().await?;
    let shown = vec![show::container(&found, now, &app.parts.settings.currency)];
    show::with_looks(&app, shown).await?.pop().map(Json).ok_or_else(|| Problem::not_found("container"))
}

/// Changes protection, description, labels, or until when policies leave it alone.
#[utoipa::path(
    patch, path = "/v1/containers/{container}", tag = "containers", request_body = ContainerPatch,
    params(("container" = String, Path, description = "Its number, or its name within the project")),
    responses((status = 200, body = Container), Refused)
)]
async fn change(
    State(app): State<App>,
    principal: Principal,
    NamedProject(named): NamedProject,
    Path(which): Path<String>,
    Body(patch): Body<ContainerPatch>,
) -> Result<Json<Container>, Problem> {
    let found = find_own(&app, &principal, named.as_deref(), &which).await?;
    let description = patch.description.clone().map(launch::checked_description).transpose()?;
    let labels = patch.labels.clone().map(launch::checked_labels).transpose()?;
    let change =
        ContainerChange { protected: patch.protected, description, labels, keep_until: patch.keep_until };
    let changed = app.parts.store.change_container(found.id, &change).await?;
    let changed =
        changed.ok_or_else(|| Problem::not_found(format_args!("container {} any more", found.name)))?;
    let now = app.parts.store.now().await?;
    if patch.keep_until.flatten().is_some_and(|until| until > now) {
        keep::stop_policy_park(&app, found.id).await?;
    }
    let what = serde_json::to_string(&patch).unwrap_or_default();
    let subject = format!("container {} ({})", found.name, found.id);
    submit::audit(&app, &principal, Some(&found.project), "container.change", &subject, &what).await;
    Ok(Json(show::container(&changed, now, &app.parts.settings.currency)))
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct DeleteQuery {
    /// Ends the record of a lost or failed container without touching its node.
    #[serde(default)]
    forget: Option<String>,
}

/// Deletes a container; its bill stops when it is gone.
#[utoipa::path(
    delete, path = "/v1/containers/{container}", tag = "containers",
    params(("container" = String, Path, description = "Its number, or its name within the project"), DeleteQuery),
    responses(
        (status = 202, body = Job, headers(("Location" = String, description = "The job"))),
        (status = 200, description = "The job that it joins, or the forgotten container", body = Job),
        Refused
    )
)]
async fn delete(
    State(app): State<App>,
    principal: Principal,
    NamedProject(named): NamedProject,
    repeatable: Repeatable,
    Path(which): Path<String>,
    Query(query): Query<DeleteQuery>,
) -> Result<Response, Problem> {
    if flag("forget", query.forget.as_deref())? {
        return forget(&app, &principal, named.as_deref(), &which).await;
    }
    let call = Call { app, principal, named, repeatable, which };
    call.submit(JobSpec::Delete, "container.delete").await
}

async fn forget(
    app: &App,
    principal: &Principal,
    named: Option<&str>,
    which: &str,
) -> Result<Response, Problem> {
    let found = find_own(app, principal, named, which).await?;
    if !app.parts.store.forget_container(found.id).await? {
        let why = format!(
            "container {} is {}: only a lost or failed one without a job can be forgotten",
            found.name, found.state
        );
        return Err(Problem::new(Code::NotNow, why).with_hint("Delete it instead."));
    }
    let subject = format!("container {} ({})", found.name, found.id);
    submit::audit(app, principal, Some(&found.project), "container.forget", &subject, "").await;
    let missing = || Problem::not_found(format_args!("container {}", found.id));
    let forgotten = app.parts.store.container(found.id).await?.ok_or_else(missing)?;
    let now = app.parts.store.now().await?;
    Ok(Json(show::container(&forgotten, now, &app.parts.settings.currency)).into_response())
}

/// Starts a stopped container.
#[utoipa::path(
    post, path = "/v1/containers/{container}/start", tag = "containers",
    params(("container" = String, Path, description = "Its number, or its name within the project")),
    responses((status = 202, body = Job), (status = 200, description = "The job that it joins", body = Job), Refused)
)]
async fn start(
    State(app): State<App>,
    principal: Principal,
    NamedProject(named): NamedProject,
    repeatable: Repeatable,
    Path(which): Path<String>,
) -> Result<Response, Problem> {
    Call { app, principal, named, repeatable, which }.submit(JobSpec::Start, "container.start").await
}

/// Stops a container without deleting it; it is billed on.
#[utoipa::path(
    post, path = "/v1/containers/{container}/stop", tag = "containers",
    params(("container" = String, Path, description = "Its number, or its name within the project")),
    responses((status = 202, body = Job), (status = 200, description = "The job that it joins", body = Job), Refused)
)]
async fn stop(
    State(app): State<App>,
    principal: Principal,
    NamedProject(named): NamedProject,
    repeatable: Repeatable,
    Path(which): Path<String>,
) -> Result<Response, Problem> {
    Call { app, principal, named, repeatable, which }.submit(JobSpec::Stop, "container.stop").await
}

/// A call that starts a job about a container and takes no body.
struct Call {
    app: App,
    principal: Principal,
    named: Option<String>,
    repeatable: Repeatable,
    which: String,
}

impl Call {
    async fn submit(self, spec: JobSpec, action: &'static str) -> Result<Response, Problem> {
        let Self { app, principal, named, repeatable, which } = self;
        let idempotency = repeatable.with(&());
        if let Some(answer) = submit::replay(&app, &principal, idempotency.as_ref()).await? {
            return Ok(answer);
        }
        let found = find_own(&app, &principal, named.as_deref(), &which).await?;
        let order = Order {
            spec,
            subject: format!("container {} ({})", found.name, found.id),
            project: found.project,
            target: Target::Container(found.id),
            action,
        };
        submit::submit(&app, &principal, idempotency, order).await
    }
}
