//! Blobs written to a registry in chunks, at the place where the registry is.
//!
//! What registries do when a connection breaks inside a chunk differs. distribution 3 keeps what came
//! and says how much: the upload goes on there. docker-registry 2.8 drops the whole upload (its state
//! names the offset of the last chunk that it took whole): then there is
//! [`RegistryError::UploadLost`], and the blob starts from byte 0.

mod chunk;
mod finish;
mod stall;

use crate::answer::Answer;
use crate::client::{Call, Registry};
use crate::error::RegistryError;
use crate::oci::name::check_repository;
use mothball_domain::image::Digest;
use reqwest::header::{LOCATION, RANGE};
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

    /// What stays the same of it from its beginning to its end.
    pub fn name(&self) -> &str {
        self.location.path()
    }

    /// The repository that it goes to.
    pub fn repo(&self) -> &str {
        &self.repo
    }
}

/// Where uploads are written down while they go on: whoever comes after a process that was killed can take them out of the
/// registry with [`Registry::drop_upload`].
pub trait UploadLog: std::fmt::Debug + Send + Sync {
    /// An upload was begun, or came further: it may have another location now.
    fn goes_on(&self, upload: &Upload);
    /// An upload is over: ended, cancelled, or lost.
    fn over(&self, upload: &Upload);
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

    /// Gives an upload up, so that the registry can drop its bytes. An upload that is gone is fine.
    pub async fn cancel_upload(&self, upload: Upload) -> Result<(), RegistryError> {
        let what = format!("cancel an upload to {}", upload.repo);
        let call = self.call(Method::DELETE, upload.location.clone(), what).scope(&upload.repo, "pull,push");
        let answer = self.send(&call).await?;
        if !answer.status.is_success() {
            let error = self.upload_refusal(&call, &answer);
            if !matches!(error, RegistryError::UploadLost { .. }) {
                return Err(error);
            }
        }
        self.over(&upload);
        Ok(())
    }

    /// Gives up an upload that another process has begun, by where that was. Idempotent. docker-registry 2.8 lets go only of
    /// one that got no bytes since (tried): with bytes, it takes the location of its last answer and nothing else, and drops
    /// the upload by itself after a week.
    pub async fn drop_upload(&self, repo: &str, location: &str) -> Result<(), RegistryError> {
        check_repository(repo)?;
        let location = self.follow("cancel an upload", location)?;
        self.cancel_upload(Upload { repo: repo.to_owned(), location, offset: 0 }).await
    }

    /// Notes that an upload is over.
    fn over(&self, upload: &Upload) {
        if let Some(log) = &self.log {
            log.over(upload);
        }
    }

    fn begun(&self, repo: &str, what: &str, location: Option<&str>) -> Result<Upload, RegistryError> {
        let location = location.ok_or_else(|| RegistryError::Protocol {
            what: what.to_owned(),
            detail: "it does not say where".to_owned(),
        })?;
        let upload = Upload { repo: repo.to_owned(), location: self.follow(what, location)?, offset: 0 };
        if let Some(log) = &self.log {
            log.goes_on(&upload);
        }
        Ok(upload)
    }

    /// What a refusal means in the middle of an upload.
    fn upload_refusal(&self, call: &Call, answer: &Answer) -> RegistryError {
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
    use super::end_of;

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
}
