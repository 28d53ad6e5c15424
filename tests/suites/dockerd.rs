//! Docker Engine is restarted, in order or not, in the middle of a save: the job is done by another attempt, or fails as
//! `engine` with a sentence; nothing is frozen afterwards, and nothing deleted without proof.
#![expect(clippy::print_stdout, reason = "what each case takes is a figure to read")]

use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use mothball_harness::system::{Options, Pair, System};

use crate::faults::{
    At, SOON, assert_clean, by_engine, digest_of_tag, events, give_up, is_frozen, launch, options, proxy,
    save, saved_note,
};

/// How the engine ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// Told to stop: it ends its containers, unless it runs with `--live-restore`.
    Stopped,
    /// Killed: it ends its containers when it starts again, unless it runs with `--live-restore`.
    Killed,
}

/// One restart.
#[derive(Clone, Copy, Debug)]
struct Case {
    name: &'static str,
    end: End,
    /// Whether the container is deleted once it is saved: then it is frozen at every moment.
    then: &'static str,
    at: At,
    /// Whether the engine has done what it was asked.
    after: bool,
}

const fn case(name: &'static str, end: End, then: &'static str, at: At, after: bool) -> Case {
    Case { name, end, then, at, after }
}

const COMMIT: At = At::docker("POST", "/commit?");
const FREEZE: At = At::docker("POST", "/containers/{id}/pause");
const PUSH: At = At::registry("PATCH", "/blobs/uploads/");
const LOOK: At = FREEZE.then("GET", "/containers/{id}/json");

#[rustfmt::skip]
const CASES: [Case; 6] = [
    case("freeze-stopped", End::Stopped, "keep",   FREEZE, false),
    case("freeze-killed",  End::Killed,  "delete", FREEZE, true),
    case("read-stopped",   End::Stopped, "delete", PUSH,   false),
    case("read-killed",    End::Killed,  "keep",   PUSH,   false),
    case("frozen-stopped", End::Stopped, "delete", LOOK,   false),
    case("frozen-killed",  End::Killed,  "delete", LOOK,   false),
];

/// The same of saves by Docker commit and push.
#[rustfmt::skip]
const CASES_OF_THE_ENGINE: [Case; 4] = [
    case("commit-stopped", End::Stopped, "keep",   COMMIT, false),
    case("commit-killed",  End::Killed,  "delete", COMMIT, true),
    case("push-stopped",   End::Stopped, "delete", PUSH,   false),
    case("push-killed",    End::Killed,  "keep",   PUSH,   false),
];

/// Failures that this suite injects: each with and without `--live-restore`, on each pair; the engine's with it.
pub(crate) fn cases() -> usize {
    2 * CASES.len() + CASES_OF_THE_ENGINE.len()
}

mothball_tests::on_both_pairs!(
    restarted_with_its_containers,
    restarted_under_its_containers,
    restarted_while_it_saves,
);

async fn restarted_with_its_containers(pair: Pair) -> Result<()> {
    each(options(pair), &CASES, false).await
}

async fn restarted_under_its_containers(pair: Pair) -> Result<()> {
    each(options(pair), &CASES, true).await
}

async fn restarted_while_it_saves(pair: Pair) -> Result<()> {
    each(by_engine(options(pair)), &CASES_OF_THE_ENGINE, true).await
}

async fn each(options: Options, cases: &[Case], live_restore: bool) -> Result<()> {
    // A restart takes seconds; attempts must not be used up before it is over.
    let mut options = options.env("MOTHBALL_JOBS__RETRY_FIRST", "2s").env("MOTHBALL_JOBS__RETRY_MAX", "10s");
    if live_restore {
        options = options.engine_arg("--live-restore");
    }
    let mut system = options.start().await?;
    for case in cases.iter().copied() {
        let began = Instant::now();
        let done = restart(&mut system, case, live_restore).await;
        done.with_context(|| format!("{}; the worker's log:\n{}", case.name, system.worker().log()))?;
        println!("{} live-restore={live_restore}: {:?}", case.name, began.elapsed());
    }
    Ok(())
}

async fn restart(system: &mut System, case: Case, live_restore: bool) -> Result<()> {
    let api = system.operator()?;
    let (container, docker_id) = launch(system, case.name).await?;
    let way = proxy(system, case.at.way)?;
    let rule = case.at.rule(&docker_id, case.name);
    let gate = if case.after { way.hold_answer(rule) } else { way.hold(rule) };
    let job = save(&api, &container, case.name, case.then).await?;
    gate.reached(SOON).await?;
    let dockerd = &mut system.nodes[0].dockerd;
    match case.end {
        End::Stopped => dockerd.stop().await?,
        End::Killed => dockerd.kill9(),
    }
    give_up(proxy(system, case.at.way)?, &gate);
    system.nodes[0].dockerd.start_again().await?;

    let done = api.wait_job(&job, SOON).await?;
    if done["state"] == "failed" {
        let (class, says) = (&done["error"]["class"], done["error"]["message"].as_str().unwrap_or_default());
        ensure!(class == "engine" && says.contains("Docker"), "it did not fail as it should: {done:#}");
    } else {
        ensure!(done["state"] == "succeeded" && events(&done, "succeeded") == 1, "{done:#}");
        ensure!(digest_of_tag(system, case.name).await?.is_some(), "the image is not in the registry");
        let saved = saved_note(system, &api, &format!("base:{}", case.name)).await?;
        ensure!(saved == case.name, "the image has {saved:?}");
    }
    let deleted = done["state"] == "succeeded" && case.then == "delete";
    let there = is_frozen(system, &docker_id).await?;
    ensure!(there == (!deleted).then_some(false), "after {}: frozen is {there:?}", done["state"]);
    if !deleted && live_restore {
        // What the engine leaves running goes on running.
        system.dockerd().sh(&docker_id, "true").await?;
    }
    println!("{}: {} after {} attempts", case.name, done["state"], done["attempt"]);
    assert_clean(system).await
}
