//! What can be brought back: what a tag named before it was overwritten, and an image that was deleted. Each for a grace
//! that is promised when it goes; what is over its grace is removed from the registry for good.
//!
//! A tag has either an [`Image`] or a [`DeletedImage`], never both: who saves under the tag of a deleted image overwrites
//! that, and it can be brought back as what the tag named before, as long as was promised.

use crate::id::JobId;
use crate::image::{Digest, Image, ImageRef, PREVIOUS_MAX, PreviousDigest, Saved};
use crate::name::{ProjectName, UserName};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// Why an image is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Gone {
    /// Somebody deleted it.
    Deleted,
    /// Its project's retention policy let it go.
    Retention,
}

impl Gone {
    /// The cause as it stands in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Deleted => "deleted",
            Self::Retention => "retention",
        }
    }
}

/// An image that is in no list any more and can be brought back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeletedImage {
    /// Its record as it was, with what its tag named before.
    pub image: Image,
    /// Why it is gone.
    pub why: Gone,
    /// Who deleted it; its saver where nobody did.
    pub by: UserName,
    /// When.
    pub deleted_at: Timestamp,
    /// Until when it can be restored.
    pub until: Timestamp,
}

/// Content that no tag names and nobody can restore: it goes from the registry, unless a container needs it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leaving {
    /// Its project.
    pub project: ProjectName,
    /// The tag that named it last.
    pub image: ImageRef,
    /// The manifest.
    pub digest: Digest,
    /// Bytes of all its blobs.
    pub size_bytes: u64,
    /// Who saved it.
    pub user: UserName,
    /// The job that removes it, once one was started.
    pub job: Option<JobId>,
}

impl PreviousDigest {
    /// What `image` names, from the moment on at which it names it no more.
    pub fn of(image: &Image, replaced_at: Timestamp, until: Timestamp) -> Self {
        Self {
            digest: image.digest.clone(),
            size_bytes: image.size_bytes,
            replaced_at,
            until: Some(until),
            saved: Some(Saved {
                created_by: image.created_by.clone(),
                saved_at: image.updated_at,
                storage_price: image.storage_price,
                layers: image.layers,
                source_container: image.source_container,
                job: image.job,
                base: image.base.clone(),
                reference: image.reference.clone(),
            }),
        }
    }

    /// Whether it can still be restored.
    pub fn is_restorable(&self, now: Timestamp) -> bool {
        self.until.is_none_or(|until| until > now)
    }
}

/// What a tag named before, newest first, once `newest` is added to it and the tag names `digest`; and what falls out at
/// the end, which nobody can restore any more.
pub fn set_aside(
    mut previous: Vec<PreviousDigest>,
    newest: Option<PreviousDigest>,
    digest: &Digest,
) -> (Vec<PreviousDigest>, Vec<PreviousDigest>) {
    // Each digest once: what is named again, or set aside again, is not what it was long ago as well.
    let newest = newest.filter(|newest| newest.digest != *digest);
    previous
        .retain(|p| p.digest != *digest && newest.as_ref().is_none_or(|newest| newest.digest != p.digest));
    previous.splice(0..0, newest);
    let fallen_out = previous.split_off(previous.len().min(PREVIOUS_MAX));
    (previous, fallen_out)
}

impl Image {
    /// The image with its tag back on `digest`, which it named before; what it names now can be restored until `until`.
    /// None where that digest cannot be restored.
    pub fn back_on(&self, digest: &Digest, now: Timestamp, until: Timestamp) -> Option<Self> {
        let target = self.previous.iter().find(|p| p.digest == *digest && p.is_restorable(now))?;
        let mut back = self.clone();
        (back.digest, back.size_bytes) = (target.digest.clone(), target.size_bytes);
        back.reference = self.reference.replace(self.digest.as_str(), target.digest.as_str());
        if let Some(saved) = target.saved.clone() {
            back.created_by = saved.created_by;
            back.storage_price = saved.storage_price;
            back.layers = saved.layers;
            back.source_container = saved.source_container;
            back.job = saved.job;
            back.base = saved.base;
            back.reference = saved.reference;
        }
        (back.updated_at, back.last_used_at) = (now, Some(now));
        // Nothing falls out: one of them is taken out before one is added.
        let newest = PreviousDigest::of(self, now, until);
        (back.previous, _) = set_aside(self.previous.clone(), Some(newest), &target.digest);
        Some(back)
    }

    /// What its tag named before last, where that can still be restored.
    pub fn last_previous(&self, now: Timestamp) -> Option<&PreviousDigest> {
        self.previous.iter().find(|p| p.is_restorable(now))
    }
}

impl DeletedImage {
    /// `image`, gone now, and restorable until `until`.
    pub fn new(image: Image, why: Gone, by: UserName, now: Timestamp, until: Timestamp) -> Self {
        Self { image, why, by, deleted_at: now, until }
    }

    /// Whether it can still be restored.
    pub fn is_restorable(&self, now: Timestamp) -> bool {
        self.until > now
    }

    /// The image as it was. Being brought back is a use: a policy that let it go for being unused begins anew.
    pub fn brought_back(&self, now: Timestamp) -> Image {
        Image { last_used_at: Some(now), ..self.image.clone() }
    }

    /// What the tag named before, once somebody saves `digest` under it; and what nobody can restore any more.
    pub fn overwritten(&self, digest: &Digest) -> (Vec<PreviousDigest>, Vec<PreviousDigest>) {
        let newest = PreviousDigest::of(&self.image, self.deleted_at, self.until);
        set_aside(self.image.previous.clone(), Some(newest), digest)
    }
}

#[cfg(test)]
mod tests;
