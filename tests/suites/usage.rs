//! What containers use, and for how long they have been idle, as their nodes see it.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use mothball_harness::http::Api;
use mothball_harness::system::{BASE, Pair, System};
use mothball_harness::wait::eventually;
use mothball_tests::flow::{self, background};
use mothball_tests::on_both_pairs;
use serde_json::{Value, json};

on_both_pairs!(work_is_told_from_idleness, gpus_and_gaps);

/// Long enough for a few looks on a busy machine.
const SOON: Duration = Duration::from_mins(1);

/// Waits until what the container uses is as wanted.
async fn until(api: &Api, id: &str, what: &str, wanted: impl Fn(&Value) -> bool) -> Result<Value> {
    let mut seen = Value::Null;
    let found = eventually(SOON, what, async || {
        seen = flow::container(api, id).await.ok()?["usage"].clone();
        wanted(&seen).then(|| seen.clone())
    });
    let found = found.await;
    found.with_context(|| format!("seen last: {seen}"))
}

fn idle_seconds(usage: &Value) -> u64 {
    usage["idle_seconds"].as_u64().unwrap_or(0)
}

async fn work_is_told_from_idleness(pair: Pair) -> Result<()> {
    let system = System::options(pair).env("MOTHBALL_WORKER__USAGE_INTERVAL", "400ms").start().await?;
    let (api, engine) = (system.operator()?, system.dockerd());
    let container = flow::launch(&api, "box", BASE).await?;

    let idle = until(&api, &container.id, "two seconds of idleness", |u| idle_seconds(u) >= 2).await?;
    ensure!(idle["cpu_cores"].as_f64().is_some_and(|cores| cores < 0.1), "{idle}");
    ensure!(idle["gpu_utilization"].is_null() && idle["terminals"] == 0, "{idle}");
    let metrics = api.get("/metrics").await?;
    let line = format!(
        "mothball_container_idle_seconds{{container=\"{}\",node=\"{}\"}}",
        container.id, container.node
    );
    ensure!(String::from_utf8_lossy(&metrics.body).contains(&line), "no {line}");

    background(engine, &container.docker_id, ": > /busy; while test -e /busy; do :; done").await?;
    let busy = until(&api, &container.id, "activity", |u| u["cpu_cores"].as_f64() > Some(0.1)).await?;
    ensure!(idle_seconds(&busy) == 0, "{busy}");
    ensure!(busy["last_activity"].as_str().is_some_and(|w| w.contains("CPU cores")), "{busy}");
    let shown = system.api.cli(&["containers", "show", &container.id]).await?.success()?;
    ensure!(shown.contains("CPU cores") && shown.contains("idle for"), "{shown}");

    flow::root(engine, &container.docker_id, "rm /busy").await?;
    until(&api, &container.id, "idleness again", |u| idle_seconds(u) >= 1).await?;
    Ok(())
}

async fn gpus_and_gaps(pair: Pair) -> Result<()> {
    let flavor =
        "[[flavors]]\nname = \"gpu\"\ngpus = 1\ncpus = 1\nmemory = \"64MiB\"\nprice_per_hour = \"58\"";
    let mut system = System::options(pair)
        .env("MOTHBALL_WORKER__USAGE_INTERVAL", "400ms")
        .env("MOTHBALL_WORKER__GPUS", "2")
        .env("MOTHBALL_WORKER__GPU_REQUEST", "none")
        .configuration(flavor)
        .start()
        .await?;
    let api = system.operator()?;
    let trial = system.worker().data().join("worker/gpu-utilization");
    std::fs::create_dir_all(trial.parent().context("a directory")?)?;
    std::fs::write(&trial, "0 0.0\n1 0.0\n").context("say how busy the GPUs are")?;
    let container = flow::launch_as(&api, &json!({"name": "box", "image": BASE, "flavor": "gpu"})).await?;
    until(&api, &container.id, "an idle GPU", |u| u["gpu_utilization"] == 0.0 && idle_seconds(u) >= 1)
        .await?;

    std::fs::write(&trial, "0 0.97\n1 0.0\n").context("say how busy the GPUs are")?;
    let busy = until(&api, &container.id, "a busy GPU", |u| u["gpu_utilization"] == 0.97).await?;
    ensure!(idle_seconds(&busy) == 0, "{busy}");
    ensure!(busy["last_activity"].as_str().is_some_and(|w| w.contains("97 % busy")), "{busy}");
    let metrics = String::from_utf8_lossy(&api.get("/metrics").await?.body).into_owned();
    let line = format!("mothball_gpu_utilization_ratio{{gpu=\"0\",node=\"{}\"}} 0.97", container.node);
    ensure!(metrics.contains(&line), "no {line} in {metrics}");

    // A worker that was away knows nothing of the time between: it does not count as idleness.
    std::fs::write(&trial, "0 0.0\n1 0.0\n").context("say how busy the GPUs are")?;
    let before = until(&api, &container.id, "three seconds of idleness", |u| idle_seconds(u) >= 3).await?;
    let at = before["at"].clone();
    system.worker().kill9();
    system.worker().start_again().await?;
    let api = system.operator()?;
    let after = until(&api, &container.id, "a look after the gap", |u| u["at"] != at && !u.is_null()).await?;
    ensure!(idle_seconds(&after) < 3, "the gap counted as idleness: {after}");
    Ok(())
}
