//! Every step of every kind of job is run twice (the server does what it is asked, and its answer is lost) and fails once (an
//! error before the effect). The job ends as if nothing had been: one container, one image, one tag, nothing left over, and no
//! more attempts than it needs.

use std::fmt::Debug;
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use mothball_harness::http::Api;
use mothball_harness::proxy::{Fault, Proxy};
use mothball_harness::system::{BASE, JOB_LIMIT, Options, Pair, System};
use mothball_harness::wait::eventually;
use mothball_tests::flow::{self, Launched};
use serde_json::{Value, json};

use crate::faults::{
    At, Way, assert_clean, by_engine, digest_of_tag, events, launch, options, proxy, save, saved_note, tags,
    without_undo, write,
};

/// What happens to one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Upset {
    /// It is done, and nobody hears of it: whoever asked must ask again.
    AnswerLost,
    /// It is refused with an error that may pass.
    Refused,
}

/// A request of a job, and how many attempts the job needs when that request is upset.
#[derive(Clone, Copy, Debug)]
struct Step {
    name: &'static str,
    at: At,
    lost: u32,
    refused: u32,
}

const fn step(name: &'static str, at: At, lost: u32, refused: u32) -> Step {
    Step { name, at, lost, refused }
}

const CARRIER: At = At::docker("POST", "/containers/create?name=mothball-carrier");
const PUSH: At = At::docker("POST", "/push?");
const FREEZE: At = At::docker("POST", "/containers/{id}/pause");
const MANIFEST: At = At::registry("PUT", "/manifests/sha256:");

// Docker's calls are repeated only where that is known to be harmless, by another attempt otherwise; the registry's calls are
// repeated within the attempt; a thaw is repeated until it holds.
#[rustfmt::skip]
const SAVE: [Step; 12] = [
    step("preflight: look",       At::docker("GET", "/containers/{id}/json"),              2, 2),
    step("preflight: registry",   At::registry("GET", "/v2/"),                             1, 1),
    step("read: begin",           At::registry("POST", "/blobs/uploads/"),                 1, 1),
    step("read: send",            At::registry("PATCH", "/blobs/uploads/"),                1, 1),
    step("read: end",             At::registry("PUT", "/blobs/uploads/"),                  1, 1),
    step("read: watch",           At::docker("GET", "/events?"),                           2, 2),
    step("read: freeze",          FREEZE,                                                  1, 2),
    step("read: look back",       FREEZE.then("GET", "/events?"),                          2, 2),
    step("read: thaw",            At::docker("POST", "/containers/{id}/unpause"),          1, 1),
    step("finish: manifest",      MANIFEST,                                                1, 1),
    step("verify: blobs",         MANIFEST.then("GET", "/blobs/sha256:"),                  1, 1),
    step("tag",                   At::registry("PUT", "/manifests/{tag}"),                 1, 1),
];

#[rustfmt::skip]
const SAVE_THEN_DELETE: [Step; 7] = [
    step("read: send",            At::registry("PATCH", "/blobs/uploads/"),                1, 1),
    step("read: freeze",          FREEZE,                                                  1, 2),
    step("finish: manifest",      MANIFEST,                                                1, 1),
    step("verify: blobs",         MANIFEST.then("GET", "/blobs/sha256:"),                  1, 1),
    step("tag",                   At::registry("PUT", "/manifests/{tag}"),                 1, 1),
    step("delete: last look",     FREEZE.then("GET", "/containers/{id}/json"),             2, 2),
    step("delete: remove",        At::docker("DELETE", "/containers/{id}"),                2, 2),
];

/// What is different where Docker commits, pushes and pulls.
#[rustfmt::skip]
const SAVE_BY_ENGINE: [Step; 9] = [
    step("preflight: image",      At::docker("GET", "/images/"),                           2, 2),
    step("read: commit",          At::docker("POST", "/commit?"),                          2, 2),
    step("read: carrier",         CARRIER,                                                 2, 2),
    step("read: commit again",    CARRIER.then("POST", "/commit?"),                        2, 2),
    step("read: drop carrier",    CARRIER.then("DELETE", "mothball-carrier"),              2, 2),
    step("upload: name",          At::docker("POST", "/tag?"),                             2, 2),
    step("upload: push",          PUSH,                                                    2, 2),
    step("finish: clean up",      At::registry("DELETE", "/manifests/sha256:"),            1, 1),
    step("leave nothing",         PUSH.then("DELETE", "/images/"),                         1, 1),
];

#[rustfmt::skip]
const LAUNCH: [Step; 4] = [
    step("fetch: look",           At::docker("GET", "/images/"),                           2, 2),
    step("create",                At::docker("POST", "/containers/create?"),               2, 2),
    step("start",                 At::docker("POST", "/start"),                            2, 2),
    step("ready",                 At::docker("POST", "/start").then("GET", "/json"),       2, 2),
];

#[rustfmt::skip]
const LAUNCH_SAVED: [Step; 4] = [
    step("fetch: manifest",       At::registry("GET", "/manifests/sha256:"),               1, 1),
    step("fetch: blobs",          At::registry("GET", "/blobs/sha256:"),                   1, 1),
    step("fetch: create",         At::docker("POST", "/containers/create?"),               2, 2),
    step("start",                 At::docker("POST", "/start"),                            2, 2),
];

const LAUNCH_BY_ENGINE: [Step; 1] = [step("fetch: pull", At::docker("POST", "/images/create?"), 2, 2)];

#[rustfmt::skip]
const DELETE: [Step; 3] = [
    step("look",                  At::docker("GET", "/containers/{id}/json"),              2, 2),
    step("stop",                  At::docker("POST", "/containers/{id}/stop"),             1, 1),
    step("remove",                At::docker("DELETE", "/containers/{id}"),                2, 2),
];

#[rustfmt::skip]
const DELETE_IMAGE: [Step; 3] = [
    step("look",                  At::registry("HEAD", "/manifests/{tag}"),                1, 1),
    step("untag",                 At::registry("DELETE", "/manifests/{tag}"),              1, 1),
    step("remove manifest",       At::registry("DELETE", "/manifests/sha256:"),            1, 1),
];

#[rustfmt::skip]
const RESTORE: [Step; 2] = [
    step("keep alive",            At::registry("PUT", "/manifests/_mothball-"),            1, 1),
    step("tag",                   At::registry("PUT", "/manifests/{tag}"),                 1, 1),
];

const PURGE: [Step; 1] = [step("remove manifest", At::registry("DELETE", "/manifests/sha256:"), 1, 1)];

const STOP: [Step; 1] = [step("stop", At::docker("POST", "/containers/{id}/stop"), 2, 2)];
const START: [Step; 2] = [
    step("start", At::docker("POST", "/containers/{id}/start"), 2, 2),
    step("ready", At::docker("POST", "/start").then("GET", "/json"), 2, 2),
];

/// Failures that these tables inject on one pair.
pub(crate) fn cases() -> usize {
    let deletions = [&DELETE[..], &DELETE_IMAGE, &RESTORE, &PURGE];
    let others = [&SAVE[..], &SAVE_THEN_DELETE, &LAUNCH, &LAUNCH_SAVED, &STOP, &START];
    let rows = others.iter().chain(&deletions);
    let by_engine = [&SAVE_BY_ENGINE[..], &LAUNCH_BY_ENGINE];
    2 * rows.chain(&by_engine).map(|steps| steps.len()).sum::<usize>()
}

mothball_tests::on_both_pairs!(
    each_step_of_a_save,
    each_step_of_a_save_then_delete,
    each_step_of_other_jobs,
    each_step_of_a_restore,
    each_step_of_a_purge,
);

async fn start(options: Options) -> Result<System> {
    // One report at the start and no more: a request of the heartbeat, or of the looks at what containers use, must not
    // meet what is meant for a job.
    let options = options
        .env("MOTHBALL_WORKER__USAGE_INTERVAL", "20m")
        .env("MOTHBALL_WORKER__HEARTBEAT", "20m")
        .env("MOTHBALL_WORKER__ALIVE_WITHIN", "1h")
        .env("MOTHBALL_WORKER__CONCURRENCY", "1");
    options.start().await
}

async fn each_step_of_a_save(pair: Pair) -> Result<()> {
    saves(&start(options(pair)).await?, &SAVE).await
}

#[tokio::test]
async fn each_step_where_docker_engine_saves() -> Result<()> {
    let system = start(by_engine(options(Pair::Embedded))).await?;
    saves(&system, &SAVE_BY_ENGINE).await?;
    let (source, _) = launch(&system, "source").await?;
    launches(&system, &source, &LAUNCH_BY_ENGINE).await?;
    assert_clean(&system).await
}

/// Saves a container once for each step and way to be upset, and keeps it.
async fn saves(system: &System, steps: &[Step]) -> Result<()> {
    let api = system.operator()?;
    // With a variable of the launcher's, which a save takes out by way of an empty container.
    let body = json!({"name": "box", "image": BASE, "flavor": "cpu-small", "env": {"KEY": "value"}});
    let Launched { id: container, docker_id, .. } = flow::launch_as(&api, &body).await?;
    write(system, &docker_id, "box").await?;
    for_each(steps, async |number, step, upset| {
        let tag = format!("t{number}-{upset:?}").to_lowercase();
        system.dockerd().sh(&docker_id, "echo more >> /more").await?;
        let ready = arrange(system, step, upset, &docker_id, &tag)?;
        let job = save(&api, &container, &tag, "keep").await?;
        let job = ready.end(&api, &job).await?;
        same("the tag", digest_of_tag(system, &tag).await?.as_deref(), job["digest"].as_str())?;
        same("containers", states(system, &container).await?, ["running"])
    })
    .await?;
    let images = api.get("/v1/images?limit=200").await?.expect(200)?;
    let images = images["items"].as_array().context("no list")?;
    assert_eq!(images.len(), steps.len() * 2);
    assert_eq!(users_tags(system).await?, steps.len() * 2, "the registry has tags that nobody asked for");
    for image in images.iter().step_by(8) {
        let name = format!("base:{}", image["tag"].as_str().unwrap_or_default());
        assert_eq!(saved_note(system, &api, &name).await?, "box");
    }
    assert_clean(system).await
}

async fn each_step_of_a_save_then_delete(pair: Pair) -> Result<()> {
    let system = start(options(pair)).await?;
    let api = system.operator()?;
    for_each(&SAVE_THEN_DELETE, async |number, step, upset| {
        let tag = format!("t{number}-{upset:?}").to_lowercase();
        let (container, docker_id) = launch(&system, &tag).await?;
        let ready = arrange(&system, step, upset, &docker_id, &tag)?;
        let job = save(&api, &container, &tag, "delete").await?;
        let job = ready.end(&api, &job).await?;
        same("the tag", digest_of_tag(&system, &tag).await?.as_deref(), job["digest"].as_str())?;
        same("containers", states(&system, &container).await?, [""; 0])?;
        let shown = api.get(&format!("/v1/containers/{container}")).await?.expect(200)?;
        same("the state", shown["state"].as_str(), Some("deleted"))?;
        same("what was saved", saved_note(&system, &api, &format!("base:{tag}")).await?, tag)
    })
    .await?;
    assert_eq!(users_tags(&system).await?, SAVE_THEN_DELETE.len() * 2);
    assert_clean(&system).await
}

async fn each_step_of_other_jobs(pair: Pair) -> Result<()> {
    let system = start(without_undo(options(pair))).await?;
    let api = system.operator()?;
    for_each(&LAUNCH, async |number, step, upset| {
        let ready = arrange(&system, step, upset, "", "")?;
        launched_once(&system, &api, ready, &format!("l{number}-{upset:?}"), BASE).await.map(drop)
    })
    .await?;
    let (source, source_id) = launch(&system, "source").await?;
    launches(&system, &source, &LAUNCH_SAVED).await?;
    for (steps, action, state) in [(&STOP[..], "stop", "stopped"), (&START[..], "start", "ready")] {
        for_each(steps, async |_, step, upset| {
            // Each time from the other state.
            let other = if action == "stop" { "start" } else { "stop" };
            let shown = api.get(&format!("/v1/containers/{source}")).await?.expect(200)?;
            if shown["state"] == state {
                let job =
                    api.post(&format!("/v1/containers/{source}/{other}"), &json!({})).await?.job_id(202)?;
                api.wait_success(&job, JOB_LIMIT).await?;
            }
            let ready = arrange(&system, step, upset, &source_id, "")?;
            let job =
                api.post(&format!("/v1/containers/{source}/{action}"), &json!({})).await?.job_id(202)?;
            ready.end(&api, &job).await?;
            let shown = api.get(&format!("/v1/containers/{source}")).await?.expect(200)?;
            same("the state", shown["state"].as_str(), Some(state))?;
            let seen = if state == "ready" { "running" } else { "exited" };
            same("containers", states(&system, &source).await?, [seen])
        })
        .await?;
    }
    for_each(&DELETE_IMAGE, async |number, step, upset| {
        let tag = format!("d{number}-{upset:?}").to_lowercase();
        let job = save(&api, &source, &tag, "keep").await?;
        api.wait_success(&job, JOB_LIMIT).await?;
        let ready = arrange(&system, step, upset, "", &tag)?;
        let job = api.delete(&format!("/v1/images/base:{tag}")).await?.job_id(202)?;
        ready.end(&api, &job).await?;
        same("the image", api.get(&format!("/v1/images/base:{tag}")).await?.status, 404)?;
        same("the tag", digest_of_tag(&system, &tag).await?, None)
    })
    .await?;
    for_each(&DELETE, async |number, step, upset| {
        let (container, docker_id) = launch(&system, &format!("d{number}-{upset:?}").to_lowercase()).await?;
        let ready = arrange(&system, step, upset, &docker_id, "")?;
        let job = api.delete(&format!("/v1/containers/{container}")).await?.job_id(202)?;
        ready.end(&api, &job).await?;
        same("containers", states(&system, &container).await?, [""; 0])
    })
    .await?;
    assert_clean(&system).await
}

async fn each_step_of_a_restore(pair: Pair) -> Result<()> {
    let system = start(options(pair)).await?;
    let api = system.operator()?;
    let source = launch(&system, "source").await?;
    for_each(&RESTORE, async |number, step, upset| {
        let tag = format!("r{number}-{upset:?}").to_lowercase();
        let first = overwritten(&system, &api, &source, &tag).await?;
        let ready = arrange(&system, step, upset, "", &tag)?;
        let asked = json!({"previous": true});
        api.post(&format!("/v1/images/base:{tag}/restore"), &asked).await?.expect(200)?;
        ready.end(&api, &newest(&api, "restore_image", &tag).await?).await?;
        same("the tag", digest_of_tag(&system, &tag).await?, Some(first.clone()))?;
        let image = api.get(&format!("/v1/images/base:{tag}")).await?.expect(200)?;
        same("the image", image["digest"].as_str(), Some(first.as_str()))
    })
    .await?;
    assert_clean(&system).await
}

async fn each_step_of_a_purge(pair: Pair) -> Result<()> {
    let system = start(without_undo(options(pair))).await?;
    let api = system.operator()?;
    let source = launch(&system, "source").await?;
    for_each(&PURGE, async |number, step, upset| {
        let tag = format!("p{number}-{upset:?}").to_lowercase();
        let ready = arrange(&system, step, upset, "", "")?;
        let first = overwritten(&system, &api, &source, &tag).await?;
        ready.end(&api, &newest(&api, "purge_image", &tag).await?).await?;
        same("the content", digest_of_tag(&system, &first).await?, None)?;
        let image = api.get(&format!("/v1/images/base:{tag}")).await?.expect(200)?;
        same("the image", digest_of_tag(&system, &tag).await?.as_deref(), image["digest"].as_str())
    })
    .await?;
    assert_clean(&system).await
}

/// Saves a container twice under this tag; what the tag named first.
async fn overwritten(
    system: &System,
    api: &Api,
    (container, docker_id): &(String, String),
    tag: &str,
) -> Result<String> {
    let job = save(api, container, tag, "keep").await?;
    let first = api.wait_success(&job, JOB_LIMIT).await?;
    write(system, docker_id, tag).await?;
    let job = save(api, container, tag, "keep").await?;
    api.wait_success(&job, JOB_LIMIT).await?;
    first["digest"].as_str().map(str::to_owned).context("the job has no digest")
}

/// The newest job of this kind about this tag, once there is one.
async fn newest(api: &Api, kind: &str, tag: &str) -> Result<String> {
    let image = format!("base:{tag}");
    let job = eventually(JOB_LIMIT, "the job", async || {
        let list = api.get(&format!("/v1/jobs?all=true&kind={kind}")).await.ok()?.json;
        let is_it = |job: &&Value| job["image"] == image.as_str();
        list["items"].as_array()?.iter().find(is_it)?["id"].as_str().map(str::to_owned)
    });
    job.await
}

/// Launches what was saved of a container, once for each step and way to be upset.
async fn launches(system: &System, source: &str, steps: &[Step]) -> Result<()> {
    let api = system.operator()?;
    for_each(steps, async |number, step, upset| {
        let tag = format!("v{number}-{upset:?}").to_lowercase();
        let job = save(&api, source, &tag, "keep").await?;
        api.wait_success(&job, JOB_LIMIT).await?;
        let ready = arrange(system, step, upset, "", "")?;
        launched_once(system, &api, ready, &tag, &format!("base:{tag}")).await.map(drop)
    })
    .await
}

/// Launches and looks that there is one container, which runs.
async fn launched_once(
    system: &System,
    api: &Api,
    ready: Ready<'_>,
    name: &str,
    image: &str,
) -> Result<String> {
    let body = json!({"name": name.to_lowercase(), "image": image, "flavor": "cpu-small"});
    let job = api.post("/v1/containers", &body).await?.job_id(202)?;
    let job = ready.end(api, &job).await?;
    let container = job["container"].to_string();
    same("containers", states(system, &container).await?, ["running"])?;
    let shown = api.get(&format!("/v1/containers/{container}")).await?.expect(200)?;
    same("the id", shown["docker_id"].as_str(), Some(system.docker_id(&container).await?.as_str()))?;
    Ok(container)
}

/// Runs `work` with each step upset in both ways, and says at the end in which cases it failed.
async fn for_each(
    steps: &[Step],
    mut work: impl AsyncFnMut(usize, &Step, Upset) -> Result<()>,
) -> Result<()> {
    let mut failed = Vec::new();
    for (number, step) in steps.iter().enumerate() {
        for upset in [Upset::AnswerLost, Upset::Refused] {
            let began = Instant::now();
            if let Err(error) = work(number, step, upset).await {
                failed.push(format!("{}, {upset:?}: {error:#}", step.name));
            }
            #[expect(clippy::print_stdout, reason = "what each case costs is a figure to read")]
            {
                println!("{}, {upset:?}: {:.1} s", step.name, began.elapsed().as_secs_f64());
            }
        }
    }
    ensure!(failed.is_empty(), "{} cases failed:\n{}", failed.len(), failed.join("\n"));
    Ok(())
}

/// A fault that waits for its request.
struct Ready<'a> {
    proxy: &'a Proxy,
    step: Step,
    attempts: u32,
    docker_id: String,
    tag: String,
}

fn arrange<'a>(
    system: &'a System,
    step: &Step,
    upset: Upset,
    docker_id: &str,
    tag: &str,
) -> Result<Ready<'a>> {
    let proxy = proxy(system, step.at.way)?;
    let (attempts, fault) = match (upset, step.at.way) {
        (Upset::AnswerLost, _) => (step.lost, Fault::LoseAnswer),
        (Upset::Refused, Way::Docker) => (step.refused, Fault::answer(500, r#"{"message":"injected"}"#)),
        (Upset::Refused, Way::Registry) => (step.refused, Fault::answer(500, "injected")),
    };
    proxy.forget();
    proxy.inject(step.at.rule(docker_id, tag), fault);
    Ok(Ready { proxy, step: *step, attempts, docker_id: docker_id.to_owned(), tag: tag.to_owned() })
}

impl Ready<'_> {
    /// Waits for the job's success, and looks that the fault was met and cost what it may.
    async fn end(self, api: &Api, job: &str) -> Result<Value> {
        let job = api.wait_success(job, JOB_LIMIT).await?;
        self.proxy.clear();
        ensure!(self.was_met(), "no request met the fault: {}", told(&job));
        ensure!(job["attempt"] == self.attempts, "not {} attempts: {}", self.attempts, told(&job));
        let once = events(&job, "succeeded") == 1 && events(&job, "claimed") == self.attempts as usize;
        ensure!(once, "not taken and ended as it should: {}", told(&job));
        Ok(job)
    }

    fn was_met(&self) -> bool {
        let fill = |part: &str| part.replace("{id}", &self.docker_id).replace("{tag}", &self.tag);
        let requests = self.proxy.requests();
        let at = self.step.at;
        let mut rest =
            requests.iter().skip_while(|r| !(r.method == at.method && r.path.contains(&fill(at.part))));
        match at.then {
            None => rest.next().is_some(),
            Some((method, part)) => rest.skip(1).any(|r| r.method == method && r.path.contains(&fill(part))),
        }
    }
}

/// How many tags users see: those of our own keep digests alive.
async fn users_tags(system: &System) -> Result<usize> {
    Ok(tags(system).await?.iter().filter(|tag| !tag.starts_with("_mothball-")).count())
}

/// A job's history in one line.
fn told(job: &Value) -> String {
    let word = |event: &Value| format!("{} {}", event["event"], event["detail"]).replace('"', "");
    job["events"].as_array().into_iter().flatten().map(word).collect::<Vec<_>>().join("; ")
}

#[expect(clippy::needless_pass_by_value, reason = "reads as an assertion does")]
fn same<A: PartialEq<B> + Debug, B: Debug>(what: &str, found: A, wanted: B) -> Result<()> {
    ensure!(found == wanted, "{what}: {found:?} instead of {wanted:?}");
    Ok(())
}

/// Where the engine's containers of this number stand; more than one would be an effect that happened twice.
async fn states(system: &System, container: &str) -> Result<Vec<String>> {
    let filter = format!("label=mothball.container={container}");
    let args = ["ps", "--all", "--filter", &filter, "--format", "{{.State}}"];
    let states = system.dockerd().docker(&args).await?;
    Ok(states.lines().map(str::to_owned).collect())
}
