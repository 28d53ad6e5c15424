//! A container: how it was launched, where it is, what it has cost.

use crate::billing::{Line, Rate, SHEET_LINES, Sheet, Stored, Stretch, Usage};
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

/// A mount of every launched container, as the operator has configured it. `{user}` and `{project}` stand for the launcher's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountRule {
    /// Where it appears in the container.
    pub target: String,
    /// The path on the node.
    pub source: String,
}

impl MountRule {
    /// The mount of a container of this user and project.
    pub fn of(&self, user: &UserName, project: &ProjectName) -> Mount {
        let fill = |text: &str| text.replace("{user}", user.as_str()).replace("{project}", project.as_str());
        Mount { target: fill(&self.target), source: fill(&self.source) }
    }
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
    /// The newest stretches of its life that are metered, oldest first: at most two sheets of the ledger.
    #[serde(alias = "billed")]
    pub metered: Vec<Stretch>,
    /// How many stretches were before those; a multiple of [`SHEET_LINES`].
    #[serde(default)]
    pub metered_before: u32,
    /// What those came to.
    #[serde(default)]
    pub used_before: Usage,
    /// Why it is in `error` or `lost`.
    pub reason: Option<String>,
    /// Whether Mothball did not launch it.
    pub adopted: bool,
}

/// Most environment, mounts and ports of a launch.
pub const PORTS_MAX: usize = 32;

impl Container {
    /// Flavor and price that it has now.
    pub fn rate(&self) -> Rate {
        Rate::from(&self.launch.flavor)
    }

    /// What it has come to in all its life up to `now`.
    pub fn usage(&self, now: Timestamp) -> Usage {
        let rate = self.rate();
        let mut usage = self.used_before;
        self.metered.iter().for_each(|stretch| usage += stretch.usage(&rate, now));
        usage
    }

    /// What it has cost up to `now`.
    pub fn cost(&self, now: Timestamp) -> Decimal {
        self.usage(now).cost()
    }

    /// What an hour costs as it stands: its flavor's price while it is billed, its image's storage while it is parked.
    pub fn cost_per_hour_now(&self) -> Decimal {
        let Some(open) = self.open_stretch() else { return Decimal::ZERO };
        let hour =
            Stretch { from: Timestamp::UNIX_EPOCH, to: Timestamp::from_second(3600).ok(), ..open.clone() };
        let usage = hour.usage(&self.rate(), Timestamp::UNIX_EPOCH);
        usage.cost() + usage.storage_cost()
    }

    /// The stretch that lasts.
    pub fn open_stretch(&self) -> Option<&Stretch> {
        self.metered.last().filter(|stretch| stretch.is_open())
    }

    /// Since when it has been billed without a break, running or stopped; none where it is not.
    pub fn billed_since(&self) -> Option<Timestamp> {
        self.open_stretch().filter(|stretch| stretch.stored.is_none()).map(|stretch| stretch.from)
    }

    /// Whether it is billed at this moment.
    pub fn is_billed(&self) -> bool {
        self.open_stretch().is_some_and(|stretch| stretch.stored.is_none())
    }

    /// Begins to bill it, at its flavor's price of now; ends its being parked. Nothing where it is billed already.
    pub fn start_billing(&mut self, now: Timestamp) {
        if !self.is_billed() {
            self.begin(now, None);
        }
    }

    /// Begins to count what its being parked saves: `stored` is what it leaves in the registry.
    pub fn start_parking(&mut self, at: Timestamp, stored: Stored) {
        self.begin(at, Some(stored));
    }

    /// Ends what is metered: it is neither billed nor parked any more.
    pub fn stop_metering(&mut self, at: Timestamp) {
        if let Some(last) = self.metered.last_mut() {
            last.end(at);
        }
    }

    /// Gives each stretch a rate of its own where it has none: its record is of before stretches had one.
    pub fn fix_rates(&mut self) {
        let rate = self.rate();
        for stretch in &mut self.metered {
            stretch.rate.get_or_insert_with(|| rate.clone());
        }
    }

    fn begin(&mut self, at: Timestamp, stored: Option<Stored>) {
        self.stop_metering(at);
        self.fix_rates();
        // The older sheet is written and over: the ledger alone keeps it from here on.
        if self.metered.len() >= 2 * SHEET_LINES {
            let rate = self.rate();
            let used: Usage = self.metered.drain(..SHEET_LINES).map(|stretch| stretch.usage(&rate, at)).sum();
            self.used_before += used;
            self.metered_before = self.metered_before.saturating_add(SHEET_LINES as u32);
        }
        self.metered.push(Stretch { from: at, to: None, rate: Some(self.rate()), stored });
    }

    /// The newest sheets of its ledger, each with its number.
    pub fn sheets(&self) -> impl Iterator<Item = (u32, Sheet)> {
        let rate = self.rate();
        let first = self.metered_before / SHEET_LINES as u32;
        self.metered.chunks(SHEET_LINES).zip(first..).map(move |(stretches, number)| {
            let sheet = Sheet {
                container: self.id,
                name: self.name.clone(),
                project: self.project.clone(),
                user: self.user.clone(),
                lines: stretches.iter().map(|stretch| Line::of(stretch, &rate)).collect(),
            };
            (number, sheet)
        })
    }

    /// Whether its name is free for another container of the project.
    pub fn is_gone(&self) -> bool {
        self.state == ContainerState::Deleted
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::name::FlavorName;
    use crate::size::ByteSize;

    fn flavor(price: i64) -> Flavor {
        Flavor {
            name: FlavorName::new("small").unwrap(),
            gpus: 0,
            cpus: 1,
            memory: ByteSize(1 << 30),
            shm: None,
            price_per_hour: Decimal::from(price),
        }
    }

    /// As a store had it before stretches had a price.
    fn old_record() -> Container {
        let text = r#"{"id": 3, "name": "box", "project": "p", "user": "ann", "state": "ready",
            "launch": {"source": {"type": "catalog", "name": "base", "reference": "r"},
                "flavor": {"name": "small", "gpus": 0, "cpus": 1, "memory": "1GiB", "price_per_hour": "36"},
                "env": {}, "mounts": [], "ports": []},
            "image_name": "base", "node": null, "node_uid": null, "docker_id": null, "gpus": [], "ports": [],
            "writable_bytes": null, "protected": false, "description": "", "keep_until": null, "job": null,
            "parked_image": null, "created_at": "1970-01-01T00:00:00Z", "reason": null, "adopted": false,
            "billed": [{"from": "1970-01-01T00:00:00Z", "to": "1970-01-01T01:00:00Z"},
                {"from": "1970-01-01T02:00:00Z", "to": null}]}"#;
        serde_json::from_str(text).unwrap()
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn records_of_before_stretches_had_a_price_are_read_and_keep_theirs() {
        let mut container = old_record();
        assert_eq!(container.cost(at(9000)), Decimal::from(54));
        container.fix_rates();
        container.launch.flavor = flavor(360);
        assert_eq!(container.cost(at(9000)), Decimal::from(54));
        container.start_billing(at(9000));
        assert_eq!(container.metered.len(), 2, "it is billed already");
        let again: Container = serde_json::from_str(&serde_json::to_string(&container).unwrap()).unwrap();
        assert_eq!(again, container);
    }

    #[test]
    fn a_life_of_many_nights_keeps_its_record_short_and_its_ledger_whole() {
        let mut container = old_record();
        container.launch.flavor = flavor(3600);
        container.metered.clear();
        let mut ledger = BTreeMap::new();
        let mut now = 0;
        for night in 0..400 {
            container.start_billing(at(now));
            now += 60 + night % 7;
            ledger.extend(container.sheets());
            container
                .start_parking(at(now), Stored { bytes: 73_000_000_000, price_per_gb_month: Decimal::TEN });
            now += 3600;
            ledger.extend(container.sheets());
            assert!(container.metered.len() <= 2 * SHEET_LINES + 1);
        }
        container.stop_metering(at(now));
        ledger.extend(container.sheets());
        let lines: Vec<Line> = ledger.into_values().flat_map(|sheet| sheet.lines).collect();
        assert_eq!(lines.len(), 800);
        assert!(
            lines.windows(2).all(|pair| pair[0].to == Some(pair[1].from)),
            "a stretch is missing or twice"
        );
        let usage = container.usage(at(now));
        // 60 to 66 seconds a day, in turn, at 1 a second; an hour of 73 GB at 10 a month is 1.
        let seconds: i64 = (0..400).map(|night| 60 + night % 7).sum();
        assert_eq!((usage.cost(), usage.storage_cost()), (Decimal::from(seconds), Decimal::from(400)));
        assert_eq!(usage.avoided(), Decimal::from(400 * 3599));
    }

    #[test]
    fn a_stretch_never_ends_before_it_begins() {
        let mut container = old_record();
        container.metered.clear();
        container.start_billing(at(100));
        container.stop_metering(at(50));
        assert_eq!((container.metered[0].to, container.cost(at(999))), (Some(at(100)), Decimal::ZERO));
        container.stop_metering(at(200));
        assert_eq!(container.metered[0].to, Some(at(100)), "what has ended stays as it was");
    }

    #[test]
    fn what_is_printed_of_a_launch_names_its_environment_but_not_its_values() {
        let launch = Launch {
            source: Source::Adopted { reference: "busybox".into() },
            flavor: flavor(1),
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
