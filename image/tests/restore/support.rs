//! Images made by hand in a registry, and upper directories to bring them into.

use anyhow::{Context as _, Result};
use bytes::Bytes;
use mothball_harness::layer::{Item, tar};
use mothball_image::layer::Base;
use mothball_image::oci::{digest_of, media};
use mothball_image::restore::plan;
use mothball_image::{
    Credentials, Descriptor, ImageConfig, ImageManifest, Registry, RegistrySettings, RestoreError,
    RestorePlan, RestoreProgress, RestoreSettings, Restored, restore,
};
use serde_json::json;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

pub(crate) const REPO: &str = "p1/image";

/// A client for the registry at `url`.
pub(crate) fn client(url: &str) -> Result<Registry> {
    let _installed = rustls::crypto::ring::default_provider().install_default();
    let mut settings = RegistrySettings::new(url, Credentials::Anonymous);
    settings.stall_timeout = Duration::from_secs(20);
    Ok(Registry::new(settings)?)
}

/// A layer's tar, and its blob.
#[derive(Clone)]
pub(crate) struct Layer {
    pub(crate) tar: Vec<u8>,
    pub(crate) blob: Bytes,
}

impl Layer {
    /// In members of gzip, as our saves write them.
    pub(crate) fn gzip(tar: Vec<u8>) -> Self {
        let level = isal::CompressionLevel::One;
        let members = tar
            .chunks(100_000)
            .map(|part| isal::compress(part, level, isal::Codec::Gzip).expect("compress in memory"));
        let blob = members.collect::<Vec<_>>().concat().into();
        Self { tar, blob }
    }

    pub(crate) fn of(items: &[Item]) -> Self {
        Self::gzip(tar(items))
    }
}

/// Puts these layers into the registry, and plans to restore them over a base without content.
pub(crate) async fn push(registry: &Registry, layers: &[Layer]) -> Result<RestorePlan> {
    let base = Base { image_id: "sha256:base".to_owned(), diff_ids: vec![digest_of(b"base")] };
    let mut described = vec![Descriptor::of(media::OCI_LAYER_GZIP, b"base")];
    let mut diff_ids = base.diff_ids.clone();
    for layer in layers {
        let descriptor = Descriptor::of(media::OCI_LAYER_GZIP, &layer.blob);
        registry.put_blob(REPO, &descriptor.digest, layer.blob.clone()).await?;
        described.push(descriptor);
        diff_ids.push(digest_of(&layer.tar));
    }
    let config: ImageConfig = serde_json::from_value(json!({
        "architecture": "amd64", "os": "linux", "config": {"Volumes": {"/volume": {}}},
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
    }))?;
    let manifest: ImageManifest = serde_json::from_value(json!({
        "schemaVersion": 2, "config": Descriptor::of(media::OCI_CONFIG, &config.to_bytes()?), "layers": described,
    }))?;
    plan(&manifest, &config, &base).map_err(anyhow::Error::msg)
}

/// A container's directories, as Docker lays them out.
pub(crate) struct Container {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) settings: RestoreSettings,
}

impl Container {
    pub(crate) fn new() -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let (upper, lower) = (dir.path().join("diff"), dir.path().join("lower"));
        std::fs::create_dir(&upper)?;
        std::fs::create_dir(&lower)?;
        let settings = RestoreSettings::new(upper, vec![lower], 1 << 30);
        Ok(Self { dir, settings })
    }

    pub(crate) fn upper(&self, path: &str) -> PathBuf {
        self.settings.upper.join(path)
    }

    pub(crate) async fn restore(
        &self,
        registry: &Registry,
        plan: &RestorePlan,
    ) -> Result<Restored, RestoreError> {
        let never = CancellationToken::new();
        restore(registry, REPO, plan, &self.settings, Arc::new(RestoreProgress::default()), &never).await
    }

    /// Whether nothing is in the upper directory and nothing beside it.
    pub(crate) fn is_clean(&self) -> bool {
        names(&self.settings.upper).is_empty() && names(self.dir.path()) == ["diff", "lower"]
    }
}

/// The names in a directory, in order.
pub(crate) fn names(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let mut names: Vec<String> =
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// The error of a result that must be one.
pub(crate) fn refused<T>(result: Result<T, RestoreError>) -> Result<RestoreError> {
    result.err().context("it went well and should not have")
}

/// Bytes that do not repeat.
pub(crate) fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    std::iter::repeat_with(next).take(length).collect()
}
