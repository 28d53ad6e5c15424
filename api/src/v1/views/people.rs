//! Projects, users, keys and the audit trail as JSON.

use super::schemas;
use jiff::Timestamp;
use mothball_domain::people::Role;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use utoipa::ToSchema;

/// A project.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Project {
    /// Its name.
    pub name: String,
    /// Its members and their roles.
    #[schema(value_type = BTreeMap<String, String>)]
    pub members: BTreeMap<String, Role>,
    /// When it was made.
    pub created_at: Timestamp,
    /// Most bytes of images; null for no limit.
    pub quota_bytes: Option<u64>,
    /// Most images; null for no limit.
    pub quota_images: Option<u32>,
    /// What every save of its containers leaves out, unless the save declines it.
    #[serde(default)]
    pub excludes: Vec<String>,
    /// The caller's role in it; null for an operator who is no member.
    #[schema(schema_with = schemas::role)]
    pub role: Option<Role>,
}

/// A user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct User {
    /// The name.
    pub name: String,
    /// Whether they operate the platform.
    pub operator: bool,
    /// Whether their keys are refused.
    pub disabled: bool,
    /// When they were made.
    pub created_at: Timestamp,
    /// Their projects.
    pub projects: Vec<Membership>,
}

/// A user's place in a project.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Membership {
    /// The project.
    pub project: String,
    /// The role.
    #[schema(schema_with = schemas::role)]
    pub role: Role,
}

/// Who calls, and what they may choose from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Me {
    /// The user.
    pub user: String,
    /// Whether they operate the platform.
    pub operator: bool,
    /// Their projects.
    pub projects: Vec<Membership>,
    /// Where calls go that name no project; null when one must be named.
    pub default_project: Option<String>,
    /// The currency of all prices.
    pub currency: String,
    /// The server's version.
    pub version: String,
    /// Whom to ask for help.
    pub support_contact: Option<String>,
}

/// An API key without its secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Key {
    /// Public id.
    pub id: String,
    /// Whose it is.
    pub user: String,
    /// What it is for.
    pub label: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it stops to work.
    pub expires_at: Option<Timestamp>,
}

/// A key that was just made: the only time its secret is shown.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NewKey {
    /// Public id.
    pub id: String,
    /// The secret, 8-4-4-4-12 hexadecimal digits. It is not kept and cannot be shown again.
    pub key: String,
    /// Whose it is.
    pub user: String,
    /// What it is for.
    pub label: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it stops to work.
    pub expires_at: Option<Timestamp>,
}

/// The secret stays out of whatever prints this.
impl std::fmt::Debug for NewKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NewKey").field("id", &self.id).field("user", &self.user).finish_non_exhaustive()
    }
}

/// One line of the audit trail.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AuditEntry {
    /// When.
    pub at: Timestamp,
    /// Who.
    pub user: String,
    /// In which project, where there is one.
    pub project: Option<String>,
    /// What was done: `container.launch`, `key.revoke`, …
    pub action: String,
    /// To what.
    pub subject: String,
    /// More about it.
    pub detail: String,
}
