//! Who needs content: before any of it goes from the registry, and for the policies that let images go.

use crate::db::tx::Tx;
use crate::db::{Db, Order};
use crate::{Store, StoreError, keys};
use mothball_domain::container::{Container, ContainerState, Source};
use mothball_domain::id::{ContainerId, JobId};
use mothball_domain::image::{Digest, Image, ImageRef};
use mothball_domain::name::{ImageName, ProjectName};
use mothball_domain::undo::DeletedImage;
use std::fmt;

/// Index members read in one step.
const PAGE: usize = 500;

/// Why content must stay in the registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Need {
    /// This tag names it.
    Tag(ImageRef),
    /// This tag can be set back on it, or restored with it.
    Restorable(ImageRef),
    /// This container wakes from it, or is still to be launched from it.
    Container(ContainerId),
    /// Another job is at work on it.
    Job(JobId),
}

impl fmt::Display for Need {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tag(image) => write!(f, "image {image} has the same content"),
            Self::Restorable(image) => write!(f, "image {image} can still be restored to it"),
            Self::Container(id) => write!(f, "container {id} needs it"),
            Self::Job(id) => write!(f, "job {id} is at work on it"),
        }
    }
}

/// Content of a project: the repository's name, and the manifest in it.
pub(crate) type Content<'a> = (&'a ProjectName, &'a ImageName, &'a Digest);

impl Store {
    /// Why content must stay in the registry, though the tag `except` no longer names it; none when nothing needs it.
    /// Reads only.
    pub async fn content_need(
        &self,
        project: &ProjectName,
        name: &ImageName,
        digest: &Digest,
        except: Option<&ImageRef>,
    ) -> Result<Option<Need>, StoreError> {
        need(&mut Tx::new(&self.db), &self.db, (project, name, digest), except).await
    }
}

/// Why content must stay, though the tag `except` no longer names it.
pub(crate) async fn need(
    tx: &mut Tx<'_>,
    db: &Db,
    (project, name, digest): Content<'_>,
    except: Option<&ImageRef>,
) -> Result<Option<Need>, StoreError> {
    let now = tx.now().await?;
    let restorable =
        |image: &Image| image.previous.iter().any(|p| p.digest == *digest && p.is_restorable(now));
    let live = members(db, &keys::images_of_name(project, name)).await?;
    let live: Vec<String> = live.iter().map(|member| format!("image:{project}:{member}")).collect();
    for image in tx.get_many::<Image>(&live).await? {
        if image.digest == *digest && Some(&image.image) != except {
            return Ok(Some(Need::Tag(image.image)));
        }
        if restorable(&image) && Some(&image.image) != except {
            return Ok(Some(Need::Restorable(image.image)));
        }
    }
    let gone = members(db, &keys::deleted_of_name(project, name)).await?;
    let gone: Vec<String> = gone.iter().map(|member| format!("deletedimage:{project}:{member}")).collect();
    for deleted in tx.get_many::<DeletedImage>(&gone).await? {
        let own = deleted.is_restorable(now) && deleted.image.digest == *digest;
        if own || restorable(&deleted.image) {
            return Ok(Some(Need::Restorable(deleted.image.image)));
        }
    }
    let needs = |container: &Container| launches_from(container) == Some(digest);
    let containers = containers(db, project).await?;
    Ok(containers.into_iter().find(needs).map(|container| Need::Container(container.id)))
}

/// The digest that a container will be launched from: one that is parked wakes from it; one whose launch has not happened
/// yet, or failed and may be tried again, was given it.
pub(crate) fn launches_from(container: &Container) -> Option<&Digest> {
    let will_be = matches!(
        container.state,
        ContainerState::Parked | ContainerState::Initializing | ContainerState::Error
    );
    match &container.launch.source {
        Source::Custom { digest, .. } if will_be => Some(digest),
        _ => None,
    }
}

/// All containers of a project that are not deleted. Not part of what a commit checks: a container comes to need content
/// only that a tag names, whose record is.
pub(crate) async fn containers(db: &Db, project: &ProjectName) -> Result<Vec<Container>, StoreError> {
    let members = members(db, &keys::containers_of_project(project)).await?;
    let ids = members.iter().filter_map(|member| member.parse().ok()).map(ContainerId);
    Tx::new(db).get_many(&ids.map(keys::container).collect::<Vec<_>>()).await
}

/// All members of an index: one that is cut short would be read as "nothing else needs it".
pub(crate) async fn members(db: &Db, index: &str) -> Result<Vec<String>, StoreError> {
    let mut all: Vec<String> = Vec::new();
    loop {
        let page = db.scan(index, all.last().map(String::as_str), Order::Ascending, PAGE).await?;
        let is_last = page.len() < PAGE;
        all.extend(page);
        if is_last {
            return Ok(all);
        }
    }
}
