//! What can be chosen from: base images and flavors.

use super::docs::Refused;
use super::page::{PageQuery, paged};
use super::views::{CatalogImage, FlavorView, List, Problem};
use crate::access::Principal;
use crate::app::App;
use crate::extract::Query;
use axum::Json;
use axum::extract::State;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(images)).routes(routes!(flavors))
}

/// Base images that are offered.
#[utoipa::path(
    get, path = "/v1/catalog", tag = "catalog", params(PageQuery),
    responses((status = 200, body = List<CatalogImage>), Refused)
)]
async fn images(
    State(app): State<App>,
    _: Principal,
    Query(page): Query<PageQuery>,
) -> Result<Json<List<CatalogImage>>, Problem> {
    let offered = app.parts.settings.catalog.iter().map(|entry| CatalogImage {
        name: entry.name.clone(),
        image: entry.image.clone(),
        kind: entry.kind.clone(),
    });
    let after: Option<String> = page.cursor()?;
    Ok(Json(paged(offered, |image| image.name.clone(), after.as_deref(), page.limit(&app)?)))
}

/// Sizes that are offered, with their prices.
#[utoipa::path(
    get, path = "/v1/flavors", tag = "catalog", params(PageQuery),
    responses((status = 200, body = List<FlavorView>), Refused)
)]
async fn flavors(
    State(app): State<App>,
    _: Principal,
    Query(page): Query<PageQuery>,
) -> Result<Json<List<FlavorView>>, Problem> {
    let offered = app.parts.settings.flavors.iter().map(|flavor| FlavorView {
        name: flavor.name.to_string(),
        gpus: flavor.gpus,
        cpus: flavor.cpus,
        memory_bytes: flavor.memory.0,
        shm_bytes: flavor.shm.map(|size| size.0),
        price_per_hour: flavor.price_per_hour.to_string(),
        currency: app.parts.settings.currency.clone(),
    });
    let after: Option<String> = page.cursor()?;
    Ok(Json(paged(offered, |flavor| flavor.name.clone(), after.as_deref(), page.limit(&app)?)))
}
