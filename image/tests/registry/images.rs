//! The life of an image in a real registry: pushed, read, tagged, listed, deleted.

use crate::support::{anonymous, class, config_of, noise, push, read, refused};
use anyhow::{Context as _, Result};
use bytes::Bytes;
use mothball_domain::failure::FailureClass;
use mothball_domain::image::{Digest, hidden_tag};
use mothball_domain::name::Tag;
use mothball_harness::registry::Registry as Server;
use mothball_image::oci::{digest_of, media};
use mothball_image::{Deletion, ImageConfig, RegistryError, Untag};

#[tokio::test(flavor = "multi_thread")]
async fn what_is_pushed_is_read_back() -> Result<()> {
    let server = Server::start().await?;
    let registry = anonymous(&server.url())?;
    registry.ping().await?;
    assert_eq!(registry.host(), server.address());
    assert!(registry.docker_credentials()?.is_none());

    let layers = [noise(1, 100_000), noise(2, 7)];
    let pushed = push(&registry, "p1/base", "v1", &layers).await?;
    let manifest = registry.manifest("p1/base", "v1").await?.context("no manifest")?;
    assert_eq!((&manifest.digest, manifest.media_type.as_str()), (&pushed.digest, media::DOCKER_MANIFEST));
    assert_eq!(registry.manifest_digest("p1/base", "v1").await?, Some(pushed.digest.clone()));
    assert_eq!(registry.manifest("p1/base", pushed.digest.as_str()).await?, Some(manifest.clone()));
    let config = registry.config("p1/base", &manifest).await?;
    assert_eq!(serde_json::to_value(&config)?, config_of(&layers));
    assert_eq!(registry.blob_size("p1/base", &pushed.layers[0]).await?, Some(100_000));
    assert_eq!(read(&registry, "p1/base", &pushed.layers[0]).await?, layers[0]);
    assert_eq!(registry.tags("p1/base").await?, ["v1"]);
    assert_eq!(registry.repositories(10).await?, ["p1/base"]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_there_is_none_or_gone() -> Result<()> {
    let server = Server::start().await?;
    let registry = anonymous(&server.url())?;
    let nothing = Digest::from_sha256([9; 32]);
    assert_eq!(registry.manifest("p1/none", "v1").await?, None);
    assert_eq!(registry.manifest_digest("p1/none", "v1").await?, None);
    assert_eq!(registry.manifest("p1/none", nothing.as_str()).await?, None);
    assert_eq!(registry.blob_size("p1/none", &nothing).await?, None);
    assert!(registry.tags("p1/none").await?.is_empty() && registry.repositories(10).await?.is_empty());
    assert_eq!(registry.delete_manifest("p1/none", &nothing).await?, Deletion::AlreadyGone);
    let errors = [
        refused(read(&registry, "p1/none", &nothing).await)?,
        refused(registry.copy_tag("p1/none", &nothing, &Tag::new("x")?).await)?,
    ];
    for error in errors {
        assert_eq!(class(&error), (FailureClass::Gone, true), "{error}");
    }
    for bad in ["", "P1/base", "../x", "p1/base?x"] {
        assert!(matches!(registry.tags(bad).await, Err(RegistryError::Name { .. })), "{bad}");
        assert!(matches!(registry.manifest("p1/base", bad).await, Err(RegistryError::Name { .. })), "{bad}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn deleting_by_digest_takes_every_tag_and_untagging_is_not_possible() -> Result<()> {
    let server = Server::start().await?;
    let registry = anonymous(&server.url())?;
    let pushed = push(&registry, "p1/base", "v1", &[noise(1, 10)]).await?;
    let hidden = hidden_tag(&pushed.digest);
    registry.copy_tag("p1/base", &pushed.digest, &hidden).await?;
    registry.copy_tag("p1/base", &pushed.digest, &hidden).await?;
    assert_eq!(registry.manifest_digest("p1/base", hidden.as_str()).await?, Some(pushed.digest.clone()));
    assert_eq!(registry.tags("p1/base").await?.len(), 2);

    assert_eq!(registry.untag("p1/base", &Tag::new("v1")?).await?, Untag::Unsupported);
    assert_eq!(registry.tags("p1/base").await?.len(), 2);

    assert_eq!(registry.delete_manifest("p1/base", &pushed.digest).await?, Deletion::Deleted);
    assert_eq!(registry.delete_manifest("p1/base", &pushed.digest).await?, Deletion::AlreadyGone);
    assert!(registry.tags("p1/base").await?.is_empty());
    assert_eq!(registry.manifest_digest("p1/base", hidden.as_str()).await?, None);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_overwritten_manifest_stays_readable_by_its_digest() -> Result<()> {
    let server = Server::start().await?;
    let registry = anonymous(&server.url())?;
    let old = push(&registry, "p1/base", "v1", &[noise(1, 10)]).await?;
    let new = push(&registry, "p1/base", "v1", &[noise(2, 10)]).await?;
    assert_eq!(registry.manifest_digest("p1/base", "v1").await?, Some(new.digest));
    registry.verify("p1/base", &old.digest).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manifest_without_its_blobs_is_refused() -> Result<()> {
    let server = Server::start().await?;
    let registry = anonymous(&server.url())?;
    push(&registry, "p1/other", "v1", &[noise(1, 10)]).await?;
    let manifest = registry.manifest("p1/other", "v1").await?.context("no manifest")?;
    let error = refused(registry.put_manifest("p1/base", "v1", &manifest.media_type, manifest.bytes).await)?;
    assert!(matches!(error, RegistryError::BlobsUnknown { .. }), "{error:?}");
    assert_eq!(class(&error), (FailureClass::Registry, false));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_config_is_replaced_and_nothing_else() -> Result<()> {
    let server = Server::start().await?;
    let registry = anonymous(&server.url())?;
    let pushed = push(&registry, "p1/base", "v1", &[noise(1, 10)]).await?;
    let manifest = registry.manifest("p1/base", "v1").await?.context("no manifest")?;
    let mut config: ImageConfig = registry.config("p1/base", &manifest).await?;
    config.author = Some("me".to_owned());

    let (bytes, digest) = registry.replace_config("p1/base", &manifest, &config).await?;
    assert_ne!(digest, pushed.digest);
    assert_eq!(digest_of(&bytes), digest);
    let put = registry.put_manifest("p1/base", "v1", &manifest.media_type, bytes).await?;
    assert_eq!(put, digest);
    registry.verify("p1/base", &digest).await?;
    let after = registry.manifest("p1/base", "v1").await?.context("no manifest")?;
    assert_eq!(registry.config("p1/base", &after).await?, config);
    assert_eq!(after.image()?.layers, manifest.image()?.layers);
    assert_eq!(after.image()?.config.media_type, media::DOCKER_CONFIG);

    config.rootfs.diff_ids.clear();
    assert!(registry.replace_config("p1/base", &manifest, &config).await.is_err());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_called_a_full_disk() -> Result<()> {
    let server = Server::options().disk_mib(1).start().await?;
    let registry = anonymous(&server.url())?;
    let layer = noise(1, 3 << 20);
    let error = refused(registry.put_blob("p1/base", &digest_of(&layer), layer.clone()).await)?;
    assert!(matches!(error, RegistryError::Disk { .. }), "{error:?}");
    assert_eq!(class(&error), (FailureClass::Registry, false));
    let mut upload = registry.start_upload("p1/base").await;
    if let Ok(upload) = &mut upload {
        let error = refused(registry.patch(upload, std::slice::from_ref(&layer)).await)?;
        assert!(matches!(error, RegistryError::Disk { .. }), "{error:?}");
    }
    server.resize_disk(50).await?;
    registry.put_blob("p1/base", &digest_of(&layer), layer).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_layer_list_is_an_image_too() -> Result<()> {
    let server = Server::start().await?;
    let registry = anonymous(&server.url())?;
    let pushed = push(&registry, "p1/scratch", "v1", &[] as &[Bytes]).await?;
    let proof = registry.verify("p1/scratch", &pushed.digest).await?;
    assert_eq!((proof.layers, proof.size_bytes), (0, pushed.bytes));
    Ok(())
}

/// Workers run these calls in tasks of their own.
#[tokio::test(flavor = "multi_thread")]
async fn calls_can_be_run_in_tasks() -> Result<()> {
    let server = Server::start().await?;
    let registry = anonymous(&server.url())?;
    let pushed = push(&registry, "p1/base", "v1", &[noise(1, 10_000)]).await?;
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(async move {
        let repo = String::from("p1/base");
        let proof = registry.verify(&repo, &pushed.digest).await?;
        let mut upload = registry.start_upload(&repo).await?;
        registry.patch(&mut upload, &[noise(2, 10), noise(3, 10)]).await?;
        registry.cancel_upload(upload).await?;
        read(&registry, &repo, &pushed.layers[0]).await?;
        registry.tags(&repo).await?;
        Ok::<_, RegistryError>(proof.size_bytes)
    });
    let size = tasks.join_next().await.context("no task")???;
    assert!(size > 10_000);
    Ok(())
}
