//! Mounts: how much lies in them and what is installed there, without waiting for a file server that is away.

use crate::docker::{ContainerFacts, MountFact, MountKind};
use crate::node::NodeContext;
use futures_util::future::join_all;
use mothball_domain::survey::{MountReport, MountedAs, PackageTree, TREES_MAX};
use mothball_image::survey::{Mounted, Until, look_at_mount};
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// How long the counting of one mount may take; a home directory may have millions of files.
const COUNT_LIMIT: Duration = Duration::from_secs(2);
/// How much longer than its own limit a look may take before it is left to itself.
const PATIENCE: Duration = Duration::from_secs(1);
/// Threads for one mount.
const THREADS: usize = 2;
/// Looks at one source at once, and sources that are looked at: a file server that is away holds a thread for each look.
const LOOKS_OF_SOURCE_MAX: u32 = 2;
const SOURCES_MAX: usize = 32;

/// The looks under way, by what they look at. Those that a dead file server holds stay here until it is back.
#[derive(Debug, Clone, Default)]
pub(crate) struct MountLooks(Arc<Mutex<HashMap<String, u32>>>);

/// One look, counted until it ends.
struct Look {
    looks: MountLooks,
    source: String,
}

impl MountLooks {
    /// Begins a look; none while earlier ones of the same source have not come back.
    fn begin(&self, source: &str) -> Option<Look> {
        let mut looks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = looks.get(source).copied().unwrap_or(0);
        if count >= LOOKS_OF_SOURCE_MAX || (count == 0 && looks.len() >= SOURCES_MAX) {
            return None;
        }
        looks.insert(source.to_owned(), count + 1);
        Some(Look { looks: self.clone(), source: source.to_owned() })
    }
}

impl Drop for Look {
    fn drop(&mut self) {
        let mut looks = self.looks.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = looks.get_mut(&self.source) {
            *count -= 1;
            if *count == 0 {
                looks.remove(&self.source);
            }
        }
    }
}

/// Looks at all mounts of a container side by side, each for a short while and all of them within `limit`, or until they are
/// stopped.
pub(crate) async fn look_at_mounts(
    node: &NodeContext,
    facts: &ContainerFacts,
    limit: Duration,
    stop: &CancellationToken,
) -> (Vec<MountReport>, Vec<PackageTree>) {
    let limit = limit.min(COUNT_LIMIT);
    let looks = facts.mounts.iter().map(|mount| look(&node.mount_looks, mount, limit, stop));
    let (mut reports, mut trees) = (Vec::new(), Vec::new());
    for (report, found) in join_all(looks).await {
        reports.push(report);
        trees.extend(found);
    }
    trees.truncate(TREES_MAX);
    (reports, trees)
}

async fn look(
    looks: &MountLooks,
    mount: &MountFact,
    limit: Duration,
    stop: &CancellationToken,
) -> (MountReport, Vec<PackageTree>) {
    let mounted_as = match mount.kind {
        MountKind::Bind => MountedAs::Bind,
        MountKind::Volume { anonymous: false } => MountedAs::Volume,
        MountKind::Volume { anonymous: true } => MountedAs::AnonymousVolume,
        MountKind::Tmpfs => MountedAs::Memory,
    };
    let seen = if mounted_as == MountedAs::Memory { None } else { seen(looks, mount, limit, stop).await };
    let report = MountReport {
        target: mount.destination.clone(),
        mounted_as,
        bytes: seen.as_ref().map(|seen| seen.bytes),
        complete: seen.as_ref().is_some_and(|seen| seen.complete),
    };
    (report, seen.map(|seen| seen.trees).unwrap_or_default())
}

/// What lies in a mount; none where it cannot be read or does not answer.
async fn seen(
    looks: &MountLooks,
    mount: &MountFact,
    limit: Duration,
    stop: &CancellationToken,
) -> Option<Mounted> {
    let under_way = looks.begin(&mount.source)?;
    let (source, target) = (PathBuf::from(&mount.source), mount.destination.clone());
    let until = Until::after(limit).or(stop.clone());
    let look = tokio::task::spawn_blocking(move || {
        let _under_way = under_way;
        look_at_mount(&source, &target, until, THREADS)
    });
    // A mount whose server is away answers nothing at all; its thread is left to it.
    timeout(limit + PATIENCE, look).await.ok()?.ok()?.ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_that_does_not_come_back_is_not_asked_for_ever() {
        let looks = MountLooks::default();
        let first = looks.begin("/mnt/dead").unwrap();
        let second = looks.begin("/mnt/dead").unwrap();
        assert!(looks.begin("/mnt/dead").is_none());
        assert!(looks.begin("/mnt/alive").is_some());
        drop(first);
        assert!(looks.begin("/mnt/dead").is_some());
        drop(second);
        assert!(looks.0.lock().unwrap().is_empty());
        let many: Vec<Option<Look>> = (0..=SOURCES_MAX).map(|n| looks.begin(&n.to_string())).collect();
        assert_eq!(many.iter().flatten().count(), SOURCES_MAX);
    }
}
