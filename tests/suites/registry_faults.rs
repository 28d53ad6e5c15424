//! The registry answers with errors, closes, fills up, goes away, or refuses us; and pushes fail behind a 200. Each save comes
//! right, with no more attempts than it needs, or fails with the right class and a sentence; its owner's retry then comes right.
#![expect(clippy::print_stdout, reason = "what each case takes is a figure to read")]

use std::ops::RangeInclusive;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use mothball_harness::http::Api;
use mothball_harness::proxy::{Fault, Rule};
use mothball_harness::registry::Registry;
use mothball_harness::system::{JOB_LIMIT, Options, Pair, System};
use serde_json::{Value, json};

use crate::faults::{
    At, SOON, Way, assert_clean, by_engine, digest_of_tag, give_up, is_frozen, launch, options, proxy, save,
    saved_note,
};

/// What happens to a request.
#[derive(Clone, Copy, Debug)]
enum Do {
    /// It is answered by somebody else.
    Answer(u16, &'static str),
    /// It is answered with 429 and how many seconds to wait.
    Wait(&'static str),
    /// The line breaks after so many bytes of its body.
    Cut(u64),
    /// The line breaks after so many bytes of the answer.
    CutAnswer(u64),
    /// It is done, and the line breaks instead of the answer.
    Lose,
}

/// How a save ends.
#[derive(Clone, Debug)]
enum Expect {
    /// Right, after so many attempts.
    Done(RangeInclusive<u32>),
    /// Failed with this class after so many attempts, in a sentence with this word. Its owner's retry comes right.
    Failed(&'static str, u32, &'static str),
}
use Expect::{Done, Failed};

/// One way to fail: what happens, in this order, to how many of these requests.
struct Row(&'static str, &'static [(At, Do, usize)], Expect);

const ALWAYS: usize = usize::MAX;
const MANIFEST: At = At::registry("PUT", "/manifests/sha256:");
const PUSHED: At = At::registry("GET", "/manifests/");
const BLOBS: At = At::registry("PUT", "/manifests/sha256:").then("GET", "/blobs/sha256:");
const UPLOAD: At = At::registry("PATCH", "/blobs/uploads/");
const PUSH: At = At::docker("POST", "/push?");

#[rustfmt::skip]
const ANSWERS: [Row; 17] = [
    Row("500-then-fine",        &[(MANIFEST, Do::Answer(500, ""), 1)],                                  Done(1..=1)),
    Row("500-for-a-while",      &[(MANIFEST, Do::Answer(500, ""), 4)],                                  Done(2..=2)),
    Row("500-401-fine",         &[(PUSHED, Do::Answer(500, ""), 1), (PUSHED, Do::Answer(401, ""), ALWAYS)], Failed("auth", 1, "refuses")),
    Row("502-a-proxys-page",    &[(PUSHED, Do::Answer(502, "<html>bad gateway</html>"), 2)],            Done(1..=1)),
    Row("429-wait",             &[(MANIFEST, Do::Wait("1"), 2)],                                        Done(1..=1)),
    Row("429-wait-long",        &[(MANIFEST, Do::Wait("300"), 1)],                                      Done(2..=2)),
    Row("429-for-ever",         &[(MANIFEST, Do::Wait("300"), ALWAYS)],                                 Failed("registry", 3, "wait")),
    Row("quota",                &[(MANIFEST, Do::Answer(403, r#"{"errors":[{"code":"DENIED","message":"adding 1 GiB will exceed the configured upper limit of 5 GiB"}]}"#), 1)], Failed("quota", 1, "quota")),
    Row("too-large",            &[(MANIFEST, Do::Answer(413, ""), 1)],                                  Failed("too_large", 1, "larger")),
    Row("refused",              &[(MANIFEST, Do::Answer(400, r#"{"errors":[{"code":"MANIFEST_INVALID","message":"no"}]}"#), 1)], Failed("registry", 1, "refuses")),
    Row("closes-mid-blob",      &[(UPLOAD, Do::Cut(1000), 1)],                                          Done(1..=2)),
    Row("closes-mid-answer",    &[(BLOBS, Do::CutAnswer(0), 1)],                                        Done(1..=2)),
    Row("answer-lost",          &[(MANIFEST, Do::Lose, 1)],                                             Done(1..=1)),
    Row("manifest-lost",        &[(PUSHED, Do::Answer(404, ""), 1)],                                    Done(2..=2)),
    Row("blob-lost",            &[(BLOBS, Do::Answer(404, ""), 1)],                                     Done(2..=2)),
    Row("lost-before-the-tag",  &[(At::registry("HEAD", "/manifests/{tag}").then("GET", "/manifests/sha256:"), Do::Answer(404, ""), 1)], Done(2..=2)),
    Row("blobs-lost-for-ever",  &[(BLOBS, Do::Answer(404, ""), ALWAYS)],                                Failed("registry", 3, "not proven")),
];

/// What Docker says in a push whose status was 200.
const fn said(text: &'static str) -> Do {
    Do::Answer(200, text)
}

#[rustfmt::skip]
const PUSHES: [Row; 11] = [
    Row("push-denied",          &[(PUSH, said(r#"{"errorDetail":{"message":"denied: requested access to the resource is denied"},"error":"denied: requested access to the resource is denied"}"#), ALWAYS)], Failed("auth", 1, "denied")),
    Row("push-unauthorized",    &[(PUSH, said(r#"{"errorDetail":{"message":"unauthorized: authentication required"},"error":"unauthorized: authentication required"}"#), ALWAYS)], Failed("auth", 1, "unauthorized")),
    Row("push-quota",           &[(PUSH, said(r#"{"errorDetail":{"message":"denied: Quota exceeded when processing the request of adding 1 GiB"},"error":"denied: Quota exceeded"}"#), 1)], Failed("quota", 1, "Quota")),
    Row("push-too-large",       &[(PUSH, said(r#"{"errorDetail":{"message":"error parsing HTTP 413 response body: 413 Request Entity Too Large"},"error":"413 Request Entity Too Large"}"#), 1)], Failed("too_large", 1, "413")),
    Row("push-500",             &[(PUSH, said(r#"{"errorDetail":{"message":"received unexpected HTTP status: 500 Internal Server Error"},"error":"received unexpected HTTP status: 500 Internal Server Error"}"#), 1)], Done(2..=2)),
    Row("push-500-for-ever",    &[(PUSH, said(r#"{"errorDetail":{"message":"received unexpected HTTP status: 500 Internal Server Error"},"error":"received unexpected HTTP status: 500 Internal Server Error"}"#), ALWAYS)], Failed("registry", 3, "500")),
    Row("push-busy",            &[(PUSH, said(r#"{"errorDetail":{"message":"toomanyrequests: slow down"},"error":"toomanyrequests: slow down"}"#), 1)], Done(2..=2)),
    Row("push-eof",             &[(PUSH, said(r#"{"errorDetail":{"message":"EOF"},"error":"EOF"}"#), ALWAYS)], Failed("network", 3, "EOF")),
    Row("push-no-result",       &[(PUSH, said(r#"{"status":"Pushed","progressDetail":{},"id":"aaaaaaaaaaaa"}"#), ALWAYS)], Failed("engine", 3, "without a result")),
    Row("push-nothing",         &[(PUSH, said(""), 1)],                                                 Done(2..=2)),
    Row("push-no-json",         &[(PUSH, said("<html>hello</html>"), 1)],                               Done(2..=2)),
];

/// Failures that this suite injects on each pair.
pub(crate) fn cases() -> usize {
    ANSWERS.len() + PUSHES.len() + 5
}

mothball_tests::on_both_pairs!(
    errors_and_broken_lines,
    pushes_that_fail_behind_a_200,
    away_for_a_while,
    out_of_disk,
    a_wrong_password_fails_fast_and_is_shown_nowhere,
);

async fn errors_and_broken_lines(pair: Pair) -> Result<()> {
    each(options(pair), &ANSWERS).await
}

async fn pushes_that_fail_behind_a_200(pair: Pair) -> Result<()> {
    each(by_engine(options(pair)), &PUSHES).await
}

async fn each(options: Options, rows: &[Row]) -> Result<()> {
    let mut system = options.env("MOTHBALL_JOBS__MAX_ATTEMPTS", "3").start().await?;
    let api = system.operator()?;
    let (container, docker_id) = launch(&system, "box").await?;
    for row in rows {
        let began = Instant::now();
        let done = match row.2 {
            Done(_) => come_right(&system, &api, row, &container, &docker_id).await,
            Failed(..) => fail(&system, &api, row).await,
        };
        done.with_context(|| format!("{}; the worker's log:\n{}", row.0, system.worker().log()))?;
        println!("{}: {:?}", row.0, began.elapsed());
    }
    Ok(())
}

async fn come_right(system: &System, api: &Api, row: &Row, container: &str, docker_id: &str) -> Result<()> {
    let Row(name, faults, Done(attempts)) = row else { return Ok(()) };
    inject(system, faults, docker_id, name)?;
    let job = save(api, container, name, "keep").await?;
    let ended = api.wait_success(&job, JOB_LIMIT).await?;
    clear(system)?;
    let needed = ended["attempt"].as_u64().unwrap_or_default() as u32;
    ensure!(attempts.contains(&needed), "{needed} attempts: {ended:#}");
    ensure!(is_frozen(system, docker_id).await? == Some(false), "the container does not run: {ended:#}");
    ensure!(digest_of_tag(system, name).await?.is_some(), "the image is not in the registry");
    assert_clean(system).await
}

/// A container that is to be deleted is not, when its save fails; its owner's retry deletes it.
async fn fail(system: &System, api: &Api, row: &Row) -> Result<()> {
    let Row(name, faults, Failed(class, attempts, word)) = row else { return Ok(()) };
    let (container, docker_id) = launch(system, &format!("c-{name}")).await?;
    inject(system, faults, &docker_id, name)?;
    let job = save(api, &container, name, "delete").await?;
    let ended = api.wait_job(&job, JOB_LIMIT).await?;
    clear(system)?;
    judge(&ended, class, *attempts, word)?;
    ensure!(is_frozen(system, &docker_id).await? == Some(false), "the container does not run: {ended:#}");
    ensure!(digest_of_tag(system, name).await?.is_none(), "the tag was moved all the same");
    retry(api, &job).await?;
    ensure!(is_frozen(system, &docker_id).await?.is_none(), "it was not deleted");
    ensure!(digest_of_tag(system, name).await?.is_some(), "the image is not in the registry");
    assert_clean(system).await
}

fn inject(system: &System, faults: &[(At, Do, usize)], docker_id: &str, tag: &str) -> Result<()> {
    for (at, what, times) in faults {
        proxy(system, at.way)?.inject(at.rule(docker_id, tag).times(*times), fault(*what));
    }
    Ok(())
}

fn clear(system: &System) -> Result<()> {
    for way in [Way::Docker, Way::Registry] {
        proxy(system, way)?.clear();
    }
    Ok(())
}

/// The owner asks again for a job that failed, and it comes right; the job.
async fn retry(api: &Api, job: &str) -> Result<Value> {
    let answer = api.post(&format!("/v1/jobs/{job}/retry"), &json!({})).await?;
    ensure!(matches!(answer.status, 200 | 202), "the retry was answered {}: {}", answer.status, answer.json);
    api.wait_success(job, JOB_LIMIT).await
}

fn fault(what: Do) -> Fault {
    match what {
        Do::Answer(status, body) => Fault::answer(status, body),
        Do::Wait(seconds) => Fault::Answer {
            status: 429,
            body: r#"{"errors":[{"code":"TOOMANYREQUESTS","message":"slow down"}]}"#.to_owned(),
            headers: vec![format!("Retry-After: {seconds}")],
        },
        Do::Cut(after) => Fault::CutRequest { after },
        Do::CutAnswer(after) => Fault::CutAnswer { after },
        Do::Lose => Fault::LoseAnswer,
    }
}

/// A failed job says what it should: a class, a sentence with this word, a hint, and the attempts that it was worth.
fn judge(job: &Value, class: &str, attempts: u32, word: &str) -> Result<()> {
    let text = |field: &str| job["error"][field].as_str().unwrap_or_default();
    ensure!(job["state"] == "failed" && text("class") == class, "it did not fail as {class}: {job:#}");
    ensure!(job["attempt"] == attempts, "{} attempts instead of {attempts}: {job:#}", job["attempt"]);
    ensure!(text("message").contains(word), "no {word:?} in {:?}", text("message"));
    ensure!(text("hint").ends_with('.'), "no hint: {job:#}");
    Ok(())
}

/// Killed in the middle of an upload, and away before a save begins.
async fn away_for_a_while(pair: Pair) -> Result<()> {
    let mut system = options(pair).start().await?;
    let api = system.operator()?;
    let (container, docker_id) = launch(&system, "box").await?;

    let way = proxy(&system, Way::Registry)?;
    let gate = way.hold(UPLOAD.rule(&docker_id, "mid-upload"));
    let job = save(&api, &container, "mid-upload", "keep").await?;
    gate.reached(SOON).await?;
    system.registry.kill9();
    give_up(proxy(&system, Way::Registry)?, &gate);
    system.registry.start_again().await?;
    api.wait_success(&job, JOB_LIMIT).await?;

    proxy(&system, Way::Registry)?.down().await?;
    let job = save(&api, &container, "before", "keep").await?;
    let failed = |job: &Value| job["error"]["class"] == "network";
    api.wait_job_until(&job, SOON, "an attempt in vain", failed).await?;
    proxy(&system, Way::Registry)?.up().await?;
    api.wait_success(&job, JOB_LIMIT).await?;
    ensure!(is_frozen(&system, &docker_id).await? == Some(false), "the container does not run");
    assert_clean(&system).await
}

/// A registry whose disk fills up between the layers and the manifest; and one that never had room for the layers.
async fn out_of_disk(pair: Pair) -> Result<()> {
    let small = Registry::options().disk_mib(16);
    let system = options(pair).registry(small).env("MOTHBALL_JOBS__MAX_ATTEMPTS", "3").start().await?;
    let api = system.operator()?;
    let (container, docker_id) = launch(&system, "box").await?;

    let gate = proxy(&system, Way::Registry)?.hold(MANIFEST.rule(&docker_id, "full"));
    let job = save(&api, &container, "full", "delete").await?;
    gate.reached(SOON).await?;
    let filler = system.registry.directory().join("data/filler");
    let full = std::fs::write(&filler, vec![1; 32 << 20]);
    ensure!(full.is_err(), "the disk is not full");
    gate.open();
    let ended = api.wait_job(&job, JOB_LIMIT).await?;
    ensure!(is_frozen(&system, &docker_id).await? == Some(false), "the container does not run: {ended:#}");
    judge(&ended, "registry", 3, "disk is full")?;

    std::fs::remove_file(&filler).context("make room")?;
    retry(&api, &job).await?;
    ensure!(is_frozen(&system, &docker_id).await?.is_none(), "it was not deleted");
    let saved = saved_note(&system, &api, "base:full").await?;
    ensure!(saved == "box", "the image has {saved:?}");
    assert_clean(&system).await
}

#[tokio::test]
async fn no_room_for_the_layers() -> Result<()> {
    too_large_for_the_registry(options(Pair::Embedded)).await
}

/// Docker itself tries it five times, which takes most of a minute, so only once.
#[tokio::test]
async fn no_room_for_the_layers_that_docker_pushes() -> Result<()> {
    too_large_for_the_registry(by_engine(options(Pair::Embedded))).await
}

/// Layers that the registry's disk has no room for.
async fn too_large_for_the_registry(options: Options) -> Result<()> {
    let small = Registry::options().disk_mib(4);
    let system = options.registry(small).env("MOTHBALL_JOBS__MAX_ATTEMPTS", "1").start().await?;
    let api = system.operator()?;
    let (container, docker_id) = launch(&system, "box").await?;
    system.dockerd().sh(&docker_id, "head -c 8000000 /dev/urandom > /big").await?;
    let job = save(&api, &container, "big", "delete").await?;
    let ended = api.wait_job(&job, JOB_LIMIT).await?;
    judge(&ended, "registry", 1, "disk is full")?;
    ensure!(is_frozen(&system, &docker_id).await? == Some(false), "the container does not run");
    assert_clean(&system).await
}

const USER: &str = "robot";
const RIGHT: &str = "right-~pass?word>";
const WRONG: &str = "wrong-~pass?word>";

/// A wrong password fails at once, as `auth`, and stands nowhere: not in the job, the API's answers, the logs, nor on a command
/// line. The file is read again, so that putting the right one there is all that is needed.
async fn a_wrong_password_fails_fast_and_is_shown_nowhere(pair: Pair) -> Result<()> {
    let file = tempfile::NamedTempFile::new()?;
    std::fs::write(file.path(), WRONG)?;
    let system = options(pair)
        .registry(Registry::options().login(USER, RIGHT))
        .env("MOTHBALL_REGISTRY__USERNAME", USER)
        .env("MOTHBALL_REGISTRY__PASSWORD_FILE", file.path().display().to_string())
        .start()
        .await?;
    let api = system.operator()?;
    let (container, docker_id) = launch(&system, "box").await?;
    // Held where Docker is asked to push: command lines are looked at while it has the password.
    let gate = proxy(&system, Way::Registry)?.hold(Rule::on("", "/v2/").times(1));
    let asked = Instant::now();
    let job = save(&api, &container, "secret", "delete").await?;
    gate.reached(SOON).await?;
    let mut places = vec![("a command line", command_lines()?)];
    gate.open();
    let ended = api.wait_job(&job, SOON).await?;
    ensure!(asked.elapsed() < Duration::from_secs(20), "it took {:?}", asked.elapsed());
    judge(&ended, "auth", 1, USER)?;
    ensure!(is_frozen(&system, &docker_id).await? == Some(false), "the container does not run");

    let others = api.get("/v1/jobs").await?.json.to_string() + &api.get("/v1/audit").await?.json.to_string();
    let metrics = String::from_utf8_lossy(&api.get("/metrics").await?.body).into_owned();
    places.extend([("the job", ended.to_string()), ("the API", others + &metrics), ("a log", logs(&system))]);

    // The right one helps without a restart, and is no more to be seen.
    std::fs::write(file.path(), format!("{RIGHT}\n"))?;
    let push = proxy(&system, Way::Registry)?.hold(UPLOAD.rule(&docker_id, "secret"));
    api.post(&format!("/v1/jobs/{job}/retry"), &json!({})).await?;
    push.reached(SOON).await?;
    places.push(("a command line", command_lines()?));
    push.open();
    let done = api.wait_success(&job, JOB_LIMIT).await?;
    places.extend([("the job", done.to_string()), ("a log", logs(&system))]);
    // What was saved can be launched again: Docker pulls with the password, too.
    let body = json!({"name": "again", "image": "base:secret", "flavor": "cpu-small"});
    let again = api.post("/v1/containers", &body).await?.job_id(202)?;
    api.wait_success(&again, JOB_LIMIT).await?;
    places.extend([("a command line", command_lines()?), ("a log", logs(&system))]);
    for (place, text) in places {
        for secret in secrets() {
            ensure!(!text.contains(&secret), "{place} shows {secret}");
        }
    }
    Ok(())
}

/// The passwords as they are, and as HTTP and Docker write them.
fn secrets() -> Vec<String> {
    use base64::Engine as _;
    use base64::engine::general_purpose::{STANDARD, URL_SAFE};
    let forms = |password: &str| {
        let basic = format!("{USER}:{password}");
        [password.to_owned(), STANDARD.encode(&basic), URL_SAFE.encode(&basic), STANDARD.encode(password)]
    };
    [forms(WRONG), forms(RIGHT)].concat()
}

/// The command lines and the environments of every process of this machine.
fn command_lines() -> Result<String> {
    let mut all = String::new();
    for process in std::fs::read_dir("/proc").context("list processes")?.flatten() {
        for file in ["cmdline", "environ"] {
            let bytes = std::fs::read(process.path().join(file)).unwrap_or_default();
            all.push_str(&String::from_utf8_lossy(&bytes));
            all.push('\n');
        }
    }
    Ok(all)
}

fn logs(system: &System) -> String {
    let worker = system.nodes[0].worker.as_ref();
    let processes = [Some(&system.api), system.scheduler.as_ref(), worker];
    processes.into_iter().flatten().map(mothball_harness::mothball::Mothball::log).collect()
}
