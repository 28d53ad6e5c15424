//! The image engine: OCI types and the registry client.
//!
//! | room | what is in it |
//! |---|---|
//! | [`oci`] | manifests, indexes, descriptors, image configs; unknown fields are kept |
//! | [`save`] | a container's writable layer becomes layer blobs in a registry |
//! | [`scrub`] | the config of a saved image: the base image's own, without what the launcher put in |
//! | [`base_note`] | what a saved image says of its base, in its manifest's annotations |
//! | [`settings`] | where the registry is and as whom it is used |
//! | [`error`] | what a registry can answer, and what it means for a job |
//! | [`client`] | the registry: one HTTP call with credentials, limits and retries |
//! | [`manifest`] | read, write, tag, delete manifests |
//! | [`blob`] | read blobs, and small ones written in one piece |
//! | [`upload`] | blobs written in chunks, resumed, mounted across repositories |
//! | [`verify`] | the proof that an image can be read back |
//! | [`layer`] | a writable layer as trees, entries and indexes: the words of the direct engine |
//! | [`restore`] | an image brought into a container that was created from its base, without a pull |
//! | [`survey`] | a look at a container's files before a save: sizes, secrets, caches, packages in mounts |
//! | `list` | tags and repositories, page by page |
//! | `auth`, `answer` | credentials and tokens; what a refusal says |

pub mod base_note;
pub mod blob;
pub mod client;
pub mod error;
pub mod layer;
pub mod manifest;
pub mod oci;
pub mod restore;
pub mod save;
pub mod scrub;
pub mod settings;
pub mod survey;
pub mod upload;
pub mod verify;

mod answer;
mod auth;
mod list;

pub use base_note::BaseNote;
pub use blob::BlobReader;
pub use client::Registry;
pub use error::RegistryError;
pub use manifest::{Deletion, Untag};
pub use oci::{ContainerConfig, Descriptor, ImageConfig, ImageManifest, Manifest};
pub use restore::{
    RestoreError, RestorePlan, RestoreProgress, RestoreReport, RestoreSettings, Restored, restore,
};
pub use scrub::{COMMIT_COMMENT, ScrubRules, same_settings, scrub_config};
pub use settings::{Credentials, DockerAuth, RegistrySettings};
pub use upload::{Mount, Upload, UploadLog};
pub use verify::Proof;
