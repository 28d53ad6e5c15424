//! The queue in this process keeps the contract.

use mothball_queue::{Queue, contract};

#[tokio::test]
async fn the_local_queue_keeps_every_clause() -> anyhow::Result<()> {
    contract::check_all(|_| Queue::local()).await
}
