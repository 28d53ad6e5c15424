//! What users want to be told of by e-mail.

use crate::db::tx::Tx;
use crate::ops::transact;
use crate::{Store, StoreError, keys};
use mothball_domain::name::UserName;
use mothball_domain::notice::preferences::Preferences;

impl Store {
    /// A user's wishes; the usual ones where they have said nothing.
    pub async fn preferences(&self, user: &UserName) -> Result<Preferences, StoreError> {
        Ok(Tx::new(&self.db).get(&keys::preferences(user)).await?.unwrap_or_default())
    }

    /// Sets a user's wishes, as a whole. Idempotent.
    pub async fn set_preferences(&self, user: &UserName, wishes: &Preferences) -> Result<(), StoreError> {
        transact!(self, |tx| tx.put(&keys::preferences(user), wishes))
    }
}
