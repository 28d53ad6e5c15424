//! What new layers must say so that, on top of the layers that are kept, they show the tree as it is now.
//!
//! Three sorted things are read side by side: the tree as it is now, the tree as the last save left it, and what the kept
//! layers mention besides. At each path the question is the same: what do the kept layers show here, and is that right?
//! Nothing depends on how the layers came about, so a full save (none is kept), a small one, one after a crash and one
//! that drops layers to save room are one algorithm.
//!
//! What hides what, in the layers' order: a whiteout, and anything but a directory, hides all that lower layers have at and
//! below its path; an opaque mark all that lower layers have below it. `Cut` is that rule as one number.

mod links;
mod walkers;

use crate::layer::index::{Held, Index, LayerNumber, Mark, Mentions};
use crate::layer::tree::{Kind, NodeId, ROOT, Tree};
use links::Links;
use std::collections::{BTreeSet, HashSet};
use walkers::Beside;

/// Layers by their number.
pub type LayerSet = BTreeSet<LayerNumber>;

/// One thing that new layers say, in the order of a tar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Item {
    /// An entry of the tree.
    Entry(NodeId),
    /// That a directory hides what lower layers have in it; right behind the directory's entry.
    Opaque(NodeId),
    /// That something is gone; the number is its place in [`ChangeSet::removals`].
    Removal(u32),
}

/// Something that layers of ours show and that is gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Removal {
    /// The directory that held it.
    pub parent: NodeId,
    /// Its name.
    pub name: Box<[u8]>,
}

/// What new layers must say.
#[derive(Debug, Clone)]
pub struct ChangeSet {
    /// What is to be said. Directories on the way to it are not listed: every slice carries them.
    pub items: Vec<Item>,
    /// What is gone.
    pub removals: Vec<Removal>,
    /// The layers that stay below, by their old numbers, oldest first. Everything here counts by their new ones: their
    /// places in this list.
    pub kept: Vec<LayerNumber>,
    /// For each entry of the tree: the kept layer that has it. Nowhere: it is in `items`, or needs no saying.
    pub(crate) held: Vec<Held>,
    /// What the kept layers mention besides.
    pub(crate) mentions: Mentions,
}

impl ChangeSet {
    /// Finds out what changed between an image and the tree. `rewritten` are layers of the image that are not to be used:
    /// what they hold is sent again.
    pub fn between(now: &Tree, last: Option<&Index>, rewritten: &LayerSet) -> Self {
        let mut links = Links::of(last);
        loop {
            let mut differ = Differ::new(now, last, rewritten, &links);
            differ.run();
            let (changes, seen) = (differ.changes, differ.seen_links);
            if !links.find_broken(&seen) {
                return changes;
            }
        }
    }

    /// Everything: nothing is kept.
    pub fn full(now: &Tree) -> Self {
        Self::between(now, None, &LayerSet::new())
    }

    /// About how many bytes new layers take, before compression.
    pub fn tar_bytes(&self, tree: &Tree) -> u64 {
        self.items.iter().map(|item| item.tar_bytes(tree)).sum()
    }

    /// How many bytes of file content are to be read, holes included; of a file with several names once.
    pub fn content_bytes(&self, tree: &Tree) -> u64 {
        let mut linked = HashSet::new();
        let mut content = |item: &Item| {
            let Item::Entry(id) = item else { return 0 };
            let node = tree.node(*id);
            let again = node.linked && !linked.insert(node.ino);
            if node.kind == Kind::File && !again { node.size } else { 0 }
        };
        self.items.iter().map(&mut content).sum()
    }
}

impl Item {
    /// About how many bytes it takes in a layer, before compression.
    pub fn tar_bytes(self, tree: &Tree) -> u64 {
        match self {
            Self::Entry(id) => tree.node(id).tar_bytes(),
            Self::Opaque(_) | Self::Removal(_) => 512,
        }
    }
}

/// Below which layers everything is hidden at some place. Larger hides more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Cut(u32);

impl Cut {
    /// Nothing is hidden, not even the base.
    const NOTHING: Self = Self(0);
    /// All layers that are kept are hidden.
    const ALL: Self = Self(u32::MAX);

    /// Hides what is below this layer.
    fn below(layer: LayerNumber) -> Self {
        Self(2 * u32::from(layer) + 2)
    }

    /// Hides this layer too.
    fn with(layer: LayerNumber) -> Self {
        Self(2 * u32::from(layer) + 3)
    }

    fn shows(self, layer: LayerNumber) -> bool {
        Self::below(layer) >= self
    }
}

/// What kept layers say at one path.
#[derive(Debug, Clone, Copy)]
struct Said {
    /// What they hide below it, with what was hidden above it.
    cut: Cut,
    /// The highest layer that says whether there is something, and whether there is.
    top: Option<(LayerNumber, bool)>,
    /// Whether any of it can be seen.
    mentioned: bool,
}

impl Said {
    fn add(&mut self, layer: LayerNumber, mark: Mark, above: Cut) {
        if !above.shows(layer) {
            return;
        }
        self.mentioned = true;
        self.cut = match mark {
            Mark::Directory => self.cut,
            Mark::Opaque => self.cut.max(Cut::below(layer)),
            Mark::Content | Mark::Whiteout => self.cut.max(Cut::with(layer)),
        };
        if mark != Mark::Opaque && self.top.is_none_or(|(top, _)| layer >= top) {
            self.top = Some((layer, mark != Mark::Whiteout));
        }
    }

    fn shows(&self) -> bool {
        self.top.is_some_and(|(_, there)| there)
    }
}

/// What is at a path now, and what follows for what is below it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    /// A directory of the tree.
    Directory(NodeId),
    /// Something else of the tree: whatever layers have below it is hidden by it.
    Other,
    /// A whiteout of the tree. `said`: a kept layer says so already.
    Whiteout { id: NodeId, said: bool, hidden: bool },
    /// Nothing.
    Gone,
}

/// A path whose content is being looked at.
struct Frame {
    role: Role,
    beside: Beside,
    path_len: usize,
    cut: Cut,
    /// Whether kept layers show something here.
    shown: bool,
    /// Whether they mention something here or below.
    mentioned: bool,
}

struct Differ<'a> {
    now: &'a Tree,
    last: Option<&'a Index>,
    links: &'a Links,
    /// The new numbers of the layers that are kept.
    renumber: Vec<Option<LayerNumber>>,
    /// The next of the last save's mentions.
    cursor: usize,
    path: Vec<u8>,
    stack: Vec<Frame>,
    seen_links: Vec<(u64, Option<LayerNumber>)>,
    changes: ChangeSet,
}

impl<'a> Differ<'a> {
    fn new(now: &'a Tree, last: Option<&'a Index>, rewritten: &LayerSet, links: &'a Links) -> Self {
        let count = last.map_or(0, |index| index.layers.len() as LayerNumber);
        let kept: Vec<_> = (0..count).filter(|layer| !rewritten.contains(layer)).collect();
        let mut renumber = vec![None; usize::from(count)];
        for (new, old) in kept.iter().enumerate() {
            renumber[usize::from(*old)] = Some(new as LayerNumber);
        }
        let changes = ChangeSet {
            items: Vec::new(),
            removals: Vec::new(),
            kept,
            held: vec![Held::NOWHERE; now.len()],
            mentions: Mentions::default(),
        };
        let (cursor, path, stack) = (0, Vec::new(), Vec::new());
        Self { now, last, links, renumber, cursor, path, stack, seen_links: Vec::new(), changes }
    }

    fn run(&mut self) {
        self.enter(Some(ROOT), self.last.map(|_| ROOT), Cut::NOTHING);
        while let Some(frame) = self.stack.last_mut() {
            self.path.truncate(frame.path_len);
            let mention = self.last.and_then(|last| last.mentions.get(self.cursor));
            let below = mention.and_then(|mention| walkers::child_name(mention.path, &self.path));
            let cut = frame.cut;
            match frame.beside.next(self.now, self.last.map(|last| &*last.tree), below) {
                Some(found) => {
                    if !self.path.is_empty() {
                        self.path.push(b'/');
                    }
                    self.path.extend_from_slice(found.name);
                    let (now, then) = (found.now, found.then);
                    self.enter(now, then, cut);
                }
                None => self.leave(),
            }
        }
        self.changes.mentions.sort();
    }

    /// Decides about one path, and has what is below it looked at.
    fn enter(&mut self, now: Option<NodeId>, then: Option<NodeId>, above: Cut) {
        let mut said = self.mentions_here(above);
        let live = then.and_then(|then| self.live(then));
        let has_removal_said = said.top.is_some_and(|(_, there)| !there);
        if let Some((layer, mark, _)) = live {
            said.add(layer, mark, above);
        }
        let (role, reused) = match now {
            None => (Role::Gone, None),
            Some(id) => self.decide(id, then, live, &said, above, has_removal_said),
        };
        let (directory, cut) = match role {
            Role::Directory(id) => (Some(id), self.directory(id, reused, said.cut)),
            _ => (None, said.cut),
        };
        let reused = reused.filter(|_| cut != Cut::ALL);
        match (now, reused, live) {
            (Some(id), Some(layer), _) => self.changes.held[id as usize] = Held::by(layer),
            (_, None, Some((layer, mark, _))) => self.changes.mentions.push(&self.path, layer, mark),
            _ => {}
        }
        let beside = Beside::of(self.now, directory, self.last.map(|last| &*last.tree), then);
        let (shown, mentioned) = (said.shows(), said.mentioned);
        self.stack.push(Frame { role, beside, path_len: self.path.len(), cut, shown, mentioned });
    }

    /// What an entry of the tree is, and which kept layer has it as it is.
    fn decide(
        &mut self,
        id: NodeId,
        then: Option<NodeId>,
        live: Option<(LayerNumber, Mark, bool)>,
        said: &Said,
        above: Cut,
        removal_said: bool,
    ) -> (Role, Option<LayerNumber>) {
        let node = self.now.node(id);
        let usable = live.filter(|(layer, _, suspect)| !suspect && above.shows(*layer));
        let same = then.zip(self.last).is_some_and(|(then, last)| last.tree.node(then).same_as(node));
        let mut reused = usable.filter(|_| same && !self.links.is_broken(node)).map(|(layer, _, _)| layer);
        if node.kind.is_directory() && self.drops_layers() && self.has_mentions_below() {
            // A whiteout in a directory that only one layer has is seen as a broken file: with the layer that the
            // whiteout was about gone, the directory is sent again, so that there are two.
            reused = None;
        }
        if node.linked {
            self.seen_links.push((node.ino, reused));
        }
        let role = match node.kind {
            Kind::Directory | Kind::OpaqueDirectory => Role::Directory(id),
            Kind::Whiteout => {
                let said = reused.is_some() || (removal_said && !said.shows());
                Role::Whiteout { id, said, hidden: above > Cut::NOTHING }
            }
            _ => {
                if reused.is_none() {
                    self.changes.items.push(Item::Entry(id));
                }
                Role::Other
            }
        };
        (role, reused)
    }

    /// Says what is to be said of a directory itself. Answers what is hidden in it.
    fn directory(&mut self, id: NodeId, reused: Option<LayerNumber>, cut: Cut) -> Cut {
        let to_hide = self.now.node(id).kind == Kind::OpaqueDirectory && cut == Cut::NOTHING;
        if reused.is_none() || to_hide {
            self.changes.items.push(Item::Entry(id));
        }
        if !to_hide {
            return cut;
        }
        self.changes.items.push(Item::Opaque(id));
        Cut::ALL
    }

    /// Ends a path: all that is below it has been looked at.
    fn leave(&mut self) {
        let Some(frame) = self.stack.pop() else { return };
        match frame.role {
            Role::Directory(_) | Role::Other => {}
            Role::Whiteout { id, said, hidden } => {
                if !said && (frame.shown || !hidden) {
                    self.changes.items.push(Item::Entry(id));
                }
            }
            Role::Gone => match self.stack.last_mut() {
                Some(Frame { role: Role::Directory(parent), path_len, .. }) if frame.shown => {
                    let name_at = if *path_len == 0 { 0 } else { *path_len + 1 };
                    let name = self.path[name_at..frame.path_len].into();
                    self.changes.items.push(Item::Removal(self.changes.removals.len() as u32));
                    self.changes.removals.push(Removal { parent: *parent, name });
                }
                Some(Frame { role: Role::Directory(_), .. }) | None => {}
                // A layer that mentions something has the directories on the way to it.
                Some(above) => {
                    above.shown |= frame.mentioned;
                    above.mentioned |= frame.mentioned;
                }
            },
        }
    }

    /// Takes what kept layers mention at this very path.
    fn mentions_here(&mut self, above: Cut) -> Said {
        let mut said = Said { cut: above, top: None, mentioned: false };
        let Some(last) = self.last else { return said };
        while let Some(mention) = last.mentions.get(self.cursor).filter(|m| m.path == self.path) {
            self.cursor += 1;
            if let Some(layer) = self.new_number(mention.layer) {
                self.changes.mentions.push(&self.path, layer, mention.mark);
                said.add(layer, mention.mark, above);
            }
        }
        said
    }

    /// The kept layer that has an entry of the last save, as what, and whether that is doubtful.
    fn live(&self, then: NodeId) -> Option<(LayerNumber, Mark, bool)> {
        let last = self.last?;
        let held = last.held(then);
        let mark = match last.tree.node(then).kind {
            Kind::Directory | Kind::OpaqueDirectory => Mark::Directory,
            Kind::Whiteout => Mark::Whiteout,
            _ => Mark::Content,
        };
        Some((self.new_number(held.layer()?)?, mark, held.is_suspect()))
    }

    fn new_number(&self, old: LayerNumber) -> Option<LayerNumber> {
        self.renumber.get(usize::from(old)).copied().flatten()
    }

    fn drops_layers(&self) -> bool {
        self.changes.kept.len() < self.renumber.len()
    }

    fn has_mentions_below(&self) -> bool {
        let next = self.last.and_then(|last| last.mentions.get(self.cursor));
        next.is_some_and(|mention| walkers::child_name(mention.path, &self.path).is_some())
    }
}
