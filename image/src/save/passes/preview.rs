//! What a save would find now, without saving.

use super::{SLICE_BYTES_MIN, look};
use crate::layer::index::{Base, Index};
use crate::layer::root::Root;
use crate::save::compact::{Limits, layers_to_rewrite};
use crate::save::delta::ChangeSet;
use crate::save::error::SaveError;
use crate::save::exclude::Rules;
use crate::save::slices::slices_of_size;
use std::path::Path;

/// What a save would send, and what it would not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Preview {
    /// Bytes of file content to be read and sent.
    pub changed_bytes: u64,
    /// Bytes of file content that the registry has from the last save.
    pub reused_bytes: u64,
    /// Layers of ours that the image would have.
    pub own_layers: usize,
}

/// Looks at the writable layer at `upper` as a save on `base` would that knows of the last one, and asks no registry whether it
/// still has that. Blocks. Fails as a save would on a layer that cannot be saved so.
pub fn preview(upper: &Path, rules: &Rules, base: &Base, last: Option<&Index>) -> Result<Preview, SaveError> {
    let look = |what| move |error| SaveError::io(what, error);
    let root = Root::open(upper).map_err(look("open the container's writable layer"))?;
    let tree = look::seen(&root, rules).map_err(look("look at the container's files"))?;
    let limits = Limits::on_base(base.diff_ids.len());
    let full = ChangeSet::full(&tree);
    let all = full.content_bytes(&tree);
    let changes = match last.filter(|last| last.base == *base) {
        None => full,
        Some(last) => layers_to_rewrite(last, &tree, rules.layers_to_drop(last, &tree), limits).1,
    };
    let kept = changes.kept.len();
    let new = slices_of_size(&tree, &changes, limits.live_slices(kept), SLICE_BYTES_MIN).len();
    let changed_bytes = changes.content_bytes(&tree);
    Ok(Preview { changed_bytes, reused_bytes: all.saturating_sub(changed_bytes), own_layers: kept + new })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_an_earlier_save_everything_is_sent() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("a"), [1; 700]).unwrap();
        std::fs::write(dir.path().join("b.ckpt"), [1; 300]).unwrap();
        let rules = Rules::new(&["*.ckpt".parse().unwrap()]).unwrap();
        let base = Base { image_id: "sha256:0".to_owned(), diff_ids: Vec::new() };
        let seen = preview(dir.path(), &rules, &base, None).unwrap();
        assert_eq!(seen, Preview { changed_bytes: 700, reused_bytes: 0, own_layers: 1 });
        assert!(preview(&dir.path().join("none"), &rules, &base, None).is_err());
    }
}
