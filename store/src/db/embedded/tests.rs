//! What the file system and other processes do to the adapter.

use super::*;
use crate::HeldClock;
use anyhow::{Context, Result, ensure};
use mothball_harness::wait::eventually;
use std::process::{Command, Stdio};

/// SQLite's number for `synchronous = FULL`.
const FULL: i64 = 2;
const SOON: Duration = Duration::from_secs(20);

fn open(path: &Path) -> Result<Embedded, StoreError> {
    Embedded::open(path, Clock::machine())
}

fn put(key: &str, text: &str, ttl: Option<Duration>) -> Changes {
    Changes { puts: vec![(key.to_owned(), text.to_owned(), ttl)], ..Changes::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_file_is_for_its_user_alone() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("deep/er/store.db");
    let db = open(&path)?;
    ensure!(db.commit(put("a", "secret", None)).await?);
    drop(db);
    // One that somebody opened up is closed again, its log with it.
    std::fs::set_permissions(&path, Permissions::from_mode(0o644))?;
    let db = open(&path)?;
    ensure!(db.commit(put("a", "secret", None)).await?);
    let mut seen = Vec::new();
    for entry in std::fs::read_dir(path.parent().context("a parent")?)? {
        let entry = entry?;
        let mode = entry.metadata()?.permissions().mode() & 0o777;
        ensure!(mode == 0o600, "{:?} has {mode:o}", entry.file_name());
        seen.push(entry.file_name().into_string().unwrap_or_default());
    }
    seen.sort();
    ensure!(seen == ["store.db", "store.db-shm", "store.db-wal", "store.lock"], "{seen:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_commit_is_flushed_through_a_write_ahead_log() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let db = open(&folder.path().join("store.db"))?;
    let connection = db.inner.writer.lock().unwrap_or_else(PoisonError::into_inner);
    let mode: String = connection.pragma_query_value(None, "journal_mode", |row| row.get(0))?;
    let flush: i64 = connection.pragma_query_value(None, "synchronous", |row| row.get(0))?;
    ensure!((mode.as_str(), flush) == ("wal", FULL));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn one_handle_has_the_file_until_it_is_dropped() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("store.db");
    let db = open(&path)?;
    ensure!(db.commit(put("a", "1", None)).await?);
    let error = open(&path).err().context("it was opened twice")?;
    ensure!(matches!(error, StoreError::InUse(_)) && error.to_string().contains("store.db"), "{error}");
    let clone = db.clone();
    drop(db);
    ensure!(open(&path).is_err(), "a clone still has it");
    drop(clone);
    let db = open(&path)?;
    ensure!(db.read(vec!["a".to_owned()]).await?.records[0].1.as_deref() == Some("1"));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn another_process_keeps_us_out_while_it_lives() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("store.db");
    // `flock` takes the same lock as a second server would, until its input ends.
    let mut other = Command::new("flock")
        .arg(path.with_extension("lock"))
        .arg("cat")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .context("start flock: run `apt-get install util-linux`")?;
    eventually(SOON, "the other process's lock", async || {
        matches!(open(&path), Err(StoreError::InUse(_))).then_some(())
    })
    .await?;
    drop(other.stdin.take());
    other.wait()?;
    open(&path)?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_no_store_is_an_error_and_stays_as_it_is() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("store.db");
    let text = "this is a letter, not a database. ".repeat(100);
    std::fs::write(&path, &text)?;
    let error = open(&path).err().context("it was opened")?;
    ensure!(matches!(error, StoreError::Settings(_)), "{error}");
    ensure!(std::fs::read_to_string(&path)? == text);
    ensure!(open(folder.path()).is_err(), "a folder was opened");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_ended_leaves_the_file() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let db = open(&folder.path().join("store.db"))?;
    for i in 0..30 {
        db.commit(put(&format!("short{i}"), "x", Some(Duration::from_millis(1)))).await?;
    }
    eventually(SOON, "an empty file", async || {
        db.commit(put("tick", "x", None)).await.ok()?;
        let left =
            db.with_reader(|c| c.query_row("select count(*) from record", [], |row| row.get::<_, i64>(0)));
        (left.await.ok()? == 1).then_some(())
    })
    .await
}

/// Commits that wait together are flushed together, and each still sees what those before it did.
#[tokio::test(flavor = "multi_thread")]
async fn commits_that_wait_together_are_decided_one_after_the_other() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let db = open(&folder.path().join("store.db"))?;
    let mut crowd = tokio::task::JoinSet::new();
    {
        // While the writer is held, all of them gather behind it.
        let _busy = db.inner.writer.lock().unwrap_or_else(PoisonError::into_inner);
        for i in 0..40 {
            let db = db.clone();
            let mut mine = put(&format!("own{i}"), "x", None);
            if i % 2 == 0 {
                mine.checks.push(("shared".to_owned(), 0));
                mine.puts.push(("shared".to_owned(), i.to_string(), None));
            }
            crowd.spawn(async move { db.commit(mine).await.map(|applied| (i, applied)) });
        }
        let gathered = || db.inner.waiting.lock().unwrap_or_else(PoisonError::into_inner).len() == 40;
        while !gathered() {
            std::thread::yield_now();
        }
    }
    let mut applied = Vec::new();
    while let Some(outcome) = crowd.join_next().await {
        let (i, held) = outcome??;
        let own = db.read(vec![format!("own{i}")]).await?.records[0].1.is_some();
        ensure!(own == held, "{i} was told {held}");
        applied.push((i % 2 == 0, held));
    }
    let held = |sharing| applied.iter().filter(|(shares, held)| *shares == sharing && *held).count();
    ensure!((held(true), held(false)) == (1, 20), "{applied:?}");
    Ok(())
}

/// On one thread, without a runtime that could lend others.
#[tokio::test(flavor = "current_thread")]
async fn a_held_clock_alone_tells_the_time() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let start: Timestamp = "2026-01-01T00:00:00Z".parse()?;
    let clock = HeldClock::new(start);
    let db = Embedded::open(&folder.path().join("store.db"), Clock::Held(clock.clone()))?;
    ensure!(db.commit(put("a", "1", Some(Duration::from_hours(1)))).await?);
    let entry = ("later".to_owned(), "a".to_owned(), start.as_millisecond() + 60_000);
    ensure!(db.commit(Changes { adds: vec![entry], ..Changes::default() }).await?);
    let there =
        async |key: &str| Ok::<_, StoreError>(db.read(vec![key.to_owned()]).await?.records[0].1.is_some());
    for (seconds, due, kept) in [(59, 0, true), (60, 1, true), (3599, 1, true), (3600, 1, false)] {
        clock.move_to(start + Duration::from_secs(seconds));
        ensure!(db.read(Vec::new()).await?.now == start + Duration::from_secs(seconds));
        ensure!(db.due("later", 9).await?.len() == due && there("a").await? == kept, "after {seconds} s");
    }
    clock.move_to(start);
    ensure!(clock.now() == start + Duration::from_hours(1), "it ran back");
    Ok(())
}

/// Commits that are made at the same time are carried out in the order in which they were made.
#[tokio::test(flavor = "current_thread")]
async fn on_a_held_clock_calls_have_one_order() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let clock = Clock::Held(HeldClock::new(Timestamp::UNIX_EPOCH));
    let db = Embedded::open(&folder.path().join("store.db"), clock)?;
    let found = db.read(vec!["a".to_owned()]).await?.records[0].0;
    let change = |text: &str| Changes { checks: vec![("a".to_owned(), found)], ..put("a", text, None) };
    let made = futures_util::future::join_all(["1", "2", "3"].map(|text| db.commit(change(text)))).await;
    ensure!(made == [Ok(true), Ok(false), Ok(false)], "{made:?}");
    Ok(())
}
