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
    let container = "/v1/containers/{container}";
    let image = "/v1/images/{image}";
    let node = "/v1/nodes/{node}";
    let policy = "/v1/policies/{project}/parking";
    let retention = "/v1/policies/{project}/retention";
    let schedule = "/v1/schedules/{schedule}";
    let webhook = "/v1/webhooks/{webhook}";
    let told = "/v1/users/{user}/notifications";
    let themselves = [Yes, Yes, Yes, Unseen, Unseen];
    let hook = json!({"url": "https://example.org/hook"});
    let nothing = || Value::Null;
    let everybodys = json!({"all_containers": true, "action": "park", "cron": "0 20 * * *"});
    let of_one = json!({"container": 1, "action": "park", "cron": "0 20 * * *"});
    let launch = json!({"name": "new", "image": "base", "flavor": "cpu-small"});
    let adopt = json!({"docker_id": "ab".repeat(32), "name": "legacy", "user": "ann"});
    let leak = |path: &str| -> &'static str { Box::leak(path.to_owned().into_boxed_str()) };
    let mut rows: Vec<Row> = vec![
        ("POST", "/v1/containers", "/v1/containers?project=default", launch, project),
        ("GET", "/v1/containers", "/v1/containers?project=default", nothing(), project),
        ("GET", container, "/v1/containers/1", nothing(), project),
        ("PATCH", container, "/v1/containers/1", json!({"description": "x"}), owner),
        ("DELETE", container, "/v1/containers/1", nothing(), owner),
        ("DELETE", container, "/v1/containers/1?forget=true", nothing(), owner),
        ("POST", leak("/v1/containers/{container}/start"), "/v1/containers/1/start", nothing(), owner),
        ("POST", leak("/v1/containers/{container}/stop"), "/v1/containers/1/stop", nothing(), owner),
        ("POST", leak("/v1/containers/{container}/park"), "/v1/containers/1/park", nothing(), owner),
        ("POST", leak("/v1/containers/{container}/wake"), "/v1/containers/1/wake", nothing(), owner),
        (
            "POST",
            leak("/v1/containers/{container}/snapshots"),
            "/v1/containers/1/snapshots",
            json!({"tag": "t"}),
            owner,
        ),
        ("GET", container, "/v1/containers/box?project=default", nothing(), project),
        ("GET", "/v1/jobs", "/v1/jobs", nothing(), everybody),
        ("GET", "/v1/jobs", "/v1/jobs?all=true&project=default", nothing(), admins),
        ("GET", "/v1/jobs/{job}", "/v1/jobs/JOB", nothing(), job),
        ("GET", "/v1/jobs/{job}/events", "/v1/jobs/JOB/events", nothing(), job),
        ("POST", "/v1/jobs/{job}/cancel", "/v1/jobs/JOB/cancel", nothing(), job),
        ("POST", "/v1/jobs/{job}/retry", "/v1/jobs/JOB/retry", nothing(), job),
        ("GET", "/v1/images", "/v1/images?project=default", nothing(), project),
        ("GET", "/v1/images", "/v1/images?restorable=true&project=default", nothing(), project),
        ("GET", image, "/v1/images/base:v1?project=default", nothing(), project),
        ("DELETE", image, "/v1/images/base:v1?project=default", nothing(), owner),
        ("POST", leak("/v1/images/{image}/pin"), "/v1/images/base:v1/pin?project=default", nothing(), owner),
        (
            "POST",
            leak("/v1/images/{image}/restore"),
            "/v1/images/base:v1/restore?project=default",
            nothing(),
            owner,
        ),
        ("GET", "/v1/catalog", "/v1/catalog", nothing(), everybody),
        ("GET", "/v1/flavors", "/v1/flavors", nothing(), everybody),
        ("GET", "/v1/me", "/v1/me", nothing(), everybody),
        ("GET", "/v1/nodes", "/v1/nodes", nothing(), operators),
        ("GET", node, "/v1/nodes/n1", nothing(), operators),
        ("DELETE", node, "/v1/nodes/n1", nothing(), operators),
        ("POST", leak("/v1/nodes/{node}/drain"), "/v1/nodes/n1/drain", nothing(), operators),
        ("POST", leak("/v1/nodes/{node}/resume"), "/v1/nodes/n1/resume", nothing(), operators),
        ("POST", leak("/v1/nodes/{node}/adopt"), "/v1/nodes/n1/adopt", adopt, operators),
        ("GET", "/v1/projects", "/v1/projects", nothing(), everybody),
        ("POST", "/v1/projects", "/v1/projects", json!({"name": "lab"}), operators),
        ("GET", "/v1/projects/{project}", "/v1/projects/default", nothing(), project),
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
            nothing(),
            admins,
        ),
        ("GET", "/v1/users", "/v1/users", nothing(), operators),
        ("POST", "/v1/users", "/v1/users", json!({"name": "new"}), operators),
        ("POST", "/v1/users", "/v1/users", json!({"name": "new", "project": "default"}), admins),
        (
            "POST",
            "/v1/users",
            "/v1/users",
            json!({"name": "new", "project": "default", "operator": true}),
            [Yes, No, No, No, Unseen],
        ),
        ("GET", "/v1/users/{user}", "/v1/users/ann", nothing(), [Yes, Yes, Yes, Unseen, Unseen]),
        ("GET", "/v1/users/{user}", "/v1/users/admin", nothing(), [Yes, Unseen, Unseen, Unseen, Unseen]),
        (
            "PATCH",
            "/v1/users/{user}",
            "/v1/users/ann",
            json!({"disabled": true}),
            [Yes, No, No, Unseen, Unseen],
        ),
        ("GET", "/v1/keys", "/v1/keys", nothing(), everybody),
        ("GET", "/v1/keys", "/v1/keys?user=ann", nothing(), [Yes, Yes, Yes, Unseen, Unseen]),
        ("POST", "/v1/keys", "/v1/keys", json!({"user": "ann"}), [Yes, Yes, Yes, Unseen, Unseen]),
        ("POST", "/v1/keys", "/v1/keys", json!({"user": "admin"}), [Yes, Unseen, Unseen, Unseen, Unseen]),
        (
            "DELETE",
            "/v1/keys/{key}",
            "/v1/keys/id-key-ann?user=ann",
            nothing(),
            [Yes, Yes, Yes, Unseen, Unseen],
        ),
        ("GET", policy, "/v1/policies/default/parking", nothing(), project),
        ("PUT", policy, "/v1/policies/default/parking", json!({"lifetime_seconds": 86_400}), admins),
        (
            "GET",
            leak("/v1/policies/{project}/parking/preview"),
            "/v1/policies/default/parking/preview",
            nothing(),
            project,
        ),
        ("GET", retention, "/v1/policies/default/retention", nothing(), project),
        ("PUT", retention, "/v1/policies/default/retention", json!({"keep_last": 3}), admins),
        ("DELETE", retention, "/v1/policies/default/retention", nothing(), admins),
        (
            "GET",
            leak("/v1/policies/{project}/retention/preview"),
            "/v1/policies/default/retention/preview",
            nothing(),
            project,
        ),
        ("GET", "/v1/schedules", "/v1/schedules?project=default", nothing(), project),
        ("POST", "/v1/schedules", "/v1/schedules?project=default", everybodys, project),
        ("POST", "/v1/schedules", "/v1/schedules", of_one, owner),
        ("GET", "/v1/schedules/next", "/v1/schedules/next?project=default", nothing(), project),
        ("GET", "/v1/schedules/preview", "/v1/schedules/preview?cron=@daily", nothing(), everybody),
        ("GET", schedule, "/v1/schedules/SCHEDULE", nothing(), project),
        ("PATCH", schedule, "/v1/schedules/SCHEDULE", json!({"enabled": false}), owner),
        ("DELETE", schedule, "/v1/schedules/SCHEDULE", nothing(), owner),
        ("GET", leak("/v1/schedules/{schedule}/next"), "/v1/schedules/SCHEDULE/next", nothing(), project),
        ("GET", leak("/v1/schedules/{schedule}/runs"), "/v1/schedules/SCHEDULE/runs", nothing(), project),
        ("POST", leak("/v1/schedules/{schedule}/skip"), "/v1/schedules/SCHEDULE/skip", nothing(), owner),
        (
            "POST",
            leak("/v1/schedules/{schedule}/postpone"),
            "/v1/schedules/SCHEDULE/postpone",
            json!({"until": null}),
            owner,
        ),
        ("GET", "/v1/webhooks", "/v1/webhooks?project=default", nothing(), admins),
        ("POST", "/v1/webhooks", "/v1/webhooks?project=default", hook, admins),
        ("GET", webhook, "/v1/webhooks/WEBHOOK", nothing(), admins),
        ("PATCH", webhook, "/v1/webhooks/WEBHOOK", json!({"enabled": false}), admins),
        ("DELETE", webhook, "/v1/webhooks/WEBHOOK", nothing(), admins),
        ("POST", leak("/v1/webhooks/{webhook}/secret"), "/v1/webhooks/WEBHOOK/secret", nothing(), admins),
        ("POST", leak("/v1/webhooks/{webhook}/test"), "/v1/webhooks/WEBHOOK/test", nothing(), admins),
        (
            "GET",
            leak("/v1/webhooks/{webhook}/deliveries"),
            "/v1/webhooks/WEBHOOK/deliveries",
            nothing(),
            admins,
        ),
        (
            "POST",
            leak("/v1/webhooks/{webhook}/deliveries/{delivery}/replay"),
            "/v1/webhooks/WEBHOOK/deliveries/DELIVERY/replay",
            nothing(),
            admins,
        ),
        ("GET", told, "/v1/users/ann/notifications", nothing(), themselves),
        ("PUT", told, "/v1/users/ann/notifications", json!({"email": null}), themselves),
        (
            "GET",
            leak("/v1/users/{user}/notifications/deliveries"),
            "/v1/users/ann/notifications/deliveries",
            nothing(),
            themselves,
        ),
        ("GET", "/v1/audit", "/v1/audit?project=default", nothing(), admins),
        ("GET", "/v1/costs", "/v1/costs?project=default", nothing(), project),
        ("GET", "/v1/costs", "/v1/costs?project=default&user=bob", nothing(), [Yes, Yes, No, Yes, Unseen]),
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
