//! Random histories: whatever happened, the image shows what the container shows.

use super::{Container, LayerSet, Path, Registry};
use crate::layer::index::LayerNumber;
use proptest::prelude::*;

const NAMES: [&str; 5] = ["a", "b", "b!", "c", "d"];
/// Cases of one run; a soak has many times as many.
const CASES: u32 = 256;
const SOAK_TIMES: u32 = 40;

/// The same name, for ever.
pub(super) fn known_name(name: &[u8]) -> &'static str {
    NAMES.iter().chain(&super::room::NAMES).find(|known| known.as_bytes() == name).unwrap()
}

#[derive(Debug, Clone)]
enum Step {
    Write(Path, u64),
    Directory(Path),
    Remove(Path),
    Recreate(Path),
    Link(Path, Path),
    /// Bits of layers to rewrite and of slices that get lost; slices; whether the container is frozen.
    Save(u64, u64, usize, bool),
}

fn path() -> impl Strategy<Value = Path> {
    prop::collection::vec((0..NAMES.len()).prop_map(|n| NAMES[n]), 1..4)
}

fn step() -> impl Strategy<Value = Step> {
    let bits = || prop_oneof![2 => Just(0), 1 => any::<u64>()];
    prop_oneof![
        3 => (path(), 0..9000_u64).prop_map(|(path, size)| Step::Write(path, size)),
        3 => path().prop_map(Step::Directory),
        3 => path().prop_map(Step::Remove),
        2 => path().prop_map(Step::Recreate),
        2 => (path(), path()).prop_map(|(a, b)| Step::Link(a, b)),
        3 => (bits(), bits(), 1..5_usize, any::<bool>()).prop_map(|(a, b, n, f)| Step::Save(a, b, n, f)),
    ]
}

fn base() -> Container {
    Container::on(&[
        (&["a"], true),
        (&["a", "a"], true),
        (&["a", "a", "b"], false),
        (&["a", "b"], false),
        (&["b"], false),
        (&["c"], true),
        (&["c", "d"], true),
        (&["c", "d", "a"], false),
    ])
}

fn run(steps: Vec<Step>) -> Result<(), TestCaseError> {
    let (mut container, mut registry) = (base(), Registry::default());
    for step in steps {
        match step {
            Step::Write(path, size) => container.write(&path, size),
            Step::Directory(path) => container.make_directory(&path),
            Step::Remove(path) => container.remove(&path),
            Step::Recreate(path) => {
                container.remove(&path);
                container.make_directory(&path);
            }
            Step::Link(from, to) => container.link(&from, &to),
            Step::Save(rewrite, lost, slices, frozen) => {
                let count = registry.index.as_ref().map_or(0, |index| index.layers.len()) as LayerNumber;
                let rewritten: LayerSet = (0..count.min(64)).filter(|n| rewrite & (1 << n) != 0).collect();
                let tree = container.walk();
                let changes = registry.delta(&tree, &rewritten);
                registry.save(&container, &changes, tree, (slices, lost, frozen));
                if lost == 0 {
                    prop_assert_eq!(registry.image(&container), container.view());
                }
                prop_assert!(lost != 0 || registry.links_are_whole(), "a link leads into another layer");
                let again = registry.delta(&container.walk(), &LayerSet::new());
                prop_assert!(
                    lost != 0 || frozen || again.items.is_empty(),
                    "sent for nothing: {:?}",
                    again.items
                );
            }
        }
    }
    let tree = container.walk();
    let changes = registry.delta(&tree, &LayerSet::new());
    registry.save(&container, &changes, tree, (2, 0, false));
    prop_assert_eq!(registry.image(&container), container.view());
    Ok(())
}

#[test]
fn whatever_happened_the_image_shows_what_the_container_shows() {
    let times = if std::env::var_os("MOTHBALL_SOAK").is_some() { SOAK_TIMES } else { 1 };
    let config = ProptestConfig {
        cases: CASES * times,
        max_shrink_iters: 20_000,
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    let mut runner = proptest::test_runner::TestRunner::new(config);
    runner.run(&prop::collection::vec(step(), 1..40), run).unwrap();
}
