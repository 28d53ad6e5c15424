//! One save or one launch.

use serde::Serialize;

use super::units;
use crate::measure::Figures;
use crate::rivals::{Action, Done, Who};
use crate::workload::Workload;

/// What was measured of one save or launch.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Sample {
    /// What was saved or launched.
    pub(crate) workload: Workload,
    /// Which of the two.
    pub(crate) action: Action,
    /// By whom.
    pub(crate) who: Who,
    /// In which round, from 1.
    pub(crate) round: u32,
    /// Seen from outside.
    pub(crate) figures: Figures,
    /// Mothball's own word: seconds from the job's start to its end.
    pub(crate) job_s: Option<f64>,
    /// Mothball's own word: seconds that the container was frozen.
    pub(crate) frozen_said_s: Option<f64>,
    /// The most memory of a process that lived only for this, in bytes.
    pub(crate) tool_rss: Option<u64>,
    /// Its parts, each with the seconds it took.
    pub(crate) stages: Vec<(String, f64)>,
    /// What Mothball's job says.
    pub(crate) notes: Vec<String>,
}

impl Sample {
    /// Puts together what was seen and what was said.
    pub(crate) fn new(
        workload: Workload,
        action: Action,
        who: Who,
        round: u32,
        figures: Figures,
        done: Done,
    ) -> Self {
        let Done { stages, job_s, frozen_said_s, tool_rss, notes, reference: _ } = done;
        Self { workload, action, who, round, figures, job_s, frozen_said_s, tool_rss, stages, notes }
    }

    /// The peak memory of the process that did the work, in bytes.
    pub(crate) fn memory(&self) -> u64 {
        match self.who {
            Who::Mothball | Who::Engine => self.figures.mothball_rss,
            Who::Docker | Who::DockerOwn => self.figures.dockerd_rss,
            Who::Buildah => self.tool_rss.unwrap_or(0),
        }
    }

    /// One line for whoever watches the run.
    pub(crate) fn line(&self) -> String {
        let (name, action) = (self.workload.name(), format!("{:?}", self.action).to_lowercase());
        let stages: Vec<String> =
            self.stages.iter().map(|(stage, s)| format!("{stage} {}", units::seconds(*s))).collect();
        format!(
            "{name} {action} {}: {} by {} ({})",
            self.round,
            units::seconds(self.figures.waited_s),
            self.who.name(self.action),
            stages.join(", ")
        )
    }
}
