//! Which images a project lets go. Nothing here acts: [`decide`] says what is to be done about each image of one name, and
//! why the others stay.
//!
//! Each rule that a policy sets is a reason to stay: the last N of a name stay, what was used lately stays. Only what no
//! rule keeps goes, and never what is pinned or what a container will be launched from. Its owner has notice first.

use crate::image::{Digest, ImageRef};
use crate::name::ContainerName;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use std::cmp::Reverse;
use std::fmt;
use std::time::Duration;

/// What a project's admin has set. Nothing of it is on by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RetentionPolicy {
    /// So many images of each name stay, those saved last.
    pub keep_last: Option<u32>,
    /// What was saved, launched from or restored within so many days stays.
    pub unused_days: Option<u32>,
}

/// What the platform's operator allows projects to set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetentionBounds {
    /// Fewest images that a project may keep of a name.
    pub keep_last_min: u32,
    /// Fewest days after which an unused image may go.
    pub unused_days_min: u32,
}

/// Most images that a policy keeps of a name: more is as good as all.
pub const KEEP_LAST_MAX: u32 = 10_000;
/// Most days that an unused image stays: more is as good as for ever.
pub const UNUSED_DAYS_MAX: u32 = 3650;

impl Default for RetentionBounds {
    fn default() -> Self {
        Self { keep_last_min: 1, unused_days_min: 7 }
    }
}

impl RetentionPolicy {
    /// Refuses what cannot be meant, or what the platform does not allow.
    pub fn check(&self, bounds: &RetentionBounds) -> Result<(), String> {
        for (field, value, min, max) in [
            ("keep_last", self.keep_last, bounds.keep_last_min.max(1), KEEP_LAST_MAX),
            ("unused_days", self.unused_days, bounds.unused_days_min.max(1), UNUSED_DAYS_MAX),
        ] {
            if value.is_some_and(|value| !(min..=max).contains(&value)) {
                return Err(format!("{field} is between {min} and {max}"));
            }
        }
        Ok(())
    }

    /// Whether it lets anything go.
    pub fn is_off(&self) -> bool {
        *self == Self::default()
    }
}

/// Which rules of its policy do not keep an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// Enough newer ones of its name are there.
    NotAmongLast,
    /// It was not used for so long.
    Unused,
    /// Both.
    NotAmongLastAndUnused,
}

impl Reason {
    /// The reason as it stands in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NotAmongLast => "not_among_last",
            Self::Unused => "unused",
            Self::NotAmongLastAndUnused => "not_among_last_and_unused",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotAmongLast => "enough newer images of its name are there",
            Self::Unused => "it was not used for a long time",
            Self::NotAmongLastAndUnused => {
                "enough newer images of its name are there, and it was not used for a long time"
            }
        })
    }
}

/// Why an image stays.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stay {
    /// The project has no policy.
    NoPolicy,
    /// Somebody pinned it.
    Pinned,
    /// This container, parked or not launched yet, will be launched from it.
    Needed(ContainerName),
    /// It is among the last of its name.
    AmongLast,
    /// It was used lately.
    UsedLately,
}

impl Stay {
    /// The cause as it stands in JSON.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::NoPolicy => "no_policy",
            Self::Pinned => "pinned",
            Self::Needed(_) => "needed",
            Self::AmongLast => "among_last",
            Self::UsedLately => "used_lately",
        }
    }
}

impl fmt::Display for Stay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoPolicy => f.write_str("the project has no retention policy"),
            Self::Pinned => f.write_str("it is pinned"),
            Self::Needed(container) => write!(f, "container {container} needs it"),
            Self::AmongLast => f.write_str("it is among the last of its name"),
            Self::UsedLately => f.write_str("it was used lately"),
        }
    }
}

/// That an image's owner was told of its removal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemovalNotice {
    /// What the image named then: a save under its tag makes it another image.
    pub digest: Digest,
    /// Why it goes.
    pub reason: Reason,
    /// When its owner was told, by the store's clock.
    pub noticed_at: Timestamp,
    /// When it is removed, unless the reason goes away.
    pub remove_at: Timestamp,
}

/// An image as a policy sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// Its name and tag; all candidates of one decision have the same name.
    pub image: ImageRef,
    /// What it names.
    pub digest: Digest,
    /// When it was last saved or overwritten.
    pub saved_at: Timestamp,
    /// When it was last used in any way.
    pub used_at: Timestamp,
    /// Whether clean-up must leave it alone.
    pub pinned: bool,
    /// The container that will be launched from it.
    pub needed_by: Option<ContainerName>,
    /// Whether a job has it: what comes of that is seen next time.
    pub busy: bool,
    /// The notice that stands.
    pub notice: Option<RemovalNotice>,
}

/// What is to be done about an image now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing, for this reason.
    Stay(Stay),
    /// The reason is gone: take the notice back.
    Withdraw(Stay),
    /// Nothing: a job is at work on it.
    Busy,
    /// Write the notice down and tell the owner.
    Notice(RemovalNotice),
    /// Nothing: the time of its notice is not over.
    Wait(RemovalNotice),
    /// Remove it.
    Remove(RemovalNotice),
}

/// Says what is to be done about each image of one name, in the order in which they were given.
pub fn decide(
    policy: &RetentionPolicy,
    images: &[Candidate],
    notice: Duration,
    now: Timestamp,
) -> Vec<Verdict> {
    let mut newest_first: Vec<&Candidate> = images.iter().collect();
    // By tag where two were saved at once, so that every decision is the same.
    newest_first.sort_by_key(|c| Reverse((c.saved_at, &c.image)));
    let last: Vec<&ImageRef> =
        newest_first.iter().take(policy.keep_last.unwrap_or(0) as usize).map(|c| &c.image).collect();
    images.iter().map(|c| decide_one(policy, c, last.contains(&&c.image), notice, now)).collect()
}

fn decide_one(
    policy: &RetentionPolicy,
    candidate: &Candidate,
    among_last: bool,
    notice: Duration,
    now: Timestamp,
) -> Verdict {
    if candidate.busy {
        return Verdict::Busy;
    }
    let reason = match stays(policy, candidate, among_last, now) {
        Err(reason) => reason,
        Ok(why) if candidate.notice.is_some() => return Verdict::Withdraw(why),
        Ok(why) => return Verdict::Stay(why),
    };
    match candidate.notice.clone().filter(|standing| standing.digest == candidate.digest) {
        Some(standing) if now < standing.remove_at => Verdict::Wait(standing),
        Some(standing) => Verdict::Remove(standing),
        None => Verdict::Notice(RemovalNotice {
            digest: candidate.digest.clone(),
            reason,
            noticed_at: now,
            remove_at: now.saturating_add(notice).unwrap_or(Timestamp::MAX),
        }),
    }
}

/// Why it stays, or which rules do not keep it.
fn stays(
    policy: &RetentionPolicy,
    candidate: &Candidate,
    among_last: bool,
    now: Timestamp,
) -> Result<Stay, Reason> {
    if policy.is_off() {
        return Ok(Stay::NoPolicy);
    }
    if candidate.pinned {
        return Ok(Stay::Pinned);
    }
    if let Some(container) = &candidate.needed_by {
        return Ok(Stay::Needed(container.clone()));
    }
    if among_last {
        return Ok(Stay::AmongLast);
    }
    let used_at = candidate.used_at.max(candidate.saved_at);
    let is_old = |days: u32| now.duration_since(used_at) >= SignedDuration::from_hours(24 * i64::from(days));
    match (policy.keep_last, policy.unused_days) {
        (_, Some(days)) if !is_old(days) => Ok(Stay::UsedLately),
        (Some(_), Some(_)) => Err(Reason::NotAmongLastAndUnused),
        (Some(_), None) => Err(Reason::NotAmongLast),
        (None, _) => Err(Reason::Unused),
    }
}

#[cfg(test)]
mod tests;
