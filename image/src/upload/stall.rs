//! Notices when a stream that is being uploaded stands still.

use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::Duration;
use tokio::time::Instant;

/// Watches one stream on its way out.
#[derive(Debug, Clone)]
pub(super) struct Watch {
    state: Arc<Mutex<State>>,
    /// Longest silence while there are bytes to send, then while the registry works on them.
    limits: (Duration, Duration),
}

#[derive(Debug)]
struct State {
    last: Instant,
    bytes: u64,
    ended: bool,
}

impl Watch {
    pub(super) fn new(stall: Duration, finish: Duration) -> Self {
        let state = State { last: Instant::now(), bytes: 0, ended: false };
        Self { state: Arc::new(Mutex::new(state)), limits: (stall, finish) }
    }

    /// How many bytes went out.
    pub(super) fn bytes(&self) -> u64 {
        self.lock().bytes
    }

    /// Ends when nothing moved for too long, with the limit that was passed.
    pub(super) async fn silence(&self) -> Duration {
        loop {
            let (last, limit) = {
                let state = self.lock();
                (state.last, if state.ended { self.limits.1 } else { self.limits.0 })
            };
            if last.elapsed() >= limit {
                return limit;
            }
            tokio::time::sleep_until(last + limit).await;
        }
    }

    fn note(&self, piece: Option<&Bytes>) {
        let mut state = self.lock();
        state.last = Instant::now();
        state.bytes += piece.map_or(0, |p| p.len() as u64);
        state.ended = piece.is_none();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The same stream, watched. The line asks for the next piece only when it has room for it, so a piece
/// that leaves is a piece that moved.
pub(super) fn watched(
    pieces: impl Stream<Item = std::io::Result<Bytes>> + Send + 'static,
    watch: Watch,
) -> impl Stream<Item = std::io::Result<Bytes>> + Send + 'static {
    let end = watch.clone();
    pieces
        .inspect(move |piece| {
            if let Ok(piece) = piece {
                watch.note(Some(piece));
            }
        })
        .chain(stream::poll_fn(move |_| {
            end.note(None);
            Poll::Ready(None)
        }))
}
