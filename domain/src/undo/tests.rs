use super::*;
use crate::id::ContainerId;
use proptest::prelude::*;
use rust_decimal::Decimal;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn digest(number: u8) -> Digest {
    Digest::from_sha256([number; 32])
}

fn user(name: &str) -> UserName {
    UserName::new(name).unwrap()
}

fn image(number: u8) -> Image {
    Image {
        project: ProjectName::new("p").unwrap(),
        image: "base:v1".parse().unwrap(),
        digest: digest(number),
        size_bytes: 100 + u64::from(number),
        storage_price: Decimal::from(number),
        layers: u32::from(number),
        created_by: user(&format!("user{number}")),
        created_at: at(1),
        updated_at: at(i64::from(number)),
        last_used_at: None,
        source_container: Some(ContainerId(u64::from(number))),
        job: JobId(uuid::Uuid::nil()),
        base: Some(format!("base{number}")),
        pinned: false,
        reference: format!("host/p/base@{}", digest(number)),
        previous: Vec::new(),
    }
}

fn overwritten(before: &Image, number: u8, now: i64) -> Image {
    let newest = PreviousDigest::of(before, at(now), at(now + 100));
    let (previous, _) = set_aside(before.previous.clone(), Some(newest), &digest(number));
    Image { previous, updated_at: at(now), ..image(number) }
}

fn numbers(previous: &[PreviousDigest]) -> Vec<u8> {
    let number = |p: &PreviousDigest| u8::from_str_radix(&p.digest.hex()[..2], 16).unwrap();
    previous.iter().map(number).collect()
}

#[test]
fn what_was_overwritten_comes_back_whole_and_what_it_replaces_can_come_back_too() {
    let second = overwritten(&image(1), 2, 1000);
    assert_eq!(numbers(&second.previous), [1]);
    let back = second.back_on(&digest(1), at(1050), at(1150)).unwrap();
    let was = image(1);
    assert_eq!(
        (&back.digest, back.size_bytes, back.layers, &back.created_by, &back.base, &back.reference),
        (&was.digest, was.size_bytes, was.layers, &was.created_by, &was.base, &was.reference)
    );
    assert_eq!((back.updated_at, back.last_used_at, back.created_at), (at(1050), Some(at(1050)), at(1)));
    assert_eq!(numbers(&back.previous), [2]);
    assert_eq!(back.previous[0].until, Some(at(1150)));
    let forth = back.back_on(&digest(2), at(1060), at(1160)).unwrap();
    assert_eq!((forth.digest, numbers(&forth.previous)), (digest(2), vec![1]));
}

#[test]
fn what_is_over_its_grace_does_not_come_back() {
    let second = overwritten(&image(1), 2, 1000);
    assert!(
        second.back_on(&digest(1), at(1099), at(2000)).is_some() && second.last_previous(at(1099)).is_some()
    );
    assert!(
        second.back_on(&digest(1), at(1100), at(2000)).is_none() && second.last_previous(at(1100)).is_none()
    );
    assert!(second.back_on(&digest(7), at(1000), at(2000)).is_none(), "it never was that");
    let deleted = DeletedImage::new(second, Gone::Deleted, user("ann"), at(1000), at(1100));
    assert!(deleted.is_restorable(at(1099)) && !deleted.is_restorable(at(1100)));
}

#[test]
fn one_that_was_recorded_before_there_was_an_end_can_be_restored() {
    let old = r#"{"digest": "DIGEST", "size_bytes": 7, "replaced_at": "1970-01-01T00:00:10Z"}"#;
    let old: PreviousDigest = serde_json::from_str(&old.replace("DIGEST", digest(9).as_str())).unwrap();
    assert!(old.is_restorable(at(1 << 30)));
    let now = Image { previous: vec![old], ..image(2) };
    let back = now.back_on(&digest(9), at(20), at(120)).unwrap();
    assert_eq!((back.size_bytes, back.layers), (7, 2));
    assert_eq!(back.reference, format!("host/p/base@{}", digest(9)));
}

#[test]
fn who_saves_under_a_deleted_tag_overwrites_what_was_deleted() {
    let deleted =
        DeletedImage::new(overwritten(&image(1), 2, 1000), Gone::Deleted, user("ann"), at(1500), at(1600));
    let (previous, fallen_out) = deleted.overwritten(&digest(3));
    assert_eq!((numbers(&previous), fallen_out), (vec![2, 1], Vec::new()));
    assert_eq!((previous[0].replaced_at, previous[0].until), (at(1500), Some(at(1600))), "as was promised");
    let (previous, _) = deleted.overwritten(&digest(2));
    assert_eq!(numbers(&previous), [1], "the very same content again");
    let back = deleted.brought_back(at(1550));
    assert_eq!(
        (back.digest, numbers(&back.previous), back.last_used_at),
        (digest(2), vec![1], Some(at(1550)))
    );
}

proptest! {
    /// However often a tag is overwritten and set back: at most so many are kept, each once, never the one it names; and
    /// no digest is lost: it is named, kept, or has fallen out.
    #[test]
    fn no_digest_is_forgotten(steps in proptest::collection::vec((0u8..20, any::<bool>()), 1..80)) {
        let mut now = image(0);
        let mut known = std::collections::BTreeSet::from([digest(0)]);
        let mut fallen = std::collections::BTreeSet::new();
        for (second, (number, back)) in (1000i64..).zip(steps) {
            if back && let Some(target) = now.previous.get(usize::from(number)).map(|p| p.digest.clone()) {
                now = now.back_on(&target, at(second), at(second + 100)).unwrap_or(now);
            } else {
                let newest = PreviousDigest::of(&now, at(second), at(second + 100));
                let (previous, out) = set_aside(now.previous.clone(), Some(newest), &digest(number));
                fallen.extend(out.into_iter().map(|p| p.digest));
                now = Image { previous, ..image(number) };
                fallen.remove(&now.digest);
                known.insert(now.digest.clone());
            }
            let kept: std::collections::BTreeSet<_> = now.previous.iter().map(|p| p.digest.clone()).collect();
            prop_assert!(now.previous.len() <= PREVIOUS_MAX && kept.len() == now.previous.len());
            prop_assert!(!kept.contains(&now.digest));
            let mut all = kept;
            all.insert(now.digest.clone());
            all.extend(fallen.iter().cloned());
            prop_assert_eq!(&all, &known);
        }
    }
}
