//! The page at `/`: what this is, and where to go from here.

use crate::app::App;
use axum::Router;
use axum::extract::State;
use axum::response::Html;
use axum::routing::get;

const PAGE: &str = include_str!("front.html");

pub(crate) fn routes() -> Router<App> {
    Router::new().route("/", get(page))
}

async fn page(State(app): State<App>) -> Html<String> {
    Html(PAGE.replace("{version}", &app.parts.version))
}
