//! `/v1/schedules`: made, seen, changed, looked ahead, and refused.

use crate::world::World;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

fn park(container: &Value) -> Value {
    json!({"container": container, "action": "park", "cron": "0 20 * * 1-5", "timezone": "Asia/Taipei"})
}

/// A world with `box`, and ann's schedule that parks it.
async fn world() -> (World, Value) {
    let world = World::new().await;
    world.ready("ann", "box").await;
    let made = world.post("ann", "/v1/schedules", park(&json!("box"))).await.is(201);
    assert!(made.header("location").ends_with(made.json()["id"].as_str().unwrap()));
    let made = made.json();
    (world, made)
}

fn path(schedule: &Value, rest: &str) -> String {
    format!("/v1/schedules/{}{rest}", schedule["id"].as_str().unwrap())
}

fn at(value: &Value) -> Timestamp {
    value.as_str().unwrap_or_else(|| panic!("{value} is no time")).parse().unwrap()
}

#[tokio::test]
async fn a_schedule_is_made_shown_listed_changed_and_removed() {
    let (world, made) = Box::pin(world()).await;
    for (field, value) in [
        ("container", json!(1)),
        ("container_name", json!("box")),
        ("action", json!("park")),
        ("cron", json!("0 20 * * 1-5")),
        ("timezone", json!("Asia/Taipei")),
        ("enabled", json!(true)),
        ("skip_next", json!(false)),
        ("last_job", Value::Null),
        ("missed", json!("run_once")),
        ("patience_seconds", json!(3600)),
        ("user", json!("ann")),
        ("project", json!("default")),
    ] {
        assert_eq!(made[field], value, "{field}: {made:#}");
    }
    assert_eq!(at(&made["next_at"]).strftime("%H:%M:%S").to_string(), "12:00:00");
    let keyed = [("idempotency-key", "once")];
    let body = json!({"all_containers": true, "action": "save", "cron": "@weekly"});
    let once =
        async || world.call_with("ann", "POST", "/v1/schedules?project=default", body.clone(), &keyed).await;
    let first = once().await.is(201).json();
    assert_eq!(once().await.is(201).json(), first);
    let other = json!({"all_containers": true, "action": "save", "cron": "@daily"});
    let other = world.call_with("ann", "POST", "/v1/schedules?project=default", other, &keyed).await;
    other.refused(422, "idempotency_conflict");
    world.call("ann", "DELETE", &path(&first, ""), Value::Null).await.is(204);
    // What is shown can be sent: by number as well.
    let twin = world.post("ann", "/v1/schedules", park(&made["container"])).await.is(201).json();
    for user in ["ann", "bob", "boss", "admin"] {
        assert_eq!(world.get(user, &path(&made, "")).await.is(200).json(), made);
    }
    let listed = world.get("bob", "/v1/schedules?container=1&limit=1").await.is(200).json();
    assert_eq!(listed["items"], json!([made]));
    let rest = format!("/v1/schedules?cursor={}", listed["next_cursor"].as_str().unwrap());
    assert_eq!(world.get("bob", &rest).await.is(200).json()["items"], json!([twin]));
    assert_eq!(world.get("ann", "/v1/schedules?action=wake").await.is(200).json()["items"], json!([]));

    let patch =
        json!({"cron": "30 6 * * *", "timezone": "europe/berlin", "missed": "skip", "tag": "nightly"});
    let changed = world.call("ann", "PATCH", &path(&made, ""), patch).await.is(200).json();
    assert_eq!(
        (&changed["timezone"], &changed["missed"], &changed["tag"]),
        (&json!("Europe/Berlin"), &json!("skip"), &json!("nightly"))
    );
    assert_ne!(changed["next_at"], made["next_at"]);
    let back = world.call("ann", "PATCH", &path(&made, ""), json!({"tag": null})).await.is(200).json();
    assert_eq!((&back["tag"], &back["next_at"]), (&Value::Null, &changed["next_at"]));
    let off = world.call("boss", "PATCH", &path(&made, ""), json!({"enabled": false})).await.is(200).json();
    assert_eq!((&off["enabled"], &off["next_at"]), (&json!(false), &Value::Null));

    world.call("ann", "DELETE", &path(&made, ""), Value::Null).await.is(204);
    world.get("ann", &path(&made, "")).await.refused(404, "not_found");
    world.call("ann", "DELETE", &path(&made, ""), Value::Null).await.refused(404, "not_found");
    let trail = world.get("boss", "/v1/audit").await.is(200).text;
    for action in ["schedule.create", "schedule.change", "schedule.remove"] {
        assert!(trail.contains(action), "{action}: {trail}");
    }
}

#[tokio::test]
async fn who_may_see_and_change_a_schedule() {
    let (world, made) = Box::pin(world()).await;
    world.get("eve", &path(&made, "")).await.refused(404, "not_found");
    world.get("", &path(&made, "")).await.refused(401, "unauthenticated");
    for (method, rest, body) in [
        ("PATCH", "", json!({"enabled": false})),
        ("DELETE", "", Value::Null),
        ("POST", "/skip", json!({})),
        ("POST", "/postpone", json!({"until": null})),
    ] {
        world.call("bob", method, &path(&made, rest), body.clone()).await.refused(403, "forbidden");
        world.call("eve", method, &path(&made, rest), body).await.refused(404, "not_found");
    }
    // Nobody schedules what they may not change.
    world.post("bob", "/v1/schedules", park(&json!("box"))).await.refused(403, "forbidden");
    world.post("eve", "/v1/schedules", park(&json!(1))).await.refused(404, "not_found");
    world.post("boss", "/v1/schedules", park(&json!("box"))).await.is(201);
    let all = json!({"all_containers": true, "action": "park", "cron": "0 20 * * *"});
    assert_eq!(world.post("bob", "/v1/schedules", all).await.is(201).json()["all_containers"], true);
}

#[tokio::test]
async fn what_cannot_be_is_refused_with_the_field_and_a_hint() {
    let (world, made) = Box::pin(world()).await;
    let good = park(&json!("box"));
    for (change, field, hint) in [
        (json!({"cron": "0 20 * *"}), "cron", "minute, hour"),
        (json!({"cron": "* * * * * *"}), "cron", "minute, hour"),
        (json!({"cron": "0 0 30 2 *"}), "cron", "schedules next"),
        (json!({"cron": "61 * * * *"}), "cron", "minute, hour"),
        (json!({"timezone": "Taipei"}), "timezone", "Asia/Taipei"),
        (json!({"timezone": "+08:00"}), "timezone", "IANA"),
        (json!({"labels": {"a": "b"}}), "container", ""),
        (json!({"container": null}), "container", ""),
        (json!({"container": null, "labels": {}}), "labels", "all_containers"),
        (json!({"container": null, "labels": {"A": "b"}}), "labels", ""),
        (json!({"container": null, "all_containers": true, "tag": "x"}), "tag", ""),
        (json!({"tag": "_mothball-x"}), "tag", ""),
        (json!({"flavor": "cpu-small"}), "flavor", ""),
        (json!({"patience_seconds": 86_401}), "patience_seconds", ""),
        (json!({"action": "save", "discard_volumes": true}), "discard_volumes", ""),
        (json!({"action": "explode"}), "action", ""),
        (json!({"missed": "twice"}), "missed", ""),
        (json!({"container": 1.5}), "container", ""),
        (json!({"description": "x".repeat(1001)}), "description", ""),
    ] {
        let mut body = good.clone();
        body.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        let problem = world.post("ann", "/v1/schedules", body).await.refused(422, "invalid");
        assert_eq!(problem["field"], field, "{change}: {problem}");
        assert!(problem["hint"].as_str().unwrap_or_default().contains(hint), "{change}: {problem}");
    }
    let mut unknown = good.clone();
    unknown["action"] = json!("wake");
    unknown["flavor"] = json!("huge");
    world.post("ann", "/v1/schedules", unknown).await.refused(422, "unknown_flavor");
    let mut taken = good.clone();
    taken["tag"] = json!("latest");
    world.post("ann", "/v1/schedules", taken).await.refused(409, "catalog_name");
    let mut gone = good;
    gone["container"] = json!("nothing");
    world.post("ann", "/v1/schedules", gone).await.refused(404, "not_found");
    // A change is held to the same rules.
    let patch = json!({"action": "wake", "tag": "x"});
    let problem = world.call("ann", "PATCH", &path(&made, ""), patch).await.refused(422, "invalid");
    assert_eq!(problem["field"], "tag");
    assert_eq!(world.get("ann", &path(&made, "")).await.is(200).json(), made);
}

#[tokio::test]
async fn the_next_runs_are_shown_left_out_and_moved() {
    let (world, made) = Box::pin(world()).await;
    let ahead = async |rest: &str| world.get("bob", rest).await.is(200).json()["items"].clone();
    let next = ahead(&path(&made, "/next")).await;
    assert_eq!(next.as_array().unwrap().len(), 10);
    assert_eq!(next[0]["at"], made["next_at"]);
    assert!(next[0]["local"].as_str().unwrap().ends_with("20:00:00 +08:00"), "{next:#}");
    assert_eq!((&next[0]["about"], &next[0]["action"]), (&json!("box"), &json!("park")));

    let skipped = world.post("ann", &path(&made, "/skip"), Value::Null).await.is(200).json();
    assert_eq!((&skipped["skip_next"], &skipped["next_at"]), (&json!(true), &made["next_at"]));
    assert_eq!(ahead(&path(&made, "/next?count=2")).await[0], next[1]);
    let kept = world.post("ann", &path(&made, "/skip"), json!({"skip": false})).await.is(200).json();
    assert_eq!(kept["skip_next"], false);

    let planned = at(&made["next_at"]);
    let later = planned + SignedDuration::from_mins(90);
    let postpone =
        async |until: Value| world.post("ann", &path(&made, "/postpone"), json!({"until": until})).await;
    let moved = postpone(json!(later)).await.is(200).json();
    assert_eq!((at(&moved["next_at"]), at(&moved["postponed_from"])), (later, planned));
    assert_eq!(at(&ahead(&path(&made, "/next")).await[0]["at"]), later);
    for wrong in [planned, at(&next[1]["at"])] {
        assert_eq!(postpone(json!(wrong)).await.refused(422, "invalid")["field"], "until");
    }
    assert_eq!(at(&postpone(Value::Null).await.is(200).json()["next_at"]), planned);

    // Of all schedules together, soonest first.
    let hourly = json!({"container": "box", "action": "save", "cron": "@hourly"});
    world.post("ann", "/v1/schedules", hourly).await.is(201);
    let all = ahead("/v1/schedules/next?count=30").await;
    let times: Vec<Timestamp> = all.as_array().unwrap().iter().map(|run| at(&run["at"])).collect();
    assert!(times.len() == 30 && times.is_sorted(), "{all:#}");
    world.get("ann", "/v1/schedules/next?count=0").await.refused(422, "invalid");

    world.call("ann", "PATCH", &path(&made, ""), json!({"enabled": false})).await.is(200);
    world.post("ann", &path(&made, "/skip"), Value::Null).await.refused(409, "not_now");
    assert_eq!(ahead(&path(&made, "/next")).await, json!([]));
}

#[tokio::test]
async fn a_pattern_is_previewed_without_a_schedule() {
    let world = World::new().await;
    let asked = "/v1/schedules/preview?cron=30%202%20*%20*%20*&timezone=Europe/Berlin&count=3";
    let preview = world.get("ann", asked).await.is(200).json();
    assert_eq!((&preview["cron"], &preview["timezone"]), (&json!("30 2 * * *"), &json!("Europe/Berlin")));
    assert_eq!(preview["next"].as_array().unwrap().len(), 3);
    assert!(preview["local"][0].as_str().unwrap().contains(" 0"), "{preview}");
    for (query, field) in [("", "cron"), ("?cron=@daily&timezone=Mars", "timezone")] {
        let problem =
            world.get("ann", &format!("/v1/schedules/preview{query}")).await.refused(422, "invalid");
        assert_eq!(problem["field"], field);
    }
}
