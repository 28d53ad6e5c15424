//! A private Redis keeps what it answered through a kill, and leaves nothing behind.

use std::time::Instant;

use mothball_harness::redis::Redis;

#[tokio::test]
async fn survives_a_kill_and_leaves_nothing() {
    let begin = Instant::now();
    let mut redis = Redis::start().await.unwrap();
    println!("redis started in {:?}", begin.elapsed());
    assert_ne!(redis.fresh(), redis.fresh());
    redis.cli(&["set", "answer", "42"]).await.unwrap();
    redis.kill9();
    assert!(redis.cli(&["get", "answer"]).await.is_err());
    redis.start_again().await.unwrap();
    assert_eq!(redis.cli(&["get", "answer"]).await.unwrap(), "42");
    redis.stop().await.unwrap();
    redis.start_again().await.unwrap();
    assert_eq!(redis.cli(&["get", "answer"]).await.unwrap(), "42");
}
