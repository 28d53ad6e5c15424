//! Manifests in a registry: read, written, tagged, deleted.

use crate::client::{Call, Registry};
use crate::error::RegistryError;
use crate::oci::name::check_reference;
use crate::oci::{Manifest, digest_of, media};
use bytes::Bytes;
use mothball_domain::image::Digest;
use mothball_domain::name::Tag;
use reqwest::header::{ACCEPT, CONTENT_TYPE};
use reqwest::{Method, StatusCode};

/// Longest manifest; registries take no longer one.
const MANIFEST_BYTES_MAX: usize = 4 * 1024 * 1024;
/// The header by which registries name what they hold.
const CONTENT_DIGEST: &str = "docker-content-digest";

/// What became of a manifest that was to be deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deletion {
    /// It is deleted, and with it every tag that named it.
    Deleted,
    /// It was not there.
    AlreadyGone,
    /// The registry is set up not to delete.
    Unsupported,
}

/// What became of a tag that was to be removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Untag {
    /// The tag is removed; its manifest stays.
    Untagged,
    /// It was not there.
    AlreadyGone,
    /// The registry cannot remove a tag alone: docker-registry 2.8 cannot.
    Unsupported,
}

impl Registry {
    /// Reads a manifest by tag or digest; nothing when there is none. The bytes are hashed here: a
    /// digest that was asked for, or that the registry names, is never taken on trust.
    pub async fn manifest(&self, repo: &str, reference: &str) -> Result<Option<Manifest>, RegistryError> {
        let wanted = check_reference(reference)?;
        let mut call = self.manifest_call(Method::GET, "read", repo, reference, "pull")?;
        call.body_max = MANIFEST_BYTES_MAX;
        for media_type in media::MANIFESTS {
            call = call.header(ACCEPT, media_type);
        }
        let answer = self.send(&call).await?;
        match answer.status {
            StatusCode::OK => {}
            StatusCode::NOT_FOUND => return Ok(None),
            _ => return Err(self.refusal(&call, &answer)),
        }
        let got = digest_of(&answer.body);
        let named = wanted.as_ref().map(Digest::as_str).or_else(|| answer.named(CONTENT_DIGEST));
        same_digest(&call.what, named, &got)?;
        let media_type = answer.header(CONTENT_TYPE).unwrap_or_default();
        Manifest::parse(&call.what, media_type, answer.body.clone()).map(Some)
    }

    /// The digest that a tag stands for, without reading the manifest; nothing when there is none.
    pub async fn manifest_digest(
        &self,
        repo: &str,
        reference: &str,
    ) -> Result<Option<Digest>, RegistryError> {
        check_reference(reference)?;
        let mut call = self.manifest_call(Method::HEAD, "look up", repo, reference, "pull")?;
        for media_type in media::MANIFESTS {
            call = call.header(ACCEPT, media_type);
        }
        let answer = self.send(&call).await?;
        match answer.status {
            StatusCode::OK => {}
            StatusCode::NOT_FOUND => return Ok(None),
            _ => return Err(self.refusal(&call, &answer)),
        }
        match answer.named(CONTENT_DIGEST).map(Digest::new) {
            Some(Ok(digest)) => Ok(Some(digest)),
            // Not every registry names the digest: then the bytes tell it.
            _ => Ok(self.manifest(repo, reference).await?.map(|m| m.digest)),
        }
    }

    /// Writes a manifest under a tag or its digest, and returns its digest. Idempotent.
    pub async fn put_manifest(
        &self,
        repo: &str,
        reference: &str,
        media_type: &str,
        bytes: impl Into<Bytes>,
    ) -> Result<Digest, RegistryError> {
        let bytes: Bytes = bytes.into();
        let digest = digest_of(&bytes);
        if let Some(wanted) = check_reference(reference)? {
            same_digest(&format!("write manifest {repo}@{wanted}"), Some(wanted.as_str()), &digest)?;
        }
        let call = self
            .manifest_call(Method::PUT, "write", repo, reference, "pull,push")?
            .header(CONTENT_TYPE, media_type)
            .body(vec![bytes]);
        let answer = self.send(&call).await?;
        if !answer.status.is_success() {
            let error = self.refusal(&call, &answer);
            let unknown = ["MANIFEST_BLOB_UNKNOWN", "BLOB_UNKNOWN"].iter().any(|code| answer.has_code(code));
            return Err(match error {
                RegistryError::Refused { what, detail } if unknown => {
                    RegistryError::BlobsUnknown { what, detail }
                }
                RegistryError::NotFound { what } if unknown => {
                    RegistryError::BlobsUnknown { what, detail: "404".to_owned() }
                }
                error => error,
            });
        }
        same_digest(&call.what, answer.named(CONTENT_DIGEST), &digest)?;
        Ok(digest)
    }

    /// Deletes a manifest and with it every tag that names it. Idempotent.
    pub async fn delete_manifest(&self, repo: &str, digest: &Digest) -> Result<Deletion, RegistryError> {
        let call = self.manifest_call(Method::DELETE, "delete", repo, digest.as_str(), "pull,delete")?;
        let answer = self.send(&call).await?;
        match answer.status {
            status if status.is_success() => Ok(Deletion::Deleted),
            StatusCode::NOT_FOUND => Ok(Deletion::AlreadyGone),
            StatusCode::METHOD_NOT_ALLOWED => Ok(Deletion::Unsupported),
            _ => Err(self.refusal(&call, &answer)),
        }
    }

    /// Removes a tag and leaves its manifest. Idempotent.
    pub async fn untag(&self, repo: &str, tag: &Tag) -> Result<Untag, RegistryError> {
        let call = self.manifest_call(Method::DELETE, "untag", repo, tag.as_str(), "pull,delete")?;
        let answer = self.send(&call).await?;
        match answer.status {
            status if status.is_success() => Ok(Untag::Untagged),
            StatusCode::NOT_FOUND => Ok(Untag::AlreadyGone),
            StatusCode::BAD_REQUEST | StatusCode::METHOD_NOT_ALLOWED => Ok(Untag::Unsupported),
            _ => Err(self.refusal(&call, &answer)),
        }
    }

    /// Gives a manifest one more tag, by the same bytes: how a digest is kept alive in a registry whose
    /// garbage collection removes what has no tag. Idempotent.
    pub async fn copy_tag(&self, repo: &str, digest: &Digest, new_tag: &Tag) -> Result<(), RegistryError> {
        let manifest = self
            .manifest(repo, digest.as_str())
            .await?
            .ok_or_else(|| RegistryError::NotFound { what: format!("tag {repo}@{digest} as {new_tag}") })?;
        self.put_manifest(repo, new_tag.as_str(), &manifest.media_type, manifest.bytes).await.map(drop)
    }

    fn manifest_call(
        &self,
        method: Method,
        verb: &str,
        repo: &str,
        reference: &str,
        actions: &str,
    ) -> Result<Call, RegistryError> {
        let url = self.repo_url(repo, &format!("manifests/{reference}"))?;
        let mark = if reference.starts_with("sha256:") { '@' } else { ':' };
        let what = format!("{verb} manifest {repo}{mark}{reference}");
        Ok(self.call(method, url, what).scope(repo, actions))
    }
}

/// Compares a digest that was named with the one of the bytes.
pub(crate) fn same_digest(what: &str, named: Option<&str>, got: &Digest) -> Result<(), RegistryError> {
    match named {
        Some(named) if named != got.as_str() => Err(RegistryError::Digest {
            what: what.to_owned(),
            wanted: named.chars().take(96).collect(),
            got: got.to_string(),
        }),
        _ => Ok(()),
    }
}
