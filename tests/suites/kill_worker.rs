//! The worker dies, or is told to stop, in each step of each job: `kill -9` and SIGTERM at a request that is held, before the
//! server has seen it or after it has done what it was asked.
//!
//! Whatever the moment: the container is never left frozen, not even until a successor starts; nothing is deleted without
//! proof; a successor takes the job up at once, and it ends right, once, with nothing left over. A crash costs an attempt, an
//! orderly stop does not.
#![expect(clippy::print_stdout, reason = "what each case takes is a figure to read")]

use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use mothball_harness::http::Api;
use mothball_harness::system::{BASE, JOB_LIMIT, Options, Pair, System};
use mothball_harness::wait::eventually;
use serde_json::{Value, json};

use crate::faults::{
    At, SOON, Way, assert_clean, by_engine, digest_of_tag, events, give_up, is_frozen, launch, options,
    proxy, save, saved_note, wait_thawed, without_undo, write,
};

/// A job to be disturbed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Work {
    Save,
    SaveThenDelete,
    Launch,
    LaunchSaved,
    Delete,
    DeleteImage,
    /// The tag is set back on what it named before.
    Restore,
    /// What a tag named before goes from the registry.
    Purge,
}

/// On which side of the effect the worker dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    /// The server has not seen the request.
    Before,
    /// The server has done what it was asked; nobody has heard.
    After,
}

/// How the worker ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Kill,
    Term,
}

/// One failure.
#[derive(Clone, Copy, Debug)]
struct Case {
    name: &'static str,
    work: Work,
    at: At,
    side: Side,
    /// A worker told to stop sees this request to its end, instead of dropping it.
    seen_through: bool,
}

const fn case(name: &'static str, work: Work, side: Side, at: At) -> Case {
    Case { name, work, at, side, seen_through: false }
}

impl Case {
    const fn seen_through(mut self) -> Self {
        self.seen_through = true;
        self
    }

    /// A stop that waits for the request to be seen through comes to the same on both sides of it.
    fn is_for(&self, end: End) -> bool {
        end == End::Kill || !self.seen_through || self.side == Side::Before || self.name == "freeze"
    }
}

const FROZEN: At = At::docker("POST", "/containers/{id}/pause");
const MANIFEST: At = At::registry("PUT", "/manifests/sha256:");
const VERIFY: At = At::registry("PUT", "/manifests/sha256:").then("GET", "/blobs/sha256:");

#[rustfmt::skip]
const SAVES: [Case; 8] = [
    case("read",        Work::Save, Side::Before, At::registry("POST", "/blobs/uploads/")),
    case("read",        Work::Save, Side::After,  At::registry("POST", "/blobs/uploads/")),
    case("read",        Work::Save, Side::Before, At::registry("PATCH", "/blobs/uploads/")),
    case("read",        Work::Save, Side::After,  At::registry("PUT", "/blobs/uploads/")),
    case("freeze",      Work::Save, Side::After,  At::docker("POST", "/containers/{id}/pause")).seen_through(),
    case("thaw",        Work::Save, Side::Before, At::docker("POST", "/containers/{id}/unpause")).seen_through(),
    case("finish",      Work::Save, Side::After,  MANIFEST),
    case("tag",         Work::Save, Side::Before, At::registry("PUT", "/manifests/{tag}")).seen_through(),
];

#[rustfmt::skip]
const SAVES_THEN_DELETES: [Case; 9] = [
    case("read",        Work::SaveThenDelete, Side::Before, At::registry("PATCH", "/blobs/uploads/")),
    case("freeze",      Work::SaveThenDelete, Side::Before, At::docker("POST", "/containers/{id}/pause")).seen_through(),
    case("freeze",      Work::SaveThenDelete, Side::After,  At::docker("POST", "/containers/{id}/pause")).seen_through(),
    case("finish",      Work::SaveThenDelete, Side::Before, MANIFEST),
    case("verify",      Work::SaveThenDelete, Side::Before, VERIFY),
    case("tag",         Work::SaveThenDelete, Side::After,  At::registry("PUT", "/manifests/{tag}")).seen_through(),
    case("last look",   Work::SaveThenDelete, Side::Before, FROZEN.then("GET", "/containers/{id}/json")).seen_through(),
    case("delete",      Work::SaveThenDelete, Side::Before, At::docker("DELETE", "/containers/{id}")).seen_through(),
    case("delete",      Work::SaveThenDelete, Side::After,  At::docker("DELETE", "/containers/{id}")).seen_through(),
];

#[rustfmt::skip]
const OTHERS: [Case; 15] = [
    case("restore",     Work::LaunchSaved, Side::Before, At::registry("GET", "/manifests/sha256:")),
    case("restore",     Work::LaunchSaved, Side::After,  At::docker("POST", "/containers/create?")).seen_through(),
    case("restore",     Work::LaunchSaved, Side::Before, At::docker("POST", "/containers/create?").then("GET", "/json")).seen_through(),
    case("start",       Work::LaunchSaved, Side::After,  At::docker("POST", "/start")).seen_through(),
    case("create",      Work::Launch, Side::Before, At::docker("POST", "/containers/create?")).seen_through(),
    case("create",      Work::Launch, Side::After,  At::docker("POST", "/containers/create?")).seen_through(),
    case("start",       Work::Launch, Side::Before, At::docker("POST", "/start")).seen_through(),
    case("start",       Work::Launch, Side::After,  At::docker("POST", "/start")).seen_through(),
    case("stop",        Work::Delete, Side::Before, At::docker("POST", "/containers/{id}/stop")),
    case("remove",      Work::Delete, Side::Before, At::docker("DELETE", "/containers/{id}")).seen_through(),
    case("remove",      Work::Delete, Side::After,  At::docker("DELETE", "/containers/{id}")).seen_through(),
    case("manifest",    Work::DeleteImage, Side::Before, At::registry("DELETE", "/manifests/sha256:")).seen_through(),
    case("manifest",    Work::DeleteImage, Side::After,  At::registry("DELETE", "/manifests/sha256:")).seen_through(),
    case("manifest",    Work::Purge, Side::Before, At::registry("DELETE", "/manifests/sha256:")).seen_through(),
    case("manifest",    Work::Purge, Side::After,  At::registry("DELETE", "/manifests/sha256:")).seen_through(),
];

/// Where there is something to restore.
#[rustfmt::skip]
const RESTORES: [Case; 2] = [
    case("tag",         Work::Restore, Side::Before, At::registry("PUT", "/manifests/{tag}")).seen_through(),
    case("tag",         Work::Restore, Side::After,  At::registry("PUT", "/manifests/{tag}")).seen_through(),
];

/// What is different where Docker commits, pushes and pulls.
#[rustfmt::skip]
const BY_ENGINE: [Case; 6] = [
    case("read",        Work::Save, Side::After,  At::docker("POST", "/commit?")),
    case("upload",      Work::Save, Side::Before, At::registry("PATCH", "/blobs/uploads/")),
    case("clean-up",    Work::Save, Side::Before, At::registry("DELETE", "/manifests/sha256:")).seen_through(),
    case("read",        Work::SaveThenDelete, Side::Before, At::docker("POST", "/commit?")),
    case("upload",      Work::SaveThenDelete, Side::After,  At::registry("PUT", "/blobs/uploads/")),
    case("pull",        Work::LaunchSaved, Side::Before, At::docker("POST", "/images/create?")),
];

/// Failures that this suite injects on each pair: every row by `kill -9`, most by SIGTERM, and the two at the end.
pub(crate) fn cases() -> usize {
    let rows = || SAVES.iter().chain(&SAVES_THEN_DELETES).chain(&OTHERS).chain(&RESTORES).chain(&BY_ENGINE);
    rows().count() + rows().filter(|case| case.is_for(End::Term)).count() + 2
}

mothball_tests::on_both_pairs!(
    killed_in_each_step_of_a_save,
    killed_in_each_step_of_a_save_then_delete,
    killed_in_each_step_of_other_jobs,
    stopped_in_each_step_of_a_save,
    stopped_in_each_step_of_a_save_then_delete,
    stopped_in_each_step_of_other_jobs,
    killed_where_docker_engine_saves,
    stopped_where_docker_engine_saves,
    the_next_worker_thaws_when_the_guard_died_too,
    a_worker_that_slept_through_its_lease_deletes_nothing,
);

async fn killed_in_each_step_of_a_save(pair: Pair) -> Result<()> {
    each(options(pair), &SAVES, End::Kill).await
}

async fn killed_in_each_step_of_a_save_then_delete(pair: Pair) -> Result<()> {
    each(options(pair), &SAVES_THEN_DELETES, End::Kill).await
}

async fn killed_in_each_step_of_other_jobs(pair: Pair) -> Result<()> {
    each(without_undo(options(pair)), &OTHERS, End::Kill).await?;
    each(options(pair), &RESTORES, End::Kill).await
}

async fn stopped_in_each_step_of_a_save(pair: Pair) -> Result<()> {
    each(options(pair), &SAVES, End::Term).await
}

async fn stopped_in_each_step_of_a_save_then_delete(pair: Pair) -> Result<()> {
    each(options(pair), &SAVES_THEN_DELETES, End::Term).await
}

async fn stopped_in_each_step_of_other_jobs(pair: Pair) -> Result<()> {
    each(without_undo(options(pair)), &OTHERS, End::Term).await?;
    each(options(pair), &RESTORES, End::Term).await
}

async fn killed_where_docker_engine_saves(pair: Pair) -> Result<()> {
    each(by_engine(options(pair)), &BY_ENGINE, End::Kill).await
}

async fn stopped_where_docker_engine_saves(pair: Pair) -> Result<()> {
    each(by_engine(options(pair)), &BY_ENGINE, End::Term).await
}

async fn each(options: Options, cases: &[Case], end: End) -> Result<()> {
    let mut system = options.start().await?;
    for (number, case) in cases.iter().enumerate().filter(|(_, case)| case.is_for(end)) {
        let began = Instant::now();
        let name = format!("c{number}");
        let done = disturb(&mut system, case, end, &name).await;
        done.with_context(|| {
            format!(
                "{end:?} {:?} {} of {:?}; the worker's log:\n{}",
                case.side,
                case.name,
                case.work,
                system.worker().log()
            )
        })?;
        println!("{end:?} {:?} {:?} {}: {:?}", case.work, case.side, case.name, began.elapsed());
    }
    Ok(())
}

/// What a case is about.
#[derive(Default)]
struct Subject {
    name: String,
    container: String,
    docker_id: String,
    tag: String,
    /// What the tag named first, where it was overwritten.
    first: String,
}

async fn disturb(system: &mut System, case: &Case, end: End, name: &str) -> Result<()> {
    let api = system.operator()?;
    let subject = prepare(system, &api, case.work, name).await?;
    let way = proxy(system, case.at.way)?;
    let rule = case.at.rule(&subject.docker_id, &subject.tag);
    let gate = match case.side {
        Side::Before => way.hold(rule),
        Side::After => way.hold_answer(rule),
    };
    let job = submit(&api, case.work, &subject).await?;
    gate.reached(SOON).await?;
    match end {
        End::Kill => system.worker().kill9(),
        End::Term => {
            system.worker().sigterm();
            if case.seen_through {
                gate.open();
            }
            let status = system.worker().wait_end(SOON).await?;
            ensure!(status.success(), "the worker ended with {status}");
        }
    }

    // Before any successor starts.
    let gone = undisturbed(system, case, &subject).await?;
    give_up(proxy(system, case.at.way)?, &gate);

    system.worker().start_again().await?;
    let done = api.wait_success(&job, SOON).await?;
    judge(system, &api, case, end, &subject, &done, gone).await?;
    assert_clean(system).await
}

async fn prepare(system: &System, api: &Api, work: Work, name: &str) -> Result<Subject> {
    let mut subject = Subject { name: name.to_owned(), tag: format!("tag-{name}"), ..Subject::default() };
    match work {
        Work::Launch => {}
        Work::Save | Work::SaveThenDelete | Work::Delete => {
            (subject.container, subject.docker_id) = launch(system, name).await?;
        }
        Work::LaunchSaved | Work::DeleteImage => {
            let (container, _) = launch(system, &format!("{name}-before")).await?;
            let job = save(api, &container, &subject.tag, "delete").await?;
            api.wait_success(&job, JOB_LIMIT).await?;
        }
        Work::Restore | Work::Purge => {
            (subject.container, subject.docker_id) = launch(system, name).await?;
            subject.first = saved_again(system, api, &subject).await?;
            if work == Work::Restore {
                saved_again(system, api, &subject).await?;
            }
        }
    }
    Ok(subject)
}

/// Saves a container under its tag, and writes into it; what the tag names then.
async fn saved_again(system: &System, api: &Api, subject: &Subject) -> Result<String> {
    let job = save(api, &subject.container, &subject.tag, "keep").await?;
    api.wait_success(&job, JOB_LIMIT).await?;
    write(system, &subject.docker_id, "more").await?;
    digest_of_tag(system, &subject.tag).await?.context("the tag names nothing")
}

/// The newest job of this kind, once there is one about the image.
async fn job_of(api: &Api, kind: &str, image: &str) -> Result<String> {
    let job = eventually(SOON, "the job", async || {
        let path = format!("/v1/jobs?all=true&kind={kind}");
        let list = api.get(&path).await.ok()?.json;
        let is_it = |job: &&Value| job["image"] == image;
        list["items"].as_array()?.iter().find(is_it)?["id"].as_str().map(str::to_owned)
    });
    job.await
}

async fn submit(api: &Api, work: Work, subject: &Subject) -> Result<String> {
    let launch = |image: &str| json!({"name": subject.name, "image": image, "flavor": "cpu-small"});
    let image = format!("base:{}", subject.tag);
    match work {
        Work::Save => save(api, &subject.container, &subject.tag, "keep").await,
        Work::SaveThenDelete => save(api, &subject.container, &subject.tag, "delete").await,
        Work::Launch => api.post("/v1/containers", &launch(BASE)).await?.job_id(202),
        Work::LaunchSaved => api.post("/v1/containers", &launch(&image)).await?.job_id(202),
        Work::Delete => api.delete(&format!("/v1/containers/{}", subject.container)).await?.job_id(202),
        Work::DeleteImage => api.delete(&format!("/v1/images/{image}")).await?.job_id(202),
        Work::Restore => {
            let asked = json!({"previous": true});
            api.post(&format!("/v1/images/{image}/restore"), &asked).await?.expect(200)?;
            job_of(api, "restore_image", &image).await
        }
        Work::Purge => {
            let job = save(api, &subject.container, &subject.tag, "keep").await?;
            api.wait_success(&job, JOB_LIMIT).await?;
            job_of(api, "purge_image", &image).await
        }
    }
}

/// With no worker there at all: the container runs on, or it is gone because the very request that was held has removed it.
/// Whether it is gone.
async fn undisturbed(system: &System, case: &Case, subject: &Subject) -> Result<bool> {
    if !matches!(case.work, Work::Save | Work::SaveThenDelete) {
        return Ok(false);
    }
    if is_frozen(system, &subject.docker_id).await?.is_none() {
        ensure!(case.name == "delete" || (case.name == "tag" && case.seen_through), "the container is gone");
        // Nothing is deleted without proof.
        let digest = digest_of_tag(system, &subject.tag).await?;
        ensure!(digest.is_some(), "the container is gone, and its image is not in the registry");
        return Ok(true);
    }
    wait_thawed(system, &subject.docker_id).await?;
    write(system, &subject.docker_id, "between").await.context("write into the thawed container")?;
    Ok(false)
}

async fn judge(
    system: &System,
    api: &Api,
    case: &Case,
    end: End,
    subject: &Subject,
    job: &Value,
    gone: bool,
) -> Result<()> {
    ensure!(events(job, "succeeded") == 1, "it did not end once: {job:#}");
    // One that is told to stop may have come to the end of its job.
    let interrupted = events(job, "interrupted");
    let (attempts, interruptions) = match end {
        End::Kill => (2, 0..=0),
        End::Term if case.seen_through => (1, 0..=1),
        End::Term => (1, 1..=1),
    };
    ensure!(
        job["attempt"] == attempts && interruptions.contains(&interrupted),
        "attempts are counted wrong: {job:#}"
    );
    match case.work {
        Work::Save | Work::SaveThenDelete => {
            let digest = digest_of_tag(system, &subject.tag).await?;
            ensure!(
                digest.is_some() && job["digest"] == digest.clone().unwrap_or_default(),
                "{digest:?} {job:#}"
            );
            let saved = saved_note(system, api, &format!("base:{}", subject.tag)).await?;
            ensure!(saved.starts_with(&subject.name), "the image has {saved:?}");
            if case.work == Work::Save {
                ensure!(is_frozen(system, &subject.docker_id).await? == Some(false), "it does not run");
            } else {
                ensure!(is_frozen(system, &subject.docker_id).await?.is_none(), "it was not deleted");
                // What it wrote between two attempts is not lost.
                ensure!(gone || saved.ends_with("between"), "the image has {saved:?}");
            }
        }
        Work::Launch | Work::LaunchSaved => {
            let container = job["container"].to_string();
            let state = api.get(&format!("/v1/containers/{container}")).await?.expect(200)?;
            ensure!(state["state"] == "ready", "{state:#}");
            let id = system.docker_id(&container).await?;
            ensure!(!id.contains('\n'), "several containers: {id}");
        }
        Work::Delete => ensure!(is_frozen(system, &subject.docker_id).await?.is_none(), "it was not deleted"),
        Work::DeleteImage => {
            ensure!(digest_of_tag(system, &subject.tag).await?.is_none(), "the image was not deleted");
            api.get(&format!("/v1/images/base:{}", subject.tag)).await?.problem(404)?;
        }
        Work::Restore => {
            let (tag, first) = (digest_of_tag(system, &subject.tag).await?, Some(&subject.first));
            ensure!(tag.as_ref() == first, "the tag is {tag:?}");
            ensure!(saved_note(system, api, &format!("base:{}", subject.tag)).await? == subject.name);
        }
        Work::Purge => {
            ensure!(digest_of_tag(system, &subject.first).await?.is_none(), "the content is still there");
            ensure!(digest_of_tag(system, &subject.tag).await?.is_some(), "too much is gone");
        }
    }
    Ok(())
}

/// A power switch for the whole unit: worker and guard at once. What stands in the node's journal is thawed by whoever starts
/// next, also when the job will never be run again.
async fn the_next_worker_thaws_when_the_guard_died_too(pair: Pair) -> Result<()> {
    let mut system = options(pair).env("MOTHBALL_JOBS__MAX_ATTEMPTS", "1").start().await?;
    let api = system.operator()?;
    let (container, docker_id) = launch(&system, "both").await?;
    let frozen = FROZEN.then("GET", "/events?").rule(&docker_id, "tag");
    let gate = proxy(&system, Way::Docker)?.hold(frozen);
    let job = save(&api, &container, "tag", "delete").await?;
    gate.reached(SOON).await?;
    let guard = guard_of(&docker_id).context("find the guard")?;
    let killed = std::process::Command::new("kill").args(["-9", &guard.to_string()]).status()?;
    ensure!(killed.success(), "the guard could not be killed");
    system.worker().kill9();
    ensure!(is_frozen(&system, &docker_id).await? == Some(true), "it is frozen until somebody thaws it");
    give_up(proxy(&system, Way::Docker)?, &gate);

    system.worker().start_again().await?;
    wait_thawed(&system, &docker_id).await?;
    let failed = api.wait_failure(&job, "timeout", SOON).await?;
    ensure!(
        failed["attempt"] == 1 && failed["error"]["message"].as_str().is_some_and(|m| !m.is_empty()),
        "{failed:#}"
    );
    ensure!(system.docker_id(&container).await? == docker_id, "the container is kept");
    assert_clean(&system).await
}

/// A worker that sleeps longer than its lease, with one step to go before the removal, finds that the job is not its own any
/// more: it removes nothing and thaws. The job is done by the next attempt, which reads the container anew.
async fn a_worker_that_slept_through_its_lease_deletes_nothing(pair: Pair) -> Result<()> {
    // In one process the scheduler sleeps with its worker: there the lease has ended when both wake.
    let mut system = options(pair).env("MOTHBALL_JOBS__LEASE", "2s").start().await?;
    let api = system.operator()?;
    let (container, docker_id) = launch(&system, "sleeper").await?;
    // The last look at the container before the lease is asked for.
    let look = FROZEN.then("GET", "/containers/{id}/json").rule(&docker_id, "tag");
    let gate = proxy(&system, Way::Docker)?.hold(look);
    let job = save(&api, &container, "tag", "delete").await?;
    gate.reached(SOON).await?;
    let fell_asleep = Instant::now();
    system.worker().sigstop();
    match pair {
        Pair::Servers => {
            let taken = |job: &Value| events(job, "lease_expired") == 1;
            api.wait_job_until(&job, SOON, "the end of the lease", taken).await?;
        }
        Pair::Embedded => {
            let slept = async || (fell_asleep.elapsed().as_secs() >= 4).then_some(());
            eventually(SOON, "the end of the lease", slept).await?;
        }
    }
    system.worker().sigcont();
    gate.open();
    let done = api.wait_success(&job, SOON).await?;
    ensure!(events(&done, "succeeded") == 1, "it did not end once: {done:#}");
    let docker = proxy(&system, Way::Docker)?;
    if pair == Pair::Servers {
        ensure!(done["attempt"] == 2 && events(&done, "claimed") == 2, "{done:#}");
    }
    let attempts = done["attempt"].as_u64().unwrap_or_default() as usize;
    let freezes = docker.count("POST", &format!("/containers/{docker_id}/pause"));
    ensure!(
        freezes == attempts,
        "{freezes} freezes in {attempts} attempts: an attempt removed what another had read"
    );
    ensure!(is_frozen(&system, &docker_id).await?.is_none(), "it was not deleted");
    ensure!(
        docker.count("DELETE", &format!("/containers/{docker_id}")) == 1,
        "it was deleted more than once"
    );
    assert_clean(&system).await
}

/// The process id of the guard that stands by a container.
fn guard_of(docker_id: &str) -> Option<u32> {
    std::fs::read_dir("/proc").ok()?.flatten().find_map(|process| {
        let line = std::fs::read(process.path().join("cmdline")).ok()?;
        let words: Vec<_> = line.split(|byte| *byte == 0).collect();
        let is_guard = words.contains(&b"guard".as_slice()) && words.contains(&docker_id.as_bytes());
        is_guard.then(|| process.file_name().to_str()?.parse().ok()).flatten()
    })
}
