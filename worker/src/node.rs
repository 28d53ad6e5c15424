//! The node: who it is, registered by compare-and-set, and its heartbeat.

use crate::bases::{Base, Bases};
use crate::docker::EngineInfo;
use crate::identity::{IdentityError, NodeIdentity};
use crate::indexes::Indexes;
use crate::journal::FreezeJournal;
use crate::lock::FileLock;
use crate::settings::{Parts, Settings};
use crate::survey::{MountLooks, Rates};
use crate::way::Reach;
use mothball_domain::node::{Gpu, NodeReport};
use mothball_image::save::{BaseCache, Pool, PoolSettings};
use mothball_store::{NodeRun, Registered, StoreError};
use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// How long a predecessor that is about to stop is waited for.
const PREDECESSOR: Duration = Duration::from_secs(30);
/// The longest wait between two tries to reach Docker or the store at start-up.
const AGAIN_MAX: Duration = Duration::from_secs(5);

/// Why a worker cannot start. Everything that may pass is waited for instead.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Another Docker has the node's name.
    #[error(
        "node {name} is registered to another Docker (uid {uid}): give this worker another `worker.node`, or forget the old node with `mothball nodes forget {name}`"
    )]
    NameTaken {
        /// The name.
        name: String,
        /// The other Docker's uid.
        uid: String,
    },
    /// Another worker process runs for this Docker.
    #[error("another worker runs for this Docker already: {0}")]
    SecondWorker(#[source] crate::lock::LockError),
    /// The node's uid cannot be kept.
    #[error("the node's identity cannot be kept: {0}")]
    Identity(#[from] IdentityError),
    /// A record of the store is damaged or its settings are wrong.
    #[error("register the node: {0}")]
    Store(StoreError),
    /// Another worker registered under the node's name while this one ran.
    #[error("another worker has taken the name of node {0}: give each worker its own `worker.node`")]
    Superseded(String),
    /// The system gives no threads.
    #[error("start the threads that compress: {0}")]
    Threads(#[source] std::io::Error),
    /// The worker was told to stop before it had started.
    #[error("the worker was stopped before it had started")]
    Stopped,
}

/// What is known of the node while this worker runs.
#[derive(Debug)]
pub(crate) struct NodeContext {
    pub(crate) run: NodeRun,
    pub(crate) gpus: Vec<Gpu>,
    pub(crate) locks_dir: PathBuf,
    /// Whether layers can be read and filled from here.
    pub(crate) reach: Reach,
    /// What is kept of the images that its containers are made of.
    pub(crate) bases: Bases,
    /// The looks at mounts that are under way.
    pub(crate) mount_looks: MountLooks,
    /// How fast it saved lately.
    pub(crate) rates: Rates,
    /// What its containers' last images hold.
    pub(crate) indexes: Indexes,
    /// Which blobs of the registry the layers of bases are.
    pub(crate) base_cache: BaseCache,
    /// Threads and memory for layers on their way to the registry, whichever job's.
    pub(crate) pool: Arc<Pool>,
    gpu_note: Option<String>,
    data_root: PathBuf,
    frozen: Arc<Mutex<HashSet<String>>>,
    _lock: FileLock,
}

impl NodeContext {
    /// Waits for Docker, finds out who this node is, and takes its lock.
    pub(crate) async fn establish(
        parts: &Parts,
        shutdown: &CancellationToken,
    ) -> Result<(Self, EngineInfo), StartError> {
        let info =
            wait_for(shutdown, "Docker Engine does not answer; waiting for it", || parts.engine.info())
                .await?;
        let data_root = PathBuf::from(&info.data_root);
        let visible = parts.engine.is_local().then_some(data_root.as_path());
        let identity = NodeIdentity::establish(visible, &parts.settings.state_dir)?;
        // What is kept between saves lies there, and what a frozen pass sets aside.
        let made = std::fs::create_dir_all(&parts.settings.state_dir);
        made.map_err(|source| IdentityError::Io { path: parts.settings.state_dir.clone(), source })?;
        let seen_root = identity.in_data_root.then(|| data_root.clone());
        let reach = Reach::find(parts.settings.snapshot, seen_root);
        let lock =
            FileLock::node(&identity.locks_dir, PREDECESSOR).await.map_err(StartError::SecondWorker)?;
        let inventory = parts.settings.gpus;
        let list = tokio::task::spawn_blocking(move || inventory.list()).await.unwrap_or_default();
        let run = NodeRun {
            name: parts.settings.node.clone(),
            uid: identity.uid,
            instance: Uuid::new_v4().to_string(),
        };
        let context = Self {
            run,
            gpus: list.gpus,
            gpu_note: list.note,
            locks_dir: identity.locks_dir,
            reach,
            bases: Bases::new(&parts.settings.state_dir),
            mount_looks: MountLooks::default(),
            rates: Rates::new(&parts.settings.state_dir),
            indexes: Indexes::new(&parts.settings.state_dir),
            base_cache: BaseCache::open(&parts.settings.state_dir.join("base-layers.json")),
            pool: Arc::new(Pool::new(PoolSettings::default()).map_err(StartError::Threads)?),
            data_root,
            frozen: Arc::default(),
            _lock: lock,
        };
        Ok((context, info))
    }

    /// Registers the node, waiting for a store that is away.
    pub(crate) async fn register(
        &self,
        parts: &Parts,
        info: &EngineInfo,
        shutdown: &CancellationToken,
    ) -> Result<(), StartError> {
        let report = self.report(&parts.settings, info);
        let registered = wait_for(shutdown, "the store does not answer; waiting for it", || {
            let (store, run, report) = (&parts.store, &self.run, &report);
            async move {
                match store.register_node(run, report).await {
                    Err(error @ (StoreError::Unavailable(_) | StoreError::Contended(_))) => Err(error),
                    done => Ok(done),
                }
            }
        })
        .await?;
        match registered.map_err(StartError::Store)? {
            Registered::Yes(_) => Ok(()),
            Registered::Refused(uid) => Err(StartError::NameTaken { name: self.run.name.to_string(), uid }),
        }
    }

    /// What the node reports now.
    pub(crate) fn report(&self, settings: &Settings, info: &EngineInfo) -> NodeReport {
        let (disk_free_bytes, disk_total_bytes) = disk(&self.data_root).unwrap_or((0, 0));
        NodeReport {
            docker_version: info.version.clone(),
            storage_driver: info.storage_driver.clone(),
            snapshot: self.reach.of_node(info),
            cpus: info.cpus,
            memory_bytes: info.memory_bytes,
            disk_free_bytes,
            disk_total_bytes,
            gpus: self.gpus.clone(),
            gpu_note: self.gpu_note.clone(),
            concurrency: u32::from(settings.concurrency),
            version: settings.version.clone(),
        }
    }

    /// Free bytes on the disk of Docker's data root; none where it cannot be seen from here.
    pub(crate) fn disk_free_bytes(&self) -> Option<u64> {
        disk(&self.data_root).map(|(free, _)| free)
    }

    /// What is kept of an image, or can be: none where it is gone, or Docker's data root is not seen from here.
    pub(crate) fn base(&self, image_id: &str) -> Option<Base> {
        let kept = self.bases.keep(self.reach.data_root()?, image_id);
        kept.unwrap_or_else(|error| {
            tracing::warn!(image = image_id, error = %error, "an image's config could not be kept");
            None
        })
    }

    /// Docker ids of containers that this very process holds frozen, or is about to.
    pub(crate) fn frozen_now(&self) -> HashSet<String> {
        self.frozen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Notes, until it is dropped, that this process sees to the container's thaw itself.
    pub(crate) fn see_to(&self, docker_id: &str) -> SeenTo {
        self.frozen.lock().unwrap_or_else(PoisonError::into_inner).insert(docker_id.to_owned());
        SeenTo { frozen: Arc::clone(&self.frozen), docker_id: docker_id.to_owned() }
    }

    /// The list of containers that this node's workers froze.
    pub(crate) fn journal(&self) -> FreezeJournal {
        FreezeJournal::new(&self.locks_dir)
    }
}

/// See [`NodeContext::see_to`].
#[derive(Debug)]
pub(crate) struct SeenTo {
    frozen: Arc<Mutex<HashSet<String>>>,
    docker_id: String,
}

impl Drop for SeenTo {
    fn drop(&mut self) {
        self.frozen.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.docker_id);
    }
}

/// Free and all bytes of the disk that holds `path`.
fn disk(path: &Path) -> Option<(u64, u64)> {
    let stat = rustix::fs::statvfs(path).ok()?;
    Some((stat.f_bavail * stat.f_frsize, stat.f_blocks * stat.f_frsize))
}

/// Repeats `ask` until it answers or the worker is told to stop.
async fn wait_for<T, E: std::fmt::Display, F: Future<Output = Result<T, E>>>(
    shutdown: &CancellationToken,
    what: &'static str,
    mut ask: impl FnMut() -> F,
) -> Result<T, StartError> {
    let mut wait = Duration::from_millis(100);
    loop {
        let error = tokio::select! {
            biased;
            () = shutdown.cancelled() => return Err(StartError::Stopped),
            answer = ask() => match answer {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            },
        };
        tracing::warn!(error = %error, "{what}");
        tokio::select! {
            biased;
            () = shutdown.cancelled() => return Err(StartError::Stopped),
            () = sleep(wait) => {}
        }
        wait = (wait * 2).min(AGAIN_MAX);
    }
}
