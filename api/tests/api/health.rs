//! Health and metrics.

use crate::world::World;
use axum::body::Body;
use axum::http::Request;
use http_body_util::BodyExt;
use mothball_api::{ReadyCheck, health_router};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

#[tokio::test]
async fn live_and_ready_need_no_key_and_ready_names_who_is_not() {
    let world = World::new().await;
    world.get("", "/livez").await.is(200);
    assert_eq!(world.get("", "/readyz").await.is(200).json()["checks"]["store"], true);

    let (tell, ready) = watch::channel(false);
    let mut parts = world.parts.clone();
    parts.ready.push(ReadyCheck { name: "worker".into(), ready });
    let health = health_router(parts, CancellationToken::new());
    let ask = || async {
        let request = Request::get("/readyz").body(Body::empty()).unwrap();
        let response = health.clone().oneshot(request).await.unwrap();
        let status = response.status().as_u16();
        let body: Value =
            serde_json::from_slice(&response.into_body().collect().await.unwrap().to_bytes()).unwrap();
        (status, body["checks"]["worker"].clone())
    };
    assert_eq!(ask().await, (503, json!(false)));
    tell.send(true).unwrap();
    assert_eq!(ask().await, (200, json!(true)));
    world.shutdown.cancel();
    world.get("", "/readyz").await.is(503);
}

#[tokio::test]
async fn metrics_count_what_happened_and_hold_zeros_for_what_did_not() {
    let world = World::new().await;
    let id = world.ready("ann", "box").await;
    world.saved("ann", id, "v1").await;
    world.get("ann", "/v1/containers/box").await.is(200);
    world.get("ann", "/nope").await.is(404);
    world.post("ann", "/v1/containers/box/snapshots", json!({"tag": "v2"})).await.is(202);
    let text = world.get("", "/metrics").await.is(200).text;
    for line in [
        r#"mothball_jobs_submitted_total{kind="snapshot"} 2"#,
        r#"mothball_jobs_submitted_total{kind="delete"} 0"#,
        r#"mothball_jobs{kind="snapshot",state="queued"} 1"#,
        r#"mothball_jobs{kind="delete",state="failed"} 0"#,
        r#"mothball_oldest_unfinished_job_age_seconds{kind="launch"} 0"#,
        r#"mothball_containers{flavor="cpu-small",state="ready"} 1"#,
        r#"mothball_containers{flavor="gpu-8",state="lost"} 0"#,
        r#"mothball_gpus{node="n1",state="free"} 2"#,
        r#"mothball_gpus{node="n1",state="held"} 0"#,
        r#"mothball_worker_last_heartbeat_timestamp_seconds{node="n1"} "#,
        r#"mothball_http_requests_total{method="GET",route="/v1/containers/{container}",status="200"} 1"#,
        r#"mothball_http_requests_total{method="GET",route="unmatched",status="404"} 1"#,
        r#"mothball_http_request_duration_seconds_count{method="GET",route="/v1/containers/{container}"} 1"#,
        r#"mothball_build_info{version="0"} 1"#,
    ] {
        assert!(text.contains(line), "{line} is not in\n{text}");
    }
    assert!(!text.contains("mothball_image_bytes"), "what belongs to projects is for operators");
    assert!(!world.get("ann", "/metrics").await.is(200).text.contains("mothball_image_bytes"));
    let text = world.get("admin", "/metrics").await.is(200).text;
    for line in [
        r#"mothball_images{project="default"} 1"#,
        r#"mothball_image_bytes{project="default"} 1234"#,
        r#"mothball_images{project="other"} 0"#,
    ] {
        assert!(text.contains(line), "{line} is not in\n{text}");
    }
}

#[tokio::test]
async fn health_may_listen_elsewhere() {
    let world = World::boxed_with(|settings| settings.health = false).await;
    world.get("", "/metrics").await.refused(404, "not_found");
    let health = health_router(world.parts.clone(), CancellationToken::new());
    let request = Request::get("/metrics").body(Body::empty()).unwrap();
    let body = health.oneshot(request).await.unwrap().into_body().collect().await.unwrap().to_bytes();
    assert!(String::from_utf8_lossy(&body).contains("mothball_images{"));
}
