//! Whatever is sent, the answer is never a defect of the server, and every refusal is a problem.

use crate::world::{Answer, World};
use axum::body::Body;
use axum::http::{Method, Request, Uri};
use proptest::prelude::*;
use serde_json::{Map, Value};

const CASES: u32 = 400;
const METHODS: [&str; 6] = ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD"];
const WORDS: [&str; 28] = [
    "schedules",
    "next",
    "skip",
    "runs",
    "containers",
    "jobs",
    "images",
    "nodes",
    "projects",
    "users",
    "keys",
    "audit",
    "me",
    "snapshots",
    "park",
    "wake",
    "events",
    "cancel",
    "retry",
    "members",
    "box",
    "base:v1",
    "n1",
    "default",
    "1",
    "0",
    "..",
    "%00",
];
const FIELDS: [&str; 28] = [
    "container",
    "labels",
    "action",
    "cron",
    "timezone",
    "until",
    "name",
    "image",
    "flavor",
    "env",
    "mounts",
    "ports",
    "description",
    "project",
    "tag",
    "then",
    "pause",
    "dry_run",
    "protected",
    "keep_until",
    "docker_id",
    "user",
    "role",
    "quota_bytes",
    "label",
    "expires_at",
    "gpus",
    "operator",
];

fn json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,40}".prop_map(Value::from),
        prop::sample::select(vec![
            "base",
            "base:v1",
            "cpu-small",
            "box",
            "v1",
            "delete",
            "2030-01-01T00:00:00Z",
            "ann"
        ])
        .prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 24, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((prop::sample::select(FIELDS.to_vec()), inner), 0..6).prop_map(|fields| {
                Value::Object(fields.into_iter().map(|(k, v)| (k.to_owned(), v)).collect())
            }),
        ]
    })
}

/// A body that is nearly right: known fields with odd values.
fn object() -> impl Strategy<Value = Value> {
    prop::collection::vec((prop::sample::select(FIELDS.to_vec()), json()), 0..8).prop_map(|fields| {
        Value::Object(fields.into_iter().map(|(k, v)| (k.to_owned(), v)).collect::<Map<_, _>>())
    })
}

fn path() -> impl Strategy<Value = String> {
    let segment =
        prop_oneof![4 => prop::sample::select(WORDS.to_vec()).prop_map(str::to_owned), 1 => "[!-~]{0,20}"];
    let query =
        prop_oneof![Just(String::new()), "\\?(project|cursor|limit|state|kind|user|all|forget)=[!-~]{0,12}"];
    (prop::collection::vec(segment, 0..5), query)
        .prop_map(|(segments, query)| format!("/v1/{}{query}", segments.join("/")))
}

fn sound(answer: &Answer, what: &str) {
    let status = answer.status.as_u16();
    // What this version does not do yet is said with 501, and only there.
    assert!(status < 500 || status == 501, "{what}: {answer:?}");
    if status >= 400 && !what.starts_with("HEAD") {
        answer.problem();
    }
}

/// Runs `cases` against one world. The streams are left out: they do not end.
fn run<S: Strategy>(strategy: S, cases: u32, request: impl Fn(S::Value) -> Option<Request<Body>>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let world = runtime.block_on(async {
        let world = World::new().await;
        let id = world.ready("ann", "box").await;
        world.saved("ann", id, "v1").await;
        world
    });
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig {
        cases,
        failure_persistence: None,
        ..ProptestConfig::default()
    });
    runner
        .run(&strategy, |value| {
            if let Some(request) = request(value) {
                let what = format!("{} {}", request.method(), request.uri());
                if !request.uri().path().ends_with("/events") {
                    sound(&runtime.block_on(world.send(request)), &what);
                }
            }
            Ok(())
        })
        .unwrap();
}

fn build(method: &str, path: &str, user: &str, kind: &str, body: Vec<u8>) -> Option<Request<Body>> {
    let uri: Uri = path.parse().ok()?;
    Request::builder()
        .method(Method::from_bytes(method.as_bytes()).ok()?)
        .uri(uri)
        .header("authorization", format!("Bearer key-{user}"))
        .header("content-type", kind)
        .body(Body::from(body))
        .ok()
}

#[test]
fn any_path_with_any_json() {
    let call = (
        prop::sample::select(METHODS.to_vec()),
        path(),
        prop::sample::select(vec!["ann", "admin", "eve"]),
        json(),
    );
    run(call, CASES, |(method, path, user, body)| {
        build(method, &path, user, "application/json", body.to_string().into_bytes())
    });
}

#[test]
fn any_body_on_the_calls_that_take_one() {
    let calls = vec![
        ("POST", "/v1/containers"),
        ("PATCH", "/v1/containers/box"),
        ("POST", "/v1/containers/box/snapshots"),
        ("POST", "/v1/containers/box/park"),
        ("POST", "/v1/containers/box/wake"),
        ("POST", "/v1/nodes/n1/adopt"),
        ("POST", "/v1/images/base:v1/pin"),
        ("POST", "/v1/images/base:v1/restore"),
        ("PUT", "/v1/policies/default/retention"),
        ("POST", "/v1/projects"),
        ("PATCH", "/v1/projects/default"),
        ("PUT", "/v1/projects/default/members/bob"),
        ("POST", "/v1/users"),
        ("PATCH", "/v1/users/bob"),
        ("POST", "/v1/keys"),
    ];
    run((prop::sample::select(calls), object()), CASES * 2, |((method, path), body)| {
        build(method, path, "admin", "application/json", body.to_string().into_bytes())
    });
}

#[test]
fn any_bytes() {
    let bytes = prop::collection::vec(any::<u8>(), 0..200);
    let kinds = prop::sample::select(vec![
        "application/json",
        "text/plain",
        "application/x-www-form-urlencoded",
        ";",
        "",
    ]);
    run((kinds, bytes), CASES, |(kind, body)| build("POST", "/v1/containers", "ann", kind, body));
}
