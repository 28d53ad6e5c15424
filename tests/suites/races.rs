//! Two of a kind: two workers for one node, two nodes for one job, two schedulers, a worker that sleeps longer than its lease
//! and wakes up, another Docker under a node's name, two clocks. One wins; the other leaves nothing behind.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use jiff::Timestamp;
use mothball_harness::clock;
use mothball_harness::dockerd::Dockerd;
use mothball_harness::http::Api;
use mothball_harness::mothball::{self, Mothball};
use mothball_harness::proxy::{Fault, Rule};
use mothball_harness::system::{BASE, JOB_LIMIT, Options, Pair, System};
use mothball_harness::wait::eventually;
use mothball_tests::flow;
use serde_json::{Value, json};

use crate::faults::{
    At, SOON, assert_clean, digest_of_tag, events, give_up, launch, options, proxy, save, saved_note,
    without_undo, write,
};

/// Short, so that a worker can sleep for longer.
const LEASE: Duration = Duration::from_secs(2);
const UPLOAD: At = At::registry("POST", "/blobs/uploads/");
/// The last look at a container before it is removed.
const LAST_LOOK: At = At::docker("POST", "/pause").then("GET", "/containers/{id}/json");

fn impatient(pair: Pair) -> Options {
    options(pair).env("MOTHBALL_JOBS__LEASE", "2s")
}

mothball_tests::on_both_pairs!(
    a_second_worker_for_a_node_is_refused,
    another_docker_under_a_nodes_name_is_refused,
    a_sleeper_that_wakes_up_in_time_goes_on,
);

/// Starts a process that must end by itself, and returns its exit code and what it said.
async fn ends_by_itself(options: mothball::Options) -> Result<(i32, String)> {
    match options.start().await {
        // One with an API says its address before its worker has found out.
        Ok(mut process) => {
            let status = process.wait_end(JOB_LIMIT).await?;
            Ok((status.code().unwrap_or(-1), process.log()))
        }
        Err(error) => {
            let text = format!("{error:#}");
            let (_, rest) = text.split_once("ended with exit status: ").with_context(|| text.clone())?;
            let code = rest.chars().take_while(char::is_ascii_digit).collect::<String>();
            Ok((code.parse()?, text))
        }
    }
}

async fn a_second_worker_for_a_node_is_refused(pair: Pair) -> Result<()> {
    let system = options(pair).start().await?;
    let (container, docker_id) = launch(&system, "box").await?;
    let target = |options: mothball::Options| match pair {
        Pair::Embedded => options,
        Pair::Servers => options.target("worker"),
    };
    // The same Docker, a data directory of its own: the lock lies with Docker's data.
    let second = ends_by_itself(system.nodes[0].worker(target(system.settings())));
    // The same data directory: the embedded store is one process's, and a worker's lock is the node's.
    let twin = ends_by_itself(system.nodes[0].worker(target(system.settings())).data(&system.api.data()));
    let (second, twin) = tokio::try_join!(second, twin)?;
    assert_eq!(second.0, 1, "{}", second.1);
    assert!(second.1.contains("another worker runs for this Docker already"), "{}", second.1);
    assert_eq!(twin.0, 1, "{}", twin.1);
    if pair == Pair::Embedded {
        assert!(twin.1.contains("in use") || twin.1.contains("another process"), "{}", twin.1);
    }
    // The first one noticed nothing.
    let api = system.operator()?;
    flow::save_and_delete(&api, &container, "v1").await?;
    assert_eq!(flow::status(system.dockerd(), &docker_id).await?, "absent");
    assert_clean(&system).await
}

async fn another_docker_under_a_nodes_name_is_refused(pair: Pair) -> Result<()> {
    let mut system = options(pair).start().await?;
    let (container, docker_id) = launch(&system, "box").await?;
    let other = Dockerd::start().await?;
    // Whether the node is there or away: its name stands for its Docker.
    for away in [false, true] {
        if away {
            assert!(system.worker().stop().await?.success());
        }
        if pair == Pair::Embedded && !away {
            continue;
        }
        let options =
            system.nodes[0].worker(system.settings()).env("MOTHBALL_WORKER__DOCKER_HOST", other.host());
        let options = match pair {
            Pair::Embedded => options.data(&system.api.data()),
            Pair::Servers => options.target("worker"),
        };
        let (code, said) = ends_by_itself(options).await?;
        assert_eq!(code, 1, "{said}");
        assert!(said.contains("node-a is registered to another Docker"), "{said}");
        assert!(
            said.contains("mothball nodes forget node-a"),
            "the sentence does not say what to do: {said}"
        );
    }
    system.worker().start_again().await?;
    system.api.wait_able().await?;
    let api = system.operator()?;
    flow::save_and_delete(&api, &container, "v1").await?;
    assert_eq!(flow::status(system.dockerd(), &docker_id).await?, "absent");
    assert_clean(&system).await
}

/// Nobody took the job over: the lease was over, and it still is the sleeper's. On the embedded pair the scheduler slept, too,
/// and either of them may be first.
async fn a_sleeper_that_wakes_up_in_time_goes_on(pair: Pair) -> Result<()> {
    let mut system = impatient(pair).start().await?;
    let api = system.operator()?;
    let (container, docker_id) = launch(&system, "box").await?;
    let gate = proxy(&system, UPLOAD.way)?.hold(UPLOAD.rule("", ""));
    let job = save(&api, &container, "v1", "delete").await?;
    gate.reached(JOB_LIMIT).await?;
    let scheduler = system.scheduler.as_mut();
    if let Some(scheduler) = scheduler {
        assert!(scheduler.stop().await?.success());
    }
    system.worker().sigstop();
    let since = Instant::now();
    eventually(JOB_LIMIT, "the lease to be over", async || (since.elapsed() > LEASE * 2).then_some(()))
        .await?;
    gate.open();
    system.worker().sigcont();
    let job = api.wait_success(&job, JOB_LIMIT).await?;
    ensure!(events(&job, "succeeded") == 1, "{job:#}");
    ensure!(pair == Pair::Embedded || job["attempt"] == 1, "{job:#}");
    assert_eq!(flow::status(system.dockerd(), &docker_id).await?, "absent");
    assert_eq!(saved_note(&system, &api, "base:v1").await?, "box");
    assert_clean(&system).await
}

/// A worker sleeps at a request, its job is taken from it, and it wakes up: whatever it was about to do is not done, and what
/// it held it lets go of.
#[tokio::test]
async fn a_sleeper_loses_cleanly() -> Result<()> {
    let mut system = impatient(Pair::Servers).start().await?;
    #[rustfmt::skip]
    let cases = [
        ("upload",      "keep",   UPLOAD),
        ("verify",      "keep",   At::registry("PUT", "/manifests/sha256:").then("GET", "/blobs/sha256:")),
        ("upload",      "delete", At::registry("PUT", "/manifests/sha256:")),
        ("verify",      "delete", At::registry("PUT", "/manifests/sha256:").then("GET", "/blobs/sha256:")),
        ("last look",   "delete", LAST_LOOK),
    ];
    for (number, (name, then, at)) in cases.into_iter().enumerate() {
        let slept = sleeper(&mut system, number, then, at).await;
        slept.with_context(|| format!("{then}, asleep at {name}"))?;
    }
    assert_clean(&system).await
}

async fn sleeper(system: &mut System, number: usize, then: &str, at: At) -> Result<()> {
    let api = system.operator()?;
    let tag = format!("v{number}");
    let (container, docker_id) = launch(system, &format!("box{number}")).await?;
    let (docker, registry) = (proxy(system, LAST_LOOK.way)?, proxy(system, At::registry("", "").way)?);
    docker.forget();
    registry.forget();
    let gate = proxy(system, at.way)?.hold(at.rule(&docker_id, &tag));
    let job = save(&api, &container, &tag, then).await?;
    gate.reached(JOB_LIMIT).await?;
    system.nodes[0].worker.as_ref().context("find the worker")?.sigstop();
    let taken = |job: &Value| job["state"] == "retrying" && events(job, "lease_expired") == 1;
    let waited = api.wait_job_until(&job, JOB_LIMIT, "its being taken away", taken).await;
    let worker = system.nodes[0].worker.as_ref().context("find the worker")?;
    worker.sigcont();
    // The job is another attempt's before the sleeper's own request is answered: from here on only the fence holds it back.
    let claimed = |job: &Value| job["state"] == "running" && job["attempt"] == 2;
    let claimed = match waited {
        Ok(_) => api.wait_job_until(&job, JOB_LIMIT, "its being taken up", claimed).await.map(drop),
        Err(error) => Err(error),
    };
    gate.open();
    proxy(system, at.way)?.clear();
    claimed?;
    sleeper_left(worker, &job).await?;
    let job = api.wait_success(&job, JOB_LIMIT).await?;
    ensure!(job["attempt"] == 2 && events(&job, "claimed") == 2 && events(&job, "succeeded") == 1, "{job:#}");
    // The sleeper's image is what the tag names only where it was proven and recorded before the sleep; it deleted nothing.
    let recorded = usize::from(at.then == Some(("GET", "/containers/{id}/json")));
    let image = flow::image(&api, &format!("base:{tag}")).await?;
    let previous = image["previous"].as_array().map_or(0, Vec::len);
    ensure!(image["job"] == job["id"] && previous == recorded, "{image:#}");
    ensure!(digest_of_tag(system, &tag).await?.as_deref() == image["digest"].as_str(), "{image:#}");
    let registry = proxy(system, At::registry("", "").way)?;
    assert_eq!(registry.count("PUT", &format!("/manifests/{tag}")), 1 + recorded, "moves of the tag");
    let deletions = proxy(system, LAST_LOOK.way)?.count("DELETE", &format!("/containers/{docker_id}"));
    assert_eq!(deletions, usize::from(then == "delete"), "removals of the container");
    let status = if then == "delete" { "absent" } else { "running" };
    assert_eq!(flow::status(system.dockerd(), &docker_id).await?, status);
    assert_eq!(saved_note(system, &api, &format!("base:{tag}")).await?, format!("box{number}"));
    if then == "keep" {
        write(system, &docker_id, "on").await?;
    }
    Ok(())
}

/// Jobs that any node may run, with both nodes woken for each of them many times: each is run once, by one of them.
#[tokio::test]
async fn two_nodes_race_for_jobs_of_any_node() -> Result<()> {
    const JOBS: usize = 6;
    let mut system = without_undo(impatient(Pair::Servers)).start().await?;
    system.add_node("node-b").await?;
    let second = system.settings().target("scheduler").start().await?;
    let api = system.operator()?;
    let (container, _) = launch(&system, "box").await?;
    for number in 0..JOBS {
        flow::save_and_keep(&api, &container, &format!("v{number}")).await?;
    }
    let workers = || system.nodes.iter().filter_map(|node| node.worker.as_ref());
    workers().for_each(Mothball::sigstop);
    let vhost = system.vhost.as_ref().context("find the virtual host")?;
    let mut jobs = Vec::new();
    for number in 0..JOBS {
        let job = api.delete(&format!("/v1/images/base:v{number}")).await?.job_id(202)?;
        for _ in 0..8 {
            vhost.publish("mothball.any", "job.v1", &format!(r#"{{"v":1,"job":"{job}"}}"#)).await?;
        }
        jobs.push(job);
    }
    workers().for_each(Mothball::sigcont);
    for (number, job) in jobs.iter().enumerate() {
        let job = api.wait_success(job, JOB_LIMIT).await?;
        ensure!(
            job["attempt"] == 1 && events(&job, "claimed") == 1 && events(&job, "succeeded") == 1,
            "{job:#}"
        );
        ensure!(
            digest_of_tag(&system, &format!("v{number}")).await?.is_none(),
            "the tag v{number} is still there: {job:#}"
        );
    }
    a_sleeper_of_two_nodes(&system, &api, &container).await?;
    drop(second);
    assert_clean(&system).await
}

/// A worker sleeps in the middle of a job that the other node then takes; it wakes up while the other is at work. The job's
/// state says nothing to it, it runs: only the fence tells whose it is.
async fn a_sleeper_of_two_nodes(system: &System, api: &Api, container: &str) -> Result<()> {
    flow::save_and_keep(api, container, "last").await?;
    let registry = proxy(system, At::registry("", "").way)?;
    registry.forget();
    let gate = registry.hold(Rule::on("HEAD", "/manifests/last").times(2));
    let job = api.delete("/v1/images/base:last").await?.job_id(202)?;
    gate.reached(JOB_LIMIT).await?;
    let first = holder(&api.job(&job).await?)?;
    let sleeper = system.nodes.iter().find(|node| node.name == first).and_then(|node| node.worker.as_ref());
    let sleeper = sleeper.context("find the worker that has the job")?;
    sleeper.sigstop();
    let both =
        eventually(JOB_LIMIT, "the other node to take the job", async || (gate.count() == 2).then_some(()))
            .await;
    sleeper.sigcont();
    both?;
    let left = sleeper_left(sleeper, &job).await;
    gate.open();
    registry.clear();
    left?;
    let job = api.wait_success(&job, JOB_LIMIT).await?;
    ensure!(job["attempt"] == 2 && events(&job, "lease_expired") == 1 && holder(&job)? != first, "{job:#}");
    assert_eq!(registry.count("DELETE", "/manifests/last"), 1, "the sleeper took the tag away, too");
    assert_eq!(registry.count("DELETE", "/manifests/sha256:"), 1, "the sleeper deleted, too");
    Ok(())
}

/// A worker sleeps in the middle of a launch, loses it, and its own request fails: it takes away what it has made, and not
/// what its successor has made of that. One attempt at a time acts on a container, whatever the store says.
#[tokio::test]
async fn a_sleeper_takes_nothing_from_its_successor() -> Result<()> {
    let system = impatient(Pair::Servers).start().await?;
    let api = system.operator()?;
    let docker = proxy(&system, LAST_LOOK.way)?;
    let gate = docker.hold(Rule::on("POST", "/start").times(1));
    let body = json!({"name": "box", "image": BASE, "flavor": "cpu-small"});
    let job = api.post("/v1/containers", &body).await?.job_id(202)?;
    gate.reached(JOB_LIMIT).await?;
    let worker = system.nodes[0].worker.as_ref().context("find the worker")?;
    worker.sigstop();
    let taken =
        api.wait_job_until(&job, JOB_LIMIT, "its being taken away", |job| job["state"] == "retrying").await;
    worker.sigcont();
    taken?;
    api.wait_job_until(&job, JOB_LIMIT, "its being taken up", |job| job["attempt"] == 2).await?;
    // Time enough for a successor that does not wait to be done with all of it.
    let since = Instant::now();
    eventually(JOB_LIMIT, "a while", async || {
        let over = api.job(&job).await.is_ok_and(|job| job["state"] == "succeeded");
        (over || since.elapsed() > LEASE * 2).then_some(())
    })
    .await?;
    give_up(docker, &gate);
    sleeper_left(worker, &job).await?;
    let job = api.wait_success(&job, JOB_LIMIT).await?;
    let shown = flow::container(&api, &flow::text(&job["container"])).await?;
    let docker_id = system.docker_id(&flow::text(&job["container"])).await?;
    ensure!(shown["state"] == "ready" && shown["docker_id"] == docker_id.as_str(), "{shown:#}");
    assert_eq!(flow::status(system.dockerd(), &docker_id).await?, "running");
    assert_clean(&system).await
}

/// The node of a job's last claim.
fn holder(job: &Value) -> Result<String> {
    let mut claims =
        job["events"].as_array().into_iter().flatten().filter(|event| event["event"] == "claimed");
    let last = claims.next_back().and_then(|event| event["detail"].as_str()).context("no claim")?;
    let node = last.strip_prefix("by ").and_then(|rest| rest.split(',').next()).context("no node")?;
    Ok(node.to_owned())
}

/// Waits until a sleeper has left the job that it lost.
async fn sleeper_left(worker: &Mothball, job: &str) -> Result<()> {
    eventually(SOON, "the sleeper to leave the job", async || {
        let log = worker.log();
        let left = |line: &str| line.contains(job) && line.contains("the job is another's now");
        log.lines().any(left).then_some(())
    })
    .await
}

/// A clock that is ten minutes off on one side changes nothing: no lease ends early or late, no retry waits, nothing is billed
/// for time that did not pass, no other time is told.
#[tokio::test]
async fn a_clock_that_is_off_changes_nothing() -> Result<()> {
    let mut system = impatient(Pair::Servers).start().await?;
    for (number, (side, offset)) in [
        ("worker", 600),
        ("worker", -600),
        ("scheduler", 600),
        ("scheduler", -600),
        ("api", 600),
        ("api", -600),
    ]
    .into_iter()
    .enumerate()
    {
        let off = off_by(system.settings(), offset)?.target(side);
        let straight = process(&mut system, side);
        assert!(straight.stop().await?.success());
        let off = match side {
            "worker" => system.nodes[0].worker(off),
            "api" => off.data(&straight.data()),
            _ => off,
        };
        // The old one keeps its directory, where the key is.
        let crooked = off.start().await?;
        let mut straight = std::mem::replace(process(&mut system, side), crooked);
        let whole = life(&system, number).await.with_context(|| format!("{side} off by {offset} s"));
        let log = process(&mut system, side).log();
        assert!(process(&mut system, side).stop().await?.success());
        whole?;
        is_off(&log, offset).with_context(|| format!("{side} was not off by {offset} s"))?;
        straight.start_again().await?;
        *process(&mut system, side) = straight;
    }
    assert_clean(&system).await
}

fn process<'a>(system: &'a mut System, side: &str) -> &'a mut Mothball {
    match side {
        "worker" => system.worker(),
        "scheduler" => system.scheduler(),
        _ => &mut system.api,
    }
}

/// Runs a process under a clock of its own; time passes as it does elsewhere.
fn off_by(options: mothball::Options, seconds: i64) -> Result<mothball::Options> {
    Ok(options
        .env("LD_PRELOAD", clock::library()?.display().to_string())
        .env("FAKETIME", format!("{seconds:+}s"))
        .env("FAKETIME_DONT_FAKE_MONOTONIC", "1"))
}

/// That the process believed another time: by the times in its log.
fn is_off(log: &str, seconds: i64) -> Result<()> {
    let last = log.lines().rev().find_map(|line| line.split_whitespace().next()?.parse::<Timestamp>().ok());
    let off = last.context("no time in the log")?.as_second() - Timestamp::now().as_second();
    ensure!((off - seconds).abs() < 120, "it was off by {off} s");
    Ok(())
}

/// A container's life, with a retry, a wait, a save, and its end.
async fn life(system: &System, number: usize) -> Result<()> {
    let began = Timestamp::now();
    let api = system.operator()?;
    let name = format!("box{number}");
    let (container, docker_id) = launch(system, &name).await?;
    let docker = proxy(system, LAST_LOOK.way)?;
    docker.inject(Rule::on("POST", "/pause").times(1), Fault::answer(500, r#"{"message":"injected"}"#));
    let kept = save(&api, &container, &format!("k{number}"), "keep").await?;
    let kept = api.wait_success(&kept, Duration::from_secs(30)).await?;
    docker.clear();
    ensure!(kept["attempt"] == 2 && events(&kept, "lease_expired") == 0, "{kept:#}");
    // Held for longer than its lease: it is renewed in time.
    let registry = proxy(system, UPLOAD.way)?;
    let gate = registry.hold(UPLOAD.rule("", ""));
    let gone = save(&api, &container, &format!("d{number}"), "delete").await?;
    gate.reached(JOB_LIMIT).await?;
    let since = Instant::now();
    eventually(JOB_LIMIT, "more than a lease", async || (since.elapsed() > LEASE * 2).then_some(())).await?;
    gate.open();
    docker.clear();
    let gone = api.wait_success(&gone, JOB_LIMIT).await?;
    ensure!(gone["attempt"] == 1 && events(&gone, "lease_expired") == 0, "{gone:#}");
    assert_eq!(flow::status(system.dockerd(), &docker_id).await?, "absent");
    assert_eq!(saved_note(system, &api, &format!("base:d{number}")).await?, name);

    let ended = Timestamp::now();
    for job in [&kept, &gone] {
        let fields = ["created_at", "started_at", "finished_at"].map(|field| &job[field]);
        let events = job["events"].as_array().into_iter().flatten().map(|event| &event["at"]);
        for at in events.chain(fields) {
            told_right(at, began, ended).with_context(|| format!("{job:#}"))?;
        }
    }
    let shown = flow::container(&api, &container).await?;
    told_right(&shown["created_at"], began, ended)?;
    // Two TWD an hour: ten minutes would be a third of one.
    let cost: f64 = flow::text(&shown["cost"]["so_far"]).parse()?;
    ensure!(cost > 0.0 && cost < 0.1, "it cost {cost}");
    billed_no_more(&api, &container, &shown).await?;
    let nodes = api.get("/v1/nodes").await?.expect(200)?;
    ensure!(nodes["items"][0]["state"] == "ready", "{nodes:#}");
    told_right(&nodes["items"][0]["heartbeat_at"], began, Timestamp::now())
}

/// The bill of a container that is gone does not grow.
async fn billed_no_more(api: &Api, container: &str, shown: &Value) -> Result<()> {
    let again = flow::container(api, container).await?;
    ensure!(again["cost"]["so_far"] == shown["cost"]["so_far"], "{again:#}");
    Ok(())
}

fn told_right(at: &Value, began: Timestamp, ended: Timestamp) -> Result<()> {
    let at: Timestamp = at.as_str().context("no time")?.parse()?;
    let (from, to) = (began.as_second() - 1, ended.as_second() + 1);
    ensure!((from..=to).contains(&at.as_second()), "{at} is not between {began} and {ended}");
    Ok(())
}
