//! What Docker can say at the worst moment, said by a scripted one.

mod support;

use jiff::Timestamp;
use mothball_domain::failure::{Disposition, FailureClass};
use mothball_harness::wait::eventually;
use mothball_worker::docker::{
    Changed, DockerError, Engine, EngineLimits, ImageRemoval, RegistryAuth, Removal,
};
use std::time::Duration;
use support::{Answer, Scripted};
use tokio_util::sync::CancellationToken;

const DEADLINE: Duration = Duration::from_secs(20);
const IMAGE: (&str, Answer) =
    ("GET /images/r:5000/p/x:v1/json", Answer::Json(200, r#"{"Id":"sha256:ab","Size":1000}"#));
const START: &str = "{\"status\":\"The push refers to repository [r:5000/p/x]\"}\r\n";
const HALF: &str =
    "{\"status\":\"Pushing\",\"progressDetail\":{\"current\":500,\"total\":1000},\"id\":\"a\"}\r\n";
const RESULT: &str =
    "{\"progressDetail\":{},\"aux\":{\"Tag\":\"v1\",\"Digest\":\"sha256:cd\",\"Size\":528}}\r\n";

fn limits() -> EngineLimits {
    EngineLimits {
        call: Duration::from_secs(5),
        slow: Duration::from_secs(5),
        commit: Duration::from_secs(5),
        stream_idle: Duration::from_millis(300),
    }
}

fn engine(docker: &Scripted) -> Engine {
    Engine::connect(&docker.host(), limits()).expect("the scripted daemon has an address")
}

fn auth() -> RegistryAuth {
    RegistryAuth { username: "ann".into(), password: "pw~?>x~~??".into(), server: "r:5000".into() }
}

async fn push(answer: Answer) -> Result<String, DockerError> {
    let docker = Scripted::start(vec![IMAGE, ("POST /images/r:5000/p/x/push?tag=v1 ", answer)]);
    let cancel = CancellationToken::new();
    engine(&docker).push("r:5000/p/x", "v1", Some(&auth()), |_| {}, &cancel).await.map(|p| p.digest)
}

#[tokio::test]
async fn a_push_needs_its_last_line_however_the_stream_ends() {
    let whole = push(Answer::Stream(vec![START, HALF, RESULT])).await.unwrap();
    assert_eq!(whole, "sha256:cd");
    // Lines that are cut anywhere are put together again.
    let torn =
        Answer::Stream(vec!["{\"progressDetail\":{},\"aux\":{\"Tag\":\"v1\",\"Dig", "est\":\"sha256:cd\"}}"]);
    assert_eq!(push(torn).await.unwrap(), "sha256:cd");

    let cut = push(Answer::Stream(vec![START, HALF])).await.unwrap_err();
    assert!(matches!(cut, DockerError::Cut { .. }), "{cut:?}");
    assert_eq!(cut.failure().disposition, Disposition::Transient);
    let broken = push(Answer::Broken(vec![START, HALF])).await.unwrap_err();
    assert!(matches!(broken, DockerError::Broken { .. }), "{broken:?}");
}

#[tokio::test]
async fn an_error_inside_a_200_is_an_error() {
    let error = "{\"errorDetail\":{\"message\":\"unauthorized: pw~?>x~~?? is wrong\"},\"error\":\"unauthorized\"}\r\n";
    let error = push(Answer::Stream(vec![START, error])).await.unwrap_err();
    let failure = error.failure();
    assert_eq!((failure.class, failure.disposition), (FailureClass::Auth, Disposition::Permanent));
    assert_eq!(failure.message, "push image: unauthorized: *** is wrong");
    // Even when a result follows it.
    let error = "{\"error\":\"received unexpected HTTP status: 502 Bad Gateway\"}\r\n";
    let error = push(Answer::Stream(vec![error, RESULT])).await.unwrap_err();
    assert_eq!(error.failure().class, FailureClass::Registry);
}

#[tokio::test]
async fn silence_has_a_limit_before_and_within_a_push() {
    for answer in [Answer::Mute, Answer::Silent(vec![START, HALF])] {
        let error = push(answer).await.unwrap_err();
        assert!(matches!(error, DockerError::Timeout { .. }), "{error:?}");
        assert_eq!(error.failure().class, FailureClass::Timeout);
    }
}

#[tokio::test]
async fn a_cancelled_push_leaves_docker_alone() {
    let docker = Scripted::start(vec![IMAGE, ("/push", Answer::Silent(vec![START, HALF]))]);
    let engine = Engine::connect(&docker.host(), EngineLimits { stream_idle: DEADLINE, ..limits() }).unwrap();
    let cancel = CancellationToken::new();
    let seen = cancel.clone();
    // It cancels itself as soon as it is under way.
    let error = engine.push("r:5000/p/x", "v1", None, move |_| seen.cancel(), &cancel).await.unwrap_err();
    assert!(matches!(error, DockerError::Cancelled { .. }), "{error:?}");
    eventually(DEADLINE, "the push's connection to close", async || (docker.left() == 1).then_some(()))
        .await
        .unwrap();
}

#[tokio::test]
async fn credentials_travel_url_safe_and_only_with_transfers() {
    let docker = Scripted::start(vec![IMAGE, ("/push", Answer::Stream(vec![RESULT]))]);
    let cancel = CancellationToken::new();
    engine(&docker).push("r:5000/p/x", "v1", Some(&auth()), |_| {}, &cancel).await.unwrap();
    let seen = docker.seen();
    let header = |head: &str| {
        head.lines()
            .find_map(|l| l.to_lowercase().starts_with("x-registry-auth: ").then(|| l[17..].to_owned()))
    };
    assert_eq!(header(&seen[0]), None);
    let sent = header(&seen[1]).unwrap();
    assert!(sent.contains(['-', '_']) && !sent.contains(['+', '/']), "{sent}");
}

#[tokio::test]
async fn a_pull_of_nothing_is_gone_and_a_broken_one_is_not_taken_for_done() {
    let missing = r#"{"message":"manifest for r:5000/base:1 not found: manifest unknown: manifest unknown"}"#;
    let docker = Scripted::start(vec![("POST /images/create", Answer::Json(404, missing))]);
    let cancel = CancellationToken::new();
    let error = engine(&docker).pull("r:5000/base:1", None, |_| {}, &cancel).await.unwrap_err();
    assert_eq!(
        (error.failure().class, error.failure().disposition),
        (FailureClass::Gone, Disposition::Permanent)
    );
    assert!(docker.seen()[0].contains("fromImage=r%3A5000%2Fbase%3A1 "), "{}", docker.seen()[0]);

    let lines = vec!["{\"status\":\"Pulling from base\",\"id\":\"1\"}\r\n"];
    let docker = Scripted::start(vec![
        ("POST /images/create", Answer::Stream(lines)),
        ("GET /images/", Answer::Json(404, r#"{"message":"No such image"}"#)),
    ]);
    let error = engine(&docker).pull("r:5000/base:1", None, |_| {}, &cancel).await.unwrap_err();
    assert!(matches!(error, DockerError::Cut { .. }), "{error:?}");
}

#[tokio::test]
async fn while_docker_is_down_every_call_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let absent = format!("unix://{}/none.sock", dir.path().display());
    // A socket that nobody listens at: what a killed daemon leaves.
    let stale = dir.path().join("stale.sock");
    drop(std::os::unix::net::UnixListener::bind(&stale).unwrap());
    for host in [absent, format!("unix://{}", stale.display()), "tcp://127.0.0.1:1".into()] {
        let engine = Engine::connect(&host, limits()).unwrap();
        let cancel = CancellationToken::new();
        let errors = [
            engine.inspect("c").await.unwrap_err(),
            engine.unpause("c").await.unwrap_err(),
            engine.push("r/x", "v1", None, |_| {}, &cancel).await.unwrap_err(),
            engine.events("c", Timestamp::now()).await.unwrap_err(),
        ];
        for error in errors {
            assert!(error.is_unreachable(), "{host}: {error:?}");
            let failure = error.failure();
            assert_eq!((failure.class, failure.disposition), (FailureClass::Engine, Disposition::Transient));
            assert!(failure.message.contains("does not answer"), "{}", failure.message);
        }
    }
}

#[tokio::test]
async fn a_mute_docker_is_given_up_in_time() {
    let docker = Scripted::start(vec![("GET /containers/c/json", Answer::Mute)]);
    let short = EngineLimits { call: Duration::from_millis(200), ..limits() };
    let error = Engine::connect(&docker.host(), short).unwrap().inspect("c").await.unwrap_err();
    assert!(matches!(error, DockerError::Timeout { .. }), "{error:?}");
}

#[tokio::test]
async fn what_is_gone_already_counts_as_removed() {
    let gone = Answer::Json(404, r#"{"message":"No such container: c"}"#);
    let docker = Scripted::start(vec![
        ("DELETE /containers/", gone.clone()),
        (
            "DELETE /images/used",
            Answer::Json(409, r#"{"message":"conflict: unable to remove repository reference"}"#),
        ),
        ("DELETE /images/gone", Answer::Json(404, r#"{"message":"No such image: gone:1"}"#)),
        ("GET /containers/c/json", gone),
    ]);
    let engine = engine(&docker);
    assert_eq!(engine.remove("c", true, true).await.unwrap(), Removal::NotFound);
    assert_eq!(engine.remove_image("gone:1", false).await.unwrap(), ImageRemoval::NotFound);
    assert_eq!(engine.remove_image("used:1", false).await.unwrap(), ImageRemoval::InUse);
    assert_eq!(engine.inspect("c").await.unwrap(), None);
}

#[tokio::test]
async fn a_removal_under_way_is_waited_for() {
    let docker = Scripted::start(vec![
        (
            "DELETE /containers/",
            Answer::Json(409, r#"{"message":"removal of container c is already in progress"}"#),
        ),
        ("GET /containers/c/json", Answer::Json(404, r#"{"message":"No such container: c"}"#)),
    ]);
    assert_eq!(engine(&docker).remove("c", true, true).await.unwrap(), Removal::Removed);
}

/// Docker 20.10 answers 500 where later ones answer 409: the state decides, not the code.
#[tokio::test]
async fn thawing_what_runs_is_no_error() {
    for status in [500, 409] {
        let docker = Scripted::start(vec![
            (
                "POST /containers/c/unpause",
                Answer::Json(status, r#"{"message":"Container c is not paused"}"#),
            ),
            (
                "GET /containers/c/json",
                Answer::Json(200, r#"{"Id":"c","State":{"Status":"running","Paused":false}}"#),
            ),
        ]);
        assert_eq!(engine(&docker).unpause("c").await.unwrap(), Changed::No);
    }
}
