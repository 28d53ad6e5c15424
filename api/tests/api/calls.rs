//! Every call once, as it is meant to be used.

use crate::world::{NODE, World};
use mothball_domain::failure::{Failure, FailureClass};
use mothball_queue::Target;
use mothball_store::Outcome;
use serde_json::{Value, json};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

#[tokio::test]
async fn a_launch_is_recorded_published_and_answered_with_its_job() {
    let world = World::new().await;
    let node = Target::Node(NODE.parse().unwrap());
    let mut inbox = world.parts.queue.subscribe(vec![node], 1, CancellationToken::new());
    let body = json!({
        "name": "my-box", "image": "base", "flavor": "gpu-1", "env": {"API_KEY": "secret"},
        "mounts": ["/home/ann"], "ports": [8888], "description": "for the thesis"
    });
    let answer = world.post("ann", "/v1/containers", body).await.is(202);
    let job = answer.job();
    assert_eq!(answer.header("location"), format!("/v1/jobs/{}", job.id));
    assert_eq!((job.kind.as_str(), job.state.as_str()), ("launch", "queued"));
    assert_eq!((job.image.as_deref(), job.tag.as_deref()), (Some("base:latest"), Some("latest")));
    assert_eq!(
        (job.node.as_deref(), job.user.as_str(), job.project.as_str()),
        (Some(NODE), "ann", "default")
    );
    assert_eq!(job.container_name.as_deref(), Some("my-box"));
    assert_eq!(answer.json()["progress"]["bytes_done"], 0);
    let woken = tokio::time::timeout(Duration::from_secs(5), inbox.recv()).await.unwrap().unwrap();
    assert_eq!(woken.job, job.id);

    world.succeed(job.id).await;
    let container = world.get("ann", "/v1/containers/my-box").await.is(200).json();
    let expected = json!({
        "id": 1, "name": "my-box", "state": "ready", "image": "base:latest", "image_name": "base",
        "flavor": "gpu-1", "gpus": [0], "node": NODE, "project": "default", "user": "ann",
        "mounts": [{"target": "/home/ann"}], "protected": false, "description": "for the thesis", "adopted": false
    });
    for (field, value) in expected.as_object().unwrap() {
        assert_eq!(container[field], *value, "{field}");
    }
    assert_eq!(container["cost"]["per_hour"], "58");
    assert!(!container.to_string().contains("secret"));
}

#[tokio::test]
async fn without_named_mounts_all_are_mounted_and_without_room_a_launch_says_what_it_waits_for() {
    let world = World::new().await;
    let body = json!({"name": "box", "image": "base:latest", "flavor": "gpu-8"});
    let job = world.post("ann", "/v1/containers", body).await.is(202).job();
    assert!(job.waiting_for.unwrap().contains("8 GPUs"));
    let container = world.get("ann", "/v1/containers/box").await.is(200).json();
    assert_eq!(container["mounts"], json!([{"target": "/home/ann"}, {"target": "/work/ann"}]));
}

#[tokio::test]
async fn a_save_joins_itself_is_in_the_way_of_others_and_becomes_an_image_that_all_launch_from() {
    let world = World::new().await;
    let id = world.ready("ann", "box").await;
    let path = format!("/v1/containers/{id}/snapshots");
    let job = world.post("ann", &path, json!({"tag": "dup1"})).await.is(202).job();
    assert_eq!((job.image.as_deref(), job.tag.as_deref()), (Some("base:dup1"), Some("dup1")));
    assert_eq!(
        world.post("ann", &path, json!({"tag": "dup1", "then": "keep"})).await.is(200).job().id,
        job.id
    );
    let problem = world.post("ann", &path, json!({"tag": "other"})).await.refused(409, "conflict");
    assert_eq!(problem["job"], job.id.to_string());
    let problem = world.post("boss", &path, json!({"tag": "dup1"})).await.refused(409, "conflict");
    assert_eq!(problem["job"], job.id.to_string());

    world.succeed(job.id).await;
    let job = world.get("ann", &format!("/v1/jobs/{}", job.id)).await.is(200).job();
    assert!(job.digest.as_deref().is_some_and(|d| d.starts_with("sha256:")) && job.size_bytes == Some(1234));
    let image = world.get("bob", "/v1/images/base:dup1").await.is(200).json();
    assert_eq!(
        (&image["name"], &image["tag"], &image["layers"]),
        (&json!("base"), &json!("dup1"), &json!(3))
    );
    assert_eq!(image["source_container"], id.0);
    let body = json!({"name": "bobs", "image": "base:dup1", "flavor": "cpu-small"});
    let launched = world.post("bob", "/v1/containers", body).await.is(202).job();
    assert_eq!(launched.digest, job.digest);
    assert_eq!(world.get("ann", "/v1/images").await.is(200).json()["items"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn what_a_save_leaves_out_is_its_own_and_its_projects() {
    let world = World::new().await;
    let id = world.ready("ann", "box").await;
    let path = format!("/v1/containers/{id}/snapshots");
    let leaving_out = |excludes: Value| json!({ "excludes": excludes });
    let change = async |user: &'static str, excludes| {
        world.call(user, "PATCH", "/v1/projects/default", leaving_out(excludes)).await
    };
    change("ann", json!(["*.ckpt"])).await.refused(403, "forbidden");
    change("eve", json!(["*.ckpt"])).await.refused(404, "not_found");
    change("boss", json!(["[a"])).await.refused(422, "invalid");
    let changed = change("boss", json!(["*.ckpt", "/tmp"])).await.is(200).json();
    assert_eq!(changed["excludes"], json!(["*.ckpt", "/tmp"]));
    world
        .call("boss", "PATCH", "/v1/projects/default", json!({"excludes": [], "quota_images": 9}))
        .await
        .refused(403, "forbidden");

    let body = json!({"tag": "a", "exclude": ["/data/tmp/", "/tmp"]});
    let job = world.post("ann", &path, body.clone()).await.is(202).job();
    assert_eq!(job.excludes, ["*.ckpt", "/tmp", "/data/tmp/"]);
    assert_eq!(world.post("ann", &path, body).await.is(200).job().id, job.id);
    // Another request in every respect that counts.
    for other in [
        json!({"tag": "a"}),
        json!({"tag": "a", "exclude": ["/data/tmp/", "/tmp"], "default_excludes": false}),
    ] {
        world.post("ann", &path, other).await.refused(409, "conflict");
    }
    world.succeed(job.id).await;
    let job = world.post("ann", &path, json!({"tag": "b", "default_excludes": false})).await.is(202).job();
    assert_eq!(job.excludes, [""; 0]);
    world.succeed(job.id).await;
    let job = world
        .post("ann", &format!("/v1/containers/{id}/park"), json!({"exclude": ["x"]}))
        .await
        .is(202)
        .job();
    assert_eq!(job.excludes, ["*.ckpt", "/tmp", "x"]);
}

#[tokio::test]
async fn protection_stops_and_starts_and_deletes() {
    let world = World::new().await;
    let id = world.ready("ann", "box").await;
    let patch = json!({"protected": true, "description": "mine", "keep_until": "2030-01-01T00:00:00Z"});
    let changed = world.call("ann", "PATCH", "/v1/containers/box", patch).await.is(200).json();
    assert_eq!(
        (&changed["protected"], &changed["keep_until"]),
        (&json!(true), &json!("2030-01-01T00:00:00Z"))
    );
    world.call("ann", "DELETE", "/v1/containers/box", Value::Null).await.refused(409, "protected");
    let patch = json!({"protected": false, "keep_until": null});
    let changed = world.call("ann", "PATCH", "/v1/containers/box", patch).await.is(200).json();
    assert_eq!((&changed["keep_until"], &changed["description"]), (&Value::Null, &json!("mine")));

    world.post("ann", "/v1/containers/box/start", Value::Null).await.refused(409, "not_now");
    let stop = world.post("ann", "/v1/containers/box/stop", Value::Null).await.is(202).job();
    world.succeed(stop.id).await;
    assert_eq!(world.get("ann", "/v1/containers/box").await.json()["state"], "stopped");
    let start = world.post("ann", "/v1/containers/box/start", Value::Null).await.is(202).job();
    world.succeed(start.id).await;
    let delete =
        world.call("ann", "DELETE", &format!("/v1/containers/{id}"), Value::Null).await.is(202).job();
    world.succeed(delete.id).await;
    assert_eq!(world.get("ann", &format!("/v1/containers/{id}")).await.is(200).json()["state"], "deleted");
    world.get("ann", "/v1/containers/box").await.refused(404, "not_found");
}

#[tokio::test]
async fn a_failed_job_is_retried_a_waiting_one_cancelled_and_a_failed_container_forgotten() {
    let world = World::new().await;
    let body = json!({"name": "box", "image": "base", "flavor": "cpu-small"});
    let job = world.post("ann", "/v1/containers", body).await.is(202).job();
    let path = format!("/v1/jobs/{}", job.id);
    world.post("ann", &format!("{path}/retry"), Value::Null).await.refused(409, "not_now");
    let held = world.claim(job.id).await;
    let failure = Failure::permanent(FailureClass::Auth, "the registry refused");
    let failed = Outcome::Failed { failure, retry_after: Duration::ZERO };
    world.store().settle(job.id, held.fence, &failed).await.unwrap();
    let shown = world.get("ann", &path).await.is(200).json();
    assert_eq!((&shown["state"], &shown["error"]["class"]), (&json!("failed"), &json!("auth")));
    assert!(shown["error"]["hint"].as_str().unwrap().contains("operator"));

    assert_eq!(
        world.post("ann", &format!("{path}/retry"), Value::Null).await.is(202).job().state.as_str(),
        "queued"
    );
    assert_eq!(
        world.post("ann", &format!("{path}/cancel"), Value::Null).await.is(200).job().state.as_str(),
        "cancelled"
    );
    world.post("ann", &format!("{path}/cancel"), Value::Null).await.is(200);

    let body = json!({"name": "box2", "image": "base", "flavor": "cpu-small"});
    let job = world.post("ann", "/v1/containers", body).await.is(202).job();
    world.call("ann", "DELETE", "/v1/containers/box2?forget=true", Value::Null).await.refused(409, "not_now");
    let held = world.claim(job.id).await;
    let running = world.post("ann", &format!("/v1/jobs/{}/cancel", job.id), Value::Null).await.is(202).job();
    assert!(running.cancel_requested && running.state.as_str() == "running");
    world.store().settle(job.id, held.fence, &failed).await.unwrap();
    world.post("ann", &format!("/v1/jobs/{}/cancel", job.id), Value::Null).await.refused(409, "not_now");
    let forgotten =
        world.call("ann", "DELETE", "/v1/containers/box2?forget=true", Value::Null).await.is(200).json();
    assert_eq!(forgotten["state"], "deleted");
}

#[tokio::test]
async fn containers_that_are_parked_together_do_not_overwrite_each_other() {
    let world = World::new().await;
    let mut tags = std::collections::BTreeSet::new();
    for name in ["one", "two", "three", "four"] {
        world.ready("ann", name).await;
    }
    for name in ["one", "two", "three", "four"] {
        let path = format!("/v1/containers/{name}/park");
        let job = world.post("ann", &path, Value::Null).await.is(202).job();
        tags.insert(job.tag.clone().unwrap());
        if name == "one" {
            // One that is done counts as much as those that are under way.
            world.succeed(job.id).await;
        }
    }
    assert_eq!(tags.len(), 4, "{tags:?}");
    assert!(tags.iter().all(|tag| tag.starts_with("park-") && tag.len() == 20), "{tags:?}");
}

#[tokio::test]
async fn a_parked_container_keeps_its_number_and_wakes() {
    let world = World::new().await;
    let id = world.ready("ann", "box").await;
    let job = world.post("ann", "/v1/containers/box/park", Value::Null).await.is(202).job();
    let tag = job.tag.clone().unwrap();
    assert!(tag.starts_with("park-") && tag.len() == 20, "{tag}");
    assert_eq!(world.post("ann", "/v1/containers/box/park", Value::Null).await.is(200).job().id, job.id);
    world.succeed(job.id).await;
    let parked = world.get("ann", "/v1/containers/box").await.is(200).json();
    assert_eq!((&parked["state"], &parked["id"]), (&json!("parked"), &json!(id.0)));
    assert_eq!(parked["parked_image"], format!("base:{tag}"));
    let wake = world.post("ann", "/v1/containers/box/wake", json!({})).await.is(202).job();
    assert_eq!((wake.kind.as_str(), wake.container), ("launch", Some(id)));
    world.succeed(wake.id).await;
    assert_eq!(world.get("ann", "/v1/containers/box").await.is(200).json()["state"], "ready");
}

#[tokio::test]
async fn a_parked_container_wakes_as_another_size_at_its_price() {
    let world = World::new().await;
    let id = world.ready("ann", "box").await;
    let job = world.post("ann", "/v1/containers/box/park", Value::Null).await.is(202).job();
    world.succeed(job.id).await;
    let unknown = world.post("ann", "/v1/containers/box/wake", json!({"flavor": "huge"})).await;
    assert_eq!(unknown.refused(422, "unknown_flavor")["field"], "flavor");
    let wake = world.post("ann", "/v1/containers/box/wake", json!({"flavor": "gpu-1"})).await.is(202).job();
    let again = world.post("ann", "/v1/containers/box/wake", json!({"flavor": "gpu-1"})).await.is(200).job();
    assert_eq!(again.id, wake.id);
    // Without a size it is woken as what it was parked as, which is another request.
    world.post("ann", "/v1/containers/box/wake", json!({})).await.refused(409, "conflict");
    world.succeed(wake.id).await;
    let awake = world.get("ann", "/v1/containers/box").await.is(200).json();
    assert_eq!((&awake["flavor"], &awake["id"]), (&json!("gpu-1"), &json!(id.0)));
    assert_eq!((&awake["gpus"], &awake["cost"]["per_hour"]), (&json!([0]), &json!("58")));
}

#[tokio::test]
async fn images_are_pinned_deleted_and_not_restored_when_nothing_was_overwritten() {
    let world = World::new().await;
    let id = world.ready("ann", "box").await;
    world.saved("ann", id, "v1").await;
    let path = "/v1/images/base:v1";
    assert_eq!(world.post("ann", &format!("{path}/pin"), Value::Null).await.is(200).json()["pinned"], true);
    world.call("ann", "DELETE", path, Value::Null).await.refused(409, "protected");
    world.post("ann", &format!("{path}/pin"), json!({"pinned": false})).await.is(200);
    world.post("ann", &format!("{path}/restore"), Value::Null).await.refused(409, "not_now");
    let job = world.call("ann", "DELETE", path, Value::Null).await.is(202).job();
    assert_eq!((job.kind.as_str(), job.image.as_deref(), job.node), ("delete_image", Some("base:v1"), None));
    world.succeed(job.id).await;
    world.get("ann", path).await.refused(404, "not_found");
}

#[tokio::test]
async fn nodes_are_seen_drained_resumed_adopted_from_and_forgotten() {
    let world = World::new().await;
    let node = world.get("admin", "/v1/nodes/n1").await.is(200).json();
    assert_eq!((&node["state"], &node["gpus_free"]), (&json!("ready"), &json!(2)));
    assert_eq!(
        world.post("admin", "/v1/nodes/n1/drain", Value::Null).await.is(200).json()["state"],
        "drained"
    );
    assert_eq!(
        world.post("admin", "/v1/nodes/n1/resume", Value::Null).await.is(200).json()["state"],
        "ready"
    );
    let body = json!({
        "docker_id": "ab".repeat(32), "name": "legacy", "user": "ann", "project": "default",
        "flavor": "gpu-1", "image": "host:5000/ngc/tensorrt:19.08", "gpus": [1]
    });
    let adopted = world.post("admin", "/v1/nodes/n1/adopt", body).await.is(201);
    assert!(adopted.header("location").starts_with("/v1/containers/"));
    let adopted = adopted.json();
    assert_eq!(
        (&adopted["adopted"], &adopted["image_name"], &adopted["user"]),
        (&json!(true), &json!("tensorrt"), &json!("ann"))
    );
    assert_eq!(
        world.get("admin", "/v1/nodes").await.is(200).json()["items"][0]["gpus"][1]["container"],
        adopted["id"]
    );
    world.call("admin", "DELETE", "/v1/nodes/n1", Value::Null).await.refused(409, "not_now");
    world.node("n2", 0).await;
    world.call("admin", "DELETE", "/v1/nodes/n2", Value::Null).await.is(204);
    world.get("admin", "/v1/nodes/n2").await.refused(404, "not_found");
}

#[tokio::test]
async fn people_projects_and_keys() {
    let world = World::new().await;
    world.post("admin", "/v1/projects", json!({"name": "lab"})).await.is(201);
    world.post("admin", "/v1/projects", json!({"name": "lab"})).await.refused(409, "name_taken");
    let user = json!({"name": "cai", "project": "lab", "role": "admin"});
    let made = world.post("admin", "/v1/users", user).await.is(201).json();
    assert_eq!(made["projects"], json!([{"project": "lab", "role": "admin"}]));
    let key = world.post("admin", "/v1/keys", json!({"user": "cai", "label": "laptop"})).await.is(201).json();
    let secret = key["key"].as_str().unwrap().to_owned();
    let bearer = format!("Bearer {secret}");
    let as_cai = [("authorization", bearer.as_str())];
    let me = world.call_with("", "GET", "/v1/me", Value::Null, &as_cai).await.is(200).json();
    assert_eq!(
        (&me["user"], &me["default_project"], &me["operator"]),
        (&json!("cai"), &json!("lab"), &json!(false))
    );
    let me =
        world.call_with("", "GET", "/v1/me", Value::Null, &[("x-api-key", &secret)]).await.is(200).json();
    assert_eq!(me["user"], "cai");

    let user = json!({"name": "dan", "project": "lab"});
    world.call_with("", "POST", "/v1/users", user, &as_cai).await.is(201);
    let members = json!({"role": "admin"});
    let lab =
        world.call_with("", "PUT", "/v1/projects/lab/members/dan", members, &as_cai).await.is(200).json();
    assert_eq!(lab["members"], json!({"cai": "admin", "dan": "admin"}));
    world.call_with("", "DELETE", "/v1/projects/lab/members/dan", Value::Null, &as_cai).await.is(200);
    world
        .call_with("", "DELETE", "/v1/projects/lab/members/cai", Value::Null, &as_cai)
        .await
        .refused(409, "not_now");
    let quota = json!({"quota_images": 3});
    let lab = world.call("admin", "PATCH", "/v1/projects/lab", quota).await.is(200).json();
    assert_eq!((&lab["quota_images"], &lab["quota_bytes"]), (&json!(3), &Value::Null));

    let listed = world.call_with("", "GET", "/v1/keys", Value::Null, &as_cai).await.is(200);
    assert!(!listed.text.contains(&secret) && listed.text.contains("laptop"));
    let path = format!("/v1/keys/{}?user=cai", key["id"].as_str().unwrap());
    world.call("admin", "DELETE", &path, Value::Null).await.is(204);
    world.call_with("", "GET", "/v1/me", Value::Null, &as_cai).await.refused(401, "unauthenticated");

    world.call("admin", "PATCH", "/v1/users/ann", json!({"disabled": true})).await.is(200);
    world.get("ann", "/v1/me").await.refused(401, "unauthenticated");
    world.call("admin", "PATCH", "/v1/users/admin", json!({"operator": false})).await.refused(409, "not_now");
    let trail = world.get("admin", "/v1/audit").await.is(200);
    for action in
        ["project.create", "user.create", "key.create", "key.revoke", "user.change", "project.member"]
    {
        assert!(trail.text.contains(action), "{action}: {}", trail.text);
    }
    assert!(!trail.text.contains(&secret));
}

#[tokio::test]
async fn what_can_be_chosen_from() {
    let world = World::new().await;
    let images = world.get("ann", "/v1/catalog").await.is(200).json();
    assert_eq!(
        images["items"][0],
        json!({"name": "base:latest", "image": "registry.example/base:1", "type": "Base"})
    );
    let flavors = world.get("ann", "/v1/flavors").await.is(200).json();
    assert_eq!(flavors["items"][1]["price_per_hour"], "58");
}

#[tokio::test]
async fn jobs_are_listed_to_their_owners_and_to_admins_who_ask_for_all() {
    let world = World::new().await;
    world.ready("ann", "anns").await;
    world.ready("bob", "bobs").await;
    let count = |answer: crate::world::Answer| answer.is(200).json()["items"].as_array().unwrap().len();
    assert_eq!(count(world.get("ann", "/v1/jobs").await), 1);
    assert_eq!(count(world.get("boss", "/v1/jobs").await), 0);
    assert_eq!(count(world.get("boss", "/v1/jobs?all=true").await), 2);
    assert_eq!(count(world.get("boss", "/v1/jobs?all=true&user=bob").await), 1);
    assert_eq!(count(world.get("admin", "/v1/jobs?all").await), 2);
    assert_eq!(count(world.get("admin", "/v1/jobs?all=1&state=succeeded&kind=launch&container=1").await), 1);
    assert_eq!(count(world.get("admin", "/v1/jobs?all=1&state=failed").await), 0);
    world.get("ann", "/v1/jobs?all=true").await.refused(403, "forbidden");
    assert_eq!(count(world.get("ann", "/v1/containers").await), 2);
    assert_eq!(count(world.get("ann", "/v1/containers?user=ann&state=ready&node=n1").await), 1);
    assert_eq!(count(world.get("admin", "/v1/containers?all=true").await), 2);
    assert_eq!(count(world.get("eve", "/v1/containers?all=true").await), 0);
}

#[tokio::test]
async fn a_broker_that_is_away_does_not_keep_a_launch_from_being_recorded() {
    let mut world = World::new().await;
    // Nothing listens on port 1.
    let broker = mothball_queue::RabbitMqSettings::new("amqp://127.0.0.1:1");
    world.parts.queue = mothball_queue::Queue::rabbitmq(broker);
    world.router = mothball_api::router(world.parts.clone(), world.shutdown.clone());
    let began = std::time::Instant::now();
    let body = json!({"name": "box", "image": "base", "flavor": "cpu-small"});
    let job = world.post("ann", "/v1/containers", body).await.is(202).job();
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    assert_eq!(world.store().due(10).await.unwrap(), [job.id], "it is still to be published");
    world.parts.queue.close().await;
}
