//! GPUs are given all or none, first come first served; nodes are drained, die and come back; containers vanish and appear
//! behind our back. Whoever has to wait is told for what.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use mothball_harness::dockerd::Dockerd;
use mothball_harness::http::Api;
use mothball_harness::system::{BASE, JOB_LIMIT, Options, Pair, System};
use mothball_harness::wait::{eventually, try_eventually};
use mothball_tests::flow::{self, Launched};
use mothball_tests::moments;
use serde_json::{Value, json};

use crate::faults::{SOON, Way, assert_clean, events, launch, options, proxy, save};

const FLAVORS: &str = r#"
[[flavors]]
name = "cpu-small"
gpus = 0
cpus = 1
memory = "64MiB"
price_per_hour = "3600"
[[flavors]]
name = "one"
gpus = 1
cpus = 1
memory = "64MiB"
price_per_hour = "58"
[[flavors]]
name = "two"
gpus = 2
cpus = 1
memory = "64MiB"
price_per_hour = "116"
[[flavors]]
name = "three"
gpus = 3
cpus = 1
memory = "64MiB"
price_per_hour = "174"
"#;

mothball_tests::on_both_pairs!(
    gpus_are_given_all_or_none_and_in_turn,
    a_drained_node_finishes_and_takes_nothing_new,
    what_happens_behind_our_back_is_seen,
);

fn with_gpus(pair: Pair) -> Options {
    options(pair)
        .configuration(FLAVORS)
        .env("MOTHBALL_WORKER__GPUS", "2")
        .env("MOTHBALL_WORKER__GPU_REQUEST", "none")
}

/// Asks for a container; the job as answered.
async fn ask(api: &Api, name: &str, flavor: &str) -> Result<Value> {
    api.post("/v1/containers", &json!({"name": name, "image": BASE, "flavor": flavor})).await?.expect(202)
}

fn id(job: &Value) -> String {
    flow::text(&job["id"])
}

async fn ready(api: &Api, job: &Value) -> Result<Launched> {
    let job = api.wait_success(&id(job), JOB_LIMIT).await?;
    flow::launched(api, &flow::text(&job["container"])).await
}

/// That a job waits, and says for what.
async fn waits(api: &Api, job: &Value, what: &str) -> Result<()> {
    let job = api.job(&id(job)).await?;
    let why = job["waiting_for"].as_str().unwrap_or_default().to_owned();
    ensure!(
        job["state"] == "queued" && job["node"].is_null() && why.contains(what),
        "not for {what:?}: {job:#}"
    );
    Ok(())
}

/// The node as the API shows it.
async fn node(api: &Api, name: &str) -> Result<Value> {
    api.get(&format!("/v1/nodes/{name}")).await?.expect(200)
}

async fn delete(api: &Api, container: &str) -> Result<()> {
    let job = api.delete(&format!("/v1/containers/{container}")).await?.job_id(202)?;
    api.wait_success(&job, JOB_LIMIT).await.map(drop)
}

/// A sample of a metric, by its name with labels.
async fn metric(api: &Api, sample: &str) -> Result<f64> {
    let answer = api.get("/metrics").await?;
    let text = String::from_utf8_lossy(&answer.body).into_owned();
    let line = text.lines().find_map(|line| line.strip_prefix(sample)?.strip_prefix(' '));
    line.with_context(|| format!("no {sample} in {text}"))?.trim().parse().context("read a metric")
}

async fn gpus_are_given_all_or_none_and_in_turn(pair: Pair) -> Result<()> {
    let system = with_gpus(pair).start().await?;
    let api = system.operator()?;
    let first = ready(&api, &ask(&api, "first", "one").await?).await?;
    assert_eq!(flow::container(&api, &first.id).await?["gpus"], json!([0]));

    // Two do not fit beside one: none is given. Who comes later waits for its turn, although one is free.
    let pair_of = ask(&api, "pair", "two").await?;
    let third = ask(&api, "third", "one").await?;
    let fourth = ask(&api, "fourth", "one").await?;
    waits(&api, &pair_of, "2 free GPUs on one node").await?;
    waits(&api, &third, &id(&pair_of)).await?;
    waits(&api, &fourth, "its turn").await?;
    // A launch that can never fit keeps nobody else waiting; one without GPUs waits for nobody.
    let never = ask(&api, "never", "three").await?;
    waits(&api, &never, "the largest live node has 2").await?;
    ready(&api, &ask(&api, "plain", "cpu-small").await?).await?;
    let shown = node(&api, "node-a").await?;
    ensure!(shown["gpus_free"] == 1 && flow::text(&shown["gpus"][0]["container"]) == first.id, "{shown:#}");
    ensure!(shown["gpus"][1]["container"].is_null(), "{shown:#}");
    for (sample, value) in [
        (r#"mothball_gpus{node="node-a",state="held"}"#, 1),
        (r#"mothball_gpus{node="node-a",state="free"}"#, 1),
        (r#"mothball_containers{flavor="one",state="initializing"}"#, 2),
        (r#"mothball_containers{flavor="one",state="ready"}"#, 1),
        (r#"mothball_jobs{kind="launch",state="queued"}"#, 4),
    ] {
        assert_eq!(metric(&api.without_key(), sample).await? as i64, value, "{sample}");
    }

    // A stopped container keeps its GPU: it could not be started again without.
    let stop = api.post(&format!("/v1/containers/{}/stop", first.id), &json!({})).await?.job_id(202)?;
    api.wait_success(&stop, JOB_LIMIT).await?;
    waits(&api, &pair_of, "2 free GPUs").await?;

    // Freed by a delete, and by a save that deletes: whoever is next starts by itself.
    delete(&api, &first.id).await?;
    let both = ready(&api, &pair_of).await?;
    assert_eq!(flow::container(&api, &both.id).await?["gpus"], json!([0, 1]));
    waits(&api, &third, "1 free GPUs").await.or(waits(&api, &third, "its turn").await)?;
    flow::save_and_delete(&api, &both.id, "v1").await?;
    let (third, fourth) = tokio::try_join!(ready(&api, &third), ready(&api, &fourth))?;
    let gpus = |shown: Value| shown["gpus"][0].as_u64();
    let held =
        [gpus(flow::container(&api, &third.id).await?), gpus(flow::container(&api, &fourth.id).await?)];
    ensure!(held == [Some(0), Some(1)] || held == [Some(1), Some(0)], "{held:?}");

    // In turn, also when one becomes free at a time.
    let queue = [ask(&api, "fifth", "one").await?, ask(&api, "sixth", "one").await?];
    delete(&api, &fourth.id).await?;
    ready(&api, &queue[0]).await?;
    let last = api.job(&id(&queue[1])).await?;
    ensure!(last["state"] == "queued" && last["waiting_for"].is_string(), "{last:#}");
    flow::cancel(&api, &id(&queue[1])).await?;
    flow::cancel(&api, &id(&never)).await?;

    // A launch that fails gives back what it had.
    delete(&api, &third.id).await?;
    let socket = proxy(&system, Way::Docker)?;
    let refusal = mothball_harness::proxy::Fault::answer(400, r#"{"message":"injected"}"#);
    socket.inject(mothball_harness::proxy::Rule::on("POST", "/containers/create?").times(1), refusal);
    let failed = ask(&api, "failed", "one").await?;
    api.wait_failure(&id(&failed), "engine", JOB_LIMIT).await?;
    assert_eq!(node(&api, "node-a").await?["gpus_free"], 1);
    assert_eq!(flow::container(&api, &flow::text(&failed["container"])).await?["state"], "error");
    assert_clean(&system).await
}

async fn a_drained_node_finishes_and_takes_nothing_new(pair: Pair) -> Result<()> {
    let mut system = with_gpus(pair).start().await?;
    if pair == Pair::Servers {
        system.add_node("node-b").await?;
    }
    let api = system.operator()?;
    let (container, docker_id) = launch(&system, "box").await?;
    assert_eq!(flow::container(&api, &container).await?["node"], "node-a");
    let gate = proxy(&system, Way::Registry)?.hold(moments::upload().times(1));
    let running = save(&api, &container, "v1", "keep").await?;
    gate.reached(JOB_LIMIT).await?;
    let drained = api.post("/v1/nodes/node-a/drain", &json!({})).await?.expect(200)?;
    ensure!(drained["state"] == "drained" && drained["drained"] == true, "{drained:#}");
    gate.open();
    api.wait_success(&running, JOB_LIMIT).await?;
    // What runs there is served on.
    flow::save_and_keep(&api, &container, "v2").await?;
    assert_eq!(flow::status(system.dockerd(), &docker_id).await?, "running");

    let next = ask(&api, "next", "one").await?;
    if pair == Pair::Servers {
        assert_eq!(ready(&api, &next).await?.node, "node-b");
    } else {
        waits(&api, &next, "a node that is not drained").await?;
    }
    let resumed = api.post("/v1/nodes/node-a/resume", &json!({})).await?.expect(200)?;
    ensure!(resumed["state"] == "ready", "{resumed:#}");
    ready(&api, &next).await?;
    // A drain outlives a restart of the worker.
    api.post("/v1/nodes/node-a/drain", &json!({})).await?.expect(200)?;
    assert!(system.worker().stop().await?.success());
    system.worker().start_again().await?;
    system.api.wait_able().await?;
    let api = system.operator()?;
    assert_eq!(node(&api, "node-a").await?["drained"], true);
    for call in ["drain", "resume"] {
        assert_eq!(
            api.post(&format!("/v1/nodes/nowhere/{call}"), &json!({})).await?.problem(404)?,
            "not_found"
        );
    }
    Ok(())
}

async fn what_happens_behind_our_back_is_seen(pair: Pair) -> Result<()> {
    let system = with_gpus(pair).start().await?;
    let api = system.operator()?;
    let engine = system.dockerd();
    let ours = ready(&api, &ask(&api, "ours", "one").await?).await?;

    // Stopped and started by hand.
    engine.docker(&["stop", "--time", "1", &ours.docker_id]).await?;
    becomes(&api, &ours.id, "stopped").await?;
    engine.docker(&["start", &ours.docker_id]).await?;
    becomes(&api, &ours.id, "ready").await?;

    // Somebody else's container may carry our labels: it is reported, and nothing happens to it.
    let label = format!("mothball.container={}", ours.id);
    let stray = engine.docker(&["run", "--detach", "--label", &label, BASE]).await?;
    let known = ["run", "--detach", "--label", "mothball.container=999999", BASE];
    let unknown = engine.docker(&known).await?;
    let strays = try_eventually(SOON, "both strays to be reported", async || {
        let strays = node(&api, "node-a").await?["strays"].clone();
        let both = strays.as_array().is_some_and(|strays| strays.len() == 2);
        Ok(both.then_some(strays))
    })
    .await?;
    for docker_id in [&stray, &unknown] {
        ensure!(
            strays.as_array().is_some_and(|all| all.iter().any(|id| id == docker_id.as_str())),
            "{strays}"
        );
    }

    // Removed by hand: lost, and not billed any more.
    engine.docker(&["rm", "--force", &ours.docker_id]).await?;
    becomes(&api, &ours.id, "lost").await?;
    let lost = flow::container(&api, &ours.id).await?;
    ensure!(lost["reason"].is_string(), "{lost:#}");
    assert_eq!(flow::container(&api, &ours.id).await?["cost"], lost["cost"]);
    let refused = api.post(&format!("/v1/containers/{}/snapshots", ours.id), &json!({"tag": "v1"})).await?;
    assert_eq!(refused.problem(409)?, "not_now");
    // Its GPU is held until somebody says that it is gone for good.
    assert_eq!(node(&api, "node-a").await?["gpus_free"], 1);
    let forgotten = api.delete(&format!("/v1/containers/{}?forget=true", ours.id)).await?.expect(200)?;
    assert_eq!(forgotten["state"], "deleted");
    assert_eq!(node(&api, "node-a").await?["gpus_free"], 2);
    assert_eq!(flow::status(engine, &stray).await?, "running", "a stranger's container was removed");

    // The name is free again; a container that is there is not forgotten; a lost one can be deleted, too.
    let again = ready(&api, &ask(&api, "ours", "one").await?).await?;
    let refused = api.delete(&format!("/v1/containers/{}?forget=true", again.id)).await?;
    assert_eq!(refused.problem(409)?, "not_now");
    engine.docker(&["rm", "--force", &again.docker_id]).await?;
    becomes(&api, &again.id, "lost").await?;
    delete(&api, &again.id).await?;
    assert_eq!(flow::container(&api, &again.id).await?["state"], "deleted");

    // A stray that is adopted is one no more, and can be saved.
    let body = json!({"docker_id": unknown, "name": "found", "user": "admin", "image": BASE});
    let adopted = api.post("/v1/nodes/node-a/adopt", &body).await?.expect(201)?;
    ensure!(adopted["adopted"] == true && adopted["node"] == "node-a", "{adopted:#}");
    try_eventually(SOON, "one stray to be left", async || {
        Ok((node(&api, "node-a").await?["strays"] == json!([stray])).then_some(()))
    })
    .await?;
    let saved = flow::save_and_delete(&api, &flow::text(&adopted["id"]), "v9").await?;
    ensure!(saved["image"] == "base:v9", "{saved:#}");
    assert_eq!(flow::status(engine, &unknown).await?, "absent");
    heartbeats(&api).await?;
    assert_clean(&system).await
}

/// Waits until the node's report has reached the container's record.
async fn becomes(api: &Api, container: &str, state: &str) -> Result<()> {
    eventually(SOON, &format!("the container to be {state}"), async || {
        let shown = flow::container(api, container).await.ok()?;
        (shown["state"] == state).then_some(())
    })
    .await
}

/// The time of the last report moves on; what belongs to projects is shown to operators alone.
async fn heartbeats(api: &Api) -> Result<()> {
    let sample = r#"mothball_worker_last_heartbeat_timestamp_seconds{node="node-a"}"#;
    let anybody = api.without_key();
    let first = metric(&anybody, sample).await?;
    eventually(SOON, "another report", async || (metric(&anybody, sample).await.ok()? > first).then_some(()))
        .await?;
    assert!(metric(&anybody, r#"mothball_images{project="default"}"#).await.is_err());
    assert_eq!(metric(api, r#"mothball_images{project="default"}"#).await? as i64, 1);
    Ok(())
}

/// A node that died: launches go elsewhere, what is bound to it waits, and is given up after a limit.
#[tokio::test]
async fn a_dead_nodes_jobs_go_elsewhere_or_wait() -> Result<()> {
    const GONE_AFTER: Duration = Duration::from_secs(12);
    let options = with_gpus(Pair::Servers)
        .env("MOTHBALL_JOBS__LEASE", "2s")
        .env("MOTHBALL_WORKER__ALIVE_WITHIN", "3s")
        .env("MOTHBALL_JOBS__GONE_AFTER", format!("{}s", GONE_AFTER.as_secs()));
    let mut system = options.start().await?;
    system.add_node("node-b").await?;
    let api = system.operator()?;
    let (container, docker_id) = launch(&system, "box").await?;
    let elsewhere = ready(&api, &ask(&api, "elsewhere", "cpu-small").await?).await?;
    assert_eq!(elsewhere.node, "node-b");
    ready(&api, &ask(&api, "more", "two").await?).await?;

    // Placed on a node that falls asleep before it takes the launch: placed anew, made once.
    delete(&api, &elsewhere.id).await?;
    let more = flow::container(&api, "more").await?;
    let (sleeps, other) = if more["node"] == "node-a" { (1, "node-a") } else { (0, "node-b") };
    let worker = |index: usize| system.nodes[index].worker.as_ref().context("find a worker");
    worker(sleeps)?.sigstop();
    let moved = ask(&api, "moved", "cpu-small").await?;
    let placed = moved["node"].as_str() == Some(system.nodes[sleeps].name.as_str());
    let moved_to = ready(&api, &moved).await;
    worker(sleeps)?.sigcont();
    let moved_to = moved_to?;
    assert_eq!(moved_to.node, other);
    let moved = api.job(&id(&moved)).await?;
    ensure!(!placed || events(&moved, "replaced") == 1, "{moved:#}");
    let made = async |engine: &Dockerd| {
        let filter = format!("label=mothball.container={}", moved_to.id);
        engine.docker(&["ps", "--all", "--quiet", "--filter", &filter]).await
    };
    is_alive(&api, &system.nodes[sleeps].name, true).await?;
    assert_eq!(made(&system.nodes[sleeps].dockerd).await?, "", "it was made twice");

    // Dead: a launch goes to the other at once, a save waits and says so, until the node is back.
    let dead = system.nodes[0].worker.as_mut().context("find a worker")?;
    dead.kill9();
    is_alive(&api, "node-a", false).await?;
    assert_eq!(ready(&api, &ask(&api, "after", "cpu-small").await?).await?.node, "node-b");
    let waiting = save(&api, &container, "v1", "delete").await?;
    let told = api.job(&waiting).await?;
    ensure!(told["waiting_for"] == "node node-a, which does not report", "{told:#}");
    let dry = json!({"tag": "v2", "dry_run": true});
    let dry = api.post(&format!("/v1/containers/{container}/snapshots"), &dry).await?;
    assert_eq!(dry.problem(409)?, "node_silent");
    system.nodes[0].worker.as_mut().context("find a worker")?.start_again().await?;
    api.wait_success(&waiting, JOB_LIMIT).await?;
    assert_eq!(flow::status(system.dockerd(), &docker_id).await?, "absent");

    // Gone for longer than the limit: the job fails as gone, and leaves everything as it is.
    let (container, docker_id) = launch_on(&system, &api, "node-a").await?;
    system.nodes[0].worker.as_mut().context("find a worker")?.kill9();
    let job = save(&api, &container, "v3", "delete").await?;
    let job = api.wait_failure(&job, "gone", GONE_AFTER + JOB_LIMIT).await?;
    ensure!(job["error"]["message"].as_str().is_some_and(|why| why.contains("node-a")), "{job:#}");
    assert_eq!(flow::status(system.dockerd(), &docker_id).await?, "running");
    system.nodes[0].worker.as_mut().context("find a worker")?.start_again().await?;
    api.post(&format!("/v1/jobs/{}/retry", id(&job)), &json!({})).await?.expect(202)?;
    api.wait_success(&id(&job), JOB_LIMIT).await?;
    assert_eq!(flow::status(system.dockerd(), &docker_id).await?, "absent");

    // A node with containers is not forgotten; one without is, and its name is free.
    let refused = api.delete("/v1/nodes/node-b").await?;
    assert_eq!(refused.problem(409)?, "not_now");
    Ok(())
}

async fn is_alive(api: &Api, name: &str, alive: bool) -> Result<()> {
    eventually(SOON, "the node to be seen", async || {
        (node(api, name).await.ok()?["alive"] == alive).then_some(())
    })
    .await
}

/// A container on this node: the others are drained for so long.
async fn launch_on(system: &System, api: &Api, name: &str) -> Result<(String, String)> {
    let others = || system.nodes.iter().filter(|node| node.name != name);
    for node in others() {
        api.post(&format!("/v1/nodes/{}/drain", node.name), &json!({})).await?.expect(200)?;
    }
    let launched = flow::launch(api, "bound", BASE).await?;
    for node in others() {
        api.post(&format!("/v1/nodes/{}/resume", node.name), &json!({})).await?.expect(200)?;
    }
    ensure!(launched.node == name, "it is on {}", launched.node);
    Ok((launched.id, launched.docker_id))
}
