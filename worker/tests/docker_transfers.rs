//! Commit, push and pull between a real Docker and a real registry.

#![expect(clippy::unwrap_used, reason = "the clauses of one long test are functions of their own")]

use anyhow::{Context, Result};
use mothball_domain::failure::{Disposition, FailureClass};
use mothball_harness::dockerd::Dockerd;
use mothball_harness::registry::Registry;
use mothball_harness::wait::eventually;
use mothball_worker::docker::{
    CommitRequest, CreateRequest, DockerError, Engine, EngineLimits, ImageRemoval, PullProgress,
    PushProgress, RegistryAuth,
};
use secrecy::SecretString;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

const DEADLINE: Duration = Duration::from_mins(1);
/// Its base64 has the characters in which the two alphabets differ.
const PASSWORD: &str = "pw~?>x~~??";

struct Scene {
    docker: Dockerd,
    registry: Registry,
    engine: Engine,
    repository: String,
    cancel: CancellationToken,
}

impl Scene {
    fn auth(&self, password: &str) -> RegistryAuth {
        RegistryAuth {
            username: "ann".into(),
            password: SecretString::from(password),
            server: self.registry.address(),
        }
    }

    async fn push(&self, tag: &str, password: &str) -> Result<String, DockerError> {
        let auth = self.auth(password);
        let pushed = self.engine.push(&self.repository, tag, Some(&auth), |_| {}, &self.cancel).await?;
        Ok(pushed.digest)
    }

    async fn commit(&self, container: &str, tag: &str) -> Result<String> {
        let request = CommitRequest {
            container: container.into(),
            repository: self.repository.clone(),
            tag: tag.into(),
            labels: BTreeMap::from([("mothball.job".into(), format!("{tag} $x \"y\" 'z'"))]),
            pause: true,
            ..CommitRequest::default()
        };
        Ok(self.engine.commit(&request).await?)
    }
}

/// One Docker and one registry for all of them.
#[tokio::test]
async fn transfers() -> Result<()> {
    let docker = Dockerd::start().await?;
    docker.import_busybox("base:1", &["CMD [\"sleep\", \"1d\"]", "ENV A=b", "LABEL from=image"]).await?;
    let registry = Registry::options().login("ann", PASSWORD).start().await?;
    let engine = Engine::connect(&docker.host(), EngineLimits::default())?;
    let repository = format!("{}/p/base", registry.address());
    let request = CreateRequest { name: "source".into(), image: "base:1".into(), ..CreateRequest::default() };
    let id = engine.create(&request).await?.id;
    engine.start(&id).await?;
    docker.sh("source", "echo hello >/written; dd if=/dev/urandom of=/big bs=1M count=8").await?;

    let mut scene = Scene { docker, registry, engine, repository, cancel: CancellationToken::new() };
    a_commit_is_found_again(&scene, &id).await.context("a commit is found again")?;
    a_push_tells_digest_and_progress(&scene).await.context("a push tells digest and progress")?;
    wrong_credentials_are_said_without_showing_them(&scene).await.context("wrong credentials")?;
    a_pull_brings_it_back(&scene).await.context("a pull brings it back")?;
    what_is_not_there_is_gone(&scene).await.context("what is not there is gone")?;
    a_cancelled_push_stops_in_docker(&scene, &id).await.context("a cancelled push stops in Docker")?;
    a_broken_registry_is_worth_a_retry(&mut scene).await.context("a broken registry is worth a retry")?;
    Ok(())
}

async fn a_commit_is_found_again(scene: &Scene, id: &str) -> Result<()> {
    let image = scene.commit(id, "v1").await?;
    let found = scene.engine.images_with_label("mothball.job", "v1 $x \"y\" 'z'").await?;
    assert_eq!(found.len(), 1);
    assert_eq!((&found[0].id, &found[0].repo_tags), (&image, &vec![format!("{}:v1", scene.repository)]));
    assert!(scene.engine.images_with_label("mothball.job", "v2").await?.is_empty());

    let facts = scene.engine.image(&image).await?.context("no image")?;
    assert_eq!(facts.config["Cmd"], serde_json::json!(["sleep", "1d"]));
    assert_eq!(facts.config["Labels"]["from"], "image");
    assert_eq!((facts.diff_ids.len(), facts.os.as_str()), (2, "linux"));
    assert!(facts.size_bytes > 8 << 20 && facts.created_at.is_some());

    // The caller holds the container frozen: it is so afterwards.
    scene.engine.pause(id).await?;
    let request = CommitRequest { container: id.into(), ..CommitRequest::default() };
    let unnamed = scene.engine.commit(&request).await?;
    assert!(scene.engine.inspect(id).await?.context("gone")?.is_paused());
    scene.engine.unpause(id).await?;
    assert_eq!(scene.engine.remove_image(&unnamed, false).await?, ImageRemoval::Removed);
    assert_eq!(scene.engine.remove_image(&unnamed, false).await?, ImageRemoval::NotFound);
    assert_eq!(scene.engine.remove_image("base:1", false).await?, ImageRemoval::InUse);
    let gone = scene.engine.commit(&CommitRequest { container: "none".into(), ..request }).await.unwrap_err();
    assert!(gone.is_not_found(), "{gone:?}");
    Ok(())
}

async fn a_push_tells_digest_and_progress(scene: &Scene) -> Result<()> {
    let auth = scene.auth(PASSWORD);
    let size = scene.engine.image(&format!("{}:v1", scene.repository)).await?.context("no image")?.size_bytes;
    let mut seen: Vec<PushProgress> = Vec::new();
    let pushed =
        scene.engine.push(&scene.repository, "v1", Some(&auth), |p| seen.push(p), &scene.cancel).await?;
    assert!(pushed.digest.starts_with("sha256:") && pushed.size > 100, "{pushed:?}");
    let last = seen.last().context("no progress")?;
    assert_eq!((last.layers_done, last.layers_total, last.bytes_reused), (2, 2, 0));
    assert!(last.bytes_done == last.bytes_total && last.bytes_total >= size, "{last:?}, {size}");
    assert!(seen.windows(2).all(|w| w[0].bytes_done <= w[1].bytes_done), "{seen:?}");
    assert!(scene.registry.blobs()?.contains(&pushed.digest));
    let facts = scene.engine.image(&format!("{}:v1", scene.repository)).await?.context("no image")?;
    assert_eq!(facts.repo_digests, [format!("{}@{}", scene.repository, pushed.digest)]);

    // Again: nothing is sent, and what was there is counted.
    seen.clear();
    let again =
        scene.engine.push(&scene.repository, "v1", Some(&auth), |p| seen.push(p), &scene.cancel).await?;
    assert_eq!(again, pushed);
    let last = seen.last().context("no progress")?;
    assert_eq!((last.layers_done, last.bytes_reused, last.bytes_done), (2, size, size));
    Ok(())
}

async fn wrong_credentials_are_said_without_showing_them(scene: &Scene) -> Result<()> {
    scene.engine.tag_image(&format!("{}:v1", scene.repository), &scene.repository, "v2").await?;
    for password in ["wrong-hunter22", ""] {
        let error = scene.push("v2", password).await.unwrap_err();
        let failure = error.failure();
        assert_eq!(
            (failure.class, failure.disposition),
            (FailureClass::Auth, Disposition::Permanent),
            "{error:?}"
        );
        assert!(!format!("{error:?} {failure:?}").contains("hunter22"));
    }
    let error = scene.engine.push(&scene.repository, "v2", None, |_| {}, &scene.cancel).await.unwrap_err();
    assert_eq!(error.failure().class, FailureClass::Auth, "{error:?}");
    let pulled = scene.engine.pull(&format!("{}:v1", scene.repository), None, |_| {}, &scene.cancel).await;
    assert_eq!(pulled.unwrap_err().failure().class, FailureClass::Auth);
    Ok(())
}

async fn a_pull_brings_it_back(scene: &Scene) -> Result<()> {
    let reference = format!("{}:v1", scene.repository);
    let before = scene.engine.image(&reference).await?.context("no image")?;
    for tag in ["v1", "v2"] {
        scene.engine.remove_image(&format!("{}:{tag}", scene.repository), false).await?;
    }
    assert_eq!(scene.engine.image(&reference).await?, None);
    let auth = scene.auth(PASSWORD);
    let mut seen: Vec<PullProgress> = Vec::new();
    let pulled = scene.engine.pull(&reference, Some(&auth), |p| seen.push(p), &scene.cancel).await?;
    assert_eq!((&pulled.id, &pulled.config), (&before.id, &before.config));
    let last = seen.last().context("no progress")?;
    assert_eq!((last.layers_done, last.layers_total), (2, 2));
    assert!(last.bytes_done == last.bytes_total && last.bytes_total > 8 << 20, "{last:?}");
    // By digest, and again.
    let by_digest = &before.repo_digests[0];
    assert_eq!(scene.engine.pull(by_digest, Some(&auth), |_| {}, &scene.cancel).await?.id, before.id);
    Ok(())
}

async fn what_is_not_there_is_gone(scene: &Scene) -> Result<()> {
    let auth = scene.auth(PASSWORD);
    for reference in [format!("{}:none", scene.repository), format!("{}/no/such:1", scene.registry.address())]
    {
        let error = scene.engine.pull(&reference, Some(&auth), |_| {}, &scene.cancel).await.unwrap_err();
        let failure = error.failure();
        assert_eq!(
            (failure.class, failure.disposition),
            (FailureClass::Gone, Disposition::Permanent),
            "{error:?}"
        );
    }
    let error = scene.push("none", PASSWORD).await.unwrap_err();
    assert_eq!(error.failure().class, FailureClass::Gone, "{error:?}");
    assert_eq!(scene.engine.image("no/such:1").await?, None);
    Ok(())
}

async fn a_cancelled_push_stops_in_docker(scene: &Scene, id: &str) -> Result<()> {
    scene.docker.sh("source", "dd if=/dev/urandom of=/bigger bs=1M count=64").await?;
    scene.commit(id, "v3").await?;
    let auth = scene.auth(PASSWORD);
    let cancel = CancellationToken::new();
    let stop = cancel.clone();
    let under_way = move |p: PushProgress| {
        if p.bytes_done > 1 << 20 {
            stop.cancel();
        }
    };
    let error =
        scene.engine.push(&scene.repository, "v3", Some(&auth), under_way, &cancel).await.unwrap_err();
    assert!(matches!(error, DockerError::Cancelled { .. }), "{error:?}");
    // Docker says in its log that it gave up, and the registry never sees the manifest.
    eventually(DEADLINE, "Docker to give up", async || {
        scene.docker.log().contains("context canceled").then_some(())
    })
    .await?;
    assert!(!scene.registry.log().contains("PUT /v2/p/base/manifests/v3"));
    let reference = format!("{}:v3", scene.repository);
    scene.engine.remove_image(&reference, false).await?;
    let error = scene.engine.pull(&reference, Some(&auth), |_| {}, &scene.cancel).await.unwrap_err();
    assert_eq!(error.failure().class, FailureClass::Gone, "{error:?}");
    Ok(())
}

async fn a_broken_registry_is_worth_a_retry(scene: &mut Scene) -> Result<()> {
    scene.registry.kill9();
    let error = scene.push("v1", PASSWORD).await.unwrap_err();
    let failure = error.failure();
    assert_eq!(
        (failure.class, failure.disposition),
        (FailureClass::Network, Disposition::Transient),
        "{error:?}"
    );
    scene.registry.start_again().await?;
    scene.push("v1", PASSWORD).await?;

    // Docker dies in the middle.
    scene.docker.kill9();
    let error = scene.push("v1", PASSWORD).await.unwrap_err();
    assert!(error.is_unreachable(), "{error:?}");
    Ok(())
}
