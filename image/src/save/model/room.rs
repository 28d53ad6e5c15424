//! Hundreds of saves: the image never takes more than four thirds of a full save, nor more than 64 layers.

use super::{Container, LayerSet, Path, Registry};
use crate::save::compact::{Limits, layers_to_rewrite};
use proptest::prelude::*;

pub(super) const NAMES: [&str; 16] =
    ["f0", "f1", "f2", "f3", "f4", "f5", "f6", "f7", "f8", "f9", "fa", "fb", "fc", "fd", "fe", "ff"];

/// Most bytes that a layer takes to say the directories on the way to what it holds: each has a header.
const WAYS: u64 = (NAMES.len() as u64 + 1) * 512;
/// From this size of files on content outweighs headers. Below, trees are so small that rewriting them costs nothing, and it
/// is done often: of saves of files up to 2 bytes 87 % is sent again on average, of 16 KiB 45 %, of 32 KiB 21 %.
const CONTENT_COUNTS: u64 = 32 * 1024;

/// How a container is used.
#[derive(Debug, Clone, Copy)]
struct Habit {
    /// How many files each round writes, and at most how large they are.
    writes: u64,
    size_max: u64,
    /// Of sixteen rounds, how many remove a directory.
    removals: u64,
    /// Layers of the base.
    base_layers: usize,
}

fn rounds(habit: Habit, rounds: u64, seed: u64) {
    let mut random = seed | 1;
    let mut next = move || {
        // xorshift: any numbers will do.
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random
    };
    let mut container = Container::on(&[(&["f0"], true), (&["f1"], false)]);
    let mut registry = Registry::default();
    let limits = Limits::on_base(habit.base_layers);
    let name = |n: u64| NAMES[(n % 16) as usize];
    let (mut sent, mut full_sum) = (0, 0);
    for round in 0..rounds {
        for _ in 0..habit.writes {
            let directory: Path = vec![name(next())];
            container.make_directory(&directory);
            container.write(&vec![directory[0], name(next())], next() % habit.size_max);
        }
        if next() % 16 < habit.removals {
            container.remove(&vec![name(next())]);
        }
        let tree = container.walk();
        let full = tree.tar_bytes();
        let changes = match &registry.index {
            Some(last) => layers_to_rewrite(last, &tree, LayerSet::new(), limits).1,
            None => registry.delta(&tree, &LayerSet::new()),
        };
        sent += changes.tar_bytes(&tree);
        full_sum += full;
        registry.save(&container, &changes, tree, (limits.live_slices(changes.kept.len()), 0, false));
        let layers = registry.index.as_ref().map_or(0, |index| index.layers.len()) as u64;
        let bytes = registry.bytes();
        assert!(
            bytes <= full / 3 * 4 + layers * WAYS,
            "{bytes} of {full} bytes, {layers} layers, round {round}"
        );
        // The frozen pass.
        container.write(&vec![name(next()), name(next())], next() % habit.size_max);
        let tree = container.walk();
        let changes = registry.delta(&tree, &LayerSet::new());
        let slices = limits.frozen_slices(changes.kept.len()).min(1);
        let frozen = changes.tar_bytes(&tree);
        registry.save(&container, &changes, tree, (slices, 0, true));
        // Nothing is rewritten while a container is frozen: what is sent then comes on top, until the next live pass.
        let on_top = registry.bytes() - bytes;
        assert!(on_top <= frozen + WAYS, "{on_top} of {frozen} bytes on top in round {round}");

        let layers = registry.index.as_ref().unwrap().layers.len();
        assert!(layers <= limits.own_layers_max, "{layers} layers in round {round}");
        if round % 16 == 0 {
            assert_eq!(registry.image(&container), container.view(), "round {round}");
        }
    }
    assert_eq!(registry.image(&container), container.view());
    if habit.writes == 1 && habit.size_max >= CONTENT_COUNTS {
        // Small saves stay small although layers are rewritten now and then.
        assert!(sent < full_sum / 2, "{sent} of {full_sum}");
    }
}

#[test]
fn many_small_saves_stay_small_and_few() {
    rounds(Habit { writes: 1, size_max: 50_000, removals: 0, base_layers: 10 }, 300, 7);
}

#[test]
fn saves_on_a_base_of_many_layers_stay_few() {
    rounds(Habit { writes: 2, size_max: 50_000, removals: 1, base_layers: 110 }, 100, 11);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_habit_fills_the_registry(writes in 1..12_u64, size_max in 2..200_000_u64, removals in 0..8_u64, seed: u64) {
        rounds(Habit { writes, size_max, removals, base_layers: 20 }, 60, seed);
    }
}
