//! Whole set-ups on both pairs: they start, launch a real container, lose a process and go on. Needs `cargo build` before.
#![expect(clippy::print_stdout, reason = "start-up times are a figure to read")]

use std::time::Instant;

use anyhow::Result;
use mothball_harness::system::{Pair, System};

async fn launches_and_survives(pair: Pair) -> Result<()> {
    let begin = Instant::now();
    let mut system = System::options(pair).proxied().start().await?;
    println!("{pair:?} started in {:?}", begin.elapsed());
    let begin = Instant::now();
    let container = system.launch("first").await?;
    println!("{pair:?} launched in {:?}", begin.elapsed());
    let id = system.docker_id(&container).await?;
    assert_eq!(system.dockerd().sh(&id, "echo hello").await?, "hello");

    let list = system.api.cli(&["containers", "-o", "json"]).await?.json()?;
    assert_eq!(list[0]["name"], "first", "{list}");
    assert_eq!(system.api.cli_as("no-key", &["containers"]).await?.code, 4);

    system.worker().kill9();
    system.worker().start_again().await?;
    assert!(system.worker().stop().await?.success());
    system.worker().start_again().await?;
    system.api.wait_able().await?;
    system.launch("second").await?;
    let begin = Instant::now();
    drop(system);
    println!("{pair:?} dropped in {:?}", begin.elapsed());
    Ok(())
}

#[tokio::test]
async fn embedded() -> Result<()> {
    launches_and_survives(Pair::Embedded).await
}

#[tokio::test]
async fn servers() -> Result<()> {
    launches_and_survives(Pair::Servers).await
}
