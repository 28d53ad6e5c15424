//! Serving the surface on a listener until the process is told to stop.

use crate::{Limits, Parts, router};
use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

/// Why serving ended.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The listener broke.
    #[error("the API's listener broke: {0}")]
    Listener(#[from] io::Error),
}

/// How long is waited after an accept that failed for want of something, such as file descriptors.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// Serves until `shutdown` is cancelled. Calls in work are finished, within a limit; event streams end at once.
///
/// Not `axum::serve`: that lets a silent client keep its connection for ever, and any number of them.
pub async fn serve(
    listener: TcpListener,
    parts: Parts,
    shutdown: CancellationToken,
) -> Result<(), ServeError> {
    let limits = parts.settings.limits;
    serve_router(listener, router(parts, shutdown.clone()), limits, shutdown).await
}

/// Serves any router in the same way: for health calls on a listener of their own.
pub async fn serve_router(
    listener: TcpListener,
    router: Router,
    limits: Limits,
    shutdown: CancellationToken,
) -> Result<(), ServeError> {
    let seats = Arc::new(Semaphore::new(limits.connections.clamp(1, Semaphore::MAX_PERMITS)));
    let mut connections = JoinSet::new();
    loop {
        // All three can be dropped half-way without losing a connection.
        let accepted = tokio::select! {
            accepted = accept(&seats, &listener) => accepted,
            Some(_) = connections.join_next() => continue,
            () = shutdown.cancelled() => break,
        };
        match accepted {
            Ok((stream, seat)) => {
                let served = connection(stream, router.clone(), limits.head_timeout, shutdown.clone());
                connections.spawn(async move {
                    served.await;
                    drop(seat);
                });
            }
            Err(error) if is_of_one_connection(&error) => {}
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => return Err(error.into()),
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                sleep(ACCEPT_RETRY).await;
            }
        }
    }
    drop(listener);
    let all_ended = async { while connections.join_next().await.is_some() {} };
    if timeout(limits.shutdown_grace, all_ended).await.is_err() {
        tracing::warn!("calls in work did not end in time and are cut off");
        connections.shutdown().await;
    }
    Ok(())
}

async fn accept(
    seats: &Arc<Semaphore>,
    listener: &TcpListener,
) -> io::Result<(TcpStream, OwnedSemaphorePermit)> {
    let closed = |_| io::Error::from(io::ErrorKind::InvalidInput);
    let seat = Arc::clone(seats).acquire_owned().await.map_err(closed)?;
    let (stream, _) = listener.accept().await?;
    Ok((stream, seat))
}

/// One client's calls, one after the other.
async fn connection(stream: TcpStream, router: Router, head_timeout: Duration, shutdown: CancellationToken) {
    // Answers are small and waited for.
    let _ = stream.set_nodelay(true);
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(head_timeout);
    let connection = http.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = shutdown.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection broke");
    }
}

/// The client went away before it was accepted.
fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind as K;
    matches!(error.kind(), K::ConnectionAborted | K::ConnectionReset | K::ConnectionRefused)
}
