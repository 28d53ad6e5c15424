//! Which layers are not worth keeping: what they hold is sent again, and they are left behind.
//!
//! Saves on top of saves leave old contents in lower layers. However often a container is saved, its image takes at most
//! four thirds of what a full save would take, and at most so many layers: decided before a live pass, with room left for the
//! frozen one, which never rewrites anything.
//!
//! Bytes are those of tars, before compression. Of a layer its compressed size is known, too, but of an entry it is not: what a
//! full save would take compressed could only be guessed from averages, wrong in either direction where what is dead in a
//! layer compresses otherwise than what lives. By tars the bound holds to the byte.

use super::delta::{ChangeSet, LayerSet};
use super::slices::slices;
use crate::layer::index::{Index, LayerNumber};
use crate::layer::tree::Tree;
use std::cmp::Reverse;

/// Most layers of an image that Docker takes.
const IMAGE_LAYERS_MAX: usize = 125;
/// Most layers of ours.
const OWN_LAYERS_MAX: usize = 64;
/// How many of them a live pass leaves to the frozen one and to further live ones.
const LAYERS_SPARE: usize = 4;
/// How often the choice is made anew before everything is rewritten.
const TRIES_MAX: usize = 4;

/// How many layers an image may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Most layers of ours.
    pub own_layers_max: usize,
}

impl Limits {
    /// For an image on a base of so many layers.
    pub fn on_base(layers: usize) -> Self {
        let room = IMAGE_LAYERS_MAX.saturating_sub(layers);
        Self { own_layers_max: room.clamp(2, OWN_LAYERS_MAX) }
    }

    /// Most layers after a live pass.
    fn live(self) -> usize {
        self.own_layers_max - LAYERS_SPARE.min(self.own_layers_max / 2)
    }

    /// Most slices of a live pass on top of so many layers.
    pub fn live_slices(self, kept: usize) -> usize {
        self.live().saturating_sub(kept).max(1)
    }

    /// Most slices of a frozen pass on top of so many layers.
    pub fn frozen_slices(self, kept: usize) -> usize {
        self.own_layers_max.saturating_sub(kept).max(1)
    }
}

/// The layers of `last` to be rewritten by the live pass over `now`: those of `unwanted`, and as many more as it takes to
/// stay within the limits. Answers what that pass has to send.
pub fn layers_to_rewrite(
    last: &Index,
    now: &Tree,
    unwanted: LayerSet,
    limits: Limits,
) -> (LayerSet, ChangeSet) {
    let live = last.live_bytes();
    let mut rewritten = unwanted;
    for _ in 0..TRIES_MAX {
        let changes = ChangeSet::between(now, Some(last), &rewritten);
        let plan = Plan::of(last, now, &changes, limits);
        if plan.is_within() {
            return (rewritten, changes);
        }
        plan.choose(&live, &mut rewritten);
    }
    let all = (0..last.layers.len() as LayerNumber).collect();
    let changes = ChangeSet::between(now, Some(last), &all);
    (all, changes)
}

/// What an image would take.
struct Plan<'a> {
    last: &'a Index,
    kept: &'a [LayerNumber],
    new_layers: usize,
    layers_max: usize,
    /// In kept and new layers together.
    bytes: u64,
    /// In a full save.
    full_bytes: u64,
}

impl<'a> Plan<'a> {
    fn of(last: &'a Index, now: &Tree, changes: &'a ChangeSet, limits: Limits) -> Self {
        let kept_bytes: u64 = changes.kept.iter().map(|n| last.said_bytes[usize::from(*n)]).sum();
        let slices_max = limits.live_slices(changes.kept.len());
        Self {
            last,
            kept: &changes.kept,
            new_layers: slices(now, changes, slices_max).len(),
            layers_max: limits.live(),
            bytes: kept_bytes + changes.tar_bytes(now),
            full_bytes: now.tar_bytes(),
        }
    }

    /// One quarter more than a full save at most, so that the frozen pass stays below a third.
    fn is_within(&self) -> bool {
        let everything_new = self.kept.is_empty();
        let few = self.kept.len() + self.new_layers <= self.layers_max;
        everything_new || (few && self.bytes <= self.full_bytes / 4 * 5)
    }

    /// Takes those layers first that give most for what must be sent again, and more than would just do: the next saves
    /// are to find room.
    fn choose(&self, live: &[u64], rewritten: &mut LayerSet) {
        let said = |n: LayerNumber| self.last.said_bytes[usize::from(n)];
        let live = |n: LayerNumber| live[usize::from(n)].min(said(n));
        let mut kept = self.kept.to_vec();
        let mut bytes = self.bytes;
        if bytes > self.full_bytes / 4 * 5 {
            // Dead bytes gained for each thousand that are sent again.
            kept.sort_by_key(|n| Reverse((said(*n) - live(*n)).saturating_mul(1000) / (live(*n) + 1)));
            while bytes > self.full_bytes / 8 * 9
                && let Some(worst) = (!kept.is_empty()).then(|| kept.remove(0))
            {
                bytes -= said(worst) - live(worst);
                rewritten.insert(worst);
            }
        }
        if kept.len() + self.new_layers > self.layers_max {
            kept.sort_by_key(|n| live(*n));
            let target = self.layers_max / 2;
            let too_many = kept.len().saturating_sub(target.saturating_sub(self.new_layers).max(1)).max(1);
            rewritten.extend(kept.into_iter().take(too_many));
        }
    }
}
