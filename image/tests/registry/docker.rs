//! What Docker makes of images whose config was scrubbed here.

use crate::support::anonymous;
use anyhow::{Context as _, Result};
use mothball_harness::dockerd::Dockerd;
use mothball_harness::registry::Registry as Server;
use mothball_image::{ContainerConfig, Deletion, ImageConfig, ScrubRules, scrub_config};

const KEY: &str = "s3cr3t-value-of-a-key";

/// The engine's way of saving, with Docker's own commit: the registry then holds no trace of what the
/// launcher put in, and another Docker runs the image as it runs the base.
#[tokio::test(flavor = "multi_thread")]
async fn a_committed_image_is_scrubbed_pulled_and_run() -> Result<()> {
    let server = Server::start().await?;
    let registry = anonymous(&server.url())?;
    let (saver, other) = (Dockerd::start().await?, Dockerd::start().await?);
    let base = [
        "ENV PATH=/bin OF_BASE=yes",
        "ENTRYPOINT [\"/bin/sh\",\"-c\"]",
        "CMD [\"echo $OF_BASE:$KEY:$(cat /saved)\"]",
        "LABEL of.base=yes",
        "WORKDIR /",
    ];
    saver.import_busybox("base:1", &base).await?;
    let settings = saver.docker(&["image", "inspect", "--format", "{{json .Config}}", "base:1"]).await?;
    let settings: ContainerConfig = serde_json::from_str(settings.trim()).context("the base's config")?;

    let key = format!("KEY={KEY}");
    let command = format!("echo hello >/saved; test {KEY}; sleep 1000");
    saver
        .docker(&[
            "run",
            "-d",
            "--name",
            "c1",
            "--network",
            "none",
            "-e",
            &key,
            "-e",
            "NVIDIA_VISIBLE_DEVICES=0",
            "-l",
            "mothball.container=c1",
            "-u",
            "0",
            "-w",
            "/tmp",
            "base:1",
            &command,
        ])
        .await?;
    let written = || async { saver.docker(&["exec", "c1", "cat", "/saved"]).await.ok() };
    mothball_harness::wait::eventually(std::time::Duration::from_secs(20), "the file", written).await?;
    let name = format!("{}/p1/base:v1", server.address());
    saver.docker(&["commit", "c1", &name]).await?;
    saver.docker(&["push", &name]).await?;

    let manifest = registry.manifest("p1/base", "v1").await?.context("no manifest")?;
    let committed: ImageConfig = registry.config("p1/base", &manifest).await?;
    let before = String::from_utf8(committed.to_bytes()?)?;
    assert!(before.contains(KEY) && before.contains("container_config"), "what this is about: {before}");
    let rules =
        ScrubRules { secrets: vec![KEY.into()], comment: Some("job 1".into()), ..ScrubRules::default() };
    let config = scrub_config(committed, &settings, &rules);
    let text = String::from_utf8(config.to_bytes()?)?;
    for gone in [KEY, "KEY=", "NVIDIA", "mothball.container", "container_config"] {
        assert!(!text.contains(gone), "{gone} in {text}");
    }

    let (bytes, digest) = registry.replace_config("p1/base", &manifest, &config).await?;
    registry.put_manifest("p1/base", "v1", &manifest.media_type, bytes).await?;
    // What Docker pushed is still readable by its digest, key and all, until it is deleted.
    let leaky = &manifest.image()?.config.digest;
    assert_eq!(registry.delete_manifest("p1/base", &manifest.digest).await?, Deletion::Deleted);
    assert_eq!(registry.delete_blob("p1/base", leaky).await?, Deletion::Deleted);
    assert_eq!(registry.delete_blob("p1/base", leaky).await?, Deletion::AlreadyGone);
    assert_eq!(registry.blob_size("p1/base", leaky).await?, None);
    registry.verify("p1/base", &digest).await?;
    let pulled = format!("{}/p1/base@{digest}", server.address());
    other.docker(&["pull", &pulled]).await?;
    let said = other.docker(&["run", "--rm", "--network", "none", &pulled]).await?;
    assert_eq!(said.trim(), "yes::hello");
    let settings_after = other.docker(&["image", "inspect", "--format", "{{json .Config}}", &pulled]).await?;
    let after: ContainerConfig = serde_json::from_str(settings_after.trim())?;
    assert_eq!(
        (
            after.env,
            after.cmd,
            after.entrypoint,
            after.labels,
            after.stop_signal,
            after.user,
            after.working_dir
        ),
        (
            settings.env,
            settings.cmd,
            settings.entrypoint,
            settings.labels,
            settings.stop_signal,
            settings.user,
            settings.working_dir
        )
    );
    Ok(())
}
