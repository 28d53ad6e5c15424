//! What may happen, and how likely.

use mothball_domain::job::Then;
use proptest::prelude::*;

/// A step of a history. Jobs and containers are named by how many came after them, mostly of those for which the step
/// makes sense, so that most steps do something.
#[derive(Debug, Clone)]
pub(super) enum Op {
    Launch { user: u8, name: u8, gpus: u32, key: Option<u8> },
    Ask { user: u8, container: usize, what: What, key: Option<u8> },
    DeleteImage { user: u8, image: u8 },
    Restore { user: u8, image: u8, previous: bool },
    Claim { job: usize, node: Option<u8>, lasts: bool },
    Renew { job: usize, stale: bool, lasts: bool },
    Checkpoint { job: usize, stale: bool, made: bool, frozen: bool, removed: bool },
    Record { job: usize, stale: bool, digest: u8 },
    Settle { job: usize, stale: bool, how: How },
    Attend { job: usize },
    MarkPublished { job: usize },
    Cancel { job: usize },
    Retry { job: usize },
    Register { node: u8 },
    StopNode { node: u8 },
    Drain { node: u8, drained: bool },
    RescueNode { node: u8 },
    Observe { container: usize, running: Option<bool> },
    Forget { container: usize },
    Protect { container: usize, protected: bool },
}

/// What is asked of a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum What {
    Save { image: u8, then: Then },
    Delete,
    Stop,
    Start,
    Wake,
}

/// How an attempt ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum How {
    Succeeded,
    TransientNow,
    TransientLater,
    Permanent,
    Interrupted,
    Cancelled,
}

fn then() -> impl Strategy<Value = Then> {
    prop_oneof![Just(Then::Keep), Just(Then::Delete), Just(Then::Park)]
}

fn what() -> impl Strategy<Value = What> {
    prop_oneof![
        5 => (0..3u8, then()).prop_map(|(image, then)| What::Save { image, then }),
        2 => Just(What::Delete),
        1 => Just(What::Stop),
        1 => Just(What::Start),
        2 => Just(What::Wake),
    ]
}

fn how() -> impl Strategy<Value = How> {
    prop_oneof![
        8 => Just(How::Succeeded),
        2 => Just(How::TransientNow),
        1 => Just(How::TransientLater),
        2 => Just(How::Permanent),
        1 => Just(How::Interrupted),
        1 => Just(How::Cancelled),
    ]
}

fn key() -> impl Strategy<Value = Option<u8>> {
    prop_oneof![4 => Just(None), 1 => (0..2u8).prop_map(Some)]
}

fn rarely() -> impl Strategy<Value = bool> {
    proptest::bool::weighted(0.1)
}

/// One of the newest, mostly.
fn recent() -> impl Strategy<Value = usize> {
    prop_oneof![6 => 0..2usize, 2 => 0..6usize, 1 => 0..100usize]
}

pub(super) fn any_op() -> impl Strategy<Value = Op> {
    let lasts = || proptest::bool::weighted(0.7);
    let node = || 0..2u8;
    let user = || 0..2u8;
    prop_oneof![
        6 => (user(), 0..8u8, 0..4u32, key()).prop_map(|(user, name, gpus, key)| Op::Launch { user, name, gpus, key }),
        9 => (user(), recent(), what(), key())
            .prop_map(|(user, container, what, key)| Op::Ask { user, container, what, key }),
        2 => (user(), 0..3u8).prop_map(|(user, image)| Op::DeleteImage { user, image }),
        2 => (user(), 0..3u8, any::<bool>())
            .prop_map(|(user, image, previous)| Op::Restore { user, image, previous }),
        14 => (recent(), prop_oneof![9 => Just(None), 1 => node().prop_map(Some)], lasts())
            .prop_map(|(job, node, lasts)| Op::Claim { job, node, lasts }),
        1 => (recent(), rarely(), lasts()).prop_map(|(job, stale, lasts)| Op::Renew { job, stale, lasts }),
        4 => (recent(), rarely(), any::<bool>(), any::<bool>(), any::<bool>())
            .prop_map(|(job, stale, made, frozen, removed)| Op::Checkpoint { job, stale, made, frozen, removed }),
        5 => (recent(), rarely(), 0..4u8).prop_map(|(job, stale, digest)| Op::Record { job, stale, digest }),
        13 => (recent(), rarely(), how()).prop_map(|(job, stale, how)| Op::Settle { job, stale, how }),
        8 => recent().prop_map(|job| Op::Attend { job }),
        2 => recent().prop_map(|job| Op::MarkPublished { job }),
        3 => recent().prop_map(|job| Op::Cancel { job }),
        4 => recent().prop_map(|job| Op::Retry { job }),
        3 => node().prop_map(|node| Op::Register { node }),
        1 => node().prop_map(|node| Op::StopNode { node }),
        1 => (node(), any::<bool>()).prop_map(|(node, drained)| Op::Drain { node, drained }),
        1 => node().prop_map(|node| Op::RescueNode { node }),
        3 => (recent(), proptest::option::of(any::<bool>()))
            .prop_map(|(container, running)| Op::Observe { container, running }),
        1 => recent().prop_map(|container| Op::Forget { container }),
        1 => (recent(), rarely()).prop_map(|(container, protected)| Op::Protect { container, protected }),
    ]
}
