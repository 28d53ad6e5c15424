//! What is refused, and how: always a problem with its code.

use crate::world::{Answer, World};
use axum::body::Body;
use axum::http::Request;
use serde_json::{Value, json};

#[tokio::test]
async fn a_launch_checks_every_field() {
    let world = World::new().await;
    let good = json!({"name": "box", "image": "base", "flavor": "cpu-small"});
    let many: Vec<u32> = (1..=33).collect();
    let env: Value =
        (0..201).map(|i| (format!("A{i}"), json!("x"))).collect::<serde_json::Map<_, _>>().into();
    let table = [
        ("name", json!("A"), "invalid"),
        ("name", json!("../etc"), "invalid"),
        ("name", json!(7), "invalid"),
        ("name", Value::Null, "invalid"),
        ("image", json!("nope:1"), "unknown_image"),
        ("image", json!(""), "unknown_image"),
        ("image", json!("x".repeat(5000)), "unknown_image"),
        ("image", json!([]), "invalid"),
        ("flavor", json!("huge"), "unknown_flavor"),
        ("flavor", json!({}), "invalid"),
        ("env", json!({"NVIDIA_VISIBLE_DEVICES": "all"}), "invalid"),
        ("env", json!({"1A": "x"}), "invalid"),
        ("env", json!({"A": "x\0"}), "invalid"),
        ("env", json!({"A": "x".repeat(40_000)}), "invalid"),
        ("env", json!({"A": 1}), "invalid"),
        ("env", json!([]), "invalid"),
        ("env", env, "invalid"),
        ("mounts", json!(["/etc"]), "unknown_mount"),
        ("mounts", json!(["/mnt/home/default/ann"]), "unknown_mount"),
        ("mounts", json!("/home/ann"), "invalid"),
        ("ports", json!([0]), "invalid"),
        ("ports", json!([80, 80]), "invalid"),
        ("ports", json!([70_000]), "invalid"),
        ("ports", json!([-1]), "invalid"),
        ("ports", json!(many), "invalid"),
        ("description", json!("x".repeat(1001)), "invalid"),
        ("flavour", json!("cpu-small"), "invalid"),
    ];
    for (field, value, code) in table {
        let mut body = good.clone();
        body[field] = value;
        let problem = world.post("ann", "/v1/containers", body.clone()).await.refused(422, code);
        assert!(problem.to_string().len() < 2000, "{problem}");
        if field != "flavour" {
            assert!(problem["field"].as_str().is_some_and(|f| f.starts_with(field)), "{problem}");
        }
    }
    let problem = world
        .post("ann", "/v1/containers", json!({"name": "A", "image": "base", "flavor": "cpu-small"}))
        .await;
    assert!(problem.json()["detail"].as_str().unwrap().contains("a lower-case letter"), "the rule is stated");
    let problem =
        world.post("ann", "/v1/containers", json!({"name": "aa", "image": "x", "flavor": "cpu-small"})).await;
    assert!(problem.json()["hint"].as_str().unwrap().contains("help@example"), "the contact is named");
    for missing in ["name", "image", "flavor"] {
        let mut body = good.clone();
        body.as_object_mut().unwrap().remove(missing);
        let problem = world.post("ann", "/v1/containers", body).await.refused(422, "invalid");
        assert!(problem["detail"].as_str().unwrap().contains(missing));
    }
    world
        .post(
            "ann",
            "/v1/containers",
            json!({"name": "aa", "image": "base", "flavor": "cpu-small", "project": "other"}),
        )
        .await
        .refused(404, "not_found");
}

#[tokio::test]
async fn a_save_checks_every_field() {
    let world = World::new().await;
    world.ready("ann", "box").await;
    let table = [
        (json!({"tag": ""}), "invalid"),
        (json!({"tag": ".a"}), "invalid"),
        (json!({"tag": "a/b"}), "invalid"),
        (json!({"tag": "x".repeat(129)}), "invalid"),
        (json!({"tag": "_mothball-1"}), "invalid"),
        (json!({"tag": 1}), "invalid"),
        (json!({}), "invalid"),
        (json!({"tag": "a", "then": "burn"}), "invalid"),
        (json!({"tag": "a", "pause": true}), "invalid"),
        (json!({"tag": "a", "dry_run": "yes"}), "invalid"),
        (json!({"tag": "a", "exclude": "*.ckpt"}), "invalid"),
        (json!({"tag": "a", "exclude": ["[a"]}), "invalid"),
        (json!({"tag": "a", "exclude": ["!a"]}), "invalid"),
        (json!({"tag": "a", "exclude": ["/a/../b"]}), "invalid"),
        (json!({"tag": "a", "exclude": ["/"]}), "invalid"),
        (json!({"tag": "a", "exclude": (0..65).map(|n| n.to_string()).collect::<Vec<_>>()}), "invalid"),
    ];
    for (body, code) in table {
        world.post("ann", "/v1/containers/box/snapshots", body.clone()).await.refused(422, code);
    }
    world
        .post("ann", "/v1/containers/box/snapshots", json!({"tag": "latest"}))
        .await
        .refused(409, "catalog_name");
    for body in [json!([]), json!(1), json!("x"), json!(true)] {
        world.post("ann", "/v1/containers/box/snapshots", body).await.refused(422, "invalid");
    }
    world
        .post("ann", "/v1/containers/box/snapshots", Value::Null)
        .await
        .refused(415, "unsupported_media_type");
    world.post("ann", "/v1/containers/nobox/snapshots", json!({"tag": "a"})).await.refused(404, "not_found");
    world.post("ann", "/v1/containers/99/snapshots", json!({"tag": "a"})).await.refused(404, "not_found");
}

#[tokio::test]
async fn names_of_things_that_are_not_there() {
    let world = World::new().await;
    for path in [
        "/nope",
        "/v1",
        "/v1/nope",
        "/v1/containers/0",
        "/v1/containers/-1",
        "/v1/containers/99999999999999999999999",
        "/v1/containers/%00",
        "/v1/containers/%FF",
        "/v1/containers/..%2F..%2Fetc",
        "/v1/jobs/1",
        "/v1/jobs/00000000-0000-0000-0000-000000000000",
        "/v1/jobs/x/events",
        "/v1/images/base",
        "/v1/images/base:nope",
        "/v1/images/:",
        "/v1/images/base:v1/extra",
        "/v1/nodes/%2e%2e",
        "/v1/projects/Nope",
        "/v1/users/nobody",
        "/v1/containers?project=nope",
        "/v1/containers?project=%00",
    ] {
        world.get("admin", path).await.refused(404, "not_found");
    }
    for (path, status) in [
        ("/v1/containers?limit=0", 422),
        ("/v1/containers?limit=201", 422),
        ("/v1/containers?limit=x", 422),
        ("/v1/containers?cursor=x", 422),
        ("/v1/containers?state=asleep", 422),
        ("/v1/containers?user=A", 422),
        ("/v1/containers?all=maybe", 422),
        ("/v1/containers?limit=1&limit=2", 400),
        ("/v1/jobs?state=asleep", 422),
        ("/v1/jobs?kind=burn", 422),
        ("/v1/jobs?container=x", 422),
        ("/v1/jobs?cursor=1", 422),
        ("/v1/images?cursor=..", 422),
        ("/v1/audit?cursor=x", 422),
        ("/v1/users?cursor=%2A", 422),
    ] {
        world.get("admin", path).await.is(status).problem();
    }
}

#[tokio::test]
async fn bodies_that_cannot_be_read() {
    let world = World::boxed_with(|settings| settings.limits.body_bytes = 1000).await;
    let send = |kind: &'static str, body: String| {
        let request = Request::post("/v1/containers").header("authorization", "Bearer key-ann");
        let request = if kind.is_empty() { request } else { request.header("content-type", kind) };
        world.send(request.body(Body::from(body)).unwrap())
    };
    send("application/json", "{".into()).await.refused(400, "bad_request");
    send("application/json", String::new()).await.refused(400, "bad_request");
    send("application/json", r#"{"name":"aa","image":"base","flavor":"cpu-small"} x"#.into())
        .await
        .refused(400, "bad_request");
    send("application/json", "[".repeat(900)).await.refused(400, "bad_request");
    send("application/json", "\u{feff}{}".into()).await.refused(400, "bad_request");
    send("text/plain", "{}".into()).await.refused(415, "unsupported_media_type");
    send("", "{}".into()).await.refused(415, "unsupported_media_type");
    send("application/json", format!("{{\"name\": \"{}\"}}", "x".repeat(2000)))
        .await
        .refused(413, "body_too_large");
    send("application/json; charset=utf-8", "{}".into()).await.refused(422, "invalid");
}

#[tokio::test]
async fn methods_that_a_path_does_not_know() {
    let world = World::new().await;
    for (method, path) in
        [("PUT", "/v1/containers"), ("POST", "/v1/jobs"), ("TRACE", "/v1/me"), ("BREW", "/v1/me")]
    {
        let answer = world.call("ann", method, path, Value::Null).await;
        assert!(!answer.header("allow").is_empty(), "{answer:?}");
        answer.refused(405, "method_not_allowed");
    }
}

#[tokio::test]
async fn keys_that_do_not_work() {
    let world = World::new().await;
    let long = "x".repeat(10_000);
    for headers in [
        vec![],
        vec![("authorization", "")],
        vec![("authorization", "Bearer ")],
        vec![("authorization", "Bearer nope")],
        vec![("authorization", "Basic key-ann")],
        vec![("authorization", "key-ann")],
        vec![("x-api-key", "nope")],
        vec![("x-api-key", "ké")],
        vec![("x-api-key", long.as_str())],
    ] {
        let answer = world.call_with("", "GET", "/v1/me", Value::Null, &headers).await;
        assert_eq!(answer.header("www-authenticate"), "Bearer");
        answer.refused(401, "unauthenticated");
    }
    let as_ann = [("authorization", "bearer  key-ann")];
    world.call_with("", "GET", "/v1/me", Value::Null, &as_ann).await.is(200);
}

#[tokio::test]
async fn too_many_calls_of_one_key_are_refused_and_the_others_go_on() {
    let world = World::boxed_with(|settings| {
        settings.limits.rate_burst = 3;
        settings.limits.rate_per_second = 1;
    })
    .await;
    let mut refused = None;
    for _ in 0..5 {
        let answer: Answer = world.get("ann", "/v1/me").await;
        if answer.status == 429 {
            refused = Some(answer);
        }
    }
    let refused = refused.unwrap();
    assert_eq!(refused.header("retry-after"), "1");
    refused.refused(429, "rate_limited");
    world.get("bob", "/v1/me").await.is(200);
}

#[tokio::test]
async fn a_request_id_is_taken_over_when_it_is_harmless() {
    let world = World::new().await;
    let answer = world.call_with("", "GET", "/v1/me", Value::Null, &[("x-request-id", "trace-1.a")]).await;
    assert_eq!(
        (answer.header("x-request-id"), &answer.json()["instance"]),
        ("trace-1.a", &json!("trace-1.a"))
    );
    let answer = world.call_with("", "GET", "/v1/me", Value::Null, &[("x-request-id", "a b<script>")]).await;
    assert_eq!(answer.header("x-request-id").len(), 36);
    assert_eq!(answer.header("cache-control"), "no-store");
}
