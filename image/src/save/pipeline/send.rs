//! The line to the registry: one streamed request, and after a cut another one from where the registry is.

use super::feed::Feed;
use crate::client::Registry;
use crate::error::RegistryError;
use crate::upload::Upload;
use std::time::Duration;

/// How often an upload goes on after a cut without having come further.
const RESUMES_MAX: u32 = 4;
/// Wait before the registry is asked how far it came, times the number of cuts: it must first notice.
const SETTLE: Duration = Duration::from_millis(250);
/// What counts as having come further, in bytes.
const FURTHER_BYTES: u64 = 1024 * 1024;
/// Longest time for taking an upload out of the registry. On its own clock: whoever gives up may be cancelled.
const GIVE_UP_LIMIT: Duration = Duration::from_secs(10);

/// Sends all that the feed brings.
pub(super) async fn send(registry: &Registry, upload: &mut Upload, feed: &Feed) -> Result<(), RegistryError> {
    let (mut cuts, mut best) = (0, 0);
    loop {
        if !feed.seek(upload.offset()) {
            let detail = format!("it went back to byte {}, which is no longer kept", upload.offset());
            return Err(RegistryError::UploadLost { what: what(upload), detail });
        }
        let error = match registry.patch_stream(upload, feed.pieces()).await {
            Ok(()) => return Ok(()),
            Err(error) => error,
        };
        cuts += 1;
        if !error.is_passing() || cuts > RESUMES_MAX {
            return Err(error);
        }
        tokio::time::sleep(SETTLE * cuts).await;
        // This also brings new credentials, when it was those that the registry wanted.
        let held = registry.upload_status(upload).await?;
        tracing::debug!(repo = %upload.repo(), held, cuts, %error, "a layer goes on at the registry's offset");
        if held >= best + FURTHER_BYTES {
            (cuts, best) = (0, held);
        }
    }
}

/// Takes an upload out of the registry. What cannot be taken out is dropped by the registry in time.
pub(super) async fn give_up(registry: &Registry, upload: Upload) {
    let what = what(&upload);
    match tokio::time::timeout(GIVE_UP_LIMIT, registry.cancel_upload(upload)).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::warn!(%what, %error, "an upload could not be taken out of the registry"),
        Err(_) => tracing::warn!(%what, "an upload could not be taken out of the registry in time"),
    }
}

fn what(upload: &Upload) -> String {
    format!("go on with an upload to {}", upload.repo())
}
