//! Nodes, for operators.

use super::docs::Refused;
use super::page::{PageQuery, paged};
use super::snapshots::is_alive;
use super::views::{Code, List, Node, NodeGpu, Problem};
use crate::access::{Principal, shortened};
use crate::app::App;
use crate::extract::{Path, Query};
use crate::submit;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use mothball_domain::name::NodeName;
use mothball_domain::node;
use mothball_domain::node::Reservations;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(show_one, forget))
        .routes(routes!(drain))
        .routes(routes!(resume))
        .merge(super::adopt::routes())
}

pub(super) fn named(which: &str) -> Result<NodeName, Problem> {
    which.parse().map_err(|_| missing(which))
}

pub(super) fn missing(which: &str) -> Problem {
    Problem::not_found(format_args!("node {}", shortened(which)))
}

fn shown(node: &node::Node, held: &Reservations, alive: bool) -> Node {
    let holder = |index: u32| held.held.iter().find(|(_, gpus)| gpus.contains(&index)).map(|(id, _)| *id);
    let gpus: Vec<NodeGpu> = node
        .report
        .gpus
        .iter()
        .map(|gpu| NodeGpu { index: gpu.index, name: gpu.name.clone(), container: holder(gpu.index) })
        .collect();
    let state = match (node.stopped_at.is_some(), alive, node.drained) {
        (true, _, _) => "stopped",
        (_, false, _) => "silent",
        (_, _, true) => "drained",
        _ => "ready",
    };
    Node {
        name: node.name.to_string(),
        state: state.to_owned(),
        alive,
        drained: node.drained,
        heartbeat_at: node.heartbeat_at,
        created_at: node.created_at,
        uid: node.uid.clone(),
        gpus_free: gpus.iter().filter(|gpu| gpu.container.is_none()).count() as u32,
        gpus,
        gpu_note: node.report.gpu_note.clone(),
        containers: held.held.keys().copied().collect(),
        docker_version: node.report.docker_version.clone(),
        storage_driver: node.report.storage_driver.clone(),
        snapshot: node.report.snapshot,
        cpus: node.report.cpus,
        memory_bytes: node.report.memory_bytes,
        disk_free_bytes: node.report.disk_free_bytes,
        disk_total_bytes: node.report.disk_total_bytes,
        concurrency: node.report.concurrency,
        version: node.report.version.clone(),
        strays: node.strays.clone(),
    }
}

async fn show_named(app: &App, name: &NodeName) -> Result<Node, Problem> {
    let all = app.parts.store.nodes().await?;
    let (node, held) =
        all.into_iter().find(|(node, _)| node.name == *name).ok_or_else(|| missing(name.as_str()))?;
    let alive = is_alive(app, &node).await?;
    Ok(shown(&node, &held, alive))
}

/// All nodes, by name (operators).
#[utoipa::path(
    get, path = "/v1/nodes", tag = "nodes", params(PageQuery),
    responses((status = 200, body = List<Node>), Refused)
)]
async fn list(
    State(app): State<App>,
    principal: Principal,
    Query(page): Query<PageQuery>,
) -> Result<Json<List<Node>>, Problem> {
    principal.operator()?;
    let mut items = Vec::new();
    for (node, held) in app.parts.store.nodes().await? {
        let alive = is_alive(&app, &node).await?;
        items.push(shown(&node, &held, alive));
    }
    let after = page.cursor::<NodeName>()?.map(|name| name.to_string());
    Ok(Json(paged(items, |node| node.name.clone(), after.as_deref(), page.limit(&app)?)))
}

/// One node (operators).
#[utoipa::path(
    get, path = "/v1/nodes/{node}", tag = "nodes",
    params(("node" = String, Path, description = "Its name")),
    responses((status = 200, body = Node), Refused)
)]
async fn show_one(
    State(app): State<App>,
    principal: Principal,
    Path(which): Path<String>,
) -> Result<Json<Node>, Problem> {
    principal.operator()?;
    Ok(Json(show_named(&app, &named(&which)?).await?))
}

/// Gives a node no new containers; what runs there goes on (operators).
#[utoipa::path(
    post, path = "/v1/nodes/{node}/drain", tag = "nodes",
    params(("node" = String, Path, description = "Its name")),
    responses((status = 200, body = Node), Refused)
)]
async fn drain(
    State(app): State<App>,
    principal: Principal,
    Path(which): Path<String>,
) -> Result<Json<Node>, Problem> {
    set_drained(&app, &principal, &which, true).await
}

/// Gives a node new containers again (operators).
#[utoipa::path(
    post, path = "/v1/nodes/{node}/resume", tag = "nodes",
    params(("node" = String, Path, description = "Its name")),
    responses((status = 200, body = Node), Refused)
)]
async fn resume(
    State(app): State<App>,
    principal: Principal,
    Path(which): Path<String>,
) -> Result<Json<Node>, Problem> {
    set_drained(&app, &principal, &which, false).await
}

async fn set_drained(
    app: &App,
    principal: &Principal,
    which: &str,
    drained: bool,
) -> Result<Json<Node>, Problem> {
    principal.operator()?;
    let name = named(which)?;
    app.parts.store.drain_node(&name, drained).await?.ok_or_else(|| missing(which))?;
    let action = if drained { "node.drain" } else { "node.resume" };
    submit::audit(app, principal, None, action, &format!("node {name}"), "").await;
    Ok(Json(show_named(app, &name).await?))
}

/// Forgets a node that holds no containers, so that another machine may take its name (operators).
#[utoipa::path(
    delete, path = "/v1/nodes/{node}", tag = "nodes",
    params(("node" = String, Path, description = "Its name")),
    responses((status = 204, description = "Forgotten"), Refused)
)]
async fn forget(
    State(app): State<App>,
    principal: Principal,
    Path(which): Path<String>,
) -> Result<StatusCode, Problem> {
    principal.operator()?;
    let name = named(&which)?;
    app.parts.store.node(&name).await?.ok_or_else(|| missing(&which))?;
    if !app.parts.store.forget_node(&name).await? {
        let why = format!("node {name} still holds containers");
        return Err(Problem::new(Code::NotNow, why).with_hint("Delete or forget its containers first."));
    }
    submit::audit(&app, &principal, None, "node.forget", &format!("node {name}"), "").await;
    Ok(StatusCode::NO_CONTENT)
}
