//! Promises about records and commits.

use crate::StoreError;
use crate::db::contract::given::{changes, record, text};
use crate::db::tx::Tx;
use crate::db::{Changes, Db};
use anyhow::{Context, Result, ensure};
use mothball_harness::wait::eventually;
use std::collections::BTreeSet;
use std::time::Duration;
use tokio::task::JoinSet;

pub(in crate::db::contract) async fn what_is_not_there_has_revision_zero(db: &Db) -> Result<()> {
    ensure!(record(db, "nothing").await? == (0, None));
    ensure!(db.read(Vec::new()).await?.records.is_empty());
    Ok(())
}

pub(in crate::db::contract) async fn what_is_committed_is_read_back(db: &Db) -> Result<()> {
    ensure!(db.commit(changes().put("a", "1").put("b", "2")).await?);
    let found = db.read(["b", "none", "a"].map(str::to_owned).to_vec()).await?.records;
    let texts: Vec<Option<&str>> = found.iter().map(|(_, text)| text.as_deref()).collect();
    ensure!(texts == [Some("2"), None, Some("1")], "{texts:?}");
    ensure!(db.commit(changes().delete("a")).await?);
    ensure!(record(db, "a").await? == (0, None));
    Ok(())
}

pub(in crate::db::contract) async fn odd_names_and_texts_are_kept(db: &Db) -> Result<()> {
    let odd = [
        "",
        " ",
        "a:b:{c}",
        "容器:標籤",
        "line\nbreak",
        "nul\0inside",
        "*",
        "'; drop table record; --",
        "\u{10FFFF}",
    ];
    for key in odd {
        ensure!(db.commit(changes().put(key, key)).await?);
    }
    for key in odd {
        ensure!(text(db, key).await?.as_deref() == Some(key), "{key:?}");
    }
    Ok(())
}

pub(in crate::db::contract) async fn large_records_are_kept(db: &Db) -> Result<()> {
    let large = "標".repeat(2 << 20);
    ensure!(db.commit(changes().put("large", &large).put("small", "s")).await?);
    ensure!(text(db, "large").await? == Some(large));
    Ok(())
}

pub(in crate::db::contract) async fn a_stale_revision_changes_nothing_at_all(db: &Db) -> Result<()> {
    db.commit(changes().put("a", "1").put("gone", "x").add("i", "old", 0)).await?;
    let (stale, _) = record(db, "a").await?;
    ensure!(db.commit(changes().check("a", stale).put("a", "2")).await?);
    let late = changes().check("a", stale).put("a", "3").put("b", "3").delete("gone");
    let late = late.add("i", "new", 0).shift("i", "old", 9).remove("i", "old");
    ensure!(!db.commit(late).await?, "a commit on a stale revision was accepted");
    ensure!(text(db, "a").await?.as_deref() == Some("2"));
    ensure!(text(db, "b").await?.is_none() && text(db, "gone").await?.is_some());
    let left = db.scan("i", None, crate::db::Order::Ascending, 9).await?;
    ensure!(left == ["old"], "{left:?}");
    // The second check fails as well as the first.
    let (revision, _) = record(db, "a").await?;
    ensure!(!db.commit(changes().check("a", revision).check("gone", revision + 1000).put("a", "4")).await?);
    Ok(())
}

pub(in crate::db::contract) async fn a_record_that_must_not_be_there_is_refused(db: &Db) -> Result<()> {
    ensure!(db.commit(changes().check("a", 0).put("a", "1")).await?);
    ensure!(!db.commit(changes().check("a", 0).put("a", "2")).await?);
    ensure!(text(db, "a").await?.as_deref() == Some("1"));
    Ok(())
}

pub(in crate::db::contract) async fn a_record_made_anew_is_not_mistaken_for_the_old_one(
    db: &Db,
) -> Result<()> {
    db.commit(changes().put("a", "same")).await?;
    let (old, _) = record(db, "a").await?;
    db.commit(changes().delete("a")).await?;
    db.commit(changes().put("a", "same")).await?;
    let (new, _) = record(db, "a").await?;
    ensure!(new > old, "{new} after {old}");
    ensure!(!db.commit(changes().check("a", old).put("a", "late")).await?);
    Ok(())
}

pub(in crate::db::contract) async fn a_commit_takes_five_hundred_records(db: &Db) -> Result<()> {
    let keys: Vec<String> = (0..500).map(|i| format!("k{i}")).collect();
    let many = keys.iter().fold(changes(), |c, key| c.check(key, 0).put(key, key).add("many", key, 0));
    ensure!(db.commit(many).await?);
    let found = db.read(keys.clone()).await?.records;
    ensure!(found.iter().zip(&keys).all(|((_, text), key)| text.as_ref() == Some(key)));
    let revisions: BTreeSet<u64> = found.iter().map(|(revision, _)| *revision).collect();
    ensure!(revisions.len() == 500, "revisions repeat");
    ensure!(db.count(&["many".to_owned()]).await? == [500]);
    Ok(())
}

pub(in crate::db::contract) async fn of_many_commits_on_one_revision_one_holds(db: &Db) -> Result<()> {
    db.commit(changes().put("a", "start")).await?;
    let (revision, _) = record(db, "a").await?;
    let mut racers = JoinSet::new();
    for i in 0..64 {
        let db = db.clone();
        let mine = changes().check("a", revision).put("a", &i.to_string()).add("winners", &i.to_string(), 0);
        racers.spawn(async move { db.commit(mine).await });
    }
    let held = racers.join_all().await.into_iter().collect::<Result<Vec<bool>, _>>()?;
    ensure!(held.iter().filter(|held| **held).count() == 1, "{held:?}");
    let winners = db.scan("winners", None, crate::db::Order::Ascending, 99).await?;
    ensure!(text(db, "a").await?.as_deref() == winners.first().map(String::as_str) && winners.len() == 1);
    Ok(())
}

fn limited(key: &str, text: &str, ttl_ms: u64) -> Changes {
    let puts = vec![(key.to_owned(), text.to_owned(), Some(Duration::from_millis(ttl_ms)))];
    Changes { puts, ..Changes::default() }
}

async fn ended(db: &Db, key: &str) -> Result<()> {
    let limit = Duration::from_secs(10);
    eventually(limit, "the end of a limited record", async || {
        text(db, key).await.ok()?.is_none().then_some(())
    })
    .await
}

pub(in crate::db::contract) async fn a_limited_record_ends_and_counts_as_changed(db: &Db) -> Result<()> {
    db.commit(limited("long", "l", 3_600_000)).await?;
    db.commit(limited("short", "s", 1500)).await?;
    let (revision, found) = record(db, "short").await?;
    ensure!(found.as_deref() == Some("s"), "it ended at once");
    ended(db, "short").await?;
    ensure!(
        !db.commit(changes().check("short", revision).put("x", "1")).await?,
        "an ended record still counts"
    );
    ensure!(db.commit(changes().check("short", 0).put("short", "anew")).await?);
    ensure!(text(db, "short").await?.as_deref() == Some("anew"));
    ensure!(text(db, "long").await?.as_deref() == Some("l"));
    // A limit of nothing at all is not "for ever".
    db.commit(limited("none", "n", 0)).await?;
    ended(db, "none").await
}

pub(in crate::db::contract) async fn a_record_written_without_a_limit_stays(db: &Db) -> Result<()> {
    db.commit(limited("a", "1", 150)).await?;
    db.commit(limited("mark", "1", 150)).await?;
    ensure!(db.commit(changes().put("a", "2")).await?);
    ended(db, "mark").await?;
    ensure!(text(db, "a").await?.as_deref() == Some("2"));
    Ok(())
}

pub(in crate::db::contract) async fn a_record_that_cannot_be_read_is_named_but_not_shown(
    db: &Db,
) -> Result<()> {
    db.commit(changes().put("job:x", "\"hunter2\"").put("job:y", "{\"a\": hunter2")).await?;
    for key in ["job:x", "job:y"] {
        let error = Tx::new(db).get::<u64>(key).await.err().context("it was read")?;
        ensure!(matches!(error, StoreError::Corrupt(_)));
        let shown = format!("{error} {error:?}");
        ensure!(shown.contains(key) && !shown.contains("hunter2"), "{shown}");
    }
    Ok(())
}

pub(in crate::db::contract) async fn time_goes_on(db: &Db) -> Result<()> {
    let first = db.read(Vec::new()).await?.now;
    let off_ms = jiff::Timestamp::now().as_millisecond() - first.as_millisecond();
    ensure!(off_ms.abs() < 10_000, "off by {off_ms} ms on one machine");
    let mut last = first;
    for _ in 0..50 {
        let now = db.read(vec!["a".to_owned()]).await?.now;
        ensure!(now >= last);
        last = now;
    }
    ensure!(last > first);
    Ok(())
}
