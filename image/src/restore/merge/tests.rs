//! What our merge makes of layers, against what overlayfs shows of them: layers that a real overlay wrote, split like a save
//! splits them, and tables for the rules one by one.

use super::*;
use crate::oci::digest_of;
use crate::restore::base::Base;
use crate::restore::limits::Limits;
use crate::restore::unpack::unpack;
use mothball_harness::layer::{Flag, Item, Overlays, items_of, tar};
use mothball_harness::tree::{Times, Tree};
use proptest::prelude::*;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Unpacks layers, oldest first, into directories of this name.
fn unpack_all(overlays: &Overlays, name: &str, layers: &[Vec<Item>]) -> Vec<(PathBuf, bool, bool)> {
    let limits = Limits::new(u64::MAX, u64::MAX, &[]);
    let unpack = |(number, items): (usize, &Vec<Item>)| {
        let path = overlays.layer(&format!("{name}{number}")).unwrap();
        let root = Arc::new(place::root(&path).unwrap());
        let done = unpack(&tar(items)[..], root, &digest_of(b"layer"), &limits).unwrap();
        (path, done.marks, done.root)
    };
    layers.iter().enumerate().map(unpack).collect()
}

/// Merges layers, oldest first, into the first of their directories, for this base (topmost first).
fn merge_all(layers: &[(PathBuf, bool, bool)], base: &[PathBuf]) -> PathBuf {
    let stop = CancellationToken::new();
    let (whole, mut marks, _) = layers[0].clone();
    let older = place::root(&whole).unwrap();
    for (path, more, root) in &layers[1..] {
        marks |= *more | merge(&older, &place::root(path).unwrap(), *root, &stop).unwrap();
    }
    if marks {
        Base::open(base).unwrap().prune(&older, &stop).unwrap();
    }
    whole
}

/// Reads what is mounted.
fn read(root: &Path) -> anyhow::Result<Tree> {
    Tree::read(root).map(Tree::links_counted)
}

/// Checks that a tree over this base shows the wanted tree, and that no mark in it is litter.
fn check(overlays: &mut Overlays, whole: &Path, base: &[PathBuf], wanted: &Tree, what: &str) {
    let upper = whole.to_owned();
    let lower: Vec<PathBuf> = [upper].iter().chain(base).cloned().collect();
    let mounted = overlays.mount(&lower, None).unwrap();
    // A stray whiteout is listed and cannot be looked at: reading the tree fails then.
    let shown = read(mounted.path()).unwrap_or_else(|error| panic!("{error:#}: {what}"));
    assert_eq!(wanted.differences(&shown, Times::Nanoseconds), Vec::<String>::new(), "{what}");
}

/// Checks a table's row: the layers over the base show what overlayfs shows, and the merged tree holds these marks.
fn row(base: &[Item], layers: &[Vec<Item>], marks: &[&str]) {
    let mut overlays = Overlays::new().unwrap();
    let base = unpack_all(&overlays, "base", &[base.to_vec()]).remove(0).0;
    // Like every layer of ours these say what the root is like; otherwise its time would be that of the test.
    let layers: Vec<_> = layers.iter().map(|items| [&[dir("./")], &items[..]].concat()).collect();
    let layers = &layers[..];
    let apart = unpack_all(&overlays, "apart", layers);
    let lower: Vec<PathBuf> = apart.iter().rev().map(|layer| layer.0.clone()).chain([base.clone()]).collect();
    let mounted = overlays.mount(&lower, None).unwrap();
    let wanted = read(mounted.path()).unwrap();
    let whole = merge_all(&unpack_all(&overlays, "own", layers), std::slice::from_ref(&base));
    check(&mut overlays, &whole, &[base], &wanted, &format!("{layers:?}"));
    assert_eq!(marks_of(&whole), marks, "{layers:?}");
}

/// The whiteouts and opaque marks in a tree, as their names in a tar.
fn marks_of(tree: &Path) -> Vec<String> {
    let names = items_of(tree).unwrap().into_iter().map(|item| String::from_utf8(item.path).unwrap());
    let mut marks: Vec<String> = names.filter(|name| name.contains(".wh.")).collect();
    marks.sort();
    marks
}

fn dir(path: &str) -> Item {
    Item::directory(path)
}

fn file(path: &str) -> Item {
    Item::file(path, path)
}

fn gone(path: &str) -> Item {
    Item::file(path, "")
}

#[test]
fn an_opaque_mark_drops_what_earlier_layers_put_there() {
    let base = [dir("d"), file("d/base")];
    let opaque = vec![dir("d"), gone("d/.wh..wh..opq"), file("d/new")];
    row(&base, &[vec![dir("d"), file("d/own")], opaque.clone()], &["d/.wh..wh..opq"]);
    // Without a directory in the base there is nothing to hide.
    row(&[], &[vec![dir("d"), file("d/own")], opaque.clone()], &[]);
    row(&[file("d")], std::slice::from_ref(&opaque), &[]);
    // It stays when a later layer only adds.
    row(&base, &[opaque, vec![dir("d"), file("d/more")]], &["d/.wh..wh..opq"]);
}

#[test]
fn a_whiteout_drops_what_earlier_layers_put_there() {
    let base = [dir("d"), file("d/base"), file("f")];
    let own = vec![dir("d"), file("d/own"), file("f"), file("new")];
    row(&base, &[own.clone(), vec![gone(".wh.f")]], &[".wh.f"]);
    row(&base, &[own.clone(), vec![gone(".wh.new")]], &[]);
    row(&base, &[own.clone(), vec![gone(".wh.d")]], &[".wh.d"]);
    row(&base, &[own.clone(), vec![dir("d"), gone("d/.wh.own")]], &[]);
    row(&base, &[own, vec![dir("d"), gone("d/.wh.base")]], &["d/.wh.base"]);
}

#[test]
fn what_was_deleted_and_made_again_hides_what_was_there() {
    let base = [dir("d"), file("d/base"), dir("d/sub"), file("d/sub/base")];
    let deleted = vec![gone(".wh.d")];
    row(&base, &[deleted.clone(), vec![dir("d"), file("d/new")]], &["d/.wh..wh..opq"]);
    row(&base, &[deleted.clone(), vec![dir("d"), dir("d/sub")]], &["d/.wh..wh..opq"]);
    row(&base, &[deleted, vec![file("d")]], &[]);
    row(&base, &[vec![file("d")], vec![dir("d")]], &["d/.wh..wh..opq"]);
    row(
        &base,
        &[vec![dir("d"), file("d/own")], vec![file("d")], vec![dir("d"), file("d/x")]],
        &["d/.wh..wh..opq"],
    );
}

#[test]
fn a_directory_over_a_directory_keeps_the_children() {
    let mut described = dir("d");
    (described.mode, described.owner, described.modified) = (0o700, (5, 6), (77, 8));
    described.attributes = vec![(b"user.new".to_vec(), b"1".to_vec())];
    let mut earlier = dir("d");
    earlier.attributes = vec![(b"user.old".to_vec(), b"1".to_vec()), (b"user.new".to_vec(), b"0".to_vec())];
    row(&[dir("d"), file("d/base")], &[vec![earlier, file("d/own")], vec![described, file("d/more")]], &[]);
}

#[test]
fn no_mark_is_left_where_the_base_shows_nothing() {
    let base = [dir("d"), file("d/f"), dir("d/e"), file("d/e/g")];
    // Inside of an opaque directory, of one that only the layers have, and of one that hides a file of the base.
    row(
        &base,
        &[vec![dir("d"), dir("d/e"), gone("d/e/.wh.g")], vec![gone(".wh.d")], vec![dir("d")]],
        &["d/.wh..wh..opq"],
    );
    row(&[], &[vec![dir("new"), file("new/f")], vec![dir("new"), gone("new/.wh.f")]], &[]);
    row(&[file("d")], &[vec![dir("d"), file("d/x")], vec![dir("d"), gone("d/.wh.x")]], &[]);
    let twice = vec![dir("d"), gone("d/.wh..wh..opq"), dir("d/e"), gone("d/e/.wh..wh..opq")];
    row(&base, &[twice], &["d/.wh..wh..opq"]);
}

#[test]
fn a_base_of_several_layers_is_seen_as_one() {
    let mut overlays = Overlays::new().unwrap();
    let base = [
        vec![dir("a"), file("a/1"), dir("b"), file("b/1"), dir("c"), file("c/1"), file("x")],
        vec![dir("a"), file("a/2"), gone(".wh.b"), dir("c"), gone("c/.wh..wh..opq"), gone(".wh.x"), dir("e")],
        vec![dir("b"), file("b/3"), file("e")],
    ];
    let lower: Vec<PathBuf> = unpack_all(&overlays, "base", &base).into_iter().rev().map(|l| l.0).collect();
    let own = vec![
        vec![dir("a"), gone("a/.wh.1"), gone("a/.wh.2"), gone("a/.wh.3")],
        vec![
            dir("b"),
            gone("b/.wh.1"),
            gone("b/.wh.3"),
            dir("c"),
            gone("c/.wh.1"),
            gone(".wh.x"),
            dir("e"),
            gone("e/.wh.y"),
        ],
    ];
    let whole = merge_all(&unpack_all(&overlays, "own", &own), &lower);
    // b came back in the third layer as overlayfs would not write it; what is below a whiteout stays hidden all the same.
    assert_eq!(marks_of(&whole), ["a/.wh.1", "a/.wh.2", "b/.wh.3"]);
    let mounted = overlays.mount(&[vec![whole], lower].concat(), None).unwrap();
    assert!(!mounted.path().join("x").exists() && mounted.path().join("e").is_dir());
}

#[test]
fn times_of_directories_survive_merging_and_pruning() {
    let mut d = dir("d");
    d.modified = (1234, 5678);
    let mut whole = vec![d.clone(), file("d/a")];
    row(&[dir("d"), file("d/base")], &[vec![dir("d"), file("d/f")], vec![d, gone("d/.wh.f")]], &[]);
    whole.push(gone("d/.wh.nothing"));
    row(&[dir("d")], &[whole], &[]);
}

/// Something done in a container.
#[derive(Debug, Clone)]
enum Op {
    Write(String, u8),
    Directory(String),
    Remove(String),
    Link(String, String),
    Symlink(String),
    Fifo(String),
    Rename(String, String),
    Mode(String, u32),
    Attribute(String, u8),
}

fn path() -> impl Strategy<Value = String> {
    prop::collection::vec(prop::sample::select(vec!["a", "b", "c"]), 1..4).prop_map(|parts| parts.join("/"))
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        4 => (path(), any::<u8>()).prop_map(|(p, b)| Op::Write(p, b)),
        4 => path().prop_map(Op::Directory),
        4 => path().prop_map(Op::Remove),
        1 => (path(), path()).prop_map(|(p, q)| Op::Link(p, q)),
        1 => path().prop_map(Op::Symlink),
        1 => path().prop_map(Op::Fifo),
        2 => (path(), path()).prop_map(|(p, q)| Op::Rename(p, q)),
        1 => (path(), 0_u32..0o7777).prop_map(|(p, m)| Op::Mode(p, m | 0o400)),
        1 => (path(), any::<u8>()).prop_map(|(p, b)| Op::Attribute(p, b)),
    ]
}

/// Does it as far as it can be done; what is impossible at that point is left.
fn apply(root: &Path, op: &Op) {
    let at = |path: &String| root.join(path);
    let _impossible = match op {
        // Opening a pipe would wait for its other end.
        Op::Write(path, _) if std::fs::metadata(at(path)).is_ok_and(|found| !found.is_file()) => Ok(()),
        Op::Write(path, byte) => std::fs::write(at(path), [*byte; 10]),
        Op::Directory(path) => std::fs::create_dir_all(at(path)),
        Op::Remove(path) => std::fs::remove_dir_all(at(path)).or_else(|_| std::fs::remove_file(at(path))),
        Op::Link(path, to) => std::fs::hard_link(at(path), at(to)),
        Op::Symlink(path) => std::os::unix::fs::symlink("x", at(path)),
        Op::Fifo(path) => {
            rustix::fs::mkfifoat(rustix::fs::CWD, at(path), Mode::from_raw_mode(0o600)).map_err(Into::into)
        }
        Op::Rename(path, to) => std::fs::rename(at(path), at(to)),
        Op::Mode(path, mode) if !at(path).is_symlink() => {
            std::fs::set_permissions(at(path), std::os::unix::fs::PermissionsExt::from_mode(*mode))
        }
        Op::Mode(..) => Ok(()),
        Op::Attribute(path, byte) => {
            rustix::fs::lsetxattr(at(path), "user.x", &[*byte], XattrFlags::empty()).map_err(Into::into)
        }
    };
}

/// Splits a layer as a save does: files by turns, hard links with their first name, marks and everything else lowest, every
/// directory on the way in each slice.
fn slices(items: &[Item], count: usize) -> Vec<Vec<Item>> {
    let mut home = std::collections::HashMap::new();
    let mut turn = 0;
    for item in
        items.iter().filter(|item| item.flag == Flag::File && !item.path.windows(4).any(|w| w == b".wh."))
    {
        turn += 1;
        home.insert(item.path.clone(), turn % count);
    }
    let home_of = |item: &Item| {
        let first = if item.flag == Flag::HardLink { &item.link } else { &item.path };
        home.get(first).copied().unwrap_or(0)
    };
    let slice = |number: usize| {
        let in_it: Vec<&Item> = items.iter().filter(|item| home_of(item) == number).collect();
        let on_the_way = |item: &Item| {
            let inside = [item.path.as_slice(), b"/"].concat();
            item.flag == Flag::Directory
                && (item.path == b"./" || in_it.iter().any(|other| other.path.starts_with(&inside)))
        };
        items.iter().filter(|item| home_of(item) == number || on_the_way(item)).cloned().collect()
    };
    (0..count).map(slice).collect()
}

fn cases() -> u32 {
    #[expect(clippy::disallowed_methods, reason = "how long a soak runs is no setting of the product")]
    let soak = std::env::var("MOTHBALL_SOAK").is_ok();
    if soak { 2_000 } else { 40 }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn merged_layers_show_what_overlayfs_showed_when_it_wrote_them(
        base in prop::collection::vec(prop::collection::vec(op(), 0..25), 1..3),
        own in prop::collection::vec(prop::collection::vec(op(), 0..25), 1..5),
        split in 1_usize..4,
    ) {
        let mut overlays = Overlays::new().unwrap();
        let mut layers: Vec<PathBuf> = vec![overlays.layer("empty").unwrap()];
        let mut wanted = None;
        for (number, ops) in base.iter().chain(&own).enumerate() {
            let upper = overlays.layer(&format!("layer{number}")).unwrap();
            let mounted = overlays.mount(&layers, Some(&upper)).unwrap();
            for op in ops {
                apply(mounted.path(), op);
            }
            wanted = Some(read(mounted.path()).unwrap());
            drop(mounted);
            layers.insert(0, upper);
        }
        let wanted = wanted.unwrap();
        let lower = layers.split_off(own.len());
        let packed: Vec<Vec<Item>> = layers.iter().rev().flat_map(|layer| slices(&items_of(layer).unwrap(), split)).collect();
        let whole = merge_all(&unpack_all(&overlays, "own", &packed), &lower);
        check(&mut overlays, &whole, &lower, &wanted, "merged");
    }
}
