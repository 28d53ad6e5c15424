//! The same key and body are the same job; the same key with another body is refused.

use crate::world::World;
use serde_json::{Value, json};

#[tokio::test]
async fn the_same_key_and_body_are_the_same_job_whatever_has_become_of_it() {
    let world = World::new().await;
    let key = [("idempotency-key", "k1")];
    let body = json!({"name": "box", "image": "base", "flavor": "cpu-small"});
    let launch = |body: Value| world.call_with("ann", "POST", "/v1/containers", body, &key);
    let first = launch(body.clone()).await.is(202).job();
    // Written otherwise, meant alike.
    let same = json!({"flavor": "cpu-small", "env": {}, "image": "base", "name": "box", "ports": []});
    assert_eq!(launch(same).await.is(202).job().id, first.id);
    world.succeed(first.id).await;
    let again = launch(body.clone()).await.is(202).job();
    assert_eq!((again.id, again.state.as_str()), (first.id, "succeeded"));
    let other = json!({"name": "box2", "image": "base", "flavor": "cpu-small"});
    let problem = launch(other).await.refused(422, "idempotency_conflict");
    assert_eq!(problem["job"], first.id.to_string());
    // Another call is another request, and another user's key is another key.
    world
        .call_with("ann", "POST", "/v1/containers/box/stop", Value::Null, &key)
        .await
        .refused(422, "idempotency_conflict");
    world
        .call_with(
            "bob",
            "POST",
            "/v1/containers",
            json!({"name": "bobs", "image": "base", "flavor": "cpu-small"}),
            &key,
        )
        .await
        .is(202);
    assert_eq!(world.get("ann", "/v1/jobs").await.json()["items"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_save_that_deleted_its_container_is_still_found_by_its_key() {
    let world = World::new().await;
    world.ready("ann", "box").await;
    let key = [("idempotency-key", "save-1")];
    let body = json!({"tag": "v1", "then": "delete"});
    let save = || world.call_with("ann", "POST", "/v1/containers/box/snapshots", body.clone(), &key);
    let first = save().await.is(202).job();
    world.succeed(first.id).await;
    world.get("ann", "/v1/containers/box").await.refused(404, "not_found");
    assert_eq!(save().await.is(202).job().id, first.id);
}

#[tokio::test]
async fn every_call_that_starts_a_job_takes_a_key() {
    let world = World::new().await;
    world.ready("ann", "box").await;
    for (i, path) in ["stop", "start", "park", "wake"].iter().enumerate() {
        let path = format!("/v1/containers/box/{path}");
        let key = format!("k{i}");
        let headers = [("idempotency-key", key.as_str())];
        let first = world.call_with("ann", "POST", &path, Value::Null, &headers).await.is(202).job();
        world.succeed(first.id).await;
        let again = world.call_with("ann", "POST", &path, Value::Null, &headers).await.is(202).job();
        assert_eq!(again.id, first.id, "{path}");
    }
}

#[tokio::test]
async fn keys_keep_their_bounds() {
    let world = World::new().await;
    let body = json!({"name": "box", "image": "base", "flavor": "cpu-small"});
    for bad in ["", &"x".repeat(256), "ké"] {
        let headers = [("idempotency-key", bad)];
        world
            .call_with("ann", "POST", "/v1/containers", body.clone(), &headers)
            .await
            .refused(422, "invalid");
    }
}
