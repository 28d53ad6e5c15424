//! Stopping a job and trying it again: in each step, in each state, by whom it may be and by nobody else; and asking for the
//! same thing twice.

use anyhow::{Context as _, Result, ensure};
use mothball_harness::http::Api;
use mothball_harness::proxy::{Fault, Rule};
use mothball_harness::system::{BASE, JOB_LIMIT, Options, Pair, System};
use mothball_harness::wait::eventually;
use mothball_tests::{flow, moments, people};
use serde_json::{Value, json};

use crate::faults::{
    At, Way, assert_clean, by_engine, digest_of_tag, events, give_up, launch, options, proxy, save,
    saved_note, wait_thawed, write,
};

/// A request at which a job stands when it is told to stop.
#[derive(Clone, Copy, Debug)]
struct Step {
    name: &'static str,
    at: At,
    /// The request is seen to its end, and the job only stops after it.
    seen_through: bool,
}

const fn step(name: &'static str, at: At) -> Step {
    Step { name, at, seen_through: false }
}

const fn seen_through(name: &'static str, at: At) -> Step {
    Step { name, at, seen_through: true }
}

const MANIFEST: At = At::registry("PUT", "/manifests/sha256:");

const STEPS: [Step; 8] = [
    step("preflight", At::registry("GET", "/v2/")),
    step("begin to read", At::registry("POST", "/blobs/uploads/")),
    step("read", At::registry("PATCH", "/blobs/uploads/")),
    seen_through("freeze", At::docker("POST", "/containers/{id}/pause")),
    step("finish", MANIFEST),
    step("verify", MANIFEST.then("GET", "/blobs/sha256:")),
    step("look at the tag", MANIFEST.then("HEAD", "/manifests/{tag}")),
    step("bring", At::registry("PUT", "/blobs/uploads/")),
];

/// The same of a save by Docker commit and push.
const STEPS_OF_THE_ENGINE: [Step; 6] = [
    step("read", At::docker("POST", "/commit?")),
    step("push", At::docker("POST", "/push?")),
    step("upload", At::registry("PATCH", "/blobs/uploads/")),
    step("finish", MANIFEST),
    step("verify", MANIFEST.then("GET", "/blobs/sha256:")),
    step("look at the tag", MANIFEST.then("HEAD", "/manifests/{tag}")),
];

/// From here on the image is complete: a cancel comes too late for the save.
const TAG: Step = seen_through("tag", At::registry("PUT", "/manifests/{tag}"));

mothball_tests::on_both_pairs!(
    a_save_is_stopped_in_each_step,
    a_save_then_delete_is_stopped_in_each_step,
    other_jobs_are_stopped,
    jobs_that_nobody_runs_are_stopped_at_once,
    a_failed_job_is_tried_again_by_its_owner,
    the_same_request_joins_and_another_is_refused,
);

async fn a_save_is_stopped_in_each_step(pair: Pair) -> Result<()> {
    stopped_in_each(options(pair), &STEPS).await
}

#[tokio::test]
async fn a_save_by_docker_engine_is_stopped_in_each_step() -> Result<()> {
    stopped_in_each(by_engine(options(Pair::Embedded)), &STEPS_OF_THE_ENGINE).await
}

async fn stopped_in_each(options: Options, steps: &[Step]) -> Result<()> {
    let system = options.start().await?;
    let api = system.operator()?;
    let (container, docker_id) = launch(&system, "box").await?;
    for (number, step) in steps.iter().enumerate() {
        let tag = format!("t{number}");
        let stopped = stop_at(&system, &api, step, &container, &docker_id, &tag, "keep").await;
        let job = stopped.with_context(|| format!("stop at {}", step.name))?;
        nothing_was_saved(&system, &api, &job, &tag)
            .await
            .with_context(|| format!("stop at {}", step.name))?;
        // It runs: a frozen container could not write, and one with an unfinished job could not be saved.
        write(&system, &docker_id, &tag).await?;
    }
    // The tag is moved only onto an image that is proven and complete: then the image counts, although it was too late.
    let job = stop_at(&system, &api, &TAG, &container, &docker_id, "late", "keep").await?;
    ensure!(job["state"] == "succeeded", "a save that was complete: {job:#}");
    let image = flow::image(&api, "base:late").await?;
    assert_eq!(digest_of_tag(&system, "late").await?.as_deref(), image["digest"].as_str());
    let lines: Vec<String> = (0..steps.len()).map(|number| format!("t{number}")).collect();
    assert_eq!(saved_note(&system, &api, "base:late").await?, format!("box\n{}", lines.join("\n")));
    assert_clean(&system).await
}

async fn a_save_then_delete_is_stopped_in_each_step(pair: Pair) -> Result<()> {
    let system = options(pair).start().await?;
    let api = system.operator()?;
    let (container, docker_id) = launch(&system, "box").await?;
    for (number, step) in STEPS.iter().enumerate().skip(1) {
        let tag = format!("t{number}");
        let stopped = stop_at(&system, &api, step, &container, &docker_id, &tag, "delete").await;
        let job = stopped.with_context(|| format!("stop at {}", step.name))?;
        nothing_was_saved(&system, &api, &job, &tag)
            .await
            .with_context(|| format!("stop at {}", step.name))?;
        wait_thawed(&system, &docker_id).await?;
        write(&system, &docker_id, &tag).await?;
    }
    // The image is complete, and the container is kept.
    let job = stop_at(&system, &api, &TAG, &container, &docker_id, "late", "delete").await?;
    ensure!(job["state"] == "cancelled", "{job:#}");
    let image = flow::image(&api, "base:late").await?;
    assert_eq!(digest_of_tag(&system, "late").await?.as_deref(), image["digest"].as_str());
    wait_thawed(&system, &docker_id).await?;
    write(&system, &docker_id, "on").await?;
    // Once the removal has begun there is no way back.
    let remove = seen_through("remove", At::docker("DELETE", "/containers/{id}"));
    let job = stop_at(&system, &api, &remove, &container, &docker_id, "gone", "delete").await?;
    ensure!(job["state"] == "succeeded", "{job:#}");
    assert_eq!(flow::status(system.dockerd(), &docker_id).await?, "absent");
    assert_eq!(flow::container(&api, &container).await?["state"], "deleted");
    assert_clean(&system).await
}

/// Has a save stand at a request, tells it to stop, and waits for its end.
async fn stop_at(
    system: &System,
    api: &Api,
    step: &Step,
    container: &str,
    docker_id: &str,
    tag: &str,
    then: &str,
) -> Result<Value> {
    let proxy = proxy(system, step.at.way)?;
    let gate = proxy.hold(step.at.rule(docker_id, tag));
    let job = save(api, container, tag, then).await?;
    gate.reached(JOB_LIMIT).await?;
    let answer = api.post(&format!("/v1/jobs/{job}/cancel"), &json!({})).await?.expect(202)?;
    ensure!(answer["cancel_requested"] == true, "{answer:#}");
    if step.seen_through {
        // The worker knows before the request is let go.
        let told = format!("job.id={job}");
        let worker = system.nodes[0].worker.as_ref().unwrap_or(&system.api);
        eventually(JOB_LIMIT, "the worker to be told", async || {
            let log = worker.log();
            let line = log.lines().find(|line| line.contains("wants it stopped") && line.contains(&told));
            line.map(str::to_owned)
        })
        .await?;
        gate.open();
        proxy.clear();
        return api.wait_job(&job, JOB_LIMIT).await;
    }
    // It ends although the server does not answer.
    let job = api.wait_job(&job, JOB_LIMIT).await?;
    give_up(proxy, &gate);
    ensure!(job["state"] == "cancelled" && events(&job, "cancelled") == 1, "not cancelled: {job:#}");
    ensure!(job["finished_at"].is_string() && job["attempt"] == 1, "{job:#}");
    Ok(job)
}

async fn nothing_was_saved(system: &System, api: &Api, job: &Value, tag: &str) -> Result<()> {
    ensure!(job["state"] == "cancelled", "{job:#}");
    ensure!(digest_of_tag(system, tag).await?.is_none(), "the registry has the tag {tag}");
    ensure!(api.get(&format!("/v1/images/base:{tag}")).await?.status == 404, "there is an image {tag}");
    assert_clean(system).await
}

async fn other_jobs_are_stopped(pair: Pair) -> Result<()> {
    let system = options(pair).start().await?;
    let api = system.operator()?;
    let socket = proxy(&system, Way::Docker)?;

    // A launch leaves no container behind, and its name is free again.
    for (number, (method, part)) in [("POST", "/containers/create?"), ("POST", "/start")].iter().enumerate() {
        let gate = socket.hold(Rule::on(method, part).times(1));
        let body = json!({"name": "brief", "image": BASE, "flavor": "cpu-small"});
        let job = api.post("/v1/containers", &body).await?.job_id(202)?;
        gate.reached(JOB_LIMIT).await?;
        flow::cancel(&api, &job).await?;
        gate.open();
        socket.clear();
        let job = api.wait_job(&job, JOB_LIMIT).await?;
        ensure!(job["state"] == "cancelled", "launch, request {number}: {job:#}");
        let container = flow::text(&job["container"]);
        assert_eq!(flow::container(&api, &container).await?["state"], "deleted");
        let filter = format!("label=mothball.container={container}");
        assert_eq!(system.dockerd().docker(&["ps", "--all", "--quiet", "--filter", &filter]).await?, "");
    }

    // A delete that is stopped before the removal leaves the container, under Mothball's care.
    let (container, docker_id) = launch(&system, "box").await?;
    let gate = socket.hold(Rule::on("POST", "/stop").times(1));
    let job = api.delete(&format!("/v1/containers/{container}")).await?.job_id(202)?;
    gate.reached(JOB_LIMIT).await?;
    flow::cancel(&api, &job).await?;
    let job = api.wait_job(&job, JOB_LIMIT).await?;
    give_up(socket, &gate);
    ensure!(job["state"] == "cancelled", "{job:#}");
    assert_eq!(flow::container(&api, &container).await?["state"], "ready");
    write(&system, &docker_id, "on").await?;

    // A delete of an image: before anything is taken away.
    flow::save_and_keep(&api, &container, "v1").await?;
    let registry = proxy(&system, Way::Registry)?;
    let gate = registry.hold(Rule::on("HEAD", "/manifests/v1").times(1));
    let job = api.delete("/v1/images/base:v1").await?.job_id(202)?;
    gate.reached(JOB_LIMIT).await?;
    flow::cancel(&api, &job).await?;
    let job = api.wait_job(&job, JOB_LIMIT).await?;
    give_up(registry, &gate);
    ensure!(job["state"] == "cancelled", "{job:#}");
    assert_eq!(saved_note(&system, &api, "base:v1").await?, "box\non");

    // What is over stays as it is: cancelled twice is cancelled once, and what succeeded cannot be stopped.
    let job = flow::text(&job["id"]);
    assert_eq!(
        api.post(&format!("/v1/jobs/{job}/cancel"), &json!({})).await?.expect(200)?["state"],
        "cancelled"
    );
    let done = flow::text(&flow::save_and_keep(&api, &container, "v2").await?["id"]);
    let late = api.post(&format!("/v1/jobs/{done}/cancel"), &json!({})).await?;
    assert_eq!(late.problem(409)?, "not_now");
    assert_clean(&system).await
}

async fn jobs_that_nobody_runs_are_stopped_at_once(pair: Pair) -> Result<()> {
    let flavors = "[[flavors]]\nname = \"cpu-small\"\ngpus = 0\ncpus = 1\nmemory = \"64MiB\"\nprice_per_hour = \"2\"\n\
                   [[flavors]]\nname = \"gpu\"\ngpus = 1\ncpus = 1\nmemory = \"64MiB\"\nprice_per_hour = \"58\"\n";
    let options = options(pair)
        .configuration(flavors)
        .env("MOTHBALL_WORKER__CONCURRENCY", "1")
        .env("MOTHBALL_WORKER__GPUS", "1")
        .env("MOTHBALL_WORKER__GPU_REQUEST", "none")
        .env("MOTHBALL_JOBS__RETRY_FIRST", "10m")
        .env("MOTHBALL_JOBS__RETRY_MAX", "10m");
    let system = options.start().await?;
    let api = system.operator()?;
    let socket = proxy(&system, Way::Docker)?;
    let (first, _) = launch(&system, "first").await?;
    let (second, second_id) = launch(&system, "second").await?;

    // Queued, behind a job that has the only slot.
    let gate = proxy(&system, Way::Registry)?.hold(moments::upload().times(1));
    let running = save(&api, &first, "v1", "keep").await?;
    gate.reached(JOB_LIMIT).await?;
    let queued = save(&api, &second, "v2", "delete").await?;
    assert_eq!(api.job(&queued).await?["state"], "queued");
    stopped_at_once(&api, &queued).await?;
    gate.open();
    api.wait_success(&running, JOB_LIMIT).await?;

    // Retrying, ten minutes before its next attempt.
    socket.inject(Rule::on("POST", "/pause").times(1), Fault::answer(500, r#"{"message":"injected"}"#));
    let retrying = save(&api, &second, "v3", "delete").await?;
    let waits = |job: &Value| job["state"] == "retrying" && job["next_attempt_at"].is_string();
    api.wait_job_until(&retrying, JOB_LIMIT, "its next attempt to be set", waits).await?;
    stopped_at_once(&api, &retrying).await?;
    write(&system, &second_id, "on").await?;

    // Waiting for GPUs.
    let body = |name: &str| json!({"name": name, "image": BASE, "flavor": "gpu"});
    flow::launch_as(&api, &body("holder")).await?;
    let waiting = api.post("/v1/containers", &body("waiter")).await?.expect(202)?;
    ensure!(waiting["waiting_for"].is_string(), "{waiting:#}");
    let waiter = flow::text(&waiting["id"]);
    stopped_at_once(&api, &waiter).await?;
    assert_eq!(flow::container(&api, &flow::text(&waiting["container"])).await?["state"], "deleted");

    // All of them let go of what they had: the next requests are taken and done.
    flow::save_and_delete(&api, &second, "v3").await?;
    assert_eq!(saved_note(&system, &api, "base:v3").await?, "second\non");
    assert_clean(&system).await
}

async fn stopped_at_once(api: &Api, job: &str) -> Result<()> {
    let answer = api.post(&format!("/v1/jobs/{job}/cancel"), &json!({})).await?.expect(200)?;
    ensure!(answer["state"] == "cancelled" && events(&answer, "cancelled") == 1, "{answer:#}");
    ensure!(answer["finished_at"].is_string() && answer["waiting_for"].is_null(), "{answer:#}");
    Ok(())
}

/// One attempt for each job, so that one injected error fails it.
fn one_attempt(pair: Pair) -> Options {
    let flavors = "[[flavors]]\nname = \"cpu-small\"\ngpus = 0\ncpus = 1\nmemory = \"64MiB\"\nprice_per_hour = \"2\"\n\
                   [[flavors]]\nname = \"gpu\"\ngpus = 1\ncpus = 1\nmemory = \"64MiB\"\nprice_per_hour = \"58\"\n";
    options(pair)
        .configuration(flavors)
        .env("MOTHBALL_JOBS__MAX_ATTEMPTS", "1")
        .env("MOTHBALL_WORKER__GPUS", "1")
        .env("MOTHBALL_WORKER__GPU_REQUEST", "none")
}

async fn a_failed_job_is_tried_again_by_its_owner(pair: Pair) -> Result<()> {
    let system = one_attempt(pair).start().await?;
    let operator = system.operator()?;
    let alice = people::member(&operator, "lab", "alice").await?;
    let bob = people::member(&operator, "lab", "bob").await?;
    let mallory = people::member(&operator, "other", "mallory").await?;
    let socket = proxy(&system, Way::Docker)?;
    let refuse = |method: &str, part: &str| {
        socket.inject(Rule::on(method, part).times(1), Fault::answer(500, r#"{"message":"injected"}"#));
    };
    let retry = async |api: &Api, job: &str| api.post(&format!("/v1/jobs/{job}/retry"), &json!({})).await;

    let ours = flow::launch(&alice, "ours", BASE).await?;
    refuse("POST", "/pause");
    let failed = flow::save(&alice, &ours.id, &json!({"tag": "v1"})).await?;
    let job = alice.wait_failure(&failed, "engine", JOB_LIMIT).await?;
    ensure!(job["error"]["hint"].as_str().is_some_and(|hint| hint.ends_with('.')), "{job:#}");

    // To others the job is not there; what runs, or has succeeded, is not tried again.
    for stranger in [&mallory, &bob] {
        assert_eq!(retry(stranger, &failed).await?.problem(404)?, "not_found");
    }
    let again = retry(&alice, &failed).await?.expect(202)?;
    ensure!(again["id"] == failed.as_str() && again["error"].is_null(), "{again:#}");
    let job = alice.wait_success(&failed, JOB_LIMIT).await?;
    ensure!(job["attempt"] == 1 && events(&job, "retried") == 1 && events(&job, "failed") == 1, "{job:#}");
    assert_eq!(retry(&alice, &failed).await?.problem(409)?, "not_now");

    // The container must be had anew: not while another job has it, nor when it is gone.
    refuse("POST", "/pause");
    let failed = flow::save(&alice, &ours.id, &json!({"tag": "v2"})).await?;
    alice.wait_failure(&failed, "engine", JOB_LIMIT).await?;
    let gate = proxy(&system, Way::Registry)?.hold(moments::upload().times(1));
    let other = flow::save(&alice, &ours.id, &json!({"tag": "v3"})).await?;
    gate.reached(JOB_LIMIT).await?;
    let busy = retry(&alice, &failed).await?;
    assert_eq!(busy.json["job"], other.as_str(), "{}", busy.json);
    assert_eq!(busy.problem(409)?, "conflict");
    gate.open();
    alice.wait_success(&other, JOB_LIMIT).await?;
    let delete = alice.delete(&format!("/v1/containers/{}", ours.id)).await?.job_id(202)?;
    alice.wait_success(&delete, JOB_LIMIT).await?;
    let gone = retry(&alice, &failed).await?;
    ensure!(gone.json["detail"].as_str().is_some_and(|why| why.contains("is deleted")), "{}", gone.json);
    assert_eq!(gone.problem(409)?, "not_now");

    // A launch takes its GPU anew, or waits for it.
    let body = |name: &str| json!({"name": name, "image": BASE, "flavor": "gpu"});
    refuse("POST", "/containers/create?");
    let failed = alice.post("/v1/containers", &body("one")).await?.job_id(202)?;
    alice.wait_failure(&failed, "engine", JOB_LIMIT).await?;
    let holder =
        flow::launch_as(&alice, &body("two")).await.context("launch with the GPU that was released")?;
    let again = retry(&alice, &failed).await?.expect(202)?;
    ensure!(again["waiting_for"].is_string() && again["node"].is_null(), "{again:#}");
    let delete = alice.delete(&format!("/v1/containers/{}", holder.id)).await?.job_id(202)?;
    alice.wait_success(&delete, JOB_LIMIT).await?;
    let job = alice.wait_success(&failed, JOB_LIMIT).await?;
    let container = flow::container(&alice, &flow::text(&job["container"])).await?;
    ensure!(container["state"] == "ready" && container["gpus"] == json!([0]), "{container:#}");
    assert_clean(&system).await
}

async fn the_same_request_joins_and_another_is_refused(pair: Pair) -> Result<()> {
    let mut system = options(pair).start().await?;
    let operator = system.operator()?;
    let alice = people::member(&operator, "lab", "alice").await?;
    operator
        .post("/v1/users", &json!({"name": "boss", "project": "lab", "role": "admin"}))
        .await?
        .expect(201)?;
    let key = operator.post("/v1/keys", &json!({"user": "boss"})).await?.expect(201)?;
    let boss = operator.with_key(&flow::text(&key["key"]));
    let ours = flow::launch(&alice, "ours", BASE).await?;
    let path = format!("/v1/containers/{}/snapshots", ours.id);

    let gate = proxy(&system, Way::Registry)?.hold(moments::upload().times(1));
    let job = flow::save(&alice, &ours.id, &json!({"tag": "v1"})).await?;
    gate.reached(JOB_LIMIT).await?;
    // Written out or left out: the same request.
    for body in [json!({"tag": "v1"}), json!({"tag": "v1", "then": "keep", "pause": "auto"})] {
        assert_eq!(alice.post(&path, &body).await?.expect(200)?["id"], job.as_str());
    }
    for (who, body) in [
        (&alice, json!({"tag": "v2"})),
        (&alice, json!({"tag": "v1", "then": "delete"})),
        (&alice, json!({"tag": "v1", "pause": "never"})),
        // The very same from somebody else is another request: whose job would it be?
        (&boss, json!({"tag": "v1"})),
    ] {
        in_the_way(who.post(&path, &body).await?, &job)?;
    }
    let container = format!("/v1/containers/{}", ours.id);
    in_the_way(alice.delete(&container).await?, &job)?;
    in_the_way(alice.post(&format!("{container}/stop"), &json!({})).await?, &job)?;
    // One save at a time of a name and tag, whatever the container.
    let other = flow::launch(&alice, "other", BASE).await?;
    in_the_way(
        alice.post(&format!("/v1/containers/{}/snapshots", other.id), &json!({"tag": "v1"})).await?,
        &job,
    )?;
    gate.open();
    alice.wait_success(&job, JOB_LIMIT).await?;

    keys_for_requests(&mut system, &alice, &path).await?;
    many_at_once(&alice, &path).await?;
    assert_clean(&system).await
}

/// The problem that names the job in the way.
fn in_the_way(answer: mothball_harness::http::Answer, job: &str) -> Result<()> {
    ensure!(answer.json["job"] == job, "{}", answer.json);
    let detail = answer.json["detail"].as_str().unwrap_or_default().to_owned();
    ensure!(detail.contains(job), "the sentence does not name the job: {detail}");
    ensure!(answer.problem(409)? == "conflict");
    Ok(())
}

/// `Idempotency-Key`: the same key and body are the same job, also when that is over and the API was started anew.
async fn keys_for_requests(system: &mut System, alice: &Api, path: &str) -> Result<()> {
    let body = json!({"tag": "k1"});
    let job = alice.post_once(path, "key-1", &body).await?.job_id(202)?;
    alice.wait_success(&job, JOB_LIMIT).await?;
    let launch = json!({"name": "keyed", "image": BASE, "flavor": "cpu-small"});
    let launched = alice.post_once("/v1/containers", "key-2", &launch).await?.job_id(202)?;
    alice.wait_success(&launched, JOB_LIMIT).await?;

    assert!(system.api.stop().await?.success());
    system.api.start_again().await?;
    system.api.wait_able().await?;
    assert_eq!(alice.post_once(path, "key-1", &body).await?.job_id(202)?, job);
    assert_eq!(alice.post_once("/v1/containers", "key-2", &launch).await?.job_id(202)?, launched);
    // With another body, or for another thing, the key is refused, and names the job that has it.
    for (path, key, body) in [
        (path, "key-1", json!({"tag": "k2"})),
        (path, "key-1", json!({"tag": "k1", "then": "delete"})),
        ("/v1/containers", "key-1", launch.clone()),
        (path, "key-2", body.clone()),
    ] {
        let answer = alice.post_once(path, key, &body).await?;
        let wanted = if key == "key-1" { &job } else { &launched };
        assert_eq!(answer.json["job"], wanted.as_str(), "{}", answer.json);
        assert_eq!(answer.problem(422)?, "idempotency_conflict");
    }
    // Somebody else's key of the same name is another key.
    let operator = system.operator()?;
    let theirs = operator.post_once(path, "key-1", &json!({"tag": "k3"})).await?.job_id(202)?;
    assert_ne!(theirs, job);
    operator.wait_success(&theirs, JOB_LIMIT).await?;
    for bad in ["", &"k".repeat(256), "schl\u{fc}ssel"] {
        let answer = alice.post_once(path, bad, &body).await?;
        ensure!(matches!(answer.status, 400 | 422), "the key {bad:?} was answered {}", answer.status);
    }
    Ok(())
}

/// The same request many times at once is one job; with a key and without one.
async fn many_at_once(alice: &Api, path: &str) -> Result<()> {
    for key in [None, Some("many")] {
        let body = json!({"tag": format!("m{}", key.is_some())});
        let mut asked = tokio::task::JoinSet::new();
        for _ in 0..12 {
            let (alice, path, body) = (alice.clone(), path.to_owned(), body.clone());
            asked.spawn(async move {
                match key {
                    Some(key) => alice.post_once(&path, key, &body).await,
                    None => alice.post(&path, &body).await,
                }
            });
        }
        let mut ids = std::collections::BTreeSet::new();
        while let Some(answer) = asked.join_next().await {
            let answer = answer??;
            ensure!(matches!(answer.status, 200 | 202), "{} {}", answer.status, answer.json);
            ids.insert(flow::text(&answer.json["id"]));
        }
        // Without a key a request that comes after the job's end starts another.
        ensure!(ids.len() == 1 || key.is_none(), "{ids:?}");
        for id in &ids {
            alice.wait_success(id, JOB_LIMIT).await?;
        }
    }
    Ok(())
}
