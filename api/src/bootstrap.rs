//! The first user, project and key, without which nobody could make any.

use mothball_domain::name::{NameError, ProjectName, UserName};
use mothball_domain::people::Role;
use mothball_store::{KeyDraft, Store, StoreError};

/// Why the first records could not be made.
#[derive(Debug, thiserror::Error)]
pub enum BootstrapError {
    /// The store does not work.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A built-in name does not keep its own rule.
    #[error(transparent)]
    Name(#[from] NameError),
}

/// The operator that the admin key belongs to.
const ADMIN: &str = "admin";
/// The project of calls that name none.
pub(crate) const DEFAULT_PROJECT: &str = "default";

/// Sees to it that user `admin` is an operator and admin of project `default`, and that the key with this SHA-256
/// (hexadecimal) is theirs. Idempotent: every start of an API does it. Whoever sets the admin key owns the
/// machine, so an `admin` that was disabled works again after it.
pub async fn bootstrap(store: &Store, admin_key_sha256: &str) -> Result<(), BootstrapError> {
    let (admin, project) = (UserName::new(ADMIN)?, ProjectName::new(DEFAULT_PROJECT)?);
    let (user, _) = store.create_user(&admin, true).await?;
    if !user.operator || user.disabled {
        tracing::warn!(user = ADMIN, "made an enabled operator again, because its key is configured");
        store.change_user(&admin, Some(true), Some(false)).await?;
    }
    let (known, _) = store.create_project(&project).await?;
    if known.members.get(&admin) != Some(&Role::Admin) {
        store.set_member(&project, &admin, Some(Role::Admin)).await?;
    }
    if store.key(admin_key_sha256).await?.is_none_or(|key| key.user != admin) {
        let draft = KeyDraft {
            // Its digest names it: the same key configured again is the same record.
            id: format!("admin-{}", admin_key_sha256.get(..12).unwrap_or(admin_key_sha256)),
            user: admin,
            label: "the configured admin key".to_owned(),
            expires_at: None,
            sha256: admin_key_sha256.to_owned(),
        };
        store.create_key(&draft).await?;
    }
    Ok(())
}
