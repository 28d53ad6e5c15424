//! `POST /v1/containers`: launches a container.

use super::docs::Refused;
use super::views::{Code, Job, LaunchRequest, Problem};
use crate::access::{NamedProject, Principal, authorize, shortened};
use crate::app::App;
use crate::extract::Body;
use crate::parts::CatalogEntry;
use crate::submit::{self, Order, Repeatable};
use axum::extract::State;
use axum::response::Response;
use mothball_domain::container::{Launch, Mount, MountRule, PORTS_MAX, Source};
use mothball_domain::flavor::Flavor;
use mothball_domain::image::ImageRef;
use mothball_domain::job::JobSpec;
use mothball_domain::label::Labels;
use mothball_domain::name::{ContainerName, ENV_COUNT_MAX, ImageName, ProjectName, UserName, check_env};
use mothball_domain::people::Action;
use mothball_store::{NewContainer, Target};
use std::collections::{BTreeMap, BTreeSet};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// Longest description, in characters.
pub(super) const DESCRIPTION_CHARS_MAX: usize = 1000;

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(launch))
}

/// Launches a container from a custom image of the project or from the catalogue.
#[utoipa::path(
    post, path = "/v1/containers", tag = "containers", request_body = LaunchRequest,
    params(
        ("project" = Option<String>, Query, description = "The project, where the body names none"),
        ("Idempotency-Key" = Option<String>, Header, description = "The same key and body within 24 h is the same job")
    ),
    responses(
        (status = 202, body = Job, headers(("Location" = String, description = "The job"))),
        (status = 200, description = "The same launch is under way: its job", body = Job),
        Refused
    )
)]
async fn launch(
    State(app): State<App>,
    principal: Principal,
    NamedProject(named): NamedProject,
    repeatable: Repeatable,
    Body(asked): Body<LaunchRequest>,
) -> Result<Response, Problem> {
    let idempotency = repeatable.with(&asked);
    if let Some(answer) = submit::replay(&app, &principal, idempotency.as_ref()).await? {
        return Ok(answer);
    }
    let (caller, project) =
        principal.choose_project(&app, asked.project.as_deref().or(named.as_deref())).await?;
    authorize(&caller, &Action::Use, format_args!("project {}", project.name))?;
    let name: ContainerName = asked.name.parse().map_err(|why| Problem::invalid("name", why))?;
    let flavor = flavor(&app, &asked.flavor)?;
    let env = checked_env(asked.env)?;
    let ports = checked_ports(asked.ports)?;
    let mounts = mounts(&app, &asked.mounts, principal.name(), &project.name)?;
    let description = checked_description(asked.description)?;
    let labels = checked_labels(asked.labels)?;
    let (source, image_name) = source(&app, &project.name, &asked.image).await?;
    let subject = format!("container {name} from {}", source.display_name());
    let launch = Launch { source, flavor, env, mounts, ports };
    let new = NewContainer { name, launch, image_name, description, labels };
    let order = Order {
        spec: JobSpec::Launch,
        project: project.name,
        target: Target::New(Box::new(new)),
        action: "container.launch",
        subject,
    };
    submit::submit(&app, &principal, idempotency, order).await
}

/// A configured flavor.
pub(super) fn flavor(app: &App, name: &str) -> Result<Flavor, Problem> {
    let flavors = &app.parts.settings.flavors;
    flavors.iter().find(|f| f.name.as_str() == name).cloned().ok_or_else(|| {
        let names: Vec<&str> = flavors.iter().map(|f| f.name.as_str()).collect();
        Problem::new(Code::UnknownFlavor, format_args!("there is no flavor {:?}", shortened(name)))
            .with_field("flavor")
            .with_hint(app.ask(&format!("Choose one of {}.", names.join(", "))))
    })
}

/// A custom image of the project, else an entry of the catalogue.
async fn source(app: &App, project: &ProjectName, text: &str) -> Result<(Source, ImageName), Problem> {
    if let Ok(image) = text.parse::<ImageRef>()
        && let Some(found) = app.parts.store.image(project, &image).await?
    {
        let (digest, reference) = (found.digest, found.reference);
        let name = image.name.clone();
        return Ok((Source::Custom { image, digest, reference }, name));
    }
    if let Some(entry) = catalog_entry(&app.parts.settings.catalog, text) {
        let name = ImageName::sanitized(name_and_tag(&entry.name).0);
        return Ok((Source::Catalog { name: entry.name.clone(), reference: entry.image.clone() }, name));
    }
    let detail = format!("the project has no image {:?}, and neither has the catalogue", shortened(text));
    let hint = app.ask("List them: GET /v1/images and GET /v1/catalog (`mothball images`).");
    Err(Problem::new(Code::UnknownImage, detail).with_field("image").with_hint(hint))
}

/// Name and tag of a catalogue entry; the tag that stands for none is `latest`.
pub(super) fn name_and_tag(text: &str) -> (&str, &str) {
    text.rsplit_once(':').unwrap_or((text, "latest"))
}

fn catalog_entry<'a>(catalog: &'a [CatalogEntry], text: &str) -> Option<&'a CatalogEntry> {
    catalog.iter().find(|entry| name_and_tag(&entry.name) == name_and_tag(text))
}

fn checked_env(env: BTreeMap<String, String>) -> Result<BTreeMap<String, String>, Problem> {
    if env.len() > ENV_COUNT_MAX {
        return Err(Problem::invalid("env", format_args!("env has at most {ENV_COUNT_MAX} variables")));
    }
    for (key, value) in &env {
        check_env(key, value).map_err(|why| Problem::invalid("env", why))?;
    }
    Ok(env)
}

fn checked_ports(ports: Vec<u16>) -> Result<Vec<u16>, Problem> {
    let different: BTreeSet<u16> = ports.iter().copied().collect();
    if ports.len() > PORTS_MAX || different.len() != ports.len() || different.contains(&0) {
        let rule = format!("ports are at most {PORTS_MAX} different numbers from 1 to 65535");
        return Err(Problem::invalid("ports", rule));
    }
    Ok(ports)
}

pub(super) fn checked_labels(labels: BTreeMap<String, String>) -> Result<Labels, Problem> {
    Labels::new(labels).map_err(|why| Problem::invalid("labels", why))
}

pub(super) fn checked_description(text: String) -> Result<String, Problem> {
    if text.chars().count() > DESCRIPTION_CHARS_MAX || text.contains('\0') {
        let rule = format!("description has at most {DESCRIPTION_CHARS_MAX} characters, none of them NUL");
        return Err(Problem::invalid("description", rule));
    }
    Ok(text)
}

/// The configured mounts that are asked for by target; all when none is.
fn mounts(
    app: &App,
    asked: &[String],
    user: &UserName,
    project: &ProjectName,
) -> Result<Vec<Mount>, Problem> {
    let rules = &app.parts.settings.mounts;
    let target_of = |rule: &MountRule| rule.of(user, project).target;
    let known = |target: &String| rules.iter().any(|r| r.target == *target || target_of(r) == *target);
    if let Some(unknown) = asked.iter().find(|target| !known(target)) {
        let targets: Vec<String> = rules.iter().map(target_of).collect();
        let hint = if targets.is_empty() {
            "No mounts are configured here.".to_owned()
        } else {
            format!("Choose among {}.", targets.join(", "))
        };
        return Err(Problem::new(
            Code::UnknownMount,
            format_args!("there is no mount {:?}", shortened(unknown)),
        )
        .with_field("mounts")
        .with_hint(app.ask(&hint)));
    }
    let wanted = |rule: &&MountRule| {
        asked.is_empty() || asked.iter().any(|a| *a == rule.target || *a == target_of(rule))
    };
    Ok(rules.iter().filter(wanted).map(|rule| rule.of(user, project)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_catalogue_entry_is_found_with_and_without_latest() {
        let entry = |name: &str| CatalogEntry { name: name.into(), image: "x".into(), kind: None };
        let catalog = [entry("torch:latest"), entry("plain"), entry("tf:2")];
        let found = |text: &str| catalog_entry(&catalog, text).map(|e| e.name.as_str());
        assert_eq!(found("torch"), Some("torch:latest"));
        assert_eq!(found("plain:latest"), Some("plain"));
        assert_eq!(found("tf:2"), Some("tf:2"));
        assert_eq!(found("tf"), None);
    }
}
