//! Warnings before a real save: the same look, shorter, told in the job's notes.

use super::look::layer_of;
use super::look_at_mounts;
use crate::attempt::Attempt;
use crate::docker::ContainerFacts;
use mothball_domain::exclude::{Exclude, Excluder};
use mothball_domain::survey::{MountedAs, SurveyReport, words};
use std::time::Duration;

/// How long the look may hold the save up. It runs beside what the preflight asks of Docker and the registry.
const LIMIT: Duration = Duration::from_secs(3);

/// What is not saved, and what the owner might not want to be, in sentences for the job's notes.
pub(crate) async fn warnings(attempt: &Attempt, facts: &ContainerFacts, excludes: &[Exclude]) -> Vec<String> {
    let layer = async {
        let upper = attempt.node.reach.seen_layer(facts).ok()?;
        let excludes = Excluder::new(excludes).ok()?;
        layer_of(upper, excludes, attempt.parts.settings.secrets.clone(), LIMIT).await
    };
    let (layer, (mut mounts, package_trees)) =
        tokio::join!(layer, look_at_mounts(&attempt.node, facts, LIMIT));
    // Volumes without a name decide whether the container may go, and are told of there.
    mounts.retain(|m| matches!(m.mounted_as, MountedAs::Bind | MountedAs::Volume));
    let report = SurveyReport { layer, package_trees, ..SurveyReport::default() };
    words::mounts(&mounts).into_iter().chain(words::warnings(&report)).collect()
}
