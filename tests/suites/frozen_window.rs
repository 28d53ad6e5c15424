//! How long a container that is kept stands still, and who may end that: nobody waits for Docker Engine meanwhile, and whoever
//! thaws or freezes beside us is noticed.

use std::time::Duration;

use anyhow::{Context as _, Result};
use mothball_harness::proxy::{Proxy, Rule};
use mothball_harness::system::{BASE, JOB_LIMIT, Options, Pair, System};
use mothball_harness::wait::eventually;
use mothball_tests::flow::{self, Launched, root, status};
use mothball_tests::{moments, on_both_pairs};
use serde_json::json;

use crate::faults::by_engine;

on_both_pairs!(
    a_docker_that_answers_nothing_but_the_thaw_prolongs_nothing,
    a_stranger_who_thaws_is_noticed_after_the_thaw,
    a_users_pause_between_our_look_and_our_own_stays,
);

const LIMIT: Duration = Duration::from_mins(1);

fn docker(system: &System) -> Result<&Proxy> {
    system.nodes[0].socket.as_ref().context("find the proxies")
}

fn pauses() -> Rule {
    Rule::matching(|request| request.method == "POST" && request.path.ends_with("/pause"))
}

fn thaws() -> Rule {
    Rule::on("POST", "/unpause")
}

async fn a_docker_that_answers_nothing_but_the_thaw_prolongs_nothing(pair: Pair) -> Result<()> {
    let system = System::options(pair).proxied().start().await?;
    let (api, docker) = (system.operator()?, docker(&system)?);
    let container = flow::launch(&api, "box", BASE).await?;
    let pause = docker.hold(pauses().times(1));
    let job = flow::save(&api, &container.id, &json!({"tag": "v1"})).await?;
    pause.reached(LIMIT).await?;
    let rest = docker.hold(Rule::matching(|request| !request.path.contains("/unpause")));
    pause.open();
    eventually(LIMIT, "the thaw to be asked for", async || {
        (docker.count("POST", "/unpause") > 0).then_some(())
    })
    .await?;
    eventually(LIMIT, "the container to run", async || {
        (status(system.dockerd(), &container.docker_id).await.ok()? == "running").then_some(())
    })
    .await?;
    rest.open();
    api.wait_success(&job, JOB_LIMIT).await.map(drop)
}

async fn a_stranger_who_thaws_is_noticed_after_the_thaw(pair: Pair) -> Result<()> {
    strangers(System::options(pair)).await
}

#[tokio::test]
async fn a_stranger_who_thaws_is_noticed_where_docker_engine_saves() -> Result<()> {
    strangers(by_engine(System::options(Pair::Embedded)).env("MOTHBALL_JOBS__RETRY_FIRST", "100ms")).await
}

/// Somebody lets the container run while it is saved, after it was read: what was read is not believed.
async fn strangers(options: Options) -> Result<()> {
    let system = options.proxied().start().await?;
    let (api, engine, docker) = (system.operator()?, system.dockerd(), docker(&system)?);
    let container = flow::launch(&api, "box", BASE).await?;
    for freezes_again in [false, true] {
        let tag = format!("again-{freezes_again}");
        root(engine, &container.docker_id, "echo before > /root/file").await?;
        docker.forget();
        let thaw = docker.hold(thaws().times(1));
        let job = flow::save(&api, &container.id, &json!({"tag": tag})).await?;
        thaw.reached(LIMIT).await?;
        engine.docker(&["unpause", &container.docker_id]).await?;
        root(engine, &container.docker_id, "echo after > /root/file").await?;
        if freezes_again {
            engine.docker(&["pause", &container.docker_id]).await?;
        }
        thaw.open();
        api.wait_success(&job, JOB_LIMIT).await?;
        assert_eq!(docker.count("POST", "/pause"), 2, "it is frozen once more: {tag}");
        assert_eq!(status(engine, &container.docker_id).await?, "running", "{tag}");
        let copy = flow::launch(&api, &format!("copy-{freezes_again}"), &format!("base:{tag}")).await?;
        assert_eq!(root(engine, &copy.docker_id, "cat /root/file").await?, "after", "{tag}");
    }
    Ok(())
}

async fn a_users_pause_between_our_look_and_our_own_stays(pair: Pair) -> Result<()> {
    let options = System::options(pair).proxied().env("MOTHBALL_WORKER__HEARTBEAT", "1s");
    let system = options.start().await?;
    let (api, docker) = (system.operator()?, docker(&system)?);
    let container = flow::launch(&api, "box", BASE).await?;
    let registry = &system.proxies.as_ref().context("find the proxies")?.registry;

    let job = paused_in_between(&system, &container, &json!({"tag": "kept"})).await?;
    api.wait_success(&job, JOB_LIMIT).await?;
    stays_frozen(&system, docker, &container).await?;

    // Nor where the container was to go, and stays after all.
    system.dockerd().docker(&["unpause", &container.docker_id]).await?;
    let upload = registry.hold(moments::frozen_upload(docker).times(1));
    let job = paused_in_between(&system, &container, &json!({"tag": "kept", "then": "delete"})).await?;
    upload.reached(LIMIT).await?;
    flow::cancel(&api, &job).await?;
    assert_eq!(api.wait_job(&job, JOB_LIMIT).await?["state"], "cancelled");
    upload.open();
    stays_frozen(&system, docker, &container).await
}

/// Asks for a save, and freezes the container for its user after the worker has seen it run; the job.
async fn paused_in_between(
    system: &System,
    container: &Launched,
    body: &serde_json::Value,
) -> Result<String> {
    let pause = docker(system)?.hold(pauses().times(1));
    let job = flow::save(&system.operator()?, &container.id, body).await?;
    pause.reached(LIMIT).await?;
    system.dockerd().docker(&["pause", &container.docker_id]).await?;
    pause.open();
    Ok(job)
}

/// Frozen, and so it stays when the worker has looked for containers that were left frozen.
async fn stays_frozen(system: &System, docker: &Proxy, container: &Launched) -> Result<()> {
    assert_eq!(status(system.dockerd(), &container.docker_id).await?, "paused");
    docker.forget();
    eventually(LIMIT, "the worker to look twice", async || {
        (docker.count("GET", "/containers/json") >= 2).then_some(())
    })
    .await?;
    assert_eq!(status(system.dockerd(), &container.docker_id).await?, "paused");
    Ok(())
}
