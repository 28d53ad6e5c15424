//! The proof, and all the ways in which there is none.

use crate::scripted::{Reply, Scripted};
use crate::support::{anonymous, class, noise, push, refused};
use anyhow::{Context as _, Result};
use bytes::Bytes;
use mothball_domain::failure::FailureClass;
use mothball_harness::registry::Registry as Server;
use mothball_image::oci::{digest_of, media};
use mothball_image::{Registry, RegistryError};
use serde_json::json;

fn missing(error: &RegistryError) -> &[String] {
    match error {
        RegistryError::Unproven { missing } => missing,
        _ => &[],
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_whole_image_is_proven_with_its_size() -> Result<()> {
    let server = Server::start().await?;
    let registry = anonymous(&server.url())?;
    let layers: Vec<Bytes> = (0..20).map(|i| noise(i, 1000 + i as usize)).collect();
    let pushed = push(&registry, "p1/base", "v1", &layers).await?;
    let proof = registry.verify("p1/base", &pushed.digest).await?;
    assert_eq!(proof.size_bytes, pushed.bytes);
    assert_eq!((proof.layers, &proof.config_digest), (20, &pushed.config));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blob_lost_behind_the_registrys_back_is_named() -> Result<()> {
    let server = Server::start().await?;
    let registry = anonymous(&server.url())?;
    let pushed = push(&registry, "p1/base", "v1", &[noise(1, 100), noise(2, 100), noise(3, 100)]).await?;
    server.remove_blob(pushed.layers[1].as_str())?;
    let error = refused(registry.verify("p1/base", &pushed.digest).await)?;
    assert_eq!(missing(&error), [format!("layer {} is missing", pushed.layers[1])]);
    assert_eq!(class(&error), (FailureClass::Registry, false));
    assert!(error.to_string().contains(pushed.layers[1].as_str()));

    server.remove_blob(pushed.config.as_str())?;
    let error = refused(registry.verify("p1/base", &pushed.digest).await)?;
    assert_eq!(missing(&error).len(), 2, "{error}");
    server.remove_blob(pushed.digest.as_str())?;
    let error = refused(registry.verify("p1/base", &pushed.digest).await)?;
    assert!(missing(&error)[0].contains(pushed.digest.as_str()), "{error}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manifest_changed_behind_the_registrys_back_proves_nothing() -> Result<()> {
    let server = Server::start().await?;
    let registry = anonymous(&server.url())?;
    let pushed = push(&registry, "p1/base", "v1", &[noise(1, 100)]).await?;
    server.corrupt_blob(pushed.digest.as_str())?;
    let error = refused(registry.verify("p1/base", &pushed.digest).await)?;
    assert!(!error.failure().is_permanent(), "{error}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manifest_with_wrong_sizes_proves_nothing() -> Result<()> {
    let server = Server::start().await?;
    let registry = anonymous(&server.url())?;
    let (layer, config) = (noise(1, 100), Bytes::from_static(b"{}"));
    for blob in [&layer, &config] {
        registry.put_blob("p1/base", &digest_of(blob), blob.clone()).await?;
    }
    for (wrong, how) in [(99, "has 100 bytes instead of 99"), (101, "is shorter"), (1_000_000, "is shorter")]
    {
        let manifest = json!({
            "schemaVersion": 2, "mediaType": media::OCI_MANIFEST,
            "config": {"mediaType": media::OCI_CONFIG, "digest": digest_of(&config), "size": 2},
            "layers": [{"mediaType": media::OCI_LAYER_GZIP, "digest": digest_of(&layer), "size": wrong}],
        });
        let digest =
            registry.put_manifest("p1/base", "v1", media::OCI_MANIFEST, manifest.to_string()).await?;
        let error = refused(registry.verify("p1/base", &digest).await)?;
        let named = format!("layer {} {how}", digest_of(&layer));
        assert!(missing(&error)[0].starts_with(&named), "{wrong}: {error}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_is_a_clear_error() -> Result<()> {
    let server = Server::start().await?;
    let registry = anonymous(&server.url())?;
    let pushed = push(&registry, "p1/base", "v1", &[noise(1, 100)]).await?;
    let inner = registry.manifest("p1/base", "v1").await?.context("no manifest")?;
    let list = json!({
        "schemaVersion": 2, "mediaType": media::DOCKER_LIST,
        "manifests": [{"mediaType": inner.media_type, "digest": pushed.digest, "size": inner.bytes.len(),
                       "platform": {"architecture": "amd64", "os": "linux"}}],
    });
    let digest = registry.put_manifest("p1/base", "all", media::DOCKER_LIST, list.to_string()).await?;
    let error = refused(registry.verify("p1/base", &digest).await)?;
    assert!(matches!(error, RegistryError::Index { .. }), "{error:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_is_away_says_nothing_about_the_image() -> Result<()> {
    let mut server = Server::start().await?;
    let registry = anonymous(&server.url())?;
    let pushed = push(&registry, "p1/base", "v1", &[noise(1, 100)]).await?;
    server.kill9();
    let error = refused(registry.verify("p1/base", &pushed.digest).await)?;
    assert_eq!(class(&error), (FailureClass::Network, false), "{error:?}");
    server.start_again().await?;
    registry.verify("p1/base", &pushed.digest).await?;
    Ok(())
}

/// docker-registry with `cache: inmemory`, as Debian ships it, answers HEAD with 200 and the size for a
/// blob whose file is gone, and GET with a body that breaks off (seen with 2.8.2).
#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_remembers_what_it_lost_does_not_fool_the_proof() -> Result<()> {
    let config = noise(1, 50);
    let manifest = json!({
        "schemaVersion": 2, "mediaType": media::OCI_MANIFEST, "layers": [],
        "config": {"mediaType": media::OCI_CONFIG, "digest": digest_of(&config), "size": 50},
    })
    .to_string();
    let digest = digest_of(manifest.as_bytes());
    let body = manifest.clone();
    let server = Scripted::start(move |seen, _| {
        if seen.target.contains("/manifests/") {
            Reply::status(200).header("Content-Type", media::OCI_MANIFEST).body(body.clone())
        } else if seen.method == "HEAD" {
            Reply::status(200).header("Content-Length", "50")
        } else {
            Reply::status(206).header("Content-Range", "bytes 49-49/50").body("x").cut_at(0)
        }
    })
    .await?;
    let registry: Registry = anonymous(server.url())?;
    assert_eq!(registry.blob_size("p1/base", &digest_of(&config)).await?, Some(50));
    let error = refused(registry.verify("p1/base", &digest).await)?;
    assert_eq!(missing(&error), [format!("config {} cannot be read back", digest_of(&config))]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_without_ranges_can_still_prove() -> Result<()> {
    let config = noise(1, 50);
    let manifest = json!({
        "schemaVersion": 2, "mediaType": media::OCI_MANIFEST, "layers": [],
        "config": {"mediaType": media::OCI_CONFIG, "digest": digest_of(&config), "size": 50},
    })
    .to_string();
    let digest = digest_of(manifest.as_bytes());
    let server = Scripted::start(move |seen, _| {
        if seen.target.contains("/manifests/") {
            Reply::status(200).header("Content-Type", media::OCI_MANIFEST).body(manifest.clone())
        } else {
            Reply::status(200).body(config.to_vec())
        }
    })
    .await?;
    assert_eq!(anonymous(server.url())?.verify("p1/base", &digest).await?.size_bytes, 50);
    Ok(())
}
