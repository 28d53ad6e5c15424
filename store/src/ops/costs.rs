//! The ledger: what containers have cost, and what parking them has saved.

use crate::db::Order;
use crate::db::tx::Tx;
use crate::ops::{after, records, transact};
use crate::{Store, StoreError, keys};
use jiff::Timestamp;
use mothball_domain::billing::{Sheet, Usage};
use mothball_domain::container::{Container, ContainerState};
use mothball_domain::id::ContainerId;
use mothball_domain::name::{ProjectName, UserName};
use std::time::Duration;

/// Which sheets of the ledger are wanted.
#[derive(Debug, Clone)]
pub struct LedgerQuery {
    /// Only of this project.
    pub project: Option<ProjectName>,
    /// Only of this user.
    pub user: Option<UserName>,
    /// Only those that do not end before this time.
    pub since: Timestamp,
}

/// Sheets of the ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ledger {
    /// The store's clock: until then what lasts is counted.
    pub now: Timestamp,
    /// The sheets.
    pub sheets: Vec<Sheet>,
}

/// Sheets read in one step. A month of a thousand containers takes one or two.
const BATCH: usize = 2000;
/// Most sheets of one report: money is refused rather than cut short.
const SHEETS_MAX: usize = 500_000;

impl Store {
    /// The sheets of the ledger that hold anything since a time, in one pass: the index once, each sheet once. Reads
    /// only. Sheets that change meanwhile are seen as they were or as they are.
    pub async fn ledger(&self, query: &LedgerQuery) -> Result<Ledger, StoreError> {
        let index = query.project.as_ref().map_or_else(|| keys::LEDGER.to_owned(), keys::ledger_of_project);
        let members = self.db.since(&index, query.since.as_millisecond(), SHEETS_MAX + 1).await?;
        if members.len() > SHEETS_MAX {
            return Err(StoreError::TooMuch(format!("more than {SHEETS_MAX} sheets of the ledger")));
        }
        let mut ledger = Ledger { now: Timestamp::UNIX_EPOCH, sheets: Vec::with_capacity(members.len()) };
        for batch in members.chunks(BATCH) {
            let mut tx = Tx::new(&self.db);
            let sheet_keys: Vec<String> = batch.iter().map(|member| keys::sheet(member)).collect();
            let found: Vec<Sheet> = tx.get_many(&sheet_keys).await?;
            ledger
                .sheets
                .extend(found.into_iter().filter(|s| query.user.as_ref().is_none_or(|u| s.user == *u)));
            ledger.now = tx.now().await?;
        }
        if members.is_empty() {
            ledger.now = self.now().await?;
        }
        Ok(ledger)
    }

    /// What the deleted containers of a project have come to, since ever.
    pub async fn used_by_deleted(&self, project: &ProjectName) -> Result<Usage, StoreError> {
        Ok(Tx::new(&self.db).get(&keys::used_by_deleted(project)).await?.unwrap_or_default())
    }

    /// Brings containers of before there was a ledger into it, and says how many. Idempotent; does nothing once it has
    /// been done.
    pub async fn begin_ledger(&self) -> Result<usize, StoreError> {
        if Tx::new(&self.db).get::<bool>(keys::LEDGER_BEGUN).await?.is_some() {
            return Ok(0);
        }
        let (mut brought, mut after) = (0, None);
        loop {
            let members =
                self.db.scan(keys::CONTAINERS_ALL, after.as_deref(), Order::Ascending, BATCH).await?;
            for id in members.iter().filter_map(|m| m.parse().ok()).map(ContainerId) {
                let new: Result<bool, StoreError> = transact!(self, |tx| bring(tx, id).await);
                brought += usize::from(new?);
            }
            after = members.last().cloned();
            if members.len() < BATCH {
                break;
            }
        }
        let begun: Result<(), StoreError> =
            transact!(self, |tx| async { tx.put(keys::LEDGER_BEGUN, &true) }.await);
        begun.map(|()| brought)
    }

    /// Removes up to `limit` sheets whose last line ended longer than `older_than` ago, and says how many. Idempotent.
    pub async fn purge_ledger(&self, older_than: Duration, limit: usize) -> Result<usize, StoreError> {
        let mut removed = 0;
        for member in self.db.due(keys::LEDGER, limit).await? {
            let was_removed: Result<bool, StoreError> =
                transact!(self, |tx| purge_sheet(tx, &member, older_than).await);
            if !was_removed? {
                // They come oldest first: the rest is younger.
                break;
            }
            removed += 1;
        }
        Ok(removed)
    }

    /// Removes up to `limit` records of containers that were deleted longer than `older_than` ago, and says how many:
    /// the ledger keeps what they have cost. Idempotent.
    pub async fn purge_containers(&self, older_than: Duration, limit: usize) -> Result<usize, StoreError> {
        let mut removed = 0;
        let gone = self.db.due(keys::CONTAINERS_GONE, limit).await?;
        for id in gone.iter().filter_map(|m| m.parse().ok()).map(ContainerId) {
            let was_removed: Result<bool, StoreError> =
                transact!(self, |tx| purge_container(tx, id, older_than).await);
            if !was_removed? {
                break;
            }
            removed += 1;
        }
        Ok(removed)
    }
}

/// Brings one container into the ledger, and says whether it was not there.
async fn bring(tx: &mut Tx<'_>, id: ContainerId) -> Result<bool, StoreError> {
    let Some(before) = records::container(tx, id).await? else { return Ok(false) };
    let mut container = before.clone();
    container.fix_rates();
    let sheets: Vec<(u32, Sheet)> = container.sheets().collect();
    let mut missing = 0;
    for (number, sheet) in &sheets {
        if tx.get::<Sheet>(&keys::sheet(&keys::sheet_member(id, *number))).await?.is_none() {
            records::put_sheet(tx, *number, sheet)?;
            missing += 1;
        }
    }
    if container.is_gone() {
        let now = tx.now().await?;
        tx.add(keys::CONTAINERS_GONE, keys::container_member(id), now.as_millisecond());
        // Where none was written before, its deletion was not counted either.
        if missing == sheets.len() {
            records::note_used(tx, &container).await?;
        }
    }
    if container != before {
        tx.put(&keys::container(id), &container)?;
    }
    Ok(missing > 0)
}

async fn purge_sheet(tx: &mut Tx<'_>, member: &str, older_than: Duration) -> Result<bool, StoreError> {
    let Some(sheet) = tx.get::<Sheet>(&keys::sheet(member)).await? else {
        tx.remove(keys::LEDGER, member);
        return Ok(true);
    };
    let now = tx.now().await?;
    let old = sheet.ended_at().is_some_and(|at| after(at, older_than) < now);
    if old {
        tx.remove(keys::LEDGER, member);
        tx.remove(keys::ledger_of_project(&sheet.project), member);
        tx.delete(&keys::sheet(member));
    }
    Ok(old)
}

async fn purge_container(tx: &mut Tx<'_>, id: ContainerId, older_than: Duration) -> Result<bool, StoreError> {
    let member = keys::container_member(id);
    let Some(container) = records::container(tx, id).await?.filter(Container::is_gone) else {
        tx.remove(keys::CONTAINERS_GONE, member);
        return Ok(true);
    };
    let now = tx.now().await?;
    let last = container.metered.last().and_then(|stretch| stretch.to).unwrap_or(container.created_at);
    let old = after(last, older_than) < now;
    if old {
        tx.remove(keys::CONTAINERS_GONE, &member);
        tx.remove(keys::CONTAINERS_ALL, &member);
        tx.remove(keys::containers_in_state(ContainerState::Deleted), &member);
        tx.delete(&keys::container(id));
    }
    Ok(old)
}
