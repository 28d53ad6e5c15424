//! Private engines and registries: side by side, killed, restarted, robbed of data, out of disk.

use std::time::{Duration, Instant};

use anyhow::Result;
use mothball_harness::dockerd::Dockerd;
use mothball_harness::http::client;
use mothball_harness::registry::Registry;
use mothball_harness::wait::eventually;

const SLEEP: &str = mothball_harness::busybox::IDLE;

#[tokio::test]
async fn two_engines_and_a_registry() -> Result<()> {
    let begin = Instant::now();
    let (one, other) = tokio::try_join!(Dockerd::start(), Dockerd::start())?;
    println!("two engines started in {:?}", begin.elapsed());
    let begin = Instant::now();
    let registry = Registry::start().await?;
    println!("registry started in {:?}", begin.elapsed());
    let begin = Instant::now();
    let image = format!("{}/project/base:1", registry.address());
    one.import_busybox(&image, &[SLEEP, "ENV WORD=hello"]).await?;
    println!("base image imported in {:?}", begin.elapsed());
    one.docker(&["push", &image]).await?;
    other.docker(&["run", "--detach", "--name", "box", &image]).await?;
    assert_eq!(other.sh("box", "echo $WORD; ls -d /home/user").await?, "hello\n/home/user");
    assert_eq!(one.docker(&["ps", "--quiet"]).await?, "");
    // A registry that lost its blobs behind its back says so.
    assert_eq!(registry.blobs()?.len(), 3);
    registry.wipe_blobs()?;
    one.docker(&["rmi", &image]).await?;
    assert!(one.docker(&["pull", &image]).await.is_err());
    let begin = Instant::now();
    drop((one, other));
    println!("two engines dropped in {:?}", begin.elapsed());
    Ok(())
}

#[tokio::test]
async fn an_engine_is_killed_and_comes_back() -> Result<()> {
    let mut dockerd = Dockerd::start_with(&["--live-restore"]).await?;
    dockerd.import_busybox("base", &[SLEEP]).await?;
    dockerd.docker(&["run", "--detach", "--name", "box", "--publish", "127.0.0.1:0:80", "base"]).await?;
    let pid = dockerd.container_pid("box").await?;
    dockerd.kill9();
    assert!(dockerd.docker(&["ps"]).await.is_err());
    let begin = Instant::now();
    dockerd.start_again().await?;
    println!("engine back in {:?}", begin.elapsed());
    assert_eq!(dockerd.container_pid("box").await?, pid);
    dockerd.restart().await?;
    assert_eq!(dockerd.container_pid("box").await?, pid);
    Ok(())
}

#[tokio::test]
async fn without_live_restore_a_crash_ends_containers() -> Result<()> {
    let mut dockerd = Dockerd::start().await?;
    dockerd.import_busybox("base", &[SLEEP]).await?;
    dockerd.docker(&["run", "--detach", "--name", "box", "base"]).await?;
    dockerd.kill9();
    dockerd.start_again().await?;
    eventually(Duration::from_secs(30), "the end of the container", async || {
        let state = dockerd.docker(&["inspect", "--format", "{{.State.Running}}", "box"]).await;
        (state.ok()? == "false").then_some(())
    })
    .await?;
    dockerd.docker(&["start", "box"]).await?;
    Ok(())
}

#[tokio::test]
async fn a_registry_with_a_password_and_a_small_disk() -> Result<()> {
    let dockerd = Dockerd::start().await?;
    let mut registry = Registry::options().login("robot", "se~cret?>").disk_mib(1).start().await?;
    let image = format!("{}/project/base:1", registry.address());
    dockerd.import_busybox(&image, &[SLEEP]).await?;
    let denied = dockerd.docker(&["push", &image]).await.expect_err("it is broken").to_string();
    assert!(denied.contains("no basic auth credentials"), "{denied}");
    dockerd.docker(&["login", "--username", "robot", "--password", "se~cret?>", &registry.address()]).await?;
    // Not by `docker push`, which tries five times and takes a minute to give up.
    let upload = || {
        client()
            .post(format!("{}/v2/probe/blobs/uploads/", registry.url()))
            .basic_auth("robot", Some("se~cret?>"))
    };
    let location = upload().send().await?.error_for_status()?.headers()["location"].to_str()?.to_owned();
    let part = client().patch(location).basic_auth("robot", Some("se~cret?>")).body(vec![7; 2 << 20]);
    assert!(part.send().await?.status().is_server_error());
    assert!(registry.log().contains("no space left on device"));
    registry.resize_disk(64).await?;
    registry.kill9();
    registry.start_again().await?;
    dockerd.docker(&["push", &image]).await?;
    Ok(())
}
