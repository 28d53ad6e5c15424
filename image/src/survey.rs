//! Looking at a container's files before a save: how much there is, what is large, what looks like a secret, what need not
//! be carried, and what lies in mounts. Reads only, within a time and a memory that are given; blocks the calling thread.
//!
//! The container runs meanwhile: entries come and go, and a directory may become a link that leads elsewhere. Every path is
//! therefore opened below the root that was given, without following links.

mod caches;
mod content;
mod largest;
mod layer;
mod mount;
mod names;
mod until;
mod walk;

pub use layer::{Looking, look_at_layer};
pub use mount::{Mounted, look_at_mount};
pub use names::SecretRules;
pub use until::Until;

/// A path below the root as people know it in the container.
fn shown(root: &str, path: &[u8]) -> String {
    let path = String::from_utf8_lossy(path);
    match (root.trim_end_matches('/'), path.as_ref()) {
        ("", "") => "/".to_owned(),
        (root, "") => root.to_owned(),
        (root, path) => format!("{root}/{path}"),
    }
}

/// The last name of a path.
fn name_of(path: &[u8]) -> &[u8] {
    path.rsplit(|b| *b == b'/').next().unwrap_or_default()
}

/// The path without its last name; empty at the root.
fn parent_of(path: &[u8]) -> &[u8] {
    path.iter().rposition(|b| *b == b'/').map_or(&[], |slash| &path[..slash])
}

/// How many names a path has; none at the root.
fn depth(path: &[u8]) -> usize {
    path.split(|b| *b == b'/').filter(|name| !name.is_empty()).count()
}
