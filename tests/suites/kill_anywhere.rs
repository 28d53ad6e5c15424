//! The worker is killed at any moment of a save or a launch: at a request chosen by a seed, whichever that is. Whatever the
//! moment, no container stays frozen, no image is wrong, nothing is left over on the node or in the registry, and what the
//! registry has already is not sent again.
#![expect(clippy::print_stdout, reason = "where each seed strikes is worth reading")]

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context as _, Result, ensure};
use mothball_harness::proxy::{Gate, Proxy, Rule};
use mothball_harness::system::{JOB_LIMIT, Pair, System};
use mothball_harness::wait::try_eventually;
use mothball_tests::flow::{self, root};
use mothball_tests::{on_both_pairs, soak};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::json;

use crate::faults::{
    SOON, Way, assert_clean, digest_of_tag, give_up, is_frozen, launch, options, proxy, save, saved_note,
    unfinished_uploads, wait_thawed,
};

on_both_pairs!(killed_at_any_request, what_was_sent_before_a_kill_is_not_sent_again);

/// More requests than any of these jobs makes: a seed may also strike after the end.
const REQUESTS_MAX: usize = 70;

/// What a seed disturbs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Work {
    Save,
    SaveThenDelete,
    Launch,
}

async fn killed_at_any_request(pair: Pair) -> Result<()> {
    let mut system = options(pair).start().await?;
    // The pairs share the seeds: five each in `make test`.
    let (first, step) = if pair == Pair::Embedded { (0, 2) } else { (1, 2) };
    let mut cut = BTreeSet::new();
    for seed in (first..soak::size(10, 400)).step_by(step) {
        let struck = killed(&mut system, seed as u64, &mut cut).await;
        let struck =
            struck.with_context(|| format!("seed {seed}; the worker's log:\n{}", system.worker().log()))?;
        println!("{pair:?} seed {seed}: {struck}");
    }
    Ok(())
}

/// One kill; where it struck. `cut` has the uploads that a kill, this one or an earlier one, cut in the middle of a PATCH:
/// docker-registry 2.8 gives nobody a way to take those out.
async fn killed(system: &mut System, seed: u64, cut: &mut BTreeSet<String>) -> Result<String> {
    let mut random = StdRng::seed_from_u64(seed);
    let work = [Work::Save, Work::SaveThenDelete, Work::Launch][random.random_range(0..3)];
    let api = system.operator()?;
    let name = format!("s{seed}");
    let (container, docker_id) = launch(system, &name).await?;
    let fill = format!(
        "mkdir /data; rm /bin/yes; for i in 1 2 3; do head -c {} /dev/urandom > /data/$i; done",
        random.random_range(0..2_000_000)
    );
    root(system.dockerd(), &docker_id, &fill).await?;
    let hash = "cd /data; sha256sum *";
    let sums = root(system.dockerd(), &docker_id, hash).await?;
    if work == Work::Launch {
        flow::save_and_delete(&api, &container, &name).await?;
    }

    let moment = random.random_range(0..REQUESTS_MAX);
    let gates = hold_request(system, moment)?;
    let job = match work {
        Work::Save => save(&api, &container, &name, "keep").await?,
        Work::SaveThenDelete => save(&api, &container, &name, "delete").await?,
        Work::Launch => {
            let body = json!({"name": format!("{name}-again"), "image": format!("base:{name}"), "flavor": "cpu-small"});
            api.post("/v1/containers", &body).await?.job_id(202)?
        }
    };
    let over = try_eventually(SOON, "the moment, or the end of the job", async || {
        if gates.iter().any(|gate| gate.count() > 0) {
            return Ok(Some(false));
        }
        Ok((api.job(&job).await?["state"] == "succeeded").then_some(true))
    })
    .await?;
    let struck = if over { "after its end".to_owned() } else { format!("request {moment}") };
    let patched = proxy(system, Way::Registry)?.open_requests().into_iter().filter(|r| r.method == "PATCH");
    cut.extend(patched.filter_map(|request| upload_of(&request.path)));
    system.worker().kill9();
    for (gate, way) in gates.iter().zip([Way::Docker, Way::Registry]) {
        give_up(proxy(system, way)?, gate);
    }
    // With no worker there at all.
    if is_frozen(system, &docker_id).await?.is_some() {
        wait_thawed(system, &docker_id).await?;
    }
    system.worker().start_again().await?;
    system.api.wait_able().await?;
    let job = api.wait_success(&job, JOB_LIMIT).await?;

    let image = format!("base:{name}");
    let digest = flow::text(&flow::image(&api, &image).await?["digest"]);
    ensure!(
        digest_of_tag(system, &name).await?.as_deref() == Some(digest.as_str()),
        "the tag is not on {digest}"
    );
    ensure!(saved_note(system, &api, &image).await? == name, "the image is not what was saved");
    let copy = match work {
        Work::Launch => flow::launched(&api, &flow::text(&job["container"])).await?,
        _ => flow::launch(&api, &format!("{name}-copy"), &image).await?,
    };
    ensure!(
        root(system.dockerd(), &copy.docker_id, hash).await? == sums,
        "the copy's files are not what was saved"
    );
    root(system.dockerd(), &copy.docker_id, "test ! -e /bin/yes && test -e /bin/wc").await?;
    assert_clean(system).await?;
    let left: Vec<String> = unfinished_uploads(system)?
        .into_iter()
        .filter(|upload| !cut.iter().any(|cut| upload.contains(cut)))
        .collect();
    assert_eq!(left, Vec::<String>::new(), "cut in the middle were {cut:?}");
    // Room for the next seed: containers cost memory.
    for id in [&container, &copy.id] {
        let delete = api.delete(&format!("/v1/containers/{id}")).await?;
        if delete.status == 202 {
            api.wait_success(&delete.job_id(202)?, JOB_LIMIT).await?;
        }
    }
    Ok(format!("{work:?}, {struck}"))
}

/// The upload that a request is about.
fn upload_of(path: &str) -> Option<String> {
    let (_, rest) = path.split_once("/blobs/uploads/")?;
    rest.split(['?', '/']).next().filter(|upload| !upload.is_empty()).map(str::to_owned)
}

/// Holds the request of this number, counted over both ways from now on.
fn hold_request(system: &System, number: usize) -> Result<[Gate; 2]> {
    let seen = Arc::new(AtomicUsize::new(0));
    let hold = |proxy: &Proxy| {
        let seen = Arc::clone(&seen);
        proxy.hold(Rule::matching(move |_| seen.fetch_add(1, Ordering::Relaxed) == number))
    };
    Ok([hold(proxy(system, Way::Docker)?), hold(proxy(system, Way::Registry)?)])
}

/// Killed when most is sent and before the manifest: what comes after is small.
async fn what_was_sent_before_a_kill_is_not_sent_again(pair: Pair) -> Result<()> {
    let mut system = options(pair).start().await?;
    let api = system.operator()?;
    let (container, docker_id) = launch(&system, "box").await?;
    root(system.dockerd(), &docker_id, "head -c 8388608 /dev/urandom > /large").await?;
    let gate = proxy(&system, Way::Docker)?.hold(Rule::on("POST", "/pause").times(1));
    let job = save(&api, &container, "v1", "delete").await?;
    gate.reached(SOON).await?;
    system.worker().kill9();
    give_up(proxy(&system, Way::Docker)?, &gate);
    wait_thawed(&system, &docker_id).await?;
    root(system.dockerd(), &docker_id, "echo between >> /note").await?;
    let registry = proxy(&system, Way::Registry)?;
    registry.forget();
    system.worker().start_again().await?;
    let job = api.wait_success(&job, JOB_LIMIT).await?;
    let notes = flow::notes(&job);
    let sent = crate::whole_tree::sent(&job)?;
    ensure!(sent < 64 * 1024, "{sent} bytes were sent again: {notes}");
    ensure!(saved_note(&system, &api, "base:v1").await? == "box\nbetween");
    assert_eq!(unfinished_uploads(&system)?, Vec::<String>::new());
    assert_clean(&system).await
}
