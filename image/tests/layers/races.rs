//! The container runs while it is read: whatever it does, the tar is whole, and the next pass makes it right.

use crate::edits::edit;
use crate::world::{How, World};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

/// Saves a tree to which `meanwhile` is done between the look at it and the reading; then once more.
fn race(meanwhile: impl Fn(&Path)) -> (World, Vec<String>) {
    let mut world = World::new(|_| ());
    fs::create_dir_all(world.at("d/e")).unwrap();
    for name in ["d/file", "d/e/file", "plain"] {
        fs::write(world.at(name), vec![b'x'; 700_000]).unwrap();
    }
    fs::hard_link(world.at("plain"), world.at("second")).unwrap();
    symlink("plain", world.at("link")).unwrap();
    let outcome = world.save_with(&How::default(), &|root| meanwhile(root));
    world.save(&How::default());
    let differences = world.differences();
    assert!(differences.is_empty(), "{}", differences.join("\n"));
    (world, outcome.sent)
}

fn has(sent: &[String], name: &str) -> bool {
    sent.iter().any(|sent| sent == name)
}

#[test]
fn files_that_shrink_or_grow() {
    race(|root| {
        fs::OpenOptions::new().write(true).open(root.join("plain")).unwrap().set_len(5).unwrap();
        fs::write(root.join("d/file"), vec![b'y'; 2_000_000]).unwrap();
        fs::write(root.join("d/e/file"), "").unwrap();
    });
}

#[test]
fn files_and_directories_that_vanish() {
    let (_, sent) = race(|root| {
        fs::remove_file(root.join("plain")).unwrap();
        fs::remove_file(root.join("link")).unwrap();
        fs::remove_dir_all(root.join("d")).unwrap();
    });
    assert!(!has(&sent, "plain") && !has(&sent, "link") && !has(&sent, "d/e/file"));
    assert!(has(&sent, "second"), "the other name has the content");
}

#[test]
fn things_that_become_something_else() {
    let (_, sent) = race(|root| {
        fs::remove_file(root.join("plain")).unwrap();
        fs::create_dir(root.join("plain")).unwrap();
        fs::remove_file(root.join("d/file")).unwrap();
        rustix::fs::mknodat(
            rustix::fs::CWD,
            root.join("d/file"),
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::RUSR,
            0,
        )
        .unwrap();
        fs::remove_file(root.join("link")).unwrap();
        fs::write(root.join("link"), "a file").unwrap();
        fs::remove_file(root.join("second")).unwrap();
        fs::write(root.join("second"), "a file of its own").unwrap();
    });
    assert!(!has(&sent, "plain") && !has(&sent, "d/file") && !has(&sent, "link"));
}

#[test]
fn a_directory_that_becomes_a_link_leads_nowhere() {
    let outside = tempfile::tempdir().unwrap();
    fs::create_dir(outside.path().join("e")).unwrap();
    fs::write(outside.path().join("e/file"), "secret of the node").unwrap();
    fs::write(outside.path().join("file"), "secret of the node").unwrap();
    let (world, sent) = race(|root| {
        fs::rename(root.join("d"), root.join("aside")).unwrap();
        symlink(outside.path(), root.join("d")).unwrap();
        fs::remove_file(root.join("plain")).unwrap();
        symlink(outside.path().join("file"), root.join("plain")).unwrap();
    });
    assert!(!has(&sent, "d/file") && !has(&sent, "d/e/file") && !has(&sent, "plain"));
    world.run("! grep -rq 'secret of the node' layers");
}

struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn a_writer_that_never_rests_is_caught_up_with_once_it_does() {
    let mut world = World::new(|_| ());
    let stop = AtomicBool::new(false);
    let root = world.at("");
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut runner = TestRunner::deterministic();
            while !stop.load(Ordering::Relaxed) {
                edit().new_tree(&mut runner).unwrap().current().make(&root);
            }
        });
        // A save that fails ends the writer too.
        let _stop = Stop(&stop);
        for n in 0..20 {
            world.save(&How { calm: false, slices_max: 1 + n % 3, ..How::default() });
        }
    });
    world.save(&How { frozen: true, ..How::default() });
    let differences = world.differences();
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}
