//! Images to push, and registries to push them to.

use anyhow::{Context as _, Result};
use bytes::Bytes;
use mothball_domain::failure::FailureClass;
use mothball_domain::image::Digest;
use mothball_image::oci::{digest_of, media};
use mothball_image::{Credentials, Registry, RegistryError, RegistrySettings};
use serde_json::json;
use std::time::Duration;

/// A client for the registry at `url`, with limits that suit tests.
pub(crate) fn client(url: &str, credentials: Credentials) -> Result<Registry> {
    let _installed = rustls::crypto::ring::default_provider().install_default();
    let mut settings = RegistrySettings::new(url, credentials);
    settings.timeout = Duration::from_secs(20);
    settings.stall_timeout = Duration::from_secs(5);
    Ok(Registry::new(settings)?)
}

pub(crate) fn anonymous(url: &str) -> Result<Registry> {
    client(url, Credentials::Anonymous)
}

pub(crate) fn basic(username: &str, password: &str) -> Credentials {
    Credentials::Basic { username: username.to_owned(), password: password.into() }
}

/// An image that was pushed.
pub(crate) struct Pushed {
    pub(crate) digest: Digest,
    pub(crate) config: Digest,
    pub(crate) layers: Vec<Digest>,
    pub(crate) bytes: u64,
}

/// The config of an image whose layers are these bytes.
pub(crate) fn config_of(layers: &[Bytes]) -> serde_json::Value {
    let diff_ids: Vec<Digest> = layers.iter().map(|l| digest_of(l)).collect();
    json!({
        "architecture": "amd64", "os": "linux", "config": {"Cmd": ["sh"], "Env": ["PATH=/bin"]},
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
    })
}

/// Pushes an image of these layers under a tag.
pub(crate) async fn push(registry: &Registry, repo: &str, tag: &str, layers: &[Bytes]) -> Result<Pushed> {
    let config = Bytes::from(config_of(layers).to_string());
    let mut described = Vec::new();
    for layer in layers {
        registry.put_blob(repo, &digest_of(layer), layer.clone()).await?;
        described.push(json!({
            "mediaType": media::DOCKER_LAYER_GZIP, "digest": digest_of(layer), "size": layer.len(),
        }));
    }
    registry.put_blob(repo, &digest_of(&config), config.clone()).await?;
    let manifest = json!({
        "schemaVersion": 2, "mediaType": media::DOCKER_MANIFEST,
        "config": {"mediaType": media::DOCKER_CONFIG, "digest": digest_of(&config), "size": config.len()},
        "layers": described,
    });
    let digest = registry.put_manifest(repo, tag, media::DOCKER_MANIFEST, manifest.to_string()).await?;
    Ok(Pushed {
        digest,
        config: digest_of(&config),
        layers: layers.iter().map(|l| digest_of(l)).collect(),
        bytes: (config.len() + layers.iter().map(Bytes::len).sum::<usize>()) as u64,
    })
}

/// Bytes that do not repeat.
pub(crate) fn noise(seed: u64, length: usize) -> Bytes {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    std::iter::repeat_with(next).take(length).collect::<Vec<u8>>().into()
}

/// Reads a blob to its end.
pub(crate) async fn read(registry: &Registry, repo: &str, digest: &Digest) -> Result<Vec<u8>, RegistryError> {
    let mut reader = registry.get_blob(repo, digest).await?;
    let mut bytes = Vec::new();
    while let Some(piece) = reader.next().await? {
        bytes.extend_from_slice(&piece);
    }
    Ok(bytes)
}

/// The error of a result that must be one.
pub(crate) fn refused<T>(result: Result<T, RegistryError>) -> Result<RegistryError> {
    result.err().context("it went well and should not have")
}

/// Class, and whether it is permanent.
pub(crate) fn class(error: &RegistryError) -> (FailureClass, bool) {
    let failure = error.failure();
    (failure.class, failure.is_permanent())
}
