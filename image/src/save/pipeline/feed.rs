//! Compressed blocks on their way into a request, with the last ones kept: after a cut the upload goes on where
//! the registry is, when that is not too far back.

use super::pool::Packed;
use super::progress::Count;
use bytes::Bytes;
use futures_util::{Stream, stream};
use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use tokio::sync::mpsc::Receiver;

/// Bytes kept after they were sent: more than what lies in the buffers of both ends' sockets.
pub(super) const WINDOW_BYTES: usize = 8 * 1024 * 1024;
/// Blobs up to this size are looked up by their digest before they are sent.
const SMALL_BYTES: u64 = 4 * 1024 * 1024;

/// A layer's compressed blocks. Clones are the same feed.
#[derive(Clone)]
pub(super) struct Feed {
    state: Arc<Mutex<State>>,
}

struct State {
    blocks: Receiver<Packed>,
    /// Blocks that were taken, of which the first begins at `start`.
    window: VecDeque<Bytes>,
    start: u64,
    end: u64,
    /// Where the request is.
    position: u64,
    /// Which request: an older one that still breathes gets nothing.
    request: u32,
    closed: bool,
    count: Arc<Count>,
}

impl Feed {
    pub(super) fn new(blocks: Receiver<Packed>, count: Arc<Count>) -> Self {
        let window = VecDeque::new();
        let state = State { blocks, window, start: 0, end: 0, position: 0, request: 0, closed: false, count };
        Self { state: Arc::new(Mutex::new(state)) }
    }

    /// Takes a small blob in whole, before anything is sent. Whether it was small.
    pub(super) async fn is_small(&self) -> bool {
        std::future::poll_fn(|context| {
            let mut state = self.lock();
            loop {
                if state.end > SMALL_BYTES {
                    return Poll::Ready(false);
                }
                if ready!(state.take(context)).is_none() {
                    return Poll::Ready(true);
                }
            }
        })
        .await
    }

    /// Bytes taken so far; after the last block, the blob's size.
    pub(super) fn taken(&self) -> u64 {
        self.lock().end
    }

    /// Goes to `offset` for the next request. Whether that was possible: what is no longer kept, and what does not
    /// exist, cannot be sent.
    pub(super) fn seek(&self, offset: u64) -> bool {
        let mut state = self.lock();
        state.request += 1;
        let possible = (state.start..=state.end).contains(&offset);
        if possible {
            state.position = offset;
        }
        possible
    }

    /// The bytes from where it is on, for one request.
    pub(super) fn pieces(&self) -> impl Stream<Item = io::Result<Bytes>> + Send + 'static + use<> {
        let feed = self.clone();
        let request = self.lock().request;
        stream::poll_fn(move |context| {
            let mut state = feed.lock();
            if state.request != request {
                return Poll::Ready(Some(Err(io::Error::other("another request goes on with this upload"))));
            }
            state.next(context).map(|piece| piece.map(Ok))
        })
    }

    /// Takes nothing any more and ends the request as if this were all: docker-registry 2.8 takes an upload back only
    /// after a request that ended well. Whoever makes blocks for it ends.
    pub(super) fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        state.blocks.close();
        while state.blocks.try_recv().is_ok() {}
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn next(&mut self, context: &mut Context<'_>) -> Poll<Option<Bytes>> {
        if self.closed {
            return Poll::Ready(None);
        }
        if self.position == self.end && ready!(self.take(context)).is_none() {
            return Poll::Ready(None);
        }
        let mut begin = self.start;
        for piece in &self.window {
            let end = begin + piece.len() as u64;
            if self.position < end {
                let rest = piece.slice((self.position - begin) as usize..);
                self.position = end;
                self.count.sent(rest.len() as u64);
                return Poll::Ready(Some(rest));
            }
            begin = end;
        }
        Poll::Ready(None)
    }

    /// Takes one block into the window, and lets go of what is too far back.
    fn take(&mut self, context: &mut Context<'_>) -> Poll<Option<()>> {
        let Some(Packed { bytes, leave }) = ready!(self.blocks.poll_recv(context)) else {
            return Poll::Ready(None);
        };
        drop(leave);
        self.end += bytes.len() as u64;
        self.window.push_back(bytes);
        while self.end - self.start > WINDOW_BYTES as u64 {
            let Some(first) = self.window.front().map(|piece| piece.len() as u64) else { break };
            // Nothing is let go of before it was sent.
            if self.start + first > self.position {
                break;
            }
            self.window.pop_front();
            self.start += first;
        }
        Poll::Ready(Some(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::save::pipeline::progress::Progress;
    use futures_util::StreamExt as _;
    use tokio::sync::{Semaphore, mpsc};

    fn piece(fill: u8, length: usize) -> Packed {
        let leave = Arc::new(Semaphore::new(1)).try_acquire_owned().unwrap();
        Packed { bytes: vec![fill; length].into(), leave }
    }

    async fn all(feed: &Feed) -> Vec<u8> {
        let mut pieces = std::pin::pin!(feed.pieces());
        let mut bytes = Vec::new();
        while let Some(piece) = pieces.next().await {
            bytes.extend_from_slice(&piece.unwrap());
        }
        bytes
    }

    #[tokio::test]
    async fn a_request_goes_on_inside_a_block() {
        let (sender, blocks) = mpsc::channel(8);
        let feed = Feed::new(blocks, Progress::default().count());
        for fill in 1..=3 {
            sender.send(piece(fill, 10)).await.unwrap();
        }
        let first = feed.pieces();
        assert!(std::pin::pin!(first).next().await.unwrap().is_ok());
        drop(sender);
        assert!(feed.seek(5), "the registry kept half of the first block");
        let mut want = vec![1; 5];
        want.extend([2; 10]);
        want.extend([3; 10]);
        assert_eq!(all(&feed).await, want);
        assert!(feed.seek(30) && !feed.seek(31));
        assert_eq!((feed.taken(), all(&feed).await.len()), (30, 0));
    }

    #[tokio::test]
    async fn an_older_request_gets_nothing_and_the_window_has_an_end() {
        let (sender, blocks) = mpsc::channel(40);
        let feed = Feed::new(blocks, Progress::default().count());
        for fill in 0..20 {
            sender.send(piece(fill, 1024 * 1024)).await.unwrap();
        }
        drop(sender);
        assert!(!feed.is_small().await);
        let mut old = std::pin::pin!(feed.pieces());
        assert!(feed.seek(0));
        assert!(old.next().await.unwrap().is_err());
        assert_eq!(all(&feed).await.len(), 20 * 1024 * 1024);
        assert!(feed.seek(12 * 1024 * 1024) && !feed.seek(11 * 1024 * 1024));
        let want: Vec<u8> = (12..20).flat_map(|fill| vec![fill; 1024 * 1024]).collect();
        assert!(all(&feed).await == want);
    }

    #[tokio::test]
    async fn a_closed_feed_ends_its_request() {
        let (sender, blocks) = mpsc::channel(2);
        let feed = Feed::new(blocks, Progress::default().count());
        for _ in 0..2 {
            sender.send(piece(1, 100)).await.unwrap();
        }
        let mut pieces = std::pin::pin!(feed.pieces());
        assert!(pieces.next().await.unwrap().is_ok());
        feed.close();
        assert!(pieces.next().await.is_none() && sender.is_closed());
    }

    #[tokio::test]
    async fn a_small_blob_is_taken_whole_and_sent_from_its_beginning() {
        let (sender, blocks) = mpsc::channel(2);
        let feed = Feed::new(blocks, Progress::default().count());
        sender.send(piece(1, 100)).await.unwrap();
        drop(sender);
        assert!(feed.is_small().await);
        assert_eq!((feed.taken(), all(&feed).await), (100, vec![1; 100]));
    }
}
