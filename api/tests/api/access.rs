//! Who may do what: every call of the surface, for everybody. A call that is not in the table fails the test.

use crate::world::World;
use axum::http::StatusCode;
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// What a caller gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum May {
    /// It is done, or refused for a reason that is not who calls.
    Yes,
    /// 403: the caller may know of it but not do it.
    No,
    /// 404: the caller may not know of it.
    Unseen,
}
use May::{No, Unseen, Yes};

/// Callers of the columns: an operator, the project's admin, the owner, another member, a stranger.
const WHO: [&str; 5] = ["admin", "boss", "ann", "bob", "eve"];

/// Call, path of the description, path called, body, and what each of [`WHO`] may. Things belong to `ann`.
type Row = (&'static str, &'static str, &'static str, Value, [May; 5]);

fn table() -> Vec<Row> {
    let everybody = [Yes; 5];
    let operators = [Yes, No, No, No, No];
    let project = [Yes, Yes, Yes, Yes, Unseen];
    let owner = [Yes, Yes, Yes, No, Unseen];
    // Other members do not know of somebody's jobs.
    let job = [Yes, Yes, Yes, Unseen, Unseen];
    let admins = [Yes, Yes, No, No, Unseen];
    let c = "/v1/containers/{container}";
    let i = "/v1/images/{image}";
    let n = "/v1/nodes/{node}";
    let policy = "/v1/policies/{project}/parking";
    let retention = "/v1/policies/{project}/retention";
    let s = "/v1/schedules/{schedule}";
    let w = "/v1/webhooks/{webhook}";
    let told = "/v1/users/{user}/notifications";
    let themselves = [Yes, Yes, Yes, Unseen, Unseen];
    let hook = json!({"url": "https://example.org/hook"});
    let none = || Value::Null;
    let everybodys = json!({"all_containers": true, "action": "park", "cron": "0 20 * * *"});
    let of_one = json!({"container": 1, "action": "park", "cron": "0 20 * * *"});
    let launch = json!({"name": "new", "image": "base", "flavor": "cpu-small"});
    let adopt = json!({"docker_id": "ab".repeat(32), "name": "legacy", "user": "ann"});
    let leak = |path: &str| -> &'static str { Box::leak(path.to_owned().into_boxed_str()) };
    let mut rows: Vec<Row> = vec![
        ("POST", "/v1/containers", "/v1/containers?project=default", launch, project),
        ("GET", "/v1/containers", "/v1/containers?project=default", none(), project),
        ("GET", c, "/v1/containers/1", none(), project),
        ("PATCH", c, "/v1/containers/1", json!({"description": "x"}), owner),
        ("DELETE", c, "/v1/containers/1", none(), owner),
        ("DELETE", c, "/v1/containers/1?forget=true", none(), owner),
        ("POST", leak("/v1/containers/{container}/start"), "/v1/containers/1/start", none(), owner),
        ("POST", leak("/v1/containers/{container}/stop"), "/v1/containers/1/stop", none(), owner),
        ("POST", leak("/v1/containers/{container}/park"), "/v1/containers/1/park", none(), owner),
        ("POST", leak("/v1/containers/{container}/wake"), "/v1/containers/1/wake", none(), owner),
        (
            "POST",
            leak("/v1/containers/{container}/snapshots"),
            "/v1/containers/1/snapshots",
            json!({"tag": "t"}),
            owner,
        ),
        ("GET", c, "/v1/containers/box?project=default", none(), project),
        ("GET", "/v1/jobs", "/v1/jobs", none(), everybody),
        ("GET", "/v1/jobs", "/v1/jobs?all=true&project=default", none(), admins),
        ("GET", "/v1/jobs/{job}", "/v1/jobs/JOB", none(), job),
        ("GET", "/v1/jobs/{job}/events", "/v1/jobs/JOB/events", none(), job),
        ("POST", "/v1/jobs/{job}/cancel", "/v1/jobs/JOB/cancel", none(), job),
        ("POST", "/v1/jobs/{job}/retry", "/v1/jobs/JOB/retry", none(), job),
        ("GET", "/v1/images", "/v1/images?project=default", none(), project),
        ("GET", "/v1/images", "/v1/images?restorable=true&project=default", none(), project),
        ("GET", i, "/v1/images/base:v1?project=default", none(), project),
        ("DELETE", i, "/v1/images/base:v1?project=default", none(), owner),
        ("POST", leak("/v1/images/{image}/pin"), "/v1/images/base:v1/pin?project=default", none(), owner),
        (
            "POST",
            leak("/v1/images/{image}/restore"),
            "/v1/images/base:v1/restore?project=default",
            none(),
            owner,
        ),
        ("GET", "/v1/catalog", "/v1/catalog", none(), everybody),
        ("GET", "/v1/flavors", "/v1/flavors", none(), everybody),
        ("GET", "/v1/me", "/v1/me", none(), everybody),
        ("GET", "/v1/nodes", "/v1/nodes", none(), operators),
        ("GET", n, "/v1/nodes/n1", none(), operators),
        ("DELETE", n, "/v1/nodes/n1", none(), operators),
        ("POST", leak("/v1/nodes/{node}/drain"), "/v1/nodes/n1/drain", none(), operators),
        ("POST", leak("/v1/nodes/{node}/resume"), "/v1/nodes/n1/resume", none(), operators),
        ("POST", leak("/v1/nodes/{node}/adopt"), "/v1/nodes/n1/adopt", adopt, operators),
        ("GET", "/v1/projects", "/v1/projects", none(), everybody),
        ("POST", "/v1/projects", "/v1/projects", json!({"name": "lab"}), operators),
        ("GET", "/v1/projects/{project}", "/v1/projects/default", none(), project),
        (
            "PATCH",
            "/v1/projects/{project}",
            "/v1/projects/default",
            json!({"quota_images": 9}),
            [Yes, No, No, No, Unseen],
        ),
        (
            "PUT",
            "/v1/projects/{project}/members/{user}",
            "/v1/projects/default/members/bob",
            json!({"role": "member"}),
            admins,
        ),
        (
            "DELETE",
            "/v1/projects/{project}/members/{user}",
            "/v1/projects/default/members/bob",
            none(),
            admins,
        ),
        ("GET", "/v1/users", "/v1/users", none(), operators),
        ("POST", "/v1/users", "/v1/users", json!({"name": "new"}), operators),
        ("POST", "/v1/users", "/v1/users", json!({"name": "new", "project": "default"}), admins),
        (
            "POST",
            "/v1/users",
            "/v1/users",
            json!({"name": "new", "project": "default", "operator": true}),
            [Yes, No, No, No, Unseen],
        ),
        ("GET", "/v1/users/{user}", "/v1/users/ann", none(), [Yes, Yes, Yes, Unseen, Unseen]),
        ("GET", "/v1/users/{user}", "/v1/users/admin", none(), [Yes, Unseen, Unseen, Unseen, Unseen]),
        (
            "PATCH",
            "/v1/users/{user}",
            "/v1/users/ann",
            json!({"disabled": true}),
            [Yes, No, No, Unseen, Unseen],
        ),
        ("GET", "/v1/keys", "/v1/keys", none(), everybody),
        ("GET", "/v1/keys", "/v1/keys?user=ann", none(), [Yes, Yes, Yes, Unseen, Unseen]),
        ("POST", "/v1/keys", "/v1/keys", json!({"user": "ann"}), [Yes, Yes, Yes, Unseen, Unseen]),
        ("POST", "/v1/keys", "/v1/keys", json!({"user": "admin"}), [Yes, Unseen, Unseen, Unseen, Unseen]),
        ("DELETE", "/v1/keys/{key}", "/v1/keys/id-key-ann?user=ann", none(), [Yes, Yes, Yes, Unseen, Unseen]),
        ("GET", policy, "/v1/policies/default/parking", none(), project),
        ("PUT", policy, "/v1/policies/default/parking", json!({"lifetime_seconds": 86_400}), admins),
        (
            "GET",
            leak("/v1/policies/{project}/parking/preview"),
            "/v1/policies/default/parking/preview",
            none(),
            project,
        ),
        ("GET", retention, "/v1/policies/default/retention", none(), project),
        ("PUT", retention, "/v1/policies/default/retention", json!({"keep_last": 3}), admins),
        ("DELETE", retention, "/v1/policies/default/retention", none(), admins),
        (
            "GET",
            leak("/v1/policies/{project}/retention/preview"),
            "/v1/policies/default/retention/preview",
            none(),
            project,
        ),
        ("GET", "/v1/schedules", "/v1/schedules?project=default", none(), project),
        ("POST", "/v1/schedules", "/v1/schedules?project=default", everybodys, project),
        ("POST", "/v1/schedules", "/v1/schedules", of_one, owner),
        ("GET", "/v1/schedules/next", "/v1/schedules/next?project=default", none(), project),
        ("GET", "/v1/schedules/preview", "/v1/schedules/preview?cron=@daily", none(), everybody),
        ("GET", s, "/v1/schedules/SCHEDULE", none(), project),
        ("PATCH", s, "/v1/schedules/SCHEDULE", json!({"enabled": false}), owner),
        ("DELETE", s, "/v1/schedules/SCHEDULE", none(), owner),
        ("GET", leak("/v1/schedules/{schedule}/next"), "/v1/schedules/SCHEDULE/next", none(), project),
        ("GET", leak("/v1/schedules/{schedule}/runs"), "/v1/schedules/SCHEDULE/runs", none(), project),
        ("POST", leak("/v1/schedules/{schedule}/skip"), "/v1/schedules/SCHEDULE/skip", none(), owner),
        (
            "POST",
            leak("/v1/schedules/{schedule}/postpone"),
            "/v1/schedules/SCHEDULE/postpone",
            json!({"until": null}),
            owner,
        ),
        ("GET", "/v1/webhooks", "/v1/webhooks?project=default", none(), admins),
        ("POST", "/v1/webhooks", "/v1/webhooks?project=default", hook, admins),
        ("GET", w, "/v1/webhooks/WEBHOOK", none(), admins),
        ("PATCH", w, "/v1/webhooks/WEBHOOK", json!({"enabled": false}), admins),
        ("DELETE", w, "/v1/webhooks/WEBHOOK", none(), admins),
        ("POST", leak("/v1/webhooks/{webhook}/secret"), "/v1/webhooks/WEBHOOK/secret", none(), admins),
        ("POST", leak("/v1/webhooks/{webhook}/test"), "/v1/webhooks/WEBHOOK/test", none(), admins),
        ("GET", leak("/v1/webhooks/{webhook}/deliveries"), "/v1/webhooks/WEBHOOK/deliveries", none(), admins),
        (
            "POST",
            leak("/v1/webhooks/{webhook}/deliveries/{delivery}/replay"),
            "/v1/webhooks/WEBHOOK/deliveries/DELIVERY/replay",
            none(),
            admins,
        ),
        ("GET", told, "/v1/users/ann/notifications", none(), themselves),
        ("PUT", told, "/v1/users/ann/notifications", json!({"email": null}), themselves),
        (
            "GET",
            leak("/v1/users/{user}/notifications/deliveries"),
            "/v1/users/ann/notifications/deliveries",
            none(),
            themselves,
        ),
        ("GET", "/v1/audit", "/v1/audit?project=default", none(), admins),
        ("GET", "/v1/costs", "/v1/costs?project=default", none(), project),
        ("GET", "/v1/costs", "/v1/costs?project=default&user=bob", none(), [Yes, Yes, No, Yes, Unseen]),
    ];
    rows.sort_by_key(|(method, _, called, _, _)| (*called, *method));
    rows
}

/// What the table's paths call something that has another name each time.
type Named = [(&'static str, String); 4];

/// The platform of the table: `ann` has container 1, image base:v1, whose job is JOB, and schedule SCHEDULE; their project
/// has WEBHOOK, to which DELIVERY is on its way.
async fn world() -> (World, Named) {
    let world = Box::pin(World::new()).await;
    let id = Box::pin(world.ready("ann", "box")).await;
    let job = Box::pin(world.saved("ann", id, "v1")).await;
    let body = json!({"container": 1, "action": "park", "cron": "0 20 * * *"});
    let schedule = Box::pin(world.post("ann", "/v1/schedules", body)).await.is(201).json();
    let schedule = schedule["id"].as_str().unwrap().to_owned();
    let body = json!({"url": "https://example.org/hook", "project": "default"});
    let webhook = Box::pin(world.post("boss", "/v1/webhooks", body)).await.is(201).json();
    let webhook = webhook["id"].as_str().unwrap().to_owned();
    let test = format!("/v1/webhooks/{webhook}/test");
    let delivery = Box::pin(world.post("boss", &test, Value::Null)).await.is(202).json();
    let delivery = delivery["id"].as_str().unwrap().to_owned();
    let names =
        [("JOB", job.to_string()), ("SCHEDULE", schedule), ("WEBHOOK", webhook), ("DELIVERY", delivery)];
    (world, names)
}

#[tokio::test]
async fn who_may_do_what() {
    for (method, _, path, body, row) in table() {
        // Those who may not change nothing, so they share a world; those who may each get their own.
        let (shared, shared_names) = Box::pin(world()).await;
        let answer = shared.call("", method, path, body.clone()).await;
        assert_eq!(answer.refused(401, "unauthenticated")["status"], 401, "{method} {path}");
        for (who, may) in WHO.into_iter().zip(row) {
            let fresh = if may == Yes { Some(Box::pin(world()).await) } else { None };
            let (world, names) =
                fresh.as_ref().map_or((&shared, &shared_names), |(world, names)| (world, names));
            let called = names.iter().fold(path.to_owned(), |path, (name, is)| path.replace(name, is));
            let answer = world.call(who, method, &called, body.clone()).await;
            let got = match answer.status {
                StatusCode::FORBIDDEN => No,
                StatusCode::NOT_FOUND => Unseen,
                _ => Yes,
            };
            assert_eq!(got, may, "{who}: {method} {path}: {answer:?}");
            assert!(answer.status.as_u16() < 500, "{who}: {method} {path}: {answer:?}");
        }
    }
}

#[test]
fn the_table_has_every_call() {
    let described: Value = serde_json::from_str(&mothball_api::v1::openapi()).unwrap();
    let mut calls = BTreeSet::new();
    for (path, methods) in described["paths"].as_object().unwrap() {
        calls.extend(methods.as_object().unwrap().keys().map(|m| (m.to_uppercase(), path.clone())));
    }
    let tried: BTreeSet<(String, String)> =
        table().into_iter().map(|(method, path, ..)| (method.to_owned(), path.to_owned())).collect();
    assert_eq!(tried, calls);
}

#[tokio::test]
async fn an_operator_who_is_no_member_goes_anywhere_by_name() {
    let (world, _) = world().await;
    world.store().create_user(&"oper".parse().unwrap(), true).await.unwrap();
    world.key_for("oper", "key-oper").await;
    world.get("oper", "/v1/containers?project=other").await.is(200);
    assert_eq!(world.get("oper", "/v1/images/base:v1?project=default").await.is(200).json()["tag"], "v1");
    world.get("oper", "/v1/images/base:v1").await.is(200);
    world.call("oper", "DELETE", "/v1/containers/1", Value::Null).await.is(202);
}

#[tokio::test]
async fn a_call_that_names_no_project_goes_to_default_else_to_the_only_one_else_is_asked_which() {
    let world = World::new().await;
    let (lab, other) = ("lab".parse().unwrap(), "other".parse().unwrap());
    world.store().create_project(&lab).await.unwrap();
    assert_eq!(world.get("eve", "/v1/me").await.json()["default_project"], "other");
    world
        .store()
        .set_member(&lab, &"eve".parse().unwrap(), Some(mothball_domain::people::Role::Member))
        .await
        .unwrap();
    let problem = world.get("eve", "/v1/containers").await.refused(422, "project_required");
    assert!(problem["detail"].as_str().unwrap().contains("lab, other"), "{problem}");
    world.get("eve", "/v1/containers?project=lab").await.is(200);
    world
        .call_with("eve", "GET", "/v1/containers", Value::Null, &[("x-mothball-project", "lab")])
        .await
        .is(200);
    world
        .store()
        .set_member(&lab, &"ann".parse().unwrap(), Some(mothball_domain::people::Role::Member))
        .await
        .unwrap();
    assert_eq!(world.get("ann", "/v1/me").await.json()["default_project"], "default");
    for project in [&lab, &other] {
        world.store().set_member(project, &"eve".parse().unwrap(), None).await.unwrap();
    }
    let problem = world.get("eve", "/v1/containers").await.refused(422, "project_required");
    assert!(problem["hint"].as_str().unwrap().contains("operator"));
}
