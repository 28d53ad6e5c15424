//! Projects, users, roles and keys, and who may do what.

use crate::exclude::Exclude;
use crate::name::{ProjectName, UserName};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A user's role in one project.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Saves, launches from any image of the project, deletes own containers and images.
    Member,
    /// The same for all of the project's containers and images, and manages members.
    Admin,
}

/// A project: containers, images and the bill belong to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Project {
    /// Its name.
    pub name: ProjectName,
    /// Its members and their roles.
    pub members: BTreeMap<UserName, Role>,
    /// When it was made.
    pub created_at: Timestamp,
    /// Most bytes of images; none for no limit.
    #[serde(default)]
    pub quota_bytes: Option<u64>,
    /// Most images; none for no limit.
    #[serde(default)]
    pub quota_images: Option<u32>,
    /// What every save of its containers leaves out, unless the save says otherwise.
    #[serde(default)]
    pub excludes: Vec<Exclude>,
}

impl Project {
    /// What a save leaves out that asks for `own` as well: the project's patterns first, none twice.
    pub fn excludes_with(&self, own: &[Exclude]) -> Vec<Exclude> {
        let mut all: Vec<Exclude> = Vec::with_capacity(self.excludes.len() + own.len());
        for pattern in self.excludes.iter().chain(own) {
            if !all.contains(pattern) {
                all.push(pattern.clone());
            }
        }
        all
    }
}

/// A person or program that has keys.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// The name.
    pub name: UserName,
    /// Whether they operate the platform, and so may do everything everywhere.
    pub operator: bool,
    /// When they were made.
    pub created_at: Timestamp,
    /// Whether their keys are refused.
    #[serde(default)]
    pub disabled: bool,
}

/// An API key, without its secret: only the secret's SHA-256 is kept, as the record's name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiKey {
    /// Public id, to name the key when it is revoked.
    pub id: String,
    /// Whose it is.
    pub user: UserName,
    /// What it is for.
    pub label: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it stops to work.
    #[serde(default)]
    pub expires_at: Option<Timestamp>,
    /// SHA-256 of the secret, in hexadecimal.
    pub sha256: String,
}

/// Who calls, as far as one project is concerned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// The user.
    pub user: UserName,
    /// Whether they are an operator.
    pub operator: bool,
    /// Their role in the project; none for a stranger.
    pub role: Option<Role>,
}

/// What somebody wants to do inside a project.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action<'a> {
    /// See that the project and its things exist.
    See,
    /// Launch, save own things, use images.
    Use,
    /// Change or delete a thing that belongs to this user, or see its job.
    ChangeOwnedBy(&'a UserName),
    /// Manage members and quotas.
    Manage,
}

impl Caller {
    /// Whether the caller may do it. Product rule 14: any member saves, launches from any image of the
    /// project, and deletes own containers and images; admins all of the project's; operators everywhere.
    pub fn may(&self, action: &Action<'_>) -> bool {
        if self.operator || self.role == Some(Role::Admin) {
            return true;
        }
        match action {
            Action::See | Action::Use => self.role.is_some(),
            Action::ChangeOwnedBy(owner) => self.role.is_some() && **owner == self.user,
            Action::Manage => false,
        }
    }
}

/// One line of the audit trail.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditEntry {
    /// When.
    pub at: Timestamp,
    /// Who.
    pub user: UserName,
    /// In which project, where there is one.
    pub project: Option<ProjectName>,
    /// What was done: "container.launch", "key.revoke", …
    pub action: String,
    /// To what.
    pub subject: String,
    /// What came of it, or more about it. Never holds a secret.
    pub detail: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_save_leaves_out_what_the_project_and_it_say_once() {
        let patterns = |all: &[&str]| all.iter().map(|p| Exclude::new(*p).unwrap()).collect::<Vec<_>>();
        let old = r#"{"name": "p", "members": {}, "created_at": "1970-01-01T00:00:00Z"}"#;
        let mut project: Project = serde_json::from_str(old).unwrap();
        assert_eq!(project.excludes_with(&patterns(&["a"])), patterns(&["a"]));
        project.excludes = patterns(&["*.ckpt", "/tmp"]);
        assert_eq!(project.excludes_with(&patterns(&["b", "/tmp", "b"])), patterns(&["*.ckpt", "/tmp", "b"]));
    }

    #[test]
    fn who_may_do_what() {
        let user = |name: &str| UserName::new(name).unwrap();
        let caller = |operator, role| Caller { user: user("ann"), operator, role };
        let (own, other) = (user("ann"), user("bob"));
        let actions = [
            Action::See,
            Action::Use,
            Action::ChangeOwnedBy(&own),
            Action::ChangeOwnedBy(&other),
            Action::Manage,
        ];
        let table = [
            (caller(false, None), [false, false, false, false, false]),
            (caller(false, Some(Role::Member)), [true, true, true, false, false]),
            (caller(false, Some(Role::Admin)), [true; 5]),
            (caller(true, None), [true; 5]),
        ];
        for (caller, row) in table {
            for (action, may) in actions.iter().zip(row) {
                assert_eq!(caller.may(action), may, "{caller:?} {action:?}");
            }
        }
    }
}
