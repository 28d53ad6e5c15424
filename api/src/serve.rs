//! Serving the surface on a listener until the process is told to stop.

use crate::{Parts, router};
use tokio::net::TcpListener;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// Why serving ended.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The listener broke.
    #[error("the API's listener broke: {0}")]
    Listener(#[from] std::io::Error),
}

/// Serves until `shutdown` is cancelled. Calls in work are finished, within a limit; event streams end at once.
pub async fn serve(
    listener: TcpListener,
    parts: Parts,
    shutdown: CancellationToken,
) -> Result<(), ServeError> {
    let grace = parts.settings.limits.shutdown_grace;
    let surface = router(parts, shutdown.clone());
    let served = axum::serve(listener, surface).with_graceful_shutdown(shutdown.clone().cancelled_owned());
    let mut served = std::pin::pin!(served.into_future());
    tokio::select! {
        ended = &mut served => return Ok(ended?),
        () = shutdown.cancelled() => {}
    }
    let Ok(ended) = timeout(grace, served).await else {
        tracing::warn!("calls in work did not end in time and were cut off");
        return Ok(());
    };
    Ok(ended?)
}
