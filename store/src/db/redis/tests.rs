//! What Redis and the network do to the adapter.

use super::*;
use anyhow::{Context, Result, ensure};
use mothball_harness::redis::Redis as Server;
use mothball_harness::wait::eventually;
use tokio::task::JoinSet;

const SOON: Duration = Duration::from_secs(20);

fn adapter(url: &str) -> Result<Redis> {
    let settings = RedisSettings { timeout: Duration::from_secs(2), ..RedisSettings::new(url.into()) };
    Ok(Redis::new(settings)?)
}

fn put(key: &str, text: &str) -> Changes {
    Changes { puts: vec![(key.to_owned(), text.to_owned(), None)], ..Changes::default() }
}

async fn text(db: &Redis, key: &str) -> Result<Option<String>, StoreError> {
    let found = db.read(vec![key.to_owned()]).await?;
    Ok(found.records.into_iter().next().and_then(|(_, text)| text))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_forgot_the_scripts_is_told_them_again() -> Result<()> {
    let server = Server::start().await?;
    let db = adapter(&server.url())?;
    for round in ["1", "2"] {
        ensure!(db.commit(put("a", round)).await?);
        server.cli(&["SCRIPT", "FLUSH"]).await?;
        ensure!(text(&db, "a").await?.as_deref() == Some(round));
        server.cli(&["SCRIPT", "FLUSH"]).await?;
        ensure!(db.due("nothing", 1).await?.is_empty());
        server.cli(&["SCRIPT", "FLUSH"]).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn reads_survive_a_lost_connection_and_commits_say_that_they_do_not_know() -> Result<()> {
    let server = Server::start().await?;
    let db = adapter(&server.url())?;
    ensure!(db.commit(put("a", "0")).await?);
    for round in 1..=20 {
        server.cli(&["CLIENT", "KILL", "TYPE", "normal"]).await?;
        if round % 2 == 0 {
            text(&db, "a").await.context("a read right after the loss")?;
        }
        let outcome = db.commit(put("a", &round.to_string())).await;
        ensure!(matches!(outcome, Ok(true) | Err(StoreError::Unavailable(_))), "{outcome:?}");
        let again = eventually(SOON, "a commit after the loss", async || {
            db.commit(put("b", &round.to_string())).await.ok()
        });
        ensure!(again.await?);
        let found = text(&db, "a").await?;
        // One that was reported as done is done.
        ensure!(outcome.is_err() || found == Some(round.to_string()), "{found:?} after {outcome:?}");
    }
    Ok(())
}

/// Every commit that was acknowledged is there after a `kill -9` in the middle of many, and none is there in part.
#[tokio::test(flavor = "multi_thread")]
async fn a_killed_server_keeps_what_it_acknowledged() -> Result<()> {
    let mut server = Server::start().await?;
    let db = adapter(&server.url())?;
    let mut writers = JoinSet::new();
    for writer in 0..8 {
        let db = db.clone();
        writers.spawn(async move {
            let mut acknowledged = Vec::new();
            for i in 0.. {
                let key = format!("{writer}-{i}");
                let mut pair = put(&key, "1");
                pair.puts.push((format!("{key}-twin"), "1".to_owned(), None));
                pair.adds.push(("all".to_owned(), key.clone(), 0));
                match db.commit(pair).await {
                    Ok(true) => acknowledged.push(key),
                    _ => break,
                }
            }
            acknowledged
        });
    }
    eventually(SOON, "many commits", async || {
        (db.count(&["all".to_owned()]).await.ok()? >= vec![400]).then_some(())
    })
    .await?;
    server.kill9();
    let acknowledged: Vec<String> = writers.join_all().await.into_iter().flatten().collect();
    ensure!(acknowledged.len() > 300, "only {}", acknowledged.len());
    server.start_again().await?;

    let all =
        eventually(SOON, "the store", async || db.scan("all", None, Order::Ascending, 1_000_000).await.ok());
    let all = all.await?;
    let lost: Vec<&String> = acknowledged.iter().filter(|key| !all.contains(key)).collect();
    ensure!(lost.is_empty(), "{} acknowledged commits are lost", lost.len());
    let keys = all.iter().flat_map(|key| [key.clone(), format!("{key}-twin")]).collect();
    let found = db.read(keys).await?.records;
    ensure!(found.iter().all(|(_, text)| text.is_some()), "a commit was kept in part");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_is_said_and_not_shown() -> Result<()> {
    let server = Server::start().await?;
    server.cli(&["CONFIG", "SET", "requirepass", "correct-horse"]).await?;
    let wrong = adapter(&format!("redis://:hunter2@{}/0", server.address()))?;
    let none = adapter(&server.url())?;
    for (db, word) in [(&wrong, "refused"), (&none, "wants a password")] {
        let error = db.commit(put("a", "1")).await.err().context("it was let in")?;
        let shown = format!("{error} {error:?} {db:?}");
        ensure!(shown.contains(word) && !shown.contains("hunter2"), "{shown}");
    }
    let right = adapter(&format!("redis://:correct-horse@{}/0", server.address()))?;
    ensure!(right.commit(put("a", "1")).await?);
    let bad = adapter("not-redis://:hunter2@nowhere").err().context("a URL that is none")?;
    ensure!(!format!("{bad} {bad:?}").contains("hunter2"));
    let settings = RedisSettings::new("redis://:hunter2@host/0".into());
    ensure!(!format!("{settings:?}").contains("hunter2"));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_refused_us_once_is_asked_again() -> Result<()> {
    let server = Server::start().await?;
    let db = adapter(&server.url())?;
    ensure!(db.commit(put("a", "1")).await?);
    server.cli(&["CONFIG", "SET", "requirepass", "pw"]).await?;
    server.cli(&["-a", "pw", "CLIENT", "KILL", "TYPE", "normal"]).await?;
    eventually(SOON, "the refusal", async || db.commit(put("a", "2")).await.err().map(drop)).await?;
    eventually(SOON, "a refusal that says why", async || {
        let error = db.commit(put("a", "2")).await.err()?.to_string();
        error.contains("password").then_some(())
    })
    .await?;
    server.cli(&["-a", "pw", "CONFIG", "SET", "requirepass", ""]).await?;
    eventually(SOON, "the way back in", async || db.commit(put("a", "3")).await.ok()).await?;
    ensure!(text(&db, "a").await?.as_deref() == Some("3"));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_wait_has_an_end() -> Result<()> {
    let mut server = Server::start().await?;
    let limit = Duration::from_secs(5);
    let settings =
        RedisSettings { timeout: Duration::from_millis(300), ..RedisSettings::new(server.url().into()) };
    let db = Redis::new(settings)?;
    ensure!(db.commit(put("a", "1")).await?);
    server.pause();
    let outcome = tokio::time::timeout(limit, db.commit(put("a", "2"))).await.context("frozen: no end")?;
    ensure!(matches!(outcome, Err(StoreError::Unavailable(_))), "{outcome:?}");
    server.resume();
    eventually(SOON, "the thawed server", async || db.commit(put("a", "3")).await.ok()).await?;

    server.kill9();
    let mut callers = JoinSet::new();
    for _ in 0..50 {
        let db = db.clone();
        callers.spawn(async move { text(&db, "a").await });
    }
    let outcomes = tokio::time::timeout(limit, callers.join_all()).await.context("killed: no end")?;
    ensure!(outcomes.iter().all(|o| matches!(o, Err(StoreError::Unavailable(_)))));
    server.start_again().await?;
    let back = eventually(SOON, "the restarted server", async || text(&db, "a").await.ok()).await?;
    ensure!(back.as_deref() == Some("3"));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_operator_should_change_is_said() -> Result<()> {
    let server = Server::start().await?;
    let db = adapter(&server.url())?;
    ensure!(db.advice().await?.is_empty(), "{:?}", db.advice().await?);
    server.cli(&["CONFIG", "SET", "appendonly", "no"]).await?;
    server.cli(&["CONFIG", "SET", "maxmemory-policy", "allkeys-lru"]).await?;
    let advice = db.advice().await?.join("\n");
    ensure!(advice.contains("appendonly yes") && advice.contains("noeviction"), "{advice}");
    server.cli(&["ACL", "SETUSER", "tenant", "on", ">pw", "~*", "+@all", "-config"]).await?;
    let tenant = adapter(&format!("redis://tenant:pw@{}/0", server.address()))?;
    ensure!(tenant.commit(put("a", "1")).await?);
    ensure!(tenant.advice().await?.len() == 3, "a server that hides its settings is no error");
    Ok(())
}
