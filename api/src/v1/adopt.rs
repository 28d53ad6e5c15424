//! `POST /v1/nodes/{node}/adopt`: a container that Mothball did not launch comes under its care.
//!
//! The API cannot see Docker. It records the container under the node's uid, as running; the node's next report
//! says whether it is there, and whether it runs.

use super::docs::Refused;
use super::views::{AdoptRequest, Code, Container, Problem};
use super::{launch, nodes, show};
use crate::access::Principal;
use crate::app::App;
use crate::extract::{Body, Path};
use crate::submit;
use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use mothball_domain::container::{Launch, Source};
use mothball_domain::flavor::Flavor;
use mothball_domain::name::{ContainerName, ImageName, UserName};
use mothball_domain::node::Node;
use mothball_store::AdoptedContainer;
use std::collections::{BTreeMap, BTreeSet};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// Longest image reference, in characters.
const REFERENCE_CHARS_MAX: usize = 512;
/// What stands for the image while nobody has said which it is.
const UNKNOWN_IMAGE: &str = "adopted";

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(adopt))
}

/// Takes a container that Mothball did not launch under its care; it is billed from now (operators).
#[utoipa::path(
    post, path = "/v1/nodes/{node}/adopt", tag = "nodes", request_body = AdoptRequest,
    params(("node" = String, Path, description = "The node it is on")),
    responses((status = 201, body = Container, headers(("Location" = String, description = "The container"))), Refused)
)]
async fn adopt(
    State(app): State<App>,
    principal: Principal,
    Path(which): Path<String>,
    Body(asked): Body<AdoptRequest>,
) -> Result<Response, Problem> {
    principal.operator()?;
    let store = &app.parts.store;
    let node = store.node(&nodes::named(&which)?).await?.ok_or_else(|| nodes::missing(&which))?;
    let name: ContainerName = asked.name.parse().map_err(|why| Problem::invalid("name", why))?;
    let user: UserName = asked.user.parse().map_err(|why| Problem::invalid("user", why))?;
    let docker_id = docker_id(&asked.docker_id, &node)?;
    let flavor = flavor(&app, asked.flavor.as_deref())?;
    let gpus = checked_gpus(&asked.gpus, &node)?;
    let reference = checked_reference(asked.image)?;
    if store.user(&user).await?.is_none() {
        return Err(Problem::invalid("user", format_args!("there is no user {user}")));
    }
    let (_, project) = principal.choose_project(&app, asked.project.as_deref()).await?;
    let adopted = AdoptedContainer {
        name: name.clone(),
        project: project.name,
        user,
        image_name: image_name(&reference),
        launch: Launch {
            source: Source::Adopted { reference },
            flavor,
            env: BTreeMap::new(),
            mounts: Vec::new(),
            ports: Vec::new(),
        },
        node: node.name.clone(),
        node_uid: node.uid.clone(),
        docker_id,
        gpus,
        ports: Vec::new(),
        running: true,
    };
    let container = store.adopt(&adopted).await?.map_err(|other| {
        let why = format!(
            "container {other} has this name or these GPUs, or is this very container under another name"
        );
        Problem::new(Code::NameTaken, why).with_field("name")
    })?;
    let subject = format!("container {} ({}) on node {}", container.name, container.id, node.name);
    submit::audit(
        &app,
        &principal,
        Some(&container.project),
        "container.adopt",
        &subject,
        &adopted.docker_id,
    )
    .await;
    let location = [(header::LOCATION, format!("/v1/containers/{}", container.id))];
    let shown = show::container(&container, store.now().await?, &app.parts.settings.currency);
    Ok((StatusCode::CREATED, location, Json(shown)).into_response())
}

/// The whole Docker id: a container's identity is not guessed from its beginning, except among those that the node
/// itself reports.
fn docker_id(text: &str, node: &Node) -> Result<String, Problem> {
    let hex = text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    if hex && text.len() == 64 {
        return Ok(text.to_owned());
    }
    let mut reported = node.strays.iter().filter(|id| hex && text.len() >= 12 && id.starts_with(text));
    match (reported.next(), reported.next()) {
        (Some(id), None) => Ok(id.clone()),
        _ => {
            Err(Problem::invalid("docker_id", "docker_id is the container's whole id, 64 hexadecimal digits")
                .with_hint("`docker ps -a --no-trunc` shows it."))
        }
    }
}

fn flavor(app: &App, asked: Option<&str>) -> Result<Flavor, Problem> {
    match asked {
        Some(name) => launch::flavor(app, name),
        None => app
            .parts
            .settings
            .flavors
            .iter()
            .find(|flavor| flavor.gpus == 0)
            .cloned()
            .ok_or_else(|| Problem::invalid("flavor", "every flavor here has GPUs: name one")),
    }
}

fn checked_gpus(asked: &[u32], node: &Node) -> Result<Vec<u32>, Problem> {
    let different: BTreeSet<u32> = asked.iter().copied().collect();
    let known = |index: &u32| node.report.gpus.iter().any(|gpu| gpu.index == *index);
    if different.len() != asked.len() || !different.iter().all(known) {
        return Err(Problem::invalid(
            "gpus",
            format_args!("gpus are different indexes of node {}'s GPUs", node.name),
        ));
    }
    Ok(different.into_iter().collect())
}

fn checked_reference(image: Option<String>) -> Result<String, Problem> {
    let Some(image) = image.filter(|image| !image.is_empty()) else { return Ok(UNKNOWN_IMAGE.to_owned()) };
    let plain = |c: char| c.is_ascii_graphic();
    if image.chars().count() > REFERENCE_CHARS_MAX || !image.chars().all(plain) {
        let rule =
            format!("image is a Docker reference: at most {REFERENCE_CHARS_MAX} visible ASCII characters");
        return Err(Problem::invalid("image", rule));
    }
    Ok(image)
}

/// The last part of a reference without its tag or digest.
fn image_name(reference: &str) -> ImageName {
    let last = reference.rsplit('/').next().unwrap_or(reference);
    let name = last.split(['@', ':']).next().unwrap_or(last);
    ImageName::sanitized(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_adopted_containers_images_are_named_after_its_base() {
        for (reference, name) in [
            ("host:5000/ngc/tensorrt:19.08-py3", "tensorrt"),
            ("busybox", "busybox"),
            ("a@sha256:00", "a"),
            ("", "image"),
        ] {
            assert_eq!(image_name(reference).as_str(), name);
        }
    }
}
