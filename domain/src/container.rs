//! A container: how it was launched, where it is, what it has cost.

use crate::billing::{self, Billed};
use crate::flavor::Flavor;
use crate::id::{ContainerId, JobId};
use crate::image::{Digest, ImageRef};
use crate::label::Labels;
use crate::name::{ContainerName, NodeName, ProjectName, UserName};
use jiff::Timestamp;
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

/// Where a container stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ContainerState {
    /// Its launch has not finished. Not billed.
    Initializing,
    /// It runs. Billed.
    Ready,
    /// It is stopped but exists, and keeps its GPUs. Billed.
    Stopped,
    /// Its deletion has begun. Billed until it is gone.
    Deleting,
    /// Gone. Final.
    Deleted,
    /// Gone, but saved, and can be woken by its name.
    Parked,
    /// Its launch failed.
    Error,
    /// Its node says that it is not there, though nobody deleted it through Mothball.
    Lost,
}

impl ContainerState {
    /// Every state, in the order of a container's life.
    pub const ALL: [Self; 8] = [
        Self::Initializing,
        Self::Ready,
        Self::Stopped,
        Self::Deleting,
        Self::Deleted,
        Self::Parked,
        Self::Error,
        Self::Lost,
    ];

    /// The state as it stands in JSON and in metric labels.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Initializing => "initializing",
            Self::Ready => "ready",
            Self::Stopped => "stopped",
            Self::Deleting => "deleting",
            Self::Deleted => "deleted",
            Self::Parked => "parked",
            Self::Error => "error",
            Self::Lost => "lost",
        }
    }

    /// Whether it has a Docker container on a node that can be saved or deleted.
    pub fn exists(self) -> bool {
        matches!(self, Self::Ready | Self::Stopped | Self::Deleting | Self::Lost)
    }
}

impl fmt::Display for ContainerState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a container is launched from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Source {
    /// An entry of the catalogue.
    Catalog {
        /// The entry's name, as users ask for it.
        name: String,
        /// What Docker pulls.
        reference: String,
    },
    /// A custom image of the project, pinned to the digest it had at submit.
    Custom {
        /// `name:tag`.
        image: ImageRef,
        /// The manifest.
        digest: Digest,
        /// What Docker pulls: `HOST/PROJECT/NAME@DIGEST`.
        reference: String,
    },
    /// It was not launched by Mothball.
    Adopted {
        /// The image that Docker names for it.
        reference: String,
    },
}

impl Source {
    /// The image as users know it.
    pub fn display_name(&self) -> String {
        match self {
            Self::Catalog { name, .. } => name.clone(),
            Self::Custom { image, .. } => image.to_string(),
            Self::Adopted { reference } => reference.clone(),
        }
    }

    /// What Docker pulls or finds.
    pub fn reference(&self) -> &str {
        match self {
            Self::Catalog { reference, .. }
            | Self::Custom { reference, .. }
            | Self::Adopted { reference } => reference,
        }
    }
}

/// A mount into a container: never saved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// Where it appears in the container.
    pub target: String,
    /// The path on the node.
    pub source: String,
}

/// A port of the container and where it can be reached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Port {
    /// The port inside the container (TCP).
    pub target: u16,
    /// The port on the node; none until it is started.
    #[serde(default)]
    pub published: Option<u16>,
}

/// How a container was launched: all that a wake needs.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Launch {
    /// What it is launched from.
    pub source: Source,
    /// Size and price, as they were at launch.
    pub flavor: Flavor,
    /// Launcher-injected environment. Never enters an image; may hold secrets.
    pub env: BTreeMap<String, String>,
    /// Mounts, resolved to paths on the node.
    pub mounts: Vec<Mount>,
    /// Ports to publish.
    pub ports: Vec<u16>,
}

/// Shows the names of the environment and never its values, so that no log line of a container holds a secret.
impl fmt::Debug for Launch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Launch")
            .field("source", &self.source)
            .field("flavor", &self.flavor)
            .field("env", &self.env.keys().collect::<Vec<_>>())
            .field("mounts", &self.mounts)
            .field("ports", &self.ports)
            .finish()
    }
}

/// A container under Mothball's care, as the store keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Container {
    /// Its number, and the value of its Docker label `mothball.container`.
    pub id: ContainerId,
    /// Its name, unique among the project's containers that still exist.
    pub name: ContainerName,
    /// The project that pays.
    pub project: ProjectName,
    /// Who launched it.
    pub user: UserName,
    /// Where it stands.
    pub state: ContainerState,
    /// How it was launched.
    pub launch: Launch,
    /// The name that images saved from it get.
    pub image_name: crate::name::ImageName,
    /// The node it is placed on.
    pub node: Option<NodeName>,
    /// The uid of that node's Docker, against which its Docker id counts.
    pub node_uid: Option<String>,
    /// Its Docker id on that node.
    pub docker_id: Option<String>,
    /// Indexes of the GPUs it holds.
    pub gpus: Vec<u32>,
    /// Where its ports can be reached.
    pub ports: Vec<Port>,
    /// Bytes in its writable layer, as the node last reported.
    pub writable_bytes: Option<u64>,
    /// Whether deletion is refused.
    pub protected: bool,
    /// Free text of its owner.
    pub description: String,
    /// Labels of its owner, by which schedules choose.
    #[serde(default)]
    pub labels: Labels,
    /// Until when policies and schedules leave it alone.
    pub keep_until: Option<Timestamp>,
    /// The unfinished job that it is busy with: at most one.
    pub job: Option<JobId>,
    /// The image that a parked container wakes from.
    pub parked_image: Option<ImageRef>,
    /// While it is woken as another size: the one it was parked with, which it gets back if it does not wake.
    #[serde(default)]
    pub parked_flavor: Option<Flavor>,
    /// When its launch was asked for.
    pub created_at: Timestamp,
    /// The stretches of time that are billed.
    pub billed: Vec<Billed>,
    /// Why it is in `error` or `lost`.
    pub reason: Option<String>,
    /// Whether Mothball did not launch it.
    pub adopted: bool,
}

/// Most environment, mounts and ports of a launch.
pub const PORTS_MAX: usize = 32;

impl Container {
    /// What it has cost up to `now`.
    pub fn cost(&self, now: Timestamp) -> Decimal {
        billing::cost(billing::seconds(&self.billed, now), self.launch.flavor.price_per_hour)
    }

    /// Begins to bill it.
    pub fn start_billing(&mut self, now: Timestamp) {
        if self.billed.last().is_none_or(|b| b.to.is_some()) {
            self.billed.push(Billed { from: now, to: None });
        }
    }

    /// Ends to bill it.
    pub fn stop_billing(&mut self, at: Timestamp) {
        if let Some(open) = self.billed.last_mut().filter(|b| b.to.is_none()) {
            open.to = Some(at);
        }
    }

    /// Whether its name is free for another container of the project.
    pub fn is_gone(&self) -> bool {
        self.state == ContainerState::Deleted
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flavor::Flavor;
    use crate::name::FlavorName;
    use crate::size::ByteSize;

    #[test]
    fn what_is_printed_of_a_launch_names_its_environment_but_not_its_values() {
        let flavor = Flavor {
            name: FlavorName::new("small").unwrap(),
            gpus: 0,
            cpus: 1,
            memory: ByteSize(1 << 30),
            shm: None,
            price_per_hour: Decimal::ONE,
        };
        let launch = Launch {
            source: Source::Adopted { reference: "busybox".into() },
            flavor,
            env: BTreeMap::from([("API_KEY".to_owned(), "hunter2".to_owned())]),
            mounts: Vec::new(),
            ports: vec![22],
        };
        for text in [format!("{launch:?}"), format!("{launch:#?}")] {
            assert!(
                text.contains("API_KEY") && text.contains("busybox") && !text.contains("hunter2"),
                "{text}"
            );
        }
        // What is kept keeps it all: a wake needs the values.
        assert!(serde_json::to_string(&launch).unwrap().contains("hunter2"));
    }
}
