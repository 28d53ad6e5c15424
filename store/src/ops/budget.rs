//! What a project has spent of its budget, and that its admins are told once of each mark it reaches.

use crate::db::tx::Tx;
use crate::ops::notices::tell;
use crate::ops::transact;
use crate::{LedgerQuery, Store, StoreError, keys};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use mothball_domain::billing::{Cut, Span, Usage, report};
use mothball_domain::name::ProjectName;
use mothball_domain::notice::News;
use mothball_domain::policy::ParkPolicy;
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};

/// What a project has cost in a calendar month (UTC) so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spent {
    /// When the month began.
    pub since: Timestamp,
    /// How much, in the platform's currency.
    pub amount: Decimal,
}

/// The mark that a project's admins were told of last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Told {
    /// The beginning of the month.
    month: Timestamp,
    /// The budget: with another, the marks are others.
    budget: Decimal,
    mark: u8,
}

impl Store {
    /// What a project's containers have cost since the first of this month, UTC.
    pub async fn spent_this_month(&self, project: &ProjectName) -> Result<Spent, StoreError> {
        let since = month_of(self.now().await?);
        let query = LedgerQuery { project: Some(project.clone()), user: None, since };
        let ledger = self.ledger(&query).await?;
        let span = Span { from: since, to: ledger.now };
        let rows = report(&ledger.sheets, span, ledger.now, &Cut::default());
        Ok(Spent { since, amount: rows.into_values().sum::<Usage>().cost() })
    }

    /// Has the project's admins told of the highest mark of its budget that was reached, once for each mark of a month,
    /// and says which it was. Atomic; the second time it does nothing.
    pub async fn tell_budget(&self, project: &ProjectName, spent: Spent) -> Result<Option<u8>, StoreError> {
        transact!(self, |tx| tell_budget(tx, project, spent).await)
    }
}

fn month_of(now: Timestamp) -> Timestamp {
    let first = now.to_zoned(TimeZone::UTC).first_of_month().and_then(|day| day.start_of_day());
    first.map_or(Timestamp::UNIX_EPOCH, |day| day.timestamp())
}

async fn tell_budget(tx: &mut Tx<'_>, project: &ProjectName, spent: Spent) -> Result<Option<u8>, StoreError> {
    let policy: ParkPolicy = tx.get(&keys::park_policy(project)).await?.unwrap_or_default();
    let (Some(budget), Some(mark)) = (policy.budget_per_month, policy.budget_mark(spent.amount)) else {
        return Ok(None);
    };
    // A month may have begun since it was added up: the old one's sum says nothing of it.
    if month_of(tx.now().await?) != spent.since {
        return Ok(None);
    }
    let key = keys::budget_told(project);
    let told: Option<Told> = tx.get(&key).await?;
    if told.is_some_and(|t| t.month == spent.since && t.budget == budget && t.mark >= mark) {
        return Ok(None);
    }
    tx.put(&key, &Told { month: spent.since, budget, mark })?;
    tell(tx, project, None, News::Budget { mark, spent: spent.amount, budget }).await?;
    Ok(Some(mark))
}
