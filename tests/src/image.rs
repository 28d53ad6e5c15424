//! An image as anybody reads it: plain HTTP, no client of ours.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};
use mothball_harness::http::{client, send};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

const MANIFESTS: &str =
    "application/vnd.docker.distribution.manifest.v2+json, application/vnd.oci.image.manifest.v1+json";

/// An image, all of it.
#[derive(Clone, Debug)]
pub struct Image {
    /// The manifest.
    pub manifest: Value,
    /// The config.
    pub config: Value,
    /// The digests of the layers, lowest first.
    pub layers: Vec<String>,
    /// The bytes of every blob by its digest.
    pub blobs: BTreeMap<String, Vec<u8>>,
}

/// Reads an image's manifest by its digest and every blob, and hashes each.
pub async fn read_back(registry: &str, repository: &str, digest: &str) -> Result<Image> {
    let bytes = fetch(registry, repository, "manifests", digest).await?;
    let manifest: Value = serde_json::from_slice(&bytes).context("read a manifest")?;
    let layers = manifest["layers"].as_array().context("a manifest without layers")?;
    let mut blobs = BTreeMap::new();
    for blob in layers.iter().chain([&manifest["config"]]) {
        let digest = blob["digest"].as_str().context("a blob without a digest")?;
        let bytes = fetch(registry, repository, "blobs", digest).await?;
        ensure!(blob["size"] == bytes.len(), "{digest} has {} bytes, not {}", bytes.len(), blob["size"]);
        blobs.insert(digest.to_owned(), bytes);
    }
    let layers = layers.iter().filter_map(|layer| layer["digest"].as_str().map(str::to_owned)).collect();
    let config = manifest["config"]["digest"].as_str().and_then(|digest| blobs.get(digest));
    let config = serde_json::from_slice(config.context("an image without a config")?)?;
    Ok(Image { manifest, config, layers, blobs })
}

/// The digest of the manifest that a tag names; none where the registry has no such tag.
pub async fn tagged(registry: &str, repository: &str, tag: &str) -> Result<Option<String>> {
    let url = format!("{registry}/v2/{repository}/manifests/{tag}");
    let answer = send(client().head(url).header("accept", MANIFESTS)).await?;
    match answer.status {
        404 => Ok(None),
        200 => Ok(Some(answer.headers["docker-content-digest"].to_str()?.to_owned())),
        status => anyhow::bail!("{} answered {status}", answer.request),
    }
}

/// The repository and the digest of a reference `HOST/REPOSITORY@DIGEST`.
pub fn parts(reference: &str) -> Result<(&str, &str)> {
    let (name, digest) = reference.split_once('@').with_context(|| format!("no digest in {reference}"))?;
    let (_, repository) = name.split_once('/').with_context(|| format!("no host in {reference}"))?;
    Ok((repository, digest))
}

async fn fetch(registry: &str, repository: &str, kind: &str, digest: &str) -> Result<Vec<u8>> {
    let url = format!("{registry}/v2/{repository}/{kind}/{digest}");
    let answer = send(client().get(url).header("accept", MANIFESTS)).await?;
    ensure!(answer.status == 200, "{} answered {}", answer.request, answer.status);
    let mut hash = "sha256:".to_owned();
    for byte in Sha256::digest(&answer.body) {
        std::fmt::Write::write_fmt(&mut hash, format_args!("{byte:02x}"))?;
    }
    ensure!(hash == digest, "{digest} hashes to {hash}");
    Ok(answer.body.to_vec())
}
