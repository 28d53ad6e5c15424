//! Docker push.

use super::progress::{Layers, Line};
use super::pull::from_registry;
use super::wire::{Ask, Lines, encode, encode_repository};
use super::{DockerError, Engine, PushProgress, RegistryAuth, auth};
use hyper::Method;
use tokio_util::sync::CancellationToken;

const WHAT: &str = "push image";

/// What a push put into the registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pushed {
    /// The manifest's digest.
    pub digest: String,
    /// Bytes of the manifest.
    pub size: u64,
}

impl Engine {
    /// Pushes `repository:tag`. Idempotent: layers go by digest. Docker tells the digest in the last line; without it
    /// the push failed, however the stream ended. A cancel, or dropping the future, stops it in Docker too.
    pub async fn push(
        &self,
        repository: &str,
        tag: &str,
        auth: Option<&RegistryAuth>,
        mut progress: impl FnMut(PushProgress) + Send,
        cancel: &CancellationToken,
    ) -> Result<Pushed, DockerError> {
        let ask = Ask {
            what: WHAT,
            method: Method::POST,
            path: format!("/images/{}/push?tag={}", encode_repository(repository), encode(tag)),
            auth: Some(auth::header(auth)?),
            head: self.limits.stream_idle,
            idle: Some(self.limits.stream_idle),
        };
        let work = async {
            let image = self.image(&format!("{repository}:{tag}")).await?;
            let mut layers = Layers::of_image(image.map_or(0, |i| i.size_bytes));
            let mut lines = self.stream(ask).await.map_err(|e| from_registry(e, WHAT, auth))?;
            read(&mut lines, &mut layers, auth, &mut progress).await
        };
        tokio::select! {
            biased;
            () = cancel.cancelled() => Err(DockerError::Cancelled { what: WHAT }),
            done = work => done,
        }
    }
}

async fn read(
    lines: &mut Lines,
    layers: &mut Layers,
    auth: Option<&RegistryAuth>,
    progress: &mut (impl FnMut(PushProgress) + Send),
) -> Result<Pushed, DockerError> {
    let mut pushed = None;
    while let Some(line) = lines.next::<Line>().await? {
        let line = line.into_result(WHAT, auth)?;
        if layers.take(&line) {
            progress(layers.push());
        }
        if let Some((digest, size)) = line.pushed() {
            pushed = Some(Pushed { digest, size });
        }
    }
    pushed.ok_or(DockerError::Cut { what: WHAT })
}
