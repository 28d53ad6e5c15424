//! SIGTERM and SIGINT: the first asks for an orderly stop, the second does not wait for it.

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Cancels `shutdown` at the first signal; returns at the second.
pub(super) async fn twice(shutdown: &CancellationToken) {
    let (Ok(mut terminate), Ok(mut interrupt)) =
        (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        tracing::warn!("signals cannot be handled: a stop will not be orderly");
        return std::future::pending().await;
    };
    either(&mut terminate, &mut interrupt).await;
    tracing::info!("stopping; a second signal stops at once");
    shutdown.cancel();
    either(&mut terminate, &mut interrupt).await;
}

async fn either(terminate: &mut Signal, interrupt: &mut Signal) {
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}
