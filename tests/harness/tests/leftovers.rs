//! Nothing is left of a server: not when it is dropped, and not when the test process is killed with `kill -9`.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result};
use mothball_harness::dockerd::Dockerd;
use mothball_harness::rabbitmq::RabbitMq;
use mothball_harness::redis::Redis;
use mothball_harness::registry::Registry;
use mothball_harness::wait::eventually;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::Command;

const LIMIT: Duration = Duration::from_mins(3);
const READY: &str = "these are up:";

/// What is left of servers that lived in these directories.
fn leftovers(directories: &[String]) -> Vec<String> {
    let mut left = Vec::new();
    let mounts = std::fs::read_to_string("/proc/mounts").unwrap_or_default();
    for directory in directories {
        if Path::new(directory).exists() {
            left.push(format!("the directory {directory}"));
        }
        if mounts.contains(directory.as_str()) {
            left.push(format!("mounts below {directory}"));
        }
    }
    for process in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let read = |name| std::fs::read(process.path().join(name)).unwrap_or_default();
        let text = [read("cmdline"), read("environ"), read("mountinfo")].concat();
        let text = String::from_utf8_lossy(&text).into_owned();
        if directories.iter().any(|directory| text.contains(&format!("{directory}/"))) {
            left.push(format!("a process: {}", text.replace('\0', " ")));
        }
    }
    left
}

fn bridge(dockerd: &Dockerd) -> String {
    let number = dockerd.gateway().split('.').nth(1).unwrap_or_default().to_owned();
    format!("/sys/class/net/mb{number}")
}

async fn busy_engine() -> Result<Dockerd> {
    let dockerd = Dockerd::start().await?;
    // A first process that ignores SIGTERM, and a volume.
    dockerd.import_busybox("base", &[r#"CMD ["sleep", "1d"]"#, "VOLUME /data"]).await?;
    dockerd.docker(&["run", "--detach", "--name", "box", "base"]).await?;
    Ok(dockerd)
}

#[tokio::test]
async fn a_dropped_server_is_gone() -> Result<()> {
    let (dockerd, registry, redis) =
        tokio::try_join!(busy_engine(), Registry::options().disk_mib(8).start(), Redis::start(),)?;
    let bridge = bridge(&dockerd);
    let directories = [dockerd.directory(), registry.directory(), redis.directory()]
        .map(|path| path.to_string_lossy().into_owned());
    assert!(Path::new(&bridge).exists());
    assert_ne!(leftovers(&directories), [""; 0]);
    drop((dockerd, registry, redis));
    assert_eq!(leftovers(&directories), [""; 0]);
    assert!(!Path::new(&bridge).exists());
    Ok(())
}

#[tokio::test]
async fn a_killed_test_leaves_nothing() -> Result<()> {
    let mut victim = Command::new(std::env::current_exe().context("find this test")?)
        .args(["--ignored", "--exact", "--nocapture", "victim"])
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .context("start the victim")?;
    let mut lines = BufReader::new(victim.stdout.take().context("read the victim")?).lines();
    let traces = tokio::time::timeout(LIMIT, async {
        while let Some(line) = lines.next_line().await? {
            if let Some((_, traces)) = line.split_once(READY) {
                return Ok(traces.to_owned());
            }
        }
        anyhow::bail!("the victim ended early")
    })
    .await??;
    let directories: Vec<String> = traces.split_whitespace().map(str::to_owned).collect();
    assert_eq!(directories.len(), 5, "{traces}");
    victim.kill().await?;
    eventually(LIMIT, "the keepers", async || leftovers(&directories).is_empty().then_some(()))
        .await
        .with_context(|| format!("{:#?}", leftovers(&directories)))
}

/// Not a test: the process that [`a_killed_test_leaves_nothing`] kills.
#[tokio::test]
#[ignore = "started by another test"]
async fn victim() -> Result<()> {
    let (dockerd, registry, redis, rabbit) = tokio::try_join!(
        busy_engine(),
        Registry::options().disk_mib(8).start(),
        Redis::start(),
        RabbitMq::start(),
    )?;
    let bridge = bridge(&dockerd);
    let [dockerd, registry, redis, rabbit] =
        [dockerd.directory(), registry.directory(), redis.directory(), rabbit.directory()].map(Path::display);
    println!("{READY} {dockerd} {registry} {redis} {rabbit} {bridge}");
    std::future::pending().await
}
