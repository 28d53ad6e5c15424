//! Docker pull.

use super::progress::{Layers, Line};
use super::wire::{Ask, Lines, encode};
use super::{DockerError, Engine, ImageFacts, PullProgress, RegistryAuth, auth};
use hyper::Method;
use tokio_util::sync::CancellationToken;

const WHAT: &str = "pull image";

impl Engine {
    /// Brings an image to the node, by tag or digest; without either, `latest`. Idempotent. Reads Docker's answer to
    /// its end, because an error can come after a status of 200, and looks that the image is really there.
    /// A cancel, or dropping the future, stops it in Docker too.
    pub async fn pull(
        &self,
        reference: &str,
        auth: Option<&RegistryAuth>,
        mut progress: impl FnMut(PullProgress) + Send,
        cancel: &CancellationToken,
    ) -> Result<ImageFacts, DockerError> {
        // Without a tag Docker would pull every tag of the repository.
        let reference =
            if has_tag_or_digest(reference) { reference.to_owned() } else { format!("{reference}:latest") };
        let ask = Ask {
            what: WHAT,
            method: Method::POST,
            path: format!("/images/create?fromImage={}", encode(&reference)),
            auth: Some(auth::header(auth)?),
            head: self.limits.stream_idle,
            idle: Some(self.limits.stream_idle),
        };
        let work = async {
            let mut lines = self.stream(ask).await.map_err(|e| from_registry(e, WHAT, auth))?;
            read(&mut lines, auth, &mut progress).await
        };
        tokio::select! {
            biased;
            () = cancel.cancelled() => return Err(DockerError::Cancelled { what: WHAT }),
            done = work => done?,
        }
        self.image(&reference).await?.ok_or(DockerError::Cut { what: WHAT })
    }
}

async fn read(
    lines: &mut Lines,
    auth: Option<&RegistryAuth>,
    progress: &mut (impl FnMut(PullProgress) + Send),
) -> Result<(), DockerError> {
    let mut layers = Layers::default();
    while let Some(line) = lines.next::<Line>().await? {
        if layers.take(&line.into_result(WHAT, auth)?) {
            progress(layers.pull());
        }
    }
    Ok(())
}

/// An error that came as a status but was the registry's: Docker asks the registry before it answers at all.
pub(super) fn from_registry(
    error: DockerError,
    what: &'static str,
    auth: Option<&RegistryAuth>,
) -> DockerError {
    match error {
        DockerError::Refused { message, .. } => {
            DockerError::Transfer { what, message: auth::blot(&message, auth) }
        }
        other => other,
    }
}

fn has_tag_or_digest(reference: &str) -> bool {
    let last = reference.rsplit('/').next().unwrap_or_default();
    last.contains([':', '@'])
}

#[cfg(test)]
mod tests {
    use super::has_tag_or_digest;

    #[test]
    fn the_port_of_a_registry_is_no_tag() {
        assert!(!has_tag_or_digest("127.0.0.1:5000/base") && !has_tag_or_digest("base"));
        assert!(has_tag_or_digest("127.0.0.1:5000/base:1") && has_tag_or_digest("r/base@sha256:ab"));
    }
}
