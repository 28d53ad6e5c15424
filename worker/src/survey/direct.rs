//! What the direct way would send of a container, by what is remembered of its last save.

use crate::docker::ContainerFacts;
use crate::node::NodeContext;
use mothball_domain::exclude::Exclude;
use mothball_image::layer::Base;
use mothball_image::save::{Preview, Rules, preview};
use std::path::PathBuf;
use std::time::Duration;
use tokio::time::timeout;

/// What was found out.
pub(super) enum Seen {
    /// What a save would send.
    Preview(Preview),
    /// Why the layer cannot be saved directly, by its own nature.
    Unsuitable(String),
    /// Nothing is known of the image that the container is made of: it is gone from the node.
    NoBase,
    /// There was no time, or the layer cannot be read just now.
    Nothing,
}

/// Looks at the layer in `upper` as a save would. A look that takes longer than `limit` is left to itself: it ends with the walk.
pub(super) async fn look(
    node: &NodeContext,
    facts: &ContainerFacts,
    upper: PathBuf,
    excludes: &[Exclude],
    limit: Duration,
) -> Seen {
    let Some(base) = node.base(&facts.image_id) else { return Seen::NoBase };
    let Ok(rules) = Rules::new(excludes) else { return Seen::Nothing };
    let base = Base { image_id: base.id.to_string(), diff_ids: base.config.rootfs.diff_ids };
    let (indexes, id) = (node.indexes.clone(), facts.id.clone());
    let look = tokio::task::spawn_blocking(move || {
        let last = indexes.load(&id).map(|earlier| earlier.index);
        preview(&upper, &rules, &base, last.as_ref())
    });
    match timeout(limit, look).await {
        Ok(Ok(Ok(preview))) => Seen::Preview(preview),
        Ok(Ok(Err(error))) => error.unsuitable().map_or(Seen::Nothing, Seen::Unsuitable),
        Ok(Err(_)) | Err(_) => Seen::Nothing,
    }
}
