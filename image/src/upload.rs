//! Blobs written in chunks, at the place where the registry is.
//!
//! What registries do when a connection breaks inside a chunk differs. distribution 3 keeps what came
//! and says how much: the upload goes on there. docker-registry 2.8 drops the whole upload (its state
//! names the offset of the last chunk that it took whole): then there is
//! [`RegistryError::UploadLost`], and the blob starts from byte 0.

use crate::client::{Call, Registry};
use crate::error::RegistryError;
use crate::oci::name::check_repository;
use bytes::Bytes;
use mothball_domain::image::Digest;
use reqwest::header::{CONTENT_RANGE, CONTENT_TYPE, LOCATION, RANGE};
use reqwest::{Method, StatusCode, Url};
use std::time::Duration;

/// How often one chunk's sending, or the end of an upload, goes on after the connection broke.
const RESUMES_MAX: u32 = 3;
/// Wait before the registry is asked how far it came: it must first notice that the line is cut.
const SETTLE: Duration = Duration::from_millis(300);

/// An upload that was begun.
#[derive(Debug, Clone)]
pub struct Upload {
    repo: String,
    location: Url,
    offset: u64,
}

impl Upload {
    /// The bytes that the registry holds.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Where the upload is, for [`Registry::resume_upload`] in another process.
    pub fn location(&self) -> &str {
        self.location.as_str()
    }

    /// The repository that it goes to.
    pub fn repo(&self) -> &str {
        &self.repo
    }
}

/// What became of a blob that was to be mounted from another repository.
#[derive(Debug, Clone)]
pub enum Mount {
    /// It is there; nothing was sent.
    Mounted,
    /// The registry has no such blob there, or does not mount: it began an upload instead.
    Upload(Upload),
}

impl Registry {
    /// Begins an upload.
    pub async fn start_upload(&self, repo: &str) -> Result<Upload, RegistryError> {
        let url = self.repo_url(repo, "blobs/uploads/")?;
        // Begun twice leaves an empty upload behind, which registries remove in time.
        let call =
            self.call(Method::POST, url, format!("begin an upload to {repo}")).scope(repo, "pull,push");
        let answer = self.send(&call).await?;
        if answer.status != StatusCode::ACCEPTED {
            return Err(self.refusal(&call, &answer));
        }
        self.begun(repo, &call.what, answer.header(LOCATION))
    }

    /// Takes a blob over from another repository of the same registry, without sending it.
    pub async fn mount_blob(&self, repo: &str, digest: &Digest, from: &str) -> Result<Mount, RegistryError> {
        check_repository(from)?;
        let mut url = self.repo_url(repo, "blobs/uploads/")?;
        url.query_pairs_mut().append_pair("mount", digest.as_str()).append_pair("from", from);
        let what = format!("mount blob {digest} from {from} into {repo}");
        let call = self.call(Method::POST, url, what).scope(repo, "pull,push").scope(from, "pull");
        let answer = self.send(&call).await?;
        match answer.status {
            StatusCode::CREATED => Ok(Mount::Mounted),
            StatusCode::ACCEPTED => self.begun(repo, &call.what, answer.header(LOCATION)).map(Mount::Upload),
            _ => Err(self.refusal(&call, &answer)),
        }
    }

    /// Finds an upload again by its [`Upload::location`]; nothing when the registry has lost it.
    pub async fn resume_upload(&self, repo: &str, location: &str) -> Result<Option<Upload>, RegistryError> {
        check_repository(repo)?;
        let location = self.follow("resume an upload", location)?;
        let mut upload = Upload { repo: repo.to_owned(), location, offset: 0 };
        match self.upload_status(&mut upload).await {
            Ok(_) => Ok(Some(upload)),
            Err(RegistryError::UploadLost { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Asks how many bytes the registry holds, and goes on there.
    pub async fn upload_status(&self, upload: &mut Upload) -> Result<u64, RegistryError> {
        let what = format!("ask for the state of an upload to {}", upload.repo);
        let call = self.call(Method::GET, upload.location.clone(), what).scope(&upload.repo, "pull,push");
        let answer = self.send(&call).await?;
        if !answer.status.is_success() {
            return Err(self.upload_refusal(&call, &answer));
        }
        let held = answer.header(RANGE).and_then(end_of).ok_or_else(|| RegistryError::Protocol {
            what: call.what.clone(),
            detail: "it does not say how far it came".to_owned(),
        })?;
        if let Some(location) = answer.header(LOCATION) {
            upload.location = self.follow(&call.what, location)?;
        }
        upload.offset = held;
        Ok(held)
    }

    /// Appends a chunk, given in pieces that follow one another. When the connection breaks, goes on at
    /// the registry's offset inside the chunk.
    pub async fn patch(&self, upload: &mut Upload, chunk: &[Bytes]) -> Result<(), RegistryError> {
        let begin = upload.offset;
        let end = begin + chunk.iter().map(|p| p.len() as u64).sum::<u64>();
        let mut resumes = 0;
        while upload.offset < end {
            let rest = after(chunk, upload.offset - begin);
            let Err(error) = self.patch_once(upload, rest, end).await else { continue };
            resumes += 1;
            let again = error.is_passing() || matches!(error, RegistryError::Refused { .. });
            if !again || resumes > RESUMES_MAX {
                return Err(error);
            }
            tracing::debug!(offset = upload.offset, %error, "upload goes on at the registry's offset");
            tokio::time::sleep(SETTLE * resumes).await;
            self.upload_status(upload).await?;
            if !(begin..=end).contains(&upload.offset) {
                return Err(lost(&upload.repo, format!("it holds {} bytes", upload.offset)));
            }
            if matches!(error, RegistryError::Refused { .. }) && upload.offset == begin && resumes > 1 {
                // Refused twice at the same place: this is not about the place.
                return Err(error);
            }
        }
        Ok(())
    }

    async fn patch_once(&self, upload: &mut Upload, rest: Vec<Bytes>, end: u64) -> Result<(), RegistryError> {
        let what = format!("upload bytes {}-{} to {}", upload.offset, end - 1, upload.repo);
        let mut call = self
            .call(Method::PATCH, upload.location.clone(), what)
            .scope(&upload.repo, "pull,push")
            .header(CONTENT_TYPE, "application/octet-stream")
            .header(CONTENT_RANGE, &format!("{}-{}", upload.offset, end - 1))
            .body(rest);
        // Sent blindly once more it would be appended twice.
        call.repeat = false;
        let answer = self.send(&call).await?;
        if !answer.status.is_success() {
            return Err(self.upload_refusal(&call, &answer));
        }
        if let Some(location) = answer.header(LOCATION) {
            upload.location = self.follow(&call.what, location)?;
        }
        // Taken means taken whole, unless the registry says that it took a part. Its number is not trusted
        // further: some count one too many, all write the same for none and for one. The digest decides.
        let part =
            answer.header(RANGE).and_then(end_of).filter(|held| (upload.offset + 1..end).contains(held));
        upload.offset = part.unwrap_or(end);
        Ok(())
    }

    /// Ends an upload: the registry compares the bytes with `digest`. When the answer is lost, the blob
    /// itself tells whether it is there.
    pub async fn finish(&self, upload: Upload, digest: &Digest) -> Result<(), RegistryError> {
        let mut url = upload.location.clone();
        url.query_pairs_mut().append_pair("digest", digest.as_str());
        let what = format!("finish the upload of {digest} to {}", upload.repo);
        let mut call = self.call(Method::PUT, url, what).scope(&upload.repo, "pull,push");
        call.timeout = self.settings().finish_timeout;
        call.repeat = false;
        self.complete(&call, &upload.repo, digest, upload.offset).await
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
                done => return done,
            }
        }
    }

    /// Gives an upload up, so that the registry can drop its bytes. An upload that is gone is fine.
    pub async fn cancel_upload(&self, upload: Upload) -> Result<(), RegistryError> {
        let what = format!("cancel an upload to {}", upload.repo);
        let call = self.call(Method::DELETE, upload.location, what).scope(&upload.repo, "pull,push");
        let answer = self.send(&call).await?;
        if answer.status.is_success() {
            return Ok(());
        }
        match self.upload_refusal(&call, &answer) {
            RegistryError::UploadLost { .. } => Ok(()),
            error => Err(error),
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

    fn begun(&self, repo: &str, what: &str, location: Option<&str>) -> Result<Upload, RegistryError> {
        let location = location.ok_or_else(|| RegistryError::Protocol {
            what: what.to_owned(),
            detail: "it does not say where".to_owned(),
        })?;
        Ok(Upload { repo: repo.to_owned(), location: self.follow(what, location)?, offset: 0 })
    }

    /// What a refusal means in the middle of an upload.
    fn upload_refusal(&self, call: &Call, answer: &crate::answer::Answer) -> RegistryError {
        let gone = answer.status == StatusCode::NOT_FOUND
            || ["BLOB_UPLOAD_UNKNOWN", "BLOB_UPLOAD_INVALID"].iter().any(|code| answer.has_code(code));
        if answer.has_code("DIGEST_INVALID") {
            let detail = "its bytes do not have the digest".to_owned();
            return RegistryError::UploadLost { what: call.what.clone(), detail };
        }
        match self.refusal(call, answer) {
            RegistryError::NotFound { what } => {
                RegistryError::UploadLost { what, detail: answer.status.to_string() }
            }
            RegistryError::Refused { what, detail } if gone => RegistryError::UploadLost { what, detail },
            error => error,
        }
    }
}

fn lost(repo: &str, detail: String) -> RegistryError {
    RegistryError::UploadLost { what: format!("go on with an upload to {repo}"), detail }
}

/// The pieces from byte `skip` on; nothing is copied.
fn after(chunk: &[Bytes], mut skip: u64) -> Vec<Bytes> {
    let mut rest = Vec::with_capacity(chunk.len());
    for piece in chunk {
        let length = piece.len() as u64;
        if skip < length {
            rest.push(piece.slice(skip as usize..));
        }
        skip = skip.saturating_sub(length);
    }
    rest
}

/// The number of bytes in `0-41` or `bytes=0-41`. Registries write `0-0` for none and for one byte;
/// none is meant far more often, and the digest at the end tells the other case.
fn end_of(range: &str) -> Option<u64> {
    let (first, last) = range.trim().trim_start_matches("bytes=").split_once('-')?;
    let (first, last): (u64, u64) = (first.parse().ok()?, last.parse().ok()?);
    if first != 0 {
        return None;
    }
    Some(if last == 0 { 0 } else { last + 1 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_of_uploads_are_read() {
        for (text, want) in [
            ("0-0", Some(0)),
            ("0-41", Some(42)),
            ("bytes=0-41", Some(42)),
            ("5-9", None),
            ("", None),
            ("x-y", None),
        ] {
            assert_eq!(end_of(text), want, "{text}");
        }
    }

    #[test]
    fn the_rest_of_a_chunk_begins_where_the_registry_is() {
        let chunk = [Bytes::from_static(b"abc"), Bytes::from_static(b""), Bytes::from_static(b"defg")];
        let rest = |skip| after(&chunk, skip).concat();
        assert_eq!(rest(0), b"abcdefg");
        assert_eq!(rest(2), b"cdefg");
        assert_eq!(rest(3), b"defg");
        assert_eq!(rest(6), b"g");
        assert_eq!(rest(7), b"");
    }
}
