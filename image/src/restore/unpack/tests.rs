use super::*;
use crate::oci::digest_of;
use mothball_harness::layer::{Flag, Item, tar};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::Path;

/// A directory on a disk's file system, and what unpacking these entries there comes to.
fn unpacked(items: &[Item]) -> (tempfile::TempDir, Result<Unpacked, RestoreError>) {
    let limits = Limits::new(1000, u64::MAX, &["/volume".to_owned()]);
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("layer");
    std::fs::create_dir(&root).unwrap();
    let bytes = tar(items);
    let done = unpack(&bytes[..], Arc::new(place::root(&root).unwrap()), &digest_of(b"layer"), &limits);
    (dir, done)
}

fn good(items: &[Item]) -> tempfile::TempDir {
    let (dir, done) = unpacked(items);
    done.unwrap();
    dir
}

fn words(items: &[Item]) -> String {
    unpacked(items).1.unwrap_err().to_string()
}

fn at(dir: &tempfile::TempDir, path: &str) -> std::path::PathBuf {
    dir.path().join("layer").join(path)
}

fn look(dir: &tempfile::TempDir, path: &str) -> std::fs::Metadata {
    std::fs::symlink_metadata(at(dir, path)).unwrap()
}

fn attribute(path: &Path, name: &str) -> Option<Vec<u8>> {
    let mut value = vec![0; 4096];
    let length = rustix::fs::lgetxattr(path, name, &mut value[..]).ok()?;
    value.truncate(length);
    Some(value)
}

fn opaque(dir: &tempfile::TempDir, path: &str) -> bool {
    attribute(&at(dir, path), "trusted.overlay.opaque").is_some()
}

fn whiteout(dir: &tempfile::TempDir, path: &str) -> bool {
    let found = look(dir, path);
    found.file_type().is_char_device() && found.rdev() == 0
}

#[test]
fn entries_are_as_the_tar_says() {
    let capability = [1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0].to_vec();
    let mut file = Item::file("d/file", "content");
    (file.mode, file.owner, file.modified) = (0o6755, (3_000_000_000, 4_000_000_000), (-5, 7));
    file.attributes = vec![
        (b"user.a".to_vec(), b"x\0\ny".to_vec()),
        (b"security.capability".to_vec(), capability.clone()),
        (b"trusted.overlay.redirect".to_vec(), b"/etc".to_vec()),
    ];
    let mut again = Item::link("d/again", Flag::HardLink, "./d/file");
    again.attributes = vec![(b"security.capability".to_vec(), capability.clone())];
    let mut directory = Item::directory("d");
    (directory.mode, directory.owner, directory.modified) = (0o1770, (5, 6), (1_000, 999_999_999));
    let mut node = Item::new("d/node", Flag::Character);
    (node.device, node.mode) = ((10, 200), 0o622);
    let mut block = Item::new("d/block", Flag::Block);
    block.device = (259, 1_000_000 >> 4);
    let mut link = Item::link("d/link", Flag::Symlink, "../../../etc/passwd");
    (link.owner, link.modified) = ((7, 8), (77, 5));
    let items = [directory, file, again, node, block, link, Item::new("d/fifo", Flag::Fifo)];
    let dir = good(&items);

    let file = look(&dir, "d/file");
    assert_eq!((file.mode() & 0o7777, file.uid(), file.gid()), (0o6755, 3_000_000_000, 4_000_000_000));
    assert_eq!((file.mtime(), file.mtime_nsec(), file.nlink(), file.len()), (-6, 999_999_993, 2, 7));
    assert_eq!(look(&dir, "d/again").ino(), file.ino());
    assert_eq!(attribute(&at(&dir, "d/file"), "user.a").unwrap(), b"x\0\ny");
    assert_eq!(attribute(&at(&dir, "d/again"), "security.capability").unwrap(), capability);
    assert_eq!(attribute(&at(&dir, "d/file"), "trusted.overlay.redirect"), None, "overlayfs's own");
    let directory = look(&dir, "d");
    assert_eq!((directory.mode() & 0o7777, directory.uid(), directory.gid()), (0o1770, 5, 6));
    assert_eq!((directory.mtime(), directory.mtime_nsec()), (1_000, 999_999_999));
    let node = look(&dir, "d/node");
    assert_eq!((node.rdev(), node.mode() & 0o7777), (rustix::fs::makedev(10, 200), 0o622));
    assert_eq!(look(&dir, "d/block").rdev(), rustix::fs::makedev(259, 62_500));
    let link = look(&dir, "d/link");
    assert_eq!((link.uid(), link.mtime(), link.mtime_nsec()), (7, 77, 5));
    assert_eq!(std::fs::read_link(at(&dir, "d/link")).unwrap(), Path::new("../../../etc/passwd"));
    assert!(look(&dir, "d/fifo").file_type().is_fifo());
}

#[test]
fn runs_of_zeros_become_holes_and_content_stays() {
    let mut body = vec![0; 4 << 20];
    body[1_000_000] = 1;
    body[(4 << 20) - 200_000] = 2;
    let dir = good(&[Item::file("sparse", &body), Item::file("zeros", vec![0; 300_000])]);
    assert_eq!(std::fs::read(at(&dir, "sparse")).unwrap(), body);
    assert_eq!(std::fs::read(at(&dir, "zeros")).unwrap(), vec![0; 300_000]);
    assert!(look(&dir, "sparse").blocks() * 512 < 1 << 20, "{} blocks", look(&dir, "sparse").blocks());
}

#[test]
fn directories_keep_their_times_whatever_the_order() {
    let mut items = Vec::new();
    for number in 0..100 {
        let mut directory = Item::directory(format!("d{number}"));
        directory.modified = (1_000 + number, 5);
        items.push(directory);
    }
    // More than are kept open, and each of them is come back to.
    items.extend((0..100).map(|number| Item::file(format!("d{}/f", (number * 37) % 100), "x")));
    items.extend((0..100).map(|number| Item::directory(format!("d{number}/sub"))));
    let dir = good(&items);
    for number in 0..100 {
        let found = look(&dir, &format!("d{number}"));
        assert_eq!((found.mtime(), found.mtime_nsec()), (1_000 + number, 5), "d{number}");
    }
}

#[test]
fn missing_directories_are_made() {
    let dir =
        good(&[Item::file("a/b/c/d", "x"), Item::file("e/.wh.f", ""), Item::file("g/h/.wh..wh..opq", "")]);
    assert_eq!(look(&dir, "a/b").mode() & 0o7777, 0o755);
    assert!(whiteout(&dir, "e/f") && opaque(&dir, "g/h") && !opaque(&dir, "g"));
}

#[test]
fn within_a_layer_an_entry_stays_and_a_deletion_is_about_what_is_below() {
    let (wh, opq) = (Item::file(".wh.a", ""), Item::file("a/.wh..wh..opq", ""));
    let inner = Item::file("a/x", "x");
    for items in [
        vec![wh.clone(), Item::directory("a"), inner.clone()],
        vec![Item::directory("a"), inner.clone(), wh.clone()],
        vec![wh.clone(), inner.clone()],
        vec![Item::directory("a"), inner.clone(), opq.clone()],
        vec![opq.clone(), inner.clone(), Item::directory("a")],
        vec![inner.clone(), opq, wh.clone(), Item::directory("a")],
    ] {
        let dir = good(&items);
        assert!(opaque(&dir, "a") && at(&dir, "a/x").exists(), "{items:?}");
    }
    for items in [[wh.clone(), Item::file("a", "x")], [Item::file("a", "x"), wh]] {
        assert!(look(&good(&items), "a").is_file());
    }
}

#[test]
fn the_last_of_two_entries_counts() {
    let link = || Item::link("a", Flag::Symlink, "/etc");
    let dir = good(&[Item::directory("a"), Item::file("a/x/y", "x"), Item::file("a", "file")]);
    assert_eq!(std::fs::read(at(&dir, "a")).unwrap(), b"file");
    let dir = good(&[link(), Item::directory("a"), Item::file("a/x", "x")]);
    assert!(look(&dir, "a").is_dir() && !opaque(&dir, "a"));
    let dir = good(&[Item::file("a", "long before"), Item::file("b", ""), Item::file("a", "x"), link()]);
    assert!(look(&dir, "a").is_symlink());
    let dir = good(&[Item::file("a", "1"), Item::link("b", Flag::HardLink, "a"), Item::file("a", "2")]);
    assert_eq!(std::fs::read(at(&dir, "b")).unwrap(), b"1");
    let mut directory = Item::directory("d");
    directory.mode = 0o700;
    let dir = good(&[Item::directory("d"), Item::file("d/x", "x"), directory]);
    assert!(look(&dir, "d").mode() & 0o7777 == 0o700 && at(&dir, "d/x").exists());
}

#[test]
fn nothing_leads_out_of_the_layer() {
    let outside = tempfile::tempdir().unwrap();
    let secret = outside.path().join("secret");
    std::fs::write(&secret, "secret").unwrap();
    let out = outside.path().to_str().unwrap();
    let name = secret.to_str().unwrap();
    let link = |path: &str, target: &str| Item::link(path, Flag::Symlink, target);
    let hard = |path: &str, target: &str| Item::link(path, Flag::HardLink, target);
    let cases: Vec<Vec<Item>> = vec![
        vec![Item::file("../escaped", "x")],
        vec![Item::file("a/../../escaped", "x")],
        vec![link("a", out), Item::file("a/escaped", "x")],
        vec![link("a", out), Item::directory("a/escaped")],
        vec![link("a", out), Item::file("a/.wh.secret", "")],
        vec![link("a", out), Item::file("a/.wh..wh..opq", "")],
        vec![link("a", out), hard("b", "a/secret")],
        vec![link("a", ".."), Item::file("a/escaped", "x")],
        vec![link("a", "b"), Item::directory("b"), Item::file("a/escaped", "x")],
        vec![link("a", "/proc/self/root"), Item::file(format!("a/{out}/escaped"), "x")],
        vec![hard("b", name)],
        vec![hard("b", "../secret")],
        vec![hard("b", "")],
        vec![hard("b", "b")],
        vec![hard("b", ".")],
        vec![Item::directory("d"), hard("b", "d")],
        vec![Item::file(".wh.w", ""), hard("b", "w")],
        vec![Item::file("f", ""), Item::file("f/x", "")],
        vec![Item::new("whiteout", Flag::Character)],
        vec![Item::file("a/.wh./b", "")],
        vec![Item::file("a/.wh...", "")],
        vec![Item::file(".wh.a/b", "")],
        vec![Item::file(".wh..wh..opq", "")],
        vec![Item::file("x".repeat(300), "")],
        vec![Item::file("x/".repeat(3000), "")],
    ];
    for items in cases {
        let (dir, done) = unpacked(&items);
        let error = done.expect_err(&format!("{items:?}"));
        assert!(matches!(error, RestoreError::Layer { .. }), "{error:?}");
        assert!(error.may_be_pulled() && error.failure().is_permanent());
        let left: Vec<_> =
            std::fs::read_dir(outside.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(left, ["secret"], "{items:?}");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "{items:?}");
        assert_eq!(std::fs::read(&secret).unwrap(), b"secret");
        assert_eq!(look_at(&secret).nlink(), 1, "{items:?}");
        assert!(attribute(outside.path(), "trusted.overlay.opaque").is_none());
    }
    // A link is replaced, not followed; an absolute name is one inside of the layer.
    let dir = good(&[link("secret", name), Item::file("secret", "x"), Item::file(name, "y")]);
    assert_eq!(std::fs::read(&secret).unwrap(), b"secret");
    assert_eq!(std::fs::read(at(&dir, name.trim_start_matches('/'))).unwrap(), b"y");
    // A link as the last part is linked itself.
    let dir = good(&[link("a", name), hard("b", "a")]);
    assert!(look(&dir, "b").is_symlink());
}

fn look_at(path: &Path) -> std::fs::Metadata {
    std::fs::symlink_metadata(path).unwrap()
}

#[test]
fn what_is_out_of_bounds_is_refused() {
    let many: Vec<Item> = (0..1001).map(|n| Item::file(n.to_string(), "")).collect();
    assert!(matches!(unpacked(&many).1, Err(RestoreError::TooLarge { limit: 1000, unit: "entries" })));
    assert!(unpacked(&many[..1000]).1.is_ok());
    let mut item = Item::file("a", "");
    item.owner.0 = u32::MAX;
    assert!(words(&[item]).contains("no user"));
    let mut item = Item::file("a", "");
    item.attributes = vec![(b"nonsense".to_vec(), b"x".to_vec())];
    let (_dir, done) = unpacked(&[item]);
    assert_eq!(done.unwrap().attributes_skipped, 1, "no file system takes it");
    for path in ["volume/x", "volume/d/x"] {
        let error = unpacked(&[Item::file(path, "")]).1.unwrap_err();
        assert!(
            matches!(&error, RestoreError::Unsuitable { reason } if reason.contains("/volume")),
            "{error}"
        );
    }
    assert!(unpacked(&[Item::directory("volume")]).1.is_ok());
}

#[test]
fn a_tar_that_is_cut_is_refused() {
    let bytes = tar(&[Item::directory("d"), Item::file("d/a", vec![1; 5000])]);
    let limits = Limits::new(1000, u64::MAX, &[]);
    for length in (100..bytes.len() - 1024).step_by(300) {
        let dir = tempfile::tempdir().unwrap();
        let root = Arc::new(place::root(dir.path()).unwrap());
        let done = unpack(&bytes[..length], root, &digest_of(b"layer"), &limits);
        // Between two entries it is an end without its mark, which tars may have; the digest tells then.
        let at_an_end = length % 512 == 0 && done.is_ok();
        assert!(at_an_end || matches!(done, Err(RestoreError::Layer { .. })), "{length}: {done:?}");
    }
}

#[test]
fn deep_trees_are_made_and_removed() {
    let deep = "d/".repeat(1500);
    let dir = good(&[Item::file(format!("{deep}file"), "x")]);
    place::remove(place::root(dir.path()).unwrap(), b"layer").unwrap();
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}
