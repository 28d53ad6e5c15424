//! What projects let Mothball do by itself, on real containers: the busy one is left alone, the idle one is warned of, kept,
//! warned of again, parked, and woken with its files; a park that fails leaves the container running.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use mothball_harness::http::Api;
use mothball_harness::proxy::{Fault, Rule};
use mothball_harness::system::{BASE, JOB_LIMIT, Options, Pair, System};
use mothball_harness::wait::eventually;
use mothball_tests::flow::{self, background, root};
use mothball_tests::on_both_pairs;
use serde_json::{Value, json};

on_both_pairs!(
    idle_is_warned_kept_parked_and_woken,
    the_protected_are_told_and_stay,
    lifetime_and_budget,
    a_park_that_fails_leaves_the_container_running,
);

/// Long enough for a window, a grace and a park on a busy machine.
const SOON: Duration = Duration::from_secs(150);

fn options(pair: Pair) -> Options {
    System::options(pair)
        .env("MOTHBALL_WORKER__USAGE_INTERVAL", "1s")
        .env("MOTHBALL_POLICIES__TICK", "300ms")
        .env("MOTHBALL_POLICIES__IDLE_MIN", "1s")
        .env("MOTHBALL_POLICIES__GRACE_MIN", "1s")
}

fn idle_policy(grace_seconds: u64) -> Value {
    json!({"idle": {"cpu_below": 0.2, "window_seconds": 5, "samples": 3}, "grace_seconds": grace_seconds})
}

async fn set(api: &Api, policy: &Value) -> Result<()> {
    let request = api.request(reqwest::Method::PUT, "/v1/policies/default/parking").json(policy);
    mothball_harness::http::send(request).await?.expect(200).map(drop)
}

async fn until(api: &Api, id: &str, what: &str, wanted: impl Fn(&Value) -> bool) -> Result<Value> {
    let mut seen = Value::Null;
    let found = eventually(SOON, what, async || {
        seen = flow::container(api, id).await.ok()?;
        wanted(&seen).then(|| seen.clone())
    });
    let found = found.await;
    found.with_context(|| format!("seen last: {seen:#}"))
}

async fn actions(api: &Api) -> Result<Vec<String>> {
    let trail = api.get("/v1/audit?project=default&limit=200").await?.expect(200)?;
    let action = |entry: &Value| entry["action"].as_str().map(str::to_owned);
    Ok(trail["items"].as_array().into_iter().flatten().filter_map(action).collect())
}

async fn idle_is_warned_kept_parked_and_woken(pair: Pair) -> Result<()> {
    let system = options(pair).start().await?;
    let (api, engine) = (system.operator()?, system.dockerd());
    let busy = flow::launch(&api, "busy", BASE).await?;
    let idle = flow::launch(&api, "idle", BASE).await?;
    background(engine, &busy.docker_id, "while :; do :; done").await?;
    root(engine, &idle.docker_id, "echo precious > /root-file").await?;
    set(&api, &idle_policy(3600)).await?;

    let warned = until(&api, &idle.id, "a warning", |c| !c["warning"].is_null()).await?;
    ensure!(warned["warning"]["reason"] == "idle" && warned["state"] == "ready", "{warned:#}");
    let preview = api.get("/v1/policies/default/parking/preview").await?.expect(200)?;
    let names: Vec<&Value> = preview["items"].as_array().into_iter().flatten().map(|f| &f["name"]).collect();
    ensure!(names == [&json!("idle")], "{preview:#}");
    let shown = system.api.cli(&["policy", "preview"]).await?.success()?;
    ensure!(shown.contains("idle") && !shown.contains("busy"), "{shown}");

    // Its owner keeps it: the warning goes, and does not come back while that lasts.
    let later = jiff::Timestamp::now() + Duration::from_hours(1);
    api.patch(&format!("/v1/containers/{}", idle.id), &json!({"keep_until": later})).await?.expect(200)?;
    until(&api, &idle.id, "the warning's withdrawal", |c| c["warning"].is_null()).await?;
    api.patch(&format!("/v1/containers/{}", idle.id), &json!({"keep_until": null})).await?.expect(200)?;
    until(&api, &idle.id, "another warning", |c| !c["warning"].is_null()).await?;

    // A policy that is changed counts at once: the rule is the same, the grace is over in seconds.
    set(&api, &idle_policy(3)).await?;
    api.patch(&format!("/v1/containers/{}", idle.id), &json!({"keep_until": later})).await?.expect(200)?;
    until(&api, &idle.id, "the withdrawal", |c| c["warning"].is_null()).await?;
    api.patch(&format!("/v1/containers/{}", idle.id), &json!({"keep_until": null})).await?.expect(200)?;
    until(&api, &idle.id, "the park", |c| c["state"] == "parked" && c["warning"].is_null()).await?;
    ensure!(flow::container(&api, &busy.id).await?["state"] == "ready", "the busy one was not left alone");
    ensure!(flow::container(&api, &busy.id).await?["warning"].is_null());
    let done = actions(&api).await?;
    let count = |what: &str| done.iter().filter(|action| *action == what).count();
    ensure!(
        count("policy.park") == 1 && count("policy.warn") == 3 && count("policy.withdraw") == 2,
        "{done:?}"
    );

    set(&api, &json!({})).await?;
    let job = api.post(&format!("/v1/containers/{}/wake", idle.id), &json!({})).await?.job_id(202)?;
    api.wait_success(&job, JOB_LIMIT).await?;
    let woken = flow::launched(&api, &idle.id).await?;
    ensure!(root(engine, &woken.docker_id, "cat /root-file").await? == "precious");
    Ok(())
}

async fn the_protected_are_told_and_stay(pair: Pair) -> Result<()> {
    let system = options(pair).start().await?;
    let api = system.operator()?;
    let container = flow::launch(&api, "box", BASE).await?;
    api.patch(&format!("/v1/containers/{}", container.id), &json!({"protected": true})).await?.expect(200)?;
    set(&api, &json!({"budget_per_month": "0.000000001", "grace_seconds": 60})).await?;
    let told = until(&api, &container.id, "a warning", |c| !c["warning"].is_null()).await?;
    ensure!(told["warning"]["protected"] == true && told["warning"]["reason"] == "budget", "{told:#}");
    // Its protection is switched off: it gets the whole grace from then on.
    api.patch(&format!("/v1/containers/{}", container.id), &json!({"protected": false}))
        .await?
        .expect(200)?;
    let warned = until(&api, &container.id, "a warning anew", |c| c["warning"]["protected"] == false).await?;
    ensure!(warned["state"] == "ready" && warned["warning"]["warned_at"] != told["warning"]["warned_at"]);
    let times = |c: &Value, field: &str| -> Result<jiff::Timestamp> {
        Ok(c["warning"][field].as_str().context("a time")?.parse()?)
    };
    let grace = times(&warned, "park_at")?.duration_since(times(&warned, "warned_at")?);
    ensure!(grace.as_secs() == 60, "a grace of {grace:?}");
    Ok(())
}

async fn lifetime_and_budget(pair: Pair) -> Result<()> {
    let system = options(pair).start().await?;
    let api = system.operator()?;
    let container = flow::launch(&api, "box", BASE).await?;
    for (bad, words) in [
        (json!({"lifetime_seconds": 1}), "lifetime_seconds is at least"),
        (json!({"budget_per_month": "a lot"}), "budget_per_month is a decimal"),
        (json!({"grace_seconds": 0}), "grace_seconds is between"),
        (json!({"idle": {"window_seconds": 50}}), "at least one of"),
        (json!({"idel": null}), "idel"),
    ] {
        let request = api.request(reqwest::Method::PUT, "/v1/policies/default/parking").json(&bad);
        let answer = mothball_harness::http::send(request).await?;
        let said = answer.json.to_string();
        ensure!(answer.status == 422 || answer.status == 400, "{bad}: {}", answer.status);
        ensure!(said.contains(words), "{bad}: {said}");
    }
    let shown =
        system.api.cli(&["policy", "set", "--budget", "100000", "--lifetime", "7d"]).await?.success()?;
    ensure!(shown.contains("100000") && shown.contains("7 d"), "{shown}");
    ensure!(flow::container(&api, &container.id).await?["warning"].is_null());
    set(&api, &json!({"budget_per_month": "0.000000001"})).await?;
    let warned = until(&api, &container.id, "a warning", |c| !c["warning"].is_null()).await?;
    ensure!(warned["warning"]["reason"] == "budget", "{warned:#}");
    let shown = system.api.cli(&["policy", "off"]).await?.success()?;
    ensure!(shown.contains("No container"), "{shown}");
    until(&api, &container.id, "the withdrawal", |c| c["warning"].is_null()).await?;
    Ok(())
}

async fn a_park_that_fails_leaves_the_container_running(pair: Pair) -> Result<()> {
    let system = options(pair).proxied().env("MOTHBALL_JOBS__MAX_ATTEMPTS", "1").start().await?;
    let api = system.operator()?;
    let container = flow::launch(&api, "box", BASE).await?;
    root(system.dockerd(), &container.docker_id, "echo precious > /root-file").await?;
    let proxies = system.proxies.as_ref().context("proxies")?;
    proxies.registry.inject(Rule::on("POST", "/blobs/uploads/"), Fault::answer(500, "broken"));
    set(&api, &json!({"budget_per_month": "0.000000001", "grace_seconds": 3})).await?;

    let failed = eventually(SOON, "a park that failed", async || {
        let jobs = api.get("/v1/jobs?all=true&project=default&kind=snapshot").await.ok()?.json;
        jobs["items"].as_array()?.iter().find(|job| job["state"] == "failed").cloned()
    });
    let failed = failed.await?;
    ensure!(failed["error"]["class"] == "registry", "{failed:#}");
    let left = until(&api, &container.id, "rest", |c| c["job"].is_null() || c["state"] == "ready").await?;
    ensure!(left["state"] == "ready", "{left:#}");
    ensure!(flow::status(system.dockerd(), &container.docker_id).await? == "running");
    ensure!(root(system.dockerd(), &container.docker_id, "cat /root-file").await? == "precious");
    // It is tried again after another grace, not at once.
    let jobs = eventually(SOON, "the next park", async || {
        let jobs = api.get("/v1/jobs?all=true&project=default&kind=snapshot").await.ok()?.json;
        jobs["items"].as_array().filter(|all| all.len() > 1).cloned()
    });
    let time = |job: &Value, field: &str| -> Result<jiff::Timestamp> {
        Ok(job[field].as_str().context("a time")?.parse()?)
    };
    let first_end = time(&failed, "finished_at")?;
    for next in jobs.await?.iter().filter(|job| job["id"] != failed["id"]) {
        let waited = time(next, "created_at")?.duration_since(first_end);
        ensure!(waited.as_millis() >= 3000, "it was tried again after {waited:?}");
    }
    Ok(())
}
