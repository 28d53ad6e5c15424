//! A private Redis keeps through a kill what it answered.

use std::time::Instant;

use anyhow::Result;
use mothball_harness::redis::Redis;

#[tokio::test]
async fn survives_a_kill() -> Result<()> {
    let begin = Instant::now();
    let mut redis = Redis::start().await?;
    println!("redis started in {:?}", begin.elapsed());
    assert_ne!(redis.fresh(), redis.fresh());
    redis.cli(&["set", "answer", "42"]).await?;
    redis.kill9();
    assert!(redis.cli(&["get", "answer"]).await.is_err());
    redis.start_again().await?;
    assert_eq!(redis.cli(&["get", "answer"]).await?, "42");
    redis.stop().await?;
    redis.start_again().await?;
    assert_eq!(redis.cli(&["get", "answer"]).await?, "42");
    Ok(())
}
