//! The worker role: one per node; claims, runs and settles jobs.
//!
//! | room | what is in it |
//! |---|---|
//! | [`consume`] | intake: a free slot, a wake-up, a claim, the acknowledgement |
//! | [`run`](mod@run) | one job: lease kept, steps taken, outcome written |
//! | [`snapshot`], [`delete`], [`launch`], [`delete_image`], [`restore_image`], [`purge_image`], [`power`] | the steps of each kind of job |
//! | [`survey`] | looks at containers before a save, beside the jobs |
//! | [`freeze`], [`guard`], [`journal`] | freezing a container, and thawing it whatever happens |
//! | [`uploads`] | what was begun in the registry, so that it is taken out of it again whatever happens |
//! | [`node`](mod@node), [`heartbeat`], [`observe`], [`reconcile`], [`identity`], [`lock`] | the node this worker stands for |
//! | [`way`] | whether layers are read and filled by the worker itself, or by Docker Engine |
//! | [`usage`] | what the containers use, and for how long they have been idle |
//! | [`bases`], [`indexes`] | what is kept between saves: the images that containers are made of, and what their last images hold |
//! | [`docker`], [`gpus`] | Docker Engine and the GPUs |

mod adopted;
mod attempt;
mod bases;
mod consume;
mod delete;
mod delete_image;
pub mod docker;
mod freeze;
pub mod gpus;
pub mod guard;
mod halt;
mod heartbeat;
pub mod identity;
mod indexes;
mod journal;
mod launch;
mod lease;
pub mod lock;
mod meter;
mod metrics;
mod node;
mod observe;
mod power;
mod purge_image;
mod reconcile;
mod restore_image;
mod run;
mod settings;
mod snapshot;
mod survey;
mod uploads;
mod usage;
mod way;

pub use metrics::Metrics;
pub use node::StartError;
pub use settings::{Parts, Settings, SnapshotMode};

use std::sync::Arc;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Runs the worker until `shutdown`: running jobs are then interrupted in order, which costs them no attempt. Returns
/// early only when this worker must not run here; what may pass (Docker, the store or the broker is away) is waited for.
pub async fn run(parts: Parts, shutdown: CancellationToken) -> Result<(), StartError> {
    let uploads = uploads::Uploads::new(&parts.settings.state_dir);
    let parts =
        Parts { registry: parts.registry.clone().with_upload_log(Arc::new(uploads.clone())), ..parts };
    let (node, info) = match node::NodeContext::establish(&parts, &shutdown).await {
        Err(StartError::Stopped) => return Ok(()),
        done => done?,
    };
    match node.register(&parts, &info, &shutdown).await {
        Err(StartError::Stopped) => return Ok(()),
        done => done?,
    }
    tracing::info!(node = %node.run.name, node.uid = %node.run.uid, gpus = node.gpus.len(), "node registered");
    reconcile::run(&parts, &node, &uploads).await;
    parts.ready.send_replace(true);

    let (parts, node) = (Arc::new(parts), Arc::new(node));
    let beating = CancellationToken::new();
    let superseded = shutdown.child_token();
    let work = async {
        consume::run(Arc::clone(&parts), Arc::clone(&node), superseded.clone()).await;
        beating.cancel();
    };
    let (seen, beats) = watch::channel(heartbeat::Seen { info, strays: Vec::new() });
    // The node goes on to beat while its last jobs clean up.
    tokio::join!(
        work,
        survey::run(Arc::clone(&parts), Arc::clone(&node), superseded.clone()),
        heartbeat::run(Arc::clone(&parts), Arc::clone(&node), beats, superseded.clone(), beating.clone()),
        observe::run(Arc::clone(&parts), Arc::clone(&node), seen, beating.clone()),
        usage::run(Arc::clone(&parts), Arc::clone(&node), beating.clone()),
        reconcile::sweep(&parts, &node, &uploads, beating.clone()),
    );
    parts.ready.send_replace(false);
    if superseded.is_cancelled() && !shutdown.is_cancelled() {
        return Err(StartError::Superseded(node.run.name.to_string()));
    }
    if let Err(error) = parts.store.node_stopped(&node.run).await {
        tracing::warn!(error = %error, "the node could not sign off");
    }
    Ok(())
}
