//! Sends the bytes of an upload: chunk by chunk, or as one stream.

use super::stall::{self, Watch};
use super::{RESUMES_MAX, SETTLE, Upload, end_of, lost};
use crate::answer::Answer;
use crate::client::{Call, Once, Registry};
use crate::error::RegistryError;
use bytes::Bytes;
use futures_util::Stream;
use reqwest::header::{CONTENT_RANGE, CONTENT_TYPE, LOCATION, RANGE};
use reqwest::{Body, Method};
use std::time::Duration;

/// Longest time for one stream; far beyond any, since silence ends it earlier.
const STREAM_MAX: Duration = Duration::from_hours(24 * 7);

impl Registry {
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
        let call = self
            .patch_call(upload, what)
            .header(CONTENT_RANGE, &format!("{}-{}", upload.offset, end - 1))
            .body(rest);
        let answer = self.send(&call).await?;
        self.patched(upload, &call, &answer)?;
        // Taken means taken whole, unless the registry says that it took a part. Its number is not trusted
        // further: some count one too many, all write the same for none and for one. The digest decides.
        let part =
            answer.header(RANGE).and_then(end_of).filter(|held| (upload.offset + 1..end).contains(held));
        upload.offset = part.unwrap_or(end);
        Ok(())
    }

    /// Appends all bytes of a stream in one request, at the full speed of the line and without holding
    /// more than a few pieces in memory (docker-registry takes 64 MiB chunks at 85 % of that speed, 4 MiB
    /// chunks at half of it). A stream cannot be sent twice: after an error,
    /// [`upload_status`](Self::upload_status) says where the caller goes on, if the registry has kept it.
    /// There is no limit on the whole, but one on silence: of the source, of the line and of the registry.
    pub async fn patch_stream(
        &self,
        upload: &mut Upload,
        pieces: impl Stream<Item = std::io::Result<Bytes>> + Send + 'static,
    ) -> Result<(), RegistryError> {
        let watch = Watch::new(self.settings().stall_timeout, self.settings().finish_timeout);
        let body = Body::wrap_stream(stall::watched(pieces, watch.clone()));
        let what = format!("upload from byte {} on to {}", upload.offset, upload.repo);
        let mut call = self.patch_call(upload, what);
        call.once = Once::new(body);
        call.timeout = STREAM_MAX;
        let answer = tokio::select! {
            answer = self.send(&call) => answer?,
            limit = watch.silence() => return Err(RegistryError::Timeout { what: call.what, limit }),
        };
        self.patched(upload, &call, &answer)?;
        upload.offset += watch.bytes();
        Ok(())
    }

    fn patched(&self, upload: &mut Upload, call: &Call, answer: &Answer) -> Result<(), RegistryError> {
        if !answer.status.is_success() {
            return Err(self.upload_refusal(call, answer));
        }
        if let Some(location) = answer.header(LOCATION) {
            upload.location = self.follow(&call.what, location)?;
        }
        if let Some(log) = &self.log {
            log.goes_on(upload);
        }
        Ok(())
    }

    fn patch_call(&self, upload: &Upload, what: String) -> Call {
        let mut call = self
            .call(Method::PATCH, upload.location.clone(), what)
            .scope(&upload.repo, "pull,push")
            .header(CONTENT_TYPE, "application/octet-stream");
        // Sent blindly once more it would be appended twice.
        call.repeat = false;
        call
    }
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

#[cfg(test)]
mod tests {
    use super::*;

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
