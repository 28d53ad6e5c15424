//! Blobs: read as they come in and hashed on the way, or proven by their last byte.

use crate::client::{Call, Registry, read_body};
use crate::error::{RegistryError, from_reqwest};
use crate::manifest::{Deletion, same_digest};
use crate::oci::{Descriptor, ImageConfig, Manifest, digest_of};
use bytes::{Bytes, BytesMut};
use mothball_domain::image::Digest;
use reqwest::header::{CONTENT_LENGTH, CONTENT_RANGE, RANGE};
use reqwest::{Method, Response, StatusCode};
use sha2::{Digest as _, Sha256};

/// Longest config of an image.
const CONFIG_BYTES_MAX: usize = 8 * 1024 * 1024;
/// How often one blob's reading goes on after the connection broke.
const RESUMES_MAX: u32 = 3;

/// Whether a blob is in a registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum BlobState {
    /// It is, with this size, and its end can be read.
    Whole(u64),
    /// It is not, or not readable, for this reason.
    Broken(&'static str),
}

impl Registry {
    /// The size of a blob as the registry's index has it; nothing when there is none. Not a proof:
    /// docker-registry answers from its cache for a blob whose file is gone (see `blob_state`).
    pub async fn blob_size(&self, repo: &str, digest: &Digest) -> Result<Option<u64>, RegistryError> {
        let call = self.blob_call(Method::HEAD, "look up", repo, digest)?;
        let answer = self.send(&call).await?;
        match answer.status {
            StatusCode::OK => {}
            StatusCode::NOT_FOUND => return Ok(None),
            _ => return Err(self.refusal(&call, &answer)),
        }
        let size = answer.header(CONTENT_LENGTH).and_then(|v| v.parse().ok());
        size.map(Some).ok_or_else(|| no_size(&call.what))
    }

    /// Reads a blob's last byte. Unlike HEAD, which docker-registry answers from memory, this touches
    /// the storage, and the answer carries the exact size.
    pub(crate) async fn blob_state(&self, repo: &str, blob: &Descriptor) -> Result<BlobState, RegistryError> {
        let mut call = self.blob_call(Method::GET, "check", repo, &blob.digest)?;
        call.stream = true;
        if let Some(last) = blob.size.checked_sub(1) {
            call = call.header(RANGE, &format!("bytes={last}-{last}"));
        }
        let answer = match self.send(&call).await {
            Ok(answer) => answer,
            Err(RegistryError::Cut { .. }) => return Ok(BlobState::Broken("cannot be read back")),
            Err(error) => return Err(error),
        };
        let size = match answer.status {
            StatusCode::PARTIAL_CONTENT => answer.header(CONTENT_RANGE).and_then(total_of),
            // Without ranges the whole blob is on its way; its first bytes must do.
            StatusCode::OK => answer.header(CONTENT_LENGTH).and_then(|v| v.parse().ok()),
            StatusCode::NOT_FOUND => return Ok(BlobState::Broken("is missing")),
            StatusCode::RANGE_NOT_SATISFIABLE => {
                return Ok(BlobState::Broken("is shorter than it should be"));
            }
            _ => return Err(self.refusal(&call, &answer)),
        };
        let Some(size) = size else { return Err(no_size(&call.what)) };
        let partial = answer.status == StatusCode::PARTIAL_CONTENT;
        let Some(mut response) = answer.stream else { return Err(no_size(&call.what)) };
        let readable = if partial {
            tokio::time::timeout(call.timeout, read_body(&call.what, response, 1, call.timeout))
                .await
                .map(|read| read.is_ok_and(|bytes| bytes.len() == 1))
        } else {
            tokio::time::timeout(call.timeout, response.chunk())
                .await
                .map(|read| read.is_ok_and(|bytes| bytes.is_some() == (size > 0)))
        };
        match readable {
            Ok(true) => Ok(BlobState::Whole(size)),
            Ok(false) => Ok(BlobState::Broken("cannot be read back")),
            Err(_) => Err(RegistryError::Timeout { what: call.what, limit: call.timeout }),
        }
    }

    /// Opens a blob for reading.
    pub async fn get_blob(&self, repo: &str, digest: &Digest) -> Result<BlobReader, RegistryError> {
        let mut reader = BlobReader {
            registry: self.clone(),
            repo: repo.to_owned(),
            digest: digest.clone(),
            size: None,
            read: 0,
            hash: Sha256::new(),
            response: None,
            resumes: 0,
        };
        reader.open().await?;
        Ok(reader)
    }

    /// Reads the config of the image that a manifest describes.
    pub async fn config(&self, repo: &str, manifest: &Manifest) -> Result<ImageConfig, RegistryError> {
        let config = &manifest.image()?.config;
        let what = format!("read config {repo}@{}", config.digest);
        let mut reader = self.get_blob(repo, &config.digest).await?;
        let mut bytes = BytesMut::new();
        while let Some(piece) = reader.next().await? {
            if bytes.len() + piece.len() > CONFIG_BYTES_MAX {
                let detail = format!("it is longer than {CONFIG_BYTES_MAX} bytes");
                return Err(RegistryError::Protocol { what, detail });
            }
            bytes.extend_from_slice(&piece);
        }
        ImageConfig::parse(&what, &bytes)
    }

    /// Takes a blob out of a repository, so that nobody can read it there any more; its bytes go with the
    /// registry's next garbage collection. For what must not be readable, such as the config that Docker
    /// pushed before it was scrubbed; a manifest that still names it is broken afterwards. Idempotent.
    pub async fn delete_blob(&self, repo: &str, digest: &Digest) -> Result<Deletion, RegistryError> {
        let mut call = self.blob_call(Method::DELETE, "delete", repo, digest)?;
        call.scopes = vec![format!("repository:{repo}:pull,delete")];
        let answer = self.send(&call).await?;
        match answer.status {
            status if status.is_success() => Ok(Deletion::Deleted),
            StatusCode::NOT_FOUND => Ok(Deletion::AlreadyGone),
            StatusCode::METHOD_NOT_ALLOWED => Ok(Deletion::Unsupported),
            _ => Err(self.refusal(&call, &answer)),
        }
    }

    /// Uploads another config for the image that a manifest describes, and returns the manifest to put
    /// in its place, with the same media types and everything else as it was. The old manifest and config
    /// stay readable by their digests until they are deleted.
    pub async fn replace_config(
        &self,
        repo: &str,
        manifest: &Manifest,
        config: &ImageConfig,
    ) -> Result<(Bytes, Digest), RegistryError> {
        let mut image = manifest.image()?.clone();
        if config.rootfs.diff_ids.len() != image.layers.len() {
            return Err(RegistryError::Protocol {
                what: format!("replace the config of {repo}@{}", manifest.digest),
                detail: format!(
                    "{} layers, but {} in the config",
                    image.layers.len(),
                    config.rootfs.diff_ids.len()
                ),
            });
        }
        let bytes = Bytes::from(config.to_bytes()?);
        let described = Descriptor::of(image.config.media_type.clone(), &bytes);
        self.put_blob(repo, &described.digest, bytes).await?;
        image.config.digest = described.digest;
        image.config.size = described.size;
        // OCI lets a descriptor carry the blob itself; it would be the old one.
        image.config.extra.remove("data");
        let bytes = serde_json::to_vec(&image).map_err(|e| RegistryError::Protocol {
            what: "write a manifest".to_owned(),
            detail: e.to_string(),
        })?;
        let digest = digest_of(&bytes);
        Ok((Bytes::from(bytes), digest))
    }

    fn blob_call(
        &self,
        method: Method,
        verb: &str,
        repo: &str,
        digest: &Digest,
    ) -> Result<Call, RegistryError> {
        let url = self.repo_url(repo, &format!("blobs/{digest}"))?;
        Ok(self.call(method, url, format!("{verb} blob {repo}@{digest}")).scope(repo, "pull"))
    }
}

fn no_size(what: &str) -> RegistryError {
    RegistryError::Protocol { what: what.to_owned(), detail: "it does not say the size".to_owned() }
}

/// The total in `bytes 5-5/6`.
fn total_of(content_range: &str) -> Option<u64> {
    content_range.rsplit_once('/')?.1.trim().parse().ok()
}

/// A blob that is being read. A connection that breaks is opened again where it broke; at the end the
/// bytes have the blob's digest and size, or there is an error.
#[derive(Debug)]
pub struct BlobReader {
    registry: Registry,
    repo: String,
    digest: Digest,
    size: Option<u64>,
    read: u64,
    hash: Sha256,
    response: Option<Response>,
    resumes: u32,
}

impl BlobReader {
    /// The blob's size, when the registry says it.
    pub fn size(&self) -> Option<u64> {
        self.size
    }

    /// The next bytes, or nothing at the end, when all of them have been found to be the blob's. Bytes
    /// that were handed out before an error are not proven.
    pub async fn next(&mut self) -> Result<Option<Bytes>, RegistryError> {
        loop {
            match self.piece().await {
                Ok(Some(piece)) => {
                    self.read += piece.len() as u64;
                    self.hash.update(&piece);
                    return Ok(Some(piece));
                }
                Ok(None) if self.size.is_none_or(|size| size == self.read) => {
                    let got = Digest::from_sha256(self.hash.clone().finalize().into());
                    return same_digest(&self.what(), Some(self.digest.as_str()), &got).map(|()| None);
                }
                Ok(None) => self.go_on(self.cut("it ended early")).await?,
                Err(error) => self.go_on(error).await?,
            }
        }
    }

    async fn piece(&mut self) -> Result<Option<Bytes>, RegistryError> {
        let limit = self.registry.settings().stall_timeout;
        let what = self.what();
        let Some(response) = &mut self.response else { return Ok(None) };
        match tokio::time::timeout(limit, response.chunk()).await {
            Ok(read) => read.map_err(|e| from_reqwest(&what, e, limit)),
            Err(_) => Err(RegistryError::Timeout { what, limit }),
        }
    }

    /// Opens the blob again where reading broke off, a few times.
    async fn go_on(&mut self, error: RegistryError) -> Result<(), RegistryError> {
        self.response = None;
        self.resumes += 1;
        if self.resumes > RESUMES_MAX || !error.is_passing() {
            return Err(error);
        }
        self.open().await
    }

    async fn open(&mut self) -> Result<(), RegistryError> {
        let mut call = self.registry.blob_call(Method::GET, "read", &self.repo, &self.digest)?;
        call.stream = true;
        if self.read > 0 {
            call = call.header(RANGE, &format!("bytes={}-", self.read));
        }
        let answer = self.registry.send(&call).await?;
        match answer.status {
            StatusCode::OK if self.read > 0 => {
                // No ranges here: the blob comes from its beginning again, and part of it is handed out.
                return Err(self.cut("the registry cannot go on in the middle"));
            }
            StatusCode::OK => {
                self.size = answer.header(CONTENT_LENGTH).and_then(|v| v.parse().ok());
            }
            StatusCode::PARTIAL_CONTENT => {
                let wanted = format!("bytes {}-", self.read);
                if !answer.header(CONTENT_RANGE).is_some_and(|r| r.starts_with(&wanted)) {
                    return Err(self.cut("the registry goes on at another place"));
                }
            }
            _ => return Err(self.registry.refusal(&call, &answer)),
        }
        self.response = answer.stream;
        Ok(())
    }

    fn what(&self) -> String {
        format!("read blob {}@{}", self.repo, self.digest)
    }

    fn cut(&self, detail: &str) -> RegistryError {
        RegistryError::Cut { what: self.what(), detail: detail.to_owned() }
    }
}
