//! How much memory uploads take, measured in a process of their own.

use crate::bases::upstream;
use crate::support::{anonymous, noise};
use anyhow::{Context as _, Result};
use mothball_harness::registry::Registry as Server;
use mothball_image::save::upload_layer;
use std::io::Write;
use std::process::Stdio;
use tokio::io::AsyncWriteExt as _;

const MIB: usize = 1024 * 1024;
/// What a save may take by its own settings, and what a process takes before it does anything.
const MEMORY_MIB_MAX: u64 = 128;
/// Layers at once; more than have their turn.
const LAYERS: usize = 4;

/// MiB of each layer: two gigabytes in all in a soak.
fn layer_mib() -> usize {
    if std::env::var_os("MOTHBALL_SOAK").is_some() { 512 } else { 96 }
}

#[tokio::test(flavor = "multi_thread")]
async fn layers_of_any_size_take_the_same_memory() -> Result<()> {
    let server = Server::start().await?;
    let mut child = tokio::process::Command::new(std::env::current_exe()?)
        .args(["--exact", "memory::uploads", "--ignored", "--nocapture"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let mut input = child.stdin.take().context("no input")?;
    input.write_all(server.url().as_bytes()).await?;
    drop(input);
    let output = child.wait_with_output().await?;
    let text = String::from_utf8_lossy(&output.stdout);
    anyhow::ensure!(output.status.success(), "{text}");
    let peak = text.lines().find_map(|line| line.strip_prefix("peak ")).context("no peak")?;
    let peak_mib = peak.trim().parse::<u64>()? / 1024;
    assert!(peak_mib < MEMORY_MIB_MAX, "{peak_mib} MiB");
    assert_eq!(server.blobs()?.len(), LAYERS);
    Ok(())
}

/// The child of the test above: uploads bytes that do not shrink, and says what it took at most.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "run by layers_of_any_size_take_the_same_memory"]
async fn uploads() -> Result<()> {
    let mut url = String::new();
    std::io::stdin().read_line(&mut url)?;
    let to = upstream(&anonymous(&url)?, "p1/base")?;
    let layers = (0..LAYERS).map(|layer| {
        let to = to.clone();
        async move {
            let block = noise(layer as u64, MIB);
            upload_layer(&to, move |tar: &mut dyn Write| {
                (0..layer_mib()).try_for_each(|_| tar.write_all(&block))
            })
            .await
        }
    });
    for layer in futures_util::future::join_all(layers).await {
        layer?;
    }
    let status = std::fs::read_to_string("/proc/self/status")?;
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("no peak")?;
    println!("\npeak {}", peak.trim().trim_end_matches("kB"));
    Ok(())
}
