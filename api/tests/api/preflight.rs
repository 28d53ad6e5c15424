//! Dry runs: what the records say, what a node sees, and what is said when it does not look.

use crate::world::{Answer, NODE, World};
use mothball_domain::failure::{Failure, FailureClass};
use mothball_domain::id::{ContainerId, SurveyId};
use mothball_domain::survey::{
    DiskReport, Expected, LayerReport, MountReport, MountedAs, RegistryReport, SecretKind, SecretLike,
    Survey, SurveyOutcome, SurveyReport,
};
use mothball_queue::{Subscription, Target};
use serde_json::{Value, json};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// The node's worker as far as surveys go.
struct Node<'a> {
    world: &'a World,
    wakes: Subscription,
}

impl<'a> Node<'a> {
    async fn new(world: &'a World) -> Self {
        let target = Target::Survey(NODE.parse().unwrap());
        world.parts.queue.declare(&target).await.unwrap();
        Self { world, wakes: world.parts.queue.subscribe(vec![target], 8, CancellationToken::new()) }
    }

    /// Takes the next survey.
    async fn taken(&mut self) -> Survey {
        let delivery = self.wakes.recv().await.unwrap();
        let id = SurveyId(delivery.job.0);
        delivery.ack().await.unwrap();
        self.world.store().take_survey(id, &NODE.parse().unwrap(), "i").await.unwrap().unwrap()
    }

    /// Answers the next survey.
    async fn answers(&mut self, outcome: &SurveyOutcome) -> Survey {
        let survey = self.taken().await;
        assert!(self.world.store().finish_survey(survey.id, "i", outcome).await.unwrap());
        survey
    }
}

fn report() -> SurveyReport {
    let mount = |target: &str, mounted_as| MountReport {
        target: target.to_owned(),
        mounted_as,
        bytes: Some(1500),
        complete: true,
    };
    SurveyReport {
        way_reason: "so it is".to_owned(),
        writable_bytes: Some(3000),
        layer: Some(LayerReport {
            bytes: 3000,
            entries: 7,
            complete: true,
            secrets: vec![SecretLike { path: "/root/.netrc".to_owned(), kind: SecretKind::Netrc }],
            ..LayerReport::default()
        }),
        mounts: vec![mount("/home/ann", MountedAs::Bind), mount("/data", MountedAs::AnonymousVolume)],
        disk: Some(DiskReport { free_bytes: 9, needed_bytes: 3 }),
        registry: RegistryReport { reachable: true, problem: None },
        expected: Some(Expected { seconds: 41, saves: 3 }),
        ..SurveyReport::default()
    }
}

fn seen() -> SurveyOutcome {
    SurveyOutcome::Report(Box::new(report()))
}

async fn ask(world: &World, id: ContainerId, more: Value) -> Answer {
    let mut body = json!({"tag": "a", "dry_run": true});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    world.post("ann", &format!("/v1/containers/{id}/snapshots"), body).await
}

#[tokio::test]
async fn a_dry_run_tells_what_the_node_sees_and_starts_nothing() {
    let world = World::new().await;
    let id = world.ready("ann", "box").await;
    let mut node = Node::new(&world).await;
    let outcome = seen();
    let (told, survey) =
        tokio::join!(ask(&world, id, json!({"exclude": ["*.ckpt"]})), node.answers(&outcome));
    assert_eq!((survey.container, survey.user.as_str()), (id, "ann"));
    assert_eq!(survey.excludes[0].as_str(), "*.ckpt");
    let told = told.is(200).json();
    assert_eq!(told["possible"], true, "{told:#}");
    assert_eq!(told["mounts_not_saved"], json!(["/home/ann", "/data"]));
    assert_eq!(
        (&told["bytes_to_save"], &told["entries"], &told["way"]),
        (&json!(3000), &json!(7), &json!("engine"))
    );
    assert_eq!(
        told["secrets"],
        json!([{"path": "/root/.netrc", "kind": "netrc", "words": "logins (.netrc)"}])
    );
    assert!(told["warnings"][0].as_str().unwrap().contains("/root/.netrc"), "{told:#}");
    assert_eq!((&told["node_disk_free_bytes"], &told["excludes"]), (&json!(9), &json!(["*.ckpt"])));
    assert_eq!(told["expected"], json!({"seconds": 41, "words": "about 40 s", "saves": 3}));
    assert!(told["notes"].to_string().contains("/home/ann is a mount (1.5 kB)"), "{told:#}");

    // What would be refused is said: the volume, the protection, the quota, the job in the way.
    world.call("ann", "PATCH", "/v1/containers/box", json!({"protected": true})).await.is(200);
    world.call("admin", "PATCH", "/v1/projects/default", json!({"quota_images": 0})).await.is(200);
    let (told, _) = tokio::join!(ask(&world, id, json!({"then": "delete"})), node.answers(&outcome));
    let told = told.is(200).json();
    assert_eq!(told["possible"], false);
    let problems = told["problems"].to_string();
    for word in ["protected", "quota", "--discard-volumes"] {
        assert!(problems.contains(word), "{problems}");
    }
    assert_eq!(told["quota"], json!({"images": 0, "images_most": 0, "bytes": 0, "bytes_most": null}));
    assert_eq!(world.get("ann", "/v1/jobs?kind=snapshot").await.is(200).json()["items"], json!([]));
    assert_eq!(world.get("ann", "/v1/containers/box").await.is(200).json()["job"], Value::Null);
}

#[tokio::test]
async fn the_same_user_asking_twice_has_the_node_look_once() {
    let world = World::boxed_with(|settings| settings.limits.survey_timeout = Duration::from_secs(5)).await;
    let id = world.ready("ann", "box").await;
    let mut node = Node::new(&world).await;
    let again = async {
        let survey = node.taken().await;
        (survey, ask(&world, id, json!({})).await)
    };
    let (first, (survey, second)) = tokio::join!(ask(&world, id, json!({})), again);
    for answer in [first, second] {
        answer.refused(504, "survey_timeout");
    }
    let outcome = seen();
    // One look was asked for: the next wake-up is that of another question.
    let (other, next) = tokio::join!(ask(&world, id, json!({"exclude": ["x"]})), node.answers(&outcome));
    other.is(200);
    assert_ne!(next.id, survey.id);
    assert_eq!(next.excludes.len(), 1);
}

#[tokio::test]
async fn a_node_that_does_not_look_is_told_of_with_what_to_do() {
    // Nobody listens there: said at once.
    let world = World::boxed_with(|settings| settings.limits.survey_timeout = Duration::from_hours(1)).await;
    let id = world.ready("ann", "box").await;
    let problem = ask(&world, id, json!({})).await.refused(409, "node_silent");
    assert!(problem["hint"].is_string(), "{problem}");

    // It does not report any more: said at once.
    let world = World::boxed_with(|settings| settings.limits.survey_timeout = Duration::from_hours(1)).await;
    let id = world.ready("ann", "box").await;
    let _node = Node::new(&world).await;
    world.store().node_stopped(&World::run(NODE)).await.unwrap();
    let problem = ask(&world, id, json!({})).await.refused(409, "node_silent");
    assert!(problem["detail"].as_str().unwrap().contains(NODE), "{problem}");
    assert!(problem["hint"].as_str().unwrap().contains("help@example"), "{problem}");

    // It reports and does not look: said when the limit is over.
    let world = World::new().await;
    let id = world.ready("ann", "box").await;
    let mut node = Node::new(&world).await;
    let (answer, _) = tokio::join!(ask(&world, id, json!({})), node.taken());
    let problem = answer.refused(504, "survey_timeout");
    assert!(problem["hint"].is_string(), "{problem}");

    // It cannot see the container.
    let failed = Failure::permanent(FailureClass::Gone, "the container does not exist on its node");
    let failed = SurveyOutcome::Failed(failed.with_hint("List them."));
    let (answer, _) = tokio::join!(ask(&world, id, json!({"exclude": ["x"]})), node.answers(&failed));
    let problem = answer.refused(409, "survey_failed");
    assert_eq!(problem["detail"], "the container does not exist on its node");
}

#[tokio::test]
async fn what_is_on_no_node_is_told_of_from_the_records() {
    let world = World::new().await;
    let id = world.ready("ann", "box").await;
    let job = world.post("ann", &format!("/v1/containers/{id}/park"), json!({})).await.is(202).job();
    world.succeed(job.id).await;
    let told = ask(&world, id, json!({})).await.is(200).json();
    assert_eq!(told["possible"], false);
    assert!(told["problems"][0].as_str().unwrap().contains("parked"), "{told:#}");
    ask(&world, ContainerId(99), json!({})).await.refused(404, "not_found");
}
