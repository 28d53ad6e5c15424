//! Mothball, over its API: a snapshot job, a launch job.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, Result};
use jiff::Timestamp;
use mothball_harness::http::Api;
use serde_json::{Value, json};

use super::{Done, text};
use crate::rig::FLAVOR;

const LIMIT: Duration = Duration::from_hours(1);
const STEPS: &str = "mothball_job_duration_seconds_sum";
const FROZEN: &str = "mothball_container_pause_seconds_sum";

/// Saves a container under a tag and waits for the image's proof.
pub(crate) async fn save(api: &Api, container: &str, tag: &str) -> Result<Done> {
    let before = sums(api).await?;
    let path = format!("/v1/containers/{container}/snapshots");
    let id = api.post(&path, &json!({"tag": tag})).await?.job_id(202)?;
    let mut done = ended(api, &id, "snapshot", &before).await?;
    let image = text(&api.job(&id).await?["image"]);
    let image = api.get(&format!("/v1/images/{image}")).await?.expect(200)?;
    done.reference = text(&image["reference"]);
    Ok(done)
}

/// Launches a container from an image and waits until it is ready; with the container's id.
pub(crate) async fn launch(api: &Api, name: &str, image: &str) -> Result<(String, Done)> {
    let before = sums(api).await?;
    let body = json!({"name": name, "image": image, "flavor": FLAVOR});
    let id = api.post("/v1/containers", &body).await?.job_id(202)?;
    let done = ended(api, &id, "launch", &before).await?;
    Ok((text(&api.job(&id).await?["container"]), done))
}

/// Deletes a container and waits until it is gone.
pub(crate) async fn delete(api: &Api, container: &str) -> Result<()> {
    let id = api.delete(&format!("/v1/containers/{container}")).await?.job_id(202)?;
    api.wait_success(&id, LIMIT).await.map(drop)
}

async fn ended(api: &Api, id: &str, kind: &str, before: &BTreeMap<String, f64>) -> Result<Done> {
    let job = api.wait_success(id, LIMIT).await?;
    let after = sums(api).await?;
    let since = |name: &str| after.get(name).unwrap_or(&0.0) - before.get(name).unwrap_or(&0.0);
    let of_kind = format!("{STEPS}{{kind=\"{kind}\",step=\"");
    let stages = steps(&job).into_iter().map(|step| {
        let seconds = since(&format!("{of_kind}{step}\"}}"));
        (step, seconds)
    });
    let notes = job["notes"].as_array().into_iter().flatten().map(text).collect();
    Ok(Done {
        stages: stages.collect(),
        job_s: Some(between(&job, "started_at", "finished_at")?),
        frozen_said_s: (kind == "snapshot").then(|| since(FROZEN)),
        notes,
        ..Done::default()
    })
}

/// The steps that a job took, in order.
fn steps(job: &Value) -> Vec<String> {
    let mut steps = Vec::new();
    for event in job["events"].as_array().into_iter().flatten().filter(|event| event["event"] == "step") {
        let step = text(&event["detail"]);
        if !steps.contains(&step) {
            steps.push(step);
        }
    }
    steps
}

fn between(job: &Value, start: &str, end: &str) -> Result<f64> {
    let at = |name: &str| -> Result<Timestamp> {
        job[name].as_str().unwrap_or_default().parse().with_context(|| format!("read {name} of {job:#}"))
    };
    Ok(at(end)?.duration_since(at(start)?).as_secs_f64())
}

/// The sums of the histograms that tell where time went, by their whole names.
async fn sums(api: &Api) -> Result<BTreeMap<String, f64>> {
    let answer = api.get("/metrics").await?;
    Ok(parse(&String::from_utf8_lossy(&answer.body)))
}

fn parse(metrics: &str) -> BTreeMap<String, f64> {
    let line = |line: &str| {
        let (name, value) = line.rsplit_once(' ')?;
        (name.starts_with(STEPS) || name.starts_with(FROZEN)).then_some(())?;
        Some((name.to_owned(), value.parse().ok()?))
    };
    metrics.lines().filter_map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_are_read_from_the_text_of_metrics() {
        let text = "# HELP x y\n\
                    mothball_job_duration_seconds_bucket{kind=\"snapshot\",step=\"read\",le=\"0.1\"} 1\n\
                    mothball_job_duration_seconds_sum{kind=\"snapshot\",step=\"read\"} 2.5\n\
                    mothball_container_pause_seconds_sum 0.125\n\
                    mothball_container_pause_seconds_count 4\n";
        let sums = parse(text);
        assert_eq!(sums.len(), 2);
        assert!((sums[FROZEN] - 0.125).abs() < 1e-9);
    }

    #[test]
    fn steps_are_in_the_order_of_the_first_attempt() {
        let step = |name: &str| json!({"event": "step", "detail": name});
        let job = json!({"events": [{"event": "submitted"}, step("read"), step("upload"), step("read")]});
        assert_eq!(steps(&job), ["read", "upload"]);
    }

    #[test]
    fn a_jobs_time_is_from_its_claim_to_its_end() {
        let job = json!({"started_at": "2026-01-01T00:00:00.5Z", "finished_at": "2026-01-01T00:00:08Z"});
        assert!((between(&job, "started_at", "finished_at").unwrap() - 7.5).abs() < 1e-9);
        assert!(between(&json!({}), "started_at", "finished_at").is_err());
    }
}
