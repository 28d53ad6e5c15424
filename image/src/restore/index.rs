//! What the restored tree holds and in which layer: what makes the first save after a wake a small one.

use super::error::{RestoreError, at};
use super::plan::RestorePlan;
use crate::layer::index::{Held, Index, LayerBlob, LayerNumber, Mark, Mention, Mentions, tree_order};
use crate::layer::tree::{Kind, NodeId, Tree};
use crate::layer::walk::KeepAll;
use crate::layer::{Root, walk};
use std::cmp::Ordering;
use std::path::Path;
use std::sync::Arc;

/// Looks at the filled upper directory and says of each entry which layer it came from. `said` is what each layer mentions,
/// oldest first, with the size of its tar.
///
/// Nothing is suspect: nobody else writes before the container starts, and by then more than a tick has passed.
pub(super) fn index(
    upper: &Path,
    plan: &RestorePlan,
    said: Vec<(Mentions, u64)>,
) -> Result<Index, RestoreError> {
    let looked = Root::open(upper).and_then(|root| walk(&root, &KeepAll));
    let tree = looked.map_err(at(|| format!("look at the upper directory {}", upper.display())))?;
    let sizes = said.iter().map(|(_, bytes)| *bytes);
    let layers = plan.layers.iter().zip(sizes).map(|(layer, raw_bytes)| LayerBlob {
        digest: layer.blob.digest.clone(),
        size: layer.blob.size,
        diff_id: layer.diff_id.clone(),
        media_type: layer.blob.media_type.clone(),
        raw_bytes,
    });
    let layers: Vec<LayerBlob> = layers.collect();
    // What a tar has besides what it says is little.
    let said_bytes = layers.iter().map(|layer| layer.raw_bytes).collect();
    let mut all = Mentions::default();
    for (number, (mentions, _)) in said.into_iter().enumerate() {
        for mention in mentions.iter() {
            all.push(mention.path, number as LayerNumber, mention.mark);
        }
    }
    all.sort();
    let (held, mentions) = assign(&tree, &all);
    Ok(Index {
        base: plan.base.clone(),
        layers,
        said_bytes,
        rules: String::new(),
        tree: Arc::new(tree),
        held,
        mentions,
    })
}

/// Gives each entry of the tree to the newest layer that mentions it as what it is; the other mentions remain.
fn assign(tree: &Tree, all: &Mentions) -> (Vec<Held>, Mentions) {
    let mut held = vec![Held::NOWHERE; tree.len()];
    let mut remain = Mentions::default();
    let mut next = 0;
    let mut entry = |id: Option<NodeId>| {
        let path = id.map(|id| tree.path(id));
        // Mentions before this entry are of what the tree does not show.
        while let Some(mention) = all.get(next) {
            let order = path.as_deref().map_or(Ordering::Less, |path| tree_order(mention.path, path));
            if order == Ordering::Greater {
                break;
            }
            let run: Vec<Mention<'_>> =
                (next..).map_while(|n| all.get(n)).take_while(|m| m.path == mention.path).collect();
            next += run.len();
            let shown = id.filter(|_| order == Ordering::Equal).and_then(|id| {
                let mark = mark_of(tree.node(id).kind);
                let newest = run.iter().filter(|m| m.mark != Mark::Opaque).map(|m| m.layer).max()?;
                let at = run.iter().position(|m| m.layer == newest && m.mark == mark)?;
                held[id as usize] = Held::by(newest);
                Some(at)
            });
            for (_, rest) in run.iter().enumerate().filter(|(n, _)| Some(*n) != shown) {
                remain.push(rest.path, rest.layer, rest.mark);
            }
        }
    };
    tree.ids().for_each(|id| entry(Some(id)));
    entry(None);
    (held, remain)
}

fn mark_of(kind: Kind) -> Mark {
    match kind {
        Kind::Directory | Kind::OpaqueDirectory => Mark::Directory,
        Kind::Whiteout => Mark::Whiteout,
        _ => Mark::Content,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_entry_belongs_to_the_newest_layer_that_shows_it() {
        let dir = tempfile::tempdir().unwrap();
        for path in ["d", "d/e"] {
            std::fs::create_dir(dir.path().join(path)).unwrap();
        }
        for path in ["d/both", "d/e/old", "docker"] {
            std::fs::write(dir.path().join(path), "x").unwrap();
        }
        let tree = walk(&Root::open(dir.path()).unwrap(), &KeepAll).unwrap();
        let mut all = Mentions::default();
        for (path, layer, mark) in [
            ("", 0, Mark::Directory),
            ("", 1, Mark::Directory),
            ("d", 0, Mark::Directory),
            ("d", 1, Mark::Directory),
            ("d", 1, Mark::Opaque),
            ("d/both", 0, Mark::Content),
            ("d/both", 1, Mark::Content),
            ("d/e", 1, Mark::Directory),
            ("d/e/old", 1, Mark::Content),
            ("gone", 0, Mark::Content),
            ("gone", 1, Mark::Whiteout),
        ] {
            all.push(path.as_bytes(), layer, mark);
        }
        all.sort();
        let (held, remain) = assign(&tree, &all);
        let held: Vec<_> = tree
            .ids()
            .map(|id| (String::from_utf8(tree.path(id)).unwrap(), held[id as usize].layer()))
            .collect();
        let wanted = [("", 1), ("d", 1), ("d/both", 1), ("d/e", 1), ("d/e/old", 1)];
        let mut wanted: Vec<_> = wanted.map(|(path, layer)| (path.to_owned(), Some(layer))).into();
        wanted.push(("docker".to_owned(), None));
        assert_eq!(held, wanted);
        let remain: Vec<_> = remain.iter().map(|m| (m.path.to_vec(), m.layer, m.mark)).collect();
        let wanted = [
            ("", 0, Mark::Directory),
            ("d", 0, Mark::Directory),
            ("d", 1, Mark::Opaque),
            ("d/both", 0, Mark::Content),
            ("gone", 0, Mark::Content),
            ("gone", 1, Mark::Whiteout),
        ];
        assert_eq!(remain, wanted.map(|(path, layer, mark)| (path.as_bytes().to_vec(), layer, mark)));
    }
}
