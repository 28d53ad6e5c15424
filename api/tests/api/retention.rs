//! Bringing images back, and policies that let them go.

use crate::world::World;
use serde_json::{Value, json};

async fn two_saves() -> World {
    let world = Box::pin(World::new()).await;
    let id = Box::pin(world.ready("ann", "box")).await;
    Box::pin(world.saved("ann", id, "v1")).await;
    Box::pin(world.saved("ann", id, "v1")).await;
    world
}

async fn deleted(world: &World, image: &str) {
    let job = world.call("ann", "DELETE", &format!("/v1/images/{image}"), Value::Null).await.is(202).job();
    world.succeed(job.id).await;
}

async fn unfinished(world: &World) -> mothball_domain::id::JobId {
    let list = world.get("ann", "/v1/jobs?state=queued").await.is(200).json();
    list["items"][0]["id"].as_str().unwrap().parse().unwrap()
}

#[tokio::test]
async fn a_deleted_image_is_listed_as_restorable_and_comes_back() {
    let world = Box::pin(two_saves()).await;
    let path = "/v1/images/base:v1";
    let before = world.get("ann", path).await.is(200).json();
    deleted(&world, "base:v1").await;
    world.get("ann", path).await.refused(404, "not_found");
    assert_eq!(world.get("ann", "/v1/images").await.is(200).json()["items"], json!([]));

    let list = world.get("bob", "/v1/images?restorable=true").await.is(200).json();
    let gone = &list["items"][0];
    assert_eq!((&gone["digest"], &gone["deleted_by"]), (&before["digest"], &json!("ann")), "{list}");
    assert_eq!(gone["deleted_because"], "deleted");
    assert!(gone["restorable_until"].as_str() > gone["deleted_at"].as_str(), "{gone}");
    assert_eq!(gone["previous"], before["previous"], "{gone}");

    let restore = format!("{path}/restore");
    world.post("bob", &restore, Value::Null).await.refused(403, "forbidden");
    world.post("eve", &format!("{restore}?project=default"), Value::Null).await.refused(404, "not_found");
    let back = world.post("ann", &restore, Value::Null).await.is(200).json();
    assert_eq!((&back["digest"], &back["created_at"]), (&before["digest"], &before["created_at"]));
    assert!(back.get("deleted_at").is_none() && back["last_used_at"].is_string(), "{back}");
    assert_eq!(world.get("ann", path).await.is(200).json()["digest"], before["digest"]);
    // The registry's tag follows by a job, which has the tag until then.
    let problem = world.call("ann", "DELETE", path, Value::Null).await.refused(409, "conflict");
    let job = unfinished(&world).await;
    assert_eq!(problem["job"], job.to_string());
    let shown = world.get("ann", &format!("/v1/jobs/{job}")).await.is(200).json();
    assert_eq!((&shown["kind"], &shown["digest"]), (&json!("restore_image"), &before["digest"]));
    world.succeed(job).await;
    let problem = world.post("ann", &restore, Value::Null).await.refused(409, "not_now");
    assert!(problem["hint"].as_str().unwrap().contains("--previous"), "{problem}");
    let trail = world.get("boss", "/v1/audit?project=default").await.is(200).json();
    assert_eq!(trail["items"][0]["action"], "image.restore", "{trail}");
}

#[tokio::test]
async fn what_was_overwritten_comes_back_once_for_each_key() {
    let world = Box::pin(two_saves()).await;
    let path = "/v1/images/base:v1";
    let now = world.get("ann", path).await.is(200).json();
    let before = now["previous"][0]["digest"].clone();
    assert!(now["previous"][0]["restorable_until"].is_string(), "{now}");
    let list = world.get("ann", "/v1/images?restorable=1").await.is(200).json();
    assert_eq!(list["items"][0]["previous"][0]["digest"], before, "{list}");

    let restore = format!("{path}/restore");
    let send = async |key: &str, body: Value| {
        world.call_with("ann", "POST", &restore, body, &[("idempotency-key", key)]).await
    };
    assert_eq!(send("k", json!({"previous": true})).await.is(200).json()["digest"], before);
    assert_eq!(send("k", json!({"previous": true})).await.is(200).json()["digest"], before);
    send("k", json!({"digest": before})).await.refused(422, "idempotency_conflict");
    world.succeed(unfinished(&world).await).await;
    assert_eq!(send("k", json!({"previous": true})).await.is(200).json()["digest"], before);
    assert_eq!(send("l", json!({"digest": now["digest"]})).await.is(200).json()["digest"], now["digest"]);
}

#[tokio::test]
async fn a_restore_that_cannot_be_is_refused_with_the_reason() {
    let world = Box::pin(two_saves()).await;
    let restore = "/v1/images/base:v1/restore";
    for (body, status, code) in [
        (json!({"previous": true, "digest": "sha256:00"}), 422, "invalid"),
        (json!({"digest": "sha256:00"}), 422, "invalid"),
        (json!({"digest": format!("sha256:{}", "0".repeat(64))}), 409, "not_now"),
        (json!({"before": true}), 422, "invalid"),
        (json!({}), 409, "not_now"),
    ] {
        world.post("ann", restore, body).await.refused(status, code);
    }
    for missing in ["base:v9", "base", ":"] {
        let path = format!("/v1/images/{missing}/restore");
        let problem = world.post("ann", &path, Value::Null).await.refused(404, "not_found");
        assert!(problem["hint"].as_str().unwrap().contains("restorable"), "{problem}");
    }
    deleted(&world, "base:v1").await;
    world.call("admin", "PATCH", "/v1/projects/default", json!({"quota_images": 0})).await.is(200);
    world.post("ann", restore, Value::Null).await.refused(409, "quota");
    world.get("ann", "/v1/images?restorable=maybe").await.refused(422, "invalid");
}

#[tokio::test]
async fn a_retention_policy_is_set_within_bounds_looked_ahead_and_switched_off() {
    let world = Box::pin(two_saves()).await;
    let id = world.get("ann", "/v1/containers/box").await.is(200).json()["id"].as_u64().unwrap();
    for tag in ["v2", "v3"] {
        world.saved("ann", mothball_domain::id::ContainerId(id), tag).await;
    }
    let path = "/v1/policies/default/retention";
    let nothing = json!({"keep_last": null, "unused_days": null});
    assert_eq!(world.get("bob", path).await.is(200).json(), nothing);
    for (body, field) in [
        (json!({"keep_last": 0}), "keep_last"),
        (json!({"unused_days": 6}), "unused_days"),
        (json!({"unused_days": 100_000}), "unused_days"),
    ] {
        assert_eq!(world.call("boss", "PUT", path, body).await.refused(422, "invalid")["field"], field);
    }
    world.call("boss", "PUT", path, json!({"keep": 1})).await.refused(422, "invalid");

    let told = |list: &Value| -> Vec<(String, String)> {
        let text = |v: &Value| v.as_str().unwrap().to_owned();
        list["items"].as_array().unwrap().iter().map(|f| (text(&f["image"]), text(&f["because"]))).collect()
    };
    let own = |pairs: &[(&str, &str)]| -> Vec<(String, String)> {
        pairs.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect()
    };
    let list = world.get("bob", &format!("{path}/preview")).await.is(200).json();
    let none = [("base:v1", "no_policy"), ("base:v2", "no_policy"), ("base:v3", "no_policy")];
    assert_eq!(told(&list), own(&none));
    let list = world.get("bob", &format!("{path}/preview?keep_last=1")).await.is(200).json();
    let goes = [("base:v1", "not_among_last"), ("base:v2", "not_among_last"), ("base:v3", "among_last")];
    assert_eq!(told(&list), own(&goes));
    let first = &list["items"][0];
    assert_eq!(
        (&first["goes"], &first["noticed"], &first["frees_bytes"]),
        (&json!(true), &json!(false), &json!(1234))
    );
    assert!(first["removal"]["remove_at"].as_str() > first["removal"]["noticed_at"].as_str(), "{first}");
    let page = world.get("bob", &format!("{path}/preview?keep_last=1&limit=2")).await.is(200).json();
    let cursor = page["next_cursor"].as_str().unwrap();
    let rest = world.get("bob", &format!("{path}/preview?keep_last=1&cursor={cursor}")).await.is(200).json();
    assert_eq!((told(&page).len(), told(&rest)), (2, own(&goes[2..])));
    for bad in ["keep_last=none", "keep_last=0", "unused_days=-1", "cursor=..", "limit=0"] {
        world.get("bob", &format!("{path}/preview?{bad}")).await.refused(422, "invalid");
    }

    let set = json!({"keep_last": 1, "unused_days": 30});
    assert_eq!(world.call("boss", "PUT", path, set.clone()).await.is(200).json(), set);
    let list = world.get("bob", &format!("{path}/preview")).await.is(200).json();
    assert_eq!(told(&list)[0].1, "used_lately", "{list}");
    assert_eq!(world.call("boss", "DELETE", path, Value::Null).await.is(200).json(), nothing);
    assert_eq!(world.get("bob", path).await.is(200).json(), nothing);
}
