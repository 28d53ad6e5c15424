//! What the calls take.

use super::schemas;
use jiff::Timestamp;
use mothball_domain::job::{PauseMode, Then};
use mothball_domain::people::Role;
use serde::{Deserialize, Deserializer, Serialize};
use std::collections::BTreeMap;
use utoipa::ToSchema;

/// Launches a container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LaunchRequest {
    /// Its name.
    #[schema(example = "my-box")]
    pub name: String,
    /// A custom image `name:tag` of the project, else a name of the catalogue.
    #[schema(example = "tensorrt-19.08-py3:dup1")]
    pub image: String,
    /// Its size.
    #[schema(example = "cpu-small")]
    pub flavor: String,
    /// Environment. Never part of a saved image.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// Targets of configured mounts; all of them when none is named.
    #[serde(default)]
    pub mounts: Vec<String>,
    /// TCP ports to publish.
    #[serde(default)]
    pub ports: Vec<u16>,
    /// Free text.
    #[serde(default)]
    pub description: String,
    /// Labels, by which schedules choose: at most 32.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// The project; see the parameter `project`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project: Option<String>,
}

/// Saves a container as an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SnapshotRequest {
    /// The image's tag; its name is the base image's.
    #[schema(example = "dup1")]
    pub tag: String,
    /// What happens to the container once the image is proven.
    #[serde(default)]
    #[schema(schema_with = schemas::then)]
    pub then: Then,
    /// When the container is frozen.
    #[serde(default)]
    #[schema(schema_with = schemas::pause)]
    pub pause: PauseMode,
    /// Only says what the save would mean.
    #[serde(default)]
    pub dry_run: bool,
    /// Whether data in anonymous volumes may be lost when the container is deleted.
    #[serde(default)]
    pub discard_volumes: bool,
    /// What is left out, as in `.gitignore`, with paths of the container: `/root/.cache`, `*.ckpt`. At most 64 patterns.
    #[serde(default)]
    #[schema(example = json!(["/root/.cache", "*.ckpt"]))]
    pub exclude: Vec<String>,
    /// Whether the project's own patterns are left out as well.
    #[serde(default = "yes")]
    #[schema(default = true)]
    pub default_excludes: bool,
}

impl Default for SnapshotRequest {
    fn default() -> Self {
        Self {
            tag: String::new(),
            then: Then::default(),
            pause: PauseMode::default(),
            dry_run: false,
            discard_volumes: false,
            exclude: Vec::new(),
            default_excludes: true,
        }
    }
}

/// Parks a container: save, verify, delete, ready to be woken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ParkRequest {
    /// The image's tag; `park-YYYYMMDD-HHMMSS` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tag: Option<String>,
    /// Whether data in anonymous volumes may be lost.
    #[serde(default)]
    pub discard_volumes: bool,
    /// What is left out, as for a save.
    #[serde(default)]
    pub exclude: Vec<String>,
    /// Whether the project's own patterns are left out as well.
    #[serde(default = "yes")]
    #[schema(default = true)]
    pub default_excludes: bool,
}

impl Default for ParkRequest {
    fn default() -> Self {
        Self { tag: None, discard_volumes: false, exclude: Vec::new(), default_excludes: true }
    }
}

/// Wakes a parked container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct WakeRequest {
    /// Another size than it had.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flavor: Option<String>,
}

/// Changes a container; absent fields stay as they are.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ContainerPatch {
    /// Whether deletion is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protected: Option<bool>,
    /// Free text, at most 1000 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// All of its labels: those that are not named here are taken away.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels: Option<BTreeMap<String, String>>,
    /// Until when policies and schedules leave it alone; null ends that.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Timestamp>)]
    pub keep_until: Option<Option<Timestamp>>,
}

/// Tells a field that is null from one that is absent.
#[expect(clippy::option_option, reason = "absent, null and given are three things")]
pub(super) fn given<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    from: D,
) -> Result<Option<Option<T>>, D::Error> {
    Option::<T>::deserialize(from).map(Some)
}

/// Takes a container that Mothball did not launch under its care.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AdoptRequest {
    /// Its Docker id, all 64 digits.
    pub docker_id: String,
    /// Its name from now on.
    pub name: String,
    /// Its owner.
    pub user: String,
    /// The project that pays.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project: Option<String>,
    /// Its size and price; the first flavor without GPUs when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flavor: Option<String>,
    /// The image it was made from, as Docker names it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// Indexes of the GPUs it holds.
    #[serde(default)]
    pub gpus: Vec<u32>,
}

/// Pins an image, or lets it go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PinRequest {
    /// Whether clean-up leaves it alone; true when absent.
    #[serde(default = "yes")]
    pub pinned: bool,
}

fn yes() -> bool {
    true
}

impl Default for PinRequest {
    fn default() -> Self {
        Self { pinned: true }
    }
}

/// Brings an image back; an empty one brings back an image that was deleted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RestoreRequest {
    /// Sets the tag back on what it named before it was last overwritten, whether its image was deleted or is there.
    #[serde(default)]
    pub previous: bool,
    /// Sets it back on this digest, which it named before.
    #[serde(default)]
    pub digest: Option<String>,
}

/// Makes a project.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ProjectRequest {
    /// Its name.
    pub name: String,
}

/// Changes a project; absent fields stay as they are.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ProjectPatch {
    /// Most bytes of images; null for no limit.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<u64>)]
    pub quota_bytes: Option<Option<u64>>,
    /// Most images; null for no limit.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<u32>)]
    pub quota_images: Option<Option<u32>>,
    /// What every save of its containers leaves out, as in `.gitignore`; an empty list for nothing (project admins).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub excludes: Option<Vec<String>>,
}

/// Gives a user a role in a project.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct MemberRequest {
    /// The role.
    #[schema(schema_with = schemas::role)]
    pub role: Role,
}

/// Makes a user.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UserRequest {
    /// The name.
    pub name: String,
    /// Whether they operate the platform.
    #[serde(default)]
    pub operator: bool,
    /// A project to make them a member of; a project's admin must name their own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project: Option<String>,
    /// Their role in it; `member` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(schema_with = schemas::role)]
    pub role: Option<Role>,
}

/// Changes a user; absent fields stay as they are.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UserPatch {
    /// Whether they operate the platform.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operator: Option<bool>,
    /// Whether their keys are refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disabled: Option<bool>,
}

/// Makes a key.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct KeyRequest {
    /// Whose; the caller's own when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// What it is for.
    #[serde(default)]
    pub label: String,
    /// When it stops to work; never when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
}
