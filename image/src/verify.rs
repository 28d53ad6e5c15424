//! The proof that an image is in the registry: nothing is deleted without it.

use crate::blob::BlobState;
use crate::client::Registry;
use crate::error::RegistryError;
use crate::oci::Descriptor;
use futures_util::{StreamExt, stream};
use mothball_domain::image::Digest;
use std::collections::HashMap;

/// Blobs looked at in parallel.
const PARALLEL: usize = 8;

/// That an image is whole in the registry, read back at the time of the call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proof {
    /// Bytes of the config and of all layers, each blob counted once.
    pub size_bytes: u64,
    /// Number of layers.
    pub layers: u32,
    /// The config's digest; with Docker's classic image store this is the image's id.
    pub config_digest: Digest,
}

impl Registry {
    /// Proves that an image can be read back: its manifest by digest, hashed here, and of the config and
    /// each layer the last byte, at the place where the manifest's size says it is. What is not there is
    /// named in [`RegistryError::Unproven`]. A registry that cannot be asked is another error: nothing is
    /// proven then, and nothing is known to be missing.
    pub async fn verify(&self, repo: &str, digest: &Digest) -> Result<Proof, RegistryError> {
        let unproven = |part: String| RegistryError::Unproven { missing: vec![part] };
        let manifest = match self.manifest(repo, digest.as_str()).await {
            Ok(Some(manifest)) => manifest,
            Ok(None) => return Err(unproven(format!("manifest {digest} is missing"))),
            Err(RegistryError::Digest { got, .. }) => {
                return Err(unproven(format!("manifest {digest} was changed: it hashes to {got}")));
            }
            Err(error) => return Err(error),
        };
        let image = manifest.image()?;
        let mut blobs: HashMap<&Digest, (&str, &Descriptor)> = HashMap::new();
        blobs.insert(&image.config.digest, ("config", &image.config));
        for layer in &image.layers {
            // The same layer twice is one blob; with two sizes it is none.
            let known = blobs.entry(&layer.digest).or_insert(("layer", layer)).1;
            if known.size != layer.size {
                return Err(unproven(format!("layer {} has two sizes in the manifest", layer.digest)));
            }
        }
        let size_bytes = blobs.values().map(|(_, blob)| blob.size).sum();
        let checks = blobs.into_values().map(|(kind, blob)| {
            let (registry, repo, blob) = (self.clone(), repo.to_owned(), blob.clone());
            async move { registry.missing(&repo, kind, &blob).await }
        });
        let mut results = stream::iter(checks.collect::<Vec<_>>()).buffer_unordered(PARALLEL);
        let mut missing = Vec::new();
        while let Some(result) = results.next().await {
            missing.extend(result?);
        }
        if !missing.is_empty() {
            missing.sort();
            return Err(RegistryError::Unproven { missing });
        }
        let layers = image.layers.len() as u32;
        Ok(Proof { size_bytes, layers, config_digest: image.config.digest.clone() })
    }

    /// What is wrong with a blob, in words; nothing when it is whole.
    async fn missing(
        &self,
        repo: &str,
        kind: &str,
        blob: &Descriptor,
    ) -> Result<Option<String>, RegistryError> {
        let digest = &blob.digest;
        Ok(match self.blob_state(repo, blob).await? {
            BlobState::Whole(size) if size == blob.size => None,
            BlobState::Whole(size) => {
                Some(format!("{kind} {digest} has {size} bytes instead of {}", blob.size))
            }
            BlobState::Broken(how) => Some(format!("{kind} {digest} {how}")),
        })
    }
}
