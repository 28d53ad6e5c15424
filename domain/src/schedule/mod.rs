//! Schedules: what is to be done to which containers, and when.
//!
//! A schedule fires at planned times, which its pattern and its zone give ([`cron`]). [`turn`] says what a moment of the
//! clock means for it: a run, a run that was skipped, or runs that were missed. [`decide`] says what a run does to one
//! container, and [`run`] is what is kept of it. All of it is pure: the store brings the clock.

pub mod cron;
pub mod decide;
pub mod run;
pub mod turn;
pub mod zone;

use crate::id::{ContainerId, JobId, ScheduleId};
use crate::label::Labels;
use crate::name::{FlavorName, ProjectName, Tag, UserName};
use cron::Cron;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::fmt;
use turn::Clock;
use zone::Zone;

/// Most schedules of one project.
pub const SCHEDULES_MAX: usize = 500;
/// Most containers that one run attends to.
pub const TARGETS_MAX: usize = 500;
/// Runs kept of one schedule; the oldest goes when one more comes.
pub const RUNS_KEPT_MAX: u32 = 200;
/// The longest that a run may wait for jobs in its way, in seconds.
pub const PATIENCE_S_MAX: u32 = 24 * 3600;
/// How long a run waits for jobs in its way unless its schedule says otherwise, in seconds.
pub const PATIENCE_S_DEFAULT: u32 = 3600;

/// What a schedule does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ScheduleAction {
    /// Saves; the container goes on running.
    Save,
    /// Saves, verifies, deletes, and remembers how to wake it.
    Park,
    /// Launches what is parked.
    Wake,
    /// Deletes without a save.
    Delete,
}

impl ScheduleAction {
    /// Every action.
    pub const ALL: [Self; 4] = [Self::Save, Self::Park, Self::Wake, Self::Delete];

    /// The action as it stands in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Save => "save",
            Self::Park => "park",
            Self::Wake => "wake",
            Self::Delete => "delete",
        }
    }

    /// Whether the container is gone from its node afterwards.
    pub fn removes(self) -> bool {
        matches!(self, Self::Park | Self::Delete)
    }
}

impl std::str::FromStr for ScheduleAction {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|action| action.as_str() == text);
        found.ok_or_else(|| "action is one of save, park, wake, delete".to_owned())
    }
}

impl fmt::Display for ScheduleAction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Which containers a schedule is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ScheduleTarget {
    /// This one.
    Container(ContainerId),
    /// Those of the project that have all of these labels when it fires.
    Labels(Labels),
    /// All of the project.
    Project,
}

/// What becomes of runs whose time went by while nobody kept time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Missed {
    /// The last of them is done as soon as somebody does.
    #[default]
    RunOnce,
    /// None of them is done.
    Skip,
}

/// What a schedule's maker decides.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// Which containers.
    pub target: ScheduleTarget,
    /// What is done.
    pub action: ScheduleAction,
    /// When.
    pub cron: Cron,
    /// In which zone `cron` is read.
    pub timezone: Zone,
    /// What becomes of missed runs.
    pub missed: Missed,
    /// How long a run waits for jobs in its way, in seconds.
    pub patience_s: u32,
    /// save, park: the image's tag; one of the planned time and the container's name when there is none.
    pub tag: Option<Tag>,
    /// wake: another size than it had.
    pub flavor: Option<FlavorName>,
    /// park: whether data in anonymous volumes may be lost.
    pub discard_volumes: bool,
    /// Free text.
    pub description: String,
}

/// What its maker changes of a plan; `None` leaves it as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PlanChange {
    /// Which containers.
    pub target: Option<ScheduleTarget>,
    /// What is done.
    pub action: Option<ScheduleAction>,
    /// When.
    pub cron: Option<Cron>,
    /// In which zone.
    pub timezone: Option<Zone>,
    /// What becomes of missed runs.
    pub missed: Option<Missed>,
    /// How long a run waits, in seconds.
    pub patience_s: Option<u32>,
    /// The image's tag; the inner `None` is that of the planned time.
    pub tag: Option<Option<Tag>>,
    /// Another size; the inner `None` is the one that it had.
    pub flavor: Option<Option<FlavorName>>,
    /// Whether data in anonymous volumes may be lost.
    pub discard_volumes: Option<bool>,
    /// Free text.
    pub description: Option<String>,
}

impl Plan {
    /// The plan after a change.
    #[must_use]
    pub fn with(&self, change: &PlanChange) -> Self {
        let c = change.clone();
        Self {
            target: c.target.unwrap_or_else(|| self.target.clone()),
            action: c.action.unwrap_or(self.action),
            cron: c.cron.unwrap_or_else(|| self.cron.clone()),
            timezone: c.timezone.unwrap_or_else(|| self.timezone.clone()),
            missed: c.missed.unwrap_or(self.missed),
            patience_s: c.patience_s.unwrap_or(self.patience_s),
            tag: c.tag.unwrap_or_else(|| self.tag.clone()),
            flavor: c.flavor.unwrap_or_else(|| self.flavor.clone()),
            discard_volumes: c.discard_volumes.unwrap_or(self.discard_volumes),
            description: c.description.unwrap_or_else(|| self.description.clone()),
        }
    }

    /// Why the plan cannot be as it is, in a sentence, and the field at fault.
    pub fn fault(&self) -> Option<(&'static str, String)> {
        if self.patience_s > PATIENCE_S_MAX {
            return Some(("patience_seconds", format!("a run waits for at most {PATIENCE_S_MAX} seconds")));
        }
        if self.tag.is_some() && !matches!(self.action, ScheduleAction::Save | ScheduleAction::Park) {
            return Some(("tag", format!("a {} saves nothing, so it has no tag", self.action)));
        }
        if self.tag.is_some() && !matches!(self.target, ScheduleTarget::Container(_)) {
            let why = "containers of the same base would overwrite each other's image: leave the tag out";
            return Some(("tag", why.to_owned()));
        }
        if self.flavor.is_some() && self.action != ScheduleAction::Wake {
            return Some(("flavor", format!("a {} launches nothing, so it has no flavor", self.action)));
        }
        if self.discard_volumes && self.action != ScheduleAction::Park {
            return Some(("discard_volumes", "only a park decides about volumes".to_owned()));
        }
        None
    }

    /// Whether another plan does the same to the same containers, whenever that is.
    pub fn does_the_same(&self, other: &Self) -> bool {
        let what =
            |p: &Self| (p.target.clone(), p.action, p.tag.clone(), p.flavor.clone(), p.discard_volumes);
        what(self) == what(other)
    }
}

/// A schedule, as the store keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Schedule {
    /// Its id.
    pub id: ScheduleId,
    /// The project whose containers it is about.
    pub project: ProjectName,
    /// Who made it, and for whom its jobs are: their rights count each time it fires.
    pub user: UserName,
    /// What is done, to what, and when.
    pub plan: Plan,
    /// Whether it fires.
    pub enabled: bool,
    /// Why Mothball switched it off.
    pub disabled_because: Option<String>,
    /// Where it stands in time.
    pub clock: Clock,
    /// The last job that it started.
    pub last_job: Option<JobId>,
    /// Runs that are kept of it.
    pub runs_kept: u32,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was last changed by a person.
    pub updated_at: Timestamp,
}

impl Schedule {
    /// A new one, which fires from `now` on.
    pub fn new(id: ScheduleId, project: ProjectName, user: UserName, plan: Plan, now: Timestamp) -> Self {
        let mut schedule = Self {
            id,
            project,
            user,
            plan,
            enabled: true,
            disabled_because: None,
            clock: Clock::default(),
            last_job: None,
            runs_kept: 0,
            created_at: now,
            updated_at: now,
        };
        schedule.rearm(now);
        schedule
    }

    /// When it fires next, or skips; none while it is switched off.
    pub fn next_at(&self) -> Option<Timestamp> {
        self.clock.next_at()
    }

    /// Gives it another plan. Another time moves the next run at once, and what was said about the old next run is void.
    pub fn replan(&mut self, plan: Plan, now: Timestamp) {
        let moves = plan.cron != self.plan.cron || plan.timezone != self.plan.timezone;
        self.plan = plan;
        if moves {
            self.rearm(now);
        }
    }

    /// Switches it on or off. What went by while it was off is not missed.
    pub fn enable(&mut self, enabled: bool, now: Timestamp) {
        if enabled != self.enabled {
            self.enabled = enabled;
            self.disabled_because = None;
            self.rearm(now);
        }
    }

    /// Switches it off for good, and says why.
    pub fn give_up(&mut self, why: impl Into<String>) {
        self.enabled = false;
        self.disabled_because = Some(why.into());
        self.clock = Clock::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::container::{Container, ContainerState, Launch, Source};
    use crate::flavor::Flavor;
    use crate::name::{ContainerName, ImageName};
    use crate::size::ByteSize;
    use std::collections::BTreeMap;

    pub(super) fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    /// A daily-or-so park of container 1.
    pub(super) fn schedule(cron: &str, zone: &str, now: &str) -> Schedule {
        let plan = Plan {
            target: ScheduleTarget::Container(ContainerId(1)),
            action: ScheduleAction::Park,
            cron: cron.parse().unwrap(),
            timezone: zone.parse().unwrap(),
            missed: Missed::RunOnce,
            patience_s: PATIENCE_S_DEFAULT,
            tag: None,
            flavor: None,
            discard_volumes: false,
            description: String::new(),
        };
        let (project, user) = ("p".parse().unwrap(), "ann".parse().unwrap());
        Schedule::new(ScheduleId(uuid::Uuid::nil()), project, user, plan, at(now))
    }

    /// One that is ready.
    pub(super) fn container() -> Container {
        let flavor = Flavor {
            name: FlavorName::new("small").unwrap(),
            gpus: 0,
            cpus: 1,
            memory: ByteSize(1 << 30),
            shm: None,
            price_per_hour: rust_decimal::Decimal::ONE,
        };
        let launch = Launch {
            source: Source::Adopted { reference: "busybox".into() },
            flavor,
            env: BTreeMap::new(),
            mounts: Vec::new(),
            ports: Vec::new(),
        };
        Container {
            id: ContainerId(1),
            name: ContainerName::new("box").unwrap(),
            project: "p".parse().unwrap(),
            user: "ann".parse().unwrap(),
            state: ContainerState::Ready,
            launch,
            image_name: ImageName::new("base").unwrap(),
            node: None,
            node_uid: None,
            docker_id: None,
            gpus: Vec::new(),
            ports: Vec::new(),
            writable_bytes: None,
            protected: false,
            description: String::new(),
            labels: Labels::default(),
            keep_until: None,
            job: None,
            parked_image: None,
            parked_flavor: None,
            created_at: Timestamp::UNIX_EPOCH,
            metered: Vec::new(),
            metered_before: 0,
            used_before: crate::billing::Usage::default(),
            reason: None,
            adopted: false,
        }
    }

    #[test]
    fn a_plan_that_cannot_be_names_its_fault() {
        let good = schedule("0 20 * * *", "UTC", "2026-01-01T00:00:00Z").plan;
        assert_eq!(good.fault(), None);
        let tag = Some("nightly".parse().unwrap());
        let (project, flavor) = (ScheduleTarget::Project, Some("small".parse().unwrap()));
        for (plan, field) in [
            (Plan { patience_s: PATIENCE_S_MAX + 1, ..good.clone() }, "patience_seconds"),
            (Plan { tag: tag.clone(), action: ScheduleAction::Wake, ..good.clone() }, "tag"),
            (Plan { tag, target: project, ..good.clone() }, "tag"),
            (Plan { flavor, ..good.clone() }, "flavor"),
            (Plan { discard_volumes: true, action: ScheduleAction::Save, ..good }, "discard_volumes"),
        ] {
            assert_eq!(plan.fault().map(|(field, _)| field), Some(field));
        }
    }

    #[test]
    fn a_schedule_survives_being_written_down() {
        let schedule = schedule("0 20 * * 1-5", "Asia/Taipei", "2026-01-01T00:00:00Z");
        let text = serde_json::to_string(&schedule).unwrap();
        assert_eq!(serde_json::from_str::<Schedule>(&text).unwrap(), schedule);
        for action in ScheduleAction::ALL {
            assert_eq!(serde_json::to_value(action).unwrap(), action.as_str());
        }
    }
}
