//! Docker Engine, as the worker uses it: the one adapter, concrete, over bollard.
//!
//! Two things are not bollard's: pushes and pulls, because it drops layer ids and digests and breaks passwords
//! whose base64 needs the URL-safe alphabet; and events, because its stream cannot say when it is subscribed.
//! Both go over our own HTTP in `wire`.
//!
//! An [`Engine`] holds no connection: it is usable while Docker is down, and every call then answers
//! [`DockerError::Unreachable`].

mod auth;
mod commit;
mod container;
mod create;
mod error;
mod events;
mod export;
mod facts;
mod host;
mod image;
mod kill;
mod lifecycle;
mod progress;
mod pull;
mod push;
mod system;
mod terminals;
mod usage;
mod wire;

pub use auth::RegistryAuth;
pub use commit::CommitRequest;
pub use container::LabelledContainer;
pub use create::{CreateRequest, Created, GpuRequest};
pub use error::DockerError;
pub use events::{ContainerEvent, ContainerEvents, RunWatch};
pub use facts::{ContainerFacts, ContainerStatus, MountFact, MountKind, PublishedPort};
pub use image::{ImageFacts, ImageRemoval, LabelledImage};
pub use kill::Killed;
pub use lifecycle::{Changed, Removal};
pub use progress::{PullProgress, PushProgress};
pub use push::Pushed;
pub use system::EngineInfo;
pub use usage::ContainerUsage;

use bollard::{API_DEFAULT_VERSION, Docker};
use host::DockerHost;
use std::sync::Arc;
use std::time::Duration;

/// The label that ties a Docker container to its record.
pub const CONTAINER_LABEL: &str = "mothball.container";

/// What begins every label of Mothball's own.
pub const LABEL_PREFIX: &str = "mothball.";

/// How long the calls to Docker Engine may take. Each is a limit of one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EngineLimits {
    /// Calls that only look, and freeze and thaw.
    pub call: Duration,
    /// Calls that start, stop, create or remove, or that measure a writable layer.
    pub slow: Duration,
    /// A commit or an export: Docker answers only when everything is copied on its disk.
    pub commit: Duration,
    /// Silence between two lines of a push or pull: a registry that puts tens of gigabytes in place says nothing
    /// for minutes.
    pub stream_idle: Duration,
}

impl Default for EngineLimits {
    fn default() -> Self {
        Self {
            call: Duration::from_mins(1),
            slow: Duration::from_mins(10),
            commit: Duration::from_hours(2),
            stream_idle: Duration::from_mins(10),
        }
    }
}

/// Docker Engine of this node.
#[derive(Debug, Clone)]
pub struct Engine {
    host: Arc<DockerHost>,
    limits: EngineLimits,
}

/// More than any limit of ours: bollard's own limit knows whole seconds only and counts to the headers only, so
/// the limits are enforced in [`Engine::call`].
const BOLLARD_LIMIT_S: u64 = 7 * 24 * 3600;

impl Engine {
    /// Takes `unix:///path`, a bare path, or `tcp://host:port`. Connects to nothing yet.
    pub fn connect(docker_host: &str, limits: EngineLimits) -> Result<Self, DockerError> {
        Ok(Self { host: Arc::new(DockerHost::parse(docker_host)?), limits })
    }

    /// Whether Docker is on this very machine, as far as its address tells.
    pub fn is_local(&self) -> bool {
        matches!(*self.host, DockerHost::Unix(_))
    }

    /// The limits it was made with.
    pub fn limits(&self) -> EngineLimits {
        self.limits
    }

    fn docker(&self) -> Result<Docker, DockerError> {
        let made = match &*self.host {
            DockerHost::Unix(path) => Docker::connect_with_unix(path, BOLLARD_LIMIT_S, API_DEFAULT_VERSION),
            DockerHost::Tcp(address) => {
                Docker::connect_with_http(address, BOLLARD_LIMIT_S, API_DEFAULT_VERSION)
            }
        };
        made.map_err(|e| DockerError::from_bollard(&self.host, "connect", e))
    }

    /// Runs one call of bollard under `limit`. The call is dropped when the limit is over; Docker may finish what
    /// it was asked nevertheless.
    async fn call<T, F, Fut>(&self, what: &'static str, limit: Duration, call: F) -> Result<T, DockerError>
    where
        F: FnOnce(Docker) -> Fut,
        Fut: Future<Output = Result<T, bollard::errors::Error>>,
    {
        let docker = self.docker()?;
        match tokio::time::timeout(limit, call(docker)).await {
            Ok(answer) => answer.map_err(|e| DockerError::from_bollard(&self.host, what, e)),
            Err(_) => Err(DockerError::Timeout { what, limit }),
        }
    }
}
