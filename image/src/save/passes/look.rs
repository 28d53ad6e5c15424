//! A look at the writable layer: what is there, what differs, and how it is cut. On threads that may wait.

use super::SaveSettings;
use super::report::Churn;
use crate::layer::index::Index;
use crate::layer::root::Root;
use crate::layer::tree::Tree;
use crate::layer::walk::walk;
use crate::save::compact::{Limits, layers_to_rewrite};
use crate::save::delta::{ChangeSet, LayerSet};
use crate::save::error::SaveError;
use crate::save::exclude::Rules;
use crate::save::slices::{Slice, slices_of_size};
use crate::save::source::Source;
use std::io;
use std::sync::Arc;

/// What a pass is to do. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    /// What the registry held before.
    pub(super) last: Option<Arc<Index>>,
    pub(super) tree: Arc<Tree>,
    pub(super) changes: Arc<ChangeSet>,
    pub(super) slices: Vec<Arc<Slice>>,
    /// Layers that hold a secret which is gone, and that were not rewritten all the same.
    pub(super) secrets_kept: usize,
}

impl Plan {
    fn new(
        last: Option<Arc<Index>>,
        tree: Tree,
        changes: ChangeSet,
        settings: &SaveSettings,
        slices_max: usize,
    ) -> Self {
        let slices = slices_of_size(&tree, &changes, slices_max, settings.slice_bytes_min);
        let slices = slices.into_iter().map(Arc::new).collect();
        Self { last, tree: Arc::new(tree), changes: Arc::new(changes), slices, secrets_kept: 0 }
    }

    pub(super) fn source(&self, root: &Arc<Root>) -> Source {
        Source { root: root.clone(), tree: self.tree.clone(), changes: self.changes.clone() }
    }
}

/// For a live pass. The order matters: what is stored through a mapping after the walk shows in the next walk only if the page
/// was written to disk in between.
pub(super) fn live(
    root: &Root,
    settings: &SaveSettings,
    last: Option<Arc<Index>>,
    limits: Limits,
) -> io::Result<Plan> {
    let rules = &settings.rules;
    let tree = seen(root, rules)?;
    root.sync()?;
    let changes = match last.as_deref() {
        None => ChangeSet::full(&tree),
        Some(last) => layers_to_rewrite(last, &tree, rules.layers_to_drop(last, &tree), limits).1,
    };
    let slices_max = limits.live_slices(changes.kept.len());
    Ok(Plan::new(last, tree, changes, settings, slices_max))
}

/// For a frozen pass. It syncs nothing, since a neighbour's dirty pages would be waited for, and rewrites a layer only because
/// of a secret, where that is little.
pub(super) fn frozen(
    root: &Root,
    settings: &SaveSettings,
    last: Option<Arc<Index>>,
    limits: Limits,
) -> io::Result<Plan> {
    let tree = seen(root, &settings.rules)?;
    let unwanted = last.as_deref().map_or_else(LayerSet::new, |l| settings.rules.layers_to_drop(l, &tree));
    let (mut changes, mut secrets_kept) = (ChangeSet::between(&tree, last.as_deref(), &unwanted), 0);
    if !unwanted.is_empty() && changes.tar_bytes(&tree) > settings.spool.bytes_max {
        changes = ChangeSet::between(&tree, last.as_deref(), &LayerSet::new());
        secrets_kept = unwanted.len();
    }
    let slices_max = limits.frozen_slices(changes.kept.len());
    Ok(Plan { secrets_kept, ..Plan::new(last, tree, changes, settings, slices_max) })
}

/// What a frozen pass would have to do.
pub(super) fn churn(root: &Root, rules: &Rules, last: Option<&Index>) -> io::Result<Churn> {
    let tree = seen(root, rules)?;
    let changes = ChangeSet::between(&tree, last, &LayerSet::new());
    Ok(Churn { entries: changes.items.len(), bytes: changes.content_bytes(&tree) })
}

pub(super) fn seen(root: &Root, rules: &Rules) -> io::Result<Tree> {
    let tree = walk(root, rules)?;
    if tree.redirected {
        // Whoever chose this way has asked Docker, which says it of the whole node; the layer itself knows better.
        let why = "a directory in it was renamed in overlayfs's own way (redirect_dir)";
        return Err(io::Error::new(io::ErrorKind::Unsupported, why));
    }
    Ok(tree)
}

/// Runs what waits for the disk where waiting is allowed.
pub(super) async fn blocking<T: Send + 'static>(
    what: &'static str,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, SaveError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|e| SaveError::Defect(e.to_string()))?.map_err(|e| SaveError::io(what, e))
}
