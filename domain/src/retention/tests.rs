use super::*;
use proptest::prelude::*;

const DAY: i64 = 24 * 3600;
const NOTICE: Duration = Duration::from_hours(72);

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn candidate(tag: &str, saved_day: i64) -> Candidate {
    Candidate {
        image: format!("base:{tag}").parse().unwrap(),
        digest: Digest::from_sha256([1; 32]),
        saved_at: at(saved_day * DAY),
        used_at: at(saved_day * DAY),
        pinned: false,
        needed_by: None,
        busy: false,
        notice: None,
    }
}

fn policy(keep_last: Option<u32>, unused_days: Option<u32>) -> RetentionPolicy {
    RetentionPolicy { keep_last, unused_days }
}

/// The notice of a candidate of [`candidate`], given on this day.
fn noticed(reason: Reason, day: i64) -> RemovalNotice {
    let digest = Digest::from_sha256([1; 32]);
    RemovalNotice { digest, reason, noticed_at: at(day * DAY), remove_at: at((day + 3) * DAY) }
}

fn decided(policy: RetentionPolicy, images: &[Candidate], day: i64) -> Vec<Verdict> {
    decide(&policy, images, NOTICE, at(day * DAY))
}

#[test]
fn the_last_of_a_name_stay_and_the_others_have_notice() {
    let images = [candidate("a", 1), candidate("b", 3), candidate("c", 2)];
    let notice = Verdict::Notice(noticed(Reason::NotAmongLast, 10));
    let stay = Verdict::Stay(Stay::AmongLast);
    assert_eq!(decided(policy(Some(2), None), &images, 10), [notice, stay.clone(), stay.clone()]);
    assert_eq!(decided(policy(Some(3), None), &images, 10), [stay.clone(), stay.clone(), stay]);
    // Saved in the same instant: still exactly two stay.
    let at_once = ["x", "y", "z"].map(|tag| candidate(tag, 1));
    let stays = |v: &&Verdict| matches!(v, Verdict::Stay(_));
    assert_eq!(decided(policy(Some(2), None), &at_once, 10).iter().filter(stays).count(), 2);
}

#[test]
fn what_was_used_lately_stays() {
    let mut image = candidate("a", 1);
    let days = policy(None, Some(30));
    assert_eq!(decided(days, &[image.clone()], 30), [Verdict::Stay(Stay::UsedLately)]);
    assert_eq!(decided(days, &[image.clone()], 31), [Verdict::Notice(noticed(Reason::Unused, 31))]);
    image.used_at = at(20 * DAY);
    assert_eq!(decided(days, &[image.clone()], 49), [Verdict::Stay(Stay::UsedLately)]);
    assert_eq!(decided(days, &[image], 50), [Verdict::Notice(noticed(Reason::Unused, 50))]);
}

#[test]
fn with_both_rules_only_what_neither_keeps_goes() {
    let images = [candidate("old", 1), candidate("older", 0), candidate("young", 39)];
    let both = policy(Some(1), Some(30));
    let reason = Reason::NotAmongLastAndUnused;
    let notice = || Verdict::Notice(noticed(reason, 40));
    assert_eq!(decided(both, &images, 40), [notice(), notice(), Verdict::Stay(Stay::AmongLast)]);
    assert_eq!(
        decided(both, &[candidate("young", 39), candidate("younger", 40)], 41),
        [Verdict::Stay(Stay::UsedLately), Verdict::Stay(Stay::AmongLast)]
    );
}

#[test]
fn pinned_and_needed_images_stay_whatever_the_rules_say() {
    let pinned = Candidate { pinned: true, ..candidate("a", 1) };
    let needed = Candidate { needed_by: Some(ContainerName::new("box").unwrap()), ..candidate("b", 1) };
    let newer = candidate("c", 2);
    let [first, second, third] =
        decided(policy(Some(1), None), &[pinned, needed, newer], 1000).try_into().unwrap();
    assert_eq!(first, Verdict::Stay(Stay::Pinned));
    assert!(matches!(&second, Verdict::Stay(Stay::Needed(by)) if by.as_str() == "box"));
    assert_eq!(third, Verdict::Stay(Stay::AmongLast));
}

#[test]
fn a_notice_runs_its_time_and_goes_with_its_reason() {
    let standing = noticed(Reason::Unused, 40);
    let image = Candidate { notice: Some(standing.clone()), ..candidate("a", 1) };
    let days = policy(None, Some(30));
    assert_eq!(decided(days, std::slice::from_ref(&image), 42), [Verdict::Wait(standing.clone())]);
    assert_eq!(decided(days, std::slice::from_ref(&image), 43), [Verdict::Remove(standing)]);
    let pinned = Candidate { pinned: true, ..image.clone() };
    let used = Candidate { used_at: at(41 * DAY), ..image.clone() };
    let busy = Candidate { busy: true, ..image.clone() };
    assert_eq!(decided(days, &[pinned], 43), [Verdict::Withdraw(Stay::Pinned)]);
    assert_eq!(decided(days, &[used], 43), [Verdict::Withdraw(Stay::UsedLately)]);
    assert_eq!(decided(days, &[busy], 43), [Verdict::Busy]);
    assert_eq!(
        decided(policy(None, None), std::slice::from_ref(&image), 43),
        [Verdict::Withdraw(Stay::NoPolicy)]
    );
    // Another image by now: the notice was about what is gone.
    let other = Candidate { digest: Digest::from_sha256([2; 32]), ..image };
    assert!(matches!(&decided(days, &[other], 43)[0], Verdict::Notice(n) if n.remove_at == at(46 * DAY)));
}

#[test]
fn what_the_platform_does_not_allow_is_refused() {
    let bounds = RetentionBounds { keep_last_min: 2, unused_days_min: 7 };
    assert!(policy(None, None).check(&bounds).is_ok() && policy(Some(2), Some(7)).check(&bounds).is_ok());
    for (bad, words) in [
        (policy(Some(1), None), "keep_last is between 2 and"),
        (policy(None, Some(6)), "unused_days is between 7 and"),
        (policy(Some(KEEP_LAST_MAX + 1), None), "keep_last"),
        (policy(None, Some(UNUSED_DAYS_MAX + 1)), "unused_days"),
    ] {
        assert!(bad.check(&bounds).unwrap_err().contains(words), "{bad:?}");
    }
    let lax = RetentionBounds { keep_last_min: 0, unused_days_min: 0 };
    assert!(policy(Some(0), None).check(&lax).is_err(), "none at all is not a policy");
}

fn any_candidate() -> impl Strategy<Value = (i64, i64, bool, bool, bool, Option<i64>, u8)> {
    let day = || 0i64..100;
    (day(), day(), any::<bool>(), any::<bool>(), any::<bool>(), proptest::option::of(day()), 0u8..2)
}

proptest! {
    /// Nothing is removed without a notice that has run its time, nor while anything keeps it; as many of a name stay as
    /// the policy says; and the order in which images are given changes nothing.
    #[test]
    fn removed_only_when_nothing_keeps_it(
        all in proptest::collection::vec(any_candidate(), 0..12), keep_last in proptest::option::of(1u32..5),
        unused in proptest::option::of(1u32..60), now in 50i64..150,
    ) {
        let box_name = ContainerName::new("box").unwrap();
        let images: Vec<Candidate> = all.iter().enumerate().map(|(i, (saved, used, pinned, needed, busy, told, digest))| {
            Candidate {
                used_at: at(*used * DAY),
                pinned: *pinned,
                needed_by: needed.then(|| box_name.clone()),
                busy: *busy,
                notice: told.map(|day| noticed(Reason::Unused, day)),
                digest: Digest::from_sha256([*digest; 32]),
                ..candidate(&format!("t{i}"), *saved)
            }
        }).collect();
        let rules = policy(keep_last, unused);
        let verdicts = decided(rules, &images, now);
        for (image, verdict) in images.iter().zip(&verdicts) {
            let goes = matches!(verdict, Verdict::Remove(_) | Verdict::Wait(_) | Verdict::Notice(_));
            if goes {
                prop_assert!(!image.pinned && image.needed_by.is_none() && !image.busy && !rules.is_off());
                let newer = images.iter().filter(|o| (o.saved_at, &o.image) > (image.saved_at, &image.image)).count();
                prop_assert!(keep_last.is_none_or(|n| newer >= n as usize));
                let used = image.used_at.max(image.saved_at);
                prop_assert!(unused.is_none_or(|d| now * DAY - used.as_second() >= i64::from(d) * DAY));
            }
            if let Verdict::Remove(notice) = verdict {
                prop_assert!(image.notice.as_ref() == Some(notice) && notice.digest == image.digest);
                prop_assert!(now * DAY >= notice.remove_at.as_second());
            }
        }
        let stays = verdicts.iter().filter(|v| !matches!(v, Verdict::Remove(_))).count();
        prop_assert!(stays >= images.len().min(keep_last.unwrap_or(0) as usize));
        let mut turned = images;
        turned.reverse();
        let mut again = decided(rules, &turned, now);
        again.reverse();
        prop_assert_eq!(again, verdicts);
    }
}
