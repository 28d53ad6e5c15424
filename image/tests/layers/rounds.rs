//! Save after save after random changes: each image shows what the container shows.

use crate::edits::{Edit, edit};
use crate::world::{How, World};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use std::fs;
use std::path::Path;

fn base(root: &Path) {
    for directory in ["a", "a/b", "base", "base/a", "base/base/c"] {
        fs::create_dir_all(root.join(directory)).unwrap();
    }
    for file in ["b", "a/a", "a/b/c", "base/b", "base/a/a", "base/base/c/c"] {
        fs::write(root.join(file), "of the base").unwrap();
    }
    fs::hard_link(root.join("b"), root.join("base/c")).unwrap();
}

fn how() -> impl Strategy<Value = How> {
    let rewrite = prop_oneof![3 => Just(0), 1 => any::<u64>()];
    let lost = prop_oneof![3 => Just(0), 1 => any::<u64>()];
    (rewrite, lost, 1..4_usize, prop::bool::weighted(0.8), prop::bool::weighted(0.2))
        .prop_map(|(rewrite, lost, slices_max, calm, frozen)| How { rewrite, lost, slices_max, calm, frozen })
}

/// Cases of one run; a soak has many times as many.
const CASES: u32 = 24;
const SOAK_TIMES: u32 = 40;

fn run(rounds: Vec<(Vec<Edit>, How)>) -> Result<(), TestCaseError> {
    let mut world = World::new(base);
    for (edits, how) in rounds {
        for edit in edits {
            edit.make(&world.at(""));
        }
        world.save(&how);
        if how.lost != 0 {
            // The save died. The next attempt ends it.
            world.save(&How { lost: 0, rewrite: 0, ..how });
        }
        let differences = world.differences();
        prop_assert!(differences.is_empty(), "{}", differences.join("\n"));
    }
    Ok(())
}

#[test]
fn each_image_shows_what_its_container_shows() {
    let times = if std::env::var_os("MOTHBALL_SOAK").is_some() { SOAK_TIMES } else { 1 };
    let config = ProptestConfig {
        cases: CASES * times,
        max_shrink_iters: 200,
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    let rounds = prop::collection::vec((prop::collection::vec(edit(), 1..12), how()), 1..7);
    TestRunner::new(config).run(&rounds, run).unwrap();
}
