//! The traps of overlayfs, tar and Docker, one by one.

use crate::edits::CAPABILITY;
use crate::world::{How, Outcome, World, view_of};
use mothball_image::layer::{Reason, Root, walk};
use rustix::fs::{CWD, FileType, Mode, XattrFlags};
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::net::UnixListener;
use std::path::Path;

fn nothing(_: &Path) {}

fn set(path: impl AsRef<Path>, name: &str, value: &[u8]) {
    rustix::fs::setxattr(path.as_ref(), name, value, XattrFlags::empty()).unwrap();
}

fn same(world: &World) {
    let differences = world.differences();
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

/// What a save sent, without the directories on the way.
fn sent(outcome: &Outcome) -> Vec<&str> {
    outcome.sent.iter().map(String::as_str).filter(|name| !name.ends_with('/')).collect()
}

#[test]
fn every_layer_has_the_directories_on_the_way_as_they_are() {
    let mut world = World::new(nothing);
    for n in 0..4 {
        fs::create_dir_all(world.at("one/two")).unwrap();
        fs::write(world.at(format!("one/two/{n}")), vec![b'x'; 4000]).unwrap();
    }
    fs::set_permissions(world.at("one"), fs::Permissions::from_mode(0o1751)).unwrap();
    chown(world.at("one/two"), Some(5), Some(6)).unwrap();
    world.save(&How { slices_max: 4, ..How::default() });
    let layers = world.layers();
    assert_eq!(layers.len(), 4);
    for (layer, path) in layers.iter().flat_map(|layer| ["", "one", "one/two"].map(|path| (layer, path))) {
        let all = |m: fs::Metadata| (m.mode(), m.uid(), m.gid(), m.mtime(), m.mtime_nsec());
        let (there, here) = (fs::metadata(layer.join(path)).unwrap(), fs::metadata(world.at(path)).unwrap());
        assert_eq!(all(there), all(here), "{path} in {}", layer.display());
    }
}

#[test]
fn links_carry_the_attributes_of_their_file() {
    let mut world = World::new(nothing);
    fs::write(world.at("ping"), "x").unwrap();
    set(world.at("ping"), "security.capability", &CAPABILITY);
    fs::hard_link(world.at("ping"), world.at("ping6")).unwrap();
    let outcome = world.save(&How::default());
    same(&world);
    let key = b"SCHILY.xattr.security.capability=";
    let repeated = outcome.tars[0].windows(key.len()).filter(|window| window == key).count();
    assert_eq!(repeated, 2);
}

#[test]
fn all_names_of_a_file_are_sent_together() {
    let mut world = World::new(nothing);
    fs::write(world.at("a"), "x").unwrap();
    fs::write(world.at("other"), "y").unwrap();
    world.save(&How::default());
    fs::hard_link(world.at("a"), world.at("b")).unwrap();
    assert_eq!(sent(&world.save(&How::default())), ["a", "b"]);
    same(&world);
    fs::remove_file(world.at("a")).unwrap();
    fs::write(world.at("a"), "its own again").unwrap();
    assert_eq!(sent(&world.save(&How::default())), ["a", "b"]);
    same(&world);
}

#[test]
fn a_name_that_is_excluded_breaks_up_its_link() {
    let mut world = World::new(nothing);
    fs::write(world.at("a"), "x").unwrap();
    fs::hard_link(world.at("a"), world.at("b")).unwrap();
    world.save(&How::default());
    world.exclude(&["/a"]);
    assert_eq!(sent(&world.save(&How::default())), ["b"]);
    world.with_image(|image| {
        assert!(!image.join("a").exists());
        assert_eq!(fs::read_to_string(image.join("b")).unwrap(), "x");
    });
}

#[test]
fn an_opaque_mark_is_sent_once_and_hides_only_what_it_must() {
    let mut world = World::new(|base| {
        fs::create_dir(base.join("d")).unwrap();
        fs::write(base.join("d/old"), "x").unwrap();
    });
    fs::remove_dir_all(world.at("d")).unwrap();
    fs::create_dir(world.at("d")).unwrap();
    fs::write(world.at("d/first"), "x").unwrap();
    assert!(world.save(&How::default()).sent.contains(&"d/.wh..wh..opq".to_owned()));
    same(&world);
    fs::write(world.at("d/second"), "x").unwrap();
    assert_eq!(sent(&world.save(&How::default())), ["d/second"]);
    same(&world);
    // Made anew: what the first save had in it is gone.
    fs::remove_dir_all(world.at("d")).unwrap();
    fs::create_dir(world.at("d")).unwrap();
    fs::write(world.at("d/third"), "x").unwrap();
    world.save(&How::default());
    same(&world);
}

#[test]
fn a_changed_directory_is_sent_without_what_is_in_it() {
    let mut world = World::new(nothing);
    fs::create_dir_all(world.at("d/e")).unwrap();
    fs::write(world.at("d/e/file"), "x").unwrap();
    world.save(&How::default());
    fs::set_permissions(world.at("d/e"), fs::Permissions::from_mode(0o700)).unwrap();
    assert_eq!(world.save(&How::default()).sent, ["./", "d/", "d/e/"]);
    same(&world);
    assert!(world.save(&How::default()).sent.is_empty(), "nothing changed");
}

#[test]
fn what_only_lower_layers_of_ours_have_stays_gone_when_the_layer_that_hid_it_goes() {
    let mut world = World::new(nothing);
    fs::create_dir_all(world.at("d/e")).unwrap();
    fs::write(world.at("d/e/file"), vec![b'x'; 9000]).unwrap();
    fs::write(world.at("d/other"), vec![b'x'; 9000]).unwrap();
    // The directories come with the first slice, the files with others.
    world.save(&How { slices_max: 4, ..How::default() });
    let count = world.layers().len();
    assert!(count > 1);
    fs::remove_dir_all(world.at("d/e")).unwrap();
    world.save(&How { rewrite: 1, ..How::default() });
    same(&world);
    fs::create_dir(world.at("d/e")).unwrap();
    world.save(&How { rewrite: 1 << (world.layers().len() - 1), ..How::default() });
    same(&world);
}

#[test]
fn what_no_layer_can_hold_is_left_out_and_said() {
    let mut world = World::new(nothing);
    let _socket = UnixListener::bind(world.upper().join("socket")).unwrap();
    fs::write(world.upper().join(".wh.real"), "x").unwrap();
    let deep = Path::new("d").join(vec!["n".repeat(250); 15].join("/"));
    fs::create_dir_all(world.upper().join(&deep)).unwrap();
    let directory = fs::File::open(world.upper().join(&deep)).unwrap();
    let name = "m".repeat(250);
    rustix::fs::mkdirat(&directory, name.as_str(), Mode::RWXU).unwrap();
    let tree = world.save(&How::default()).tree.unwrap();
    let too_long = deep.join(&name);
    let expected = [
        (b".wh.real".to_vec(), Reason::WhiteoutName),
        (too_long.as_os_str().as_bytes().to_vec(), Reason::PathTooLong),
        (b"socket".to_vec(), Reason::Socket),
    ];
    assert_eq!((tree.left_out.count, &tree.left_out.named[..]), (3, &expected[..]));
    rustix::fs::unlinkat(&directory, name.as_str(), rustix::fs::AtFlags::REMOVEDIR).unwrap();
    world.save(&How::default());
    same(&world);
}

#[test]
fn names_of_any_bytes_and_any_length_are_kept() {
    let mut world = World::new(|base| fs::write(base.join("b".repeat(255)), "x").unwrap());
    let binary = [b"\xff".repeat(254), b"\n".to_vec()].concat();
    for name in [binary.as_slice(), &b"l".repeat(255), &b"p".repeat(100), &b"q".repeat(101)] {
        fs::write(world.at(OsStr::from_bytes(name)), "x").unwrap();
        let link = [b"to".as_slice(), &name[..name.len().min(200)]].concat();
        std::os::unix::fs::symlink(OsStr::from_bytes(name), world.at(OsStr::from_bytes(&link))).unwrap();
    }
    let deep = vec!["directory"; 300].join("/");
    fs::create_dir_all(world.at(&deep)).unwrap();
    fs::write(world.at(&deep).join("file"), "x").unwrap();
    fs::remove_file(world.at("b".repeat(255))).unwrap();
    world.save(&How::default());
    // GNU tar makes no file of the name that a whiteout of 255 bytes has: that one is looked for in the tar alone.
    assert!(world.last_sent().contains(&format!(".wh.{}", "b".repeat(255))));
    assert_eq!(world.differences().len(), 1);
}

#[test]
fn numbers_of_any_size_are_kept() {
    let mut world = World::new(nothing);
    fs::write(world.at("file"), "x").unwrap();
    chown(world.at("file"), Some(4_000_000_000), Some(2_097_152)).unwrap();
    fs::set_permissions(world.at("file"), fs::Permissions::from_mode(0o6755)).unwrap();
    let device = rustix::fs::makedev(500, 300_000);
    rustix::fs::mknodat(CWD, world.at("device"), FileType::BlockDevice, Mode::RUSR, device).unwrap();
    world
        .run("touch -d '1905-03-04 05:06:07.000000001 UTC' merged/old; touch -d '2300-01-01 UTC' merged/new");
    world.run(
        "touch -d '1969-12-31 23:59:59.25 UTC' merged/almost; touch -h -d '1901-12-31 UTC' merged/device",
    );
    set(world.at("file"), "user.note", b"a=b\nc");
    set(world.at("file"), "user.empty", b"");
    set(world.at("old"), "trusted.mine", &[0, 1, 2]);
    world.save(&How::default());
    same(&world);
}

#[test]
fn an_attribute_that_tar_cannot_hold_is_said() {
    let mut world = World::new(nothing);
    fs::write(world.at("file"), "x").unwrap();
    set(world.at("file"), "user.a=b", b"c");
    let outcome = world.save(&How::default());
    assert_eq!(outcome.reports[0].lost_xattrs, [b"file".to_vec()]);
}

#[test]
fn holes_are_not_read() {
    let mut world = World::new(nothing);
    let file = fs::File::create(world.at("sparse")).unwrap();
    file.set_len(64 << 20).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, b"in the middle", 20_000_000).unwrap();
    let empty = fs::File::create(world.at("hole")).unwrap();
    empty.set_len(10_000_001).unwrap();
    let outcome = world.save(&How::default());
    let read = outcome.reports[0].bytes_read;
    assert!(read <= 8192, "{read} bytes");
    assert!(outcome.tree.unwrap().hole_bytes > 70_000_000);
    same(&world);
}

#[test]
fn what_belongs_to_the_node_stays_there() {
    let mut world = World::new(|base| {
        fs::create_dir(base.join("etc")).unwrap();
        fs::write(base.join("etc/hosts"), "of the base").unwrap();
    });
    fs::write(world.at("etc/hosts"), "of this container").unwrap();
    fs::write(world.at("etc/hostname"), "this").unwrap();
    fs::create_dir(world.at("lib")).unwrap();
    fs::write(world.at("lib/libcuda.so.535.1"), "").unwrap();
    fs::write(world.at("lib/libcudart.so"), "the user's own").unwrap();
    let tree = world.save(&How::default()).tree.unwrap();
    assert_eq!(tree.left_out.count, 3);
    assert!(tree.left_out.named.iter().all(|(_, reason)| *reason == Reason::Hygiene));
    world.with_image(|image| {
        assert_eq!(fs::read_to_string(image.join("etc/hosts")).unwrap(), "of the base");
        let names: Vec<_> = view_of(&image.join("lib"));
        assert_eq!(names, ["libcudart.so"]);
    });
}

#[test]
fn no_layer_keeps_a_secret_that_is_gone_changed_or_excluded() {
    let mut world = World::new(nothing);
    for name in [".env", "id_rsa", "notes"] {
        fs::write(world.at(name), format!("first {name}")).unwrap();
    }
    world.save(&How::default());
    fs::write(world.at("later"), "x").unwrap();
    world.save(&How::default());

    let holds = |world: &World, text: &str| {
        let layers = world.layers();
        let files = layers.iter().flat_map(|layer| fs::read_dir(layer).unwrap()).map(|e| e.unwrap().path());
        files.filter(|path| path.is_file()).any(|path| fs::read_to_string(path).unwrap() == text)
    };
    fs::remove_file(world.at(".env")).unwrap();
    fs::write(world.at("id_rsa"), "second id_rsa").unwrap();
    world.save(&How::default());
    same(&world);
    assert!(!holds(&world, "first .env") && !holds(&world, "first id_rsa") && holds(&world, "second id_rsa"));

    // Gone from the container, but not from its image, and then excluded.
    fs::remove_file(world.at("notes")).unwrap();
    world.save(&How::default());
    assert!(holds(&world, "first notes"));
    world.exclude(&["notes"]);
    world.save(&How::default());
    assert!(!holds(&world, "first notes"));
    same(&world);
}

#[test]
fn what_is_younger_than_a_tick_or_was_read_frozen_is_sent_again() {
    let mut world = World::new(nothing);
    fs::create_dir(world.at("d")).unwrap();
    fs::write(world.at("d/file"), "x").unwrap();
    world.save(&How { calm: false, ..How::default() });
    assert_eq!(sent(&world.save(&How { frozen: true, ..How::default() })), ["d/file"]);
    assert_eq!(world.save(&How::default()).sent, ["./", "d/", "d/file"]);
    assert!(world.save(&How::default()).sent.is_empty());
}

#[test]
fn a_save_that_died_is_taken_up_where_it_was() {
    let mut world = World::new(nothing);
    for n in 0..4 {
        fs::write(world.at(format!("{n}")), vec![b'x'; 4000]).unwrap();
    }
    let first = world.save(&How { slices_max: 4, lost: 0b0100, ..How::default() });
    let second = world.save(&How::default());
    same(&world);
    assert_eq!((first.reports.len(), sent(&first).len(), sent(&second).len()), (4, 3, 1));
}

#[test]
fn an_index_with_any_damage_is_none() {
    use mothball_image::layer::Index;
    let mut world = World::new(nothing);
    fs::create_dir(world.at("d")).unwrap();
    fs::write(world.at("d/file"), "x").unwrap();
    world.save(&How::default());
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("index");
    world.index.as_ref().unwrap().save(&file).unwrap();
    let good = fs::read(&file).unwrap();
    assert!(Index::load(&file).is_some());
    for at in 0..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 0x40;
        fs::write(&file, &bad).unwrap();
        assert!(Index::load(&file).is_none(), "byte {at}");
        fs::write(&file, &good[..at]).unwrap();
        assert!(Index::load(&file).is_none(), "{at} bytes");
    }
    fs::write(&file, [good.as_slice(), b"\0"].concat()).unwrap();
    assert!(Index::load(&file).is_none(), "a byte too many");
    assert!(Index::load(&dir.path().join("none")).is_none());
}

#[test]
fn another_file_system_is_not_entered() {
    let world = World::new(nothing);
    world.run("mkdir upper/mounted && mount -t tmpfs none upper/mounted && touch upper/mounted/file");
    let tree = walk(&Root::open(&world.upper()).unwrap(), &world.rules);
    world.run("umount upper/mounted");
    assert_eq!(tree.unwrap().left_out.named, [(b"mounted".to_vec(), Reason::OtherFileSystem)]);
}

#[test]
fn a_link_into_a_directory_that_is_sent_anew_is_sent_with_its_other_name() {
    let mut world = World::new(|base| fs::create_dir(base.join("d")).unwrap());
    fs::remove_dir(world.at("d")).unwrap();
    fs::create_dir(world.at("d")).unwrap();
    fs::write(world.at("d/file"), vec![b'x'; 9000]).unwrap();
    fs::hard_link(world.at("d/file"), world.at("other")).unwrap();
    fs::write(world.at("filler"), vec![b'x'; 30_000]).unwrap();
    // The slice with the opaque mark is lost, the one with the file is not.
    let outcome = world.save(&How { slices_max: 3, lost: 0b001, ..How::default() });
    assert!(outcome.sent.contains(&"other".to_owned()) && outcome.reports.len() > 1, "{:?}", outcome.sent);
    let outcome = world.save(&How::default());
    assert!(outcome.sent.contains(&"other".to_owned()) && outcome.sent.contains(&"d/file".to_owned()));
    same(&world);
}
