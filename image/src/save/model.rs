//! A model of a container on overlayfs and of what Docker makes of layers, to try thousands of histories without a disk.

mod histories;
mod room;

use super::delta::{ChangeSet, Item, LayerSet};
use super::record::{Sent, record};
use super::slices::{Slice, slices_of_size};
use super::source::SliceReport;
use crate::layer::index::{Base, Index, LayerBlob};
use crate::layer::tree::{Kind, Node, NodeId, ROOT, Tree};
use crate::layer::walk::LeftOut;
use crate::oci::digest_of;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Paths as lists of names: their order is the order of a tar.
type Path = Vec<&'static str>;

/// Something in a directory tree; files by what tells their contents apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Thing {
    Directory { opaque: bool, version: u64 },
    File { ino: u64, version: u64, size: u64 },
    Whiteout,
}

impl Thing {
    fn is_directory(self) -> bool {
        matches!(self, Self::Directory { .. })
    }
}

type Things = BTreeMap<Path, Thing>;

/// A container.
#[derive(Debug, Clone, Default)]
struct Container {
    base: Things,
    upper: Things,
    /// Counts changes: versions and inode numbers come from here.
    clock: u64,
}

impl Container {
    fn on(base: &[(&[&'static str], bool)]) -> Self {
        let thing = |directory: bool| {
            if directory {
                Thing::Directory { opaque: false, version: 0 }
            } else {
                Thing::File { ino: 0, version: 0, size: 9 }
            }
        };
        let base: Things = base.iter().map(|(path, directory)| (path.to_vec(), thing(*directory))).collect();
        let mut upper = Things::new();
        upper.insert(Path::new(), Thing::Directory { opaque: false, version: 0 });
        Self { base, upper, clock: 1 }
    }

    /// What is seen in the container.
    fn view(&self) -> Things {
        let mut view = self.base.clone();
        apply(&mut view, &whole(&self.upper));
        view
    }

    fn tick(&mut self) -> u64 {
        self.clock += 1;
        self.clock
    }

    /// Whether the base has something at a path that a whiteout must hide.
    fn is_lower(&self, path: &Path) -> bool {
        let hidden = (1..path.len()).any(|n| {
            matches!(
                self.upper.get(&path[..n]),
                Some(Thing::Whiteout | Thing::File { .. } | Thing::Directory { opaque: true, .. })
            )
        });
        !hidden && self.base.contains_key(path)
    }

    /// Has the directories on the way in the upper directory; answers whether there are any.
    fn copy_up(&mut self, path: &Path) -> bool {
        let view = self.view();
        if !(1..path.len()).all(|n| view.get(&path[..n]).is_some_and(|thing| thing.is_directory())) {
            return false;
        }
        for n in 1..path.len() {
            let version = self.tick();
            self.upper.entry(path[..n].to_vec()).or_insert(Thing::Directory { opaque: false, version });
        }
        let version = self.tick();
        if let Some(Thing::Directory { version: old, .. }) = self.upper.get_mut(&path[..path.len() - 1]) {
            *old = version;
        }
        true
    }

    fn write(&mut self, path: &Path, size: u64) {
        if self.view().get(path).is_some_and(|thing| thing.is_directory()) || !self.copy_up(path) {
            return;
        }
        let version = self.tick();
        match self.upper.get(path).copied() {
            // Written through all its names.
            Some(Thing::File { ino, .. }) => {
                let same =
                    |thing: &&mut Thing| matches!(thing, Thing::File { ino: other, .. } if *other == ino);
                for thing in self.upper.values_mut().filter(same) {
                    *thing = Thing::File { ino, version, size };
                }
            }
            _ => {
                self.upper.insert(path.clone(), Thing::File { ino: version, version, size });
            }
        }
    }

    fn make_directory(&mut self, path: &Path) {
        if self.view().contains_key(path) || !self.copy_up(path) {
            return;
        }
        let opaque = self.upper.get(path) == Some(&Thing::Whiteout);
        let version = self.tick();
        self.upper.insert(path.clone(), Thing::Directory { opaque, version });
    }

    fn remove(&mut self, path: &Path) {
        if !self.view().contains_key(path) || !self.copy_up(path) {
            return;
        }
        self.upper.retain(|other, _| !other.starts_with(path));
        if self.is_lower(path) {
            self.upper.insert(path.clone(), Thing::Whiteout);
        }
    }

    fn link(&mut self, from: &Path, to: &Path) {
        let Some(Thing::File { ino, size, .. }) = self.upper.get(from).copied() else { return };
        if self.view().contains_key(to) || !self.copy_up(to) {
            return;
        }
        let version = self.tick();
        self.upper.insert(to.clone(), Thing::File { ino, version, size });
        let same = |thing: &&mut Thing| matches!(thing, Thing::File { ino: other, .. } if *other == ino);
        for thing in self.upper.values_mut().filter(same) {
            *thing = Thing::File { ino, version, size };
        }
    }

    /// What a walk of the upper directory sees.
    fn walk(&self) -> Tree {
        let mut tree = Tree {
            nodes: vec![node(self.upper[&Path::new()], false)],
            names: Vec::new(),
            left_out: LeftOut::default(),
            walked_at_nanos: i64::MAX,
            hole_bytes: 0,
            redirected: false,
        };
        let mut names: BTreeMap<u64, usize> = BTreeMap::new();
        for thing in self.upper.values() {
            if let Thing::File { ino, .. } = thing {
                *names.entry(*ino).or_default() += 1;
            }
        }
        let mut queue = vec![(ROOT, Path::new())];
        while let Some((id, path)) = queue.pop() {
            let inside = |other: &&Path| other.len() == path.len() + 1 && other.starts_with(&path);
            let children: Vec<_> = self.upper.keys().filter(inside).cloned().collect();
            let nodes: Vec<_> = children
                .iter()
                .map(|child| {
                    let thing = self.upper[child];
                    let linked = matches!(thing, Thing::File { ino, .. } if names[&ino] > 1);
                    (node(thing, linked), child[child.len() - 1].as_bytes())
                })
                .collect();
            let first = tree.append(id, nodes);
            let directories = children.into_iter().zip(first..).filter(|(c, _)| self.upper[c].is_directory());
            queue.extend(directories.map(|(child, id)| (id, child)));
        }
        tree
    }
}

fn node(thing: Thing, linked: bool) -> Node {
    let (kind, ino, version, size) = match thing {
        Thing::Directory { opaque: false, version } => (Kind::Directory, 0, version, 0),
        Thing::Directory { opaque: true, version } => (Kind::OpaqueDirectory, 0, version, 0),
        Thing::File { ino, version, size } => (Kind::File, ino, version, size),
        Thing::Whiteout => (Kind::Whiteout, 0, 0, 0),
    };
    Node {
        ctime_nanos: version.cast_signed(),
        ino,
        size,
        mtime_seconds: 0,
        mtime_nanos: 0,
        uid: 0,
        gid: 0,
        parent: ROOT,
        name_at: 0,
        first_child: 0,
        mode: 0o755,
        name_len: 0,
        kind,
        linked,
    }
}

/// What a layer says, as whoever unpacks it understands it.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Saying {
    Is(Path, Thing),
    Opaque(Path),
    Gone(Path),
}

fn whole(upper: &Things) -> Vec<Saying> {
    let say = |(path, thing): (&Path, &Thing)| match thing {
        Thing::Whiteout => vec![Saying::Gone(path.clone())],
        Thing::Directory { opaque: true, .. } => {
            vec![Saying::Is(path.clone(), *thing), Saying::Opaque(path.clone())]
        }
        _ => vec![Saying::Is(path.clone(), *thing)],
    };
    upper.iter().flat_map(say).collect()
}

/// Puts a layer on top of what lower layers show.
fn apply(view: &mut Things, layer: &[Saying]) {
    for saying in layer {
        match saying {
            Saying::Opaque(path) => view.retain(|other, _| other == path || !other.starts_with(path)),
            Saying::Gone(path) => view.retain(|other, _| !other.starts_with(path)),
            Saying::Is(..) => {}
        }
    }
    for saying in layer {
        let Saying::Is(path, thing) = saying else { continue };
        if !(thing.is_directory() && view.get(path).is_some_and(|there| there.is_directory())) {
            view.retain(|other, _| !other.starts_with(path));
        }
        let thing = match *thing {
            Thing::Directory { version, .. } => Thing::Directory { opaque: false, version },
            other => other,
        };
        view.insert(path.clone(), thing);
    }
}

/// An image under way: the layers by their digests, as the registry would have them.
#[derive(Default)]
struct Registry {
    index: Option<Index>,
    layers: BTreeMap<String, Vec<Saying>>,
    uploads: u64,
}

impl Registry {
    fn save(&mut self, container: &Container, changes: &ChangeSet, tree: Tree, how: (usize, u64, bool)) {
        let (slices_max, lost, frozen) = how;
        let tree = Arc::new(tree);
        let mut sent = Vec::new();
        for (n, slice) in slices_of_size(&tree, changes, slices_max, 4096).into_iter().enumerate() {
            let (layer, way) = says(container, &tree, changes, &slice);
            if lost & (1 << n) != 0 {
                continue;
            }
            self.uploads += 1;
            let digest = digest_of(&self.uploads.to_le_bytes());
            self.layers.insert(digest.to_string(), layer);
            let report = SliceReport { way_bytes: way * 1536, ..SliceReport::default() };
            let blob = LayerBlob {
                digest: digest.clone(),
                size: slice.tar_bytes,
                diff_id: digest,
                media_type: String::new(),
                raw_bytes: slice.tar_bytes,
            };
            sent.push(Sent { slice: Arc::new(slice), report, blob });
        }
        let base = Base { image_id: String::new(), diff_ids: Vec::new() };
        self.index = Some(record(self.index.as_ref(), &base, "", &tree, changes, &sent, frozen));
    }

    fn delta(&self, tree: &Tree, rewritten: &LayerSet) -> ChangeSet {
        ChangeSet::between(tree, self.index.as_ref(), rewritten)
    }

    fn image(&self, container: &Container) -> Things {
        let mut view = container.base.clone();
        for blob in self.index.iter().flat_map(|index| &index.layers) {
            apply(&mut view, &self.layers[blob.digest.as_str()]);
        }
        view
    }

    /// Whether all names of each file are in one layer.
    fn links_are_whole(&self) -> bool {
        let Some(index) = &self.index else { return true };
        let mut layers = BTreeMap::new();
        let linked = index.tree.ids().filter(|id| index.tree.node(*id).linked);
        linked.into_iter().all(|id| {
            let layer = index.held(id).layer();
            *layers.entry(index.tree.node(id).ino).or_insert(layer) == layer
        })
    }

    /// How many bytes the image takes.
    fn bytes(&self) -> u64 {
        self.index.iter().flat_map(|index| &index.said_bytes).sum()
    }
}

/// What a slice says, and how many directories of that are only on the way.
fn says(container: &Container, tree: &Tree, changes: &ChangeSet, slice: &Slice) -> (Vec<Saying>, u64) {
    let mut layer: Vec<Saying> = Vec::new();
    let path_of = |id: NodeId| -> Path {
        let text = String::from_utf8(tree.path(id)).unwrap();
        let known = container.upper.keys().find(|path| path.join("/") == text);
        known.unwrap().clone()
    };
    let mut way = 0;
    for item in &slice.items {
        let (path, last) = match *item {
            Item::Entry(id) => {
                let path = path_of(id);
                let thing = container.upper[&path];
                let saying = if thing == Thing::Whiteout {
                    Saying::Gone(path.clone())
                } else {
                    Saying::Is(path.clone(), thing)
                };
                (path, saying)
            }
            Item::Opaque(id) => (path_of(id), Saying::Opaque(path_of(id))),
            Item::Removal(n) => {
                let removal = &changes.removals[n as usize];
                let mut path = path_of(removal.parent);
                path.push(histories::known_name(&removal.name));
                (path.clone(), Saying::Gone(path))
            }
        };
        for n in 0..path.len() {
            let on_the_way = Saying::Is(path[..n].to_vec(), container.upper[&path[..n]]);
            if !layer.contains(&on_the_way) {
                way += 1;
                layer.push(on_the_way);
            }
        }
        assert!(!layer.contains(&last), "said twice: {last:?}");
        layer.push(last);
    }
    (layer, way)
}
