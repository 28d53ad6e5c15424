//! Projects, users and keys.

use crate::db::Order;
use crate::db::tx::Tx;
use crate::ops::transact;
use crate::{Page, Store, StoreError, keys};
use jiff::Timestamp;
use mothball_domain::exclude::Exclude;
use mothball_domain::name::{ProjectName, UserName};
use mothball_domain::people::{ApiKey, Project, Role, User};

/// Most keys of one user, and most projects of one.
const OF_USER_MAX: usize = 1000;

/// A key to be recorded: only the digest of its secret ever reaches the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyDraft {
    /// Public id.
    pub id: String,
    /// Whose it is.
    pub user: UserName,
    /// What it is for.
    pub label: String,
    /// When it stops to work.
    pub expires_at: Option<Timestamp>,
    /// SHA-256 of the secret, in hexadecimal.
    pub sha256: String,
}

impl Store {
    /// Makes a user. The one there is, and false, when the name is taken. Idempotent.
    pub async fn create_user(&self, name: &UserName, operator: bool) -> Result<(User, bool), StoreError> {
        transact!(self, |tx| create_user(tx, name, operator).await)
    }

    /// One user.
    pub async fn user(&self, name: &UserName) -> Result<Option<User>, StoreError> {
        Tx::new(&self.db).get(&keys::user(name)).await
    }

    /// Changes whether a user is an operator or disabled. None when there is no such user. Idempotent.
    pub async fn change_user(
        &self,
        name: &UserName,
        operator: Option<bool>,
        disabled: Option<bool>,
    ) -> Result<Option<User>, StoreError> {
        transact!(self, |tx| change_user(tx, name, operator, disabled).await)
    }

    /// A page of users by name.
    pub async fn users(&self, after: Option<&str>, limit: usize) -> Result<Page<User>, StoreError> {
        self.page(keys::USERS, "user", after, limit).await
    }

    /// Makes a project. The one there is, and false, when the name is taken. Idempotent.
    pub async fn create_project(&self, name: &ProjectName) -> Result<(Project, bool), StoreError> {
        transact!(self, |tx| create_project(tx, name).await)
    }

    /// One project.
    pub async fn project(&self, name: &ProjectName) -> Result<Option<Project>, StoreError> {
        Tx::new(&self.db).get(&keys::project(name)).await
    }

    /// A page of projects by name.
    pub async fn projects(&self, after: Option<&str>, limit: usize) -> Result<Page<Project>, StoreError> {
        self.page(keys::PROJECTS, "project", after, limit).await
    }

    /// Projects that a user is a member of, by name.
    pub async fn projects_of(&self, user: &UserName) -> Result<Vec<Project>, StoreError> {
        let index = keys::projects_of_user(user);
        Ok(self.page(&index, "project", None, OF_USER_MAX).await?.items)
    }

    /// Makes a user a member of a project, changes their role, or takes it away. None when there is no such project
    /// or user. Idempotent.
    pub async fn set_member(
        &self,
        project: &ProjectName,
        user: &UserName,
        role: Option<Role>,
    ) -> Result<Option<Project>, StoreError> {
        transact!(self, |tx| set_member(tx, project, user, role).await)
    }

    /// Changes a project's quota; `None` means no limit. None when there is no such project. Idempotent.
    pub async fn set_quota(
        &self,
        project: &ProjectName,
        bytes: Option<u64>,
        images: Option<u32>,
    ) -> Result<Option<Project>, StoreError> {
        transact!(self, |tx| set_quota(tx, project, bytes, images).await)
    }

    /// Changes what the saves of a project leave out. None when there is no such project. Idempotent.
    pub async fn set_excludes(
        &self,
        project: &ProjectName,
        excludes: &[Exclude],
    ) -> Result<Option<Project>, StoreError> {
        transact!(self, |tx| set_excludes(tx, project, excludes).await)
    }

    /// Records a key. Idempotent: the same secret again gives the key there is.
    pub async fn create_key(&self, draft: &KeyDraft) -> Result<ApiKey, StoreError> {
        transact!(self, |tx| create_key(tx, draft).await)
    }

    /// The key whose secret has this digest, if it still works by the store's clock.
    pub async fn key(&self, sha256: &str) -> Result<Option<ApiKey>, StoreError> {
        let mut tx = Tx::new(&self.db);
        let key: Option<ApiKey> = tx.get(&keys::key(sha256)).await?;
        let now = tx.now().await?;
        Ok(key.filter(|k| k.expires_at.is_none_or(|at| at > now)))
    }

    /// A user's keys, oldest first.
    pub async fn keys_of(&self, user: &UserName) -> Result<Vec<ApiKey>, StoreError> {
        let members = self.db.scan(&keys::keys_of_user(user), None, Order::Ascending, OF_USER_MAX).await?;
        let digests = members.iter().filter_map(|m| m.split_once(' '));
        let key_keys: Vec<String> = digests.map(|(_, sha256)| keys::key(sha256)).collect();
        let mut all: Vec<ApiKey> = Tx::new(&self.db).get_many(&key_keys).await?;
        all.sort_by(|a, b| (a.created_at, &a.id).cmp(&(b.created_at, &b.id)));
        Ok(all)
    }

    /// Takes a key away. False when the user has no such key. Idempotent.
    pub async fn revoke_key(&self, user: &UserName, id: &str) -> Result<bool, StoreError> {
        transact!(self, |tx| revoke_key(tx, user, id).await)
    }

    async fn page<T: serde::de::DeserializeOwned>(
        &self,
        index: &str,
        kind: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Page<T>, StoreError> {
        let (members, next) = self.leaf(index, after, Order::Ascending, limit).await?;
        let record_keys: Vec<String> = members.iter().map(|m| format!("{kind}:{m}")).collect();
        Ok(Page { items: Tx::new(&self.db).get_many(&record_keys).await?, next })
    }
}

async fn create_user(tx: &mut Tx<'_>, name: &UserName, operator: bool) -> Result<(User, bool), StoreError> {
    if let Some(user) = tx.get(&keys::user(name)).await? {
        return Ok((user, false));
    }
    let now = tx.now().await?;
    let user = User { name: name.clone(), operator, created_at: now, disabled: false };
    tx.put(&keys::user(name), &user)?;
    tx.add(keys::USERS, name.as_str(), 0);
    Ok((user, true))
}

async fn change_user(
    tx: &mut Tx<'_>,
    name: &UserName,
    operator: Option<bool>,
    disabled: Option<bool>,
) -> Result<Option<User>, StoreError> {
    let Some(mut user) = tx.get::<User>(&keys::user(name)).await? else { return Ok(None) };
    user.operator = operator.unwrap_or(user.operator);
    user.disabled = disabled.unwrap_or(user.disabled);
    tx.put(&keys::user(name), &user)?;
    Ok(Some(user))
}

async fn create_project(tx: &mut Tx<'_>, name: &ProjectName) -> Result<(Project, bool), StoreError> {
    if let Some(project) = tx.get(&keys::project(name)).await? {
        return Ok((project, false));
    }
    let now = tx.now().await?;
    let project = Project {
        name: name.clone(),
        members: std::collections::BTreeMap::new(),
        created_at: now,
        quota_bytes: None,
        quota_images: None,
        excludes: Vec::new(),
    };
    tx.put(&keys::project(name), &project)?;
    tx.add(keys::PROJECTS, name.as_str(), 0);
    Ok((project, true))
}

async fn set_member(
    tx: &mut Tx<'_>,
    project: &ProjectName,
    user: &UserName,
    role: Option<Role>,
) -> Result<Option<Project>, StoreError> {
    tx.load(&[keys::user(user), keys::project(project)]).await?;
    let known: Option<User> = tx.get(&keys::user(user)).await?;
    let Some(mut record) = tx.get::<Project>(&keys::project(project)).await?.filter(|_| known.is_some())
    else {
        return Ok(None);
    };
    let index = keys::projects_of_user(user);
    if let Some(role) = role {
        record.members.insert(user.clone(), role);
        tx.add(index, project.as_str(), 0);
    } else {
        record.members.remove(user);
        tx.remove(index, project.as_str());
    }
    tx.put(&keys::project(project), &record)?;
    Ok(Some(record))
}

async fn set_quota(
    tx: &mut Tx<'_>,
    project: &ProjectName,
    bytes: Option<u64>,
    images: Option<u32>,
) -> Result<Option<Project>, StoreError> {
    let Some(mut record) = tx.get::<Project>(&keys::project(project)).await? else { return Ok(None) };
    record.quota_bytes = bytes;
    record.quota_images = images;
    tx.put(&keys::project(project), &record)?;
    Ok(Some(record))
}

async fn set_excludes(
    tx: &mut Tx<'_>,
    project: &ProjectName,
    excludes: &[Exclude],
) -> Result<Option<Project>, StoreError> {
    let Some(mut record) = tx.get::<Project>(&keys::project(project)).await? else { return Ok(None) };
    record.excludes = excludes.to_vec();
    tx.put(&keys::project(project), &record)?;
    Ok(Some(record))
}

async fn create_key(tx: &mut Tx<'_>, draft: &KeyDraft) -> Result<ApiKey, StoreError> {
    if let Some(key) = tx.get(&keys::key(&draft.sha256)).await? {
        return Ok(key);
    }
    let now = tx.now().await?;
    let key = ApiKey {
        id: draft.id.clone(),
        user: draft.user.clone(),
        label: draft.label.clone(),
        created_at: now,
        expires_at: draft.expires_at,
        sha256: draft.sha256.clone(),
    };
    tx.put(&keys::key(&draft.sha256), &key)?;
    tx.add(keys::keys_of_user(&draft.user), format!("{} {}", draft.id, draft.sha256), 0);
    Ok(key)
}

async fn revoke_key(tx: &mut Tx<'_>, user: &UserName, id: &str) -> Result<bool, StoreError> {
    let index = keys::keys_of_user(user);
    let members = tx.scan(&index, OF_USER_MAX).await?;
    let found = members.iter().filter_map(|m| m.split_once(' ')).find(|(key, _)| *key == id);
    let Some((_, sha256)) = found else { return Ok(false) };
    tx.delete(&keys::key(sha256));
    tx.remove(index, format!("{id} {sha256}"));
    Ok(true)
}
