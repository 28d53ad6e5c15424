//! Containers of a real Docker: made, looked at, frozen, thawed, stopped, removed; everything twice.

#![expect(clippy::unwrap_used, reason = "the clauses of one long test are functions of their own")]

use anyhow::{Context, Result};
use jiff::{Span, Timestamp};
use mothball_domain::container::Mount;
use mothball_domain::failure::{Disposition, FailureClass};
use mothball_harness::dockerd::Dockerd;
use mothball_worker::docker::{
    CONTAINER_LABEL, Changed, ContainerFacts, ContainerStatus, CreateRequest, DockerError, Engine,
    EngineLimits, GpuRequest, MountKind, Removal,
};
use mothball_worker::identity::NodeIdentity;
use std::collections::BTreeMap;
use std::time::Duration;

const DEADLINE: Duration = Duration::from_secs(30);
const IMAGE: &str = "base:1";

/// One Docker for all of them: starting it takes longer than any.
#[tokio::test]
async fn containers() -> Result<()> {
    let mut docker = Dockerd::start().await?;
    docker.import_busybox(IMAGE, &["CMD [\"sleep\", \"1d\"]", "VOLUME /data", "LABEL from=image"]).await?;
    let engine = Engine::connect(&docker.host(), EngineLimits::default())?;

    the_engine_describes_itself(&docker, &engine).await.context("the engine describes itself")?;
    facts_are_read(&docker, &engine).await.context("facts are read")?;
    freezing_twice_and_thawing_twice(&engine).await.context("freezing twice and thawing twice")?;
    starting_stopping_removing_twice(&engine).await.context("starting, stopping, removing twice")?;
    a_half_made_one_is_adopted(&docker, &engine).await.context("a half-made one is adopted")?;
    without_a_driver_gpus_fail_for_good(&engine).await.context("without a driver GPUs fail for good")?;
    a_stranger_who_thaws_is_seen(&docker, &engine).await.context("a stranger who thaws is seen")?;
    the_uid_lies_with_docker(&mut docker, &engine).await.context("the uid lies with Docker")?;
    Ok(())
}

fn request(name: &str) -> CreateRequest {
    CreateRequest {
        name: name.into(),
        image: IMAGE.into(),
        labels: BTreeMap::from([(CONTAINER_LABEL.into(), "7".into())]),
        ..CreateRequest::default()
    }
}

async fn started(engine: &Engine, name: &str) -> Result<String> {
    let id = engine.create(&request(name)).await?.id;
    engine.start(&id).await?;
    Ok(id)
}

async fn facts(engine: &Engine, id: &str) -> Result<ContainerFacts> {
    engine.inspect(id).await?.context("it does not exist")
}

async fn the_engine_describes_itself(docker: &Dockerd, engine: &Engine) -> Result<()> {
    let info = engine.info().await?;
    assert_eq!(info.storage_driver, "overlay2");
    assert_eq!(info.data_root, docker.data().display().to_string());
    assert!(info.cpus > 0 && info.memory_bytes > 1 << 28, "{info:?}");
    assert!(!info.version.is_empty() && !info.api_version.is_empty() && !info.containerd_store, "{info:?}");
    assert!(info.native_overlay_diff.is_some() && info.backing_filesystem.is_some(), "{info:?}");
    Ok(())
}

async fn facts_are_read(docker: &Dockerd, engine: &Engine) -> Result<()> {
    let home = tempfile::tempdir()?;
    let source = home.path().display().to_string();
    let request = CreateRequest {
        env: BTreeMap::from([("SECRET".into(), "s3cret $x \"y\"".into())]),
        mounts: vec![Mount { target: "/home/ann".into(), source: source.clone() }],
        ports: vec![8888],
        publish_address: "127.0.0.1".into(),
        cpus: 1,
        memory_bytes: 64 << 20,
        shm_bytes: Some(128 << 20),
        gpus: vec!["GPU-mothball-0".into()],
        gpu_request: GpuRequest::None,
        ..request("facts")
    };
    let created = engine.create(&request).await?;
    assert!(!created.adopted);
    let before = facts(engine, "facts").await?;
    assert_eq!((before.status, before.started_at, before.pid), (ContainerStatus::Created, None, None));
    engine.start(&created.id).await?;

    let now = facts(engine, &created.id).await?;
    assert_eq!((now.status, now.name.as_str()), (ContainerStatus::Running, "facts"));
    assert_eq!(now.pid, Some(docker.container_pid("facts").await?));
    assert!(now.started_at.is_some() && now.created_at.is_some() && now.finished_at.is_none());
    assert_eq!(now.labels["from"], "image");
    assert!(now.env.contains(&"SECRET=s3cret $x \"y\"".to_owned()));
    assert_eq!(now.config["Cmd"], serde_json::json!(["sleep", "1d"]));
    assert_eq!((now.memory_bytes, now.cpu_millis), (Some(64 << 20), Some(1000)));
    let mounts: Vec<_> = now.mounts.iter().map(|m| (m.destination.as_str(), m.kind)).collect();
    assert_eq!(mounts, [("/data", MountKind::Volume { anonymous: true }), ("/home/ann", MountKind::Bind)]);
    assert_eq!(now.mounts[1].source, source);
    assert_eq!((now.ports.len(), now.ports[0].target, now.ports[0].host_ip.as_str()), (1, 8888, "127.0.0.1"));
    assert!(docker.sh("facts", "df -m /dev/shm").await?.contains(" 128 "));

    docker.sh("facts", "echo hello >/written; dd if=/dev/zero of=/big bs=1M count=3").await?;
    let upper = now.upper_dir.context("no writable layer")?;
    assert_eq!(std::fs::read_to_string(format!("{upper}/written"))?, "hello\n");
    let bytes = engine.writable_bytes(&created.id).await?;
    assert!((3 << 20..4 << 20).contains(&bytes), "{bytes}");
    let usage = engine.usage(&created.id).await?.context("no usage")?;
    assert!(usage.cpu_ns > 0 && usage.memory_bytes > 0, "{usage:?}");

    let listed = engine.list_labelled().await?;
    assert_eq!(
        (listed.len(), listed[0].id == created.id, listed[0].labels[CONTAINER_LABEL].as_str()),
        (1, true, "7")
    );
    engine.remove(&created.id, true, true).await?;
    assert_eq!(docker.docker(&["volume", "ls", "-q"]).await?, "");
    assert_eq!(engine.usage(&created.id).await?, None);
    Ok(())
}

async fn freezing_twice_and_thawing_twice(engine: &Engine) -> Result<()> {
    let id = started(engine, "frozen").await?;
    assert_eq!(engine.unpause(&id).await?, Changed::No);
    assert_eq!(engine.pause(&id).await?, Changed::Yes);
    assert!(facts(engine, &id).await?.is_paused());
    assert_eq!(engine.pause(&id).await?, Changed::No);
    assert_eq!(engine.unpause(&id).await?, Changed::Yes);
    assert_eq!(engine.unpause(&id).await?, Changed::No);
    engine.stop(&id, Duration::ZERO).await?;
    assert_eq!(engine.unpause(&id).await?, Changed::No);
    assert!(engine.pause(&id).await.is_err());
    engine.remove(&id, true, true).await?;
    let gone = engine.unpause(&id).await.unwrap_err();
    assert!(gone.is_not_found(), "{gone:?}");
    Ok(())
}

async fn starting_stopping_removing_twice(engine: &Engine) -> Result<()> {
    let id = started(engine, "twice").await?;
    engine.start(&id).await?;
    let refused = engine.remove(&id, false, true).await.unwrap_err();
    assert_eq!(refused.failure().class, FailureClass::Engine);
    engine.stop(&id, Duration::ZERO).await?;
    engine.stop(&id, Duration::ZERO).await?;
    let stopped = facts(engine, &id).await?;
    assert_eq!((stopped.status, stopped.exit_code), (ContainerStatus::Exited, Some(137)));
    assert_eq!(engine.remove(&id, true, true).await?, Removal::Removed);
    assert_eq!(engine.remove(&id, true, true).await?, Removal::NotFound);
    assert_eq!(engine.inspect(&id).await?, None);
    let gone = engine.start(&id).await.unwrap_err().failure();
    assert_eq!((gone.class, gone.disposition), (FailureClass::Gone, Disposition::Permanent));

    // Two at once: one removes, the other waits for it or finds nothing; none fails.
    let id = started(engine, "twice").await?;
    let (one, two) = tokio::join!(engine.remove(&id, true, true), engine.remove(&id, true, true));
    one?;
    two?;
    assert_eq!(engine.inspect(&id).await?, None);
    Ok(())
}

async fn a_half_made_one_is_adopted(docker: &Dockerd, engine: &Engine) -> Result<()> {
    let first = engine.create(&request("half")).await?;
    let again = engine.create(&request("half")).await?;
    assert_eq!((again.id, again.adopted), (first.id.clone(), true));

    let mut other = request("half");
    other.labels.insert(CONTAINER_LABEL.into(), "8".into());
    let taken = engine.create(&other).await.unwrap_err();
    assert!(matches!(&taken, DockerError::NameTaken { holder, .. } if *holder == first.id), "{taken:?}");
    assert_eq!(taken.failure().disposition, Disposition::Permanent);
    docker.import_busybox("base:2", &["CMD [\"sleep\", \"2d\"]"]).await?;
    let moved = CreateRequest { image: "base:2".into(), ..request("half") };
    assert!(matches!(engine.create(&moved).await, Err(DockerError::NameTaken { .. })));

    let absent = CreateRequest { image: "absent:1".into(), ..request("none") };
    let absent = engine.create(&absent).await.unwrap_err().failure();
    assert_eq!((absent.class, absent.disposition), (FailureClass::Gone, Disposition::Permanent));
    engine.remove(&first.id, true, true).await?;
    Ok(())
}

async fn without_a_driver_gpus_fail_for_good(engine: &Engine) -> Result<()> {
    let request = CreateRequest { gpus: vec!["GPU-mothball-0".into()], ..request("gpu") };
    let id = engine.create(&request).await?.id;
    let failure = engine.start(&id).await.unwrap_err().failure();
    assert_eq!((failure.class, failure.disposition), (FailureClass::Engine, Disposition::Permanent));
    assert!(failure.message.contains("cannot give GPUs"), "{}", failure.message);
    engine.remove(&id, true, true).await?;
    Ok(())
}

async fn a_stranger_who_thaws_is_seen(docker: &Dockerd, engine: &Engine) -> Result<()> {
    let id = started(engine, "watched").await?;
    let before = Timestamp::now();
    let mut events = engine.events(&id, before).await?;
    let watch = engine.watch(&id).await?;
    engine.pause(&id).await?;
    assert!(!watch.ran().await?);
    docker.docker(&["unpause", "watched"]).await?;
    docker.docker(&["pause", "watched"]).await?;
    // At once, however much of the stream has come.
    assert!(watch.ran().await?);
    assert!(!engine.watch(&id).await?.ran().await?, "what was before a watch is none of its business");

    let mut seen = Vec::new();
    while seen.len() < 3 {
        let next = tokio::time::timeout(DEADLINE, events.next()).await.context("wait for an event")?;
        seen.push(next?.context("the stream ended")?);
    }
    let actions: Vec<_> = seen.iter().map(|e| (e.action.as_str(), e.lets_run())).collect();
    assert_eq!(actions, [("pause", false), ("unpause", true), ("pause", false)]);
    assert!(seen.iter().all(|e| e.at >= before));

    let after = Timestamp::now();
    assert_eq!(engine.events_between(&id, before, after).await?, seen);
    let hour = Span::new().hours(1);
    assert_eq!(
        engine.events_between(&id, before - hour, before).await?.iter().filter(|e| e.lets_run()).count(),
        1
    );
    engine.remove(&id, true, true).await?;
    Ok(())
}

/// Docker starts again with our file among its own, and the same engine value goes on.
async fn the_uid_lies_with_docker(docker: &mut Dockerd, engine: &Engine) -> Result<()> {
    let state = tempfile::tempdir()?;
    let root = engine.info().await?.data_root;
    let identity = NodeIdentity::establish(Some(root.as_ref()), state.path())?;
    assert!(identity.in_data_root && identity.file.starts_with(docker.data()), "{identity:?}");
    docker.stop().await?;
    assert!(engine.info().await.unwrap_err().is_unreachable());
    docker.start_again().await?;
    let root = engine.info().await?.data_root;
    assert_eq!(NodeIdentity::establish(Some(root.as_ref()), state.path())?, identity);
    Ok(())
}
