//! What both adapters promise: one function per clause, all of them in [`CLAUSES`]. A clause gets a store that nobody
//! has used before, and fails with a sentence.

mod clauses;
mod given;

use super::Db;
use super::embedded::Embedded;
use super::redis::{Redis, RedisSettings};
use crate::clock::Clock;
use anyhow::{Context, Result, ensure};
use std::pin::Pin;
use std::time::Duration;

/// The longest a clause may take.
const CLAUSE_LIMIT: Duration = Duration::from_secs(30);

struct Clause {
    name: &'static str,
    check: fn(Db) -> Checking,
}

type Checking = Pin<Box<dyn Future<Output = Result<()>>>>;

macro_rules! clauses {
    ($($module:ident :: $clause:ident),* $(,)?) => {
        [$(Clause {
            name: stringify!($clause),
            check: |db| Box::pin(async move { clauses::$module::$clause(&db).await }),
        }),*]
    };
}

const CLAUSES: [Clause; 22] = clauses![
    records::what_is_not_there_has_revision_zero,
    records::what_is_committed_is_read_back,
    records::odd_names_and_texts_are_kept,
    records::large_records_are_kept,
    records::a_stale_revision_changes_nothing_at_all,
    records::a_record_that_must_not_be_there_is_refused,
    records::a_record_made_anew_is_not_mistaken_for_the_old_one,
    records::a_commit_takes_five_hundred_records,
    records::of_many_commits_on_one_revision_one_holds,
    records::a_limited_record_ends_and_counts_as_changed,
    records::a_record_written_without_a_limit_stays,
    records::a_record_that_cannot_be_read_is_named_but_not_shown,
    records::time_goes_on,
    indexes::scans_go_in_the_order_of_bytes,
    indexes::pages_meet_every_member_once,
    indexes::a_cursor_works_though_its_member_is_gone,
    indexes::what_is_due_comes_most_overdue_first,
    indexes::what_is_since_a_score_comes_lowest_first,
    indexes::adding_again_moves,
    indexes::a_shift_moves_what_is_there_and_adds_nothing,
    indexes::removing_what_is_not_there_does_nothing,
    indexes::counts_come_in_order,
];

async fn check_all(adapter: &str, fresh: impl Fn(&Clause) -> Result<Db>) -> Result<()> {
    let mut broken = Vec::new();
    for clause in CLAUSES {
        let outcome = match fresh(&clause) {
            Ok(db) => tokio::time::timeout(CLAUSE_LIMIT, (clause.check)(db)).await,
            Err(error) => Ok(Err(error)),
        };
        if let Err(error) = outcome.context("takes too long").and_then(|outcome| outcome) {
            broken.push(format!("{} on {adapter}: {error:#}", clause.name));
        }
    }
    ensure!(broken.is_empty(), "{} clauses are broken:\n{}", broken.len(), broken.join("\n"));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_keeps_every_promise() -> Result<()> {
    let server = mothball_harness::redis::Redis::start().await?;
    let settings = |clause: &Clause| RedisSettings {
        prefix: clause.name.to_owned(),
        ..RedisSettings::new(server.url().into())
    };
    check_all("redis", |clause| Ok(Db::Redis(Redis::new(settings(clause))?))).await
}

#[tokio::test(flavor = "multi_thread")]
async fn embedded_keeps_every_promise() -> Result<()> {
    let folder = tempfile::tempdir()?;
    check_all("embedded", |clause| {
        Ok(Db::Embedded(Embedded::open(
            &folder.path().join(format!("{}.db", clause.name)),
            Clock::machine(),
        )?))
    })
    .await
}
