//! Two trees and a list of paths, read side by side in one order.

use crate::layer::tree::{NodeId, Tree};
use std::ops::Range;

/// The content of one directory in both trees, as far as it has not been read.
pub(super) struct Beside {
    now: Range<NodeId>,
    then: Range<NodeId>,
}

/// One name, and who has it.
pub(super) struct Found<'a> {
    pub(super) name: &'a [u8],
    pub(super) now: Option<NodeId>,
    pub(super) then: Option<NodeId>,
}

impl Beside {
    pub(super) fn of(
        now: &Tree,
        in_now: Option<NodeId>,
        then: Option<&Tree>,
        in_then: Option<NodeId>,
    ) -> Self {
        let children = |tree: &Tree, id: Option<NodeId>| id.map_or(0..0, |id| tree.children(id));
        Self { now: children(now, in_now), then: then.map_or(0..0, |then| children(then, in_then)) }
    }

    /// The lowest name that has not been read, of the trees and of `mentioned`.
    pub(super) fn next<'a>(
        &mut self,
        now: &'a Tree,
        then: Option<&'a Tree>,
        mentioned: Option<&'a [u8]>,
    ) -> Option<Found<'a>> {
        let in_now = (!self.now.is_empty()).then(|| now.name(self.now.start));
        let in_then = then.filter(|_| !self.then.is_empty()).map(|then| then.name(self.then.start));
        let name = [in_now, in_then, mentioned].into_iter().flatten().min()?;
        let found_now = if in_now == Some(name) { self.now.next() } else { None };
        let found_then = if in_then == Some(name) { self.then.next() } else { None };
        Some(Found { name, now: found_now, then: found_then })
    }
}

/// The name, in a directory, of what leads to a path below it; nothing where the path is not below it.
pub(super) fn child_name<'a>(path: &'a [u8], directory: &[u8]) -> Option<&'a [u8]> {
    let rest = path.strip_prefix(directory)?;
    let rest = if directory.is_empty() { rest } else { rest.strip_prefix(b"/")? };
    let end = rest.iter().position(|b| *b == b'/').unwrap_or(rest.len());
    (end > 0).then(|| &rest[..end])
}
