//! Ends an upload: the registry compares the bytes with the digest.

use super::{RESUMES_MAX, SETTLE, Upload};
use crate::client::{Call, Registry};
use crate::error::RegistryError;
use bytes::Bytes;
use mothball_domain::image::Digest;
use reqwest::Method;
use reqwest::header::CONTENT_TYPE;

impl Registry {
    /// Ends an upload: the registry compares the bytes with `digest`. When the answer is lost, the blob
    /// itself tells whether it is there.
    pub async fn finish(&self, upload: Upload, digest: &Digest) -> Result<(), RegistryError> {
        let mut url = upload.location.clone();
        url.query_pairs_mut().append_pair("digest", digest.as_str());
        let what = format!("finish the upload of {digest} to {}", upload.repo);
        let mut call = self.call(Method::PUT, url, what).scope(&upload.repo, "pull,push");
        call.timeout = self.settings().finish_timeout;
        call.repeat = false;
        self.complete(&call, &upload.repo, digest, upload.offset).await?;
        self.over(&upload);
        Ok(())
    }

    /// Uploads a small blob in one piece, unless it is there. Idempotent.
    pub async fn put_blob(&self, repo: &str, digest: &Digest, bytes: Bytes) -> Result<(), RegistryError> {
        if self.blob_size(repo, digest).await? == Some(bytes.len() as u64) {
            return Ok(());
        }
        let mut resumes = 0;
        loop {
            let upload = self.start_upload(repo).await?;
            let mut url = upload.location.clone();
            url.query_pairs_mut().append_pair("digest", digest.as_str());
            let mut call = self
                .call(Method::PUT, url, format!("upload blob {repo}@{digest}"))
                .scope(repo, "pull,push")
                .header(CONTENT_TYPE, "application/octet-stream")
                .body(vec![bytes.clone()]);
            call.repeat = false;
            match self.complete(&call, repo, digest, bytes.len() as u64).await {
                Err(RegistryError::UploadLost { .. }) if resumes < RESUMES_MAX => resumes += 1,
                done => {
                    self.over(&upload);
                    return done;
                }
            }
        }
    }

    /// Sends the request that ends an upload until its outcome is known.
    async fn complete(
        &self,
        call: &Call,
        repo: &str,
        digest: &Digest,
        size: u64,
    ) -> Result<(), RegistryError> {
        let mut resumes = 0;
        loop {
            let error = match self.send(call).await {
                Ok(answer) if answer.status.is_success() => return Ok(()),
                Ok(answer) => self.upload_refusal(call, &answer),
                Err(error) => error,
            };
            let unsure = error.is_passing() || matches!(error, RegistryError::UploadLost { .. });
            if !unsure {
                return Err(error);
            }
            tokio::time::sleep(SETTLE).await;
            if self.blob_size(repo, digest).await? == Some(size) {
                return Ok(());
            }
            resumes += 1;
            if resumes > RESUMES_MAX || !error.is_passing() {
                return Err(error);
            }
        }
    }
}
