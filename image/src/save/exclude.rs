//! What is never saved: what patterns leave out, and what belongs to the node and not to the image.
//!
//! An entry that is left out is not in a new layer. Where a layer of ours holds it from earlier, that layer is not used any
//! more (see [`Rules::layers_to_drop`]): a secret that only upper layers hide can still be read by whoever has the image.

use super::delta::LayerSet;
use crate::layer::index::{Index, Mark};
use crate::layer::tree::{Kind, Node, Tree};
use crate::layer::walk::{Keep, Reason};
use mothball_domain::exclude::{Exclude, ExcludeError, Excluder};
use mothball_domain::image::Digest;
use sha2::{Digest as _, Sha256};
use std::collections::BTreeSet;

/// What Docker puts into every container, and mounts over in the next.
const DOCKERS: [&[u8]; 4] = [b"etc/hostname", b"etc/hosts", b"etc/resolv.conf", b".dockerenv"];
/// How names of driver files begin. Where the GPU runtime mounts one it leaves an empty file behind, and in an image the
/// empty file is what the next node's driver stumbles over.
const DRIVER_PREFIXES: [&[u8]; 13] = [
    b"libcuda",
    b"libcudadebugger",
    b"libnvidia-",
    b"libnvcuvid",
    b"libnvoptix",
    b"libvdpau_nvidia",
    b"libGLX_nvidia",
    b"libEGL_nvidia",
    b"libGLESv1_CM_nvidia",
    b"libGLESv2_nvidia",
    b"nvidia-",
    b"nvoptix",
    b"gsp_",
];
/// Names of files that hold secrets. Once such a file is gone or has changed, no layer keeps the old one.
const SECRET_NAMES: [&[u8]; 12] = [
    b".env",
    b".git-credentials",
    b".netrc",
    b".npmrc",
    b".pgpass",
    b".pypirc",
    b"credentials",
    b"id_dsa",
    b"id_ecdsa",
    b"id_ed25519",
    b"id_rsa",
    b"kaggle.json",
];
/// Endings of names of files that hold secrets where not everybody may read them: certificates have the same.
const PRIVATE_ENDINGS: [&[u8]; 6] = [b".json", b".key", b".p12", b".pem", b".pfx", b"token"];
/// The number of these rules: with other ones, an index is looked at anew.
const VERSION: &str = "1";

/// What is never saved.
#[derive(Debug, Clone)]
pub struct Rules {
    excluder: Excluder,
    fingerprint: String,
}

impl Rules {
    /// The rules of the engine, and these patterns.
    pub fn new(patterns: &[Exclude]) -> Result<Self, ExcludeError> {
        let sorted: BTreeSet<_> = patterns.iter().map(Exclude::as_str).collect();
        let mut sum = Sha256::new_with_prefix(VERSION);
        for pattern in sorted {
            sum.update(pattern);
            sum.update([0]);
        }
        let fingerprint = Digest::from_sha256(sum.finalize().into()).hex().to_owned();
        Ok(Self { excluder: Excluder::new(patterns)?, fingerprint })
    }

    /// What tells these rules from others; an index remembers it.
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// The layers of an earlier save that hold what must not be in the image: what these rules leave out, and secrets that
    /// are gone or have changed since.
    pub fn layers_to_drop(&self, last: &Index, now: &Tree) -> LayerSet {
        let mut drop = LayerSet::new();
        let new_rules = last.rules != self.fingerprint;
        for mention in last.mentions.iter() {
            let secret = mention.mark == Mark::Content && is_secret_name(name_of(mention.path));
            if secret || (new_rules && self.hides(mention.path, mention.mark == Mark::Directory)) {
                drop.insert(mention.layer);
            }
        }
        for id in last.tree.ids() {
            let Some(layer) = last.held(id).layer() else { continue };
            let node = last.tree.node(id);
            let secret = is_secret(last.tree.name(id), node);
            if !secret && !new_rules {
                continue;
            }
            let path = last.tree.path(id);
            let changed = || now.find(&path).is_none_or(|now_id| !now.node(now_id).same_as(node));
            if (secret && changed()) || (new_rules && self.hides(&path, node.kind.is_directory())) {
                drop.insert(layer);
            }
        }
        drop
    }

    /// Whether the rules leave this path out, or one above it.
    fn hides(&self, path: &[u8], is_directory: bool) -> bool {
        let above = path.iter().enumerate().filter(|(_, b)| **b == b'/').map(|(end, _)| &path[..end]);
        is_dockers(path)
            || self.excluder.leaves_out(path, is_directory)
            || above.into_iter().any(|directory| self.excluder.leaves_out(directory, true))
    }
}

impl Keep for Rules {
    fn leave_out(&self, path: &[u8], node: &Node) -> Option<Reason> {
        if is_dockers(path) || is_empty_driver_file(path, node) {
            return Some(Reason::Hygiene);
        }
        self.excluder.leaves_out(path, node.kind.is_directory()).then_some(Reason::Excluded)
    }
}

fn is_dockers(path: &[u8]) -> bool {
    DOCKERS.contains(&path)
}

fn is_empty_driver_file(path: &[u8], node: &Node) -> bool {
    let name = name_of(path);
    node.kind == Kind::File && node.size == 0 && DRIVER_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

fn is_secret(name: &[u8], node: &Node) -> bool {
    let is_private = node.mode & 0o004 == 0 && PRIVATE_ENDINGS.iter().any(|ending| name.ends_with(ending));
    node.kind == Kind::File && (is_private || is_secret_name(name))
}

fn is_secret_name(name: &[u8]) -> bool {
    SECRET_NAMES.contains(&name)
}

fn name_of(path: &[u8]) -> &[u8] {
    path.rsplit(|b| *b == b'/').next().unwrap_or(path)
}
