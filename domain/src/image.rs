//! Images: how they are named, and what is recorded of them.

use crate::id::{ContainerId, JobId};
use crate::name::{HIDDEN_TAG_PREFIX, ImageName, NameError, ProjectName, Tag, UserName};
use jiff::Timestamp;
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// `name:tag` inside a project, as users write it. The name is the base image's, the tag the user's.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ImageRef {
    /// The base image's name.
    pub name: ImageName,
    /// The tag of the user's choice.
    pub tag: Tag,
}

/// Why a text is not `name:tag`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ImageRefError {
    /// There is no tag.
    #[error("image {0:?} has no tag: write NAME:TAG, as in \"tensorrt-19.08-py3:dup1\"")]
    NoTag(String),
    /// Name or tag breaks its rule.
    #[error(transparent)]
    Name(#[from] NameError),
}

impl FromStr for ImageRef {
    type Err = ImageRefError;

    fn from_str(text: &str) -> Result<Self, ImageRefError> {
        let (name, tag) =
            text.rsplit_once(':').ok_or_else(|| ImageRefError::NoTag(text.chars().take(64).collect()))?;
        Ok(Self { name: ImageName::new(name)?, tag: Tag::new(tag)? })
    }
}

impl TryFrom<String> for ImageRef {
    type Error = ImageRefError;
    fn try_from(text: String) -> Result<Self, ImageRefError> {
        text.parse()
    }
}

impl From<ImageRef> for String {
    fn from(image: ImageRef) -> String {
        image.to_string()
    }
}

impl fmt::Display for ImageRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.name, self.tag)
    }
}

/// A content digest, `sha256:` and 64 lower-case hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest(String);

/// Why a text is not a digest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("digest {0:?} is not valid: \"sha256:\" and 64 lower-case hexadecimal digits")]
pub struct DigestError(String);

impl Digest {
    /// Checks `text`.
    pub fn new(text: impl Into<String>) -> Result<Self, DigestError> {
        let text = text.into();
        let hex = text.strip_prefix("sha256:").unwrap_or_default();
        let good = hex.len() == 64 && hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        if good { Ok(Self(text)) } else { Err(DigestError(text.chars().take(96).collect())) }
    }

    /// The digest of these 32 bytes of SHA-256.
    pub fn from_sha256(bytes: [u8; 32]) -> Self {
        use fmt::Write;
        let mut text = String::with_capacity(71);
        text.push_str("sha256:");
        for byte in bytes {
            let _ = write!(text, "{byte:02x}");
        }
        Self(text)
    }

    /// The digest as text, with its `sha256:`.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The hexadecimal digits alone.
    pub fn hex(&self) -> &str {
        &self.0["sha256:".len()..]
    }
}

impl TryFrom<String> for Digest {
    type Error = DigestError;
    fn try_from(text: String) -> Result<Self, DigestError> {
        Self::new(text)
    }
}

impl FromStr for Digest {
    type Err = DigestError;
    fn from_str(text: &str) -> Result<Self, DigestError> {
        Self::new(text)
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> String {
        digest.0
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The tag of Mothball's own that keeps a digest alive in a registry whose garbage collection removes
/// untagged manifests.
pub fn hidden_tag(digest: &Digest) -> Tag {
    let text = format!("{HIDDEN_TAG_PREFIX}{}", &digest.hex()[..32]);
    Tag::new(text).unwrap_or_else(|_| unreachable!("a prefix of a tag's characters and hexadecimal digits"))
}

/// The repository of a project's images of one name, inside the registry. A project's name may end in '-' or hold '___',
/// which the OCI distribution specification does not allow in a path: such a name is written in hexadecimal, behind
/// a "p." that no project's name can begin with.
pub fn repository(project: &ProjectName, name: &ImageName) -> String {
    if ImageName::new(project.as_str()).is_ok() {
        return format!("{project}/{name}");
    }
    let mut path = "p.".to_owned();
    for byte in project.as_str().bytes() {
        let _ = fmt::Write::write_fmt(&mut path, format_args!("{byte:02x}"));
    }
    format!("{path}/{name}")
}

/// A custom image of a project, as the store keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Image {
    /// The project it belongs to; all its members may launch from it.
    pub project: ProjectName,
    /// `name:tag`.
    pub image: ImageRef,
    /// The manifest's digest in the registry, proven by a read-back.
    pub digest: Digest,
    /// Bytes of all its blobs in the registry.
    pub size_bytes: u64,
    /// What keeping a gigabyte of it for a month costs, as it was when it was saved.
    #[serde(default)]
    pub storage_price: Decimal,
    /// Number of layers.
    pub layers: u32,
    /// Who saved it (the last time, when overwritten).
    pub created_by: UserName,
    /// When this tag was first saved.
    pub created_at: Timestamp,
    /// When it was last saved or overwritten.
    pub updated_at: Timestamp,
    /// When a container was last launched from it.
    pub last_used_at: Option<Timestamp>,
    /// The container it was saved from.
    pub source_container: Option<ContainerId>,
    /// The job that saved it.
    pub job: JobId,
    /// The image that the source container was launched from, as the launcher named it.
    pub base: Option<String>,
    /// Whether clean-up must leave it alone.
    pub pinned: bool,
    /// What a plain `docker pull` takes: `HOST/PROJECT/NAME@DIGEST`.
    pub reference: String,
    /// Digests that this tag had before, newest first, kept for undo. At most [`PREVIOUS_MAX`].
    pub previous: Vec<PreviousDigest>,
}

/// Most overwritten digests remembered of one tag.
pub const PREVIOUS_MAX: usize = 10;

/// A digest that a tag had before it was overwritten.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PreviousDigest {
    /// The manifest that was overwritten.
    pub digest: Digest,
    /// Its size.
    pub size_bytes: u64,
    /// When it was overwritten.
    pub replaced_at: Timestamp,
    /// Until when it can be restored. None for one of a version that knew no end.
    #[serde(default)]
    pub until: Option<Timestamp>,
    /// What else was known of it. None for one of a version that did not keep that.
    #[serde(default)]
    pub saved: Option<Saved>,
}

/// What is known of one save, whatever its tag names by now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Saved {
    /// Who saved it.
    pub created_by: UserName,
    /// When.
    pub saved_at: Timestamp,
    /// What keeping a gigabyte of it for a month costs.
    pub storage_price: Decimal,
    /// Number of layers.
    pub layers: u32,
    /// The container it was saved from.
    pub source_container: Option<ContainerId>,
    /// The job that saved it.
    pub job: JobId,
    /// The image that the source container was launched from.
    pub base: Option<String>,
    /// What a plain `docker pull` takes.
    pub reference: String,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn references_are_name_colon_tag() {
        let image: ImageRef = "tensorrt-19.08-py3:dup1".parse().unwrap();
        assert_eq!((image.name.as_str(), image.tag.as_str()), ("tensorrt-19.08-py3", "dup1"));
        for bad in ["", "a", ":", "a:", ":b", "A:b", "a/b:c", "a:b:c", "a:b/c"] {
            assert!(bad.parse::<ImageRef>().is_err(), "{bad}");
        }
    }

    #[test]
    fn digests_are_checked() {
        let digest = Digest::from_sha256([0xab; 32]);
        assert_eq!(Digest::new(digest.as_str()), Ok(digest.clone()));
        assert_eq!(hidden_tag(&digest).as_str(), "_mothball-abababababababababababababababab");
        assert!(hidden_tag(&digest).is_hidden());
        for bad in ["", "sha256:", "sha256:AB", "md5:00", &"sha256:z".repeat(20)] {
            assert!(Digest::new(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn every_project_has_a_repository_that_the_registry_takes() {
        let repository =
            |project: &str| repository(&ProjectName::new(project).unwrap(), &ImageName::new("base").unwrap());
        assert_eq!(repository("lab"), "lab/base");
        assert_eq!(repository("a-"), "p.612d/base");
        assert_eq!(repository("a___b"), "p.615f5f5f62/base");
    }

    proptest! {
        #[test]
        fn no_text_panics(text in ".{0,200}") {
            let _ = (text.parse::<ImageRef>(), Digest::new(text));
        }

        #[test]
        fn what_is_written_is_read_back(name in "[a-z0-9]{1,20}", tag in "[A-Za-z0-9_][A-Za-z0-9._-]{0,30}") {
            let text = format!("{name}:{tag}");
            prop_assert_eq!(text.parse::<ImageRef>().unwrap().to_string(), text);
        }
    }
}
