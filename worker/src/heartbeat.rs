//! The node's heartbeat. It waits for nobody: Docker may be slow, the node is alive all the same.

use crate::docker::EngineInfo;
use crate::node::NodeContext;
use crate::settings::Parts;
use std::sync::Arc;
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

/// What the last look at Docker showed.
#[derive(Debug, Clone, Default)]
pub(crate) struct Seen {
    pub(crate) info: EngineInfo,
    /// Docker containers that carry our labels and that the store does not know.
    pub(crate) strays: Vec<String>,
}

/// Beats until `ended`. When the node's name turns out to be another's, cancels `superseded`.
pub(crate) async fn run(
    parts: Arc<Parts>,
    node: Arc<NodeContext>,
    seen: watch::Receiver<Seen>,
    superseded: CancellationToken,
    ended: CancellationToken,
) {
    let mut ticks = interval(parts.settings.heartbeat);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            biased;
            () = ended.cancelled() => return,
            _ = ticks.tick() => {}
        }
        let seen = seen.borrow().clone();
        let report = node.report(&parts.settings, &seen.info);
        match parts.store.heartbeat(&node.run, &report, &seen.strays).await {
            Ok(true) => {
                parts.ready.send_if_modified(|ready| !std::mem::replace(ready, true));
            }
            Ok(false) => unknown(&parts, &node, &seen.info, &superseded).await,
            Err(error) => tracing::warn!(error = %error, "the heartbeat could not be written"),
        }
    }
}

/// The store does not know this run of the worker: the node was forgotten, or another one has its name.
async fn unknown(parts: &Parts, node: &NodeContext, info: &EngineInfo, superseded: &CancellationToken) {
    parts.ready.send_if_modified(|ready| std::mem::replace(ready, false));
    match parts.store.node(&node.run.name).await {
        Ok(None) => {
            tracing::warn!(node = %node.run.name, "the node was forgotten while its worker runs; registering it again");
            if let Err(error) =
                parts.store.register_node(&node.run, &node.report(&parts.settings, info)).await
            {
                tracing::warn!(error = %error, "the node could not be registered again; trying again");
            }
        }
        Ok(Some(other)) => {
            tracing::error!(node = %node.run.name, node.uid = %other.uid, "another worker has this node's name: stopping");
            superseded.cancel();
        }
        Err(error) => tracing::warn!(error = %error, "the store cannot say whose the node is"),
    }
}
