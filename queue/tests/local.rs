//! The queue in this process keeps the contract.

use mothball_domain::id::JobId;
use mothball_queue::{Queue, Target, contract};
use tokio_util::sync::CancellationToken;

#[tokio::test]
async fn the_local_queue_keeps_every_clause() -> anyhow::Result<()> {
    contract::check_all(|_| Queue::local()).await
}

/// Roles run these in tasks, which needs futures that may move between threads.
#[test]
fn futures_may_move_between_threads() {
    fn movable<T: Send>(_: &T) {}
    let queue = Queue::local();
    let mut subscription = queue.subscribe(vec![Target::Any], 1, CancellationToken::new());
    movable(&queue.wake(&Target::Any, JobId(uuid::Uuid::nil())));
    movable(&queue.declare(&Target::Any));
    movable(&queue.health());
    movable(&queue.dead_letters(1));
    movable(&queue.close());
    movable(&async move { subscription.recv().await?.ack().await.ok() });
}
